//! A job as machines get it: the notify line, and what a share of it is worth above.

use std::sync::{Arc, OnceLock};

use adit_channel::LinkId;
use adit_share::{Assignment, Extranonce, Job, MAX_EXTRANONCE_LEN};
use adit_units::{Target, Work};

use crate::sv1::{Notify, hex, write_notify};
use crate::upstream::{ChannelWork, Source};

/// Bytes of a machine's extranonce1, which tell it from all others of this translator.
pub const EXTRANONCE1_LEN: usize = 4;

/// The least bytes that a machine is left to roll.
const EXTRANONCE2_MIN: u16 = 2;

/// How far the numbers of two jobs are apart. A machine that is to be given the same job anew, because firmware ignores a job whose id it
/// has already, is given one of the numbers between.
pub const NUMBER_STEP: u64 = 256;

/// What a notify line begins with; the job's id follows.
const HEAD: &[u8] = b"{\"id\":null,\"method\":\"mining.notify\",\"params\":[\"";

/// Digits of a job's id.
const ID_LEN: usize = 16;

/// Digits of a job's time.
const NTIME_LEN: usize = 8;

/// What stands behind the time in a line which says that all former jobs are void.
const CLEAN: &[u8] = b"\",true]}\n";

/// What stands there in any other.
const NOT_CLEAN: &[u8] = b"\",false]}\n";

/// Where the shares of a job go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The connection to the upstream.
    pub link: LinkId,
    /// The caller's name for the channel on it.
    pub key: u64,
    /// The channel's and the job's numbers there.
    pub source: Source,
}

/// A channel that leaves the machines too little of the extranonce.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the upstream leaves {given} bytes of extranonce, and machines need {needed}; {}", self.advice())]
pub struct NoRoom {
    /// Bytes of the channel.
    pub given: u16,
    /// Bytes for a machine's number and for it to roll.
    pub needed: u16,
}

impl NoRoom {
    /// The bytes between what a channel leaves and what machines need of it, their number and `extranonce2_len` bytes to roll.
    pub(crate) fn check(given: u16, extranonce2_len: u8) -> Result<u16, Self> {
        let own = u16::try_from(EXTRANONCE1_LEN).unwrap_or(u16::MAX);
        let needed = own.saturating_add(extranonce2_len.into());
        given.checked_sub(needed).ok_or(Self { given, needed })
    }

    /// What an operator can do.
    fn advice(&self) -> String {
        rollable(self.given).map_or_else(
            || {
                format!(
                    "no machine can work with fewer than {}",
                    EXTRANONCE1_LEN + usize::from(EXTRANONCE2_MIN)
                )
            },
            |possible| format!("lower translator.extranonce2_size to {possible} or less"),
        )
    }
}

/// The bytes that machines can be left to roll of so many, if that is enough for them.
pub(crate) fn rollable(given: u16) -> Option<u16> {
    let own = u16::try_from(EXTRANONCE1_LEN).unwrap_or(u16::MAX);
    given.checked_sub(own).filter(|&possible| possible >= EXTRANONCE2_MIN)
}

/// A job of an upstream, ready to be sent to machines.
///
/// A machine's coinbase is `coinb1 ++ extranonce1 ++ extranonce2 ++ coinb2`. The upstream's part of the extranonce stands at the end of `coinb1`,
/// and behind it zeros where the upstream leaves more than is needed. So `extranonce1` is ours alone and stays what it is when the upstream
/// gives another prefix, and when another upstream is used.
#[derive(Debug)]
pub struct Sv1Job {
    job: Arc<Job>,
    route: Route,
    target: Target,
    version_mask: u32,
    /// What a share that meets it is worth. It takes a long division to find, which is made for all machines at once, and when the first asks.
    work: OnceLock<Work>,
    /// The upstream's prefix and the zeros behind it.
    fixed: Extranonce,
    /// How many of these bytes are the zeros, which are sent up with each share.
    padding: usize,
    number: u64,
    floor: u64,
    /// The line between the job's id and its time, if it is kept.
    body: Option<Arc<[u8]>>,
}

impl Sv1Job {
    /// What machines are told of a channel's work. `number` is a multiple of [`NUMBER_STEP`]; jobs with numbers below `floor` are of no
    /// more use. The line is put together when it is sent; see [`Self::rendered`].
    ///
    /// # Errors
    ///
    /// If the channel has no room for the machine's number and `extranonce2_len` bytes to roll.
    pub fn new(
        work: &ChannelWork,
        link: LinkId,
        (number, floor): (u64, u64),
        extranonce2_len: u8,
    ) -> Result<Self, NoRoom> {
        let padding = NoRoom::check(work.extranonce_size, extranonce2_len)?;
        let padding = usize::from(padding).min(MAX_EXTRANONCE_LEN);
        let zeros = [0; MAX_EXTRANONCE_LEN];
        let fixed = Extranonce::join(work.prefix.as_bytes(), zeros.get(..padding).unwrap_or_default());
        let route = Route { link, key: work.key, source: work.source };
        let job = Arc::clone(&work.job);
        Ok(Self {
            job,
            route,
            target: work.target,
            version_mask: work.version_mask,
            work: OnceLock::new(),
            fixed,
            padding,
            number,
            floor,
            body: None,
        })
    }

    /// The same job, which keeps its line: for one that many machines are told of.
    ///
    /// That is more than half of what a job takes, so where each machine has jobs of its own none is kept.
    #[must_use]
    pub fn rendered(self) -> Self {
        let body = self.body();
        Self { body: Some(body), ..self }
    }

    /// The same job under another number, so that machines hear from us although nothing has changed.
    #[must_use]
    pub fn renewed(&self, number: u64) -> Self {
        let Self { route, target, version_mask, fixed, padding, floor, .. } = *self;
        let (job, body, work) = (Arc::clone(&self.job), self.body.clone(), self.work.clone());
        Self { job, route, target, version_mask, work, fixed, padding, number, floor, body }
    }

    /// Appends the line, under `number`, with `ntime` for the time that the machine starts with and `is_clean` for the last parameter.
    pub fn write(&self, number: u64, ntime: u32, is_clean: bool, out: &mut Vec<u8>) {
        let Some(body) = &self.body else { return self.render(number, ntime, is_clean, out) };
        out.reserve(HEAD.len() + ID_LEN + body.len() + NTIME_LEN + NOT_CLEAN.len());
        out.extend_from_slice(HEAD);
        hex::put(out, &number.to_be_bytes());
        out.extend_from_slice(body);
        hex::put(out, &ntime.to_be_bytes());
        out.extend_from_slice(if is_clean { CLEAN } else { NOT_CLEAN });
    }

    /// Puts the line together.
    fn render(&self, number: u64, ntime: u32, is_clean: bool, out: &mut Vec<u8>) {
        let job = &*self.job;
        let notify = Notify {
            job: number,
            prev_hash: job.tip().prev_hash.as_ref(),
            coinbase_prefix: &[job.coinbase_prefix(), self.fixed.as_bytes()],
            coinbase_suffix: job.coinbase_suffix(),
            merkle_path: job.merkle_path(),
            version: job.version(),
            nbits: job.tip().nbits.to_consensus(),
            ntime,
            clean: is_clean,
        };
        write_notify(out, &notify);
    }

    /// The line between the job's id and its time.
    fn body(&self) -> Arc<[u8]> {
        let mut line = Vec::new();
        self.render(0, 0, true, &mut line);
        let end = line.len().saturating_sub(NTIME_LEN + CLEAN.len());
        line.get(HEAD.len() + ID_LEN..end).unwrap_or_default().into()
    }

    /// The job as a machine with that extranonce1 works on it, its shares being good from `target` on.
    ///
    /// `None` if it has no room for the extranonce1, which [`Self::new`] has seen to.
    #[must_use]
    pub fn assignment(&self, extranonce1: [u8; EXTRANONCE1_LEN], target: Target) -> Option<Assignment> {
        let prefix = Extranonce::join(self.fixed.as_bytes(), &extranonce1);
        Assignment::extended(&self.job, target, prefix.as_bytes()).ok()
    }

    /// What the upstream is told as the share's extranonce (`SubmitSharesExtended`, spec 5.3.12).
    #[must_use]
    pub fn rolled(&self, extranonce1: [u8; EXTRANONCE1_LEN], extranonce2: &[u8]) -> Extranonce {
        let mut first = [0; MAX_EXTRANONCE_LEN];
        let end = (self.padding + EXTRANONCE1_LEN).min(MAX_EXTRANONCE_LEN);
        let place = self.padding.min(end - EXTRANONCE1_LEN);
        if let Some(bytes) = first.get_mut(place..place + EXTRANONCE1_LEN) {
            bytes.copy_from_slice(&extranonce1);
        }
        Extranonce::join(first.get(..end).unwrap_or_default(), extranonce2)
    }

    /// The job itself.
    #[must_use]
    pub const fn job(&self) -> &Arc<Job> {
        &self.job
    }

    /// Bytes of a machine's coinbase, with as many to roll.
    #[must_use]
    pub fn coinbase_len(&self, extranonce2_len: u8) -> usize {
        let rolled = EXTRANONCE1_LEN + usize::from(extranonce2_len);
        let prefix = self.job.coinbase_prefix().len() + self.fixed.as_bytes().len();
        prefix + rolled + self.job.coinbase_suffix().len()
    }

    /// Where its shares go.
    #[must_use]
    pub const fn route(&self) -> Route {
        self.route
    }

    /// What a share must meet for the upstream to take it.
    #[must_use]
    pub const fn target(&self) -> Target {
        self.target
    }

    /// The version bits that the upstream lets machines roll.
    #[must_use]
    pub const fn version_mask(&self) -> u32 {
        self.version_mask
    }

    /// What the upstream pays for a share that meets its target.
    #[must_use]
    pub fn work(&self) -> Work {
        *self.work.get_or_init(|| self.target.to_work())
    }

    /// Its number; ids of jobs are numbers in hexadecimal, sixteen digits, and never come twice.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The time that machines start with, in seconds since 1970: the earliest that its upstream takes.
    #[must_use]
    pub fn ntime(&self) -> u32 {
        self.job.min_ntime()
    }

    /// The latest time that a machine is to start with which is given the job again.
    #[must_use]
    pub fn latest_ntime(&self) -> u32 {
        self.ntime().saturating_add(NTIME_AHEAD_MAX)
    }

    /// Jobs with smaller numbers are of no more use.
    #[must_use]
    pub const fn floor(&self) -> u64 {
        self.floor
    }
}

/// How far the time of a job that is given again may be ahead of the upstream's, in seconds; pools take shares up to two hours ahead of it.
const NTIME_AHEAD_MAX: u32 = 3_600;

#[cfg(test)]
pub(crate) mod fixture;
#[cfg(test)]
mod tests;
