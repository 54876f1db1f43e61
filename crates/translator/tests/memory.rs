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
use adit_translator::server::{Mode, Translator, TranslatorConfig, UpstreamTarget};
use adit_translator::{MachineConfig, Override};
use adit_transport::AuthorityKeyPair;
use adit_units::{Difficulty, Hashrate};
use tokio::runtime::Builder;

/// Most bytes for a machine.
const MACHINE: u64 = 24 * 1024;

/// Blocks that are mined through before the one in which memory is counted; more than have their shares remembered.
const BLOCKS: u32 = 6;

/// Shares of a machine on each block: twenty a minute for ten minutes.
const SHARES: u32 = 200;

/// How long a block takes here.
const BLOCK: Duration = Duration::from_secs(2);

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
    }
}

/// What a translator holds while so many machines are busy on it. It has a thread to itself, which alone is counted.
fn held_for(mode: Mode, machines: u32) -> u64 {
    let plan = Plan {
        machines: machines.try_into().unwrap(),
        jobs: 0,
        tips: 0,
        rate: NonZeroU32::new(machines * SHARES / u32::try_from(BLOCK.as_secs()).unwrap()),
        duration: BLOCK,
        blocks: BLOCKS,
        one_up_in: NonZeroU32::MIN,
    };
    let ((tell_pool, pool), (tell_address, address)) = (mpsc::channel(), mpsc::channel());
    let generator = thread::spawn(move || {
        Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
            let upstream = Upstream::bind(identity(&AuthorityKeyPair::generate(&mut OsRng))).await.unwrap();
            tell_pool.send((upstream.address(), upstream.authority())).unwrap();
            let subject =
                Subject { address: address.recv().unwrap(), watched: Watched::new(std::process::id()) };
            sv1::run(&plan, upstream, subject).await.map(drop)
        })
    });
    let (address, key) = pool.recv().unwrap();
    let pool =
        UpstreamTarget { pool: url(address, Some(key)).into(), user: "farm".to_owned(), expects: None };
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let runtime = Builder::new_current_thread().enable_all().build().unwrap();
        let translator = runtime.block_on(async {
            let translator = Translator::start(config(mode, pool), Bound::new(free()).unwrap()).unwrap();
            tell_address.send(translator.address()).unwrap();
            let numbers = translator.numbers();
            let enough = u64::from(BLOCKS * SHARES + SHARES / 4);
            eventually("all machines are in the last block", || {
                let status = numbers.status();
                let busy = status.machines.iter().filter(|machine| machine.shares.accepted >= enough);
                busy.count() == usize::try_from(machines).unwrap()
            })
            .await;
            translator
        });
        kept = Some((runtime, translator));
    });
    drop(kept);
    // Its machines were cut off, which is no concern of this.
    let _ended = generator.join().unwrap();
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
    eprintln!("per machine {bytes}");
    assert!(bytes <= MACHINE, "{bytes} bytes");
}

#[test]
fn a_busy_machine_that_shares_its_channel_is_small() {
    let bytes = held_by_each(Mode::Aggregated);
    eprintln!("aggregated {bytes}");
    assert!(bytes <= MACHINE * 3 / 4, "{bytes} bytes");
}
