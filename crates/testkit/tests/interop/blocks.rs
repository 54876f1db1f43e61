//! What a block that the pool mined must look like in the node's chain.

use adit_units::JobTag;
use bitcoin::script::Instruction;
use bitcoin::{Block, Script, ScriptBuf};
use serde_json::json;

use crate::pool::{INSTANCE, Pool, SIGNATURE};

/// The block at `height`, once it is known that it pays the configured address in full and carries tag and signature.
pub(crate) fn assert_ours(pool: &Pool, height: u32) -> Block {
    assert_pays(pool, height, |value| vec![(pool.payout.clone(), value)])
}

/// The block at `height`, once it is known that it pays what is `due` for its value and nothing else, and carries tag and signature.
pub(crate) fn assert_pays(pool: &Pool, height: u32, due: impl Fn(u64) -> Vec<(ScriptBuf, u64)>) -> Block {
    let block = pool.node.block_at(height).expect("the chain is that high");
    let coinbase = block.coinbase().expect("every block has one");
    let stats =
        pool.node.call("getblockstats", &json!([height, ["subsidy", "totalfee"]])).expect("the node counts");
    let value =
        stats["subsidy"].as_u64().expect("in satoshis") + stats["totalfee"].as_u64().expect("in satoshis");
    let outputs = coinbase.output.iter().filter(|output| output.value.to_sat() > 0);
    let paid: Vec<_> = outputs.map(|output| (output.script_pubkey.clone(), output.value.to_sat())).collect();
    assert_eq!(paid, due(value), "height {height}");
    assert_marked(&coinbase.input[0].script_sig, height);
    block
}

/// The coinbase input holds the height, a job tag of this server, the pool's text and the extranonce.
fn assert_marked(script: &Script, height: u32) {
    let pushes: Vec<Vec<u8>> =
        script.instructions().skip(1).map(|part| push(part.expect("whole pushes"))).collect();
    let [tag, signature, extranonce] = pushes.as_slice() else {
        panic!("height {height}: the coinbase input should hold three pushes behind the height: {script}")
    };
    let tag = JobTag::from_bytes(tag.as_slice().try_into().expect("a job tag has ten bytes"));
    assert_eq!(tag.instance, INSTANCE, "height {height}");
    assert_eq!(signature, SIGNATURE.as_bytes(), "height {height}");
    assert_eq!(extranonce.len(), 20, "height {height}");
}

fn push(instruction: Instruction<'_>) -> Vec<u8> {
    match instruction {
        Instruction::PushBytes(bytes) => bytes.as_bytes().to_vec(),
        Instruction::Op(operation) => panic!("{operation} in a coinbase input of ours"),
    }
}
