//! User names and passwords in every form that owners write.

use adit_translator::{MachineConfig, USERS_MAX};
use adit_units::{Difficulty, Hashrate};
use serde_json::json;

use super::world::{Attempt, Rig, TINY, World, fine, refused};

/// The worker name that goes up with the shares of a user.
fn named(user: &str) -> String {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.subscribe", json!([]));
    assert_eq!(rig.asks(&mut world, 2, "mining.authorize", json!([user, "x"]))[0], fine(2), "{user}");
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    let attempt = Attempt { user: user.into(), ..rig.attempt(1) };
    assert_eq!(rig.submits(&mut world, &attempt), fine(7), "{user}");
    rig.up[0].worker.map(|name| name.as_str().to_owned()).unwrap_or_default()
}

#[test]
fn every_form_of_a_user_name_is_taken_and_gives_a_worker() {
    for (user, worker) in [
        ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.rig1", "rig1"),
        ("bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq_rig1", "bc1qar0srrr7xfkvy5l643lydnw9re59"),
        (".rig1", "rig1"),
        ("alice", "alice"),
        ("alice.rig1~half", "rig1~half"),
        ("alice.me@wallet.example", "me@wallet.example"),
        ("sri/solo/alice/rig", "sri/solo/alice/rig"),
        ("alice.rig%231", "rig#1"),
        ("älice.Grüße", "Grüße"),
        ("", ""),
        ("alice.", "alice"),
    ] {
        assert_eq!(named(user), worker, "{user}");
    }
}

/// The first difficulty with a password, where the upstream's own would be out of reach, and what is written for it.
fn first(user_agent: &str, password: &str) -> String {
    let mut world = World::asking("1000000000");
    Rig::ready_as(&mut world, user_agent, password).difficulty.unwrap().to_string()
}

#[test]
fn passwords_set_difficulties_in_every_form() {
    for (password, difficulty) in [
        ("x", "1024"),
        ("", "1024"),
        ("d=512", "512"),
        ("diff=200", "200"),
        ("x, diff=200", "200"),
        ("x,d=0.001", "0.001"),
        ("D=7.5", "8"),
        ("md=5000", "8192"),
        ("md=64", "1024"),
        ("th=100", "131072"),
        ("th=0.5 md=2000", "2048"),
        ("d=0", "1024"),
        ("d=-1", "1024"),
        ("dGhpcyBpcyBhIHRva2Vu==", "1024"),
    ] {
        assert_eq!(first("x/1", password), difficulty, "{password}");
    }
    assert_eq!(first("NiceHash/1.0.0", "d=1048576"), "1048576");
    assert_eq!(first("NiceHash/1.0.0", "d=1000000"), "1048576", "a market rounds what is no power of two");
    assert_eq!(first("Antminer S19", "d=1500.5"), "1501", "some firmware breaks on fractions");
}

#[test]
fn a_password_that_asked_for_next_to_no_difficulty_got_it() {
    assert_eq!(first("x/1", "d=0.000000000001"), "0.00048828125", "what the device's class has at the least");
    assert_eq!(first("NiceHash/1.0.0", "d=65536"), "524288");
    let least_difficulty = Difficulty::from_whole(100);
    let mut world = World::with(MachineConfig { least_difficulty, ..MachineConfig::default() });
    world.target = Difficulty::from_whole(1 << 40).to_target();
    world.new_tip();
    let rig = Rig::ready_as(&mut world, "x", "d=0.001");
    assert_eq!(rig.difficulty.unwrap(), least_difficulty, "and what the operator says for all");
}

#[test]
fn a_fixed_difficulty_stays() {
    let mut world = World::asking("1000000000");
    let mut rig = Rig::ready_as(&mut world, TINY, "d=0.000001");
    for nonce in 0..3_000 {
        world.wait_micros(10_000);
        rig.tries(&mut world, nonce);
        if nonce % 500 == 0 {
            let job = world.refresh();
            rig.takes(&world, &job);
        }
    }
    assert!(rig.jobs.iter().all(|job| job.difficulty.unwrap().to_string() == "0.000001"));
    assert_eq!(rig.jobs.len(), 7, "no job but those of the upstream");
    rig.asks(&mut world, 9, "mining.suggest_difficulty", json!([64]));
    assert_eq!(rig.difficulty.unwrap().to_string(), "0.000001");
}

#[test]
fn another_password_of_the_same_user_holds_from_the_next_job_on() {
    let mut world = World::asking("1000000000");
    let mut rig = Rig::ready(&mut world);
    assert_eq!(rig.difficulty.unwrap().to_string(), "1024");
    rig.asks(&mut world, 9, "mining.authorize", json!(["alice.rig", "d=64"]));
    let job = world.refresh();
    rig.takes(&world, &job);
    assert_eq!(rig.difficulty.unwrap().to_string(), "64");
}

/// One connection that said so of itself made the shares of the whole farm as hard as the network's.
#[test]
fn what_a_machine_claims_was_told_to_the_pool_for_all() {
    let terahashes = |count: u64| Hashrate::from_hashes_per_second(count * 1_000_000_000_000);
    let mut world = World::new();
    let told = |world: &World, rig: &Rig| rig.machine.nominal(world.now.monotonic);
    for password in ["th=99999999", "th=18446744073709551615", "d=1e18"] {
        let rig = Rig::ready_as(&mut world, "x", password);
        assert_eq!(rig.machine.expected(), terahashes(1), "{password}: what such a device is taken for");
    }
    let slow = Rig::ready_as(&mut world, "x", "th=0.5");
    assert_eq!(slow.machine.expected(), Hashrate::from_hashes_per_second(500_000_000_000));
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.suggest_difficulty", json!([1e15]));
    rig.asks(&mut world, 2, "mining.subscribe", json!(["bitaxe/BM1370"]));
    assert_eq!(told(&world, &rig), Hashrate::default(), "it does not mine yet");
    rig.asks(&mut world, 3, "mining.authorize", json!(["x", "x"]));
    assert_eq!(rig.machine.expected(), Hashrate::from_hashes_per_second(500_000_000_000));
    world.wait(301);
    assert_eq!(told(&world, &rig), Hashrate::default(), "it has had its time");
}

/// A small farm found no shares any more that its pool would take.
#[test]
fn connections_with_the_name_of_a_fast_device_that_mined_nothing_counted_as_such_devices() {
    let mut world = World::asking("0.00001");
    let told = |world: &World, rig: &Rig| rig.machine.nominal(world.now.monotonic).to_hashes_per_second();
    let mut rig = Rig::ready_as(&mut world, "NiceHash tiny", "x");
    assert_eq!(rig.machine.expected(), Hashrate::from_hashes_per_second(225_000_000_000_000));
    assert_eq!(told(&world, &rig), 0);
    let target = rig.difficulty.unwrap().to_target();
    let share = rig.finds(target, true);
    assert_eq!(rig.submits(&mut world, &share), fine(7));
    let hashes = u64::try_from(target.to_work().to_hashes()).unwrap();
    assert!((1..=hashes).contains(&told(&world, &rig)), "a share says what it has cost");
}

#[test]
fn users_of_one_connection_are_limited_in_number() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    for user in 0..USERS_MAX {
        assert_eq!(rig.asks(&mut world, 1, "mining.authorize", json!([format!("u.{user}")])), [fine(1)]);
    }
    assert!(rig.machine.held() > 4 * USERS_MAX, "names are counted");
    let error = refused(1, 24, "Unauthorized worker");
    assert_eq!(rig.asks(&mut world, 1, "mining.authorize", json!(["one.more"])), [error]);
    assert_eq!(
        rig.asks(&mut world, 1, "mining.authorize", json!(["u.7"])),
        [fine(1)],
        "known ones may come again"
    );
}
