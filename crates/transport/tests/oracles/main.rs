//! Holds the transport against other software: `noise_sv2` with `codec_sv2`, and `snow`, in both parts and both directions.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod interop;
mod snow_peer;
mod sri_peer;
mod vectors;

use std::sync::Arc;

use adit_transport::{
    AuthorityKeyPair, Frame, Header, Identity, OpenError, Opener, RecvBuffer, Sealer, StaticKeyPair,
    Transport,
};
use adit_units::UnixTime;
use getrandom::SysRng;
use rand_core::UnwrapErr;

/// The time at which the handshakes of these tests take place, in seconds since 1970.
const NOW: u32 = 1_700_000_000;

/// The operating system's randomness.
fn rng() -> UnwrapErr<SysRng> {
    UnwrapErr(SysRng)
}

/// A frame as it is compared: everything but where it lies.
#[derive(Clone, Debug, PartialEq, Eq)]
struct OwnedFrame {
    header: Header,
    payload: Vec<u8>,
}

impl OwnedFrame {
    fn new(extension_type: u16, channel_msg: bool, msg_type: u8, payload: Vec<u8>) -> Self {
        let header = Frame::new(extension_type, channel_msg, msg_type, &payload).unwrap().header;
        Self { header, payload }
    }

    fn as_frame(&self) -> Frame<'_> {
        Frame { header: self.header, payload: &self.payload }
    }

    fn to_bytes(&self) -> Vec<u8> {
        [&self.header.to_bytes()[..], &self.payload].concat()
    }

    fn from_bytes(bytes: &[u8]) -> Self {
        let (frame, rest) = Frame::split_from(bytes).unwrap();
        assert!(rest.is_empty());
        Self { header: frame.header, payload: frame.payload.to_vec() }
    }
}

/// What the peer's software makes of an error is its own affair.
#[derive(Debug, PartialEq, Eq)]
struct Refused;

/// One end of a connection, whoever wrote it.
trait Peer {
    /// The sealed bytes of one frame.
    fn seal(&mut self, frame: &OwnedFrame) -> Vec<u8>;
    /// All frames in these bytes, which end with a frame.
    fn open_all(&mut self, bytes: &[u8]) -> Result<Vec<OwnedFrame>, Refused>;
}

/// Our end.
struct Ours {
    opener: Opener,
    sealer: Sealer,
    buffer: RecvBuffer,
}

impl Ours {
    fn new(Transport { opener, sealer }: Transport) -> Self {
        Self { opener, sealer, buffer: RecvBuffer::default() }
    }

    fn open_next(&mut self) -> Result<Option<OwnedFrame>, OpenError> {
        let frame = self.opener.open(&mut self.buffer, |_| usize::MAX)?;
        Ok(frame.map(|frame| OwnedFrame { header: frame.header, payload: frame.payload.to_vec() }))
    }
}

impl Peer for Ours {
    fn seal(&mut self, frame: &OwnedFrame) -> Vec<u8> {
        let mut out = Vec::new();
        self.sealer.seal(frame.as_frame(), &mut out).unwrap();
        out
    }

    fn open_all(&mut self, bytes: &[u8]) -> Result<Vec<OwnedFrame>, Refused> {
        self.buffer.spare(bytes.len())[..bytes.len()].copy_from_slice(bytes);
        self.buffer.advance(bytes.len());
        let mut frames = Vec::new();
        while let Some(frame) = self.open_next().map_err(|_| Refused)? {
            frames.push(frame);
        }
        Ok(frames)
    }
}

/// A pool of ours whose certificate holds for a day around [`NOW`].
struct Pool {
    authority: AuthorityKeyPair,
    identity: Arc<Identity>,
}

impl Pool {
    const VALID_FROM: u32 = NOW - 43_200;
    const NOT_VALID_AFTER: u32 = NOW + 43_200;

    fn new() -> Self {
        let authority = AuthorityKeyPair::generate(&mut rng());
        let (from, until) =
            (UnixTime::from_secs(Self::VALID_FROM), UnixTime::from_secs(Self::NOT_VALID_AFTER));
        let identity = Identity::new(&authority, StaticKeyPair::generate(&mut rng()), from, until).unwrap();
        Self { authority, identity: Arc::new(identity) }
    }
}
