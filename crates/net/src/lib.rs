//! The shared tokio shell: accept, handshake, connection, outbox, timers, shutdown, and the only reading of clocks and entropy.
//!
//! A server binds a [`Listener`], which admits peers under named [`Limits`]; a [`HandshakeLane`] turns an admitted socket into a
//! [`Connection`]; the role's own task then drives it in a loop of `select!` over [`Connection::io`] and the role's events.
//! Whatever a peer does (dribbles, floods, never reads, lies about lengths) costs that peer its connection and nobody else
//! anything: every buffer, queue and wait here has a bound with a name.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod admission;
mod background;
mod bulletin;
mod client;
mod clock;
mod connection;
mod handshake;
mod limits;
mod listener;
mod rest;
mod rng;
mod shutdown;
mod socket;
mod task;
mod timer;
mod url;

pub use admission::{Admission, Permit, Refused};
pub use background::background_runtime;
pub use bulletin::{Abandoned, Bulletin, Reader};
pub use client::{CONNECT_PATIENCE, ConnectError, connect, connect_plain, connect_unauthenticated};
pub use clock::Clock;
pub use connection::{Connection, DISCARD_MAX, Intake, Io, IoError, OutboxLimits, QueueError, READ_MAX};
pub use handshake::{HANDSHAKE_PATIENCE, HandshakeError, HandshakeLane, initiate};
pub use limits::{Limits, RESERVED_DESCRIPTORS, raise_descriptor_limit};
pub use listener::{Accepted, BACKOFF_MAX, BACKOFF_MIN, BindError, Bound, Listener, note_panic};
pub use rest::{Rest, Urgent};
pub use rng::OsRng;
pub use shutdown::{Draining, Shutdown};
pub use socket::keep_little_unread;
pub use task::TaskHandle;
pub use timer::{Timer, at_once};
pub use url::{Url, UrlError};
