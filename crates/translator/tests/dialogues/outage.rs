//! What machines notice of an upstream that goes and of the one that comes.

use adit_translator::OUTAGE_GRACE;
use serde_json::{Value, json};

use super::world::{ANY_HASH, Rig, TINY, World, fine, methods, refused};

#[test]
fn without_an_upstream_shares_for_it_are_refused_and_others_count() {
    let mut world = World::asking("0.000001");
    let mut rig = Rig::ready_as(&mut world, TINY, ANY_HASH);
    let (up, below) = (rig.finds(world.target, true), rig.finds(world.target, false));
    rig.machine.handle_upstream_lost(|_| false, world.now.monotonic);
    assert_eq!(rig.hears(), Vec::<Value>::new(), "the machine is told nothing, and works on");
    assert_eq!(rig.submits(&mut world, &up), refused(7, 20, "No upstream"));
    assert_eq!(rig.submits(&mut world, &below), fine(7), "nobody above would have had it");
    let counts = rig.machine.report(world.now.monotonic).shares;
    assert_eq!((counts.accepted, counts.invalid, rig.up.len()), (1, 1, 0));
}

#[test]
fn without_an_upstream_machines_were_told_for_ever_that_all_was_well() {
    let mut world = World::asking("0.000001");
    let mut rig = Rig::ready_as(&mut world, TINY, ANY_HASH);
    let below: Vec<_> = (0..1_000_000)
        .map(|nonce| rig.attempt(nonce))
        .filter(|attempt| !world.target.is_met_by(&rig.hash(attempt, 0)))
        .take(3)
        .collect();
    rig.machine.handle_upstream_lost(|_| false, world.now.monotonic);
    assert_eq!(OUTAGE_GRACE.as_secs(), 5);
    world.wait_micros(4_999_999);
    assert_eq!(rig.submits(&mut world, &below[0]), fine(7));
    // That it is still gone is said again with each change of the board.
    rig.machine.handle_upstream_lost(|_| false, world.now.monotonic);
    world.wait_micros(1);
    assert_eq!(rig.submits(&mut world, &below[1]), refused(7, 20, "No upstream"), "so it may go elsewhere");
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    assert_eq!(rig.submits(&mut world, &below[1]), fine(7), "it was not held for a duplicate");
    rig.machine.handle_upstream_lost(|_| false, world.now.monotonic);
    assert_eq!(rig.submits(&mut world, &below[2]), fine(7), "the next outage has its own grace");
}

#[test]
fn a_long_outage_costs_no_machine_its_connection() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    rig.machine.handle_upstream_lost(|_| false, world.now.monotonic);
    for nonce in 0..600 {
        world.wait(1);
        let attempt = rig.attempt(nonce);
        let lines = rig.submits_all(&mut world, &attempt);
        assert_eq!(lines, [refused(7, 20, "No upstream")], "no remedy: the machine is not what is ill");
    }
    assert_eq!(rig.ended, None);
}

#[test]
fn another_upstream_is_a_clean_job_and_nothing_else() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let before = rig.extranonce1.clone();
    let old = rig.attempt(1);
    rig.machine.handle_upstream_lost(|_| false, world.now.monotonic);
    let job = world.fail_over();
    assert_eq!(methods(&rig.takes(&world, &job)), ["mining.notify"], "no reconnect, no new extranonce");
    assert!(rig.told().clean);
    assert_eq!(rig.extranonce1, before);
    assert_eq!(rig.submits(&mut world, &old), refused(7, 21, "Stale"));
    assert_eq!(rig.tries(&mut world, 1), fine(7));
    assert_eq!(rig.up[0].route.link, 2);
}

#[test]
fn the_same_job_again_after_an_interruption_is_not_told_twice() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let job = world.job.clone().unwrap();
    rig.machine.handle_upstream_lost(|_| false, world.now.monotonic);
    assert_eq!(rig.tries(&mut world, 1), refused(7, 20, "No upstream"));
    assert_eq!(rig.takes(&world, &job), Vec::<Value>::new());
    assert_eq!(rig.tries(&mut world, 2), fine(7), "but its shares can be sent again");
}

#[test]
fn a_machine_that_comes_during_an_outage_waits_for_the_next_job() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    let job = world.job.clone().unwrap();
    rig.takes(&world, &job);
    rig.machine.handle_upstream_lost(|_| false, world.now.monotonic);
    assert_eq!(rig.asks(&mut world, 1, "mining.subscribe", json!([])).len(), 1);
    assert_eq!(rig.asks(&mut world, 2, "mining.authorize", json!(["alice.rig"])), [fine(2)]);
    let job = world.fail_over();
    assert_eq!(methods(&rig.takes(&world, &job)), ["mining.set_difficulty", "mining.notify"]);
    assert_eq!((rig.told().clean, rig.readies), (true, 1));
}
