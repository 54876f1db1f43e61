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
        let outputs = vec![TxOut { value: Amount::ZERO, script_pubkey: script.clone() }];
        let outputs = consensus::serialize(&outputs);
        self.declarator(job_declaration::AllocateMiningJobTokenSuccess {
            request_id: request,
            mining_job_token: B0255::try_from(token).unwrap(),
            coinbase_outputs: B064K::try_from(&*outputs).unwrap(),
        })
        .unwrap();
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
fn a_refused_declaration_ends_the_upstream() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    let refused = world.refused_by_declarator(3, "invalid-job").unwrap_err();
    assert_eq!(refused.to_string(), "the job declarator server refuses a job: invalid-job why");
    let mut world = World::ready(Mode::CoinbaseOnly);
    world.propose(10, 1);
    let error_code = Str0255::try_from("invalid-coinbase-tx-outputs").unwrap();
    let refused = mining::SetCustomMiningJobError { channel_id: 2, request_id: 3, error_code };
    assert!(matches!(world.pool(refused), Err(UpstreamError::JobRefused { server: Server::Pool, .. })));
}

#[test]
fn a_server_that_is_at_another_block_is_asked_again_a_few_times() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.sent();
    for (request, pause) in [(3, 500), (5, 1_000), (7, 2_000)] {
        world.refused_by_declarator(request, "stale-chain-tip").unwrap();
        world.token(request + 1, b"more");
        assert_eq!(world.sent(), []);
        world.wait(pause - 1).unwrap();
        assert_eq!(world.sent(), []);
        assert_eq!(world.upstream.poll_timeout(), Some(world.now + Duration::from_millis(1)));
        world.wait(1).unwrap();
        let sent = world.sent();
        assert!(matches!(*sent, [Sent::Declare { .. }, Sent::Ask { .. }]), "{sent:?}");
    }
    assert!(matches!(
        world.refused_by_declarator(9, "stale-chain-tip"),
        Err(UpstreamError::JobRefused { .. })
    ));
}

#[test]
fn a_stale_refusal_is_of_no_interest_once_there_is_a_newer_job() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.propose(11, 2);
    world.sent();
    world.refused_by_declarator(3, "stale-chain-tip").unwrap();
    let sent = world.sent();
    assert!(matches!(*sent, [Sent::Declare { .. }, Sent::Ask { .. }]), "{sent:?}");
}

#[test]
fn servers_that_are_silent_are_left() {
    let mut world = World::new(Mode::FullTemplate);
    assert!(world.wait(9_999).is_ok());
    let error = world.wait(1).unwrap_err();
    assert_eq!(error.to_string(), "the pool is silent: an answer to SetupConnection did not come");
    let mut world = World::new(Mode::FullTemplate);
    world.set_up();
    world.open();
    let error = world.wait(10_000).unwrap_err();
    assert_eq!(error.to_string(), "the job declarator server is silent: a token did not come");
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.token(4, b"more");
    world.declared(3, b"declared");
    assert_eq!(world.upstream.poll_timeout(), Some(world.now + JOB_PATIENCE));
    let error = world.wait(15_000).unwrap_err();
    assert_eq!(error.to_string(), "the pool is silent: an answer to SetCustomMiningJob did not come");
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

#[test]
fn another_prefix_changes_the_terms_and_old_shares_are_not_sent() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    world.propose(10, 1);
    world.accepted(3, 500);
    world.event();
    world.sent();
    let prefix = [9; 12];
    world
        .pool(mining::SetExtranoncePrefix {
            channel_id: 2,
            extranonce_prefix: B032::try_from(&prefix[..]).unwrap(),
        })
        .unwrap();
    let Some(Event::Changed(terms)) = world.event() else { panic!("the terms changed") };
    assert_eq!(&*terms.extranonce_prefix, prefix);
    world.upstream.handle_share(share(10, 1));
    assert_eq!(world.sent(), [], "made with the old one");
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
fn refusals_and_farewells_are_told_in_words() {
    let mut world = World::new(Mode::FullTemplate);
    let error_code = Str0255::try_from("unsupported-feature-flags").unwrap();
    let refused = world.pool(common::SetupConnectionError { flags: 2, error_code }).unwrap_err();
    assert_eq!(refused.to_string(), "the pool refuses the connection: unsupported-feature-flags (flags 0x2)");
    let mut world = World::ready(Mode::FullTemplate);
    let reason_code = Str0255::try_from("closed\n").unwrap();
    let closed = world.pool(mining::CloseChannel { channel_id: 2, reason_code }).unwrap_err();
    assert_eq!(closed.to_string(), r"the pool closed the channel: closed\n");
    let mut world = World::ready(Mode::FullTemplate);
    let new_host = Str0255::try_from("other.example").unwrap();
    world.pool(common::Reconnect { new_host, new_port: 5 }).unwrap();
    let redirected = Event::Redirected { server: Server::Pool, host: "other.example".to_owned(), port: 5 };
    assert_eq!(world.event(), Some(redirected));
}

#[test]
fn a_channel_without_enough_extranonce_is_refused() {
    for (prefix, size) in [(12, 13), (19, 14)] {
        let mut world = World::new(Mode::FullTemplate);
        world.set_up();
        let target = [0xff; 32];
        let success = mining::OpenExtendedMiningChannelSuccess {
            request_id: 1,
            channel_id: 2,
            target: U256::from(&target),
            extranonce_size: size,
            extranonce_prefix: B032::try_from(&[1; 32][..prefix]).unwrap(),
            group_channel_id: 1,
        };
        assert!(matches!(world.pool(success), Err(UpstreamError::Extranonce { .. })));
    }
}

#[test]
fn the_hash_in_a_prev_hash_is_in_raw_byte_order() {
    let mut world = World::ready(Mode::CoinbaseOnly);
    let proposal = world.propose(10, 1);
    assert_eq!(proposal.prev_hash_bytes(), &proposal.prev_hash().to_byte_array());
}
