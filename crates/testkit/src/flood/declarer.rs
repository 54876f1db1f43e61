//! A client that declares a job to a job declarator server over and over.

use std::io;
use std::sync::Arc;

use adit_messages::job_declaration::{AllocateMiningJobToken, DeclareMiningJob};
use adit_messages::types::{B064K, B0255, Seq064K, Str0255, U256};
use adit_messages::{Message, PROTOCOL_VERSION, Protocol, common, decode, encode};
use adit_net::{Clock, Connection, HANDSHAKE_PATIENCE, OutboxLimits, initiate};
use adit_transport::{AuthorityPublicKey, FrameQueue};
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

/// More than any message to a client has.
const PAYLOAD_MAX: usize = 1 << 20;

/// A job that a server can judge.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DeclarableJob {
    /// The block's version.
    pub version: u32,
    /// The coinbase up to its extranonce; the last four bytes are free, so that no two declarations need be alike.
    pub coinbase_prefix: Vec<u8>,
    /// The coinbase after its extranonce.
    pub coinbase_suffix: Vec<u8>,
    /// The other transactions, all of which the server's node knows.
    pub wtxids: Vec<[u8; 32]>,
}

/// A connection that shows all transactions of its jobs.
pub(super) struct Declarer {
    connection: Connection,
    queue: FrameQueue,
    name: String,
    job: Arc<DeclarableJob>,
    declared: u32,
}

/// What came of a declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    Refused,
}

impl Declarer {
    /// Shakes hands and sets up.
    pub(super) async fn enter(
        stream: TcpStream,
        authority: AuthorityPublicKey,
        (number, job): (u32, Arc<DeclarableJob>),
    ) -> io::Result<Self> {
        let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
        let outbox = OutboxLimits { bytes: PAYLOAD_MAX, ..OutboxLimits::default() };
        let connection = initiate(stream, Some(authority), deadline, outbox).await;
        let connection = connection.map_err(io::Error::other)?;
        let (queue, name) = (FrameQueue::default(), format!("declarer{number}"));
        let mut declarer = Self { connection, queue, name, job, declared: number << 20 };
        let text = |text| Str0255::try_from(text).expect("shorter than 256 bytes");
        let setup = common::SetupConnection {
            protocol: common::Protocol::JobDeclarationProtocol,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            flags: 1,
            endpoint_host: text("localhost"),
            endpoint_port: 34264,
            vendor: text("mallory"),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        };
        declarer.say(setup).await?;
        declarer.hear(|message| matches!(message, Message::SetupConnectionSuccess(_)).then_some(())).await?;
        Ok(declarer)
    }

    /// Asks for a token, declares the job with it, and waits for the answer.
    pub(super) async fn declare(&mut self) -> io::Result<Answer> {
        let name = self.name.clone();
        let user_identifier = Str0255::try_from(&*name).expect("shorter than 256 bytes");
        self.say(AllocateMiningJobToken { user_identifier, request_id: 1 }).await?;
        let token = self
            .hear(|message| match message {
                Message::AllocateMiningJobTokenSuccess(success) => {
                    Some(success.mining_job_token.as_bytes().to_vec())
                }
                _ => None,
            })
            .await?;
        self.declared += 1;
        let job = Arc::clone(&self.job);
        let mut prefix = job.coinbase_prefix.clone();
        if let Some(free) = prefix.last_chunk_mut::<4>() {
            *free = self.declared.to_le_bytes();
        }
        let too_long = |_| io::Error::other("the job is longer than a message can be");
        let declaration = DeclareMiningJob {
            request_id: self.declared,
            mining_job_token: B0255::try_from(&*token).map_err(too_long)?,
            version: job.version,
            coinbase_tx_prefix: B064K::try_from(&*prefix).map_err(too_long)?,
            coinbase_tx_suffix: B064K::try_from(&*job.coinbase_suffix).map_err(too_long)?,
            wtxid_list: Seq064K::new(job.wtxids.iter().map(U256::from).collect()).map_err(too_long)?,
            excess_data: B064K::try_from(&[][..]).map_err(too_long)?,
        };
        self.say(declaration).await?;
        self.hear(|message| match message {
            Message::DeclareMiningJobSuccess(_) => Some(Answer::Accepted),
            Message::DeclareMiningJobError(_) => Some(Answer::Refused),
            _ => None,
        })
        .await
    }

    async fn say<'a>(&mut self, message: impl Into<Message<'a>>) -> io::Result<()> {
        encode(message, &mut self.queue).map_err(io::Error::other)?;
        self.connection.queue(&mut self.queue).map_err(io::Error::other)?;
        self.connection.flush().await.map_err(io::Error::other)
    }

    /// Waits for a message that is what is `wanted`.
    async fn hear<T>(&mut self, wanted: impl Fn(&Message<'_>) -> Option<T>) -> io::Result<T> {
        loop {
            while let Some(frame) = self.connection.next_frame(|_| PAYLOAD_MAX).map_err(io::Error::other)? {
                let message = decode(Protocol::JobDeclaration, frame).map_err(io::Error::other)?;
                if let Some(heard) = wanted(&message) {
                    return Ok(heard);
                }
            }
            self.connection.read().await.map_err(io::Error::other)?;
        }
    }
}
