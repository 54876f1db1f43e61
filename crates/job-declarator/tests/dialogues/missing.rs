//! Transactions that the node does not have: asked for once, and matched by what they are.

use adit_job_declarator::server::Judgement;
use adit_job_declarator::server::limits::MISSING_TIMEOUT;

use crate::world::{Client, HEIGHT, Proposal, World, provided, tip, transactions};

/// A job of four transactions, of which the node has two.
fn half_known() -> (World, Client, Vec<adit_share::RawTransaction>) {
    let all = transactions(0..4);
    let mut world = World::knowing(&[all[0].clone(), all[2].clone()]);
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &all).message(6, &token), &mut world);
    client.resolves(&world);
    (world, client, all)
}

#[test]
fn jds_ask_for_missing_transactions() {
    for order in [[1, 3], [3, 1]] {
        let (mut world, mut client, all) = half_known();
        assert_eq!(client.asked_for(6), [1, 3]);
        client.expects_nothing();
        let list = order.map(|place| all[place].as_bytes());
        client.sends(provided(6, &list), &mut world);
        let block = client.judged(Judgement::Valid, &mut world);
        assert!(block.check_merkle_root() && block.check_witness_commitment());
        client.accepted(6);
        client.expects_nothing();
    }
}

#[test]
fn jds_wont_exit_upon_receiving_unexpected_txids_in_provide_missing_transaction_success() {
    let (mut world, mut client, _) = half_known();
    client.asked_for(6);
    let others = transactions(50..52);
    client.sends(provided(6, &[others[0].as_bytes(), others[1].as_bytes()]), &mut world);
    let details = client.refused(6, "missing-txs");
    assert!(details.contains('2'), "{details}");
    assert_eq!((client.closed, client.session.pending_transactions()), (None, 0));
    assert_eq!(world.budget.held(), 0);
}

#[test]
fn more_than_was_asked_for_does_no_harm() {
    let (mut world, mut client, all) = half_known();
    client.asked_for(6);
    let other = transactions(50..51);
    let list = [other[0].as_bytes(), all[3].as_bytes(), all[1].as_bytes(), all[1].as_bytes()];
    client.sends(provided(6, &list), &mut world);
    client.judged(Judgement::Valid, &mut world);
    client.accepted(6);
}

#[test]
fn withheld_and_undecodable_transactions_are_missing() {
    for wrong in [&b""[..], b"transaction", &[0xff; 100]] {
        let (mut world, mut client, all) = half_known();
        client.asked_for(6);
        client.sends(provided(6, &[all[1].as_bytes(), wrong]), &mut world);
        client.refused(6, "missing-txs");
    }
    let (mut world, mut client, all) = half_known();
    client.asked_for(6);
    client.sends(provided(6, &[all[1].as_bytes()]), &mut world);
    client.refused(6, "missing-txs");
    let (mut world, mut client, _) = half_known();
    client.asked_for(6);
    client.sends(provided(6, &[]), &mut world);
    client.refused(6, "missing-txs");
}

#[test]
fn silence_is_missing_after_ten_seconds() {
    let (mut world, mut client, all) = half_known();
    client.asked_for(6);
    world.wait(MISSING_TIMEOUT.as_secs() - 1);
    client.ticks(&mut world);
    client.expects_nothing();
    world.wait(1);
    client.ticks(&mut world);
    client.refused(6, "missing-txs");
    // What comes late is read and passed over.
    client.sends(provided(6, &[all[1].as_bytes(), all[3].as_bytes()]), &mut world);
    client.expects_nothing();
    assert_eq!((client.closed, client.questions.len()), (None, 0));
    assert_eq!(world.budget.held(), 0);
}

#[test]
fn what_a_refused_job_brought_is_asked_for_again() {
    let (mut world, mut client, all) = half_known();
    client.asked_for(6);
    client.sends(provided(6, &[all[1].as_bytes(), all[3].as_bytes()]), &mut world);
    client.judged(Judgement::Refused("bad-txns".to_owned()), &mut world);
    client.refused(6, "invalid-job");
    assert_eq!(world.budget.held(), 0);
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &all).message(7, &token), &mut world);
    client.resolves(&world);
    assert_eq!(client.asked_for(7), [1, 3]);
}

#[test]
fn transactions_that_nobody_asked_for_are_passed_over() {
    let (mut world, mut client, all) = half_known();
    client.asked_for(6);
    client.sends(provided(7, &[all[1].as_bytes(), all[3].as_bytes()]), &mut world);
    client.expects_nothing();
    let mut other = world.declarator();
    other.sends(provided(6, &[all[1].as_bytes()]), &mut world);
    other.expects_nothing();
    assert_eq!((other.closed, client.closed), (None, None));
}

#[test]
fn a_long_list_that_nobody_asked_for_is_not_read() {
    let mut world = World::new();
    let mut client = world.declarator();
    client.token("alice", &mut world);
    let long = vec![0; 5_000];
    client.sends(provided(6, &[&long]), &mut world);
    assert!(matches!(client.closed, Some(adit_job_declarator::server::Disconnect::TooLong { .. })));
}

#[test]
fn a_client_is_asked_once_for_each_declaration() {
    let (mut world, mut client, all) = half_known();
    client.asked_for(6);
    world.tip = tip(HEIGHT, 9);
    client.sees_tip(&world);
    client.expects_nothing();
    client.sends(provided(6, &[all[1].as_bytes(), all[3].as_bytes()]), &mut world);
    let block = client.judged(Judgement::Valid, &mut world);
    assert_eq!(block.header.prev_blockhash, world.tip.prev_hash);
    client.accepted(6);
    client.expects_nothing();
}

#[test]
fn jds_isolates_state_for_colliding_request_ids_across_downstreams() {
    let (mut world, mut first, all) = half_known();
    let mut second = world.declarator();
    let token = second.token("bob", &mut world);
    let others = transactions(10..13);
    second.sends(Proposal::new(HEIGHT, &others).message(6, &token), &mut world);
    second.resolves(&world);
    assert_eq!((first.asked_for(6), second.asked_for(6)), (vec![1, 3], vec![0, 1, 2]));
    let list: Vec<&[u8]> = others.iter().map(adit_share::RawTransaction::as_bytes).collect();
    second.sends(provided(6, &list), &mut world);
    second.judged(Judgement::Valid, &mut world);
    second.accepted(6);
    first.expects_nothing();
    first.sends(provided(6, &[all[1].as_bytes(), all[3].as_bytes()]), &mut world);
    first.judged(Judgement::Valid, &mut world);
    first.accepted(6);
    assert_eq!(first.session.recent().next().unwrap().transactions().len(), 4);
    assert_eq!(second.session.recent().next().unwrap().transactions().len(), 3);
}

#[test]
fn a_node_that_answers_with_other_transactions_is_not_believed() {
    let all = transactions(0..2);
    let mut world = World::new();
    let mut client = world.declarator();
    world.mempool = [(all[0].wtxid(), all[1].clone())].into();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &all).message(1, &token), &mut world);
    client.resolves(&world);
    assert_eq!(client.asked_for(1), [0, 1]);
}
