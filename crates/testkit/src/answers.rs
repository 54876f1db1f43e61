//! What a node on regtest answers over JSON-RPC before its first block, for tests that play one.

/// The hash of the genesis block.
pub const GENESIS: &str = "0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206";

/// The first template on it, which holds no transactions: the answer to `getblocktemplate`.
pub const TEMPLATE: &str = r#"{"version":536870912,"rules":["csv","!segwit","taproot"],
    "previousblockhash":"0f9188f13cb7b2c71f2a335e3a4fc328bf5beb436012afca590b1a11466e2206",
    "transactions":[],"coinbaseaux":{},"coinbasevalue":5000000000,
    "target":"7fffff0000000000000000000000000000000000000000000000000000000000","mintime":1296688603,
    "mutable":["time","transactions","prevblock"],"noncerange":"00000000ffffffff","sigoplimit":80000,
    "sizelimit":4000000,"weightlimit":4000000,"curtime":1700000000,"bits":"207fffff","height":1,
    "default_witness_commitment":"6a24aa21a9ede2f61c3f71d1defd3fa999dfa36953755c690689799962b48bebd836974e8cf9"}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_template_stands_on_the_genesis_block() {
        let template: serde_json::Value = serde_json::from_str(TEMPLATE).unwrap();
        assert_eq!(template["previousblockhash"], GENESIS);
        let genesis = bitcoin::constants::genesis_block(bitcoin::Network::Regtest);
        assert_eq!(genesis.block_hash().to_string(), GENESIS);
    }
}
