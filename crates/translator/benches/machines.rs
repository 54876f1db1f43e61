//! What a thousand machines cost beside the network: a job for each of them, and a share of each of them.
//!
//! They take turns as they do in a farm, so that most of what one needs has left the fastest caches when its turn comes.
#![expect(clippy::unwrap_used, reason = "a bench that cannot go on ends")]

#[path = "../src/job/fixture.rs"]
mod fixture;

use core::time::Duration;
use std::sync::Arc;

use adit_translator::{Machine, MachineConfig, MachineTerms, NUMBER_STEP, Override, Sv1Job};
use adit_units::{Difficulty, Monotonic, Now, Target, UnixTime};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use self::fixture::{Given, TIME};

/// Machines that take turns.
const MACHINES: u64 = 1_000;

/// Shares that each has submitted before, one in six seconds.
const SETTLING: u32 = 20;

/// When they are looked at, in seconds: one that has just come is not measured yet, and has it easier.
const SETTLED: u64 = 6 * SETTLING as u64 + 10;

/// What their passwords ask for: one difficulty for ever, or one that follows their speed.
const PASSWORDS: [(&str, &str); 2] = [("fixed", "d=0.0000000001"), ("following", "x")];

fn now(seconds: u64) -> Now {
    let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(TIME) };
    now.after(Duration::from_secs(seconds))
}

/// A job that every hash meets, with a merkle path of ten hashes and a line of some 1 300 bytes.
fn job(number: u64) -> Arc<Sv1Job> {
    let given = Given {
        number: u32::try_from(number).unwrap(),
        coinbase: [60, 150],
        merkle_path: vec![[3; 32]; 10],
        target: Target::from_le_bytes([0x7f; 32]),
        ..Given::default()
    };
    Arc::new(Sv1Job::new(&given.work(), 1, (number * NUMBER_STEP, 0), 8).unwrap().rendered())
}

/// Machines that have said who they are and mine the first job.
fn farm(password: &str) -> Vec<Machine> {
    let least_difficulty = Some(Difficulty::from_trillionths(1));
    let devices = vec![Override { least_difficulty, ..Override::default() }];
    let config = Arc::new(MachineConfig { devices, ..MachineConfig::default() });
    let authorize = format!(r#"{{"id":3,"method":"mining.authorize","params":["farm.rig","{password}"]}}"#);
    let machine = |number: u64| {
        let terms = MachineTerms {
            extranonce1: u32::try_from(number).unwrap().to_be_bytes(),
            seen_key: u128::from(number).to_le_bytes(),
        };
        let mut machine = Machine::new(Arc::clone(&config), terms, now(0).monotonic);
        for line in [r#"{"id":2,"method":"mining.subscribe","params":["bench/1"]}"#, &authorize] {
            machine.handle_line(line.as_bytes(), &mut (), now(0)).unwrap();
        }
        machine.handle_job(&job(1), now(0).monotonic);
        take_all(&mut machine);
        for share in 1..=SETTLING {
            machine.handle_line(submit(share).as_bytes(), &mut (), now(6 * u64::from(share))).unwrap();
        }
        take_all(&mut machine);
        machine
    };
    (1..=MACHINES).map(machine).collect()
}

/// A share of the first job.
fn submit(nonce: u32) -> String {
    let id = NUMBER_STEP;
    format!(
        r#"{{"id":{nonce},"method":"mining.submit","params":["farm.rig","{id:016x}","0000000000000000","{TIME:08x}","{nonce:08x}"]}}"#
    )
}

/// Takes what a machine has to say, and gives the memory back, as a server does.
fn take_all(machine: &mut Machine) {
    while machine.poll_event().is_some() {}
    while machine.poll_share().is_some() {}
    drop(core::mem::take(machine.output()));
}

fn jobs(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("job");
    group.throughput(Throughput::Elements(MACHINES));
    for (name, password) in PASSWORDS {
        let (mut machines, mut number) = (farm(password), 1);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                number += 1;
                let job = job(number);
                for machine in &mut machines {
                    machine.handle_job(&job, now(SETTLED).monotonic);
                    take_all(machine);
                }
            });
        });
    }
    group.finish();
}

/// A share, and the note of it that the operator sees.
fn shares(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("share");
    group.throughput(Throughput::Elements(MACHINES));
    for (name, password) in PASSWORDS {
        let (mut machines, mut nonce) = (farm(password), SETTLING);
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| {
                nonce += 1;
                let line = submit(nonce);
                for machine in &mut machines {
                    machine.handle_line(line.as_bytes(), &mut (), now(SETTLED)).unwrap();
                    let (nominal, report) =
                        (machine.nominal(now(SETTLED).monotonic), machine.report(now(SETTLED).monotonic));
                    core::hint::black_box((nominal, report));
                    take_all(machine);
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, jobs, shares);
criterion_main!(benches);
