//! What is held for declarations: counted wherever it is, by need, and by address.

use adit_job_declarator::server::limits::{BUDGET_SHARES, DECLARATIONS_KEPT};
use adit_job_declarator::server::{Disconnect, Judgement, Request};
use adit_messages::limits::BLOCK_BYTES;
use adit_share::RawTransaction;

use crate::world::{Client, HEIGHT, Proposal, World, provided, transactions};

/// A client that declares a job of these transactions, and has heard what came of it when the node had found those that it has.
fn declared(all: &[RawTransaction], world: &mut World) -> Client {
    let mut client = world.declarator();
    let token = client.token("alice", world);
    client.sends(Proposal::new(HEIGHT, all).message(1, &token), world);
    if !client.questions.is_empty() {
        client.resolves(world);
    }
    client
}

fn bytes(all: &[RawTransaction]) -> Vec<&[u8]> {
    all.iter().map(RawTransaction::as_bytes).collect()
}

#[test]
fn silent_clients_of_some_addresses_shut_out_everybody_elses_declarations() {
    let all = transactions(0..8_000);
    let mut world = World::knowing(&all[1..]);
    let whole = world.budget.clone();
    let mut silent = Vec::new();
    for _ in 0..2 * BUDGET_SHARES {
        world.budget = whole.share();
        for number in 10_000..10_032 {
            silent.push(declared(&transactions(number..number + 1), &mut world));
        }
        silent.last_mut().unwrap().refused(1, "internal-error");
    }
    world.budget = whole.share();
    let mut honest = declared(&all, &mut world);
    assert_eq!(honest.asked_for(1), [0]);
    honest.sends(provided(1, &[all[0].as_bytes()]), &mut world);
    honest.judged(Judgement::Valid, &mut world);
    honest.accepted(1);
    drop((silent, honest));
    assert_eq!(whole.held(), 0);
}

#[test]
fn a_block_that_a_node_was_asked_about_was_held_by_nobody() {
    let known = transactions(0..5);
    let mut world = World::knowing(&known);
    let mut client = declared(&known, &mut world);
    let question = client.questions.pop_front();
    drop(client);
    let Some(Request::Check { block, .. }) = &question else { panic!("{question:?}") };
    assert_eq!(world.budget.held(), block.len(), "also when the client has gone");
    drop(question);
    assert_eq!(world.budget.held(), 0);
}

#[test]
fn transactions_that_a_client_had_brought_were_held_by_nobody_until_the_node_spoke() {
    let mine = transactions(0..100);
    let mut world = World::new();
    let mut client = declared(&mine, &mut world);
    client.asked_for(1);
    client.sends(provided(1, &bytes(&mine)), &mut world);
    let brought: usize = mine.iter().map(|mine| mine.as_bytes().len()).sum();
    let Some(Request::Check { block, .. }) = client.questions.front() else { panic!("no question") };
    assert!(world.budget.held() > block.len() + brought);
    client.judged(Judgement::Valid, &mut world);
    client.accepted(1);
    assert!(world.budget.held() > brought);
}

#[test]
fn a_declaration_with_one_transaction_missing_reserved_a_whole_block() {
    let all = transactions(0..12_000);
    let mut world = World::knowing(&all[1..]);
    let mut client = declared(&all, &mut world);
    assert_eq!(client.asked_for(1), [0]);
    let weight: u64 = all[1..].iter().map(|known| u64::from(known.weight())).sum();
    let room = BLOCK_BYTES - usize::try_from(weight).unwrap();
    assert!(room < 500_000, "{room}");
    let list = 12_000 * 32;
    assert!((room + list..room + list + 1_000).contains(&world.budget.held()));
    // There is room for no more than that, whoever sends it.
    client.sends(provided(1, &[&vec![0; room + 1_000]]), &mut world);
    assert!(matches!(client.closed, Some(Disconnect::TooLong { .. })), "{:?}", client.closed);
}

#[test]
fn the_room_for_an_answer_is_there_until_none_can_come() {
    let mine = transactions(0..2);
    let mut world = World::new();
    let mut client = declared(&mine, &mut world);
    client.asked_for(1);
    let held = world.budget.held();
    let mut declare_again = |client: &mut Client, request_id: u32| {
        world.wait(60);
        client.ticks(&mut world);
        client.refused(request_id - 1, "missing-txs");
        let token = client.token("alice", &mut world);
        client.sends(Proposal::new(HEIGHT, &mine).message(request_id, &token), &mut world);
        client.resolves(&world);
        client.asked_for(request_id);
        assert_eq!(world.budget.held(), held, "one answer is read at a time");
    };
    (2..20).for_each(|request_id| declare_again(&mut client, request_id));
    for request_id in 1..19 {
        client.sends(provided(request_id, &bytes(&mine)), &mut world);
        assert_eq!(world.budget.held(), held);
    }
    client.sends(provided(19, &bytes(&mine)), &mut world);
    client.judged(Judgement::Refused("bad-txns".to_owned()), &mut world);
    client.refused(19, "invalid-job");
    assert_eq!(world.budget.held(), 0);
}

#[test]
fn jobs_that_were_accepted_hold_no_more_than_the_last_ones_need() {
    let mine = transactions(0..10);
    let mut world = World::new();
    let mut client = world.declarator();
    let mut held = Vec::new();
    for count in 1..=10 {
        world.wait(1);
        let token = client.token("alice", &mut world);
        let id = u32::try_from(count).unwrap();
        client.sends(Proposal::new(HEIGHT, &mine[10 - count..]).message(id, &token), &mut world);
        client.resolves(&world);
        client.asked_for(id);
        client.sends(provided(id, &bytes(&mine[10 - count..])), &mut world);
        client.judged(Judgement::Valid, &mut world);
        client.accepted(id);
        // Nobody else keeps it.
        client.questions.clear();
        held.push(world.budget.held());
    }
    let newest: usize = client.session.recent().map(|job| job.held()).sum();
    assert_eq!((client.session.recent().count(), held[9]), (DECLARATIONS_KEPT, newest));
}
