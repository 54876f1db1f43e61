//! What becomes of a submitted share: makes a job, looks for a share and for a block, and has those and some bad ones judged.
//!
//! Run it with `cargo run -p adit-examples --bin judge_share`. A pool gets the template from a node and the payloads out of encrypted frames.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "an example speaks to the terminal")]

use std::sync::Arc;

use adit_share::{
    Assignment, CoinbaseSpec, FULL_EXTRANONCE_LEN, Job, Seen, Submission, Template, TemplateParts, Tip,
    Verdict, judge, witness_commitment,
};
use adit_units::{Height, JobId, JobTag, Sats, Target, TemplateId, UnixTime, Work};
use anyhow::{Context, Result};
use bitcoin::hashes::Hash;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, TxOut};

/// Everybody's clock, in seconds since 1970.
const NOW: u32 = 1_800_000_000;

fn main() -> Result<()> {
    let template = Arc::new(template()?);
    let mut channel = Channel::new(&template)?;

    let share = channel.search(&template, |verdict| matches!(verdict, Verdict::Valid { .. }))?;
    println!("the same again    {:?}", channel.judge(&share)?);
    println!("a minute early    {:?}", channel.judge(&payload(1, NOW - 60))?);
    if let Err(error) = channel.judge(&[1, 2, 3]) {
        println!("a short message   {error}");
    }
    let _block = channel.search(&template, |verdict| matches!(verdict, Verdict::Block { .. }))?;
    Ok(())
}

/// What a node offers for the next block; this one has no transactions, and about 65 000 hashes find it.
fn template() -> Result<Template> {
    let height = Height(900_000);
    let subsidy = Sats::subsidy(height, 210_000);
    let nbits = CompactTarget::from_consensus(0x1f00_ffff);
    let parts = TemplateParts {
        id: TemplateId(1),
        tip: Tip::new(BlockHash::all_zeros(), height, nbits, NOW - 3600),
        version: 0x2000_0000,
        time: NOW,
        coinbase_value: subsidy,
        subsidy,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs: vec![TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&[]) }],
    };
    Ok(Template::new(parts)?)
}

/// One miner's channel on a pool.
struct Channel {
    /// Shared by all channels.
    job: Arc<Job>,
    /// What the job is to this channel: its target and its part of the extranonce.
    assignment: Assignment,
    /// The shares that have earned.
    seen: Seen,
    next_nonce: u32,
}

impl Channel {
    fn new(template: &Template) -> Result<Self> {
        let id = JobId(1);
        let payout = TxOut {
            value: Amount::from_sat(template.coinbase_value.to_sats()),
            script_pubkey: ScriptBuf::from_bytes([&[0, 20][..], &[7; 20]].concat()),
        };
        let spec = CoinbaseSpec {
            payouts: vec![payout],
            signature: "/example/".to_owned(),
            tag: JobTag { instance: 1, boot: 1, job: id },
            extranonce_len: FULL_EXTRANONCE_LEN,
        };
        let job = Arc::new(Job::new(id, template, &spec)?);
        let target = Target::from_work(Work::from_hashes(1000));
        let assignment = Assignment::extended(&job, target, &[7, 0, 0, 0, 1, 0])?;
        // The key is secret and random where miners are not to be trusted.
        Ok(Self { job, assignment, seen: Seen::new([0; 16], 1000), next_nonce: 0 })
    }

    fn judge(&mut self, payload: &[u8]) -> Result<Verdict> {
        self.seen.make_room()?;
        let share = Submission::parse_extended(payload)?;
        Ok(judge(&self.job, &self.assignment, &mut self.seen, &share, UnixTime::from_secs(NOW)))
    }

    /// Submits one nonce after the other until the verdict is as wanted; a miner would submit only what it knows to be good.
    fn search(&mut self, template: &Arc<Template>, wanted: fn(&Verdict) -> bool) -> Result<Vec<u8>> {
        loop {
            let nonce = self.next_nonce;
            self.next_nonce = nonce.checked_add(1).context("no nonce was good")?;
            let payload = payload(nonce, NOW);
            let verdict = self.judge(&payload)?;
            if !wanted(&verdict) {
                continue;
            }
            match verdict {
                Verdict::Block { header, .. } => {
                    let extranonce = self.assignment.extranonce(&Submission::parse_extended(&payload)?);
                    let block = self.job.block(template, header, extranonce.as_bytes());
                    block.check()?;
                    println!("nonce {nonce:<12}block {} at height {}", block.hash, block.height);
                    println!("for submitblock   {}", block.to_hex());
                }
                Verdict::Valid { work, .. } => println!("nonce {nonce:<12}valid, worth {work} hashes"),
                Verdict::Rejected(reject) => println!("nonce {nonce:<12}{reject}"),
            }
            return Ok(payload);
        }
    }
}

/// The payload of a `SubmitSharesExtended` (spec 5.3.12): six numbers, then fourteen bytes of extranonce behind their length.
fn payload(nonce: u32, ntime: u32) -> Vec<u8> {
    let (channel, sequence_number, job, version) = (1, nonce, 1, 0x2000_0000);
    let mut payload = [channel, sequence_number, job, nonce, ntime, version].map(u32::to_le_bytes).concat();
    payload.push(14);
    payload.extend_from_slice(&[0; 14]);
    payload
}
