//! The Noise NX handshake and SV2 frames sealed and opened in place; knows no message.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod frame;

pub use frame::{Frame, FrameQueue, Frames, Header, PAYLOAD_MAX, PayloadTooLong};
