//! How much a peer and each of its channels may send before they are no longer listened to.

use core::time::Duration;

use adit_messages::error_code::SubmitSharesError as Code;
use adit_units::Monotonic;

use crate::Disconnect;

/// Worthless shares that a channel may submit in a row; as many may come that name no channel of the connection.
pub const GARBAGE_MAX: u32 = 1_000;

/// Worthless shares that are granted each second on top; and to a channel one for each of its shares that is accepted.
pub const GARBAGE_PER_SECOND: u32 = 10;

/// Late, repeated and surplus shares that a channel may submit in a row. A busy one may be told of a new tip a second late, and firmware
/// repeats itself, but not like this.
pub const REPEATS_MAX: u32 = 16_384;

/// Late, repeated and surplus shares that a channel is granted each second on top; and one for each share that is accepted.
pub const REPEATS_PER_SECOND: u32 = 128;

/// Shares that a channel may have accepted in a row: as many as its miner can submit on one job without being refused for another reason.
pub const SHARES_MAX: u32 = 65_536;

/// Shares that a channel is granted each second on top, ten times as many as an operator may ask miners for.
pub const SHARES_PER_SECOND: u32 = 100;

/// Messages other than shares that a connection may send in a row, and for each channel that it may have [`REQUESTS_PER_CHANNEL`]
/// more: opening all of them at once is what proxies do.
pub const REQUESTS_MAX: u32 = 1_024;

/// See [`REQUESTS_MAX`].
pub const REQUESTS_PER_CHANNEL: u32 = 4;

/// Messages other than shares that a connection is granted each second on top.
pub const REQUESTS_PER_SECOND: u32 = 64;

/// Channels of one connection that may have to be closed in a row because of what they submit.
pub const CLOSURES_MAX: u32 = 16;

/// How long it takes until another one may.
pub const CLOSURE_INTERVAL: Duration = Duration::from_secs(60);

/// How long shares may still come for a channel that was closed, at no cost to the connection: they were under way.
pub const CLOSURE_GRACE: Duration = Duration::from_secs(60);

const MICROS: u64 = 1_000_000;

/// The patience with one connection; never with a user, whose name anybody can use.
#[derive(Debug)]
pub(super) struct Breaker {
    strays: Bucket<{ MICROS / GARBAGE_PER_SECOND as u64 }>,
    requests: Bucket<{ MICROS / REQUESTS_PER_SECOND as u64 }>,
    /// On the heap, because there are none on most connections.
    closures: Option<Box<Closures>>,
}

/// Channels that had to be closed because of what they submitted.
#[derive(Debug)]
struct Closures {
    patience: Bucket<{ CLOSURE_INTERVAL.as_secs() * MICROS }>,
    /// Until when shares that name no channel may have been under way when their channel was closed.
    grace: Monotonic,
}

/// Messages that are no shares which a connection may send in a row if it may open so many channels.
fn requests_max(channels: u16) -> u32 {
    REQUESTS_MAX + REQUESTS_PER_CHANNEL * u32::from(channels)
}

impl Breaker {
    /// Patience with a connection that may open so many channels.
    pub(super) fn new(channels: u16, now: Monotonic) -> Self {
        let (strays, requests) = (Bucket::new(GARBAGE_MAX, now), Bucket::new(requests_max(channels), now));
        Self { strays, requests, closures: None }
    }

    /// A share came for a channel that is not there.
    pub(super) fn handle_stray(&mut self, now: Monotonic) -> Result<(), Disconnect> {
        if self.closures.as_ref().is_some_and(|closures| now < closures.grace) {
            return Ok(());
        }
        self.strays.take(GARBAGE_MAX, now).ok_or(Disconnect::Garbage)
    }

    /// The peer, which may open so many channels, has sent a message that is no share.
    pub(super) fn handle_request(&mut self, channels: u16, now: Monotonic) -> Result<(), Disconnect> {
        self.requests.take(requests_max(channels), now).ok_or(Disconnect::Requests)
    }

    /// A channel has to be closed; whether that is enough, or the connection is at fault.
    pub(super) fn handle_closure(&mut self, now: Monotonic) -> bool {
        let grace = now + CLOSURE_GRACE;
        let new = || Box::new(Closures { patience: Bucket::new(CLOSURES_MAX, now), grace });
        let closures = self.closures.get_or_insert_with(new);
        closures.grace = grace;
        closures.patience.take(CLOSURES_MAX, now).is_some()
    }
}

/// The patience with one channel.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    garbage: Bucket<{ MICROS / GARBAGE_PER_SECOND as u64 }>,
    repeats: Bucket<{ MICROS / REPEATS_PER_SECOND as u64 }>,
    shares: Bucket<{ MICROS / SHARES_PER_SECOND as u64 }>,
}

impl Patience {
    pub(super) fn new(now: Monotonic) -> Self {
        Self {
            garbage: Bucket::new(GARBAGE_MAX, now),
            repeats: Bucket::new(REPEATS_MAX, now),
            shares: Bucket::new(SHARES_MAX, now),
        }
    }

    /// Whether another share may be accepted that is no block.
    pub(super) fn allows_share(&mut self, now: Monotonic) -> bool {
        self.shares.rest(SHARES_MAX, now) > 0
    }

    /// A share was accepted.
    pub(super) fn handle_accepted(&mut self) {
        self.garbage.grant(1, GARBAGE_MAX);
        self.repeats.grant(1, REPEATS_MAX);
        self.shares.spend();
    }

    /// A share was refused.
    pub(super) fn handle_refused(&mut self, code: Code, now: Monotonic) -> Result<(), Disconnect> {
        if is_garbage(code) {
            return self.garbage.take(GARBAGE_MAX, now).ok_or(Disconnect::Garbage);
        }
        self.repeats.take(REPEATS_MAX, now).ok_or(Disconnect::Repeats)
    }
}

/// Patience that is used up, and comes back with time: one in so many microseconds. Small, because there are many.
#[derive(Clone, Copy, Debug)]
struct Bucket<const EACH_MICROS: u64> {
    /// How often it may be taken from.
    rest: u32,
    /// How much time had granted when it was last counted, in numbers that begin anew behind the last.
    granted: u32,
}

impl<const EACH_MICROS: u64> Bucket<EACH_MICROS> {
    fn new(rest: u32, now: Monotonic) -> Self {
        Self { rest, granted: Self::granted_by(now) }
    }

    /// Takes one out of what there is, which is never more than `most`; `None` if there is none.
    fn take(&mut self, most: u32, now: Monotonic) -> Option<()> {
        self.rest = self.rest(most, now).checked_sub(1)?;
        Some(())
    }

    /// How often it may be taken from now, which is never more than `most`.
    fn rest(&mut self, most: u32, now: Monotonic) -> u32 {
        let granted = Self::granted_by(now);
        let more = granted.wrapping_sub(core::mem::replace(&mut self.granted, granted));
        self.grant(more, most);
        self.rest
    }

    /// Takes one if there is one.
    fn spend(&mut self) {
        self.rest = self.rest.saturating_sub(1);
    }

    fn grant(&mut self, more: u32, most: u32) {
        self.rest = self.rest.saturating_add(more).min(most);
    }

    /// What time has granted since its beginning, as far as 32 bits show it.
    fn granted_by(now: Monotonic) -> u32 {
        let granted = now.to_micros() / EACH_MICROS;
        u32::try_from(granted % (1 << 32)).expect("the rest of a division by 2^32")
    }
}

/// Whether an honest miner has no reason to submit such a share in numbers: late shares, nonces that firmware sends again, and more
/// shares than anybody wants are an honest miner's.
const fn is_garbage(code: Code) -> bool {
    !matches!(code, Code::StaleShare | Code::DuplicateShare | Code::TooManyShares)
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

    fn garbage(patience: &mut Patience, now: Monotonic) -> u32 {
        taken(|| patience.handle_refused(Code::DifficultyTooLow, now), Disconnect::Garbage)
    }

    fn repeats(patience: &mut Patience, code: Code, now: Monotonic) -> u32 {
        taken(|| patience.handle_refused(code, now), Disconnect::Repeats)
    }

    fn strays(breaker: &mut Breaker, now: Monotonic) -> u32 {
        taken(|| breaker.handle_stray(now), Disconnect::Garbage)
    }

    fn requests(breaker: &mut Breaker, channels: u16, now: Monotonic) -> u32 {
        taken(|| breaker.handle_request(channels, now), Disconnect::Requests)
    }

    #[test]
    fn patience_ends_and_comes_back_with_time_and_with_good_shares() {
        let mut patience = Patience::new(at(0));
        assert_eq!(garbage(&mut patience, at(0)), GARBAGE_MAX);
        assert_eq!(garbage(&mut patience, at(99)), 0);
        assert_eq!(garbage(&mut patience, at(1_050)), 10);
        assert_eq!(garbage(&mut patience, at(1_100)), 1, "the half that was left");
        (0..7).for_each(|_| patience.handle_accepted());
        assert_eq!(garbage(&mut patience, at(1_100)), 7);
        assert_eq!(garbage(&mut patience, at(10_000_000)), GARBAGE_MAX, "and no more than that");
    }

    #[test]
    fn what_honest_miners_send_is_borne_far_longer_but_not_for_ever() {
        let mut patience = Patience::new(at(0));
        assert_eq!(repeats(&mut patience, Code::StaleShare, at(0)), REPEATS_MAX);
        assert_eq!(repeats(&mut patience, Code::DuplicateShare, at(1_000)), REPEATS_PER_SECOND);
        assert_eq!(garbage(&mut patience, at(1_000)), GARBAGE_MAX, "each kind has its own patience");
        for _ in 0..10 * REPEATS_MAX {
            patience.handle_accepted();
            let refused = patience.handle_refused(Code::DuplicateShare, at(1_000));
            assert_eq!(refused, Ok(()), "one bad for each good");
        }
    }

    #[test]
    fn a_proxy_may_ask_for_all_its_channels_at_once() {
        let mut breaker = Breaker::new(CHANNELS, at(0));
        let most = REQUESTS_MAX + REQUESTS_PER_CHANNEL * u32::from(CHANNELS);
        assert_eq!(requests(&mut breaker, CHANNELS, at(0)), most);
        assert_eq!(requests(&mut breaker, CHANNELS, at(1_000)), REQUESTS_PER_SECOND);
        assert_eq!(requests(&mut Breaker::new(u16::MAX, at(0)), u16::MAX, at(0)), REQUESTS_MAX + 4 * 65_535);
    }

    #[test]
    fn ten_garbage_shares_a_second_are_borne_for_ever() {
        let mut patience = Patience::new(at(0));
        assert!(
            (1..100_000).all(|tenth| patience.handle_refused(Code::InvalidShare, at(tenth * 100)).is_ok())
        );
    }

    #[test]
    fn a_channel_has_its_fill_of_shares_and_then_so_many_a_second() {
        let mut patience = Patience::new(at(0));
        let mut accepted = |now| {
            let mut count = 0;
            while patience.allows_share(now) {
                patience.handle_accepted();
                count += 1;
            }
            count
        };
        assert_eq!(accepted(at(0)), SHARES_MAX);
        assert_eq!(accepted(at(9)), 0);
        assert_eq!(accepted(at(15)), 1);
        assert_eq!(accepted(at(20)), 1, "the half that was left");
        assert_eq!(accepted(at(1_020)), SHARES_PER_SECOND);
        assert_eq!(accepted(at(1_000_000_000)), SHARES_MAX, "and no more than that");
    }

    #[test]
    fn what_was_under_way_when_its_channel_was_closed_costs_nothing() {
        let mut breaker = Breaker::new(CHANNELS, at(0));
        assert!((0..CLOSURES_MAX).all(|_| breaker.handle_closure(at(0))));
        assert!(!breaker.handle_closure(at(1)), "that was one channel too many");
        assert!((0..10 * GARBAGE_MAX).all(|_| breaker.handle_stray(at(60_000)) == Ok(())));
        assert_eq!(strays(&mut breaker, at(60_001)), GARBAGE_MAX);
        assert!(breaker.handle_closure(at(61_000)), "one a minute is borne for ever");
        assert!(!breaker.handle_closure(at(62_000)));
    }
}
