//! The size limits against the longest payload that the specification's types allow.

use adit_transport::Header;

use super::{header_of, spec::rows};
use crate::limits::{TLV_ROOM, UNKNOWN, after_setup, before_setup};
use crate::tlv::Tlv;
use crate::{MESSAGES, Protocol, Side};

/// The most bytes that a type takes on the wire (spec 3.1).
fn longest(kind: &str) -> usize {
    match kind {
        "BOOL" | "U8" => 1,
        "U16" => 2,
        "U32" | "F32" => 4,
        "U64" => 8,
        "U256" => 32,
        "STR0_255" | "B0_255" => 256,
        "B0_32" => 33,
        "B0_64K" => 2 + 65_535,
        "B0_16M" => 3 + 16_777_215,
        _ => match kind.trim_end_matches(']').split_once('[') {
            Some(("OPTION", element)) => 1 + longest(element),
            Some(("SEQ0_255", element)) => 1 + 255 * longest(element),
            Some(("SEQ0_64K", element)) => 2 + 65_535 * longest(element),
            _ => panic!("no type {kind}"),
        },
    }
}

#[test]
fn a_limit_is_the_longest_payload_unless_it_says_why_not() {
    for row in rows() {
        let longest: usize = row.fields.iter().map(|(_, kind)| longest(kind)).sum();
        let limit = row.info.payload_max;
        match row.info.name {
            "SubmitSharesStandard" | "SubmitSharesExtended" => {
                assert_eq!(limit, longest + Tlv::USER_IDENTITY_MAX_LEN);
            }
            // Lists of transactions end where a block is full, lists of extensions where nobody has more to ask for.
            "DeclareMiningJob" => assert_eq!(limit, 730_189),
            "ProvideMissingTransactions" => assert_eq!(limit, 33_338),
            "ProvideMissingTransactions.Success" => assert_eq!(limit, 4_050_004),
            "RequestTransactionData.Success" => assert_eq!(limit, 4_115_545),
            "RequestExtensions" | "RequestExtensions.Success" => assert_eq!(limit, 132),
            "RequestExtensions.Error" => assert_eq!(limit, 262),
            name => assert_eq!(limit, longest, "{name}"),
        }
    }
}

#[test]
fn a_mining_client_never_makes_a_server_hold_more_than_a_custom_job() {
    let mining = MESSAGES.iter().filter(|info| info.protocol == Protocol::Mining);
    let to_server = mining.filter(|info| info.direction.reaches(Side::Server));
    let largest = to_server.max_by_key(|info| info.payload_max).unwrap();
    assert_eq!((largest.name, largest.payload_max), ("SetCustomMiningJob", 74_274));
}

#[test]
fn the_first_frame_can_only_be_the_setup_or_its_answer() {
    for info in MESSAGES {
        let header = header_of(info, 1);
        let (server, client) = match info.name {
            "SetupConnection" => (1291, 0),
            "SetupConnection.Success" => (0, 6),
            "SetupConnection.Error" => (0, 260),
            _ => (0, 0),
        };
        assert_eq!(before_setup(Side::Server, &header), server, "{}", info.name);
        assert_eq!(before_setup(Side::Client, &header), client, "{}", info.name);
    }
}

#[test]
fn afterwards_a_frame_may_be_what_its_receiver_can_read() {
    for info in MESSAGES {
        for side in [Side::Server, Side::Client] {
            let expected = if info.direction.reaches(side) { info.payload_max + TLV_ROOM } else { 0 };
            assert_eq!(after_setup(info.protocol, side, &header_of(info, 1)), expected, "{}", info.name);
        }
    }
    // On a mining connection a declaration is as unknown as an extension that nobody negotiated.
    for (extension_type, msg_type) in [(0, 0x57), (0x4001, 0x10)] {
        let header = Header { extension_type, channel_msg: true, msg_type, length: 1 };
        assert_eq!(after_setup(Protocol::Mining, Side::Server, &header), UNKNOWN);
    }
}
