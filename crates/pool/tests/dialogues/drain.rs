//! How connections end that the pool wants to end: drained, or no longer listened to.

use adit_messages::common;
use adit_messages::flags::MiningSetupFlags;
use adit_pool::{Disconnect, Fault, GARBAGE_MAX, GARBAGE_PER_SECOND, PoolConfig, Successor};

use crate::world::{World, config, extended_share, text};

/// A pool with another server to send miners to.
fn world() -> World {
    let successor = Some(Successor { host: "pool2.example".to_owned(), port: 34_255 });
    let mut world = World::without_work(PoolConfig { successor, ..config() });
    world.new_tip();
    world
}

fn reconnect() -> common::Reconnect<'static> {
    common::Reconnect { new_host: text("pool2.example"), new_port: 34_255 }
}

#[test]
fn a_drained_session_names_the_successor_and_works_on() {
    let mut world = world();
    let mut client = world.extended_miner();
    client.is_drained();
    client.expects(reconnect());
    client.submits(1, 0, &world);
    client.expects_nothing();
    client.is_durable(1);
    assert_eq!(client.names(), ["SubmitShares.Success"]);
}

#[test]
fn who_has_set_up_only_is_sent_on_and_who_has_not_is_not() {
    let mut world = world();
    let mut stranger = world.connect();
    stranger.is_drained();
    stranger.expects_nothing();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.is_drained();
    client.expects(reconnect());
}

#[test]
fn without_a_successor_nobody_is_sent_anywhere() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.is_drained();
    client.expects_nothing();
}

#[test]
fn a_flood_of_worthless_shares_ends_the_connection() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for _ in 0..GARBAGE_MAX {
        let number = client.submits(4_000, 0, &world);
        client.is_refused(number, "invalid-job-id");
    }
    assert_eq!(client.closed, None);
    client.submits(1, 0, &world);
    client.submits(4_000, 0, &world);
    assert_eq!(client.closed, None, "a good share pays for a bad one");
    client.submits(4_000, 0, &world);
    let closed = client.closed.expect("that was one too many");
    assert_eq!((closed, closed.fault()), (Disconnect::Garbage, Fault::PeerMisbehaved));
    assert_eq!(client.records.len(), 1, "the good one counts");
}

#[test]
fn a_little_garbage_for_a_long_time_ends_nothing() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for _ in 0..300 {
        world.wait(1);
        for _ in 0..GARBAGE_PER_SECOND {
            client.submits(4_000, 0, &world);
        }
        client.skips_all();
    }
    assert_eq!(client.closed, None);
}

#[test]
fn another_connection_of_the_same_user_pays_for_nothing() {
    let mut world = World::new();
    let (mut flood, mut honest) = (world.extended_miner(), world.extended_miner());
    for _ in 0..=GARBAGE_MAX {
        flood.submits(4_000, 0, &world);
    }
    assert_eq!(flood.closed, Some(Disconnect::Garbage));
    honest.submits_share(extended_share(1, 0, &world), &world);
    assert_eq!((honest.closed, honest.records.len()), (None, 1));
}
