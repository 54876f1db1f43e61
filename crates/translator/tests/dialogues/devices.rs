//! One dialogue for each kind of device, in the order and the words of its firmware.

use adit_channel::WorkerName;
use adit_translator::{MachineConfig, Override, Quirks};
use adit_units::Difficulty;
use serde_json::{Value, json};

use super::world::{ANY_HASH, Attempt, Rig, World, fine, methods, refused};

/// The first difficulty and the class of a device that calls itself so, where the upstream's own would be out of reach.
fn begins(user_agent: &str) -> (String, &'static str) {
    let mut world = World::asking("1000000000000");
    let rig = Rig::ready_as(&mut world, user_agent, "x");
    (rig.difficulty.unwrap().to_string(), rig.machine.report(world.now.monotonic).class)
}

#[test]
fn every_class_begins_at_its_speed_with_a_power_of_two() {
    for (user_agent, difficulty, class) in [
        ("NiceHash/1.0.0", "524288", "nicehash"),
        ("MiningRigRentals/2.0", "131072", "rental"),
        ("Antminer S21/Tue Jul 30 2024", "131072", "antminer-s21"),
        ("bmminer/2.0.0", "131072", "antminer"),
        ("whatsminer/v1.1", "131072", "whatsminer-v1"),
        ("btminer/3.4.0", "131072", "whatsminer"),
        ("bosminer-plus-tuner 0.2.0", "131072", "braiins"),
        ("xminer-1.2.6", "131072", "vnish"),
        ("PowerPlay-BM/1.15", "131072", "epic"),
        ("LUXminer 2024.1", "131072", "luxos"),
        ("AvalonMiner 1466", "65536", "avalon"),
        ("NerdQAxe++/BM1370/v1.0.36", "8192", "nerdqaxe"),
        ("NerdNOS/1.0", "256", "nerdnos"),
        ("bitaxe/BM1370/v2.9.31", "512", "bitaxe"),
        ("NerdMinerV2/V1.8.3", "0.00048828125", "esp32"),
        ("cpuminer/2.5.1", "0.0625", "cpuminer"),
        ("cgminer/4.11.1", "1024", "cgminer"),
        ("", "1024", "unknown"),
    ] {
        assert_eq!(begins(user_agent), (difficulty.to_owned(), class), "{user_agent}");
    }
}

#[test]
fn nicehash_subscribes_to_extranonces_and_gets_long_unique_job_ids_and_powers_of_two() {
    let mut world = World::asking("3000000");
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!(["NiceHash/1.0.0"]));
    rig.asks(&mut world, 2, "mining.extranonce.subscribe", json!([]));
    rig.asks(&mut world, 3, "mining.authorize", json!(["alice.rig", "x"]));
    for _ in 0..20 {
        let job = world.refresh();
        rig.takes(&world, &job);
        assert_eq!(rig.told().id.len(), 16);
        assert_eq!(rig.difficulty, Some(Difficulty::from_whole(524_288)));
    }
    let mut ids: Vec<_> = rig.jobs.iter().map(|job| job.id.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert!(ids.is_sorted(), "and they only rise");
}

#[test]
fn a_rental_proxy_has_many_workers_on_one_connection() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!(["MiningRigRentals/2.0"]));
    for worker in 0..500 {
        let user = format!("alice.rig{worker}");
        assert_eq!(rig.asks(&mut world, worker, "mining.authorize", json!([user, "x"]))[0], fine(worker));
    }
    assert_eq!(rig.readies, 1);
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    for worker in [0, 7, 499] {
        let attempt = Attempt { user: format!("alice.rig{worker}"), ..rig.attempt(worker) };
        assert_eq!(rig.submits(&mut world, &attempt), fine(7));
        let named = rig.up.last().unwrap().worker.unwrap();
        assert_eq!(named.as_str(), format!("rig{worker}"), "each share tells who found it");
    }
    let report = rig.machine.report(world.now.monotonic);
    let users = &report.identity.users;
    assert_eq!((users.len(), users[0].as_str()), (8, "alice.rig0"));
}

#[test]
fn a_stock_antminer_rolls_the_bits_that_it_was_granted() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    let configure = json!([["version-rolling"], {"version-rolling.mask": "1fffe000", "version-rolling.min-bit-count": 2}]);
    let lines = rig.asks(&mut world, 1, "mining.configure", configure);
    assert_eq!(lines[0]["result"]["version-rolling.mask"], "1fffe000");
    rig.asks(&mut world, 2, "mining.subscribe", json!(["Antminer S19j Pro/Tue Jan 1 2022"]));
    rig.asks(&mut world, 3, "mining.authorize", json!(["alice.rig", "123"]));
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    let attempt = Attempt { bits: Some(0x06a6_c000), ..rig.attempt(5) };
    assert_eq!(rig.submits(&mut world, &attempt), fine(7));
}

#[test]
fn a_whatsminer_with_an_overlong_name_is_served_under_a_short_one() {
    let name = format!("alice.{}", "w".repeat(140));
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!(["whatsminer/v1.1"]));
    assert_eq!(rig.asks(&mut world, 2, "mining.authorize", json!([name, "x"]))[0], fine(2));
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    let attempt = Attempt { user: name, ..rig.attempt(1) };
    assert_eq!(rig.submits(&mut world, &attempt), fine(7));
    assert_eq!(rig.up[0].worker.unwrap().as_str(), "w".repeat(WorkerName::MAX_LEN));
    let huge = format!("alice.{}", "w".repeat(4_000));
    assert_eq!(rig.asks(&mut world, 3, "mining.authorize", json!([huge, "x"]))[0], fine(3));
    let attempt = Attempt { user: huge, ..rig.attempt(2) };
    assert_eq!(rig.submits(&mut world, &attempt), fine(7), "a name is cut the same way each time");
}

#[test]
fn a_bitaxe_begins_as_its_firmware_does() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::connects(&mut world);
    let configure = json!([["version-rolling"], {"version-rolling.mask": "ffffffff"}]);
    let lines = rig.asks(&mut world, 1, "mining.configure", configure);
    assert_eq!(lines[0]["result"]["version-rolling.mask"], "1fffe000");
    assert_eq!(methods(&lines), ["", "mining.set_version_mask"]);
    let lines = rig.asks(&mut world, 2, "mining.subscribe", json!(["bitaxe/BM1370/v2.9.31"]));
    assert_eq!(lines.len(), 1);
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    let lines = rig.asks(&mut world, 3, "mining.authorize", json!(["alice.axe", "x"]));
    assert_eq!(methods(&lines), ["", "mining.set_difficulty", "mining.notify"]);
    assert_eq!(rig.difficulty.unwrap().to_string(), "512");
    let lines = rig.asks(&mut world, 4, "mining.suggest_difficulty", json!([1000]));
    assert_eq!(methods(&lines), ["", "mining.set_difficulty", "mining.notify"]);
    assert_eq!(rig.difficulty.unwrap().to_string(), "1024");
    let lines = rig.asks(&mut world, 5, "mining.extranonce.subscribe", json!([]));
    assert_eq!(methods(&lines), ["", "mining.set_extranonce", "mining.notify"]);
    let silent = rig.says(&mut world, r#"{"id": 6, "method": "pong", "params": []}"#);
    assert_eq!(silent, Vec::<Value>::new(), "its answer to a ping is a request");
}

#[test]
fn a_bitaxe_takes_a_job_again_only_under_another_id() {
    let mut world = World::new();
    let mut rig = Rig::ready_as(&mut world, "bitaxe/BM1370/v2.9.31", "x");
    for _ in 0..5 {
        world.wait(30);
        let job = world.renew();
        assert_eq!(methods(&rig.takes(&world, &job)), ["mining.notify"]);
        assert!(!rig.told().clean);
    }
    let mut ids: Vec<_> = rig.jobs.iter().map(|job| job.id.clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 6);
    assert_eq!(rig.told().ntime - rig.jobs[0].ntime, 150);
}

#[test]
fn a_bitaxe_sends_the_same_share_many_times_a_day_and_stays() {
    let mut world = World::new();
    let mut rig = Rig::ready_as(&mut world, "bitaxe/BM1370/v2.9.31", "x");
    assert_eq!(rig.tries(&mut world, 1), fine(7));
    for _ in 0..200 {
        world.wait(5);
        assert_eq!(rig.tries(&mut world, 1), refused(7, 22, "Duplicate"));
    }
    assert_eq!((rig.ended, rig.machine.report(world.now.monotonic).shares.duplicate), (None, 200));
}

#[test]
fn braiins_os_is_told_no_job_twice() {
    let mut world = World::new();
    let mut rig = Rig::ready_as(&mut world, "bosminer-plus-tuner 0.2.0", "x");
    let job = world.job.clone().unwrap();
    for _ in 0..3 {
        assert_eq!(rig.takes(&world, &job), Vec::<Value>::new(), "it resets its pipeline with each job");
    }
    assert_eq!(rig.tries(&mut world, 1), fine(7));
}

#[test]
fn cpuminer_gets_a_fraction_and_its_shares_are_taken() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!(["cpuminer/2.5.1"]));
    rig.asks(&mut world, 2, "mining.authorize", json!(["alice.rig", "x"]));
    rig.asks(&mut world, 3, "mining.extranonce.subscribe", json!([]));
    let job = world.job.clone().unwrap();
    let lines = rig.takes(&world, &job);
    assert_eq!(lines[0]["params"][0], 0.0625);
    let mut rig = Rig::ready_as(&mut world, "cpuminer/2.5.1 tiny", "d=0.0001");
    let share = rig.finds(rig.difficulty.unwrap().to_target(), true);
    assert_eq!(rig.submits(&mut world, &share), fine(7));
    assert_eq!(rig.up.len(), 0, "it is far below what the upstream asks for");
}

#[test]
fn a_nerdminer_is_told_its_fraction_in_decimals_without_an_exponent() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!(["NerdMinerV2/V1.8.3"]));
    rig.asks(&mut world, 2, "mining.authorize", json!(["alice.nerd", "x"]));
    rig.asks(&mut world, 3, "mining.suggest_difficulty", json!([0.00015]));
    let job = world.job.clone().unwrap();
    rig.machine.handle_job(&job, world.now.monotonic);
    let output = String::from_utf8(rig.machine.output().clone()).unwrap();
    assert!(output.contains("\"params\":[0.00048828125]}"), "{output}");
}

#[test]
fn an_avalon_cuts_its_name_and_must_use_what_it_authorized() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!(["cgminer/4.11.1"]));
    let cut = format!("bc1qexample.{}", "a".repeat(51));
    rig.asks(&mut world, 2, "mining.authorize", json!([cut, "x"]));
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    let attempt = Attempt { user: cut, ..rig.attempt(1) };
    assert_eq!(rig.submits(&mut world, &attempt), fine(7));
}

#[test]
fn epic_and_vnish_configure_after_the_subscription() {
    for user_agent in ["PowerPlay-BM/1.15", "xminer-1.2.6"] {
        let mut world = World::new();
        let mut rig = Rig::connects(&mut world);
        rig.asks(&mut world, 1, "mining.subscribe", json!([user_agent]));
        rig.asks(&mut world, 2, "mining.authorize", json!(["alice.rig", "x"]));
        let job = world.job.clone().unwrap();
        rig.takes(&world, &job);
        let configure = json!([["version-rolling"], {"version-rolling.mask": "1fffe000"}]);
        let lines = rig.asks(&mut world, 3, "mining.configure", configure);
        assert_eq!(methods(&lines), ["", "mining.set_version_mask"]);
        let attempt = Attempt { bits: Some(0x0020_0000), ..rig.attempt(1) };
        assert_eq!(
            rig.submits(&mut world, &attempt),
            fine(7),
            "the mask holds for the job that is out already"
        );
    }
}

#[test]
fn the_operator_knows_better_than_the_table() {
    let devices = vec![Override {
        pattern: "BM1370".into(),
        nominal: Some("1000000000000".parse().map(adit_units::Hashrate::from_hashes_per_second).unwrap()),
        least_difficulty: Some(Difficulty::from_whole(5_000)),
        ..Override::default()
    }];
    let mut world = World::with(MachineConfig { devices, ..MachineConfig::default() });
    world.target = Difficulty::from_whole(1 << 40).to_target();
    world.new_tip();
    let rig = Rig::ready_as(&mut world, "bitaxe/BM1370/v2.9.31", "x");
    assert_eq!(rig.difficulty.unwrap().to_string(), "8192", "never below what he says, and a power of two");
    let rig = Rig::ready_as(&mut world, "x", ANY_HASH);
    assert_eq!(rig.machine.report(world.now.monotonic).class, "unknown");
}

/// A class's quirks were its own for ever, whatever the operator knew.
#[test]
fn quirks_could_not_be_overridden() {
    let device = |pattern: &str, quirks: &[&str]| Override {
        pattern: pattern.into(),
        least_difficulty: Some(Difficulty::ONE),
        quirks: Some(Quirks::named(quirks.iter().copied()).unwrap()),
        ..Override::default()
    };
    let devices = vec![
        device("nicehash", &["answers-pings"]),
        device("bitaxe", &[]),
        device("rentproxy", &["powers-of-two"]),
    ];
    let mut world = World::with(MachineConfig { devices, ..MachineConfig::default() });
    world.target = Difficulty::from_whole(1 << 40).to_target();
    world.new_tip();
    for (user_agent, told, is_asked) in [
        ("NiceHash/1.0.0", "1000000", true),
        ("bitaxe/BM1370", "1000000", false),
        ("RentProxy/2", "1048576", false),
        ("mrr/1.0", "1048576", false),
        ("cgminer/4.12", "1000000", true),
    ] {
        let rig = Rig::ready_as(&mut world, user_agent, "d=1000000");
        assert_eq!(rig.difficulty.unwrap().to_string(), told, "{user_agent}");
        assert_eq!(rig.machine.poll_timeout().is_some(), is_asked, "{user_agent}");
    }
}
