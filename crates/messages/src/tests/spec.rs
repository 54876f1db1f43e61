//! The table and the order of fields against the specification's own tables, and every stored frame.

use std::collections::BTreeSet;

use super::{frame, frame_bytes, frame_of, lines, samples::samples, unhex};
use crate::{DecodeError, Direction, MESSAGES, MessageInfo, Protocol, decode_with_tlvs};

const SPEC: &str = include_str!("../../../../test-vectors/messages/spec.tsv");
const FRAMES: &str = include_str!("../../../../test-vectors/messages/frames.tsv");

/// One message as the specification describes it.
pub(super) struct Row {
    pub(super) info: &'static MessageInfo,
    /// Names and types.
    pub(super) fields: Vec<(&'static str, &'static str)>,
}

/// Every line of `spec.tsv` with the row of the same number.
pub(super) fn rows() -> Vec<Row> {
    let rows = lines(SPEC).map(|line| {
        let [_section, protocol, extension, number, channel_msg, direction, name, fields] = line[..] else {
            panic!("eight columns, not {line:?}");
        };
        let (extension_type, msg_type) = (unhex(&extension[2..]), unhex(&number[2..])[0]);
        let extension_type = u16::from_be_bytes(extension_type.try_into().unwrap());
        let found =
            MESSAGES.iter().find(|info| (info.extension_type, info.msg_type) == (extension_type, msg_type));
        let info = found.unwrap_or_else(|| panic!("{name} is missing"));
        assert_eq!(info.name, name);
        assert_eq!(format!("{:?}", info.protocol), protocol, "{name}");
        assert_eq!(u8::from(info.channel_msg).to_string(), channel_msg, "{name}");
        assert_eq!(format!("{:?}", info.direction), direction, "{name}");
        let fields = fields.split(' ').map(|field| field.split_once(':').unwrap()).collect();
        Row { info, fields }
    });
    rows.collect()
}

/// Some value of a type, as the wire carries it; `fill` makes values differ.
fn value(kind: &str, fill: u8) -> Vec<u8> {
    let bytes = |length: usize| vec![fill; length];
    let behind = |prefix: &[u8], length: usize| [prefix, &bytes(length)].concat();
    match kind {
        // A protocol number and a BOOL are the only ones where not every value stands for itself.
        "U8" | "BOOL" => vec![1],
        "U16" => bytes(2),
        "U32" | "F32" => bytes(4),
        "U64" => bytes(8),
        "U256" => bytes(32),
        "STR0_255" | "B0_255" => behind(&[200], 200),
        "B0_32" => behind(&[32], 32),
        "B0_64K" => behind(&[0x2c, 0x01], 300),
        "OPTION[U32]" => behind(&[1], 4),
        "SEQ0_255[U256]" => behind(&[3], 3 * 32),
        "SEQ0_64K[U16]" => behind(&[0x01, 0x01], 0x101 * 2),
        "SEQ0_64K[U32]" => behind(&[0x01, 0x01], 0x101 * 4),
        "SEQ0_64K[U256]" => behind(&[0x01, 0x01], 0x101 * 32),
        "SEQ0_64K[B0_16M]" => {
            [&[2, 0][..], &behind(&[1, 0, 0], 1), &behind(&[0x01, 0x01, 0], 0x101)].concat()
        }
        other => panic!("no value of type {other}"),
    }
}

/// The name that the published structs give a field.
fn field_name(message: &str, field: &'static str) -> &'static str {
    match (message, field) {
        ("SetCustomMiningJob", "mining_job_token") => "token",
        ("SetCustomMiningJob", "coinbase_tx_input_nSequence") => "coinbase_tx_input_n_sequence",
        ("AllocateMiningJobToken.Success", "coinbase_tx_outputs") => "coinbase_outputs",
        ("SetNewPrevHash", "nBits") => "n_bits",
        (_, field) => field,
    }
}

#[test]
fn the_table_is_that_of_the_specification() {
    let rows = rows();
    assert_eq!(rows.len(), MESSAGES.len());
    let numbers: BTreeSet<_> = MESSAGES.iter().map(|info| (info.extension_type, info.msg_type)).collect();
    assert_eq!(numbers.len(), MESSAGES.len(), "a number stands twice in the table");
}

#[test]
fn fields_stand_in_the_order_and_with_the_types_of_the_specification() {
    for Row { info, fields } in rows() {
        let mut payload = Vec::new();
        let mut starts = Vec::new();
        for ((name, kind), fill) in fields.iter().zip(0x10..) {
            starts.push((payload.len(), field_name(info.name, name)));
            payload.extend(value(kind, fill));
        }
        let (message, rest) = decode_with_tlvs(info.protocol, frame_of(info, &payload)).unwrap();
        assert_eq!(rest, [0_u8; 0], "{} has more fields", info.name);
        assert_eq!(message.info(), info);
        let mut written = Vec::new();
        message.write_payload(&mut written);
        assert_eq!(written, payload, "{}", info.name);
        for (start, field) in starts {
            let cut = decode_with_tlvs(info.protocol, frame_of(info, &payload[..start])).unwrap_err();
            assert_eq!(cut, DecodeError::Truncated { message: info.name, field });
        }
    }
}

#[test]
fn stored_frames_are_what_we_write() {
    let stored: Vec<_> = lines(FRAMES).map(|line| (line[0], unhex(line[1]))).collect();
    let written: Vec<_> = samples().iter().map(|sample| (sample.info().name, frame_bytes(sample))).collect();
    assert_eq!(stored, written);
    let names: BTreeSet<_> = written.iter().map(|(name, bytes)| (*name, bytes[2])).collect();
    assert_eq!(names.len(), MESSAGES.len(), "a message has no sample");
}

#[test]
fn the_published_vector_is_what_we_write() {
    let published = "0000603500000401020304\
        05060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f2021222324\
        4433221188776655ccbbaa9900ffeedd";
    let ours = samples().iter().map(frame_bytes).find(|bytes| bytes[2] == 0x60);
    assert_eq!(ours, Some(unhex(published)));
}

#[test]
fn a_message_exists_only_on_its_protocol() {
    let protocols =
        [Protocol::Mining, Protocol::JobDeclaration, Protocol::TemplateDistribution, Protocol::Common];
    for sample in samples() {
        let bytes = frame_bytes(&sample);
        for protocol in protocols {
            let own = sample.info().protocol;
            let everywhere = matches!(own, Protocol::Common | Protocol::ExtensionsNegotiation);
            let decoded = decode_with_tlvs(protocol, frame(&bytes));
            assert_eq!(
                decoded.is_ok(),
                everywhere || own == protocol,
                "{} on {protocol:?}",
                sample.info().name
            );
        }
    }
}

#[test]
fn the_channel_bit_and_bytes_behind_do_not_matter() {
    for sample in samples() {
        let mut bytes = frame_bytes(&sample);
        let (info, length) = (sample.info(), bytes.len() - 6);
        bytes.extend(b"more");
        let mut frame = frame_of(info, &bytes[6..]);
        frame.header.channel_msg ^= true;
        let (message, rest) = decode_with_tlvs(info.protocol, frame).unwrap();
        assert_eq!(rest, b"more");
        let mut written = Vec::new();
        message.write_payload(&mut written);
        assert_eq!(written, bytes[6..6 + length]);
    }
}

#[test]
fn directions_say_who_receives() {
    use crate::Side::{Client, Server};
    for (direction, server, client) in [
        (Direction::ToServer, true, false),
        (Direction::ToClient, false, true),
        (Direction::Both, true, true),
    ] {
        assert_eq!((direction.reaches(Server), direction.reaches(Client)), (server, client));
    }
}
