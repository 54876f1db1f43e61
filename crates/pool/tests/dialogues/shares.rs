//! Shares: what earns, what is refused and with which code, blocks first, and acknowledgements that are promises.

use adit_channel::ShareKind;
use adit_messages::error_code::SubmitSharesError;
use adit_messages::extensions::WORKER_HASHRATE_TRACKING;
use adit_messages::flags::MiningSetupFlags;
use adit_messages::tlv::Tlv;
use adit_messages::types::B032;
use adit_messages::{Message, mining};
use adit_pool::{Disconnect, Fault, UNACKNOWLEDGED_MAX};
use adit_transport::{Frame, FrameQueue};
use adit_units::{Height, JobId, JobTag, Target, Work};
use bitcoin::hashes::{Hash as _, sha256d};

use crate::world::{Client, EASY, START, VERSION, World, close, extended_share, open_extended, update};

/// The pool acknowledges shares of a channel.
#[track_caller]
fn is_acknowledged(client: &mut Client, channel_id: u32, last: u32, count: u32) {
    client.expects(mining::SubmitSharesSuccess {
        channel_id,
        last_sequence_number: last,
        new_submits_accepted_count: count,
        new_shares_sum: 0,
    });
}

#[test]
fn an_accepted_share_becomes_a_record() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    world.wait(5);
    let number = client.submits(1, 42, &world);
    client.expects_nothing();
    let [record] = &client.records[..] else { panic!("{:?}", client.records) };
    assert_eq!(record.received, world.now.unix);
    assert_eq!((record.connection.0, record.channel.0, record.sequence_number.0), (1, 2, number));
    assert_eq!(record.tag, JobTag { instance: 7, boot: 3, job: JobId(1) });
    assert_eq!((record.height, record.work), (Height(101), Work::from_hashes(1)));
    assert_eq!((record.kind, record.user.as_str(), record.worker), (ShareKind::Share, "alice.rig", None));
    let work = world.work.as_ref().unwrap();
    let mut extranonce = [0; 20];
    (extranonce[0], extranonce[4]) = (1, 1);
    let header = [
        &VERSION.to_le_bytes()[..],
        work.tip().prev_hash.as_ref(),
        &work.job().merkle_root(&extranonce).unwrap(),
        &world.now.unix.to_secs().to_le_bytes(),
        &work.tip().nbits.to_consensus().to_le_bytes(),
        &42_u32.to_le_bytes(),
    ];
    assert_eq!(record.hash, sha256d::Hash::hash(&header.concat()).to_byte_array());
}

#[test]
fn a_share_is_acknowledged_once_it_is_durable_and_not_before() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let number = client.submits(1, 0, &world);
    client.expects_nothing();
    assert_eq!(client.session.unacknowledged(), 1);
    client.is_durable(0);
    client.expects_nothing();
    client.is_durable(1);
    is_acknowledged(&mut client, 2, number, 1);
    assert_eq!(client.session.unacknowledged(), 0);
}

#[test]
fn shares_that_become_durable_together_are_acknowledged_with_one_message() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for nonce in 0..10 {
        client.submits(1, nonce, &world);
    }
    client.is_durable(7);
    is_acknowledged(&mut client, 2, 7, 7);
    client.is_durable(10);
    is_acknowledged(&mut client, 2, 10, 3);
    client.expects_nothing();
}

#[test]
fn every_channel_is_acknowledged_by_itself() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.opens_standard(&world);
    client.opens_standard(&world);
    let numbers = [
        client.submits(1, 0, &world),
        client.submits_standard(4, 1, 0, &world),
        client.submits(1, 1, &world),
        client.submits_standard(4, 1, 1, &world),
    ];
    client.is_durable(4);
    is_acknowledged(&mut client, 2, numbers[2], 2);
    is_acknowledged(&mut client, 4, numbers[3], 2);
    client.expects_nothing();
}

#[test]
fn a_count_that_goes_back_or_too_far_acknowledges_nothing_twice_and_nothing_that_was_not_sent() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.submits(1, 0, &world);
    client.is_durable(100);
    is_acknowledged(&mut client, 2, 1, 1);
    client.is_durable(0);
    client.is_durable(1);
    client.expects_nothing();
    client.submits(1, 1, &world);
    client.expects_nothing();
    client.is_durable(2);
    is_acknowledged(&mut client, 2, 2, 1);
}

#[test]
fn refused_shares_between_accepted_ones_are_answered_at_once_and_never_acknowledged() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.submits(1, 0, &world);
    let refused = client.submits(1, 0, &world);
    client.is_refused(refused, "duplicate-share");
    let last = client.submits(1, 1, &world);
    client.is_durable(2);
    is_acknowledged(&mut client, 2, last, 2);
}

#[test]
fn sequence_numbers_are_the_clients_affair() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for (nonce, sequence_number) in [(0, 9), (1, 9), (2, 0), (3, u32::MAX), (4, 1)] {
        let share = mining::SubmitSharesExtended { sequence_number, ..extended_share(1, nonce, &world) };
        client.sends(share, &world);
    }
    client.is_durable(5);
    is_acknowledged(&mut client, 2, 1, 5);
}

#[test]
fn each_kind_of_bad_share_has_its_code() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    // A target that no share of this test meets.
    client.sends(open_extended(1e12, &[0xff; 32]), &world);
    client.opened();
    let good = || extended_share(1, 0, &world);
    let with_time = |ntime| mining::SubmitSharesExtended { ntime, ..good() };
    let with_version = |version| mining::SubmitSharesExtended { version, ..good() };
    let with_extranonce =
        |bytes| mining::SubmitSharesExtended { extranonce: B032::new(bytes).unwrap(), ..good() };
    for (share, code) in [
        (mining::SubmitSharesExtended { job_id: 9, ..good() }, "invalid-job-id"),
        (with_extranonce(&[0; 13]), "bad-extranonce-size"),
        (with_extranonce(&[0; 15]), "bad-extranonce-size"),
        (with_extranonce(&[]), "bad-extranonce-size"),
        (with_version(VERSION | 1), "invalid-non-rollable-version-bit"),
        (with_version(VERSION ^ 0x2000_0000), "invalid-non-rollable-version-bit"),
        (with_time(START - 1), "invalid-share"),
        (with_time(START + 6601), "invalid-share"),
        (with_time(u32::MAX), "invalid-share"),
        (good(), "difficulty-too-low"),
        (with_time(START + 6600), "difficulty-too-low"),
        (with_version(VERSION | 0x1fff_ffe0), "difficulty-too-low"),
    ] {
        let number = client.submits_share(share, &world);
        client.is_refused(number, code);
    }
    assert!(client.records.is_empty());
    let counters = client.session.counters();
    assert_eq!(counters.rejected(SubmitSharesError::DifficultyTooLow), 3);
    assert_eq!((counters.accepted, counters.rejected_total()), (0, 12));
}

#[test]
fn a_share_on_a_channel_that_is_not_there_is_refused() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for channel_id in [0, 1, 3, u32::MAX] {
        let number = client.submits_share(
            mining::SubmitSharesExtended { channel_id, ..extended_share(1, 0, &world) },
            &world,
        );
        let answer = client.receives();
        let Message::SubmitSharesError(error) = answer.message() else { panic!("{:?}", answer.message()) };
        assert_eq!((error.channel_id, error.sequence_number), (channel_id, number));
        assert_eq!(error.error_code.as_bytes(), b"invalid-channel-id");
    }
}

#[test]
fn a_share_of_the_other_kind_of_channel_is_refused() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.opens_standard(&world);
    let number = client.submits_standard(2, 1, 0, &world);
    client.is_refused(number, "invalid-channel-id");
    client.submits_share(
        mining::SubmitSharesExtended { channel_id: 3, ..extended_share(1, 0, &world) },
        &world,
    );
    assert_eq!(client.names(), ["SubmitShares.Error"]);
    assert!(client.records.is_empty());
}

#[test]
fn a_share_before_any_channel_is_refused_and_does_not_end_the_session() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    let number = client.submits(1, 0, &world);
    client.is_refused(number, "invalid-channel-id");
    assert_eq!(client.closed, None);
}

#[test]
fn a_share_earns_once() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.submits(1, 0, &world);
    let work = world.refresh();
    client.hears(&work, &world);
    client.skips_all();
    let number = client.submits(1, 0, &world);
    client.is_refused(number, "duplicate-share");
    client.submits(work.id().0, 0, &world);
    client.expects_nothing();
    assert_eq!(client.records.len(), 2);
    assert_ne!(client.records[0].hash, client.records[1].hash);
}

#[test]
fn the_same_nonce_on_two_channels_is_two_shares() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.opens_standard(&world);
    client.opens_standard(&world);
    client.submits_standard(2, 1, 0, &world);
    client.submits_standard(3, 1, 0, &world);
    client.expects_nothing();
    assert_ne!(client.records[0].hash, client.records[1].hash);
}

#[test]
fn a_block_comes_before_its_record_and_is_acknowledged_like_any_share() {
    for extended in [true, false] {
        let mut world = World::new();
        world.nbits = EASY;
        let work = world.new_tip();
        let mut client = if extended { world.extended_miner() } else { world.standard_miner() };
        let found = (0..100).find_map(|nonce| {
            if extended {
                client.submits(work.id().0, nonce, &world)
            } else {
                client.submits_standard(2, work.id().0, nonce, &world)
            };
            client.session.poll_block()
        });
        let found = found.expect("every second hash is a block");
        assert_eq!(found.block.check(), Ok(()), "the block is one that a node takes");
        assert_eq!(
            (found.channel.0, found.user.as_str(), found.work),
            (2, "alice.rig", Work::from_hashes(1))
        );
        let record = client.records.last().unwrap();
        assert_eq!((record.kind, record.height), (ShareKind::Block, found.block.height));
        assert_eq!(&record.hash, found.block.hash.as_byte_array());
        assert!(found.block.coinbase().windows(JobTag::LEN).any(|bytes| bytes == work.tag().to_bytes()));
        client.expects_nothing();
        let count = client.records.len();
        client.is_durable(count);
        is_acknowledged(&mut client, 2, u32::try_from(count).unwrap(), u32::try_from(count).unwrap());
        assert_eq!(client.session.counters().blocks, 1);
    }
}

#[test]
fn a_block_is_there_before_anybody_asks_for_its_record() {
    let mut world = World::new();
    world.nbits = EASY;
    let work = world.new_tip();
    let mut client = world.extended_miner();
    let mut queue = FrameQueue::default();
    for nonce in 0..20 {
        let share = mining::SubmitSharesExtended {
            sequence_number: nonce,
            ..extended_share(work.id().0, nonce, &world)
        };
        adit_messages::encode(share, &mut queue).unwrap();
    }
    for frame in &queue {
        client.session.handle_frame(frame, world.now).unwrap();
    }
    let blocks = client.blocks();
    let mut records = Vec::new();
    client.session.take_records(&mut records);
    let recorded: Vec<_> = records.iter().filter(|record| record.kind == ShareKind::Block).collect();
    assert!(!blocks.is_empty() && blocks.len() == recorded.len());
    for (block, record) in blocks.iter().zip(recorded) {
        assert_eq!(block.block.hash.as_byte_array(), &record.hash, "in the order in which they were found");
    }
}

#[test]
fn a_block_on_a_past_job_of_the_tip_is_found() {
    let mut world = World::new();
    world.nbits = EASY;
    let old = world.new_tip();
    let mut client = world.extended_miner();
    let work = world.refresh();
    client.hears(&work, &world);
    client.skips_all();
    for nonce in 0..20 {
        client.submits(old.id().0, nonce, &world);
    }
    let blocks = client.blocks();
    assert!(!blocks.is_empty());
    for found in blocks {
        assert_eq!(found.block.check(), Ok(()));
        assert!(std::sync::Arc::ptr_eq(found.block.template(), old.template()));
    }
}

#[test]
fn the_worker_of_a_share_stands_in_its_record() {
    let mut world = World::new();
    let mut client = world.miner_with_workers();
    let worker = Tlv::user_identity("rig-17").unwrap();
    client.sends_with(extended_share(1, 0, &world), &[worker], &world);
    client.sends(extended_share(1, 1, &world), &world);
    client.expects_nothing();
    let workers: Vec<_> =
        client.records.iter().map(|record| record.worker.map(|name| name.to_string())).collect();
    assert_eq!(workers, [Some("rig-17".to_owned()), None], "a share without a name earns all the same");
}

#[test]
fn a_worker_in_the_byte_order_of_the_specifications_example_is_read_too() {
    let mut world = World::new();
    let mut client = world.miner_with_workers();
    let mut payload = payload_of(extended_share(1, 0, &world));
    payload.extend(b"\x00\x02\x01\x00\x0aWorker_001");
    client.sends_frame(Frame::new(0, true, 0x1b, &payload).unwrap(), &world);
    client.expects_nothing();
    assert_eq!(client.records[0].worker.unwrap().as_str(), "Worker_001");
}

#[test]
fn a_worker_whose_name_does_not_print_costs_the_miner_nothing() {
    let mut world = World::new();
    let mut client = world.miner_with_workers();
    for (nonce, value) in (0..).zip([&b"\xff"[..], b"a\0b", b"\x1b[1m", "a\u{202e}b".as_bytes()]) {
        let worker = Tlv::new(WORKER_HASHRATE_TRACKING, Tlv::USER_IDENTITY, value).unwrap();
        client.sends_with(extended_share(1, nonce, &world), &[worker], &world);
    }
    client.expects_nothing();
    assert_eq!(client.records.len(), 4);
    assert!(client.records.iter().all(|record| record.worker.is_none()));
}

#[test]
fn a_worker_whose_name_is_too_long_makes_the_share_invalid() {
    let mut world = World::new();
    let mut client = world.miner_with_workers();
    let worker = Tlv::new(WORKER_HASHRATE_TRACKING, Tlv::USER_IDENTITY, &[b'x'; 33]).unwrap();
    client.sends_with(extended_share(1, 0, &world), &[worker], &world);
    client.is_refused(0, "invalid-share");
    assert!(client.records.is_empty());
    client.submits(1, 0, &world);
    assert_eq!(client.records.len(), 1, "the refused share was not remembered");
}

#[test]
fn bytes_behind_a_share_that_are_no_fields_make_it_invalid_where_fields_were_negotiated() {
    let mut world = World::new();
    let mut client = world.miner_with_workers();
    let mut payload = payload_of(extended_share(1, 0, &world));
    payload.extend([1, 2, 3]);
    client.sends_frame(Frame::new(0, true, 0x1b, &payload).unwrap(), &world);
    client.is_refused(0, "invalid-share");
}

#[test]
fn fields_that_were_not_negotiated_are_ignored() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let worker = Tlv::user_identity("rig-17").unwrap();
    client.sends_with(extended_share(1, 0, &world), &[worker], &world);
    let mut payload = payload_of(extended_share(1, 1, &world));
    payload.extend([1, 2, 3]);
    client.sends_frame(Frame::new(0, true, 0x1b, &payload).unwrap(), &world);
    client.expects_nothing();
    assert!(client.records.len() == 2 && client.records.iter().all(|record| record.worker.is_none()));
}

/// The payload of a message.
fn payload_of<'a>(message: impl Into<Message<'a>>) -> Vec<u8> {
    let mut payload = Vec::new();
    message.into().write_payload(&mut payload);
    payload
}

#[test]
fn acknowledgements_outlive_a_change_of_tip_and_of_target() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.submits(1, 0, &world);
    client.sends(update(0.0, &Target::from_work(Work::from_hashes(2)).to_le_bytes()), &world);
    let work = world.new_tip();
    client.hears(&work, &world);
    client.skips_all();
    client.is_durable(1);
    is_acknowledged(&mut client, 2, 1, 1);
}

#[test]
fn a_session_ends_when_storage_does_not_keep_up_but_not_before_the_share_is_looked_at() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.opens_standard(&world);
    client.opens_standard(&world);
    let half = u32::try_from(UNACKNOWLEDGED_MAX / 2).unwrap();
    for nonce in 1..half {
        client.submits_standard(2, 1, nonce, &world);
        client.submits_standard(3, 1, nonce, &world);
    }
    client.submits_standard(2, 1, 0, &world);
    assert_eq!((client.closed, client.session.unacknowledged()), (None, UNACKNOWLEDGED_MAX - 1));
    client.submits_standard(3, 1, 0, &world);
    assert_eq!(client.closed, Some(Disconnect::Overloaded));
    assert_eq!(Disconnect::Overloaded.fault(), Fault::Ours);
    assert_eq!(client.records.len(), UNACKNOWLEDGED_MAX, "what was accepted is still credited");
}

#[test]
fn shares_of_a_closed_channel_are_still_counted_when_they_become_durable() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.opens_standard(&world);
    client.submits(1, 0, &world);
    let number = client.submits_standard(3, 1, 0, &world);
    client.sends(close(2), &world);
    client.is_durable(1);
    client.expects_nothing();
    client.is_durable(2);
    is_acknowledged(&mut client, 3, number, 1);
}
