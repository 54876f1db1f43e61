//! Kills a process that appends under load, again and again, and holds what is found against what it had said.
//!
//! A kill leaves the system's memory of the files alive, so this shows that recovery and acknowledgements fit together in a real
//! process, on a real disk, at any moment. That syncs are where they must be is shown by the power cuts of the unit tests.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::io::{BufRead as _, BufReader, Write as _, stdout};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use adit_channel::{RewardKind, ShareKind, ShareRecord, UserIdentity, WorkerName};
use adit_ledger::{LogConfig, Opened, Position, ShareLog, ShareSink as _, completion, open, read, read_from};
use adit_units::{ChannelId, ConnectionId, Height, JobId, JobTag, SequenceNumber, UnixTime, Work};

const CYCLES: u32 = 100;
const CONNECTIONS: u32 = 6;
/// Tells the started process where to write, and which cycle it is.
const DIRECTORY: &str = "ADIT_KILL_TEST_DIRECTORY";
const CYCLE: &str = "ADIT_KILL_TEST_CYCLE";

/// The share that a connection sends in a cycle under a sequence number; no two are equal.
fn share(cycle: u32, connection: u32, sequence_number: u32) -> ShareRecord {
    let mut hash = [0xa5; 32];
    for (slot, number) in hash.chunks_exact_mut(4).zip([cycle, connection, sequence_number]) {
        slot.copy_from_slice(&number.to_le_bytes());
    }
    ShareRecord {
        received: UnixTime::from_secs(cycle),
        connection: ConnectionId(connection),
        channel: ChannelId(sequence_number % 3),
        sequence_number: SequenceNumber(sequence_number),
        tag: JobTag { instance: 1, boot: cycle, job: JobId(sequence_number / 10) },
        height: Height(cycle),
        work: Work::from_hashes(u128::from(sequence_number)),
        hash,
        kind: if sequence_number.is_multiple_of(97) { ShareKind::Block } else { ShareKind::Share },
        reward: RewardKind::Pooled,
        user: UserIdentity::from_wire(format!("account{connection}.rig").as_bytes()).unwrap(),
        worker: WorkerName::from_wire(b"worker").ok().filter(|_| sequence_number.is_multiple_of(2)),
        custom: None,
    }
}

/// Says something to the process that watches, in one write.
fn say(line: &str) {
    let mut out = stdout().lock();
    out.write_all(line.as_bytes()).unwrap();
    out.flush().unwrap();
}

/// The process under test: opens the log and appends until it is killed. It says what it is about to send, and what is durable.
///
/// The other test of this file starts it, and says by an environment variable where to write; otherwise it has nothing to do.
#[test]
fn appends_until_killed() {
    let Some(directory) = std::env::var_os(DIRECTORY).map(PathBuf::from) else { return };
    let cycle = std::env::var(CYCLE).unwrap().parse().unwrap();
    let config = LogConfig { segment_bytes: 200_000, queue_len: 64, ..LogConfig::new(1) };
    let Opened { log, boot, .. } = open(&directory, config, UnixTime::from_secs(cycle)).unwrap();
    say(&format!("\nopen {boot} 0\n"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let connections =
            (0..CONNECTIONS).map(|connection| tokio::spawn(load(log.clone(), cycle, connection)));
        for connection in connections.collect::<Vec<_>>() {
            connection.await.unwrap();
        }
    });
}

/// One connection: batches of several sizes, a bounded number of shares on their way.
async fn load(log: ShareLog, cycle: u32, connection: u32) {
    let (done, mut watch) = completion();
    let (mut sent, mut durable) = (0, 0);
    loop {
        while u64::from(sent) < durable + 200 {
            let end = sent + 1 + (sent * 7 + connection) % 40;
            let batch: Vec<_> = (sent..end).map(|number| share(cycle, connection, number)).collect();
            say(&format!("sent {connection} {end}\n"));
            log.append(&batch, &done).await.unwrap();
            sent = end;
        }
        durable = watch.changed().await;
        say(&format!("durable {connection} {durable}\n"));
    }
}

/// What a killed process had said.
#[derive(Debug, Default)]
struct Said {
    boot: Option<u32>,
    sent: [u64; CONNECTIONS as usize],
    durable: [u64; CONNECTIONS as usize],
}

impl Said {
    fn line(&mut self, line: &str) {
        let mut words = line.split(' ');
        let (Some(word), Some(first), Some(second)) = (words.next(), words.next(), words.next()) else {
            return;
        };
        let (Ok(first), Ok(second)) = (first.parse::<u32>(), second.parse::<u64>()) else { return };
        match word {
            "open" => self.boot = Some(first),
            "sent" => self.sent[first as usize] = second,
            "durable" => self.durable[first as usize] = second,
            _ => {}
        }
    }
}

fn start(directory: &Path, cycle: u32) -> Child {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "appends_until_killed", "--nocapture"])
        .env(DIRECTORY, directory)
        .env(CYCLE, cycle.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap()
}

/// Runs the process and kills it after so long: from its start, or from the moment its log is open.
fn run_and_kill(directory: &Path, cycle: u32, delay: Duration, from_open: bool) -> Said {
    let mut child = start(directory, cycle);
    let (opened, is_open) = mpsc::channel();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let listener = thread::spawn(move || {
        let (mut said, mut line) = (Said::default(), String::new());
        while out.read_line(&mut line).unwrap() > 0 {
            // What the kill cut short has not been said.
            if let Some(whole) = line.strip_suffix('\n') {
                said.line(whole);
            }
            if said.boot.is_some() {
                let _ = opened.send(());
            }
            line.clear();
        }
        said
    });
    if from_open {
        is_open.recv().expect("the process opens its log");
    }
    thread::sleep(delay);
    child.kill().unwrap();
    child.wait().unwrap();
    listener.join().unwrap()
}

/// Holds the records from `start` on against what the process of this cycle has said; gives back the end of the log.
fn check(directory: &Path, cycle: u32, said: &Said, start: Position) -> Position {
    let mut found = [0_u64; CONNECTIONS as usize];
    let mut end = start;
    for item in read_from(directory, start).unwrap() {
        let (position, record) = item.unwrap();
        assert_eq!(position, end);
        let (connection, number) = (record.connection.0, record.sequence_number.0);
        assert_eq!(u64::from(number), found[connection as usize], "each share once, in order");
        assert_eq!(record, share(cycle, connection, number));
        found[connection as usize] += 1;
        end = Position(position.0 + 1);
    }
    for connection in 0..CONNECTIONS as usize {
        let (durable, found, sent) = (said.durable[connection], found[connection], said.sent[connection]);
        assert!(durable <= found, "cycle {cycle}: {durable} shares were acknowledged, {found} found");
        assert!(found <= sent, "cycle {cycle}: {sent} shares were sent, {found} found");
    }
    end
}

#[test]
fn every_acknowledged_share_is_found_after_a_kill_and_none_that_was_not_sent() {
    let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let path = directory.path();
    let (mut end, mut boots, mut acknowledged, mut unacknowledged) = (Position(0), Vec::new(), 0, 0);
    let mut random = 0x5eed_u64;
    for cycle in 0..CYCLES {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let delay = Duration::from_micros((random >> 33) % 50_000);
        // Most kills come under load, some during start and recovery.
        let said = run_and_kill(path, cycle, delay, cycle % 4 != 3);
        let start = end;
        if path.join("lock").exists() {
            end = check(path, cycle, &said, start);
        }
        boots.extend(said.boot);
        let durable: u64 = said.durable.iter().sum();
        acknowledged += durable;
        unacknowledged += end.0 - start.0 - durable;
    }
    assert!(boots.is_sorted_by(|earlier, later| earlier < later), "{boots:?}");
    assert!(boots.len() >= CYCLES as usize * 3 / 4);
    assert!(acknowledged > 1000, "the load was no load: {acknowledged} shares acknowledged");
    assert_eq!(read(path).unwrap().map(Result::unwrap).count() as u64, end.0);
    println!(
        "{CYCLES} kills, {} starts: {acknowledged} shares acknowledged, {unacknowledged} more found, {} bytes of unfinished commits at the end",
        boots.len(),
        unfinished(path)
    );
}

/// How many bytes of an unfinished commit stand at the end of the log.
fn unfinished(path: &Path) -> u64 {
    let mut records = read(path).unwrap();
    records.by_ref().for_each(drop);
    records.unfinished_bytes()
}
