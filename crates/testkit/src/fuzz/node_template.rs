//! Any answer to `getblocktemplate`.

use adit_node::{CoinbaseReserve, read_template};
use adit_share::{MAX_BLOCK_SIGOPS, MAX_BLOCK_WEIGHT};
use adit_units::TemplateId;
use bitcoin::{Network, ScriptBuf};

use crate::mining;

/// Reads the bytes as an answer; what is taken must keep its promises: no satoshi too many, and room for a coinbase.
///
/// # Panics
///
/// If a promise is broken.
pub fn run(bytes: &[u8]) {
    let reserve = CoinbaseReserve::default();
    for network in [Network::Regtest, Network::Signet] {
        let Ok(read) = read_template(bytes, TemplateId(1), network, reserve) else { continue };
        let template = read.template;
        assert_eq!(template.subsidy.checked_add(template.fees), Some(template.coinbase_value));
        assert!(template.time >= template.tip.min_ntime);
        assert!(template.transactions.is_empty() || template.weight + reserve.weight <= MAX_BLOCK_WEIGHT);
        assert!(
            template.transactions.is_empty()
                || u64::from(template.sigops) + reserve.sigops <= MAX_BLOCK_SIGOPS
        );
        let job = mining::job(&template, ScriptBuf::new());
        assert_eq!(job.merkle_path(), template.merkle_path);
    }
}
