//! The Noise NX handshake, each side named by its part: the client initiates, the server responds (spec 4.5).

use core::fmt;
use std::sync::Arc;

use adit_units::UnixTime;
use noise_protocol::ErrorKind;
use rand_core::CryptoRng;

use crate::certificate::{Certificate, CertificateError};
use crate::curve::{self, ENCODING_LEN};
use crate::identity::Identity;
use crate::key::{AuthorityPublicKey, StaticPublicKey};
use crate::noise::{EncodedKey, Engine, engine, split};
use crate::secret::Secret;
use crate::transport::Transport;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;

/// Length of act 1, what the initiator says: its ephemeral key (spec 4.5.1).
pub const ACT1_LEN: usize = ENCODING_LEN;

/// Length of act 2, the answer: an ephemeral key, a sealed static key and a sealed certificate (spec 4.5.2).
///
/// The specification's text says 170 bytes; the parts it lists, and all software, make 234.
pub const ACT2_LEN: usize = ENCODING_LEN + (ENCODING_LEN + 16) + (Certificate::LEN + 16);

/// Why a handshake did not succeed; the connection must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The peer's act does not authenticate.
    #[error(
        "the server's answer does not decrypt: it speaks another protocol, or bytes were altered on the way"
    )]
    Undecipherable,
    /// The keys do not agree with each other; a sound key always does.
    #[error("the handshake's own keys are not valid; the random number generator is broken")]
    NoAgreement,
    /// The server is somebody else, or not any more who it was.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
}

impl From<noise_protocol::Error> for HandshakeError {
    fn from(error: noise_protocol::Error) -> Self {
        match error.kind() {
            ErrorKind::Decryption | ErrorKind::TooShort => Self::Undecipherable,
            ErrorKind::DH | ErrorKind::NeedPSK => Self::NoAgreement,
        }
    }
}

/// A key for one handshake, drawn but not yet encoded: that costs time, which a peer must first earn.
struct Ephemeral {
    secret: Secret<32>,
    entropy: Secret<32>,
}

impl Ephemeral {
    fn draw(rng: &mut impl CryptoRng) -> Self {
        let secret = curve::random_secret(rng);
        let mut entropy = Secret::zero();
        rng.fill_bytes(entropy.expose_mut());
        Self { secret, entropy }
    }

    fn encode(&self) -> EncodedKey {
        let key = EncodedKey::encode(&self.secret, Some(*self.entropy.expose()));
        key.expect("a drawn secret is a key")
    }
}

/// The client's side: says act 1, expects act 2.
pub struct Initiator {
    engine: Engine<true>,
    act1: [u8; ACT1_LEN],
    authority: Option<AuthorityPublicKey>,
}

impl Initiator {
    /// Starts a handshake with a server that the authority must have certified.
    ///
    /// Without an authority **anybody** is taken for the server, which is for a loopback connection or a test and nothing else.
    ///
    /// # Panics
    ///
    /// If the generator is broken: it gives eight times in a row what is no key.
    pub fn new(authority: Option<AuthorityPublicKey>, rng: &mut impl CryptoRng) -> Self {
        Self::with_key(authority, Ephemeral::draw(rng).encode())
    }

    /// A handshake whose randomness has been drawn.
    fn with_key(authority: Option<AuthorityPublicKey>, ephemeral: EncodedKey) -> Self {
        let mut engine = engine(None, ephemeral);
        let mut act1 = [0; ACT1_LEN];
        engine.write_message(&[], &mut act1).expect("the first act of NX only shows a key");
        Self { engine, act1, authority }
    }

    /// What to send to the server.
    #[must_use]
    pub fn act1(&self) -> [u8; ACT1_LEN] {
        self.act1
    }

    /// Takes the server's answer and checks its certificate at the time `now`.
    ///
    /// # Errors
    ///
    /// If the answer does not decrypt or the server is not to be trusted; the connection must be closed.
    pub fn finish(mut self, act2: &[u8; ACT2_LEN], now: UnixTime) -> Result<Transport, HandshakeError> {
        let mut certificate = [0; Certificate::LEN];
        self.engine.read_message(act2, &mut certificate)?;
        let certificate = Certificate::from_bytes(&certificate);
        let server = self.engine.get_rs().ok_or(HandshakeError::Undecipherable)?;
        match &self.authority {
            Some(authority) => {
                certificate.verify(&StaticPublicKey::from_encoding(&server), authority, now)?
            }
            None => certificate.verify_version()?,
        }
        let (from_initiator, from_responder) = split(&self.engine);
        Ok(Transport::new(&from_responder, &from_initiator))
    }
}

/// Tells whom it trusts.
impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Initiator").field("authority", &self.authority).finish_non_exhaustive()
    }
}

/// The server's side: expects act 1, answers with act 2.
pub struct Responder {
    identity: Arc<Identity>,
    ephemeral: Ephemeral,
}

impl Responder {
    /// Draws the randomness for one handshake; this costs next to nothing until a client has spoken.
    ///
    /// # Panics
    ///
    /// If the generator is broken: it gives eight times in a row what is no key.
    pub fn new(identity: Arc<Identity>, rng: &mut impl CryptoRng) -> Self {
        Self { identity, ephemeral: Ephemeral::draw(rng) }
    }

    /// Answers a client: act 2 to send, and the keys for all that follows.
    ///
    /// Every 64 bytes are a valid act 1, so this tells nothing of the client; it costs three operations on the curve.
    ///
    /// # Errors
    ///
    /// If the keys do not agree, which sound keys always do.
    pub fn accept(self, act1: &[u8; ACT1_LEN]) -> Result<([u8; ACT2_LEN], Transport), HandshakeError> {
        Self::answer(&self.identity, self.ephemeral.encode(), act1)
    }

    /// A handshake whose randomness has been drawn.
    fn answer(
        identity: &Identity,
        ephemeral: EncodedKey,
        act1: &[u8; ACT1_LEN],
    ) -> Result<([u8; ACT2_LEN], Transport), HandshakeError> {
        let mut engine: Engine<false> = engine(Some(identity.static_key().encoded().clone()), ephemeral);
        engine.read_message(act1, &mut [])?;
        let mut act2 = [0; ACT2_LEN];
        engine.write_message(&identity.certificate().to_bytes(), &mut act2)?;
        let (from_initiator, from_responder) = split(&engine);
        Ok((act2, Transport::new(&from_initiator, &from_responder)))
    }
}

/// Tells whom it speaks for.
impl fmt::Debug for Responder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Responder").field("identity", &self.identity).finish_non_exhaustive()
    }
}
