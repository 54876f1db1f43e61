//! Submitted shares: any payloads, before a channel of any shape, get the verdicts that whole bytes and whole hashes give.

use std::collections::HashSet;

use adit_share::{Assignment, BLOCK_ROOM, Job, JobParts, Reject, Seen, Submission, Tip, Verdict, judge};
use adit_units::{Height, JobId, Target, UnixTime, Work};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{BlockHash, CompactTarget};

/// The job's time, in seconds since 1970.
const TIME: u32 = 1_780_000_000;
/// The job's version.
const VERSION: u32 = 0x2000_0000;
/// So few shares are remembered that an input can reach the limit.
const SEEN_LIMIT: usize = 3;

/// The shape of a job and of its channel.
struct Shape<'a> {
    extended: bool,
    version_rolling_allowed: bool,
    /// Whether every second hash is a block, or none ever.
    easy_network: bool,
    target: Target,
    prefix: &'a [u8],
    suffix: &'a [u8],
    extranonce_len: usize,
    own: &'a [u8],
    path: Vec<[u8; 32]>,
    now: u32,
}

/// Bytes that coinbases and paths are cut from.
const FILLING: [u8; 256] = {
    let mut filling = [0; 256];
    let mut index = 0_u8;
    while let Some(byte) = filling.split_at_mut(index as usize).1.first_mut() {
        *byte = index.wrapping_mul(151) ^ 0x5a;
        match index.checked_add(1) {
            Some(next) => index = next,
            None => break,
        }
    }
    filling
};

/// Eight bytes of shape, then payloads, each behind one byte of length.
///
/// # Panics
///
/// If a payload that was read is not what its fields are written as, if a verdict is not the one that hashing everything gives, or if
/// the set of seen shares remembers other shares than the accepted ones.
pub fn run(bytes: &[u8]) {
    let Some((&shape, mut rest)) = bytes.split_first_chunk::<8>() else { return };
    let shape = Shape::new(shape);
    let job = shape.job();
    let assignment = shape.assignment(&job);
    let (mut seen, mut accepted) = (Seen::new([7; 16], SEEN_LIMIT), HashSet::new());
    while let Some((&len, behind)) = rest.split_first() {
        let (payload, behind) = behind.split_at(behind.len().min(len.into()));
        rest = behind;
        let Some(share) = read(payload, shape.extended) else { continue };
        let _ = seen.make_room();
        let verdict = judge(&job, &assignment, &mut seen, &share, UnixTime::from_secs(shape.now));
        assert_eq!(verdict, shape.naive(&share, &mut accepted));
        assert_eq!(seen.len(), accepted.len());
        let extranonce = assignment.extranonce(&share);
        if !matches!(verdict, Verdict::Rejected(_)) {
            assert_eq!(extranonce.as_bytes(), [shape.own, share.extranonce.unwrap_or_default()].concat());
        }
    }
}

/// Reads a payload, and writes it again to compare.
fn read(payload: &[u8], extended: bool) -> Option<Submission<'_>> {
    let share = match extended {
        true => Submission::parse_extended(payload),
        false => Submission::parse_standard(payload),
    };
    let share = share.ok()?;
    let Submission { channel_id, sequence_number, job_id, nonce, ntime, version, extranonce, rest } = share;
    let fields = [channel_id.0, sequence_number.0, job_id.0, nonce, ntime, version];
    let mut written = fields.map(u32::to_le_bytes).concat();
    if let Some(extranonce) = extranonce {
        written.push(extranonce.len().try_into().expect("its length was read from one byte"));
        written.extend_from_slice(extranonce);
    }
    written.extend_from_slice(rest);
    assert_eq!(written, payload);
    // A channel may also be sent the other kind of share, whose extranonce is then there or missing against the rules.
    Some(if nonce == u32::MAX { Submission { extranonce: None, ..share } } else { share })
}

impl Shape<'_> {
    fn new([flags, target, prefix, suffix, extranonce, own, path, now]: [u8; 8]) -> Self {
        let extended = flags & 1 != 0;
        let extranonce_len = usize::from(extranonce % 33);
        let own_len = if extended { usize::from(own).min(extranonce_len) } else { extranonce_len };
        let (head, tail) = FILLING.split_at(128);
        let steps = head.iter().take(usize::from(path % 4));
        let mut target_bytes = [0xff; 32];
        if let Some(top) = target_bytes.last_mut() {
            *top = target;
        }
        Self {
            extended,
            version_rolling_allowed: flags & 2 != 0,
            easy_network: flags & 4 != 0,
            target: Target::from_le_bytes(target_bytes),
            prefix: FILLING.split_at(prefix.into()).0,
            suffix: FILLING.split_at(usize::from(suffix)).1,
            extranonce_len,
            own: tail.split_at(own_len).0,
            path: steps.map(|step| [*step; 32]).collect(),
            now: TIME - 7000 + u32::from(now) * 60,
        }
    }

    fn nbits(&self) -> CompactTarget {
        CompactTarget::from_consensus(if self.easy_network { 0x207f_ffff } else { 0x0300_0001 })
    }

    fn job(&self) -> Job {
        let parts = JobParts {
            id: JobId(7),
            tip: Tip::new(BlockHash::from_byte_array([9; 32]), Height(1), self.nbits(), TIME),
            min_ntime: TIME,
            version: VERSION,
            version_rolling_allowed: self.version_rolling_allowed,
            coinbase_prefix: self.prefix,
            coinbase_suffix: self.suffix,
            extranonce_len: self.extranonce_len,
            merkle_path: self.path.clone(),
        };
        Job::from_parts(parts).expect("every part is short enough for the wire")
    }

    fn assignment(&self, job: &Job) -> Assignment {
        let assignment = match self.extended {
            true => Assignment::extended(job, self.target, self.own),
            false => Assignment::standard(job, self.target, self.own),
        };
        assignment.expect("the channel's part of the extranonce fits")
    }

    /// The naive twin of the judge.
    fn naive(&self, share: &Submission<'_>, accepted: &mut HashSet<Vec<u8>>) -> Verdict {
        if let Some(reject) = self.refuse(share) {
            return Verdict::Rejected(reject);
        }
        let header = self.header(share);
        if accepted.contains(&header) {
            return Verdict::Rejected(Reject::DuplicateShare);
        }
        let id = BlockHash::from_raw_hash(sha256d::Hash::hash(&header));
        let is_met = |target: bitcoin::Target| target.is_met_by(id);
        let earns = is_met(bitcoin::Target::from_le_bytes(self.target.to_le_bytes()));
        let is_block = is_met(bitcoin::Target::from_compact(self.nbits()));
        if !earns && !is_block {
            return Verdict::Rejected(Reject::DifficultyTooLow);
        }
        if accepted.len() >= SEEN_LIMIT + if is_block { BLOCK_ROOM } else { 0 } {
            return Verdict::Rejected(Reject::TooManyShares);
        }
        accepted.insert(header.clone());
        let work = if earns { self.target.to_work() } else { Work::ZERO };
        let hash = id.to_byte_array();
        if is_block {
            Verdict::Block { work, hash, header: header.try_into().expect("a header has 80 bytes") }
        } else {
            Verdict::Valid { work, hash }
        }
    }

    /// The first rule that the share breaks without being hashed.
    fn refuse(&self, share: &Submission<'_>) -> Option<Reject> {
        let rolled_len = self.extended.then(|| self.extranonce_len - self.own.len());
        let changed = share.version ^ VERSION;
        let latest = u64::from(TIME + 7200).min(u64::from(self.now) + 6600);
        if share.extranonce.map(<[u8]>::len) != rolled_len {
            Some(Reject::BadExtranonceSize)
        } else if changed != 0 && !self.version_rolling_allowed {
            Some(Reject::VersionRollingNotAllowed)
        } else if changed & 0xe000_001f != 0 {
            Some(Reject::InvalidNonRollableVersionBit)
        } else if share.ntime < TIME || u64::from(share.ntime) > latest {
            Some(Reject::InvalidNtime)
        } else {
            None
        }
    }

    /// The header over the whole coinbase and the whole path.
    fn header(&self, share: &Submission<'_>) -> Vec<u8> {
        let coinbase = [self.prefix, self.own, share.extranonce.unwrap_or_default(), self.suffix].concat();
        let leaf = sha256d::Hash::hash(&coinbase).to_byte_array();
        let root = self
            .path
            .iter()
            .fold(leaf, |left, right| sha256d::Hash::hash(&[left, *right].concat()).to_byte_array());
        let fields = [share.ntime, self.nbits().to_consensus(), share.nonce].map(u32::to_le_bytes);
        [&share.version.to_le_bytes()[..], &[9; 32], &root, &fields.concat()].concat()
    }
}
