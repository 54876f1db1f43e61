//! A submitted share, read where it lies in the frame's payload.

use adit_units::{ChannelId, JobId, SequenceNumber};

use crate::MAX_EXTRANONCE_LEN;

/// A payload that is not a share; the peer is at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmissionError {
    /// The payload ends before the message does.
    #[error("a submitted share ends in the middle of its fields")]
    TooShort,
    /// The extranonce is longer than its wire type `B0_32` allows.
    #[error("a submitted share announces an extranonce of {0} bytes; at most 32 are allowed")]
    ExtranonceTooLong(u8),
}

/// A submitted share: `SubmitSharesStandard` (spec 5.3.11) or `SubmitSharesExtended` (spec 5.3.12).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Submission<'a> {
    /// The channel that submits.
    pub channel_id: ChannelId,
    /// The client's number for this share, echoed in the answer.
    pub sequence_number: SequenceNumber,
    /// The job that was worked on.
    pub job_id: JobId,
    /// The header's nonce.
    pub nonce: u32,
    /// The header's time, in seconds since 1970.
    pub ntime: u32,
    /// The header's version, with whatever bits the client rolled.
    pub version: u32,
    /// The rolled part of the extranonce, or `None` in a standard share.
    pub extranonce: Option<&'a [u8]>,
    /// What follows the message: TLV fields of negotiated extensions (spec 3.4), or nothing.
    pub rest: &'a [u8],
}

/// Length of the fields that both kinds of share have, in bytes.
const FIXED_LEN: usize = 24;

impl<'a> Submission<'a> {
    /// Reads the payload of a `SubmitSharesStandard`.
    ///
    /// # Errors
    ///
    /// If the payload is too short.
    pub fn parse_standard(payload: &'a [u8]) -> Result<Self, SubmissionError> {
        let (fixed, rest) = payload.split_first_chunk::<FIXED_LEN>().ok_or(SubmissionError::TooShort)?;
        let (fields, _) = fixed.as_chunks::<4>();
        let &[channel_id, sequence_number, job_id, nonce, ntime, version] = fields else {
            return Err(SubmissionError::TooShort);
        };
        Ok(Self {
            channel_id: ChannelId(u32::from_le_bytes(channel_id)),
            sequence_number: SequenceNumber(u32::from_le_bytes(sequence_number)),
            job_id: JobId(u32::from_le_bytes(job_id)),
            nonce: u32::from_le_bytes(nonce),
            ntime: u32::from_le_bytes(ntime),
            version: u32::from_le_bytes(version),
            extranonce: None,
            rest,
        })
    }

    /// Reads the payload of a `SubmitSharesExtended`.
    ///
    /// # Errors
    ///
    /// If the payload is too short, or if the extranonce is longer than [`MAX_EXTRANONCE_LEN`].
    pub fn parse_extended(payload: &'a [u8]) -> Result<Self, SubmissionError> {
        let standard = Self::parse_standard(payload)?;
        let (&len, rest) = standard.rest.split_first().ok_or(SubmissionError::TooShort)?;
        if usize::from(len) > MAX_EXTRANONCE_LEN {
            return Err(SubmissionError::ExtranonceTooLong(len));
        }
        let (extranonce, rest) = rest.split_at_checked(len.into()).ok_or(SubmissionError::TooShort)?;
        Ok(Self { extranonce: Some(extranonce), rest, ..standard })
    }
}
