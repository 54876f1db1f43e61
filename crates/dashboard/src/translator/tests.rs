//! Tests of the translator's pages: their shapes against recorded ones, their numbers, and hostile names.

use core::time::Duration;
use std::collections::BTreeSet;

use adit_translator::{ChannelStatus, MachineStatus, ShareCounts, UpstreamShares};
use adit_units::{Hashrate, Target};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::plain;

const RECORDED: &str = include_str!("../../../../test-vectors/monitoring/translator.json");
const HOSTILE: &str = include_str!("../../../../test-vectors/monitoring/hostile-names.json");
const RECORDED_METRICS: &str = include_str!("../../../../test-vectors/monitoring/translator.metrics");

fn shares_above(accepted: u64) -> UpstreamShares {
    UpstreamShares {
        accepted,
        refused: 3,
        lost: 2,
        pending: 1,
        work: u128::from(accepted) * 4_295_032_833,
        refusals: vec![("stale-share".to_owned(), 2), ("made-up".to_owned(), 1)],
    }
}

fn machine_named(id: u64, user: &str) -> MachineStatus {
    MachineStatus {
        id,
        peer: "192.0.2.7:5000".parse().unwrap(),
        user_agent: "bmminer/2.0".to_owned(),
        class: "antminer",
        users: vec![user.to_owned()],
        extranonce1: [0, 0, 0, 7],
        extranonce2_len: 8,
        version_mask: Some(0x1fff_e000),
        difficulty: Difficulty::from_whole(65_536),
        hashrate: Hashrate::from_hashes_per_second(100_000_000_000_000),
        shares: ShareCounts {
            accepted: 40,
            stale: 1,
            duplicate: 2,
            low_difficulty: 3,
            invalid: 4,
            blocks: 1,
        },
        upstream: shares_above(20),
        connected: Duration::from_secs(3600),
        last_share: Some(Duration::from_secs(5)),
        best: Some(Difficulty::from_whole(1_000_000 + id)),
        long_coinbase: None,
    }
}

fn channel(id: u32, machine: Option<u64>, user: &str) -> ChannelStatus {
    ChannelStatus {
        channel_id: id,
        machine,
        user: user.to_owned(),
        nominal: Hashrate::from_hashes_per_second(200_000_000_000_000),
        target: Target::DIFFICULTY_1,
        extranonce_prefix: Box::new([2, 0, 0, 1]),
        extranonce_size: 16,
        version_rolling: true,
        shares: shares_above(40),
        blocks: 1,
    }
}

fn upstream(state: UpstreamState, channels: Vec<ChannelStatus>) -> UpstreamStatus {
    let address = "stratum2+tcp://pool.example.org:3333".to_owned();
    UpstreamStatus { address, user: "alice".to_owned(), state, channels, shares: shares_above(40) }
}

/// Two machines, one channel for both, and an upstream that failed.
fn aggregated() -> Status {
    let failed = UpstreamState::Failed { reason: "connection refused".to_owned() };
    Status {
        uptime: Duration::from_secs(86_400),
        aggregated: true,
        upstreams: vec![
            upstream(failed, vec![]),
            upstream(UpstreamState::InUse, vec![channel(5, None, "alice.adit")]),
        ],
        machines: vec![machine_named(3, "alice.rig1"), machine_named(8, "alice")],
        machines_seen: 9,
        connections_refused: 4,
        shares: ShareCounts {
            accepted: 99,
            stale: 1,
            duplicate: 2,
            low_difficulty: 3,
            invalid: 4,
            blocks: 2,
        },
    }
}

/// The same with a channel for each machine.
fn one_each() -> Status {
    let channels = vec![channel(5, Some(8), "alice.rig2"), channel(6, Some(3), "alice.rig1")];
    Status { aggregated: false, upstreams: vec![upstream(UpstreamState::InUse, channels)], ..aggregated() }
}

fn ask(status: &Status, path_and_query: &str) -> Answer {
    let (path, query) = path_and_query.split_once('?').unwrap_or((path_and_query, ""));
    answer(|| Arc::new(status.clone()), UnixTime::from_secs(1_800_000_000), &Request { path, query })
}

fn ask_json(status: &Status, path: &str) -> Value {
    let answer = ask(status, path);
    assert_eq!(answer.content_type(), "application/json");
    serde_json::from_slice(answer.body()).unwrap()
}

fn metrics_of(status: &Status) -> String {
    String::from_utf8(ask(status, "/metrics").body().to_vec()).unwrap()
}

/// Every path to a value with the kind of the value. Lists count by their first entry; maps of reasons have keys of their own.
fn shape(value: &Value, path: &str, shape_so_far: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) if !path.ends_with("_by_reason") && !path.ends_with("endpoints") => {
            for (name, value) in fields {
                shape(value, &format!("{path}.{name}"), shape_so_far);
            }
        }
        Value::Array(entries) => {
            shape_so_far.insert(format!("{path} list"));
            if let Some(first) = entries.first() {
                shape(first, &format!("{path}[]"), shape_so_far);
            }
        }
        Value::Object(_) => drop(shape_so_far.insert(format!("{path} map"))),
        Value::String(_) => drop(shape_so_far.insert(format!("{path} text"))),
        Value::Number(_) => drop(shape_so_far.insert(format!("{path} number"))),
        Value::Bool(_) => drop(shape_so_far.insert(format!("{path} bool"))),
        Value::Null => drop(shape_so_far.insert(format!("{path} null"))),
    }
}

fn shape_of(value: &Value) -> BTreeSet<String> {
    let mut shapes = BTreeSet::new();
    shape(value, "", &mut shapes);
    shapes
}

#[test]
fn answers_have_the_shapes_that_tools_know() {
    let recorded: Map<String, Value> = serde_json::from_str(RECORDED).unwrap();
    assert!(recorded.len() > 10);
    for status in [aggregated(), one_each()] {
        for (path, theirs) in &recorded {
            // Their only machine is number 1, ours are 3 and 8.
            let path = path.replace("/sv1/clients/1", "/sv1/clients/3");
            let answer = ask(&status, &path);
            assert_eq!(u64::from(answer.status()), theirs["status"].as_u64().unwrap(), "{path}");
            let mut expected = shape_of(&theirs["body"]);
            // We are not told how few bits a machine must be allowed to roll.
            if expected.remove(".version_rolling_min_bit text") {
                expected.insert(".version_rolling_min_bit null".to_owned());
            }
            if expected.remove(".items[].version_rolling_min_bit text") {
                expected.insert(".items[].version_rolling_min_bit null".to_owned());
            }
            assert_eq!(shape_of(&ask_json(&status, &path)), expected, "{path}");
        }
    }
}

#[test]
fn the_name_of_a_worker_was_another_than_the_pool_was_told() {
    for (user, shown) in [
        ("farm.rig%231", "rig#1"),
        ("farm. rig ", "rig"),
        ("alone", "alone"),
        ("a.0123456789012345678901234567890123456789", "01234567890123456789012345678901"),
    ] {
        let machines = vec![machine_named(3, user)];
        let client = ask_json(&Status { machines, ..aggregated() }, "/api/v1/sv1/clients/3");
        assert_eq!(client["sv1_worker_name"], shown);
        assert_eq!(shown, adit_translator::worker_name(user).as_str(), "what goes up with a share");
        assert_eq!(client["sv1_username"], user);
    }
}

#[test]
fn a_coinbase_that_is_too_long_for_a_machine_was_shown_nowhere() {
    let mut status = aggregated();
    let path = "/api/adit/v1/translator";
    assert_eq!(ask_json(&status, path)["machines_with_long_coinbase"], 0);
    assert_eq!(ask_json(&status, "/api/adit/v1/translator/machines/8")["long_coinbase_bytes"], Value::Null);
    status.machines[1].long_coinbase = Some(2345);
    assert_eq!(ask_json(&status, path)["machines_with_long_coinbase"], 1);
    assert_eq!(ask_json(&status, "/api/adit/v1/translator/machines/8")["long_coinbase_bytes"], 2345);
    assert!(metrics_of(&status).contains("\nadit_translator_machines_long_coinbase 1\n"));
}

#[test]
fn exactly_one_state_of_an_upstream_is_1() {
    let failed = UpstreamState::Failed { reason: String::new() };
    for state in [UpstreamState::Idle, UpstreamState::Connecting, UpstreamState::InUse, failed] {
        let text = metrics_of(&Status { upstreams: vec![upstream(state, vec![])], ..Status::default() });
        let values = text.lines().filter(|line| line.starts_with("adit_translator_upstream_state{"));
        let values: Vec<_> = values.map(|line| line.rsplit_once(' ').unwrap().1).collect();
        assert_eq!(
            (values.len(), values.iter().filter(|value| **value == "1").count()),
            (ours::STATES.len(), 1)
        );
    }
}

/// Numbers that count how often they were asked for.
#[derive(Default)]
struct Counted(std::sync::atomic::AtomicU64);

impl TranslatorNumbers for Counted {
    fn latest(&self) -> Arc<Status> {
        let _ = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Arc::default()
    }
}

#[test]
fn numbers_are_asked_for_when_a_page_is_that_shows_them() {
    let pages = TranslatorPages::new(Counted::default());
    let asked_for = || pages.numbers.0.load(std::sync::atomic::Ordering::Relaxed);
    let seen = |path| pages.answer(&Request { path, query: "" }).status();
    for path in ["/", "/api/v1/health"] {
        assert_eq!(seen(path), 200);
    }
    assert_eq!(asked_for(), 0, "these have no numbers");
    for path in ["/metrics", "/api/v1/global", "/api/adit/v1/translator"] {
        assert_eq!(seen(path), 200);
    }
    assert_eq!(asked_for(), 3);
}

#[test]
fn a_translator_without_anything_answers_too() {
    let status = Status::default();
    assert_eq!(ask_json(&status, "/api/v1/global")["server"]["total_channels"], 0);
    assert_eq!(ask_json(&status, "/api/v1/server/channels")["extended_channels"], json!([]));
    assert_eq!(ask_json(&status, "/api/v1/sv1/clients")["items"], json!([]));
    assert_eq!(ask_json(&status, "/api/adit/v1/translator")["upstreams"], json!([]));
    assert!(metrics_of(&status).contains("\nsv1_clients_total 0\n"));
}

#[test]
fn numbers_of_channels_and_machines_are_theirs() {
    let status = aggregated();
    let channel = &ask_json(&status, "/api/v1/server/channels")["extended_channels"][0];
    assert_eq!(channel["channel_id"], 5);
    assert_eq!(channel["user_identity"], "alice.adit");
    assert_eq!(channel["target_hex"], format!("00000000ffff{}", "0".repeat(52)));
    assert_eq!(channel["extranonce_prefix_hex"], "02000001");
    assert_eq!(
        (&channel["full_extranonce_size"], &channel["rollable_extranonce_size"]),
        (&json!(20), &json!(16))
    );
    assert_eq!((&channel["shares_acknowledged"], &channel["shares_submitted"]), (&json!(40), &json!(46)));
    assert_eq!(channel["shares_rejected_by_reason"], json!({"made-up": 1, "stale-share": 2}));
    assert_eq!(
        (&channel["acknowledged_work_sum"], &channel["validated_work_sum"]),
        (&json!(40), &json!(40.0))
    );
    assert_eq!((&channel["best_diff"], &channel["blocks_found"]), (&json!(1_000_008.0), &json!(1)));
    assert_eq!(ask_json(&status, "/api/v1/server")["total_hashrate"], 200_000_000_000_000_u64);

    let client = ask_json(&status, "/api/v1/sv1/clients/3");
    assert_eq!((&client["sv1_username"], &client["sv1_worker_name"]), (&json!("alice.rig1"), &json!("rig1")));
    assert_eq!((&client["channel_id"], &client["connection_ip"]), (&json!(5), &json!("192.0.2.7")));
    assert_eq!(client["target_hex"], format!("000000000000ffff{}", "0".repeat(48)));
    assert_eq!(
        (&client["extranonce1_hex"], &client["version_rolling_mask"]),
        (&json!("00000007"), &json!("1fffe000"))
    );
    assert_eq!(ask_json(&status, "/api/v1/sv1/clients/8")["sv1_worker_name"], "alice");
    assert_eq!(ask_json(&status, "/api/v1/global")["sv1_clients"]["total_hashrate"], 200_000_000_000_000_u64);
}

#[test]
fn with_a_channel_for_each_a_machine_is_shown_with_its_own() {
    let status = one_each();
    assert_eq!(ask_json(&status, "/api/v1/sv1/clients/3")["channel_id"], 6);
    assert_eq!(ask_json(&status, "/api/v1/sv1/clients/8")["channel_id"], 5);
    let clients = ask_json(&status, "/api/v1/sv1/clients");
    assert_eq!(
        (&clients["items"][0]["channel_id"], &clients["items"][1]["channel_id"]),
        (&json!(6), &json!(5))
    );
    let channels = ask_json(&status, "/api/v1/server/channels?limit=1&offset=1");
    assert_eq!((&channels["total_extended"], &channels["offset"]), (&json!(2), &json!(1)));
    let channel = &channels["extended_channels"][0];
    assert_eq!((&channel["channel_id"], &channel["best_diff"]), (&json!(6), &json!(1_000_003.0)));
    assert_eq!(channel["blocks_found"], 1);
}

/// Pollers add up the blocks of all channels that they have ever seen.
#[test]
fn the_blocks_of_one_upstream_were_shown_on_the_channels_of_the_next() {
    for mut status in [aggregated(), one_each()] {
        assert!(status.shares.blocks > 0 && status.machines.iter().all(|machine| machine.shares.blocks > 0));
        let channels =
            |status: &Status| ask_json(status, "/api/v1/server/channels")["extended_channels"].clone();
        assert_eq!(channels(&status)[0]["blocks_found"], 1);
        let upstreams = status.upstreams.iter_mut();
        upstreams.flat_map(|upstream| &mut upstream.channels).for_each(|channel| channel.blocks = 0);
        assert_eq!(channels(&status)[0]["blocks_found"], 0, "they were found before it was opened");
    }
}

#[test]
fn a_machine_without_shares_was_counted_among_those_that_work() {
    let mut status = aggregated();
    assert_eq!(ask_json(&status, "/api/v1/sv1/clients/8")["hashrate"], 100_000_000_000_000_u64);
    status.machines[1].hashrate = Hashrate::from_hashes_per_second(0);
    assert_eq!(ask_json(&status, "/api/v1/sv1/clients/8")["hashrate"], Value::Null);
    assert_eq!(ask_json(&status, "/api/v1/sv1/clients")["items"][1]["hashrate"], Value::Null);
    assert_eq!(ask_json(&status, "/api/v1/global")["sv1_clients"]["total_hashrate"], 100_000_000_000_000_u64);
}

#[test]
fn our_own_pages_tell_what_became_of_shares() {
    let status = aggregated();
    let overview = ask_json(&status, "/api/adit/v1/translator");
    assert_eq!(overview["upstreams"][0]["state"], "failed");
    assert_eq!(overview["upstreams"][0]["reason"], "connection refused");
    assert_eq!(overview["upstreams"][1]["state"], "in-use");
    assert_eq!(overview["upstreams"][1]["shares"]["work_hashes"], (40 * 4_295_032_833_u64).to_string());
    assert_eq!(overview["shares"]["stale"], 1);
    let machines = ask_json(&status, "/api/adit/v1/translator/machines?offset=1");
    assert_eq!((&machines["total"], &machines["items"][0]["id"]), (&json!(2), &json!(8)));
    let machine = ask_json(&status, "/api/adit/v1/translator/machines/8");
    assert_eq!(machine, machines["items"][0]);
    assert_eq!((&machine["difficulty"], &machine["last_share_secs"]), (&json!(65_536.0), &json!(5)));
    assert_eq!(machine["upstream"]["refusals"]["stale-share"], 2);
}

#[test]
fn what_is_not_there_is_said_so() {
    let status = aggregated();
    for (path, code) in [
        ("/nothing", 404),
        ("/api/v1/sv1/clients/4", 404),
        ("/api/v1/sv1/clients/x", 400),
        ("/api/v1/sv1/clients/", 400),
        ("/api/v1/sv1/clients/3/", 400),
        ("/api/v1/sv1/clients/99999999999999999999999", 400),
        ("/api/v1/sv1/clients?limit=x", 400),
        ("/api/adit/v1/translator/machines/%33", 400),
        ("//metrics", 404),
    ] {
        let answer = ask(&status, path);
        assert_eq!(answer.status(), code, "{path}");
        let body: Value = serde_json::from_slice(answer.body()).unwrap();
        assert!(body["error"].is_string(), "{path}");
    }
    for (path, _) in INDEX {
        let path = path.replace("{client_id}", "3").replace("{id}", "3");
        assert_eq!(ask(&status, &path).status(), 200, "{path}");
    }
}

#[test]
fn their_metrics_are_among_ours() {
    let ours = metrics_of(&aggregated());
    for line in RECORDED_METRICS.lines() {
        if line.starts_with("# HELP") {
            continue;
        }
        // A sample is compared by its name and labels, a type as it is. Their channel is number 2, ours number 5.
        let start = match line.strip_prefix("# TYPE") {
            Some(_) => line.to_owned(),
            None => line
                .rsplit_once(' ')
                .unwrap()
                .0
                .replace("\"2\"", "\"5\"")
                .replace("translator.translator-proxy", "alice"),
        };
        let sample = format!("{start} ");
        assert!(
            ours.lines().any(|line| line == start || line.starts_with(&sample)),
            "{start} is not in\n{ours}"
        );
    }
}

#[test]
fn metrics_count() {
    let text = metrics_of(&aggregated());
    for line in [
        "sv2_uptime_seconds 86400",
        "sv2_server_shares_accepted_total{channel_id=\"5\",user_identity=\"alice\"} 40",
        "sv2_server_shares_rejected_total{channel_id=\"5\",error_code=\"stale-share\",user_identity=\"alice\"} 2",
        "sv2_server_shares_rejected_total{channel_id=\"5\",error_code=\"made-up\",user_identity=\"alice\"} 1",
        "sv1_hashrate_total 200000000000000",
        "adit_translator_machines_seen_total 9",
        "adit_translator_machines_silent 0",
        "adit_translator_class_machines{class=\"antminer\"} 2",
        "adit_translator_shares_total{outcome=\"low-difficulty\"} 3",
        "adit_translator_upstream_state{upstream=\"0\",state=\"failed\"} 1",
        "adit_translator_upstream_state{upstream=\"1\",state=\"failed\"} 0",
        "adit_translator_upstream_shares_total{upstream=\"1\",outcome=\"lost\"} 2",
        "adit_translator_upstream_work_hashes_total{upstream=\"1\"} 171801313320",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}

#[test]
fn no_number_of_machines_or_codes_makes_more_series() {
    let mut status = one_each();
    let few = metrics_of(&status).lines().count();
    let channels = (0..5000).map(|id| channel(id, Some(u64::from(id)), "alice")).collect();
    status.upstreams = vec![upstream(UpstreamState::InUse, channels)];
    status.machines = (0..5000).map(|id| machine_named(id, &format!("alice.{id}"))).collect();
    for (number, channel) in status.upstreams[0].channels.iter_mut().enumerate() {
        channel.shares.refusals = vec![(format!("code-{number}"), 1), ("stale-share".to_owned(), 1)];
    }
    let text = metrics_of(&status);
    assert!(text.lines().count() < few + 50, "{}", text.lines().count());
    let all = "sv2_server_shares_accepted_total{channel_id=\"all\",user_identity=\"alice\"} 200000";
    assert!(text.lines().any(|line| line == all));
    let of_code = |code: &str| {
        let start = format!("sv2_server_shares_rejected_total{{channel_id=\"all\",error_code=\"{code}\",");
        text.lines()
            .find(|line| line.starts_with(&start))
            .unwrap()
            .rsplit_once(' ')
            .unwrap()
            .1
            .parse::<u32>()
            .unwrap()
    };
    assert_eq!((of_code("stale-share"), of_code("code-0"), of_code("other")), (5000, 1, 4984));
}

/// Names that would do harm somewhere, alone and within others.
fn hostile_names() -> Vec<String> {
    let parts: Vec<String> = serde_json::from_str(HOSTILE).unwrap();
    let mut names = parts.clone();
    for first in &parts {
        names.extend(parts.iter().step_by(3).map(|second| format!("alice{first}.rig{second}")));
    }
    names.extend(parts.iter().map(|part| part.repeat(100)));
    names
}

/// A status with that name wherever a stranger chooses one.
fn status_with(name: &str) -> Status {
    let mut status = aggregated();
    let machine = &mut status.machines[0];
    machine.users = vec![name.to_owned(), name.to_owned()];
    machine.user_agent = name.to_owned();
    machine.upstream.refusals = vec![(name.to_owned(), 1)];
    status.upstreams[0].state = UpstreamState::Failed { reason: name.to_owned() };
    let upstream = &mut status.upstreams[1];
    upstream.user = name.to_owned();
    upstream.address = name.to_owned();
    upstream.shares.refusals = vec![(name.to_owned(), 1)];
    upstream.channels[0].user = name.to_owned();
    upstream.channels[0].shares.refusals = vec![(name.to_owned(), 1)];
    status
}

#[test]
fn hostile_names_do_nothing_in_json() {
    let names = hostile_names();
    assert!(names.len() > 1000);
    let paths = [
        "/api/v1/server/channels",
        "/api/v1/sv1/clients",
        "/api/adit/v1/translator",
        "/api/adit/v1/translator/machines",
    ];
    for name in &names {
        let status = status_with(name);
        for path in paths {
            let answer = ask(&status, path);
            let is_harmless = |byte: &u8| (0x20..0x7f).contains(byte) && !b"<>&'".contains(byte);
            assert!(answer.body().iter().all(is_harmless), "{name:?} in {path}");
            let value: Value = serde_json::from_slice(answer.body()).unwrap();
            every_text(&value, &mut |text| {
                assert!(text.len() <= 160 && text.chars().all(adit_channel::prints), "{name:?} in {path}");
            });
        }
        assert_eq!(ask_json(&status, "/api/v1/sv1/clients")["items"][0]["sv1_username"], *plain(name));
    }
}

fn every_text(value: &Value, see: &mut impl FnMut(&str)) {
    match value {
        Value::String(text) => see(text),
        Value::Array(entries) => entries.iter().for_each(|entry| every_text(entry, see)),
        Value::Object(fields) => fields.iter().for_each(|(name, value)| {
            see(name);
            every_text(value, see);
        }),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[test]
fn hostile_names_do_nothing_in_metrics() {
    let lines = metrics_of(&status_with("x")).lines().count();
    for name in hostile_names() {
        let text = metrics_of(&status_with(&name));
        assert_eq!(text.lines().count(), lines, "{name:?}");
        assert!(
            text.chars().all(|character| character == '\n' || adit_channel::prints(character)),
            "{name:?}"
        );
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            assert!(is_sample(line), "{name:?} gives {line}");
        }
    }
}

/// Whether a line is `name{label="value",...} number` and nothing else.
fn is_sample(line: &str) -> bool {
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    };
    let end_of_name = line.find(['{', ' ']).unwrap_or(line.len());
    let (name, mut rest) = line.split_at(end_of_name);
    if let Some(labels) = rest.strip_prefix('{') {
        rest = labels;
        loop {
            let Some((label, value)) = rest.split_once("=\"") else { return false };
            let mut characters = value.char_indices();
            let end = loop {
                match characters.next() {
                    Some((_, '\\')) => drop(characters.next()),
                    Some((at, '"')) => break at,
                    Some(_) => {}
                    None => return false,
                }
            };
            rest = &value[end + 1..];
            if !is_name(label) {
                return false;
            }
            match rest.strip_prefix(',') {
                Some(next) => rest = next,
                None => break,
            }
        }
        let Some(after) = rest.strip_prefix('}') else { return false };
        rest = after;
    }
    is_name(name) && rest.strip_prefix(' ').is_some_and(|number| number.parse::<u128>().is_ok())
}

proptest! {
    #[test]
    fn any_request_about_anybody_is_answered(
        path in "(/|/metrics|/api/v1/sv1/clients/?|/api/adit/v1/translator/machines/?)?.*",
        query in "((offset|limit)=[0-9]{0,30}&?){0,3}.*",
        name in any::<String>(),
    ) {
        let latest = || Arc::new(status_with(&name));
        let answer = answer(latest, UnixTime::from_secs(0), &Request { path: &path, query: &query });
        prop_assert!([200, 400, 404].contains(&answer.status()));
        if answer.content_type() == "application/json" {
            prop_assert!(serde_json::from_slice::<Value>(answer.body()).is_ok());
        } else {
            let text = core::str::from_utf8(answer.body()).unwrap();
            prop_assert!(text.lines().all(|line| line.starts_with("# ") || is_sample(line)), "{text}");
        }
    }
}
