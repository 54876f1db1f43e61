//! A job declarator server that hands out tokens and does nothing else that is of use.

use core::sync::atomic::{AtomicUsize, Ordering};
use std::net::SocketAddr;
use std::sync::Arc;

use adit_messages::types::{B064K, B0255, Str0255};
use adit_messages::{Message, PROTOCOL_VERSION, Protocol, common, decode, encode, job_declaration};
use adit_net::{Clock, Connection, HANDSHAKE_PATIENCE, HandshakeLane, Intake, OsRng, OutboxLimits, Url};
use adit_transport::{AuthorityKeyPair, AuthorityPublicKey, FrameQueue};
use bitcoin::{Amount, TxOut, consensus};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::stage::{identity, script, url};

/// More than any message of a client in these tests has.
const PAYLOAD_MAX: usize = 1 << 20;

/// It runs until it is dropped.
pub(crate) struct OddDeclarator {
    address: SocketAddr,
    authority: AuthorityPublicKey,
    connections: Arc<AtomicUsize>,
    _acceptor: JoinSet<()>,
}

impl OddDeclarator {
    /// Tokens come with these outputs, and after the first one of a connection its client is sent on so many times: to the same place.
    pub(crate) async fn start(outputs: &[(&str, u64)], redirects: usize) -> Self {
        let authority = AuthorityKeyPair::generate(&mut OsRng);
        let identity = identity(&authority);
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let output =
            |&(of, sats): &(&str, u64)| TxOut { value: Amount::from_sat(sats), script_pubkey: script(of) };
        let outputs = consensus::serialize(&outputs.iter().map(output).collect::<Vec<_>>());
        let connections = Arc::new(AtomicUsize::new(0));
        let (count, mut acceptor) = (Arc::clone(&connections), JoinSet::new());
        acceptor.spawn(async move {
            let (lane, mut served) = (HandshakeLane::start(8).unwrap(), JoinSet::new());
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
                let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
                let limits = OutboxLimits::default();
                if let Ok(connection) = lane.respond(stream, Arc::clone(&identity), deadline, limits).await {
                    served.spawn(serve(connection, outputs.clone(), redirects));
                }
            }
        });
        Self { address, authority: authority.public_key(), connections, _acceptor: acceptor }
    }

    pub(crate) fn url(&self) -> Url {
        url(self.address, Some(self.authority))
    }

    /// How many connections there have been.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }
}

/// Answers until the client leaves.
async fn serve(mut connection: Connection, outputs: Vec<u8>, mut redirects: usize) {
    let mut answers = FrameQueue::default();
    while connection.io(Intake::Open).await.is_ok() {
        while let Some(frame) = connection.next_frame(|_| PAYLOAD_MAX).unwrap() {
            let message = decode(Protocol::JobDeclaration, frame).unwrap();
            answer(&message, &outputs, &mut redirects, &mut answers);
        }
        if connection.queue(&mut answers).is_err() {
            return;
        }
    }
}

fn answer(message: &Message<'_>, outputs: &[u8], redirects: &mut usize, answers: &mut FrameQueue) {
    match message {
        Message::SetupConnection(setup) => {
            let (used_version, flags) = (PROTOCOL_VERSION, setup.flags);
            encode(common::SetupConnectionSuccess { used_version, flags }, answers).unwrap();
        }
        Message::AllocateMiningJobToken(ask) => {
            let success = job_declaration::AllocateMiningJobTokenSuccess {
                request_id: ask.request_id,
                mining_job_token: B0255::try_from(&b"token"[..]).unwrap(),
                coinbase_outputs: B064K::try_from(outputs).unwrap(),
            };
            encode(success, answers).unwrap();
            for _ in 0..core::mem::take(redirects) {
                let new_host = Str0255::try_from("").unwrap();
                encode(common::Reconnect { new_host, new_port: 0 }, answers).unwrap();
            }
        }
        _ => {}
    }
}
