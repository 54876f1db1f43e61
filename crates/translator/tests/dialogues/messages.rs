//! One dialogue for each thing that machines do differently on the wire.

use adit_translator::{Disconnect, MachineConfig, SETUP_PATIENCE};
use serde_json::{Value, json};

use super::world::{Attempt, Rig, START, VERSION, World, fine, hex, method, methods, refused};

#[test]
fn ids_of_every_kind_come_back_as_they_were() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    for id in
        [json!(0), json!(-1), json!("a-b"), json!(null), json!(1.5), json!(18_446_744_073_709_551_615_u64)]
    {
        assert_eq!(rig.asks(&mut world, id.clone(), "mining.authorize", json!(["alice.rig"])), [fine(id)]);
    }
    rig.says(&mut world, r#"{"id": 1e2 ,"method":"mining.authorize","params":["alice.rig"]}"#);
    let before = rig.machine.output().len();
    rig.machine
        .handle_line(br#"{"id": 1e2 ,"method":"mining.ping","params":[]}"#, &mut world.lent, world.now)
        .unwrap();
    assert!(rig.machine.output()[before..].starts_with(b"{\"id\":1e2,"), "byte for byte");
}

#[test]
fn a_request_without_an_id_is_a_notification_and_has_no_answer() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    for call in
        ["mining.authorize", "mining.suggest_difficulty", "mining.ping", "mining.get_transactions", "new"]
    {
        let line = json!({"method": call, "params": ["1"]}).to_string();
        assert_eq!(rig.says(&mut world, &line), Vec::<Value>::new(), "{call}");
    }
}

#[test]
fn setup_works_in_any_order() {
    let configure =
        (1, "mining.configure", json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]));
    let subscribe = (2, "mining.subscribe", json!([]));
    let authorize = (3, "mining.authorize", json!(["alice.rig", "x"]));
    let all = [&configure, &subscribe, &authorize];
    for [first, second, third] in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut world = World::new();
        let mut rig = Rig::connects(&mut world);
        let job = world.job.clone().unwrap();
        assert_eq!(rig.takes(&world, &job), Vec::<Value>::new(), "nobody knows yet who it is");
        let mut heard = Vec::new();
        for step in [first, second, third] {
            let (id, method, params) = all[step].clone();
            let lines = rig.asks(&mut world, id, method, params);
            assert_eq!(lines[0]["id"], id, "always answered, and at once");
            assert_eq!(lines[0]["error"], Value::Null);
            heard.extend(lines);
        }
        assert_eq!(
            (rig.jobs.len(), rig.readies),
            (1, 1),
            "work begins with subscription and user: {heard:?}"
        );
        let difficulty = heard.iter().position(|line| method(line) == "mining.set_difficulty").unwrap();
        assert_eq!(method(&heard[difficulty + 1]), "mining.notify");
        assert_eq!(rig.tries(&mut world, 1), fine(7));
    }
}

#[test]
fn a_repeated_subscription_is_answered_with_what_holds() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    let first = rig.asks(&mut world, 1, "mining.subscribe", json!(["cgminer/4.12", "deadbeef"]));
    rig.asks(&mut world, 2, "mining.authorize", json!(["alice.rig"]));
    let again = rig.asks(&mut world, 1, "mining.subscribe", json!(["cgminer/4.12"]));
    assert_eq!(first, again);
    assert_eq!(rig.readies, 1);
}

#[test]
fn a_subscription_is_answered_in_the_form_that_everybody_reads() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    let lines = rig.asks(&mut world, "s", "mining.subscribe", json!(["a/1", null, "pool.example", 3333]));
    assert_eq!(
        lines,
        [json!({
            "id": "s",
            "result": [[["mining.set_difficulty", "a0000001"], ["mining.notify", "a0000001"]], "a0000001", 8],
            "error": null
        })]
    );
}

#[test]
fn a_session_id_brings_the_former_extranonce1_back_and_garbage_does_not() {
    for (session, resumed) in [
        (json!("b0b0b0b0"), true),
        (json!("B0B0B0B0"), true),
        (json!("00000000"), false),
        (json!("c0c0c0c0"), false),
        (json!("b0b0b0b0b0"), false),
        (json!("garbage"), false),
        (json!(7), false),
        (json!(null), false),
        (json!(["b0b0b0b0"]), false),
    ] {
        let mut world = World::new();
        world.lent.returned.extend([[0xb0; 4], [0; 4]]);
        let mut rig = Rig::connects(&mut world);
        let lines = rig.asks(&mut world, 1, "mining.subscribe", json!(["cgminer/4.12", session]));
        let expected = if resumed { "b0b0b0b0" } else { "a0000001" };
        assert_eq!(lines[0]["result"][1], expected, "{session}");
        assert_eq!(rig.machine.extranonce1()[0], if resumed { 0xb0 } else { 0xa0 });
        rig.asks(&mut world, 2, "mining.authorize", json!(["alice.rig"]));
        let job = world.job.clone().unwrap();
        rig.takes(&world, &job);
        assert_eq!(rig.tries(&mut world, 0), fine(7));
        assert_eq!(&rig.up[0].extranonce.as_bytes()[2..6], &rig.extranonce1, "shares are made with it");
    }
}

/// It begins its search from the start and finds the same shares, which the pool would refuse.
#[test]
fn shares_of_a_machine_that_came_back_were_taken_twice() {
    for is_kept in [true, false] {
        let mut world = World::new();
        let mut rig = Rig::ready(&mut world);
        assert_eq!(rig.tries(&mut world, 1), fine(7));
        let extranonce1 = rig.machine.extranonce1();
        world.lent.returned.insert(extranonce1);
        let memory = rig.machine.take_memory().unwrap();
        assert!(rig.machine.take_memory().is_none());
        if is_kept {
            world.lent.kept.insert(extranonce1, memory);
        }
        let mut rig = Rig::connects(&mut world);
        let session = hex(&extranonce1);
        rig.asks(&mut world, 1, "mining.subscribe", json!(["x/1.0", session]));
        rig.asks(&mut world, 2, "mining.authorize", json!(["alice.rig", "x"]));
        let job = world.job.clone().unwrap();
        rig.takes(&world, &job);
        let expected = if is_kept { refused(7, 22, "Duplicate") } else { fine(7) };
        let found = Attempt { ntime: START, ..rig.attempt(1) };
        assert_eq!(rig.submits(&mut world, &found), expected);
        assert_eq!(
            rig.told().ntime,
            if is_kept { START + 1 } else { START },
            "it does not search there again"
        );
        assert_eq!(rig.tries(&mut world, 2), fine(7));
    }
}

#[test]
fn configure_answers_every_key_that_it_is_asked_for_and_no_other() {
    for (names, result) in [
        (json!(["version-rolling"]), json!({"version-rolling": true, "version-rolling.mask": "1fffe000"})),
        (
            json!(["version-rolling", "subscribe-extranonce"]),
            json!({"version-rolling": true, "version-rolling.mask": "1fffe000", "subscribe-extranonce": true}),
        ),
        (json!(["minimum-difficulty"]), json!({"minimum-difficulty": true})),
        (
            json!(["version-rolling", "minimum-difficulty", "subscribe-extranonce", "info"]),
            json!({
                "version-rolling": true, "version-rolling.mask": "1fffe000", "minimum-difficulty": true,
                "subscribe-extranonce": true, "info": false
            }),
        ),
        (json!([]), json!({})),
    ] {
        let mut world = World::new();
        let mut rig = Rig::connects(&mut world);
        let options = json!({"version-rolling.mask": "1fffe000", "minimum-difficulty.value": 2048});
        let lines = rig.asks(&mut world, 1, "mining.configure", json!([names, options]));
        assert_eq!(lines[0], json!({"id": 1, "result": result, "error": null}));
        let rolls = names.as_array().unwrap().contains(&json!("version-rolling"));
        let pushed = json!({"id": null, "method": "mining.set_version_mask", "params": ["1fffe000"]});
        assert_eq!(&lines[1..], if rolls { vec![pushed] } else { Vec::new() }, "the mask is pushed too");
    }
}

#[test]
fn masks_are_anded() {
    for (asked, ours, granted) in [
        ("ffffffff", 0x1fff_ffe0, json!("1fffffe0")),
        ("1fffe000", 0x1fff_ffe0, json!("1fffe000")),
        ("00c00000", 0x1fff_e000, json!("00c00000")),
        ("0000001f", 0x1fff_ffe0, Value::Null),
    ] {
        let mut world = World::with(MachineConfig { version_mask: ours, ..MachineConfig::default() });
        let mut rig = Rig::connects(&mut world);
        let params =
            json!([["version-rolling"], {"version-rolling.mask": asked, "version-rolling.min-bit-count": 2}]);
        let lines = rig.asks(&mut world, 1, "mining.configure", params);
        let result = &lines[0]["result"];
        assert_eq!(
            (&result["version-rolling"], &result["version-rolling.mask"]),
            (&json!(granted != Value::Null), &granted)
        );
    }
}

/// What a machine is told that asks for a minimum difficulty of 3 000, before or after it has authorized with that password.
fn difficulty_with_a_minimum(upstream: &str, password: &str, is_late: bool) -> String {
    let mut world = World::asking(upstream);
    let mut rig = Rig::connects(&mut world);
    let configures = |rig: &mut Rig, world: &mut World| {
        let params = json!([["minimum-difficulty"], {"minimum-difficulty.value": 3000}]);
        let lines = rig.asks(world, 1, "mining.configure", params);
        assert_eq!(lines[0]["result"], json!({"minimum-difficulty": true}));
    };
    if !is_late {
        configures(&mut rig, &mut world);
    }
    rig.asks(&mut world, 2, "mining.subscribe", json!([]));
    rig.asks(&mut world, 3, "mining.authorize", json!(["a", password]));
    if is_late {
        configures(&mut rig, &mut world);
    }
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    rig.difficulty.unwrap().to_string()
}

#[test]
fn a_minimum_that_is_asked_for_late_holds_from_the_next_job() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!([]));
    rig.asks(&mut world, 2, "mining.authorize", json!(["a", "th=0.001"]));
    let first = world.job.clone().unwrap();
    rig.takes(&world, &first);
    assert_eq!(rig.difficulty.unwrap().to_string(), "1");
    rig.asks(
        &mut world,
        3,
        "mining.configure",
        json!([["minimum-difficulty"], {"minimum-difficulty.value": 3000}]),
    );
    let next = world.refresh();
    rig.takes(&world, &next);
    assert_eq!(rig.difficulty.unwrap().to_string(), "4096");
}

/// It was granted, and a password could undo it.
#[test]
fn minimum_difficulty_is_kept_to() {
    for is_late in [false, true] {
        let told = |password: &str| difficulty_with_a_minimum("1000000", password, is_late);
        assert_eq!(told("th=0.001"), "4096", "a power of two, and not less");
        assert_eq!(told("md=64"), "4096");
        assert_eq!(told("md=5000"), "8192", "a password may ask for more");
        assert_eq!(told("d=64"), "3000");
        assert_eq!(told("d=4000"), "4000");
    }
    assert_eq!(
        difficulty_with_a_minimum("1000", "x", false),
        "512",
        "but all that the pool pays for is sent"
    );
}

/// What a share of a job came up with.
fn version_sent_up(bits: Option<u32>, mask: Option<&str>) -> Result<u32, Value> {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    if let Some(mask) = mask {
        rig.asks(
            &mut world,
            1,
            "mining.configure",
            json!([["version-rolling"], {"version-rolling.mask": mask}]),
        );
    }
    rig.asks(&mut world, 2, "mining.subscribe", json!([]));
    rig.asks(&mut world, 3, "mining.authorize", json!(["alice.rig"]));
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    let mut attempt = rig.attempt(1);
    attempt.bits = bits;
    let answer = rig.submits(&mut world, &attempt);
    if answer == fine(7) { Ok(rig.up[0].version) } else { Err(answer) }
}

#[test]
fn version_bits_replace_those_of_the_mask() {
    let masked = Some("1fffe000");
    assert_eq!(version_sent_up(None, masked), Ok(VERSION), "a machine that sends none rolls none");
    assert_eq!(version_sent_up(None, None), Ok(VERSION));
    assert_eq!(version_sent_up(Some(0x06a6_c000), masked), Ok(0x26a6_c000));
    assert_eq!(
        version_sent_up(Some(0), masked),
        Ok(0x2000_0000),
        "a bit of the job's own may be rolled away"
    );
    assert_eq!(version_sent_up(Some(0), None), Ok(VERSION), "zeros from a machine that may not roll");
    let error = Err(refused(7, 20, "Invalid version mask"));
    for (bits, mask) in [(0x2000_0000, masked), (0x0000_0020, masked), (1 << 13, None)] {
        assert_eq!(version_sent_up(Some(bits), mask), error, "{bits:08x} of {mask:?}");
    }
}

#[test]
fn a_job_that_forbids_rolling_says_so_and_is_kept_to() {
    let mut world = World::new();
    world.rolling = 0;
    world.new_tip();
    let mut rig = Rig::connects(&mut world);
    rig.asks(
        &mut world,
        1,
        "mining.configure",
        json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]),
    );
    rig.asks(&mut world, 2, "mining.subscribe", json!([]));
    rig.asks(&mut world, 3, "mining.authorize", json!(["alice.rig"]));
    let job = world.job.clone().unwrap();
    let mask = |mask: &str| json!({"id": null, "method": "mining.set_version_mask", "params": [mask]});
    assert!(rig.takes(&world, &job).contains(&mask("00000000")));
    let mut attempt = rig.attempt(1);
    for (nonce, bits, answer) in [
        (1, None, fine(7)),
        (2, Some(0), fine(7)),
        (3, Some(VERSION & 0x1fff_ffe0), fine(7)),
        (4, Some(0x0600_0000), refused(7, 20, "Invalid version mask")),
    ] {
        (attempt.nonce, attempt.bits) = (nonce, bits);
        assert_eq!(rig.submits(&mut world, &attempt), answer, "{bits:x?}");
    }
    assert!(rig.up.iter().all(|share| share.version == VERSION));
    world.rolling = adit_share::VERSION_ROLLING_MASK;
    let job = world.refresh();
    assert_eq!(rig.takes(&world, &job)[0], mask("1fffe000"), "and says when it may be rolled again");
    let job = world.refresh();
    assert_eq!(methods(&rig.takes(&world, &job)), ["mining.notify"]);
}

/// SV1 pools grant the bits of BIP 320, whatever they are asked for.
#[test]
fn a_pool_that_grants_fewer_bits_than_machines_may_roll_was_taken_for_one_that_grants_none() {
    let wide = MachineConfig { version_mask: 0x1fff_ffe0, ..World::new().config.as_ref().clone() };
    let mut world = World::with(wide);
    world.rolling = 0x1fff_e000;
    world.new_tip();
    let mut rig = Rig::connects(&mut world);
    let all = json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]);
    rig.asks(&mut world, 1, "mining.configure", all.clone());
    rig.asks(&mut world, 2, "mining.subscribe", json!([]));
    rig.asks(&mut world, 3, "mining.authorize", json!(["alice.rig"]));
    let job = world.job.clone().unwrap();
    let mask = |mask: &str| json!({"id": null, "method": "mining.set_version_mask", "params": [mask]});
    assert!(rig.takes(&world, &job).contains(&mask("1fffe000")));
    let mut attempt = rig.attempt(1);
    for (nonce, bits, answer) in
        [(1, 0x0600_2000, fine(7)), (2, 0x0600_2020, refused(7, 20, "Invalid version mask"))]
    {
        (attempt.nonce, attempt.bits) = (nonce, Some(bits));
        assert_eq!(rig.submits(&mut world, &attempt), answer, "{bits:x?}");
    }
    assert_eq!(rig.up[0].version, VERSION & !0x1fff_e000 | 0x0600_2000);
    let again = rig.asks(&mut world, 8, "mining.configure", all);
    assert_eq!(again[1], mask("1fffe000"), "what the present job allows");
}

#[test]
fn suggested_difficulties_are_read_in_every_form() {
    for (line, answer) in [
        (r#"{"id":4,"method":"mining.suggest_difficulty","params":[64]}"#, Some(4)),
        (r#"{"id":4,"method":"mining.suggest_difficulty","params":[64.0]}"#, Some(4)),
        (r#"{"id":4,"method":"mining.suggest_difficulty","params":["64"]}"#, Some(4)),
        (r#"{"id":4,"method":"mining.suggest_difficulty(64)","params":[]}"#, Some(4)),
        (r#"{"method":"mining.suggest_difficulty","params":[64]}"#, None),
        (
            r#"{"id":4,"method":"mining.suggest_target","params":["0000000003fffc00000000000000000000000000000000000000000000000000"]}"#,
            Some(4),
        ),
    ] {
        let mut world = World::asking("1000000");
        let mut rig = Rig::connects(&mut world);
        rig.asks(&mut world, 1, "mining.subscribe", json!([]));
        let heard = rig.says(&mut world, line);
        assert_eq!(heard, answer.map(fine).into_iter().collect::<Vec<_>>(), "before the user too: {line}");
        rig.asks(&mut world, 3, "mining.authorize", json!(["a"]));
        let job = world.job.clone().unwrap();
        rig.takes(&world, &job);
        assert_eq!(rig.difficulty.unwrap().to_string(), "64", "{line}");
    }
}

#[test]
fn a_suggestion_that_says_nothing_is_answered_and_one_too_low_is_raised() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!(["bitaxe/BM1370/v2"]));
    for params in [json!(null), json!([null]), json!([]), json!(["abc"]), json!([0]), json!([-5])] {
        assert_eq!(rig.asks(&mut world, 4, "mining.suggest_difficulty", params), [fine(4)]);
    }
    rig.asks(&mut world, 4, "mining.suggest_difficulty", json!([0.001]));
    rig.asks(&mut world, 3, "mining.authorize", json!(["a"]));
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    assert_eq!(rig.difficulty.unwrap().to_string(), "1", "its class goes no lower");
}

#[test]
fn a_suggestion_after_the_first_job_is_taken_once() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::ready_as(&mut world, "bitaxe/BM1370/v2", "x");
    let first = rig.asks(&mut world, 4, "mining.suggest_difficulty", json!([2048]));
    assert_eq!(methods(&first), ["", "mining.set_difficulty", "mining.notify"]);
    assert_eq!(rig.difficulty.unwrap().to_string(), "2048");
    assert!(!rig.told().clean, "work on the job goes on");
    for difficulty in [2048, 1, 4096, 1, 512] {
        let again = rig.asks(&mut world, 4, "mining.suggest_difficulty", json!([difficulty]));
        assert_eq!(again, [fine(4)], "a flood of them makes no flood of jobs");
    }
    let job = world.refresh();
    assert_eq!(methods(&rig.takes(&world, &job)), ["mining.notify"]);
}

#[test]
fn an_extranonce_subscription_is_granted_and_followed_by_a_new_job() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let before = rig.told().id.clone();
    let lines = rig.asks(&mut world, 9, "mining.extranonce.subscribe", json!([]));
    assert_eq!(lines[0], fine(9));
    assert_eq!(lines[1], json!({"id": null, "method": "mining.set_extranonce", "params": ["a0000001", 8]}));
    assert_eq!(methods(&lines[2..]), ["mining.notify"]);
    assert_ne!(rig.told().id, before, "firmware passes over a job that it has");
    for _ in 0..5 {
        assert_eq!(rig.asks(&mut world, 9, "mining.extranonce.subscribe", json!([])), [fine(9)]);
    }
    assert_eq!(rig.tries(&mut world, 3), fine(7));
}

#[test]
fn pings_and_pongs_of_both_kinds() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    assert_eq!(
        rig.asks(&mut world, 5, "mining.ping", json!([])),
        [json!({"id": 5, "result": "pong", "error": null})]
    );
    for line in [
        r#"{"id":5,"result":"pong","error":null}"#,
        r#"{"id":5,"method":"pong","params":[]}"#,
        r#"{"id":6,"result":"cgminer/4.12","error":null}"#,
        r#"{"id":6,"result":null,"error":[-3,"Method not found",null]}"#,
    ] {
        assert_eq!(rig.says(&mut world, line), Vec::<Value>::new(), "{line}");
    }
}

/// What a machine is told when it has said nothing for a minute.
fn after_a_minute(world: &mut World, rig: &mut Rig) -> Result<Vec<Value>, Disconnect> {
    world.wait(60);
    rig.machine.handle_timeout(world.now.monotonic)?;
    let heard = core::mem::take(rig.machine.output());
    Ok(heard.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect())
}

#[test]
fn a_machine_that_answers_pings_and_stops_to_is_not_there_any_more() {
    let ping = |id: u64| Ok(vec![json!({"id": id, "method": "mining.ping", "params": []})]);
    let mut world = World::new();
    let mut rig = Rig::ready_as(&mut world, "cgminer/4.12", "x");
    rig.machine.output().clear();
    assert_eq!(after_a_minute(&mut world, &mut rig), ping(1));
    rig.says(&mut world, r#"{"id":1,"result":"pong","error":null}"#);
    for id in 2..=4 {
        assert_eq!(after_a_minute(&mut world, &mut rig), ping(id));
    }
    assert_eq!(after_a_minute(&mut world, &mut rig), Err(Disconnect::Silent));
    let mut bitaxe = Rig::ready_as(&mut world, "bitaxe/BM1370", "x");
    bitaxe.machine.output().clear();
    for id in 1..=3 {
        assert_eq!(after_a_minute(&mut world, &mut bitaxe), ping(id));
    }
    assert_eq!(after_a_minute(&mut world, &mut bitaxe), Ok(Vec::new()), "it may not know what that is");
    assert_eq!(bitaxe.machine.poll_timeout(), None);
    let mut other = Rig::ready_as(&mut world, "Antminer S19", "x");
    other.machine.output().clear();
    assert_eq!(after_a_minute(&mut world, &mut other), Ok(Vec::new()), "others are not asked");
}

#[test]
fn what_nobody_offers_is_refused_politely() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    assert_eq!(
        rig.asks(&mut world, 1, "mining.get_transactions", json!(["1"])),
        [refused(1, 20, "Not supported.")]
    );
    assert_eq!(rig.asks(&mut world, 2, "mining.teleport", json!([])), [refused(2, 20, "Unknown method")]);
    let version = rig.asks(&mut world, 3, "client.get_version", json!([]));
    assert!(version[0]["result"].as_str().unwrap().starts_with("adit/"));
    assert_eq!(rig.ended, None);
}

#[test]
fn extranonce2_of_another_length_is_cut_or_padded() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    for (sent, taken) in [
        ("11223344", "1122334400000000"),
        ("112233445566778899", "1122334455667788"),
        ("", "0000000000000000"),
        ("abc", "abc0000000000000"),
    ] {
        let attempt = Attempt { extranonce2: sent.into(), ..rig.attempt(0) };
        assert_eq!(rig.submits(&mut world, &attempt), fine(7), "{sent}");
        let rolled = rig.up.last().unwrap().extranonce;
        assert_eq!(hex(rolled.as_bytes()), format!("0000a0000001{taken}"), "padding, ours, its own");
    }
}

#[test]
fn a_machine_has_a_minute_to_say_who_it_is() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    let due = rig.machine.poll_timeout().unwrap();
    assert_eq!(due, world.now.monotonic + SETUP_PATIENCE);
    rig.asks(&mut world, 1, "mining.subscribe", json!([]));
    world.wait(59);
    assert!(rig.machine.handle_timeout(world.now.monotonic).is_ok());
    world.wait(1);
    assert!(rig.machine.handle_timeout(world.now.monotonic).is_err());
    rig.asks(&mut world, 1, "mining.authorize", json!(["a"]));
    assert!(rig.machine.handle_timeout(world.now.monotonic).is_ok() && rig.machine.poll_timeout().is_none());
}

#[test]
fn draining_asks_for_a_new_connection_to_the_same_place() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    rig.machine.handle_drain();
    let reconnect = json!({"id": null, "method": "client.reconnect", "params": []});
    assert_eq!(rig.hears(), [reconnect], "cgminer follows no host without a point in it");
    assert_eq!(rig.tries(&mut world, 1), fine(7), "and machines that do not follow are served");
}

#[test]
fn a_machine_that_came_back_got_its_job_under_the_same_number() {
    let mut world = World::new();
    let mut before = Rig::ready(&mut world);
    let found = before.attempt(1);
    assert_eq!(before.submits(&mut world, &found), fine(7));
    world.lent.returned.insert(before.machine.extranonce1());
    let mut rig = Rig::connects(&mut world);
    // The job is there before the machine says who it is.
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    rig.asks(&mut world, 1, "mining.subscribe", json!(["x/1.0", hex(&before.extranonce1)]));
    rig.asks(&mut world, 2, "mining.authorize", json!(["alice.rig"]));
    assert_eq!((rig.jobs.len(), &rig.extranonce1), (1, &before.extranonce1));
    assert_ne!(rig.told().id, before.told().id);
    assert_eq!(rig.submits(&mut world, &found), refused(7, 21, "Invalid JobID"), "it is not taken twice");
    assert_eq!(rig.tries(&mut world, 2), fine(7));
    assert_eq!(rig.up[0].route, before.up[0].route, "the work is the same");
    let job = world.refresh();
    rig.takes(&world, &job);
    assert_eq!(rig.tries(&mut world, 3), fine(7));
    assert_eq!(rig.asks(&mut world, 4, "mining.suggest_difficulty", json!([5])).len(), 1);
}
