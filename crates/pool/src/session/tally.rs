//! What each channel and each worker has submitted, for whoever looks at a connection.
//!
//! A share costs a few additions here, and no memory but for the first good one of a worker. Everything is put together only when somebody asks, by
//! [`Session::report`].

use core::time::Duration;

use adit_channel::{
    ChannelKind, ExtranoncePrefix, RewardKind, ShareKind, ShareRecord, UserIdentity, WorkerName,
};
use adit_messages::error_code::SubmitSharesError as Code;
use adit_units::{ChannelId, Hashrate, Monotonic, SequenceNumber, Target, Work};

use super::shares::worker_name;
use super::{OpenChannel, Session};
use crate::Distribution;

/// Most workers of one connection that are told apart; the shares of more are counted together.
pub const WORKERS_MAX: usize = 1024;

/// After this time without a share a worker makes room for another, where there is none left.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(3600);

/// How often it is looked for such workers at most.
const FORGET_INTERVAL: Duration = Duration::from_secs(60);

/// Half of the longest time over which the speed of a channel is measured.
const SPAN: Duration = Duration::from_secs(300);

/// The shortest such time: a burst at the beginning says little.
const SPAN_MIN: Duration = Duration::from_secs(30);

/// Ways to refuse a share.
const CODES: usize = Code::ALL.len();

/// A connection as it stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionReport {
    /// The device as it described itself; empty before it has.
    pub device: Box<str>,
    /// Its channels, by number.
    pub channels: Vec<ChannelReport>,
    /// Workers that were named with accepted shares (extension 0x0002), by channel and name; at most [`WORKERS_MAX`].
    pub workers: Vec<WorkerReport>,
    /// The shares of workers beyond those, and what was refused of workers that have no accepted share.
    pub other_workers: WorkerShares,
}

/// A channel as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChannelReport {
    /// Its number within the connection.
    pub id: ChannelId,
    /// What its miner can work on.
    pub kind: ChannelKind,
    /// Whom it is for.
    pub user: UserIdentity,
    /// Its group.
    pub group: ChannelId,
    /// Whom the blocks of its next job pay.
    pub pays: Distribution,
    /// Who owes its shares a reward.
    pub reward: RewardKind,
    /// What the miner said of its speed.
    pub nominal: Hashrate,
    /// Measured over its accepted shares of the last minutes.
    pub hashrate: Hashrate,
    /// What shares on its next job must meet.
    pub target: Target,
    /// The easiest that the miner accepts.
    pub max_target: Target,
    /// Its part of the extranonce.
    pub extranonce: ExtranoncePrefix,
    /// Since when it is open.
    pub opened: Monotonic,
    /// What it has submitted.
    pub shares: ChannelShares,
}

/// What a channel has submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelShares {
    /// Accepted shares, blocks among them.
    pub accepted: u64,
    /// Those that were blocks.
    pub blocks: u32,
    /// Refused shares, in the order of [`Code::ALL`].
    pub refused: [u32; CODES],
    /// Sum of the accepted ones' worth.
    pub work: Work,
    /// The lowest hash, if there is any, as a target that it just meets.
    pub best: Option<Target>,
    /// The number that the miner gave the last accepted one.
    pub last_number: SequenceNumber,
    /// When that was.
    pub last: Option<Monotonic>,
}

/// A worker as it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerReport {
    /// The channel that it submits on.
    pub channel: ChannelId,
    /// How its shares name it.
    pub name: WorkerName,
    /// What it has submitted.
    pub shares: WorkerShares,
}

/// What a worker has submitted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WorkerShares {
    /// Accepted shares.
    pub accepted: u64,
    /// Refused shares.
    pub rejected: u64,
    /// Sum of the accepted ones' worth.
    pub work: Work,
    /// When the last accepted one came.
    pub last: Option<Monotonic>,
    /// When the last one came, accepted or not.
    pub heard: Monotonic,
}

impl ChannelShares {
    /// Refused shares, for each code.
    pub fn rejected(&self) -> impl Iterator<Item = (Code, u32)> {
        Code::ALL.iter().copied().zip(self.refused)
    }

    /// Refused shares.
    #[must_use]
    pub fn rejected_total(&self) -> u64 {
        self.refused.iter().map(|&count| u64::from(count)).sum()
    }
}

impl WorkerShares {
    fn accept(&mut self, work: Work, now: Monotonic) {
        self.accepted += 1;
        self.work = self.work.saturating_add(work);
        (self.last, self.heard) = (Some(now), now);
    }

    fn refuse(&mut self, now: Monotonic) {
        self.rejected += 1;
        self.heard = now;
    }
}

/// What one channel has submitted.
#[derive(Debug)]
pub(super) struct Tally {
    opened: Monotonic,
    pub(super) max_target: Target,
    shares: ChannelShares,
    pace: Pace,
}

impl Tally {
    pub(super) fn new(max_target: Target, now: Monotonic) -> Self {
        let pace = Pace { since: now, before: now, work: 0, former: 0 };
        Self { opened: now, max_target, shares: ChannelShares::default(), pace }
    }

    /// A share was good.
    fn accept(&mut self, record: &ShareRecord, now: Monotonic) {
        let shares = &mut self.shares;
        shares.accepted += 1;
        shares.blocks += u32::from(record.kind == ShareKind::Block);
        shares.work = shares.work.saturating_add(record.work);
        (shares.last_number, shares.last) = (record.sequence_number, Some(now));
        let hash = Target::from_le_bytes(record.hash);
        if shares.best.is_none_or(|best| hash < best) {
            shares.best = Some(hash);
        }
        self.pace.add(record.work, now);
    }

    fn refuse(&mut self, code: Code) {
        let counts = Code::ALL.iter().zip(&mut self.shares.refused);
        for (_, count) in counts.filter(|(known, _)| **known == code) {
            *count = count.saturating_add(1);
        }
    }
}

/// The accepted work of the last minutes: of the present span, and of the one before it.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// When the present span began.
    since: Monotonic,
    /// When the one before it began.
    before: Monotonic,
    work: u128,
    former: u128,
}

impl Pace {
    fn add(&mut self, work: Work, now: Monotonic) {
        self.turn(now);
        self.work = self.work.saturating_add(work.to_hashes());
    }

    /// Begins another span if the present one is over.
    fn turn(&mut self, now: Monotonic) {
        let lasted = now.saturating_since(self.since);
        if lasted >= 2 * SPAN {
            // As if the last span had been one of silence.
            let before = self.since + (lasted - SPAN);
            *self = Self { since: now, before, work: 0, former: 0 };
        } else if lasted >= SPAN {
            *self = Self { since: now, before: self.since, work: 0, former: self.work };
        }
    }

    fn hashrate(mut self, now: Monotonic) -> Hashrate {
        self.turn(now);
        let micros = now.saturating_since(self.before).max(SPAN_MIN).as_micros();
        let hashes = self.work.saturating_add(self.former);
        let per_second = hashes.saturating_mul(1_000_000) / micros;
        Hashrate::from_hashes_per_second(u64::try_from(per_second).unwrap_or(u64::MAX))
    }
}

/// The workers that shares have named.
#[derive(Debug, Default)]
pub(super) struct Workers {
    /// By channel and name.
    known: Vec<(ChannelId, WorkerName, WorkerShares)>,
    others: WorkerShares,
    /// When it was last looked for workers that are silent.
    looked: Option<Monotonic>,
}

impl Workers {
    /// A share of a worker was good.
    fn accept(&mut self, channel: ChannelId, name: WorkerName, work: Work, now: Monotonic) {
        let mut found = self.find(channel, name);
        if found.is_err() && self.known.len() >= WORKERS_MAX && self.forget_silent(now) {
            found = self.find(channel, name);
        }
        if let Err(place) = found
            && self.known.len() < WORKERS_MAX
        {
            self.known.insert(place, (channel, name, WorkerShares::default()));
            found = Ok(place);
        }
        self.shares_at(found).accept(work, now);
    }

    /// A share of a worker was refused. Only good shares make a worker known: they cost work, and any name could be made up with the others.
    fn refuse(&mut self, channel: ChannelId, name: WorkerName, now: Monotonic) {
        let found = self.find(channel, name);
        self.shares_at(found).refuse(now);
    }

    /// The place of a worker, or where it would be.
    fn find(&self, channel: ChannelId, name: WorkerName) -> Result<usize, usize> {
        self.known.binary_search_by(|(on, known, _)| (*on, *known).cmp(&(channel, name)))
    }

    /// Where the shares of the worker at that place are counted.
    fn shares_at(&mut self, found: Result<usize, usize>) -> &mut WorkerShares {
        let known = found.ok().and_then(|place| self.known.get_mut(place));
        known.map_or(&mut self.others, |(_, _, shares)| shares)
    }

    /// Forgets the workers that have long submitted nothing, now and then; whether there were any.
    fn forget_silent(&mut self, now: Monotonic) -> bool {
        if self.looked.is_some_and(|looked| now.saturating_since(looked) < FORGET_INTERVAL) {
            return false;
        }
        self.looked = Some(now);
        let before = self.known.len();
        self.known.retain(|(_, _, shares)| now.saturating_since(shares.heard) < FORGOTTEN_AFTER);
        self.known.len() < before
    }
}

impl OpenChannel {
    /// A share of it was good.
    pub(super) fn accept(&mut self, record: &ShareRecord, now: Monotonic) {
        self.patience.handle_accepted();
        self.tally.accept(record, now);
    }
}

impl Session {
    /// The connection as it stands. Takes time in proportion to its channels and workers, so it is not for every share.
    #[must_use]
    pub fn report(&self, now: Monotonic) -> SessionReport {
        let workers = self.workers.as_deref();
        let known = workers.map_or(&[][..], |workers| &workers.known);
        SessionReport {
            device: self.device.clone(),
            channels: self.channels.iter().map(|open| self.report_channel(open, now)).collect(),
            workers: known
                .iter()
                .map(|&(channel, name, shares)| WorkerReport { channel, name, shares })
                .collect(),
            other_workers: workers.map_or_else(WorkerShares::default, |workers| workers.others),
        }
    }

    fn report_channel(&self, open: &OpenChannel, now: Monotonic) -> ChannelReport {
        let OpenChannel { channel, tally, pooled, .. } = open;
        ChannelReport {
            id: channel.id(),
            kind: channel.kind(),
            user: channel.user().clone(),
            group: channel.group(),
            pays: self.groups.distribution(channel.group()),
            reward: self.groups.reward(channel.group(), *pooled),
            nominal: channel.nominal(),
            hashrate: tally.pace.hashrate(now),
            target: channel.target(),
            max_target: tally.max_target,
            extranonce: channel.extranonce(),
            opened: tally.opened,
            shares: tally.shares,
        }
    }

    /// Counts an accepted share for its worker, if it names one.
    pub(super) fn tally_worker(&mut self, record: &ShareRecord, now: Monotonic) {
        if let Some(name) = record.worker {
            self.workers.get_or_insert_default().accept(record.channel, name, record.work, now);
        }
    }

    /// Counts a refused share for the channel at that place, and for the worker that the fields behind it name; the answer is that worker.
    pub(super) fn tally_refused(
        &mut self,
        place: Option<usize>,
        fields: &[u8],
        code: Code,
        now: Monotonic,
    ) -> Option<WorkerName> {
        let names_workers = self.state.terms().worker_names;
        let OpenChannel { channel, tally, .. } = place.and_then(|place| self.channels.get_mut(place))?;
        tally.refuse(code);
        let is_named = names_workers && channel.kind() == ChannelKind::Extended;
        let name = if is_named { worker_name(fields).ok().flatten() } else { None }?;
        self.workers.get_or_insert_default().refuse(channel.id(), name, now);
        Some(name)
    }

    /// Forgets the workers of channels that are no more.
    pub(super) fn forget_workers(&mut self) {
        let Some(workers) = &mut self.workers else { return };
        workers.known.retain(|(on, ..)| super::place_of(&self.channels, *on).is_some());
        if workers.known.is_empty() {
            self.workers = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Monotonic {
        Monotonic::from_micros(secs * 1_000_000)
    }

    fn name(number: usize) -> WorkerName {
        WorkerName::from_wire(format!("rig{number:05}").as_bytes()).unwrap()
    }

    #[test]
    fn a_steady_channel_is_measured_and_one_that_stops_fades() {
        let mut pace = Tally::new(Target::MAX, at(100)).pace;
        for second in (106..=1_300).step_by(6) {
            pace.add(Work::from_hashes(6_000), at(second));
        }
        let rate = |secs| pace.hashrate(at(secs)).to_hashes_per_second();
        assert!((980..=1_020).contains(&rate(1_300)), "{}", rate(1_300));
        assert!((600..=750).contains(&rate(1_450)), "{}", rate(1_450));
        assert_eq!(rate(2_000), 0);
        let mut young = Tally::new(Target::MAX, at(0)).pace;
        young.add(Work::from_hashes(30_000), at(0));
        assert_eq!(young.hashrate(at(1)).to_hashes_per_second(), 1_000, "as if half a minute had passed");
    }

    #[test]
    fn no_connection_has_more_workers_than_it_may_and_silent_ones_make_room() {
        let (mut workers, work) = (Workers::default(), Work::from_hashes(5));
        let channel = ChannelId(2);
        for number in 0..WORKERS_MAX + 10 {
            workers.accept(channel, name(number), work, at(1));
        }
        assert_eq!((workers.known.len(), workers.others.accepted), (WORKERS_MAX, 10));
        workers.accept(channel, name(3), work, at(3_000));
        let third = workers.find(channel, name(3));
        assert_eq!(workers.shares_at(third).accepted, 2, "who is known stays known");
        workers.accept(channel, name(9_999), work, at(4_000));
        let names: Vec<_> = workers.known.iter().map(|(_, name, _)| *name).collect();
        assert_eq!(names, [name(3), name(9_999)]);
        assert!(workers.known.is_sorted_by_key(|(channel, name, _)| (*channel, *name)));
    }

    /// A peer that made up a name for each worthless share had the pool keep a thousand of them.
    #[test]
    fn refused_shares_alone_made_workers_known() {
        let (mut workers, channel) = (Workers::default(), ChannelId(2));
        workers.accept(channel, name(3), Work::from_hashes(5), at(1));
        for number in 0..WORKERS_MAX {
            workers.refuse(channel, name(number), at(2));
        }
        assert_eq!(workers.known.len(), 1);
        let known = workers.find(channel, name(3));
        assert_eq!(workers.shares_at(known).rejected, 1);
        assert_eq!(workers.others.rejected, WORKERS_MAX as u64 - 1, "the others are counted together");
    }
}
