//! What a user gets wrong in a config, and what the program answers.

use std::path::Path;

use adit_job_declarator::client::Mode;
use adit_node::{Auth, NodeConfig, Password, RpcConfig, Zmq};

use super::*;

mod advice;
mod translator;

const GOOD: &str = r#"
network = "regtest"

[node]
url = "http://127.0.0.1:18443"
cookie_file = "cookie"

[pool]
payout_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
"#;

/// A node that is one with RPC.
fn rpc(node: &NodeConfig) -> &RpcConfig {
    let NodeConfig::Rpc(config) = node else { panic!("{node:?}") };
    config
}

fn parse_with(text: &str, environment: &[(&str, &str)]) -> Result<Config, String> {
    parse_as(text, environment, checked::check)
}

fn parse_as<T>(text: &str, environment: &[(&str, &str)], check: Check<T>) -> Result<T, String> {
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    parse(text, environment, Path::new("/etc/adit"), check)
        .map(|(checked, _)| checked)
        .map_err(|mistakes| mistakes.in_file(Path::new("adit.toml")).to_string())
}

#[test]
fn a_good_config_is_taken_with_its_defaults() {
    let config = parse_with(GOOD, &[]).unwrap();
    assert_eq!(config.network, bitcoin::Network::Regtest);
    assert_eq!(config.data_dir, Path::new("/etc/adit/adit-data"));
    assert_eq!(config.pool.listen.to_string(), "0.0.0.0:34254");
    assert_eq!(config.pool.api.unwrap().to_string(), "127.0.0.1:4080");
    assert_eq!(config.pool.role.vardiff.rate.to_shares_per_minute(), 10);
    assert_eq!(config.pool.server_key, Path::new("/etc/adit/keys/server.key"));
    assert_eq!(config.pool.role.empty_jobs, adit_pool::EmptyJobs::UntilTemplate);
    assert_eq!(config.pool.role.network, bitcoin::Network::Regtest);
    assert!(!config.pool.role.require_worker_names);
    assert!(config.pool.role.solo);
    assert_eq!(config.pool.role.halving_interval, 150, "the network is regtest");
    assert_eq!(config.pool.limits, adit_net::Limits::default());
    assert_eq!(config.log, None);
}

#[test]
fn the_numbers_are_served_where_the_config_says() {
    let api = |text: &str| {
        let text = GOOD.replace("[pool]", &format!("[pool]\n{text}"));
        parse_with(&text, &[]).map(|config| config.pool.api.map(|address| address.to_string()))
    };
    assert_eq!(api("api = \"off\""), Ok(None));
    assert_eq!(api("api = \"[::1]:9090\""), Ok(Some("[::1]:9090".to_owned())));
    let said = api("api = \"9090\"").unwrap_err();
    assert!(said.contains("pool.api: \"9090\" is not ADDRESS:PORT"), "{said}");
    let said = api("api = \"127.0.0.1:34254\"").unwrap_err();
    assert!(said.contains("pool.api: port 34254 is that of pool.listen"), "{said}");
    let text = GOOD.replace("[pool]", "[pool]\napi_hosts = [\"pool.example.org\"]");
    assert_eq!(parse_with(&text, &[]).unwrap().pool.api_hosts, ["pool.example.org"]);
    let said = api("api_hosts = [\"http://pool.example.org\"]").unwrap_err();
    assert!(said.contains("pool.api_hosts: \"http://pool.example.org\" is not the name of a host"), "{said}");
}

#[test]
fn limits_of_connections_are_counts() {
    let limits = |text: &str| {
        let text = GOOD.replace("[pool]", &format!("[pool]\n{text}"));
        parse_with(&text, &[]).map(|config| config.pool.limits)
    };
    let few = limits("connections = 100").unwrap();
    assert_eq!((few.connections, few.connections_per_address), (100, 25));
    assert_eq!(limits("connections = 1").unwrap().connections_per_address, 1);
    let farm = limits("connections_per_address = 16384").unwrap();
    assert_eq!((farm.connections, farm.connections_per_address), (16_384, 16_384));
    assert!(
        limits("connections = 0").unwrap_err().contains("adit.toml:9: pool.connections: 0 is out of range")
    );
    let answer = limits("connections = 100\nconnections_per_address = 101").unwrap_err();
    assert!(answer.contains("adit.toml:10: pool.connections_per_address: 101 is out of range; use 1 to 100"));
}

#[test]
fn how_much_is_logged_is_checked() {
    let log = |text: &str| parse_with(&format!("log = \"{text}\"\n{GOOD}"), &[]).map(|config| config.log);
    assert_eq!(log("warn,adit_pool=debug").unwrap().unwrap().to_string(), "warn,adit_pool=debug");
    for wrong in ["loud", "adit_pool=loud"] {
        let answer = log(wrong).unwrap_err();
        assert!(answer.starts_with("adit.toml:1: log: "), "{answer}");
    }
}

#[test]
fn a_successor_is_host_and_port() {
    for (text, host, port) in
        [("pool2.example.org:34254", "pool2.example.org", 34254), ("[2001:db8::1]:1", "2001:db8::1", 1)]
    {
        let text = GOOD.replace("[pool]", &format!("[pool]\nsuccessor = \"{text}\""));
        let successor = parse_with(&text, &[]).unwrap().pool.role.successor.unwrap();
        assert_eq!((successor.host.as_str(), successor.port), (host, port));
    }
    let answer = parse_with(&GOOD.replace("[pool]", "[pool]\nsuccessor = \":1\""), &[]).unwrap_err();
    assert!(answer.contains("adit.toml:9: pool.successor: the server to send miners to"), "{answer}");
}

#[test]
fn worker_names_can_be_required() {
    let text = GOOD.replace("[pool]", "[pool]\nrequire_worker_names = true\nsolo = false");
    let role = parse_with(&text, &[]).unwrap().pool.role;
    assert!(role.require_worker_names && !role.solo);
}

#[test]
fn a_connection_may_have_as_many_channels_as_a_large_proxy_needs() {
    assert_eq!(parse_with(GOOD, &[]).unwrap().pool.role.channels_per_connection, 256);
    let with = |count: &str| GOOD.replace("[pool]", &format!("[pool]\nchannels_per_connection = {count}"));
    assert_eq!(parse_with(&with("20000"), &[]).unwrap().pool.role.channels_per_connection, 20_000);
    let answer = parse_with(&with("0"), &[]).unwrap_err();
    assert!(answer.contains("pool.channels_per_connection: "), "{answer}");
}

#[test]
fn empty_blocks_can_be_turned_off() {
    let config = parse_with(&GOOD.replace("[pool]", "[pool]\nempty_jobs = \"never\""), &[]).unwrap();
    assert_eq!(config.pool.role.empty_jobs, adit_pool::EmptyJobs::Never);
    let payout = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let text =
        GOOD.replace("regtest\"", "signet\"").replace(payout, "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx");
    assert_eq!(parse_with(&text, &[]).unwrap().pool.role.halving_interval, 210_000);
}

#[test]
fn every_mistake_is_reported_at_once_with_its_line() {
    let text = r#"network = "regtset"
colour = "red"

[node]
url = "https://127.0.0.1:18443"

[pool]
lisen = "0.0.0.0:1"
signature = "\u0007bell"
payout_address = "nonsense"
shares_per_minute = 0
empty_jobs = "sometimes"
successor = "nowhere"
"#;
    let answer = parse_with(text, &[]).unwrap_err();
    for part in [
        "adit.toml:1: network: no network is called \"regtset\"",
        "adit.toml:2: colour: unknown key",
        "adit.toml:4: node.cookie_file: missing",
        "adit.toml:5: node.url: a node's RPC speaks plain http, not https",
        "adit.toml:8: pool.lisen: unknown key; did you mean pool.listen?",
        "adit.toml:9: pool.signature:",
        "adit.toml:10: pool.payout_address: \"nonsense\" is not a Bitcoin address",
        "adit.toml:11: pool.shares_per_minute: 0 is out of range",
        "adit.toml:12: pool.empty_jobs: \"sometimes\" is not known; use until-template or never",
        "adit.toml:13: pool.successor: \"nowhere\" is not HOST:PORT",
    ] {
        assert!(answer.contains(part), "{part} is not in:\n{answer}");
    }
    assert_eq!(answer.lines().count(), 10, "{answer}");
}

#[test]
fn an_address_of_another_network_is_refused() {
    let text = GOOD.replace("regtest\"", "mainnet\"");
    let answer = parse_with(&text, &[]).unwrap_err();
    assert!(answer.contains("is not an address of bitcoin"), "{answer}");
}

#[test]
fn a_wrong_type_and_broken_toml_name_the_line() {
    let answer = parse_with(&GOOD.replace("[pool]", "[pool]\ninstance = 70000"), &[]).unwrap_err();
    assert!(answer.contains("adit.toml:9: pool.instance:"), "{answer}");
    assert_eq!(answer.lines().count(), 1, "a wrong type is one mistake and hides no other key: {answer}");
    let answer = parse_with(&GOOD.replace("network = \"regtest\"", "network = 5\nnode = 3"), &[]);
    assert!(answer.is_err());
    let answer = parse_with("network = \"regtest\"\n[node\n", &[]).unwrap_err();
    assert!(answer.starts_with("adit.toml:2: "), "{answer}");
}

#[test]
fn the_environment_overrides_the_file() {
    let overrides = [("ADIT__POOL__INSTANCE", "7"), ("ADIT__DATA_DIR", "/var/lib/adit")];
    let config = parse_with(GOOD, &overrides).unwrap();
    assert_eq!(config.pool.role.instance, 7);
    assert_eq!(config.data_dir, Path::new("/var/lib/adit"));

    let text = GOOD.replace("cookie_file = \"cookie\"", "user = \"u\"");
    for password in ["12345", "\"quoted\"", "true", "[pool]"] {
        let config = parse_with(&text, &[("ADIT__NODE__PASSWORD", password)]).unwrap();
        let expected = Auth::UserPass { user: "u".to_owned(), password: Password::from(password.to_owned()) };
        assert_eq!(*rpc(&config.nodes[0]).auth(), expected, "a password is taken letter by letter");
    }

    let answer = parse_with(GOOD, &[("ADIT__POOL__LISTEN", "here")]).unwrap_err();
    assert!(answer.starts_with("environment variable ADIT__POOL__LISTEN: pool.listen: "), "{answer}");
    let answer = parse_with(GOOD, &[("ADIT__POOL__PORT", "1")]).unwrap_err();
    assert!(answer.starts_with("environment variable ADIT__POOL__PORT: pool.port: unknown key"), "{answer}");
}

#[test]
fn the_table_of_keys_and_the_structs_agree() {
    let mut text = String::new();
    let mut table = "";
    for Key { path, example, .. } in KEYS {
        let (parent, key) = path.rsplit_once('.').unwrap_or(("", path));
        if parent != table {
            text += &format!("[{parent}]\n");
            table = parent;
        }
        text += &format!("{key} = {example}\n");
    }
    let Reading { written, mistakes, .. } = written::read(&text, []).unwrap();
    assert_eq!(mistakes, [], "a key of the table is unknown to the structs");
    let debug = format!("{written:?}");
    assert!(!debug.contains("None"), "a field of the structs is not in the table: {debug}");
}

#[test]
fn what_changes_live_is_a_key() {
    for path in LIVE {
        assert!(KEYS.iter().any(|key| key.path == *path), "{path}");
    }
    // A server that reloads is given all rules of the pool; one that it cannot take needs a word in `ReloadError`.
    let pool = KEYS.iter().map(|key| key.path).filter(|path| path.starts_with("pool."));
    let fixed: Vec<_> = pool.filter(|path| !LIVE.contains(path)).collect();
    assert_eq!(fixed, ["pool.listen", "pool.instance", "pool.token_key", "pool.api", "pool.api_hosts"]);
}

#[test]
fn a_password_is_never_printed() {
    let text = GOOD.replace("cookie_file = \"cookie\"", "user = \"u\"\npassword = \"hunter2\"");
    let config = parse_with(&text, &[]).unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}

#[test]
fn a_template_provider_needs_no_pool() {
    let text = GOOD.split("[pool]").next().unwrap();
    assert!(parse_with(text, &[]).unwrap_err().contains("pool.payout_address: missing"));
    let provider = parse_as(text, &[], checked::check_provider).unwrap();
    assert_eq!(
        provider.listen.to_string(),
        "127.0.0.1:8442",
        "others are let in only where that was asked for"
    );
    assert_eq!(provider.server_key, Path::new("/etc/adit/keys/server.key"));
    assert_eq!(provider.data_dir, Path::new("/etc/adit/adit-data/template-provider"));
    assert_eq!(provider.network, bitcoin::Network::Regtest);
    assert_eq!(rpc(&provider.nodes[0]).coinbase.weight, 836 + 4 * 1000);

    let text = format!("{text}[template_provider]\nlisten = \"here\"\ncoinbase_bytes = 100001\n");
    for answer in [
        parse_as(&text, &[], checked::check_provider).unwrap_err(),
        parse_with(&format!("{GOOD}{}", text.split_at(text.find("[template").unwrap()).1), &[]).unwrap_err(),
    ] {
        assert!(answer.contains("template_provider.listen: \"here\" is not ADDRESS:PORT"), "{answer}");
        assert!(answer.contains("template_provider.coinbase_bytes: 100001 is out of range"), "{answer}");
    }
}

/// [`GOOD`] with two nodes in the place of one.
fn two_nodes() -> String {
    let (before, after) = GOOD.split_once("[node]").unwrap();
    let second = "\n[[nodes]]\nurl = \"127.0.0.1:18444\"\nuser = \"u\"\npassword = \"p\"\n\n[pool]";
    format!("{before}[[nodes]]{}", after.replace("\n[pool]", second))
}

#[test]
fn several_nodes_keep_their_order() {
    let config = parse_with(&two_nodes(), &[]).unwrap();
    let urls: Vec<_> = config.nodes.iter().map(NodeConfig::name).collect();
    assert_eq!(urls, ["http://127.0.0.1:18443", "http://127.0.0.1:18444"]);
    assert!(config.nodes.iter().all(|node| rpc(node).network == Some(bitcoin::Network::Regtest)));
    let one = parse_with(GOOD, &[]).unwrap();
    assert_eq!(one.nodes.len(), 1, "the table of one node is as good");
}

#[test]
fn the_mistakes_of_each_node_name_it_and_its_line() {
    let text = two_nodes()
        .replace("18444", "18443")
        .replace("user = \"u\"", "usr = \"u\"")
        .replace("cookie_file = \"cookie\"", "");
    let answer = parse_with(&text, &[]).unwrap_err();
    for part in [
        "adit.toml:4: nodes.0.cookie_file: missing",
        "adit.toml:9: nodes.1.url: the same node as nodes.0",
        "adit.toml:10: nodes.1.usr: unknown key; did you mean nodes.1.user?",
        "adit.toml:8: nodes.1.user: missing; nodes.1.password needs it",
    ] {
        assert!(answer.contains(part), "{part} is not in:\n{answer}");
    }
    assert_eq!(answer.lines().count(), 4, "{answer}");

    let both = format!("{}\n[node]\nurl = \"127.0.0.1:1\"\n", two_nodes());
    let answer = parse_with(&both, &[]).unwrap_err();
    assert!(answer.contains("node: give either [node] or a list of [[nodes]], not both"), "{answer}");
    let wrong_type = two_nodes().replace("password = \"p\"", "password = 5");
    let answer = parse_with(&wrong_type, &[]).unwrap_err();
    assert!(answer.contains("adit.toml:11: nodes.1.password: "), "{answer}");
}

#[test]
fn the_environment_reaches_each_node_by_its_number() {
    let text = two_nodes().replace("password = \"p\"\n", "");
    let config = parse_with(&text, &[("ADIT__NODES__1__PASSWORD", "hunter2")]).unwrap();
    assert!(matches!(rpc(&config.nodes[1]).auth(), Auth::UserPass { .. }));
    for name in ["ADIT__NODES__7__PASSWORD", "ADIT__NODES__FIRST__PASSWORD"] {
        let answer = parse_with(&two_nodes(), &[(name, "p")]).unwrap_err();
        assert!(answer.contains("nodes is a list of 2; say which with a number from 0"), "{answer}");
    }
}

/// [`GOOD`] with other keys for its node.
fn with_node(keys: &str) -> String {
    GOOD.replace("url = \"http://127.0.0.1:18443\"\ncookie_file = \"cookie\"", keys)
}

const KEY: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";

#[test]
fn a_template_provider_may_stand_in_for_a_node() {
    for (text, name) in [
        (format!("tdp = \"stratum2+tcp://tp.example:8442/{KEY}\""), "stratum2+tcp://tp.example:8442"),
        ("tdp = \"127.0.0.1:8442\"".to_owned(), "stratum2+tcp://127.0.0.1:8442"),
    ] {
        let config = parse_with(&with_node(&text), &[]).unwrap();
        let [NodeConfig::Tdp(provider)] = &config.nodes[..] else { panic!("{:?}", config.nodes) };
        assert_eq!((provider.name().as_str(), provider.network), (name, bitcoin::Network::Regtest));
    }
    let mixed = two_nodes().replace(
        "url = \"127.0.0.1:18444\"\nuser = \"u\"\npassword = \"p\"",
        &format!("tdp = \"stratum2+tcp://tp.example:8442/{KEY}\""),
    );
    let config = parse_with(&mixed, &[]).unwrap();
    assert!(matches!(&config.nodes[..], [NodeConfig::Rpc(_), NodeConfig::Tdp(_)]));
}

#[test]
fn a_socket_may_have_the_same_nodes_rpc_beside_it() {
    let config = parse_with(&with_node("ipc = \"node.sock\""), &[]).unwrap();
    let [NodeConfig::Ipc(node)] = &config.nodes[..] else { panic!("{:?}", config.nodes) };
    assert!(node.path().ends_with("node.sock") && node.rpc.is_none());
    assert_eq!(node.network, Some(bitcoin::Network::Regtest));

    let beside = "ipc = \"/node.sock\"\nurl = \"127.0.0.1:18443\"\nuser = \"u\"\npassword = \"p\"";
    let config = parse_with(&with_node(beside), &[]).unwrap();
    let [NodeConfig::Ipc(node)] = &config.nodes[..] else { panic!("{:?}", config.nodes) };
    assert_eq!(node.path(), Path::new("/node.sock"));
    assert_eq!(node.rpc.as_ref().unwrap().url(), "http://127.0.0.1:18443");

    for (keys, part) in [
        ("ipc = \"a\"\nurl = \"127.0.0.1:1\"", "node.cookie_file: missing"),
        ("ipc = \"a\"\ncookie_file = \"c\"", "node.url: missing"),
        (
            "tdp = \"127.0.0.1:1\"\nipc = \"a\"",
            "adit.toml:6: node.ipc: a template provider has only node.tdp",
        ),
    ] {
        let answer = parse_with(&with_node(keys), &[]).unwrap_err();
        assert!(answer.contains(part), "{answer}");
    }
    let twice = "[[nodes]]\nipc = \"/a\"\n[[nodes]]\nipc = \"/a\"\n[pool]";
    let text = with_node("").replace("[node]", "").replace("[pool]", twice);
    let answer = parse_with(&text, &[]).unwrap_err();
    assert!(answer.contains("nodes.1.ipc: the same node as nodes.0"), "{answer}");
}

#[test]
fn a_template_providers_mistakes_are_told() {
    for (keys, part) in [
        ("tdp = \"tp.example:8442\"", "adit.toml:5: node.tdp: the key is missing"),
        ("tdp = \"https://tp.example\"", "adit.toml:5: node.tdp: only stratum2+tcp:// is spoken"),
        (
            "tdp = \"127.0.0.1:1\"\nurl = \"127.0.0.1:2\"",
            "adit.toml:6: node.url: a template provider has only node.tdp",
        ),
        (
            "tdp = \"127.0.0.1:1\"\npassword = \"p\"",
            "adit.toml:6: node.password: a template provider has only node.tdp",
        ),
    ] {
        let answer = parse_with(&with_node(keys), &[]).unwrap_err();
        assert!(answer.contains(part), "{part} is not in:\n{answer}");
        assert_eq!(answer.lines().count(), 1, "{answer}");
    }
    let twice =
        format!("{}\n[[nodes]]\ntdp = \"127.0.0.1:1\"\n[[nodes]]\ntdp = \"127.0.0.1:1\"\n", two_nodes());
    let answer = parse_with(&twice, &[]).unwrap_err();
    assert!(answer.contains("nodes.3.tdp: the same node as nodes.2"), "{answer}");
}

#[test]
fn where_a_node_tells_of_blocks_is_found_or_given() {
    let zmq = |keys: &str| {
        let text = GOOD.replace("cookie_file", &format!("{keys}cookie_file"));
        parse_with(&text, &[]).map(|config| rpc(&config.nodes[0]).zmq_hashblock.clone())
    };
    assert_eq!(zmq("").unwrap(), Zmq::Discover);
    assert_eq!(zmq("zmq_hashblock = \"off\"\n").unwrap(), Zmq::Off);
    let given = zmq("zmq_hashblock = \"tcp://192.0.2.1:28332\"\n").unwrap();
    assert_eq!(given, Zmq::At("tcp://192.0.2.1:28332".parse().unwrap()));
    let answer = zmq("zmq_hashblock = \"28332\"\n").unwrap_err();
    assert!(
        answer.contains("adit.toml:6: node.zmq_hashblock: \"28332\" is not where a node publishes"),
        "{answer}"
    );
}

#[test]
fn a_file_is_checked_for_the_roles_that_it_is_written_for() {
    let roles = |text: &str| {
        let roles = parse_as(text, &[], checked::check_roles)?;
        Ok::<_, String>((roles.pool.is_some(), roles.provider.is_some()))
    };
    let node = GOOD.split("[pool]").next().unwrap();
    assert_eq!(roles(GOOD), Ok((true, false)));
    assert_eq!(roles(&format!("{node}[template_provider]\n")), Ok((false, true)));
    assert_eq!(roles(&format!("{GOOD}[template_provider]\n")), Ok((true, true)));
    assert!(roles(node).unwrap_err().contains("pool.payout_address: missing"), "as a pool, if as nothing");
    let wrong = format!("{node}[template_provider]\nempty_templates = \"sometimes\"\n[pool]\n");
    let answer = roles(&wrong).unwrap_err();
    for part in
        ["template_provider.empty_templates: \"sometimes\" is not known", "pool.payout_address: missing"]
    {
        assert!(answer.contains(part), "{part} is not in:\n{answer}");
    }
}

/// A miner's config for a job declarator client, in as few lines as possible.
const CLIENT: &str = r#"
network = "regtest"
[node]
url = "http://127.0.0.1:18443"
cookie_file = "cookie"
[jdc]
solo_address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
[upstream]
pool = "stratum2+tcp://127.0.0.1:34254"
jds = "stratum2+tcp://127.0.0.1:34264"
user = "account.farm"
"#;

fn client(text: &str) -> Result<ClientConfig, String> {
    parse_as(text, &[], checked::check_client)
}

#[test]
fn a_client_needs_a_node_an_address_and_an_upstream() {
    let config = client(CLIENT).unwrap();
    assert_eq!(config.listen.port(), 34254);
    assert_eq!((config.solo.halving_interval, config.solo.least_fee_gain.to_sats()), (150, 1_000));
    let [upstream] = &*config.upstreams else { panic!("one upstream") };
    assert_eq!((upstream.user.as_str(), upstream.mode), ("account.farm", Mode::FullTemplate));
    let answer = client("network = \"regtest\"\n[node]\nurl = \"http://127.0.0.1:1\"\ncookie_file = \"c\"\n")
        .unwrap_err();
    for key in ["jdc.solo_address", "upstream.pool", "upstream.jds", "upstream.user"] {
        assert!(answer.contains(&format!("{key}: missing")), "{key} in {answer}");
    }
}

#[test]
fn a_clients_mistakes_are_told_with_their_lines() {
    for (from, to, told) in [
        (
            "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
            "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
            "adit.toml:7: jdc.solo_address: bc1q",
        ),
        ("127.0.0.1:34264", "jds.example.org:34264", "adit.toml:10: upstream.jds: the key is missing"),
        ("stratum2+tcp://127.0.0.1:34254", "pool example", "adit.toml:9: upstream.pool: "),
        (
            "user = ",
            "mode = \"all\"\nuser = ",
            "upstream.mode: \"all\" is not known; use full-template or coinbase-only",
        ),
        ("user = ", "pol = 1\nuser = ", "upstream.pol: unknown key; did you mean upstream.pool?"),
        (
            "[upstream]",
            "[[upstreams]]\npool = \"x\"\n[upstream]",
            "give either [upstream] or a list of [[upstreams]]",
        ),
        ("[jdc]", "[jdc]\nshares_per_minute = 0", "jdc.shares_per_minute: 0 is out of range"),
    ] {
        let answer = client(&CLIENT.replace(from, to)).unwrap_err();
        assert!(answer.contains(told), "{told} in {answer}");
    }
}

#[test]
fn several_upstreams_keep_their_order() {
    let second = "[[upstreams]]\npool = \"stratum2+tcp://127.0.0.1:2\"\njds = \"stratum2+tcp://127.0.0.1:3\"\nuser = \"b\"\nmode = \"coinbase-only\"\n";
    let text = format!("{}{second}", CLIENT.replace("[upstream]", "[[upstreams]]"));
    let upstreams = client(&text).unwrap().upstreams;
    let users: Vec<_> = upstreams.iter().map(|upstream| (upstream.user.as_str(), upstream.mode)).collect();
    assert_eq!(users, [("account.farm", Mode::FullTemplate), ("b", Mode::CoinbaseOnly)]);
    let answer = client(
        &text.replace("[jdc]", "[jdc]\n").replace("jds = \"stratum2+tcp://127.0.0.1:3\"\n", "jsd = 1\n"),
    )
    .unwrap_err();
    assert!(answer.contains("upstreams.1.jsd: unknown key; did you mean upstreams.1.jds?"), "{answer}");
    assert!(answer.contains("upstreams.1.jds: missing"), "{answer}");
}

#[test]
fn a_pool_serves_declared_jobs_where_it_is_told_an_address_to_listen_at() {
    let pool = |table: &str| parse_with(&format!("{GOOD}{table}"), &[]).unwrap();
    assert!(pool("").declarator.is_none());
    assert!(pool("[jds]\n").declarator.is_none(), "`adit init` writes all tables");
    let with = pool("[jds]\nlisten = \"127.0.0.1:34264\"\n");
    let declarator = with.declarator.unwrap();
    assert_eq!(declarator.payout_address, with.pool.payout_address);
    assert_eq!((declarator.coinbase_only, declarator.least_pool_percent), (true, 100));
    let bad = format!("{GOOD}[jds]\nlisten = \"127.0.0.1:34264\"\nleast_pool_percent = 0\n");
    let answer = parse_with(&bad, &[]).unwrap_err();
    assert!(answer.contains("jds.least_pool_percent: 0 is out of range; use 1 to 100"), "{answer}");
}

/// A pool with its server elsewhere always wanted everything, and refused what that server had accepted.
#[test]
fn a_pool_wants_as_much_of_a_block_as_its_job_declarator_server_elsewhere() {
    let text = GOOD.replace("[pool]", "[pool]\ntoken_key = \"token.key\"");
    let elsewhere = |table: &str| parse_with(&format!("{text}{table}"), &[]);
    let config = elsewhere("[jds]\nleast_pool_percent = 90\n").unwrap();
    assert_eq!((config.least_pool_percent, config.declarator.is_none()), (90, true));
    for table in ["", "[jds]\n"] {
        assert_eq!(elsewhere(table).unwrap().least_pool_percent, 100);
    }
    let answer = elsewhere("[jds]\nleast_pool_percent = 101\n").unwrap_err();
    assert!(answer.contains("jds.least_pool_percent: 101 is out of range; use 1 to 100"), "{answer}");
    let here = elsewhere("[jds]\nlisten = \"127.0.0.1:1\"\nleast_pool_percent = 80\n").unwrap();
    assert_eq!((here.least_pool_percent, here.declarator.unwrap().least_pool_percent), (80, 80));
    let twice = elsewhere("[jds]\nlisten = \"127.0.0.1:1\"\nleast_pool_percent = 0\n").unwrap_err();
    assert_eq!(twice.matches("jds.least_pool_percent").count(), 1, "{twice}");
}

#[test]
fn a_job_declarator_server_alone_needs_to_know_whom_jobs_must_pay() {
    let node = "network = \"regtest\"\n[node]\nurl = \"http://127.0.0.1:1\"\ncookie_file = \"c\"\n";
    let alone = |table: &str| parse_as(&format!("{node}{table}"), &[], checked::check_declarator);
    let answer = alone("[jds]\n").unwrap_err();
    assert!(
        answer.contains("jds.payout_address: missing; give the address that declared jobs must pay"),
        "{answer}"
    );
    let address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
    let config = alone(&format!("[jds]\npayout_address = \"{address}\"\n")).unwrap();
    assert_eq!(config.declarator.listen.port(), 34264);
    let beside = alone(&format!("[pool]\npayout_address = \"{address}\"\n")).unwrap();
    assert_eq!(beside.declarator.payout_address, config.declarator.payout_address);
}
