//! The rules of the chain, as a node checks them.

use std::collections::HashSet;

use adit_share::{MAX_BLOCK_SIGOPS, MAX_BLOCK_WEIGHT, MAX_SCRIPT_SIG_LEN, MIN_SCRIPT_SIG_LEN, Tip};
use adit_units::{Sats, Target, UnixTime};
use bitcoin::block::Header;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{Block, Transaction};

use super::mempool::Mempool;
use super::refusal::BlockRefused;

/// How far a header's time may be ahead of the clock, in seconds (consensus).
const MAX_FUTURE_SECS: u32 = 7200;
/// The oldest block version that is still allowed (BIP 65).
const MIN_BLOCK_VERSION: i32 = 4;
/// How a witness commitment's script begins (BIP 141).
const COMMITMENT_START: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// Checks that somebody has solved the block.
pub(super) fn work(header: &Header) -> Result<(), BlockRefused> {
    let target = Target::from_compact(header.bits);
    if target.is_met_by(&header.block_hash().to_byte_array()) { Ok(()) } else { Err(BlockRefused::Work) }
}

/// Checks version and time; that the header stands on `tip` with the right difficulty is known.
pub(super) fn header(header: &Header, tip: &Tip, now: UnixTime) -> Result<(), BlockRefused> {
    if header.time < tip.min_ntime {
        return Err(BlockRefused::TimeTooOld { min: tip.min_ntime });
    }
    let max = now.to_secs().saturating_add(MAX_FUTURE_SECS);
    if header.time > max {
        return Err(BlockRefused::TimeTooNew { max });
    }
    match header.version.to_consensus() {
        MIN_BLOCK_VERSION.. => Ok(()),
        outdated => Err(BlockRefused::Version(outdated)),
    }
}

/// Checks the transactions.
pub(super) fn body(block: &Block, tip: &Tip, subsidy: Sats, mempool: &Mempool) -> Result<(), BlockRefused> {
    if !block.check_merkle_root() {
        return Err(BlockRefused::MerkleRoot);
    }
    let Some((coinbase, others)) = block.txdata.split_first().filter(|(first, _)| first.is_coinbase()) else {
        return Err(BlockRefused::NoCoinbase);
    };
    if others.iter().any(Transaction::is_coinbase) {
        return Err(BlockRefused::ManyCoinbases);
    }
    check_coinbase_input(coinbase, tip)?;
    check_commitment(block, coinbase)?;
    let (fees, sigops) = check_known(others, mempool)?;
    check_value(coinbase, subsidy, fees)?;

    let weight = block.weight().to_wu();
    if weight > MAX_BLOCK_WEIGHT {
        return Err(BlockRefused::Weight(weight));
    }
    let sigops = sigops + coinbase.total_sigop_cost(|_| None) as u64;
    if sigops > MAX_BLOCK_SIGOPS {
        return Err(BlockRefused::Sigops(sigops));
    }
    Ok(())
}

/// Checks the coinbase's input script and that its locktime is reached.
fn check_coinbase_input(coinbase: &Transaction, tip: &Tip) -> Result<(), BlockRefused> {
    let script_sig = coinbase.input.first().map(|input| input.script_sig.as_bytes()).unwrap_or_default();
    if !(MIN_SCRIPT_SIG_LEN..=MAX_SCRIPT_SIG_LEN).contains(&script_sig.len()) {
        return Err(BlockRefused::CoinbaseLength(script_sig.len()));
    }
    let height = Builder::new().push_int(i64::from(tip.height.0)).into_script();
    if !script_sig.starts_with(height.as_bytes()) {
        return Err(BlockRefused::CoinbaseHeight(tip.height));
    }
    let ignored = coinbase.input.iter().all(|input| input.sequence.is_final());
    // A locktime counts as reached below the block's height, or below the median time past (BIP 113).
    let bound =
        if coinbase.lock_time.is_block_height() { tip.height.0 } else { tip.min_ntime.saturating_sub(1) };
    if ignored || coinbase.lock_time.to_consensus_u32() < bound {
        Ok(())
    } else {
        Err(BlockRefused::NotFinal)
    }
}

/// Checks that the coinbase commits to every witness (BIP 141).
fn check_commitment(block: &Block, coinbase: &Transaction) -> Result<(), BlockRefused> {
    let commitment = coinbase.output.iter().rev().find_map(|output| {
        let hash = output.script_pubkey.as_bytes().strip_prefix(&COMMITMENT_START)?;
        hash.get(..32)
    });
    let Some(commitment) = commitment else {
        let witness = block.txdata.iter().flat_map(|tx| &tx.input).any(|input| !input.witness.is_empty());
        return if witness { Err(BlockRefused::UnexpectedWitness) } else { Ok(()) };
    };
    let mut witness = coinbase.input.iter().flat_map(|input| input.witness.iter());
    let (Some(reserved), None) = (witness.next().filter(|item| item.len() == 32), witness.next()) else {
        return Err(BlockRefused::WitnessReservedValue);
    };
    let root = block.witness_root().ok_or(BlockRefused::WitnessCommitment)?;
    if Block::compute_witness_commitment(&root, reserved).as_byte_array() != commitment {
        return Err(BlockRefused::WitnessCommitment);
    }
    Ok(())
}

/// Checks that each transaction was offered, witness included, and is there once; gives their fees and signature operations.
fn check_known(others: &[Transaction], mempool: &Mempool) -> Result<(Sats, u64), BlockRefused> {
    let offered = mempool.by_wtxid();
    let mut seen = HashSet::new();
    let (mut fees, mut sigops) = (Sats::ZERO, 0);
    for transaction in others {
        let (txid, wtxid) = (transaction.compute_txid(), transaction.compute_wtxid());
        let entry = offered.get(&wtxid).ok_or(BlockRefused::UnknownTransaction(txid))?;
        if !seen.insert(wtxid) {
            return Err(BlockRefused::RepeatedTransaction(txid));
        }
        fees = fees.checked_add(entry.fee).expect("a full mempool pays less than all money");
        sigops += u64::from(entry.sigops);
    }
    Ok((fees, sigops))
}

/// Checks that the coinbase creates no more than subsidy and fees.
fn check_value(coinbase: &Transaction, subsidy: Sats, fees: Sats) -> Result<(), BlockRefused> {
    let allowed = subsidy.checked_add(fees).expect("subsidy and fees are less than all money");
    let created = coinbase.output.iter().map(|output| Sats::from_sats(output.value.to_sat()));
    match Sats::checked_sum(created) {
        Some(created) if created <= allowed => Ok(()),
        Some(_) | None => Err(BlockRefused::CoinbaseValue { allowed }),
    }
}
