//! What a channel holds of a job: its target and its part of the extranonce.

use adit_units::{Target, Work};

use crate::{Job, MAX_EXTRANONCE_LEN, Submission};

/// An extranonce that does not fit its job; whoever lends extranonces is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an extranonce of {given} bytes does not fit a job that has room for {room}")]
pub struct ExtranonceLengthError {
    /// The length given, in bytes.
    pub given: usize,
    /// The length of the job's extranonce, in bytes.
    pub room: usize,
}

/// A whole extranonce: what stands between a coinbase's prefix and suffix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extranonce {
    bytes: [u8; MAX_EXTRANONCE_LEN],
    len: usize,
}

impl Extranonce {
    /// The `first` and `second` bytes together; what exceeds [`MAX_EXTRANONCE_LEN`] is cut, which callers have ruled out.
    #[inline]
    pub(crate) fn join(first: &[u8], second: &[u8]) -> Self {
        let mut bytes = [0; MAX_EXTRANONCE_LEN];
        let from = first.iter().chain(second);
        let len = bytes.iter_mut().zip(from).map(|(to, from)| *to = *from).count();
        Self { bytes, len }
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        let (bytes, _) = self.bytes.split_at(self.len);
        bytes
    }
}

/// A job as one channel works on it.
///
/// A share is judged by the target that its job was issued with, whatever the channel's target has become since (spec 5.3.21).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Assignment {
    target: Target,
    work: Work,
    /// The channel's extranonce: the first part of an extended channel's, the whole of a standard channel's.
    prefix: Extranonce,
    space: Space,
}

/// What the miner may vary beside version, time and nonce.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Space {
    /// The rest of the extranonce.
    Extended { rolled_len: usize },
    /// Nothing: the merkle root is fixed (spec 5.1.1).
    Standard { merkle_root: [u8; 32] },
}

impl Assignment {
    /// The job for an extended channel whose extranonces begin with `prefix`.
    ///
    /// # Errors
    ///
    /// If the prefix is longer than the job's extranonce.
    pub fn extended(job: &Job, target: Target, prefix: &[u8]) -> Result<Self, ExtranonceLengthError> {
        let room = job.extranonce_len();
        let rolled_len =
            room.checked_sub(prefix.len()).ok_or(ExtranonceLengthError { given: prefix.len(), room })?;
        Ok(Self::new(target, prefix, Space::Extended { rolled_len }))
    }

    /// The job for a standard channel, whose extranonce is `extranonce`; hashes the coinbase and the path once.
    ///
    /// # Errors
    ///
    /// If the extranonce has not the length of the job's.
    pub fn standard(job: &Job, target: Target, extranonce: &[u8]) -> Result<Self, ExtranonceLengthError> {
        let merkle_root = job.merkle_root(extranonce)?;
        Ok(Self::new(target, extranonce, Space::Standard { merkle_root }))
    }

    fn new(target: Target, prefix: &[u8], space: Space) -> Self {
        Self { target, work: target.to_work(), prefix: Extranonce::join(prefix, &[]), space }
    }

    /// The target that the job was issued with.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// What each share of the job is worth.
    #[must_use]
    pub const fn work(&self) -> Work {
        self.work
    }

    /// The merkle root that a `NewMiningJob` carries (spec 5.3.15), or `None` for an extended channel.
    #[must_use]
    pub const fn merkle_root(&self) -> Option<&[u8; 32]> {
        match &self.space {
            Space::Extended { .. } => None,
            Space::Standard { merkle_root } => Some(merkle_root),
        }
    }

    /// The whole extranonce of a share, which a block needs.
    #[inline]
    #[must_use]
    pub fn extranonce(&self, submission: &Submission<'_>) -> Extranonce {
        Extranonce::join(self.prefix.as_bytes(), submission.extranonce.unwrap_or_default())
    }

    #[inline]
    pub(crate) const fn space(&self) -> &Space {
        &self.space
    }
}
