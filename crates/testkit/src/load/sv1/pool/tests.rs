//! The pool as a translator meets it.

use adit_messages::types::Str0255;
use adit_miner::HeaderHasher;
use bitcoin::Transaction;
use bitcoin::consensus::deserialize;

use super::super::client::Terms;
use super::super::tests::idle_plan;
use super::*;

fn session(one_up_in: u32) -> Session {
    let terms = Terms::new(&idle_plan(one_up_in), (Ipv4Addr::LOCALHOST, 0).into());
    Session::new(Arc::new(Run::new(terms, true)))
}

/// The names of what is said since the last time.
fn said(session: &mut Session) -> Vec<&'static str> {
    let frames = session.queue.iter();
    let names = frames.map(|frame| decode(Protocol::Mining, frame).unwrap().info().name).collect();
    session.queue.clear();
    names
}

fn open(session: &mut Session, min_extranonce_size: u16) {
    let open = mining::OpenExtendedMiningChannel {
        request_id: 7,
        user_identity: Str0255::try_from("bench").unwrap(),
        nominal_hash_rate: 1.0,
        max_target: U256::from(const { &[0xff; 32] }),
        min_extranonce_size,
    };
    session.take(open.into()).unwrap();
}

/// A share of the last job that meets the target.
fn submit(session: &mut Session, channel_id: u32, extranonce: &[u8], target: Target) {
    let job = session.jobs.last().unwrap();
    let channel = session.channels.iter().find(|channel| channel.id == channel_id);
    let prefix = channel.map_or([0; PREFIX_LEN], |channel| channel.prefix);
    let root = merkle_root(&[&job.prefix, &prefix, extranonce, &job.suffix], &job.path);
    let mut hasher = HeaderHasher::new(&job.fields.header(root, 0));
    let (nonce, _) = hasher.find(0..=u32::MAX, &target).unwrap();
    let share = mining::SubmitSharesExtended {
        channel_id,
        sequence_number: 5,
        job_id: job.number,
        nonce,
        ntime: job.fields.ntime,
        version: job.fields.version,
        extranonce: B032::try_from(extranonce).unwrap(),
    };
    session.take(share.into()).unwrap();
}

#[test]
fn the_coinbase_is_a_transaction() {
    let extranonces = [0xee; PREFIX_LEN + EXTRANONCE_LEN as usize];
    let bytes = [coinbase_prefix(9), extranonces.to_vec(), coinbase_suffix()].concat();
    let coinbase: Transaction = deserialize(&bytes).unwrap();
    assert!(coinbase.is_coinbase());
    assert_eq!(coinbase.output.len(), 2);
    let script = coinbase.input[0].script_sig.as_bytes();
    assert!(script.len() <= 100 && script.windows(12).any(|window| window == mark(9)));
}

#[test]
fn a_channel_comes_with_work_and_jobs_follow_on_order() {
    let mut session = session(1);
    open(&mut session, 14);
    assert_eq!(
        said(&mut session),
        ["OpenExtendedMiningChannel.Success", "NewExtendedMiningJob", "SetNewPrevHash"]
    );
    assert_eq!(session.obey(Order::Job), Ok(1));
    assert_eq!(said(&mut session), ["NewExtendedMiningJob"]);
    assert_eq!(session.obey(Order::Tip), Ok(2));
    assert_eq!(said(&mut session), ["NewExtendedMiningJob", "SetNewPrevHash"]);
    let tips: Vec<_> = session.jobs.iter().map(|job| job.fields.prev_hash).collect();
    assert!(tips[0] == tips[1] && tips[1] != tips[2]);
    open(&mut session, 15);
    assert_eq!(said(&mut session), ["OpenMiningChannel.Error"]);
}

#[test]
fn good_shares_are_acknowledged_together_and_others_refused() {
    let mut session = session(100);
    open(&mut session, 12);
    said(&mut session);
    let (channel, target) = (GROUP + 1, session.run.plan.pool_target);
    submit(&mut session, channel, &[1; 14], target);
    submit(&mut session, channel, &[2; 14], target);
    session.acknowledge();
    assert_eq!(said(&mut session), ["SubmitShares.Success"]);
    submit(&mut session, channel, &[3; 13], target);
    submit(&mut session, channel + 1, &[4; 14], target);
    assert_eq!(said(&mut session), ["SubmitShares.Error"; 2]);
    let tally = session.run.tally();
    assert_eq!((tally.went_up, tally.worthless_up), (2, 2));
}

#[test]
fn closed_channels_are_gone_and_what_no_translator_says_ends_it() {
    let mut session = session(1);
    open(&mut session, 12);
    let reason_code = Str0255::try_from("").unwrap();
    session.take(mining::CloseChannel { channel_id: GROUP + 1, reason_code }.into()).unwrap();
    assert!(session.channels.is_empty());
    let odd = common::Reconnect { new_host: Str0255::try_from("").unwrap(), new_port: 1 };
    session.take(odd.into()).unwrap_err();
}
