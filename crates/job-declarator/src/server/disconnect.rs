//! Why a connection ends, and why a declaration is refused.

use adit_channel::NameError;
use adit_messages::DecodeError;
use adit_messages::error_code::{DeclareMiningJobError as Code, SetupConnectionError};
use adit_messages::limits::BLOCK_TRANSACTIONS;
use adit_share::MAX_BLOCK_WEIGHT;

use super::limits::{DECLARATIONS_WAITING, REQUESTS_MAX, TOKENS_WAITING};

/// Why a session ended; what it has queued to say is still to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Disconnect {
    /// The payload is not the message that its header announces.
    #[error("the client sent a message that cannot be read: {0}")]
    Malformed(#[from] DecodeError),
    /// The payload is longer than any such message, or than one that may come now.
    #[error("the client sent a payload of {length} bytes where at most {limit} are expected")]
    TooLong {
        /// Its length in bytes.
        length: usize,
        /// The most bytes that such a message may have now.
        limit: usize,
    },
    /// The job declaration protocol has no such message.
    #[error(
        "the client sent a message of type {msg_type:#04x}, which the job declaration protocol does not have"
    )]
    UnknownMessage {
        /// The type in the frame's header.
        msg_type: u8,
    },
    /// Only a server may send this message.
    #[error("the client sent {message}, which only a server may send")]
    WrongDirection {
        /// The message's name.
        message: &'static str,
    },
    /// The message has its place, but not here.
    #[error("the client sent {message} where {expected}")]
    WrongState {
        /// The message's name.
        message: &'static str,
        /// What could have come instead.
        expected: &'static str,
    },
    /// The connection cannot be set up; the client was told why.
    #[error("the connection was refused: {0}")]
    Refused(SetupConnectionError),
    /// The client asked for a token for somebody who cannot be; there is no message to tell it so.
    #[error("the client asked for a token for a user that cannot be: {0}")]
    User(#[from] NameError),
    /// `SetupConnection` did not come in time.
    #[error("the client sent no SetupConnection in time")]
    NoSetup,
    /// The client asked for no token for too long.
    #[error("the client asked for no token for too long")]
    NoToken,
    /// More tokens were asked for than anybody needs.
    #[error("the client asked for more than {TOKENS_WAITING} tokens ahead of those that it may have")]
    Tokens,
    /// More was sent than any honest client would.
    #[error("the client sent more than {REQUESTS_MAX} messages in a row")]
    Requests,
}

/// Why a declaration is not accepted; the text is for whoever runs the client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The token was not given out on this connection for declarations, was used, or has expired.
    #[error(
        "the token is not one that this connection was given for a declaration and has not used: ask for a new one"
    )]
    Token,
    /// Too many declarations came before the first was answered.
    #[error("{DECLARATIONS_WAITING} declarations wait already: wait for an answer before declaring again")]
    TooMany,
    /// The clients of this address declare more than the server holds for one address.
    #[error("the server holds as many declarations of this address as it can: declare again in some seconds")]
    Full,
    /// The server's node has not answered yet at all.
    #[error("the server's node is starting: declare again in some seconds")]
    NoTip,
    /// The job is for another height.
    #[error(
        "the job is for height {declared}, but the server's node mines height {expected}: declare a job on the newest block"
    )]
    StaleTip {
        /// The height in the coinbase.
        declared: u32,
        /// The height that is mined.
        expected: u32,
    },
    /// The node has just seen another block.
    #[error(
        "the job does not stand on the newest block of the server's node ({0}): declare a job on that one"
    )]
    OffTip(String),
    /// The coinbase is not one that a block may have.
    #[error("the coinbase cannot be used: {0}")]
    Coinbase(String),
    /// The coinbase's input is not one that a block may have.
    #[error("the coinbase's input cannot be used: {0}")]
    CoinbaseInput(String),
    /// The coinbase pays the pool too little.
    #[error(
        "the coinbase pays {pays} of its {value} satoshis to the script of the token's first output, at least {least} percent are needed"
    )]
    Payout {
        /// What goes to the pool.
        pays: u64,
        /// What the coinbase creates.
        value: u64,
        /// The least part of it.
        least: u8,
    },
    /// No block holds so many transactions.
    #[error("{0} transactions are declared, no block holds more than {BLOCK_TRANSACTIONS}")]
    TooManyTransactions(usize),
    /// A transaction is declared twice.
    #[error("transaction {0} of the list is there twice")]
    Repeated(usize),
    /// The block would be too heavy.
    #[error("the block would weigh {0}, more than {MAX_BLOCK_WEIGHT}")]
    Weight(u64),
    /// Transactions were asked for and did not come.
    #[error(
        "{missing} transactions were asked for and did not come, the first is number {first} of the list: answer ProvideMissingTransactions in full"
    )]
    Missing {
        /// How many.
        missing: usize,
        /// The place of the first, from zero on.
        first: usize,
    },
    /// What came is no transaction.
    #[error("transaction {0} of the answer to ProvideMissingTransactions cannot be read")]
    Undecodable(usize),
    /// The node refuses the block.
    #[error("the node refuses the block: {0}")]
    Node(String),
    /// The node could not judge the block.
    #[error("the server's node could not check the block ({0}): declare again in some seconds")]
    Unchecked(String),
}

impl Refusal {
    /// The code that clients know.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Token => Code::InvalidMiningJobToken,
            Self::StaleTip { .. } | Self::OffTip(_) => Code::StaleChainTip,
            Self::Coinbase(_) | Self::Payout { .. } => Code::InvalidCoinbaseTx,
            Self::CoinbaseInput(_) => Code::InvalidCoinbaseTxInput,
            Self::TooManyTransactions(_) | Self::Repeated(_) | Self::Weight(_) | Self::Node(_) => {
                Code::InvalidJob
            }
            Self::Missing { .. } | Self::Undecodable(_) => Code::MissingTxs,
            Self::TooMany | Self::Full | Self::NoTip | Self::Unchecked(_) => Code::InternalError,
        }
    }
}
