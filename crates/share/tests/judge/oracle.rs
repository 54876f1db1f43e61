//! The same template and coinbase in the channels of `channels_sv2`, whose verdicts are the oracle.

use adit_share::{CoinbaseSpec, Submission, Template};
use adit_units::{JobId, Target};
use bitcoin::consensus;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use channels_sv2::extranonce_manager::ExtranonceAllocator;
use channels_sv2::server::extended::ExtendedChannel;
use channels_sv2::server::standard::StandardChannel;
use mining_sv2::{SubmitSharesExtendedOwned, SubmitSharesStandardOwned};
use template_distribution_sv2::{NewTemplateOwned, SetNewPrevHashOwned};

/// Length of the extranonce of both kinds of channel, in bytes.
const FULL_LEN: u8 = 20;

/// Length of the extranonce that an extended channel of the oracle leaves to the miner, in bytes.
pub(crate) const ROLLED_LEN: u8 = 14;

/// Shares a minute; the most the oracle remembers grows with it, and tests must not run into that.
const SHARES_PER_MINUTE: f32 = 1000.0;

/// An allocator of extranonces as a pool of the oracle has it: one byte of server, three of channel, sixteen left; of these,
/// two more are fixed so that prefixes have the length of ours.
fn allocator() -> ExtranonceAllocator {
    ExtranonceAllocator::new(vec![0x5a, 0xa5, 0x77], FULL_LEN, 1 << 24).unwrap()
}

/// An extended channel of the oracle.
pub(crate) fn extended_channel(signature: &str, version_rolling_allowed: bool) -> ExtendedChannel {
    ExtendedChannel::new_for_pool(
        1,
        "miner".to_owned(),
        allocator().allocate_extended(ROLLED_LEN.into()).unwrap(),
        bitcoin::Target::from_le_bytes([0xff; 32]),
        1.0,
        version_rolling_allowed,
        ROLLED_LEN.into(),
        10,
        SHARES_PER_MINUTE,
        pool_tag(signature),
        None,
    )
    .unwrap()
}

/// A standard channel of the oracle.
pub(crate) fn standard_channel(signature: &str) -> StandardChannel {
    StandardChannel::new_for_pool(
        1,
        "miner".to_owned(),
        allocator().allocate_standard().unwrap(),
        bitcoin::Target::from_le_bytes([0xff; 32]),
        1.0,
        10,
        SHARES_PER_MINUTE,
        pool_tag(signature),
        None,
    )
    .unwrap()
}

/// The pool's tag, which the oracle wraps into `Sv2/...//`.
fn pool_tag(signature: &str) -> String {
    signature.strip_prefix("Sv2/").and_then(|rest| rest.strip_suffix("//")).unwrap().to_owned()
}

/// What both kinds of channel can do, in the order of a pool's life.
pub(crate) trait Oracle {
    fn set_tip(&mut self, template: &Template);
    fn set_target(&mut self, target: Target);
    fn add_job(&mut self, template: &Template, spec: &CoinbaseSpec) -> JobId;
    fn extranonce_prefix(&self) -> Vec<u8>;
}

/// Both kinds of channel have the same methods, but no trait says so.
macro_rules! impl_oracle {
    ($channel:ty) => {
        impl Oracle for $channel {
            fn set_tip(&mut self, template: &Template) {
                self.on_set_new_prev_hash(set_new_prev_hash(template)).unwrap();
            }

            fn set_target(&mut self, target: Target) {
                <$channel>::set_target(self, bitcoin::Target::from_le_bytes(target.to_le_bytes())).unwrap();
            }

            fn add_job(&mut self, template: &Template, spec: &CoinbaseSpec) -> JobId {
                self.on_new_template(new_template(template, spec), spec.payouts.clone()).unwrap();
                JobId(self.get_active_job().unwrap().get_job_id())
            }

            fn extranonce_prefix(&self) -> Vec<u8> {
                self.get_extranonce_prefix().to_vec()
            }
        }
    };
}

impl_oracle!(ExtendedChannel);
impl_oracle!(StandardChannel);

/// A standard share as the oracle takes it.
pub(crate) fn standard_message(submission: &Submission<'_>) -> SubmitSharesStandardOwned {
    SubmitSharesStandardOwned {
        channel_id: submission.channel_id.0,
        sequence_number: submission.sequence_number.0,
        job_id: submission.job_id.0,
        nonce: submission.nonce,
        ntime: submission.ntime,
        version: submission.version,
    }
}

/// An extended share as the oracle takes it.
pub(crate) fn extended_message(submission: &Submission<'_>) -> SubmitSharesExtendedOwned {
    SubmitSharesExtendedOwned {
        channel_id: submission.channel_id.0,
        sequence_number: submission.sequence_number.0,
        job_id: submission.job_id.0,
        nonce: submission.nonce,
        ntime: submission.ntime,
        version: submission.version,
        extranonce: submission.extranonce.unwrap().to_vec().try_into().unwrap(),
    }
}

/// The template's tip as a template provider sends it; its time is the job's.
fn set_new_prev_hash(template: &Template) -> SetNewPrevHashOwned {
    SetNewPrevHashOwned {
        template_id: template.id.0,
        prev_hash: template.tip.prev_hash.to_byte_array().into(),
        header_timestamp: template.time,
        n_bits: template.tip.nbits.to_consensus(),
        target: template.tip.target.to_le_bytes().into(),
    }
}

/// The template as a template provider sends it. The job tag follows the height, so that both coinbases are the same.
fn new_template(template: &Template, spec: &CoinbaseSpec) -> NewTemplateOwned {
    let height = Builder::new().push_int(template.tip.height.0.into()).into_bytes();
    let tag = spec.tag.to_bytes();
    let coinbase_prefix = [&height[..], &[10], &tag].concat();
    let outputs = template.required_outputs.iter().flat_map(consensus::serialize).collect::<Vec<u8>>();
    let path: Vec<binary_sv2::U256Owned> = template.merkle_path.iter().map(|step| (*step).into()).collect();
    NewTemplateOwned {
        template_id: template.id.0,
        future_template: false,
        version: template.version,
        coinbase_tx_version: 2,
        coinbase_prefix: coinbase_prefix.try_into().unwrap(),
        coinbase_tx_input_sequence: u32::MAX,
        coinbase_tx_value_remaining: template.coinbase_value.to_sats(),
        coinbase_tx_outputs_count: template.required_outputs.len().try_into().unwrap(),
        coinbase_tx_outputs: outputs.try_into().unwrap(),
        coinbase_tx_locktime: 0,
        merkle_path: path.try_into().unwrap(),
    }
}
