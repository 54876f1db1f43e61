//! The client of pools and our own pool's session, made to talk to each other without a line between them.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use core::time::Duration;
use std::sync::Arc;

use adit_channel::{ShareRecord, VardiffConfig, WorkerName};
use adit_pool::{EmptyJobs, JobFactory, PoolConfig, RESERVE_DELAY, Session, Successor};
use adit_share::{Extranonce, Template, TemplateParts, Tip, witness_commitment};
use adit_translator::upstream::payout::{self, Expectation};
use adit_translator::upstream::{
    ChannelWork, DOUBT_AFTER, Event, Outcome, UpShare, Upstream, UpstreamConfig,
};
use adit_units::{
    ConnectionId, Hashrate, Height, Monotonic, Now, Sats, ShareRate, Target, TemplateId, UnixTime,
};
use bitcoin::block::{Header, Version};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, TxMerkleNode, TxOut};

const START: u32 = 1_700_000_000;

/// Whom the pool pays.
fn script() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

/// A target that one hash in 256 meets, so that a share that was put together wrongly hardly ever passes.
fn easiest() -> Target {
    let mut bytes = [0xff; 32];
    bytes[31] = 0;
    Target::from_le_bytes(bytes)
}

/// Both ends and all between.
struct Stage {
    now: Now,
    jobs: JobFactory,
    session: Session,
    upstream: Upstream,
    height: u32,
    records: Vec<ShareRecord>,
    works: Vec<ChannelWork>,
    events: Vec<Event>,
}

impl Stage {
    fn new(config: PoolConfig) -> Self {
        let vardiff = VardiffConfig {
            rate: ShareRate::from_shares_per_minute(10),
            easiest: easiest(),
            ..VardiffConfig::default()
        };
        let config = Arc::new(PoolConfig { vardiff, empty_jobs: EmptyJobs::UntilTemplate, ..config });
        let now = Now { monotonic: Monotonic::from_micros(1_000_000), unix: UnixTime::from_secs(START) };
        let upstream = UpstreamConfig {
            host: "pool.example".to_owned(),
            port: 34254,
            user: "farm".to_owned(),
            min_extranonce_size: 12,
            names_workers: true,
            doubt_after: DOUBT_AFTER,
        };
        let mut stage = Self {
            now,
            jobs: JobFactory::new(&config, 3).unwrap(),
            session: Session::new(config, ConnectionId(1), [9; 16], now),
            upstream: Upstream::new(&Arc::new(upstream), now.monotonic),
            height: 100,
            records: Vec::new(),
            works: Vec::new(),
            events: Vec::new(),
        };
        stage.new_tip();
        assert_eq!(stage.take_events(), [Event::Ready { names_workers: true }]);
        stage
    }

    fn plain() -> Self {
        Self::new(PoolConfig::new(7, script()))
    }

    /// The pool's node has a template on another tip.
    fn new_tip(&mut self) {
        self.height += 1;
        self.refresh();
    }

    /// The pool's node has another template on the same tip.
    fn refresh(&mut self) {
        let subsidy = Sats::from_sats(5_000_000_000);
        let nbits = CompactTarget::from_consensus(0x0300_0001);
        let prev_hash = BlockHash::hash(&self.height.to_le_bytes());
        let fees = Sats::from_sats(self.now.monotonic.to_micros());
        let template = Template::new(TemplateParts {
            id: TemplateId(self.now.monotonic.to_micros()),
            tip: Tip::new(prev_hash, Height(self.height), nbits, START - 600),
            version: 0x2000_0000,
            time: self.now.unix.to_secs(),
            coinbase_value: subsidy.checked_add(fees).unwrap(),
            subsidy,
            fees,
            sigops: 0,
            transactions: Vec::new(),
            required_outputs: vec![TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&[]) }],
        });
        if let Some(work) = self.jobs.handle_template(&Arc::new(template.unwrap()), self.now).unwrap() {
            self.session.handle_work(work, self.now);
        }
        self.talk();
    }

    fn passes(&mut self, time: Duration) {
        self.now = self.now.after(time);
        if self.upstream.poll_timeout().is_some_and(|due| due <= self.now.monotonic) {
            self.upstream.handle_timeout(self.now.monotonic).unwrap();
        }
        self.talk();
    }

    /// Both say all that they have to say, and what is accepted becomes durable.
    fn talk(&mut self) {
        loop {
            let said = self.upstream.frames().as_bytes().to_vec();
            self.upstream.frames().clear();
            let mut rest = &said[..];
            while let Some((frame, behind)) = adit_transport::Frame::split_from(rest) {
                assert!(frame.payload.len() <= self.session.frame_limit(&frame.header));
                self.session.handle_frame(frame, self.now).unwrap();
                rest = behind;
            }
            self.session.take_records(&mut self.records);
            self.session.handle_durable(self.records.len() as u64);
            let answered = self.session.frames().as_bytes().to_vec();
            self.session.frames().clear();
            let mut rest = &answered[..];
            while let Some((frame, behind)) = adit_transport::Frame::split_from(rest) {
                assert!(frame.payload.len() <= self.upstream.frame_limit(&frame.header));
                self.upstream.handle_frame(frame, self.now.monotonic).unwrap();
                rest = behind;
            }
            if said.is_empty() && answered.is_empty() {
                break;
            }
        }
        while let Some(event) = self.upstream.poll_event() {
            match event {
                Event::Work(work) => {
                    self.works.retain(|known| known.key != work.key);
                    self.works.push(work);
                }
                other => self.events.push(other),
            }
        }
    }

    fn take_events(&mut self) -> Vec<Event> {
        core::mem::take(&mut self.events)
    }

    fn open(&mut self, key: u64) {
        let nominal = Hashrate::from_hashes_per_second(1);
        self.upstream.open(key, "", nominal, self.now.monotonic).unwrap();
        self.talk();
        assert_eq!(self.take_events(), [Event::Opened { key }]);
        assert!(self.works.iter().any(|work| work.key == key), "the pool gives work at once");
    }

    /// So many shares are found on what that channel was given last, and sent; each has a tag of its own from `tag` on.
    fn mine(&mut self, key: u64, tag: u64, count: usize) -> usize {
        let work = self.works.iter().find(|work| work.key == key).unwrap().clone();
        let nonces = (0..).filter(|&nonce| work.target.is_met_by(&hash(&work, &rolled(&work), nonce)));
        for (tag, nonce) in (tag..).zip(nonces.take(count)) {
            let share = UpShare {
                tag,
                key,
                source: work.source,
                nonce,
                ntime: work.job.min_ntime(),
                version: work.job.version(),
                extranonce: rolled(&work),
                worker: Some(WorkerName::from_wire(format!("rig{key}").as_bytes()).unwrap()),
            };
            self.upstream.submit(&share).unwrap();
        }
        self.talk();
        let accepted = |event: &Event| matches!(event, Event::Settled { outcome: Outcome::Accepted, .. });
        let events = self.take_events();
        assert!(events.iter().all(accepted), "{events:?}");
        events.len()
    }
}

/// What follows the pool's part: zeros, a machine's number, and what it rolls.
fn rolled(work: &ChannelWork) -> Extranonce {
    let pad = vec![0; usize::from(work.extranonce_size) - 12];
    Extranonce::join(&pad, &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12])
}

/// The hash of a header, made without any of our own arithmetic but the merkle root.
fn hash(work: &ChannelWork, rolled: &Extranonce, nonce: u32) -> [u8; 32] {
    let whole = Extranonce::join(work.prefix.as_bytes(), rolled.as_bytes());
    let header = Header {
        version: Version::from_consensus(work.job.version().cast_signed()),
        prev_blockhash: work.job.tip().prev_hash,
        merkle_root: TxMerkleNode::from_byte_array(work.job.merkle_root(whole.as_bytes()).unwrap()),
        time: work.job.min_ntime(),
        bits: work.job.tip().nbits,
        nonce,
    };
    header.block_hash().to_byte_array()
}

/// SRI: `translate_sv1_to_sv2_successfully`, from the pool's side of the translator.
#[test]
fn shares_of_one_channel_are_credited_with_the_names_of_those_who_found_them() {
    let mut stage = Stage::plain();
    stage.open(7);
    assert_eq!(stage.mine(7, 1, 10), 10);
    assert_eq!(stage.records.len(), 10);
    let names = stage.records.iter().map(|record| record.worker.unwrap());
    assert!(names.eq(core::iter::repeat_n(WorkerName::from_wire(b"rig7").unwrap(), 10)));
    assert_eq!(stage.upstream.pending(), 0);
    let work = &stage.works[0];
    assert_eq!(work.job.height(), Height(stage.height));
    let expected = Expectation { script: script(), least_percent: 100 };
    payout::check(&work.job, work.prefix.as_bytes(), work.extranonce_size, &expected).unwrap();
    let other = Expectation { script: ScriptBuf::from_bytes(vec![0x52]), least_percent: 1 };
    assert!(payout::check(&work.job, work.prefix.as_bytes(), work.extranonce_size, &other).is_err());
}

#[test]
fn each_channel_of_a_group_gets_the_jobs_of_new_tips_and_templates() {
    let mut stage = Stage::plain();
    for key in [7, 8, 9] {
        stage.open(key);
    }
    for round in 1..=6 {
        stage.passes(Duration::from_secs(60));
        if round % 2 == 0 {
            stage.new_tip()
        } else {
            stage.refresh()
        }
        let first = Arc::clone(&stage.works[0].job);
        assert!(stage.works.iter().all(|work| Arc::ptr_eq(&work.job, &first)), "one job for all");
        assert_eq!(first.height(), Height(stage.height));
        for key in [7, 8, 9] {
            assert_eq!(stage.mine(key, round * 1_000 + key * 10, 2), 2);
        }
    }
    assert_eq!(stage.records.len(), 36);
    assert_eq!(stage.upstream.ignored(), adit_translator::upstream::Ignored::default());
    stage.upstream.close(8);
    stage.works.retain(|work| work.key != 8);
    stage.passes(Duration::from_secs(1));
    stage.new_tip();
    assert_eq!(stage.works.iter().map(|work| work.key).collect::<Vec<_>>(), [7, 9]);
    assert_eq!((stage.mine(7, 90_000, 2), stage.mine(9, 91_000, 2)), (2, 2));
}

/// SRI: `aggregated_translator_handles_downstream_connecting_during_future_job`, with a channel of its own for who comes.
#[test]
fn a_channel_that_comes_while_a_job_for_the_next_tip_is_out_follows_to_it() {
    let mut stage = Stage::plain();
    stage.open(7);
    stage.passes(RESERVE_DELAY);
    let reserve = stage.jobs.handle_timeout(stage.now).unwrap().expect("there was no job for the next tip");
    stage.session.handle_work(reserve, stage.now);
    stage.talk();
    stage.open(8);
    stage.height += 1;
    let nbits = CompactTarget::from_consensus(0x0300_0001);
    let prev_hash = BlockHash::hash(&stage.height.to_le_bytes());
    let tip = Tip::new(prev_hash, Height(stage.height), nbits, START - 600);
    let work = stage.jobs.handle_tip(&tip, stage.now).unwrap().expect("the job that was put by");
    stage.session.handle_work(work, stage.now);
    stage.talk();
    for key in [7, 8] {
        let work = stage.works.iter().find(|work| work.key == key).unwrap();
        assert_eq!((work.job.height(), work.is_new_tip), (Height(stage.height), true));
        assert_eq!(stage.mine(key, key * 100, 2), 2);
    }
}

#[test]
fn a_speed_that_is_told_gives_a_target_that_fits() {
    let mut stage = Stage::plain();
    stage.open(7);
    let before = stage.works[0].target;
    stage.passes(Duration::from_secs(20));
    stage.upstream.set_hashrate(7, Hashrate::from_hashes_per_second(1_000_000), stage.now.monotonic);
    stage.talk();
    stage.passes(Duration::from_secs(1));
    stage.refresh();
    assert!(stage.works[0].target < before, "{} is no harder", stage.works[0].target);
    assert!(stage.upstream.channels().all(|channel| channel.target == stage.works[0].target));
}

#[test]
fn a_pool_that_winds_down_sends_its_miners_to_its_successor() {
    let successor = Some(Successor { host: "other.example".to_owned(), port: 34255 });
    let mut stage = Stage::new(PoolConfig { successor, ..PoolConfig::new(7, script()) });
    stage.open(7);
    stage.session.begin_drain();
    stage.talk();
    assert_eq!(stage.take_events(), [Event::Reconnect { host: "other.example".to_owned(), port: 34255 }]);
}

#[test]
fn as_many_channels_as_the_pool_allows_are_opened_in_one_go() {
    let mut stage = Stage::plain();
    let nominal = Hashrate::from_hashes_per_second(1);
    for key in 0..300 {
        stage.upstream.open(key, "", nominal, stage.now.monotonic).unwrap();
    }
    stage.talk();
    let events = stage.take_events();
    let opened = events.iter().filter(|event| matches!(event, Event::Opened { .. })).count();
    let refused = events.iter().filter(|event| matches!(event, Event::Refused { .. })).count();
    assert_eq!((opened, refused, stage.works.len()), (256, 44, 256));
}
