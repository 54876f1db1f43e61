//! What is done about a machine whose shares are all refused: first its job again, then a new connection, then none.

use core::time::Duration;

use adit_units::Monotonic;

/// Refusals in a row that make a storm; a few stale shares after a new block are none.
const REFUSALS: u32 = 10;

/// When each remedy is due, counted from the first refusal.
const REMEDIES: [(Duration, Remedy); 3] = [
    (Duration::from_secs(60), Remedy::Job),
    (Duration::from_secs(120), Remedy::Reconnect),
    (Duration::from_secs(180), Remedy::Disconnect),
];

/// What may help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Its job again, with everything before it void.
    Job,
    /// Asking it to connect anew.
    Reconnect,
    /// Cutting it off.
    Disconnect,
}

/// Refusals since the last accepted share.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Storm {
    since: Option<Monotonic>,
    refusals: u32,
    /// How many remedies were tried.
    tried: usize,
}

impl Storm {
    /// A share was accepted: all is well.
    pub(super) fn calm(&mut self) {
        *self = Self::default();
    }

    /// A share was refused; the answer is what is due now.
    pub(super) fn refuse(&mut self, now: Monotonic) -> Option<Remedy> {
        self.refusals = self.refusals.saturating_add(1);
        let since = *self.since.get_or_insert(now);
        let &(after, remedy) = REMEDIES.get(self.tried)?;
        let is_due = self.refusals >= REFUSALS && now.saturating_since(since) >= after;
        is_due.then(|| {
            self.tried += 1;
            remedy
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_come_one_after_the_other_and_one_good_share_ends_it() {
        let at = |secs: u64| Monotonic::from_micros(secs * 1_000_000);
        let mut storm = Storm::default();
        let mut seen = Vec::new();
        for second in 0..200 {
            if let Some(remedy) = storm.refuse(at(second)) {
                seen.push((second, remedy));
            }
        }
        assert_eq!(seen, [(60, Remedy::Job), (120, Remedy::Reconnect), (180, Remedy::Disconnect)]);
        storm.calm();
        assert_eq!(storm.refuse(at(500)), None);
        assert_eq!(storm.refuse(at(600)), None, "two refusals are no storm");
    }
}
