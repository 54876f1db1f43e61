//! The bytes that came off a socket and have not been opened yet: one growing allocation per connection.

use core::fmt;

/// Received bytes, kept until [`Opener::open`](crate::Opener::open) has taken them, frame by frame, where they lie.
///
/// Its memory follows the bytes that came in, never a length that a peer declared: after each [`Self::spare`] it is less than
/// four times the received bytes and the asked room together, or [`Self::KEPT_CAPACITY`] if that is more. So what a long frame
/// needed is given back at the next read.
///
/// ```text
/// |  taken  |  received, not yet taken  |  spare  |
/// 0       start                        end    bytes.len()
/// ```
#[derive(Default)]
pub struct RecvBuffer {
    /// Initialised throughout; 0 <= start <= end <= its length.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl RecvBuffer {
    /// Memory that is not worth giving back, in bytes.
    pub const KEPT_CAPACITY: usize = 16 * 1024;

    /// Room for the next read: `at_least` bytes or more, with old contents.
    ///
    /// `at_least` is a fixed size of the caller's choosing, a few KiB. [`Self::advance`] tells how many were filled.
    pub fn spare(&mut self, at_least: usize) -> &mut [u8] {
        let needed = self.len() + at_least;
        let oversized = self.capacity() > Self::KEPT_CAPACITY && needed <= self.capacity() / 4;
        if oversized || self.bytes.len() - self.end < at_least {
            self.compact();
        }
        if oversized {
            self.bytes.truncate(self.end);
            self.bytes.shrink_to(needed.max(Self::KEPT_CAPACITY));
        }
        if self.bytes.len() - self.end < at_least {
            self.bytes.resize(needed, 0);
        }
        self.bytes.get_mut(self.end..).unwrap_or_default()
    }

    /// Says that the first `filled` bytes of what [`Self::spare`] gave now hold what was received.
    ///
    /// # Panics
    ///
    /// If `spare` did not give that many.
    pub fn advance(&mut self, filled: usize) {
        assert!(filled <= self.bytes.len() - self.end, "more bytes were filled than there was room for");
        self.end += filled;
    }

    /// Bytes received and not yet taken.
    #[must_use]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether every received byte has been taken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }

    /// Bytes of memory held.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.bytes.capacity()
    }

    /// Gives back what the received bytes do not need, for a connection about to wait in silence.
    ///
    /// Up to half of the memory may stay, so that a long frame that comes in many pieces is not moved for each of them.
    pub fn shrink(&mut self) {
        if self.capacity() > 2 * self.len() {
            let bytes = self.received_mut().to_vec();
            *self = Self { start: 0, end: bytes.len(), bytes };
        }
    }

    /// The received bytes, to be opened in place.
    pub(crate) fn received_mut(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.start..self.end).unwrap_or_default()
    }

    /// Takes `taken` received bytes; the answer is the first `wanted` of them.
    pub(crate) fn take(&mut self, taken: usize, wanted: usize) -> &[u8] {
        let from = self.start;
        self.start = (self.start + taken).min(self.end);
        if self.is_empty() {
            (self.start, self.end) = (0, 0);
        }
        self.bytes.get(from..from + wanted).unwrap_or_default()
    }

    /// Moves what was received to the front; what was taken is overwritten.
    fn compact(&mut self) {
        if self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
    }
}

/// Tells lengths only.
impl fmt::Debug for RecvBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecvBuffer").field("len", &self.len()).field("capacity", &self.capacity()).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn receive(buffer: &mut RecvBuffer, at_least: usize, bytes: &[u8]) {
        let spare = buffer.spare(at_least);
        assert!(spare.len() >= at_least);
        spare[..bytes.len()].copy_from_slice(bytes);
        buffer.advance(bytes.len());
    }

    #[test]
    fn memory_is_given_back_when_a_long_frame_has_gone() {
        let mut buffer = RecvBuffer::default();
        for _ in 0..256 {
            receive(&mut buffer, 4096, &[1; 4096]);
        }
        assert!(buffer.capacity() <= 2 * (256 + 1) * 4096);
        buffer.take(256 * 4096 - 5, 0);
        receive(&mut buffer, 4096, &[2; 3]);
        assert_eq!(buffer.received_mut(), [1, 1, 1, 1, 1, 2, 2, 2]);
        assert!(buffer.capacity() <= RecvBuffer::KEPT_CAPACITY);
        buffer.shrink();
        assert_eq!(buffer.received_mut(), [1, 1, 1, 1, 1, 2, 2, 2], "what was received is kept");
        assert!(buffer.capacity() <= 16, "a peer that sends half a header holds no more than that");
        buffer.take(8, 8);
        buffer.shrink();
        assert_eq!(buffer.capacity(), 0);
    }

    #[test]
    #[should_panic(expected = "more bytes were filled")]
    fn filling_more_than_was_given_is_a_bug() {
        let mut buffer = RecvBuffer::default();
        let given = buffer.spare(10).len();
        buffer.advance(given + 1);
    }

    proptest! {
        /// The naive twin is a queue of bytes.
        #[test]
        fn bytes_come_out_as_they_came_in(
            steps in prop::collection::vec((1_usize..40_000, 0_usize..40_000, 0_usize..60_000), 1..40)
        ) {
            let (mut buffer, mut twin, mut next) = (RecvBuffer::default(), Vec::new(), 0_u8);
            for (room, filled, taken) in steps {
                let bytes: Vec<u8> = (next..=255).chain(0..next).cycle().take(filled.min(room)).collect();
                next = next.wrapping_add(101);
                let bound = (4 * (twin.len() + room)).max(RecvBuffer::KEPT_CAPACITY);
                receive(&mut buffer, room, &bytes);
                prop_assert!(buffer.capacity() <= bound, "{} for {} + {room}", buffer.capacity(), twin.len());
                twin.extend_from_slice(&bytes);
                prop_assert_eq!(buffer.received_mut(), &twin[..]);
                let taken = taken.min(twin.len());
                prop_assert_eq!(buffer.take(taken, taken / 2), &twin[..taken / 2]);
                twin.drain(..taken);
                prop_assert_eq!(buffer.len(), twin.len());
            }
        }
    }
}
