//! Each refusal with its code and its words, which firmware has tables for.

use adit_units::Target;
use serde_json::{Value, json};

use super::world::{ANY_HASH, Attempt, Rig, START, TINY, World, fine, refused};

#[test]
fn code_25_for_a_share_before_the_subscription() {
    let mut world = World::new();
    let mut rig = Rig::connects(&mut world);
    rig.asks(&mut world, 1, "mining.authorize", json!(["alice.rig"]));
    let submit = json!(["alice.rig", "0100", "0000000000000000", "6a180000", "00000001"]);
    assert_eq!(rig.asks(&mut world, 7, "mining.submit", submit), [refused(7, 25, "Not subscribed")]);
}

#[test]
fn code_24_for_a_user_that_was_not_authorized() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    for user in ["bob.rig", "alice", "", "ALICE.RIG"] {
        let attempt = Attempt { user: user.into(), ..rig.attempt(1) };
        assert_eq!(rig.submits(&mut world, &attempt), refused(7, 24, "Worker mismatch"), "{user}");
    }
    assert_eq!(rig.tries(&mut world, 1), fine(7));
}

#[test]
fn code_23_for_a_hash_that_is_not_low_enough() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::ready_as(&mut world, "x", "d=0.0005");
    let attempt = rig.finds(rig.difficulty.unwrap().to_target(), false);
    assert_eq!(rig.submits(&mut world, &attempt), refused(7, 23, "Above target"));
    assert_eq!(rig.submits(&mut world, &attempt), refused(7, 23, "Above target"), "and is not remembered");
}

#[test]
fn code_22_for_the_same_share_twice() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    assert_eq!(rig.tries(&mut world, 1), fine(7));
    assert_eq!(rig.tries(&mut world, 1), refused(7, 22, "Duplicate"));
    assert_eq!(rig.tries(&mut world, 2), fine(7));
}

#[test]
fn code_21_for_jobs_that_are_no_more_or_never_were() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let old = rig.attempt(1);
    let job = world.new_tip();
    rig.takes(&world, &job);
    assert_eq!(rig.submits(&mut world, &old), refused(7, 21, "Stale"));
    for job in ["ffffffffffff", "7f", "", "xyz", "00000000000000000000000000000001"] {
        let attempt = Attempt { job: job.into(), ..rig.attempt(1) };
        let answer = rig.submits(&mut world, &attempt);
        let text = if job == "7f" { "Stale" } else { "Invalid JobID" };
        assert_eq!(answer, refused(7, 21, text), "{job}");
    }
}

#[test]
fn code_20_for_a_time_out_of_range() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let error = refused(7, 20, "Ntime out of range");
    for (ntime, answer) in [
        (START - 1, &error),
        (START, &fine(7)),
        (START + 6_600, &fine(7)),
        (START + 6_601, &error),
        (u32::MAX, &error),
    ] {
        let attempt = Attempt { ntime, ..rig.attempt(1) };
        assert_eq!(rig.submits(&mut world, &attempt), *answer, "{ntime}");
    }
    world.wait(7_200);
    let attempt = Attempt { ntime: START + 7_200, ..rig.attempt(2) };
    assert_eq!(rig.submits(&mut world, &attempt), fine(7), "two hours ahead of the job, and no more");
    let attempt = Attempt { ntime: START + 7_201, ..rig.attempt(2) };
    assert_eq!(rig.submits(&mut world, &attempt), error);
}

#[test]
fn code_20_for_a_share_without_its_numbers() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    for params in [
        json!([]),
        json!(null),
        json!(["alice.rig", "0100"]),
        json!(["alice.rig", "0100", "zz", "6a180000", "00000001"]),
        json!(["alice.rig", "0100", "00", "time", "00000001"]),
        json!(["alice.rig", "0100", "00", "6a180000", {}]),
    ] {
        let lines = rig.asks(&mut world, 7, "mining.submit", params.clone());
        assert_eq!(lines, [refused(7, 20, "Invalid parameter")], "{params}");
    }
    assert_eq!(rig.ended, None);
}

#[test]
fn counters_tell_what_became_of_each_share() {
    let mut world = World::asking("1000000");
    let mut rig = Rig::ready_as(&mut world, TINY, ANY_HASH);
    let old = rig.attempt(1);
    let job = world.new_tip();
    rig.takes(&world, &job);
    let version = Attempt { bits: Some(1 << 13), ..rig.attempt(1) };
    let unknown = Attempt { job: "ffff00".into(), ..rig.attempt(1) };
    for attempt in [rig.attempt(1), rig.attempt(2), rig.attempt(2), old, unknown, version] {
        rig.submits(&mut world, &attempt);
    }
    let counts = rig.machine.report(world.now.monotonic).shares;
    assert_eq!((counts.accepted, counts.stale, counts.duplicate), (2, 2, 1));
    assert_eq!((counts.invalid, counts.low_difficulty, counts.blocks), (1, 0, 0));
    assert_eq!(counts.refused(), 4);
    assert_eq!(rig.up.len(), 0, "what is below the upstream's target is counted here and not sent");
}

#[test]
fn an_answer_is_given_whatever_the_id_is() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    for id in [json!(null), json!("x"), json!(3)] {
        let line = json!({"id": id, "method": "mining.submit", "params": ["bob", "1", "00", "1", "1"]});
        assert_eq!(rig.says(&mut world, &line.to_string()), [refused(id, 24, "Worker mismatch")]);
    }
    let silent = json!({"method": "mining.submit", "params": ["bob", "1", "00", "1", "1"]});
    assert_eq!(rig.says(&mut world, &silent.to_string()), Vec::<Value>::new());
}

#[test]
fn a_share_is_worth_a_block_whatever_its_difficulty() {
    let mut world = World::asking("1000000");
    world.nbits = super::world::EASY;
    world.new_tip();
    let mut rig = Rig::ready_as(&mut world, "x", "d=1000000");
    let block = rig
        .finds(Target::from_le_bytes([0xff; 32]).min(world.job.as_ref().unwrap().job().tip().target), true);
    assert_eq!(rig.submits(&mut world, &block), fine(7));
    assert_eq!((rig.up.len(), rig.machine.report(world.now.monotonic).shares.blocks), (1, 1));
}
