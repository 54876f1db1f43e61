//! Makes the files of `test-vectors/noise` and `test-vectors/frames` again with the oracles and compares them.
//!
//! With `UPDATE_VECTORS=1` in the environment the files are written instead.

use std::fs;
use std::path::{Path, PathBuf};

use adit_transport::{Certificate, Header};
use bitcoin::hashes::{Hash, sha256};
use bitcoin::hex::DisplayHex;
use bitcoin::secp256k1::ellswift::ElligatorSwift;
use bitcoin::secp256k1::{Parity, PublicKey, Secp256k1, SecretKey};
use framing_sv2::framing::{EncodableFrame, MessageFrame};
use serde_json::{Value, json};

use crate::sri_peer::{self, Authority, OldRng, SriClient};
use crate::{NOW, OwnedFrame, Peer};

/// For how long the certificate of the stored handshake holds, in seconds.
const VALIDITY_SECS: u64 = 3600;

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../test-vectors").join(name)
}

fn assert_is_stored(name: &str, made: &Value) {
    let made = format!("{}\n", serde_json::to_string_pretty(made).unwrap());
    if std::env::var_os("UPDATE_VECTORS").is_some() {
        fs::write(file(name), &made).unwrap();
    }
    let stored = fs::read_to_string(file(name)).unwrap();
    assert!(
        stored == made,
        "{name} is not what the oracle makes; UPDATE_VECTORS=1 shows the difference in git"
    );
}

fn hex(bytes: &[u8]) -> Value {
    Value::String(bytes.to_lower_hex_string())
}

/// A key that nobody chose: the first SHA-256 of "adit test vector: LABEL N" whose public key has an even y coordinate.
///
/// The oracle turns keys over to even y; with such a key there is nothing to turn.
struct VectorKey {
    secret: [u8; 32],
    encoding: [u8; 64],
    x: [u8; 32],
}

impl VectorKey {
    fn new(label: &str) -> Self {
        let candidates =
            (0..).map(|n| sha256::Hash::hash(format!("adit test vector: {label} {n}").as_bytes()));
        let keys = candidates.map(|hash| SecretKey::from_slice(hash.as_byte_array()).unwrap());
        let (secret, public) = keys
            .map(|key| (key, PublicKey::from_secret_key(&Secp256k1::new(), &key)))
            .find(|(_, public)| public.x_only_public_key().1 == Parity::Even)
            .unwrap();
        Self {
            secret: secret.secret_bytes(),
            encoding: ElligatorSwift::from_pubkey(public).to_array(),
            x: public.x_only_public_key().0.serialize(),
        }
    }

    fn to_json(&self) -> Value {
        json!({ "secret": hex(&self.secret), "ellswift": hex(&self.encoding), "x_only": hex(&self.x) })
    }
}

/// The stored handshake: both sides are `noise_sv2` with the keys above.
struct Made {
    json: Value,
    client: sri_peer::SriPeer,
    server: sri_peer::SriPeer,
}

fn handshake() -> Made {
    let [initiator, responder, server_static, authority] =
        ["initiator ephemeral", "responder ephemeral", "responder static", "authority"].map(VectorKey::new);
    let client = SriClient::new(Some(authority.x), &mut OldRng::scripted(&[initiator.secret]));
    let act1 = client.act1;
    // It draws the ephemeral key, the static key and the signature's auxiliary randomness, in this order.
    let mut rng = OldRng::scripted(&[responder.secret, server_static.secret, [0; 32]]);
    let signing = Authority { public: authority.x, secret: authority.secret };
    let (act2, server) = sri_peer::respond(&signing, act1, NOW, VALIDITY_SECS, &mut rng);
    assert_eq!((act1, act2[..64].try_into().unwrap()), (initiator.encoding, responder.encoding));
    let json = json!({
        "protocol": "Noise_NX_Secp256k1+EllSwift_ChaChaPoly_SHA256",
        "made_with": "noise_sv2 2.0.0, both sides",
        "initiator_ephemeral": initiator.to_json(),
        "responder_ephemeral": responder.to_json(),
        "responder_static": server_static.to_json(),
        "authority": { "secret": hex(&authority.secret), "x_only": hex(&authority.x) },
        "certificate": {
            "version": Certificate::VERSION,
            "valid_from": NOW,
            "not_valid_after": u64::from(NOW) + VALIDITY_SECS,
        },
        "act1": hex(&act1),
        "act2": hex(&act2),
    });
    Made { json, client: client.finish(act2, NOW).unwrap(), server }
}

#[test]
fn the_handshake_is_what_noise_sv2_makes() {
    assert_is_stored("noise/handshake.json", &handshake().json);
}

#[test]
fn sealed_frames_are_what_codec_sv2_makes() {
    let Made { mut client, mut server, .. } = handshake();
    let mut directions = Vec::new();
    for (direction, peer) in
        [("initiator to responder", &mut client), ("responder to initiator", &mut server)]
    {
        let frames: Vec<_> = [0, 1, 33, 60, 65_518, 65_519, 65_520, 131_039]
            .into_iter()
            .map(|length| sealed_frame(peer, length))
            .collect();
        directions.push(json!({ "direction": direction, "frames": frames }));
    }
    let made = json!({
        "made_with": "codec_sv2 7.0.0 after the handshake of noise/handshake.json",
        "payload_rule": "byte i of a payload is i modulo 251",
        "directions": directions,
    });
    assert_is_stored("frames/sealed.json", &made);
}

/// Short frames in full; of long ones the hash and the length are enough to compare.
fn sealed_frame(peer: &mut sri_peer::SriPeer, length: usize) -> Value {
    let payload = (0..=250).cycle().take(length).collect();
    let frame = OwnedFrame::new(0, true, 0x1b, payload);
    let sealed = peer.seal(&frame);
    let mut json = json!({
        "header": hex(&frame.header.to_bytes()),
        "payload_length": length,
        "sealed_length": sealed.len(),
        "sealed_sha256": hex(sha256::Hash::hash(&sealed).as_byte_array()),
    });
    if length < 100 {
        json["sealed"] = hex(&sealed);
    }
    json
}

#[test]
fn frames_in_the_clear_are_what_framing_sv2_makes() {
    let mut frames = Vec::new();
    for (extension_type, channel_msg, msg_type, payload) in [
        (0_u16, false, 0x00_u8, vec![]),
        (0, false, 0x01, vec![2, 0, 0, 0, 0, 0]),
        (0, true, 0x1b, (0..33).collect()),
        (1, false, 0x00, vec![1]),
        (0x4000, true, 0xff, vec![9; 300]),
        (0x7fff, true, 0x80, vec![1, 2, 3, 4]),
    ] {
        let message = Raw(payload.clone());
        let frame = MessageFrame::from_message(message, msg_type, extension_type, channel_msg).unwrap();
        let mut bytes = vec![0; frame.encoded_length()];
        frame.encode_into(&mut bytes).unwrap();
        assert_eq!(bytes.len(), Header::LEN + payload.len());
        frames.push(json!({
            "extension_type": extension_type,
            "channel_msg": channel_msg,
            "msg_type": msg_type,
            "payload": hex(&payload),
            "frame": hex(&bytes),
        }));
    }
    assert_is_stored("frames/plain.json", &json!({ "made_with": "framing_sv2 8.0.0", "frames": frames }));
}

/// A message that is its bytes.
struct Raw(Vec<u8>);

impl binary_sv2::GetSize for Raw {
    fn get_size(&self) -> usize {
        self.0.len()
    }
}

impl binary_sv2::Encodable for Raw {
    fn to_bytes(self, dst: &mut [u8]) -> Result<usize, binary_sv2::Error> {
        dst[..self.0.len()].copy_from_slice(&self.0);
        Ok(self.0.len())
    }
}
