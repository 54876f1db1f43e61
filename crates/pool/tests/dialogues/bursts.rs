//! Frames that are handed over in bursts do what the same frames do one by one.

use std::sync::Arc;

use adit_channel::ShareRecord;
use adit_messages::extensions::RequestExtensions;
use adit_messages::tlv::Tlv;
use adit_messages::types::{B032, Seq064K};
use adit_messages::{Message, encode, encode_with_tlvs, mining};
use adit_pool::{Disconnect, FoundBlock, PoolConfig, Session, Work};
use adit_transport::{Frame, FrameQueue};
use adit_units::{ConnectionId, Now, Target};
use proptest::prelude::*;

use crate::world::{EASY, VERSION, World, close, config, open_extended, open_standard, setup, update};

/// What one frame, or a row of like ones, says.
#[derive(Clone, Debug)]
enum Said {
    Share {
        channel: u32,
        back: usize,
        nonce: u32,
        twist: Twist,
    },
    Standard {
        channel: u32,
        nonce: u32,
    },
    /// Many worthless shares, until the peer or its channel is no longer listened to.
    Flood {
        channel: u32,
        count: u16,
    },
    OpenExtended,
    OpenStandard,
    Close {
        channel: u32,
    },
    Update {
        channel: u32,
        easy: bool,
    },
    Unknown,
    /// A share that ends too early, which ends the connection.
    Cut,
}

/// What is odd about a share.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Twist {
    None,
    Extranonce,
    ExtranonceLen,
    Time,
    Version,
    Worker,
    /// Longer than a share that may wait.
    Long,
}

/// What happens between bursts.
#[derive(Clone, Debug)]
enum Step {
    Burst(Vec<Said>),
    Refresh,
    NewTip,
    Durable { more: u64 },
    Wait { seconds: u64 },
}

fn share() -> impl Strategy<Value = Said> {
    let twist = prop_oneof![
        12 => Just(Twist::None),
        2 => Just(Twist::Extranonce),
        1 => Just(Twist::ExtranonceLen),
        1 => Just(Twist::Time),
        1 => Just(Twist::Version),
        2 => Just(Twist::Worker),
        1 => Just(Twist::Long),
    ];
    // Mostly the first channels and the newest job, with nonces that repeat.
    let channel = prop_oneof![6 => Just(2_u32), 3 => Just(3), 1 => 4_u32..7];
    let back = prop_oneof![6 => Just(0_usize), 1 => 0_usize..4];
    (channel, back, 0_u32..12, twist).prop_map(|(channel, back, nonce, twist)| Said::Share {
        channel,
        back,
        nonce,
        twist,
    })
}

fn said() -> impl Strategy<Value = Said> {
    prop_oneof![
        40 => share(),
        3 => (2_u32..6, 0_u32..6).prop_map(|(channel, nonce)| Said::Standard { channel, nonce }),
        1 => (2_u32..9, 300_u16..1200).prop_map(|(channel, count)| Said::Flood { channel, count }),
        1 => Just(Said::OpenExtended),
        1 => Just(Said::OpenStandard),
        1 => (1_u32..6).prop_map(|channel| Said::Close { channel }),
        2 => (2_u32..6, any::<bool>()).prop_map(|(channel, easy)| Said::Update { channel, easy }),
        1 => Just(Said::Unknown),
        1 => Just(Said::Cut),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec(said(), 1..14).prop_map(Step::Burst),
        2 => Just(Step::Refresh),
        1 => Just(Step::NewTip),
        2 => (0_u64..20).prop_map(|more| Step::Durable { more }),
        1 => (1_u64..60).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// The frames of a burst, on these jobs, the newest last.
fn frames(burst: &[Said], works: &[Arc<Work>]) -> FrameQueue {
    let mut queue = FrameQueue::default();
    for said in burst {
        put(said, works, &mut queue);
    }
    queue
}

fn put(said: &Said, works: &[Arc<Work>], queue: &mut FrameQueue) {
    let newest = works.last().unwrap();
    match *said {
        Said::Share { channel, back, nonce, twist } => {
            let work = works.iter().rev().nth(back).unwrap_or(newest);
            put_share((channel, nonce, twist), work, queue);
        }
        Said::Standard { channel, nonce } => {
            let share = mining::SubmitSharesStandard {
                channel_id: channel,
                sequence_number: nonce,
                job_id: newest.id().0,
                nonce,
                ntime: newest.job().min_ntime(),
                version: VERSION,
            };
            encode(share, queue).unwrap();
        }
        Said::Flood { channel, count } => {
            (0..count).for_each(|nonce| put_share((channel, nonce.into(), Twist::Time), newest, queue));
        }
        Said::OpenExtended => encode(open_extended(0.0, &[0xff; 32]), queue).unwrap(),
        Said::OpenStandard => encode(open_standard(0.0, &[0xff; 32]), queue).unwrap(),
        Said::Close { channel } => encode(close(channel), queue).unwrap(),
        Said::Update { channel, easy } => {
            let target = if easy { [0xff; 32] } else { [0x7f; 32] };
            encode(mining::UpdateChannel { channel_id: channel, ..update(0.0, &target) }, queue).unwrap();
        }
        Said::Unknown => queue.push(0x77, false, 1, &[5; 20]).unwrap(),
        Said::Cut => queue.push(0, true, 0x1b, &[2; 26]).unwrap(),
    }
}

fn put_share((channel_id, nonce, twist): (u32, u32, Twist), work: &Work, queue: &mut FrameQueue) {
    let is = |other| twist == other;
    let extranonce = [if is(Twist::Extranonce) { 9 } else { 0 }; 14];
    let share = mining::SubmitSharesExtended {
        channel_id,
        sequence_number: nonce,
        job_id: work.id().0,
        nonce,
        ntime: work.job().min_ntime() - u32::from(is(Twist::Time)),
        version: VERSION | u32::from(is(Twist::Version)),
        extranonce: B032::new(&extranonce[usize::from(is(Twist::ExtranonceLen))..]).unwrap(),
    };
    match twist {
        Twist::Worker => encode_with_tlvs(share, &[Tlv::user_identity("rig").unwrap()], queue).unwrap(),
        Twist::Long => {
            let mut payload = Vec::new();
            Message::from(share).write_payload(&mut payload);
            payload.extend_from_slice(&[0; 90]);
            queue.push(0, true, 0x1b, &payload).unwrap();
        }
        Twist::None | Twist::Extranonce | Twist::ExtranonceLen | Twist::Time | Twist::Version => {
            encode(share, queue).unwrap();
        }
    }
}

/// A session and all that has come of it.
struct Side {
    session: Session,
    said: Vec<u8>,
    blocks: Vec<FoundBlock>,
    records: Vec<ShareRecord>,
}

impl Side {
    fn new(config: &Arc<PoolConfig>, now: Now) -> Self {
        let session = Session::new(Arc::clone(config), ConnectionId(1), [9; 16], now);
        Self { session, said: Vec::new(), blocks: Vec::new(), records: Vec::new() }
    }

    fn one_by_one(&mut self, frames: &FrameQueue, now: Now) -> Result<(), Disconnect> {
        for frame in frames {
            let handled = self.session.handle_frame(frame, now);
            self.blocks.extend(core::iter::from_fn(|| self.session.poll_block()));
            handled?;
        }
        Ok(())
    }

    fn at_once(&mut self, frames: &FrameQueue, now: Now) -> Result<(), Disconnect> {
        let mut burst = self.session.burst(now);
        let handled = frames.iter().try_for_each(|frame: Frame<'_>| {
            assert!(frame.payload.len() <= burst.frame_limit(&frame.header));
            let handled = burst.handle_frame(frame);
            self.blocks.extend(core::iter::from_fn(|| burst.poll_block()));
            handled
        });
        let finished = burst.finish();
        self.blocks.extend(core::iter::from_fn(|| self.session.poll_block()));
        finished.and(handled)
    }

    /// What is taken out of the session after each step.
    fn settle(&mut self) {
        self.session.take_records(&mut self.records);
        self.said.extend_from_slice(self.session.frames().as_bytes());
        self.session.frames().clear();
    }

    fn assert_same(&self, other: &Self) {
        assert_eq!(self.records, other.records);
        assert_eq!(self.blocks, other.blocks);
        assert!(self.said == other.said, "the answers differ");
        assert_eq!(self.session.counters(), other.session.counters());
        assert_eq!(self.session.unacknowledged(), other.session.unacknowledged());
        assert_eq!(self.session.channels(), other.session.channels());
        assert_eq!(self.session.poll_timeout(), other.session.poll_timeout());
    }
}

/// The same peer twice, once in bursts.
struct Twins {
    world: World,
    works: Vec<Arc<Work>>,
    alone: Side,
    burst: Side,
    durable: u64,
}

impl Twins {
    fn new() -> Self {
        // Half of the hashes are blocks, and half of the others are shares.
        let mut config = config();
        config.vardiff.easiest = Target::from_le_bytes([0xbf; 32]);
        let mut world = World::without_work(config);
        world.nbits = EASY;
        let works = vec![world.new_tip()];
        let (alone, burst) = (Side::new(&world.config, world.now), Side::new(&world.config, world.now));
        let mut twins = Self { world, works, alone, burst, durable: 0 };
        twins.hear();
        let mut beginning = FrameQueue::default();
        encode(setup(0), &mut beginning).unwrap();
        let requested_extensions = Seq064K::new(vec![2]).unwrap();
        encode(RequestExtensions { request_id: 1, requested_extensions }, &mut beginning).unwrap();
        [true, true, false].into_iter().for_each(|extended| {
            let open = if extended { Said::OpenExtended } else { Said::OpenStandard };
            put(&open, &twins.works, &mut beginning);
        });
        assert_eq!(twins.say(&beginning), Ok(()));
        twins
    }

    fn hear(&mut self) {
        let work = self.works.last().unwrap();
        for side in [&mut self.alone, &mut self.burst] {
            side.session.handle_work(Arc::clone(work), self.world.now);
        }
    }

    fn say(&mut self, frames: &FrameQueue) -> Result<(), Disconnect> {
        let alone = self.alone.one_by_one(frames, self.world.now);
        let burst = self.burst.at_once(frames, self.world.now);
        assert_eq!(burst, alone);
        burst
    }

    fn take(&mut self, step: &Step) -> Result<(), Disconnect> {
        let mut said = Ok(());
        match step {
            Step::Burst(burst) => said = self.say(&frames(burst, &self.works)),
            Step::Refresh | Step::NewTip => {
                let new_tip = matches!(step, Step::NewTip);
                let work = if new_tip { self.world.new_tip() } else { self.world.refresh() };
                self.works.push(work);
                self.hear();
            }
            Step::Durable { more } => {
                self.durable = (self.durable + more).min(self.alone.records.len() as u64);
                self.alone.session.handle_durable(self.durable);
                self.burst.session.handle_durable(self.durable);
            }
            Step::Wait { seconds } => self.world.wait(*seconds),
        }
        self.alone.settle();
        self.burst.settle();
        self.alone.assert_same(&self.burst);
        said
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_burst_does_what_its_frames_do_one_by_one(steps in prop::collection::vec(step(), 1..30)) {
        let mut twins = Twins::new();
        // The end of the connection is the same on both sides too.
        let _ended = steps.iter().try_for_each(|step| twins.take(step));
    }
}

#[test]
fn every_outcome_is_reached_in_bursts() {
    let mut twins = Twins::new();
    let shares = |nonces: core::ops::Range<u32>, twist| {
        nonces
            .map(move |nonce| Said::Share { channel: 2 + nonce % 2, back: 0, nonce, twist })
            .collect::<Vec<_>>()
    };
    twins.take(&Step::Burst(shares(0..101, Twist::None))).unwrap();
    let counters = *twins.burst.session.counters();
    assert!(counters.blocks > 20 && counters.accepted > counters.blocks && counters.rejected_total() > 5);
    for (place, block) in twins.burst.blocks.iter().enumerate() {
        let record = twins.burst.records.get(usize::try_from(block.record).unwrap() - 1).unwrap();
        assert_eq!(record.sequence_number.0, block_nonce(block), "block {place} names its record");
    }
    twins.take(&Step::Burst(shares(0..100, Twist::None))).unwrap();
    assert_eq!(twins.burst.session.counters().accepted, counters.accepted, "all of them were there before");
    twins.take(&Step::Burst(shares(200..220, Twist::Worker))).unwrap();
    assert!(twins.burst.records.last().unwrap().worker.is_some());
    let flood = Step::Burst(vec![Said::Flood { channel: 99, count: 1200 }]);
    assert!(twins.take(&flood).is_err(), "there is an end to patience");
}

fn block_nonce(found: &FoundBlock) -> u32 {
    let bytes = found.block.to_bytes();
    u32::from_le_bytes(bytes[76..80].try_into().unwrap())
}

#[test]
fn a_share_waits_for_the_next_frame_of_its_burst_and_no_longer() {
    let mut twins = Twins::new();
    let wrong = Said::Share { channel: 2, back: 0, nonce: 1, twist: Twist::Time };
    let frames = frames(&[wrong.clone(), wrong, Said::Unknown], &twins.works);
    let mut shares = frames.iter();
    let [first, second, unknown] = core::array::from_fn(|_| shares.next().unwrap());
    let session = &mut twins.burst.session;
    session.frames().clear();

    let mut burst = session.burst(twins.world.now);
    burst.handle_frame(first).unwrap();
    assert_eq!(burst.answers_len(), 0, "it waits");
    burst.handle_frame(second).unwrap();
    let answer = burst.answers_len();
    assert!(answer > 0, "and is answered when another comes");
    burst.handle_frame(unknown).unwrap();
    assert_eq!(burst.answers_len(), 2 * answer, "of whatever kind");
    burst.handle_frame(first).unwrap();
    burst.finish().unwrap();
    assert_eq!(session.frames().len_bytes(), 3 * answer, "or when none does");

    let mut burst = session.burst(twins.world.now);
    burst.handle_frame(first).unwrap();
    drop(burst);
    assert_eq!(session.frames().len_bytes(), 4 * answer, "even if nobody asks for it");
}
