//! SV1 pools that follow a script, as old pools are and as none should be.

use core::net::SocketAddr;
use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use adit_translator::server::{Mode, Translator, UpstreamTarget};
use adit_translator::{MachineConfig, UpstreamShares, UpstreamState};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::stage::{Machine, config, eventually, status, translator};

/// What becomes of shares.
#[derive(Clone, Copy, Debug)]
enum Manner {
    Takes,
    Refuses,
    /// They are not answered.
    Hangs,
}

/// A pool that grants the version bits of BIP 320 and no others, as all of its kind do.
struct OldPool {
    address: SocketAddr,
    /// The parameters of all shares.
    shares: Arc<Mutex<Vec<Value>>>,
    task: JoinHandle<()>,
}

impl Drop for OldPool {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl OldPool {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shares = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&shares);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, manner, Arc::clone(&heard)));
            }
        });
        Self { address, shares, task }
    }

    fn target(&self) -> UpstreamTarget {
        let pool = format!("stratum+tcp://{}", self.address).parse().unwrap();
        UpstreamTarget { pool, user: "farm.house".to_owned(), password: None, expects: None }
    }

    fn shares(&self) -> Vec<Value> {
        self.shares.lock().unwrap().clone()
    }
}

async fn serve(stream: TcpStream, manner: Manner, shares: Arc<Mutex<Vec<Value>>>) {
    let mut lines = BufReader::new(stream).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let request: Value = serde_json::from_str(&line).unwrap();
        let result = match request["method"].as_str().unwrap() {
            "mining.configure" => json!({"version-rolling": true, "version-rolling.mask": "1fffe000"}),
            "mining.subscribe" => json!([[["mining.notify", "a"]], "c0ffee01", 8]),
            "mining.submit" => {
                shares.lock().unwrap().push(request["params"].clone());
                match manner {
                    Manner::Takes => json!(true),
                    Manner::Refuses => json!(null),
                    Manner::Hangs => continue,
                }
            }
            _ => json!(true),
        };
        let error = if result.is_null() { json!([23, "Low difficulty", null]) } else { json!(null) };
        let mut said = format!("{}\n", json!({"id": request["id"], "result": result, "error": error}));
        if request["method"] == "mining.authorize" {
            said.push_str(&work());
        }
        if lines.get_mut().write_all(said.as_bytes()).await.is_err() {
            return;
        }
    }
}

/// A difficulty that a processor meets at once, and a job.
fn work() -> String {
    let prefix = format!("{}1e03a0bb0d", "00".repeat(41));
    let job = json!([
        "1f",
        format!("01{}", "09".repeat(31)),
        prefix,
        "ff".repeat(60),
        [],
        "20000000",
        "1702f128",
        "65500000",
        true
    ]);
    let difficulty = json!({"id": null, "method": "mining.set_difficulty", "params": [0.00001]});
    let notify = json!({"id": null, "method": "mining.notify", "params": job});
    format!("{difficulty}\n{notify}\n")
}

/// A translator as configured by default, but for the bytes of extranonce that it leaves to machines.
fn new(upstreams: &[UpstreamTarget]) -> Translator {
    let mut config = config(Mode::Aggregated, upstreams);
    config.machine = MachineConfig { extranonce2_len: 4, ..config.machine };
    translator(config)
}

/// What machines rolled was refused from the first share on: the pool grants fewer bits than were asked for, and was taken for one that
/// grants none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_version_was_rolled_on_the_last_resort() {
    let pool = OldPool::start(Manner::Takes).await;
    let translator = new(&[pool.target()]);
    let machine = Machine::start(&translator, "farm.rig");
    eventually("the pool has shares", || pool.shares().len() > 5).await;
    let rolled = |share: &Value| share[5].as_str().is_some_and(|bits| bits != "00000000");
    assert!(pool.shares().iter().any(rolled), "{:?}", pool.shares());
    assert_eq!(machine.seen().refused, [""; 0]);
    drop(machine);
    translator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_pool_refuses_is_counted_for_the_machine() {
    let pool = OldPool::start(Manner::Refuses).await;
    let translator = new(&[pool.target()]);
    let status = status(&translator);
    let machine = Machine::start(&translator, "farm.rig");
    let told = || status().machines.first().map(|machine| machine.upstream.clone()).unwrap_or_default();
    eventually("it is told", || told().refused > 5).await;
    let UpstreamShares { accepted, refused, refusals, .. } = told();
    assert_eq!((accepted, refusals.as_slice()), (0, &[("23 Low difficulty".to_owned(), refused)][..]));
    assert!(machine.accepted() > 0, "the machine has done nothing wrong");
    drop(machine);
    translator.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_machines_share_what_the_pool_leaves() {
    let pool = OldPool::start(Manner::Takes).await;
    let translator = new(&[pool.target()]);
    let machines = ["farm.rig1", "farm.rig2"].map(|user| Machine::start(&translator, user));
    // The first four of the eight bytes are what the translator tells machines apart by.
    let numbers = || {
        let shares = pool.shares();
        shares
            .iter()
            .filter_map(|share| Some(share[2].as_str()?.get(..8)?.to_owned()))
            .collect::<BTreeSet<_>>()
    };
    eventually("the pool has shares of both", || numbers().len() == 2).await;
    assert!(pool.shares().iter().all(|share| share[0] == "farm.house"), "under the one name that is given");
    drop(machines);
    translator.shutdown().await;
}

/// It was said to take miners, and was of no use when all others had failed.
#[tokio::test]
async fn a_last_resort_that_leaves_machines_too_little_passed_the_check() {
    let pool = OldPool::start(Manner::Takes).await;
    let checked = |extranonce2_len| {
        let mut config = config(Mode::Aggregated, &[pool.target()]);
        config.machine.extranonce2_len = extranonce2_len;
        async move { config.probe(0).await.map_err(|error| error.to_string()) }
    };
    assert_eq!(checked(4).await, Ok(()));
    let error = checked(5).await.unwrap_err();
    assert!(error.ends_with("; lower translator.extranonce2_size to 4 or less"), "{error}");
}

/// It was kept for as long as it said anything at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_old_pool_that_hung_took_ten_minutes_of_shares() {
    let (first, second) = (OldPool::start(Manner::Hangs).await, OldPool::start(Manner::Takes).await);
    let translator = new(&[first.target(), second.target()]);
    let status = status(&translator);
    let machine = Machine::start(&translator, "farm.rig");
    eventually("the first has shares", || !first.shares().is_empty()).await;
    let before = second.shares().len();
    eventually("the second has shares", || second.shares().len() > before).await;
    eventually("it is told what the first owes", || {
        let status = status();
        matches!(&status.upstreams[0].state, UpstreamState::Failed { reason } if reason.contains("an answer to any share"))
            || status.upstreams[0].shares.lost > 0
    })
    .await;
    assert!(!machine.seen().ended);
    drop(machine);
    translator.shutdown().await;
}
