//! The whole chain over sockets: SV1 machines on a translator on pools, on a chain in memory.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod deaf;
mod legacy;
mod listeners;
mod old_pool;
mod rest;
mod stage;

use core::time::Duration;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use adit_net::Clock;
use adit_testkit::stage::url;
use adit_translator::UpstreamState;
use adit_translator::server::{Mode, UpstreamTarget};
use adit_translator::upstream::payout::Expectation;

use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use self::stage::{
    Machine, Patience, Pool, chain, config, eventually, height, quiet_chain, script, status, stop,
    translator, upstream,
};

/// Shares that show that it goes on.
const SOME: u64 = 20;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn translate_sv1_to_sv2_successfully() {
    let node = chain();
    for (mode, channels) in [(Mode::Aggregated, 1), (Mode::PerMachine, 2)] {
        let pool = Pool::start(&node);
        let translator = translator(config(mode, &[upstream(&pool)]));
        let machines = ["alice.rig1", "bob.rig2"].map(|user| Machine::start(&translator, user));
        eventually("both have shares", || machines.iter().all(|machine| machine.accepted() > SOME)).await;
        let before = height(&node);
        eventually("a block is found", || height(&node) > before).await;
        eventually("the pool has them", || pool.records().len() as u64 > SOME).await;
        assert_eq!(pool.channels(), channels, "{mode:?}");
        let workers: BTreeSet<_> =
            pool.records().iter().filter_map(|record| Some(record.worker?.as_str().to_owned())).collect();
        assert_eq!(workers, ["rig1", "rig2"].map(str::to_owned).into(), "{mode:?}");
        let users: BTreeSet<_> =
            pool.records().iter().map(|record| record.user.as_str().to_owned()).collect();
        let expected: BTreeSet<String> = match mode {
            Mode::Aggregated => ["farm.house".to_owned()].into(),
            Mode::PerMachine => ["farm.house.rig1", "farm.house.rig2"].map(str::to_owned).into(),
        };
        assert_eq!(users, expected, "{mode:?}");
        for machine in &machines {
            let seen = machine.seen();
            // Those of a tip that has just gone.
            assert!(seen.refused.iter().all(|error| error.starts_with("[21,")), "{:?}", seen.refused);
            let jobs: BTreeSet<_> = seen.jobs.iter().collect();
            assert_eq!(jobs.len(), seen.jobs.len(), "no id comes twice");
        }
        drop(machines);
        stop(translator, [pool]).await;
    }
}

/// Two share a user, and one has its own; who leaves takes nothing from the others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn multiple_tproxy_sessions() {
    let node = chain();
    let pool = Pool::start(&node);
    let barn = UpstreamTarget { user: "barn.loft".to_owned(), ..upstream(&pool) };
    let [first, second, third] = [
        (Mode::Aggregated, upstream(&pool), "rig1"),
        (Mode::PerMachine, upstream(&pool), "rig2"),
        (Mode::Aggregated, barn, "rig3"),
    ]
    .map(|(mode, target, user)| {
        let translator = translator(config(mode, &[target]));
        let machine = Machine::start(&translator, user);
        (translator, machine)
    });
    let shares = |user: &str, worker: &str| {
        let records = pool.records();
        let theirs = records.iter().filter(|record| record.user.as_str() == user);
        theirs.filter_map(|record| record.worker.as_ref()).filter(|name| name.as_str() == worker).count()
    };
    let theirs =
        || [shares("farm.house", "rig1"), shares("farm.house.rig2", "rig2"), shares("barn.loft", "rig3")];
    eventually("the pool has shares of all", || theirs().iter().all(|&shares| shares > 5)).await;
    assert_eq!(pool.channels(), 3);
    drop(first.1);
    first.0.shutdown().await;
    eventually("its channel is closed", || pool.channels() == 2).await;
    let [_, before, other] = theirs();
    eventually("the others go on", || theirs()[1] > before && theirs()[2] > other).await;
    for (translator, machine) in [second, third] {
        assert!(!machine.seen().ended);
        drop(machine);
        translator.shutdown().await;
    }
    pool.stop().await;
}

/// SRI: `test_translator_fallback_on_open_mining_message_error`, with two pools.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_opens_no_channel_is_passed_over() {
    let node = chain();
    let (first, second) = (Pool::start(&node), Pool::start(&node));
    // An address of another network than the pool's.
    let user = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig".to_owned();
    let unwanted = UpstreamTarget { user, ..upstream(&first) };
    let translator = translator(config(Mode::Aggregated, &[unwanted, upstream(&second)]));
    let status = status(&translator);
    let machine = Machine::start(&translator, "rig");
    eventually("the second has shares", || second.records().len() as u64 > SOME).await;
    eventually("it is told why", || {
        matches!(&status().upstreams[0].state, UpstreamState::Failed { reason } if reason.contains("invalid-user-identity"))
    })
    .await;
    assert_eq!((first.records().len(), machine.seen().ended), (0, false));
    drop(machine);
    stop(translator, [first, second]).await;
}

/// SRI: `tproxy_sends_per_upstream_user_identity` and `tproxy_per_upstream_user_identity_switches_on_fallback`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn machines_stay_connected_while_pools_die_and_come_back() {
    let node = chain();
    for mode in [Mode::Aggregated, Mode::PerMachine] {
        let (first, second) = (Pool::start(&node), Pool::start(&node));
        let address = first.address();
        let barn = UpstreamTarget { user: "barn.loft".to_owned(), ..upstream(&second) };
        let translator = translator(config(mode, &[upstream(&first), barn]));
        let machine = Machine::start(&translator, "rig");
        eventually("the first has shares", || first.records().len() as u64 > SOME).await;
        let keys = first.stop().await;
        let before = second.records().len();
        eventually("the second has shares", || second.records().len() > before + 20).await;
        assert!(second.records().iter().all(|record| record.user.as_str().starts_with("barn.loft")));
        let first = Pool::start_again(&node, address, keys);
        eventually("the first has shares again", || first.records().len() as u64 > SOME).await;
        assert!(first.records().iter().all(|record| record.user.as_str().starts_with("farm.house")));
        let seen = machine.seen();
        assert!(!seen.ended && seen.extranonces.len() == 1, "nobody below has noticed: {seen:?}");
        drop(seen);
        drop(machine);
        stop(translator, [first, second]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_one_pool_the_translator_waits_until_it_is_back() {
    let node = chain();
    let pool = Pool::start(&node);
    let address = pool.address();
    let translator = translator(config(Mode::Aggregated, &[upstream(&pool)]));
    let status = status(&translator);
    let machine = Machine::start(&translator, "rig");
    eventually("the pool has shares", || pool.records().len() as u64 > SOME).await;
    let keys = pool.stop().await;
    eventually("shares are refused and not swallowed", || {
        machine.seen().refused.iter().any(|error| error.contains("No upstream"))
    })
    .await;
    eventually("that is told", || {
        status().upstreams.iter().any(|upstream| {
            matches!(upstream.state, UpstreamState::Failed { .. } | UpstreamState::Connecting)
        })
    })
    .await;
    let pool = Pool::start_again(&node, address, keys);
    eventually("it goes on", || pool.records().len() as u64 > SOME).await;
    assert!(!machine.seen().ended);
    drop(machine);
    stop(translator, [pool]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn translator_falls_back_when_payout_does_not_match_user_identity() {
    let node = chain();
    let (first, second) = (Pool::start(&node), Pool::start(&node));
    let expects = |of| Some(Expectation { script: script(of), least_percent: 90 });
    let miserly = UpstreamTarget { expects: expects("somebody else"), ..upstream(&first) };
    let fair = UpstreamTarget { expects: expects("pool"), ..upstream(&second) };
    let translator = translator(config(Mode::Aggregated, &[miserly, fair]));
    let status = status(&translator);
    let machine = Machine::start(&translator, "rig");
    eventually("the second has shares", || second.records().len() as u64 > SOME).await;
    eventually("the first is not used", || {
        let status = status();
        let states: Vec<_> = status.upstreams.iter().map(|upstream| &upstream.state).collect();
        matches!(states.as_slice(), [UpstreamState::Failed { reason }, UpstreamState::InUse] if reason.contains("nothing"))
    })
    .await;
    assert_eq!(first.records().len(), 0);
    drop(machine);
    stop(translator, [first, second]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn translator_keepalive_job_sent_and_share_received_by_pool() {
    let node = quiet_chain();
    let pool = Pool::start(&node);
    let keepalive = Duration::from_secs(1);
    let config = adit_translator::server::TranslatorConfig {
        keepalive,
        ..config(Mode::Aggregated, &[upstream(&pool)])
    };
    let translator = translator(config);
    // It does not mine before, so all shares of the pool are of that job or later ones. The pool itself never gives a job twice.
    let machine = Machine::start_as(&translator, "farm.rig", Patience::UntilRenewed);
    eventually("a job comes again", || machine.seen().is_renewed() || machine.accepted() > 0).await;
    let told: Vec<_> = machine.seen().notifies.clone();
    for pair in told.windows(2) {
        let [(before, old), (after, new)] = pair else { panic!("pairs") };
        assert_eq!((&new[1], &new[8]), (&old[1], &json!(false)), "the same block, and nothing is void");
        assert_ne!(new[0], old[0], "firmware passes over a job that it has");
        // A busy machine takes its time.
        assert!(after.saturating_since(*before) < keepalive + Duration::from_secs(20));
    }
    eventually("a share on it reaches the pool", || !pool.records().is_empty()).await;
    assert_eq!(machine.seen().refused, [""; 0]);
    drop(machine);
    stop(translator, [pool]).await;
}

/// What stands between a translator and a pool until it is cut.
async fn wire(to: core::net::SocketAddr) -> (core::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let task = tokio::spawn(async move {
        let mut lines = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            lines.spawn(async move {
                let mut beyond = TcpStream::connect(to).await.unwrap();
                let _ended = tokio::io::copy_bidirectional(&mut stream, &mut beyond).await;
            });
        }
    });
    (address, task)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn translator_fallback_during_abrupt_disconnection() {
    let node = quiet_chain();
    let (first, second) = (Pool::start(&node), Pool::start(&node));
    let (address, cable) = wire(first.address()).await;
    let near = UpstreamTarget { pool: url(address, Some(first.key())).into(), ..upstream(&first) };
    let translator = translator(config(Mode::Aggregated, &[near, upstream(&second)]));
    let machine = Machine::start(&translator, "farm.rig");
    eventually("the first has shares", || !first.records().is_empty()).await;
    // The second may have been used before the first was there.
    let (before, shares) = (machine.seen().notifies.len(), second.records().len());
    let cut = Clock.monotonic();
    cable.abort();
    eventually("there is a job of the second", || machine.seen().notifies.len() > before).await;
    let came = machine.seen().notifies[before].0;
    // It takes some milliseconds, and this is what farms are promised.
    assert!(came.saturating_since(cut) < Duration::from_secs(2), "{:?}", came.saturating_since(cut));
    eventually("the second has shares", || second.records().len() > shares).await;
    assert!(!machine.seen().ended);
    drop(machine);
    stop(translator, [first, second]).await;
}

/// What stands between a translator and a pool, and spoils a byte from the pool when it is told to; and how many connections it has carried.
async fn bad_wire(
    to: core::net::SocketAddr,
    spoils: Arc<AtomicBool>,
) -> (core::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let carried = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&carried);
    tokio::spawn(async move {
        while let Ok((near, _)) = listener.accept().await {
            // A pool listens when it has a template.
            let Ok(far) = TcpStream::connect(to).await else { continue };
            count.fetch_add(1, Ordering::Relaxed);
            tokio::spawn(relay(near, far, Arc::clone(&spoils)));
        }
    });
    (address, carried)
}

/// Passes bytes on both ways until one end has gone.
async fn relay(near: TcpStream, far: TcpStream, spoils: Arc<AtomicBool>) {
    let ((mut asked, mut answers), (mut answered, mut questions)) = (near.into_split(), far.into_split());
    let down = async {
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = answered.read(&mut bytes).await {
            bytes[0] ^= u8::from(spoils.swap(false, Ordering::Relaxed));
            if answers.write_all(&bytes[..count]).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        _ = tokio::io::copy(&mut asked, &mut questions) => {}
        () = down => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_byte_that_was_spoilt_on_the_way_costs_a_connection_and_seconds() {
    let node = chain();
    let pool = Pool::start(&node);
    let spoils = Arc::new(AtomicBool::new(false));
    let (address, carried) = bad_wire(pool.address(), Arc::clone(&spoils)).await;
    let target = UpstreamTarget { pool: url(address, Some(pool.key())).into(), ..upstream(&pool) };
    let translator = translator(config(Mode::Aggregated, &[target]));
    let machine = Machine::start(&translator, "rig");
    eventually("the pool has shares", || !pool.records().is_empty()).await;
    assert_eq!(carried.load(Ordering::Relaxed), 1);
    spoils.store(true, Ordering::Relaxed);
    eventually("a byte is spoilt", || !spoils.load(Ordering::Relaxed)).await;
    let spoilt = Clock.monotonic();
    eventually("there is another connection", || carried.load(Ordering::Relaxed) == 2).await;
    let pause = Clock.monotonic().saturating_since(spoilt);
    assert!(pause < Duration::from_secs(5), "{pause:?}");
    let before = pool.records().len();
    eventually("it goes on", || pool.records().len() > before).await;
    assert!(!machine.seen().ended);
    drop(machine);
    stop(translator, [pool]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_is_too_long_ends_that_machine_only() {
    let node = chain();
    let pool = Pool::start(&node);
    let translator = translator(config(Mode::Aggregated, &[upstream(&pool)]));
    let machine = Machine::start(&translator, "farm.rig");
    eventually("it mines", || machine.accepted() > 0).await;
    let mut other = TcpStream::connect(translator.address()).await.unwrap();
    other.write_all(b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n").await.unwrap();
    other.write_all(&[b'a'; 9_000]).await.unwrap();
    let mut heard = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(60), other.read_to_end(&mut heard)).await;
    assert!(ended.is_ok(), "it is cut off");
    let before = machine.accepted();
    eventually("the other one mines on", || machine.accepted() > before).await;
    assert!(!machine.seen().ended);
    drop(machine);
    stop(translator, [pool]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_leaves_takes_its_channel_along() {
    let node = chain();
    let pool = Pool::start(&node);
    let translator = translator(config(Mode::PerMachine, &[upstream(&pool)]));
    let machines = ["a.one", "a.two", "a.three"].map(|user| Machine::start(&translator, user));
    eventually("all have channels", || pool.channels() == 3).await;
    let [one, ..] = machines;
    drop(one);
    eventually("the others are left", || pool.channels() <= 2).await;
    stop(translator, [pool]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_became_of_shares_above_is_told_for_each_machine() {
    let node = chain();
    let pool = Pool::start(&node);
    let translator = translator(config(Mode::Aggregated, &[upstream(&pool)]));
    let status = status(&translator);
    let machine = Machine::start(&translator, "farm.rig");
    // What machines say of themselves and what their upstream says come at different times.
    eventually("shares are accepted above", || {
        status()
            .machines
            .iter()
            .any(|machine| machine.upstream.accepted > SOME && machine.shares.accepted > SOME)
    })
    .await;
    let status = status();
    let [told] = status.machines.as_slice() else { panic!("one machine: {status:?}") };
    assert_eq!((told.users.as_slice(), told.class), (&["farm.rig".to_owned()][..], "cpuminer"));
    assert_eq!(told.user_agent, "cpuminer/2.5.1");
    assert!(told.hashrate.to_hashes_per_second() > 0);
    let [upstream] = status.upstreams.as_slice() else { panic!("one upstream: {status:?}") };
    assert_eq!((upstream.state.clone(), upstream.channels.len()), (UpstreamState::InUse, 1));
    assert!(upstream.shares.accepted > SOME && upstream.shares.work > 0);
    drop(machine);
    stop(translator, [pool]).await;
}
