//! Shares that cannot earn, or that this host's clock would refuse, and are blocks all the same.

use core::time::Duration;
use std::sync::Arc;

use adit_channel::ShareKind;
use adit_messages::extensions::WORKER_HASHRATE_TRACKING;
use adit_messages::mining;
use adit_messages::tlv::Tlv;
use adit_pool::{Distribution, PoolConfig};
use adit_units::{ChannelId, UnixTime, Work};
use bitcoin::ScriptBuf;
use bitcoin::hashes::Hash as _;

use crate::world::{Client, EASY, HARD, START, World, config, extended_share};

/// The channel of a miner who has one.
const CHANNEL: ChannelId = ChannelId(2);

/// Submits shares on a job until one of them is a block; answers its nonce and what the pool has handed over.
fn finds_block(client: &mut Client, job: u32, world: &World) -> (u32, adit_pool::FoundBlock) {
    for nonce in 0..64 {
        client.submits(job, nonce, world);
        if let [found] = client.blocks().as_slice() {
            return (nonce, found.clone());
        }
    }
    panic!("every second hash is a block");
}

#[test]
fn a_block_on_the_tip_before_is_told_of_further_up() {
    let mut world = World::without_work(PoolConfig { relays_shares: true, ..config() });
    world.nbits = EASY;
    let old = world.new_tip();
    let mut client = world.extended_miner();
    world.nbits = HARD;
    let tip = world.new_tip();
    client.hears(&tip, &world);
    let (nonce, found) = finds_block(&mut client, old.id().0, &world);
    let [relayed] = &*client.session.take_relayed() else {
        panic!("it is the only one that is worth telling")
    };
    assert!(Arc::ptr_eq(&relayed.work, &old));
    assert_eq!((relayed.nonce, relayed.kind), (nonce, ShareKind::Block));
    assert_eq!(relayed.hash, found.block.hash.to_byte_array());
}

#[test]
fn a_block_on_a_job_of_the_tip_that_newer_ones_had_pushed_out_was_not_looked_for() {
    let mut world = World::new();
    world.nbits = EASY;
    let old = world.new_tip();
    let mut client = world.extended_miner();
    for _ in 0..=adit_channel::PAST_JOBS {
        let work = world.refresh();
        client.hears(&work, &world);
    }
    client.skips_all();
    let (_, found) = finds_block(&mut client, old.id().0, &world);
    assert_eq!((found.block.check(), found.work), (Ok(()), Work::ZERO));
    assert!(client.records.is_empty());
    client.is_refused(1, "stale-share");
}

#[test]
fn a_block_on_the_tip_before_goes_to_the_nodes_and_earns_nothing() {
    let mut world = World::new();
    world.nbits = EASY;
    let old = world.new_tip();
    let mut client = world.extended_miner();
    world.nbits = HARD;
    let tip = world.new_tip();
    client.hears(&tip, &world);
    client.skips_all();

    let (nonce, found) = finds_block(&mut client, old.id().0, &world);
    assert_eq!(found.block.check(), Ok(()), "the block is one that a node takes");
    assert!(Arc::ptr_eq(found.block.template(), old.template()));
    assert_eq!(found.work, Work::ZERO);
    assert!(client.records.is_empty(), "a share of the tip before earns nothing");
    client.is_refused(1, "stale-share");
    client.skips_all();

    for nonce in [nonce, nonce + 1, nonce + 2, nonce + 3] {
        client.submits(old.id().0, nonce, &world);
    }
    assert_eq!(client.blocks(), [], "one block for each job, however often its share comes");
}

#[test]
fn a_block_on_the_tip_before_pays_and_is_made_as_its_job_was_given_wherever_the_channel_has_been_moved_since()
{
    let solo = Distribution::Solo(ScriptBuf::from_bytes(vec![0x52]));
    let moves: [&dyn Fn(&mut Client); 2] =
        [&|client| client.session.set_distribution(&[CHANNEL], &solo).unwrap(), &|client| {
            client.session.renew_extranonce_prefix(CHANNEL).unwrap()
        }];
    for moved in moves {
        let mut world = World::new();
        world.nbits = EASY;
        let first = world.new_tip();
        let mut client = world.extended_miner();
        moved(&mut client);
        let second = world.refresh();
        client.hears(&second, &world);
        client.session.set_distribution(&[CHANNEL], &Distribution::Pooled).unwrap();
        client.session.renew_extranonce_prefix(CHANNEL).unwrap();
        world.nbits = HARD;
        let tip = world.new_tip();
        client.hears(&tip, &world);
        client.skips_all();
        for old in [first, second] {
            let (nonce, found) = finds_block(&mut client, old.id().0, &world);
            assert_eq!(found.block.check(), Ok(()), "the header is that of the share");
            let block: bitcoin::Block = bitcoin::consensus::deserialize(&found.block.to_bytes()).unwrap();
            assert_eq!((block.header.nonce, block.header.prev_blockhash), (nonce, old.tip().prev_hash));
        }
    }
}

#[test]
fn a_channel_that_came_with_the_tip_has_no_jobs_of_the_one_before() {
    let mut world = World::new();
    world.nbits = EASY;
    let old = world.new_tip();
    let mut client = world.extended_miner();
    let tip = world.new_tip();
    client.hears(&tip, &world);
    client.skips_all();
    let channel_id = client.opens_extended(&world).channel;
    client.skips_all();
    for nonce in 0..20 {
        let share = extended_share(old.id().0, nonce, &world);
        client.submits_share(mining::SubmitSharesExtended { channel_id, ..share }, &world);
    }
    assert_eq!(client.blocks(), []);
}

#[test]
fn a_block_on_the_tip_before_the_last_is_gone() {
    let mut world = World::new();
    world.nbits = EASY;
    let old = world.new_tip();
    let mut client = world.extended_miner();
    for _ in 0..2 {
        let tip = world.new_tip();
        client.hears(&tip, &world);
    }
    client.skips_all();
    for nonce in 0..20 {
        client.submits(old.id().0, nonce, &world);
    }
    assert_eq!(client.blocks(), []);
}

#[test]
fn a_broken_worker_name_costs_a_share_but_not_a_block() {
    let broken = Tlv::new(WORKER_HASHRATE_TRACKING, Tlv::USER_IDENTITY, &[b'x'; 33]).unwrap();
    for (nbits, expected) in [(EASY, true), (HARD, false)] {
        let mut world = World::new();
        world.nbits = nbits;
        let work = world.new_tip();
        let mut client = world.miner_with_workers();
        client.skips_all();
        for nonce in 0..20 {
            client.sends_with(extended_share(work.id().0, nonce, &world), &[broken], &world);
        }
        let blocks = client.blocks();
        assert_eq!(!blocks.is_empty(), expected);
        assert_eq!(client.records.len(), blocks.len(), "what is no block is refused");
        assert!(blocks.iter().all(|found| found.worker.is_none()));
    }
}

#[test]
fn a_host_clock_that_is_days_off_refuses_no_share() {
    const DAYS: u32 = 3 * 24 * 3600;
    for host in [START - DAYS, START + DAYS] {
        let mut world = World::new();
        let work = world.work.clone().unwrap();
        let mut client = world.extended_miner();
        let honest = extended_share(work.id().0, 0, &world);
        world.now.unix = UnixTime::from_secs(host);
        client.submits_share(honest.clone(), &world);
        client.expects_nothing();
        assert_eq!(client.records.len(), 1, "the node's clock counts, moved on by a clock that is never set");

        // And it counts for the upper bound too, as far as the job allows.
        world.now.monotonic = world.now.monotonic + Duration::from_secs(30);
        for (ntime, accepted) in [(START + 6_630, true), (START + 6_631, false)] {
            let before = client.records.len();
            let mut share = honest.clone();
            share.ntime = ntime;
            client.submits_share(share, &world);
            assert_eq!(client.records.len() > before, accepted, "{ntime}");
        }
    }
}
