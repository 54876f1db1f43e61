//! Fields and messages, from bytes and back (spec 3.1).
//!
//! The published crates come with a decoder of their own. It wants the payload mutable, which a frame in a shared buffer cannot be, and
//! does not say which field was wrong; this one reads the same structs from a borrowed payload. The tests hold the two against each
//! other, message by message and on random bytes.

use adit_transport::{Frame, FrameQueue, PayloadTooLong};
use binary_sv2::{B016M, B032, B064K, B0255, Seq064K, Seq0255, Sv2Option, U256};

use crate::tlv::Tlv;
use crate::{Message, Protocol, common, info};

/// A frame that is no message; the peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The protocol of the connection has no such message.
    ///
    /// One with an extension type that is not zero is to be ignored (spec 3.4.1).
    #[error("{protocol:?} has no message of extension {extension_type:#06x} with type {msg_type:#04x}")]
    UnknownMessage {
        /// What the connection speaks.
        protocol: Protocol,
        /// The extension of the frame's header.
        extension_type: u16,
        /// The message type of the frame's header.
        msg_type: u8,
    },
    /// The payload ends too early.
    #[error("{message} ends inside its field {field}")]
    Truncated {
        /// The message's name.
        message: &'static str,
        /// The field that is not whole.
        field: &'static str,
    },
    /// A variable field is longer than its type allows.
    #[error("{field} of {message} has length {length}, more than its type allows")]
    FieldTooLong {
        /// The message's name.
        message: &'static str,
        /// The field in question.
        field: &'static str,
        /// Its bytes, or its elements if it is a sequence.
        length: usize,
    },
    /// An option holds neither nothing nor one value.
    #[error("{field} of {message} is an option that claims {count} values")]
    InvalidOption {
        /// The message's name.
        message: &'static str,
        /// The field in question.
        field: &'static str,
        /// The number of values that it claims.
        count: u8,
    },
    /// `SetupConnection` asks for a subprotocol that does not exist; the answer is `unsupported-protocol`.
    #[error("SetupConnection asks for subprotocol {0}, which does not exist")]
    UnknownProtocol(u8),
}

/// Reads a frame on a connection that speaks `protocol`; bytes behind the message are ignored, as spec 3.4.3 asks.
///
/// Besides its own messages every protocol has those of [`Protocol::Common`] and [`Protocol::ExtensionsNegotiation`]. The channel bit
/// of the header is not looked at: it is there to route what one does not know. The message borrows from the frame; memory is
/// taken for the elements of a sequence only, never more than the payload can hold of them.
///
/// # Errors
///
/// If there is no such message, or the payload is not one. No bytes make it panic.
pub fn decode(protocol: Protocol, frame: Frame<'_>) -> Result<Message<'_>, DecodeError> {
    decode_with_tlvs(protocol, frame).map(|(message, _)| message)
}

/// Like [`decode`], and hands back the bytes behind the message, for [`Tlvs::parse`](crate::tlv::Tlvs::parse) if an extension was
/// negotiated.
///
/// # Errors
///
/// As [`decode`].
pub fn decode_with_tlvs(protocol: Protocol, frame: Frame<'_>) -> Result<(Message<'_>, &[u8]), DecodeError> {
    let (extension_type, msg_type) = (frame.header.extension_type, frame.header.msg_type);
    let unknown = DecodeError::UnknownMessage { protocol, extension_type, msg_type };
    let info = info(protocol, &frame.header).ok_or(unknown)?;
    let mut reader = Reader { message: info.name, rest: frame.payload };
    let message = Message::read(extension_type, msg_type, &mut reader).ok_or(unknown)??;
    Ok((message, reader.rest))
}

/// Appends a message as a frame, with the header that the table gives it.
///
/// # Errors
///
/// If the message is longer than a frame can carry, which takes a sequence of transactions to reach; the queue is then as it was.
pub fn encode<'a>(message: impl Into<Message<'a>>, queue: &mut FrameQueue) -> Result<(), PayloadTooLong> {
    encode_with_tlvs(message, &[], queue)
}

/// Like [`encode`], with fields of negotiated extensions behind the message, which must be in the order of their extensions.
///
/// # Errors
///
/// As [`encode`].
pub fn encode_with_tlvs<'a>(
    message: impl Into<Message<'a>>,
    tlvs: &[Tlv<'_>],
    queue: &mut FrameQueue,
) -> Result<(), PayloadTooLong> {
    let message = message.into();
    let info = message.info();
    queue.push_with(info.extension_type, info.channel_msg, info.msg_type, |out| {
        message.write_payload(out);
        tlvs.iter().for_each(|tlv| tlv.write(out));
        Ok(())
    })
}

/// What is left of a payload, and whose it is.
pub(crate) struct Reader<'a> {
    message: &'static str,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, field: &'static str, length: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self, field: &'static str) -> Result<&'a [u8; N], DecodeError> {
        let (taken, rest) = self.rest.split_first_chunk().ok_or_else(|| self.truncated(field))?;
        self.rest = rest;
        Ok(taken)
    }

    fn truncated(&self, field: &'static str) -> DecodeError {
        DecodeError::Truncated { message: self.message, field }
    }

    fn too_long(&self, field: &'static str, length: usize) -> DecodeError {
        DecodeError::FieldTooLong { message: self.message, field, length }
    }

    fn elements<T: Field<'a>>(&mut self, field: &'static str, count: usize) -> Result<Vec<T>, DecodeError> {
        // A count is only a claim: what the payload cannot hold is not allocated.
        let mut elements = Vec::with_capacity(count.min(self.rest.len() / T::MIN_LEN));
        for _ in 0..count {
            elements.push(T::read(self, field)?);
        }
        Ok(elements)
    }
}

/// A type that a message's field can have.
pub(crate) trait Field<'a>: Sized {
    /// The fewest bytes that one takes, never zero.
    const MIN_LEN: usize;

    /// Takes the field off the front of the payload.
    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError>;

    /// Appends the field.
    fn write(&self, out: &mut Vec<u8>);
}

/// Numbers are little-endian.
macro_rules! number {
    ($($number:ty),+) => {
        $(impl Field<'_> for $number {
            const MIN_LEN: usize = size_of::<Self>();

            fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
                reader.take_array(field).map(|bytes| Self::from_le_bytes(*bytes))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend(self.to_le_bytes());
            }
        })+
    };
}

number!(u8, u16, u32, u64, f32);

/// Bits above the lowest mean nothing.
impl Field<'_> for bool {
    const MIN_LEN: usize = 1;

    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        u8::read(reader, field).map(|byte| byte & 1 == 1)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(u8::from(*self));
    }
}

impl<'a> Field<'a> for U256<'a> {
    const MIN_LEN: usize = 32;

    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        reader.take_array::<32>(field).map(U256::from)
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.as_bytes());
    }
}

/// Bytes behind a length of one, two or three bytes. (`STR0_255` is the same type as `B0_255`.)
macro_rules! bytes {
    ($($bytes:ident behind $prefix:literal),+) => {
        $(impl<'a> Field<'a> for $bytes<'a> {
            const MIN_LEN: usize = $prefix;

            fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
                let prefix = reader.take_array::<$prefix>(field)?;
                let length = prefix.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte));
                Self::new(reader.take(field, length)?).map_err(|_| reader.too_long(field, length))
            }

            fn write(&self, out: &mut Vec<u8>) {
                out.extend(self.len().to_le_bytes().iter().take($prefix));
                out.extend(self.as_bytes());
            }
        })+
    };
}

bytes!(B032 behind 1, B0255 behind 1, B064K behind 2, B016M behind 3);

impl<'a, T: Field<'a> + 'a> Field<'a> for Sv2Option<'a, T> {
    const MIN_LEN: usize = 1;

    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        match u8::read(reader, field)? {
            0 => Ok(Self::new(None)),
            1 => T::read(reader, field).map(|value| Self::new(Some(value))),
            count => Err(DecodeError::InvalidOption { message: reader.message, field, count }),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        let value = self.as_ref();
        out.push(u8::from(value.is_some()));
        if let Some(value) = value {
            value.write(out);
        }
    }
}

impl<'a, T: Field<'a> + 'a> Field<'a> for Seq0255<'a, T> {
    const MIN_LEN: usize = 1;

    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        let count = usize::from(u8::read(reader, field)?);
        Self::new(reader.elements(field, count)?).map_err(|_| reader.too_long(field, count))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.len().to_le_bytes().iter().take(1));
        self.iter().for_each(|element| element.write(out));
    }
}

impl<'a, T: Field<'a> + 'a> Field<'a> for Seq064K<'a, T> {
    const MIN_LEN: usize = 2;

    fn read(reader: &mut Reader<'a>, field: &'static str) -> Result<Self, DecodeError> {
        let count = usize::from(u16::read(reader, field)?);
        Self::new(reader.elements(field, count)?).map_err(|_| reader.too_long(field, count))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.len().to_le_bytes().iter().take(2));
        self.iter().for_each(|element| element.write(out));
    }
}

impl Field<'_> for common::Protocol {
    const MIN_LEN: usize = 1;

    fn read(reader: &mut Reader<'_>, field: &'static str) -> Result<Self, DecodeError> {
        let number = u8::read(reader, field)?;
        Self::try_from(number).map_err(|()| DecodeError::UnknownProtocol(number))
    }

    fn write(&self, out: &mut Vec<u8>) {
        out.push(*self as u8);
    }
}
