//! The error codes that firmware knows, one enum for each answer that carries one.
//!
//! The specification leaves codes free (spec 3.5); these are the strings of the Stratum Reference Implementation, which existing
//! clients act on. A peer may send any other code: it is to be logged, and nothing may depend on it.

use core::fmt;
use core::str::FromStr;

use binary_sv2::Str0255;

/// A string that is none of the codes of its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an error code that this answer is known to carry")]
#[non_exhaustive]
pub struct UnknownCode;

/// Declares the codes of one answer.
macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$code_doc:meta])* $code:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$code_doc])* $code,)+
        }

        impl $name {
            /// Every code of this answer.
            pub const ALL: &[Self] = &[$(Self::$code),+];

            /// The code as the wire carries it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$code => $text,)+
                }
            }

            /// The value for a message's `error_code` field.
            #[must_use]
            pub fn to_wire(self) -> Str0255<'static> {
                Str0255::try_from(self.as_str()).expect("every code is shorter than 256 bytes")
            }

            /// Reads a message's `error_code` field; `None` if it is a code that nobody has written down.
            #[must_use]
            pub fn from_wire(code: &Str0255<'_>) -> Option<Self> {
                core::str::from_utf8(code.as_bytes()).ok()?.parse().ok()
            }
        }

        impl FromStr for $name {
            type Err = UnknownCode;

            fn from_str(code: &str) -> Result<Self, UnknownCode> {
                match code {
                    $($text => Ok(Self::$code),)+
                    _ => Err(UnknownCode),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

codes! {
    /// `SetupConnection.Error` (spec 3.6.3).
    SetupConnectionError {
        /// A flag is set that the server does not support; the message's `flags` say which.
        UnsupportedFeatureFlags = "unsupported-feature-flags",
        /// The server does not speak this subprotocol here.
        UnsupportedProtocol = "unsupported-protocol",
        /// The job declarator server works in full-template mode only.
        MissingDeclareTxDataFlag = "missing-declare-tx-data-flag",
        /// No protocol version suits both.
        ProtocolVersionMismatch = "protocol-version-mismatch",
    }
}

codes! {
    /// `OpenMiningChannel.Error` (spec 5.3.6).
    OpenMiningChannelError {
        /// Custom work needs an extended channel.
        StandardChannelsNotSupportedForCustomWork = "standard-channels-not-supported-for-custom-work",
        /// A connection that requires standard jobs opens no extended channel.
        ExtendedChannelsNotSupportedForStandardJobs = "extended-channels-not-supported-for-standard-jobs",
        /// The connection or the server has all the channels it may have.
        ChannelCapacityExhausted = "channel-capacity-exhausted",
        /// The user identity is not one that the pool can read.
        InvalidUserIdentity = "invalid-user-identity",
        /// The user identity is readable but names nobody.
        UnknownUser = "unknown-user",
        /// The nominal hash rate is not a number of hashes per second.
        InvalidNominalHashrate = "invalid-nominal-hashrate",
        /// The device's maximum target is harder than the server gives out.
        MaxTargetOutOfRange = "max-target-out-of-range",
        /// More extranonce bytes are asked for than the server can spare.
        MinExtranonceSizeTooLarge = "min-extranonce-size-too-large",
        /// The extranonce size does not suit the server.
        UnsupportedMinExtranonceSize = "unsupported-min-extranonce-size",
    }
}

codes! {
    /// `UpdateChannel.Error` (spec 5.3.8).
    UpdateChannelError {
        /// The connection has no such channel.
        InvalidChannelId = "invalid-channel-id",
        /// The nominal hash rate is not a number of hashes per second.
        InvalidNominalHashrate = "invalid-nominal-hashrate",
        /// The device's maximum target is harder than the server gives out.
        MaxTargetOutOfRange = "max-target-out-of-range",
    }
}

codes! {
    /// `SubmitShares.Error` (spec 5.3.14).
    SubmitSharesError {
        /// The connection has no such channel.
        InvalidChannelId = "invalid-channel-id",
        /// The share is malformed, for instance its time lies outside the job's bounds.
        InvalidShare = "invalid-share",
        /// The job was for a tip that is no longer the chain's.
        StaleShare = "stale-share",
        /// The channel never had this job.
        InvalidJobId = "invalid-job-id",
        /// The hash does not meet the target that the job was issued with.
        DifficultyTooLow = "difficulty-too-low",
        /// The same share was submitted before.
        DuplicateShare = "duplicate-share",
        /// The extranonce has not the size that the channel was opened with.
        BadExtranonceSize = "bad-extranonce-size",
        /// The version differs from the job's, which does not allow that.
        VersionRollingNotAllowed = "version-rolling-not-allowed",
        /// The version differs from the job's in bits outside the BIP323 mask.
        InvalidNonRollableVersionBit = "invalid-non-rollable-version-bit",
        /// The channel has submitted more shares than it may. No published implementation has a code for this.
        TooManyShares = "too-many-shares",
    }
}

codes! {
    /// The `reason_code` of `CloseChannel` (spec 5.3.9), where the server closes. No published implementation has codes for this.
    CloseChannelReason {
        /// Too many of the channel's shares are no good.
        TooManyInvalidShares = "too-many-invalid-shares",
        /// Too many of the channel's shares came before, or too late.
        TooManyRepeatedShares = "too-many-repeated-shares",
        /// The channel submits more shares than it may, and goes on.
        TooManyShares = "too-many-shares",
        /// The pool's operator wants it so.
        ClosedByOperator = "closed-by-operator",
    }
}

codes! {
    /// `SetCustomMiningJob.Error` (spec 5.3.20).
    SetCustomMiningJobError {
        /// The server accepts no custom jobs.
        JdNotSupported = "jd-not-supported",
        /// The connection has no such extended channel.
        InvalidChannelId = "invalid-channel-id",
        /// The token is unknown, expired or someone else's.
        InvalidMiningJobToken = "invalid-mining-job-token",
        /// The declaration behind the token has not been accepted yet.
        JobNotYetValidated = "job-not-yet-validated",
        /// The job builds on a block that is no longer the tip.
        StaleChainTip = "stale-chain-tip",
        /// The smallest time does not suit the tip.
        InvalidMinNtime = "invalid-min-ntime",
        /// The difficulty bits are not the network's.
        InvalidNbits = "invalid-nbits",
        /// The version is not one the network accepts.
        InvalidVersion = "invalid-version",
        /// The coinbase transaction cannot be built.
        InvalidCoinbaseTx = "invalid-coinbase-tx",
        /// The coinbase transaction's version is not acceptable.
        InvalidCoinbaseTxVersion = "invalid-coinbase-tx-version",
        /// The beginning of the coinbase input is wrong or too long.
        InvalidCoinbasePrefix = "invalid-coinbase-prefix",
        /// The coinbase input's sequence is not acceptable.
        InvalidCoinbaseTxInputNSequence = "invalid-coinbase-tx-input-n-sequence",
        /// The coinbase outputs are malformed or do not pay what they must.
        InvalidCoinbaseTxOutputs = "invalid-coinbase-tx-outputs",
        /// The coinbase transaction's lock time is not acceptable.
        InvalidCoinbaseTxLocktime = "invalid-coinbase-tx-locktime",
        /// The merkle path is not that of the declared transactions.
        InvalidMerklePath = "invalid-merkle-path",
    }
}

codes! {
    /// `DeclareMiningJob.Error` (spec 6.4.6).
    DeclareMiningJobError {
        /// The token is unknown, expired or someone else's.
        InvalidMiningJobToken = "invalid-mining-job-token",
        /// Transactions were asked for and not provided.
        MissingTxs = "missing-txs",
        /// The coinbase transaction cannot be read or does not pay what it must.
        InvalidCoinbaseTx = "invalid-coinbase-tx",
        /// The coinbase transaction's input is not acceptable.
        InvalidCoinbaseTxInput = "invalid-coinbase-tx-input",
        /// The server could not check the job.
        InternalError = "internal-error",
        /// The job builds on a block that is no longer the tip.
        StaleChainTip = "stale-chain-tip",
        /// The node refused the block that the job would make.
        InvalidJob = "invalid-job",
    }
}

codes! {
    /// `RequestTransactionData.Error` (spec 7.6).
    RequestTransactionDataError {
        /// The template is of a tip that is no longer the chain's.
        StaleTemplateId = "stale-template-id",
        /// The server never had this template, or has forgotten it.
        TemplateIdNotFound = "template-id-not-found",
    }
}

#[cfg(test)]
mod tests;
