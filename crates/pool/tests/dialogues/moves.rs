//! A client that believes only what messages say, while the server moves its channels about.
//!
//! Under one job number a channel is given one job, every share is hashed as its job was given, and no hash earns twice.

use std::collections::{HashMap, HashSet};

use adit_channel::VardiffConfig;
use adit_messages::error_code::CloseChannelReason;
use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::B032;
use adit_messages::{Message, mining};
use adit_pool::{Distribution, PoolConfig};
use adit_share::FULL_EXTRANONCE_LEN;
use adit_units::{ChannelId, Target};
use bitcoin::ScriptBuf;
use bitcoin::hashes::{Hash as _, sha256d};
use proptest::prelude::*;

use crate::world::{Client, VERSION, World, bridging, open_extended, open_standard, text};

const USERS: [&str; 4] = [
    "alice",
    "sri/donate/rig",
    "sri/solo/1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    "sri/donate/10/bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4/rig",
];

#[derive(Clone, Debug)]
enum Step {
    Open { extended: bool, user: usize },
    Close { channel: usize, by_server: bool },
    Move { channels: Vec<usize>, to: usize },
    Renew { channel: usize },
    Submit { channel: usize, back: usize, nonce: u32 },
    Refresh,
    PutBy,
    TipAlone,
    NewTip,
}

fn step() -> impl Strategy<Value = Step> {
    let channel = || 0_usize..5;
    prop_oneof![
        3 => (any::<bool>(), 0..USERS.len()).prop_map(|(extended, user)| Step::Open { extended, user }),
        1 => (channel(), any::<bool>()).prop_map(|(channel, by_server)| Step::Close { channel, by_server }),
        3 => (prop::collection::vec(channel(), 1..4), 0_usize..3).prop_map(|(channels, to)| Step::Move { channels, to }),
        3 => channel().prop_map(|channel| Step::Renew { channel }),
        10 => (channel(), 0_usize..6, 0_u32..3).prop_map(|(channel, back, nonce)| Step::Submit { channel, back, nonce }),
        4 => Just(Step::Refresh),
        3 => Just(Step::PutBy),
        2 => Just(Step::TipAlone),
        1 => Just(Step::NewTip),
    ]
}

/// What of a job does not depend on the tip: the merkle root for zeros where the miner rolls.
#[derive(Clone, Debug)]
struct Job {
    id: u32,
    root: [u8; 32],
}

struct Channel {
    extended: bool,
    group: u32,
    prefix: Vec<u8>,
    /// Those that wait for a tip.
    future: Vec<Job>,
    /// Those that can earn, oldest first.
    open: Vec<Job>,
    /// Every number that was ever given.
    given: HashSet<u32>,
}

impl Channel {
    fn takes(&mut self, job: &mining::NewExtendedMiningJob<'_>) {
        let mut extranonce = self.prefix.clone();
        extranonce.resize(FULL_EXTRANONCE_LEN, 0);
        let coinbase =
            [job.coinbase_tx_prefix.as_bytes(), &extranonce, job.coinbase_tx_suffix.as_bytes()].concat();
        let id = sha256d::Hash::hash(&coinbase).to_byte_array();
        let fold =
            |left: [u8; 32], right: [u8; 32]| sha256d::Hash::hash(&[left, right].concat()).to_byte_array();
        let root = job.merkle_path.iter().fold(id, |left, right| fold(left, right.to_array()));
        self.is_given(Job { id: job.job_id, root }, job.min_ntime.as_ref().is_none());
    }

    fn is_given(&mut self, job: Job, is_future: bool) {
        assert!(self.given.insert(job.id), "job {} was given twice", job.id);
        if is_future { self.future.push(job) } else { self.open.push(job) }
    }

    /// A tip came that names a job.
    fn begins(&mut self, id: u32) {
        let named = self.future.iter().find(|job| job.id == id).expect("the job was given ahead").clone();
        self.future.clear();
        self.open = vec![named];
    }
}

struct Play {
    world: World,
    client: Client,
    channels: HashMap<u32, Channel>,
    /// Every number that a channel or group has had.
    numbers: HashSet<u32>,
    accepted: HashSet<[u8; 32]>,
    has_reserve: bool,
}

impl Play {
    fn new(flags: MiningSetupFlags) -> Self {
        // Every hash is a share, however many there are.
        let vardiff = VardiffConfig { hardest: Target::MAX, ..bridging().vardiff };
        let mut world = World::without_work(PoolConfig { vardiff, ..bridging() });
        world.new_tip();
        let client = world.connect_with(flags);
        let (channels, accepted) = (HashMap::new(), HashSet::new());
        Self { world, client, channels, numbers: HashSet::from([1]), accepted, has_reserve: false }
    }

    /// The number of the channel that is meant, if there is one.
    fn channel(&self, index: usize) -> Option<u32> {
        let mut open: Vec<_> = self.channels.keys().copied().collect();
        open.sort_unstable();
        open.get(index).copied()
    }

    /// Everybody that a message to a channel or group is for.
    fn meant(&mut self, to: u32) -> impl Iterator<Item = &mut Channel> {
        let channels = self.channels.iter_mut();
        channels.filter_map(move |(&id, channel)| (id == to || channel.group == to).then_some(channel))
    }

    fn read_all(&mut self) {
        self.client.is_durable(0);
        while self.client.has_mail() {
            let came = self.client.receives();
            self.hears(&came.message());
        }
    }

    fn hears(&mut self, message: &Message<'_>) {
        match message {
            Message::OpenExtendedMiningChannelSuccess(open) => {
                let prefix = open.extranonce_prefix.as_bytes();
                self.is_opened((open.channel_id, open.group_channel_id), true, prefix);
            }
            Message::OpenStandardMiningChannelSuccess(open) => {
                let prefix = open.extranonce_prefix.as_bytes();
                self.is_opened((open.channel_id, open.group_channel_id), false, prefix);
            }
            Message::NewExtendedMiningJob(job) => {
                self.meant(job.channel_id).for_each(|channel| channel.takes(job))
            }
            Message::NewMiningJob(job) => {
                let given = Job { id: job.job_id, root: job.merkle_root.to_array() };
                let channel = self.channels.get_mut(&job.channel_id).expect("a channel that is open");
                channel.is_given(given, job.min_ntime.as_ref().is_none());
            }
            Message::SetNewPrevHash(tip) => {
                self.meant(tip.channel_id).for_each(|channel| channel.begins(tip.job_id))
            }
            Message::SetGroupChannel(set) => {
                let members: Vec<_> = set.channel_ids.iter().collect();
                assert!(set.group_channel_id == 1 || !self.channels.contains_key(&set.group_channel_id));
                for id in members {
                    let id: u32 = id.to_owned();
                    self.channels.get_mut(&id).expect("a channel that is open").group = set.group_channel_id;
                }
                self.numbers.insert(set.group_channel_id);
            }
            Message::SetExtranoncePrefix(set) => {
                let channel = self.channels.get_mut(&set.channel_id).expect("a channel that is open");
                channel.prefix = set.extranonce_prefix.as_bytes().to_vec();
            }
            Message::CloseChannel(close) => drop(self.channels.remove(&close.channel_id)),
            Message::SetTarget(_) => {}
            other => panic!("nobody asked for {other:?}"),
        }
    }

    fn is_opened(&mut self, (id, group): (u32, u32), extended: bool, prefix: &[u8]) {
        assert!(self.numbers.insert(id), "number {id} comes back");
        self.numbers.insert(group);
        let (prefix, given) = (prefix.to_vec(), HashSet::new());
        let (future, open) = (Vec::new(), Vec::new());
        self.channels.insert(id, Channel { extended, group, prefix, future, open, given });
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Open { extended, user } => self.open(extended, USERS[user]),
            Step::Close { channel, by_server } => self.close(channel, by_server),
            Step::Move { ref channels, to } => self.move_to(channels, to),
            Step::Renew { channel } => {
                if let Some(id) = self.channel(channel) {
                    self.client.session.renew_extranonce_prefix(ChannelId(id)).unwrap();
                }
            }
            Step::Submit { channel, back, nonce } => self.submit(channel, back, nonce),
            Step::Refresh => {
                let work = self.world.refresh();
                self.client.hears(&work, &self.world);
            }
            Step::PutBy if !self.has_reserve => {
                self.client.hears(&self.world.put_by(), &self.world);
                self.has_reserve = true;
            }
            Step::TipAlone if self.has_reserve => {
                let work = self.world.tip_alone().expect("there is a job for it");
                self.client.hears(&work, &self.world);
                self.has_reserve = false;
            }
            Step::NewTip => {
                let work = self.world.new_tip();
                self.client.hears(&work, &self.world);
                self.has_reserve = false;
            }
            Step::PutBy | Step::TipAlone => {}
        }
        self.read_all();
    }

    fn open(&mut self, extended: bool, user: &str) {
        let user_identity = text(user);
        if extended {
            let open = mining::OpenExtendedMiningChannel { user_identity, ..open_extended(0.0, &[0xff; 32]) };
            self.client.sends(open, &self.world);
        } else {
            let open = mining::OpenStandardMiningChannel { user_identity, ..open_standard(0.0, &[0xff; 32]) };
            self.client.sends(open, &self.world);
        }
    }

    fn close(&mut self, channel: usize, by_server: bool) {
        let Some(id) = self.channel(channel) else { return };
        if by_server {
            let reason = CloseChannelReason::ClosedByOperator;
            self.client.session.close_channel(ChannelId(id), reason, self.world.now).unwrap();
        } else {
            self.client.sends(crate::world::close(id), &self.world);
            self.channels.remove(&id);
        }
    }

    fn move_to(&mut self, channels: &[usize], to: usize) {
        let ids: Vec<_> = channels.iter().filter_map(|&index| self.channel(index)).map(ChannelId).collect();
        let to = match to {
            0 => Distribution::Pooled,
            other => Distribution::Solo(ScriptBuf::from_bytes(vec![0x51; other])),
        };
        self.client.session.set_distribution(&ids, &to).unwrap();
    }

    /// A share on one of the last jobs that the channel was given and that can earn.
    fn submit(&mut self, channel: usize, back: usize, nonce: u32) {
        let Some(channel_id) = self.channel(channel) else { return };
        let channel = &self.channels[&channel_id];
        let Some(job) = channel.open.iter().rev().nth(back.min(channel.open.len().saturating_sub(1))) else {
            return;
        };
        let (tip, ntime) = (self.world.tip(), self.world.now.unix.to_secs());
        let header = [
            &VERSION.to_le_bytes()[..],
            tip.prev_hash.as_ref(),
            &job.root,
            &ntime.to_le_bytes(),
            &tip.nbits.to_consensus().to_le_bytes(),
            &nonce.to_le_bytes(),
        ];
        let (hash, job_id) = (sha256d::Hash::hash(&header.concat()).to_byte_array(), job.id);
        let before = self.client.records.len();
        if channel.extended {
            let share = mining::SubmitSharesExtended {
                channel_id,
                sequence_number: 0,
                job_id,
                nonce,
                ntime,
                version: VERSION,
                extranonce: B032::new(&[0; 14]).unwrap(),
            };
            self.client.submits_share(share, &self.world);
        } else {
            self.client.submits_standard(channel_id, job_id, nonce, &self.world);
        }
        let is_new = self.accepted.insert(hash);
        match self.client.records.get(before) {
            Some(record) => {
                assert_eq!((record.hash, is_new), (hash, true), "job {job_id} of channel {channel_id}")
            }
            None => {
                assert!(!is_new, "the share on job {job_id} of channel {channel_id} earned nothing");
                assert_eq!(self.client.receives().message().info().name, "SubmitShares.Error");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_moved_every_share_earns_once_and_as_its_job_was_given(steps in prop::collection::vec(step(), 1..100)) {
        let mut play = Play::new(MiningSetupFlags::NONE);
        steps.iter().for_each(|step| play.take(step));
    }

    #[test]
    fn where_standard_jobs_are_required_too(steps in prop::collection::vec(step(), 1..100)) {
        let mut play = Play::new(MiningSetupFlags::REQUIRES_STANDARD_JOBS);
        for step in &steps {
            let step = match step.clone() {
                Step::Open { user, .. } => Step::Open { extended: false, user },
                other => other,
            };
            play.take(&step);
        }
    }
}
