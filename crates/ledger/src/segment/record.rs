//! The bytes of one record: length, checksum, fields.

use core::iter;
use std::sync::Arc;

use adit_channel::{
    CustomShare, DeclarationId, Percent, RewardKind, ShareKind, ShareRecord, UserIdentity, WorkerName,
};
use adit_units::{ChannelId, ConnectionId, Height, JobTag, Sats, SequenceNumber, UnixTime, Work};

use crate::fields::Fields;

/// Bytes before the fields: a length of two and a checksum of four.
const PREFIX_LEN: usize = 6;

/// Bytes of the fields whose length does not vary, and of the two lengths.
const FIXED_LEN: usize = 85;

/// The most bytes of one record.
const RECORD_LEN_MAX: usize =
    PREFIX_LEN + FIXED_LEN + UserIdentity::MAX_LEN + WorkerName::MAX_LEN + 1 + CUSTOM_LEN;

/// Stands for the length of a worker's name where there is none.
const NO_WORKER: u8 = 0xff;

/// Stands before what is known of a job that a miner has made. A record that ends with the worker's name is of one of the
/// pool's own jobs.
const CUSTOM: u8 = 1;

/// Bytes of what is known of a job that a miner has made.
const CUSTOM_LEN: usize = 32 + 3 * 8;

/// Records of one append, as bytes; made by the task that appends, so that the writer only copies.
#[derive(Clone, Debug, Default)]
pub struct EncodedRecords {
    bytes: Vec<u8>,
    count: u32,
    received: UnixTime,
}

impl EncodedRecords {
    /// The most records in one piece; bounds what a queue of them can hold.
    pub const COUNT_MAX: usize = 64;

    /// The most bytes in one piece.
    pub const LEN_MAX: usize = Self::COUNT_MAX * RECORD_LEN_MAX;

    /// Encodes the first [`Self::COUNT_MAX`] records and gives back the others.
    #[must_use]
    pub fn encode(records: &[ShareRecord]) -> (Self, &[ShareRecord]) {
        let (head, rest) = records.split_at(records.len().min(Self::COUNT_MAX));
        let received = head.first().map_or_else(UnixTime::default, |record| record.received);
        let mut encoded = Self { bytes: Vec::with_capacity(head.len() * 160), count: 0, received };
        for record in head {
            encode(record, &mut encoded.bytes);
            encoded.count += 1;
        }
        (encoded, rest)
    }

    /// How many records these are.
    #[must_use]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// When the first of them was received.
    pub(crate) fn received(&self) -> UnixTime {
        self.received
    }

    /// The records as they stand in a commit.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

/// Appends one record.
fn encode(record: &ShareRecord, out: &mut Vec<u8>) {
    let user = record.user.as_str().as_bytes();
    let worker = record.worker.as_ref().map(WorkerName::as_str);
    let start = out.len();
    out.extend_from_slice(&[0; PREFIX_LEN]);
    out.push(kind_byte(record.kind, record.reward));
    out.extend_from_slice(&record.received.to_millis().to_le_bytes());
    out.extend_from_slice(&record.connection.0.to_le_bytes());
    out.extend_from_slice(&record.channel.0.to_le_bytes());
    out.extend_from_slice(&record.sequence_number.0.to_le_bytes());
    out.extend_from_slice(&record.tag.to_bytes());
    out.extend_from_slice(&record.height.0.to_le_bytes());
    out.extend_from_slice(&record.work.to_hashes().to_le_bytes());
    out.extend_from_slice(&record.hash);
    out.push(u8::try_from(user.len()).expect("a user identity has at most 255 bytes"));
    out.extend_from_slice(user);
    out.push(
        worker
            .map_or(NO_WORKER, |name| u8::try_from(name.len()).expect("a worker name has at most 32 bytes")),
    );
    out.extend_from_slice(worker.unwrap_or_default().as_bytes());
    if let Some(custom) = &record.custom {
        out.push(CUSTOM);
        out.extend_from_slice(&custom.declaration.0);
        for sats in [custom.fees, custom.pays_pool, custom.value] {
            out.extend_from_slice(&sats.to_sats().to_le_bytes());
        }
    }

    let (_, written) = out.split_at_mut(start);
    if let Some((prefix, fields)) = written.split_first_chunk_mut::<PREFIX_LEN>() {
        *prefix = prefix_of(fields);
    }
}

/// The length and the checksum that stand before `fields`; the checksum covers both.
pub(super) fn prefix_of(fields: &[u8]) -> [u8; PREFIX_LEN] {
    let len =
        u16::try_from(fields.len()).expect("the fields of a record have at most 429 bytes").to_le_bytes();
    let [a, b] = len;
    let [c, d, e, f] = crc32c::crc32c_append(crc32c::crc32c(&len), fields).to_le_bytes();
    [a, b, c, d, e, f]
}

/// The records in the body of a commit: where each starts, and its fields if its checksum matches. Ends after the first that does
/// not, because its length cannot be trusted.
pub(super) fn frames(body: &[u8]) -> impl Iterator<Item = (usize, Option<&[u8]>)> {
    let mut rest = body;
    iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let offset = body.len() - rest.len();
        let mut fields = Fields(rest);
        let frame = frame(&mut fields);
        rest = if frame.is_some() { fields.rest() } else { &[] };
        Some((offset, frame))
    })
}

/// Reads the fields of one record; `None` if they are not what [`encode`] writes.
pub(super) fn decode(fields: &[u8]) -> Option<ShareRecord> {
    let mut fields = Fields(fields);
    let [kind] = fields.array()?;
    let (kind, reward) = kind_of(kind)?;
    let record = ShareRecord {
        kind,
        reward,
        received: UnixTime::from_millis(u64::from_le_bytes(fields.array()?)),
        connection: ConnectionId(u32::from_le_bytes(fields.array()?)),
        channel: ChannelId(u32::from_le_bytes(fields.array()?)),
        sequence_number: SequenceNumber(u32::from_le_bytes(fields.array()?)),
        tag: JobTag::from_bytes(fields.array()?),
        height: Height(u32::from_le_bytes(fields.array()?)),
        work: Work::from_hashes(u128::from_le_bytes(fields.array()?)),
        hash: fields.array()?,
        user: user(&mut fields)?,
        worker: worker(&mut fields)?,
        custom: custom(&mut fields)?,
    };
    fields.rest().is_empty().then_some(record)
}

/// The fields of the record at the front, if its checksum matches.
fn frame<'a>(bytes: &mut Fields<'a>) -> Option<&'a [u8]> {
    let prefix: [u8; PREFIX_LEN] = bytes.array()?;
    let [a, b, ..] = prefix;
    let fields = bytes.slice(u16::from_le_bytes([a, b]).into())?;
    (prefix == prefix_of(fields)).then_some(fields)
}

/// Stands for a miner who would have been paid by the block itself.
const SOLO: u8 = 100;

/// Stands for a present to the pool.
const DONATED: u8 = 101;

/// What a share was good for and who owes it a reward, in one byte: the lowest bit, and the other seven.
const fn kind_byte(kind: ShareKind, reward: RewardKind) -> u8 {
    let reward = match reward {
        RewardKind::Pooled => 0,
        RewardKind::Split(pool) => pool.to_u8(),
        RewardKind::Solo => SOLO,
        RewardKind::Donated => DONATED,
    };
    let is_block = match kind {
        ShareKind::Share => 0,
        ShareKind::Block => 1,
    };
    reward << 1 | is_block
}

/// Reads what [`kind_byte`] writes.
fn kind_of(byte: u8) -> Option<(ShareKind, RewardKind)> {
    let kind = if byte & 1 == 0 { ShareKind::Share } else { ShareKind::Block };
    let reward = match byte >> 1 {
        0 => RewardKind::Pooled,
        SOLO => RewardKind::Solo,
        DONATED => RewardKind::Donated,
        percent => RewardKind::Split(Percent::new(percent)?),
    };
    Some((kind, reward))
}

/// A user identity with its length before it.
fn user(fields: &mut Fields<'_>) -> Option<UserIdentity> {
    let [len] = fields.array()?;
    UserIdentity::from_wire(fields.slice(len.into())?).ok()
}

/// A worker's name with its length before it, or the sign that there is none.
fn worker(fields: &mut Fields<'_>) -> Option<Option<WorkerName>> {
    match fields.array()? {
        [NO_WORKER] => Some(None),
        [len] => WorkerName::from_wire(fields.slice(len.into())?).ok().map(Some),
    }
}

/// What is known of a job that a miner has made, or nothing where the record ends.
fn custom(fields: &mut Fields<'_>) -> Option<Option<Arc<CustomShare>>> {
    if fields.rest().is_empty() {
        return Some(None);
    }
    if fields.array()? != [CUSTOM] {
        return None;
    }
    let mut custom = CustomShare {
        declaration: DeclarationId(fields.array()?),
        fees: Sats::ZERO,
        pays_pool: Sats::ZERO,
        value: Sats::ZERO,
    };
    for sats in [&mut custom.fees, &mut custom.pays_pool, &mut custom.value] {
        *sats = Sats::from_sats(u64::from_le_bytes(fields.array()?));
    }
    Some(Some(Arc::new(custom)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_records::record;

    /// The record with that number, as bytes and as it was read before there were custom jobs.
    fn fields_of(record: &ShareRecord) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(record, &mut bytes);
        assert!(bytes.len() <= RECORD_LEN_MAX);
        bytes.split_off(PREFIX_LEN)
    }

    #[test]
    fn a_record_of_an_ordinary_job_is_what_it_was_before_there_were_others() {
        let plain = ShareRecord { custom: None, ..record(3) };
        let fields = fields_of(&plain);
        let (user, worker) = (plain.user.as_str(), plain.worker.unwrap());
        assert_eq!(fields.len(), FIXED_LEN + user.len() + worker.as_str().len());
        assert!(fields.ends_with(worker.as_str().as_bytes()));
        assert_eq!(decode(&fields), Some(plain));
    }

    #[test]
    fn what_is_known_of_a_custom_job_is_read_as_it_was_written_and_nothing_else_is() {
        let sats = Sats::from_sats;
        let declaration = DeclarationId([9; 32]);
        let custom = CustomShare { declaration, fees: sats(1), pays_pool: sats(2), value: sats(u64::MAX) };
        for number in 0..5 {
            let plain = fields_of(&ShareRecord { custom: None, ..record(number) });
            let custom = ShareRecord { custom: Some(Arc::new(custom)), ..record(number) };
            let fields = fields_of(&custom);
            let (before, tail) = fields.split_at(plain.len());
            assert_eq!(before, plain);
            let amounts = [1_u64.to_le_bytes(), 2_u64.to_le_bytes(), u64::MAX.to_le_bytes()].concat();
            assert_eq!(tail, [&[CUSTOM][..], &[9; 32], &amounts].concat());
            assert_eq!(decode(&fields), Some(custom));
            for len in plain.len() + 1..fields.len() {
                assert_eq!(decode(&fields[..len]), None, "{len} bytes");
            }
            assert_eq!(decode(&[&fields[..], &[0]].concat()), None);
            for byte in (0..=u8::MAX).filter(|&byte| byte != CUSTOM) {
                assert_eq!(decode(&[before, &[byte], &tail[1..]].concat()), None, "{byte}");
            }
        }
    }

    #[test]
    fn every_kind_of_share_and_reward_has_a_byte_and_no_other_byte_is_read() {
        for (byte, reward) in [
            (0, RewardKind::Pooled),
            (1 << 1, RewardKind::Split(Percent::new(1).unwrap())),
            (99 << 1, RewardKind::Split(Percent::new(99).unwrap())),
            (100 << 1, RewardKind::Solo),
            (101 << 1, RewardKind::Donated),
        ] {
            assert_eq!(kind_byte(ShareKind::Share, reward), byte);
            assert_eq!(kind_byte(ShareKind::Block, reward), byte | 1);
        }
        for byte in 0..=u8::MAX {
            let read = kind_of(byte).map(|(kind, reward)| kind_byte(kind, reward));
            assert_eq!(read, (byte >> 1 <= 101).then_some(byte));
        }
    }
}
