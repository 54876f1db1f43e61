//! Sealed bytes on their way to a peer: how many may wait, and for how long.

use core::time::Duration;

use adit_units::Monotonic;

/// How much may wait for a peer that does not read, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Most bytes that may wait, not counting what the kernel has taken. A peer for which less than half of it waits is sent what
    /// there is to say in one piece, even if that is more.
    pub bytes: usize,
    /// How long bytes may wait. A peer is dropped after between one and two times this.
    pub age: Duration,
}

impl Default for OutboxLimits {
    /// 64 KiB for 30 seconds.
    fn default() -> Self {
        Self { bytes: 64 * 1024, age: Duration::from_secs(30) }
    }
}

/// A queue of bytes that knows its age.
#[derive(Debug)]
pub(super) struct Outbox {
    limits: OutboxLimits,
    /// Bytes that wait start at `written`.
    bytes: Vec<u8>,
    /// How many of `bytes` are written; less than all of them, or both are zero.
    written: usize,
    /// Set while bytes wait.
    mark: Option<Mark>,
    /// Whether the socket has refused to take bytes since the outbox was last empty.
    held_up: bool,
}

/// A point in the queue that has been there since a known moment; one is enough to tell progress from standstill.
#[derive(Clone, Copy, Debug)]
struct Mark {
    /// How many bytes must still be written to pass it.
    ahead: usize,
    since: Monotonic,
}

impl Outbox {
    /// Most bytes of memory that an empty outbox keeps for the next acknowledgement.
    const KEPT_CAPACITY: usize = 512;

    pub(super) fn new(limits: OutboxLimits) -> Self {
        Self { limits, bytes: Vec::new(), written: 0, mark: None, held_up: false }
    }

    pub(super) fn limits(&self) -> &OutboxLimits {
        &self.limits
    }

    pub(super) const fn set_limits(&mut self, limits: OutboxLimits) {
        self.limits = limits;
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.bytes.len() - self.written
    }

    /// The bytes that wait, oldest first.
    pub(super) fn bytes(&self) -> &[u8] {
        self.bytes.get(self.written..).unwrap_or_default()
    }

    /// Lets `write` append bytes; should it fail, none are appended.
    pub(super) fn append<E>(
        &mut self,
        now: Monotonic,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let before = self.bytes.len();
        if let Err(error) = write(&mut self.bytes) {
            self.bytes.truncate(before);
            return Err(error);
        }
        if self.mark.is_none() && !self.is_empty() {
            self.mark = Some(Mark { ahead: self.len(), since: now });
        }
        Ok(())
    }

    /// Says that the first `count` bytes are written.
    pub(super) fn consume(&mut self, count: usize, now: impl FnOnce() -> Monotonic) {
        self.written += count;
        if self.written >= self.bytes.len() {
            self.reset();
            return;
        }
        let Some(mark) = &mut self.mark else { return };
        mark.ahead = mark.ahead.saturating_sub(count);
        if mark.ahead == 0 {
            self.mark = Some(Mark { ahead: self.bytes.len() - self.written, since: now() });
        }
    }

    /// Says that the socket takes no more for now.
    pub(super) fn hold_up(&mut self) {
        self.held_up = true;
        // What is written must not pile up in front of what waits.
        if self.written > 0 {
            self.bytes.drain(..self.written);
            self.written = 0;
        }
    }

    pub(super) fn is_held_up(&self) -> bool {
        self.held_up
    }

    /// When the oldest bytes that wait will have waited too long.
    pub(super) fn deadline(&self) -> Option<Monotonic> {
        self.mark.map(|mark| mark.since + self.limits.age)
    }

    fn reset(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(Self::KEPT_CAPACITY);
        (self.written, self.mark, self.held_up) = (0, None, false);
    }
}

#[cfg(test)]
mod tests {
    use core::convert::Infallible;

    use super::*;

    const LIMITS: OutboxLimits = OutboxLimits { bytes: 100, age: Duration::from_secs(10) };

    fn at(secs: u64) -> Monotonic {
        Monotonic::from_micros(secs * 1_000_000)
    }

    fn append(outbox: &mut Outbox, bytes: &[u8], now: Monotonic) {
        let Ok(()) = outbox.append(now, |out| {
            out.extend_from_slice(bytes);
            Ok::<_, Infallible>(())
        });
    }

    #[test]
    fn bytes_leave_in_the_order_they_came() {
        let mut outbox = Outbox::new(LIMITS);
        append(&mut outbox, b"abc", at(0));
        outbox.consume(2, || at(0));
        append(&mut outbox, b"def", at(0));
        assert_eq!(outbox.bytes(), b"cdef");
        outbox.hold_up();
        assert_eq!(outbox.bytes(), b"cdef");
        assert!(outbox.is_held_up());
        outbox.consume(4, || at(0));
        assert!(outbox.is_empty() && !outbox.is_held_up());
    }

    #[test]
    fn a_failed_append_leaves_no_trace() {
        let mut outbox = Outbox::new(LIMITS);
        let failed = outbox.append(at(0), |out| {
            out.push(1);
            Err("refused")
        });
        assert_eq!(failed, Err("refused"));
        assert!(outbox.is_empty() && outbox.deadline().is_none());
    }

    #[test]
    fn memory_is_given_back_when_all_is_written() {
        let mut outbox = Outbox::new(LIMITS);
        append(&mut outbox, &[0; 60_000], at(0));
        outbox.consume(60_000, || at(0));
        assert!(outbox.bytes.capacity() <= Outbox::KEPT_CAPACITY);
    }

    #[test]
    fn age_counts_from_the_oldest_byte_and_starts_anew_with_progress() {
        let mut outbox = Outbox::new(LIMITS);
        assert_eq!(outbox.deadline(), None);
        append(&mut outbox, b"abc", at(1));
        append(&mut outbox, b"def", at(5));
        assert_eq!(outbox.deadline(), Some(at(11)), "later bytes do not make the first ones younger");
        outbox.consume(2, || at(6));
        assert_eq!(outbox.deadline(), Some(at(11)), "a trickle does not count");
        outbox.consume(1, || at(7));
        assert_eq!(outbox.deadline(), Some(at(17)));
        outbox.consume(3, || at(8));
        assert_eq!(outbox.deadline(), None);
    }

    #[test]
    fn a_peer_that_reads_less_than_it_is_sent_does_get_old() {
        let mut outbox = Outbox::new(LIMITS);
        append(&mut outbox, &[0; 40], at(0));
        let mut dropped = None;
        for second in 0..40 {
            append(&mut outbox, &[0; 8], at(second));
            outbox.consume(2, || at(second));
            if outbox.deadline().unwrap() <= at(second) {
                dropped = Some(second);
                break;
            }
        }
        assert!(dropped.is_some_and(|second| second <= 20), "{dropped:?}");
    }
}
