//! Shares held, passed on and let go.

use bitcoin::hashes::Hash as _;

use super::*;

fn tip(number: u8) -> BlockHash {
    BlockHash::from_byte_array([number; 32])
}

/// A share whose hash has that most significant byte: the smaller, the harder.
fn share(job: u32, hardness: u8, nonce: u32) -> Share {
    let mut hash = [0xff; 32];
    hash[31] = hardness;
    Share {
        job: JobId(job),
        version: 0x2000_0000,
        ntime: 7,
        nonce,
        extranonce: Box::default(),
        hash,
        is_block: false,
        worker: None,
    }
}

fn target(most: u8) -> Target {
    let mut bytes = [0xff; 32];
    bytes[31] = most;
    Target::from_le_bytes(bytes)
}

fn nonces(passed: &[Passed]) -> Vec<u32> {
    passed.iter().map(|passed| passed.share.nonce).collect()
}

#[test]
fn shares_wait_for_their_job_and_those_that_are_hard_enough_are_passed_on() {
    let mut relay = Relay::default();
    relay.propose(JobId(1), tip(1), &[]);
    assert_eq!(relay.take(share(1, 9, 1)), None);
    assert_eq!(relay.take(share(1, 3, 2)), None);
    assert_eq!(relay.take(share(1, 4, 3)), None);
    assert_eq!(relay.held(), 3);
    let passed = relay.accept(JobId(1), JobId(70), target(4));
    assert_eq!(nonces(&passed), [2, 3], "the hardest first");
    assert!(passed.iter().all(|passed| passed.job == JobId(70)));
    assert_eq!(relay.held(), 0);
    assert_eq!(relay.take(share(1, 4, 4)).unwrap().job, JobId(70), "from now on at once");
    assert_eq!(relay.take(share(1, 5, 5)), None);
    assert_eq!(relay.tally(), Tally { too_easy: 2, lost: 0 });
}

#[test]
fn shares_of_a_job_that_is_not_accepted_are_lost_and_counted() {
    let mut relay = Relay::default();
    relay.propose(JobId(1), tip(1), &[]);
    relay.propose(JobId(2), tip(1), &[]);
    relay.take(share(1, 3, 1));
    relay.take(share(2, 3, 2));
    relay.drop_job(JobId(1));
    assert_eq!(relay.take(share(1, 3, 3)), None, "nobody knows the job");
    assert_eq!((relay.held(), relay.tally().lost), (1, 2));
    assert_eq!(relay.accept(JobId(1), JobId(9), Target::MAX), []);
    assert_eq!(nonces(&relay.accept(JobId(2), JobId(9), Target::MAX)), [2]);
}

#[test]
fn the_jobs_of_two_tips_are_known() {
    let mut relay = Relay::default();
    relay.propose(JobId(1), tip(1), &[]);
    relay.accept(JobId(1), JobId(11), Target::MAX);
    relay.propose(JobId(2), tip(2), &[]);
    assert!(relay.take(share(1, 0, 1)).is_some(), "the pool may not have heard of the block yet");
    relay.propose(JobId(3), tip(2), &[]);
    assert!(relay.take(share(1, 0, 1)).is_some(), "another job of the same tip changes nothing");
    relay.propose(JobId(4), tip(3), &[]);
    assert!(relay.take(share(1, 0, 1)).is_none());
    assert_eq!(relay.tally().lost, 1);
}

#[test]
fn what_is_known_and_held_has_limits() {
    let mut relay = Relay::default();
    for number in 0..1_000 {
        relay.propose(JobId(number), tip(1), &[]);
        relay.take(share(number, 1, number));
    }
    assert_eq!((relay.jobs.len(), relay.held()), (JOBS_MAX, JOBS_MAX));
    relay.propose(JobId(5_000), tip(1), &[]);
    for nonce in 0..6_000 {
        relay.take(share(5_000, if nonce < 10 { 0 } else { 200 }, nonce));
    }
    assert_eq!(relay.held(), HELD_MAX);
    let passed = relay.accept(JobId(5_000), JobId(1), target(0));
    assert_eq!(passed.len(), 10, "the hardest were kept");
    for number in 0..100_000 {
        relay.note_sent(number, JobId(1), [0; 32]);
    }
    assert_eq!(relay.sent.len(), SENT_MAX);
}

#[test]
fn a_block_is_passed_on_however_hard_the_target_and_known_to_be_complete_once_declared() {
    let mut relay = Relay::default();
    relay.propose(JobId(1), tip(1), &[]);
    let block = Share { is_block: true, ..share(1, 200, 1) };
    assert!(!relay.is_declared(JobId(1)));
    relay.take(block.clone());
    assert_eq!(relay.declare(JobId(1)), core::slice::from_ref(&block));
    assert_eq!(relay.declare(JobId(1)), [], "said once");
    assert!(relay.is_declared(JobId(1)));
    assert_eq!(nonces(&relay.accept(JobId(1), JobId(5), target(0))), [1]);
    assert!(relay.is_declared(JobId(1)));
    assert!(relay.take(block).is_some());
}

#[test]
fn answers_find_the_shares_that_they_are_about() {
    let mut relay = Relay::default();
    for number in [u32::MAX - 1, u32::MAX, 0, 1, 2] {
        relay.note_sent(number, JobId(number), [0; 32]);
    }
    relay.settle(u32::MAX);
    assert_eq!(relay.sent.len(), 3, "numbers wrap");
    assert_eq!(relay.refuse(1).unwrap().job, JobId(1));
    assert_eq!(relay.refuse(1), None);
    relay.settle(2);
    assert_eq!(relay.sent.len(), 0);
}

#[test]
fn a_target_that_turns_out_harder_never_becomes_easier() {
    let mut relay = Relay::default();
    relay.propose(JobId(1), tip(1), &[]);
    relay.accept(JobId(1), JobId(5), target(4));
    relay.retarget(JobId(1), target(9));
    assert!(relay.take(share(1, 5, 1)).is_none());
    relay.retarget(JobId(1), target(2));
    assert!(relay.take(share(1, 3, 1)).is_none());
    assert!(relay.take(share(1, 2, 1)).is_some());
}
