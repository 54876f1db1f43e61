//! How much a peer may submit that was never anybody's share, before it is no longer listened to.

use adit_messages::error_code::SubmitSharesError as Code;
use adit_units::Monotonic;

/// Worthless shares that a connection may submit in a row.
pub const GARBAGE_MAX: u32 = 1_000;

/// Worthless shares that a connection is granted each second on top; and one for each share that is accepted.
pub const GARBAGE_PER_SECOND: u32 = 10;

/// A bucket of patience, for one connection and never for a user, whose name anybody can use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Breaker {
    /// Worthless shares that may still come.
    patience: u32,
    /// Until when the time has been counted.
    counted: Monotonic,
}

impl Breaker {
    pub(super) const fn new(now: Monotonic) -> Self {
        Self { patience: GARBAGE_MAX, counted: now }
    }

    /// A share was accepted.
    pub(super) fn handle_accepted(&mut self) {
        self.grant(1);
    }

    /// A share was refused; whether the peer's patience is used up.
    pub(super) fn handle_refused(&mut self, code: Code, now: Monotonic) -> bool {
        if !is_garbage(code) {
            return false;
        }
        self.grant_time(now);
        match self.patience.checked_sub(1) {
            Some(rest) => self.patience = rest,
            None => return true,
        }
        false
    }

    /// Grants what time has brought; a part of a share is kept for the next time.
    fn grant_time(&mut self, now: Monotonic) {
        const EACH_MICROS: u64 = 1_000_000 / GARBAGE_PER_SECOND as u64;
        let micros = now.to_micros().saturating_sub(self.counted.to_micros());
        let granted = micros / EACH_MICROS;
        self.counted = Monotonic::from_micros(self.counted.to_micros() + granted * EACH_MICROS);
        self.grant(u32::try_from(granted).unwrap_or(u32::MAX));
    }

    fn grant(&mut self, shares: u32) {
        self.patience = self.patience.saturating_add(shares).min(GARBAGE_MAX);
    }
}

/// Whether an honest miner has no reason to submit such a share in numbers: late shares and nonces that firmware sends again are
/// an honest miner's, and cost no hash.
const fn is_garbage(code: Code) -> bool {
    !matches!(code, Code::StaleShare | Code::DuplicateShare)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(millis * 1_000)
    }

    /// How many worthless shares are taken at one moment.
    fn taken(breaker: &mut Breaker, now: Monotonic) -> u32 {
        (0..).find(|_| breaker.handle_refused(Code::DifficultyTooLow, now)).unwrap()
    }

    #[test]
    fn patience_ends_and_comes_back_with_time_and_with_good_shares() {
        let mut breaker = Breaker::new(at(0));
        assert_eq!(taken(&mut breaker, at(0)), GARBAGE_MAX);
        assert_eq!(taken(&mut breaker, at(99)), 0);
        assert_eq!(taken(&mut breaker, at(1_050)), 10);
        assert_eq!(taken(&mut breaker, at(1_100)), 1, "the half that was left");
        (0..7).for_each(|_| breaker.handle_accepted());
        assert_eq!(taken(&mut breaker, at(1_100)), 7);
        assert_eq!(taken(&mut breaker, at(10_000_000)), GARBAGE_MAX, "and no more than that");
    }

    #[test]
    fn what_honest_miners_send_costs_no_patience() {
        let mut breaker = Breaker::new(at(0));
        for code in [Code::StaleShare, Code::DuplicateShare] {
            assert!((0..10 * GARBAGE_MAX).all(|_| !breaker.handle_refused(code, at(0))));
        }
        assert_eq!(taken(&mut breaker, at(0)), GARBAGE_MAX);
    }

    #[test]
    fn ten_garbage_shares_a_second_are_borne_for_ever() {
        let mut breaker = Breaker::new(at(0));
        assert!((1..100_000).all(|tenth| !breaker.handle_refused(Code::InvalidShare, at(tenth * 100))));
    }
}
