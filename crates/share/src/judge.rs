//! The judge: what one submitted share is.

use adit_units::{UnixTime, Work};

use crate::assignment::Space;
use crate::header::Header;
use crate::seen::Place;
use crate::{Assignment, HEADER_LEN, Job, Reject, Seen, Submission};

/// The bits of a version that miners may set as they like (BIP 323).
pub const VERSION_ROLLING_MASK: u32 = 0x1fff_ffe0;

/// How far a share's time may be ahead of its job's, in seconds; also how far a block's may be ahead of the network's.
pub const MAX_FUTURE_NTIME_SECS: u32 = 7200;

/// How far below the network's limit a share's time must stay, in seconds, so that nodes whose clocks differ still take the block.
pub const NETWORK_TIME_MARGIN_SECS: u32 = 600;

/// What a share is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It meets the channel's target.
    Valid {
        /// What it earns.
        work: Work,
        /// The header's hash, in raw byte order.
        hash: [u8; 32],
    },
    /// It meets the network's target: it goes to every node before anything else happens to it.
    Block {
        /// What it earns. Nothing, where the network's target is easier than the channel's and only that is met.
        work: Work,
        /// The header's hash, in raw byte order.
        hash: [u8; 32],
        /// The block's header; [`Job::block`] makes the rest.
        header: [u8; HEADER_LEN],
    },
    /// It is refused.
    Rejected(Reject),
}

/// Judges a share of `job` on the channel that holds `assignment` and `seen`.
///
/// `now` is the network's time, which is the node's that gave the template and not this host's. The caller has found the job by the submission's number and calls [`Seen::make_room`] beforehand. An accepted share is
/// remembered in `seen`, a refused one is not; a block that cannot be remembered is refused too, as it would be another block each
/// time it came again. Never allocates. The checks that cost nothing come first: length of the
/// extranonce, version bits, time, duplicate; only then is anything hashed.
#[must_use]
pub fn judge(
    job: &Job,
    assignment: &Assignment,
    seen: &mut Seen,
    submission: &Submission<'_>,
    now: UnixTime,
) -> Verdict {
    let share = Unhashed { job, assignment, submission };
    match admit(share, seen, now) {
        Ok(place) => weigh(share, seen, place, share.hash()),
        Err(reject) => Verdict::Rejected(reject),
    }
}

/// As [`judge`], for a share whose hash [`Unhashed::hash_two`] has found already.
#[must_use]
pub fn judge_hashed(share: Unhashed<'_>, seen: &mut Seen, hash: [u8; 32], now: UnixTime) -> Verdict {
    debug_assert_eq!(hash, share.hash(), "the hash is that of another share");
    match admit(share, seen, now) {
        Ok(place) => weigh(share, seen, place, hash),
        Err(reject) => Verdict::Rejected(reject),
    }
}

/// As [`judge`], for a share of a job that carries no tag: another job may have the same headers, so what was seen is told by the header's
/// hash, which `seen` (one of [`crate::SeenHashes`]) remembers. `hash` is that hash, if it is known already.
#[must_use]
pub fn judge_by_hash(share: Unhashed<'_>, seen: &mut Seen, hash: Option<[u8; 32]>, now: UnixTime) -> Verdict {
    if let Err(reject) = check_fields(share, now) {
        return Verdict::Rejected(reject);
    }
    let hash = hash.unwrap_or_else(|| share.hash());
    debug_assert_eq!(hash, share.hash(), "the hash is that of another share");
    match seen.find(seen.fingerprint_of_hash(&hash)) {
        Place::Taken => Verdict::Rejected(Reject::DuplicateShare),
        place @ (Place::Free { .. } | Place::BlockOnly { .. } | Place::NoRoom) => {
            weigh(share, seen, place, hash)
        }
    }
}

/// The block that a share makes which cannot earn: its header, if it meets the network's target and the job allows it.
///
/// Nothing is remembered, so the same share makes the same block each time it comes.
#[must_use]
pub fn block(share: Unhashed<'_>, now: UnixTime) -> Option<[u8; HEADER_LEN]> {
    check_fields(share, now).ok()?;
    let header = share.header(share.root().as_ref());
    share.job.tip().target.is_met_by(&header.hash()).then(|| header.to_bytes())
}

/// A share that would be hashed if it were judged.
///
/// Two of one channel are equal if they are the same share, of which the second would not be hashed after the first was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checked {
    /// What stands for it among the seen ones.
    fingerprint: u64,
}

/// Makes the checks of [`judge`] that need no hashing.
///
/// # Errors
///
/// Why the share is refused.
#[inline]
pub fn check(share: Unhashed<'_>, seen: &Seen, now: UnixTime) -> Result<Checked, Reject> {
    check_fields(share, now)?;
    let fingerprint = share.fingerprint(seen);
    if seen.contains(fingerprint) { Err(Reject::DuplicateShare) } else { Ok(Checked { fingerprint }) }
}

/// A share and all that goes into its hash.
#[derive(Clone, Copy, Debug)]
pub struct Unhashed<'a> {
    /// What it was made for.
    pub job: &'a Job,
    /// The job as its channel works on it.
    pub assignment: &'a Assignment,
    /// What the miner says.
    pub submission: &'a Submission<'a>,
}

impl Unhashed<'_> {
    /// The hash of the share's header, in raw byte order; means nothing for a share that [`check`] refuses.
    #[inline]
    #[must_use]
    pub fn hash(self) -> [u8; 32] {
        self.header(self.root().as_ref()).hash()
    }

    /// The hashes of two shares at once, of one job or of two, which takes less time than one after the other.
    #[inline]
    #[must_use]
    pub fn hash_two(shares: [Self; 2]) -> [[u8; 32]; 2] {
        let [first, second] = shares;
        let [root, other] = match (first.submission.extranonce, second.submission.extranonce) {
            (Some(rolled), Some(other)) => {
                let prefixes = [first.assignment.prefix(), second.assignment.prefix()];
                Job::roots_over([first.job, second.job], prefixes, [rolled, other]).map(Some)
            }
            (None, _) | (_, None) => shares.map(Self::root),
        };
        Header::hash_two([&first.header(root.as_ref()), &second.header(other.as_ref())])
    }

    /// The merkle root of an extended share.
    #[inline]
    fn root(self) -> Option<[u8; 32]> {
        let rolled = self.submission.extranonce?;
        Some(self.job.root_over(self.assignment.prefix(), rolled))
    }

    /// Stands for everything that tells one share of a channel from another.
    #[inline]
    fn fingerprint(self, seen: &Seen) -> u64 {
        let Self { job, submission, .. } = self;
        let job_and_version = u64::from(job.id().0) << 32 | u64::from(submission.version);
        let ntime_and_nonce = u64::from(submission.ntime) << 32 | u64::from(submission.nonce);
        seen.fingerprint(job_and_version, ntime_and_nonce, submission.extranonce.unwrap_or_default())
    }

    /// The header, with the merkle root of an extended share.
    #[inline]
    fn header(self, root: Option<&[u8; 32]>) -> Header {
        let mut header = *match self.assignment.space() {
            Space::Extended { .. } => self.job.header(),
            Space::Standard { header } => header,
        };
        if let Some(root) = root {
            header.set_root(root);
        }
        header.set_share(self.submission);
        header
    }
}

/// The checks that need no hashing; gives the share's place among the seen ones.
#[inline]
fn admit(share: Unhashed<'_>, seen: &Seen, now: UnixTime) -> Result<Place, Reject> {
    check_fields(share, now)?;
    match seen.find(share.fingerprint(seen)) {
        Place::Taken => Err(Reject::DuplicateShare),
        place @ (Place::Free { .. } | Place::BlockOnly { .. } | Place::NoRoom) => Ok(place),
    }
}

/// Compares a share's hash with the targets, and remembers the share if it is accepted.
#[inline]
fn weigh(share: Unhashed<'_>, seen: &mut Seen, place: Place, hash: [u8; 32]) -> Verdict {
    let Unhashed { job, assignment, .. } = share;
    let earns = assignment.target().is_met_by(&hash);
    let is_block = job.tip().target.is_met_by(&hash);
    if !earns && !is_block {
        return Verdict::Rejected(Reject::DifficultyTooLow);
    }
    match (place, is_block) {
        (Place::Free { index, fingerprint }, _) | (Place::BlockOnly { index, fingerprint }, true) => {
            seen.insert(index, fingerprint);
        }
        (Place::BlockOnly { .. }, false) | (Place::Taken | Place::NoRoom, _) => {
            return Verdict::Rejected(Reject::TooManyShares);
        }
    }
    let work = if earns { assignment.work() } else { Work::ZERO };
    if is_block {
        // Nobody keeps the headers of all shares for the sake of the few that are blocks.
        Verdict::Block { work, hash, header: share.header(share.root().as_ref()).to_bytes() }
    } else {
        Verdict::Valid { work, hash }
    }
}

/// The checks that need nothing but the share and its job.
#[inline]
fn check_fields(Unhashed { job, assignment, submission }: Unhashed<'_>, now: UnixTime) -> Result<(), Reject> {
    check_extranonce(assignment, submission)?;
    check_version(job, submission.version)?;
    check_ntime(job, submission.ntime, now)
}

/// That an extended share has exactly the channel's length of extranonce, and a standard share none.
#[inline]
fn check_extranonce(assignment: &Assignment, submission: &Submission<'_>) -> Result<(), Reject> {
    match (assignment.space(), submission.extranonce) {
        (Space::Extended { rolled_len }, Some(rolled)) if rolled.len() == *rolled_len => Ok(()),
        (Space::Standard { .. }, None) => Ok(()),
        (Space::Extended { .. } | Space::Standard { .. }, _) => Err(Reject::BadExtranonceSize),
    }
}

/// That the version differs from the job's in free bits only, and not at all where rolling is not allowed.
#[inline]
fn check_version(job: &Job, version: u32) -> Result<(), Reject> {
    let changed = version ^ job.version();
    match job.version_rolling_allowed() {
        true if changed & !VERSION_ROLLING_MASK != 0 => Err(Reject::InvalidNonRollableVersionBit),
        false if changed != 0 => Err(Reject::VersionRollingNotAllowed),
        true | false => Ok(()),
    }
}

/// That the time is not before the job's, not far ahead of it, and such that the network would take a block with it now.
#[inline]
fn check_ntime(job: &Job, ntime: u32, now: UnixTime) -> Result<(), Reject> {
    let by_job = job.min_ntime().saturating_add(MAX_FUTURE_NTIME_SECS);
    let by_network = now.to_secs().saturating_add(MAX_FUTURE_NTIME_SECS - NETWORK_TIME_MARGIN_SECS);
    if (job.min_ntime()..=by_job.min(by_network)).contains(&ntime) {
        Ok(())
    } else {
        Err(Reject::InvalidNtime)
    }
}

#[cfg(test)]
mod tests;
