//! How much memory a machine takes: none for a share, little for a connection.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

#[path = "../src/job/fixture.rs"]
mod fixture;

use core::time::Duration;
use std::sync::Arc;

use adit_translator::{Machine, MachineConfig, MachineTerms, NUMBER_STEP, Override, Sv1Job};
use adit_units::{Difficulty, Monotonic, Now, Target, UnixTime};

use self::fixture::{Given, TIME};

/// Most bytes that a connection may take in all; the core has the most of it when it is busy, and the shell around it the rest.
const CONNECTION: u64 = 24 * 1024;

/// Most bytes that a machine takes that has worked for hours on jobs which it shares with nobody, as where each has a channel: all that it
/// keeps of them is its own.
const BUSY_MACHINE_ALONE: u64 = CONNECTION * 2;

/// Most bytes that a machine takes that is ready and submits nothing.
const IDLE_MACHINE: u64 = CONNECTION / 6;

/// Most bytes that a machine takes that has submitted its ten shares a minute for hours.
const BUSY_MACHINE: u64 = CONNECTION * 3 / 4;

fn now(seconds: u64) -> Now {
    let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(TIME) };
    now.after(Duration::from_secs(seconds))
}

/// A job that every hash meets for machines; half of them for the upstream.
fn job(number: u32, tip: u8) -> Arc<Sv1Job> {
    let given = Given {
        number,
        tip,
        coinbase: [60, 300],
        merkle_path: vec![[3; 32]; 12],
        target: Target::from_le_bytes([0x7f; 32]),
        ..Given::default()
    };
    let floor = u64::from(tip) << 32;
    Arc::new(Sv1Job::new(&given.work(), 1, (floor + u64::from(number) * NUMBER_STEP, floor), 8).unwrap())
}

/// Any device may have the lowest difficulty that there is.
fn config() -> Arc<MachineConfig> {
    let least_difficulty = Some(Difficulty::from_trillionths(1));
    let devices = vec![Override { least_difficulty, ..Override::default() }];
    Arc::new(MachineConfig { devices, ..MachineConfig::default() })
}

/// A machine whose shares are met by every hash, with a first job; its output is taken.
fn ready(config: Arc<MachineConfig>, job: &Arc<Sv1Job>) -> Machine {
    let terms = MachineTerms { extranonce1: [1; 4], seen_key: [2; 16] };
    let mut machine = Machine::new(config, terms, now(0).monotonic);
    for line in [
        r#"{"id":1,"method":"mining.configure","params":[["version-rolling"],{"version-rolling.mask":"ffffffff"}]}"#,
        r#"{"id":2,"method":"mining.subscribe","params":["bitaxe/BM1370/v2.9.31"]}"#,
        r#"{"id":3,"method":"mining.authorize","params":["bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.rig1","d=0.0000000001"]}"#,
    ] {
        machine.handle_line(line.as_bytes(), &mut (), now(0)).unwrap();
    }
    machine.handle_job(job, now(0).monotonic);
    while machine.poll_event().is_some() {}
    machine
}

fn lines(job: &Arc<Sv1Job>, nonces: core::ops::Range<u32>) -> Vec<String> {
    let user = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.rig1";
    let id = format!("{:016x}", job.number());
    let line = |nonce: u32| {
        format!(
            r#"{{"id":{nonce},"method":"mining.submit","params":["{user}","{id}","0000000000000000","{TIME:08x}","{nonce:08x}","00c00000"]}}"#
        )
    };
    nonces.map(line).collect()
}

/// Has the machine take the lines, as a server does that reuses its memory.
fn submit(machine: &mut Machine, lines: &[String], now: Now) {
    for line in lines {
        machine.handle_line(line.as_bytes(), &mut (), now).unwrap();
        while machine.poll_share().is_some() {}
        machine.output().clear();
    }
}

#[test]
fn a_share_takes_no_memory() {
    let job = job(1, 1);
    let mut machine = ready(config(), &job);
    let (first, rest) = (lines(&job, 0..1_000), lines(&job, 1_000..1_300));
    // Until the set of seen shares has the room that the rest will need.
    submit(&mut machine, &first, now(1));
    let counted = allocation_counter::measure(|| submit(&mut machine, &rest, now(2)));
    assert_eq!((counted.count_total, machine.report(now(2).monotonic).shares.accepted), (0, 1_300));
    let counted = allocation_counter::measure(|| submit(&mut machine, &rest, now(3)));
    let shares = machine.report(now(3).monotonic).shares;
    assert_eq!((counted.count_total, shares.duplicate), (0, 300), "a refused one neither");
}

#[test]
fn an_idle_machine_is_small() {
    let (config, jobs) = (config(), (1..40).map(|number| job(number, 1)));
    let jobs: Vec<_> = jobs.collect();
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let mut machine = ready(config, &jobs[0]);
        jobs.iter().for_each(|job| machine.handle_job(job, now(60).monotonic));
        // A server gives the memory back that it has written.
        *machine.output() = Vec::new();
        kept = Some(Box::new(machine));
    });
    let bytes = u64::try_from(counted.bytes_current).unwrap();
    assert!(bytes <= IDLE_MACHINE, "{bytes} bytes");
    assert!(kept.is_some_and(|machine| machine.is_ready()));
}

#[test]
fn a_machine_that_has_worked_for_hours_is_small() {
    let config = config();
    let mut kept = None;
    let tips: Vec<_> = (1..20).map(|tip| job(1, tip)).collect();
    let shares: Vec<_> = tips.iter().map(|job| lines(job, 0..100)).collect();
    let counted = allocation_counter::measure(|| {
        let mut machine = ready(config, &tips[0]);
        for (block, (job, shares)) in (0..).zip(tips.iter().zip(&shares)) {
            machine.handle_job(job, now(600 * block).monotonic);
            submit(&mut machine, shares, now(600 * block + 300));
        }
        *machine.output() = Vec::new();
        kept = Some(Box::new(machine));
    });
    let bytes = u64::try_from(counted.bytes_current).unwrap();
    assert!(bytes <= BUSY_MACHINE, "{bytes} bytes");
    assert_eq!(kept.unwrap().report(now(12_000).monotonic).shares.accepted, 1_900);
}

#[test]
fn a_machine_with_jobs_of_its_own_took_as_much_again_for_each() {
    let config = config();
    let mut kept = None;
    let shares: Vec<_> = (1..20).map(|tip| lines(&job(1, tip), 0..100)).collect();
    let counted = allocation_counter::measure(|| {
        let mut machine = ready(config, &job(1, 1));
        for (block, shares) in (0..).zip(&shares) {
            let tip = u8::try_from(block + 1).unwrap();
            machine.handle_job(&job(1, tip), now(600 * block).monotonic);
            submit(&mut machine, shares, now(600 * block + 300));
            (2..20)
                .for_each(|number| machine.handle_job(&job(number, tip), now(600 * block + 300).monotonic));
        }
        *machine.output() = Vec::new();
        kept = Some(Box::new(machine));
    });
    let bytes = u64::try_from(counted.bytes_current).unwrap();
    assert!(bytes <= BUSY_MACHINE_ALONE, "{bytes} bytes");
    assert_eq!(kept.unwrap().report(now(12_000).monotonic).shares.accepted, 1_900);
}
