//! A translator on another one, which is a pool that speaks SV1 to it.

use std::sync::Arc;

use adit_translator::server::{Mode, Translator, TranslatorConfig, UpstreamTarget};
use adit_translator::{MachineConfig, Override, Status, UpstreamState};

use crate::SOME;
use crate::stage::{Machine, Pool, chain, config, eventually, status, translator, upstream};

/// A translator whose machines are translators: they are as fast as the processor behind them.
fn old(upstream: UpstreamTarget) -> Translator {
    let config = config(Mode::Aggregated, &[upstream]);
    let device =
        Override { pattern: "adit".into(), nominal: Some(config.first_guess), ..Override::default() };
    let machine = MachineConfig { devices: vec![device], ..config.machine };
    translator(TranslatorConfig { machine, ..config })
}

/// A translator that leaves its machines few enough bytes for an SV1 pool.
fn new(upstreams: &[UpstreamTarget]) -> Translator {
    let config = config(Mode::Aggregated, upstreams);
    let machine = MachineConfig { extranonce2_len: 4, ..config.machine };
    translator(TranslatorConfig { machine, ..config })
}

/// A translator as another names it: a pool that speaks SV1.
fn legacy(old: &Translator) -> UpstreamTarget {
    let pool = format!("stratum+tcp://{}", old.address()).parse().unwrap();
    UpstreamTarget { pool, user: "farm.house".to_owned(), password: None, expects: None }
}

fn is_used(status: &Arc<Status>, upstream: usize) -> bool {
    status.upstreams.get(upstream).is_some_and(|upstream| upstream.state == UpstreamState::InUse)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_mine_through_a_translator_whose_pool_speaks_sv1() {
    let node = chain();
    let pool = Pool::start(&node);
    let old = old(upstream(&pool));
    let new = new(&[legacy(&old)]);
    let status = status(&new);
    let machines = [Machine::start(&old, "farm.direct"), Machine::start(&new, "farm.behind")];
    eventually("both have shares", || machines.iter().all(|machine| machine.accepted() > SOME)).await;
    eventually("the old one has taken them", || {
        status().upstreams.first().is_some_and(|upstream| upstream.shares.accepted > SOME)
    })
    .await;
    eventually("the pool has them all", || pool.records().len() as u64 > 2 * SOME).await;
    let status = status();
    let upstream = &status.upstreams[0];
    assert_eq!(upstream.state, UpstreamState::InUse);
    assert!(upstream.address.starts_with("127.0.0.1:"), "{}", upstream.address);
    // Those of a tip that has just gone.
    assert!(upstream.shares.refused <= upstream.shares.accepted / 2, "{:?}", upstream.shares);
    for machine in &machines {
        let seen = machine.seen();
        assert!(seen.refused.len() as u64 <= seen.accepted / 2, "{seen:?}");
    }
    drop(machines);
    new.shutdown().await;
    old.shutdown().await;
    pool.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_sv1_pool_is_the_last_resort_while_the_better_one_is_down() {
    let node = chain();
    let (first, second) = (Pool::start(&node), Pool::start(&node));
    let address = first.address();
    let old = old(upstream(&second));
    let new = new(&[upstream(&first), legacy(&old)]);
    let status = status(&new);
    let machine = Machine::start(&new, "farm.rig");
    eventually("the first has shares", || first.records().len() as u64 > SOME).await;
    let keys = first.stop().await;
    eventually("the last resort has shares", || second.records().len() as u64 > SOME).await;
    eventually("it is shown", || is_used(&status(), 1)).await;
    let first = Pool::start_again(&node, address, keys);
    eventually("the first has shares again", || first.records().len() as u64 > SOME).await;
    eventually("it is shown", || is_used(&status(), 0)).await;
    assert!(!machine.seen().ended, "the machine has not lost its connection");
    drop(machine);
    new.shutdown().await;
    old.shutdown().await;
    first.stop().await;
    second.stop().await;
}
