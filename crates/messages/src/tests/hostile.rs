//! Bytes that nobody meant: no panic, no memory for what is not there, an error that names the field.

use adit_transport::{Frame, FrameQueue, Header};
use allocation_counter::measure;
use proptest::prelude::*;

use super::{frame, frame_bytes, frame_of, samples::samples};
use crate::types::{B016M, Seq064K};
use crate::{DecodeError, MESSAGES, Message, Protocol, decode, decode_with_tlvs, encode, job_declaration};

const PROTOCOLS: [Protocol; 5] = [
    Protocol::Common,
    Protocol::Mining,
    Protocol::JobDeclaration,
    Protocol::TemplateDistribution,
    Protocol::ExtensionsNegotiation,
];

#[test]
fn a_message_cut_anywhere_is_truncated() {
    for sample in samples() {
        let (info, bytes) = (sample.info(), frame_bytes(&sample));
        let payload = frame(&bytes).payload;
        for cut in 0..payload.len() {
            let error = decode(info.protocol, frame_of(info, &payload[..cut])).unwrap_err();
            assert!(
                matches!(error, DecodeError::Truncated { message, .. } if message == info.name),
                "{} cut at {cut}: {error}",
                info.name
            );
        }
    }
}

#[test]
fn errors_name_message_and_field() {
    let decode = |number: u8, payload: &[u8]| {
        let info = MESSAGES.iter().find(|info| info.msg_type == number).unwrap();
        decode(info.protocol, frame_of(info, payload)).unwrap_err()
    };
    let long = [&[0, 0, 0, 0, 33][..], &[0; 33]].concat();
    let message = "SetExtranoncePrefix";
    let field = "extranonce_prefix";
    assert_eq!(decode(0x19, &long), DecodeError::FieldTooLong { message, field, length: 33 });
    let two_times = [0, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0];
    let expected = DecodeError::InvalidOption { message: "NewMiningJob", field: "min_ntime", count: 2 };
    assert_eq!(decode(0x15, &two_times), expected);
    assert_eq!(expected.to_string(), "min_ntime of NewMiningJob is an option that claims 2 values");
    assert_eq!(decode(0x00, &[3, 2, 0]), DecodeError::UnknownProtocol(3));
}

#[test]
fn what_does_not_exist_is_unknown() {
    for (extension_type, msg_type) in [(0, 0x05), (0, 0x1e), (0, 0xff), (1, 0x03), (2, 0x00), (0x4001, 0x10)]
    {
        let frame = Frame::new(extension_type, false, msg_type, b"payload").unwrap();
        for protocol in PROTOCOLS {
            let unknown = DecodeError::UnknownMessage { protocol, extension_type, msg_type };
            assert_eq!(decode(protocol, frame).unwrap_err(), unknown);
        }
    }
}

#[test]
fn only_the_lowest_bit_of_a_bool_counts() {
    let sample = samples().into_iter().find(|sample| sample.info().msg_type == 0x71).unwrap();
    let bytes = frame_bytes(&sample);
    for (byte, expected) in [(0, false), (1, true), (2, false), (0xfe, false), (0xff, true)] {
        let mut payload = frame(&bytes).payload.to_vec();
        payload[8] = byte;
        let Message::NewTemplate(template) =
            decode(Protocol::TemplateDistribution, frame_of(sample.info(), &payload)).unwrap()
        else {
            panic!("0x71 is NewTemplate");
        };
        assert_eq!(template.future_template, expected, "{byte:#x}");
    }
}

#[test]
fn a_claimed_length_takes_no_memory() {
    for sample in samples() {
        let (info, bytes) = (sample.info(), frame_bytes(&sample));
        let payload = frame(&bytes).payload;
        // Wherever a count or a length stands, make it as large as it can be.
        for at in 0..payload.len() {
            let mut payload = payload.to_vec();
            payload[at..(at + 3).min(bytes.len() - Header::LEN)].fill(0xff);
            let taken = measure(|| {
                let _ = decode(info.protocol, frame_of(info, &payload));
            });
            assert!(taken.bytes_max <= 6 * payload.len() as u64, "{} takes {taken:?} at {at}", info.name);
        }
    }
}

#[test]
fn memory_is_bounded_by_what_the_payload_holds() {
    let empty = B016M::new(&[]).unwrap();
    let list = Seq064K::new(vec![empty; usize::from(u16::MAX)]).unwrap();
    let message =
        job_declaration::ProvideMissingTransactionsSuccess { request_id: 1, transaction_list: list };
    let mut queue = FrameQueue::default();
    encode(message, &mut queue).unwrap();
    let frame = queue.iter().next().unwrap();
    let taken = measure(|| {
        decode(Protocol::JobDeclaration, frame).expect("empty transactions are a message");
    });
    assert_eq!(taken.count_max, 1);
    // The worst there is: sixteen bytes of slice for three bytes of payload.
    assert_eq!(taken.bytes_max, 16 * u64::from(u16::MAX));
    assert!(taken.bytes_max < 6 * frame.payload.len() as u64);
}

#[test]
fn what_no_frame_can_carry_is_refused() {
    let megabyte = vec![0; 1 << 20];
    let list = Seq064K::new(vec![B016M::new(&megabyte).unwrap(); 16]).unwrap();
    let message =
        job_declaration::ProvideMissingTransactionsSuccess { request_id: 1, transaction_list: list };
    let mut queue = FrameQueue::default();
    let error = encode(message, &mut queue).unwrap_err();
    assert_eq!(error.length, 4 + 2 + 16 * (3 + (1 << 20)));
    assert!(queue.is_empty());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    /// What is read and written again reads the same, so nothing that was meant gets lost.
    #[test]
    fn any_bytes_are_a_message_or_an_error(
        extension_type in prop_oneof![Just(0_u16), Just(1), 0_u16..0x8000],
        msg_type in prop_oneof![0_u8..0x80, any::<u8>()],
        payload in prop::collection::vec(any::<u8>(), 0..600),
    ) {
        let frame = Frame::new(extension_type, false, msg_type, &payload).unwrap();
        for protocol in PROTOCOLS {
            let Ok((message, rest)) = decode_with_tlvs(protocol, frame) else { continue };
            let mut written = Vec::new();
            message.write_payload(&mut written);
            prop_assert_eq!(written.len() + rest.len(), payload.len());
            let (again, rest) = decode_with_tlvs(protocol, frame_of(message.info(), &written)).unwrap();
            prop_assert!(rest.is_empty());
            prop_assert_eq!(format!("{again:?}"), format!("{message:?}"));
        }
    }
}
