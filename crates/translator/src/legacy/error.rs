//! Why an SV1 connection to a pool is of no more use.

use adit_share::JobError;

/// Why a connection is of no more use; close it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LegacyError {
    /// The pool does not want us, or not this user.
    #[error("the pool refuses {what}: {reason}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The pool's reason, made printable.
        reason: String,
    },
    /// An extranonce is longer than it can be.
    #[error("the pool's part of the extranonce has {prefix} bytes and leaves {size}; 32 in all are possible")]
    Extranonce {
        /// Bytes that the pool keeps.
        prefix: usize,
        /// Bytes that it leaves.
        size: u64,
    },
    /// The pool has not answered, or not said anything for very long.
    #[error("the pool did not send {0} in time")]
    Silent(&'static str),
    /// The pool sent too many lines that are no messages.
    #[error("too many lines in a row are no SV1 messages; is this the port of an SV1 pool?")]
    Malformed,
    /// A message has parameters that cannot be read.
    #[error("the pool sent a {0} that cannot be read")]
    Unreadable(&'static str),
    /// A part of a job cannot be read.
    #[error("the pool sent a job whose {0} cannot be read")]
    Notify(&'static str),
    /// A job does not fit together.
    #[error("the pool sent a job that cannot be: {0}")]
    Job(#[from] JobError),
    /// The pool sent more than is kept of anything.
    #[error("the pool sent too many {0}")]
    TooMuch(&'static str),
}
