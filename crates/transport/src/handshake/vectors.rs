//! Replays `test-vectors/noise` and `test-vectors/frames`, which other software made: the same bytes must come out.

use bitcoin::hex::{DisplayHex, FromHex};
use serde_json::Value;

use super::*;
use crate::frame::{Frame, FrameQueue, Header};
use crate::key::{AuthorityKeyPair, StaticKeyPair};
use crate::recv_buffer::RecvBuffer;

const KEYS: &str = include_str!("../../../../test-vectors/noise/authority_keys.json");
const HANDSHAKE: &str = include_str!("../../../../test-vectors/noise/handshake.json");
const PLAIN: &str = include_str!("../../../../test-vectors/frames/plain.json");
const SEALED: &str = include_str!("../../../../test-vectors/frames/sealed.json");

fn read(json: &str) -> Value {
    serde_json::from_str(json).unwrap()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn number<T: TryFrom<u64>>(value: &Value) -> T {
    T::try_from(value.as_u64().unwrap()).ok().unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    FromHex::from_hex(text(value)).unwrap()
}

fn bytes<const N: usize>(value: &Value) -> [u8; N] {
    hex(value).try_into().unwrap()
}

fn secret_text(value: &Value) -> String {
    base58ck::encode_check(&bytes::<32>(value))
}

fn key(value: &Value) -> EncodedKey {
    EncodedKey::from_parts(&Secret::new(bytes(&value["secret"])), &bytes(&value["ellswift"]))
}

/// Both sides of the stored handshake, as we make them from the stored keys.
fn handshake() -> (Transport, Transport) {
    let stored = read(HANDSHAKE);
    let authority = AuthorityKeyPair::from_secret_text(&secret_text(&stored["authority"]["secret"])).unwrap();
    assert_eq!(authority.public_key().to_bytes(), bytes(&stored["authority"]["x_only"]));

    let static_key = StaticKeyPair::from_encoded(key(&stored["responder_static"])).unwrap();
    assert_eq!(static_key.public_key().to_bytes(), bytes(&stored["responder_static"]["x_only"]));
    let times = ["valid_from", "not_valid_after"].map(|name| number(&stored["certificate"][name]));
    let [from, until] = times.map(UnixTime::from_secs);
    let identity = Identity::new(&authority, static_key, from, until).unwrap();

    let initiator = Initiator::with_key(Some(authority.public_key()), key(&stored["initiator_ephemeral"]));
    assert_eq!(initiator.act1(), bytes(&stored["act1"]));
    let ephemeral = key(&stored["responder_ephemeral"]);
    let (act2, server) = Responder::answer(&identity, ephemeral, &initiator.act1()).unwrap();
    assert_eq!(act2, bytes(&stored["act2"]));
    (initiator.finish(&act2, from).unwrap(), server)
}

#[test]
fn authority_keys_are_written_as_their_sources_write_them() {
    for key in read(KEYS)["public_keys"].as_array().unwrap() {
        let public = AuthorityPublicKey::from_bytes(bytes(&key["x_only"])).unwrap();
        assert_eq!(public.to_string(), text(&key["base58check"]));
        assert_eq!(text(&key["base58check"]).parse(), Ok(public));
    }
    for pair in read(KEYS)["pairs"].as_array().unwrap() {
        let authority = AuthorityKeyPair::from_secret_text(text(&pair["secret"])).unwrap();
        assert_eq!(authority.public_key().to_string(), text(&pair["public"]));
    }
}

#[test]
fn the_stored_handshake_comes_out_byte_for_byte() {
    handshake();
}

#[test]
fn an_encoding_of_the_stored_keys_may_differ_and_still_stands_for_them() {
    let stored = read(HANDSHAKE);
    for name in ["initiator_ephemeral", "responder_ephemeral", "responder_static"] {
        let encoding = key(&stored[name]).encoding();
        assert_eq!(curve::decode(&encoding).serialize(), bytes(&stored[name]["x_only"]));
    }
}

#[test]
fn the_stored_frames_are_sealed_and_opened_byte_for_byte() {
    let (client, server) = handshake();
    let stored = read(SEALED);
    let [to_server, to_client] = stored["directions"].as_array().unwrap().as_slice() else {
        panic!("there are two directions");
    };
    assert_frames(to_server, client.sealer, server.opener);
    assert_frames(to_client, server.sealer, client.opener);
}

fn assert_frames(stored: &Value, mut sealer: crate::Sealer, mut opener: crate::Opener) {
    let mut buffer = RecvBuffer::default();
    for stored in stored["frames"].as_array().unwrap() {
        let payload: Vec<u8> = (0..=250).cycle().take(number(&stored["payload_length"])).collect();
        let header = Header::from_bytes(bytes(&stored["header"]));
        let mut sealed = Vec::new();
        sealer.seal(Frame { header, payload: &payload }, &mut sealed).unwrap();
        assert_eq!(sealed.len(), number::<usize>(&stored["sealed_length"]));
        let hash = ring::digest::digest(&ring::digest::SHA256, &sealed);
        assert_eq!(hash.as_ref(), hex(&stored["sealed_sha256"]));
        if let Some(full) = stored.get("sealed") {
            assert_eq!(sealed.to_lower_hex_string(), text(full));
        }
        buffer.spare(sealed.len())[..sealed.len()].copy_from_slice(&sealed);
        buffer.advance(sealed.len());
        let opened = opener.open(&mut buffer, |_| payload.len()).unwrap().unwrap();
        assert!(opened == Frame { header, payload: &payload });
    }
}

#[test]
fn the_stored_frames_in_the_clear_are_written_and_read_byte_for_byte() {
    let mut queue = FrameQueue::default();
    let mut expected = Vec::new();
    for stored in read(PLAIN)["frames"].as_array().unwrap() {
        let (extension_type, msg_type) = (number(&stored["extension_type"]), number(&stored["msg_type"]));
        let channel_msg = stored["channel_msg"].as_bool().unwrap();
        let payload = hex(&stored["payload"]);
        queue.push(extension_type, channel_msg, msg_type, &payload).unwrap();
        let bytes = hex(&stored["frame"]);
        let (frame, rest) = Frame::split_from(&bytes).unwrap();
        assert_eq!(frame, Frame::new(extension_type, channel_msg, msg_type, &payload).unwrap());
        assert!(rest.is_empty());
        expected.extend(bytes);
    }
    assert_eq!(queue.as_bytes(), expected);
}
