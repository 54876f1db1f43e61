//! Why a connection to a pool is of no more use.

use adit_messages::DecodeError;
use adit_messages::flags::MiningSetupFlags;

use crate::job::rollable;

/// Why a connection is of no more use; close it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UpstreamError {
    /// The pool does not want the connection.
    #[error("the pool refuses the connection: {code}{}", unsupported(*flags))]
    SetupRefused {
        /// The pool's reason, made printable.
        code: String,
        /// The flags that it does not support.
        flags: MiningSetupFlags,
    },
    /// The pool serves only those who speak extensions that are not spoken here, or not asked for.
    #[error("the pool requires extensions that it was not asked for: {}", numbers(.0))]
    ExtensionsRequired(Vec<u16>),
    /// The pool leaves less of the extranonce than is needed, or makes it longer than it can be.
    #[error(
        "the pool's part of the extranonce has {prefix} bytes and leaves {size}; at least {least} are needed, and 32 in all are possible{}",
        advice(*size, *least)
    )]
    Extranonce {
        /// Bytes that the pool keeps.
        prefix: usize,
        /// Bytes that it leaves.
        size: u16,
        /// Bytes that were asked for.
        least: u16,
    },
    /// The pool has not answered, or not said anything for very long.
    #[error("the pool did not send {0} in time")]
    Silent(&'static str),
    /// The pool sent what is no message.
    #[error("the pool sent a malformed message: {0}")]
    Malformed(#[from] DecodeError),
    /// The pool sent a message that it may not send now.
    #[error("the pool broke the protocol: {0}")]
    Misbehaved(&'static str),
    /// The pool sent more than is kept of anything.
    #[error("the pool sent too many {0}")]
    TooMuch(&'static str),
}

impl UpstreamError {
    /// Whether the pool has understood and said no, so that asking again soon will not help.
    #[must_use]
    pub const fn is_refusal(&self) -> bool {
        match self {
            Self::SetupRefused { .. } | Self::ExtensionsRequired(_) | Self::Extranonce { .. } => true,
            Self::Silent(_) | Self::Malformed(_) | Self::Misbehaved(_) | Self::TooMuch(_) => false,
        }
    }
}

/// What an operator can do about a pool that leaves too little.
fn advice(size: u16, least: u16) -> String {
    rollable(size).filter(|_| size < least).map_or_else(String::new, |possible| {
        format!("; lower translator.extranonce2_size to {possible} or less")
    })
}

/// What a pool says that opens no channel, with what an operator can do about it.
pub(super) fn refusal(code: String) -> String {
    if code != "min-extranonce-size-too-large" {
        return code;
    }
    // It does not say how much it leaves. A job declarator client leaves eight bytes, because its own pool must leave six more than that.
    format!(
        "{code}: it leaves less of the extranonce than machines are promised; lower translator.extranonce2_size, to 4 for `adit jdc`"
    )
}

fn unsupported(flags: MiningSetupFlags) -> String {
    if flags.is_empty() { String::new() } else { format!(", it does not support {flags:?}") }
}

fn numbers(extensions: &[u16]) -> String {
    extensions.iter().map(|extension| format!("{extension:#06x}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_that_leaves_too_little_was_named_without_the_key_to_change() {
        let text = |size, least| UpstreamError::Extranonce { prefix: 8, size, least }.to_string();
        let end = "; lower translator.extranonce2_size to 4 or less";
        assert!(text(8, 12).ends_with(end), "{}", text(8, 12));
        for (size, least) in [(5, 12), (3, 12), (0, 12), (30, 12), (12, 12)] {
            assert!(text(size, least).ends_with("32 in all are possible"), "nothing helps: {size}");
        }
    }

    #[test]
    fn a_declarator_client_refused_the_channel_and_nobody_said_what_to_change() {
        let told = refusal("min-extranonce-size-too-large".to_owned());
        assert!(told.starts_with("min-extranonce-size-too-large: "), "{told}");
        assert!(told.ends_with("lower translator.extranonce2_size, to 4 for `adit jdc`"), "{told}");
        assert_eq!(refusal("unknown-user".to_owned()), "unknown-user");
    }
}
