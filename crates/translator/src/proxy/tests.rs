//! Headers as proxies write them, and everything near them.

use proptest::prelude::*;

use super::*;

/// A header of version 2.
fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [V2_SIGNATURE, &[command, family], &length, rest].concat()
}

fn from(source: &str, length: usize) -> Parsed {
    Parsed::Header { source: Some(source.parse().unwrap()), length }
}

/// The two addresses and ports of version 2.
fn addresses(source: SocketAddr, target: SocketAddr) -> Vec<u8> {
    let bytes = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let ports = [source.port().to_be_bytes(), target.port().to_be_bytes()].concat();
    [bytes(source.ip()), bytes(target.ip()), ports].concat()
}

#[test]
fn lines_of_version_1_are_read() {
    let line = b"PROXY TCP4 192.0.2.1 10.0.0.9 56324 3333\r\n{\"id\":1";
    assert_eq!(parse(line), from("192.0.2.1:56324", 42));
    let line = b"PROXY TCP6 2001:db8::1 ::1 0 65535\r\n";
    assert_eq!(parse(line), from("[2001:db8::1]:0", line.len()));
    for line in ["PROXY UNKNOWN\r\n", "PROXY UNKNOWN ffff:f:f::1 whatever\r\n"] {
        assert_eq!(parse(line.as_bytes()), Parsed::Header { source: None, length: line.len() });
    }
    // The longest that there can be, from the description of the protocol.
    let longest = "PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n";
    assert_eq!(longest.len(), V1_MAX);
    assert_eq!(parse(longest.as_bytes()), Parsed::Header { source: None, length: V1_MAX });
    let longer = longest.replace("UNKNOWN", "UNKNOWN ");
    assert_eq!(parse(longer.as_bytes()), Parsed::Malformed);
}

#[test]
fn what_is_no_line_of_version_1_is_refused() {
    for line in [
        "PROXY\r\n",
        "PROXY \r\n",
        "PROXY TCP4\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.9 56324\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.9 56324 3333 1\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.9 56324 3333 \r\n",
        "PROXY TCP4  192.0.2.1 10.0.0.9 56324 3333\r\n",
        "PROXY TCP4 192.0.2.01 10.0.0.9 56324 3333\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0 56324 3333\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.9 056324 3333\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.9 +56324 3333\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.9 56324 65536\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.9 56324 \r\n",
        "PROXY TCP4 ::1 ::1 56324 3333\r\n",
        "PROXY TCP6 192.0.2.1 10.0.0.9 56324 3333\r\n",
        "PROXY UDP4 192.0.2.1 10.0.0.9 56324 3333\r\n",
        "PROXY TCP4 192.0.2.1 10.0.0.9 56324 3333\n",
        "PROXY UNKNOWNS\r\n",
        "proxy TCP4 192.0.2.1 10.0.0.9 56324 3333\r\n",
        "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n",
    ] {
        assert_eq!(parse(line.as_bytes()), Parsed::Malformed, "{line:?}");
    }
    assert_eq!(parse(&[b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat()), Parsed::Malformed);
}

#[test]
fn headers_of_version_2_are_read() {
    let four = addresses("192.0.2.1:56324".parse().unwrap(), "10.0.0.9:3333".parse().unwrap());
    assert_eq!(parse(&v2(PROXY, 0x11, &four)), from("192.0.2.1:56324", 28));
    let six = addresses("[2001:db8::1]:56324".parse().unwrap(), "[::1]:3333".parse().unwrap());
    assert_eq!(parse(&v2(PROXY, 0x21, &six)), from("[2001:db8::1]:56324", 52));
    // A field of six bytes, and whatever the machine says next.
    let fields = [four.as_slice(), &[0x04, 0, 3, 1, 2, 3]].concat();
    let more = [v2(PROXY, 0x11, &fields).as_slice(), b"{\"id\""].concat();
    assert_eq!(parse(&more), from("192.0.2.1:56324", 34));
    for (command, family, rest) in [
        (PROXY, 0x31, &[b'/'; 216][..]),
        (PROXY, 0x00, &[]),
        (PROXY, 0x00, &[1, 2, 3]),
        (LOCAL, 0x00, &[]),
        (LOCAL, 0x11, &four),
        (LOCAL, 0x11, &[]),
    ] {
        let header = v2(command, family, rest);
        assert_eq!(parse(&header), Parsed::Header { source: None, length: header.len() });
    }
}

#[test]
fn what_is_no_header_of_version_2_is_refused_as_soon_as_that_is_sure() {
    for (bytes, sure_at) in [
        (v2(0x11, 0x11, &[0; 12]), 13),
        (v2(0x22, 0x11, &[0; 12]), 13),
        (v2(PROXY, 0x41, &[0; 12]), 14),
        (v2(PROXY, 0x13, &[0; 12]), 14),
        (v2(PROXY, 0x11, &[0; 11]), 16),
        (v2(PROXY, 0x21, &[0; 35]), 16),
        (v2(PROXY, 0x31, &[0; 215]), 16),
        (v2(PROXY, 0x11, &[0; V2_MAX - V2_FIXED + 1]), 16),
        (v2(PROXY, 0x11, &[0; 4096]), 15),
        (b"\r\n\r\n\0\r\nQUIT\r".to_vec(), 12),
    ] {
        assert_eq!(parse(&bytes[..sure_at - 1]), Parsed::NeedsMore, "{bytes:?}");
        assert_eq!(parse(&bytes[..sure_at]), Parsed::Malformed, "{bytes:?}");
        assert_eq!(parse(&bytes), Parsed::Malformed, "{bytes:?}");
    }
    let longest = v2(PROXY, 0x11, &[1; V2_MAX - V2_FIXED]);
    assert_eq!(parse(&longest), from("1.1.1.1:257", V2_MAX));
}

/// How a header is read from whatever came is how it is read from each part of that.
fn parts_agree(bytes: &[u8]) -> Result<(), TestCaseError> {
    let whole = parse(bytes);
    for end in 0..bytes.len() {
        let part = parse(&bytes[..end]);
        match (part, whole) {
            (Parsed::NeedsMore, Parsed::Header { length, .. }) => prop_assert!(end < length),
            (Parsed::NeedsMore, _) => prop_assert!(end < V2_MAX),
            (Parsed::Header { length, .. }, _) => {
                prop_assert!(length <= end);
                prop_assert_eq!(part, whole);
            }
            (Parsed::Malformed, _) => prop_assert_eq!(part, whole),
        }
    }
    Ok(())
}

fn address(is_six: bool) -> BoxedStrategy<SocketAddr> {
    if is_six {
        any::<([u8; 16], u16)>().prop_map(|(ip, port)| (ip, port).into()).boxed()
    } else {
        any::<([u8; 4], u16)>().prop_map(|(ip, port)| (ip, port).into()).boxed()
    }
}

fn pair() -> impl Strategy<Value = (SocketAddr, SocketAddr)> {
    any::<bool>().prop_flat_map(|is_six| (address(is_six), address(is_six)))
}

proptest! {
    #[test]
    fn what_a_proxy_writes_is_read((source, target) in pair(), rest in any::<Vec<u8>>()) {
        let name = if source.is_ipv4() { "TCP4" } else { "TCP6" };
        let line =
            format!("PROXY {name} {} {} {} {}\r\n", source.ip(), target.ip(), source.port(), target.port());
        let family = if source.is_ipv4() { 0x11 } else { 0x21 };
        for header in [line.into_bytes(), v2(PROXY, family, &addresses(source, target))] {
            let bytes = [header.as_slice(), &rest].concat();
            prop_assert_eq!(parse(&bytes), Parsed::Header { source: Some(source), length: header.len() });
            parts_agree(&bytes)?;
        }
    }

    #[test]
    fn pieces_make_no_difference(
        start in prop::sample::select(vec![
            &b""[..], b"PROXY ", b"PROXY TCP4 1.2.3.4 5.6.7.8 ", V2_SIGNATURE, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0",
        ]),
        rest in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        parts_agree(&[start, &rest].concat())?;
    }

    #[test]
    fn lines_of_odd_words_make_no_trouble(text in "PROXY (TCP4|TCP6|UNKNOWN)[ 0-9a-f.:]{0,100}\r?\n?") {
        parts_agree(text.as_bytes())?;
    }
}
