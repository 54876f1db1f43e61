//! What a segment gives back of what was written, whole, cut and damaged.

use adit_channel::{RewardKind, ShareKind, UserIdentity, WorkerName};
use proptest::prelude::*;

use super::*;
use crate::test_records::{any_record, record, records};

const HEADER: Header = Header {
    instance: 0x0102,
    boot: 0x0304_0506,
    first: Position(100),
    created: UnixTime::from_millis(0x0708),
};

/// A segment file, where each of its commits starts, and where the last ends.
struct File {
    bytes: Vec<u8>,
    starts: Vec<usize>,
}

/// Writes each batch as a commit.
fn file(batches: &[Vec<ShareRecord>]) -> File {
    let mut file = File { bytes: HEADER.to_bytes().to_vec(), starts: vec![Header::LEN] };
    let mut next = HEADER.first;
    for batch in batches {
        let mut frame = CommitFrame::default();
        let mut rest = batch.as_slice();
        while !rest.is_empty() {
            let (encoded, behind) = EncodedRecords::encode(rest);
            frame.push(&encoded);
            rest = behind;
        }
        file.bytes.extend_from_slice(frame.seal(next));
        next = next.checked_add(frame.records().into()).unwrap();
        file.starts.push(file.bytes.len());
    }
    file
}

/// As [`file`], with the mark of an orderly end.
fn closed_file(batches: &[Vec<ShareRecord>]) -> Vec<u8> {
    let mut bytes = file(batches).bytes;
    let next = HEADER.first.checked_add(batches.iter().map(|batch| batch.len() as u64).sum()).unwrap();
    bytes.extend_from_slice(CommitFrame::default().seal(next));
    bytes
}

/// All that can be read: the records, and how the file ends.
fn read(bytes: &[u8]) -> (Vec<ShareRecord>, Result<Ending, Damage>) {
    let mut found = Vec::new();
    let mut segment = match Segment::parse(bytes) {
        Ok(segment) => segment,
        Err(damage) => return (found, Err(damage)),
    };
    loop {
        match segment.next_commit() {
            Ok(Next::Commit(commit)) => {
                for item in commit.records() {
                    let (position, record) = item.unwrap();
                    assert_eq!(position.0, HEADER.first.0 + found.len() as u64);
                    found.push(record);
                }
            }
            Ok(Next::End(ending)) => return (found, Ok(ending)),
            Err(damage) => return (found, Err(damage)),
        }
    }
}

fn any_batches() -> impl Strategy<Value = Vec<Vec<ShareRecord>>> {
    prop::collection::vec(prop::collection::vec(any_record(), 1..5), 1..6)
}

fn fault(bytes: &[u8]) -> Fault {
    read(bytes).1.unwrap_err().fault
}

#[test]
fn the_bytes_are_those_of_the_documentation() {
    let mut share = record(1);
    (share.kind, share.worker) = (ShareKind::Block, Some(WorkerName::from_wire(b"w").unwrap()));
    share.reward = RewardKind::Solo;
    share.user = UserIdentity::from_wire(b"a.b").unwrap();
    let bytes = file(&[vec![share.clone()]]).bytes;

    let (header, commit) = bytes.split_at(36);
    assert_eq!(&header[..8], b"\x8aADITLOG");
    assert_eq!(&header[8..16], [1, 0, 2, 1, 6, 5, 4, 3]);
    assert_eq!(&header[16..32], [100, 0, 0, 0, 0, 0, 0, 0, 8, 7, 0, 0, 0, 0, 0, 0]);
    assert_eq!(&header[32..], crc32c::crc32c(&header[..32]).to_le_bytes());

    let (commit_header, body) = commit.split_at(24);
    assert_eq!(&commit_header[..4], [0xc1, 0x00, 0xad, 0x17]);
    assert_eq!(&commit_header[4..8], u32::try_from(body.len()).unwrap().to_le_bytes());
    assert_eq!(&commit_header[8..16], 100_u64.to_le_bytes());
    assert_eq!(&commit_header[16..20], 1_u32.to_le_bytes());
    assert_eq!(&commit_header[20..], crc32c::crc32c(&commit_header[..20]).to_le_bytes());

    let (prefix, fields) = body.split_at(6);
    assert_eq!(fields.len(), 85 + 3 + 1);
    assert_eq!(&prefix[..2], 89_u16.to_le_bytes());
    assert_eq!(&prefix[2..], crc32c::crc32c(&[&prefix[..2], fields].concat()).to_le_bytes());
    assert_eq!(fields[0], 100 << 1 | 1);
    assert_eq!(&fields[1..9], 1_790_000_000_001_u64.to_le_bytes());
    assert_eq!(&fields[9..13], share.connection.0.to_le_bytes());
    assert_eq!(&fields[13..17], share.channel.0.to_le_bytes());
    assert_eq!(&fields[17..21], share.sequence_number.0.to_le_bytes());
    assert_eq!(&fields[21..31], share.tag.to_bytes());
    assert_eq!(&fields[31..35], share.height.0.to_le_bytes());
    assert_eq!(&fields[35..51], (1_u128 << 40).to_le_bytes());
    assert_eq!(&fields[51..83], share.hash);
    assert_eq!(&fields[83..], b"\x03a.b\x01w");
}

#[test]
fn the_mark_of_an_orderly_end_is_a_commit_without_records() {
    let bytes = closed_file(&[records(0..3)]);
    assert_eq!(read(&bytes), (records(0..3), Ok(Ending::Closed)));
    let mark = &bytes[bytes.len() - 24..];
    assert_eq!(mark[4..8], [0; 4]);
    assert_eq!(mark[8..16], 103_u64.to_le_bytes());
    assert_eq!(mark[16..20], [0; 4]);
}

#[test]
fn the_longest_record_and_the_fullest_append_keep_their_limits() {
    let mut longest = record(0);
    longest.user = UserIdentity::from_wire(&[b'u'; 255]).unwrap();
    longest.worker = Some(WorkerName::from_wire(&[b'w'; 32]).unwrap());
    let all = vec![longest; EncodedRecords::COUNT_MAX + 1];
    let (encoded, rest) = EncodedRecords::encode(&all);
    assert_eq!((encoded.count() as usize, rest.len()), (EncodedRecords::COUNT_MAX, 1));
    assert_eq!(encoded.bytes().len(), EncodedRecords::LEN_MAX);
    assert_eq!(encoded.received(), all[0].received);

    let mut frame = CommitFrame::default();
    while !frame.is_full() {
        frame.push(&encoded);
    }
    assert!(frame.file_bytes() <= (CommitHeader::LEN + COMMIT_BODY_MAX) as u64);
    let bytes = [HEADER.to_bytes().as_slice(), frame.seal(HEADER.first)].concat();
    let (found, ending) = read(&bytes);
    assert_eq!((found.len(), ending), (frame.records() as usize, Ok(Ending::Whole)));
}

#[test]
fn no_name_can_look_like_a_commit() {
    assert!(UserIdentity::from_wire(&COMMIT_MAGIC).is_err());
    for cut in 1..COMMIT_MAGIC.len() {
        let (front, back) = COMMIT_MAGIC.split_at(cut);
        assert!(UserIdentity::from_wire(front).is_err() || UserIdentity::from_wire(back).is_err());
    }
}

#[test]
fn what_is_not_a_segment_says_so() {
    assert_eq!(fault(b""), Fault::NotASegment);
    assert_eq!(fault(b"hello, world"), Fault::NotASegment);
    let mut newer = HEADER.to_bytes();
    newer[8] = 2;
    assert_eq!(fault(&newer), Fault::Version(2));
    assert_eq!(fault(&HEADER.to_bytes()[..35]), Fault::HeaderChecksum);
    assert_eq!(fault(&HEADER.to_bytes()[..9]), Fault::HeaderChecksum);
}

#[test]
fn each_fault_in_the_middle_is_named_with_its_place() {
    let good = file(&[records(0..2), records(2..4), records(4..6)]);
    let second = good.starts[1];
    for (place, expected, offset) in [
        (second, Fault::CommitHeader, second),
        (second + 23, Fault::CommitHeader, second),
        (second + 24, Fault::RecordChecksum, second + 24),
        (second + 24 + 50, Fault::RecordChecksum, second + 24),
        (
            good.starts[2] - 1,
            Fault::RecordChecksum,
            good.starts[2] - 6 - 85 - record(3).user.as_str().len() - 2,
        ),
    ] {
        let mut bytes = good.bytes.clone();
        bytes[place] ^= 0x10;
        let (found, end) = read(&bytes);
        assert_eq!(found, records(0..2));
        assert_eq!(end, Err(Damage { offset: offset as u64, fault: expected }), "byte {place}");
    }
}

#[test]
fn headers_that_contradict_what_is_there_are_damage_even_at_the_end() {
    let commit = |change: fn(&mut CommitHeader), body: &[u8]| {
        let mut header =
            CommitHeader { body_len: u32::try_from(body.len()).unwrap(), first: HEADER.first, records: 1 };
        change(&mut header);
        fault(&[&HEADER.to_bytes(), header.to_bytes().as_slice(), body].concat())
    };
    let body = EncodedRecords::encode(&records(0..1)).0.bytes().to_vec();
    let position = |found| Fault::CommitPosition { found: Position(found), expected: HEADER.first };
    assert_eq!(commit(|header| header.first = Position(99), &body), position(99));
    assert_eq!(commit(|header| header.first = Position(101), &body), position(101));
    assert_eq!(commit(|header| header.records = 2, &body), Fault::CommitExtent);
    assert_eq!(commit(|header| header.records = 0, &body), Fault::CommitExtent);
    assert_eq!(commit(|header| header.body_len = u32::MAX, &body), Fault::CommitExtent);
    assert_eq!(commit(|header| header.body_len = 0, &[]), Fault::CommitExtent);
}

#[test]
fn a_good_checksum_over_nonsense_is_damage() {
    for spoil in [
        (|fields: &mut Vec<u8>| fields[0] = 204) as fn(&mut Vec<u8>),
        |fields| fields.push(0),
        |fields| fields.truncate(84),
        |fields| fields[84] = b'\n',
        |fields| *fields.last_mut().unwrap() = 33,
    ] {
        let mut share = record(1);
        (share.user, share.worker) = (UserIdentity::from_wire(b"u").unwrap(), None);
        let mut fields = EncodedRecords::encode(&[share]).0.bytes()[6..].to_vec();
        spoil(&mut fields);
        let body = [record::prefix_of(&fields).as_slice(), &fields].concat();
        let header =
            CommitHeader { body_len: u32::try_from(body.len()).unwrap(), first: HEADER.first, records: 1 };
        let bytes = [&HEADER.to_bytes(), header.to_bytes().as_slice(), &body].concat();
        let mut segment = Segment::parse(&bytes).unwrap();
        let Next::Commit(commit) = segment.next_commit().unwrap() else { panic!("the checksums are good") };
        let damage = Damage { offset: (Header::LEN + CommitHeader::LEN) as u64, fault: Fault::Record };
        assert_eq!(commit.records().collect::<Vec<_>>(), [Err(damage)]);
    }
}

#[test]
fn nothing_may_follow_the_mark_of_an_orderly_end() {
    let mut bytes = closed_file(&[records(0..1)]);
    let end = bytes.len() as u64;
    bytes.push(0);
    assert_eq!(read(&bytes).1, Err(Damage { offset: end, fault: Fault::AfterEnd }));
}

#[test]
fn more_garbage_than_one_commit_can_be_is_damage() {
    let good = file(&[records(0..2)]).bytes;
    let garbage = |len: usize| [good.as_slice(), &vec![0; len]].concat();
    let most = CommitHeader::LEN + COMMIT_BODY_MAX;
    let unfinished = Ending::Unfinished { offset: good.len() as u64, bytes: most as u64 };
    assert_eq!(read(&garbage(most)), (records(0..2), Ok(unfinished)));
    assert_eq!(fault(&garbage(most + 1)), Fault::CommitHeader);
}

proptest! {
    #[test]
    fn what_was_written_is_read(batches in any_batches(), closed: bool) {
        let bytes = if closed { closed_file(&batches) } else { file(&batches).bytes };
        let ending = if closed { Ending::Closed } else { Ending::Whole };
        prop_assert_eq!(read(&bytes), (batches.concat(), Ok(ending)));
    }

    #[test]
    fn a_cut_loses_the_last_commit_and_no_other(batches in any_batches(), at: prop::sample::Index) {
        let whole = file(&batches);
        let len = Header::LEN + at.index(whole.bytes.len() - Header::LEN + 1);
        let kept = whole.starts.iter().rposition(|&start| start <= len).unwrap();
        let (offset, rest) = (whole.starts[kept] as u64, (len - whole.starts[kept]) as u64);
        let ending = if rest == 0 { Ending::Whole } else { Ending::Unfinished { offset, bytes: rest } };
        prop_assert_eq!(read(&whole.bytes[..len]), (batches[..kept].concat(), Ok(ending)));
    }

    #[test]
    fn a_flipped_bit_is_found(batches in any_batches(), at: prop::sample::Index, bit in 0_u8..8, closed: bool) {
        let whole = file(&batches);
        let mut bytes = if closed { closed_file(&batches) } else { whole.bytes.clone() };
        let place = at.index(bytes.len());
        bytes[place] ^= 1_u8 << bit;
        let (found, end) = read(&bytes);
        let touched = whole.starts.iter().rposition(|&start| start <= place);
        prop_assert_eq!(found, batches[..touched.unwrap_or(0)].concat());
        let last = whole.starts[whole.starts.len() - 2 + usize::from(closed)];
        if place < last {
            prop_assert!(end.is_err(), "it lies in what was durable");
            prop_assert!(end.unwrap_err().offset <= place as u64);
        } else {
            prop_assert!(!matches!(end, Ok(Ending::Whole | Ending::Closed)));
        }
    }

    #[test]
    fn lost_pages_of_the_last_commit_cost_nothing_else(batches in any_batches(), from: prop::sample::Index, len in 1_usize..600) {
        let whole = file(&batches);
        let last = whole.starts[whole.starts.len() - 2];
        let from = last + from.index(whole.bytes.len() - last);
        let to = whole.bytes.len().min(from + len);
        let mut bytes = whole.bytes.clone();
        bytes[from..to].fill(0);
        prop_assume!(bytes != whole.bytes);
        let (found, end) = read(&bytes);
        prop_assert_eq!(found, batches[..batches.len() - 1].concat());
        prop_assert_eq!(end, Ok(Ending::Unfinished { offset: last as u64, bytes: (bytes.len() - last) as u64 }));
    }

    #[test]
    fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let with_header = [HEADER.to_bytes().as_slice(), &bytes].concat();
        let (found, end) = read(&with_header);
        prop_assert!(found.is_empty());
        prop_assert_eq!(end == Ok(Ending::Whole), bytes.is_empty());
    }
}
