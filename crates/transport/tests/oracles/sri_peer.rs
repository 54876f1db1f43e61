//! The Stratum Reference Implementation as a peer: handshake by `noise_sv2`, frames by `codec_sv2`.

use adit_transport::{ACT1_LEN, ACT2_LEN};
use codec_sv2::{
    Decrypted, Handshake, InitiatorSent, NoiseDecoder, NoiseEncoder, TransportDecryptState,
    TransportEncryptState,
};
use framing_sv2::framing::SerializedFrame;
use noise_sv2::{Initiator, Responder};
use rand_core_0_6::{CryptoRng, Error, RngCore};

use crate::{OwnedFrame, Peer, Refused};

/// A generator of the traits that this software speaks: first what it was told to say, then the operating system's randomness.
#[derive(Default)]
pub(crate) struct OldRng {
    script: Vec<[u8; 32]>,
}

impl OldRng {
    /// Says these numbers first.
    pub(crate) fn scripted(script: &[[u8; 32]]) -> Self {
        Self { script: script.iter().rev().copied().collect() }
    }
}

impl RngCore for OldRng {
    fn next_u32(&mut self) -> u32 {
        getrandom::u32().unwrap()
    }

    fn next_u64(&mut self) -> u64 {
        getrandom::u64().unwrap()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        match self.script.pop() {
            Some(scripted) => bytes.copy_from_slice(&scripted),
            None => getrandom::fill(bytes).unwrap(),
        }
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Error> {
        self.fill_bytes(bytes);
        Ok(())
    }
}

impl CryptoRng for OldRng {}

/// The client's part between the acts.
pub(crate) struct SriClient {
    pub(crate) act1: [u8; ACT1_LEN],
    sent: Handshake<InitiatorSent>,
}

impl SriClient {
    /// Starts a handshake; without an authority anybody is trusted.
    pub(crate) fn new(authority: Option<[u8; 32]>, rng: &mut OldRng) -> Self {
        let initiator = match authority {
            Some(key) => Initiator::from_raw_k_with_rng(key, rng).unwrap(),
            None => Initiator::without_pk_with_rng(rng).unwrap(),
        };
        let (act1, sent) = Handshake::initiator(initiator).step_0().unwrap();
        Self { act1: act1.payload().try_into().unwrap(), sent }
    }

    /// Takes the answer at the time `now`, in seconds since 1970.
    pub(crate) fn finish(self, act2: [u8; ACT2_LEN], now: u32) -> Result<SriPeer, Refused> {
        self.sent.step_2_with_now(act2, now).map(SriPeer::new).map_err(|_| Refused)
    }
}

/// An authority's key pair as this software takes it.
pub(crate) struct Authority {
    pub(crate) public: [u8; 32],
    pub(crate) secret: [u8; 32],
}

/// The server's part; the certificate holds from `now` for `validity_secs`.
pub(crate) fn respond(
    authority: &Authority,
    act1: [u8; ACT1_LEN],
    now: u32,
    validity_secs: u64,
    rng: &mut OldRng,
) -> ([u8; ACT2_LEN], SriPeer) {
    let validity = core::time::Duration::from_secs(validity_secs);
    let responder =
        Responder::from_authority_kp_with_rng(&authority.public, &authority.secret, validity, rng).unwrap();
    let (act2, transport) = Handshake::responder(responder).step_1_with_now_rng(act1, now, rng).unwrap();
    (act2.payload().try_into().unwrap(), SriPeer::new(transport))
}

/// Its end of a connection.
pub(crate) struct SriPeer {
    encoder: NoiseEncoder,
    decoder: NoiseDecoder,
    encrypt: TransportEncryptState,
    /// `None` after an error, with which this software gives up the state.
    decrypt: Option<TransportDecryptState>,
}

impl SriPeer {
    fn new(transport: codec_sv2::Transport) -> Self {
        let (encrypt, decrypt) = transport.split();
        Self { encoder: NoiseEncoder::new(), decoder: NoiseDecoder::new(), encrypt, decrypt: Some(decrypt) }
    }
}

impl Peer for SriPeer {
    fn seal(&mut self, frame: &OwnedFrame) -> Vec<u8> {
        let frame = SerializedFrame::from_bytes(frame.to_bytes()).unwrap();
        let sealed = self.encoder.encode_transport(frame, &mut self.encrypt).unwrap();
        let sealed: &[u8] = sealed.as_ref();
        sealed.to_vec()
    }

    fn open_all(&mut self, mut bytes: &[u8]) -> Result<Vec<OwnedFrame>, Refused> {
        let mut frames = Vec::new();
        while !bytes.is_empty() {
            let room = self.decoder.writable();
            let (piece, rest) = bytes.split_at(room.len());
            room.copy_from_slice(piece);
            bytes = rest;
            let state = self.decrypt.take().ok_or(Refused)?;
            self.decrypt = Some(match self.decoder.next_transport_frame(state).map_err(|_| Refused)? {
                Decrypted::Frame(frame, state) => {
                    frames.push(OwnedFrame::from_bytes(frame.as_bytes()));
                    state
                }
                Decrypted::Incomplete(_, state) => state,
            });
        }
        Ok(frames)
    }
}
