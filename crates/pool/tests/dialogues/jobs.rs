//! Jobs and tips: how many messages, to whom, in which order, and until when they earn.

use adit_channel::PAST_JOBS;
use adit_messages::Message;
use adit_messages::flags::MiningSetupFlags;
use adit_pool::JOB_AGE_MAX;
use adit_share::Template;
use adit_units::{Target, UnixTime, Work};
use std::sync::Arc;

use crate::world::{Client, EASY, START, World, bridging, config, open_extended, update};

const NONE: MiningSetupFlags = MiningSetupFlags::NONE;
const STANDARD: MiningSetupFlags = MiningSetupFlags::REQUIRES_STANDARD_JOBS;

#[test]
fn a_refresh_is_one_active_job_for_the_whole_group() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    for _ in 0..5 {
        client.opens_extended(&world);
        client.opens_standard(&world);
    }
    let work = world.refresh();
    client.hears(&work, &world);
    let job = client.receives();
    let Message::NewExtendedMiningJob(job) = job.message() else { panic!("{:?}", job.message()) };
    assert_eq!((job.channel_id, job.job_id), (1, work.id().0));
    assert_eq!(job.min_ntime.as_ref(), Some(&work.job().min_ntime()));
    client.expects_nothing();
}

#[test]
fn a_new_tip_is_one_future_job_and_one_prevhash_for_the_whole_group() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    for _ in 0..5 {
        client.opens_extended(&world);
        client.opens_standard(&world);
    }
    let work = world.new_tip();
    client.hears(&work, &world);
    let job = client.receives();
    let Message::NewExtendedMiningJob(job) = job.message() else { panic!("{:?}", job.message()) };
    assert_eq!((job.channel_id, job.job_id, job.min_ntime.as_ref()), (1, work.id().0, None));
    let tip = client.receives();
    let Message::SetNewPrevHash(tip) = tip.message() else { panic!("{:?}", tip.message()) };
    assert_eq!((tip.channel_id, tip.job_id, tip.min_ntime), (1, work.id().0, work.job().min_ntime()));
    client.expects_nothing();
}

#[test]
fn where_standard_jobs_are_required_every_channel_gets_its_own() {
    let mut world = World::new();
    let mut client = world.connect_with(STANDARD);
    let roots: Vec<_> = (0..2).map(|_| client.opens_standard(&world).prefix).collect();
    let work = world.refresh();
    client.hears(&work, &world);
    for (channel, extranonce) in (2..).zip(&roots) {
        let job = client.receives();
        let Message::NewMiningJob(job) = job.message() else { panic!("{:?}", job.message()) };
        assert_eq!((job.channel_id, job.job_id), (channel, work.id().0));
        assert_eq!(job.min_ntime.as_ref(), Some(&work.job().min_ntime()));
        assert_eq!(job.merkle_root.to_array(), work.job().merkle_root(extranonce).unwrap());
    }
    client.expects_nothing();
    let work = world.new_tip();
    client.hears(&work, &world);
    assert_eq!(
        client.addressed(),
        [("NewMiningJob", 2), ("SetNewPrevHash", 2), ("NewMiningJob", 3), ("SetNewPrevHash", 3)]
    );
}

#[test]
fn a_standard_channel_in_a_group_works_on_the_groups_jobs() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    client.opens_standard(&world);
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1)]);
    client.submits_standard(2, work.id().0, 0, &world);
    client.submits_standard(2, 1, 0, &world);
    client.expects_nothing();
    assert_eq!(client.records.len(), 2);
}

#[test]
fn before_the_first_channel_and_after_the_last_nothing_is_sent() {
    let mut world = World::new();
    let mut waiting = world.connect();
    let mut idle = world.connect_with(NONE);
    for work in [world.refresh(), world.new_tip()] {
        for client in [&mut waiting, &mut idle] {
            client.hears(&work, &world);
            client.expects_nothing();
        }
    }
    let present = world.work.clone().unwrap();
    idle.opens_extended(&world);
    idle.submits(present.id().0, 0, &world);
    assert_eq!(idle.records.len(), 1, "the channel works on the newest job");
}

#[test]
fn identical_templates_make_no_job_until_the_last_one_is_a_minute_old() {
    let mut world = World::new();
    let first = world.refresh();
    for _ in 0..5 {
        world.wait(10);
        let template = world.template();
        assert!(world.factory.handle_template(&template, world.now).unwrap().is_none());
    }
    world.wait(10);
    let template = world.template();
    let again = world.factory.handle_template(&template, world.now).unwrap().expect("a minute is over");
    assert_eq!(again.job().min_ntime(), first.job().min_ntime() + 60);
    assert!(again.id() > first.id());
}

#[test]
fn a_job_is_renewed_after_a_minute_without_a_template() {
    let mut world = World::new();
    let first = world.work.clone().unwrap();
    assert_eq!(world.factory.poll_timeout(), Some(world.now.monotonic + JOB_AGE_MAX));
    assert!(world.factory.handle_timeout(world.now).unwrap().is_none(), "not due");
    world.wait(60);
    let again = world.factory.handle_timeout(world.now).unwrap().expect("due");
    assert_eq!((again.tip(), again.job().min_ntime()), (first.tip(), first.job().min_ntime() + 60));
    assert_eq!(world.factory.poll_timeout(), Some(world.now.monotonic + JOB_AGE_MAX));
    let mut client = world.connect_with(NONE);
    client.opens_extended(&world);
    client.hears(&again, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"]);
    client.submits(again.id().0, 0, &world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn a_renewed_job_goes_by_the_clock_of_the_node() {
    let mut world = World::new();
    let mut ahead = Template::clone(&world.template());
    ahead.time += 1000;
    world.wait(60);
    let work = world.factory.handle_template(&Arc::new(ahead), world.now).unwrap().unwrap();
    world.wait(60);
    let again = world.factory.handle_timeout(world.now).unwrap().unwrap();
    assert_eq!(again.job().min_ntime(), work.job().min_ntime() + 60);
}

#[test]
fn work_that_is_not_newer_is_passed_over() {
    let mut world = World::new();
    let (old, mut client) = (world.work.clone().unwrap(), world.extended_miner());
    let work = world.refresh();
    client.hears(&work, &world);
    client.skips_all();
    client.hears(&work, &world);
    client.hears(&old, &world);
    client.expects_nothing();
}

#[test]
fn a_session_that_missed_the_first_work_of_a_tip_still_announces_the_tip() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    world.new_tip();
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob", "SetNewPrevHash"]);
}

#[test]
fn a_change_of_difficulty_on_the_same_block_is_announced_as_a_tip() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    world.nbits = EASY;
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob", "SetNewPrevHash"]);
}

#[test]
fn a_job_was_older_than_the_tip_that_miners_had_been_told() {
    let mut world = World::without_work(bridging());
    world.new_tip();
    world.put_by();
    let interim = world.tip_alone().expect("there is a job for the next tip");
    // The node's clock is behind what was reckoned of it.
    world.now.unix = UnixTime::from_secs(START);
    let full = world.refresh();
    assert_eq!(full.tip(), interim.tip());
    assert_eq!(full.job().min_ntime(), interim.job().min_ntime());
    world.now.unix = UnixTime::from_secs(interim.job().min_ntime() + 3);
    assert_eq!(world.refresh().job().min_ntime(), interim.job().min_ntime() + 3);
}

#[test]
fn the_same_block_from_another_node_is_no_new_tip() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let before = world.work.clone().unwrap();
    world.least_time += 7;
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"]);
    client.submits(before.id().0, 0, &world);
    assert_eq!(client.records.len(), 1, "what was under way is paid");
}

#[test]
fn a_tip_that_comes_back_is_a_new_tip() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let first_tip = world.template();
    let second = world.new_tip();
    client.hears(&second, &world);
    client.skips_all();
    let back = world.factory.handle_template(&first_tip, world.now).unwrap().unwrap();
    client.hears(&back, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob", "SetNewPrevHash"]);
    let number = client.submits(1, 0, &world);
    client.is_refused(number, "stale-share");
    client.submits(back.id().0, 0, &world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn job_numbers_and_coinbases_never_repeat() {
    let mut world = World::new();
    let mut last = world.work.clone().unwrap();
    for round in 0..20 {
        let work = if round % 3 == 0 { world.new_tip() } else { world.refresh() };
        assert!(work.id() > last.id());
        assert_ne!(work.job().coinbase_prefix(), last.job().coinbase_prefix());
        last = work;
    }
}

#[test]
fn a_future_job_is_announced_before_the_tip_that_names_it_and_never_twice() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    client.sends(open_extended(0.0, &[0xff; 32]), &world);
    let (mut future, mut seen) = (None, Vec::new());
    for round in 0..12 {
        let work = if round % 2 == 0 { world.new_tip() } else { world.refresh() };
        client.hears(&work, &world);
        while client.has_mail() {
            match client.receives().message() {
                Message::NewExtendedMiningJob(job) => {
                    assert!(!seen.contains(&job.job_id), "job {} was sent twice", job.job_id);
                    seen.push(job.job_id);
                    if job.min_ntime.as_ref().is_none() {
                        future = Some(job.job_id);
                    }
                }
                Message::SetNewPrevHash(tip) => assert_eq!(Some(tip.job_id), future.take()),
                Message::OpenExtendedMiningChannelSuccess(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn past_jobs_of_the_tip_earn_until_too_many_newer_ones_came() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for _ in 0..PAST_JOBS {
        let work = world.refresh();
        client.hears(&work, &world);
    }
    client.skips_all();
    client.submits(1, 0, &world);
    client.expects_nothing();
    let work = world.refresh();
    client.hears(&work, &world);
    client.skips_all();
    let number = client.submits(1, 1, &world);
    client.is_refused(number, "stale-share");
    client.submits(2, 0, &world);
    client.expects_nothing();
    assert_eq!(client.records.len(), 2);
}

#[test]
fn a_new_tip_makes_shares_on_older_jobs_stale() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let refresh = world.refresh();
    client.hears(&refresh, &world);
    let tip = world.new_tip();
    client.hears(&tip, &world);
    client.skips_all();
    for old in [1, refresh.id().0] {
        let number = client.submits(old, 0, &world);
        client.is_refused(number, "stale-share");
    }
    client.submits(tip.id().0, 0, &world);
    client.expects_nothing();
    assert_eq!(client.records.len(), 1);
}

#[test]
fn a_job_that_was_never_handed_out_is_unknown() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for job in [2, 1000, u32::MAX] {
        let number = client.submits(job, 0, &world);
        client.is_refused(number, "invalid-job-id");
    }
}

#[test]
fn a_job_from_before_the_channel_was_opened_is_unknown_to_it() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let work = world.refresh();
    client.hears(&work, &world);
    client.skips_all();
    client.opens_standard(&world);
    client.submits_standard(3, 1, 0, &world);
    assert_eq!(client.names(), ["SubmitShares.Error"]);
    client.submits(1, 0, &world);
    client.submits_standard(3, work.id().0, 0, &world);
    client.expects_nothing();
    assert_eq!(client.records.len(), 2);
}

/// What the shares on that job earn, of sixteen tries.
fn earnings(client: &mut Client, job: u32, world: &World) -> Vec<u128> {
    let before = client.records.len();
    for nonce in 0..16 {
        client.submits(job, 1000 + nonce, world);
    }
    client.skips_all();
    client.records[before..].iter().map(|record| record.work.to_hashes()).collect()
}

#[test]
fn a_new_target_counts_for_later_jobs_and_not_for_those_that_are_out() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let half = Target::from_work(Work::from_hashes(2)).to_le_bytes();
    client.sends(update(0.0, &half), &world);
    assert_eq!(client.names(), ["SetTarget"]);
    assert_eq!(earnings(&mut client, 1, &world), [1; 16], "any hash does, and is worth one");
    let work = world.refresh();
    client.hears(&work, &world);
    let on_new_job = earnings(&mut client, work.id().0, &world);
    assert!(on_new_job.len() < 16 && on_new_job.iter().all(|&work| work == 2), "{on_new_job:?}");
    assert_eq!(earnings(&mut client, 1, &world), [0; 0], "the same shares again");
    client.submits(1, 5, &world);
    assert_eq!(client.records.last().unwrap().work.to_hashes(), 1, "the old job keeps its target");
}

#[test]
fn a_miner_that_floods_is_told_a_harder_target_just_before_its_next_job() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for nonce in 0..200 {
        client.submits(1, nonce, &world);
    }
    client.expects_nothing();
    world.wait(20);
    let work = world.refresh();
    client.hears(&work, &world);
    let target = client.receives();
    let Message::SetTarget(target) = target.message() else { panic!("{:?}", target.message()) };
    assert_eq!(target.channel_id, 2);
    let harder = Target::from_le_bytes(target.maximum_target.to_array());
    assert!(harder.to_work() > Work::from_hashes(20), "{harder}");
    assert_eq!(client.names(), ["NewExtendedMiningJob"]);
}

#[test]
fn a_target_for_the_first_job_of_a_tip_goes_out_before_the_tip() {
    let mut world = World::new();
    let mut client = world.standard_miner();
    for nonce in 0..200 {
        client.submits_standard(2, 1, nonce, &world);
    }
    world.wait(20);
    let work = world.new_tip();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["SetTarget", "NewMiningJob", "SetNewPrevHash"]);
}

#[test]
fn refused_shares_do_not_make_shares_harder() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for _ in 0..200 {
        client.submits(1, 0, &world);
        client.submits(99, 0, &world);
    }
    world.wait(20);
    client.skips_all();
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"]);
}

#[test]
fn difficulty_stays_between_floor_and_ceiling() {
    let mut world = World::without_work(config());
    world.new_tip();
    let mut client = world.connect_with(NONE);
    client.sends(open_extended(1e15, &[0xff; 32]), &world);
    client.opened();
    let mut easiest = Target::ZERO;
    for _ in 0..200 {
        world.wait(600);
        let work = world.refresh();
        client.hears(&work, &world);
        while client.has_mail() {
            if let Message::SetTarget(target) = client.receives().message() {
                let target = Target::from_le_bytes(target.maximum_target.to_array());
                assert!(target > easiest, "a silent miner's shares only become easier");
                easiest = target;
            }
        }
    }
    assert_eq!(easiest, config().vardiff.easiest);
}

#[test]
fn only_work_on_the_same_tip_can_wait_and_not_if_it_ends_empty_work() {
    let mut world = World::without_work(bridging());
    let work = world.new_tip();
    let mut client = world.connect();
    assert!(!client.session.can_wait_for(&work), "nobody is to be told");
    let mut client_with_work = world.extended_miner();
    let waits = |client: &Client, work: &adit_pool::Work| client.session.can_wait_for(work);
    client.hears(&work, &world);
    assert!(!waits(&client, &world.refresh()), "nobody is to be told");

    let client = &mut client_with_work;
    assert!(waits(client, &world.refresh()));
    let ahead = world.put_by();
    assert!(waits(client, &ahead));
    client.hears(&ahead, &world);
    let interim = world.tip_alone().unwrap();
    assert!(!waits(client, &interim), "another tip");
    client.hears(&interim, &world);
    let full = world.refresh();
    assert!(!waits(client, &full), "the end of empty work");
    client.hears(&full, &world);
    assert!(waits(client, &world.refresh()));
    assert!(!waits(client, &world.new_tip()));
}

#[test]
fn the_first_transactions_cannot_wait() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let is_empty = |work: &adit_pool::Work| work.job().merkle_path().is_empty();
    let empty = loop {
        let work = world.refresh();
        assert!(client.session.can_wait_for(&work));
        client.hears(&work, &world);
        if is_empty(&work) {
            break work;
        }
    };
    let with_transactions = world.refresh();
    assert!(is_empty(&empty) && !is_empty(&with_transactions));
    assert!(!client.session.can_wait_for(&with_transactions));
}
