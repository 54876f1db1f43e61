//! How long no templates have come, and what that means for miners.

use core::time::Duration;

use adit_units::Monotonic;

/// How long a node may give no templates before no more miners are let in, so that they turn to their next pool.
pub const CLOSED_AFTER: Duration = Duration::from_secs(90);

/// How long a node may give no templates before the miners that are connected are sent away too: their work is out of date.
pub const CLEARED_AFTER: Duration = Duration::from_secs(5 * 60);

/// How often the operator is told that no templates come.
const TOLD_EVERY: Duration = Duration::from_secs(60);

/// What the node's state means for miners.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Supply {
    /// Templates come, or have not been missing for long.
    #[default]
    Steady,
    /// No more miners are let in.
    Closed,
    /// No miner stays.
    Cleared,
}

/// The time for which no templates have come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Outage {
    since: Option<Monotonic>,
    told: Monotonic,
}

impl Outage {
    /// Notes whether the node is down.
    pub(super) fn note(&mut self, is_down: bool, now: Monotonic) {
        match (is_down, self.since) {
            (true, None) => (self.since, self.told) = (Some(now), now),
            (false, _) => self.since = None,
            (true, Some(_)) => {}
        }
    }

    /// What it means for miners.
    pub(super) fn supply(&self, now: Monotonic) -> Supply {
        match self.since.map(|since| now - since) {
            Some(down) if down >= CLEARED_AFTER => Supply::Cleared,
            Some(down) if down >= CLOSED_AFTER => Supply::Closed,
            Some(_) | None => Supply::Steady,
        }
    }

    /// How long the node has been down, when the operator is to be told.
    pub(super) fn poll_warning(&mut self, now: Monotonic) -> Option<Duration> {
        let since = self.since.filter(|_| now >= self.told + TOLD_EVERY)?;
        self.told = now;
        Some(now - since)
    }

    /// When something changes or is to be told, if the node stays as it is.
    pub(super) fn poll_timeout(&self, now: Monotonic) -> Option<Monotonic> {
        let since = self.since?;
        let times = [self.told + TOLD_EVERY, since + CLOSED_AFTER, since + CLEARED_AFTER];
        times.into_iter().filter(|&time| time > now).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Monotonic {
        Monotonic::from_micros(secs * 1_000_000)
    }

    #[test]
    fn an_outage_closes_the_door_and_then_clears_the_house() {
        let mut outage = Outage::default();
        outage.note(true, at(10));
        outage.note(true, at(50));
        let supply: Vec<_> = [10, 99, 100, 309, 310].map(|secs| outage.supply(at(secs))).into();
        assert_eq!(supply, [Supply::Steady, Supply::Steady, Supply::Closed, Supply::Closed, Supply::Cleared]);
        outage.note(false, at(400));
        assert_eq!(outage.supply(at(400)), Supply::Steady);
        assert_eq!(outage.poll_timeout(at(400)), None);
        outage.note(true, at(500));
        assert_eq!(outage.supply(at(501)), Supply::Steady, "it counts anew");
    }

    #[test]
    fn the_operator_is_told_every_minute_and_nothing_is_due_in_the_past() {
        let mut outage = Outage::default();
        outage.note(true, at(0));
        let (mut now, mut told) = (at(0), Vec::new());
        while now < at(600) {
            told.extend(outage.poll_warning(now).map(|down| down.as_secs()));
            let next = outage.poll_timeout(now).unwrap();
            assert!(next > now);
            now = next;
        }
        assert_eq!(told, [60, 120, 180, 240, 300, 360, 420, 480, 540]);
    }
}
