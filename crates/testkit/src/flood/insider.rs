//! An attacker who has set up a connection and opened a channel.

use core::time::Duration;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use adit_messages::error_code::OpenMiningChannelError as OpenCode;
use adit_messages::types::{B032, Str0255, U256};
use adit_messages::{Message, PROTOCOL_VERSION, Protocol, common, decode, encode, mining};
use adit_net::{Clock, Connection, HANDSHAKE_PATIENCE, OutboxLimits, initiate};
use adit_transport::{AuthorityPublicKey, FrameQueue};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// More than any message to a miner has.
const PAYLOAD_MAX: usize = 1 << 20;

/// Bytes of a share's extranonce that are the miner's in this project's pool.
const EXTRANONCE_LEN: usize = 14;

/// A job that no pool has.
pub(super) const UNKNOWN_JOB: Job = Job { id: u32::MAX, version: 0x2000_0000, ntime: 0 };

/// What a share says of its job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    id: u32,
    version: u32,
    ntime: u32,
}

/// A connection with an extended channel.
pub(super) struct Insider {
    connection: Connection,
    queue: FrameQueue,
    channel: Option<u32>,
    job: Option<Job>,
    sequence: u32,
}

impl Insider {
    /// Shakes hands, sets up, opens a channel and waits for its first job.
    pub(super) async fn enter(stream: TcpStream, authority: AuthorityPublicKey) -> io::Result<Self> {
        let deadline = Clock.monotonic() + HANDSHAKE_PATIENCE;
        let connection = initiate(stream, Some(authority), deadline, OutboxLimits::default()).await;
        let connection = connection.map_err(io::Error::other)?;
        let queue = FrameQueue::default();
        let mut insider = Self { connection, queue, channel: None, job: None, sequence: 0 };
        insider.say(common::SetupConnection {
            protocol: common::Protocol::MiningProtocol,
            min_version: PROTOCOL_VERSION,
            max_version: PROTOCOL_VERSION,
            flags: 0,
            endpoint_host: text("localhost"),
            endpoint_port: 34254,
            vendor: text("mallory"),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        });
        insider.queue_requests(1, false);
        insider.push().await?;
        while insider.channel.is_none() || insider.job.is_none_or(|job| job.ntime == 0) {
            insider.connection.read().await.map_err(io::Error::other)?;
            if !insider.hear(&AtomicU64::default()) {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        }
        Ok(insider)
    }

    fn say<'a>(&mut self, message: impl Into<Message<'a>>) {
        encode(message, &mut self.queue).expect("no message of an attacker is longer than a frame can carry");
    }

    /// The job that came first.
    pub(super) fn present_job(&self) -> Job {
        self.job.unwrap_or(UNKNOWN_JOB)
    }

    /// Queues the same share on that job so many times, but for its number.
    pub(super) fn queue_shares(&mut self, count: u32, job: Job) {
        for _ in 0..count {
            self.sequence = self.sequence.wrapping_add(1);
            self.say(mining::SubmitSharesExtended {
                channel_id: self.channel.unwrap_or_default(),
                sequence_number: self.sequence,
                job_id: job.id,
                nonce: 1,
                ntime: job.ntime,
                version: job.version,
                extranonce: B032::new(&[0; EXTRANONCE_LEN]).expect("shorter than 32 bytes"),
            });
        }
    }

    /// Queues requests for channels, each followed by the end of the channel that there is if it `closes`.
    pub(super) fn queue_requests(&mut self, count: u32, closes: bool) {
        for request_id in 0..count {
            self.say(mining::OpenExtendedMiningChannel {
                request_id,
                user_identity: text("mallory"),
                nominal_hash_rate: 0.0,
                max_target: U256::from(&[0xff; 32]),
                min_extranonce_size: 4,
            });
            if closes {
                self.say(mining::CloseChannel { channel_id: 1, reason_code: text("") });
            }
        }
    }

    /// Sends what is queued, or finds that the server has closed the connection.
    pub(super) async fn push(&mut self) -> io::Result<()> {
        self.connection.queue(&mut self.queue).map_err(io::Error::other)?;
        self.connection.flush().await.map_err(io::Error::other)
    }

    /// Reads what the server has to say by now; whether it has ended the channel or the connection. Adds to `refused` for each channel that
    /// would have been one too many.
    pub(super) async fn is_cut_off(&mut self, refused: &AtomicU64) -> bool {
        loop {
            // Only what is there already.
            match timeout(Duration::ZERO, self.connection.read()).await {
                Ok(Ok(_)) if self.hear(refused) => {}
                Ok(Ok(_) | Err(_)) => return true,
                Err(_) => return false,
            }
        }
    }

    /// Takes in what has been read; whether the channel is still there.
    fn hear(&mut self, refused: &AtomicU64) -> bool {
        let Self { connection, channel, job, .. } = self;
        loop {
            let frame = match connection.next_frame(|_| PAYLOAD_MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => return true,
                Err(_) => return false,
            };
            match decode(Protocol::Mining, frame) {
                Ok(Message::CloseChannel(_)) | Err(_) => return false,
                Ok(Message::OpenExtendedMiningChannelSuccess(open)) if channel.is_none() => {
                    *channel = Some(open.channel_id);
                }
                Ok(Message::NewExtendedMiningJob(new)) if job.is_none() => {
                    let ntime = new.min_ntime.as_ref().copied().unwrap_or_default();
                    *job = Some(Job { id: new.job_id, version: new.version, ntime });
                }
                Ok(Message::SetNewPrevHash(tip)) => {
                    if let Some(job) = job.as_mut().filter(|job| job.id == tip.job_id) {
                        job.ntime = tip.min_ntime;
                    }
                }
                Ok(Message::OpenMiningChannelError(error))
                    if error.error_code == OpenCode::ChannelCapacityExhausted.to_wire() =>
                {
                    refused.fetch_add(1, Relaxed);
                }
                Ok(_) => {}
            }
        }
    }
}

/// A text as messages carry it.
fn text(text: &str) -> Str0255<'_> {
    Str0255::try_from(text).expect("shorter than 256 bytes")
}
