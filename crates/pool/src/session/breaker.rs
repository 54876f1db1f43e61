//! How much of what is no good share a peer may send before it is no longer listened to.

use adit_messages::error_code::SubmitSharesError as Code;
use adit_units::Monotonic;

use crate::Disconnect;

/// Worthless shares that a connection may submit in a row.
pub const GARBAGE_MAX: u32 = 1_000;

/// Worthless shares that a connection is granted each second on top; and one for each share that is accepted.
pub const GARBAGE_PER_SECOND: u32 = 10;

/// Late and repeated shares that a connection may submit in a row. A proxy with 256 busy channels may be told of a new tip a second
/// late, and firmware repeats itself, but not like this.
pub const REPEATS_MAX: u32 = 16_384;

/// Late and repeated shares that a connection is granted each second on top; and one for each share that is accepted.
pub const REPEATS_PER_SECOND: u32 = 128;

/// Messages other than shares that a connection may send in a row, and for each channel that it may have [`REQUESTS_PER_CHANNEL`]
/// more: opening all of them at once is what proxies do.
pub const REQUESTS_MAX: u32 = 1_024;

/// See [`REQUESTS_MAX`].
pub const REQUESTS_PER_CHANNEL: u32 = 4;

/// Messages other than shares that a connection is granted each second on top.
pub const REQUESTS_PER_SECOND: u32 = 64;

/// The patience with one connection; never with a user, whose name anybody can use.
#[derive(Clone, Copy, Debug)]
pub(super) struct Breaker {
    garbage: Bucket<GARBAGE_PER_SECOND>,
    repeats: Bucket<REPEATS_PER_SECOND>,
    requests: Bucket<REQUESTS_PER_SECOND>,
    requests_max: u32,
}

impl Breaker {
    /// Patience with a connection that may open so many channels.
    pub(super) fn new(channels: u16, now: Monotonic) -> Self {
        let requests_max = REQUESTS_MAX + REQUESTS_PER_CHANNEL * u32::from(channels);
        Self {
            garbage: Bucket::new(GARBAGE_MAX, now),
            repeats: Bucket::new(REPEATS_MAX, now),
            requests: Bucket::new(requests_max, now),
            requests_max,
        }
    }

    /// A share was accepted.
    pub(super) fn handle_accepted(&mut self) {
        self.garbage.grant(1, GARBAGE_MAX);
        self.repeats.grant(1, REPEATS_MAX);
    }

    /// A share was refused.
    pub(super) fn handle_refused(&mut self, code: Code, now: Monotonic) -> Result<(), Disconnect> {
        if is_garbage(code) {
            return self.garbage.take(GARBAGE_MAX, now).ok_or(Disconnect::Garbage);
        }
        self.repeats.take(REPEATS_MAX, now).ok_or(Disconnect::Repeats)
    }

    /// The peer has sent a message that is no share.
    pub(super) fn handle_request(&mut self, now: Monotonic) -> Result<(), Disconnect> {
        self.requests.take(self.requests_max, now).ok_or(Disconnect::Requests)
    }
}

/// Patience that is used up, and comes back with time. Small, because every connection has three.
#[derive(Clone, Copy, Debug)]
struct Bucket<const PER_SECOND: u32> {
    /// How often it may be taken from.
    rest: u32,
    /// How much time had granted when it was last counted, in numbers that begin anew behind the last.
    granted: u32,
}

impl<const PER_SECOND: u32> Bucket<PER_SECOND> {
    fn new(rest: u32, now: Monotonic) -> Self {
        Self { rest, granted: Self::granted_by(now) }
    }

    /// Takes one out of what there is, which is never more than `most`; `None` if there is none.
    fn take(&mut self, most: u32, now: Monotonic) -> Option<()> {
        let granted = Self::granted_by(now);
        let more = granted.wrapping_sub(core::mem::replace(&mut self.granted, granted));
        self.grant(more, most);
        self.rest = self.rest.checked_sub(1)?;
        Some(())
    }

    fn grant(&mut self, more: u32, most: u32) {
        self.rest = self.rest.saturating_add(more).min(most);
    }

    /// What time has granted since its beginning, as far as 32 bits show it.
    fn granted_by(now: Monotonic) -> u32 {
        let granted = now.to_micros() / (1_000_000 / u64::from(PER_SECOND));
        u32::try_from(granted % (1 << 32)).expect("the rest of a division by 2^32")
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

    const CHANNELS: u16 = 256;

    fn at(millis: u64) -> Monotonic {
        Monotonic::from_micros(millis * 1_000)
    }

    /// How often something is taken at one moment.
    fn taken(mut take: impl FnMut() -> Result<(), Disconnect>, end: Disconnect) -> u32 {
        let mut count = 0;
        loop {
            match take() {
                Ok(()) => count += 1,
                Err(error) => {
                    assert_eq!(error, end);
                    return count;
                }
            }
        }
    }

    fn garbage(breaker: &mut Breaker, now: Monotonic) -> u32 {
        taken(|| breaker.handle_refused(Code::DifficultyTooLow, now), Disconnect::Garbage)
    }

    fn repeats(breaker: &mut Breaker, code: Code, now: Monotonic) -> u32 {
        taken(|| breaker.handle_refused(code, now), Disconnect::Repeats)
    }

    fn requests(breaker: &mut Breaker, now: Monotonic) -> u32 {
        taken(|| breaker.handle_request(now), Disconnect::Requests)
    }

    #[test]
    fn patience_ends_and_comes_back_with_time_and_with_good_shares() {
        let mut breaker = Breaker::new(CHANNELS, at(0));
        assert_eq!(garbage(&mut breaker, at(0)), GARBAGE_MAX);
        assert_eq!(garbage(&mut breaker, at(99)), 0);
        assert_eq!(garbage(&mut breaker, at(1_050)), 10);
        assert_eq!(garbage(&mut breaker, at(1_100)), 1, "the half that was left");
        (0..7).for_each(|_| breaker.handle_accepted());
        assert_eq!(garbage(&mut breaker, at(1_100)), 7);
        assert_eq!(garbage(&mut breaker, at(10_000_000)), GARBAGE_MAX, "and no more than that");
    }

    #[test]
    fn what_honest_miners_send_is_borne_far_longer_but_not_for_ever() {
        let mut breaker = Breaker::new(CHANNELS, at(0));
        assert_eq!(repeats(&mut breaker, Code::StaleShare, at(0)), REPEATS_MAX);
        assert_eq!(repeats(&mut breaker, Code::DuplicateShare, at(1_000)), REPEATS_PER_SECOND);
        assert_eq!(garbage(&mut breaker, at(1_000)), GARBAGE_MAX, "each kind has its own patience");
        for _ in 0..10 * REPEATS_MAX {
            breaker.handle_accepted();
            assert_eq!(
                breaker.handle_refused(Code::DuplicateShare, at(1_000)),
                Ok(()),
                "one bad for each good"
            );
        }
    }

    #[test]
    fn a_proxy_may_ask_for_all_its_channels_at_once() {
        let mut breaker = Breaker::new(CHANNELS, at(0));
        let most = REQUESTS_MAX + REQUESTS_PER_CHANNEL * u32::from(CHANNELS);
        assert_eq!(requests(&mut breaker, at(0)), most);
        assert_eq!(requests(&mut breaker, at(1_000)), REQUESTS_PER_SECOND);
        assert_eq!(requests(&mut Breaker::new(u16::MAX, at(0)), at(0)), REQUESTS_MAX + 4 * 65_535);
    }

    #[test]
    fn ten_garbage_shares_a_second_are_borne_for_ever() {
        let mut breaker = Breaker::new(CHANNELS, at(0));
        assert!(
            (1..100_000).all(|tenth| breaker.handle_refused(Code::InvalidShare, at(tenth * 100)).is_ok())
        );
    }
}
