//! Dialogues with a pool and a job declarator server on a virtual clock.
#![expect(
    clippy::unwrap_in_result,
    reason = "the results are the client's, and what is unwrapped is the test's own"
)]

use adit_messages::types::{B032, B064K, B0255, Seq064K, Str0255, U256};
use adit_messages::{Message, PROTOCOL_VERSION, Protocol, common, decode, encode, job_declaration, mining};
use adit_units::Target;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, ScriptBuf, consensus};

use super::super::proposal::tests::{job, payout};
use super::*;

mod left;

/// What the client sent, in a form that tests can compare.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Sent {
    Setup { flags: u32 },
    Extensions,
    Open { least: u16 },
    SetJob { request: u32, token: Vec<u8> },
    Submit { job: u32, number: u32, extranonce: Vec<u8> },
    Update { rate: f32Bits },
    Ask { request: u32 },
    Declare { request: u32, token: Vec<u8>, transactions: usize },
    Provide { request: u32, transactions: Vec<Vec<u8>> },
    Push { nonce: u32, extranonce: Vec<u8> },
}

/// A float that can be compared.
#[expect(non_camel_case_types, reason = "it is a f32 but for Eq")]
type f32Bits = u32;

const POOL_PREFIX: [u8; 12] = [5; 12];

struct World {
    upstream: Upstream,
    now: Monotonic,
}

impl World {
    fn new(mode: Mode) -> Self {
        let config = Arc::new(UpstreamConfig {
            pool: ("pool.example".to_owned(), 34254),
            declarator: ("jds.example".to_owned(), 34264),
            user: "farm".to_owned(),
            mode,
            nominal_hashrate: Hashrate::from_hashes_per_second(1_000),
            min_extranonce_size: 14,
            names_workers: true,
        });
        assert!(config.fits());
        let now = Monotonic::default();
        Self { upstream: Upstream::new(&config, now), now }
    }

    /// One that is set up, with two tokens.
    fn ready(mode: Mode) -> Self {
        let mut world = Self::new(mode);
        world.sent();
        world.set_up();
        world.open();
        assert_eq!(world.sent(), [Sent::Ask { request: 1 }, Sent::Ask { request: 2 }]);
        world.token(1, b"one");
        world.token(2, b"two");
        assert!(matches!(world.event(), Some(Event::Ready(_))));
        assert_eq!(world.event(), None);
        world
    }

    fn set_up(&mut self) {
        let success = common::SetupConnectionSuccess { used_version: PROTOCOL_VERSION, flags: 0 };
        self.pool(success).unwrap();
        self.declarator(success).unwrap();
        self.sent_to_pool();
    }

    fn open(&mut self) {
        let target = Target::MAX.to_le_bytes();
        self.pool(mining::OpenExtendedMiningChannelSuccess {
            request_id: 1,
            channel_id: 2,
            target: U256::from(&target),
            extranonce_size: 20,
            extranonce_prefix: B032::try_from(&POOL_PREFIX[..]).unwrap(),
            group_channel_id: 1,
        })
        .unwrap();
    }

    fn pool<'a>(&mut self, message: impl Into<Message<'a>>) -> Result<(), UpstreamError> {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        let frame = queue.iter().next().unwrap();
        assert!(frame.payload.len() <= self.upstream.pool_frame_limit(&frame.header));
        self.upstream.handle_pool_frame(frame, self.now)
    }

    fn declarator<'a>(&mut self, message: impl Into<Message<'a>>) -> Result<(), UpstreamError> {
        let mut queue = FrameQueue::default();
        encode(message, &mut queue).unwrap();
        let frame = queue.iter().next().unwrap();
        assert!(frame.payload.len() <= self.upstream.declarator_frame_limit(&frame.header));
        self.upstream.handle_declarator_frame(frame, self.now)
    }

    fn token(&mut self, request: u32, token: &[u8]) {
        self.token_for(request, token, &payout());
    }

    fn token_for(&mut self, request: u32, token: &[u8], script: &ScriptBuf) {
        self.token_with(request, token, &[(0, script.clone())]).unwrap();
    }

    fn token_with(
        &mut self,
        request: u32,
        token: &[u8],
        outputs: &[(u64, ScriptBuf)],
    ) -> Result<(), UpstreamError> {
        let output = |&(sats, ref script_pubkey): &(u64, ScriptBuf)| TxOut {
            value: Amount::from_sat(sats),
            script_pubkey: script_pubkey.clone(),
        };
        let outputs = consensus::serialize(&outputs.iter().map(output).collect::<Vec<_>>());
        self.declarator(job_declaration::AllocateMiningJobTokenSuccess {
            request_id: request,
            mining_job_token: B0255::try_from(token).unwrap(),
            coinbase_outputs: B064K::try_from(&*outputs).unwrap(),
        })
    }

    /// The pool gives the channel another prefix.
    fn moved(&mut self, prefix: &[u8; 12]) {
        let extranonce_prefix = B032::try_from(&prefix[..]).unwrap();
        self.pool(mining::SetExtranoncePrefix { channel_id: 2, extranonce_prefix }).unwrap();
        let Some(Event::Changed(terms)) = self.event() else { panic!("the terms changed") };
        assert_eq!(&*terms.extranonce_prefix, prefix);
    }

    fn propose(&mut self, number: u32, seed: u8) -> Arc<Proposal> {
        let (job, template) = job(number, seed, &payout());
        let proposal = Arc::new(Proposal::new(&job, &template).unwrap());
        assert!(self.upstream.handle_proposal(Arc::clone(&proposal), self.now));
        proposal
    }

    fn declared(&mut self, request: u32, token: &[u8]) {
        self.declarator(job_declaration::DeclareMiningJobSuccess {
            request_id: request,
            new_mining_job_token: B0255::try_from(token).unwrap(),
        })
        .unwrap();
    }

    fn accepted(&mut self, request: u32, job: u32) {
        self.pool(mining::SetCustomMiningJobSuccess { channel_id: 2, request_id: request, job_id: job })
            .unwrap();
    }

    fn refused_by_declarator(&mut self, request: u32, code: &str) -> Result<(), UpstreamError> {
        self.declarator(job_declaration::DeclareMiningJobError {
            request_id: request,
            error_code: Str0255::try_from(code).unwrap(),
            error_details: B064K::try_from(&b"why"[..]).unwrap(),
        })
    }

    fn share_refused(&mut self, sequence_number: u32, code: &str) -> Result<(), UpstreamError> {
        self.pool(mining::SubmitSharesError {
            channel_id: 2,
            sequence_number,
            error_code: Str0255::try_from(code).unwrap(),
        })
    }

    fn wait(&mut self, millis: u64) -> Result<(), UpstreamError> {
        self.now = self.now + Duration::from_millis(millis);
        self.upstream.handle_timeout(self.now)
    }

    fn event(&mut self) -> Option<Event> {
        self.upstream.poll_event()
    }

    fn sent_to_pool(&mut self) -> Vec<Sent> {
        let frames = core::mem::take(self.upstream.pool_frames());
        frames.iter().map(|frame| sent(&decode(Protocol::Mining, frame).unwrap())).collect()
    }

    fn sent_to_declarator(&mut self) -> Vec<Sent> {
        let frames = core::mem::take(self.upstream.declarator_frames());
        frames.iter().map(|frame| sent(&decode(Protocol::JobDeclaration, frame).unwrap())).collect()
    }

    /// What went to the pool, then what went to the job declarator server.
    fn sent(&mut self) -> Vec<Sent> {
        let to_pool = self.sent_to_pool();
        [to_pool, self.sent_to_declarator()].concat()
    }
}

fn sent(message: &Message<'_>) -> Sent {
    let vec = |bytes: &[u8]| bytes.to_vec();
    match message {
        Message::SetupConnection(setup) => Sent::Setup { flags: setup.flags },
        Message::RequestExtensions(_) => Sent::Extensions,
        Message::OpenExtendedMiningChannel(open) => Sent::Open { least: open.min_extranonce_size },
        Message::SetCustomMiningJob(set) => {
            Sent::SetJob { request: set.request_id, token: vec(set.token.as_bytes()) }
        }
        Message::SubmitSharesExtended(submit) => Sent::Submit {
            job: submit.job_id,
            number: submit.sequence_number,
            extranonce: vec(submit.extranonce.as_bytes()),
        },
        Message::UpdateChannel(update) => Sent::Update { rate: update.nominal_hash_rate.to_bits() },
        Message::AllocateMiningJobToken(ask) => Sent::Ask { request: ask.request_id },
        Message::DeclareMiningJob(declare) => Sent::Declare {
            request: declare.request_id,
            token: vec(declare.mining_job_token.as_bytes()),
            transactions: declare.wtxid_list.iter().count(),
        },
        Message::ProvideMissingTransactionsSuccess(provide) => Sent::Provide {
            request: provide.request_id,
            transactions: provide.transaction_list.iter().map(|bytes| vec(bytes.as_bytes())).collect(),
        },
        Message::PushSolution(push) => {
            Sent::Push { nonce: push.nonce, extranonce: vec(push.extranonce.as_bytes()) }
        }
        other => panic!("a client does not send {other:?}"),
    }
}

fn share(job: u32, nonce: u32) -> Share {
    let mut extranonce = [0x77; 32];
    extranonce[..12].copy_from_slice(&POOL_PREFIX);
    Share {
        job: JobId(job),
        version: 0x2000_0000,
        ntime: 1_800_000_000,
        nonce,
        extranonce: extranonce.into(),
        hash: [0x33; 32],
        is_block: false,
        worker: None,
    }
}

fn submit(job: u32, number: u32) -> Sent {
    Sent::Submit { job, number, extranonce: vec![0x77; 20] }
}

#[test]
fn both_servers_are_told_what_is_wanted_of_them() {
    let mut world = World::new(Mode::FullTemplate);
    assert_eq!(world.sent(), [Sent::Setup { flags: 0b110 }, Sent::Setup { flags: 1 }]);
    let mut world = World::new(Mode::CoinbaseOnly);
    assert_eq!(world.sent(), [Sent::Setup { flags: 0b110 }, Sent::Setup { flags: 0 }]);
    let success = common::SetupConnectionSuccess { used_version: PROTOCOL_VERSION, flags: 0 };
    world.pool(success).unwrap();
    assert_eq!(world.sent(), [Sent::Extensions, Sent::Open { least: 14 }]);
    world.declarator(success).unwrap();
    assert_eq!(world.sent(), [Sent::Ask { request: 1 }, Sent::Ask { request: 2 }], "tokens are kept ready");
    world.token(1, b"one");
    assert_eq!(world.event(), None, "the channel is not open");
    world.open();
    let terms = Terms {
        extranonce_prefix: POOL_PREFIX.into(),
        extranonce_size: 20,
        outputs: vec![TxOut { value: Amount::ZERO, script_pubkey: payout() }],
    };
    assert_eq!(world.event(), Some(Event::Ready(terms)));
}

#[test]
fn a_job_from_before_the_channel_is_put_to_nobody_until_it_is_open() {
    let mut world = World::new(Mode::FullTemplate);
    world.sent();
    world.set_up();
    world.sent();
    world.token(1, b"one");
    world.token(2, b"two");
    let (job, template) = job(10, 1, &payout());
    let proposal = Arc::new(Proposal::new(&job, &template).unwrap());
    assert!(!world.upstream.handle_proposal(Arc::clone(&proposal), world.now));
    assert_eq!((world.event(), world.sent()), (None, vec![]));
    world.open();
    assert!(matches!(world.event(), Some(Event::Ready(_))));
    assert_eq!(world.sent(), [], "its driver proposes it anew");
    assert!(world.upstream.handle_proposal(proposal, world.now));
    let sent = world.sent();
    assert!(matches!(*sent, [Sent::Declare { request: 3, .. }, Sent::Ask { request: 4 }]), "{sent:?}");
}

#[test]
fn a_job_is_declared_then_set_and_its_shares_wait_till_then() {
    let mut world = World::ready(Mode::FullTemplate);
    let proposal = world.propose(10, 1);
    let transactions = proposal.template().transactions.len();
    let ask = Sent::Ask { request: 4 };
    assert_eq!(world.sent(), [Sent::Declare { request: 3, token: b"one".to_vec(), transactions }, ask]);
    world.upstream.handle_share(share(10, 1));
    assert_eq!(world.sent(), []);
    world.declared(3, b"declared");
    assert_eq!(world.sent(), [Sent::SetJob { request: 3, token: b"declared".to_vec() }]);
    world.upstream.handle_share(share(10, 2));
    assert_eq!((world.sent(), world.upstream.held()), (Vec::new(), 2));
    world.accepted(3, 500);
    assert_eq!(world.sent(), [submit(500, 1), submit(500, 2)]);
    assert_eq!(world.event(), Some(Event::JobAccepted(JobId(10))));
    world.upstream.handle_share(share(10, 3));
    assert_eq!(world.sent(), [submit(500, 3)], "at once from now on");
    assert_eq!((world.upstream.held(), world.upstream.lost()), (0, 0));
}

#[test]
fn coinbase_only_jobs_go_straight_to_the_pool() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    world.propose(10, 1);
    assert_eq!(world.sent(), [Sent::SetJob { request: 3, token: b"one".to_vec() }, Sent::Ask { request: 4 }]);
    world.accepted(3, 500);
    world.upstream.handle_share(Share { is_block: true, ..share(10, 1) });
    assert_eq!(world.sent(), [submit(500, 1)], "nobody else could complete the block");
}

#[test]
fn one_job_is_put_at_a_time_and_the_newest_next() {
    let mut world = World::ready(Mode::FullTemplate);
    for number in 10..14 {
        world.propose(number, 1);
        world.upstream.handle_share(share(number, number));
    }
    assert!(matches!(*world.sent(), [Sent::Declare { request: 3, .. }, Sent::Ask { .. }]));
    world.declared(3, b"declared");
    world.sent();
    world.accepted(3, 500);
    let sent = world.sent();
    assert!(
        matches!(&*sent, [Sent::Submit { job: 500, .. }, Sent::Declare { token, .. }, Sent::Ask { .. }] if token == b"two"),
        "{sent:?}"
    );
    assert_eq!(world.upstream.lost(), 2, "of the two that were passed over");
}

#[test]
fn missing_transactions_are_provided_in_the_order_asked_for() {
    let mut world = World::ready(Mode::FullTemplate);
    let proposal = world.propose(10, 1);
    world.sent();
    let missing = |request, positions| job_declaration::ProvideMissingTransactions {
        request_id: request,
        unknown_tx_position_list: Seq064K::new(positions).unwrap(),
    };
    world.declarator(missing(3, vec![5, 0])).unwrap();
    let bytes = |position: usize| proposal.template().transactions[position].as_bytes().to_vec();
    assert_eq!(world.sent(), [Sent::Provide { request: 3, transactions: vec![bytes(5), bytes(0)] }]);
    world.declarator(missing(99, vec![1])).unwrap();
    assert_eq!(world.sent(), [], "nothing was asked under that number");
    let many = u16::try_from(proposal.template().transactions.len()).unwrap();
    assert!(matches!(world.declarator(missing(3, vec![many])), Err(UpstreamError::Misbehaved { .. })));
}

#[test]
fn a_block_goes_to_both_servers_as_soon_as_they_can_take_it() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.sent();
    let block = |nonce| Share { is_block: true, ..share(10, nonce) };
    world.upstream.handle_share(block(1));
    assert_eq!(world.sent(), [], "neither knows the job");
    world.declared(3, b"declared");
    let push = |nonce| Sent::Push { nonce, extranonce: share(10, nonce).extranonce.to_vec() };
    assert_eq!(world.sent(), [Sent::SetJob { request: 3, token: b"declared".to_vec() }, push(1)]);
    world.accepted(3, 500);
    assert_eq!(world.sent(), [submit(500, 1)]);
    world.upstream.handle_share(block(2));
    assert_eq!(world.sent(), [submit(500, 2), push(2)]);
}

#[test]
fn an_idle_upstream_waits_for_nothing() {
    let mut world = World::ready(Mode::FullTemplate);
    assert_eq!(world.upstream.poll_timeout(), None);
    world.wait(3_600_000).unwrap();
    assert!(matches!(*world.sent(), [Sent::Ask { .. }, Sent::Ask { .. }]), "the tokens have grown old");
}

#[test]
fn tokens_that_nobody_asked_for_are_ignored() {
    let mut world = World::ready(Mode::FullTemplate);
    for request in [0, 1, 2, 3, 77] {
        world.token_for(request, b"spam", &ScriptBuf::from_bytes(vec![0x52]));
    }
    assert_eq!((world.event(), world.upstream.stock.len()), (None, STOCK));
}

#[test]
fn other_outputs_change_the_terms_and_old_jobs_do_not_keep_them() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.declared(3, b"declared");
    world.accepted(3, 500);
    world.event();
    let other = ScriptBuf::from_bytes(vec![0x52]);
    world.token_for(4, b"four", &other);
    let Some(Event::Changed(terms)) = world.event() else { panic!("the terms changed") };
    assert_eq!(terms.outputs[0].script_pubkey, other);
    let (job, template) = job(11, 1, &payout());
    let old = Arc::new(Proposal::new(&job, &template).unwrap());
    assert!(!world.upstream.handle_proposal(old, world.now));
    world.sent();
    world.upstream.handle_share(share(10, 1));
    assert_eq!(world.sent(), [submit(500, 1)], "what is accepted stays good");
}

/// A share that was found after the channel moved to this prefix.
fn share_with(prefix: &[u8; 12], job: u32, nonce: u32) -> Share {
    let mut share = share(job, nonce);
    share.extranonce[..12].copy_from_slice(prefix);
    share
}

#[test]
fn a_job_that_was_accepted_before_the_prefix_moved_stays_good() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    world.propose(10, 1);
    world.accepted(3, 500);
    world.event();
    world.sent();
    world.moved(&[9; 12]);
    world.upstream.handle_share(share(10, 1));
    assert_eq!(world.sent(), [submit(500, 1)], "made with the old one, like the job");
    world.propose(11, 1);
    world.accepted(5, 501);
    world.sent();
    world.upstream.handle_share(share_with(&[9; 12], 11, 2));
    assert_eq!(world.sent(), [submit(501, 2)]);
    world.upstream.handle_share(Share { is_block: true, ..share(10, 3) });
    assert_eq!(world.sent(), [submit(500, 3)], "blocks too");
    assert_eq!(world.upstream.lost(), 0);
    world.upstream.handle_share(share(11, 4));
    assert_eq!((world.sent(), world.upstream.lost()), (vec![], 1), "such a share is of no job");
}

#[test]
fn a_job_that_the_pool_accepts_after_the_prefix_moved_is_not_the_one_that_miners_work_on() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    world.propose(10, 1);
    world.upstream.handle_share(share(10, 1));
    world.moved(&[9; 12]);
    world.sent();
    world.accepted(3, 500);
    assert_eq!((world.event(), world.sent(), world.upstream.lost()), (None, vec![], 1));
    world.upstream.handle_share(share(10, 2));
    assert_eq!((world.sent(), world.upstream.lost()), (vec![], 2), "lost, and counted");
    world.propose(11, 1);
    assert!(
        matches!(*world.sent(), [Sent::SetJob { .. }, Sent::Ask { .. }]),
        "nothing else waits for the old one"
    );
}

#[test]
fn a_job_that_is_refused_after_the_prefix_moved_is_not_put_again() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.moved(&[9; 12]);
    world.token(4, b"more");
    world.upstream.handle_share(share(10, 1));
    world.sent();
    world.refused_by_declarator(3, "stale-chain-tip").unwrap();
    world.wait(500).unwrap();
    assert_eq!((world.sent(), world.upstream.lost()), (vec![], 1));
    assert_eq!(world.upstream.poll_timeout(), None, "nothing waits");
}

#[test]
fn a_job_that_was_declared_before_the_prefix_moved_is_not_set() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    let block = Share { is_block: true, ..share(10, 1) };
    world.upstream.handle_share(block.clone());
    world.moved(&[9; 12]);
    world.sent();
    world.declared(3, b"declared");
    let push = Sent::Push { nonce: 1, extranonce: block.extranonce.to_vec() };
    assert_eq!(world.sent(), [push], "a block is one whoever pays for it");
    assert_eq!(world.upstream.lost(), 1);
    world.propose(11, 1);
    assert!(matches!(*world.sent(), [Sent::Declare { .. }, Sent::Ask { .. }]));
}

#[test]
fn a_pool_that_refuses_shares_of_an_accepted_job_is_left() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    world.propose(10, 1);
    world.accepted(3, 500);
    for nonce in 1..=9 {
        world.upstream.handle_share(share(10, nonce));
    }
    world.share_refused(1, "invalid-share").unwrap();
    world.share_refused(2, "duplicate-share").unwrap();
    world.share_refused(3, "stale-share").unwrap();
    let success = mining::SubmitSharesSuccess {
        channel_id: 2,
        last_sequence_number: 4,
        new_submits_accepted_count: 1,
        new_shares_sum: 1,
    };
    world.pool(success).unwrap();
    world.share_refused(5, "invalid-job-id").unwrap();
    world.share_refused(6, "invalid-job-id").unwrap();
    let left = world.share_refused(7, "invalid-job-id").unwrap_err();
    assert_eq!(left, UpstreamError::SharesRefused("invalid-job-id".to_owned()));
}

#[test]
fn a_pool_that_judges_old_jobs_by_a_new_target_is_not_left_for_that() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    world.propose(10, 1);
    world.accepted(3, 500);
    world.sent();
    let harder = [0x11; 32];
    world.pool(mining::SetTarget { channel_id: 2, maximum_target: U256::from(&harder) }).unwrap();
    for nonce in 1..=5 {
        world.upstream.handle_share(share(10, nonce));
    }
    assert_eq!(world.sent().len(), 5, "a job keeps the target that it was accepted with");
    for number in 1..=5 {
        world.share_refused(number, "difficulty-too-low").unwrap();
    }
    world.upstream.handle_share(share(10, 6));
    assert_eq!(world.sent(), [], "this pool has it otherwise");
    world.upstream.handle_share(Share { hash: [0x11; 32], ..share(10, 7) });
    assert_eq!(world.sent(), [submit(500, 6)]);
}

#[test]
fn the_pool_hears_of_another_hashrate_but_not_of_every_tremble() {
    let mut world = World::ready(Mode::FullTemplate);
    let rate = Hashrate::from_hashes_per_second;
    world.upstream.handle_hashrate(rate(1_200), world.now);
    world.wait(20_000).unwrap();
    assert_eq!(world.sent(), []);
    world.upstream.handle_hashrate(rate(1_300), world.now);
    assert_eq!(world.sent(), [Sent::Update { rate: 1_300_f32.to_bits() }]);
    world.upstream.handle_hashrate(rate(5_000), world.now);
    assert_eq!(world.sent(), []);
    assert_eq!(world.upstream.poll_timeout(), Some(world.now + HASHRATE_INTERVAL));
    world.wait(10_000).unwrap();
    assert_eq!(world.sent(), [Sent::Update { rate: 5_000_f32.to_bits() }]);
}

#[test]
fn accepted_shares_are_told_of() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    world.propose(10, 1);
    world.accepted(3, 500);
    assert_eq!(world.event(), Some(Event::JobAccepted(JobId(10))));
    for nonce in 1..=4 {
        world.upstream.handle_share(share(10, nonce));
    }
    let success = |channel_id| mining::SubmitSharesSuccess {
        channel_id,
        last_sequence_number: 4,
        new_submits_accepted_count: 4,
        new_shares_sum: 4,
    };
    world.pool(success(9)).unwrap();
    assert_eq!(world.event(), None, "of another channel");
    world.pool(success(2)).unwrap();
    assert_eq!(world.event(), Some(Event::SharesAccepted(4)));
}

#[test]
fn the_hash_in_a_prev_hash_is_in_raw_byte_order() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    let proposal = world.propose(10, 1);
    assert_eq!(proposal.prev_hash_bytes(), &proposal.prev_hash().to_byte_array());
}
