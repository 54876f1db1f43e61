//! Why an upstream is left.

use adit_messages::DecodeError;

use super::super::declarator::{OUTPUTS_LEN_MAX, OUTPUTS_SIGOPS_MAX};
use super::Server;

/// Why an upstream is to be left.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// A server does not want the connection.
    #[error("{server} refuses the connection: {code} (flags {flags:#x})")]
    SetupRefused {
        /// Which one.
        server: Server,
        /// Its reason, made printable.
        code: String,
        /// The flags that it does not support.
        flags: u32,
    },
    /// The pool opens no channel.
    #[error("the pool refuses to open a channel: {0}")]
    ChannelRefused(String),
    /// The pool has closed the channel.
    #[error("the pool closed the channel: {0}")]
    ChannelClosed(String),
    /// The pool leaves too little of the extranonce, or too much.
    #[error(
        "the pool gives {size} bytes of extranonce behind its own {prefix}; {least} are needed, and 32 in all are possible"
    )]
    Extranonce {
        /// Bytes of the pool.
        prefix: usize,
        /// Bytes for us.
        size: u16,
        /// Bytes that were asked for.
        least: u16,
    },
    /// The outputs that came with a token are no outputs, or the first is one that nobody can spend.
    #[error("the job declarator server does not say which output to pay")]
    Outputs,
    /// More outputs than the payout are to be worth something.
    #[error(
        "the job declarator server asks for fixed values to be paid besides the payout, which cannot be done"
    )]
    OutputValues,
    /// The outputs would not fit into every block.
    #[error(
        "the job declarator server wants outputs of {len} bytes with {sigops} signature operations in each coinbase; blocks have room \
         for {OUTPUTS_LEN_MAX} and {OUTPUTS_SIGOPS_MAX}"
    )]
    OutputsTooLarge {
        /// Their length in bytes.
        len: usize,
        /// Their signature operations, as far as they were counted.
        sigops: usize,
    },
    /// A declared job was refused.
    #[error("{server} refuses a job: {code} {details}")]
    JobRefused {
        /// By whom.
        server: Server,
        /// Its reason, made printable.
        code: String,
        /// What it says further, made printable.
        details: String,
    },
    /// Shares of an accepted job were refused again and again.
    #[error("the pool refuses shares of a job that it has accepted: {0}")]
    SharesRefused(String),
    /// A server has not answered.
    #[error("{server} is silent: {what} did not come")]
    Silent {
        /// Which one.
        server: Server,
        /// What was waited for.
        what: &'static str,
    },
    /// A server sent what is no message.
    #[error("{server} sent a malformed message: {error}")]
    Malformed {
        /// Which one.
        server: Server,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A server sent a message that it may not send now.
    #[error("{server} broke the protocol: {what}")]
    Misbehaved {
        /// Which one.
        server: Server,
        /// What it did.
        what: &'static str,
    },
}
