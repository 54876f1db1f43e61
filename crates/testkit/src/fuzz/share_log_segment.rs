//! Segment files of the share log: whatever stands in one, what is read is what was written, or there is an error.

use adit_ledger::segment::{Commit, CommitFrame, EncodedRecords, Ending, Header, Next, Segment};

/// Bytes of a commit's header.
const COMMIT_HEADER_LEN: usize = 24;

/// The first byte says whether the others are a file as they are (even) or a file whose checksums are put right first (odd), so that
/// what lies behind the checksums is reached as well.
///
/// # Panics
///
/// If a commit that was read is not, byte for byte, what its records are written as; if positions jump; or if the end of a file
/// changes when it is looked at again.
pub fn run(bytes: &[u8]) {
    let Some((mode, file)) = bytes.split_first() else { return };
    let mut file = file.to_vec();
    if mode % 2 == 1 {
        put_checksums_right(&mut file);
    }
    let Ok(mut segment) = Segment::parse(file.as_slice()) else { return };
    assert_eq!(file.first_chunk(), Some(&segment.header().to_bytes()));
    let mut expected = segment.header().first;
    loop {
        match segment.next_commit() {
            Ok(Next::Commit(commit)) => {
                let records = check_commit(&file, commit);
                expected = expected.checked_add(records).expect("positions that were read can be counted");
                assert_eq!(segment.next_position(), expected);
            }
            Ok(Next::End(ending)) => {
                check_end(&file, ending);
                assert!(matches!(segment.next_commit(), Ok(Next::End(again)) if again == ending));
                return;
            }
            Err(damage) => {
                assert!(damage.offset <= file.len() as u64);
                assert_eq!(segment.next_commit().err(), Some(damage));
                return;
            }
        }
    }
}

/// Writes the records of a commit again and compares; gives back how many there are.
fn check_commit(file: &[u8], commit: Commit<'_>) -> u64 {
    let count = commit.records().count() as u64;
    // A record with a good checksum that makes no sense is an error; its neighbours are not looked at here.
    let Ok(records) = commit.records().collect::<Result<Vec<_>, _>>() else { return count };
    let Some(&(first, _)) = records.first() else { panic!("a commit that was read has records") };
    for (index, (position, _)) in (0..).zip(&records) {
        assert_eq!(Some(*position), first.checked_add(index));
    }
    let records: Vec<_> = records.into_iter().map(|(_, record)| record).collect();
    let mut frame = CommitFrame::default();
    let mut rest = records.as_slice();
    while !rest.is_empty() {
        let (encoded, behind) = EncodedRecords::encode(rest);
        frame.push(&encoded);
        rest = behind;
    }
    let start = usize::try_from(commit.offset()).expect("the offset lies in a file that fits into memory");
    let written = frame.seal(first);
    assert_eq!(file.get(start..start + written.len()), Some(written));
    count
}

/// An unfinished commit reaches to the end of the file.
fn check_end(file: &[u8], ending: Ending) {
    match ending {
        Ending::Unfinished { offset, bytes } => assert_eq!(offset + bytes, file.len() as u64),
        Ending::Closed | Ending::Whole => {}
    }
}

/// Puts a matching checksum wherever the lengths in the file say that one stands.
fn put_checksums_right(file: &mut [u8]) {
    let Some((header, mut rest)) = file.split_at_mut_checked(Header::LEN) else { return };
    seal(header);
    while let Some((header, behind)) = rest.split_at_mut_checked(COMMIT_HEADER_LEN) {
        seal(header);
        let body_len = header.get(4..8).and_then(|len| len.try_into().ok()).map_or(0, u32::from_le_bytes);
        let (body, behind) = behind.split_at_mut(behind.len().min(body_len as usize));
        put_record_checksums_right(body);
        rest = behind;
    }
}

/// The last four bytes of a header become the checksum of those before.
fn seal(header: &mut [u8]) {
    if let Some((fields, checksum)) = header.split_last_chunk_mut::<4>() {
        *checksum = crc32c::crc32c(fields).to_le_bytes();
    }
}

/// The same for the records of a commit: a length of two bytes, the checksum, the fields.
fn put_record_checksums_right(mut body: &mut [u8]) {
    while let Some(([a, b, checksum @ ..], behind)) = body.split_first_chunk_mut::<6>() {
        let len = [*a, *b];
        let (fields, behind) = behind.split_at_mut(behind.len().min(u16::from_le_bytes(len).into()));
        checksum.copy_from_slice(&crc32c::crc32c_append(crc32c::crc32c(&len), fields).to_le_bytes());
        body = behind;
    }
}
