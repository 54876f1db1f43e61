//! Dialogues with a pool made of hand-written messages, on a virtual clock.
#![expect(
    clippy::unwrap_in_result,
    reason = "the results are the client's, and what is unwrapped is the test's own"
)]

use adit_messages::extensions::{RequestExtensionsError, RequestExtensionsSuccess};
use adit_messages::flags::{MiningSetupFlags, MiningSuccessFlags};
use adit_messages::types::{B064K, Seq064K, Seq0255, Str0255, Sv2Option};
use adit_messages::{Message, common, decode_with_tlvs, encode, tlv::Tlvs};
use adit_share::Extranonce;

use super::*;

mod groups;
mod hashrates;
mod hostile;
mod opening;
mod setup;
mod shares;
mod silence;
mod work;

const NTIME: u32 = 1_700_000_000;

/// What the client sent, in a form that tests can compare.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Setup { flags: u32 },
    Extensions(Vec<u16>),
    Open { request: u32, user: String, rate: u64, least: u16 },
    Submit { channel: u32, number: u32, job: u32, extranonce: Vec<u8>, name: Option<String> },
    Update { channel: u32, rate: u64 },
    Close { channel: u32, reason: String },
}

struct Stage {
    upstream: Upstream,
    now: Monotonic,
    /// Whether the pool answers when it is asked whether it is there.
    is_there: bool,
    /// Whether it refuses what no pool can accept.
    judges: bool,
    /// How often it was given such a share.
    doubts: u32,
}

fn config() -> UpstreamConfig {
    UpstreamConfig {
        host: "pool.example".to_owned(),
        port: 34254,
        user: "farm".to_owned(),
        min_extranonce_size: 12,
        names_workers: false,
        doubt_after: DOUBT_AFTER,
    }
}

fn text(text: &str) -> Str0255<'_> {
    text.try_into().unwrap()
}

fn rate(hashes_per_second: u64) -> Hashrate {
    Hashrate::from_hashes_per_second(hashes_per_second)
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

impl Stage {
    fn with(config: UpstreamConfig) -> Self {
        let now = Monotonic::from_micros(1_000_000);
        Self { upstream: Upstream::new(&Arc::new(config), now), now, is_there: true, judges: true, doubts: 0 }
    }

    /// One that has just connected.
    fn new() -> Self {
        Self::with(config())
    }

    /// One that may open channels.
    fn ready() -> Self {
        let mut stage = Self::new();
        stage.hears(success(MiningSuccessFlags::NONE)).unwrap();
        assert_eq!(stage.event(), Some(Event::Ready { names_workers: false }));
        stage.sent();
        stage
    }

    /// One with these channels, all of group 1, as keys and numbers.
    fn open(channels: &[(u64, u32)]) -> Self {
        let mut stage = Self::ready();
        for &(key, channel) in channels {
            let request = stage.asks(key);
            stage.hears(opened(request, channel, 1)).unwrap();
            assert_eq!(stage.event(), Some(Event::Opened { key }));
        }
        stage
    }

    /// One whose only channel, which its owner calls 7 and the pool 2, has work.
    fn mining() -> (Self, ChannelWork) {
        let mut stage = Self::open(&[(7, 2)]);
        stage.hears(job(2, 1, None)).unwrap();
        stage.hears(tip(2, 1, 1)).unwrap();
        let work = stage.work();
        (stage, work)
    }

    /// Asks for a channel; the answer is the number of the request.
    fn asks(&mut self, key: u64) -> u32 {
        self.upstream.open(key, "", rate(1_000), self.now).unwrap();
        match self.sent().pop() {
            Some(Sent::Open { request, .. }) => request,
            other => panic!("a request, not {other:?}"),
        }
    }

    fn hears<'a>(&mut self, message: impl Into<Message<'a>>) -> Result<(), UpstreamError> {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        let frame = queue.iter().next().unwrap();
        let limit = self.upstream.frame_limit(&frame.header);
        assert!(frame.payload.len() <= limit, "the transport would refuse {frame:?}, the limit is {limit}");
        self.upstream.handle_frame(frame, self.now)
    }

    fn event(&mut self) -> Option<Event> {
        self.upstream.poll_event()
    }

    fn events(&mut self) -> Vec<Event> {
        core::iter::from_fn(|| self.upstream.poll_event()).collect()
    }

    fn work(&mut self) -> ChannelWork {
        match self.event() {
            Some(Event::Work(work)) => work,
            other => panic!("work, not {other:?}"),
        }
    }

    /// Every event, which must be work, as the keys and jobs.
    fn works(&mut self) -> Vec<(u64, u32)> {
        let work = |event| match event {
            Event::Work(work) => (work.key, work.source.job),
            other => panic!("work, not {other:?}"),
        };
        self.events().into_iter().map(work).collect()
    }

    /// Time passes, in which all that is due is done.
    fn passes(&mut self, time: Duration) -> Result<(), UpstreamError> {
        let end = self.now + time;
        while let Some(next) = self.upstream.poll_timeout().filter(|&next| next <= end) {
            self.now = self.now.max(next);
            self.upstream.handle_timeout(self.now)?;
            self.answers_probe()?;
            assert_ne!(self.upstream.poll_timeout(), Some(next), "what is due is done at once");
        }
        self.now = end;
        Ok(())
    }

    /// The pool refuses what no pool can give, if the client has just asked for it; the rest of what was said is left.
    fn answers_probe(&mut self) -> Result<(), UpstreamError> {
        if !self.is_there {
            return Ok(());
        }
        let doubtful = self.upstream.doubtful;
        let last = self.upstream.frames().iter().last();
        let message = last.map(|frame| decode_with_tlvs(Protocol::Mining, frame).unwrap().0);
        if let Some(Message::SubmitSharesExtended(submit)) = &message
            && doubtful == Some((submit.channel_id, submit.sequence_number))
        {
            assert_eq!((submit.job_id, submit.extranonce.as_bytes()), (NO_JOB, &[0; 14][..]));
            self.doubts += 1;
            let (channel_id, sequence_number) = (submit.channel_id, submit.sequence_number);
            let error_code = text("invalid-job-id");
            let refusal = mining::SubmitSharesError { channel_id, sequence_number, error_code };
            return if self.judges { self.hears(refusal) } else { Ok(()) };
        }
        let Some(Message::OpenExtendedMiningChannel(open)) = message else { return Ok(()) };
        let (request_id, least) = (open.request_id, open.min_extranonce_size);
        if least != u16::MAX || self.upstream.probe != Some(request_id) {
            return Ok(());
        }
        let error_code = text("min-extranonce-size-too-large");
        self.hears(mining::OpenMiningChannelError { request_id, error_code })
    }

    /// What the client has said since it was last asked.
    fn sent(&mut self) -> Vec<Sent> {
        let sent = self.upstream.frames().iter().map(|frame| {
            let (message, rest) = decode_with_tlvs(Protocol::Mining, frame).unwrap();
            read(&message, Tlvs::parse(rest).unwrap())
        });
        let sent = sent.collect();
        self.upstream.frames().clear();
        sent
    }

    /// Submits a share of that work, with zeros for an extranonce.
    fn submits(&mut self, tag: u64, work: &ChannelWork) -> Result<(), NotSubmitted> {
        self.upstream.submit(&share(tag, work))
    }

    /// The pool accepts all shares that the channel 2 has been sent.
    fn accepts_all(&mut self) {
        let last_sequence_number = self.upstream.registry.by_id(2).unwrap().pending.last_number();
        self.hears(mining::SubmitSharesSuccess {
            channel_id: 2,
            last_sequence_number,
            new_submits_accepted_count: 1,
            new_shares_sum: 1,
        })
        .unwrap();
    }

    fn ignored(&self) -> Ignored {
        self.upstream.ignored()
    }
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a test's rates are small")]
fn read(message: &Message<'_>, tlvs: Tlvs<'_>) -> Sent {
    let owned = |text: &Str0255<'_>| String::from_utf8(text.as_bytes().to_vec()).unwrap();
    match message {
        Message::SetupConnection(setup) => Sent::Setup { flags: setup.flags },
        Message::RequestExtensions(request) => {
            Sent::Extensions(request.requested_extensions.iter().copied().collect())
        }
        Message::OpenExtendedMiningChannel(open) => Sent::Open {
            request: open.request_id,
            user: owned(&open.user_identity),
            rate: open.nominal_hash_rate as u64,
            least: open.min_extranonce_size,
        },
        Message::SubmitSharesExtended(submit) => Sent::Submit {
            channel: submit.channel_id,
            number: submit.sequence_number,
            job: submit.job_id,
            extranonce: submit.extranonce.as_bytes().to_vec(),
            name: tlvs.user_identity().unwrap().map(str::to_owned),
        },
        Message::UpdateChannel(update) => {
            assert_eq!(*update.maximum_target.as_array(), Target::MAX.to_le_bytes());
            Sent::Update { channel: update.channel_id, rate: update.nominal_hash_rate as u64 }
        }
        Message::CloseChannel(close) => {
            Sent::Close { channel: close.channel_id, reason: owned(&close.reason_code) }
        }
        other => panic!("a client does not say {other:?}"),
    }
}

fn share(tag: u64, work: &ChannelWork) -> UpShare {
    UpShare {
        tag,
        key: work.key,
        source: work.source,
        nonce: 1,
        ntime: NTIME,
        version: 0x2000_0000,
        extranonce: Extranonce::join(&[0; 32][..work.extranonce_size.into()], &[]),
        worker: None,
    }
}

fn success(flags: MiningSuccessFlags) -> common::SetupConnectionSuccess {
    common::SetupConnectionSuccess { used_version: 2, flags: flags.bits() }
}

/// A channel with a prefix that begins with its number, and 14 bytes behind it.
fn opened(request_id: u32, channel_id: u32, group_channel_id: u32) -> Message<'static> {
    let prefix = [channel_id.to_le_bytes(), [9; 4]].concat();
    mining::OpenExtendedMiningChannelSuccess {
        request_id,
        channel_id,
        target: U256::from(const { &[0xff; 32] }),
        extranonce_size: 14,
        extranonce_prefix: B032::try_from(&*prefix.leak()).unwrap(),
        group_channel_id,
    }
    .into()
}

fn job(channel_id: u32, job_id: u32, min_ntime: Option<u32>) -> Message<'static> {
    mining::NewExtendedMiningJob {
        channel_id,
        job_id,
        min_ntime: Sv2Option::new(min_ntime),
        version: 0x2000_0000,
        version_rolling_allowed: true,
        merkle_path: Seq0255::new(vec![U256::from(const { &[6; 32] })]).unwrap(),
        coinbase_tx_prefix: B064K::try_from(&b"begin"[..]).unwrap(),
        coinbase_tx_suffix: B064K::try_from(&b"end"[..]).unwrap(),
    }
    .into()
}

fn tip(channel_id: u32, job_id: u32, block: u8) -> Message<'static> {
    mining::SetNewPrevHash {
        channel_id,
        job_id,
        prev_hash: U256::from(&*Box::leak(Box::new([block; 32]))),
        min_ntime: NTIME,
        nbits: 0x1d00_ffff,
    }
    .into()
}

/// A target whose most significant byte is this and all others are ones.
fn target(top: u8) -> Target {
    let mut bytes = [0xff; 32];
    bytes[31] = top;
    Target::from_le_bytes(bytes)
}

fn set_target(channel_id: u32, top: u8) -> Message<'static> {
    let maximum_target = U256::from(&*Box::leak(Box::new(target(top).to_le_bytes())));
    mining::SetTarget { channel_id, maximum_target }.into()
}

fn set_group(group_channel_id: u32, channels: &[u32]) -> Message<'static> {
    let channel_ids = Seq064K::new(channels.to_vec()).unwrap();
    mining::SetGroupChannel { group_channel_id, channel_ids }.into()
}

fn close_channel(channel_id: u32) -> Message<'static> {
    mining::CloseChannel { channel_id, reason_code: text("over") }.into()
}

fn settled(tag: u64, outcome: Outcome) -> Event {
    Event::Settled { tag, outcome }
}

fn closed(key: u64) -> Event {
    Event::Closed { key, reason: "over".to_owned() }
}
