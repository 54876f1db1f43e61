//! Vectors that others made: `test-vectors/coinbases` and `test-vectors/shares`, written by a `recipe.py` in each.

use std::collections::BTreeMap;
use std::sync::Arc;

use adit_messages::error_code::SubmitSharesError;
use adit_share::{
    Assignment, Block, BlockError, CoinbaseSpec, HEADER_LEN, Job, JobParts, RawTransaction, Seen, Submission,
    Template, TemplateParts, Tip, Verdict, judge, witness_commitment,
};
use adit_units::{ChannelId, Height, JobId, JobTag, Sats, SequenceNumber, Target, TemplateId, UnixTime};
use bitcoin::block::Header;
use bitcoin::hashes::Hash as _;
use bitcoin::hex::FromHex as _;
use bitcoin::{Amount, BlockHash, CompactTarget, ScriptBuf, Transaction, TxOut, Txid, consensus};
use serde_json::Value;

fn load(file: &str) -> Vec<Value> {
    let path = format!("{}/../../test-vectors/{file}", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn text<'a>(case: &'a Value, field: &str) -> &'a str {
    case[field].as_str().unwrap_or_else(|| panic!("{field} is a text in {case}"))
}

fn bytes(case: &Value, field: &str) -> Vec<u8> {
    Vec::from_hex(text(case, field)).unwrap()
}

fn number(case: &Value, field: &str) -> u64 {
    case[field].as_u64().unwrap_or_else(|| panic!("{field} is a number in {case}"))
}

fn word(case: &Value, field: &str) -> u32 {
    number(case, field).try_into().unwrap()
}

fn path(case: &Value) -> Vec<[u8; 32]> {
    let steps = case["merkle_path"].as_array().unwrap();
    steps.iter().map(|step| <[u8; 32]>::from_hex(step.as_str().unwrap()).unwrap()).collect()
}

/// A template at this height with nothing in it.
fn empty_template(height: u32, value: Sats) -> Arc<Template> {
    let required_outputs = vec![TxOut { value: Amount::ZERO, script_pubkey: witness_commitment(&[]) }];
    let parts = TemplateParts {
        id: TemplateId(1),
        tip: Tip::new(BlockHash::all_zeros(), Height(height), CompactTarget::from_consensus(0x1702_0000), 1),
        version: 0x2000_0000,
        time: 1,
        coinbase_value: value,
        subsidy: value,
        fees: Sats::ZERO,
        sigops: 0,
        transactions: Vec::new(),
        required_outputs,
    };
    Arc::new(Template::new(parts).unwrap())
}

fn payouts(case: &Value) -> Vec<TxOut> {
    let payouts = case["payouts"].as_array().unwrap();
    let payouts = payouts.iter().map(|payout| TxOut {
        value: Amount::from_sat(number(payout, "value")),
        script_pubkey: ScriptBuf::from_bytes(bytes(payout, "script")),
    });
    payouts.collect()
}

#[test]
fn coinbases_are_written_as_defined() {
    let cases = load("coinbases/built.json");
    assert_eq!(cases.len(), 21);
    for case in &cases {
        let name = text(case, "name");
        let payouts = payouts(case);
        let value = payouts.iter().map(|output| output.value.to_sat()).sum();
        let template = empty_template(word(case, "height"), Sats::from_sats(value));
        let extranonce = bytes(case, "extranonce");
        let id = JobId(word(case, "job"));
        let spec = CoinbaseSpec {
            payouts,
            signature: text(case, "signature").to_owned(),
            tag: JobTag {
                instance: number(case, "instance").try_into().unwrap(),
                boot: word(case, "boot"),
                job: id,
            },
            extranonce_len: extranonce.len(),
        };
        let job = Job::new(id, &template, &spec).unwrap();
        assert_eq!(job.coinbase_prefix(), bytes(case, "prefix"), "{name}");
        assert_eq!(job.coinbase_suffix(), bytes(case, "suffix"), "{name}");
        let block = job.block(&template, [0; HEADER_LEN], &extranonce);
        assert_eq!(block.coinbase(), bytes(case, "in_block"), "{name}");
        // Without other transactions the merkle root is the coinbase's own hash.
        let txid: Txid = text(case, "txid").parse().unwrap();
        assert_eq!(job.merkle_root(&extranonce), Ok(txid.to_byte_array()), "{name}");
    }
}

/// A real block, as a job of its miner's pool and the share that was the block.
struct Real {
    name: String,
    header: Header,
    raw_header: Vec<u8>,
    job: Job,
    extranonce: Vec<u8>,
}

impl Real {
    fn new(case: &Value) -> Self {
        let raw_header = bytes(case, "header");
        let header: Header = consensus::deserialize(&raw_header).unwrap();
        let height = Height(word(case, "height"));
        let extranonce = bytes(case, "extranonce");
        let parts = JobParts {
            id: JobId(1),
            tip: Tip::new(header.prev_blockhash, height, header.bits, header.time),
            min_ntime: header.time,
            version: header.version.to_consensus().cast_unsigned(),
            version_rolling_allowed: false,
            coinbase_prefix: &bytes(case, "prefix"),
            coinbase_suffix: &bytes(case, "suffix"),
            extranonce_len: extranonce.len(),
            merkle_path: path(case),
        };
        let job = Job::from_parts(parts).unwrap();
        Self { name: text(case, "name").to_owned(), header, raw_header, job, extranonce }
    }

    fn share<'a>(&self, nonce: u32, extranonce: Option<&'a [u8]>) -> Submission<'a> {
        Submission {
            channel_id: ChannelId(1),
            sequence_number: SequenceNumber(1),
            job_id: JobId(1),
            nonce,
            ntime: self.header.time,
            version: self.job.version(),
            extranonce,
            rest: &[],
        }
    }

    /// Judges the share that was the block, and the one with the next nonce, which is none.
    fn judge(&self, assignment: &Assignment, extranonce: Option<&[u8]>) -> [Verdict; 2] {
        let mut seen = Seen::new([1; 16], 10);
        let nonce = self.header.nonce;
        [nonce, nonce.wrapping_add(1)].map(|nonce| {
            seen.make_room().unwrap();
            let now = UnixTime::from_secs(self.header.time);
            judge(&self.job, assignment, &mut seen, &self.share(nonce, extranonce), now)
        })
    }

    /// The block, put together again from its transactions.
    fn rebuild(&self, case: &Value) -> Option<Block> {
        let coinbase: Transaction = consensus::deserialize(&bytes(case, "in_block")).unwrap();
        let transactions = case["transactions"].as_array()?;
        let transactions: Vec<_> = transactions
            .iter()
            .map(|raw| RawTransaction::parse(Vec::from_hex(raw.as_str().unwrap()).unwrap()).unwrap())
            .collect();
        let value = Sats::from_sats(coinbase.output.iter().map(|output| output.value.to_sat()).sum());
        let parts = TemplateParts {
            id: TemplateId(1),
            tip: *self.job.tip(),
            version: self.job.version(),
            time: self.header.time,
            coinbase_value: value,
            subsidy: value,
            fees: Sats::ZERO,
            sigops: 0,
            transactions,
            required_outputs: coinbase
                .output
                .into_iter()
                .filter(|output| output.value == Amount::ZERO)
                .collect(),
        };
        let template = Arc::new(Template::new(parts).unwrap());
        assert_eq!(template.merkle_path, path(case), "{}", self.name);
        let header = self.raw_header[..].try_into().unwrap();
        Some(self.job.block(&template, header, &self.extranonce))
    }
}

#[test]
fn real_blocks_are_blocks() {
    let cases = load("coinbases/real.json");
    assert_eq!(cases.len(), 4);
    for case in &cases {
        let real = Real::new(case);
        let hash: BlockHash = text(case, "hash").parse().unwrap();
        let whole = Assignment::standard(&real.job, Target::DIFFICULTY_1, &real.extranonce).unwrap();
        assert_eq!(whole.merkle_root(), Some(&real.header.merkle_root.to_byte_array()), "{}", real.name);
        let rolled = Assignment::extended(&real.job, Target::DIFFICULTY_1, &[]).unwrap();
        for verdicts in [real.judge(&whole, None), real.judge(&rolled, Some(&real.extranonce))] {
            let [Verdict::Block { work, hash: raw, header }, next] = verdicts else {
                panic!("{} is a block, not {verdicts:?}", real.name);
            };
            assert_eq!(work, Target::DIFFICULTY_1.to_work());
            assert_eq!(BlockHash::from_byte_array(raw), hash);
            assert_eq!(header[..], real.raw_header);
            assert_eq!(next, Verdict::Rejected(adit_share::Reject::DifficultyTooLow), "{}", real.name);
        }
    }
}

#[test]
fn real_blocks_are_put_together_again() {
    let mut rebuilt = 0;
    for case in &load("coinbases/real.json") {
        let real = Real::new(case);
        let Some(block) = real.rebuild(case) else { continue };
        rebuilt += 1;
        assert_eq!(block.coinbase(), bytes(case, "in_block"), "{}", real.name);
        assert_eq!(block.hash, text(case, "hash").parse().unwrap());
        let transactions = case["transactions"].as_array().unwrap();
        let others: String = transactions.iter().map(|raw| raw.as_str().unwrap()).collect();
        let count = format!("{:02x}", transactions.len() + 1);
        let whole = [text(case, "header"), &count, text(case, "in_block"), &others].concat();
        assert_eq!(block.to_hex(), whole, "{}", real.name);
        // The first blocks are older than the rule that the coinbase carries the height (BIP 34).
        let verdict = if block.height < Height(21_111) { Err(BlockError::Height) } else { Ok(()) };
        assert_eq!(block.check(), verdict, "{}", real.name);
    }
    assert_eq!(rebuilt, 3);
}

/// A job of `judged.json` and the channel that works on it.
fn channel(case: &Value) -> (Job, Assignment) {
    let parts = &case["job"];
    let nbits = CompactTarget::from_unprefixed_hex(text(parts, "nbits")).unwrap();
    let prev_hash = BlockHash::from_byte_array(bytes(parts, "prev_hash").try_into().unwrap());
    let parts = JobParts {
        id: JobId(word(parts, "id")),
        tip: Tip::new(prev_hash, Height(1), nbits, 1),
        min_ntime: word(parts, "min_ntime"),
        version: word(parts, "version"),
        version_rolling_allowed: parts["version_rolling_allowed"].as_bool().unwrap(),
        coinbase_prefix: &bytes(parts, "coinbase_prefix"),
        coinbase_suffix: &bytes(parts, "coinbase_suffix"),
        extranonce_len: number(parts, "extranonce_len").try_into().unwrap(),
        merkle_path: path(parts),
    };
    let job = Job::from_parts(parts).unwrap();
    let mut target = bytes(case, "target");
    target.reverse();
    let target = Target::from_le_bytes(target.try_into().unwrap());
    let extranonce = bytes(case, "extranonce");
    let assignment = match text(case, "kind") {
        "extended" => Assignment::extended(&job, target, &extranonce),
        "standard" => Assignment::standard(&job, target, &extranonce),
        kind => panic!("there is no {kind} channel"),
    };
    (job, assignment.unwrap())
}

/// The verdict as the vectors write it: its name, the hash as nodes print it, the work.
fn written(verdict: &Verdict) -> (&'static str, Option<String>, String) {
    let print = |hash: &[u8; 32]| Some(BlockHash::from_byte_array(*hash).to_string());
    match verdict {
        Verdict::Valid { work, hash } => ("valid", print(hash), work.to_string()),
        Verdict::Block { work, hash, .. } => ("block", print(hash), work.to_string()),
        Verdict::Rejected(reject) => (SubmitSharesError::from(*reject).as_str(), None, "0".to_owned()),
    }
}

#[test]
fn shares_get_the_verdicts_of_the_recipe() {
    let mut counts = BTreeMap::new();
    for case in &load("shares/judged.json") {
        let (job, assignment) = channel(case);
        let mut seen = Seen::new([1; 16], 1000);
        for share in case["shares"].as_array().unwrap() {
            let payload = bytes(share, "payload");
            let submission = match assignment.merkle_root() {
                None => Submission::parse_extended(&payload),
                Some(_) => Submission::parse_standard(&payload),
            };
            seen.make_room().unwrap();
            let now = UnixTime::from_secs(word(share, "now"));
            let verdict = judge(&job, &assignment, &mut seen, &submission.unwrap(), now);
            let hash = share["hash"].as_str().map(str::to_owned);
            let expected = (text(share, "verdict"), hash, text(share, "work").to_owned());
            assert_eq!(written(&verdict), expected, "{}: {share}", case["name"]);
            *counts.entry(expected.0.to_owned()).or_insert(0) += 1;
        }
    }
    let all = [
        "bad-extranonce-size",
        "block",
        "difficulty-too-low",
        "duplicate-share",
        "invalid-non-rollable-version-bit",
        "invalid-share",
        "valid",
        "version-rolling-not-allowed",
    ];
    assert!(counts.keys().eq(all), "{counts:?}");
}
