//! The most payload bytes that a receiver accepts, by message and by the state that the connection is in.
//!
//! A frame's header may announce 16 MiB. Before any of it is read, its length is held against these numbers: the sum of the fields at
//! their longest where that is small, and what a valid block can make necessary where the format would allow far more.

use adit_transport::Header;

use crate::tlv::Tlv;
use crate::{Protocol, Side, info};

// The longest forms of the variable types of spec 3.1.
const STR: usize = 1 + 255;
const B032: usize = 1 + 32;
const B0255: usize = 1 + 255;
const B064K: usize = 2 + 65_535;
const U256: usize = 32;
const OPTION_U32: usize = 1 + 4;
const MERKLE_PATH: usize = 1 + 255 * U256;
const ERROR_CODE: usize = STR;

/// The most transactions besides the coinbase that a block can hold: none weighs less than 60 bytes at four units each.
pub const BLOCK_TRANSACTIONS: usize = 4_000_000 / (60 * 4);
/// The most bytes that the transactions of a block can have: a weight unit is a quarter of a byte or a whole one.
pub const BLOCK_BYTES: usize = 4_000_000;
/// Every transaction of a block as `SEQ0_64K[B0_16M]`.
const TRANSACTION_LIST: usize = 2 + BLOCK_TRANSACTIONS * 3 + BLOCK_BYTES;

/// The most extensions that `RequestExtensions` and its answers may list.
pub const EXTENSIONS: usize = 64;
const EXTENSION_LIST: usize = 2 + EXTENSIONS * 2;

/// A frame whose type nobody knows: it is read and dropped, as spec 3.4.1 asks, if it is no longer than this.
pub const UNKNOWN: usize = 4096;

/// `SetupConnection`.
pub const SETUP_CONNECTION: usize = 1 + 2 + 2 + 4 + STR + 2 + 4 * STR;
/// `SetupConnection.Success`.
pub const SETUP_CONNECTION_SUCCESS: usize = 2 + 4;
/// `SetupConnection.Error`.
pub const SETUP_CONNECTION_ERROR: usize = 4 + ERROR_CODE;
/// `ChannelEndpointChanged`.
pub const CHANNEL_ENDPOINT_CHANGED: usize = 4;
/// `Reconnect`.
pub const RECONNECT: usize = STR + 2;

/// `OpenStandardMiningChannel`.
pub const OPEN_STANDARD_MINING_CHANNEL: usize = 4 + STR + 4 + U256;
/// `OpenStandardMiningChannel.Success`.
pub const OPEN_STANDARD_MINING_CHANNEL_SUCCESS: usize = 4 + 4 + U256 + B032 + 4;
/// `OpenExtendedMiningChannel`.
pub const OPEN_EXTENDED_MINING_CHANNEL: usize = OPEN_STANDARD_MINING_CHANNEL + 2;
/// `OpenExtendedMiningChannel.Success`.
pub const OPEN_EXTENDED_MINING_CHANNEL_SUCCESS: usize = OPEN_STANDARD_MINING_CHANNEL_SUCCESS + 2;
/// `OpenMiningChannel.Error`.
pub const OPEN_MINING_CHANNEL_ERROR: usize = 4 + ERROR_CODE;
/// `NewMiningJob`.
pub const NEW_MINING_JOB: usize = 4 + 4 + OPTION_U32 + 4 + U256;
/// `UpdateChannel`.
pub const UPDATE_CHANNEL: usize = 4 + 4 + U256;
/// `UpdateChannel.Error`.
pub const UPDATE_CHANNEL_ERROR: usize = 4 + ERROR_CODE;
/// `CloseChannel`.
pub const CLOSE_CHANNEL: usize = 4 + STR;
/// `SetExtranoncePrefix`.
pub const SET_EXTRANONCE_PREFIX: usize = 4 + B032;
/// `SubmitSharesStandard`, with room for the worker's name although only extended shares are meant to carry it.
pub const SUBMIT_SHARES_STANDARD: usize = 6 * 4 + Tlv::USER_IDENTITY_MAX_LEN;
/// `SubmitSharesExtended` with the worker's name behind it.
pub const SUBMIT_SHARES_EXTENDED: usize = 6 * 4 + B032 + Tlv::USER_IDENTITY_MAX_LEN;
/// `SubmitShares.Success`.
pub const SUBMIT_SHARES_SUCCESS: usize = 4 + 4 + 4 + 8;
/// `SubmitShares.Error`.
pub const SUBMIT_SHARES_ERROR: usize = 4 + 4 + ERROR_CODE;
/// `NewExtendedMiningJob`.
pub const NEW_EXTENDED_MINING_JOB: usize = 4 + 4 + OPTION_U32 + 4 + 1 + MERKLE_PATH + 2 * B064K;
/// `SetNewPrevHash` of the mining protocol.
pub const SET_NEW_PREV_HASH: usize = 4 + 4 + U256 + 4 + 4;
/// `SetTarget`.
pub const SET_TARGET: usize = 4 + U256;
/// `SetCustomMiningJob`.
pub const SET_CUSTOM_MINING_JOB: usize =
    4 + 4 + B0255 + 4 + U256 + 4 + 4 + 4 + B0255 + 4 + B064K + 4 + MERKLE_PATH;
/// `SetCustomMiningJob.Success`.
pub const SET_CUSTOM_MINING_JOB_SUCCESS: usize = 3 * 4;
/// `SetCustomMiningJob.Error`.
pub const SET_CUSTOM_MINING_JOB_ERROR: usize = 4 + 4 + ERROR_CODE;
/// `SetGroupChannel`, with every channel that a sequence can name.
pub const SET_GROUP_CHANNEL: usize = 4 + 2 + 65_535 * 4;

/// `AllocateMiningJobToken`.
pub const ALLOCATE_MINING_JOB_TOKEN: usize = STR + 4;
/// `AllocateMiningJobToken.Success`.
pub const ALLOCATE_MINING_JOB_TOKEN_SUCCESS: usize = 4 + B0255 + B064K;
/// `ProvideMissingTransactions`.
pub const PROVIDE_MISSING_TRANSACTIONS: usize = 4 + 2 + BLOCK_TRANSACTIONS * 2;
/// `ProvideMissingTransactions.Success`.
pub const PROVIDE_MISSING_TRANSACTIONS_SUCCESS: usize = 4 + TRANSACTION_LIST;
/// `DeclareMiningJob`.
pub const DECLARE_MINING_JOB: usize = 4 + B0255 + 4 + 2 * B064K + 2 + BLOCK_TRANSACTIONS * U256 + B064K;
/// `DeclareMiningJob.Success`.
pub const DECLARE_MINING_JOB_SUCCESS: usize = 4 + B0255;
/// `DeclareMiningJob.Error`.
pub const DECLARE_MINING_JOB_ERROR: usize = 4 + ERROR_CODE + B064K;
/// `PushSolution`.
pub const PUSH_SOLUTION: usize = B032 + U256 + 4 * 4;

/// `CoinbaseOutputConstraints`.
pub const COINBASE_OUTPUT_CONSTRAINTS: usize = 4 + 2;
/// `NewTemplate`.
pub const NEW_TEMPLATE: usize = 8 + 1 + 4 + 4 + B0255 + 4 + 8 + 4 + B064K + 4 + MERKLE_PATH;
/// `SetNewPrevHash` of the template distribution protocol.
pub const TEMPLATE_SET_NEW_PREV_HASH: usize = 8 + U256 + 4 + 4 + U256;
/// `RequestTransactionData`.
pub const REQUEST_TRANSACTION_DATA: usize = 8;
/// `RequestTransactionData.Success`.
pub const REQUEST_TRANSACTION_DATA_SUCCESS: usize = 8 + B064K + TRANSACTION_LIST;
/// `RequestTransactionData.Error`.
pub const REQUEST_TRANSACTION_DATA_ERROR: usize = 8 + ERROR_CODE;
/// `SubmitSolution`.
pub const SUBMIT_SOLUTION: usize = 8 + 4 + 4 + 4 + B064K;

/// `RequestExtensions` and `RequestExtensions.Success`.
pub const REQUEST_EXTENSIONS: usize = 2 + EXTENSION_LIST;
/// `RequestExtensions.Error`.
pub const REQUEST_EXTENSIONS_ERROR: usize = 2 + 2 * EXTENSION_LIST;

/// The limit for the first frame of a connection, which must be `SetupConnection` for a server and its answer for a client.
#[must_use]
pub fn before_setup(receiver: Side, header: &Header) -> usize {
    match (receiver, header.extension_type, header.msg_type) {
        (Side::Server, 0, 0x00) => SETUP_CONNECTION,
        (Side::Client, 0, 0x01) => SETUP_CONNECTION_SUCCESS,
        (Side::Client, 0, 0x02) => SETUP_CONNECTION_ERROR,
        _ => 0,
    }
}

/// Room behind every message for fields of extensions, which a receiver that does not know them has to ignore (spec 3.4.3).
pub const TLV_ROOM: usize = 256;

/// The limit for a frame on a connection that speaks `protocol`, from its header alone: the message and [`TLV_ROOM`].
///
/// A message that only the other side may receive gets none of the room it would have there.
#[must_use]
pub fn after_setup(protocol: Protocol, receiver: Side, header: &Header) -> usize {
    match info(protocol, header) {
        Some(info) if info.direction.reaches(receiver) => info.payload_max + TLV_ROOM,
        Some(_) => 0,
        None => UNKNOWN,
    }
}
