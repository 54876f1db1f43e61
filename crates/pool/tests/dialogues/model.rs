//! A client that believes only what messages say, as the reference for duplicates, job lifetime, targets and credit.
//!
//! It keeps every job and every accepted hash for ever, computes every hash from the parts of the messages, and predicts the
//! answer to each of its shares.

use std::collections::{HashMap, HashSet};

use adit_channel::PAST_JOBS;
use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::B032;
use adit_messages::{Message, mining};
use adit_units::{Target, Work};
use bitcoin::hashes::{Hash as _, sha256d};
use proptest::prelude::*;

use crate::world::{Client, VERSION, World, close, open_extended, open_standard};

#[derive(Clone, Debug)]
enum Step {
    Open { extended: bool },
    Close { channel: usize },
    Harder { channel: usize, hashes: u8 },
    Submit { channel: usize, back: u32, nonce: u32 },
    Refresh,
    NewTip,
    Durable { more: usize },
    Wait { seconds: u64 },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        2 => any::<bool>().prop_map(|extended| Step::Open { extended }),
        1 => (0_usize..5).prop_map(|channel| Step::Close { channel }),
        1 => (0_usize..5, 1_u8..5).prop_map(|(channel, hashes)| Step::Harder { channel, hashes }),
        12 => (0_usize..5, 0_u32..22, 0_u32..4).prop_map(|(channel, back, nonce)| Step::Submit { channel, back, nonce }),
        4 => Just(Step::Refresh),
        1 => Just(Step::NewTip),
        2 => (0_usize..4).prop_map(|more| Step::Durable { more }),
        1 => (1_u64..60).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// A job as one message described it.
#[derive(Clone)]
struct Job {
    version: u32,
    ntime: u32,
    prev_hash: [u8; 32],
    nbits: u32,
    root: Root,
}

#[derive(Clone)]
enum Root {
    Fixed([u8; 32]),
    Rolled { prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]> },
}

struct Channel {
    extended: bool,
    prefix: Vec<u8>,
    /// What the last message about it said.
    target: Target,
    /// Every job that it was given, with the target that was in force then.
    jobs: HashMap<u32, (Job, Target)>,
}

#[derive(Default)]
struct Model {
    channels: HashMap<u32, Channel>,
    /// Jobs that can earn, oldest first.
    open: Vec<u32>,
    /// A job without a time, by the channel or group that it was sent to.
    future: HashMap<u32, (u32, Job)>,
    tip: Option<([u8; 32], u32)>,
    accepted: HashSet<[u8; 32]>,
    /// Shares that wait for their acknowledgement.
    waiting: Vec<(u32, u32)>,
    durable: usize,
    /// Number of the newest job that was ever sent.
    highest: u32,
}

impl Model {
    /// Takes in a message about channels and jobs.
    fn hears(&mut self, message: &Message<'_>) {
        match message {
            Message::OpenExtendedMiningChannelSuccess(open) => self.opened(
                (open.channel_id, true),
                open.extranonce_prefix.as_bytes(),
                open.target.to_array(),
            ),
            Message::OpenStandardMiningChannelSuccess(open) => self.opened(
                (open.channel_id, false),
                open.extranonce_prefix.as_bytes(),
                open.target.to_array(),
            ),
            Message::SetTarget(target) => {
                let channel = self.channels.get_mut(&target.channel_id).expect("a channel that is open");
                channel.target = Target::from_le_bytes(target.maximum_target.to_array());
            }
            Message::NewMiningJob(job) => {
                let root = Root::Fixed(job.merkle_root.to_array());
                self.job(job.channel_id, job.job_id, job.min_ntime.as_ref().copied(), (job.version, root));
            }
            Message::NewExtendedMiningJob(job) => {
                let root = Root::Rolled {
                    prefix: job.coinbase_tx_prefix.as_bytes().to_vec(),
                    suffix: job.coinbase_tx_suffix.as_bytes().to_vec(),
                    path: job.merkle_path.iter().map(|node| node.to_array()).collect(),
                };
                self.job(job.channel_id, job.job_id, job.min_ntime.as_ref().copied(), (job.version, root));
            }
            Message::SetNewPrevHash(tip) => {
                let (id, job) = self.future.remove(&tip.channel_id).expect("a future job was announced");
                assert_eq!(id, tip.job_id);
                let prev_hash = tip.prev_hash.to_array();
                if self.tip != Some((prev_hash, tip.nbits)) {
                    self.open.clear();
                    self.tip = Some((prev_hash, tip.nbits));
                }
                self.give(
                    tip.channel_id,
                    id,
                    Job { ntime: tip.min_ntime, prev_hash, nbits: tip.nbits, ..job },
                );
            }
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn opened(&mut self, (id, extended): (u32, bool), prefix: &[u8], target: [u8; 32]) {
        if self.channels.is_empty() {
            // What went before was no one's job any more; the channel is given the newest one.
            self.open.clear();
        }
        let target = Target::from_le_bytes(target);
        let channel = Channel { extended, prefix: prefix.to_vec(), target, jobs: HashMap::new() };
        assert!(self.channels.insert(id, channel).is_none(), "a number comes back");
    }

    fn job(&mut self, channel: u32, id: u32, ntime: Option<u32>, (version, root): (u32, Root)) {
        let (prev_hash, nbits) = self.tip.unwrap_or_default();
        let job = Job { version, ntime: ntime.unwrap_or_default(), prev_hash, nbits, root };
        match ntime {
            Some(_) => self.give(channel, id, job),
            None => drop(self.future.insert(channel, (id, job))),
        }
    }

    /// A channel, or with the group's number every channel, works on a job.
    fn give(&mut self, to: u32, id: u32, job: Job) {
        self.highest = self.highest.max(id);
        if !self.open.contains(&id) {
            self.open.push(id);
            if self.open.len() > PAST_JOBS + 1 {
                self.open.remove(0);
            }
        }
        for (_, channel) in self.channels.iter_mut().filter(|(channel, _)| to == 1 || **channel == to) {
            let known = channel.jobs.insert(id, (job.clone(), channel.target));
            assert!(known.is_none(), "job {id} was sent twice");
        }
    }

    /// What the pool should say to a share: what it earns and its hash, or the code.
    fn predicts(
        &self,
        id: u32,
        extended: bool,
        job: u32,
        nonce: u32,
    ) -> Result<(Work, [u8; 32]), &'static str> {
        let channel = self.channels.get(&id).filter(|channel| channel.extended == extended);
        let channel = channel.ok_or("invalid-channel-id")?;
        if job > self.highest {
            return Err("invalid-job-id");
        }
        if !self.open.contains(&job) {
            return Err("stale-share");
        }
        let (job, target) = channel.jobs.get(&job).ok_or("invalid-job-id")?;
        let hash = channel.hash(job, nonce);
        if self.accepted.contains(&hash) {
            return Err("duplicate-share");
        }
        if target.is_met_by(&hash) { Ok((target.to_work(), hash)) } else { Err("difficulty-too-low") }
    }
}

impl Channel {
    /// The header's hash, from the parts of the messages.
    fn hash(&self, job: &Job, nonce: u32) -> [u8; 32] {
        let root = match &job.root {
            Root::Fixed(root) => *root,
            Root::Rolled { prefix, suffix, path } => {
                let rolled: &[u8] = if self.extended { &[0; 14] } else { &[] };
                let coinbase = [&prefix[..], &self.prefix, rolled, suffix].concat();
                let id = sha256d::Hash::hash(&coinbase).to_byte_array();
                path.iter()
                    .fold(id, |left, right| sha256d::Hash::hash(&[left, *right].concat()).to_byte_array())
            }
        };
        let header = [
            &job.version.to_le_bytes()[..],
            &job.prev_hash,
            &root,
            &job.ntime.to_le_bytes(),
            &job.nbits.to_le_bytes(),
            &nonce.to_le_bytes(),
        ];
        sha256d::Hash::hash(&header.concat()).to_byte_array()
    }
}

/// The pool, the client's session, and what the client believes.
struct Play {
    world: World,
    client: Client,
    model: Model,
    extended_only: bool,
}

impl Play {
    fn new(flags: MiningSetupFlags) -> Self {
        let mut world = World::new();
        let client = world.connect_with(flags);
        let extended_only = flags.is_empty();
        Self { world, client, model: Model::default(), extended_only }
    }

    fn read_all(&mut self) {
        while self.client.has_mail() {
            self.model.hears(&self.client.receives().message());
        }
    }

    /// The number of the channel that is meant, open or not.
    fn channel(&self, index: usize) -> u32 {
        let mut open: Vec<_> = self.model.channels.keys().copied().collect();
        open.sort_unstable();
        open.get(index).copied().unwrap_or_else(|| 1 + u32::try_from(index).unwrap())
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open { extended } if extended && self.extended_only => {
                self.client.sends(open_extended(0.0, &[0xff; 32]), &self.world);
            }
            Step::Open { .. } => self.client.sends(open_standard(0.0, &[0xff; 32]), &self.world),
            Step::Close { channel } => self.close(self.channel(channel)),
            Step::Harder { channel, hashes } => {
                let channel_id = self.channel(channel);
                if self.model.channels.contains_key(&channel_id) {
                    let target = Target::from_work(Work::from_hashes(hashes.into())).to_le_bytes();
                    let update = mining::UpdateChannel { channel_id, ..crate::world::update(0.0, &target) };
                    self.client.sends(update, &self.world);
                }
            }
            Step::Submit { channel, back, nonce } => self.submit(self.channel(channel), back, nonce),
            Step::Refresh | Step::NewTip => {
                let work =
                    if matches!(step, Step::Refresh) { self.world.refresh() } else { self.world.new_tip() };
                self.client.hears(&work, &self.world);
            }
            Step::Durable { more } => self.durable(more),
            Step::Wait { seconds } => self.world.wait(seconds),
        }
        self.read_all();
    }

    fn close(&mut self, id: u32) {
        self.client.sends(close(id), &self.world);
        if id == 1 {
            self.model.channels.clear();
        }
        self.model.channels.remove(&id);
    }

    fn submit(&mut self, id: u32, back: u32, nonce: u32) {
        let newest = self.world.work.as_ref().unwrap().id().0;
        let job = (newest + 1).saturating_sub(back).max(1);
        let given = self.model.channels.get(&id).and_then(|channel| channel.jobs.get(&job));
        let ntime = given.map_or(0, |(job, _)| job.ntime);
        let extended =
            self.model.channels.get(&id).is_none_or(|channel| channel.extended) && self.extended_only;
        let predicted = self.model.predicts(id, extended, job, nonce);
        let before = self.client.records.len();
        let number = if extended {
            let extranonce = B032::new(&[0; 14]).unwrap();
            let share = mining::SubmitSharesExtended {
                channel_id: id,
                sequence_number: 0,
                job_id: job,
                nonce,
                ntime,
                version: VERSION,
                extranonce,
            };
            self.client.submits_share(share, &self.world)
        } else {
            self.client.submits_standard_at(id, job, (nonce, ntime), &self.world)
        };
        match predicted {
            Ok((work, hash)) => {
                let record = self.client.records.get(before).expect("the share is accepted");
                assert_eq!((record.work, record.hash, record.channel.0), (work, hash, id));
                assert!(self.model.accepted.insert(hash));
                self.model.waiting.push((id, number));
            }
            Err(code) => {
                let answer = self.client.receives();
                let Message::SubmitSharesError(error) = answer.message() else {
                    panic!("expected {code}, but {:?} came", answer.message());
                };
                assert_eq!(core::str::from_utf8(error.error_code.as_bytes()), Ok(code));
                assert_eq!((error.channel_id, error.sequence_number), (id, number));
                assert_eq!(self.client.records.len(), before);
            }
        }
    }

    fn durable(&mut self, more: usize) {
        let more = more.min(self.model.waiting.len());
        self.model.durable += more;
        self.client.is_durable(self.model.durable);
        let now: Vec<_> = self.model.waiting.drain(..more).collect();
        let mut told = HashSet::new();
        for (channel, _) in &now {
            if self.model.channels.contains_key(channel) && told.insert(*channel) {
                let mine: Vec<_> = now.iter().filter(|(other, _)| other == channel).collect();
                let answer = self.client.receives();
                let Message::SubmitSharesSuccess(success) = answer.message() else {
                    panic!("{:?}", answer.message());
                };
                assert_eq!(success.channel_id, *channel);
                assert_eq!(success.new_submits_accepted_count as usize, mine.len());
                assert_eq!(Some(success.last_sequence_number), mine.last().map(|(_, number)| *number));
            }
        }
        self.client.expects_nothing();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_group_does_what_its_messages_say(steps in prop::collection::vec(step(), 1..120)) {
        let mut play = Play::new(MiningSetupFlags::NONE);
        steps.iter().for_each(|step| play.take(step));
    }

    #[test]
    fn standard_jobs_do_what_their_messages_say(steps in prop::collection::vec(step(), 1..120)) {
        let mut play = Play::new(MiningSetupFlags::REQUIRES_STANDARD_JOBS);
        steps.iter().for_each(|step| play.take(step));
    }
}
