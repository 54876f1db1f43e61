//! Clients that mean harm: odd prefixes, monstrous lists, floods.

use adit_job_declarator::server::limits::REQUESTS_MAX;
use adit_job_declarator::server::{Disconnect, Judgement};
use adit_messages::limits::BLOCK_TRANSACTIONS;
use adit_messages::types::Str0255;
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, TxOut, Wtxid};
use proptest::prelude::*;

use crate::world::{Client, HEIGHT, Proposal, World, declaration, payout, transactions};

/// The declaration of these parts is refused for its coinbase, and the connection stays.
#[track_caller]
fn refused(client: &mut Client, world: &mut World, token: &[u8], parts: (&[u8], &[u8])) {
    client.sends(declaration(1, token, parts, &[]), world);
    assert!(client.questions.is_empty() && client.closed.is_none());
    client.refused_coinbase(1);
}

#[test]
fn short_long_and_cyclic_prefixes_are_refused() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    let (prefix, suffix) = Proposal::new(HEIGHT, &[]).parts();
    for len in 0..prefix.len() {
        refused(&mut client, &mut world, &token, (&prefix[..len], &suffix));
        world.wait(1);
    }
    for len in 0..suffix.len() {
        refused(&mut client, &mut world, &token, (&prefix, &suffix[..len]));
        world.wait(1);
    }
    let long = vec![0; 65_535];
    refused(&mut client, &mut world, &token, (&long, &long));
    // The prefix again and again.
    let cyclic: Vec<u8> = prefix.iter().copied().cycle().take(65_535).collect();
    refused(&mut client, &mut world, &token, (&cyclic, &suffix));
    refused(&mut client, &mut world, &token, (&prefix, &cyclic));
}

#[test]
fn prefixes_that_lie_about_their_lengths_are_refused() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    let (prefix, suffix) = Proposal::new(HEIGHT, &[]).parts();
    // The number of inputs, the length of the input script, and the number of outputs, as large as they can be said to be.
    let huge = [0xff; 9];
    for at in [6, 43] {
        let lying = [&prefix[..at], &huge, &prefix[at + 1..]].concat();
        refused(&mut client, &mut world, &token, (&lying, &suffix));
    }
    let lying = [&suffix[..4], &huge, &suffix[5..]].concat();
    refused(&mut client, &mut world, &token, (&prefix, &lying));
    let mut short = prefix.clone();
    short[43] = 2;
    refused(&mut client, &mut world, &token, (&short, &suffix));
}

#[test]
fn coinbases_whose_outputs_overflow_are_refused() {
    for values in [[u64::MAX, 1], [u64::MAX / 2 + 1, u64::MAX / 2 + 1], [u64::MAX, u64::MAX]] {
        let mut world = World::new();
        let mut client = world.declarator();
        let token = client.token("alice", &mut world);
        let mut proposal = Proposal::new(HEIGHT, &[]);
        for value in values {
            let value = Amount::from_sat(value);
            proposal.coinbase.output.push(TxOut { value, script_pubkey: payout() });
        }
        client.sends(proposal.message(1, &token), &mut world);
        client.refused(1, "invalid-coinbase-tx");
    }
}

#[test]
fn lists_that_name_a_transaction_twice_are_refused() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    let mut all = transactions(0..4);
    all.push(all[1].clone());
    client.sends(Proposal::new(HEIGHT, &all).message(1, &token), &mut world);
    let details = client.refused(1, "invalid-job");
    assert!(details.contains("transaction 4"), "{details}");
}

#[test]
fn lists_that_no_block_can_hold_are_refused() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    let (prefix, suffix) = Proposal::new(HEIGHT, &[]).parts();
    let list = |count: usize| -> Vec<Wtxid> {
        let hash = |number: usize| {
            let mut hash = [3; 32];
            hash[..8].copy_from_slice(&number.to_le_bytes());
            Wtxid::from_byte_array(hash)
        };
        (0..count).map(hash).collect()
    };
    client.sends(declaration(1, &token, (&prefix, &suffix), &list(BLOCK_TRANSACTIONS + 1)), &mut world);
    client.refused(1, "invalid-job");
    client.sends(declaration(2, &token, (&prefix, &suffix), &list(BLOCK_TRANSACTIONS)), &mut world);
    client.resolves(&world);
    assert_eq!(client.asked_for(2).len(), BLOCK_TRANSACTIONS, "unknown ones are asked for");
    client.sends(declaration(3, &token, (&prefix, &suffix), &list(65_535)), &mut world);
    assert!(matches!(client.closed, Some(Disconnect::TooLong { .. })), "what is longer is not even read");
}

#[test]
fn a_flood_of_messages_ends_the_session() {
    let mut world = World::new();
    let mut client = world.declarator();
    client.token("alice", &mut world);
    let (prefix, suffix) = Proposal::new(HEIGHT, &[]).parts();
    let mut sent = 0;
    while client.closed.is_none() {
        client.sends(declaration(sent, &[], (&prefix, &suffix), &[]), &mut world);
        sent += 1;
    }
    assert_eq!((client.closed, sent), (Some(Disconnect::Requests), REQUESTS_MAX));
}

#[test]
fn reasons_of_any_length_are_told() {
    let mut world = World::new();
    let mut client = world.declarator();
    let token = client.token("alice", &mut world);
    client.sends(Proposal::new(HEIGHT, &[]).message(1, &token), &mut world);
    client.resolves(&world);
    client.judged(Judgement::Refused("é".repeat(100_000)), &mut world);
    assert!(client.refused(1, "invalid-job").len() <= 1_024);
}

#[test]
fn a_user_of_any_bytes_is_a_name_or_the_end() {
    let mut world = World::new();
    for bytes in [vec![0xff; 255], vec![b'a'; 255], vec![], vec![0x1b], "ü".repeat(127).into_bytes()] {
        let mut client = world.declarator();
        let user_identifier = Str0255::new(&bytes).unwrap();
        let allocate =
            adit_messages::job_declaration::AllocateMiningJobToken { user_identifier, request_id: 1 };
        client.sends(allocate, &mut world);
        assert!(client.closed.is_some() || client.allocated().0 == 1);
    }
}

proptest! {
    #[test]
    fn no_coinbase_makes_the_session_fail(
        at in 0_usize..400,
        bytes in prop::collection::vec(any::<u8>(), 0..40),
        cut in 0_usize..40,
    ) {
        let mut world = World::new();
        let mut client = world.declarator();
        let token = client.token("alice", &mut world);
        let (mut prefix, mut suffix) = Proposal::new(HEIGHT, &[]).parts();
        let part = if at < prefix.len() { &mut prefix } else { &mut suffix };
        let at = at % part.len();
        let end = (at + cut).min(part.len());
        part.splice(at..end, bytes);
        client.sends(declaration(1, &token, (&prefix, &suffix), &[]), &mut world);
        if client.questions.is_empty() {
            prop_assert_eq!(client.closed, None);
        } else {
            client.resolves(&world);
            if !client.questions.is_empty() {
                let block = client.judged(Judgement::Valid, &mut world);
                prop_assert!(block.check_merkle_root() && block.txdata[0].is_coinbase());
                client.accepted(1);
            }
        }
    }
}
