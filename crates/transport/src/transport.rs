//! The two directions of a connection after its handshake: frames opened where they were received, and sealed where they are sent from.

use core::fmt;

use crate::cipher::{BLOCK_MAX, BlockCipher, BlockError, Exhausted, MAC_LEN, sealed_len};
use crate::frame::{Frame, FrameQueue, Header, PayloadTooLong, checked_length};
use crate::recv_buffer::RecvBuffer;
use crate::secret::Secret;

#[cfg(test)]
mod tests;

/// A sealed header: six bytes and their MAC (spec 4.6).
const SEALED_HEADER_LEN: usize = Header::LEN + MAC_LEN;

/// What a handshake leaves behind: one half for each direction, to be used by the same task or by two.
#[derive(Debug)]
pub struct Transport {
    /// Opens what the peer sends.
    pub opener: Opener,
    /// Seals what is sent to the peer.
    pub sealer: Sealer,
}

impl Transport {
    /// A transport of fresh keys; a pair of keys makes one transport on each side, else nonces would serve twice.
    pub(crate) fn new(opening: &Secret<32>, sealing: &Secret<32>) -> Self {
        Self {
            opener: Opener { cipher: BlockCipher::new(opening), stage: Stage::ExpectHeader },
            sealer: Sealer { cipher: BlockCipher::new(sealing) },
        }
    }
}

/// Why nothing more can be read from a connection; after any of these it must be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The peer announced a payload longer than its kind of message may have at this point.
    #[error(
        "peer announced a message of type {:#04x} (extension {:#06x}) with {} bytes where at most {limit} are accepted",
        header.msg_type, header.extension_type, header.length
    )]
    TooLong {
        /// What the peer announced.
        header: Header,
        /// The most that was accepted, in bytes.
        limit: usize,
    },
    /// A block is not what the peer sealed as its next one.
    #[error(
        "a block does not authenticate: it was altered, lost or made up on the way, or the peer lost count"
    )]
    Tampered,
    /// The peer has used up its nonces; a new handshake is needed.
    #[error("the peer has sealed as many blocks as its key may serve; connect again")]
    Exhausted,
    /// An earlier error has ended the connection.
    #[error("the connection has failed before and cannot be read any more; close it")]
    Failed,
}

/// What the opener waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    ExpectHeader,
    /// The first `opened` bytes of the payload are in the clear at the front of the buffer; the next block follows the opened
    /// blocks' sealed length.
    ExpectPayload {
        header: Header,
        opened: usize,
    },
    Failed,
}

/// Opens the frames that a peer seals; after the first error it stays failed, for a stream that was altered has no good rest.
///
/// It is not `Clone`, because a copy would accept what the original has accepted already:
///
/// ```compile_fail,E0277
/// fn copy<T: Clone>() {}
/// copy::<adit_transport::Opener>();
/// ```
pub struct Opener {
    cipher: BlockCipher,
    stage: Stage,
}

impl Opener {
    /// Opens the next frame in place, or says `None` if more bytes must be received first.
    ///
    /// One read may bring many frames, so call this until it says `None`. The frame borrows from the buffer and is gone with the
    /// next call. Blocks of a long payload are opened as they come in. One opener goes with one buffer.
    ///
    /// `limit` is asked once for each header, as soon as that is known: the most payload bytes that the caller accepts for this
    /// message in its present state.
    ///
    /// # Errors
    ///
    /// [`OpenError::TooLong`] before any memory is taken for the payload, [`OpenError::Tampered`] or [`OpenError::Exhausted`];
    /// [`OpenError::Failed`] ever after.
    pub fn open<'b>(
        &mut self,
        buffer: &'b mut RecvBuffer,
        limit: impl FnOnce(&Header) -> usize,
    ) -> Result<Option<Frame<'b>>, OpenError> {
        let opened = self.open_header(buffer, limit).and_then(|()| self.open_payload(buffer));
        let header = opened.inspect_err(|_| self.stage = Stage::Failed)?;
        Ok(header.map(|header| {
            let length = length_of(&header);
            Frame { header, payload: buffer.take(sealed_len(length), length) }
        }))
    }

    /// If a header is expected and there: opens it, asks for its limit and goes on to its payload.
    fn open_header(
        &mut self,
        buffer: &mut RecvBuffer,
        limit: impl FnOnce(&Header) -> usize,
    ) -> Result<(), OpenError> {
        match self.stage {
            Stage::ExpectHeader => {}
            Stage::ExpectPayload { .. } => return Ok(()),
            Stage::Failed => return Err(OpenError::Failed),
        }
        let Some(sealed) = buffer.received_mut().first_chunk_mut::<SEALED_HEADER_LEN>() else {
            return Ok(());
        };
        self.cipher.open(sealed, 0..)?;
        let [e0, e1, msg_type, l0, l1, l2, ..] = *sealed;
        let header = Header::from_bytes([e0, e1, msg_type, l0, l1, l2]);
        buffer.take(SEALED_HEADER_LEN, 0);
        let limit = limit(&header);
        if length_of(&header) > limit {
            return Err(OpenError::TooLong { header, limit });
        }
        self.stage = Stage::ExpectPayload { header, opened: 0 };
        Ok(())
    }

    /// Opens those blocks of the payload that are there; once it is complete, the answer is its header.
    fn open_payload(&mut self, buffer: &mut RecvBuffer) -> Result<Option<Header>, OpenError> {
        let Stage::ExpectPayload { header, mut opened } = self.stage else {
            return Ok(None);
        };
        let (length, received) = (length_of(&header), buffer.received_mut());
        while opened < length {
            let block_end = (opened + BLOCK_MAX).min(length);
            // Plaintext is shorter than what it was sealed to, so each block moves left onto the end of the one before it.
            let gap = sealed_len(opened) - opened;
            let Some(bytes) = received.get_mut(opened..sealed_len(block_end)) else {
                self.stage = Stage::ExpectPayload { header, opened };
                return Ok(None);
            };
            self.cipher.open(bytes, gap..)?;
            opened = block_end;
        }
        self.stage = Stage::ExpectHeader;
        Ok(Some(header))
    }
}

impl From<BlockError> for OpenError {
    fn from(error: BlockError) -> Self {
        match error {
            BlockError::Exhausted => Self::Exhausted,
            BlockError::Tampered => Self::Tampered,
        }
    }
}

/// Tells what it waits for, and nothing of its key.
impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Opener").field("stage", &self.stage).finish_non_exhaustive()
    }
}

/// Why a frame was not sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// We made a message that no frame can carry.
    #[error(transparent)]
    PayloadTooLong(#[from] PayloadTooLong),
    /// The key has no nonces left for this frame; a new handshake is needed.
    #[error("the key has sealed as many blocks as it may; connect again")]
    Exhausted,
}

impl From<Exhausted> for SealError {
    fn from(Exhausted: Exhausted) -> Self {
        Self::Exhausted
    }
}

/// Seals frames for a peer.
///
/// It is not `Clone`, because a copy would use the same nonces again:
///
/// ```compile_fail,E0277
/// fn copy<T: Clone>() {}
/// copy::<adit_transport::Sealer>();
/// ```
pub struct Sealer {
    cipher: BlockCipher,
}

impl Sealer {
    /// Appends the frame to `out`, sealed; the length that is sent is that of its payload.
    ///
    /// # Errors
    ///
    /// If the payload is longer than a frame can carry or the key has no nonces left for it; `out` is then as it was.
    pub fn seal(&mut self, frame: Frame<'_>, out: &mut Vec<u8>) -> Result<(), SealError> {
        let length = checked_length(frame.payload.len())?;
        let blocks = 1 + u64::from(length).div_ceil(BLOCK_MAX as u64);
        if self.cipher.blocks_left() < blocks {
            return Err(SealError::Exhausted);
        }
        out.reserve(sealed_frame_len(frame.payload.len()));
        self.seal_block(&Header { length, ..frame.header }.to_bytes(), out)?;
        for block in frame.payload.chunks(BLOCK_MAX) {
            self.seal_block(block, out)?;
        }
        Ok(())
    }

    /// Appends all queued frames to `out`, sealed, and clears the queue.
    ///
    /// # Errors
    ///
    /// If the key has no nonces left; `out` then ends with the last frame that could be sealed, and the queue is as it was.
    pub fn seal_all(&mut self, queue: &mut FrameQueue, out: &mut Vec<u8>) -> Result<(), SealError> {
        out.reserve(queue.iter().map(|frame| sealed_frame_len(frame.payload.len())).sum());
        for frame in queue.iter() {
            self.seal(frame, out)?;
        }
        queue.clear();
        Ok(())
    }

    /// Copies a block to the end of `out` and seals it there.
    fn seal_block(&mut self, block: &[u8], out: &mut Vec<u8>) -> Result<(), Exhausted> {
        let start = out.len();
        out.extend_from_slice(block);
        let (_, appended) = out.split_at_mut(start);
        let mac = self.cipher.seal(appended)?;
        out.extend_from_slice(mac.as_ref());
        Ok(())
    }
}

/// Tells nothing of its key.
impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sealer").finish_non_exhaustive()
    }
}

/// The length that a frame with that many payload bytes has on an encrypted connection.
#[must_use]
pub const fn sealed_frame_len(payload: usize) -> usize {
    SEALED_HEADER_LEN + sealed_len(payload)
}

/// A header's length as an index into memory.
fn length_of(header: &Header) -> usize {
    usize::try_from(header.length).unwrap_or(usize::MAX)
}
