//! What a pool makes of a proposal must be the job that miners below work on.

use adit_node::{Devnet, DevnetConfig};
use adit_share::{CoinbaseSpec, JobParts};
use adit_units::{JobTag, Now};
use bitcoin::opcodes::all::OP_PUSHNUM_1;
use bitcoin::{Amount, ScriptBuf};

use super::*;

/// A job that pays `script`, with the template that it mines.
pub(crate) fn job(number: u32, prev_hash_seed: u8, script: &ScriptBuf) -> (Job, Arc<Template>) {
    let now = Now::default();
    let template = Arc::new(Devnet::new(&DevnetConfig::new([prev_hash_seed; 32]), now).template(now));
    let value = Amount::from_sat(template.coinbase_value.to_sats());
    let spec = CoinbaseSpec {
        payouts: vec![TxOut { value, script_pubkey: script.clone() }],
        signature: "/miner/".to_owned(),
        tag: JobTag { instance: 1, boot: 2, job: JobId(number) },
        extranonce_len: 32,
    };
    (Job::new(JobId(number), &template, &spec).unwrap(), template)
}

pub(crate) fn payout() -> ScriptBuf {
    ScriptBuf::builder().push_opcode(OP_PUSHNUM_1).into_script()
}

/// The coinbase that a pool puts together of `SetCustomMiningJob`, without witness, written down field by field as spec 5.3.18 has it.
fn as_the_pool_sees_it(set: &mining::SetCustomMiningJob<'_>, extranonce: &[u8]) -> Vec<u8> {
    let script = [set.coinbase_prefix.as_bytes(), extranonce].concat();
    let mut bytes = set.coinbase_tx_version.to_le_bytes().to_vec();
    bytes.push(1);
    bytes.extend([0; 32]);
    bytes.extend([0xff; 4]);
    bytes.push(u8::try_from(script.len()).unwrap());
    bytes.extend(script);
    bytes.extend(set.coinbase_tx_input_n_sequence.to_le_bytes());
    bytes.extend(set.coinbase_tx_outputs.as_bytes());
    bytes.extend(set.coinbase_tx_locktime.to_le_bytes());
    bytes
}

#[test]
fn both_messages_describe_the_coinbase_that_miners_work_on() {
    let (job, template) = job(5, 1, &payout());
    let proposal = Proposal::new(&job, &template).unwrap();
    let extranonce = [0xab; 32];
    let own = [job.coinbase_prefix(), &extranonce, job.coinbase_suffix()].concat();
    let outputs = proposal.outputs();
    let set = proposal.set(ChannelId(3), 4, b"token", &outputs);
    assert_eq!((set.channel_id, set.request_id, set.token.as_bytes()), (3, 4, &b"token"[..]));
    assert_eq!(as_the_pool_sees_it(&set, &extranonce), own);
    let declare = proposal.declare(9, b"token");
    let declared =
        [declare.coinbase_tx_prefix.as_bytes(), &extranonce, declare.coinbase_tx_suffix.as_bytes()].concat();
    let declared: Transaction = consensus::deserialize(&declared).unwrap();
    assert_eq!(consensus::serialize(&declared).len(), own.len() + 2 + 34);
    assert_eq!(declared.input[0].witness.iter().collect::<Vec<_>>(), [[0; 32]]);
    let own: Transaction = consensus::deserialize(&own).unwrap();
    assert_eq!(declared.compute_txid(), own.compute_txid());
}

#[test]
fn a_proposal_says_what_its_job_says() {
    let (job, template) = job(5, 1, &payout());
    let proposal = Proposal::new(&job, &template).unwrap();
    assert_eq!((proposal.number(), proposal.prev_hash()), (JobId(5), template.tip.prev_hash));
    assert_eq!(proposal.extranonce_len(), 32);
    let outputs = proposal.outputs();
    let set = proposal.set(ChannelId(3), 4, b"token", &outputs);
    assert_eq!(set.prev_hash.as_array(), template.tip.prev_hash.as_byte_array());
    assert_eq!(
        (set.nbits, set.min_ntime, set.version),
        (template.tip.nbits.to_consensus(), template.time, template.version)
    );
    let path: Vec<[u8; 32]> = set.merkle_path.iter().map(|step| *step.as_array()).collect();
    assert_eq!(path, template.merkle_path);
    let declare = proposal.declare(9, b"token");
    let wtxids: Vec<[u8; 32]> = declare.wtxid_list.iter().map(|wtxid| *wtxid.as_array()).collect();
    let own: Vec<[u8; 32]> = template.transactions.iter().map(|tx| tx.wtxid().to_byte_array()).collect();
    assert_eq!((wtxids, own.len()), (own, template.transactions.len()));
}

#[test]
fn all_outputs_of_a_token_must_be_there_and_the_first_must_be_paid() {
    let (job, template) = job(5, 1, &payout());
    let proposal = Proposal::new(&job, &template).unwrap();
    let output = |script: &ScriptBuf| TxOut { value: Amount::ZERO, script_pubkey: script.clone() };
    let commitment = template.required_outputs[0].script_pubkey.clone();
    assert!(proposal.pays(&[output(&payout())]));
    assert!(proposal.pays(&[output(&payout()), output(&commitment)]));
    assert!(!proposal.pays(&[output(&commitment), output(&payout())]), "there, but not paid");
    assert!(!proposal.pays(&[output(&payout()), output(&ScriptBuf::from_bytes(vec![0x52]))]));
    assert!(!proposal.pays(&[]));
}

#[test]
fn a_coinbase_that_no_pool_could_make_is_refused() {
    let (job, template) = job(5, 1, &payout());
    let parts = |prefix, suffix, extranonce_len| {
        let parts =
            JobParts { coinbase_prefix: prefix, coinbase_suffix: suffix, extranonce_len, ..job.parts() };
        Proposal::new(&Job::from_parts(parts).unwrap(), &template).map(drop)
    };
    let (before, after) = (job.coinbase_prefix(), job.coinbase_suffix());
    assert_eq!(parts(before, after, 32), Ok(()));
    assert_eq!(parts(before, after, 31), Err(ProposalError), "not a transaction");
    assert_eq!(parts(&[], after, 32), Err(ProposalError));
    let whole = [before, &[7; 32], after].concat();
    let (head, tail) = whole.split_at(before.len() - 1);
    assert_eq!(parts(head, &tail[32..], 32), Err(ProposalError), "something follows the extranonce");
}
