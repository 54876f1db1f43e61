//! Why a request is refused, in the codes and words that machines have tables for.

/// The error of an answer: a code from 20 to 25 and a text.
///
/// The texts are those of ckpool. AxeOS shows an explanation only for texts that it knows by the letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Anything that has no code of its own.
    Other(&'static str),
    /// The share is for a block that has been found meanwhile.
    Stale,
    /// The job was never given out, or is too old.
    JobNotFound,
    /// The share was submitted before.
    Duplicate,
    /// The share's hash does not meet the difficulty.
    LowDifficulty,
    /// The user name was not authorized on this connection.
    Unauthorized,
    /// Shares were submitted for a user that the machine has not authorized.
    WorkerMismatch,
    /// Shares were submitted before the subscription.
    NotSubscribed,
    /// The share's time is before the job's or too far ahead.
    NtimeOutOfRange,
    /// The share changes version bits that the machine may not roll.
    InvalidVersionMask,
    /// What is asked for is not offered.
    Unsupported,
}

impl Fault {
    /// The number of the error.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Other(_) | Self::NtimeOutOfRange | Self::InvalidVersionMask | Self::Unsupported => 20,
            Self::Stale | Self::JobNotFound => 21,
            Self::Duplicate => 22,
            Self::LowDifficulty => 23,
            Self::Unauthorized | Self::WorkerMismatch => 24,
            Self::NotSubscribed => 25,
        }
    }

    /// The words of the error.
    #[must_use]
    pub const fn text(self) -> &'static str {
        match self {
            Self::Other(text) => text,
            Self::Stale => "Stale",
            Self::JobNotFound => "Invalid JobID",
            Self::Duplicate => "Duplicate",
            Self::LowDifficulty => "Above target",
            Self::Unauthorized => "Unauthorized worker",
            Self::WorkerMismatch => "Worker mismatch",
            Self::NotSubscribed => "Not subscribed",
            Self::NtimeOutOfRange => "Ntime out of range",
            Self::InvalidVersionMask => "Invalid version mask",
            Self::Unsupported => "Not supported.",
        }
    }
}
