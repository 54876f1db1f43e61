//! The first messages: protocol, version, flags, deadlines and extensions.

use adit_job_declarator::server::limits::{FIRST_TOKEN_TIMEOUT, SETUP_TIMEOUT};
use adit_job_declarator::server::{Disconnect, JdsConfig};
use adit_messages::common;
use adit_messages::extensions::{RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess};
use adit_messages::types::Seq064K;
use adit_transport::Frame;

use crate::world::{Proposal, World, config, setup, text};

#[track_caller]
fn refused(config: JdsConfig, message: common::SetupConnection<'_>, flags: u32, code: &str) {
    let mut world = World::with(config);
    let mut client = world.connect();
    client.sends(message, &mut world);
    client.expects(common::SetupConnectionError { flags, error_code: text(code) });
    client.expects_nothing();
    assert!(matches!(client.closed, Some(Disconnect::Refused(why)) if why.as_str() == code));
}

#[test]
fn jds_reject_setup_connection_with_non_job_declaration_protocol() {
    for protocol in [common::Protocol::MiningProtocol, common::Protocol::TemplateDistributionProtocol] {
        refused(config(), common::SetupConnection { protocol, ..setup(1) }, 0, "unsupported-protocol");
    }
}

#[test]
fn jds_reject_setup_connection_with_unsupported_version() {
    for (min_version, max_version) in [(3, 3), (0, 1), (3, 1)] {
        let message = common::SetupConnection { min_version, max_version, ..setup(1) };
        refused(config(), message, 0, "protocol-version-mismatch");
    }
}

#[test]
fn jds_reject_setup_connection_without_declare_tx_data_flag() {
    let full_only = JdsConfig { coinbase_only: false, ..config() };
    refused(full_only, setup(0), 1, "missing-declare-tx-data-flag");
}

#[test]
fn a_client_may_keep_its_transactions_to_itself_where_the_operator_allows_it() {
    let mut world = World::new();
    let mut client = world.connect();
    client.sends(setup(0), &mut world);
    client.expects(common::SetupConnectionSuccess { used_version: 2, flags: 0 });
}

#[test]
fn unsupported_flags_are_refused_and_exactly_those_are_named() {
    for (asked, unsupported) in [(0b10, 0b10), (0b11, 0b10), (u32::MAX, u32::MAX - 1)] {
        refused(config(), setup(asked), unsupported, "unsupported-feature-flags");
    }
}

#[test]
fn a_protocol_that_does_not_exist_is_refused() {
    let mut world = World::new();
    let mut client = world.connect();
    let payload = [7, 2, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    client.sends_frame(Frame::new(0, false, 0, &payload).unwrap(), &mut world);
    client.expects(common::SetupConnectionError { flags: 0, error_code: text("unsupported-protocol") });
}

#[test]
fn the_first_message_must_be_the_setup_and_the_only_one() {
    let mut world = World::new();
    let mut early = world.connect();
    early.sends_frame(Frame::new(0, false, 0x50, &[0, 0, 0, 0, 0]).unwrap(), &mut world);
    assert!(matches!(early.closed, Some(Disconnect::WrongState { .. } | Disconnect::TooLong { .. })));
    let mut again = world.declarator();
    again.sends(setup(1), &mut world);
    assert!(matches!(again.closed, Some(Disconnect::WrongState { message: "SetupConnection", .. })));
}

#[test]
fn silence_ends_the_session() {
    let mut world = World::new();
    let (mut stranger, mut idle) = (world.connect(), world.declarator());
    world.wait(SETUP_TIMEOUT.as_secs());
    stranger.ticks(&mut world);
    assert_eq!(stranger.closed, Some(Disconnect::NoSetup));
    let mut busy = world.declarator();
    busy.token("alice", &mut world);
    world.wait(FIRST_TOKEN_TIMEOUT.as_secs());
    idle.ticks(&mut world);
    busy.ticks(&mut world);
    assert_eq!((idle.closed, busy.closed), (Some(Disconnect::NoToken), None));
}

#[test]
fn messages_that_nobody_knows_or_may_send_end_the_session() {
    let mut world = World::new();
    for (msg_type, end) in [
        (0x10, Disconnect::UnknownMessage { msg_type: 0x10 }),
        (0x52, Disconnect::UnknownMessage { msg_type: 0x52 }),
        (0x58, Disconnect::WrongDirection { message: "DeclareMiningJob.Success" }),
    ] {
        let mut client = world.declarator();
        client.sends_frame(Frame::new(0, false, msg_type, &[0; 8]).unwrap(), &mut world);
        assert_eq!(client.closed, Some(end));
    }
    let mut client = world.declarator();
    client.sends_frame(Frame::new(0x4000, false, 1, &[0; 100]).unwrap(), &mut world);
    client.expects_nothing();
    assert_eq!(client.closed, None, "extensions are ignored");
}

#[test]
fn a_client_that_reveals_nothing_sends_no_lists() {
    let mut world = World::new();
    let mut client = world.connect();
    client.sends(setup(0), &mut world);
    client.expects(common::SetupConnectionSuccess { used_version: 2, flags: 0 });
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(900_000, &[]).message(1, &token), &mut world);
    client.refused(1, "invalid-mining-job-token");
    let long = vec![0; 5_000];
    client.sends_frame(Frame::new(0, false, 0x57, &long).unwrap(), &mut world);
    assert!(matches!(client.closed, Some(Disconnect::TooLong { .. })));
}

#[test]
fn extensions_are_negotiated_before_the_first_token() {
    let mut world = World::new();
    let mut client = world.declarator();
    let list = |extensions: &[u16]| Seq064K::new(extensions.to_vec()).unwrap();
    let ask = |extensions| RequestExtensions { request_id: 5, requested_extensions: list(extensions) };
    client.sends(ask(&[2]), &mut world);
    client.expects(RequestExtensionsError {
        request_id: 5,
        unsupported_extensions: list(&[2]),
        required_extensions: list(&[]),
    });
    client.sends(ask(&[2, 1]), &mut world);
    client.expects(RequestExtensionsSuccess { request_id: 5, supported_extensions: list(&[1]) });
    client.token("alice", &mut world);
    client.sends(ask(&[1]), &mut world);
    assert!(matches!(client.closed, Some(Disconnect::WrongState { message: "RequestExtensions", .. })));
}
