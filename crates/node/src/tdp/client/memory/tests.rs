//! Recognising a block's template, and telling a block's fate from tips.

use std::sync::Arc;

use adit_share::{CoinbaseSpec, Job, Template};
use adit_units::{JobId, JobTag, Monotonic, Now, UnixTime, Work};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, CompactTarget, ScriptBuf, TxOut};

use super::*;
use crate::{Devnet, DevnetConfig, Pace};

const NOW: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };

fn template(seed: u8) -> Arc<Template> {
    let config = DevnetConfig { pace: Pace::Fixed(Work::from_hashes(2)), ..DevnetConfig::new([seed; 32]) };
    Arc::new(Devnet::new(&config, NOW).template(NOW))
}

/// A block of a template, solved or not.
fn block(template: &Arc<Template>) -> Vec<u8> {
    let value = Amount::from_sat(template.coinbase_value.to_sats());
    let spec = CoinbaseSpec {
        payouts: vec![TxOut { value, script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }],
        signature: String::new(),
        tag: JobTag { instance: 0, boot: 0, job: JobId(1) },
        extranonce_len: 4,
    };
    let job = Job::new(JobId(1), template, &spec).unwrap();
    let header = Header {
        version: bitcoin::block::Version::from_consensus(0x2000_0000),
        prev_blockhash: template.tip.prev_hash,
        merkle_root: TxMerkleNode::from_byte_array(job.merkle_root(&[1, 2, 3, 4]).unwrap()),
        time: template.time,
        bits: template.tip.nbits,
        nonce: 1,
    };
    let header: [u8; HEADER_LEN] = bitcoin::consensus::serialize(&header).try_into().unwrap();
    job.block(template, header, &[1, 2, 3, 4]).to_bytes()
}

fn offered(id: u64, template: &Template) -> Offered {
    let (prev_hash, merkle_path) = (template.tip.prev_hash, template.merkle_path.clone());
    Offered { id: TemplateId(id), prev_hash, merkle_path }
}

fn hash(seed: u8) -> BlockHash {
    BlockHash::from_byte_array([seed; 32])
}

/// The tip that stands on a block of that height.
fn tip(seed: u8, height: u32) -> Tip {
    Tip::new(hash(seed), Height(height + 1), CompactTarget::from_consensus(0x207f_ffff), 1)
}

#[test]
fn a_block_is_found_by_what_is_in_it() {
    let (one, other) = (template(1), template(2));
    let mut memory = Memory::default();
    let bytes = block(&one);
    let solved = Solved::read(&bytes).unwrap();
    assert_eq!(memory.find(&solved), None);
    memory.note_offered(offered(3, &one));
    memory.note_offered(offered(4, &other));
    assert_eq!(memory.find(&solved), Some(TemplateId(3)));
    memory.note_offered(offered(1, &one));
    assert_eq!(memory.find(&solved), Some(TemplateId(1)), "the id of the last connection");
    let coinbase: Transaction = deserialize(solved.coinbase).unwrap();
    assert!(coinbase.is_coinbase() && !coinbase.input[0].witness.is_empty());
    for _ in 0..OFFERED_KEPT {
        memory.note_offered(offered(9, &other));
    }
    assert_eq!(memory.find(&solved), None, "forgotten");
    assert_eq!(memory.offered.len(), OFFERED_KEPT);
}

#[test]
fn what_is_no_block_is_not_taken_for_one() {
    let bytes = block(&template(1));
    let whole = Solved::read(&bytes).unwrap();
    let coinbase_end = HEADER_LEN + 1 + whole.coinbase.len();
    for length in 0..coinbase_end {
        assert!(Solved::read(&bytes[..length]).is_none(), "{length}");
    }
    assert!(Solved::read(&bytes[..coinbase_end]).is_some(), "the rest is the provider's");
}

#[test]
fn tips_tell_the_fate() {
    let mut memory = Memory::default();
    let fate = |memory: &Memory, seed| memory.fate(hash(seed));
    let cannot_tell = |fate| matches!(fate, Fate::Unreachable(_));
    assert!(cannot_tell(fate(&memory, 1)), "nothing is known");
    memory.note_tip(&tip(1, 100));
    assert_eq!(memory.height_on(hash(1)), Some(Height(101)));
    assert_eq!(fate(&memory, 1), Fate::InChain { confirmations: 1 });
    assert!(cannot_tell(fate(&memory, 2)), "nobody handed it over");
    memory.note_handed(hash(2), Height(101));
    assert_eq!(fate(&memory, 2), Fate::Unknown);
    memory.note_tip(&tip(2, 101));
    assert!(memory.was_tip(hash(2)));
    memory.note_handed(hash(4), Height(102));
    memory.note_tip(&tip(3, 102));
    assert!(cannot_tell(fate(&memory, 4)), "another one was first, which is not to say that it wins");
    // Another chain takes over from height 102 on.
    memory.note_tip(&tip(5, 103));
    memory.note_tip(&tip(4, 102));
    assert_eq!(fate(&memory, 4), Fate::InChain { confirmations: 1 });
    assert_eq!(fate(&memory, 3), Fate::Stale);
}

/// It counted as confirmed, and in the end as in the chain for good, whatever the later blocks stood on.
#[test]
fn a_block_under_later_ones_was_taken_for_theirs() {
    let mut memory = Memory::default();
    memory.note_tip(&tip(1, 100));
    memory.note_handed(hash(2), Height(101));
    memory.note_tip(&tip(2, 101));
    assert_eq!(memory.fate(hash(2)), Fate::InChain { confirmations: 1 });
    // It may stand on another block of height 101, which this node never had for its newest.
    memory.note_tip(&tip(3, 102));
    assert!(matches!(memory.fate(hash(2)), Fate::Unreachable(_)));
}

#[test]
fn blocks_of_heights_that_were_never_seen_cannot_be_judged() {
    let mut memory = Memory::default();
    memory.note_tip(&tip(1, 100));
    memory.note_handed(hash(2), Height(101));
    memory.note_tip(&tip(3, 105));
    assert!(matches!(memory.fate(hash(2)), Fate::Unreachable(_)));
}

#[test]
fn memory_is_bounded() {
    let mut memory = Memory::default();
    for seed in 0..1000_u32 {
        let hash = BlockHash::from_byte_array(core::array::from_fn(|i| seed.to_le_bytes()[i % 4]));
        memory.note_handed(hash, Height(seed));
        memory.note_tip(&Tip { prev_hash: hash, ..tip(0, seed) });
    }
    assert_eq!((memory.handed.len(), memory.tips.len()), (HANDED_KEPT, TIPS_KEPT));
}
