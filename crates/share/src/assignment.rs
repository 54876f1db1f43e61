//! What a channel holds of a job: its target and its part of the extranonce.

use adit_units::{Target, Work};

use crate::coinbase::write_at;
use crate::header::Header;
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
    /// The `first` and `second` bytes together; the second are left out if both are more than [`MAX_EXTRANONCE_LEN`].
    #[inline]
    #[must_use]
    pub fn join(first: &[u8], second: &[u8]) -> Self {
        let mut bytes = [0; MAX_EXTRANONCE_LEN];
        let len = write_at(&mut bytes, 0, first);
        let len = write_at(&mut bytes, len, second);
        Self { bytes, len }
    }

    /// The bytes.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
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
    /// Nothing: the merkle root is fixed (spec 5.1.1), and so is most of the header.
    Standard { header: Box<Header> },
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
        let mut header = Box::new(*job.header());
        header.set_root(&job.merkle_root(extranonce)?);
        Ok(Self::new(target, extranonce, Space::Standard { header }))
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
    pub fn merkle_root(&self) -> Option<&[u8; 32]> {
        match &self.space {
            Space::Extended { .. } => None,
            Space::Standard { header } => header.merkle_root(),
        }
    }

    /// The whole extranonce of a share, which a block needs. Means nothing for a share that [`crate::judge()`] refuses.
    #[inline]
    #[must_use]
    pub fn extranonce(&self, submission: &Submission<'_>) -> Extranonce {
        Extranonce::join(self.prefix.as_bytes(), submission.extranonce.unwrap_or_default())
    }

    /// The channel's extranonce.
    #[inline]
    pub(crate) fn prefix(&self) -> &[u8] {
        self.prefix.as_bytes()
    }

    #[inline]
    pub(crate) const fn space(&self) -> &Space {
        &self.space
    }
}

#[cfg(test)]
mod tests {
    use adit_units::JobId;

    use super::*;
    use crate::fixture;

    fn job() -> Job {
        let template = fixture::template(1, fixture::tip(900_000, 0x1702_0000), 3);
        Job::new(JobId(7), &template, &fixture::spec(&template, JobId(7), 1)).unwrap()
    }

    #[test]
    fn an_extranonce_that_does_not_fit_is_refused() {
        let job = job();
        for given in [0, 19, 21, 33] {
            let error = Err(ExtranonceLengthError { given, room: 20 });
            assert_eq!(Assignment::standard(&job, Target::MAX, &vec![0; given]), error);
        }
        for given in [21, 32, 33] {
            let error = Err(ExtranonceLengthError { given, room: 20 });
            assert_eq!(Assignment::extended(&job, Target::MAX, &vec![0; given]), error);
        }
        for given in [0, 6, 20] {
            assert!(Assignment::extended(&job, Target::MAX, &vec![0; given]).is_ok());
        }
    }

    #[test]
    fn the_work_is_that_of_the_target() {
        let assignment = Assignment::extended(&job(), Target::DIFFICULTY_1, &[0; 6]).unwrap();
        assert_eq!(assignment.target(), Target::DIFFICULTY_1);
        assert_eq!(assignment.work(), Target::DIFFICULTY_1.to_work());
    }

    #[test]
    fn the_extranonce_is_the_prefix_and_what_the_miner_rolled() {
        let job = job();
        let mut payload = vec![0; 24];
        payload.push(14);
        payload.extend_from_slice(&[2; 14]);
        let share = Submission::parse_extended(&payload).unwrap();
        let assignment = Assignment::extended(&job, Target::MAX, &[1; 6]).unwrap();
        assert_eq!(assignment.extranonce(&share).as_bytes(), [[1; 6].as_slice(), &[2; 14]].concat());
        assert_eq!(assignment.merkle_root(), None);
        let long = [9; MAX_EXTRANONCE_LEN];
        let refused = Submission { extranonce: Some(&long), ..share };
        assert_eq!(assignment.extranonce(&refused).as_bytes(), [1; 6]);
        let share = Submission::parse_standard(&payload).unwrap();
        let assignment = Assignment::standard(&job, Target::MAX, &[3; 20]).unwrap();
        assert_eq!(assignment.extranonce(&share).as_bytes(), [3; 20]);
        assert_eq!(assignment.merkle_root(), Some(&job.merkle_root(&[3; 20]).unwrap()));
    }
}
