//! The job held in reserve: who gets it when, what activates it, and what follows it.

use adit_messages::Message;
use adit_messages::flags::MiningSetupFlags;
use adit_pool::{JOB_AGE_MAX, RESERVE_DELAY};
use adit_units::{Sats, TemplateId};
use bitcoin::consensus;

use crate::world::{EASY, World, bridging, config};

const NONE: MiningSetupFlags = MiningSetupFlags::NONE;
const STANDARD: MiningSetupFlags = MiningSetupFlags::REQUIRES_STANDARD_JOBS;

/// A pool that mines on a first tip, and gives jobs ahead.
fn world() -> World {
    let mut world = World::without_work(bridging());
    world.new_tip();
    world
}

#[test]
fn in_quiet_time_the_group_gets_one_future_job_for_the_next_height() {
    let mut world = world();
    let mut client = world.connect_with(NONE);
    for _ in 0..5 {
        client.opens_extended(&world);
        client.opens_standard(&world);
    }
    let present = world.work.clone().unwrap();
    assert_eq!(world.factory.poll_timeout(), Some(world.now.monotonic + RESERVE_DELAY));
    let work = world.put_by();
    assert_eq!(work.id(), present.id(), "the job that is mined stays");
    client.hears(&work, &world);
    let job = client.receives();
    let Message::NewExtendedMiningJob(job) = job.message() else { panic!("{:?}", job.message()) };
    assert_eq!((job.channel_id, job.job_id, job.min_ntime.as_ref()), (1, present.id().0 + 1, None));
    assert_eq!(job.merkle_path.iter().count(), 0);
    client.expects_nothing();
    assert_eq!(world.factory.poll_timeout(), Some(present.tip_seen() + JOB_AGE_MAX));
}

#[test]
fn a_tip_without_template_costs_one_prevhash_and_the_full_job_follows() {
    let mut world = world();
    let mut client = world.extended_miner();
    client.hears(&world.put_by(), &world);
    client.skips_all();
    let refresh = world.refresh();
    client.hears(&refresh, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"], "the job held in reserve is sent once");

    let interim = world.tip_alone().expect("there is a job for it");
    assert!(interim.is_interim() && interim.id() < refresh.id());
    client.hears(&interim, &world);
    let tip = client.receives();
    assert!(tip.frame_len() <= 6 + 48);
    let Message::SetNewPrevHash(tip) = tip.message() else { panic!("{:?}", tip.message()) };
    assert_eq!((tip.channel_id, tip.job_id), (1, interim.id().0));
    assert_eq!(tip.prev_hash.to_array(), *AsRef::<[u8; 32]>::as_ref(&world.tip().prev_hash));
    client.expects_nothing();

    client.submits(interim.id().0, 0, &world);
    let stale = client.submits(refresh.id().0, 1, &world);
    client.is_refused(stale, "stale-share");
    let full = world.refresh();
    assert!(!full.is_interim());
    assert_eq!((full.tip(), full.tip_seen()), (interim.tip(), interim.tip_seen()));
    client.hears(&full, &world);
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1)], "active at once");
    client.submits(full.id().0, 2, &world);
    client.submits(interim.id().0, 3, &world);
    client.expects_nothing();
    assert_eq!(client.records.len(), 3);
}

#[test]
fn where_standard_jobs_are_required_every_channel_has_its_own_ahead() {
    let mut world = world();
    let mut client = world.connect_with(STANDARD);
    let roots: Vec<_> = (0..2).map(|_| client.opens_standard(&world).prefix).collect();
    client.hears(&world.put_by(), &world);
    let mut announced = Vec::new();
    for channel in [2, 3] {
        let job = client.receives();
        let Message::NewMiningJob(job) = job.message() else { panic!("{:?}", job.message()) };
        assert_eq!((job.channel_id, job.min_ntime.as_ref()), (channel, None));
        announced.push(job.merkle_root.to_array());
    }
    let interim = world.tip_alone().unwrap();
    for (root, extranonce) in announced.iter().zip(&roots) {
        assert_eq!(*root, interim.job().merkle_root(extranonce).unwrap());
    }
    client.hears(&interim, &world);
    assert_eq!(client.addressed(), [("SetNewPrevHash", 2), ("SetNewPrevHash", 3)]);
    client.submits_standard(2, interim.id().0, 0, &world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn a_channel_that_is_opened_later_gets_the_reserve_after_its_first_job() {
    let mut world = world();
    world.put_by();
    let mut client = world.connect_with(NONE);
    client.sends(crate::world::open_extended(0.0, &[0xff; 32]), &world);
    let names = [
        "OpenExtendedMiningChannel.Success",
        "NewExtendedMiningJob",
        "SetNewPrevHash",
        "NewExtendedMiningJob",
    ];
    assert_eq!(client.names(), names);
    client.sends(crate::world::open_standard(0.0, &[0xff; 32]), &world);
    assert_eq!(
        client.names(),
        ["OpenStandardMiningChannel.Success", "NewMiningJob", "SetNewPrevHash", "NewMiningJob"]
    );
    client.hears(&world.tip_alone().unwrap(), &world);
    assert_eq!(client.addressed(), [("SetNewPrevHash", 1)]);
}

#[test]
fn who_was_never_given_the_reserve_gets_job_and_prevhash() {
    let mut world = world();
    let mut client = world.extended_miner();
    world.put_by();
    let interim = world.tip_alone().unwrap();
    client.hears(&interim, &world);
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1), ("SetNewPrevHash", 1)]);
    client.submits(interim.id().0, 0, &world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn a_template_that_comes_with_its_tip_leaves_the_reserve_unused() {
    let mut world = world();
    let mut client = world.extended_miner();
    let reserved = world.put_by();
    client.hears(&reserved, &world);
    client.skips_all();
    let work = world.new_tip();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob", "SetNewPrevHash"]);
    assert!(world.factory.handle_tip(work.tip(), world.now).unwrap().is_none(), "the tip has its template");
    let dead = client.submits(reserved.id().0 + 1, 0, &world);
    client.is_refused(dead, "stale-share");
    client.hears(&world.put_by(), &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"], "another one, for another height");
}

#[test]
fn before_its_tip_has_come_the_reserve_earns_nothing() {
    let mut world = world();
    let mut client = world.extended_miner();
    let work = world.put_by();
    client.hears(&work, &world);
    client.skips_all();
    let early = client.submits(work.id().0 + 1, 0, &world);
    client.is_refused(early, "invalid-job-id");
    assert_eq!(client.records.len(), 0);
}

#[test]
fn a_tip_at_another_height_does_not_activate_the_reserve() {
    let mut world = world();
    world.put_by();
    let present = *world.work.clone().unwrap().tip();
    for tip in [
        present,
        // Another block in the place of the present one, and two blocks at once.
        adit_share::Tip { prev_hash: bitcoin::hashes::Hash::all_zeros(), ..present },
        adit_share::Tip {
            prev_hash: bitcoin::hashes::Hash::all_zeros(),
            height: adit_units::Height(present.height.0 + 2),
            ..present
        },
    ] {
        assert!(world.factory.handle_tip(&tip, world.now).unwrap().is_none());
    }
    let interim = world.tip_alone().expect("the next one does");
    assert!(world.factory.handle_tip(interim.tip(), world.now).unwrap().is_none(), "once");
}

#[test]
fn an_interim_tip_that_is_no_more_gives_way_to_the_template_below() {
    let mut world = world();
    let mut client = world.extended_miner();
    client.hears(&world.put_by(), &world);
    let (before, interim) = (world.template(), world.tip_alone().unwrap());
    client.hears(&interim, &world);
    client.skips_all();
    let back = world.factory.handle_template(&before, world.now).unwrap().expect("another tip is news");
    client.hears(&back, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob", "SetNewPrevHash"]);
    let stale = client.submits(interim.id().0, 0, &world);
    client.is_refused(stale, "stale-share");
    client.submits(back.id().0, 0, &world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn a_block_on_the_empty_job_creates_the_subsidy_and_nothing_else() {
    let mut world = world();
    let mut client = world.extended_miner();
    client.hears(&world.put_by(), &world);
    world.nbits = EASY;
    let interim = world.tip_alone().unwrap();
    client.hears(&interim, &world);
    for nonce in 0..64 {
        client.submits(interim.id().0, nonce, &world);
    }
    let found = client.blocks().pop().expect("every second hash is a block");
    found.block.check().unwrap();
    assert_eq!(interim.template().id, TemplateId(0), "no node has given it");
    let block: bitcoin::Block = consensus::deserialize(&found.block.to_bytes()).unwrap();
    let [coinbase] = &block.txdata[..] else { panic!("{} transactions", block.txdata.len()) };
    let [payout, commitment] = &coinbase.output[..] else { panic!("{:?}", coinbase.output) };
    assert_eq!((payout.value.to_sat(), &payout.script_pubkey), (5_000_000_000, &world.config.payout_script));
    assert_eq!(block.header.prev_blockhash, world.tip().prev_hash);
    assert_eq!(block.bip34_block_height().unwrap(), u64::from(world.tip().height.0));
    assert_eq!(commitment.value.to_sat(), 0);
    assert!(block.check_witness_commitment() && coinbase.input[0].witness.len() == 1, "as signets demand");
}

#[test]
fn at_a_halving_the_reserve_creates_what_the_next_height_does() {
    let mut world = World::without_work(adit_pool::PoolConfig { halving_interval: 102, ..bridging() });
    world.new_tip();
    world.put_by();
    let interim = world.tip_alone().unwrap();
    assert_eq!(interim.tip().height.0, 102);
    assert_eq!(interim.template().coinbase_value, Sats::from_sats(2_500_000_000));
    assert_eq!(interim.template().subsidy, Sats::from_sats(2_500_000_000));
}

#[test]
fn where_the_subsidy_is_not_the_configured_one_no_empty_block_is_made() {
    let mut world = World::without_work(adit_pool::PoolConfig { halving_interval: 50, ..bridging() });
    let work = world.new_tip();
    world.wait(10);
    assert!(world.factory.handle_timeout(world.now).unwrap().is_none());
    assert_eq!(
        world.factory.poll_timeout(),
        Some(work.tip_seen() + JOB_AGE_MAX),
        "nor tried again and again"
    );
    assert!(world.tip_alone().is_none());
}

#[test]
fn with_empty_jobs_turned_off_nothing_is_sent_ahead() {
    let mut world = World::without_work(config());
    let work = world.new_tip();
    world.wait(10);
    assert!(world.factory.handle_timeout(world.now).unwrap().is_none());
    assert_eq!(world.factory.poll_timeout(), Some(work.tip_seen() + JOB_AGE_MAX));
    assert!(world.tip_alone().is_none());
}

#[test]
fn work_that_is_renewed_keeps_its_reserve() {
    let mut world = world();
    let mut client = world.extended_miner();
    client.hears(&world.put_by(), &world);
    client.skips_all();
    world.wait(60);
    let again = world.factory.handle_timeout(world.now).unwrap().expect("due");
    client.hears(&again, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"], "the present job anew");
    client.hears(&world.tip_alone().unwrap(), &world);
    assert_eq!(client.names(), ["SetNewPrevHash"]);
}
