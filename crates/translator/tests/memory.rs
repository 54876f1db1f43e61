//! What a machine that is busy has the whole program hold: for its connection, its channel, and the numbers that are shown of both.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::num::NonZeroU32;
use core::time::Duration;
use std::sync::mpsc;
use std::thread;

use adit_net::{Bound, Limits, OsRng};
use adit_testkit::load::Watched;
use adit_testkit::load::sv1::{self, Plan, Subject, Upstream};
use adit_testkit::stage::{eventually, free, identity, url};
use adit_translator::server::{Mode, Numbers, Translator, TranslatorConfig, UpstreamTarget};
use adit_translator::{MachineConfig, Override};
use adit_transport::AuthorityKeyPair;
use adit_units::{Difficulty, Hashrate};
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::sleep;

/// Most bytes for a machine.
const MACHINE: u64 = 24 * 1024;

/// Blocks that are mined through; more than have their shares remembered.
const BLOCKS: u32 = 7;

/// Shares of a machine on each block: twenty a minute for ten minutes.
const SHARES: u32 = 200;

/// Shares a second of all machines together, however many these are: what queues take for that is nothing that a machine adds.
const RATE: u32 = 4_000;

/// Nobody mines any more if there is no share for so long, which is longer than the numbers are old.
const REST: Duration = Duration::from_millis(1_500);

fn config(mode: Mode, pool: UpstreamTarget) -> TranslatorConfig {
    // So that machines get the difficulty that they ask for, whatever their kind.
    let least_difficulty = Some(Difficulty::from_trillionths(1));
    let devices = vec![Override { least_difficulty, ..Override::default() }];
    TranslatorConfig {
        upstreams: vec![pool],
        mode,
        machine: MachineConfig { devices, ..MachineConfig::default() },
        keepalive: Duration::from_secs(30),
        first_guess: Hashrate::from_hashes_per_second(1_000_000),
        limits: Limits::default(),
        insecure: false,
        allows_public: false,
        expects_proxy: false,
        rest: None,
    }
}

/// Shares of all machines that were accepted so far.
fn shares(numbers: &Numbers) -> u64 {
    numbers.status().machines.iter().map(|machine| machine.shares.accepted).sum()
}

/// What a translator holds while so many machines are busy on it. It has a thread to itself, which alone is counted.
fn held_for(mode: Mode, machines: u32) -> u64 {
    let plan = Plan {
        machines: machines.try_into().unwrap(),
        jobs: 0,
        tips: 0,
        late_acks: false,
        awake: false,
        rate: NonZeroU32::new(RATE),
        duration: Duration::from_millis(u64::from(machines * SHARES * 1_000 / RATE)),
        blocks: BLOCKS,
        one_up_in: NonZeroU32::MIN,
    };
    let ((tell_pool, pool), (tell_address, address)) = (mpsc::channel(), mpsc::channel());
    let (leave, left) = oneshot::channel();
    let generator = thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let upstream = Upstream::bind(identity(&AuthorityKeyPair::generate(&mut OsRng))).await.unwrap();
            tell_pool.send((upstream.address(), upstream.authority())).unwrap();
            let subject =
                Subject { address: address.recv().unwrap(), watched: Watched::new(std::process::id()) };
            let left = async { left.await.unwrap() };
            sv1::run_until(&plan, upstream, subject, left).await.unwrap()
        })
    });
    let (address, key) = pool.recv().unwrap();
    let pool = UpstreamTarget {
        pool: url(address, Some(key)).into(),
        user: "farm".to_owned(),
        password: None,
        expects: None,
    };
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let translator = runtime.block_on(async {
            let translator = Translator::start(config(mode, pool), Bound::new(free()).unwrap()).unwrap();
            tell_address.send(translator.address()).unwrap();
            let numbers = translator.numbers();
            // A machine may be a share short on each block.
            let enough = u64::from(BLOCKS * SHARES * 19 / 20);
            eventually("all machines have mined", || {
                let status = numbers.status();
                let busy = status.machines.iter().filter(|machine| machine.shares.accepted >= enough);
                busy.count() == usize::try_from(machines).unwrap()
            })
            .await;
            let mut mined = 0;
            while core::mem::replace(&mut mined, shares(&numbers)) != mined {
                sleep(REST).await;
            }
            translator
        });
        kept = Some((runtime, translator));
    });
    leave.send(()).unwrap();
    let report = generator.join().unwrap();
    assert!(report.is_clean(), "{report}");
    drop(kept);
    u64::try_from(counted.bytes_current).unwrap()
}

/// What each machine adds to that.
fn held_by_each(mode: Mode) -> u64 {
    let few = thread::spawn(move || held_for(mode, 8));
    let many = held_for(mode, 40);
    (many - few.join().unwrap()) / 32
}

#[test]
fn a_busy_machine_with_a_channel_of_its_own_took_44_kilobytes() {
    let bytes = held_by_each(Mode::PerMachine);
    assert!(bytes <= MACHINE, "{bytes} bytes");
}

#[test]
fn a_busy_machine_that_shares_its_channel_is_small() {
    let bytes = held_by_each(Mode::Aggregated);
    assert!(bytes <= MACHINE * 3 / 4, "{bytes} bytes");
}
