//! Channels, extranonce space, vardiff and job lifetime, shared by every role that serves miners.
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod record;
mod user;

pub use record::{ShareKind, ShareRecord};
pub use user::{NameError, UserIdentity, WorkerName};
