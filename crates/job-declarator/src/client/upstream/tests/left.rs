//! When an upstream is to be left, and when it is not yet.

use bitcoin::opcodes::all::OP_CHECKSIG;

use super::super::super::declarator::{OUTPUTS_LEN_MAX, OUTPUTS_SIGOPS_MAX};
use super::*;

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
    world.wait(74_999).unwrap();
    world.declared(3, b"declared");
    assert_eq!(world.upstream.poll_timeout(), Some(world.now + SET_PATIENCE));
    let error = world.wait(15_000).unwrap_err();
    assert_eq!(error.to_string(), "the pool is silent: an answer to SetCustomMiningJob did not come");
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.token(4, b"more");
    let error = world.wait(75_000).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the job declarator server is silent: an answer to DeclareMiningJob did not come"
    );
}

#[test]
fn a_server_of_ours_answers_before_it_is_taken_for_silent() {
    use crate::server::limits::{ANSWER_TIMEOUT, MISSING_TIMEOUT, TIP_PATIENCE};
    assert!(DECLARE_PATIENCE > TIP_PATIENCE + ANSWER_TIMEOUT * 2, "it waits for a tip, resolves and checks");
    assert!(DECLARE_PATIENCE > MISSING_TIMEOUT + ANSWER_TIMEOUT, "it waits for transactions and checks");
}

#[test]
fn a_declarator_in_trouble_is_left_alone_for_a_while_before_it_is_given_up() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.upstream.handle_share(share(10, 1));
    world.sent();
    for (request, pause) in [(3, 2_000), (5, 4_000), (7, 8_000)] {
        world.refused_by_declarator(request, "internal-error").unwrap();
        world.token(request + 1, b"more");
        assert_eq!(world.sent(), []);
        assert_eq!(world.upstream.poll_timeout(), Some(world.now + Duration::from_millis(pause)));
        world.wait(pause - 1).unwrap();
        assert_eq!(world.sent(), []);
        world.wait(1).unwrap();
        let sent = world.sent();
        assert!(matches!(*sent, [Sent::Declare { .. }, Sent::Ask { .. }]), "{sent:?}");
    }
    assert_eq!((world.upstream.held(), world.upstream.lost()), (1, 0), "its shares wait");
    assert!(matches!(
        world.refused_by_declarator(9, "internal-error"),
        Err(UpstreamError::JobRefused { server: Server::Declarator, .. })
    ));
}

#[test]
fn new_jobs_do_not_cut_the_patience_with_a_declarator_in_trouble_short_nor_renew_it() {
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    for (number, pause) in [(10, 2_000), (11, 4_000), (12, 8_000)] {
        let request = (number - 10) * 2 + 3;
        world.refused_by_declarator(request, "internal-error").unwrap();
        world.token(request + 1, b"more");
        world.sent();
        world.propose(number + 1, 1);
        assert_eq!(world.sent(), [], "it is not asked while it is left alone");
        world.wait(pause).unwrap();
        assert!(matches!(*world.sent(), [Sent::Declare { .. }, Sent::Ask { .. }]));
    }
    assert!(world.refused_by_declarator(9, "internal-error").is_err());
}

#[test]
fn a_declarator_that_has_come_through_its_trouble_may_have_some_again() {
    let mut world = World::ready(Mode::FullTemplate);
    for number in 0..9 {
        let job = 500 + number;
        world.propose(10 + number, 1);
        let request = number * 4 + 3;
        world.refused_by_declarator(request, "internal-error").unwrap();
        world.token(request + 1, b"more");
        world.wait(2_000).unwrap();
        world.declared(request + 2, b"declared");
        world.token(request + 3, b"more");
        world.accepted(request + 2, job);
        assert_eq!(world.event(), Some(Event::JobAccepted(JobId(10 + number))));
    }
}

#[test]
fn outputs_that_no_coinbase_of_ours_could_pay_end_the_upstream_before_it_is_used() {
    let other = ScriptBuf::from_bytes(vec![0x52]);
    let unspendable = ScriptBuf::from_bytes(vec![0x6a, 1, 7]);
    let long = |len| ScriptBuf::from_bytes(vec![0x51; len]);
    let (sigops, checks) = (OUTPUTS_SIGOPS_MAX + 1, vec![OP_CHECKSIG.to_u8(); OUTPUTS_SIGOPS_MAX + 1]);
    let len = 1 + (9 + payout().len()) + (9 + sigops);
    for (outputs, error) in [
        (vec![], UpstreamError::Outputs),
        (vec![(0, ScriptBuf::new())], UpstreamError::Outputs),
        (vec![(0, unspendable.clone())], UpstreamError::Outputs),
        (vec![(0, payout()), (1, other.clone())], UpstreamError::OutputValues),
        (
            vec![(0, long(OUTPUTS_LEN_MAX))],
            UpstreamError::OutputsTooLarge { len: OUTPUTS_LEN_MAX + 12, sigops: 0 },
        ),
        (
            vec![(0, payout()), (0, ScriptBuf::from_bytes(checks))],
            UpstreamError::OutputsTooLarge { len, sigops },
        ),
    ] {
        let mut world = World::new(Mode::FullTemplate);
        world.set_up();
        world.open();
        assert_eq!(world.token_with(1, b"one", &outputs), Err(error));
        assert_eq!(world.event(), None, "it was never ready");
    }
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    let valued = [(0, payout()), (1, other.clone())];
    assert_eq!(world.token_with(4, b"four", &valued), Err(UpstreamError::OutputValues));
    assert_eq!(world.event(), None, "nor while it is");
    let mut world = World::new(Mode::FullTemplate);
    world.set_up();
    world.open();
    assert_eq!(world.token_with(1, b"one", &[(0, long(OUTPUTS_LEN_MAX - 12))]), Ok(()), "not a byte more");
    let mut world = World::ready(Mode::FullTemplate);
    world.propose(10, 1);
    world.token_with(4, b"four", &[(0, payout()), (0, unspendable), (0, other)]).unwrap();
    assert!(matches!(world.event(), Some(Event::Changed(terms)) if terms.outputs.len() == 3));
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
fn a_declarator_that_wants_to_see_all_transactions_is_left_by_who_hides_them() {
    let mut world = World::new(Mode::CoinbaseOnly);
    assert_eq!(world.sent(), [Sent::Setup { flags: 0b110 }, Sent::Setup { flags: 0 }]);
    let error_code = Str0255::try_from("missing-declare-tx-data-flag").unwrap();
    let refused = world.declarator(common::SetupConnectionError { flags: 1, error_code }).unwrap_err();
    assert_eq!(
        refused.to_string(),
        "the job declarator server refuses the connection: missing-declare-tx-data-flag (flags 0x1)"
    );
    assert_eq!(world.sent(), [], "no token is asked for");
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
