//! What is done about a machine whose shares are all refused: first its job again, then a new connection, then none.

use core::time::Duration;

use adit_units::Monotonic;

/// Refusals in a row that make a storm; a few stale shares after a new block are none.
const REFUSALS: u32 = 10;

/// How long refusals go on before the first remedy, and how long each is given to help.
const PATIENCE: Duration = Duration::from_secs(60);

/// What is tried, in this order.
const REMEDIES: [Remedy; 3] = [Remedy::Job, Remedy::Reconnect, Remedy::Disconnect];

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
    /// When the next remedy may be tried.
    due: Option<Monotonic>,
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
        let due = *self.due.get_or_insert(now + PATIENCE);
        let &remedy = REMEDIES.get(self.tried)?;
        (self.refusals >= REFUSALS && now >= due).then(|| {
            self.tried += 1;
            self.due = Some(now + PATIENCE);
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

    #[test]
    fn each_remedy_is_given_time_to_help() {
        let at = |secs: u64| Monotonic::from_micros(secs * 1_000_000);
        let mut storm = Storm::default();
        assert_eq!(storm.refuse(at(0)), None);
        let late: Vec<_> = (0..20).map(|_| storm.refuse(at(1_000))).collect();
        assert_eq!(
            late.iter().flatten().collect::<Vec<_>>(),
            [&Remedy::Job],
            "one at a time, however late it is"
        );
        assert_eq!(storm.refuse(at(1_059)), None);
        assert_eq!(storm.refuse(at(1_060)), Some(Remedy::Reconnect));
    }
}
