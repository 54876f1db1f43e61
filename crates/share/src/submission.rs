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

#[cfg(test)]
mod tests {
    use mining_sv2::{SubmitSharesExtended, SubmitSharesStandard};
    use proptest::prelude::*;

    use super::*;

    /// The payload of an extended share with an extranonce of three bytes and one byte after the message.
    const PAYLOAD: [u8; 29] = [
        1, 0, 0, 0, // channel
        2, 0, 0, 0, // sequence number
        3, 0, 0, 0, // job
        4, 0, 0, 0, // nonce
        5, 0, 0, 0, // time
        6, 0, 0, 0x20, // version
        3, 0xa, 0xb, 0xc,  // extranonce
        0xff, // what follows
    ];

    #[test]
    fn fields_are_where_the_specification_puts_them() {
        let share = Submission::parse_extended(&PAYLOAD).unwrap();
        let expected = Submission {
            channel_id: ChannelId(1),
            sequence_number: SequenceNumber(2),
            job_id: JobId(3),
            nonce: 4,
            ntime: 5,
            version: 0x2000_0006,
            extranonce: Some(&[0xa, 0xb, 0xc]),
            rest: &[0xff],
        };
        assert_eq!(share, expected);
        let standard = Submission::parse_standard(&PAYLOAD[..24]).unwrap();
        assert_eq!(standard, Submission { extranonce: None, rest: &[], ..expected });
    }

    #[test]
    fn every_shorter_payload_is_refused() {
        for len in 0..28 {
            assert_eq!(Submission::parse_extended(&PAYLOAD[..len]), Err(SubmissionError::TooShort), "{len}");
        }
        for len in 0..24 {
            assert_eq!(Submission::parse_standard(&PAYLOAD[..len]), Err(SubmissionError::TooShort), "{len}");
        }
    }

    #[test]
    fn an_extranonce_longer_than_its_type_is_refused_before_its_bytes_are_there() {
        let mut payload = PAYLOAD;
        payload[24] = 33;
        assert_eq!(Submission::parse_extended(&payload), Err(SubmissionError::ExtranonceTooLong(33)));
    }

    proptest! {
        #[test]
        fn reads_what_the_message_crate_writes(
            [channel_id, sequence_number, job_id, nonce, ntime, version]: [u32; 6],
            extranonce in prop::collection::vec(any::<u8>(), 0..=32),
        ) {
            let message = SubmitSharesExtended {
                channel_id, sequence_number, job_id, nonce, ntime, version,
                extranonce: extranonce.as_slice().try_into().unwrap(),
            };
            let payload = binary_sv2::to_bytes(message).unwrap();
            let share = Submission {
                channel_id: ChannelId(channel_id),
                sequence_number: SequenceNumber(sequence_number),
                job_id: JobId(job_id),
                nonce, ntime, version,
                extranonce: Some(&extranonce),
                rest: &[],
            };
            prop_assert_eq!(Submission::parse_extended(&payload), Ok(share));
            let message = SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version };
            let payload = binary_sv2::to_bytes(message).unwrap();
            prop_assert_eq!(Submission::parse_standard(&payload), Ok(Submission { extranonce: None, ..share }));
        }

        #[test]
        fn any_bytes_are_a_share_or_refused_as_the_message_crate_does(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            let mut copy = bytes.clone();
            let theirs = binary_sv2::from_bytes::<SubmitSharesExtended<'_>>(&mut copy);
            let ours = Submission::parse_extended(&bytes);
            prop_assert_eq!(ours.is_ok(), theirs.is_ok());
            if let (Ok(ours), Ok(theirs)) = (ours, theirs) {
                prop_assert_eq!(ours.nonce, theirs.nonce);
                prop_assert_eq!(ours.extranonce, Some(theirs.extranonce.as_bytes()));
            }
        }
    }
}
