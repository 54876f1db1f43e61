//! The first messages: protocol, version, flags, deadlines and extensions.

use adit_messages::extensions::{RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess};
use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::Seq064K;
use adit_messages::{common, mining};
use adit_pool::{Disconnect, Fault, PoolConfig};
use adit_transport::Frame;

use crate::world::{World, close, config, extended_share, open_extended, open_standard, setup, text, update};

/// The peer was refused with this answer, and then the session ended.
#[track_caller]
fn refused(message: common::SetupConnection<'_>, flags: u32, code: &str) {
    let mut world = World::new();
    let mut client = world.connect();
    client.sends(message, &world);
    client.expects(common::SetupConnectionError { flags, error_code: text(code) });
    client.expects_nothing();
    let closed = client.closed.expect("the connection is closed after the answer");
    assert!(matches!(closed, Disconnect::Refused(why) if why.as_str() == code), "{closed:?}");
    assert_eq!(closed.fault(), Fault::PeerIncompatible);
}

#[test]
fn a_miner_is_set_up_and_named() {
    let mut world = World::new();
    let mut client = world.connect();
    client.sends(setup(0), &world);
    client.expects(common::SetupConnectionSuccess { used_version: 2, flags: 0 });
    client.expects_nothing();
    assert_eq!(client.session.device(), "vendor hardware firmware");
}

#[test]
fn another_protocol_is_refused() {
    for protocol in [common::Protocol::JobDeclarationProtocol, common::Protocol::TemplateDistributionProtocol]
    {
        refused(common::SetupConnection { protocol, ..setup(0) }, 0, "unsupported-protocol");
    }
}

#[test]
fn a_protocol_that_does_not_exist_is_refused() {
    let (mut world, mut payload) = (World::new(), vec![3]);
    payload.extend([2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    let mut client = world.connect();
    client.sends_frame(Frame::new(0, false, 0, &payload).unwrap(), &world);
    client.expects(common::SetupConnectionError { flags: 0, error_code: text("unsupported-protocol") });
    assert!(client.closed.is_some());
}

#[test]
fn a_version_other_than_two_is_refused() {
    for (min_version, max_version) in [(3, 3), (0, 1), (3, 1), (u16::MAX, 0)] {
        refused(
            common::SetupConnection { min_version, max_version, ..setup(0) },
            0,
            "protocol-version-mismatch",
        );
    }
}

#[test]
fn a_range_of_versions_with_two_in_it_is_accepted() {
    for (min_version, max_version) in [(2, 2), (1, 3), (0, u16::MAX)] {
        let mut world = World::new();
        let mut client = world.connect();
        client.sends(common::SetupConnection { min_version, max_version, ..setup(0) }, &world);
        client.expects(common::SetupConnectionSuccess { used_version: 2, flags: 0 });
    }
}

#[test]
fn unsupported_flags_are_refused_and_exactly_those_are_named() {
    for (asked, unsupported) in [
        (0b010, 0b010),
        (0b111, 0b010),
        (0b1000, 0b1000),
        (u32::MAX, 0xffff_fffa),
        (0x8000_0001, 0x8000_0000),
    ] {
        refused(setup(asked), unsupported, "unsupported-feature-flags");
    }
}

#[test]
fn every_combination_of_supported_flags_is_accepted() {
    for flags in [0b000, 0b001, 0b100, 0b101] {
        World::new().connect_with(MiningSetupFlags::from_bits(flags));
    }
}

#[test]
fn the_first_message_must_be_the_setup() {
    let mut world = World::new();
    let mut first = [world.connect(), world.connect(), world.connect(), world.connect(), world.connect()];
    first[0].sends(open_extended(1.0, &[0xff; 32]), &world);
    first[1].sends(extended_share(1, 1, &world), &world);
    first[2].sends(close(1), &world);
    first[3].sends(extensions(&[2]), &world);
    first[4].sends_frame(Frame::new(0x4000, false, 1, &[]).unwrap(), &world);
    for mut client in first {
        let closed = client.closed.expect("closed");
        assert!(matches!(closed, Disconnect::WrongState { .. } | Disconnect::TooLong { .. }), "{closed:?}");
        assert_eq!(closed.fault(), Fault::PeerMisbehaved);
        client.expects_nothing();
    }
}

#[test]
fn a_second_setup_ends_the_session() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.sends(setup(0), &world);
    assert!(matches!(client.closed, Some(Disconnect::WrongState { message: "SetupConnection", .. })));
    client.expects_nothing();
}

#[test]
fn silence_before_the_setup_ends_the_session_after_ten_seconds() {
    let mut world = World::new();
    let mut client = world.connect();
    world.wait(9);
    client.ticks(&world);
    assert_eq!(client.closed, None);
    world.wait(1);
    client.ticks(&world);
    assert_eq!(client.closed, Some(Disconnect::NoSetup));
    assert_eq!(Disconnect::NoSetup.fault(), Fault::PeerIdle);
}

#[test]
fn no_channel_within_ten_minutes_ends_the_session() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    // Other messages do not put the deadline off, and neither does a request that fails.
    world.wait(300);
    client.sends(update(1.0, &[0xff; 32]), &world);
    client.sends(open_extended(f32::NAN, &[0xff; 32]), &world);
    client.ticks(&world);
    assert_eq!(client.closed, None);
    world.wait(300);
    client.ticks(&world);
    assert_eq!(client.closed, Some(Disconnect::NoChannel));
}

#[test]
fn a_miner_with_a_channel_has_no_deadline() {
    let mut world = World::new();
    let client = world.extended_miner();
    assert_eq!(client.session.poll_timeout(), None);
}

fn extensions(list: &[u16]) -> RequestExtensions<'static> {
    RequestExtensions { request_id: 5, requested_extensions: Seq064K::new(list.to_vec()).unwrap() }
}

fn granted(list: &[u16]) -> RequestExtensionsSuccess<'static> {
    RequestExtensionsSuccess { request_id: 5, supported_extensions: Seq064K::new(list.to_vec()).unwrap() }
}

fn denied(list: &[u16]) -> RequestExtensionsError<'static> {
    RequestExtensionsError {
        request_id: 5,
        unsupported_extensions: Seq064K::new(list.to_vec()).unwrap(),
        required_extensions: Seq064K::new(Vec::new()).unwrap(),
    }
}

#[test]
fn known_extensions_are_granted_and_others_left_out() {
    for (asked, known) in
        [(&[2][..], &[2][..]), (&[2, 3], &[2]), (&[0xffff, 1, 2, 2], &[1, 2]), (&[1], &[1]), (&[], &[])]
    {
        let mut world = World::new();
        let mut client = world.connect_with(MiningSetupFlags::NONE);
        client.sends(extensions(asked), &world);
        client.expects(granted(known));
        client.expects_nothing();
    }
}

#[test]
fn unknown_extensions_alone_are_denied_and_may_be_asked_for_anew() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.sends(extensions(&[3, 0x4000]), &world);
    client.expects(denied(&[3, 0x4000]));
    client.sends(extensions(&[2]), &world);
    client.expects(granted(&[2]));
    client.opens_extended(&world);
}

#[test]
fn a_required_extension_is_named_and_may_be_asked_for_anew() {
    let mut world = World::without_work(PoolConfig { require_worker_names: true, ..config() });
    world.new_tip();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    for (asked, unsupported) in [(&[][..], &[][..]), (&[1], &[]), (&[3, 1, 0x4000], &[3, 0x4000])] {
        client.sends(extensions(asked), &world);
        client.expects(RequestExtensionsError {
            required_extensions: Seq064K::new(vec![2]).unwrap(),
            ..denied(unsupported)
        });
        client.expects_nothing();
    }
    client.sends(extensions(&[2, 3]), &world);
    client.expects(granted(&[2]));
    client.opens_extended(&world);
    client.opens_standard(&world);
}

#[test]
fn who_opens_a_channel_without_a_required_extension_is_disconnected() {
    let mut world = World::without_work(PoolConfig { require_worker_names: true, ..config() });
    world.new_tip();
    let mut silent = world.connect_with(MiningSetupFlags::NONE);
    let mut stubborn = world.connect_with(MiningSetupFlags::REQUIRES_STANDARD_JOBS);
    stubborn.sends(extensions(&[1]), &world);
    stubborn.skips_all();
    for client in [&mut silent, &mut stubborn] {
        client.sends(open_standard(0.0, &[0xff; 32]), &world);
        client.expects_nothing();
        assert_eq!(client.closed, Some(Disconnect::WorkerNamesRequired));
        assert_eq!(client.session.channels(), 0);
    }
}

#[test]
fn extensions_are_negotiated_before_the_first_channel_is_requested() {
    let mut world = World::new();
    let mut miner = world.extended_miner();
    let mut refused = world.connect_with(MiningSetupFlags::NONE);
    refused.sends(open_standard(-1.0, &[0xff; 32]), &world);
    refused.skips_all();
    for client in [&mut miner, &mut refused] {
        client.sends(extensions(&[2]), &world);
        assert!(matches!(client.closed, Some(Disconnect::WrongState { message: "RequestExtensions", .. })));
    }
}

#[test]
fn messages_of_unknown_extensions_are_ignored() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for (extension, channel_msg, length) in
        [(0x0001, false, 0), (0x0002, false, 9), (0x0003, true, 4), (0x7fff, true, 3), (0x4000, false, 4096)]
    {
        let payload = vec![0xab; length];
        client.sends_frame(Frame::new(extension, channel_msg, 0x77, &payload).unwrap(), &world);
        assert_eq!(client.closed, None, "{extension:#x}");
    }
    client.expects_nothing();
}

#[test]
fn a_long_message_of_an_unknown_extension_ends_the_session() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.sends_frame(Frame::new(0x4000, false, 0, &[0; 4097]).unwrap(), &world);
    assert_eq!(client.closed, Some(Disconnect::TooLong { length: 4097, limit: 4096 }));
}

#[test]
fn a_core_message_that_does_not_exist_ends_the_session() {
    // 0x1e is reserved, 0x50 and 0x76 belong to other protocols.
    for msg_type in [0x05, 0x1e, 0x50, 0x76, 0xff] {
        let mut world = World::new();
        let mut client = world.extended_miner();
        client.sends_frame(Frame::new(0, false, msg_type, &[0; 60]).unwrap(), &world);
        assert_eq!(client.closed, Some(Disconnect::UnknownMessage { msg_type }));
    }
}

#[test]
fn a_message_that_only_servers_send_ends_the_session() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.sends(
        mining::SubmitSharesSuccess {
            channel_id: 2,
            last_sequence_number: 1,
            new_submits_accepted_count: 1,
            new_shares_sum: 1,
        },
        &world,
    );
    assert_eq!(client.closed, Some(Disconnect::WrongDirection { message: "SubmitShares.Success" }));
}

#[test]
fn the_channel_bit_is_not_held_against_a_peer() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let payload = [2, 0, 0, 0, 0];
    client.sends_frame(Frame::new(0, false, 0x18, &payload).unwrap(), &world);
    assert_eq!((client.closed, client.session.channels()), (None, 0));
}
