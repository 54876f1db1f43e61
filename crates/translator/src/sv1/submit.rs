//! A share as a machine submits it.

use core::fmt;

use super::token::{self, Items};
use super::{Name, Reason, hex};

/// The parameters of `mining.submit`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submit {
    /// Whom it is to be credited to, made printable and cut at 255 bytes.
    pub user: Name,
    /// The number of the job; nothing if that can be none of ours.
    pub job: Option<u64>,
    /// The bytes that the machine rolled, of whatever length it sent.
    pub extranonce2: Extranonce2,
    /// The time in the header.
    pub ntime: u32,
    /// The nonce in the header.
    pub nonce: u32,
    /// The rolled bits of the version, if it tells any.
    pub version_bits: Option<u32>,
}

/// The bytes that a machine rolled, kept inline.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Extranonce2 {
    /// Zero behind the bytes that are there.
    bytes: [u8; Self::MAX_LEN],
    len: u8,
}

impl Extranonce2 {
    /// The most bytes that are kept; an SV2 channel has no more.
    pub const MAX_LEN: usize = 32;

    /// What was sent.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    /// Those bytes; what is behind the longest is cut off.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut kept = Self { bytes: [0; Self::MAX_LEN], len: 0 };
        for (slot, &byte) in kept.bytes.iter_mut().zip(bytes) {
            *slot = byte;
            kept.len += 1;
        }
        kept
    }

    /// The bytes of a given length, at most [`Self::MAX_LEN`]: cut, or padded with zeros at the end, as other servers do.
    #[must_use]
    pub fn resized(&self, len: u8) -> Self {
        let mut bytes = [0; Self::MAX_LEN];
        for (slot, &byte) in bytes.iter_mut().zip(self.as_slice().iter().take(usize::from(len))) {
            *slot = byte;
        }
        Self { bytes, len: len.min(32) }
    }

    /// Reads hexadecimal digits; a missing last one counts as zero, and what is behind the longest is cut off.
    fn from_hex(text: &str) -> Option<Self> {
        let (mut bytes, mut len) = ([0; Self::MAX_LEN], 0);
        for (slot, pair) in bytes.iter_mut().zip(hex::digits(text).as_bytes().chunks(2)) {
            let mut digits = pair.iter().map(|&digit| hex::nibble(digit));
            *slot = digits.next()?? << 4 | digits.next().unwrap_or(Some(0))?;
            len += 1;
        }
        Some(Self { bytes, len })
    }
}

impl fmt::Debug for Extranonce2 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Extranonce2(")?;
        for byte in self.as_slice() {
            write!(f, "{byte:02x}")?;
        }
        f.write_str(")")
    }
}

/// Reads the parameters.
pub(super) fn parse(params: &Items<'_>) -> Result<Submit, Reason> {
    let field = |position: usize, name| params.at(position).map(token::text).ok_or(Reason::Parameter(name));
    let user = params.at(0).map(token::name).unwrap_or_default();
    let job = hex::number(&field(1, "job id")?);
    let extranonce2 =
        Extranonce2::from_hex(&field(2, "extranonce2")?).ok_or(Reason::Parameter("extranonce2"))?;
    let ntime = hex::short_number(&field(3, "ntime")?).ok_or(Reason::Parameter("ntime"))?;
    let nonce = hex::short_number(&field(4, "nonce")?).ok_or(Reason::Parameter("nonce"))?;
    let version_bits = match params.at(5).map(token::text) {
        None => None,
        Some(text) if text.is_empty() => None,
        Some(text) => Some(hex::short_number(&text).ok_or(Reason::Parameter("version bits"))?),
    };
    Ok(Submit { user: Name::from(&*user), job, extranonce2, ntime, nonce, version_bits })
}
