//! Floods of every kind, the limits that end them, and an honest miner beside them whose acknowledgements come as in quiet times.

use core::time::Duration;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use adit_messages::types::Str0255;
use adit_messages::{Message, Protocol, decode, mining};
use adit_net::{Clock, HANDSHAKE_PATIENCE, Limits, OsRng, OutboxLimits};
use adit_transport::{ACT2_LEN, AuthorityPublicKey, FrameQueue, Initiator, Transport};
use rand_core::Rng as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::miner::{Closed, Miner};
use crate::stage::{PATIENCE, Plan, Stage};

/// Quiet and hostile phases, in turns, so that what else happens on the machine happens to both.
const ROUNDS: usize = 5;

/// Acknowledgements that are measured in each phase.
const ACKS: usize = 110;

/// What an acknowledgement may take longer beside a flood than twice the quiet time. Attackers run in the same process as the server, on
/// as few processors as the machine has, and beside compilers: a task that waits for its turn waits for some slices of the scheduler's
/// time. Being starved takes seconds.
const ALLOWANCE: Duration = Duration::from_millis(100);

/// More than any message to a miner has.
const PAYLOAD_MAX: usize = 1 << 20;

/// The slowest acknowledgement but one in a hundred.
async fn p99(honest: &mut Miner) -> Duration {
    let mut times = Vec::with_capacity(ACKS);
    for _ in 0..ACKS {
        times.push(honest.earn().await);
        sleep(Duration::from_millis(2)).await;
    }
    times.sort();
    times[ACKS * 99 / 100]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Measures an honest miner beside an attack, which ends when its tasks are dropped, and without.
async fn keeps_earning(honest: &mut Miner, what: &str, attack: impl Fn() -> JoinSet<()>) {
    let (mut quiet, mut hostile) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(p99(honest).await);
        let attackers = attack();
        hostile.push(p99(honest).await);
        drop(attackers);
    }
    let (quiet, hostile) = (median(quiet), median(hostile));
    eprintln!("measured: {what}: p99 of an acknowledgement {hostile:?}, in quiet times {quiet:?}");
    assert!(hostile <= 2 * quiet + ALLOWANCE, "{what}: {hostile:?} instead of {quiet:?}");
    assert!(honest.refused.is_empty(), "{:?}", honest.refused);
}

/// Counts how often a limit was felt.
#[derive(Clone, Default)]
struct Felt(Arc<AtomicU64>);

impl Felt {
    fn note(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    fn times(&self) -> u64 {
        self.0.load(Relaxed)
    }

    /// Waits until it was felt so often: some limits take longer than the honest miner is measured.
    async fn at_least(&self, times: u64) {
        let felt = async {
            while self.times() < times {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(PATIENCE, felt).await.unwrap_or_else(|_| panic!("felt {} times, not {times}", self.times()));
    }
}

/// So many tasks of a kind.
fn tasks<F: Future<Output = ()> + Send + 'static>(count: usize, task: impl Fn() -> F) -> JoinSet<()> {
    (0..count).map(|_| task()).collect()
}

/// Connects from an address of its own where the system has one: all of 127.0.0.0/8 is this machine, and each counts for itself.
async fn stranger(server: SocketAddr) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    if cfg!(target_os = "linux") {
        socket.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    }
    socket.connect(server).await.ok()
}

/// Reads until the server closes; how many bytes came.
async fn until_closed(stream: &mut TcpStream) -> usize {
    let (mut bytes, mut came) = ([0; 1_024], 0);
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        came += count;
    }
    came
}

/// Shakes hands and sends what is no frame, again and again. Every 64 bytes are a key, so these are answered.
async fn garbage_handshakes(server: SocketAddr, refused: Felt, answered: Felt) {
    loop {
        let mut garbage = [0; 64 + 200];
        OsRng.fill_bytes(&mut garbage);
        if let Some(mut stream) = stranger(server).await
            && stream.write_all(&garbage).await.is_ok()
        {
            let came = until_closed(&mut stream).await;
            if came >= ACT2_LEN { answered.note() } else { refused.note() }
        }
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_handshakes_meets_the_limit_for_newcomers_and_delays_nobody() {
    let mut plan = Plan::quiet();
    plan.server.limits = Limits { newcomers_per_address: 16, ..Limits::default() };
    let stage = plan.start();
    let mut honest = stage.miner().await;
    let address = stage.server.address();
    let (refused, answered) = (Felt::default(), Felt::default());
    let flood = || tasks(48, || garbage_handshakes(address, refused.clone(), answered.clone()));
    keeps_earning(&mut honest, "handshake flood", flood).await;
    answered.at_least(100).await;
    assert!(!cfg!(target_os = "linux") || refused.times() >= 100, "{} were turned away", refused.times());
    let flooding = flood();
    stage.miner().await.earn().await;
    drop(flooding);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_handshakes_end_at_the_handshakes_deadline_and_delay_nobody() {
    let stage = Plan::quiet().start();
    let mut honest = stage.miner().await;
    let address = stage.server.address();
    let late = Felt::default();
    let dribble = move |felt: Felt| async move {
        let start = Clock.monotonic();
        let Some(mut stream) = stranger(address).await else { return };
        // 64 of these would be the first act; each of them comes in time, but not all.
        while Clock.monotonic() - start < 2 * PATIENCE {
            if stream.write_all(&[1]).await.is_err() {
                break;
            }
            sleep(Duration::from_millis(250)).await;
        }
        let lasted = Clock.monotonic() - start;
        assert!(lasted >= HANDSHAKE_PATIENCE && lasted < PATIENCE, "{lasted:?}");
        felt.note();
    };
    let first = tasks(100, || dribble(late.clone()));
    keeps_earning(&mut honest, "slow handshakes", || tasks(100, || dribble(Felt::default()))).await;
    late.at_least(100).await;
    drop(first);
}

/// A handshake by hand.
async fn shake_hands(stream: &mut TcpStream, authority: AuthorityPublicKey) -> Option<Transport> {
    let initiator = Initiator::new(Some(authority), &mut OsRng);
    stream.write_all(&initiator.act1()).await.ok()?;
    let mut act2 = [0; ACT2_LEN];
    stream.read_exact(&mut act2).await.ok()?;
    Some(initiator.finish(&act2, Clock.unix()).unwrap())
}

/// Announces a frame of that length again and again. To claim costs the attacker more than to refuse: his keys seal nothing but whole
/// frames.
async fn claims((server, authority): (SocketAddr, AuthorityPublicKey), length: usize, refused: Felt) {
    loop {
        let Some(mut stream) = stranger(server).await else { continue };
        let Some(mut transport) = shake_hands(&mut stream, authority).await else { continue };
        let (mut frames, mut sealed) = (FrameQueue::default(), Vec::new());
        frames.push(0, false, 0, &vec![0; length]).unwrap();
        transport.sealer.seal_all(&mut frames, &mut sealed).unwrap();
        stream.write_all(&sealed[..600]).await.unwrap();
        until_closed(&mut stream).await;
        refused.note();
        sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_of_sixteen_mebibytes_are_refused_from_their_header_and_delay_nobody() {
    let stage = Plan::quiet().start();
    let mut honest = stage.miner().await;
    let (address, authority) = (stage.server.address(), stage.authority);
    let refused = Felt::default();
    let claim = |length: usize| claims((address, authority), length, refused.clone());
    keeps_earning(&mut honest, "claims of 16 MiB", || {
        let mut claims = tasks(8, || claim(2_000));
        claims.spawn(claim(adit_transport::PAYLOAD_MAX));
        claims
    })
    .await;
    let last = tasks(1, || claim(adit_transport::PAYLOAD_MAX));
    refused.at_least(refused.times() + 2).await;
    drop(last);
}

/// An attacker who has set up a connection and opened a channel.
async fn insider(address: SocketAddr, authority: AuthorityPublicKey) -> Miner {
    let mut miner = Miner::connect(address, authority).await;
    miner.set_up().await;
    miner.open("mallory").await;
    miner
}

/// Reads what the pool has to say without believing any of it; whether it has ended the channel or the connection.
async fn is_cut_off(miner: &mut Miner, answers: &Felt) -> bool {
    loop {
        match timeout(Duration::ZERO, miner.connection.read()).await {
            Ok(Ok(_)) => {}
            Ok(Err(_)) => return true,
            Err(_) => return false,
        }
        while let Ok(Some(frame)) = miner.connection.next_frame(|_| PAYLOAD_MAX) {
            match decode(Protocol::Mining, frame).unwrap() {
                Message::CloseChannel(_) => return true,
                Message::OpenMiningChannelError(error)
                    if error.error_code.as_bytes() == b"channel-capacity-exhausted" =>
                {
                    answers.note();
                }
                _ => {}
            }
        }
    }
}

/// Sends batches until the pool has had enough, and begins again; `felt` counts how often it had.
async fn insist(stage: (SocketAddr, AuthorityPublicKey), batch: fn(&mut Miner), felt: Felt, answers: Felt) {
    loop {
        let mut miner = insider(stage.0, stage.1).await;
        loop {
            batch(&mut miner);
            if miner.push().await == Err(Closed) || is_cut_off(&mut miner, &answers).await {
                break felt.note();
            }
            tokio::task::yield_now().await;
        }
    }
}

/// Runs a flood beside an honest miner until its limit has been felt; tells how often a request for a channel was refused.
async fn flooded(stage: &Stage, what: &str, batch: fn(&mut Miner)) -> u64 {
    let mut honest = stage.miner().await;
    let at = (stage.server.address(), stage.authority);
    let (felt, answers) = (Felt::default(), Felt::default());
    let flood = || tasks(2, || insist(at, batch, felt.clone(), answers.clone()));
    keeps_earning(&mut honest, what, flood).await;
    let last = flood();
    felt.at_least(felt.times() + 2).await;
    drop(last);
    honest.earn().await;
    answers.times()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_worthless_shares_ends_with_the_patience_for_garbage_and_delays_nobody() {
    let stage = Plan::quiet().start();
    flooded(&stage, "worthless shares", |miner| {
        for nonce in 0..50 {
            miner.share_on_job(u32::MAX, nonce);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_repeated_shares_ends_with_the_patience_for_repeats_and_delays_nobody() {
    let stage = Plan::quiet().start();
    flooded(&stage, "repeated shares", |miner| {
        for _ in 0..50 {
            miner.share_with(1);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_requests_for_channels_meets_both_limits_and_delays_nobody() {
    let mut plan = Plan::quiet();
    plan.pool.channels_per_connection = 16;
    let stage = plan.start();
    let refused = flooded(&stage, "requests for channels", |miner| {
        for _ in 0..20 {
            miner.ask_for_a_channel("mallory");
        }
    })
    .await;
    assert!(refused > 0, "nobody was told of the limit for channels");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_channels_opened_and_closed_ends_with_the_patience_for_requests_and_delays_nobody() {
    let stage = Plan::quiet().start();
    flooded(&stage, "channels opened and closed", |miner| {
        for _ in 0..10 {
            miner.ask_for_a_channel("mallory");
            let reason_code = Str0255::try_from("").unwrap();
            miner.say(mining::CloseChannel { channel_id: 1, reason_code });
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn peers_that_never_read_are_cut_off_at_the_outboxs_age_and_delay_nobody() {
    let mut plan = Plan::quiet();
    plan.server.outbox = OutboxLimits { bytes: 16 * 1024, age: Duration::from_secs(1) };
    let stage = plan.start();
    let mut honest = stage.miner().await;
    let (address, authority) = (stage.server.address(), stage.authority);
    let dropped = Felt::default();
    let deaf = |felt: Felt| async move {
        let mut deaf = insider(address, authority).await;
        loop {
            // Each is refused, with an answer that is not read.
            (0..50).for_each(|nonce| _ = deaf.share_on_job(u32::MAX, nonce));
            if deaf.push().await == Err(Closed) {
                break felt.note();
            }
        }
    };
    let first = tasks(4, || deaf(dropped.clone()));
    keeps_earning(&mut honest, "peers that never read", || tasks(4, || deaf(Felt::default()))).await;
    dropped.at_least(4).await;
    drop(first);
}
