//! Power cuts, failing disks and restarts at every point of what the writer does.

use adit_channel::ShareRecord;
use proptest::prelude::*;

use super::*;
use crate::reader::read_in;
use crate::segment::EncodedRecords;
use crate::storage::faulty::{Fault, FaultyStorage};
use crate::test_records::records;

const NOW: UnixTime = UnixTime::from_millis(5);
const INSTANCE: u16 = 9;

/// How a run ends for the disk.
#[derive(Clone, Copy, Debug)]
enum Restart {
    /// The process is gone, the system lives.
    Kill,
    /// The power was off; the seed says what was on its way to the disk.
    PowerCut(u64),
}

/// One run of a server: what it commits, what goes wrong, how it ends.
#[derive(Clone, Debug)]
struct Run {
    batches: Vec<u64>,
    fault: Option<(u64, Fault)>,
    restart: Restart,
}

/// What must be true, kept beside the log.
struct Model {
    storage: FaultyStorage,
    segment_bytes: u64,
    /// All that a reader may find; what a restart has shown to be lost is taken out.
    sent: Vec<ShareRecord>,
    /// How many of them must be found.
    durable: usize,
    next_number: u64,
    boots: Vec<u32>,
}

impl Model {
    fn new(segment_bytes: u64) -> Self {
        let storage = FaultyStorage::default();
        Self { storage, segment_bytes, sent: Vec::new(), durable: 0, next_number: 0, boots: Vec::new() }
    }

    fn open(&self) -> Result<(Writer<FaultyStorage>, Recovery), OpenError> {
        Writer::open(self.storage.clone(), INSTANCE, self.segment_bytes, NOW)
    }

    /// Reads the whole log and holds it against what must and what may be there.
    fn check(&mut self) -> Result<(), TestCaseError> {
        let found = read_in(self.storage.clone(), Position(0))
            .and_then(|records| records.collect::<Result<Vec<_>, _>>());
        let found = found.map_err(|error| TestCaseError::fail(error.to_string()))?;
        prop_assert!(found.len() >= self.durable, "{} durable records, {} found", self.durable, found.len());
        prop_assert!(
            found.len() <= self.sent.len(),
            "{} records sent, {} found",
            self.sent.len(),
            found.len()
        );
        for (index, (position, record)) in found.iter().enumerate() {
            prop_assert_eq!(position.0, index as u64);
            prop_assert_eq!(record, &self.sent[index]);
        }
        self.sent.truncate(found.len());
        Ok(())
    }

    /// One run, and what is found after it.
    fn run(&mut self, run: &Run) -> Result<(), TestCaseError> {
        if let Some((operation, fault)) = run.fault {
            self.storage.fail_at(operation, fault);
        }
        if let Ok((mut writer, recovery)) = self.open() {
            self.started(&writer, recovery)?;
            let committed = run.batches.iter().try_for_each(|&count| self.commit(&mut writer, count));
            if committed.is_ok() && run.fault.is_none() {
                writer.close().map_err(|error| TestCaseError::fail(error.to_string()))?;
            }
        } else {
            prop_assert!(run.fault.is_some(), "a log on a good disk opens");
        }
        self.storage = match run.restart {
            Restart::Kill => self.storage.after_kill(),
            Restart::PowerCut(seed) => self.storage.after_power_cut(seed),
        };
        self.check()
    }

    /// What an opened log has found is there for good, and its run has a number of its own.
    fn started(&mut self, writer: &Writer<FaultyStorage>, recovery: Recovery) -> Result<(), TestCaseError> {
        prop_assert_eq!(recovery.end.0, self.sent.len() as u64);
        prop_assert_eq!(writer.next_position(), recovery.end);
        self.durable = self.sent.len();
        prop_assert!(self.boots.last().is_none_or(|&last| writer.boot() > last));
        self.boots.push(writer.boot());
        Ok(())
    }

    fn commit(&mut self, writer: &mut Writer<FaultyStorage>, count: u64) -> Result<(), WriteError> {
        let batch = records(self.next_number..self.next_number + count);
        self.next_number += count;
        self.sent.extend_from_slice(&batch);
        let mut frame = CommitFrame::default();
        frame.push(&EncodedRecords::encode(&batch).0);
        writer.commit(&mut frame, NOW)?;
        self.durable = self.sent.len();
        Ok(())
    }
}

fn any_restart() -> impl Strategy<Value = Restart> {
    prop_oneof![Just(Restart::Kill), any::<u64>().prop_map(Restart::PowerCut)]
}

fn any_fault() -> impl Strategy<Value = Fault> {
    prop_oneof![Just(Fault::Error), Just(Fault::PowerCut)]
}

fn any_run() -> impl Strategy<Value = Run> {
    let fault = prop::option::of((0_u64..40, any_fault()));
    (prop::collection::vec(1_u64..6, 0..8), fault, any_restart()).prop_map(|(batches, fault, restart)| Run {
        batches,
        fault,
        restart,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    /// Many runs, each with any fault anywhere, a kill or a power cut between them.
    #[test]
    fn nothing_durable_is_ever_lost(runs in prop::collection::vec(any_run(), 1..7), segment_bytes in 0_u64..3000) {
        let mut model = Model::new(segment_bytes);
        for run in &runs {
            model.run(run)?;
        }
        let (writer, recovery) = model.open().unwrap();
        model.started(&writer, recovery)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// One fault, at each operation in turn, of each kind, followed by each way to end.
    #[test]
    fn no_point_in_time_is_special(
        before in prop::collection::vec(1_u64..6, 0..4),
        batches in prop::collection::vec(1_u64..6, 1..5),
        segment_bytes in 0_u64..2000,
        seed: u64,
    ) {
        let restarts = [Restart::Kill, Restart::PowerCut(seed), Restart::PowerCut(!seed)];
        for fault in [Fault::Error, Fault::PowerCut] {
            // Opening takes up to ten operations, each of up to four commits up to seven.
            for (operation, restart) in (0..45).flat_map(|operation| restarts.map(|restart| (operation, restart))) {
                let mut model = Model::new(segment_bytes);
                model.run(&Run { batches: before.clone(), fault: None, restart: Restart::PowerCut(seed) })?;
                model.run(&Run { batches: batches.clone(), fault: Some((operation, fault)), restart })?;
                let sound = Run { batches: vec![1, 2], fault: None, restart: Restart::PowerCut(seed) };
                model.run(&sound)?;
                prop_assert_eq!(model.durable, model.sent.len());
            }
        }
    }
}

#[test]
fn the_test_would_notice_a_disk_that_lies() {
    let run = Run { batches: vec![3, 3], fault: None, restart: Restart::PowerCut(1) };
    let noticed = (0..20).filter(|&seed| {
        let mut model = Model::new(1000);
        model.storage.lie_about_syncs();
        model.run(&Run { restart: Restart::PowerCut(seed), ..run.clone() }).is_err()
    });
    assert!(noticed.count() >= 10);
}

#[test]
fn one_append_and_one_sync_per_commit() {
    let mut model = Model::new(u64::MAX);
    let (mut writer, _) = model.open().unwrap();
    for count in 1..20 {
        let before = model.storage.operations();
        model.commit(&mut writer, count).unwrap();
        let after = model.storage.operations();
        assert_eq!((after.appends - before.appends, after.data_syncs - before.data_syncs), (1, 1));
        assert_eq!(after.total - before.total, 2);
    }
}

#[test]
fn a_new_segment_is_durable_under_its_name_before_it_is_used() {
    let mut model = Model::new(0);
    let (mut writer, _) = model.open().unwrap();
    let opened = model.storage.operations();
    model.commit(&mut writer, 1).unwrap();
    let before = model.storage.operations();
    assert_eq!(before.data_syncs - opened.data_syncs, 1, "a segment takes one commit, however large");
    model.commit(&mut writer, 2).unwrap();
    let after = model.storage.operations();
    assert_eq!(
        (after.data_syncs - before.data_syncs, after.directory_syncs - before.directory_syncs),
        (2, 1)
    );
    assert_eq!(catalog::segments(&model.storage).unwrap(), [Position(0), Position(1)]);
    let header = catalog::header(&model.storage, Position(1)).unwrap();
    assert_eq!(header, Header { instance: INSTANCE, boot: 0, first: Position(1), created: NOW });
}

#[test]
fn the_mark_of_an_orderly_end_never_makes_a_segment_too_large() {
    let bytes = |model: &Model, first| model.storage.read(&segment_name(first), 10_000).unwrap().len() as u64;
    let mut alone = Model::new(u64::MAX);
    let (mut writer, _) = alone.open().unwrap();
    for _ in 0..2 {
        alone.commit(&mut writer, 3).unwrap();
    }
    let two_commits = bytes(&alone, Position(0));
    writer.close().unwrap();
    let closed = bytes(&alone, Position(0));
    assert!(closed > two_commits);
    for most in two_commits - 1..=closed + 1 {
        let mut model = Model::new(most);
        let (mut writer, _) = model.open().unwrap();
        for _ in 0..2 {
            model.commit(&mut writer, 3).unwrap();
        }
        writer.close().unwrap();
        let segments = catalog::segments(&model.storage).unwrap();
        assert_eq!(segments.len(), if most < closed { 2 } else { 1 }, "at most {most} bytes");
        assert!(segments.iter().all(|&first| bytes(&model, first) <= most));
        model.check().unwrap();
    }
}

#[test]
fn a_run_without_records_leaves_one_file_and_uses_up_its_number() {
    let model = Model::new(u64::MAX);
    for boot in 0..5 {
        let (writer, recovery) = model.open().unwrap();
        assert_eq!(
            (writer.boot(), recovery.end, recovery.segments),
            (boot, Position(0), usize::from(boot > 0))
        );
        assert!(recovery.clean);
        writer.close().unwrap();
    }
    assert_eq!(catalog::segments(&model.storage).unwrap(), [Position(0)]);
}

#[test]
fn the_end_of_a_run_is_seen_by_the_next() {
    let mut model = Model::new(u64::MAX);
    let (mut writer, _) = model.open().unwrap();
    model.commit(&mut writer, 4).unwrap();
    drop(writer);
    let (mut writer, recovery) = model.open().unwrap();
    assert_eq!(recovery, Recovery { end: Position(4), segments: 1, torn_bytes_cut: 0, clean: false });
    model.commit(&mut writer, 1).unwrap();
    model.storage.fail_at(model.storage.operations().total, Fault::Error);
    model.commit(&mut writer, 64).unwrap_err();
    let name = segment_name(Position(4));
    let torn = model.storage.read(&name, 1 << 20).unwrap().len();
    let (writer, recovery) = model.open().unwrap();
    assert_eq!((recovery.end, recovery.clean), (Position(5), false));
    let kept = model.storage.read(&name, 1 << 20).unwrap().len();
    assert_eq!(recovery.torn_bytes_cut, (torn - kept) as u64);
    assert!(recovery.torn_bytes_cut > 0);
    writer.close().unwrap();
    let (_, recovery) = model.open().unwrap();
    assert_eq!(recovery, Recovery { end: Position(5), segments: 3, torn_bytes_cut: 0, clean: true });
}

#[test]
fn another_server_s_log_is_refused() {
    let model = Model::new(u64::MAX);
    model.open().unwrap();
    let error = Writer::open(model.storage, 10, 0, NOW).unwrap_err();
    assert!(matches!(error, OpenError::OtherInstance { found: 9, configured: 10, .. }));
}

#[test]
fn run_numbers_do_not_start_again() {
    let model = Model::new(u64::MAX);
    let last = Header { instance: INSTANCE, boot: u32::MAX, first: Position(0), created: NOW };
    model.storage.tamper(&segment_name(Position(0)), |bytes| *bytes = last.to_bytes().to_vec());
    assert!(matches!(model.open().unwrap_err(), OpenError::BootsExhausted(INSTANCE)));
}

/// A log of three segments with two records each.
fn three_segments() -> Model {
    let mut model = Model::new(0);
    let (mut writer, _) = model.open().unwrap();
    for _ in 0..3 {
        model.commit(&mut writer, 2).unwrap();
    }
    writer.close().unwrap();
    model
}

/// What a reader says at the end, and that it gives nothing more after it.
fn read_error(storage: &FaultyStorage, start: u64) -> ReadError {
    let mut records = read_in(storage.clone(), Position(start)).unwrap();
    let error = records.by_ref().find_map(Result::err).unwrap();
    assert!(records.next().is_none());
    error
}

#[test]
fn every_start_gives_the_records_from_there_on() {
    let model = three_segments();
    for start in 0..=6 {
        let read = read_in(model.storage.clone(), Position(start)).unwrap();
        let found: Vec<_> = read.map(|item| item.unwrap().1).collect();
        assert_eq!(found, records(start..6));
    }
    let error = read_error(&model.storage, 7);
    assert!(matches!(error, ReadError::EndsEarly { end: Position(6), start: Position(7) }));
    let empty = FaultyStorage::default();
    assert_eq!(read_in(empty.clone(), Position(0)).unwrap().count(), 0);
    assert!(matches!(read_error(&empty, 1), ReadError::EndsEarly { end: Position(0), .. }));
}

#[test]
fn a_missing_file_is_an_error_and_never_silence() {
    for (gone, missing, found) in [(0, 0, 2), (2, 2, 4)] {
        let model = three_segments();
        model.storage.remove(&segment_name(Position(gone))).unwrap();
        let error = read_error(&model.storage, 0);
        let as_expected = matches!(
            error,
            ReadError::Gap { missing: m, found: f, .. } if (m.0, f.0) == (missing, found)
        );
        assert!(as_expected, "{error}");
    }
}

#[test]
fn a_damaged_file_is_named_with_the_place_and_not_touched() {
    let model = three_segments();
    let name = segment_name(Position(2));
    model.storage.tamper(&name, |bytes| bytes[Header::LEN + 30] ^= 1);
    let error = read_error(&model.storage, 0);
    assert!(matches!(error, ReadError::BreaksOff { offset: 36, .. }), "{error}");
    assert!(error.to_string().contains(&name) && error.to_string().contains("36"), "{error}");

    let model = three_segments();
    let name = segment_name(Position(4));
    model.storage.tamper(&name, |bytes| bytes[Header::LEN + 30] ^= 1);
    let before = model.storage.read(&name, 1 << 20).unwrap();
    let error = model.open().unwrap_err().to_string();
    assert!(error.contains(&name) && error.contains("byte 60"), "{error}");
    assert_eq!(model.storage.read(&name, 1 << 20).unwrap(), before);
}

#[test]
fn a_foreign_file_is_an_error() {
    let header = |instance, boot, first| Header { instance, boot, first: Position(first), created: NOW };
    for (name, content) in
        [(6, header(INSTANCE + 1, 0, 6)), (6, header(INSTANCE, 0, 7)), (5, header(INSTANCE, 0, 5))]
    {
        let model = three_segments();
        model.storage.tamper(&segment_name(Position(name)), |bytes| *bytes = content.to_bytes().to_vec());
        let error = read_error(&model.storage, 0);
        let as_expected = match name {
            5 => matches!(error, ReadError::Overlap { first: Position(5), .. }),
            _ if content.first == Position(7) => {
                matches!(error, ReadError::Misnamed { first: Position(7), .. })
            }
            _ => matches!(error, ReadError::Foreign { .. }),
        };
        assert!(as_expected, "{error}");
    }
    let model = three_segments();
    drop(model.open().unwrap());
    model.storage.tamper(&segment_name(Position(4)), |bytes| {
        let later = header(INSTANCE, 5, 4).to_bytes();
        bytes[..Header::LEN].copy_from_slice(&later);
    });
    assert!(matches!(model.open().unwrap_err(), OpenError::Read(ReadError::Foreign { .. })));
}

#[test]
fn a_reader_beside_a_writer_stops_before_what_is_not_finished() {
    let mut model = Model::new(u64::MAX);
    let (mut writer, _) = model.open().unwrap();
    model.commit(&mut writer, 3).unwrap();
    model.storage.tamper(&segment_name(Position(0)), |bytes| bytes.extend_from_slice(&[0xc1, 0x00, 0xad]));
    let mut found = read_in(model.storage, Position(0)).unwrap();
    assert_eq!(found.by_ref().map(Result::unwrap).count(), 3);
    assert_eq!(found.unfinished_bytes(), 3);
}
