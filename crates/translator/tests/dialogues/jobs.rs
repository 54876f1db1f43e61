//! Jobs as machines get them, and which shares of past ones count.

use adit_translator::{JOBS_KEPT, NUMBER_STEP};
use adit_units::{Difficulty, UnixTime};
use bitcoin::hashes::Hash as _;
use serde_json::{Value, json};

use super::credit::slow_devices;
use super::world::{ANY_HASH, Attempt, Rig, START, TINY, World, fine, methods, refused};

#[test]
fn late_shares_on_past_jobs_of_the_same_tip_count() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let late: Vec<_> = (1..JOBS_KEPT)
        .map(|_| {
            let attempt = rig.attempt(1);
            let job = world.refresh();
            rig.takes(&world, &job);
            attempt
        })
        .collect();
    for attempt in &late {
        assert_eq!(rig.submits(&mut world, attempt), fine(7));
    }
    let sent: Vec<_> = rig.up.iter().map(|share| share.route.source.job).collect();
    let jobs: Vec<u32> = rig.jobs[..late.len()]
        .iter()
        .map(|job| u32::try_from(number(&job.id) / NUMBER_STEP).unwrap())
        .collect();
    assert_eq!(sent, jobs, "each goes up for its own job");
}

/// A job's number, by its id.
fn number(id: &str) -> u64 {
    u64::from_str_radix(id, 16).unwrap()
}

#[test]
fn a_job_that_is_too_old_is_unknown_and_one_of_a_former_tip_is_stale() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let first = rig.attempt(1);
    for _ in 0..JOBS_KEPT {
        let job = world.refresh();
        rig.takes(&world, &job);
    }
    assert_eq!(rig.submits(&mut world, &first), refused(7, 21, "Invalid JobID"));
    let newest = rig.attempt(1);
    let job = world.new_tip();
    rig.takes(&world, &job);
    assert!(rig.told().clean);
    assert_eq!(rig.submits(&mut world, &newest), refused(7, 21, "Stale"));
    assert_eq!(rig.submits(&mut world, &first), refused(7, 21, "Stale"));
    assert_eq!(rig.tries(&mut world, 1), fine(7));
}

#[test]
fn a_machine_that_missed_the_first_job_of_a_tip_is_told_to_start_afresh_all_the_same() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let old = rig.attempt(1);
    world.new_tip();
    let second = world.refresh();
    rig.takes(&world, &second);
    assert!(rig.told().clean, "it was never told that all before is worthless");
    assert_eq!(rig.submits(&mut world, &old), refused(7, 21, "Stale"));
    let third = world.refresh();
    rig.takes(&world, &third);
    assert!(!rig.told().clean);
}

#[test]
fn the_difficulty_is_told_only_when_it_changes_and_before_the_job_that_it_is_for() {
    let mut world = World::asking("4096");
    let mut rig = Rig::ready_as(&mut world, "bitaxe/BM1370", "x");
    for (upstream, told) in
        [("4096", None), ("256", Some("256")), ("256", None), ("300", None), ("100", Some("64"))]
    {
        world.target = upstream.parse::<Difficulty>().unwrap().to_target();
        let job = world.refresh();
        let lines = rig.takes(&world, &job);
        match told {
            None => assert_eq!(methods(&lines), ["mining.notify"], "{upstream}"),
            Some(told) => {
                assert_eq!(methods(&lines), ["mining.set_difficulty", "mining.notify"], "{upstream}");
                assert_eq!(lines[0]["params"][0].to_string(), told);
                assert_eq!(lines[0]["id"], Value::Null);
            }
        }
    }
}

#[test]
fn a_job_counts_by_the_easier_of_its_own_difficulty_and_the_present_one() {
    // The upstream asks for much, so the machine is what decides.
    let mut world = World::asking("1000000000");
    let mut rig = Rig::ready_as(&mut world, TINY, "d=0.0005");
    let (hard, easy) = ("0.0005".parse::<Difficulty>().unwrap(), "0.000001".parse::<Difficulty>().unwrap());
    let attempts: Vec<_> = (0..200_000).map(|nonce| rig.attempt(nonce)).collect();
    let mut between = attempts.into_iter().filter(|attempt| {
        let hash = rig.hash(attempt, 0);
        easy.to_target().is_met_by(&hash) && !hard.to_target().is_met_by(&hash)
    });
    let [first, second, third] = [(); 3].map(|()| between.next().unwrap());
    assert_eq!(rig.submits(&mut world, &first), refused(7, 23, "Above target"));
    rig.asks(&mut world, 1, "mining.authorize", serde_json::json!(["alice.rig", "d=0.000001"]));
    let job = world.refresh();
    rig.takes(&world, &job);
    assert_eq!(rig.submits(&mut world, &second), fine(7), "an old job, by the new difficulty that is easier");
    rig.asks(&mut world, 1, "mining.authorize", serde_json::json!(["alice.rig", "d=0.0005"]));
    let easy_job = rig.told().id.clone();
    let job = world.refresh();
    rig.takes(&world, &job);
    assert_eq!(
        rig.submits(&mut world, &third),
        refused(7, 23, "Above target"),
        "the job was always a hard one"
    );
    let late = (0..200_000).map(|nonce| Attempt { job: easy_job.clone(), ..rig.attempt(nonce) });
    let mut late = late.filter(|attempt| {
        let hash = rig.hash(attempt, 0);
        easy.to_target().is_met_by(&hash) && !hard.to_target().is_met_by(&hash)
    });
    let late = late.next().unwrap();
    assert_eq!(rig.submits(&mut world, &late), fine(7), "an old job, by its own difficulty that was easier");
}

#[test]
fn shares_between_the_two_targets_stay_here() {
    let mut world = World::asking("0.000001");
    let mut rig = Rig::ready_as(&mut world, TINY, ANY_HASH);
    let target = world.target;
    let between = rig.finds(target, false);
    assert_eq!(rig.submits(&mut world, &between), fine(7));
    assert_eq!(rig.up.len(), 0);
    let above = rig.finds(target, true);
    assert_eq!(rig.submits(&mut world, &above), fine(7));
    assert_eq!((rig.up.len(), rig.up[0].nonce, rig.up[0].ntime), (1, above.nonce, START));
    assert_eq!(rig.up[0].work, target.to_work());
    let report = rig.machine.report(world.now.monotonic);
    assert_eq!((report.shares.accepted, report.shares.refused()), (2, 0), "and both count here");
}

#[test]
fn jobs_that_the_upstream_made_harder_do_not_change_those_before() {
    let mut world = World::asking("0.000001");
    let mut rig = Rig::ready_as(&mut world, TINY, ANY_HASH);
    let easy = rig.finds(world.target, true);
    world.target = "1000000".parse::<Difficulty>().unwrap().to_target();
    let job = world.refresh();
    rig.takes(&world, &job);
    assert_eq!(rig.submits(&mut world, &easy), fine(7));
    assert_eq!(rig.up.len(), 1, "a job keeps the target that it was issued with");
    let worth = Difficulty::from_target(adit_units::Target::from_work(rig.up[0].work)).to_string();
    assert!(worth.starts_with("0.00000"), "{worth}");
}

#[test]
fn a_renewed_job_is_the_same_work_and_its_shares_are_the_same_shares() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let before = rig.attempt(1);
    assert_eq!(rig.submits(&mut world, &before), fine(7));
    world.wait(30);
    let job = world.renew();
    rig.takes(&world, &job);
    assert!(number(&rig.told().id) >= number(&before.job) + NUMBER_STEP);
    let again = Attempt { ntime: before.ntime, ..rig.attempt(1) };
    assert_eq!(
        rig.submits(&mut world, &again),
        refused(7, 22, "Duplicate"),
        "the upstream would not pay it twice"
    );
    assert_eq!(rig.tries(&mut world, 1), fine(7), "another time makes it another share");
    assert_eq!(rig.up[0].route, rig.up[1].route);
}

/// Bitaxe and cpuminer do so: all that they had done since the job came was done twice, and each share found in it refused.
#[test]
fn a_machine_that_begins_its_search_anew_with_each_notify_found_the_same_shares_again() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    let first = rig.attempt(1);
    assert_eq!(rig.submits(&mut world, &first), fine(7));
    world.wait(20);
    // The same job, because the machine asked for something, and because it was quiet for long.
    assert!(rig.asks(&mut world, 1, "mining.extranonce.subscribe", json!([])).len() > 1);
    assert_eq!((rig.jobs.len(), rig.told().ntime), (2, START + 20));
    assert_eq!(rig.tries(&mut world, 1), fine(7));
    for _ in 0..3 {
        let (before, job) = (rig.told().ntime, world.renew());
        rig.takes(&world, &job);
        assert_eq!(rig.told().ntime, before + 1, "however soon it comes");
        assert_eq!(rig.tries(&mut world, 1), fine(7));
    }
    assert_eq!(
        rig.submits(&mut world, &Attempt { nonce: 2, ..first }),
        fine(7),
        "the former time is still good"
    );
    let job = world.refresh();
    rig.takes(&world, &job);
    assert_eq!(rig.told().ntime, START, "another job has its own time");
}

/// The host's clock was all that a renewed job went by: behind the pool's, or far ahead of it, each came with the same time.
#[test]
fn with_a_wrong_clock_a_quiet_pool_had_machines_do_the_same_work_again() {
    for clock in [START - 4 * 3_600, START + 5_000] {
        let mut world = World::new();
        world.now.unix = UnixTime::from_secs(clock);
        let mut rig = Rig::ready(&mut world);
        for round in 0..=120 {
            assert_eq!(
                (rig.told().ntime, rig.tries(&mut world, 1)),
                (START + 30 * round, fine(7)),
                "{clock}"
            );
            world.wait(30);
            let job = world.renew();
            rig.takes(&world, &job);
        }
        assert_eq!(rig.told().ntime, START + 3_600, "no later than all pools take");
    }
}

#[test]
fn machines_that_work_on_one_job_have_coinbases_of_their_own() {
    let mut world = World::new();
    let mut rigs = [(); 3].map(|()| Rig::ready(&mut world));
    for rig in &mut rigs {
        assert_eq!(rig.tries(&mut world, 1), fine(7));
    }
    let hashes = rigs.each_ref().map(|rig| rig.hash(&rig.attempt(1), 0));
    assert!(hashes[0] != hashes[1] && hashes[1] != hashes[2]);
    for rig in &rigs {
        let whole = [&[0xaa; 6][..], rig.up[0].extranonce.as_bytes()].concat();
        let root = world.job.as_ref().unwrap().job().merkle_root(&whole).unwrap();
        let mut header = Vec::new();
        header.extend_from_slice(&rig.up[0].version.to_le_bytes());
        header.extend_from_slice(world.job.as_ref().unwrap().job().tip().prev_hash.as_ref());
        header.extend_from_slice(&root);
        header.extend_from_slice(&rig.up[0].ntime.to_le_bytes());
        header.extend_from_slice(&super::world::HARD.to_le_bytes());
        header.extend_from_slice(&rig.up[0].nonce.to_le_bytes());
        let hash = bitcoin::hashes::sha256d::Hash::hash(&header);
        assert_eq!(hash.as_ref(), rig.hash(&rig.attempt(1), 0), "what goes up is what the machine hashed");
    }
}

/// A machine that is taken for one of ten hashes a second, where the upstream wants shares of 65 536 hashes.
fn slow(world: &mut World) -> Rig {
    world.target = adit_units::Target::from_work(adit_units::Work::from_hashes(1 << 16));
    world.new_tip();
    Rig::ready_as(world, "cpuminer/2.5.1", "th=0.00000000001")
}

#[test]
fn a_fast_machine_is_given_harder_shares_between_jobs_and_keeps_its_work() {
    let mut world = World::with(slow_devices());
    let mut rig = slow(&mut world);
    let target = rig.difficulty.unwrap().to_target();
    assert_eq!(
        target.to_work().to_hashes(),
        59,
        "a share in six seconds, but for what twelve decimals leave out"
    );
    let attempts: Vec<_> = (0..100_000).map(|nonce| rig.attempt(nonce)).collect();
    for attempt in
        attempts.iter().filter(|attempt| target.is_met_by(&rig.hash(attempt, 0))).collect::<Vec<_>>()
    {
        world.wait_micros(200_000);
        assert_eq!(rig.submits(&mut world, attempt), fine(7));
        if rig.jobs.len() > 1 {
            break;
        }
    }
    assert_eq!(rig.jobs.len(), 2);
    assert!(!rig.told().clean, "what it does is of use");
    assert!(rig.difficulty.unwrap().to_target().to_work().to_hashes() > 5 * 59);
    assert!(number(&rig.told().id) - number(&rig.jobs[0].id) < NUMBER_STEP, "it is the same job");
}

#[test]
fn a_silent_machine_is_given_easier_shares_with_its_jobs_down_to_its_least() {
    let mut world = World::asking("1000000000");
    let mut rig = Rig::ready_as(&mut world, "cpuminer/2.5.1", "th=1");
    let mut told = vec![rig.difficulty.unwrap()];
    for _ in 0..400 {
        world.wait(30);
        let job = world.refresh();
        rig.takes(&world, &job);
        told.push(rig.difficulty.unwrap());
    }
    assert!(told.is_sorted_by(|one, next| one >= next));
    assert_eq!((told[0].to_string(), told[400].to_string()), ("1024".into(), "0.00048828125".into()));
    assert_eq!(rig.jobs.len(), 401);
}

#[test]
fn a_machine_that_the_upstream_keeps_from_harder_shares_is_left_in_peace() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    for nonce in 0..3_000 {
        world.wait_micros(20_000);
        assert_eq!(rig.tries(&mut world, nonce), fine(7));
    }
    assert_eq!(rig.jobs.len(), 1, "a job without another difficulty would only disturb it");
}

#[test]
fn a_machine_with_many_small_changes_never_sees_a_job_id_twice() {
    let mut world = World::new();
    let mut rig = Rig::ready(&mut world);
    for round in 0..1_000 {
        world.wait(1);
        let job = if round % 7 == 0 { world.refresh() } else { world.renew() };
        rig.takes(&world, &job);
    }
    assert!(rig.jobs.is_sorted_by(|one, next| number(&one.id) < number(&next.id)));
}

#[test]
fn a_clock_that_was_hours_behind_had_every_share_refused() {
    let mut world = World::new();
    world.now.unix = UnixTime::from_secs(START - 4 * 3_600);
    let mut rig = Rig::ready(&mut world);
    assert_eq!(rig.tries(&mut world, 1), fine(7));
    world.wait(3_600);
    let rolled = |ntime| Attempt { ntime, ..rig.attempt(2) };
    let (late, far) = (rolled(START + 6_900), rolled(START + 7_201));
    assert_eq!(rig.submits(&mut world, &late), fine(7), "the hour since the job came counts too");
    assert_eq!(rig.submits(&mut world, &far), refused(7, 20, "Ntime out of range"));
    // The same work under another number is no news of the time.
    let renewed = world.renew();
    rig.takes(&world, &renewed);
    let latest = Attempt { ntime: START + 7_100, ..rig.attempt(3) };
    assert_eq!(rig.submits(&mut world, &latest), fine(7));
}
