//! A client that believes only what messages say: the simple twin of a pool session for duplicates, job lifetime, targets and credit.
//!
//! It keeps every job and every accepted hash for ever, computes every hash from the parts of the messages, and predicts the answer to
//! each share. Its connection has one group, of the channels whose blocks pay the pool.

use std::collections::{HashMap, HashSet};

use adit_channel::{ExtranoncePrefix, PAST_JOBS};
use adit_messages::Message;
use adit_pool::GROUP_CHANNEL;
use adit_units::{Target, Work};
use bitcoin::CompactTarget;
use bitcoin::hashes::{Hash as _, sha256d};

/// A share that a client is about to submit; an extended one rolls nothing of the extranonce.
#[derive(Clone, Copy, Debug)]
pub struct Share {
    /// The channel's number.
    pub channel: u32,
    /// Whether it is sent as an extended share.
    pub extended: bool,
    /// The job's number.
    pub job: u32,
    /// Of the header.
    pub nonce: u32,
    /// Of the header, in seconds since 1970, and not so late that it would be refused for that.
    pub ntime: u32,
}

/// What a client knows of its connection.
#[derive(Debug, Default)]
pub struct SessionModel {
    channels: HashMap<u32, Channel>,
    /// Jobs that can earn, oldest first.
    open: Vec<u32>,
    /// The block below and the compact target.
    tip: Option<([u8; 32], u32)>,
    accepted: HashSet<[u8; 32]>,
    /// The highest number of a job that was ever told of.
    highest: Option<u32>,
    /// Jobs that could ever earn.
    earners: HashSet<u32>,
}

#[derive(Debug)]
struct Channel {
    extended: bool,
    prefix: Vec<u8>,
    /// What the last message about it said.
    target: Target,
    /// Every job that it was given, with the target that was in force then.
    jobs: HashMap<u32, (Job, Target)>,
    /// Jobs without a time, which wait for their tip.
    future: HashMap<u32, Job>,
}

/// A job as one message described it.
#[derive(Clone, Debug)]
struct Job {
    version: u32,
    min_ntime: u32,
    prev_hash: [u8; 32],
    nbits: u32,
    root: Root,
}

#[derive(Clone, Debug)]
enum Root {
    Fixed([u8; 32]),
    Rolled { prefix: Vec<u8>, suffix: Vec<u8>, path: Vec<[u8; 32]> },
}

impl SessionModel {
    /// Takes in what the pool says; what is not about channels and jobs changes nothing.
    ///
    /// # Panics
    ///
    /// If a message contradicts an earlier one: a number of a channel or job that comes again, or a tip for a job that was not announced.
    pub fn hears(&mut self, message: &Message<'_>) {
        match message {
            Message::OpenExtendedMiningChannelSuccess(open) => {
                self.opened(
                    (open.channel_id, true),
                    open.extranonce_prefix.as_bytes(),
                    open.target.to_array(),
                );
            }
            Message::OpenStandardMiningChannelSuccess(open) => {
                self.opened(
                    (open.channel_id, false),
                    open.extranonce_prefix.as_bytes(),
                    open.target.to_array(),
                );
            }
            Message::SetTarget(target) => {
                let channel = self.channels.get_mut(&target.channel_id).expect("a channel that is open");
                channel.target = Target::from_le_bytes(target.maximum_target.to_array());
            }
            Message::CloseChannel(close) => self.closes(close.channel_id),
            Message::NewMiningJob(job) => {
                let root = Root::Fixed(job.merkle_root.to_array());
                self.told((job.channel_id, job.job_id), job.min_ntime.as_ref().copied(), (job.version, root));
            }
            Message::NewExtendedMiningJob(job) => {
                let root = Root::Rolled {
                    prefix: job.coinbase_tx_prefix.as_bytes().to_vec(),
                    suffix: job.coinbase_tx_suffix.as_bytes().to_vec(),
                    path: job.merkle_path.iter().map(|node| node.to_array()).collect(),
                };
                self.told((job.channel_id, job.job_id), job.min_ntime.as_ref().copied(), (job.version, root));
            }
            Message::SetNewPrevHash(tip) => {
                let (prev_hash, nbits) = (tip.prev_hash.to_array(), tip.nbits);
                if self.tip != Some((prev_hash, nbits)) {
                    self.open.clear();
                    self.tip = Some((prev_hash, nbits));
                }
                self.activated(tip.job_id);
                for (_, channel) in self.meant(tip.channel_id) {
                    let job = channel.future.remove(&tip.job_id).expect("the job was announced");
                    channel.future.clear();
                    channel.given(tip.job_id, Job { min_ntime: tip.min_ntime, prev_hash, nbits, ..job });
                }
            }
            _ => {}
        }
    }

    fn opened(&mut self, (id, extended): (u32, bool), prefix: &[u8], target: [u8; 32]) {
        if self.channels.is_empty() {
            // What went before was no one's job any more; the channel is given the newest one.
            self.open.clear();
        }
        let (target, prefix) = (Target::from_le_bytes(target), prefix.to_vec());
        let channel = Channel { extended, prefix, target, jobs: HashMap::new(), future: HashMap::new() };
        assert!(self.channels.insert(id, channel).is_none(), "channel {id} comes back");
    }

    fn told(&mut self, (to, id): (u32, u32), min_ntime: Option<u32>, (version, root): (u32, Root)) {
        self.highest = self.highest.max(Some(id));
        let (prev_hash, nbits) = self.tip.unwrap_or_default();
        let job = Job { version, min_ntime: min_ntime.unwrap_or_default(), prev_hash, nbits, root };
        if min_ntime.is_some() {
            self.activated(id);
        }
        for (_, channel) in self.meant(to) {
            match min_ntime {
                Some(_) => channel.given(id, job.clone()),
                None => assert!(channel.future.insert(id, job.clone()).is_none(), "job {id} was sent twice"),
            }
        }
    }

    /// A job can earn from now on.
    fn activated(&mut self, id: u32) {
        self.earners.insert(id);
        if !self.open.contains(&id) {
            self.open.push(id);
            if self.open.len() > PAST_JOBS + 1 {
                self.open.remove(0);
            }
        }
    }

    /// A channel, or with the group's number every channel.
    fn meant(&mut self, to: u32) -> impl Iterator<Item = (&u32, &mut Channel)> {
        self.channels.iter_mut().filter(move |(channel, _)| to == GROUP_CHANNEL.0 || **channel == to)
    }

    /// One side has closed a channel, or with the group's number all of them.
    pub fn closes(&mut self, id: u32) {
        if id == GROUP_CHANNEL.0 {
            self.channels.clear();
        }
        self.channels.remove(&id);
    }

    /// The numbers of the open channels, in order.
    #[must_use]
    pub fn channels(&self) -> Vec<u32> {
        let mut open: Vec<_> = self.channels.keys().copied().collect();
        open.sort_unstable();
        open
    }

    /// Whether a channel is extended; nothing if it is not open.
    #[must_use]
    pub fn is_extended(&self, channel: u32) -> Option<bool> {
        self.channels.get(&channel).map(|channel| channel.extended)
    }

    /// The earliest time of a share of a channel on a job that it was given.
    #[must_use]
    pub fn min_ntime(&self, channel: u32, job: u32) -> Option<u32> {
        Some(self.channels.get(&channel)?.jobs.get(&job)?.0.min_ntime)
    }

    /// Whether a share on a job may be refused as one on an unknown job just as well as on a stale one, because the job could never earn as far
    /// as the pool has said: it may have held it ready for a tip that has not come, or for nobody.
    #[must_use]
    pub fn is_either(&self, job: u32) -> bool {
        !self.earners.contains(&job)
    }

    /// What the pool should say to a share: what it earns and its hash.
    ///
    /// # Errors
    ///
    /// The code that it should be refused with.
    pub fn predicts(&self, share: &Share) -> Result<(Work, [u8; 32]), &'static str> {
        let channel = self.channels.get(&share.channel).filter(|channel| channel.extended == share.extended);
        let channel = channel.ok_or("invalid-channel-id")?;
        let waits = self.channels.values().any(|channel| channel.future.contains_key(&share.job));
        let is_open = self.open.contains(&share.job);
        if !is_open && (Some(share.job) > self.highest || waits) {
            return Err("invalid-job-id");
        }
        if !is_open {
            return Err("stale-share");
        }
        // The connection was told of it, but before there was this channel.
        let (job, target) = channel.jobs.get(&share.job).ok_or("stale-share")?;
        if share.ntime < job.min_ntime {
            return Err("invalid-share");
        }
        let hash = channel.hash(job, share);
        if self.accepted.contains(&hash) {
            return Err("duplicate-share");
        }
        let network = Target::from_compact(CompactTarget::from_consensus(job.nbits));
        match (target.is_met_by(&hash), network.is_met_by(&hash)) {
            (true, _) => Ok((target.to_work(), hash)),
            // A block is a block, but its work was not asked for.
            (false, true) => Ok((Work::ZERO, hash)),
            (false, false) => Err("difficulty-too-low"),
        }
    }

    /// A hash has earned.
    ///
    /// # Panics
    ///
    /// If it has earned before.
    pub fn earned(&mut self, hash: [u8; 32]) {
        assert!(self.accepted.insert(hash), "a hash was credited twice");
    }
}

impl Channel {
    fn given(&mut self, id: u32, job: Job) {
        assert!(self.jobs.insert(id, (job, self.target)).is_none(), "job {id} was sent twice");
    }

    /// The header's hash, from the parts of the messages.
    fn hash(&self, job: &Job, share: &Share) -> [u8; 32] {
        let root = match &job.root {
            Root::Fixed(root) => *root,
            Root::Rolled { prefix, suffix, path } => {
                let rolled: &[u8] = if self.extended { &[0; ExtranoncePrefix::ROLLABLE_LEN] } else { &[] };
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
            &share.ntime.to_le_bytes(),
            &job.nbits.to_le_bytes(),
            &share.nonce.to_le_bytes(),
        ];
        sha256d::Hash::hash(&header.concat()).to_byte_array()
    }
}
