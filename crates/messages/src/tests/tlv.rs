//! TLV fields: both byte orders, the stored examples, and the published list as oracle.

use adit_transport::FrameQueue;
use parsers_sv2::TlvList;
use proptest::prelude::*;

use super::{lines, samples::samples, unhex};
use crate::tlv::{Tlv, TlvError, Tlvs};
use crate::{Protocol, decode_with_tlvs, encode_with_tlvs};

const VECTORS: &str = include_str!("../../../../test-vectors/messages/tlv.tsv");

#[test]
fn stored_examples_read_as_their_sources_say() {
    let mut little_endian = 0;
    for line in lines(VECTORS) {
        let [source, order, bytes, extension, field, value] = line[..] else {
            panic!("six columns, not {line:?}");
        };
        let bytes = unhex(bytes);
        let fields: Vec<_> = Tlvs::parse(&bytes).unwrap().collect();
        let [read] = fields[..] else { panic!("{source}: one field, not {fields:?}") };
        let extension = u16::from_be_bytes(unhex(extension).try_into().unwrap());
        assert_eq!(read, Tlv::new(extension, unhex(field)[0], value.as_bytes()).unwrap(), "{source}");
        if order == "little" {
            let mut written = Vec::new();
            read.write(&mut written);
            assert_eq!(written, bytes, "{source}");
            little_endian += 1;
        }
    }
    assert!(little_endian > 0);
}

#[test]
fn a_share_carries_the_name_of_its_worker() {
    let share = samples().into_iter().find(|sample| sample.info().msg_type == 0x1b).unwrap();
    let mut queue = FrameQueue::default();
    let name = Tlv::user_identity("Worker_001").unwrap();
    encode_with_tlvs(share, &[name], &mut queue).unwrap();
    let (_, rest) = decode_with_tlvs(Protocol::Mining, queue.iter().next().unwrap()).unwrap();
    assert_eq!(Tlvs::parse(rest).unwrap().user_identity(), Ok(Some("Worker_001")));
}

#[test]
fn names_have_limits() {
    let longest = "x".repeat(32);
    assert_eq!(Tlv::user_identity(&longest).map(|field| field.value().len()), Ok(32));
    let too_long = "x".repeat(33);
    assert_eq!(Tlv::user_identity(&too_long), Err(TlvError::UserIdentityTooLong(33)));

    let read = |value: &[u8]| {
        let mut bytes = Vec::new();
        Tlv::new(0x0002, 0x01, value).unwrap().write(&mut bytes);
        Tlvs::parse(&bytes).unwrap().user_identity().map(|name| name.map(str::to_owned))
    };
    assert_eq!(read(too_long.as_bytes()), Err(TlvError::UserIdentityTooLong(33)));
    assert_eq!(read(b"\xff"), Err(TlvError::UserIdentityNotUtf8));
    assert_eq!(read(b""), Ok(Some(String::new())));
    assert_eq!(Tlv::new(2, 1, &[0; 65_536]), Err(TlvError::ValueTooLong(65_536)));
}

#[test]
fn other_fields_are_passed_over() {
    let mut bytes = Vec::new();
    Tlv::new(0x0001, 0x01, b"other extension").unwrap().write(&mut bytes);
    Tlv::new(0x0002, 0x02, b"other field").unwrap().write(&mut bytes);
    assert_eq!(Tlvs::parse(&bytes).unwrap().user_identity(), Ok(None));
    Tlv::user_identity("name").unwrap().write(&mut bytes);
    assert_eq!(Tlvs::parse(&bytes).unwrap().user_identity(), Ok(Some("name")));
    assert_eq!(Tlvs::parse(&[]).unwrap().user_identity(), Ok(None));
}

#[test]
fn what_parses_in_both_orders_is_little_endian() {
    // As big-endian this would be an empty field of extension 0x0002.
    let fields: Vec<_> = Tlvs::parse(&[0x00, 0x02, 0x01, 0x00, 0x00]).unwrap().collect();
    assert_eq!(fields, [Tlv::new(0x0200, 0x01, b"").unwrap()]);
}

#[test]
fn what_is_not_whole_is_refused() {
    let mut bytes = Vec::new();
    Tlv::user_identity("Worker_001").unwrap().write(&mut bytes);
    for cut in 1..bytes.len() {
        assert_eq!(Tlvs::parse(&bytes[..cut]), Err(TlvError::Malformed), "cut at {cut}");
    }
    bytes.push(0);
    assert_eq!(Tlvs::parse(&bytes), Err(TlvError::Malformed));
}

proptest! {
    #[test]
    fn fields_survive_their_bytes_and_the_published_reader(
        fields in prop::collection::vec((any::<u16>(), any::<u8>(), prop::collection::vec(any::<u8>(), 0..40)), 0..5),
    ) {
        let mut bytes = Vec::new();
        for (extension, field, value) in &fields {
            Tlv::new(*extension, *field, value).unwrap().write(&mut bytes);
        }
        let ours = Tlvs::parse(&bytes).unwrap();
        let ours: Vec<_> = ours.map(|tlv| (tlv.extension_type(), tlv.field_type(), tlv.value().to_vec())).collect();
        prop_assert_eq!(&ours, &fields);
        let theirs = TlvList::from_bytes(&bytes).to_vec();
        let theirs: Vec<_> =
            theirs.into_iter().map(|tlv| (tlv.r#type.extension_type, tlv.r#type.field_type, tlv.value)).collect();
        prop_assert_eq!(&ours, &theirs);
    }

    #[test]
    fn any_bytes_are_whole_fields_or_malformed(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
        if let Ok(fields) = Tlvs::parse(&bytes) {
            let length: usize = fields.map(|field| Tlv::HEADER_LEN + field.value().len()).sum();
            prop_assert_eq!(length, bytes.len());
        }
    }
}
