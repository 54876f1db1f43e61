//! A server that is given other rules, limits and certificates while miners are at work, or a socket that listens already.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;

use adit_net::{Bound, Clock, Limits, OsRng, Refused};
use adit_node::{Auth, Node, RpcConfig};
use adit_pool::PoolConfig;
use adit_pool::server::{RESTART_PATIENCE, Reload, ReloadError};
use adit_transport::{ACT2_LEN, AuthorityKeyPair, Identity, Initiator};
use adit_units::UnixTime;
use bitcoin::{Amount, ScriptBuf, TxOut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::stage::{PATIENCE, Plan, Stage, certified};

/// What the stage runs with, and a certificate that ends then.
fn reload(stage: &Stage, until: u32) -> Reload {
    let identity = certified(&stage.authority_keys, UnixTime::from_secs(until));
    Reload { pool: Plan::quiet().pool, limits: Limits::default(), identity }
}

/// Shakes hands at a moment of the wall clock, and says whether the certificate holds then.
async fn trusts(stage: &Stage, at: u32) -> bool {
    let mut stream = TcpStream::connect(stage.server.address()).await.unwrap();
    let initiator = Initiator::new(Some(stage.authority), &mut OsRng);
    stream.write_all(&initiator.act1()).await.unwrap();
    let mut act2 = [0; ACT2_LEN];
    timeout(PATIENCE, stream.read_exact(&mut act2)).await.expect("no answer").unwrap();
    initiator.finish(&act2, UnixTime::from_secs(at)).is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_certificate_is_shown_to_whoever_comes_next() {
    let stage = Plan::quiet().start();
    let mut old = stage.miner().await;
    assert!(trusts(&stage, u32::MAX - 1).await);
    stage.server.reload(reload(&stage, 2_000_000_000)).unwrap();
    assert!(!trusts(&stage, u32::MAX - 1).await, "the first one holds longer");
    assert!(trusts(&stage, 1_999_999_999).await);
    old.earn().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_limits_hold_at_once_and_send_nobody_away() {
    let stage = Plan::quiet().start();
    let (mut first, mut second) = (stage.miner().await, stage.miner().await);
    let limits = Limits { connections: 1, ..Limits::default() };
    stage.server.reload(Reload { limits, ..reload(&stage, u32::MAX) }).unwrap();
    let mut third = TcpStream::connect(stage.server.address()).await.unwrap();
    let told = timeout(PATIENCE, third.read(&mut [0])).await.expect("it was let in");
    assert!(matches!(told, Ok(0) | Err(_)), "{told:?}");
    let refused = stage.server.metrics().refused_connections;
    assert_eq!(refused.map(|(_, count)| count), [1, 0, 0]);
    assert_eq!(refused[0].0, Refused::Full);
    first.earn().await;
    second.earn().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_successor_is_where_miners_are_sent() {
    let stage = Plan::quiet().start();
    let mut miner = stage.miner().await;
    let mut new = reload(&stage, u32::MAX);
    new.pool.successor = Some(adit_pool::Successor { host: "pool3.example".to_owned(), port: 9 });
    stage.server.reload(new).unwrap();
    let shutdown = tokio::spawn(stage.server.shutdown());
    assert!(miner.hear_until(|_| false).await.is_err(), "the pool closes");
    assert_eq!(miner.sent_to, Some(("pool3.example".to_owned(), 9)));
    timeout(PATIENCE, shutdown).await.unwrap().unwrap();
}

/// The board waited for the rules to change, and then looked whether they had changed since.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_payout_was_not_mined_until_something_else_happened() {
    let stage = Plan::quiet().start();
    let mut miner = stage.miner().await;
    let mut works = stage.server.handle().works();
    let mut new = reload(&stage, u32::MAX);
    new.pool.payout_script = ScriptBuf::from_bytes(vec![0x52]);
    stage.server.reload(new).unwrap();
    let pays_it = |suffix: &[u8]| suffix.windows(2).any(|bytes| bytes == [1, 0x52]);
    let posted =
        works.wait_for(|posted| posted.as_ref().is_some_and(|it| pays_it(it.work.job().coinbase_suffix())));
    timeout(PATIENCE, posted).await.expect("the payout of before is mined for ever").unwrap();
    miner.earn().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_rules_hold_for_the_channels_to_come() {
    let stage = Plan::quiet().start();
    let mut before = stage.miner().await;
    let mut new = reload(&stage, u32::MAX);
    new.pool.channels_per_connection = 1;
    stage.server.reload(new).unwrap();
    let mut after = stage.miner().await;
    for miner in [&mut after, &mut before] {
        let only = miner.channel;
        miner.ask_for_a_channel("more");
        miner.flush().await;
        miner.hear_until(|miner| !miner.refused.is_empty()).await.unwrap();
        assert_eq!(miner.channel, only, "one channel is all there may be");
        miner.earn().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mistake_changes_nothing() {
    let stage = Plan::quiet().start();
    let good = reload(&stage, 2_000_000_000);
    let pool = PoolConfig { instance: 9, ..good.pool.clone() };
    assert_eq!(
        stage.server.reload(Reload { pool, ..good.clone() }),
        Err(ReloadError::Restart("the instance"))
    );
    let pool = PoolConfig { halving_interval: 9, ..good.pool.clone() };
    assert_eq!(
        stage.server.reload(Reload { pool, ..good.clone() }),
        Err(ReloadError::Restart("the network"))
    );
    let pool = PoolConfig { channels_per_connection: 0, ..good.pool.clone() };
    assert!(matches!(stage.server.reload(Reload { pool, ..good.clone() }), Err(ReloadError::Pool(_))));
    let other = AuthorityKeyPair::generate(&mut OsRng);
    let identity: Arc<Identity> = certified(&other, UnixTime::from_secs(u32::MAX));
    let refused = stage.server.reload(Reload { identity, ..good }).unwrap_err();
    let (pinned, new) = (Box::new(stage.authority), Box::new(other.public_key()));
    assert_eq!(refused, ReloadError::Authority { pinned, new });
    stage.miner().await.earn().await;
    assert!(trusts(&stage, u32::MAX - 1).await);
}

/// A socket as a supervisor keeps it: it listens before there is a server, and after.
fn supervised() -> (std::net::TcpListener, SocketAddr) {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_connects_between_two_servers_is_served_by_the_second() {
    let (supervisor, address) = supervised();
    let handed_over = || Bound::handed_over(supervisor.try_clone().unwrap()).unwrap();
    let first = Plan::quiet().start_on(handed_over());
    assert_eq!(first.server.address(), address);
    first.miner().await.earn().await;
    timeout(PATIENCE, first.server.shutdown()).await.unwrap();
    let mut between = TcpStream::connect(address).await.unwrap();

    let second = Plan::quiet().start_on(handed_over());
    let initiator = Initiator::new(Some(second.authority), &mut OsRng);
    between.write_all(&initiator.act1()).await.unwrap();
    let mut act2 = [0; ACT2_LEN];
    timeout(PATIENCE, between.read_exact(&mut act2)).await.expect("no answer").unwrap();
    initiator.finish(&act2, Clock.unix()).unwrap();
}

#[tokio::test]
async fn nobody_waits_long_for_a_server_that_has_no_work() {
    let mut plan = Plan::quiet();
    // Nobody answers there, so no template ever comes.
    let auth = Auth::UserPass { user: "user".to_owned(), password: "password".to_owned().into() };
    plan.node = Node::rpc(&RpcConfig::new("http://127.0.0.1:9", auth).unwrap());
    let (supervisor, address) = supervised();
    let mut early = TcpStream::connect(address).await.unwrap();
    let stage = plan.start_on(Bound::handed_over(supervisor).unwrap());
    tokio::time::pause();
    let start = Clock.monotonic();
    let told = timeout(2 * RESTART_PATIENCE, early.read(&mut [0])).await.expect("it waits for ever");
    assert!(matches!(told, Ok(0) | Err(_)), "{told:?}");
    let waited = Clock.monotonic() - start;
    assert!(waited + Duration::from_secs(1) > RESTART_PATIENCE, "turned away after {waited:?}");
    let mut late = TcpStream::connect(address).await.unwrap();
    let told = timeout(Duration::from_secs(5), late.read(&mut [0])).await.expect("it waits, too");
    assert!(matches!(told, Ok(0) | Err(_)), "{told:?}");
    tokio::time::resume();
    timeout(PATIENCE, stage.server.shutdown()).await.unwrap();
}

/// The board tried again and again without letting anybody else have its thread.
#[tokio::test]
async fn rules_that_no_job_can_be_made_by_stopped_everything_else() {
    let stage = Plan::quiet().start();
    let mut miner = stage.miner().await;
    let mut new = reload(&stage, u32::MAX);
    // Too long for any message.
    let script_pubkey = ScriptBuf::from_bytes(vec![0x6a; 0xffff]);
    new.pool.further_outputs = vec![TxOut { value: Amount::ZERO, script_pubkey }];
    stage.server.reload(new).unwrap();
    for _ in 0..5 {
        miner.earn().await;
    }
    stage.server.reload(reload(&stage, u32::MAX)).unwrap();
    stage.miner().await.earn().await;
}
