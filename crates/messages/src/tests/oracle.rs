//! Our codec against that of the published crates, message by message and on random bytes.

use parsers_sv2::{
    AnyMessage, CommonMessages, Extensions, IsSv2Message, JobDeclaration, Mining, TemplateDistribution,
};
use proptest::prelude::*;

use super::{frame, frame_bytes, frame_of, samples::samples};
use crate::{MESSAGES, Message, MessageInfo, Protocol, decode};

/// Reads a payload with the published parsers.
fn published<'a>(info: &MessageInfo, payload: &'a mut [u8]) -> Option<AnyMessage<'a>> {
    let number = info.msg_type;
    match info.protocol {
        Protocol::Common => CommonMessages::try_from((number, payload)).map(AnyMessage::Common).ok(),
        Protocol::Mining => Mining::try_from((number, payload)).map(AnyMessage::Mining).ok(),
        Protocol::JobDeclaration => {
            JobDeclaration::try_from((number, payload)).map(AnyMessage::JobDeclaration).ok()
        }
        Protocol::TemplateDistribution => {
            TemplateDistribution::try_from((number, payload)).map(AnyMessage::TemplateDistribution).ok()
        }
        Protocol::ExtensionsNegotiation => {
            Extensions::try_from((info.extension_type, number, payload)).map(AnyMessage::Extensions).ok()
        }
    }
}

/// The struct inside, as it prints: `SetTarget(SetTarget { .. })` becomes `SetTarget { .. }`.
fn inner(message: &Message<'_>) -> String {
    let printed = format!("{message:?}");
    let (_, inner) = printed.split_once('(').expect("every variant holds a struct");
    inner.strip_suffix(')').expect("every variant holds a struct").to_owned()
}

#[test]
fn both_write_and_read_the_same() {
    for sample in samples() {
        let info = sample.info();
        let bytes = frame_bytes(&sample);
        let mut payload = frame(&bytes).payload.to_vec();
        let theirs = published(info, &mut payload).expect("the published parser reads what we write");
        assert!(format!("{theirs:?}").contains(&inner(&sample)), "{theirs:?} is not {sample:?}");
        assert_eq!(theirs.message_type(), info.msg_type);
        assert_eq!(theirs.channel_bit(), info.channel_msg, "{}", info.name);
        assert_eq!(theirs.extension_type() & 0x7fff, info.extension_type, "{}", info.name);

        let written = binary_sv2::to_bytes(theirs).unwrap();
        assert_eq!(written, frame(&bytes).payload, "{}", info.name);
        let ours = decode(info.protocol, frame_of(info, &written)).unwrap();
        assert_eq!(inner(&ours), inner(&sample));
    }
}

/// Checks that both accept the payload and read the same, or that both refuse it.
fn check_same(info: &MessageInfo, payload: &[u8]) {
    let ours = decode(info.protocol, frame_of(info, payload));
    let mut copy = payload.to_vec();
    match (ours, published(info, &mut copy)) {
        (Ok(ours), Some(theirs)) => {
            let (ours, theirs) = (inner(&ours), format!("{theirs:?}"));
            assert!(theirs.contains(&ours), "{theirs} is not {ours}");
        }
        (Err(_), None) => {}
        (ours, theirs) => panic!("{}: {ours:?} but {theirs:?}", info.name),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(30_000))]

    #[test]
    fn both_agree_on_random_bytes(
        row in 0..MESSAGES.len(),
        payload in prop::collection::vec(any::<u8>(), 0..400),
    ) {
        check_same(&MESSAGES[row], &payload);
    }

    #[test]
    fn both_agree_on_spoiled_messages(
        sample in prop::sample::select(samples()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        cut in any::<prop::sample::Index>(),
    ) {
        let bytes = frame_bytes(&sample);
        let mut payload = frame(&bytes).payload.to_vec();
        for (at, byte) in changes {
            *at.get_mut::<u8>(&mut payload) = byte;
        }
        check_same(sample.info(), &payload);
        payload.truncate(cut.index(payload.len()));
        check_same(sample.info(), &payload);
    }
}
