//! The PROXY protocol: what a proxy says first on a connection, of where it comes from, in versions 1 and 2.
//!
//! Described by HAProxy's `proxy-protocol.txt`. A header is read before anything else; no byte of it is given to whoever comes after.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Most bytes of a header of version 1, its line end included.
pub const V1_MAX: usize = 107;

/// Most bytes of a header of version 2: the largest addresses, those of Unix sockets, leave 1816 for what proxies add.
pub const V2_MAX: usize = 2048;

/// What every header of version 1 begins with.
const V1_SIGNATURE: &[u8] = b"PROXY ";

/// What every header of version 2 begins with.
const V2_SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Bytes of version 2 before the addresses: the signature, version and command, family and protocol, and a length of two bytes.
const V2_FIXED: usize = V2_SIGNATURE.len() + 4;

/// What the bytes at the beginning of a connection are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// All of them belong to a header that is not complete yet.
    NeedsMore,
    /// They begin with a header.
    Header {
        /// Where the connection comes from. `None` if the proxy does not know, or speaks for itself: then it comes from the proxy.
        source: Option<SocketAddr>,
        /// Bytes of the header.
        length: usize,
    },
    /// They are no header, whatever follows.
    Malformed,
}

/// Reads the header at the beginning of `bytes`. Never asks for more than [`V1_MAX`] or [`V2_MAX`].
#[must_use]
pub fn parse(bytes: &[u8]) -> Parsed {
    if begins_alike(bytes, V1_SIGNATURE) {
        parse_v1(bytes)
    } else if begins_alike(bytes, V2_SIGNATURE) {
        parse_v2(bytes).unwrap_or(Parsed::Malformed)
    } else {
        Parsed::Malformed
    }
}

/// Whether the two are the same as far as both go.
fn begins_alike(bytes: &[u8], signature: &[u8]) -> bool {
    bytes.iter().zip(signature).all(|(one, other)| one == other)
}

/// A line of text: `PROXY TCP4 192.0.2.1 192.0.2.2 56324 3333`.
fn parse_v1(bytes: &[u8]) -> Parsed {
    let window = bytes.get(..V1_MAX).unwrap_or(bytes);
    let Some(end) = window.iter().position(|&byte| byte == b'\n') else {
        return if window.len() < V1_MAX { Parsed::NeedsMore } else { Parsed::Malformed };
    };
    let line = window.get(..end).and_then(|line| line.strip_prefix(V1_SIGNATURE)?.strip_suffix(b"\r"));
    let text = line.and_then(|line| str::from_utf8(line).ok());
    match text.and_then(source_v1) {
        Some(source) => Parsed::Header { source, length: end + 1 },
        None => Parsed::Malformed,
    }
}

/// The source address of the words behind the signature; `None` if they are not what they should be.
fn source_v1(text: &str) -> Option<Option<SocketAddr>> {
    let mut words = text.split(' ');
    let family = words.next()?;
    if family == "UNKNOWN" {
        // What follows is to be ignored.
        return Some(None);
    }
    let (source, target) = (words.next()?, words.next()?);
    let (source_port, _) = (port(words.next()?)?, port(words.next()?)?);
    let source: IpAddr = match family {
        "TCP4" => {
            let _: Ipv4Addr = target.parse().ok()?;
            source.parse::<Ipv4Addr>().ok()?.into()
        }
        "TCP6" => {
            let _: Ipv6Addr = target.parse().ok()?;
            source.parse::<Ipv6Addr>().ok()?.into()
        }
        _ => return None,
    };
    words.next().is_none().then_some(Some(SocketAddr::new(source, source_port)))
}

/// A port in decimal, without zeros before it.
fn port(text: &str) -> Option<u16> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if is_plain { text.parse().ok() } else { None }
}

/// The binary form; `None` if it is not what it should be.
fn parse_v2(bytes: &[u8]) -> Option<Parsed> {
    let fixed = bytes.get(V2_SIGNATURE.len()..V2_FIXED);
    let Some(&[command, family, high, low]) = fixed.and_then(<[u8]>::as_array) else {
        return is_begun_well(bytes).then_some(Parsed::NeedsMore);
    };
    let addresses_len = usize::from(u16::from_be_bytes([high, low]));
    let length = V2_FIXED + addresses_len;
    if !is_command(command) || !is_family(family) || length > V2_MAX {
        return None;
    }
    // What a proxy says of itself, such as a health check, has no addresses that mean anything.
    let needed = if command == LOCAL { 0 } else { addresses_needed(family) };
    if addresses_len < needed {
        return None;
    }
    let Some(addresses) = bytes.get(V2_FIXED..length) else { return Some(Parsed::NeedsMore) };
    let source = if command == LOCAL { None } else { source_v2(family, addresses) };
    Some(Parsed::Header { source, length })
}

/// Version 2, and that the proxy speaks for itself.
const LOCAL: u8 = 0x20;

/// Version 2, and that the proxy speaks for another.
const PROXY: u8 = 0x21;

/// Whether the bytes that are there of the fixed part may be those of a header.
fn is_begun_well(bytes: &[u8]) -> bool {
    let mut rest = bytes.iter().skip(V2_SIGNATURE.len());
    rest.next().is_none_or(|&command| is_command(command))
        && rest.next().is_none_or(|&family| is_family(family))
        && rest.next().is_none_or(|&high| V2_FIXED + usize::from(high) * 256 <= V2_MAX)
}

const fn is_command(byte: u8) -> bool {
    matches!(byte, LOCAL | PROXY)
}

/// The families are none, IPv4, IPv6 and Unix; the protocols none, stream and datagram.
const fn is_family(byte: u8) -> bool {
    byte >> 4 <= 3 && byte & 0xf <= 2
}

/// Bytes of the two addresses, with their ports.
const fn addresses_needed(family: u8) -> usize {
    match family >> 4 {
        1 => 12,
        2 => 36,
        3 => 216,
        _ => 0,
    }
}

/// The source of addresses that are long enough; what follows them (type-length-value fields) is passed over.
fn source_v2(family: u8, addresses: &[u8]) -> Option<SocketAddr> {
    let (source, port): (IpAddr, _) = match family >> 4 {
        1 => (Ipv4Addr::from(*addresses.first_chunk::<4>()?).into(), addresses.get(8..10)?),
        2 => (Ipv6Addr::from(*addresses.first_chunk::<16>()?).into(), addresses.get(32..34)?),
        // A Unix socket has no address that could be shown, and no family means that nothing is known.
        _ => return None,
    };
    Some(SocketAddr::new(source, u16::from_be_bytes(port.try_into().ok()?)))
}

#[cfg(test)]
mod tests;
