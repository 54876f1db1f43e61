//! One table of all SV2 messages, their flags, limits, error codes and TLVs.
//!
//! The message structs are those of the published `*_sv2` crates, re-exported here by subprotocol: [`common`], [`mining`],
//! [`job_declaration`], [`template_distribution`] and [`extensions`], over the field types in [`types`]. What this crate adds:
//!
//! * [`MESSAGES`], where everything that the protocol says about a message stands in one row: number, name, channel bit,
//!   direction, size limit and the order of its fields;
//! * [`decode`] and [`encode`] between a [`Message`] and a frame, made from that table. A decoded message borrows from the frame;
//! * [`tlv`] fields behind a message, [`flags`] and [`error_code`]s as types, and the [`limits`] that a receiver puts on a frame
//!   before it takes memory for it.
//!
//! Share submissions are read by the judge straight from the payload's bytes; they can be decoded here too, for clients and tests.
//!
//! ```
//! use adit_messages::{Message, Protocol, common, decode, encode, flags::MiningSuccessFlags};
//! use adit_transport::FrameQueue;
//!
//! let mut queue = FrameQueue::default();
//! let success = common::SetupConnectionSuccess { used_version: 2, flags: MiningSuccessFlags::NONE.bits() };
//! encode(success, &mut queue)?;
//! let frame = queue.iter().next().expect("one message was queued");
//! assert!(matches!(decode(Protocol::Mining, frame)?, Message::SetupConnectionSuccess(_)));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
#![forbid(unsafe_code)]
#![cfg_attr(not(test), warn(clippy::indexing_slicing))]

mod codec;
pub mod error_code;
pub mod flags;
pub mod limits;
mod negotiation;
mod table;
pub mod tlv;

pub use codec::{DecodeError, decode, decode_with_tlvs, encode, encode_with_tlvs};
pub use table::{Direction, MESSAGES, Message, MessageInfo, MessageKind, Protocol, Side, info};

/// The only protocol version there is, for `min_version`, `max_version` and `used_version` (spec 3.6.1).
pub const PROTOCOL_VERSION: u16 = 2;

/// Messages of every connection (spec 3.6).
pub mod common {
    pub use common_messages_sv2::{
        ChannelEndpointChanged, Protocol, Reconnect, SetupConnection, SetupConnectionError,
        SetupConnectionSuccess,
    };
}

/// Messages of the mining protocol (spec 5.3).
pub mod mining {
    pub use mining_sv2::{
        CloseChannel, NewExtendedMiningJob, NewMiningJob, OpenExtendedMiningChannel,
        OpenExtendedMiningChannelSuccess, OpenMiningChannelError, OpenStandardMiningChannel,
        OpenStandardMiningChannelSuccess, SetCustomMiningJob, SetCustomMiningJobError,
        SetCustomMiningJobSuccess, SetExtranoncePrefix, SetGroupChannel, SetNewPrevHash, SetTarget,
        SubmitSharesError, SubmitSharesExtended, SubmitSharesStandard, SubmitSharesSuccess, UpdateChannel,
        UpdateChannelError,
    };
}

/// Messages of the job declaration protocol (spec 6.4).
pub mod job_declaration {
    pub use job_declaration_sv2::{
        AllocateMiningJobToken, AllocateMiningJobTokenSuccess, DeclareMiningJob, DeclareMiningJobError,
        DeclareMiningJobSuccess, ProvideMissingTransactions, ProvideMissingTransactionsSuccess, PushSolution,
    };
}

/// Messages of the template distribution protocol (spec 7).
pub mod template_distribution {
    pub use template_distribution_sv2::{
        CoinbaseOutputConstraints, NewTemplate, RequestTransactionData, RequestTransactionDataError,
        RequestTransactionDataSuccess, SetNewPrevHash, SubmitSolution,
    };
}

/// Messages that extensions define; `0x0002` defines none, only a TLV field (see [`tlv`]).
pub mod extensions {
    pub use crate::negotiation::negotiate;
    pub use extensions_sv2::{RequestExtensions, RequestExtensionsError, RequestExtensionsSuccess};

    /// Extensions negotiation.
    pub const EXTENSIONS_NEGOTIATION: u16 = 0x0001;
    /// Worker-specific hashrate tracking.
    pub const WORKER_HASHRATE_TRACKING: u16 = 0x0002;
}

/// The field types that message structs are made of (spec 3.1).
pub mod types {
    pub use binary_sv2::{B016M, B032, B064K, B0255, Seq064K, Seq0255, Str0255, Sv2Option, U256};
}

#[cfg(test)]
mod tests;
