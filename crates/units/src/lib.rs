//! Numbers with names: target, difficulty, work, hashrate, sats, time and ids.
//!
//! Nothing here computes in floating point. The one number that the protocol itself writes as a float, the nominal hash rate of a
//! channel, becomes an integer at the border, in [`Hashrate::from_wire`].
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

mod difficulty;
mod hashrate;
mod ids;
mod sats;
mod target;
mod time;
mod work;

pub use difficulty::{Difficulty, DifficultyError};
pub use hashrate::{Hashrate, HashrateError, ShareRate};
pub use ids::{ChannelId, ConnectionId, Height, JobId, JobTag, RequestId, SequenceNumber, TemplateId};
pub use sats::Sats;
pub use target::Target;
pub use time::{Monotonic, Now, UnixTime};
pub use work::{Shares, Work, WorkSum};
