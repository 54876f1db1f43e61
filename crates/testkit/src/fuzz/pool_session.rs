//! A pool session whose peer, node and disk do what the bytes say: it may refuse and disconnect, but it keeps its promises.

use core::time::Duration;
use std::sync::Arc;

use crate::session_model::{SessionModel, Share};
use adit_channel::{ShareKind, ShareRecord, VardiffConfig};
use adit_messages::types::{B032, Str0255, U256};
use adit_messages::{Direction, Message, Protocol, common, decode, encode, mining};
use adit_pool::{GROUP_CHANNEL, JobFactory, PoolConfig, RESERVE_DELAY, Session};
use adit_share::{Template, TemplateParts, Tip};
use adit_transport::{Frame, FrameQueue, PayloadTooLong};
use adit_units::{ConnectionId, Height, JobId, Monotonic, Now, Sats, Target, TemplateId, UnixTime, Work};
use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, CompactTarget, ScriptBuf};

/// The wall clock at the start, in seconds.
const START: u32 = 1_700_000_000;
/// Most channels of the connection; few, so that the limit is reached.
const CHANNELS: u16 = 4;
/// Most actions of one input.
const ACTIONS: usize = 300;

/// The bytes of an input, zeros behind its end.
struct Script<'a>(&'a [u8]);

impl<'a> Script<'a> {
    fn byte(&mut self) -> u8 {
        self.0.split_off_first().copied().unwrap_or(0)
    }

    fn number(&mut self) -> u32 {
        self.byte().into()
    }

    fn bytes(&mut self, length: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

/// The session and what has been seen of it.
struct Stage {
    now: Now,
    jobs: JobFactory,
    session: Session,
    records: Vec<ShareRecord>,
    blocks: usize,
    model: SessionModel,
    /// Channel, sequence number and code of the share that was refused last.
    refused: Option<(u32, u32, String)>,
    durable: u64,
    acknowledged: u64,
    templates: u32,
    height: u32,
    newest: JobId,
    sequence: u32,
}

/// Lets the bytes act.
///
/// # Panics
///
/// If a share gets another answer than [`SessionModel`] predicts, a hash is credited twice, more is acknowledged than is durable, a tip names a job that was not announced, a block is no block
/// or has no record, a limit is passed, or the session sends what a server may not.
pub fn run(bytes: &[u8]) {
    let _played = play(bytes);
}

/// Lets the bytes act, and gives what came of it.
fn play(bytes: &[u8]) -> Stage {
    let mut script = Script(bytes);
    let mut stage = Stage::new();
    for _ in 0..ACTIONS {
        if script.0.is_empty() || stage.act(&mut script).is_err() {
            break;
        }
    }
    stage
}

/// The session has ended.
struct Ended;

impl Stage {
    fn new() -> Self {
        let mut config = PoolConfig::new(1, ScriptBuf::from_bytes(vec![0x51]));
        // Shares need no mining, so that the bytes can make valid ones.
        config.vardiff = VardiffConfig { easiest: Target::MAX, ..config.vardiff };
        config.channels_per_connection = CHANNELS;
        let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(START) };
        let jobs = JobFactory::new(&config, 0).expect("the configuration is that of a pool");
        Self {
            now,
            jobs,
            session: Session::new(Arc::new(config), ConnectionId(1), [3; 16], now),
            records: Vec::new(),
            blocks: 0,
            model: SessionModel::default(),
            refused: None,
            durable: 0,
            acknowledged: 0,
            templates: 0,
            height: 1,
            newest: JobId(0),
            sequence: 0,
        }
    }

    /// One action of the peer, the node, the disk or the clock.
    fn act(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let action = script.byte();
        match action % 12 {
            _ if action >= 254 => self.tip_alone(),
            _ if action >= 252 => self.put_by(),
            0 => self.any_frame(script)?,
            1 => self.send(setup(script))?,
            2 => self.open(script)?,
            3..=5 => self.submit(script)?,
            6 => self.update(script)?,
            7 => {
                self.send(mining::CloseChannel { channel_id: script.number() % 8, reason_code: text("bye") })?
            }
            8 => self.new_template(script),
            9 => {
                self.height += 1;
                self.new_template(script);
            }
            10 => {
                // The disk never claims more than it was given.
                self.durable = (self.durable + u64::from(script.byte())).min(self.records.len() as u64);
                self.session.handle_durable(self.durable);
            }
            _ => self.wait(script)?,
        }
        self.check();
        Ok(())
    }

    fn any_frame(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let extension = [0, 0, 0, 1, 2, 0x4000][script.byte() as usize % 6];
        let (kind, length) = (script.byte(), script.byte());
        let payload = script.bytes(length.into());
        self.deliver_all(&queued(|queue| queue.push(extension, kind & 0x80 != 0, kind & 0x7f, payload)))
    }

    fn send<'m>(&mut self, message: impl Into<Message<'m>>) -> Result<(), Ended> {
        self.deliver_all(&queued(|queue| encode(message, queue)))
    }

    fn deliver_all(&mut self, queue: &FrameQueue) -> Result<(), Ended> {
        queue.iter().try_for_each(|frame| self.deliver(frame))
    }

    fn deliver(&mut self, frame: Frame<'_>) -> Result<(), Ended> {
        let limit = self.session.frame_limit(&frame.header);
        let outcome = self.session.handle_frame(frame, self.now);
        assert!(frame.payload.len() <= limit || outcome.is_err(), "a frame beyond the limit was taken");
        if let (Ok(()), Ok(Message::CloseChannel(close))) = (&outcome, decode(Protocol::Mining, frame)) {
            self.model.closes(close.channel_id);
        }
        // Even then, what was queued and recorded is still valid.
        self.check();
        outcome.map_err(|_| Ended)
    }

    fn open(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let (kind, rate, target) = (script.byte(), script.byte(), [script.byte().max(1); 32]);
        let nominal_hash_rate = rate_of(rate);
        let (request_id, user_identity, max_target) = (kind.into(), text("a.b"), U256::from(&target));
        if kind % 2 == 0 {
            let min_extranonce_size = (kind / 8).into();
            self.send(mining::OpenExtendedMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
                min_extranonce_size,
            })
        } else {
            self.send(mining::OpenStandardMiningChannel {
                request_id,
                user_identity,
                nominal_hash_rate,
                max_target,
            })
        }
    }

    fn submit(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let (channel_id, kind) = (script.number() % 8, script.byte());
        let job_id = (self.newest.0 + 1).saturating_sub(script.number() % 24);
        let (nonce, late) = (script.number() % 8, script.number() % 4);
        let ntime = self.model.min_ntime(channel_id, job_id).unwrap_or(START) + late;
        let extended = kind % 2 == 0;
        let share = Share { channel: channel_id, extended, job: job_id, nonce, ntime };
        let (predicted, before) = (self.model.predicts(&share), self.records.len());
        self.refused = None;
        self.send_share(&share)?;
        match predicted {
            Ok((work, hash)) => {
                let record = self.records.get(before).expect("a good share was refused");
                assert_eq!((record.work, record.hash, record.channel.0), (work, hash, channel_id));
            }
            Err(code) => {
                assert_eq!(self.records.len(), before, "a share that is {code} was accepted");
                let refused = self.refused.take().expect("a bad share is answered");
                let is_either = code == "stale-share" && self.model.is_either(job_id);
                let code = if is_either && refused.2 == "invalid-job-id" { "invalid-job-id" } else { code };
                assert_eq!(refused, (channel_id, self.sequence, code.to_owned()));
            }
        }
        Ok(())
    }

    fn send_share(&mut self, share: &Share) -> Result<(), Ended> {
        self.sequence += 1;
        let Share { channel, extended, job, nonce, ntime } = *share;
        let (channel_id, job_id, sequence_number, version) = (channel, job, self.sequence, 0x2000_0000);
        if extended {
            let extranonce = rolled();
            self.send(mining::SubmitSharesExtended {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
                extranonce,
            })
        } else {
            self.send(mining::SubmitSharesStandard {
                channel_id,
                sequence_number,
                job_id,
                nonce,
                ntime,
                version,
            })
        }
    }

    /// The tip has stood for a while, and the pool puts a job for the next one up.
    fn put_by(&mut self) {
        self.now = self.now.after(RESERVE_DELAY);
        let due = self.jobs.poll_timeout().is_some_and(|due| due <= self.now.monotonic);
        let work = due.then(|| self.jobs.handle_timeout(self.now).expect("a small template makes a job"));
        self.put_up(work.flatten());
    }

    /// There is another tip, and no template on it.
    fn tip_alone(&mut self) {
        self.height += 1;
        let prev_hash = BlockHash::hash(&self.height.to_le_bytes());
        let tip = Tip::new(prev_hash, Height(self.height), CompactTarget::from_consensus(0x0300_0001), START);
        let work = self.jobs.handle_tip(&tip, self.now).expect("an empty block can be made at any height");
        self.put_up(work);
    }

    fn put_up(&mut self, work: Option<Arc<adit_pool::Work>>) {
        let Some(work) = work else { return };
        self.newest = self.newest.max(work.id());
        if work.is_aside() {
            self.session.handle_aside(&work, self.now);
        } else {
            self.session.handle_work(work, self.now);
        }
    }

    fn update(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        let (channel_id, nominal_hash_rate, target) =
            (script.number() % 8, rate_of(script.byte()), [script.byte(); 32]);
        self.send(mining::UpdateChannel {
            channel_id,
            nominal_hash_rate,
            maximum_target: U256::from(&target),
        })
    }

    fn new_template(&mut self, script: &mut Script<'_>) {
        // A larger coinbase value makes the template unlike the one before.
        self.templates += 1;
        let (subsidy, fees) = (Sats::from_sats(5_000_000_000), Sats::from_sats(self.templates.into()));
        let nbits = if script.byte().is_multiple_of(4) { 0x207f_ffff } else { 0x0300_0001 };
        let prev_hash = BlockHash::hash(&self.height.to_le_bytes());
        let tip = Tip::new(prev_hash, Height(self.height), CompactTarget::from_consensus(nbits), START);
        let template = Template::new(TemplateParts {
            id: TemplateId(self.templates.into()),
            tip,
            version: 0x2000_0000,
            time: START,
            coinbase_value: subsidy.checked_add(fees).expect("far less than all money"),
            subsidy,
            fees,
            sigops: 0,
            transactions: Vec::new(),
            required_outputs: Vec::new(),
        });
        let template = Arc::new(template.expect("the value adds up"));
        let work = self.jobs.handle_template(&template, self.now).expect("a small template makes a job");
        let work = work.expect("no two templates are alike");
        self.put_up(Some(work));
    }

    fn wait(&mut self, script: &mut Script<'_>) -> Result<(), Ended> {
        self.now = self.now.after(Duration::from_secs(script.byte().into()));
        if self.session.poll_timeout().is_some_and(|due| due <= self.now.monotonic) {
            self.session.handle_timeout(self.now).map_err(|_| Ended)?;
        }
        if self.session.take_wish() {
            self.renew();
        }
        Ok(())
    }

    /// The session has asked for a job.
    fn renew(&mut self) {
        self.jobs.handle_wish(self.now.monotonic);
        let work = self.jobs.handle_timeout(self.now).expect("a small template makes a job");
        self.put_up(work);
    }

    /// Takes what the session has emitted, and holds it against what it has promised.
    fn check(&mut self) {
        let mut found = Vec::new();
        while let Some(block) = self.session.poll_block() {
            assert_eq!(block.block.check(), Ok(()));
            found.push(block);
        }
        let old = self.records.len();
        self.session.take_records(&mut self.records);
        for record in &self.records[old..] {
            self.model.earned(record.hash);
        }
        for block in found {
            let place = usize::try_from(block.record).expect("few shares").checked_sub(1);
            let record = place.and_then(|place| self.records.get(place));
            match record.filter(|record| record.hash == block.block.hash.to_byte_array()) {
                Some(_) => self.blocks += 1,
                None => assert_eq!(block.work, Work::ZERO, "only a block on a former tip has no record"),
            }
        }
        let blocks = self.records.iter().filter(|record| record.kind == ShareKind::Block).count();
        assert_eq!(self.blocks, blocks, "every block that earns is handed over");
        for frame in &std::mem::take(self.session.frames()) {
            let message = decode(Protocol::Mining, frame).expect("a server sends messages");
            assert_ne!(message.info().direction, Direction::ToServer);
            self.hear(&message);
        }
        assert!(self.acknowledged <= self.durable);
        assert!(self.session.channels() <= CHANNELS.into());
        assert_eq!(self.session.unacknowledged() as u64 + self.durable, self.records.len() as u64);
    }

    fn hear(&mut self, message: &Message<'_>) {
        self.model.hears(message);
        match message {
            Message::SubmitSharesError(error) => {
                let code = String::from_utf8_lossy(error.error_code.as_bytes()).into_owned();
                self.refused = Some((error.channel_id, error.sequence_number, code));
            }
            Message::SetTarget(target) => assert!(target.channel_id > GROUP_CHANNEL.0),
            Message::SubmitSharesSuccess(success) => {
                self.acknowledged += u64::from(success.new_submits_accepted_count);
            }
            _ => {}
        }
    }
}

/// A queue with what `push` puts into it.
fn queued(push: impl FnOnce(&mut FrameQueue) -> Result<(), PayloadTooLong>) -> FrameQueue {
    let mut queue = FrameQueue::default();
    push(&mut queue).expect("no script is longer than a frame can carry");
    queue
}

/// What an extended channel rolls.
fn rolled() -> B032<'static> {
    B032::new(&[0; 14]).expect("shorter than 32 bytes")
}

/// A rate from slow to absurd, and values that are no rates.
fn rate_of(byte: u8) -> f32 {
    match byte {
        0 => 0.0,
        1 => f32::NAN,
        2 => f32::INFINITY,
        3 => -1.0,
        4 => f32::MAX,
        other => Work::from_hashes(1 << (other % 100)).to_hashes() as f32,
    }
}

fn setup(script: &mut Script<'_>) -> common::SetupConnection<'static> {
    let (flags, versions) = (script.number(), script.byte());
    common::SetupConnection {
        protocol: common::Protocol::try_from(versions >> 6).unwrap_or(common::Protocol::MiningProtocol),
        min_version: (2 + (versions & 3) / 3).into(),
        max_version: (2 + (versions & 1)).into(),
        flags: if flags >= 0x80 { flags << 16 } else { flags & 0b101 },
        endpoint_host: text("host"),
        endpoint_port: 1,
        vendor: text("vendor"),
        hardware_version: text(""),
        firmware: text(""),
        device_id: text(""),
    }
}

fn text(text: &str) -> Str0255<'_> {
    Str0255::try_from(text).expect("shorter than 256 bytes")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Plays a stored input.
    fn stored(name: &str) -> Stage {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz/corpus/pool_session");
        play(&std::fs::read(format!("{folder}/{name}")).unwrap())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_is_played_the_model_predicts_every_answer(flags in prop::sample::select(vec![0_u8, 1]), actions in actions()) {
            // Set up, and a template to begin with.
            let start = [1, flags, 0, 8, 1];
            run(&[&start[..], &actions.concat()].concat());
        }
    }

    /// Actions that do something, most of them shares, openings and jobs.
    fn actions() -> impl Strategy<Value = Vec<Vec<u8>>> {
        let with = |action: u8, parameters: usize| {
            prop::collection::vec(any::<u8>(), parameters).prop_map(move |rest| [vec![action], rest].concat())
        };
        let action = prop_oneof![
            3 => with(2, 3),
            8 => with(3, 4),
            1 => with(7, 1),
            3 => with(8, 1),
            1 => with(9, 1),
            1 => with(10, 1),
            2 => Just(vec![252]),
            2 => Just(vec![254]),
        ];
        prop::collection::vec(action, 1..150)
    }

    #[test]
    fn the_stored_inputs_get_as_far_as_their_names_say() {
        for name in ["mines-extended", "mines-standard-jobs"] {
            let stage = stored(name);
            assert_eq!((stage.records.len(), stage.acknowledged), (8, 8), "{name}");
        }
        let stage = stored("finds-blocks");
        assert!(stage.blocks > 0 && stage.acknowledged > 0);
        assert_eq!(stored("duplicates-and-late-shares").records.len(), 2);
        assert_eq!(stored("opens-before-work").records.len(), 2);
        assert_eq!(stored("closes-and-opens-again").records.len(), 2);
        assert_eq!(stored("too-many-channels").session.channels(), usize::from(CHANNELS));
        let stage = stored("floods-and-gets-harder");
        assert!(stage.records.len() > 32 && stage.records.last().unwrap().work > Work::from_hashes(1));
        assert_eq!(stored("unknown-extension-is-ignored").records.len(), 1);
        assert_eq!(stored("negotiates-extensions").records.len(), 1);
    }
}
