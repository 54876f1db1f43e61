//! An acknowledgement is a promise: shares are reported once they are on stable storage, many with one message (spec 5.3.13).

use std::collections::VecDeque;

use adit_messages::mining;
use adit_units::{ChannelId, SequenceNumber, Work, WorkSum};

use super::{Session, place_of, send};

/// The most accepted shares that may wait for stable storage.
pub const UNACKNOWLEDGED_MAX: usize = 1 << 16;

/// Waiting shares that a session keeps room for once none waits.
const KEPT: usize = 16;

/// Accepted shares that are not known to be durable, oldest first.
#[derive(Debug, Default)]
pub(super) struct Unacknowledged {
    shares: VecDeque<(ChannelId, SequenceNumber, Work)>,
    /// How many shares before these are durable.
    durable: u64,
}

impl Unacknowledged {
    /// One more share waits.
    pub(super) fn push(&mut self, channel: ChannelId, number: SequenceNumber, work: Work) {
        self.shares.push_back((channel, number, work));
    }

    /// How many shares there were, those that are durable among them.
    pub(super) fn emitted(&self) -> u64 {
        self.durable + self.shares.len() as u64
    }

    /// How many shares wait.
    pub(super) fn len(&self) -> usize {
        self.shares.len()
    }
}

/// What the next report to one channel will say.
#[derive(Debug, Default)]
pub(super) struct Report {
    last: SequenceNumber,
    count: u32,
    /// Less than a whole share of difficulty one stays for the report after it.
    work: WorkSum,
}

impl Report {
    fn add(&mut self, number: SequenceNumber, work: Work) {
        self.last = number;
        self.count = self.count.saturating_add(1);
        self.work.add(work);
    }

    /// The report, if there is anything to say.
    fn take(&mut self, channel: ChannelId) -> Option<mining::SubmitSharesSuccess> {
        let new_submits_accepted_count = core::mem::take(&mut self.count);
        (new_submits_accepted_count > 0).then(|| mining::SubmitSharesSuccess {
            channel_id: channel.0,
            last_sequence_number: self.last.0,
            new_submits_accepted_count,
            new_shares_sum: self.work.take_shares().0,
        })
    }
}

impl Session {
    /// The first `count` records that this session has ever emitted are on stable storage.
    ///
    /// Each channel with such shares gets one report. A smaller count than before says nothing new.
    pub fn handle_durable(&mut self, count: u64) {
        let Unacknowledged { shares, durable } = &mut self.unacknowledged;
        let newly = usize::try_from(count.saturating_sub(*durable)).unwrap_or(usize::MAX).min(shares.len());
        *durable += newly as u64;
        for &(channel, number, work) in shares.iter().take(newly) {
            if let Some(open) = place_of(&self.channels, channel).and_then(|at| self.channels.get_mut(at)) {
                open.report.add(number, work);
            }
        }
        // The first share of each channel brings the report for all of them; closed channels are told nothing (spec 5.3.9).
        for (channel, ..) in shares.drain(..newly) {
            let open = place_of(&self.channels, channel).and_then(|at| self.channels.get_mut(at));
            if let Some(success) = open.and_then(|open| open.report.take(channel)) {
                send(&mut self.frames, success);
            }
        }
        if shares.is_empty() {
            shares.shrink_to(KEPT);
        }
    }
}

#[cfg(test)]
mod tests {
    use adit_units::Target;

    use super::*;

    #[test]
    fn a_report_counts_whole_shares_of_difficulty_one_and_carries_the_rest() {
        let unit = Target::DIFFICULTY_1.to_work().to_hashes();
        let (mut report, channel) = (Report::default(), ChannelId(5));
        assert!(report.take(channel).is_none(), "nothing to say");
        report.add(SequenceNumber(1), Work::from_hashes(unit * 3));
        report.add(SequenceNumber(2), Work::from_hashes(unit / 2 + 1));
        let first = report.take(channel).unwrap();
        assert_eq!((first.channel_id, first.last_sequence_number), (5, 2));
        assert_eq!((first.new_submits_accepted_count, first.new_shares_sum), (2, 3));
        report.add(SequenceNumber(3), Work::from_hashes(unit / 2 + 1));
        let second = report.take(channel).unwrap();
        assert_eq!((second.new_submits_accepted_count, second.new_shares_sum), (1, 1));
        assert!(report.take(channel).is_none(), "nothing new to say");
    }
}
