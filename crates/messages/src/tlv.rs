//! Type-length-value fields that extensions put behind a message (spec 3.4.3).
//!
//! The specification's rule (all integers are little-endian) and its example (big-endian) disagree. We write little-endian, as the
//! Stratum Reference Implementation does, and read a region as big-endian where only that parses.

use crate::extensions::WORKER_HASHRATE_TRACKING;

/// One field, borrowed from the message it stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlv<'a> {
    extension_type: u16,
    field_type: u8,
    /// The bytes of the value and their number, which fits the wire's 16 bits.
    value: &'a [u8],
    length: u16,
}

/// A field that the sender may not send.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TlvError {
    /// The bytes behind the message are not whole fields in either byte order.
    #[error("the bytes behind the message are not TLV fields")]
    Malformed,
    /// A worker's name is longer than extension 0x0002 allows.
    #[error("user_identity has {0} bytes, more than the 32 that extension 0x0002 allows")]
    UserIdentityTooLong(usize),
    /// A worker's name is not text.
    #[error("user_identity is not UTF-8")]
    UserIdentityNotUtf8,
    /// The value does not fit the length field.
    #[error("a TLV value of {0} bytes does not fit its 16-bit length")]
    ValueTooLong(usize),
}

impl<'a> Tlv<'a> {
    /// Bytes in front of a value: extension, field, length.
    pub const HEADER_LEN: usize = 5;
    /// The field of extension 0x0002 that names the worker who found a share.
    pub const USER_IDENTITY: u8 = 0x01;
    /// The most bytes that a worker's name may have.
    pub const USER_IDENTITY_MAX: usize = 32;
    /// The most bytes that a worker's name takes on the wire.
    pub const USER_IDENTITY_MAX_LEN: usize = Self::HEADER_LEN + Self::USER_IDENTITY_MAX;

    /// Any field of any extension.
    ///
    /// # Errors
    ///
    /// If the value is longer than 65535 bytes.
    pub fn new(extension_type: u16, field_type: u8, value: &'a [u8]) -> Result<Self, TlvError> {
        let length = u16::try_from(value.len()).map_err(|_| TlvError::ValueTooLong(value.len()))?;
        Ok(Self { extension_type, field_type, value, length })
    }

    /// The `user_identity` field of extension 0x0002.
    ///
    /// # Errors
    ///
    /// If the name has more than 32 bytes.
    pub fn user_identity(name: &'a str) -> Result<Self, TlvError> {
        if name.len() > Self::USER_IDENTITY_MAX {
            return Err(TlvError::UserIdentityTooLong(name.len()));
        }
        Self::new(WORKER_HASHRATE_TRACKING, Self::USER_IDENTITY, name.as_bytes())
    }

    /// The extension that defines the field.
    #[must_use]
    pub fn extension_type(&self) -> u16 {
        self.extension_type
    }

    /// The field's number within its extension.
    #[must_use]
    pub fn field_type(&self) -> u8 {
        self.field_type
    }

    /// The field's bytes, at most 65535.
    #[must_use]
    pub fn value(&self) -> &'a [u8] {
        self.value
    }

    /// Appends the field to a payload.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.extension_type.to_le_bytes());
        out.push(self.field_type);
        out.extend(self.length.to_le_bytes());
        out.extend(self.value);
    }

    /// Splits one field off the front, if it is whole.
    fn split(bytes: &'a [u8], order: ByteOrder) -> Option<(Self, &'a [u8])> {
        let (&[t0, t1, field_type, l0, l1], rest) = bytes.split_first_chunk()?;
        let length = order.u16([l0, l1]);
        let (value, rest) = rest.split_at_checked(usize::from(length))?;
        Some((Self { extension_type: order.u16([t0, t1]), field_type, value, length }, rest))
    }
}

/// The order that a sender writes its type and length fields in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ByteOrder {
    Little,
    Big,
}

impl ByteOrder {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }
}

/// The fields behind a message; checked once, so that iterating cannot fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tlvs<'a> {
    rest: &'a [u8],
    order: ByteOrder,
}

impl<'a> Tlvs<'a> {
    /// Checks the bytes behind a message.
    ///
    /// A receiver that has negotiated no extension ignores these bytes instead (extension 0x0002, section 1.3).
    ///
    /// # Errors
    ///
    /// If they are not whole fields in either byte order.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, TlvError> {
        [ByteOrder::Little, ByteOrder::Big]
            .map(|order| Self { rest: bytes, order })
            .into_iter()
            .find(|fields| {
                let mut fields = *fields;
                fields.by_ref().for_each(drop);
                fields.rest.is_empty()
            })
            .ok_or(TlvError::Malformed)
    }

    /// The worker's name, if there is one (extension 0x0002).
    ///
    /// # Errors
    ///
    /// If it is longer than 32 bytes or not UTF-8; the message must then be rejected (spec 3.4.3).
    pub fn user_identity(mut self) -> Result<Option<&'a str>, TlvError> {
        let wanted = (WORKER_HASHRATE_TRACKING, Tlv::USER_IDENTITY);
        let Some(field) = self.find(|field| (field.extension_type, field.field_type) == wanted) else {
            return Ok(None);
        };
        if field.value.len() > Tlv::USER_IDENTITY_MAX {
            return Err(TlvError::UserIdentityTooLong(field.value.len()));
        }
        core::str::from_utf8(field.value).map(Some).map_err(|_| TlvError::UserIdentityNotUtf8)
    }
}

impl<'a> Iterator for Tlvs<'a> {
    type Item = Tlv<'a>;

    fn next(&mut self) -> Option<Tlv<'a>> {
        let (field, rest) = Tlv::split(self.rest, self.order)?;
        self.rest = rest;
        Some(field)
    }
}
