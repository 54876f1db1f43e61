//! Tests of the found block: its bytes are what rust-bitcoin reads, and each broken rule is noticed.

use adit_units::JobId;
use bitcoin::block::{Header, Version};
use bitcoin::{CompactTarget, TxMerkleNode};

use super::*;
use crate::{Job, fixture};

/// Half of all hashes are blocks.
const EASY: u32 = 0x207f_ffff;
const EXTRANONCE: [u8; 20] = [3; 20];

fn job(template: &Template) -> Job {
    Job::new(JobId(1), template, &fixture::spec(template, JobId(1), 2)).unwrap()
}

/// The header that `change` makes of a good one, worked on until it meets the target.
fn mine(job: &Job, change: impl FnOnce(&mut Header)) -> [u8; HEADER_LEN] {
    let mut header = Header {
        version: Version::from_consensus(job.version().cast_signed()),
        prev_blockhash: job.tip().prev_hash,
        merkle_root: TxMerkleNode::from_byte_array(job.merkle_root(&EXTRANONCE).unwrap()),
        time: job.min_ntime(),
        bits: job.tip().nbits,
        nonce: 0,
    };
    change(&mut header);
    let target = bitcoin::Target::from_compact(CompactTarget::from_consensus(EASY));
    while !target.is_met_by(header.block_hash()) {
        header.nonce += 1;
    }
    consensus::serialize(&header).try_into().unwrap()
}

fn template(transactions: u32) -> Arc<Template> {
    fixture::template(1, fixture::tip(900_000, EASY), transactions)
}

#[test]
fn a_good_block_passes_and_is_what_rust_bitcoin_reads() {
    for transactions in [0, 1, 7, 300] {
        let template = template(transactions);
        let job = job(&template);
        let header = mine(&job, |_| ());
        let block = job.block(&template, header, &EXTRANONCE);
        assert_eq!(block.check(), Ok(()), "{transactions} transactions");
        let read: bitcoin::Block = consensus::deserialize(&block.to_bytes()).unwrap();
        assert_eq!(read.block_hash(), block.hash);
        assert_eq!(read.txdata.len(), transactions as usize + 1);
        assert_eq!(consensus::serialize(&read.txdata[0]), block.coinbase());
        assert_eq!(consensus::serialize(&read.header), block.header());
        assert_eq!(block.height, Height(900_001));
        assert_eq!(block.to_hex(), consensus::encode::serialize_hex(&read));
        assert_eq!(block.template().id, template.id);
    }
}

#[test]
fn a_header_that_breaks_a_rule_is_noticed() {
    let template = template(3);
    let job = job(&template);
    let check = |change: fn(&mut Header)| job.block(&template, mine(&job, change), &EXTRANONCE).check();
    assert_eq!(check(|_| ()), Ok(()));
    assert_eq!(check(|header| header.prev_blockhash = BlockHash::all_zeros()), Err(BlockError::Tip));
    assert_eq!(
        check(|header| header.bits = CompactTarget::from_consensus(0x2070_0000)),
        Err(BlockError::Tip)
    );
    assert_eq!(check(|header| header.time -= 3601), Err(BlockError::Time));
    assert_eq!(check(|header| header.merkle_root = TxMerkleNode::all_zeros()), Err(BlockError::MerkleRoot));
    let mut lazy = mine(&job, |_| ());
    let hash = |header: &[u8]| consensus::deserialize::<Header>(header).unwrap();
    while hash(&lazy).target().is_met_by(hash(&lazy).block_hash()) {
        lazy[79] += 1;
    }
    assert_eq!(job.block(&template, lazy, &EXTRANONCE).check(), Err(BlockError::Work));
}

/// A block with this coinbase, whatever it is, and a header that fits it.
fn with_coinbase(template: &Arc<Template>, coinbase: &bitcoin::Transaction) -> Block {
    let bytes = consensus::serialize(coinbase);
    let root = crate::merkle::fold(coinbase.compute_txid().to_byte_array(), &template.merkle_path);
    let header = mine(&job(template), |header| header.merkle_root = TxMerkleNode::from_byte_array(root));
    Block::new(header, bytes, Arc::clone(template))
}

#[test]
fn a_coinbase_that_breaks_a_rule_is_noticed() {
    let template = template(3);
    let good: bitcoin::Transaction =
        consensus::deserialize(job(&template).block(&template, [0; 80], &EXTRANONCE).coinbase()).unwrap();
    let check = |change: &dyn Fn(&mut bitcoin::Transaction)| {
        let mut coinbase = good.clone();
        change(&mut coinbase);
        with_coinbase(&template, &coinbase).check()
    };
    assert_eq!(check(&|_| ()), Ok(()));
    let value = template.coinbase_value.to_sats();
    for amount in [-1, 1] {
        let error = BlockError::Value(Sats::from_sats(value.checked_add_signed(amount).unwrap()));
        let change = |coinbase: &mut bitcoin::Transaction| {
            let output = &mut coinbase.output[0].value;
            *output = bitcoin::Amount::from_sat(output.to_sat().checked_add_signed(amount).unwrap());
        };
        assert_eq!(check(&change), Err(error));
    }
    let short = bitcoin::ScriptBuf::from_bytes(vec![0x51]);
    assert_eq!(check(&|coinbase| coinbase.input[0].script_sig = short.clone()), Err(BlockError::Height));
    let long = |coinbase: &mut bitcoin::Transaction| {
        let script = [coinbase.input[0].script_sig.as_bytes(), &[0; 100]].concat();
        coinbase.input[0].script_sig = bitcoin::ScriptBuf::from_bytes(script);
    };
    assert_eq!(check(&long), Err(BlockError::Height));
    let other_height = |coinbase: &mut bitcoin::Transaction| {
        let mut script = coinbase.input[0].script_sig.to_bytes();
        script[1] ^= 1;
        coinbase.input[0].script_sig = bitcoin::ScriptBuf::from_bytes(script);
    };
    assert_eq!(check(&other_height), Err(BlockError::Height));
    let no_coinbase = |coinbase: &mut bitcoin::Transaction| coinbase.input[0].previous_output.vout = 0;
    assert_eq!(check(&no_coinbase), Err(BlockError::Coinbase));
    let no_witness = |coinbase: &mut bitcoin::Transaction| coinbase.input[0].witness.clear();
    assert_eq!(check(&no_witness), Err(BlockError::Commitment));
    let no_commitment = |coinbase: &mut bitcoin::Transaction| drop(coinbase.output.pop());
    assert_eq!(check(&no_commitment), Err(BlockError::Commitment));
}

#[test]
fn bytes_that_are_no_block_are_noticed() {
    let template = template(0);
    let block = Block::new(mine(&job(&template), |_| ()), vec![1, 2, 3], Arc::clone(&template));
    assert!(matches!(block.check(), Err(BlockError::Encoding(_))));
}

#[test]
fn a_block_of_another_template_is_noticed() {
    let (one, other) = (template(3), template(4));
    let job = job(&one);
    let header = mine(&job, |_| ());
    assert!(job.block(&other, header, &EXTRANONCE).check().is_err());
}

#[test]
fn a_second_coinbase_is_noticed() {
    let template = template(1);
    let extra: bitcoin::Transaction =
        consensus::deserialize(job(&template).block(&template, [0; 80], &EXTRANONCE).coinbase()).unwrap();
    let mut bad = Template::clone(&template);
    bad.transactions.push(crate::RawTransaction::parse(consensus::serialize(&extra)).unwrap());
    let block = job(&template).block(&Arc::new(bad), mine(&job(&template), |_| ()), &EXTRANONCE);
    assert_eq!(block.check(), Err(BlockError::Coinbase));
}

#[test]
fn a_block_that_is_too_heavy_is_noticed() {
    let light = template(1);
    let mut heavy = Template::clone(&light);
    let output = bitcoin::TxOut {
        value: bitcoin::Amount::ZERO,
        script_pubkey: bitcoin::ScriptBuf::from_bytes(vec![0x6a; 1_000_000]),
    };
    let input = bitcoin::TxIn {
        previous_output: bitcoin::OutPoint::new(bitcoin::Txid::from_byte_array([1; 32]), 0),
        ..bitcoin::TxIn::default()
    };
    let transaction = bitcoin::Transaction {
        version: bitcoin::transaction::Version::TWO,
        lock_time: bitcoin::absolute::LockTime::ZERO,
        input: vec![input],
        output: vec![output],
    };
    heavy.transactions = vec![crate::RawTransaction::parse(consensus::serialize(&transaction)).unwrap()];
    heavy.merkle_path = crate::merkle::path([transaction.compute_txid().to_byte_array()]);
    heavy.required_outputs[0].script_pubkey = crate::witness_commitment(&heavy.transactions);
    let heavy = Arc::new(heavy);
    let job = job(&heavy);
    let block = job.block(&heavy, mine(&job, |_| ()), &EXTRANONCE);
    assert!(matches!(block.check(), Err(BlockError::Weight(weight)) if weight > MAX_BLOCK_WEIGHT));
}
