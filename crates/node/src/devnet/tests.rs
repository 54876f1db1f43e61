//! Dialogues with a devnet: a miner offers blocks, good and spoiled in every way, and the chain answers.

use std::sync::Arc;

use adit_testkit::mining::mine;
use adit_units::{Monotonic, Target, UnixTime};
use bitcoin::block::{Header, Version};
use bitcoin::consensus::serialize;
use bitcoin::script::Builder;
use bitcoin::{Block, CompactTarget, ScriptBuf, Sequence, Witness, absolute, opcodes};

use super::*;

/// A chain, a clock, and a miner who knows both.
struct Dialogue {
    devnet: Devnet,
    now: Now,
}

impl Dialogue {
    fn new() -> Self {
        Self::with(DevnetConfig { transactions: 4, arrival: Duration::ZERO, ..easy() })
    }

    fn with(config: DevnetConfig) -> Self {
        let now = Now { monotonic: Monotonic::default(), unix: UnixTime::from_secs(1_700_000_000) };
        Self { devnet: Devnet::new(&config, now), now }
    }

    fn wait(&mut self, time: Duration) {
        self.now = self.now.after(time);
    }

    fn template(&mut self) -> Template {
        self.devnet.template(self.now)
    }

    /// A good block, as a pool would make it.
    fn block(&mut self) -> Block {
        let block = mine(&Arc::new(self.template()), ScriptBuf::new());
        block.check().unwrap();
        consensus::deserialize(&block.to_bytes()).unwrap()
    }

    fn submit(&mut self, block: &Block) -> Result<Height, BlockRefused> {
        self.devnet.submit_block(&serialize(block), self.now)
    }

    fn mine(&mut self) -> Block {
        let block = self.block();
        self.submit(&block).unwrap();
        block
    }

    /// Offers a good block that `spoil` has changed, solved again, and gives the answer; a refusal must leave no trace.
    fn offer(&mut self, spoil: impl FnOnce(&mut Block)) -> Result<Height, BlockRefused> {
        let mut block = self.block();
        spoil(&mut block);
        solve(&mut block.header);
        let (before, template) = (self.devnet.best_block(), self.template());
        let answer = self.submit(&block);
        if answer.is_err() {
            assert_eq!(self.devnet.best_block(), before);
            let after = self.template();
            assert_eq!((after.tip, &after.transactions), (template.tip, &template.transactions));
        }
        answer
    }

    /// As [`Self::offer`], with the witness commitment and the merkle root made to fit again.
    fn offer_sealed(&mut self, spoil: impl FnOnce(&mut Block)) -> Result<Height, BlockRefused> {
        self.offer(|block| {
            spoil(block);
            seal(block);
        })
    }
}

/// The least work there is, so that a nonce is found at once.
fn easy() -> DevnetConfig {
    DevnetConfig { pace: Pace::Fixed(Work::from_hashes(2)), ..DevnetConfig::new([9; 32]) }
}

/// Finds a nonce.
fn solve(header: &mut Header) {
    let target = Target::from_compact(header.bits);
    while !target.is_met_by(&header.block_hash().to_byte_array()) {
        header.nonce += 1;
    }
}

/// Makes the witness commitment, if there is one, and the merkle root fit the transactions.
fn seal(block: &mut Block) {
    let root = block.witness_root().unwrap();
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    if let Some(output) = block.txdata[0].output.iter_mut().find(|output| output.script_pubkey.is_op_return())
    {
        let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], commitment.as_byte_array()].concat();
        output.script_pubkey = ScriptBuf::from_bytes(script);
    }
    block.header.merkle_root = block.compute_merkle_root().unwrap();
}

#[test]
fn good_blocks_extend_the_chain() {
    let mut dialogue = Dialogue::with(DevnetConfig { arrival: Duration::from_secs(1), ..easy() });
    // Heights up to 16 are pushed by an opcode of their own, higher ones as bytes.
    for height in 1..=18 {
        let block = dialogue.mine();
        assert_eq!(dialogue.devnet.height(), Height(height));
        assert_eq!(dialogue.devnet.best_block(), block.block_hash());
        assert_eq!(dialogue.devnet.tip().prev_hash, block.block_hash());
        dialogue.wait(Duration::from_secs(2));
    }
}

#[test]
fn what_is_mined_leaves_and_what_comes_is_offered() {
    let config = DevnetConfig { transactions: 3, arrival: Duration::from_secs(1), ..easy() };
    let mut dialogue = Dialogue::with(config);
    assert_eq!(dialogue.template().transactions.len(), 3);
    dialogue.wait(Duration::from_secs(2));
    let template = dialogue.template();
    assert_eq!(template.transactions.len(), 5);
    assert!(template.fees > Sats::ZERO);
    assert_eq!(template.coinbase_value.to_sats(), 50 * 100_000_000 + template.fees.to_sats());

    let block = dialogue.mine();
    assert_eq!(block.txdata.len(), 6);
    assert!(dialogue.template().transactions.is_empty());
    dialogue.wait(Duration::from_secs(1));
    assert_eq!(dialogue.template().transactions.len(), 1);
}

#[test]
fn each_template_has_its_number() {
    let mut dialogue = Dialogue::new();
    let ids = [dialogue.template().id, dialogue.template().id, dialogue.template().id];
    assert_eq!(ids, [TemplateId(1), TemplateId(2), TemplateId(3)]);
}

#[test]
fn the_fate_of_blocks() {
    let mut dialogue = Dialogue::new();
    let first = dialogue.mine().block_hash();
    let (second, loser) = (dialogue.block(), {
        dialogue.wait(Duration::from_secs(5));
        dialogue.block()
    });
    dialogue.submit(&second).unwrap();
    dialogue.submit(&loser).unwrap_err();
    assert_eq!(dialogue.devnet.fate(&first), Fate::InChain { confirmations: 2 });
    assert_eq!(dialogue.devnet.fate(&second.block_hash()), Fate::InChain { confirmations: 1 });
    assert_eq!(dialogue.devnet.fate(&loser.block_hash()), Fate::Unknown);
}

#[test]
fn equal_seeds_give_equal_chains_and_others_do_not() {
    let tip = |seed| Dialogue::with(DevnetConfig { seed, ..easy() }).mine().block_hash();
    assert_eq!(tip([1; 32]), tip([1; 32]));
    assert_ne!(tip([1; 32]), tip([2; 32]));
}

#[test]
fn bytes_that_are_not_one_block_are_refused() {
    let mut dialogue = Dialogue::new();
    let bytes = serialize(&dialogue.block());
    let longer = [&bytes[..], &[0]].concat();
    for bytes in [&[][..], &bytes[..79], &bytes[..bytes.len() - 1], &longer] {
        let answer = dialogue.devnet.submit_block(bytes, dialogue.now);
        assert!(matches!(answer, Err(BlockRefused::Encoding(_))), "{answer:?}");
    }
}

#[test]
fn known_stale_and_unconnected_blocks_are_told_apart() {
    let mut dialogue = Dialogue::new();
    let winner = dialogue.block();
    dialogue.wait(Duration::from_secs(5));
    let loser = dialogue.block();
    assert_eq!(dialogue.submit(&winner), Ok(Height(1)));
    assert_eq!(dialogue.submit(&winner), Err(BlockRefused::AlreadyKnown(Height(1))));
    assert_eq!(dialogue.submit(&loser), Err(BlockRefused::Stale(Height(1))));
    dialogue.mine();
    assert_eq!(dialogue.submit(&winner), Err(BlockRefused::AlreadyKnown(Height(1))));
    assert_eq!(dialogue.submit(&loser), Err(BlockRefused::Stale(Height(1))));
    let unconnected = dialogue.offer(|block| block.header.prev_blockhash = BlockHash::all_zeros());
    assert_eq!(unconnected, Err(BlockRefused::UnknownParent));
}

#[test]
fn a_header_must_be_worth_its_difficulty() {
    let mut dialogue = Dialogue::new();
    let easier = dialogue.offer(|block| block.header.bits = CompactTarget::from_consensus(0x2100_ffff));
    assert_eq!(easier, Err(BlockRefused::Difficulty));
    let harder = dialogue.offer(|block| block.header.bits = CompactTarget::from_consensus(0x2000_ffff));
    assert_eq!(harder, Err(BlockRefused::Difficulty));

    let mut block = dialogue.block();
    let target = Target::from_compact(block.header.bits);
    while target.is_met_by(&block.header.block_hash().to_byte_array()) {
        block.header.nonce += 1;
    }
    assert_eq!(dialogue.submit(&block), Err(BlockRefused::Work));
}

#[test]
fn a_header_has_a_window_of_time() {
    let mut dialogue = Dialogue::new();
    dialogue.mine();
    let min = dialogue.template().tip.min_ntime;
    assert_eq!(dialogue.offer(|block| block.header.time = min - 1), Err(BlockRefused::TimeTooOld { min }));
    assert_eq!(dialogue.offer(|block| block.header.time = min), Ok(Height(2)));
    let max = dialogue.now.unix.to_secs() + 7200;
    assert_eq!(dialogue.offer(|block| block.header.time = max + 1), Err(BlockRefused::TimeTooNew { max }));
    assert_eq!(dialogue.offer(|block| block.header.time = max), Ok(Height(3)));
}

#[test]
fn versions_of_before_the_soft_forks_are_refused_and_rolled_ones_are_not() {
    let mut dialogue = Dialogue::new();
    for version in [3, 0, -1, i32::MIN] {
        let answer = dialogue.offer(|block| block.header.version = Version::from_consensus(version));
        assert_eq!(answer, Err(BlockRefused::Version(version)));
    }
    assert!(dialogue.offer(|block| block.header.version = Version::from_consensus(0x3fff_ffff)).is_ok());
}

#[test]
fn a_block_has_one_coinbase_in_first_place() {
    let mut dialogue = Dialogue::new();
    let none = dialogue.offer(|block| {
        block.txdata.remove(0);
        block.header.merkle_root = block.compute_merkle_root().unwrap();
    });
    assert_eq!(none, Err(BlockRefused::NoCoinbase));
    let two = dialogue.offer_sealed(|block| {
        let second = block.txdata[0].clone();
        block.txdata.push(second);
    });
    assert_eq!(two, Err(BlockRefused::ManyCoinbases));
    assert_eq!(dialogue.offer(|block| block.txdata.clear()), Err(BlockRefused::MerkleRoot));
}

#[test]
fn the_coinbase_begins_with_the_height_and_has_a_sane_length() {
    let mut dialogue = Dialogue::new();
    let mut with = |script_sig: &[u8]| {
        dialogue
            .offer_sealed(|block| block.txdata[0].input[0].script_sig = ScriptBuf::from(script_sig.to_vec()))
    };
    assert_eq!(with(&[0x51]), Err(BlockRefused::CoinbaseLength(1)));
    assert_eq!(with(&[0x51; 101]), Err(BlockRefused::CoinbaseLength(101)));
    assert_eq!(with(&[0x52, 0x51]), Err(BlockRefused::CoinbaseHeight(Height(1))));
    assert_eq!(with(&[0x01, 0x01, 0x51]), Err(BlockRefused::CoinbaseHeight(Height(1))), "one has an opcode");
    assert_eq!(with(&[0x51; 100]), Ok(Height(1)));
    for _ in 2..=16 {
        dialogue.mine();
    }
    let mut with = |script_sig: &[u8]| {
        dialogue
            .offer_sealed(|block| block.txdata[0].input[0].script_sig = ScriptBuf::from(script_sig.to_vec()))
    };
    assert_eq!(with(&[0x02, 0x11, 0x00]), Err(BlockRefused::CoinbaseHeight(Height(17))), "not minimal");
    assert_eq!(with(&[0x01, 0x11]), Ok(Height(17)));
}

#[test]
fn the_coinbase_must_be_final() {
    let mut dialogue = Dialogue::new();
    let mut with = |lock_time: u32, sequence: Sequence| {
        dialogue.offer_sealed(|block| {
            block.txdata[0].lock_time = absolute::LockTime::from_consensus(lock_time);
            block.txdata[0].input[0].sequence = sequence;
        })
    };
    assert_eq!(with(1, Sequence::ZERO), Err(BlockRefused::NotFinal), "its own height is not below it");
    assert_eq!(
        with(1_700_000_000, Sequence::ZERO),
        Err(BlockRefused::NotFinal),
        "the median is not below itself"
    );
    assert_eq!(with(u32::MAX, Sequence::MAX), Ok(Height(1)), "nobody looks at the locktime");
    assert_eq!(with(1, Sequence::ZERO), Ok(Height(2)));
    assert_eq!(with(1_699_999_999, Sequence::ZERO), Ok(Height(3)));
}

#[test]
fn the_header_commits_to_the_transactions_and_their_order() {
    let mut dialogue = Dialogue::new();
    assert_eq!(dialogue.offer(|block| block.txdata.swap(1, 2)), Err(BlockRefused::MerkleRoot));
    assert_eq!(dialogue.offer(|block| drop(block.txdata.pop())), Err(BlockRefused::MerkleRoot));
    assert_eq!(
        dialogue.offer_sealed(|block| block.txdata.swap(1, 2)),
        Ok(Height(1)),
        "the order is the miner's"
    );
}

#[test]
fn the_coinbase_commits_to_the_witnesses() {
    let mut dialogue = Dialogue::new();
    for witness in [&[][..], &[&[0; 31][..]], &[&[0; 32], &[0; 32]]] {
        let answer =
            dialogue.offer_sealed(|block| block.txdata[0].input[0].witness = Witness::from_slice(witness));
        assert_eq!(answer, Err(BlockRefused::WitnessReservedValue));
    }
    let other_reserve =
        dialogue.offer(|block| block.txdata[0].input[0].witness = Witness::from_slice(&[[1; 32]]));
    assert_eq!(other_reserve, Err(BlockRefused::WitnessCommitment));
    let none = dialogue.offer_sealed(|block| block.txdata[0].output.truncate(1));
    assert_eq!(none, Err(BlockRefused::UnexpectedWitness));
    let later_one_counts = dialogue.offer_sealed(|block| {
        let false_one = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], &[3; 32]].concat();
        let output = TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(false_one) };
        block.txdata[0].output.push(output);
    });
    assert_eq!(later_one_counts, Err(BlockRefused::WitnessCommitment));
    assert_eq!(dialogue.offer(|_| {}), Ok(Height(1)));
}

#[test]
fn a_block_without_witnesses_needs_no_commitment() {
    let mut dialogue = Dialogue::new();
    let answer = dialogue.offer_sealed(|block| {
        block.txdata.retain(|tx| tx.is_coinbase() || tx.input[0].witness.is_empty());
        assert_eq!(block.txdata.len(), 2, "one in four is of the old kind");
        block.txdata[0].input[0].witness.clear();
        block.txdata[0].output.truncate(1);
        block.txdata[0].output[0].value = Amount::from_btc(50.0).unwrap();
    });
    assert_eq!(answer, Ok(Height(1)));
}

#[test]
fn transactions_are_those_of_the_templates_each_once() {
    let mut dialogue = Dialogue::new();
    let txid = |block: &Block, index: usize| block.txdata[index].compute_txid();
    let mut changed = None;
    let answer = dialogue.offer_sealed(|block| {
        block.txdata[2].output[0].value += Amount::ONE_SAT;
        changed = Some(txid(block, 2));
    });
    assert_eq!(answer, Err(BlockRefused::UnknownTransaction(changed.unwrap())));

    let mut same_txid = None;
    let answer = dialogue.offer_sealed(|block| {
        let before = txid(block, 2);
        block.txdata[2].input[0].witness = Witness::from_slice(&[[1; 64]]);
        assert_eq!(txid(block, 2), before);
        same_txid = Some(before);
    });
    assert_eq!(answer, Err(BlockRefused::UnknownTransaction(same_txid.unwrap())), "the witness counts too");

    // With an even number of transactions a repeated end leaves the root of a tree as it was.
    let mut repeated = None;
    let answer = dialogue.offer(|block| {
        assert_eq!(block.txdata.len(), 5);
        let last = block.txdata[4].clone();
        repeated = Some(last.compute_txid());
        block.txdata.push(last);
    });
    assert_eq!(answer, Err(BlockRefused::RepeatedTransaction(repeated.unwrap())));

    let mined = dialogue.mine();
    let again = dialogue.offer_sealed(|block| block.txdata.push(mined.txdata[1].clone()));
    assert_eq!(again, Err(BlockRefused::UnknownTransaction(txid(&mined, 1))), "what is mined is spent");
}

#[test]
fn the_coinbase_creates_no_more_than_subsidy_and_the_fees_of_its_block() {
    let mut dialogue = Dialogue::new();
    let template = dialogue.template();
    let one_more = dialogue.offer_sealed(|block| block.txdata[0].output[0].value += Amount::ONE_SAT);
    assert_eq!(one_more, Err(BlockRefused::CoinbaseValue { allowed: template.coinbase_value }));
    let all_there_is = dialogue.offer_sealed(|block| {
        let output = TxOut { value: Amount::from_sat(u64::MAX), script_pubkey: ScriptBuf::new() };
        block.txdata[0].output.push(output);
    });
    assert_eq!(all_there_is, Err(BlockRefused::CoinbaseValue { allowed: template.coinbase_value }));
    let fees_of_what_is_left_out = dialogue.offer_sealed(|block| drop(block.txdata.pop()));
    assert!(matches!(
        fees_of_what_is_left_out,
        Err(BlockRefused::CoinbaseValue { allowed }) if allowed < template.coinbase_value
    ));
    let less = dialogue.offer_sealed(|block| block.txdata[0].output[0].value -= Amount::ONE_SAT);
    assert_eq!(less, Ok(Height(1)));
}

#[test]
fn a_block_is_not_too_heavy() {
    let mut dialogue = Dialogue::new();
    let heavy = dialogue.offer_sealed(|block| {
        block.txdata[0].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 1_000_000]);
    });
    assert!(matches!(heavy, Err(BlockRefused::Weight(4_000_001..))), "{heavy:?}");
    let light = dialogue.offer_sealed(|block| {
        block.txdata[0].output[0].script_pubkey = ScriptBuf::from_bytes(vec![0x51; 990_000]);
    });
    assert_eq!(light, Ok(Height(1)));
}

#[test]
fn a_block_has_not_too_many_signature_operations() {
    let mut dialogue = Dialogue::new();
    let own = u64::from(dialogue.template().sigops);
    let mut with = |count: usize| {
        dialogue.offer_sealed(|block| {
            let checks =
                (0..count).fold(Builder::new(), |script, _| script.push_opcode(opcodes::all::OP_CHECKSIG));
            block.txdata[0].output[0].script_pubkey = checks.into_script();
        })
    };
    let most = usize::try_from((80_000 - own) / 4).unwrap();
    assert_eq!(with(most + 1), Err(BlockRefused::Sigops(own + 4 * (most as u64 + 1))));
    assert_eq!(with(most), Ok(Height(1)));
}

#[test]
fn no_flipped_bit_passes() {
    let pace = Pace::Fixed(Work::from_hashes(1 << 16));
    let mut dialogue =
        Dialogue::with(DevnetConfig { pace, transactions: 4, arrival: Duration::ZERO, ..easy() });
    let bytes = serialize(&dialogue.block());
    for position in 0..bytes.len() {
        let mut spoiled = bytes.clone();
        spoiled[position] ^= 1 << (position % 8);
        let answer = dialogue.devnet.submit_block(&spoiled, dialogue.now);
        assert!(answer.is_err(), "byte {position} may be anything");
    }
    assert_eq!(dialogue.devnet.submit_block(&bytes, dialogue.now), Ok(Height(1)));
}

#[test]
fn difficulty_follows_the_miners() {
    let pace = Pace::Interval { first: Work::from_hashes(1024), block: Duration::from_secs(4) };
    let mut dialogue = Dialogue::with(DevnetConfig { pace, ..easy() });
    for _ in 0..3 {
        dialogue.wait(Duration::from_secs(1));
        let before = dialogue.template().tip.target;
        dialogue.mine();
        assert!(dialogue.template().tip.target < before, "blocks came too soon");
    }
    dialogue.wait(Duration::from_secs(600));
    let before = dialogue.template().tip.target;
    dialogue.mine();
    assert!(dialogue.template().tip.target > before, "a block came too late");
}
