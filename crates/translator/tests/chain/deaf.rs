//! Machines that talk and never read, beside one that mines.

use core::net::SocketAddr;
use core::time::Duration;

use adit_net::{Limits, raise_descriptor_limit};
use adit_translator::server::{Mode, TranslatorConfig};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpSocket;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::SOME;
use crate::stage::{
    Machine, Pool, chain, config, eventually, quiet_chain, status, stop, translator, upstream,
};

/// How many there are at once.
const DEAF: usize = 1_000;

/// What the system keeps for one of them; systems make it somewhat more.
const UNREAD: u32 = 4_096;

/// Bytes of the id of each request, which come back with its answer; no more are taken.
const ID: usize = 62;

/// Requests whose answers are more than the system keeps, and less than what cuts a machine off.
const FIRST: usize = 600;

/// How long they may take for what cuts them off.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of requests that the two ends of a connection may have taken when a machine is cut off, whatever the system keeps of them.
const ASKED_MAX: usize = 32 * 1024 * 1024;

/// Becomes a machine and asks for more than it reads; and then, when it is `told` to, without end. Returns how many bytes it asked in when it
/// was cut off.
async fn ask_without_reading(address: SocketAddr, mut told: watch::Receiver<bool>) -> usize {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(UNREAD).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    let subscribe = "{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[\"cpuminer/2.5.1\"]}\n";
    let authorize = "{\"id\":2,\"method\":\"mining.authorize\",\"params\":[\"a.deaf\",\"x\"]}\n";
    let id = "7".repeat(ID);
    let request = format!("{{\"id\":\"{id}\",\"method\":\"mining.extranonce.subscribe\",\"params\":[]}}\n");
    let first = [subscribe, authorize, &request.repeat(FIRST)].concat();
    stream.write_all(first.as_bytes()).await.unwrap();
    let mut asked = first.len();
    let _ = told.wait_for(|told| *told).await;
    while stream.write_all(request.as_bytes()).await.is_ok() {
        asked += request.len();
    }
    asked
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_that_never_reads_is_cut_off_for_what_waits_and_not_for_its_age_alone() {
    let pool = Pool::start(&quiet_chain());
    let translator = translator(config(Mode::Aggregated, &[upstream(&pool)]));
    let (_tell, told) = watch::channel(true);
    let asked =
        timeout(PATIENCE, ask_without_reading(translator.address(), told)).await.expect("it is cut off");
    assert!(asked < ASKED_MAX, "{asked} bytes of requests were read");
    stop(translator, [pool]).await;
}

/// The threat T5 of slow readers, at the size that it is known in. Whoever reads has jobs and answers meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_machines_that_never_read_are_cut_off_and_nobody_else() {
    let files = raise_descriptor_limit();
    assert!(files > 3 * DEAF, "{files} files are too few for this test; raise the limit (ulimit -n)");
    let node = chain();
    let pool = Pool::start(&node);
    let limits = Limits { newcomers: 2 * DEAF, newcomers_per_address: 2 * DEAF, ..Limits::default() };
    let translator = translator(TranslatorConfig { limits, ..config(Mode::Aggregated, &[upstream(&pool)]) });
    let (address, status) = (translator.address(), status(&translator));
    let machine = Machine::start(&translator, "a.hears");
    let mines_on = async |when: &str| {
        let (shares, jobs) = (machine.accepted(), machine.seen().jobs.len());
        eventually(when, || machine.accepted() > shares + SOME && machine.seen().jobs.len() > jobs).await;
    };
    mines_on("it mines alone").await;

    let (tell, told) = watch::channel(false);
    let mut deaf = JoinSet::new();
    for _ in 0..DEAF {
        deaf.spawn(ask_without_reading(address, told.clone()));
    }
    eventually("all are there", || status().machines.len() == 1 + DEAF).await;
    mines_on("it mines beside them").await;
    tell.send_replace(true);
    timeout(PATIENCE, deaf.join_all()).await.expect("all are cut off");
    mines_on("it mines without them").await;
    eventually("it is alone again", || status().machines.len() == 1).await;
    {
        let seen = machine.seen();
        assert!(
            !seen.ended && seen.refused.iter().all(|error| error.starts_with("[21,")),
            "{:?}",
            seen.refused
        );
    }
    drop(machine);
    stop(translator, [pool]).await;
}
