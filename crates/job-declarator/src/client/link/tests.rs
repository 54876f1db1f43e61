//! What a link does about a server that is slow to read.

use adit_messages::types::{B016M, B032, Seq064K, U256};
use adit_messages::{encode, job_declaration};
use adit_net::{HANDSHAKE_PATIENCE, HandshakeLane, OsRng};
use adit_transport::{AuthorityKeyPair, FrameQueue, Identity, StaticKeyPair};
use adit_units::UnixTime;
use tokio::net::TcpListener;
use tokio::time::timeout;

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
