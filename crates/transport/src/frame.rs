//! Frames in the clear: the six-byte header, a borrowed frame, and a queue of frames back to back.

use core::fmt;

/// Most payload bytes a frame can declare: its length field is a `U24` (spec 3.2).
pub const PAYLOAD_MAX: usize = (1 << 24) - 1;

/// The bit of `extension_type` on the wire that says a message belongs to a channel (spec 3.2.1).
const CHANNEL_MSG_BIT: u16 = 1 << 15;

/// What stands before every payload (spec 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Header {
    /// The extension that defined the message, below 2^15; zero for the core protocols.
    pub extension_type: u16,
    /// Whether the payload starts with the id of the channel that the message is for.
    pub channel_msg: bool,
    /// The number of the message within its extension.
    pub msg_type: u8,
    /// Bytes of payload that follow, below 2^24.
    pub length: u32,
}

impl Header {
    /// Length of a header, in bytes.
    pub const LEN: usize = 6;

    /// The header as it stands on the wire: little-endian extension type with the channel bit on top, type, length.
    ///
    /// Bits that do not fit are dropped: the top bit of [`Self::extension_type`] and the top byte of [`Self::length`].
    #[must_use]
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        let channel_bit = if self.channel_msg { CHANNEL_MSG_BIT } else { 0 };
        let [e0, e1] = ((self.extension_type & !CHANNEL_MSG_BIT) | channel_bit).to_le_bytes();
        let [l0, l1, l2, _] = self.length.to_le_bytes();
        [e0, e1, self.msg_type, l0, l1, l2]
    }

    /// Reads a header; every six bytes are one.
    #[must_use]
    pub const fn from_bytes([e0, e1, msg_type, l0, l1, l2]: [u8; Self::LEN]) -> Self {
        let extension_type = u16::from_le_bytes([e0, e1]);
        Self {
            extension_type: extension_type & !CHANNEL_MSG_BIT,
            channel_msg: extension_type & CHANNEL_MSG_BIT != 0,
            msg_type,
            length: u32::from_le_bytes([l0, l1, l2, 0]),
        }
    }
}

/// One frame in the clear, its payload borrowed from the buffer it was read into or written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What was sent before the payload; its length is that of [`Self::payload`].
    pub header: Header,
    /// The message without its header.
    pub payload: &'a [u8],
}

impl<'a> Frame<'a> {
    /// A frame around a payload; the header's length is taken from it.
    ///
    /// # Errors
    ///
    /// If the payload is longer than [`PAYLOAD_MAX`].
    pub fn new(
        extension_type: u16,
        channel_msg: bool,
        msg_type: u8,
        payload: &'a [u8],
    ) -> Result<Self, PayloadTooLong> {
        let length = checked_length(payload.len())?;
        Ok(Self { header: Header { extension_type, channel_msg, msg_type, length }, payload })
    }

    /// Takes the first frame off bytes in the clear: the frame and what follows it, or `None` if it is not complete.
    #[must_use]
    pub fn split_from(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (header, rest) = bytes.split_first_chunk()?;
        let header = Header::from_bytes(*header);
        let (payload, rest) = rest.split_at_checked(usize::try_from(header.length).ok()?)?;
        Some((Self { header, payload }, rest))
    }
}

/// A message that no frame can carry, because it is longer than [`PAYLOAD_MAX`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "payload of {length} bytes does not fit into a frame, which carries at most {PAYLOAD_MAX}; split or shorten it"
)]
pub struct PayloadTooLong {
    /// The payload's length in bytes.
    pub length: usize,
}

/// The length as a header can hold it.
pub(crate) fn checked_length(length: usize) -> Result<u32, PayloadTooLong> {
    match u32::try_from(length) {
        Ok(fitting) if length <= PAYLOAD_MAX => Ok(fitting),
        _ => Err(PayloadTooLong { length }),
    }
}

/// Frames in the clear, back to back in one allocation: what a role wants to say, before it is sealed.
///
/// The bytes are those that would be sent over a connection without encryption.
#[derive(Default)]
pub struct FrameQueue {
    /// Whole frames only.
    bytes: Vec<u8>,
}

impl FrameQueue {
    /// Most bytes that [`Self::clear`] keeps allocated for the next frames.
    pub const KEPT_CAPACITY: usize = 16 * 1024;

    /// Appends a frame; the top bit of `extension_type` is ignored in favour of `channel_msg`.
    ///
    /// # Errors
    ///
    /// If the payload is longer than [`PAYLOAD_MAX`]; the queue is then as it was.
    pub fn push(
        &mut self,
        extension_type: u16,
        channel_msg: bool,
        msg_type: u8,
        payload: &[u8],
    ) -> Result<(), PayloadTooLong> {
        let frame = Frame::new(extension_type, channel_msg, msg_type, payload)?;
        self.bytes.reserve(Header::LEN + payload.len());
        self.bytes.extend_from_slice(&frame.header.to_bytes());
        self.bytes.extend_from_slice(payload);
        Ok(())
    }

    /// Appends a frame whose payload `write` appends in place, without knowing its length beforehand.
    ///
    /// # Errors
    ///
    /// What `write` answers, or a payload longer than [`PAYLOAD_MAX`]; the queue is then as it was.
    ///
    /// # Panics
    ///
    /// If `write` removes bytes that it did not append.
    pub fn push_with<E: From<PayloadTooLong>>(
        &mut self,
        extension_type: u16,
        channel_msg: bool,
        msg_type: u8,
        write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
    ) -> Result<(), E> {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; Header::LEN]);
        let written = write(&mut self.bytes).and_then(|()| {
            let payload = self.bytes.len().checked_sub(start + Header::LEN);
            let payload = payload.expect("a frame's writer only appends");
            Ok(checked_length(payload)?)
        });
        let length = written.inspect_err(|_| self.bytes.truncate(start))?;
        let header = Header { extension_type, channel_msg, msg_type, length };
        let space = self.bytes.get_mut(start..).and_then(|frame| frame.first_chunk_mut());
        *space.expect("the header's bytes were appended above") = header.to_bytes();
        Ok(())
    }

    /// The frames in the order in which they were pushed.
    pub fn iter(&self) -> Frames<'_> {
        Frames { bytes: &self.bytes }
    }

    /// Forgets all frames, and gives back memory beyond [`Self::KEPT_CAPACITY`].
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(Self::KEPT_CAPACITY);
    }

    /// Whether there is no frame.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Headers and payloads of all frames together, in bytes.
    #[must_use]
    pub fn len_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// The frames as a connection without encryption carries them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl<'a> IntoIterator for &'a FrameQueue {
    type Item = Frame<'a>;
    type IntoIter = Frames<'a>;

    fn into_iter(self) -> Frames<'a> {
        self.iter()
    }
}

/// Lists the headers; payloads may be long.
impl fmt::Debug for FrameQueue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|frame| frame.header)).finish()
    }
}

/// The frames of a [`FrameQueue`], oldest first.
#[derive(Clone, Debug)]
pub struct Frames<'a> {
    bytes: &'a [u8],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    fn next(&mut self) -> Option<Frame<'a>> {
        let (frame, rest) = Frame::split_from(self.bytes)?;
        self.bytes = rest;
        Some(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header =
        Header { extension_type: 0x0102, channel_msg: true, msg_type: 0x1b, length: 0x03_0405 };

    #[test]
    fn a_header_is_six_bytes_little_endian_with_the_channel_bit_on_top() {
        assert_eq!(HEADER.to_bytes(), [0x02, 0x81, 0x1b, 0x05, 0x04, 0x03]);
        assert_eq!(Header::from_bytes(HEADER.to_bytes()), HEADER);
        let plain = Header { channel_msg: false, ..HEADER };
        assert_eq!(plain.to_bytes(), [0x02, 0x01, 0x1b, 0x05, 0x04, 0x03]);
        assert_eq!(Header::from_bytes(plain.to_bytes()), plain);
    }

    #[test]
    fn what_a_header_cannot_hold_is_dropped() {
        let wide = Header { extension_type: 0xffff, channel_msg: false, msg_type: 0, length: 0xff00_0001 };
        let read = Header { extension_type: 0x7fff, length: 1, ..wide };
        assert_eq!(Header::from_bytes(wide.to_bytes()), read);
    }

    #[test]
    fn a_queue_gives_back_what_was_pushed() {
        let mut queue = FrameQueue::default();
        assert!(queue.is_empty());
        queue.push(0, false, 0x01, b"").unwrap();
        queue.push(1, true, 0x1b, b"payload").unwrap();
        queue
            .push_with(2, false, 0x20, |out| {
                out.push(7);
                Ok::<_, PayloadTooLong>(())
            })
            .unwrap();
        assert_eq!(queue.len_bytes(), 3 * Header::LEN + 8);
        let frames: Vec<_> = queue.iter().collect();
        assert_eq!(
            frames,
            [
                Frame::new(0, false, 0x01, b"").unwrap(),
                Frame::new(1, true, 0x1b, b"payload").unwrap(),
                Frame::new(2, false, 0x20, &[7]).unwrap(),
            ]
        );
        queue.clear();
        assert!(queue.is_empty() && queue.iter().next().is_none());
    }

    #[test]
    fn a_frame_that_cannot_be_written_leaves_no_trace() {
        #[derive(Debug, PartialEq)]
        enum Refusal {
            TooLong(PayloadTooLong),
            Own,
        }
        impl From<PayloadTooLong> for Refusal {
            fn from(error: PayloadTooLong) -> Self {
                Self::TooLong(error)
            }
        }
        let mut queue = FrameQueue::default();
        queue.push(0, false, 1, b"first").unwrap();
        let before = queue.as_bytes().to_vec();
        let own = queue.push_with(0, false, 2, |out| {
            out.extend([1, 2, 3]);
            Err(Refusal::Own)
        });
        assert_eq!(own, Err(Refusal::Own));
        let length = PAYLOAD_MAX + 1;
        let long = queue.push_with(0, false, 2, |out| {
            out.resize(out.len() + length, 0);
            Ok::<_, Refusal>(())
        });
        assert_eq!(long, Err(Refusal::TooLong(PayloadTooLong { length })));
        assert_eq!(queue.push(0, false, 2, &vec![0; length]), Err(PayloadTooLong { length }));
        assert_eq!(queue.as_bytes(), before);
        queue.push(0, false, 2, &vec![0; PAYLOAD_MAX]).unwrap();
        assert_eq!(queue.iter().nth(1).unwrap().payload.len(), PAYLOAD_MAX);
        queue.clear();
        assert!(queue.bytes.capacity() <= FrameQueue::KEPT_CAPACITY);
    }

    #[test]
    #[should_panic(expected = "only appends")]
    fn a_writer_that_removes_frames_is_a_bug() {
        let mut queue = FrameQueue::default();
        queue.push(0, false, 1, b"first").unwrap();
        let _ = queue.push_with(0, false, 2, |out| {
            out.clear();
            Ok::<_, PayloadTooLong>(())
        });
    }

    #[test]
    fn an_incomplete_frame_is_none() {
        let frame = Frame::new(0, true, 0x1b, b"abc").unwrap();
        let mut bytes = frame.header.to_bytes().to_vec();
        bytes.extend_from_slice(b"abcrest");
        for cut in 0..Header::LEN + 3 {
            assert_eq!(Frame::split_from(&bytes[..cut]), None);
        }
        assert_eq!(Frame::split_from(&bytes), Some((frame, &b"rest"[..])));
    }
}
