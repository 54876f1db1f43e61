//! Declarations: what is checked before and by the node, and what is held, queued and refused.

use adit_job_declarator::server::limits::{ANSWER_TIMEOUT, Budget, DECLARATIONS_KEPT, DECLARATIONS_WAITING};
use adit_job_declarator::server::{JdsConfig, Judgement, Request};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, OutPoint, ScriptBuf, TxOut, Txid, Witness};

use crate::world::{
    HEIGHT, Proposal, REWARD, START, World, config, declaration, payout, tip, transaction, transactions,
};

#[test]
fn a_job_of_known_transactions_is_judged_and_accepted() {
    let known = transactions(0..5);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    let proposal = Proposal::new(HEIGHT, &known);
    client.sends(proposal.message(3, &token), &mut world);
    client.expects_nothing();
    client.resolves(&world);
    client.expects_nothing();
    let block = client.judged(Judgement::Valid, &mut world);
    assert_eq!(block.header.prev_blockhash, world.tip.prev_hash);
    assert_eq!(block.header.bits, world.tip.nbits);
    assert_eq!(block.header.time, START);
    assert!(block.check_merkle_root() && block.check_witness_commitment());
    assert_eq!(block.txdata[0], proposal.coinbase);
    assert_eq!(block.txdata.len(), 6);
    client.accepted(3);
    let Some(Request::Keep(job)) = client.questions.pop_front() else { panic!("the job is kept") };
    assert_eq!(job.transactions().len(), 5);
    assert_eq!(job.declaration().merkle_path().len(), 3);
}

#[test]
fn what_was_held_is_given_back() {
    let known = transactions(0..5);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    client.declares(&Proposal::new(HEIGHT, &known), &mut world);
    assert!(world.budget.held() > 0 && world.budget.held() < 1_000, "{}", world.budget.held());
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &known).message(3, &token), &mut world);
    assert!(world.budget.held() > 500);
    drop(client);
    assert_eq!(world.budget.held(), 0);
}

#[test]
fn a_full_server_says_so_and_keeps_the_token_good() {
    let mut world = World::new();
    world.budget = Budget::new(1_000);
    let full = world.budget.take(900).unwrap();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &[]).message(1, &token), &mut world);
    client.refused(1, "internal-error");
    drop(full);
    client.sends(Proposal::new(HEIGHT, &[]).message(2, &token), &mut world);
    client.resolves(&world);
}

#[test]
fn a_job_for_another_height_is_stale() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    for height in [1, HEIGHT - 1, HEIGHT + 2, u32::MAX] {
        client.sends(Proposal::new(height, &[]).message(height, &token), &mut world);
        let details = client.refused(height, "stale-chain-tip");
        assert!(details.contains(&height.to_string()) && details.contains(&HEIGHT.to_string()));
    }
    assert!(client.questions.is_empty());
}

#[test]
fn a_job_for_a_block_that_we_are_about_to_see_is_held() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT + 1, &[]).message(1, &token), &mut world);
    client.expects_nothing();
    assert!(client.questions.is_empty());
    world.wait(4);
    client.ticks(&mut world);
    client.expects_nothing();
    world.tip = tip(HEIGHT + 1, 2);
    client.sees_tip(&world);
    client.resolves(&world);
    let block = client.judged(Judgement::Valid, &mut world);
    assert_eq!(block.header.prev_blockhash, world.tip.prev_hash);
    client.accepted(1);
}

#[test]
fn a_job_for_a_block_that_never_comes_is_stale_after_five_seconds() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT + 1, &[]).message(1, &token), &mut world);
    client.sends(Proposal::new(HEIGHT, &[]).message(2, &token), &mut world);
    world.wait(5);
    client.ticks(&mut world);
    client.refused(1, "stale-chain-tip");
    client.resolves(&world);
}

#[test]
fn a_new_tip_makes_what_is_under_way_stale() {
    let known = transactions(0..2);
    for resolved in [false, true] {
        let mut world = World::knowing(&known);
        let mut client = world.declarator();
        let token = client.token("alice", &mut world);
        client.sends(Proposal::new(HEIGHT, &known).message(1, &token), &mut world);
        if resolved {
            client.resolves(&world);
        }
        world.tip = tip(HEIGHT + 1, 2);
        client.sees_tip(&world);
        client.refused(1, "stale-chain-tip");
        if resolved {
            client.judged(Judgement::Valid, &mut world);
        } else {
            client.resolves(&world);
        }
        client.expects_nothing();
        assert_eq!(client.session.recent().count(), 0);
    }
}

#[test]
fn a_job_is_judged_again_when_a_rival_block_of_its_height_wins() {
    let known = transactions(0..2);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &known).message(1, &token), &mut world);
    client.resolves(&world);
    world.tip = tip(HEIGHT, 2);
    client.sees_tip(&world);
    client.judged(Judgement::Refused("late".to_owned()), &mut world);
    client.expects_nothing();
    let block = client.judged(Judgement::Valid, &mut world);
    assert_eq!(block.header.prev_blockhash, world.tip.prev_hash);
    client.accepted(1);
}

/// The declaration was refused before anybody was asked.
#[track_caller]
fn refused(change: impl FnOnce(&mut Proposal), code: &str) -> String {
    let known = transactions(0..2);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    let mut proposal = Proposal::new(HEIGHT, &known);
    change(&mut proposal);
    client.sends(proposal.message(1, &token), &mut world);
    if let Some(Request::Resolve { .. }) = client.questions.front() {
        client.resolves(&world);
    }
    assert!(client.questions.is_empty(), "no node is asked");
    assert_eq!(client.closed, None);
    client.refused(1, code)
}

#[test]
fn a_coinbase_has_one_input_that_spends_nothing() {
    refused(|job| job.coinbase.input.push(job.coinbase.input[0].clone()), "invalid-coinbase-tx-input");
    let spends = OutPoint::new(Txid::from_byte_array([1; 32]), 0);
    refused(|job| job.coinbase.input[0].previous_output = spends, "invalid-coinbase-tx-input");
}

#[test]
fn a_coinbase_without_inputs_is_refused_and_the_next_one_is_judged() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    // The extranonce is in an output's script.
    let none = [&[2, 0, 0, 0, 0, 1, 0, 1][..], &REWARD.to_le_bytes(), &[32]].concat();
    client.sends(declaration(1, &token, (&none, &[0; 4]), &[]), &mut world);
    assert!(client.questions.is_empty(), "no node is asked");
    client.refused(1, "invalid-coinbase-tx-input");
    client.sends(Proposal::new(HEIGHT, &[]).message(2, &token), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Valid, &mut world);
    client.accepted(2);
}

#[test]
fn a_coinbase_begins_with_its_height() {
    refused(
        |job| {
            let script = job.coinbase.input[0].script_sig.as_bytes()[4..].to_vec();
            job.coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
        },
        "invalid-coinbase-tx-input",
    );
}

#[test]
fn an_input_script_is_no_longer_than_consensus_allows() {
    refused(
        |job| {
            let mut script = job.coinbase.input[0].script_sig.to_bytes();
            script.splice(10..10, [0; 60]);
            job.coinbase.input[0].script_sig = ScriptBuf::from_bytes(script);
        },
        "invalid-coinbase-tx-input",
    );
}

#[test]
fn an_extranonce_of_another_length_is_refused() {
    for len in [0, 8, 31] {
        let details = refused(|job| job.extranonce_len = len, "invalid-coinbase-tx");
        assert!(details.contains("coinbase"), "{details}");
    }
}

#[test]
fn a_coinbase_commits_to_the_transactions() {
    refused(
        |job| job.coinbase.output[1].script_pubkey = ScriptBuf::from_bytes(vec![0x6a]),
        "invalid-coinbase-tx",
    );
    refused(
        |job| {
            let other = Proposal::new(HEIGHT, &transactions(5..7));
            job.coinbase.output[1] = other.coinbase.output[1].clone();
        },
        "invalid-coinbase-tx",
    );
    refused(|job| job.coinbase.input[0].witness = Witness::from_slice(&[[1; 32]]), "invalid-coinbase-tx");
}

#[test]
fn a_coinbase_that_pays_elsewhere_is_refused() {
    let elsewhere =
        |job: &mut Proposal| job.coinbase.output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51]);
    let details = refused(elsewhere, "invalid-coinbase-tx");
    assert!(details.contains("pays 0 of its"), "{details}");
    refused(|job| job.coinbase.output[0].value = Amount::ZERO, "invalid-coinbase-tx");
    refused(|job| job.coinbase.output.clear(), "invalid-coinbase-tx");
}

#[test]
fn a_part_for_the_miner_is_a_matter_of_policy() {
    let shared = |to_pool: u64| {
        let mut proposal = Proposal::new(HEIGHT, &[]);
        proposal.coinbase.output[0].value = Amount::from_sat(to_pool);
        let rest = Amount::from_sat(REWARD - to_pool);
        proposal
            .coinbase
            .output
            .push(TxOut { value: rest, script_pubkey: ScriptBuf::from_bytes(vec![0x51]) });
        proposal
    };
    for (least_percent, to_pool, is_taken) in [
        (100, REWARD - 1, false),
        (100, REWARD, true),
        (90, REWARD / 10 * 9, true),
        (90, REWARD / 10 * 9 - 1, false),
        (1, REWARD / 100, true),
        (1, 1, false),
    ] {
        let mut world = World::with(JdsConfig { least_percent, ..config() });
        let mut client = world.declarator();
        let token = client.token("alice", &mut world);
        client.sends(shared(to_pool).message(1, &token), &mut world);
        if is_taken {
            client.resolves(&world);
        } else {
            client.refused(1, "invalid-coinbase-tx");
        }
    }
}

#[test]
fn the_pool_may_be_paid_in_parts_and_at_any_place() {
    let mut world = World::new();
    let mut client = world.declarator();
    let mut proposal = Proposal::new(HEIGHT, &[]);
    let part = TxOut { value: Amount::from_sat(REWARD / 2), script_pubkey: payout() };
    proposal.coinbase.output[0] = part.clone();
    proposal.coinbase.output.push(part);
    proposal
        .coinbase
        .output
        .insert(0, TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x6a]) });
    client.declares(&proposal, &mut world);
}

#[test]
fn a_declaration_that_waits_has_its_turn() {
    let mut world = World::new();
    let mut client = world.declarator();
    let tokens: Vec<_> = (0..DECLARATIONS_WAITING + 2).map(|_| client.token("alice", &mut world)).collect();
    for (id, token) in (0..).zip(&tokens) {
        client.sends(Proposal::new(HEIGHT, &[]).message(id, token), &mut world);
    }
    let last = u32::try_from(DECLARATIONS_WAITING).unwrap() + 1;
    client.refused(last, "internal-error");
    for id in 0..last {
        client.resolves(&world);
        client.judged(Judgement::Valid, &mut world);
        client.accepted(id);
        let kept = client.questions.iter().position(|request| matches!(request, Request::Keep(_))).unwrap();
        client.questions.remove(kept);
    }
    client.expects_nothing();
}

#[test]
fn so_many_accepted_jobs_are_remembered() {
    let known = transactions(0..10);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    for count in 0..10 {
        world.wait(1);
        client.declares(&Proposal::new(HEIGHT, &known[..count]), &mut world);
    }
    let counts: Vec<_> = client.session.recent().map(|job| job.transactions().len()).collect();
    assert_eq!(counts, [9, 8, 7, 6]);
    assert_eq!(counts.len(), DECLARATIONS_KEPT);
    client.declares(&Proposal::new(HEIGHT, &known[..8]), &mut world);
    let counts: Vec<_> = client.session.recent().map(|job| job.transactions().len()).collect();
    assert_eq!(counts, [8, 9, 7, 6], "the same job again is the same job");
}

#[test]
fn a_node_that_cannot_tell_or_takes_too_long_costs_no_token() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &[]).message(1, &token), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Unknown("it is away".to_owned()), &mut world);
    assert!(client.refused(1, "internal-error").contains("it is away"));
    client.sends(Proposal::new(HEIGHT, &[]).message(4, &token), &mut world);
    client.resolves(&world);
    client.judged(Judgement::OffTip("inconclusive-not-best-prevblk".to_owned()), &mut world);
    client.refused(4, "stale-chain-tip");
    client.sends(Proposal::new(HEIGHT, &[]).message(2, &token), &mut world);
    world.wait(ANSWER_TIMEOUT.as_secs());
    client.ticks(&mut world);
    client.refused(2, "internal-error");
    client.resolves(&world);
    client.expects_nothing();
    client.sends(Proposal::new(HEIGHT, &[]).message(3, &token), &mut world);
    client.resolves(&world);
}

#[test]
fn a_rejected_declaration_retains_no_transactions() {
    let known = transactions(0..5);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &known).message(1, &token), &mut world);
    client.resolves(&world);
    assert_eq!(client.session.pending_transactions(), 5);
    client.judged(Judgement::Refused("bad-txns".to_owned()), &mut world);
    client.refused(1, "invalid-job");
    assert_eq!((client.session.pending_transactions(), client.session.recent().count()), (0, 0));
    assert_eq!(world.budget.held(), 0);
}

#[test]
fn a_block_that_is_too_heavy_is_refused_before_anybody_judges_it() {
    let mut world = World::new();
    let heavy: Vec<_> = (0..14_000).map(transaction).collect();
    world.mempool = heavy.iter().map(|known| (known.wtxid(), known.clone())).collect();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &heavy).message(1, &token), &mut world);
    client.resolves(&world);
    assert!(client.questions.is_empty());
    client.refused(1, "invalid-job");
}
