//! Dialogues between the client and a server made of hand-written frames, on a virtual clock.

use adit_messages::error_code;
use adit_messages::types::{B032, Seq064K, Seq0255, Sv2Option};
use adit_messages::{Direction, MESSAGES};
use adit_units::JobId;
use proptest::prelude::*;

use super::channel::Channel;
use super::*;
use crate::work::{Extranonce, MerkleRoot};

const CHANNEL: u32 = 7;
const GROUP: u32 = 3;
const NTIME: u32 = 1_700_000_000;

struct Dialogue {
    client: Client,
    now: Monotonic,
}

fn config(channel: ChannelKind) -> ClientConfig {
    ClientConfig {
        host: "pool.example".into(),
        port: 34254,
        device: Device { device_id: "one".into(), ..Device::default() },
        user: "account.worker".into(),
        channel,
        nominal_hashrate: Hashrate::from_hashes_per_second(1_000_000),
        max_target: Target::MAX,
        min_extranonce_size: 4,
    }
}

fn text(text: &str) -> Str0255<'_> {
    text.try_into().unwrap()
}

fn easy() -> [u8; 32] {
    [0xff; 32]
}

fn option<'a>(value: Option<u32>) -> Sv2Option<'a, u32> {
    Sv2Option::new(value)
}

impl Dialogue {
    /// A client that has just connected and introduced itself.
    fn connected(channel: ChannelKind) -> Self {
        let now = Monotonic::from_micros(1_000_000);
        Self { client: Client::new(config(channel), now).unwrap(), now }
    }

    /// A client with an open channel.
    fn open(channel: ChannelKind) -> Self {
        let mut dialogue = Self::connected(channel);
        dialogue.hears(setup_success(MiningSuccessFlags::NONE)).unwrap();
        match channel {
            ChannelKind::Standard => dialogue.hears(standard_success()).unwrap(),
            ChannelKind::Extended => dialogue.hears(extended_success(14)).unwrap(),
        }
        assert!(matches!(dialogue.client.poll_event(), Some(Event::Opened(ChannelId(CHANNEL)))));
        dialogue.client.frames().clear();
        dialogue
    }

    /// A client that mines job 1.
    fn mining(channel: ChannelKind) -> (Self, Arc<Work>) {
        let mut dialogue = Self::open(channel);
        match channel {
            ChannelKind::Standard => dialogue.hears(standard_job(1, None)).unwrap(),
            ChannelKind::Extended => dialogue.hears(extended_job(CHANNEL, 1, None)).unwrap(),
        }
        assert!(dialogue.client.poll_event().is_none(), "a future job is not work yet");
        dialogue.hears(prev_hash(CHANNEL, 1, [1; 32])).unwrap();
        let work = dialogue.work();
        (dialogue, work)
    }

    fn hears<'a>(&mut self, message: impl Into<Message<'a>>) -> Result<(), ClientError> {
        let mut queue = FrameQueue::default();
        push(&mut queue, message);
        let frame = queue.iter().next().unwrap();
        let limit = self.client.frame_limit(&frame.header);
        assert!(frame.payload.len() <= limit, "the transport would refuse {frame:?}, the limit is {limit}");
        self.client.handle_frame(frame, self.now)
    }

    fn passes(&mut self, time: Duration) {
        self.now = self.now + time;
    }

    /// Checks the only frame that the client wants to send.
    fn says(&mut self, check: impl FnOnce(Message<'_>)) {
        let mut frames = self.client.frames().iter();
        let frame = frames.next().expect("the client has something to say");
        check(decode(Protocol::Mining, frame).unwrap());
        assert!(frames.next().is_none(), "the client says more than one thing");
        self.client.frames().clear();
    }

    fn work(&mut self) -> Arc<Work> {
        match self.client.poll_event() {
            Some(Event::Work(work)) => work,
            other => panic!("work, not {other:?}"),
        }
    }
}

fn setup_success(flags: MiningSuccessFlags) -> common::SetupConnectionSuccess {
    common::SetupConnectionSuccess { used_version: 2, flags: flags.bits() }
}

fn standard_success() -> Message<'static> {
    mining::OpenStandardMiningChannelSuccess {
        request_id: REQUEST_ID,
        channel_id: CHANNEL,
        target: U256::from(const { &[0xff; 32] }),
        extranonce_prefix: B032::try_from(b"\x0a\x0b").unwrap(),
        group_channel_id: GROUP,
    }
    .into()
}

fn extended_success(extranonce_size: u16) -> Message<'static> {
    mining::OpenExtendedMiningChannelSuccess {
        request_id: REQUEST_ID,
        channel_id: CHANNEL,
        target: U256::from(const { &[0xff; 32] }),
        extranonce_size,
        extranonce_prefix: B032::try_from(b"\x0a\x0b").unwrap(),
        group_channel_id: GROUP,
    }
    .into()
}

fn standard_job(job_id: u32, min_ntime: Option<u32>) -> Message<'static> {
    mining::NewMiningJob {
        channel_id: CHANNEL,
        job_id,
        min_ntime: option(min_ntime),
        version: 0x2000_0000,
        merkle_root: U256::from(const { &[9; 32] }),
    }
    .into()
}

fn extended_job(channel_id: u32, job_id: u32, min_ntime: Option<u32>) -> Message<'static> {
    mining::NewExtendedMiningJob {
        channel_id,
        job_id,
        min_ntime: option(min_ntime),
        version: 0x2000_0000,
        version_rolling_allowed: true,
        merkle_path: Seq0255::new(vec![U256::from(const { &[4; 32] })]).unwrap(),
        coinbase_tx_prefix: b"prefix".as_slice().try_into().unwrap(),
        coinbase_tx_suffix: b"suffix".as_slice().try_into().unwrap(),
    }
    .into()
}

fn prev_hash(channel_id: u32, job_id: u32, hash: [u8; 32]) -> Message<'static> {
    // The hash is one of a few that the tests use, so that it can be borrowed for as long as they run.
    static HASHES: [[u8; 32]; 4] = [[0; 32], [1; 32], [2; 32], [3; 32]];
    let prev_hash = U256::from(&HASHES[usize::from(hash[0])]);
    mining::SetNewPrevHash { channel_id, job_id, prev_hash, min_ntime: NTIME, nbits: 0x1d00_ffff }.into()
}

fn solution(work: &Arc<Work>) -> Solution {
    Solution {
        work: Arc::clone(work),
        nonce: 5,
        ntime: NTIME + 1,
        version: 0x2000_0020,
        extranonce: work.slice(0).unwrap().extranonce,
        hash: [0xff; 32],
    }
}

#[test]
fn a_client_introduces_itself_and_opens_the_channel_it_wants() {
    for (kind, flags) in [
        (ChannelKind::Standard, MiningSetupFlags::REQUIRES_STANDARD_JOBS),
        (ChannelKind::Extended, MiningSetupFlags::NONE),
    ] {
        let mut dialogue = Dialogue::connected(kind);
        dialogue.says(|message| {
            let Message::SetupConnection(setup) = message else { panic!("{message:?}") };
            assert_eq!(setup.protocol, common::Protocol::MiningProtocol);
            assert_eq!((setup.min_version, setup.max_version, setup.flags), (2, 2, flags.bits()));
            assert_eq!((setup.endpoint_host, setup.endpoint_port), (text("pool.example"), 34254));
            assert_eq!((setup.vendor, setup.device_id), (text("adit"), text("one")));
        });
        dialogue.hears(setup_success(MiningSuccessFlags::NONE)).unwrap();
        dialogue.says(|message| match (kind, message) {
            (ChannelKind::Standard, Message::OpenStandardMiningChannel(open)) => {
                assert_eq!(open.user_identity, text("account.worker"));
                assert_eq!(open.nominal_hash_rate.to_bits(), 1e6_f32.to_bits());
                assert_eq!(open.max_target.to_array(), easy());
            }
            (ChannelKind::Extended, Message::OpenExtendedMiningChannel(open)) => {
                assert_eq!(open.user_identity, text("account.worker"));
                assert_eq!(open.min_extranonce_size, 4);
            }
            (_, other) => panic!("{other:?}"),
        });
    }
}

#[test]
fn texts_that_do_not_fit_are_refused_before_anything_is_sent() {
    let long = "x".repeat(256);
    let field = |change: fn(&mut ClientConfig, String)| {
        let mut config = config(ChannelKind::Extended);
        change(&mut config, long.clone());
        Client::new(config, Monotonic::default()).err().map(|error| error.field)
    };
    assert_eq!(field(|config, long| config.user = long), Some("the user"));
    assert_eq!(field(|config, long| config.device.vendor = long), Some("the vendor"));
    assert_eq!(field(|config, long| config.host = long), Some("the host"));
}

#[test]
fn a_server_that_refuses_is_quoted_without_what_could_harm_a_terminal() {
    let mut dialogue = Dialogue::connected(ChannelKind::Extended);
    let flags = MiningSetupFlags::REQUIRES_VERSION_ROLLING.bits();
    let error_code = text("unsupported-feature-flags\u{1b}[2J");
    let refused = dialogue.hears(common::SetupConnectionError { flags, error_code }).unwrap_err();
    assert!(refused.is_refusal());
    assert_eq!(
        refused.to_string(),
        "the server refuses the connection: unsupported-feature-flags\\x1b[2J, \
         it does not support [REQUIRES_VERSION_ROLLING]"
    );

    let mut dialogue = Dialogue::connected(ChannelKind::Extended);
    dialogue.hears(setup_success(MiningSuccessFlags::NONE)).unwrap();
    let error_code = error_code::OpenMiningChannelError::UnknownUser.to_wire();
    let refused = dialogue.hears(mining::OpenMiningChannelError { request_id: REQUEST_ID, error_code });
    assert_eq!(refused, Err(ClientError::ChannelRefused("unknown-user".into())));

    let mut dialogue = Dialogue::connected(ChannelKind::Standard);
    let refused = dialogue.hears(setup_success(MiningSuccessFlags::REQUIRES_EXTENDED_CHANNELS));
    assert_eq!(refused, Err(ClientError::StandardChannelsRefused));
}

#[test]
fn silence_has_an_end_in_every_state() {
    let mut dialogue = Dialogue::connected(ChannelKind::Extended);
    let check = |dialogue: &mut Dialogue, patience: Duration| {
        assert_eq!(dialogue.client.poll_timeout(), dialogue.now + patience);
        dialogue.passes(patience - Duration::from_micros(1));
        assert_eq!(dialogue.client.handle_timeout(dialogue.now), Ok(()));
        let later = dialogue.now + Duration::from_micros(1);
        assert_eq!(dialogue.client.handle_timeout(later), Err(ClientError::Silent));
    };
    check(&mut dialogue, Client::SETUP_PATIENCE);
    dialogue.hears(setup_success(MiningSuccessFlags::NONE)).unwrap();
    check(&mut dialogue, Client::OPEN_PATIENCE);
    dialogue.hears(extended_success(4)).unwrap();
    check(&mut dialogue, Client::QUIET_PATIENCE);
    dialogue.hears(extended_job(CHANNEL, 1, None)).unwrap();
    check(&mut dialogue, Client::QUIET_PATIENCE);
}

#[test]
fn a_future_job_becomes_work_with_the_tip_that_names_it() {
    let mut dialogue = Dialogue::open(ChannelKind::Extended);
    for job_id in [1, 2, 3] {
        dialogue.hears(extended_job(GROUP, job_id, None)).unwrap();
    }
    dialogue.passes(Duration::from_secs(1));
    dialogue.hears(prev_hash(GROUP, 2, [1; 32])).unwrap();
    let work = dialogue.work();
    assert_eq!((work.job_id, work.tip.prev_hash, work.min_ntime), (JobId(2), [1; 32], NTIME));
    assert_eq!((work.tip.target, work.since), (Target::DIFFICULTY_1, dialogue.now));
    assert!(work.version_rolling);

    // The other future jobs are void now.
    let void = dialogue.hears(prev_hash(GROUP, 3, [2; 32]));
    assert!(matches!(void, Err(ClientError::Misbehaved(_))), "{void:?}");
}

#[test]
fn a_job_with_a_time_is_work_at_once() {
    let (mut dialogue, first) = Dialogue::mining(ChannelKind::Extended);
    dialogue.passes(Duration::from_secs(30));
    dialogue.hears(extended_job(CHANNEL, 2, Some(NTIME + 30))).unwrap();
    let second = dialogue.work();
    assert_eq!((second.job_id, second.min_ntime, second.since), (JobId(2), NTIME + 30, dialogue.now));
    assert!(Arc::ptr_eq(&first.tip, &second.tip));

    let mut early = Dialogue::open(ChannelKind::Extended);
    let without_tip = early.hears(extended_job(CHANNEL, 1, Some(NTIME)));
    assert!(matches!(without_tip, Err(ClientError::Misbehaved(_))), "{without_tip:?}");
}

#[test]
fn only_so_many_future_jobs_are_kept() {
    let mut dialogue = Dialogue::open(ChannelKind::Extended);
    let jobs = 0..u32::try_from(Channel::FUTURE_JOBS_MAX).unwrap() + 1;
    for job_id in jobs.clone() {
        dialogue.hears(extended_job(CHANNEL, job_id, None)).unwrap();
    }
    dialogue.hears(prev_hash(CHANNEL, jobs.end - 1, [1; 32])).unwrap();
    assert_eq!(dialogue.work().job_id, JobId(jobs.end - 1));

    let mut dialogue = Dialogue::open(ChannelKind::Extended);
    for job_id in jobs {
        dialogue.hears(extended_job(CHANNEL, job_id, None)).unwrap();
    }
    assert!(dialogue.hears(prev_hash(CHANNEL, 0, [1; 32])).is_err(), "the oldest made room");
}

#[test]
fn an_extended_channel_makes_its_own_coinbases() {
    let (_, work) = Dialogue::mining(ChannelKind::Extended);
    let expected = MerkleRoot::Rolled {
        prefix: b"prefix\x0a\x0b".to_vec(),
        extranonce_len: 14,
        suffix: b"suffix".to_vec(),
        path: vec![[4; 32]],
    };
    assert_eq!(work.merkle_root, expected);
}

#[test]
fn a_standard_channel_takes_roots_and_makes_them_of_its_groups_jobs() {
    let (mut dialogue, work) = Dialogue::mining(ChannelKind::Standard);
    assert_eq!(work.merkle_root, MerkleRoot::Fixed([9; 32]));
    assert!(work.version_rolling, "standard jobs leave the general purpose bits to the miner");

    dialogue.hears(extended_job(GROUP, 2, Some(NTIME))).unwrap();
    let whole = MerkleRoot::Rolled {
        prefix: b"prefix\x0a\x0bsuffix".to_vec(),
        extranonce_len: 0,
        suffix: vec![],
        path: vec![[4; 32]],
    };
    let root = whole.with(&Extranonce::default());
    assert_eq!(dialogue.work().merkle_root, MerkleRoot::Fixed(root));

    let (mut extended, _) = Dialogue::mining(ChannelKind::Extended);
    assert!(matches!(extended.hears(standard_job(2, None)), Err(ClientError::Misbehaved(_))));
}

#[test]
fn a_fixed_version_is_not_rolled() {
    for kind in [ChannelKind::Standard, ChannelKind::Extended] {
        let mut dialogue = Dialogue::connected(kind);
        dialogue.hears(setup_success(MiningSuccessFlags::REQUIRES_FIXED_VERSION)).unwrap();
        let (opened, job) = match kind {
            ChannelKind::Standard => (standard_success(), standard_job(1, None)),
            ChannelKind::Extended => (extended_success(4), extended_job(CHANNEL, 1, None)),
        };
        dialogue.hears(opened).unwrap();
        dialogue.hears(job).unwrap();
        dialogue.hears(prev_hash(CHANNEL, 1, [1; 32])).unwrap();
        dialogue.client.poll_event();
        assert!(!dialogue.work().version_rolling);
    }
}

#[test]
fn a_new_target_is_for_later_work() {
    let (mut dialogue, first) = Dialogue::mining(ChannelKind::Extended);
    dialogue.hears(extended_job(CHANNEL, 2, None)).unwrap();
    let maximum_target = U256::from(const { &[0x11; 32] });
    let harder = Target::from_le_bytes([0x11; 32]);
    dialogue.hears(mining::SetTarget { channel_id: GROUP, maximum_target }).unwrap();
    assert!(dialogue.client.poll_event().is_none());
    assert_eq!(first.target, Target::MAX);
    dialogue.hears(extended_job(CHANNEL, 3, Some(NTIME))).unwrap();
    assert_eq!(dialogue.work().target, harder);
    // A future job that came before takes the target in force when it is activated.
    dialogue.hears(prev_hash(CHANNEL, 2, [2; 32])).unwrap();
    assert_eq!(dialogue.work().target, harder);
}

#[test]
fn a_new_extranonce_prefix_is_for_later_jobs() {
    let (mut dialogue, _) = Dialogue::mining(ChannelKind::Extended);
    dialogue.hears(extended_job(CHANNEL, 2, None)).unwrap();
    let extranonce_prefix = B032::try_from(b"\x0c\x0d\x0e").unwrap();
    dialogue.hears(mining::SetExtranoncePrefix { channel_id: CHANNEL, extranonce_prefix }).unwrap();
    dialogue.hears(extended_job(CHANNEL, 3, Some(NTIME))).unwrap();
    let prefix = |work: &Work| match &work.merkle_root {
        MerkleRoot::Rolled { prefix, .. } => prefix.clone(),
        MerkleRoot::Fixed(_) => panic!("an extended channel rolls"),
    };
    assert_eq!(prefix(&dialogue.work()), b"prefix\x0c\x0d\x0e");
    dialogue.hears(prev_hash(CHANNEL, 2, [2; 32])).unwrap();
    assert_eq!(prefix(&dialogue.work()), b"prefix\x0a\x0b", "the job came before the prefix");
}

#[test]
fn a_channel_can_change_its_group() {
    let (mut dialogue, _) = Dialogue::mining(ChannelKind::Extended);
    let others = Seq064K::new(vec![CHANNEL + 1]).unwrap();
    dialogue.hears(mining::SetGroupChannel { group_channel_id: 90, channel_ids: others }).unwrap();
    dialogue.hears(extended_job(90, 2, Some(NTIME))).unwrap();
    assert!(dialogue.client.poll_event().is_none(), "that group is not ours");

    let ours = Seq064K::new(vec![CHANNEL + 1, CHANNEL]).unwrap();
    dialogue.hears(mining::SetGroupChannel { group_channel_id: 90, channel_ids: ours }).unwrap();
    dialogue.hears(extended_job(90, 3, Some(NTIME))).unwrap();
    assert_eq!(dialogue.work().job_id, JobId(3));
    dialogue.hears(extended_job(GROUP, 4, Some(NTIME))).unwrap();
    assert!(dialogue.client.poll_event().is_none(), "the old group is left");
}

#[test]
fn what_is_for_other_channels_is_passed_over() {
    let (mut dialogue, _) = Dialogue::mining(ChannelKind::Standard);
    let other = 99;
    dialogue.hears(extended_job(other, 2, Some(NTIME))).unwrap();
    dialogue.hears(prev_hash(other, 2, [2; 32])).unwrap();
    let maximum_target = U256::from(const { &[0; 32] });
    dialogue.hears(mining::SetTarget { channel_id: other, maximum_target }).unwrap();
    let extranonce_prefix = B032::try_from(b"\x01").unwrap();
    dialogue.hears(mining::SetExtranoncePrefix { channel_id: other, extranonce_prefix }).unwrap();
    let reason_code = text("other");
    dialogue.hears(mining::CloseChannel { channel_id: other, reason_code }).unwrap();
    let error_code = text("stale-share");
    dialogue.hears(mining::SubmitSharesError { channel_id: other, sequence_number: 1, error_code }).unwrap();
    assert!(dialogue.client.poll_event().is_none());
    dialogue.hears(standard_job(3, Some(NTIME))).unwrap();
    assert_eq!(dialogue.work().target, Target::MAX);
}

#[test]
fn shares_carry_what_was_rolled() {
    let (mut dialogue, work) = Dialogue::mining(ChannelKind::Extended);
    assert_eq!(dialogue.client.submit(&solution(&work)), Ok(SequenceNumber(1)));
    dialogue.says(|message| {
        let Message::SubmitSharesExtended(share) = message else { panic!("{message:?}") };
        assert_eq!((share.channel_id, share.sequence_number, share.job_id), (CHANNEL, 1, 1));
        assert_eq!((share.nonce, share.ntime, share.version), (5, NTIME + 1, 0x2000_0020));
        assert_eq!(share.extranonce.as_bytes(), [0; 14]);
    });
    assert_eq!(dialogue.client.submit(&solution(&work)), Ok(SequenceNumber(2)));

    let (mut dialogue, work) = Dialogue::mining(ChannelKind::Standard);
    assert_eq!(dialogue.client.submit(&solution(&work)), Ok(SequenceNumber(1)));
    dialogue.says(|message| {
        let Message::SubmitSharesStandard(share) = message else { panic!("{message:?}") };
        assert_eq!((share.channel_id, share.job_id, share.nonce), (CHANNEL, 1, 5));
    });
}

#[test]
fn shares_of_the_same_tip_are_sent_and_others_are_not() {
    let (mut dialogue, first) = Dialogue::mining(ChannelKind::Extended);
    dialogue.hears(extended_job(CHANNEL, 2, Some(NTIME))).unwrap();
    assert!(dialogue.client.submit(&solution(&first)).is_ok(), "the first job is still of the tip");
    dialogue.hears(extended_job(CHANNEL, 3, None)).unwrap();
    dialogue.hears(prev_hash(CHANNEL, 3, [2; 32])).unwrap();
    assert_eq!(dialogue.client.submit(&solution(&first)), Err(NotSubmitted));

    let (mut other_connection, _) = Dialogue::mining(ChannelKind::Extended);
    assert_eq!(other_connection.client.submit(&solution(&first)), Err(NotSubmitted));
    let mut without_channel = Dialogue::connected(ChannelKind::Extended);
    assert_eq!(without_channel.client.submit(&solution(&first)), Err(NotSubmitted));
}

#[test]
fn answers_are_told_with_their_codes() {
    let (mut dialogue, _) = Dialogue::mining(ChannelKind::Extended);
    let success = mining::SubmitSharesSuccess {
        channel_id: CHANNEL,
        last_sequence_number: 9,
        new_submits_accepted_count: 4,
        new_shares_sum: 17,
    };
    dialogue.hears(success).unwrap();
    let event = dialogue.client.poll_event();
    assert!(matches!(event, Some(Event::Accepted { submits: 4, shares: Shares(17) })), "{event:?}");

    for (wire, expected) in [
        ("duplicate-share", RejectCode::Known(SubmitSharesError::DuplicateShare)),
        ("because\n", RejectCode::Other("because\\n".into())),
    ] {
        let error_code = text(wire);
        let error = mining::SubmitSharesError { channel_id: CHANNEL, sequence_number: 10, error_code };
        dialogue.hears(error).unwrap();
        match dialogue.client.poll_event() {
            Some(Event::Rejected { sequence_number: SequenceNumber(10), code }) => assert_eq!(code, expected),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_server_can_send_its_clients_elsewhere() {
    let (mut dialogue, work) = Dialogue::mining(ChannelKind::Extended);
    dialogue.hears(common::Reconnect { new_host: text("other.example"), new_port: 1234 }).unwrap();
    match dialogue.client.poll_event() {
        Some(Event::Reconnect { host, port }) => assert_eq!((host.as_str(), port), ("other.example", 1234)),
        other => panic!("{other:?}"),
    }
    assert!(dialogue.client.submit(&solution(&work)).is_ok(), "until it goes it may still send");

    let mut opening = Dialogue::connected(ChannelKind::Extended);
    opening.hears(setup_success(MiningSuccessFlags::NONE)).unwrap();
    opening.hears(common::Reconnect { new_host: text(""), new_port: 0 }).unwrap();
    let event = opening.client.poll_event();
    assert!(matches!(event, Some(Event::Reconnect { port: 0, .. })), "{event:?}");
}

#[test]
fn a_closed_channel_ends_the_connection_from_either_side() {
    let (mut dialogue, work) = Dialogue::mining(ChannelKind::Extended);
    let reason_code = text("maintenance");
    let closed = dialogue.hears(mining::CloseChannel { channel_id: GROUP, reason_code });
    assert_eq!(closed, Err(ClientError::ChannelClosed("maintenance".into())));
    assert_eq!(dialogue.client.submit(&solution(&work)), Err(NotSubmitted));

    let (mut dialogue, work) = Dialogue::mining(ChannelKind::Extended);
    dialogue.client.close();
    dialogue.says(|message| {
        let Message::CloseChannel(close) = message else { panic!("{message:?}") };
        assert_eq!(close.channel_id, CHANNEL);
    });
    assert_eq!(dialogue.client.submit(&solution(&work)), Err(NotSubmitted));
    dialogue.hears(extended_job(CHANNEL, 2, Some(NTIME))).unwrap();
    assert!(dialogue.client.poll_event().is_none(), "what comes after the goodbye is not looked at");

    let mut early = Dialogue::connected(ChannelKind::Extended);
    early.client.frames().clear();
    early.client.close();
    assert!(early.client.frames().is_empty(), "there is no channel to close");
}

#[test]
fn an_extranonce_of_another_size_is_not_taken() {
    for (size, taken) in [(3, false), (4, true), (32, true), (33, false), (0x0104, false)] {
        let mut dialogue = Dialogue::connected(ChannelKind::Extended);
        dialogue.hears(setup_success(MiningSuccessFlags::NONE)).unwrap();
        assert_eq!(dialogue.hears(extended_success(size)).is_ok(), taken, "{size}");
    }
}

#[test]
fn out_of_turn_is_out_of_order() {
    let mut dialogue = Dialogue::connected(ChannelKind::Extended);
    let version_3 = common::SetupConnectionSuccess { used_version: 3, flags: 0 };
    assert!(matches!(dialogue.hears(version_3), Err(ClientError::Misbehaved(_))));

    let mut dialogue = Dialogue::connected(ChannelKind::Extended);
    dialogue.hears(setup_success(MiningSuccessFlags::NONE)).unwrap();
    assert!(matches!(dialogue.hears(standard_success()), Err(ClientError::Misbehaved(_))), "the wrong kind");

    let (mut dialogue, _) = Dialogue::mining(ChannelKind::Extended);
    assert!(
        matches!(dialogue.hears(extended_success(14)), Err(ClientError::Misbehaved(_))),
        "a second channel"
    );
}

#[test]
fn what_is_unknown_is_passed_over_and_what_is_broken_is_not() {
    let (mut dialogue, _) = Dialogue::mining(ChannelKind::Extended);
    let now = dialogue.now;
    for (extension_type, msg_type) in [(0x4001, 0x10), (2, 0), (0, 0x1e), (0, 0x70)] {
        let frame = Frame::new(extension_type, true, msg_type, b"whatever").unwrap();
        assert_eq!(dialogue.client.handle_frame(frame, now), Ok(()));
    }
    let cut = Frame::new(0, true, 0x21, b"short").unwrap();
    assert!(matches!(dialogue.client.handle_frame(cut, now), Err(ClientError::Malformed(_))));
}

proptest! {
    /// Whatever a server sends, in whatever state, the client neither panics nor says anything it should not.
    #[test]
    fn any_frames_are_survived(
        standard: bool,
        frames in prop::collection::vec(
            (0..MESSAGES.len(), prop::collection::vec(prop_oneof![0_u8..8, any::<u8>()], 0..120)),
            0..20,
        ),
    ) {
        let kind = if standard { ChannelKind::Standard } else { ChannelKind::Extended };
        for mut dialogue in [Dialogue::connected(kind), Dialogue::open(kind), Dialogue::mining(kind).0] {
            for (row, payload) in &frames {
                let info = &MESSAGES[*row];
                let frame = Frame::new(info.extension_type, info.channel_msg, info.msg_type, payload).unwrap();
                if dialogue.client.handle_frame(frame, dialogue.now).is_err() {
                    break;
                }
            }
            while let Some(event) = dialogue.client.poll_event() {
                if let Event::Work(work) = event {
                    let _ = dialogue.client.submit(&solution(&work));
                }
            }
            dialogue.client.close();
            for frame in dialogue.client.frames().iter() {
                let message = decode(Protocol::Mining, frame).unwrap();
                prop_assert_ne!(message.info().direction, Direction::ToClient);
            }
        }
    }
}
