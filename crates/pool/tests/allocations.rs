//! How much memory a session takes: none for a share, little for a connection.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::sync::Arc;

use adit_channel::ShareRecord;
use adit_messages::types::{B032, Str0255, U256};
use adit_messages::{Message, common, encode, mining};
use adit_pool::{JOB_AGE_MAX, JobFactory, PoolConfig, Session, Work};
use adit_share::{Template, TemplateParts, Tip};
use adit_transport::{Frame, FrameQueue};
use adit_units::{ConnectionId, Height, Monotonic, Now, Sats, Target, TemplateId, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget, ScriptBuf};

const TIME: u32 = 1_700_000_000;

/// Most bytes that an idle connection with one channel may take in the core.
const IDLE_CONNECTION: u64 = 2 * 1024;

fn now() -> Now {
    Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(TIME) }
}

fn config() -> Arc<PoolConfig> {
    let mut config = PoolConfig::new(1, ScriptBuf::from_bytes(vec![0x51]));
    config.vardiff.easiest = Target::MAX;
    Arc::new(config)
}

fn work(config: &PoolConfig) -> Arc<Work> {
    let value = Sats::from_sats(5_000_000_000);
    let template = Template::new(TemplateParts {
        id: TemplateId(1),
        tip: Tip::new(BlockHash::all_zeros(), Height(9), CompactTarget::from_consensus(0x0300_0001), TIME),
        version: 0x2000_0000,
        time: TIME,
        coinbase_value: value,
        subsidy: value,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: Vec::new(),
    });
    let mut factory = JobFactory::new(config, 0).unwrap();
    factory.handle_template(&Arc::new(template.unwrap()), now()).unwrap().unwrap()
}

fn frames<'a>(messages: impl IntoIterator<Item = Message<'a>>) -> FrameQueue {
    let mut queue = FrameQueue::default();
    messages.into_iter().for_each(|message| encode(message, &mut queue).unwrap());
    queue
}

/// A user whose blocks pay the pool.
const POOLED: &str = "bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq.rig";

/// A user whose blocks pay the miner.
const SOLO: &str = "sri/solo/bc1qar0srrr7xfkvy5l643lydnw9re59gtzzwf5mdq/rig";

/// The messages that set a connection up and open one channel.
fn beginning(extended: bool) -> FrameQueue {
    beginning_as(POOLED, extended)
}

/// The same, as that user.
fn beginning_as(user: &str, extended: bool) -> FrameQueue {
    let text = |text| Str0255::try_from(text).unwrap();
    let setup = common::SetupConnection {
        protocol: common::Protocol::MiningProtocol,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: text("pool.example"),
        endpoint_port: 34254,
        vendor: text("vendor"),
        hardware_version: text("hardware"),
        firmware: text("firmware"),
        device_id: text("device"),
    };
    let (user_identity, max_target) = (text(user), U256::from(&[0xff; 32]));
    let open = if extended {
        Message::from(mining::OpenExtendedMiningChannel {
            request_id: 1,
            user_identity,
            nominal_hash_rate: 0.0,
            max_target,
            min_extranonce_size: 4,
        })
    } else {
        mining::OpenStandardMiningChannel { request_id: 1, user_identity, nominal_hash_rate: 0.0, max_target }
            .into()
    };
    frames([setup.into(), open])
}

fn shares(extended: bool, nonces: core::ops::Range<u32>) -> FrameQueue {
    let (channel_id, job_id, ntime, version) = (2, 1, TIME, 0x2000_0000);
    frames(nonces.map(|nonce| {
        let sequence_number = nonce;
        if extended {
            let extranonce = B032::new(&[0; 14]).unwrap();
            Message::from(mining::SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
                extranonce,
            })
        } else {
            mining::SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version }.into()
        }
    }))
}

/// A driver that does with a session what a server does.
struct Driver {
    session: Session,
    records: Vec<ShareRecord>,
    durable: u64,
}

impl Driver {
    fn new() -> Self {
        let config = config();
        let work = work(&config);
        let mut session = Session::new(config, ConnectionId(1), [1; 16], now());
        session.handle_work(work, now());
        Self { session, records: Vec::new(), durable: 0 }
    }

    fn takes(&mut self, frame: Frame<'_>) {
        assert!(frame.payload.len() <= self.session.frame_limit(&frame.header));
        self.session.handle_frame(frame, now()).unwrap();
        self.settles();
    }

    fn takes_at_once(&mut self, frames: &FrameQueue) {
        // Few enough that the session's lists keep their room.
        let mut frames = frames.iter();
        loop {
            let mut burst = self.session.burst(now());
            let taken = frames.by_ref().take(8).map(|frame| burst.handle_frame(frame).unwrap()).count();
            burst.finish().unwrap();
            self.settles();
            if taken == 0 {
                return;
            }
        }
    }

    fn settles(&mut self) {
        while self.session.poll_block().is_some() {}
        self.session.take_records(&mut self.records);
        self.durable += self.records.len() as u64;
        self.records.clear();
        self.session.handle_durable(self.durable);
        self.session.frames().clear();
    }
}

#[test]
fn an_accepted_share_takes_no_memory() {
    for (extended, user) in [(true, POOLED), (false, POOLED), (true, SOLO), (false, SOLO)] {
        let mut driver = Driver::new();
        beginning_as(user, extended).iter().for_each(|frame| driver.takes(frame));
        // Until the set of seen shares has the room that the rest will need.
        shares(extended, 0..1000).iter().for_each(|frame| driver.takes(frame));
        let rest = shares(extended, 1000..1300);
        let counted = allocation_counter::measure(|| rest.iter().for_each(|frame| driver.takes(frame)));
        assert_eq!((counted.count_total, driver.durable), (0, 1300), "extended: {extended}");
    }
}

#[test]
fn shares_in_a_burst_take_no_memory() {
    let mut driver = Driver::new();
    beginning(true).iter().for_each(|frame| driver.takes(frame));
    shares(true, 0..1000).iter().for_each(|frame| driver.takes(frame));
    // Room for what a burst accepts, as every driver's first bursts make it.
    driver.takes_at_once(&shares(true, 1000..1151));
    let rest = shares(true, 1151..1302);
    let counted = allocation_counter::measure(|| driver.takes_at_once(&rest));
    assert_eq!((counted.count_total, driver.durable), (0, 1302));
}

#[test]
fn a_refused_share_takes_no_memory() {
    let mut driver = Driver::new();
    beginning(true).iter().for_each(|frame| driver.takes(frame));
    let same = shares(true, 0..10);
    same.iter().for_each(|frame| driver.takes(frame));
    same.iter().for_each(|frame| driver.takes(frame));
    let counted = allocation_counter::measure(|| same.iter().for_each(|frame| driver.takes(frame)));
    assert_eq!((counted.count_total, driver.durable), (0, 10));
}

#[test]
fn an_idle_connection_with_a_channel_is_small() {
    for extended in [true, false] {
        let config = config();
        let (work, beginning) = (work(&config), beginning(extended));
        let mut kept = None;
        let counted = allocation_counter::measure(|| {
            let mut session = Session::new(config, ConnectionId(1), [1; 16], now());
            session.handle_work(Arc::clone(&work), now());
            for frame in &beginning {
                session.handle_frame(frame, now()).unwrap();
            }
            // A driver seals the frames into a buffer that it shares between connections.
            *session.frames() = FrameQueue::default();
            kept = Some(Box::new(session));
        });
        let bytes = u64::try_from(counted.bytes_current).unwrap();
        assert!(bytes <= IDLE_CONNECTION, "extended: {extended}, {bytes} bytes");
        assert!(kept.is_some_and(|session| session.channels() == 1));
    }
}

/// Jobs of the same tip that can earn are many; those of a group of its own are made anew for late shares.
#[test]
fn a_connection_whose_blocks_pay_the_miner_is_small_after_many_jobs() {
    let (config, beginning) = (config(), beginning_as(SOLO, true));
    let mut factory = JobFactory::new(&config, 0).unwrap();
    let first = factory.handle_template(work(&config).template(), now()).unwrap().unwrap();
    let renewed = |minute| {
        let later = now().after(JOB_AGE_MAX * minute);
        factory.handle_timeout(later).unwrap().expect("a minute is over")
    };
    let jobs: Vec<_> = core::iter::once(first).chain((1..30).map(renewed)).collect();
    let mut kept = None;
    let counted = allocation_counter::measure(|| {
        let mut session = Session::new(config, ConnectionId(1), [1; 16], now());
        for (number, work) in jobs.iter().enumerate() {
            session.handle_work(Arc::clone(work), now());
            if number == 0 {
                beginning.iter().for_each(|frame| session.handle_frame(frame, now()).unwrap());
            }
        }
        *session.frames() = FrameQueue::default();
        kept = Some(Box::new(session));
    });
    let bytes = u64::try_from(counted.bytes_current).unwrap();
    assert!(bytes <= 2 * IDLE_CONNECTION, "{bytes} bytes");
    assert!(kept.is_some_and(|session| session.channels() == 1));
}
