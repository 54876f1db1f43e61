//! The numbers of a real pool, asked for over HTTP while miners work at it.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use adit_dashboard::{PoolPages, Server, ServerConfig, WatchedNode};
use adit_net::{Clock, OsRng};
use adit_node::Node;
use adit_testkit::stage::{Plan, Pool, chain, free};
use adit_transport::AuthorityKeyPair;
use adit_units::{Target, Work};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use crate::miner::Miner;
use crate::stage::PATIENCE;

#[expect(dead_code, reason = "the tests of the pool need more of it")]
#[path = "../../pool/tests/server/miner.rs"]
mod miner;

/// What the miner needs to know.
mod stage {
    use std::time::Duration;

    /// Longer than anything should take on a busy machine.
    pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
}

/// A pool whose every hash is a share, and its numbers.
struct Stage {
    node: Node,
    pool: Pool,
    api: Server,
}

impl Stage {
    fn start() -> Self {
        let node = chain(Work::from_hashes(1 << 12));
        let mut plan = Plan::new(&node, AuthorityKeyPair::generate(&mut OsRng));
        let rules = &mut plan.parts.pool;
        (rules.vardiff.easiest, rules.vardiff.hardest) = (Target::MAX, Target::MAX);
        let pool = plan.start(free());
        let nodes = vec![WatchedNode::new("the chain".to_owned(), &node)];
        let pages = Arc::new(PoolPages::new(pool.handle(), nodes));
        let config = ServerConfig { listen: free(), ..ServerConfig::default() };
        Self { node, api: Server::start(&config, pages).unwrap(), pool }
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let (address, path) = (self.api.address(), path.to_owned());
        spawn_blocking(move || get(address, &path)).await.unwrap()
    }

    async fn json(&self, path: &str) -> Value {
        let (status, body) = self.get(path).await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }

    /// Waits until what a page says is so.
    async fn until(&self, path: &str, is_so: impl Fn(&Value) -> bool) -> Value {
        let start = Clock.monotonic();
        loop {
            let page = self.json(path).await;
            if is_so(&page) {
                return page;
            }
            assert!(Clock.monotonic() - start < PATIENCE, "{path} goes on saying {page}");
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The value of a metric without labels, once there is one.
    async fn metric(&self, name: &str) -> Option<f64> {
        let (status, text) = self.get("/metrics").await;
        assert_eq!(status, 200);
        let line = text.lines().find(|line| line.split([' ', '{']).next() == Some(name))?;
        Some(line.rsplit_once(' ').unwrap().1.parse().unwrap())
    }

    async fn until_metric(&self, name: &str, is_so: impl Fn(f64) -> bool) {
        let start = Clock.monotonic();
        loop {
            let value = self.metric(name).await;
            if value.is_some_and(&is_so) {
                return;
            }
            assert!(Clock.monotonic() - start < PATIENCE, "{name} stays {value:?}");
            sleep(Duration::from_millis(100)).await;
        }
    }
}

fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_and_its_shares_are_seen() {
    let stage = Stage::start();
    let mut miner = Miner::connect(stage.pool.address(), stage.pool.key()).await;
    miner.set_up().await;
    miner.agree_on_workers().await;
    miner.open("alice.farm").await;
    miner.worker = Some("rig-17");
    miner.earn().await;
    miner.earn().await;
    let last = miner.share();
    miner.share_on_job(9_999, 1);
    miner.flush().await;
    miner.hear_until(|miner| miner.last_acknowledged == last && !miner.refused.is_empty()).await.unwrap();
    let workers = stage.until("/api/adit/v1/pool/workers", |page| page["items"][0]["rejected"] == 1).await;
    let worker = &workers["items"][0];
    assert_eq!(
        (&workers["total"], &worker["name"], &worker["named_by"]),
        (&json!(1), &json!("rig-17"), &json!("share"))
    );
    assert_eq!((&worker["accepted"], &worker["user"]), (&json!(3), &json!("alice.farm")));
    assert!(worker["last_share_secs"].as_u64().unwrap() < 60, "{worker}");

    let connections = stage.json("/api/adit/v1/pool/connections").await;
    let connection = &connections["items"][0];
    assert_eq!((&connection["device"], &connection["workers"]), (&json!("test"), &json!(1)));
    let id = connection["id"].as_u64().unwrap();
    let channels = stage.json(&format!("/api/adit/v1/pool/connections/{id}/channels")).await;
    let channel = &channels["items"][0];
    assert_eq!(channel["payout"]["block"], "pool");
    assert_eq!(
        (&channel["worker"], &channel["shares"]["rejected"]["invalid-job-id"]),
        (&json!("farm"), &json!(1))
    );
    let theirs = stage.json(&format!("/api/v1/clients/{id}/channels")).await;
    assert_eq!(theirs["extended_channels"][0]["shares_accepted"], 3);
    assert_eq!(stage.json("/api/v1/global").await["sv2_clients"]["total_channels"], 1);
    assert_eq!(stage.json("/api/adit/v1/pool").await["nodes"][0]["state"], "up");
    assert_eq!(stage.get("/api/v1/server").await.0, 404);

    drop(miner);
    stage.until("/api/v1/clients", |page| page["total"] == 0).await;
    stage.until_metric("adit_pool_shares_accepted_total", |value| value >= 3.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_metrics_of_tips_move_after_a_tip() {
    let stage = Stage::start();
    let mut miner = Miner::connect(stage.pool.address(), stage.pool.key()).await;
    miner.set_up().await;
    miner.open("alice.rig").await;
    stage.until_metric("adit_pool_height", |height| height > 0.0).await;
    let before = stage.metric("adit_pool_height").await.unwrap();
    let tips = miner.tips;
    miner.block();
    miner.flush().await;
    miner.hear_until(|miner| miner.tips > tips).await.unwrap();
    stage.until_metric("adit_pool_height", |height| height > before).await;
    stage.until_metric("adit_pool_tip_to_first_miner_seconds", |time| time < 60.0).await;
    let first = stage.metric("adit_pool_tip_to_first_miner_seconds").await.unwrap();
    stage.until_metric("adit_pool_tip_to_last_miner_seconds", |time| time >= first && time < 60.0).await;
    stage.until_metric("adit_pool_blocks_found_total", |found| found >= 1.0).await;
    stage.until_metric("adit_pool_node_height", |height| height > before).await;
    let (_, text) = stage.get("/metrics").await;
    assert!(text.contains("adit_pool_blocks_total{fate=\"accepted\"} 1\n"), "{text}");
    assert!(text.contains("adit_pool_node_info{node=\"0\",name=\"the chain\"} 1\n"), "{text}");
    assert!(text.contains("\nadit_pool_blocks_faulty_total 0\n"), "{text}");
    assert!(!text.contains("alice"), "no name of a miner in a label: {text}");
    drop(stage.node);
}
