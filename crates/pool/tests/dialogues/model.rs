//! A session beside a client that believes only what messages say, step by step: duplicates, job lifetime, targets and credit.

use std::collections::HashSet;

use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::B032;
use adit_messages::{Message, mining};
use adit_testkit::session_model::{SessionModel, Share};
use adit_units::{Target, Work};
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

/// The pool, the client's session, and what the client believes.
struct Play {
    world: World,
    client: Client,
    model: SessionModel,
    /// Shares that wait for their acknowledgement: channel and sequence number.
    waiting: Vec<(u32, u32)>,
    durable: usize,
    extended_only: bool,
}

impl Play {
    fn new(flags: MiningSetupFlags) -> Self {
        let mut world = World::new();
        let client = world.connect_with(flags);
        let extended_only = flags.is_empty();
        Self { world, client, model: SessionModel::default(), waiting: Vec::new(), durable: 0, extended_only }
    }

    fn read_all(&mut self) {
        while self.client.has_mail() {
            self.model.hears(&self.client.receives().message());
        }
    }

    /// The number of the channel that is meant, open or not.
    fn channel(&self, index: usize) -> u32 {
        let open = self.model.channels();
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
                if self.model.is_extended(channel_id).is_some() {
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
        self.model.closes(id);
    }

    fn submit(&mut self, id: u32, back: u32, nonce: u32) {
        let newest = self.world.work.as_ref().unwrap().id().0;
        let job = (newest + 1).saturating_sub(back).max(1);
        let ntime = self.model.min_ntime(id, job).unwrap_or_default();
        let extended = self.model.is_extended(id).unwrap_or(true) && self.extended_only;
        let predicted = self.model.predicts(&Share { channel: id, extended, job, nonce, ntime });
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
                self.model.earned(hash);
                self.waiting.push((id, number));
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
        let more = more.min(self.waiting.len());
        self.durable += more;
        self.client.is_durable(self.durable);
        let now: Vec<_> = self.waiting.drain(..more).collect();
        let mut told = HashSet::new();
        for (channel, _) in &now {
            if self.model.is_extended(*channel).is_some() && told.insert(*channel) {
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
