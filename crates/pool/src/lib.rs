//! The pool role.
//!
//! The core is a state machine: bytes and time come in as arguments, effects go out as values, and it holds no clock, socket, task
//! or lock. [`JobFactory`] makes [`Work`] of templates, once for all; a [`Session`] is one connection. Whoever drives them
//!
//! * hands each frame that arrives to [`Session::handle_frame`], having asked [`Session::frame_limit`] how long it may be; or those that
//!   arrived together to a [`Session::burst`], which does the same in less time;
//! * hands each new work to [`Session::handle_work`], the first one right after [`Session::new`];
//! * calls [`Session::handle_timeout`] when [`Session::poll_timeout`] says so;
//! * after each of these first drains [`Session::poll_block`] and submits what it gives, then writes down what
//!   [`Session::take_records`] gives, then sends [`Session::frames`];
//! * after frames and timeouts asks [`Session::take_wish`], and if there is a wish, hands it to [`JobFactory::handle_wish`]; what comes of it
//!   ([`Work::is_aside`]) is for [`Session::handle_aside`] of those who wait for it;
//! * where [`PoolConfig::custom_jobs`] lets miners make jobs, also drains [`Session::poll_custom_block`] with the blocks, and answers each token
//!   of [`Session::poll_token`] with [`Session::handle_token`], having looked among the tokens that were used on any connection;
//! * where [`PoolConfig::relays_shares`] is set, takes what is to be passed on with [`Session::take_relayed`];
//! * says with [`Session::handle_durable`] how many records are on stable storage; only then are they acknowledged. The record of a
//!   block, whose number is [`FoundBlock::record`], and those after it are not to be counted before the
//!   block itself is on stable storage or with a node.
//!
//! A [`Disconnect`] is final: what is queued is still to be sent and written down, then the connection is closed.
//!
//! The default feature `server` adds a tokio shell that does all this.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing, clippy::float_arithmetic))]

mod config;
mod disconnect;
#[cfg(feature = "server")]
pub mod server;
mod session;
mod work;

pub use config::{CustomJobs, EmptyJobs, PoolConfig, PoolConfigError, Successor, signature_limit};
pub use disconnect::{Disconnect, Fault};
pub use session::{
    Burst, Counters, DISTRIBUTIONS_MAX, FoundBlock, FoundCustomBlock, GROUP_CHANNEL, OperationError,
    RelayedShare, Session,
};
pub use session::{CLOSURE_GRACE, CLOSURE_INTERVAL, CLOSURES_MAX, SHARES_MAX, SHARES_PER_SECOND};
pub use session::{CUSTOM_BYTES_MAX, GARBAGE_MAX, GARBAGE_PER_SECOND, REPEATS_MAX, REPEATS_PER_SECOND};
pub use session::{ChannelReport, ChannelShares, SessionReport, WORKERS_MAX, WorkerReport, WorkerShares};
pub use session::{FIRST_CHANNEL_TIMEOUT, IDLE_TIMEOUT, SETUP_TIMEOUT, TIP_PATIENCE, UNACKNOWLEDGED_MAX};
pub use session::{REQUESTS_MAX, REQUESTS_PER_CHANNEL, REQUESTS_PER_SECOND};
pub use work::{
    Distribution, JOB_AGE_MAX, JobFactory, RENEWAL_PAUSE, RESERVE_DELAY, WISH_INTERVAL, WISHED_JOB_AGE, Work,
    WorkError,
};
