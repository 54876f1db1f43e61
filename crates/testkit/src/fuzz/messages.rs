//! Any frame, read as a message of every subprotocol.

use adit_messages::tlv::Tlvs;
use adit_messages::{Protocol, Side, decode_with_tlvs, limits};
use adit_transport::Frame;

const PROTOCOLS: [Protocol; 5] = [
    Protocol::Common,
    Protocol::Mining,
    Protocol::JobDeclaration,
    Protocol::TemplateDistribution,
    Protocol::ExtensionsNegotiation,
];

/// Reads the bytes as one frame; what is a message must survive being written, and all of it must be accounted for.
pub fn run(bytes: &[u8]) {
    let Some((frame, _)) = Frame::split_from(bytes) else { return };
    for protocol in PROTOCOLS {
        check(protocol, frame);
    }
}

fn check(protocol: Protocol, frame: Frame<'_>) {
    for side in [Side::Server, Side::Client] {
        let limit = limits::before_setup(side, &frame.header);
        assert!(limit == 0 || limit <= limits::after_setup(protocol, side, &frame.header));
    }
    let Ok((message, rest)) = decode_with_tlvs(protocol, frame) else { return };
    let mut payload = Vec::new();
    message.write_payload(&mut payload);
    assert_eq!(payload.len() + rest.len(), frame.payload.len(), "bytes got lost or were made up");

    let info = message.info();
    let again = Frame::new(info.extension_type, info.channel_msg, info.msg_type, &payload);
    let again = again.expect("it came from a frame");
    let (read, behind) = decode_with_tlvs(protocol, again).expect("what we write is a message");
    assert!(behind.is_empty());
    let mut rewritten = Vec::new();
    read.write_payload(&mut rewritten);
    assert_eq!(rewritten, payload, "{} changes when it is written twice", info.name);

    if let Ok(fields) = Tlvs::parse(rest) {
        let mut written = Vec::new();
        fields.for_each(|field| field.write(&mut written));
        assert_eq!(written.len(), rest.len(), "a TLV field got lost");
        let _ = fields.user_identity();
    }
}
