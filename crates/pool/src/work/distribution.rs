//! Who a job pays: the payouts of its coinbase.

use adit_channel::{Percent, Reward};
use adit_units::Sats;
use bitcoin::opcodes::all::{OP_CHECKSIG, OP_NOP};
use bitcoin::{Amount, ScriptBuf, TxOut};

/// Length of the longest script that an address can stand for, in bytes (BIP 141).
const ADDRESS_SCRIPT_LEN: usize = 42;

/// Who the blocks of a channel pay, beside what the template wants.
///
/// Channels with the same distribution work on the same jobs; two addresses of one script are the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Distribution {
    /// The pool, all.
    Pooled,
    /// The miner, all.
    Solo(ScriptBuf),
    /// The pool its part without the fraction of a satoshi, then the miner the rest.
    Split {
        /// The pool's part.
        pool: Percent,
        /// Where the rest goes.
        miner: ScriptBuf,
    },
}

impl Distribution {
    /// How blocks pay on a channel with that reward.
    #[must_use]
    pub fn of(reward: &Reward) -> Self {
        match reward {
            Reward::Pooled | Reward::Donated => Self::Pooled,
            Reward::Solo(miner) => Self::Solo(miner.script_pubkey()),
            Reward::Split { pool, miner } => Self::Split { pool: *pool, miner: miner.script_pubkey() },
        }
    }

    /// What pays out `value` exactly, where the pool's part goes to `pool_script`.
    pub(super) fn payouts(&self, value: Sats, pool_script: &ScriptBuf) -> Vec<TxOut> {
        match self {
            Self::Pooled => vec![payout(value, pool_script)],
            Self::Solo(miner) => vec![payout(value, miner)],
            Self::Split { pool, miner } => {
                let part = pool.of(value);
                let rest = value.checked_sub(part).expect("a part of an amount is no more than the amount");
                vec![payout(part, pool_script), payout(rest, miner)]
            }
        }
    }

    /// Payouts of `value` that take as much room in a block, and as many signature operations, as any distribution can.
    pub(super) fn widest(value: Sats, pool_script: &ScriptBuf) -> Vec<TxOut> {
        let mut script = vec![OP_NOP.to_u8(); ADDRESS_SCRIPT_LEN];
        // The oldest kind of address has one such operation, the others have none.
        script.splice(..1, [OP_CHECKSIG.to_u8()]);
        vec![payout(value, pool_script), payout(Sats::ZERO, &ScriptBuf::from_bytes(script))]
    }
}

fn payout(value: Sats, script: &ScriptBuf) -> TxOut {
    TxOut { value: Amount::from_sat(value.to_sats()), script_pubkey: script.clone() }
}

#[cfg(test)]
mod tests {
    use bitcoin::consensus::serialize;
    use bitcoin::hashes::Hash as _;
    use bitcoin::{PubkeyHash, ScriptHash, WitnessProgram, WitnessVersion};
    use proptest::prelude::*;

    use super::*;

    fn pool_script() -> ScriptBuf {
        ScriptBuf::from_bytes(vec![0x51])
    }

    /// Scripts of every kind of address.
    fn addresses() -> Vec<ScriptBuf> {
        let segwit = |version, len| {
            let program = WitnessProgram::new(version, &vec![7; len]).unwrap();
            ScriptBuf::new_witness_program(&program)
        };
        vec![
            ScriptBuf::new_p2pkh(&PubkeyHash::all_zeros()),
            ScriptBuf::new_p2sh(&ScriptHash::all_zeros()),
            segwit(WitnessVersion::V0, 20),
            segwit(WitnessVersion::V0, 32),
            segwit(WitnessVersion::V1, 32),
            segwit(WitnessVersion::V16, 40),
        ]
    }

    fn any_distribution() -> impl Strategy<Value = Distribution> {
        let miner = || prop::sample::select(addresses());
        prop_oneof![
            Just(Distribution::Pooled),
            miner().prop_map(Distribution::Solo),
            (1_u8..=99, miner()).prop_map(|(percent, miner)| Distribution::Split {
                pool: Percent::new(percent).unwrap(),
                miner,
            }),
        ]
    }

    #[test]
    fn the_pool_comes_first_and_the_miner_gets_the_odd_satoshi() {
        let miner = addresses().pop().unwrap();
        let split = Distribution::Split { pool: Percent::new(33).unwrap(), miner: miner.clone() };
        let payouts = split.payouts(Sats::from_sats(101), &pool_script());
        let paid: Vec<_> =
            payouts.iter().map(|payout| (payout.value.to_sat(), &payout.script_pubkey)).collect();
        assert_eq!(paid, [(33, &pool_script()), (68, &miner)]);
    }

    proptest! {
        #[test]
        fn no_satoshi_is_lost_or_made(value in any::<u64>(), distribution in any_distribution()) {
            let payouts = distribution.payouts(Sats::from_sats(value), &pool_script());
            let paid: u128 = payouts.iter().map(|payout| u128::from(payout.value.to_sat())).sum();
            prop_assert_eq!(paid, u128::from(value));
        }

        #[test]
        fn none_is_wider_than_the_widest(value in any::<u64>(), distribution in any_distribution()) {
            let room = |payouts: &[TxOut]| {
                let bytes: usize = payouts.iter().map(|payout| serialize(payout).len()).sum();
                let sigops: usize = payouts.iter().map(|payout| payout.script_pubkey.count_sigops_legacy()).sum();
                (bytes, sigops)
            };
            let value = Sats::from_sats(value);
            let (bytes, sigops) = room(&distribution.payouts(value, &pool_script()));
            let (most_bytes, most_sigops) = room(&Distribution::widest(value, &pool_script()));
            prop_assert!(bytes <= most_bytes && sigops <= most_sigops);
        }
    }
}
