//! Why a share is refused.

use adit_messages::error_code::SubmitSharesError;

/// Why a share is refused; the first check that fails decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, thiserror::Error)]
pub enum Reject {
    /// The job belongs to a tip that has been replaced. Decided by whoever keeps the jobs.
    #[error("the share's job belongs to a replaced tip")]
    StaleShare,
    /// The channel has no such job. Decided by whoever keeps the jobs.
    #[error("the share's job is unknown to its channel")]
    InvalidJobId,
    /// The rolled extranonce has not the channel's length, or a standard share has one, or an extended share has none.
    #[error("the share's extranonce has not the length of its channel's")]
    BadExtranonceSize,
    /// The version differs from that of a job which allows no rolling.
    #[error("the share's version is not that of its job, which allows no version rolling")]
    VersionRollingNotAllowed,
    /// The version differs from the job's in bits that are not free.
    #[error("the share's version differs from its job's in bits that are not free")]
    InvalidNonRollableVersionBit,
    /// The time is before the job's, or too far in the future.
    #[error("the share's time is outside the window of its job")]
    InvalidNtime,
    /// The same share was accepted before.
    #[error("the share was accepted before")]
    DuplicateShare,
    /// The hash meets neither the channel's target nor the network's.
    #[error("the share's hash does not meet its target")]
    DifficultyTooLow,
    /// The channel has had so many shares under this tip that no more can be remembered, and what is not remembered could earn
    /// twice.
    #[error("the channel has submitted more shares under one tip than are remembered")]
    TooManyShares,
}

/// The code that `SubmitShares.Error` carries (spec 5.3.14).
impl From<Reject> for SubmitSharesError {
    fn from(reject: Reject) -> Self {
        match reject {
            Reject::StaleShare => Self::StaleShare,
            Reject::InvalidJobId => Self::InvalidJobId,
            Reject::BadExtranonceSize => Self::BadExtranonceSize,
            Reject::VersionRollingNotAllowed => Self::VersionRollingNotAllowed,
            Reject::InvalidNonRollableVersionBit => Self::InvalidNonRollableVersionBit,
            Reject::InvalidNtime => Self::InvalidShare,
            Reject::TooManyShares => Self::TooManyShares,
            Reject::DuplicateShare => Self::DuplicateShare,
            Reject::DifficultyTooLow => Self::DifficultyTooLow,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_firmware_knows() {
        for (reject, code) in [
            (Reject::StaleShare, "stale-share"),
            (Reject::InvalidJobId, "invalid-job-id"),
            (Reject::BadExtranonceSize, "bad-extranonce-size"),
            (Reject::VersionRollingNotAllowed, "version-rolling-not-allowed"),
            (Reject::InvalidNonRollableVersionBit, "invalid-non-rollable-version-bit"),
            (Reject::InvalidNtime, "invalid-share"),
            (Reject::DuplicateShare, "duplicate-share"),
            (Reject::DifficultyTooLow, "difficulty-too-low"),
            (Reject::TooManyShares, "too-many-shares"),
        ] {
            assert_eq!(SubmitSharesError::from(reject).as_str(), code);
        }
    }
}
