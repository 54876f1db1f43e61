//! The table of the translator and its upstreams, and what is wrong with them.

use adit_translator::Quirks;
use adit_translator::server::Mode;
use adit_translator::upstream::payout::Expectation;
use bitcoin::Address;
use bitcoin::address::NetworkUnchecked;

use super::*;
use crate::config::key::DEVICE_KEYS;

/// An address that blocks are to pay.
const ADDRESS: &str = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";

/// What a farm needs.
const FARM: &str = r#"
[translator]
listen = "192.168.0.2:3333"
shares_per_minute = 20

[[upstreams]]
pool = "stratum2+tcp://127.0.0.1:34254"
user = "account.farm"
[[upstreams]]
pool = "stratum2+tcp://127.0.0.1:44254"
user = "other.farm"
"#;

fn farm(text: &str) -> Result<TranslatorSettings, String> {
    parse_as(text, &[], crate::config::translator::check)
}

/// [`FARM`] with lines in its table of the translator, the first of which is the third line of the file.
fn with(lines: &str) -> Result<TranslatorSettings, String> {
    farm(&FARM.replace("[translator]", &format!("[translator]\n{lines}")))
}

#[test]
fn ten_lines_are_enough() {
    let settings = farm(FARM).unwrap();
    assert_eq!(settings.listen.to_string(), "192.168.0.2:3333");
    assert_eq!(settings.api.unwrap().to_string(), "127.0.0.1:4081");
    assert!(settings.tls.is_none());
    let role = settings.role;
    let users: Vec<_> = role.upstreams.iter().map(|upstream| upstream.user.as_str()).collect();
    assert_eq!(users, ["account.farm", "other.farm"]);
    assert!(role.upstreams.iter().all(|upstream| upstream.expects.is_none()));
    assert_eq!(role.mode, Mode::Aggregated);
    assert_eq!(role.machine.rate.to_shares_per_minute(), 20);
    assert_eq!((role.machine.extranonce2_len, role.machine.follows_speed), (8, true));
    assert_eq!(role.keepalive.as_secs(), 30);
    assert!(!role.allows_public && !role.expects_proxy && !role.insecure);
    assert_eq!(role.limits.connections_per_address, role.limits.connections, "a farm is one address");
}

#[test]
fn an_upstream_is_all_that_must_be_said() {
    let settings =
        farm("[upstream]\npool = \"stratum2+tcp://127.0.0.1:34254\"\nuser = \"account\"\n").unwrap();
    assert_eq!(settings.listen.to_string(), "0.0.0.0:34255");
    let answer = farm("[translator]\n").unwrap_err();
    for key in ["upstream.pool", "upstream.user"] {
        assert!(answer.contains(&format!("{key}: missing")), "{key} in {answer}");
    }
    // A program's arguments say the same.
    let pools = ["stratum2+tcp://127.0.0.1:1", "stratum2+tcp://127.0.0.1:2"].map(str::to_owned);
    let given = [("translator.mode", "per-machine".to_owned()), ("translator.api", "off".to_owned())];
    let settings = translator_of(&pools, "account", &given).unwrap();
    assert_eq!((settings.role.upstreams.len(), settings.role.mode), (2, Mode::PerMachine));
    assert_eq!(settings.api, None);
}

#[test]
fn an_old_pool_could_not_be_given_a_password() {
    let old = FARM.replace("stratum2+tcp://127.0.0.1:44254", "stratum+tcp://old.example:3333");
    let passwords = |text: &str| {
        let upstreams = farm(text).unwrap().role.upstreams;
        upstreams.into_iter().map(|upstream| upstream.password).collect::<Vec<_>>()
    };
    assert_eq!(passwords(&old), [None, None]);
    assert_eq!(passwords(&format!("{old}password = \"d=5\"\n")), [None, Some("d=5".to_owned())]);
}

#[test]
fn each_key_is_taken() {
    let settings = with(
        "mode = \"per-machine\"\nallow_public = true\nproxy_protocol = true\nvardiff = false\nleast_difficulty = \"0.001\"\n\
         extranonce2_size = 7\nversion_mask = \"0x00ffe000\"\nkeepalive_secs = 5\nconnections = 100\n\
         connections_per_address = 10\nrest = false\napi = \"off\"",
    )
    .unwrap();
    assert!(!settings.rests && with("").unwrap().rests);
    let role = settings.role;
    assert_eq!((role.mode, role.allows_public, role.expects_proxy), (Mode::PerMachine, true, true));
    assert_eq!((role.machine.follows_speed, role.machine.extranonce2_len), (false, 7));
    assert_eq!(role.machine.least_difficulty.to_string(), "0.001");
    assert_eq!(role.machine.version_mask, 0x00ff_e000);
    assert_eq!((role.limits.connections, role.limits.connections_per_address), (100, 10));
    assert_eq!((role.keepalive.as_secs(), settings.api), (5, None));
}

#[test]
fn devices_are_known_better_by_their_owner() {
    let devices = "[[translator.devices]]\nuser_agent = \"myminer\"\nterahashes = \"1.5\"\nleast_difficulty = \"512\"\n";
    let settings = farm(&format!("{FARM}{devices}")).unwrap();
    let [device] = settings.role.machine.devices.as_slice() else { panic!("one device") };
    assert_eq!(&*device.pattern, "myminer");
    assert_eq!(device.nominal.unwrap().to_hashes_per_second(), 1_500_000_000_000);
    assert_eq!(device.least_difficulty.unwrap().to_string(), "512");
    assert_eq!(device.coinbase_max, None);
    let nameless = devices.replace("user_agent = \"myminer\"\n", "");
    let answer = farm(&format!("{FARM}{nameless}")).unwrap_err();
    assert!(answer.contains("adit.toml:12: translator.devices.0.user_agent: missing"), "{answer}");
}

#[test]
fn the_keys_of_devices_were_written_nowhere() {
    let with_device = |lines: &str| {
        farm(&format!("{FARM}[[translator.devices]]\nuser_agent = \"myminer\"\n{lines}"))
            .map(|settings| settings.role.machine.devices)
    };
    assert_eq!(with_device("coinbase_bytes = 2250").unwrap()[0].coinbase_max, Some(2250));
    assert_eq!(with_device("coinbase_bytes = 2250").unwrap()[0].quirks, None, "those of its class");
    assert_eq!(with_device("quirks = []").unwrap()[0].quirks, Some(Quirks::default()));
    let rounds = Quirks { powers_of_two: true, ..Quirks::default() };
    assert_eq!(with_device("quirks = [\"powers-of-two\"]").unwrap()[0].quirks, Some(rounds));
    for (line, told) in [
        (
            "quirks = [\"powers-of-two\", \"rental\"]",
            "adit.toml:14: translator.devices.0.quirks: \"rental\" is no quirk; use some of powers-of-two and answers-pings, or []",
        ),
        (
            "coinbase_bytes = 50",
            "adit.toml:14: translator.devices.0.coinbase_bytes: a coinbase has at least 100 bytes",
        ),
        (
            "terahash = \"1\"",
            "translator.devices.0.terahash: unknown key; did you mean translator.devices.0.terahashes?",
        ),
        ("speed = \"1\"", "translator.devices.0.speed: unknown key; docs/operating.md lists those there are"),
    ] {
        let answer = with_device(line).unwrap_err();
        assert!(answer.contains(told), "{told} in {answer}");
    }
    let page = include_str!("../../../../../docs/operating.md");
    for Key { path, .. } in DEVICE_KEYS {
        assert!(page.contains(&format!("| `{path}` |")), "docs/operating.md is to have {path}");
    }
    // The table of keys is what a device can be told, and what suggestions come from.
    let all = DEVICE_KEYS.iter().map(|Key { path, example, .. }| {
        format!("{} = {example}\n", path.strip_prefix("translator.devices.").unwrap())
    });
    let text = format!("{FARM}[[translator.devices]]\n{}", all.collect::<String>());
    let [device] = farm(&text).unwrap().role.machine.devices.try_into().unwrap();
    assert!(!format!("{device:?}").contains("None"), "{device:?}");
    // A number in the environment is text where the key is.
    let written = [("ADIT__TRANSLATOR__DEVICES__0__TERAHASHES", "3")];
    let settings = parse_as(&text, &written, crate::config::translator::check).unwrap();
    let speed = settings.role.machine.devices[0].nominal.unwrap();
    assert_eq!(speed.to_hashes_per_second(), 3_000_000_000_000);
}

#[test]
fn no_key_named_the_hosts_of_the_api() {
    let hosts = |line: &str| with(line).map(|settings| settings.api_hosts);
    assert_eq!(hosts("").unwrap(), [""; 0]);
    let named = ["farm.example.org", "other.example.net"];
    assert_eq!(hosts("api_hosts = [\"farm.example.org\", \"other.example.net\"]").unwrap(), named);
    for wrong in ["http://farm.example.org", "farm.example.org:4081", "", "a b"] {
        let answer = hosts(&format!("api_hosts = [\"{wrong}\"]")).unwrap_err();
        let told = format!("adit.toml:3: translator.api_hosts: {wrong:?} is not the name of a host");
        assert!(answer.starts_with(&told), "{answer}");
    }
    let environment = [("ADIT__TRANSLATOR__API_HOSTS", "[\"farm.example.org\"]")];
    let settings = parse_as(FARM, &environment, crate::config::translator::check).unwrap();
    assert_eq!(settings.api_hosts, ["farm.example.org"]);
}

#[test]
fn mistakes_of_the_command_line_were_shown_at_lines_of_no_file() {
    let local = "stratum2+tcp://127.0.0.1:1";
    let told = |pools: &[&str], user: &str, given: &[(&str, &str)]| {
        let pools: Vec<_> = pools.iter().map(|&pool| pool.to_owned()).collect();
        let given: Vec<_> = given.iter().map(|&(path, value)| (path, value.to_owned())).collect();
        let mistakes = translator_of(&pools, user, &given).unwrap_err();
        assert_eq!(mistakes.place(), "these arguments");
        mistakes.to_string()
    };
    assert!(told(&["http://x"], "account", &[]).starts_with("--pool: only Stratum is spoken"));
    let second = told(&[local, "pool.example.org:1"], "account", &[]);
    assert!(second.starts_with("--pool pool.example.org:1: the key is missing"), "{second}");
    assert_eq!(told(&[local, local], "", &[]), "--user: give 1 to 255 bytes", "once, though it is for both");
    let given = [("translator.listen", "here"), ("translator.mode", "solo"), ("translator.api", "4081")];
    let mut lines: Vec<_> = told(&[local], "account", &given).lines().map(str::to_owned).collect();
    lines.sort();
    for (line, start) in lines.iter().zip([
        "--api: \"4081\" is not",
        "--listen: \"here\" is not",
        "--mode: \"solo\" is not known",
    ]) {
        assert!(line.starts_with(start), "{start} in {line}");
    }
}

#[test]
fn whom_blocks_must_pay_is_said_for_each_upstream() {
    let expects = |lines: &str| {
        let text = FARM.replace("user = \"other.farm\"", &format!("user = \"other.farm\"\n{lines}"));
        farm(&text).map(|settings| settings.role.upstreams[1].expects.clone())
    };
    let script = ADDRESS.parse::<Address<NetworkUnchecked>>().unwrap().assume_checked().script_pubkey();
    let expected = |least_percent| Some(Expectation { script: script.clone(), least_percent });
    assert_eq!(expects(&format!("pays = \"{ADDRESS}\"")).unwrap(), expected(90));
    let all = format!("pays = \"{ADDRESS}\"\nleast_payout_percent = 100");
    assert_eq!(expects(&all).unwrap(), expected(100));
    assert_eq!(expects("least_payout_percent = 50").unwrap(), None, "nobody is named");
    // The form of the user that a pool is given says it too, and how much.
    let text = FARM.replace("\"other.farm\"", &format!("\"sri/donate/30/{ADDRESS}/farm\"\npays = \"user\""));
    assert_eq!(farm(&text).unwrap().role.upstreams[1].expects, expected(70));
    for (lines, told) in [
        ("pays = \"user\"", "adit.toml:12: upstreams.1.pays: \"other.farm\" is not a Bitcoin address; write"),
        ("pays = \"nobody\"", "adit.toml:12: upstreams.1.pays: \"nobody\" is not a Bitcoin address"),
        (
            "least_payout_percent = 0",
            "adit.toml:12: upstreams.1.least_payout_percent: 0 is out of range; use 1 to 100",
        ),
        ("least_payout_percent = 101", "101 is out of range"),
    ] {
        let answer = expects(lines).unwrap_err();
        assert!(answer.contains(told), "{told} in {answer}");
    }
}

#[test]
fn tls_takes_three_keys_that_go_together() {
    let all = "tls_listen = \"0.0.0.0:34256\"\ntls_certificate = \"farm.crt\"\ntls_key = \"/keys/farm.key\"";
    let tls = with(all).unwrap().tls.unwrap();
    assert_eq!(tls.listen.to_string(), "0.0.0.0:34256");
    assert_eq!(tls.certificate, Path::new("/etc/adit/farm.crt"));
    assert_eq!(tls.key, Path::new("/keys/farm.key"));
    assert!(with(&all.replace("0.0.0.0:34256", "off")).unwrap().tls.is_none());
    assert!(with("tls_listen = \"off\"").unwrap().tls.is_none());
    let answer = with("tls_listen = \"0.0.0.0:34256\"").unwrap_err();
    for told in [
        "adit.toml:2: translator.tls_certificate: missing; give the certificate that machines are shown",
        "adit.toml:2: translator.tls_key: missing; give the private key of the certificate",
    ] {
        assert!(answer.contains(told), "{told} in {answer}");
    }
    let answer = with("tls_key = \"farm.key\"").unwrap_err();
    assert!(
        answer.contains("adit.toml:3: translator.tls_key: does nothing without translator.tls_listen"),
        "{answer}"
    );
    let answer = with(&all.replace("0.0.0.0:34256", "34256")).unwrap_err();
    assert!(answer.contains("adit.toml:3: translator.tls_listen: \"34256\" is not ADDRESS:PORT"), "{answer}");
}

#[test]
fn each_mistake_is_told_with_its_line() {
    for (line, told) in [
        ("mode = \"solo\"", "translator.mode: \"solo\" is not known; use aggregated or per-machine"),
        ("keepalive_secs = 4", "translator.keepalive_secs: 4 is out of range; use 5 to 600"),
        ("keepalive_secs = 601", "translator.keepalive_secs: 601 is out of range; use 5 to 600"),
        ("extranonce2_size = 1", "translator.extranonce2_size: 1 is out of range; use 2 to 16"),
        ("extranonce2_size = 17", "translator.extranonce2_size: 17 is out of range; use 2 to 16"),
        ("version_mask = \"all\"", "translator.version_mask: \"all\" is not a mask in hexadecimal"),
        ("least_difficulty = \"easy\"", "translator.least_difficulty: "),
        ("least_difficulty = \"0\"", "translator.least_difficulty: "),
        ("connections = 0", "translator.connections: 0 is out of range; use at least 1"),
        (
            "connections_per_address = 0",
            "translator.connections_per_address: 0 is out of range; use at least 1",
        ),
        ("api = \"4081\"", "translator.api: \"4081\" is not ADDRESS:PORT"),
        (
            "tls_listen = \"[2001:db8::7]:3334\"\ntls_certificate = \"a\"\ntls_key = \"b\"",
            "translator.tls_listen: 2001:db8::7 is a public address, and machines from such are turned away; use one of your own network, 0.0.0.0 for all, or set translator.allow_public to true",
        ),
        ("proxy_protocol = \"v2\"", "translator.proxy_protocol: invalid type"),
        (
            "proxy_protocl = true",
            "translator.proxy_protocl: unknown key; did you mean translator.proxy_protocol?",
        ),
        ("tls_cert = \"x\"", "translator.tls_cert: unknown key"),
    ] {
        let answer = with(line).unwrap_err();
        assert!(answer.starts_with(&format!("adit.toml:3: {told}")), "{told} in {answer}");
    }
    for (from, to, told) in [
        (
            "192.168.0.2:3333",
            "203.0.113.5:3333",
            "adit.toml:3: translator.listen: 203.0.113.5 is a public address",
        ),
        (
            "user = \"other.farm\"",
            "user = \"other.farm\"\npassword = \"d=5\"",
            "adit.toml:12: upstreams.1.password: does nothing for a pool that speaks SV2",
        ),
        ("192.168.0.2:3333", "here", "adit.toml:3: translator.listen: \"here\" is not ADDRESS:PORT"),
        ("= 20", "= 0", "adit.toml:4: translator.shares_per_minute: 0 is out of range; use 1 to 600"),
        ("\"other.farm\"", "\"\"", "adit.toml:11: upstreams.1.user: give 1 to 255 bytes"),
        ("127.0.0.1:44254", "pool.example.org:44254", "adit.toml:10: upstreams.1.pool: the key is missing"),
        (
            "[translator]",
            "[translator]\n[upstream]\nuser = \"x\"",
            "give either [upstream] or a list of [[upstreams]]",
        ),
    ] {
        let answer = farm(&FARM.replace(from, to)).unwrap_err();
        assert!(answer.contains(told), "{told} in {answer}");
    }
    let answer = with("mode = \"solo\"\nkeepalive_secs = 4").unwrap_err();
    assert_eq!(answer.lines().count(), 2, "{answer}");
}
