//! The one table of messages (spec 8), and what is made from it.

use adit_transport::Header;

use crate::codec::{DecodeError, Field, Reader};
use crate::{common, extensions, job_declaration, limits, mining, template_distribution};

/// A part of the protocol that a connection can speak, or that every connection speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Messages of every connection (spec 3.6).
    Common,
    /// Work for miners (spec 5).
    Mining,
    /// Work that miners choose (spec 6).
    JobDeclaration,
    /// Work from a node (spec 7).
    TemplateDistribution,
    /// Extension 0x0001, which every connection may speak.
    ExtensionsNegotiation,
}

impl Protocol {
    /// Whether a connection that speaks `self` can carry messages of `other`.
    const fn carries(self, other: Self) -> bool {
        matches!(other, Self::Common | Self::ExtensionsNegotiation) || self as u8 == other as u8
    }
}

/// What `SetupConnection` asked for.
impl From<common::Protocol> for Protocol {
    fn from(protocol: common::Protocol) -> Self {
        match protocol {
            common::Protocol::MiningProtocol => Self::Mining,
            common::Protocol::JobDeclarationProtocol => Self::JobDeclaration,
            common::Protocol::TemplateDistributionProtocol => Self::TemplateDistribution,
        }
    }
}

/// The end of a connection that someone stands at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Side {
    /// The end that accepted the connection and provides work.
    Server,
    /// The end that opened the connection.
    Client,
}

/// Who may send a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Direction {
    /// Only clients.
    ToServer,
    /// Only servers.
    ToClient,
    /// Either side.
    Both,
}

impl Direction {
    /// Whether `side` may receive such a message.
    #[must_use]
    pub const fn reaches(self, side: Side) -> bool {
        matches!(
            (self, side),
            (Self::Both, _) | (Self::ToServer, Side::Server) | (Self::ToClient, Side::Client)
        )
    }
}

/// One row of [`MESSAGES`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageInfo {
    /// Which one it is.
    pub kind: MessageKind,
    /// The name, as the specification writes it.
    pub name: &'static str,
    /// The part of the protocol that it belongs to.
    pub protocol: Protocol,
    /// The extension that defines it, without the channel bit; zero for the core.
    pub extension_type: u16,
    /// Its number within the extension.
    pub msg_type: u8,
    /// Whether its payload starts with a channel id to route it by (spec 3.2.1).
    pub channel_msg: bool,
    /// Who may send it.
    pub direction: Direction,
    /// The most payload bytes that its receiver accepts (see [`limits`]).
    pub payload_max: usize,
}

/// A message's row and the order of its fields.
pub(crate) trait Payload<'a>: Sized {
    const INFO: MessageInfo;

    fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError>;

    fn write(&self, out: &mut Vec<u8>);
}

/// The row of a frame's message on a connection that speaks `protocol`, or `None` if there is no such message there.
///
/// The channel bit does not take part, as in the lookup of extensions (spec 3.2.1).
#[must_use]
pub fn info(protocol: Protocol, header: &Header) -> Option<&'static MessageInfo> {
    row(header.extension_type, header.msg_type).filter(|info| protocol.carries(info.protocol))
}

/// Whether a row sets the channel bit.
macro_rules! channel_msg {
    (channel) => {
        true
    };
    (plain) => {
        false
    };
}

/// The row of a message struct, whatever it borrows from.
macro_rules! info_of {
    ($module:ident::$payload:ident) => {
        <$module::$payload as Payload<'static>>::INFO
    };
    ($module:ident::$payload:ident $life:lifetime) => {
        <$module::$payload<'static> as Payload<'static>>::INFO
    };
}

/// Makes all there is to know about messages from rows of this form:
///
/// ```text
/// number "name in the specification" "section", channel bit, direction, limit,
///     VariantOfMessage(module::Struct<'a>) { fields in their order on the wire }
/// ```
macro_rules! messages {
    ($($protocol:ident $extension:literal { $(
        $number:literal $name:literal $section:literal, $channel:ident, $direction:ident, $limit:ident,
            $variant:ident($module:ident::$payload:ident$(<$life:lifetime>)?) { $($field:ident),+ }
    )+ })+) => {
        /// Every message of the protocol, by its number.
        pub const MESSAGES: &[MessageInfo] =
            &[$($(info_of!($module::$payload $($life)?),)+)+];

        fn row(extension_type: u16, msg_type: u8) -> Option<&'static MessageInfo> {
            match (extension_type, msg_type) {
                $($(($extension, $number) => Some(&info_of!($module::$payload $($life)?)),)+)+
                _ => None,
            }
        }

        /// Which message it is, without what it says.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum MessageKind {
            $($(
                #[doc = concat!("`", $name, "`, ", $section, ".")]
                $variant,
            )+)+
        }

        /// Any message.
        #[derive(Clone, Debug)]
        #[non_exhaustive]
        pub enum Message<'a> {
            $($(
                #[doc = concat!("`", $name, "`, ", $section, ".")]
                $variant($module::$payload$(<$life>)?),
            )+)+
        }

        impl<'a> Message<'a> {
            /// The message's row in [`MESSAGES`].
            #[must_use]
            pub fn info(&self) -> &'static MessageInfo {
                match self {
                    $($(Self::$variant(_) => &info_of!($module::$payload $($life)?),)+)+
                }
            }

            /// Appends the payload that a frame of this message has.
            ///
            /// For a payload that goes to many connections; [`encode`](crate::encode) makes a frame of it.
            pub fn write_payload(&self, out: &mut Vec<u8>) {
                match self {
                    $($(Self::$variant(message) => message.write(out),)+)+
                }
            }

            /// Reads the message of that type, or `None` if there is none.
            pub(crate) fn read(
                extension_type: u16,
                msg_type: u8,
                reader: &mut Reader<'a>,
            ) -> Option<Result<Self, DecodeError>> {
                match (extension_type, msg_type) {
                    $($(($extension, $number) => Some(Payload::read(reader).map(Self::$variant)),)+)+
                    _ => None,
                }
            }
        }

        $($(
            impl<'a> Payload<'a> for $module::$payload$(<$life>)? {
                const INFO: MessageInfo = MessageInfo {
                    kind: MessageKind::$variant,
                    name: $name,
                    protocol: Protocol::$protocol,
                    extension_type: $extension,
                    msg_type: $number,
                    channel_msg: channel_msg!($channel),
                    direction: Direction::$direction,
                    payload_max: limits::$limit,
                };

                fn read(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
                    // Fields of a struct literal are evaluated in the order in which they are written here.
                    Ok(Self { $($field: Field::read(reader, stringify!($field))?),+ })
                }

                fn write(&self, out: &mut Vec<u8>) {
                    $(self.$field.write(out);)+
                }
            }

            impl<'a> From<$module::$payload$(<$life>)?> for Message<'a> {
                fn from(message: $module::$payload$(<$life>)?) -> Self {
                    Self::$variant(message)
                }
            }
        )+)+
    };
}

messages! {
    Common 0x0000 {
        0x00 "SetupConnection" "spec 3.6.1", plain, ToServer, SETUP_CONNECTION,
            SetupConnection(common::SetupConnection<'a>) {
                protocol, min_version, max_version, flags, endpoint_host, endpoint_port, vendor,
                hardware_version, firmware, device_id
            }
        0x01 "SetupConnection.Success" "spec 3.6.2", plain, ToClient, SETUP_CONNECTION_SUCCESS,
            SetupConnectionSuccess(common::SetupConnectionSuccess) { used_version, flags }
        0x02 "SetupConnection.Error" "spec 3.6.3", plain, ToClient, SETUP_CONNECTION_ERROR,
            SetupConnectionError(common::SetupConnectionError<'a>) { flags, error_code }
        0x03 "ChannelEndpointChanged" "spec 3.6.4", channel, ToClient, CHANNEL_ENDPOINT_CHANGED,
            ChannelEndpointChanged(common::ChannelEndpointChanged) { channel_id }
        0x04 "Reconnect" "spec 3.6.5", plain, ToClient, RECONNECT,
            Reconnect(common::Reconnect<'a>) { new_host, new_port }
    }
    Mining 0x0000 {
        0x10 "OpenStandardMiningChannel" "spec 5.3.2", plain, ToServer, OPEN_STANDARD_MINING_CHANNEL,
            OpenStandardMiningChannel(mining::OpenStandardMiningChannel<'a>) {
                request_id, user_identity, nominal_hash_rate, max_target
            }
        0x11 "OpenStandardMiningChannel.Success" "spec 5.3.3", plain, ToClient, OPEN_STANDARD_MINING_CHANNEL_SUCCESS,
            OpenStandardMiningChannelSuccess(mining::OpenStandardMiningChannelSuccess<'a>) {
                request_id, channel_id, target, extranonce_prefix, group_channel_id
            }
        0x12 "OpenMiningChannel.Error" "spec 5.3.6", plain, ToClient, OPEN_MINING_CHANNEL_ERROR,
            OpenMiningChannelError(mining::OpenMiningChannelError<'a>) { request_id, error_code }
        0x13 "OpenExtendedMiningChannel" "spec 5.3.4", plain, ToServer, OPEN_EXTENDED_MINING_CHANNEL,
            OpenExtendedMiningChannel(mining::OpenExtendedMiningChannel<'a>) {
                request_id, user_identity, nominal_hash_rate, max_target, min_extranonce_size
            }
        0x14 "OpenExtendedMiningChannel.Success" "spec 5.3.5", plain, ToClient, OPEN_EXTENDED_MINING_CHANNEL_SUCCESS,
            OpenExtendedMiningChannelSuccess(mining::OpenExtendedMiningChannelSuccess<'a>) {
                request_id, channel_id, target, extranonce_size, extranonce_prefix, group_channel_id
            }
        0x15 "NewMiningJob" "spec 5.3.15", channel, ToClient, NEW_MINING_JOB,
            NewMiningJob(mining::NewMiningJob<'a>) { channel_id, job_id, min_ntime, version, merkle_root }
        0x16 "UpdateChannel" "spec 5.3.7", channel, ToServer, UPDATE_CHANNEL,
            UpdateChannel(mining::UpdateChannel<'a>) { channel_id, nominal_hash_rate, maximum_target }
        0x17 "UpdateChannel.Error" "spec 5.3.8", channel, ToClient, UPDATE_CHANNEL_ERROR,
            UpdateChannelError(mining::UpdateChannelError<'a>) { channel_id, error_code }
        0x18 "CloseChannel" "spec 5.3.9", channel, Both, CLOSE_CHANNEL,
            CloseChannel(mining::CloseChannel<'a>) { channel_id, reason_code }
        0x19 "SetExtranoncePrefix" "spec 5.3.10", channel, ToClient, SET_EXTRANONCE_PREFIX,
            SetExtranoncePrefix(mining::SetExtranoncePrefix<'a>) { channel_id, extranonce_prefix }
        0x1a "SubmitSharesStandard" "spec 5.3.11", channel, ToServer, SUBMIT_SHARES_STANDARD,
            SubmitSharesStandard(mining::SubmitSharesStandard) {
                channel_id, sequence_number, job_id, nonce, ntime, version
            }
        0x1b "SubmitSharesExtended" "spec 5.3.12", channel, ToServer, SUBMIT_SHARES_EXTENDED,
            SubmitSharesExtended(mining::SubmitSharesExtended<'a>) {
                channel_id, sequence_number, job_id, nonce, ntime, version, extranonce
            }
        0x1c "SubmitShares.Success" "spec 5.3.13", channel, ToClient, SUBMIT_SHARES_SUCCESS,
            SubmitSharesSuccess(mining::SubmitSharesSuccess) {
                channel_id, last_sequence_number, new_submits_accepted_count, new_shares_sum
            }
        0x1d "SubmitShares.Error" "spec 5.3.14", channel, ToClient, SUBMIT_SHARES_ERROR,
            SubmitSharesError(mining::SubmitSharesError<'a>) { channel_id, sequence_number, error_code }
        0x1f "NewExtendedMiningJob" "spec 5.3.16", channel, ToClient, NEW_EXTENDED_MINING_JOB,
            NewExtendedMiningJob(mining::NewExtendedMiningJob<'a>) {
                channel_id, job_id, min_ntime, version, version_rolling_allowed, merkle_path,
                coinbase_tx_prefix, coinbase_tx_suffix
            }
        0x20 "SetNewPrevHash" "spec 5.3.17", channel, ToClient, SET_NEW_PREV_HASH,
            SetNewPrevHash(mining::SetNewPrevHash<'a>) { channel_id, job_id, prev_hash, min_ntime, nbits }
        0x21 "SetTarget" "spec 5.3.21", channel, ToClient, SET_TARGET,
            SetTarget(mining::SetTarget<'a>) { channel_id, maximum_target }
        0x22 "SetCustomMiningJob" "spec 5.3.18", channel, ToServer, SET_CUSTOM_MINING_JOB,
            SetCustomMiningJob(mining::SetCustomMiningJob<'a>) {
                channel_id, request_id, token, version, prev_hash, min_ntime, nbits, coinbase_tx_version,
                coinbase_prefix, coinbase_tx_input_n_sequence, coinbase_tx_outputs, coinbase_tx_locktime,
                merkle_path
            }
        0x23 "SetCustomMiningJob.Success" "spec 5.3.19", channel, ToClient, SET_CUSTOM_MINING_JOB_SUCCESS,
            SetCustomMiningJobSuccess(mining::SetCustomMiningJobSuccess) { channel_id, request_id, job_id }
        0x24 "SetCustomMiningJob.Error" "spec 5.3.20", channel, ToClient, SET_CUSTOM_MINING_JOB_ERROR,
            SetCustomMiningJobError(mining::SetCustomMiningJobError<'a>) {
                channel_id, request_id, error_code
            }
        0x25 "SetGroupChannel" "spec 5.3.22", plain, ToClient, SET_GROUP_CHANNEL,
            SetGroupChannel(mining::SetGroupChannel<'a>) { group_channel_id, channel_ids }
    }
    JobDeclaration 0x0000 {
        0x50 "AllocateMiningJobToken" "spec 6.4.2", plain, ToServer, ALLOCATE_MINING_JOB_TOKEN,
            AllocateMiningJobToken(job_declaration::AllocateMiningJobToken<'a>) {
                user_identifier, request_id
            }
        0x51 "AllocateMiningJobToken.Success" "spec 6.4.3", plain, ToClient, ALLOCATE_MINING_JOB_TOKEN_SUCCESS,
            AllocateMiningJobTokenSuccess(job_declaration::AllocateMiningJobTokenSuccess<'a>) {
                request_id, mining_job_token, coinbase_outputs
            }
        0x55 "ProvideMissingTransactions" "spec 6.4.7", plain, ToClient, PROVIDE_MISSING_TRANSACTIONS,
            ProvideMissingTransactions(job_declaration::ProvideMissingTransactions<'a>) {
                request_id, unknown_tx_position_list
            }
        0x56 "ProvideMissingTransactions.Success" "spec 6.4.8", plain, ToServer, PROVIDE_MISSING_TRANSACTIONS_SUCCESS,
            ProvideMissingTransactionsSuccess(job_declaration::ProvideMissingTransactionsSuccess<'a>) {
                request_id, transaction_list
            }
        0x57 "DeclareMiningJob" "spec 6.4.4", plain, ToServer, DECLARE_MINING_JOB,
            DeclareMiningJob(job_declaration::DeclareMiningJob<'a>) {
                request_id, mining_job_token, version, coinbase_tx_prefix, coinbase_tx_suffix, wtxid_list,
                excess_data
            }
        0x58 "DeclareMiningJob.Success" "spec 6.4.5", plain, ToClient, DECLARE_MINING_JOB_SUCCESS,
            DeclareMiningJobSuccess(job_declaration::DeclareMiningJobSuccess<'a>) {
                request_id, new_mining_job_token
            }
        0x59 "DeclareMiningJob.Error" "spec 6.4.6", plain, ToClient, DECLARE_MINING_JOB_ERROR,
            DeclareMiningJobError(job_declaration::DeclareMiningJobError<'a>) {
                request_id, error_code, error_details
            }
        0x60 "PushSolution" "spec 6.4.9", plain, ToServer, PUSH_SOLUTION,
            PushSolution(job_declaration::PushSolution<'a>) {
                extranonce, prev_hash, nonce, ntime, nbits, version
            }
    }
    TemplateDistribution 0x0000 {
        0x70 "CoinbaseOutputConstraints" "spec 7.1", plain, ToServer, COINBASE_OUTPUT_CONSTRAINTS,
            CoinbaseOutputConstraints(template_distribution::CoinbaseOutputConstraints) {
                coinbase_output_max_additional_size, coinbase_output_max_additional_sigops
            }
        0x71 "NewTemplate" "spec 7.2", plain, ToClient, NEW_TEMPLATE,
            NewTemplate(template_distribution::NewTemplate<'a>) {
                template_id, future_template, version, coinbase_tx_version, coinbase_prefix,
                coinbase_tx_input_sequence, coinbase_tx_value_remaining, coinbase_tx_outputs_count,
                coinbase_tx_outputs, coinbase_tx_locktime, merkle_path
            }
        0x72 "SetNewPrevHash" "spec 7.3", plain, ToClient, TEMPLATE_SET_NEW_PREV_HASH,
            TemplateSetNewPrevHash(template_distribution::SetNewPrevHash<'a>) {
                template_id, prev_hash, header_timestamp, n_bits, target
            }
        0x73 "RequestTransactionData" "spec 7.4", plain, ToServer, REQUEST_TRANSACTION_DATA,
            RequestTransactionData(template_distribution::RequestTransactionData) { template_id }
        0x74 "RequestTransactionData.Success" "spec 7.5", plain, ToClient, REQUEST_TRANSACTION_DATA_SUCCESS,
            RequestTransactionDataSuccess(template_distribution::RequestTransactionDataSuccess<'a>) {
                template_id, excess_data, transaction_list
            }
        0x75 "RequestTransactionData.Error" "spec 7.6", plain, ToClient, REQUEST_TRANSACTION_DATA_ERROR,
            RequestTransactionDataError(template_distribution::RequestTransactionDataError<'a>) {
                template_id, error_code
            }
        0x76 "SubmitSolution" "spec 7.7", plain, ToServer, SUBMIT_SOLUTION,
            SubmitSolution(template_distribution::SubmitSolution<'a>) {
                template_id, version, header_timestamp, header_nonce, coinbase_tx
            }
    }
    ExtensionsNegotiation 0x0001 {
        0x00 "RequestExtensions" "extension 0x0001", plain, ToServer, REQUEST_EXTENSIONS,
            RequestExtensions(extensions::RequestExtensions<'a>) { request_id, requested_extensions }
        0x01 "RequestExtensions.Success" "extension 0x0001", plain, ToClient, REQUEST_EXTENSIONS,
            RequestExtensionsSuccess(extensions::RequestExtensionsSuccess<'a>) {
                request_id, supported_extensions
            }
        0x02 "RequestExtensions.Error" "extension 0x0001", plain, ToClient, REQUEST_EXTENSIONS_ERROR,
            RequestExtensionsError(extensions::RequestExtensionsError<'a>) {
                request_id, unsupported_extensions, required_extensions
            }
    }
}
