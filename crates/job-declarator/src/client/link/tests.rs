//! What a link does about a server that is slow to read, and about a time that was lost.

use adit_messages::types::{B016M, B032, Seq064K, U256};
use adit_messages::{PROTOCOL_VERSION, common, encode, job_declaration};
use adit_net::{HANDSHAKE_PATIENCE, HandshakeLane, OsRng};
use adit_transport::{AuthorityKeyPair, FrameQueue, Identity, StaticKeyPair};
use adit_units::UnixTime;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::super::Mode;
use super::*;

/// As many bytes as a block can have.
const BLOCK_BYTES: usize = 4_000_000;

/// Two connected ends: ours, and that of a server.
async fn connected() -> (Connection, Connection) {
    let authority = AuthorityKeyPair::generate(&mut OsRng);
    let own = StaticKeyPair::generate(&mut OsRng);
    let identity =
        Arc::new(Identity::new(&authority, own, UnixTime::default(), UnixTime::from_secs(u32::MAX)).unwrap());
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let url = Url::new("127.0.0.1", port, Some(authority.public_key())).unwrap();
    let served = async {
        let (stream, _) = listener.accept().await.unwrap();
        let lane = HandshakeLane::start(1).unwrap();
        let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
        lane.respond(stream, identity, deadline, OutboxLimits::default()).await.unwrap()
    };
    let (ours, theirs) = tokio::join!(dial(&url, false), served);
    (ours.unwrap(), theirs)
}

fn all_transactions() -> FrameQueue {
    let bytes = vec![7; BLOCK_BYTES];
    let mut frames = FrameQueue::default();
    let provide = job_declaration::ProvideMissingTransactionsSuccess {
        request_id: 1,
        transaction_list: Seq064K::new(vec![B016M::try_from(&*bytes).unwrap()]).unwrap(),
    };
    encode(provide, &mut frames).unwrap();
    frames
}

fn block() -> FrameQueue {
    let (extranonce, prev_hash) = ([1; 32], [2; 32]);
    let mut frames = FrameQueue::default();
    let solution = job_declaration::PushSolution {
        extranonce: B032::try_from(&extranonce[..]).unwrap(),
        prev_hash: U256::from(&prev_hash),
        nonce: 3,
        ntime: 4,
        nbits: 5,
        version: 6,
    };
    encode(solution, &mut frames).unwrap();
    frames
}

#[tokio::test]
async fn a_block_behind_all_transactions_of_another_waits_for_them_and_is_sent() {
    let (mut ours, mut theirs) = connected().await;
    ours.queue(&mut all_transactions()).unwrap();
    // The line takes what it can; the rest waits for the server to read.
    let io = timeout(Duration::from_millis(100), ours.io(Intake::Open)).await;
    assert!(io.is_err() && ours.unwritten() > OutboxLimits::default().bytes, "{}", ours.unwritten());
    ours.queue(&mut block()).unwrap();
    let expected = block().iter().next().unwrap().header;
    let heard = async {
        let mut last = None;
        while last != Some(expected) {
            theirs.read().await.unwrap();
            while let Some(frame) = theirs.next_frame(|_| BLOCK_BYTES + 100).unwrap() {
                last = Some(frame.header);
            }
        }
    };
    let ((), flushed) = tokio::join!(heard, ours.flush());
    flushed.unwrap();
}

fn client_config(pool: &Url, declarator: &Url) -> UpstreamConfig {
    let endpoint = |url: &Url| (url.host().to_owned(), url.port());
    UpstreamConfig {
        pool: endpoint(pool),
        declarator: endpoint(declarator),
        user: "miner".to_owned(),
        mode: Mode::CoinbaseOnly,
        nominal_hashrate: Hashrate::from_hashes_per_second(1),
        min_extranonce_size: 8,
        names_workers: false,
    }
}

/// What they had said in time was in the sockets, and was not read any more.
#[tokio::test]
async fn both_servers_were_taken_for_dead_because_the_process_had_been_stopped() {
    let ((mut pool, mut their_pool), (mut declarator, mut their_declarator)) =
        tokio::join!(connected(), connected());
    let url = Url::new("127.0.0.1", 1, None).unwrap();
    let mut upstream = Upstream::new(&Arc::new(client_config(&url, &url)), Clock.monotonic());
    for server in [&mut their_pool, &mut their_declarator] {
        let mut frames = FrameQueue::default();
        encode(common::SetupConnectionSuccess { used_version: PROTOCOL_VERSION, flags: 0 }, &mut frames)
            .unwrap();
        server.queue(&mut frames).unwrap();
        server.flush().await.unwrap();
    }
    tokio::time::pause();
    tokio::time::advance(Duration::from_secs(15)).await;
    judge(&mut upstream, &mut pool, &mut declarator).await.unwrap();
    tokio::time::advance(Duration::from_secs(15)).await;
    let silent = judge(&mut upstream, &mut pool, &mut declarator).await;
    assert!(matches!(silent, Err(LinkError::Upstream(_))), "it has not said anything since: {silent:?}");
}

/// The server elsewhere was told that it had been called by the former address.
#[test]
fn a_server_was_not_told_where_it_had_been_sent_on_to() {
    let key = AuthorityKeyPair::generate(&mut OsRng).public_key();
    let [pool, declarator] = [1, 2].map(|port| Url::new("127.0.0.1", port, Some(key)).unwrap());
    let upstream = Arc::new(client_config(&pool, &declarator));
    let to = Destination { pool, declarator, insecure: false, upstream };
    let sent_on = to.redirected(Server::Declarator, "127.0.0.2", 0).unwrap();
    assert_eq!(sent_on.declarator.address(), "127.0.0.2:2");
    assert_eq!(sent_on.upstream.declarator, ("127.0.0.2".to_owned(), 2));
    assert_eq!((&sent_on.pool, &sent_on.upstream.pool), (&to.pool, &to.upstream.pool));
    assert!(to.redirected(Server::Pool, "no host", 0).is_err());
}
