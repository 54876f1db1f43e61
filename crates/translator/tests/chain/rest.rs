//! A translator that has one thread rests between looks at busy machines, and watches its pools meanwhile.

use core::time::Duration;
use std::sync::Arc;
use std::thread;

use adit_net::{Clock, Rest};
use adit_translator::server::{Mode, Translator, TranslatorConfig};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::runtime::RuntimeMetrics;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::stage::{Pool, config, eventually, quiet_chain, status, stop, translator, upstream};

/// Longer than it takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a machine asks, one each half millisecond.
const ASKED: u32 = 2_000;

/// Starts a translator in a thread of its own, until it is given back there.
fn alone(
    config: TranslatorConfig,
    rest: Arc<Rest>,
) -> oneshot::Receiver<(Translator, RuntimeMetrics, oneshot::Sender<()>)> {
    let (tell, told) = oneshot::channel();
    thread::spawn(move || {
        let runtime = rest.runtime().unwrap();
        runtime.block_on(async {
            let (leave, left) = oneshot::channel();
            let translator = translator(TranslatorConfig { rest: Some(rest), ..config });
            assert!(tell.send((translator, runtime.metrics(), leave)).is_ok(), "somebody waits for it");
            left.await
        })
    });
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_translator_in_one_thread_looks_seldom() {
    let node = quiet_chain();
    let pool = Pool::start(&node);
    let rest = Arc::new(Rest::default());
    let alone = alone(config(Mode::Aggregated, &[upstream(&pool)]), Arc::clone(&rest));
    let (translator, metrics, leave) = alone.await.unwrap();
    eventually("what the pool says is urgent", || rest.urgent_sockets() == 1).await;

    let (heard, mut said) = TcpStream::connect(translator.address()).await.unwrap().into_split();
    let before = metrics.worker_park_count(0);
    tokio::spawn(async move {
        let begin = Clock.monotonic();
        for number in 0..ASKED {
            tokio::time::sleep_until(Clock.instant(begin + Duration::from_micros(500) * number)).await;
            said.write_all(b"{\"id\":1,\"method\":\"mining.ping\",\"params\":[]}\n").await.unwrap();
        }
        said
    });
    let mut lines = BufReader::new(heard).lines();
    let answers = async {
        for _ in 0..ASKED {
            assert!(lines.next_line().await.unwrap().unwrap().contains("pong"));
        }
    };
    timeout(PATIENCE, answers).await.expect("each is answered");
    let looks = metrics.worker_park_count(0) - before;
    assert!(looks * 3 < u64::from(ASKED), "{looks} looks");

    drop(lines);
    pool.stop().await;
    eventually("there is nobody to hear", || rest.urgent_sockets() == 0).await;
    eventually("it is alone", || status(&translator)().machines.is_empty()).await;
    stop(translator, []).await;
    leave.send(()).unwrap();
}
