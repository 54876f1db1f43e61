//! A small honest chain in memory: it makes templates, checks every block as a node would, and extends or refuses.
//!
//! It needs no network, no disk and no other program, so it serves the demonstration, the tests of every role and the simulator. It
//! is strict where a real node is strict: work, time, merkle root, witness commitment, height, value, and that each transaction
//! is one that it has offered. What it leaves out is what a pool has no part in: scripts, signatures and coins.

mod chain;
mod mempool;
mod pace;
mod refusal;
mod runner;
mod verify;

#[cfg(test)]
mod tests;

use core::time::Duration;

use adit_share::{RawTransaction, Template, TemplateParts, Tip, witness_commitment};
use adit_units::{Height, Now, Sats, TemplateId, Work};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{Amount, BlockHash, TxOut, Wtxid, consensus};

pub use pace::Pace;
pub use refusal::BlockRefused;
pub(crate) use runner::Runner;

use crate::Fate;
use chain::Chain;
use mempool::Mempool;

/// The version of the blocks, before miners roll its free bits (BIP 9).
const BLOCK_VERSION: u32 = 0x2000_0000;
/// How many blocks pass between two halvings of the subsidy, as on the main network.
const HALVING_INTERVAL: u32 = 210_000;

/// How a [`Devnet`] behaves.
#[derive(Clone, Debug)]
pub struct DevnetConfig {
    /// Makes the chain and its transactions unlike those of any other run.
    pub seed: [u8; 32],
    /// How hard the blocks are.
    pub pace: Pace,
    /// How many transactions wait at the start, at most [`Self::MAX_TRANSACTIONS`].
    pub transactions: usize,
    /// The time between two new transactions; zero for none.
    pub arrival: Duration,
    /// How often the node behind [`crate::Node::devnet`] makes a new template on the same tip.
    pub refresh: Duration,
}

impl DevnetConfig {
    /// How many transactions can wait to be mined; more are turned away.
    pub const MAX_TRANSACTIONS: usize = 2000;

    /// A chain that a processor mines in a few seconds a block, with about two new transactions a second.
    #[must_use]
    pub const fn new(seed: [u8; 32]) -> Self {
        Self {
            seed,
            pace: Pace::Interval { first: Work::from_hashes(1 << 20), block: Duration::from_secs(4) },
            transactions: 40,
            arrival: Duration::from_millis(500),
            refresh: Duration::from_secs(5),
        }
    }
}

/// The chain and what waits to be mined on it. Time is an argument; equal arguments give equal chains.
#[derive(Debug)]
pub struct Devnet {
    pace: Pace,
    chain: Chain,
    mempool: Mempool,
    templates: u64,
}

impl Devnet {
    /// A chain of one block, which nobody mined, at `now`.
    #[must_use]
    pub fn new(config: &DevnetConfig, now: Now) -> Self {
        let genesis = BlockHash::from_raw_hash(sha256d::Hash::hash(&config.seed));
        Self {
            pace: config.pace,
            chain: Chain::new(genesis, config.pace.first(), now),
            mempool: Mempool::new(config, now.monotonic),
            templates: 0,
        }
    }

    /// The height of the last block.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.chain.height()
    }

    /// The hash of the last block.
    #[must_use]
    pub fn best_block(&self) -> BlockHash {
        self.chain.tip().hash
    }

    /// What has become of the block with that hash.
    #[must_use]
    pub fn fate(&self, hash: &BlockHash) -> Fate {
        match self.chain.height_of(hash) {
            // Only blocks on the tip are ever taken, so all that are known are in the chain.
            Some(height) => Fate::InChain { confirmations: self.height().0 - height.0 + 1 },
            None => Fate::Unknown,
        }
    }

    /// What the next block must satisfy.
    #[must_use]
    pub fn tip(&self) -> Tip {
        Tip::new(
            self.best_block(),
            Height(self.height().0 + 1),
            self.chain.next_target().to_compact(),
            self.chain.median_time_past() + 1,
        )
    }

    /// A template with every transaction that has come until `now`.
    ///
    /// # Panics
    ///
    /// If the chain contradicts itself, which its tests rule out.
    #[must_use]
    pub fn template(&mut self, now: Now) -> Template {
        self.mempool.arrive(now.monotonic);
        self.templates += 1;
        let tip = self.tip();
        let subsidy = Sats::subsidy(tip.height, HALVING_INTERVAL);
        let fees = self.mempool.fees();
        let transactions = self.mempool.transactions();
        let commitment = TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&transactions) };
        Template::new(TemplateParts {
            id: TemplateId(self.templates),
            tip,
            version: BLOCK_VERSION,
            time: now.unix.to_secs(),
            coinbase_value: subsidy.checked_add(fees).expect("a full mempool pays less than all money"),
            subsidy,
            fees,
            sigops: self.mempool.sigops(),
            transactions,
            required_outputs: vec![commitment],
        })
        .expect("the value and the commitment were computed from the same transactions")
    }

    /// Checks a block, consensus-serialised, and puts it at the end of the chain; gives its height.
    ///
    /// # Errors
    ///
    /// The first rule that the block breaks; the chain stays as it was.
    pub fn submit_block(&mut self, bytes: &[u8], now: Now) -> Result<Height, BlockRefused> {
        let (block, tip) = (decoded(bytes)?, self.tip());
        let hash = block.block_hash();
        if let Some(height) = self.chain.height_of(&hash) {
            return Err(BlockRefused::AlreadyKnown(height));
        }
        self.check_place(&block, &tip)?;
        verify::work(&block.header)?;
        self.verify(&block, &tip, now)?;

        self.mempool.remove(&block.txdata);
        self.chain.extend(hash, block.header.time, tip.target.to_work(), now.monotonic);
        self.chain.set_next_work(self.pace.next(&self.chain));
        Ok(tip.height)
    }

    /// Checks a block that nobody has solved yet, consensus-serialised.
    ///
    /// # Errors
    ///
    /// The first rule that the block would break if it were solved.
    pub fn check_block(&self, bytes: &[u8], now: Now) -> Result<(), BlockRefused> {
        let (block, tip) = (decoded(bytes)?, self.tip());
        self.check_place(&block, &tip)?;
        self.verify(&block, &tip, now)
    }

    /// The transactions with these hashes that wait to be mined.
    #[must_use]
    pub fn transactions(&self, wtxids: &[Wtxid]) -> Vec<Option<RawTransaction>> {
        self.mempool.find(wtxids)
    }

    /// Checks that the block stands on the tip and is as hard as it must be there.
    fn check_place(&self, block: &bitcoin::Block, tip: &Tip) -> Result<(), BlockRefused> {
        if block.header.prev_blockhash != tip.prev_hash {
            let parent = self.chain.height_of(&block.header.prev_blockhash);
            return Err(parent
                .map_or(BlockRefused::UnknownParent, |height| BlockRefused::Stale(Height(height.0 + 1))));
        }
        if block.header.bits != tip.nbits {
            return Err(BlockRefused::Difficulty);
        }
        Ok(())
    }

    fn verify(&self, block: &bitcoin::Block, tip: &Tip, now: Now) -> Result<(), BlockRefused> {
        verify::header(&block.header, tip, now.unix)?;
        verify::body(block, tip, Sats::subsidy(tip.height, HALVING_INTERVAL), &self.mempool)
    }
}

fn decoded(bytes: &[u8]) -> Result<bitcoin::Block, BlockRefused> {
    consensus::deserialize(bytes).map_err(|error| BlockRefused::Encoding(error.to_string()))
}
