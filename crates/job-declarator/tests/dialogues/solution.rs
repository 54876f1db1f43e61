//! Solutions: whatever is a block of a job that was declared lately is handed on, and nothing else.

use adit_job_declarator::server::Judgement;
use adit_job_declarator::server::limits::{SOLUTION_INTERVAL, SOLUTIONS_MAX};
use adit_messages::job_declaration::PushSolution;
use adit_messages::types::{B032, U256};
use bitcoin::consensus::deserialize;

use crate::world::{HEIGHT, Proposal, World, provided, tip, transactions};

#[test]
fn a_solution_is_a_block_with_all_its_transactions() {
    let known = transactions(0..5);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    let proposal = Proposal::new(HEIGHT, &known);
    client.declares(&proposal, &mut world);
    client.sends(proposal.solution(&known, &world.tip), &mut world);
    let solved = client.blocks.pop().unwrap();
    let block: bitcoin::Block = deserialize(&solved.bytes).unwrap();
    assert_eq!(block.block_hash(), solved.hash);
    assert_eq!((solved.height.0, solved.user.as_str()), (HEIGHT, "alice.rig"));
    assert!(block.check_merkle_root() && block.check_witness_commitment());
    assert!(world.tip.target.is_met_by(bitcoin::hashes::Hash::as_byte_array(&block.block_hash())));
    assert_eq!(block.txdata.len(), 6);
    client.sends(proposal.solution(&known, &world.tip), &mut world);
    assert!(client.blocks.is_empty(), "once is enough");
    client.expects_nothing();
}

#[test]
fn a_solution_of_an_earlier_job_is_taken_too_and_one_of_the_former_tip() {
    let known = transactions(0..5);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    let (first, second) = (Proposal::new(HEIGHT, &known[..2]), Proposal::new(HEIGHT, &known));
    client.declares(&first, &mut world);
    client.declares(&second, &mut world);
    let former = world.tip;
    client.sends(first.solution(&known[..2], &former), &mut world);
    assert_eq!(client.blocks.len(), 1);
    world.tip = tip(HEIGHT + 1, 2);
    client.sees_tip(&world);
    client.sends(second.solution(&known, &former), &mut world);
    assert_eq!(client.blocks.len(), 2);
    world.tip = tip(HEIGHT + 2, 3);
    client.sees_tip(&world);
    client.sends(first.solution(&known[..2], &former), &mut world);
    assert_eq!((client.blocks.len(), client.closed), (2, None), "it can win no more");
}

#[test]
fn jds_receive_solution_while_processing_declared_job_test() {
    let all = transactions(0..3);
    let mut world = World::knowing(&all[..2]);
    let mut client = world.declarator();
    let first = Proposal::new(HEIGHT, &all[..2]);
    client.declares(&first, &mut world);
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &all).message(8, &token), &mut world);
    client.sends(first.solution(&all[..2], &world.tip), &mut world);
    client.resolves(&world);
    assert_eq!(client.asked_for(8), [2]);
    client.sends(first.solution(&all[..2], &world.tip), &mut world);
    assert_eq!(client.blocks.len(), 1);
    client.sends(provided(8, &[all[2].as_bytes()]), &mut world);
    client.sends(Proposal::new(HEIGHT, &all).solution(&all, &world.tip), &mut world);
    assert_eq!(client.blocks.len(), 1, "that job is not accepted yet");
    client.judged(Judgement::Valid, &mut world);
    client.accepted(8);
    assert_eq!(client.closed, None);
}

#[test]
fn solutions_for_other_jobs_and_without_work_are_passed_over() {
    let known = transactions(0..2);
    let mut world = World::knowing(&known);
    let mut client = world.declarator();
    let mut other = world.declarator();
    let proposal = Proposal::new(HEIGHT, &known);
    let good = proposal.solution(&known, &world.tip);
    client.sends(good.clone(), &mut world);
    assert!(client.blocks.is_empty(), "nothing was declared yet");
    client.declares(&proposal, &mut world);
    other.sends(good.clone(), &mut world);
    assert!(other.blocks.is_empty(), "somebody else has declared it");
    let zeros = || U256::from(&[0; 32]);
    let extranonce = |len| B032::new(vec![9; len].leak()).unwrap();
    for wrong in [
        PushSolution { prev_hash: zeros(), ..good.clone() },
        PushSolution { nbits: 0x1d00_ffff, ..good.clone() },
        PushSolution { nbits: 0x2100_ffff, ..good.clone() },
        PushSolution { extranonce: extranonce(0), ..good.clone() },
        PushSolution { extranonce: extranonce(31), ..good.clone() },
    ] {
        client.sends(wrong, &mut world);
    }
    assert_eq!((client.blocks.len(), client.closed), (0, None));
    // One of 512 hashes has the work.
    let mut without_work = 0;
    for nonce in 0..40 {
        world.wait(1);
        let before = client.blocks.len();
        client.sends(PushSolution { nonce, ..good.clone() }, &mut world);
        without_work += usize::from(client.blocks.len() == before);
    }
    assert!(without_work >= 35, "{without_work}");
}

#[test]
fn solutions_beyond_the_pace_are_not_looked_at() {
    let mut world = World::new();
    let mut client = world.declarator();
    let proposal = Proposal::new(HEIGHT, &[]);
    client.declares(&proposal, &mut world);
    let good = proposal.solution(&[], &world.tip);
    let wrong = PushSolution { nbits: 0, ..good.clone() };
    (0..SOLUTIONS_MAX).for_each(|_| client.sends(wrong.clone(), &mut world));
    client.sends(good.clone(), &mut world);
    assert_eq!((client.blocks.len(), client.closed), (0, None));
    world.wait(SOLUTION_INTERVAL.as_secs());
    client.sends(good, &mut world);
    assert_eq!(client.blocks.len(), 1);
}

#[test]
fn nobody_is_told_of_transactions_before_there_is_a_block() {
    let all = transactions(0..3);
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    let proposal = Proposal::new(HEIGHT, &all);
    client.sends(proposal.message(1, &token), &mut world);
    client.resolves(&world);
    client.asked_for(1);
    let list: Vec<&[u8]> = all.iter().map(adit_share::RawTransaction::as_bytes).collect();
    client.sends(provided(1, &list), &mut world);
    client.judged(Judgement::Valid, &mut world);
    client.accepted(1);
    assert!(client.blocks.is_empty(), "no transaction is relayed before the solution");
    client.sends(proposal.solution(&all, &world.tip), &mut world);
    assert_eq!(client.blocks.len(), 1);
}
