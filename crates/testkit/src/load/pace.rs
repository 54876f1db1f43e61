//! When the shares of one connection are due, where all connections together keep a steady rate.

use core::num::NonZeroU32;
use core::time::Duration;

use adit_units::Monotonic;

/// The turns of one connection, which are spread evenly among those of all.
pub(super) struct Pace {
    /// Shares a second of all together.
    rate: NonZeroU32,
    /// Its number among all, from zero.
    place: usize,
    /// How many connections there are.
    crowd: usize,
    due: Option<Monotonic>,
}

impl Pace {
    pub(super) const fn new(rate: NonZeroU32, place: usize, crowd: usize) -> Self {
        Self { rate, place, crowd, due: None }
    }

    /// When the next share is due; `None` before the first was asked for.
    pub(super) const fn due(&self) -> Option<Monotonic> {
        self.due
    }

    /// Takes the next share off the list if it is due by `now`; when it was. The first call begins the list.
    pub(super) fn take(&mut self, now: Monotonic) -> Option<Monotonic> {
        let due = self.due.unwrap_or_else(|| now + self.turns(self.place + 1));
        let is_due = due <= now;
        self.due = Some(if is_due { due + self.turns(self.crowd) } else { due });
        is_due.then_some(due)
    }

    /// How long so many shares of all together take.
    fn turns(&self, shares: usize) -> Duration {
        Duration::from_micros(shares as u64 * 1_000_000 / u64::from(self.rate.get()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_spread_evenly_and_none_is_left_out() {
        let (rate, at) = (NonZeroU32::new(1_000).unwrap(), Monotonic::from_micros);
        let mut paces = [0, 1].map(|place| Pace::new(rate, place, 2));
        assert_eq!(paces[0].due(), None);
        assert_eq!(paces.each_mut().map(|pace| pace.take(at(0))), [None; 2]);
        assert_eq!(paces.each_mut().map(|pace| pace.due()), [Some(at(1_000)), Some(at(2_000))]);
        let late = paces.map(|mut pace| core::iter::from_fn(|| pace.take(at(5_500))).collect::<Vec<_>>());
        assert_eq!(late, [vec![at(1_000), at(3_000), at(5_000)], vec![at(2_000), at(4_000)]]);
    }
}
