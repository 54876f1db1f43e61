//! The client's half: miners below work on templates of their own, and a pool above pays for it.
//!
//! Every job that the miners are given is put to the pool as a [`Proposal`]. An [`Upstream`] is one attempt at one pool and its
//! declarator server: it keeps tokens ready, declares proposals one after the other, holds shares until their job is accepted, and passes
//! them on. An [`adit_channel::Ladder`] says which of several upstreams to try, which to use, and when to go back to a better one. Miners are served by
//! the crates of the pool role, and notice none of this but a new job.

mod declarator;
#[cfg(feature = "server")]
mod link;
mod pool;
mod proposal;
mod relay;
mod setup;
#[cfg(feature = "server")]
mod shell;
#[cfg(feature = "server")]
mod steward;
mod upstream;

pub use proposal::{Proposal, ProposalError};
pub use relay::{HELD_MAX, Share};
#[cfg(feature = "server")]
pub use shell::{Activity, Jdc, JdcConfig, JdcParts, JdcStartError, UpstreamStatus, UpstreamTarget};
pub use upstream::{Event, Mode, Refusal, Server, Terms, Upstream, UpstreamConfig, UpstreamError};
