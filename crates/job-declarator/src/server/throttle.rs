//! How much of the machine declarations may take, so that those who mine beside them do not notice.

use core::time::Duration;

use adit_units::Monotonic;

/// How long all wait after a question for each of its transactions, on a machine with one processor: about eight times what it takes to
/// hash it and what stands around it, so that declarations get an eighth of the machine.
const PAUSE_FOR_TRANSACTION: Duration = Duration::from_micros(5);

/// What may be begun at once after a rest, as such a pause: the jobs on a new block come together.
const BURST_MICROS: u64 = 100_000;

/// Lets questions begin at a pace that goes by how many transactions they are about.
#[derive(Clone, Copy, Debug)]
pub(super) struct Throttle {
    pause: Duration,
    /// Nothing begins before.
    next: Monotonic,
}

impl Throttle {
    /// For a machine with so many processors.
    pub(super) fn new(processors: u32) -> Self {
        Self { pause: PAUSE_FOR_TRANSACTION / processors.max(1), next: Monotonic::default() }
    }

    /// When the next question may begin.
    pub(super) const fn next(&self) -> Monotonic {
        self.next
    }

    /// A question about so many transactions begins.
    pub(super) fn begin(&mut self, transactions: usize, now: Monotonic) {
        let count = u32::try_from(transactions).unwrap_or(u32::MAX);
        let rested = Monotonic::from_micros(now.to_micros().saturating_sub(BURST_MICROS));
        self.next = self.next.max(rested) + self.pause.saturating_mul(count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many questions about a thousand transactions begin in ten seconds that nobody else uses.
    fn begun_in_ten_seconds(processors: u32) -> u64 {
        let (mut throttle, mut begun) = (Throttle::new(processors), 0);
        for millis in 60_000..70_000 {
            let now = Monotonic::from_micros(millis * 1_000);
            while throttle.next() <= now {
                throttle.begin(1_000, now);
                begun += 1;
            }
        }
        begun
    }

    #[test]
    fn declarations_get_their_part_of_the_machine_and_a_burst() {
        // A question of five milliseconds' pause: two hundred a second, and twenty at once.
        let expected = 2_000 + 20;
        assert!(begun_in_ten_seconds(1).abs_diff(expected) <= 1);
        assert!(begun_in_ten_seconds(4).abs_diff(4 * 2_000 + 80) <= 4);
    }

    #[test]
    fn what_is_about_nothing_costs_nothing() {
        let (mut throttle, now) = (Throttle::new(1), Monotonic::from_micros(60_000_000));
        (0..1_000).for_each(|_| throttle.begin(0, now));
        assert!(throttle.next() <= now);
        throttle.begin(usize::MAX, now);
        assert!(throttle.next() > now);
    }
}
