//! What has been accepted and refused, for metrics.

use adit_messages::error_code::SubmitSharesError;

/// Number of codes that a share can be refused with.
const CODES: usize = SubmitSharesError::ALL.len();

/// What a session has accepted and refused since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Shares that were accepted, blocks among them.
    pub accepted: u64,
    /// Blocks that were found.
    pub blocks: u64,
    /// Refused shares, in the order of [`SubmitSharesError::ALL`].
    rejected: [u64; CODES],
}

impl Counters {
    /// Shares that were refused with `code`.
    #[must_use]
    pub fn rejected(&self, code: SubmitSharesError) -> u64 {
        let counted = SubmitSharesError::ALL.iter().zip(self.rejected);
        counted.filter(|&(&known, _)| known == code).map(|(_, count)| count).sum()
    }

    /// Shares that were refused.
    #[must_use]
    pub fn rejected_total(&self) -> u64 {
        self.rejected.iter().sum()
    }

    pub(super) fn count_rejected(&mut self, code: SubmitSharesError) {
        for (_, count) in
            SubmitSharesError::ALL.iter().zip(&mut self.rejected).filter(|(known, _)| **known == code)
        {
            *count += 1;
        }
    }
}
