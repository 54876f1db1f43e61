//! Tests of the pool's pages: their shapes, their numbers, and hostile names.

use core::time::Duration;
use std::collections::BTreeSet;

use adit_channel::{
    ChannelKind, ExtranonceBase, ExtranonceSpace, Percent, RewardKind, UserIdentity, WorkerName,
};
use adit_messages::error_code::SubmitSharesError;
use adit_net::Refused;
use adit_pool::server::Metrics;
use adit_pool::{ChannelShares, Distribution, PoolConfig, WorkerReport, WorkerShares};
use adit_units::{ChannelId, ConnectionId, Height, Monotonic, SequenceNumber, Target, Work};
use bitcoin::{Network, ScriptBuf};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::metrics::workers::WORKERS_NAMED;
use super::*;
use crate::plain;

const HOSTILE: &str = include_str!("../../../../test-vectors/monitoring/hostile-names.json");

fn at(secs: u64) -> Monotonic {
    Monotonic::from_micros(secs * 1_000_000)
}

fn metrics() -> Metrics {
    let rejected = core::array::from_fn(|at| (SubmitSharesError::ALL[at], at as u64));
    Metrics {
        connections: 3,
        refused_connections: Refused::ALL.map(|limit| (limit, 4)),
        channels: 3,
        hashrate: Hashrate::from_hashes_per_second(5_000),
        work: Work::from_hashes(u128::MAX),
        accepted: 99,
        rejected,
        blocks_found: 4,
        blocks_accepted: 2,
        blocks_stale: 1,
        blocks_refused: 1,
        height: Some(Height(850_000)),
        template_age: Some(Duration::from_secs(7)),
        tip_to_first_miner: Some(Duration::from_micros(1_250)),
        tip_to_last_miner: None,
        time_on_empty_work: Duration::from_millis(1_500),
        unwritten: 12,
        log_lag: Duration::from_secs(9),
        blocks_faulty: 1,
    }
}

fn channel(id: u32, kind: ChannelKind, user: &str, pays: Distribution) -> ChannelReport {
    let base = ExtranonceBase::new(&[], 20, 14).unwrap();
    ChannelReport {
        id: ChannelId(id),
        kind,
        user: UserIdentity::from_wire(user.as_bytes()).unwrap(),
        group: ChannelId(1),
        reward: if pays == Distribution::Pooled { RewardKind::Pooled } else { RewardKind::Solo },
        pays,
        nominal: Hashrate::from_hashes_per_second(1_000),
        hashrate: Hashrate::from_hashes_per_second(900),
        target: Target::DIFFICULTY_1,
        max_target: Target::MAX,
        extranonce: ExtranonceSpace::based(base, ConnectionId(1)).next_prefix().unwrap(),
        opened: at(100),
        shares: ChannelShares {
            accepted: 40,
            blocks: 1,
            work: Work::from_hashes(40 * 4_295_032_833),
            best: Some(Target::DIFFICULTY_1),
            last_number: SequenceNumber(41),
            last: Some(at(990)),
            ..ChannelShares::default()
        },
    }
}

fn connection(id: u32, device: &str, channels: Vec<ChannelReport>) -> ConnectionStatus {
    let worker = |number: u32| WorkerReport {
        channel: ChannelId(2),
        name: WorkerName::from_wire(format!("rig-{number}").as_bytes()).unwrap(),
        shares: WorkerShares { accepted: 20, rejected: 2, last: Some(at(980)), ..WorkerShares::default() },
    };
    let workers = if id == 3 { vec![worker(1), worker(2)] } else { Vec::new() };
    let report = SessionReport { device: device.into(), channels, workers, ..SessionReport::default() };
    ConnectionStatus {
        id: ConnectionId(id),
        peer: "192.0.2.7:5".parse().unwrap(),
        since: at(50),
        report: Arc::new(report),
    }
}

fn view_of(connections: Vec<ConnectionStatus>, node: &str) -> PoolView {
    let rules =
        PoolConfig { network: Network::Regtest, ..PoolConfig::new(7, ScriptBuf::from_bytes(vec![0x51])) };
    let status = Status {
        at: at(1_000),
        uptime: Duration::from_secs(1_000),
        metrics: metrics(),
        health: NodeHealth::Up,
        rules: Arc::new(rules),
        connections,
    };
    let shown =
        |name: &str, state, reason| NodeView { name: name.to_owned(), state, reason, height: Some(850_000) };
    let nodes = vec![shown(node, "up", None), shown("spare", "down", Some(node.to_owned()))];
    PoolView { status: Arc::new(status), nodes }
}

/// A proxy with two channels and two workers, and a miner that mines for itself.
fn view() -> PoolView {
    let solo = Distribution::Solo(ScriptBuf::from_bytes([&[0, 20][..], &[7; 20]].concat()));
    let split =
        Distribution::Split { pool: Percent::new(3).unwrap(), miner: ScriptBuf::from_bytes(vec![0x6a]) };
    let proxy = vec![
        channel(2, ChannelKind::Extended, "alice.farm", Distribution::Pooled),
        channel(3, ChannelKind::Extended, "bob", split),
    ];
    let miner = vec![channel(2, ChannelKind::Standard, "sri/solo/carol/garage", solo)];
    let connections =
        vec![connection(3, "SRI Translator Proxy 0.6", proxy), connection(8, "bitaxe BM1370", miner)];
    view_of(connections, "http://127.0.0.1:8332")
}

fn ask(view: &PoolView, path_and_query: &str) -> Answer {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    PoolPages::showing(view.clone()).answer(&Request { path, query })
}

fn ask_json(view: &PoolView, path: &str) -> Value {
    let answer = ask(view, path);
    assert_eq!((answer.status(), answer.content_type()), (200, "application/json"), "{path}");
    serde_json::from_slice(answer.body()).unwrap()
}

fn metrics_of(view: &PoolView) -> String {
    text_of(view, "/metrics")
}

fn text_of(view: &PoolView, path: &str) -> String {
    let answer = ask(view, path);
    assert_eq!(answer.status(), 200, "{path}");
    String::from_utf8(answer.body().to_vec()).unwrap()
}

fn fields(value: &Value) -> BTreeSet<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// The names are those of `stratum-apps` 0.8.0, which SRI's `pool_sv2` serves by.
#[test]
fn answers_have_the_fields_that_tools_know() {
    let view = view();
    let set = |names: &'static str| names.split(' ').collect::<BTreeSet<_>>();
    let global = ask_json(&view, "/api/v1/global");
    assert_eq!(fields(&global), set("server sv2_clients sv1_clients uptime_secs"));
    assert!(global["server"].is_null() && global["sv1_clients"].is_null());
    let totals = "total_clients total_channels extended_channels standard_channels total_hashrate";
    assert_eq!(fields(&global["sv2_clients"]), set(totals));
    let clients = ask_json(&view, "/api/v1/clients");
    assert_eq!(fields(&clients), set("offset limit total items"));
    let client = "client_id client_kind extended_channels_count standard_channels_count total_hashrate";
    assert_eq!(fields(&clients["items"][0]), set(client));
    assert_eq!(clients["items"][0], ask_json(&view, "/api/v1/clients/3"));
    let channels = ask_json(&view, "/api/v1/clients/3/channels");
    let lists = "client_id offset limit total_extended total_standard extended_channels standard_channels";
    assert_eq!(fields(&channels), set(lists));
    let standard = "channel_id user_identity nominal_hashrate stable_hashrate target_hex requested_max_target_hex \
                    extranonce_prefix_hex expected_shares_per_minute shares_accepted shares_rejected \
                    shares_rejected_by_reason share_work_sum last_share_sequence_number best_diff last_batch_accepted \
                    last_batch_work_sum share_batch_size blocks_found";
    let mut extended: BTreeSet<_> = standard.split_whitespace().collect();
    let one = ask_json(&view, "/api/v1/clients/8/channels");
    assert_eq!(fields(&one["standard_channels"][0]), extended);
    extended.extend(["full_extranonce_size", "rollable_extranonce_size"]);
    assert_eq!(fields(&channels["extended_channels"][0]), extended);
    for path in ["/api/v1/server", "/api/v1/server/channels", "/api/v1/sv1/clients", "/api/v1/sv1/clients/1"]
    {
        assert_eq!(ask(&view, path).status(), 404, "{path}");
    }
}

#[test]
fn numbers_of_channels_and_workers_are_theirs() {
    let view = view();
    let channel = &ask_json(&view, "/api/v1/clients/3/channels")["extended_channels"][0];
    assert_eq!(
        (&channel["user_identity"], &channel["nominal_hashrate"]),
        (&json!("alice.farm"), &json!(900))
    );
    assert_eq!((&channel["share_work_sum"], &channel["best_diff"]), (&json!(40.0), &json!(1.0)));
    assert_eq!(
        (&channel["full_extranonce_size"], &channel["rollable_extranonce_size"]),
        (&json!(20), &json!(14))
    );
    let standard = &ask_json(&view, "/api/v1/clients/8/channels")["standard_channels"][0];
    assert_eq!(standard["extranonce_prefix_hex"].as_str().unwrap().len(), 40, "all of it");
    let kinds = |id| ask_json(&view, &format!("/api/v1/clients/{id}"))["client_kind"].clone();
    assert_eq!([kinds(3), kinds(8)], ["translator_proxy", "miner"]);

    let workers = ask_json(&view, "/api/adit/v1/pool/workers");
    let names: Vec<_> = workers["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (&row["connection"], &row["channel"], &row["name"], &row["named_by"], &row["accepted"]))
        .collect();
    let expected = [
        json!([3, 2, "rig-1", "share", 20]),
        json!([3, 2, "rig-2", "share", 20]),
        json!([3, 3, null, "channel", 40]),
        json!([8, 2, null, "channel", 40]),
    ];
    let names: Vec<_> = names.into_iter().map(|(a, b, c, d, e)| json!([a, b, c, d, e])).collect();
    assert_eq!(names, expected);
    assert_eq!(ask_json(&view, "/api/adit/v1/pool/connections/3/workers")["total"], 3);
    let payouts = ask_json(&view, "/api/adit/v1/pool/connections/3/channels");
    assert_eq!(
        payouts["items"][1]["payout"],
        json!({"block": "both", "pool_percent": 3, "miner": "6a", "shares_count": false})
    );
    let solo = &ask_json(&view, "/api/adit/v1/pool/connections/8/channels")["items"][0]["payout"];
    assert_eq!(solo["block"], "miner");
    assert!(solo["miner"].as_str().unwrap().starts_with("bcrt1q"), "{solo}");
    let overview = ask_json(&view, "/api/adit/v1/pool");
    assert_eq!((&overview["blocks"]["faulty"], &overview["log"]["lag_secs"]), (&json!(1), &json!(9)));
    assert_eq!(
        (&overview["nodes"][1]["state"], &overview["tip"]["to_first_miner_secs"]),
        (&json!("down"), &json!(0.00125))
    );
}

#[test]
fn metrics_count() {
    let text = metrics_of(&view());
    for line in [
        "sv2_clients_total 2",
        "sv2_client_channels{channel_type=\"extended\"} 2",
        "sv2_client_shares_accepted_total{client_id=\"all\",channel_id=\"all\",user_identity=\"all\"} 99",
        "adit_pool_connections_refused_total{limit=\"full\"} 4",
        "adit_pool_shares_rejected_total{error_code=\"stale-share\"} 2",
        "adit_pool_work_hashes_total 340282366920938463463374607431768211455",
        "adit_pool_log_waiting_shares 12",
        "adit_pool_log_lag_seconds 9.000000",
        "adit_pool_blocks_total{fate=\"stale\"} 1",
        "adit_pool_height 850000",
        "adit_pool_tip_to_first_miner_seconds 0.001250",
        "adit_pool_empty_work_seconds_total 1.500000",
        "adit_pool_templates_up 1",
        "adit_pool_channels_silent 0",
        "adit_pool_node_state{node=\"1\",state=\"down\"} 1",
        "adit_pool_node_height{node=\"0\"} 850000",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(!text.contains("\nadit_pool_tip_to_last_miner_seconds"), "it is not known");
}

#[test]
fn no_number_of_miners_makes_more_series() {
    let few = metrics_of(&view()).lines().count();
    let crowd = |id| {
        let channels = (2..100).map(|number| {
            channel(number, ChannelKind::Extended, &format!("u{id}.{number}"), Distribution::Pooled)
        });
        connection(id, "x", channels.collect())
    };
    assert_eq!(metrics_of(&view_of((1..50).map(crowd).collect(), "a")).lines().count(), few);
}

#[test]
fn what_is_not_there_is_said_so() {
    let view = view();
    for (path, code) in [
        ("/nothing", 404),
        ("/api/v1/clients/4", 404),
        ("/api/v1/clients/x", 400),
        ("/api/v1/clients/3/workers", 404),
        ("/api/v1/clients/3/", 404),
        ("/api/v1/clients/99999999999999999999999", 400),
        ("/api/v1/clients?limit=x", 400),
        ("/api/adit/v1/pool/connections/3/channels?offset=-1", 400),
        ("/api/adit/v1/pool/connections/%33", 400),
        ("//metrics", 404),
    ] {
        let answer = ask(&view, path);
        assert_eq!(answer.status(), code, "{path}");
        assert!(serde_json::from_slice::<Value>(answer.body()).unwrap()["error"].is_string(), "{path}");
    }
    for (path, _) in INDEX {
        let path = path.replace("{client_id}", "3").replace("{id}", "3");
        assert_eq!(ask(&view, &path).status(), 200, "{path}");
    }
}

/// A pool with that name wherever a stranger chooses one and a name may have such characters.
fn view_with(name: &str) -> PoolView {
    let user: String = name.chars().filter(|&character| adit_channel::prints(character)).take(60).collect();
    let channels = vec![channel(2, ChannelKind::Extended, &user, Distribution::Pooled)];
    view_of(vec![connection(3, name, channels)], name)
}

fn check_answers(name: &str) {
    let view = view_with(name);
    for path in [
        "/api/v1/clients/3/channels",
        "/api/adit/v1/pool",
        "/api/adit/v1/pool/connections",
        "/api/adit/v1/pool/connections/3/channels",
        "/api/adit/v1/pool/workers",
    ] {
        let answer = ask(&view, path);
        let is_harmless = |byte: &u8| (0x20..0x7f).contains(byte) && !b"<>&'".contains(byte);
        assert!(answer.body().iter().all(is_harmless), "{name:?} in {path}");
        assert!(serde_json::from_slice::<Value>(answer.body()).is_ok(), "{name:?} in {path}");
    }
    let text = metrics_of(&view) + &text_of(&view, "/metrics/workers");
    assert!(text.chars().all(|character| character == '\n' || adit_channel::prints(character)), "{name:?}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(line.starts_with("sv2_") || line.starts_with("adit_pool_"), "{name:?} gives {line}");
        assert!(
            line.rsplit_once(' ').unwrap().1.parse::<f64>().unwrap().is_finite(),
            "{name:?} gives {line}"
        );
    }
}

#[test]
fn hostile_names_do_nothing() {
    let names: Vec<String> = serde_json::from_str(HOSTILE).unwrap();
    let lines = metrics_of(&view_with("x")).lines().count();
    for name in names.iter().cloned().chain(names.iter().map(|name| name.repeat(50))) {
        check_answers(&name);
        assert_eq!(metrics_of(&view_with(&name)).lines().count(), lines, "{name:?}");
        let shown = ask_json(&view_with(&name), "/api/adit/v1/pool/connections");
        assert_eq!(shown["items"][0]["device"], *plain(&name));
    }
}

#[test]
fn workers_have_metrics_on_a_page_of_their_own() {
    let text = text_of(&view(), "/metrics/workers");
    for line in [
        r#"adit_pool_worker_shares_accepted{user="alice.farm",worker="rig-1"} 20"#,
        r#"adit_pool_worker_shares_rejected{user="alice.farm",worker="rig-2"} 2"#,
        r#"adit_pool_worker_last_share_seconds{user="alice.farm",worker="rig-2"} 20"#,
        r#"adit_pool_worker_shares_accepted{user="bob",worker=""} 40"#,
        r#"adit_pool_worker_work_hashes{user="bob",worker=""} 171801313320"#,
        "adit_pool_workers_unnamed 0",
    ] {
        assert!(text.lines().any(|shown| shown == line), "{line} is not in {text}");
    }
    assert!(!metrics_of(&view()).contains("rig-1"), "a series for each name is only for who asks for it");
}

/// The same worker on two connections is one series, and beyond so many names they are only counted.
#[test]
fn workers_are_added_up_and_bounded() {
    let one = |id, user: &str| {
        connection(id, "x", vec![channel(2, ChannelKind::Extended, user, Distribution::Pooled)])
    };
    let twice = view_of(vec![one(8, "alice.rig"), one(9, "alice.rig")], "x");
    let text = text_of(&twice, "/metrics/workers");
    assert!(text.contains(r#"shares_accepted{user="alice.rig",worker="rig"} 80"#), "{text}");
    let crowd = (10..).take(WORKERS_NAMED + 3).map(|id| one(id, &format!("u{id}")));
    let text = text_of(&view_of(crowd.collect(), "x"), "/metrics/workers");
    assert_eq!(text.matches("shares_accepted{").count(), WORKERS_NAMED);
    assert!(text.ends_with("adit_pool_workers_unnamed 3\n"), "{}", text.len());
}

proptest! {
    #[test]
    fn any_request_about_anybody_is_answered(
        path in "(/|/metrics(/workers)?|/api/v1/clients/?|/api/adit/v1/pool/(connections/)?)?(3/)?.*",
        query in "((offset|limit)=[0-9]{0,30}&?){0,3}.*",
        name in any::<String>(),
    ) {
        let answer = PoolPages::showing(view_with(&name)).answer(&Request { path: &path, query: &query });
        prop_assert!([200, 400, 404].contains(&answer.status()));
        check_answers(&name);
    }
}
