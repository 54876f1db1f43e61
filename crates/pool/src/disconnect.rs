//! Why a session ends, and who is at fault.

use adit_messages::DecodeError;
use adit_messages::error_code::SetupConnectionError;
use adit_share::SubmissionError;

use crate::{GARBAGE_MAX, REPEATS_MAX};

/// Why a session ended; what it has queued to say is still to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The payload is not the message that its header announces.
    #[error("the peer sent a message that cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// The payload is not a share.
    #[error("the peer sent a share that cannot be read: {0}")]
    MalformedShare(#[from] SubmissionError),
    /// The payload is longer than any such message, or than what is read of unknown ones.
    #[error("the peer sent a payload of {length} bytes where at most {limit} are expected")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The most bytes that such a message may have now.
        limit: usize,
    },
    /// The mining protocol has no such message.
    #[error("the peer sent a message of type {msg_type:#04x}, which the mining protocol does not have")]
    UnknownMessage {
        /// The type in the frame's header.
        msg_type: u8,
    },
    /// Only a server may send this message.
    #[error("the peer sent {message}, which only a server may send")]
    WrongDirection {
        /// The message's name.
        message: &'static str,
    },
    /// The message has its place, but not here.
    #[error("the peer sent {message} where {expected}")]
    WrongState {
        /// The message's name.
        message: &'static str,
        /// What could have come instead.
        expected: &'static str,
    },
    /// The connection cannot be set up; the peer was told why.
    #[error("the connection was refused: {0}")]
    Refused(SetupConnectionError),
    /// The peer opened a channel without having agreed to name workers (extension 0x0001, section 4).
    #[error("the peer does not name the worker of each share (extension 0x0002), which this pool requires")]
    WorkerNamesRequired,
    /// `SetupConnection` did not come in time.
    #[error("the peer sent no SetupConnection in time")]
    NoSetup,
    /// The peer had no channel for too long (spec 5.3.2).
    #[error("the peer had no channel for too long")]
    NoChannel,
    /// More was submitted that is no share than any honest miner would.
    #[error("the peer submitted more than {GARBAGE_MAX} worthless shares, or did so on too many channels")]
    Garbage,
    /// The same shares, shares for past tips, or more shares than anybody may submit, came again and again.
    #[error("the peer submitted more than {REPEATS_MAX} late, repeated or surplus shares")]
    Repeats,
    /// More was asked for than any honest miner or proxy would.
    #[error("the peer sent more messages than it may that are no shares")]
    Requests,
    /// A channel was asked for, and the connection has had all of its extranonce prefixes; the peer was asked to connect anew.
    #[error("the connection has had all of its extranonce prefixes; the peer was asked to connect anew")]
    PrefixesExhausted,
    /// More shares wait for stable storage than a session remembers.
    #[error("more shares wait for stable storage than a session holds; the share log does not keep up")]
    Overloaded,
}

/// Who has to change something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fault {
    /// The peer sent bytes that are no message.
    PeerMalformed,
    /// The peer broke the rules of the protocol.
    PeerMisbehaved,
    /// The peer asked for something that this pool does not offer.
    PeerIncompatible,
    /// The peer did nothing.
    PeerIdle,
    /// We did not keep up, or have nothing left to give.
    Ours,
}

impl Disconnect {
    /// Who has to change something for the next session to last longer.
    #[must_use]
    pub const fn fault(&self) -> Fault {
        match self {
            Self::Malformed(_) | Self::MalformedShare(_) => Fault::PeerMalformed,
            Self::TooLong { .. }
            | Self::UnknownMessage { .. }
            | Self::WrongDirection { .. }
            | Self::WrongState { .. }
            | Self::Garbage
            | Self::Repeats
            | Self::Requests => Fault::PeerMisbehaved,
            Self::Refused(_) | Self::WorkerNamesRequired => Fault::PeerIncompatible,
            Self::NoSetup | Self::NoChannel => Fault::PeerIdle,
            Self::PrefixesExhausted | Self::Overloaded => Fault::Ours,
        }
    }
}
