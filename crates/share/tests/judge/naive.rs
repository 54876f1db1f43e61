//! The naive twin: the same verdicts from whole transactions, whole trees and whole headers of rust-bitcoin.

use std::collections::HashSet;
use std::sync::Arc;

use adit_share::{Assignment, CoinbaseSpec, Job, Reject, Seen, Submission, Template, Verdict, judge};
use adit_units::{ChannelId, Height, JobId, SequenceNumber, Target, UnixTime, Work};
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version};
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::script::{Builder, PushBytesBuf};
use bitcoin::{BlockHash, Sequence, Transaction, TxIn, TxMerkleNode, consensus, merkle_tree, transaction};
use proptest::prelude::*;

use crate::fixture::{self, TIME};

/// A channel that keeps everything whole.
struct Naive {
    template: Arc<Template>,
    spec: CoinbaseSpec,
    version_rolling_allowed: bool,
    target: Target,
    /// The channel's part of the extranonce; all of it for a standard channel.
    prefix: Vec<u8>,
    extended: bool,
    /// The headers of accepted shares.
    accepted: HashSet<BlockHash>,
}

impl Naive {
    fn judge(&mut self, share: &Submission<'_>, now: UnixTime) -> Verdict {
        let expected = self.extended.then_some(self.spec.extranonce_len - self.prefix.len());
        if share.extranonce.map(<[u8]>::len) != expected {
            return Verdict::Rejected(Reject::BadExtranonceSize);
        }
        for bit in 0..32 {
            let changed = (share.version ^ self.template.version) >> bit & 1 == 1;
            match (changed, self.version_rolling_allowed) {
                (true, false) => return Verdict::Rejected(Reject::VersionRollingNotAllowed),
                (true, true) if !(5..29).contains(&bit) => {
                    return Verdict::Rejected(Reject::InvalidNonRollableVersionBit);
                }
                (true, true) | (false, _) => (),
            }
        }
        let (ntime, earliest) = (u64::from(share.ntime), u64::from(self.template.time));
        if ntime < earliest || ntime > earliest + 7200 || ntime > now.to_millis() / 1000 + 6600 {
            return Verdict::Rejected(Reject::InvalidNtime);
        }
        self.weigh(self.header(share))
    }

    fn weigh(&mut self, header: Header) -> Verdict {
        let id = header.block_hash();
        if self.accepted.contains(&id) {
            return Verdict::Rejected(Reject::DuplicateShare);
        }
        let target = bitcoin::Target::from_le_bytes(self.target.to_le_bytes());
        let (earns, is_block) = (target.is_met_by(id), header.target().is_met_by(id));
        if earns || is_block {
            self.accepted.insert(id);
        }
        let hash = id.to_byte_array();
        let work = if earns { naive_work(target) } else { Work::ZERO };
        match (earns, is_block) {
            (_, true) => {
                Verdict::Block { work, hash, header: consensus::serialize(&header).try_into().unwrap() }
            }
            (true, false) => Verdict::Valid { work, hash },
            (false, false) => Verdict::Rejected(Reject::DifficultyTooLow),
        }
    }

    fn header(&self, share: &Submission<'_>) -> Header {
        let coinbase = self.coinbase(share).compute_txid().to_raw_hash();
        let others = self.template.transactions.iter().map(|tx| tx.txid().to_raw_hash());
        let root: sha256d::Hash = merkle_tree::calculate_root([coinbase].into_iter().chain(others)).unwrap();
        Header {
            version: Version::from_consensus(share.version.cast_signed()),
            prev_blockhash: self.template.tip.prev_hash,
            merkle_root: TxMerkleNode::from_raw_hash(root),
            time: share.ntime,
            bits: self.template.tip.nbits,
            nonce: share.nonce,
        }
    }

    fn coinbase(&self, share: &Submission<'_>) -> Transaction {
        let extranonce = [&self.prefix, share.extranonce.unwrap_or_default()].concat();
        let mut script = Builder::new().push_int(self.template.tip.height.0.into());
        for bytes in [&self.spec.tag.to_bytes(), self.spec.signature.as_bytes(), &extranonce] {
            script = script.push_slice(PushBytesBuf::try_from(bytes.to_vec()).unwrap());
        }
        Transaction {
            version: transaction::Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                script_sig: script.into_script(),
                sequence: Sequence::MAX,
                ..TxIn::default()
            }],
            output: [&self.spec.payouts[..], &self.template.required_outputs].concat(),
        }
    }
}

/// The work of a target by rust-bitcoin's own arithmetic.
fn naive_work(target: bitcoin::Target) -> Work {
    let bytes = target.to_work().to_be_bytes();
    let (high, low) = bytes.split_at(16);
    assert_eq!(high, [0; 16], "the targets here are easy");
    Work::from_hashes(u128::from_be_bytes(low.try_into().unwrap()))
}

/// What a share may differ in, each from few enough values that duplicates and faults are common.
fn share() -> impl Strategy<Value = (u32, u32, u32, Vec<u8>)> {
    let ntime = prop_oneof![
        8 => TIME..TIME + 3,
        1 => prop::sample::select(vec![0, TIME - 1, TIME + 6600, TIME + 6601, TIME + 7200, TIME + 7201, u32::MAX]),
    ];
    let version = prop_oneof![
        8 => Just(0x2000_0000),
        4 => prop::sample::select(vec![0x2000_0020, 0x3fff_ffe0]),
        1 => any::<u32>(),
    ];
    let extranonce = prop_oneof![
        8 => prop::collection::vec(0..2_u8, 20),
        1 => prop::collection::vec(any::<u8>(), 0..=32),
    ];
    (0_u32..8, ntime, version, extranonce)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn the_judge_and_its_naive_twin_agree(
        height: u32,
        transactions in 0_u32..9,
        payouts in 1_u64..4,
        extended: bool,
        prefix in prop::collection::vec(any::<u8>(), 20),
        prefix_len in 0_usize..=20,
        version_rolling_allowed: bool,
        target: u8,
        nbits in prop::sample::select(vec![0x207f_ffff, 0x2010_0000, 0x1702_0000]),
        network_ahead in 0_u32..1200,
        shares in prop::collection::vec(share(), 1..60),
    ) {
        let tip = adit_share::Tip { height: Height(height), ..fixture::tip(1, nbits) };
        let template = fixture::template(1, tip, transactions);
        let spec = fixture::spec(&template, JobId(7), payouts);
        let job = Job::new(JobId(7), &template, &spec).unwrap().with_version_rolling(version_rolling_allowed);
        let target = Target::from_le_bytes({
            let mut bytes = [0xff; 32];
            bytes[31] = target;
            bytes
        });
        let prefix = &prefix[..if extended { prefix_len } else { 20 }];
        let assignment = if extended {
            Assignment::extended(&job, target, prefix).unwrap()
        } else {
            Assignment::standard(&job, target, prefix).unwrap()
        };
        let accepted = HashSet::new();
        let prefix = prefix.to_vec();
        let mut naive =
            Naive { template, spec, version_rolling_allowed, target, prefix, extended, accepted };
        let mut seen = Seen::new([1; 16], 1000);
        let now = UnixTime::from_secs(TIME + network_ahead);
        for (number, (nonce, ntime, version, extranonce)) in (0..).zip(&shares) {
            let rolled = if extranonce.len() == 20 { &extranonce[naive.prefix.len()..] } else { extranonce };
            let submission = Submission {
                channel_id: ChannelId(1),
                sequence_number: SequenceNumber(number),
                job_id: JobId(7),
                nonce: *nonce,
                ntime: *ntime,
                version: *version,
                extranonce: (extended || extranonce.len() == 7).then_some(rolled),
                rest: &[],
            };
            seen.make_room().unwrap();
            let verdict = judge(&job, &assignment, &mut seen, &submission, now);
            prop_assert_eq!(&verdict, &naive.judge(&submission, now));
            if let Verdict::Block { header, .. } = verdict {
                let block = job.block(&naive.template, header, assignment.extranonce(&submission).as_bytes());
                prop_assert_eq!(block.check(), Ok(()));
            }
        }
        prop_assert_eq!(seen.len(), naive.accepted.len());
    }
}
