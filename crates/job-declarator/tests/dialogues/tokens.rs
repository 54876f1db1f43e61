//! Tokens: what they say, how many there are, and that each is good once and for one.

use std::sync::Arc;

use adit_channel::{Purpose, UserIdentity};
use adit_job_declarator::server::limits::{TOKENS_KEPT, TOKENS_MAX, TOKENS_WAITING};
use adit_job_declarator::server::{Disconnect, JdsConfig, Judgement};
use adit_messages::common;
use adit_messages::job_declaration::AllocateMiningJobToken;
use bitcoin::{Amount, ScriptBuf};

use crate::world::{HEIGHT, Proposal, World, config, payout, setup, text};

fn allocate(user: &'static str, request_id: u32) -> AllocateMiningJobToken<'static> {
    AllocateMiningJobToken { user_identifier: text(user), request_id }
}

#[test]
fn a_token_says_whose_it_is_what_for_and_until_when() {
    let further = ScriptBuf::from_bytes(vec![0x6a, 1, 7]);
    let mut world = World::with(JdsConfig { further_outputs: vec![further.clone()], ..config() });
    for (flags, purpose) in [(1, Purpose::Declare), (0, Purpose::CoinbaseOnly)] {
        let mut client = world.connect();
        client.sends(setup(flags), &mut world);
        client.expects(common::SetupConnectionSuccess { used_version: 2, flags: 0 });
        client.sends(allocate("alice.rig", 9), &mut world);
        let (request_id, token, outputs) = client.allocated();
        assert_eq!(request_id, 9);
        let scripts: Vec<_> = outputs.iter().map(|output| output.script_pubkey.clone()).collect();
        assert_eq!(scripts, [payout(), further.clone()]);
        assert!(outputs.iter().all(|output| output.value == Amount::ZERO));
        let token = world.key.open(&token, world.now.unix).unwrap();
        assert_eq!(token.purpose, purpose);
        assert!(token.is_for(&UserIdentity::from_wire(b"alice.other").unwrap()));
        assert!(!token.is_for(&UserIdentity::from_wire(b"bob").unwrap()));
        assert!(token.is_paid_by(&payout()));
        assert_eq!(token.expires.to_secs(), world.now.unix.to_secs() + 3_600);
    }
}

/// A server that was given another payout address went on asking for the old one until it was restarted.
#[test]
fn another_payout_holds_for_tokens_from_then_on() {
    let mut world = World::new();
    let mut client = world.declarator();
    let old = client.token("alice", &mut world);
    let other = ScriptBuf::from_bytes(vec![0x51]);
    client.session.handle_rules(Arc::new(JdsConfig { payout_script: other.clone(), ..config() }));
    client.sends(allocate("alice", 2), &mut world);
    let (_, new, outputs) = client.allocated();
    assert_eq!(outputs[0].script_pubkey, other);
    assert!(world.key.open(&new, world.now.unix).unwrap().is_paid_by(&other));

    // What pays the former address goes with the former token, and with that alone.
    let proposal = Proposal::new(HEIGHT, &[]);
    client.sends(proposal.message(3, &new), &mut world);
    client.refused(3, "invalid-coinbase-tx");
    client.sends(proposal.message(4, &old), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Valid, &mut world);
    let declared = world.key.open(&client.accepted(4), world.now.unix).unwrap();
    assert!(declared.is_paid_by(&payout()), "the pool pays for it as it was promised");
}

#[test]
fn tokens_beyond_the_pace_come_later_and_in_order() {
    let mut world = World::new();
    let mut client = world.declarator();
    (0..TOKENS_MAX + 3).for_each(|number| client.sends(allocate("alice", number), &mut world));
    assert!((0..TOKENS_MAX).all(|number| client.allocated().0 == number));
    client.expects_nothing();
    world.wait(1);
    client.ticks(&mut world);
    assert_eq!(client.allocated().0, TOKENS_MAX);
    client.expects_nothing();
    world.wait(100);
    client.ticks(&mut world);
    assert_eq!([client.allocated().0, client.allocated().0], [TOKENS_MAX + 1, TOKENS_MAX + 2]);
}

#[test]
fn who_asks_for_tokens_without_end_is_disconnected() {
    let mut world = World::new();
    let mut client = world.declarator();
    let most = TOKENS_MAX + u32::try_from(TOKENS_WAITING).unwrap();
    (0..most).for_each(|number| client.sends(allocate("alice", number), &mut world));
    assert_eq!(client.closed, None);
    client.sends(allocate("alice", most), &mut world);
    assert_eq!(client.closed, Some(Disconnect::Tokens));
}

#[test]
fn a_user_that_cannot_be_ends_the_session() {
    let mut world = World::new();
    let mut client = world.declarator();
    client.sends(allocate("ali\nce", 1), &mut world);
    assert!(matches!(client.closed, Some(Disconnect::User(_))));
}

#[test]
fn jds_reject_declare_mining_job_with_invalid_mining_job_token() {
    let mut world = World::new();
    let mut client = world.declarator();
    let good = client.token("alice", &mut world);
    let mut forged = good.clone();
    *forged.last_mut().unwrap() ^= 1;
    for (id, token) in [(1, &b""[..]), (2, &[0; 8]), (3, &[7; 255]), (4, &forged), (5, &good[1..])] {
        client.sends(Proposal::new(HEIGHT, &[]).message(id, token), &mut world);
        client.refused(id, "invalid-mining-job-token");
    }
    assert_eq!(client.closed, None, "the connection stays");
    client.sends(Proposal::new(HEIGHT, &[]).message(6, &good), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Valid, &mut world);
    client.accepted(6);
}

#[test]
fn a_used_token_is_good_no_more() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    let proposal = Proposal::new(HEIGHT, &[]);
    client.sends(proposal.message(1, &token), &mut world);
    // The replay waits for the first to be answered.
    client.sends(proposal.message(2, &token), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Valid, &mut world);
    let declared = client.accepted(1);
    client.refused(2, "invalid-mining-job-token");
    client.sends(proposal.message(3, &token), &mut world);
    client.refused(3, "invalid-mining-job-token");
    client.sends(proposal.message(4, &declared), &mut world);
    client.refused(4, "invalid-mining-job-token");
}

#[test]
fn the_token_for_the_pool_names_the_job_and_its_account() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.declares(&Proposal::new(HEIGHT, &[]), &mut world);
    let token = world.key.open(&token, world.now.unix).unwrap();
    let job = client.session.recent().next().unwrap();
    assert!(token.declares(job.id()));
    assert!(token.is_for(&UserIdentity::from_wire(b"alice").unwrap()) && token.is_paid_by(&payout()));
}

#[test]
fn an_expired_token_is_good_no_more() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    world.wait(3_600);
    client.sends(Proposal::new(HEIGHT, &[]).message(1, &token), &mut world);
    client.refused(1, "invalid-mining-job-token");
}

#[test]
fn a_stolen_token_is_of_no_use_and_not_burned() {
    let mut world = World::new();
    let (mut owner, mut thief) = (world.declarator(), world.declarator());
    let token = owner.token("alice", &mut world);
    thief.token("mallory", &mut world);
    thief.sends(Proposal::new(HEIGHT, &[]).message(1, &token), &mut world);
    thief.refused(1, "invalid-mining-job-token");
    owner.sends(Proposal::new(HEIGHT, &[]).message(1, &token), &mut world);
    owner.resolves(&world);
    owner.judged(Judgement::Valid, &mut world);
    owner.accepted(1);
}

#[test]
fn a_refused_declaration_does_not_use_up_its_token() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT + 7, &[]).message(1, &token), &mut world);
    client.refused(1, "stale-chain-tip");
    client.sends(Proposal::new(HEIGHT, &[]).message(2, &token), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Refused("bad-cb-amount".to_owned()), &mut world);
    assert!(client.refused(2, "invalid-job").contains("bad-cb-amount"));
    client.sends(Proposal::new(HEIGHT, &[]).message(3, &token), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Valid, &mut world);
    client.accepted(3);
}

#[test]
fn the_token_of_a_declared_job_is_remembered_for_minutes_only() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &[]).message(1, &token), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Valid, &mut world);
    let declared = world.key.open(&client.accepted(1), world.now.unix).unwrap();
    assert_eq!(declared.expires.to_secs(), world.now.unix.to_secs() + 600);
}

#[test]
fn a_connection_has_so_many_unused_tokens() {
    let mut world = World::new();
    let mut client = world.declarator();
    let first = client.token("alice", &mut world);
    for _ in 1..TOKENS_KEPT {
        world.wait(1);
        client.token("alice", &mut world);
    }
    world.wait(1);
    let last = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &[]).message(1, &first), &mut world);
    client.refused(1, "invalid-mining-job-token");
    client.sends(Proposal::new(HEIGHT, &[]).message(2, &last), &mut world);
    client.resolves(&world);
}
