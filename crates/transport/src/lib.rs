//! The Noise NX handshake and SV2 frames sealed and opened in place; knows no message.
//!
//! Nothing here reads a socket, a clock or a random number by itself: bytes, times and generators are arguments.
//!
//! # How to drive it
//!
//! 1. A server makes its [`Identity`] once and for each connection a [`Responder`]; a client makes an [`Initiator`]. Two messages
//!    of fixed length ([`ACT1_LEN`], [`ACT2_LEN`]) later, each side holds a [`Transport`].
//! 2. To receive: read from the socket into [`RecvBuffer::spare`], say how much with [`RecvBuffer::advance`], and call
//!    [`Opener::open`] until it answers `None`. Frames are decrypted where they lie.
//! 3. To send: push frames into a [`FrameQueue`], seal all of them into the outbox with [`Sealer::seal_all`], and write that.
//!
//! After any error the connection is over.
//!
//! # Example
//!
//! ```
//! use std::sync::Arc;
//!
//! use adit_transport::{AuthorityKeyPair, FrameQueue, Identity, Initiator, RecvBuffer, Responder, StaticKeyPair};
//! use adit_units::UnixTime;
//! use getrandom::SysRng;
//! use rand_core::UnwrapErr;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut rng = UnwrapErr(SysRng);
//! let (start, end) = (UnixTime::from_secs(1_700_000_000), UnixTime::from_secs(1_800_000_000));
//!
//! // Once: the authority certifies the server.
//! let authority = AuthorityKeyPair::generate(&mut rng);
//! let identity = Arc::new(Identity::new(&authority, StaticKeyPair::generate(&mut rng), start, end)?);
//!
//! // Each connection: two acts.
//! let initiator = Initiator::new(Some(authority.public_key()), &mut rng);
//! let responder = Responder::new(identity, &mut rng);
//! let (act2, mut server) = responder.accept(&initiator.act1())?;
//! let mut client = initiator.finish(&act2, UnixTime::from_secs(1_750_000_000))?;
//!
//! // Then frames.
//! let mut queue = FrameQueue::default();
//! queue.push(0, false, 0x00, b"first")?;
//! queue.push(0, true, 0x1b, b"second")?;
//! let mut outbox = Vec::new();
//! client.sealer.seal_all(&mut queue, &mut outbox)?;
//!
//! let mut received = RecvBuffer::default();
//! received.spare(outbox.len())[..outbox.len()].copy_from_slice(&outbox); // in a program: a read from a socket
//! received.advance(outbox.len());
//! let mut payloads = Vec::new();
//! while let Some(frame) = server.opener.open(&mut received, |_header| 1024)? {
//!     payloads.push(frame.payload.to_vec());
//! }
//! assert_eq!(payloads, [&b"first"[..], b"second"]);
//! # Ok(())
//! # }
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod certificate;
mod cipher;
mod curve;
mod frame;
mod handshake;
mod identity;
mod key;
mod key_file;
mod noise;
mod recv_buffer;
mod secret;
#[cfg(test)]
mod test_rng;
mod transport;

pub use certificate::{CLOCK_LEEWAY_SECS, Certificate, CertificateError};
pub use frame::{Frame, FrameQueue, Frames, Header, PAYLOAD_MAX, PayloadTooLong};
pub use handshake::{ACT1_LEN, ACT2_LEN, HandshakeError, Initiator, Responder};
pub use identity::{Identity, ValidityError};
pub use key::{AuthorityKeyPair, AuthorityPublicKey, KeyError, StaticKeyPair, StaticPublicKey};
pub use key_file::{KeyFileError, SecretFile};
pub use recv_buffer::RecvBuffer;
pub use transport::{OpenError, Opener, SealError, Sealer, Transport, sealed_frame_len};
