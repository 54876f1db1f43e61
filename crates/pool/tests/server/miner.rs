//! A miner that speaks the protocol by itself, so that the pool is held against the specification and not against our own client.

use core::time::Duration;
use std::collections::HashMap;
use std::net::SocketAddr;

use adit_messages::extensions::{RequestExtensions, WORKER_HASHRATE_TRACKING};
use adit_messages::tlv::Tlv;
use adit_messages::types::{B032, Seq064K, Str0255, U256};
use adit_messages::{Message, Protocol, common, decode, encode, encode_with_tlvs, mining};
use adit_net::{Clock, Connection, connect};
use adit_transport::{AuthorityPublicKey, FrameQueue};
use adit_units::Target;
use bitcoin::CompactTarget;
use bitcoin::hashes::{Hash as _, sha256d};
use tokio::time::{sleep, timeout};

use crate::stage::PATIENCE;

/// More than any message to a miner has.
const PAYLOAD_MAX: usize = 1 << 20;

/// Bytes of a share's extranonce that this miner rolls.
const EXTRANONCE_LEN: usize = 14;

/// A connection with at most one extended channel.
pub(crate) struct Miner {
    pub(crate) connection: Connection,
    pub(crate) channel: u32,
    pub(crate) prefix: Vec<u8>,
    /// The group that its channel is part of.
    pub(crate) group: u32,
    /// Why the pool has closed its channel.
    pub(crate) dismissed: Option<String>,
    /// Who its shares say has found them.
    pub(crate) worker: Option<&'static str>,
    jobs: HashMap<u32, Job>,
    tip: Option<Tip>,
    nonce: u32,
    sequence: u32,
    queue: FrameQueue,
    /// Shares that the pool has acknowledged.
    pub(crate) acknowledged: u64,
    /// The last share that the pool has acknowledged.
    pub(crate) last_acknowledged: u32,
    /// Codes of refused shares and channels.
    pub(crate) refused: Vec<String>,
    /// Blocks that the pool has announced.
    pub(crate) tips: u32,
    /// Where the pool wants the miner to go.
    pub(crate) sent_to: Option<(String, u16)>,
}

#[derive(Clone)]
struct Job {
    version: u32,
    path: Vec<[u8; 32]>,
    coinbase_prefix: Vec<u8>,
    coinbase_suffix: Vec<u8>,
}

#[derive(Clone, Copy)]
struct Tip {
    job: u32,
    prev_hash: [u8; 32],
    nbits: u32,
    min_ntime: u32,
}

/// The last of a connection: the pool has closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed;

impl Miner {
    /// Connects and shakes hands; waits until the pool listens.
    pub(crate) async fn connect(address: SocketAddr, authority: AuthorityPublicKey) -> Self {
        let connecting = async {
            loop {
                match connect(&address.to_string(), Some(authority)).await {
                    Ok(connection) => return connection,
                    Err(_) => sleep(Duration::from_millis(5)).await,
                }
            }
        };
        Self::over(timeout(PATIENCE, connecting).await.expect("the pool does not listen"))
    }

    /// A miner on a connection whose handshake is done.
    pub(crate) fn over(connection: Connection) -> Self {
        Self {
            connection,
            channel: 0,
            prefix: Vec::new(),
            group: 0,
            dismissed: None,
            worker: None,
            jobs: HashMap::new(),
            tip: None,
            nonce: 0,
            sequence: 0,
            queue: FrameQueue::default(),
            acknowledged: 0,
            last_acknowledged: 0,
            refused: Vec::new(),
            tips: 0,
            sent_to: None,
        }
    }

    /// Sets the connection up for mining.
    pub(crate) async fn set_up(&mut self) {
        self.set_up_as("test").await;
    }

    /// The same as a device of that vendor, of which nothing else is told.
    pub(crate) async fn set_up_as(&mut self, vendor: &'static str) {
        self.say(common::SetupConnection {
            protocol: common::Protocol::MiningProtocol,
            min_version: 2,
            max_version: 2,
            flags: 0,
            endpoint_host: text("localhost"),
            endpoint_port: 34254,
            vendor: text(vendor),
            hardware_version: text(""),
            firmware: text(""),
            device_id: text(""),
        });
        self.flush().await;
    }

    /// Has it agreed that shares name their worker; to be called before the channel is opened.
    pub(crate) async fn agree_on_workers(&mut self) {
        let requested_extensions = Seq064K::new(vec![WORKER_HASHRATE_TRACKING]).unwrap();
        self.say(RequestExtensions { request_id: 1, requested_extensions });
        self.flush().await;
    }

    /// Opens the channel and waits for its first job.
    pub(crate) async fn open(&mut self, user: &str) {
        self.ask_for_a_channel(user);
        self.flush().await;
        self.hear_until(|miner| miner.channel != 0 && miner.work().is_some()).await.unwrap();
    }

    /// Queues a request for an extended channel.
    pub(crate) fn ask_for_a_channel(&mut self, user: &str) {
        self.say(mining::OpenExtendedMiningChannel {
            request_id: 1,
            user_identity: text(user),
            nominal_hash_rate: 0.0,
            max_target: U256::from(&[0xff; 32]),
            min_extranonce_size: 4,
        });
    }

    /// Queues a message.
    pub(crate) fn say<'a>(&mut self, message: impl Into<Message<'a>>) {
        encode(message, &mut self.queue).unwrap();
    }

    /// Sends what is queued. A pool that has closed the connection is noticed when it is heard.
    pub(crate) async fn flush(&mut self) {
        self.connection.queue(&mut self.queue).unwrap();
        let _ = timeout(PATIENCE, self.connection.flush()).await.expect("the pool does not read");
    }

    /// Queues a share that is unlike all before and no block, and returns its sequence number.
    pub(crate) fn share(&mut self) -> u32 {
        loop {
            self.nonce += 1;
            if !self.is_block() {
                return self.share_with(self.nonce);
            }
        }
    }

    /// Queues a share with that nonce.
    pub(crate) fn share_with(&mut self, nonce: u32) -> u32 {
        let job = self.tip.expect("there is a job").job;
        self.share_on_job(job, nonce)
    }

    /// Queues a share for any job, with the time and version of the present one.
    pub(crate) fn share_on_job(&mut self, job_id: u32, nonce: u32) -> u32 {
        let (tip, version) = self.work().map(|(tip, job)| (tip, job.version)).expect("there is a job");
        self.sequence += 1;
        let share = mining::SubmitSharesExtended {
            channel_id: self.channel,
            sequence_number: self.sequence,
            job_id,
            nonce,
            ntime: tip.min_ntime,
            version,
            extranonce: B032::new(&[0; EXTRANONCE_LEN]).unwrap(),
        };
        let worker = self.worker.map(|name| Tlv::user_identity(name).unwrap());
        encode_with_tlvs(share, worker.as_slice(), &mut self.queue).unwrap();
        self.sequence
    }

    /// Sends a share and waits until it is acknowledged; how long that took.
    pub(crate) async fn earn(&mut self) -> Duration {
        let start = Clock.monotonic();
        let number = self.share();
        self.flush().await;
        self.hear_until(|miner| miner.last_acknowledged == number).await.unwrap();
        Clock.monotonic() - start
    }

    /// Queues a share that is a block, and returns its sequence number.
    pub(crate) fn block(&mut self) -> u32 {
        loop {
            self.nonce += 1;
            if self.is_block() {
                return self.share_with(self.nonce);
            }
        }
    }

    fn is_block(&self) -> bool {
        let (tip, _) = self.work().expect("there is a job");
        let target = Target::from_compact(CompactTarget::from_consensus(tip.nbits));
        target.is_met_by(self.hash().as_byte_array())
    }

    /// The hash of the header that the present job and the last nonce make.
    pub(crate) fn hash(&self) -> sha256d::Hash {
        let (tip, job) = self.work().expect("there is a job");
        let mut coinbase = job.coinbase_prefix.clone();
        coinbase.extend_from_slice(&self.prefix);
        coinbase.extend_from_slice(&[0; EXTRANONCE_LEN]);
        coinbase.extend_from_slice(&job.coinbase_suffix);
        let txid = sha256d::Hash::hash(&coinbase);
        let root = job.path.iter().fold(txid, |hash, sibling| {
            sha256d::Hash::hash(&[hash.as_byte_array().as_slice(), sibling].concat())
        });
        let mut header = Vec::with_capacity(80);
        header.extend_from_slice(&job.version.to_le_bytes());
        header.extend_from_slice(&tip.prev_hash);
        header.extend_from_slice(root.as_byte_array());
        header.extend_from_slice(&tip.min_ntime.to_le_bytes());
        header.extend_from_slice(&tip.nbits.to_le_bytes());
        header.extend_from_slice(&self.nonce.to_le_bytes());
        sha256d::Hash::hash(&header)
    }

    /// What the miner's block would stand on, as the header has it; nothing while its job is not known.
    pub(crate) fn prev_hash(&self) -> Option<[u8; 32]> {
        self.work().map(|(tip, _)| tip.prev_hash)
    }

    /// The end of the coinbase that is mined now: who is paid.
    pub(crate) fn coinbase_suffix(&self) -> Option<&[u8]> {
        self.work().map(|(_, job)| &*job.coinbase_suffix)
    }

    /// The number of the job that is mined now.
    pub(crate) fn job(&self) -> Option<u32> {
        self.work().map(|(tip, _)| tip.job)
    }

    /// The job that is mined now, and what it stands on.
    fn work(&self) -> Option<(Tip, &Job)> {
        let tip = self.tip?;
        Some((tip, self.jobs.get(&tip.job)?))
    }

    /// Takes in messages until `done`.
    pub(crate) async fn hear_until(&mut self, mut done: impl FnMut(&Self) -> bool) -> Result<(), Closed> {
        let hearing = async {
            loop {
                self.take_frames();
                if done(self) {
                    return Ok(());
                }
                self.connection.read().await.map_err(|_| Closed)?;
            }
        };
        timeout(PATIENCE, hearing).await.expect("the pool did not answer")
    }

    /// Takes in the next messages. Cancel safe.
    pub(crate) async fn hear_more(&mut self) -> Result<(), Closed> {
        self.connection.read().await.map_err(|_| Closed)?;
        self.take_frames();
        Ok(())
    }

    /// Takes in messages for some time.
    pub(crate) async fn hear_for(&mut self, time: Duration) -> Result<(), Closed> {
        let listening = async {
            loop {
                self.take_frames();
                self.connection.read().await.map_err(|_| Closed)?;
            }
        };
        timeout(time, listening).await.unwrap_or(Ok(()))
    }

    /// Waits until the pool closes the connection, whatever it says before.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let reading = async {
            while self.connection.read().await.is_ok() {
                while let Ok(Some(_)) = self.connection.next_frame(|_| PAYLOAD_MAX) {}
            }
        };
        timeout(PATIENCE, reading).await.is_ok()
    }

    fn take_frames(&mut self) {
        while let Some(frame) = self.connection.next_frame(|_| PAYLOAD_MAX).unwrap() {
            let heard = decode(Protocol::Mining, frame).unwrap();
            match heard {
                Message::SetupConnectionSuccess(_)
                | Message::RequestExtensionsSuccess(_)
                | Message::SetTarget(_) => {}
                Message::CloseChannel(close) => {
                    assert_eq!(close.channel_id, self.channel);
                    self.dismissed = Some(String::from_utf8(close.reason_code.as_bytes().to_vec()).unwrap());
                }
                Message::SetExtranoncePrefix(set) => {
                    assert_eq!(set.channel_id, self.channel);
                    self.prefix = set.extranonce_prefix.as_bytes().to_vec();
                }
                Message::SetGroupChannel(set) => {
                    assert_eq!(set.channel_ids.iter().copied().collect::<Vec<_>>(), [self.channel]);
                    self.group = set.group_channel_id;
                }
                Message::Reconnect(to) => {
                    let host = String::from_utf8(to.new_host.as_bytes().to_vec()).unwrap();
                    self.sent_to = Some((host, to.new_port));
                }
                Message::OpenExtendedMiningChannelSuccess(opened) => {
                    self.channel = opened.channel_id;
                    self.group = opened.group_channel_id;
                    self.prefix = opened.extranonce_prefix.as_bytes().to_vec();
                    assert_eq!(usize::from(opened.extranonce_size), EXTRANONCE_LEN);
                }
                Message::NewExtendedMiningJob(job) => {
                    let path = job.merkle_path.iter().map(|hash| hash.to_array()).collect();
                    let known = Job {
                        version: job.version,
                        path,
                        coinbase_prefix: job.coinbase_tx_prefix.as_bytes().to_vec(),
                        coinbase_suffix: job.coinbase_tx_suffix.as_bytes().to_vec(),
                    };
                    self.jobs.insert(job.job_id, known);
                    if let (Some(tip), Some(&min_ntime)) = (&mut self.tip, job.min_ntime.as_ref()) {
                        (tip.job, tip.min_ntime) = (job.job_id, min_ntime);
                    }
                }
                Message::SetNewPrevHash(tip) => {
                    let prev_hash = tip.prev_hash.to_array();
                    let (nbits, min_ntime) = (tip.nbits, tip.min_ntime);
                    self.tip = Some(Tip { job: tip.job_id, prev_hash, nbits, min_ntime });
                    self.jobs.retain(|&job, _| job >= tip.job_id);
                    self.tips += 1;
                }
                Message::SubmitSharesSuccess(success) => {
                    self.acknowledged += u64::from(success.new_submits_accepted_count);
                    self.last_acknowledged = success.last_sequence_number;
                }
                Message::OpenMiningChannelError(error) => {
                    self.refused.push(String::from_utf8_lossy(error.error_code.as_bytes()).into_owned());
                }
                Message::SubmitSharesError(error) => {
                    self.refused.push(String::from_utf8_lossy(error.error_code.as_bytes()).into_owned());
                }
                other => panic!("unexpected {other:?}"),
            }
        }
    }
}

fn text(text: &str) -> Str0255<'_> {
    Str0255::try_from(text).unwrap()
}
