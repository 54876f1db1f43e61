//! Peers that misbehave on real sockets, and an honest one beside them who must not notice.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use adit_net::{
    Accepted, Admission, Clock, Connection, HandshakeLane, Intake, Limits, Listener, OsRng, OutboxLimits,
    connect,
};
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, FrameQueue, Identity, Initiator, StaticKeyPair};
use adit_units::UnixTime;
use rand_core::Rng as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// What a test's server gives strangers for their handshake, short so that tests are.
const PATIENCE: Duration = Duration::from_millis(400);
const OUTBOX: OutboxLimits = OutboxLimits { bytes: 32 * 1024, age: Duration::from_secs(2) };
/// Most payload that the test's server accepts.
const PAYLOAD_MAX: usize = 1_291;

/// The most that an honest peer's slowest answer but one in a hundred may take beside an attack. Generous, because tests share the
/// machine with compilers; being starved takes seconds.
const HONEST: Duration = Duration::from_millis(500);

/// A frame of this type is echoed.
const ECHO: u8 = 1;
/// A frame of this type asks for frames without end.
const POUR: u8 = 2;

struct Server {
    address: SocketAddr,
    authority: AuthorityPublicKey,
    admission: Admission,
    /// Handshakes that ended without a session.
    turned_away: Arc<AtomicUsize>,
}

impl Server {
    fn start(limits: Limits) -> Self {
        let mut listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), limits).unwrap();
        let keys = AuthorityKeyPair::generate(&mut OsRng);
        let (from, until) = (UnixTime::default(), UnixTime::from_secs(u32::MAX));
        let identity = Identity::new(&keys, StaticKeyPair::generate(&mut OsRng), from, until);
        let identity = Arc::new(identity.unwrap());
        let lane = HandshakeLane::start(limits.newcomers).unwrap();
        let turned_away = Arc::new(AtomicUsize::new(0));
        let server = Self {
            address: listener.address(),
            authority: keys.public_key(),
            admission: listener.admission().clone(),
            turned_away: Arc::clone(&turned_away),
        };
        tokio::spawn(async move {
            loop {
                let accepted = listener.accept().await;
                let served = serve(accepted, lane.clone(), Arc::clone(&identity), Arc::clone(&turned_away));
                tokio::spawn(served);
            }
        });
        server
    }

    async fn client(&self) -> Connection {
        connect(&self.address.to_string(), Some(self.authority)).await.unwrap()
    }

    /// Waits until so many peers are left.
    async fn empties_to(&self, connections: usize) {
        let emptied = async {
            while self.admission.connections() > connections {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let left = || format!("{} connections are left", self.admission.connections());
        timeout(Duration::from_secs(20), emptied).await.unwrap_or_else(|_| panic!("{}", left()));
    }
}

async fn serve(
    accepted: Accepted,
    lane: HandshakeLane,
    identity: Arc<Identity>,
    turned_away: Arc<AtomicUsize>,
) {
    let Accepted { stream, at, mut permit, .. } = accepted;
    let Ok(mut connection) = lane.respond(stream, identity, at + PATIENCE, OUTBOX).await else {
        turned_away.fetch_add(1, Relaxed);
        return;
    };
    let (mut frames, mut pours) = (FrameQueue::default(), false);
    loop {
        tokio::select! {
            biased;
            () = sleep(Duration::from_millis(1)), if pours => {
                frames.push(0, false, POUR, &[0; 8 * 1024]).unwrap();
            }
            done = connection.io(Intake::Open) => if done.is_err() {
                return;
            }
        }
        loop {
            let Ok(frame) = connection.next_frame(|_| PAYLOAD_MAX) else { return };
            let Some(frame) = frame else { break };
            permit.establish();
            pours |= frame.header.msg_type == POUR;
            frames.push(0, false, frame.header.msg_type, frame.payload).unwrap();
        }
        if connection.queue(&mut frames).is_err() {
            return;
        }
    }
}

/// One question and its answer; how long that took.
async fn ask(client: &mut Connection) -> Duration {
    let start = Clock.monotonic();
    let mut question = FrameQueue::default();
    question.push(0, false, ECHO, b"still there?").unwrap();
    client.queue(&mut question).unwrap();
    client.flush().await.unwrap();
    loop {
        client.read().await.unwrap();
        if let Some(frame) = client.next_frame(|_| PAYLOAD_MAX).unwrap() {
            assert_eq!(frame.payload, b"still there?");
            return Clock.monotonic() - start;
        }
    }
}

/// Asks for as long as `trouble` lasts; the slowest of all answers but one in a hundred.
async fn ask_during(client: &mut Connection, trouble: impl Future<Output = ()>) -> Duration {
    let mut answers = Vec::new();
    tokio::pin!(trouble);
    loop {
        answers.push(ask(client).await);
        let pause = sleep(Duration::from_millis(2));
        tokio::select! {
            () = &mut trouble => break,
            () = pause => {}
        }
    }
    answers.sort();
    answers[(answers.len() * 99 / 100).min(answers.len() - 1)]
}

/// Reads until the server closes.
async fn until_closed(mut stream: TcpStream) {
    let mut bytes = [0; 1_024];
    while let Ok(1..) = stream.read(&mut bytes).await {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_and_dribbling_strangers_are_closed_in_time() {
    let limits = Limits { newcomers: 400, newcomers_per_address: 400, ..Limits::default() };
    let server = Server::start(limits);
    let mut honest = server.client().await;
    ask(&mut honest).await;
    let address = server.address;
    let mut strangers = JoinSet::new();
    for index in 0..300 {
        strangers.spawn(async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            while index % 2 == 0 && stream.write_all(&[1]).await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
            until_closed(stream).await;
        });
    }
    let start = Clock.monotonic();
    let slowest = ask_during(&mut honest, async { while strangers.join_next().await.is_some() {} }).await;
    assert!(Clock.monotonic() - start < 8 * PATIENCE, "strangers were let stay");
    assert!(slowest < HONEST, "an honest answer took {slowest:?}");
    assert_eq!(server.turned_away.load(Relaxed), 300);
    server.empties_to(1).await;
}

/// Every 64 bytes are a key, so these are answered; what follows is no frame.
async fn garbage(address: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(address).await else { return };
    let mut garbage = [0; 64 + 200];
    OsRng.fill_bytes(&mut garbage);
    let _ = stream.write_all(&garbage).await;
    until_closed(stream).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_garbage_handshakes_delays_nobody() {
    let server = Server::start(Limits::default());
    let mut honest = server.client().await;
    ask(&mut honest).await;
    let address = server.address;
    let flood = async {
        let mut strangers = JoinSet::new();
        for _ in 0..1_000 {
            if strangers.len() >= 64 {
                strangers.join_next().await;
            }
            strangers.spawn(garbage(address));
        }
        while strangers.join_next().await.is_some() {}
    };
    let slowest = ask_during(&mut honest, flood).await;
    assert!(slowest < HONEST, "an honest answer took {slowest:?}");
    server.empties_to(1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_is_dropped_and_only_it() {
    let server = Server::start(Limits::default());
    let mut honest = server.client().await;
    let mut deaf = server.client().await;
    let mut question = FrameQueue::default();
    question.push(0, false, POUR, &[]).unwrap();
    deaf.queue(&mut question).unwrap();
    deaf.flush().await.unwrap();
    let slowest = ask_during(&mut honest, server.empties_to(1)).await;
    assert!(slowest < HONEST, "an honest answer took {slowest:?}");
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_sixteen_mebibytes_is_refused_from_its_header() {
    let server = Server::start(Limits::default());
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    let initiator = Initiator::new(Some(server.authority), &mut OsRng);
    stream.write_all(&initiator.act1()).await.unwrap();
    let mut act2 = [0; adit_transport::ACT2_LEN];
    stream.read_exact(&mut act2).await.unwrap();
    let mut transport = initiator.finish(&act2, Clock.unix()).unwrap();
    let (mut frames, mut sealed) = (FrameQueue::default(), Vec::new());
    frames.push(0, false, ECHO, &vec![0; adit_transport::PAYLOAD_MAX]).unwrap();
    transport.sealer.seal_all(&mut frames, &mut sealed).unwrap();
    stream.write_all(&sealed[..1_024]).await.unwrap();
    timeout(Duration::from_secs(5), until_closed(stream)).await.unwrap();
    server.empties_to(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_closes_its_side_or_disappears_is_let_go() {
    let server = Server::start(Limits::default());
    let mut half = TcpStream::connect(server.address).await.unwrap();
    half.shutdown().await.unwrap();
    timeout(Duration::from_secs(5), until_closed(half)).await.unwrap();
    let mut set_up = server.client().await;
    ask(&mut set_up).await;
    drop(set_up);
    server.empties_to(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tampering_ends_the_connection() {
    let server = Server::start(Limits::default());
    let mut client = server.client().await;
    ask(&mut client).await;
    // A second session's bytes in the first one's place: sealed well, but not by this key.
    let mut stream = TcpStream::connect(server.address).await.unwrap();
    stream.write_all(&[0x5a; 64]).await.unwrap();
    let mut act2 = [0; adit_transport::ACT2_LEN];
    stream.read_exact(&mut act2).await.unwrap();
    stream.write_all(&act2).await.unwrap();
    timeout(Duration::from_secs(5), until_closed(stream)).await.unwrap();
    ask(&mut client).await;
    drop(client);
    server.empties_to(0).await;
}

// Elsewhere only 127.0.0.1 is there without configuration.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_cannot_keep_others_out() {
    let limits = Limits { newcomers: 20, newcomers_per_address: 5, ..Limits::default() };
    let server = Server::start(limits);
    let mut strangers = Vec::new();
    for _ in 0..30 {
        strangers.push(TcpStream::connect(server.address).await.unwrap());
    }
    // All of 127.0.0.0/8 is this machine, and each of its addresses counts for itself.
    let elsewhere = tokio::net::TcpSocket::new_v4().unwrap();
    elsewhere.bind(SocketAddr::from(([127, 0, 0, 2], 0))).unwrap();
    let stream = elsewhere.connect(server.address).await.unwrap();
    let deadline = Clock.monotonic() + PATIENCE / 2;
    let mut honest =
        adit_net::initiate(stream, Some(server.authority), deadline, OutboxLimits::default()).await.unwrap();
    ask(&mut honest).await;
    drop(strangers);
    server.empties_to(1).await;
}

#[tokio::test]
async fn a_server_that_leaves_is_noticed() {
    let (server, address) = {
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        (listener, address)
    };
    let leaver = std::thread::spawn(move || drop(server.accept().unwrap()));
    let error = connect(&address.to_string(), None).await.unwrap_err();
    leaver.join().unwrap();
    assert!(error.to_string().contains("during the handshake"), "{error}");
}
