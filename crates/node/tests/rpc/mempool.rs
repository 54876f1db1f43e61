//! Transactions that only a node's mempool has.

use std::time::Duration;

use adit_node::Node;
use adit_share::RawTransaction;
use bitcoin::Wtxid;
use bitcoin::hashes::Hash as _;

use crate::fake::{FakeNode, Trick};

/// What is read of a transaction, by its method.
const ENTRIES: &str = "getmempoolentry in a batch";

fn wtxids(fake: &FakeNode) -> Vec<Wtxid> {
    fake.template().transactions.iter().map(RawTransaction::wtxid).collect()
}

async fn found(node: &Node, wtxids: &[Wtxid]) -> Vec<Option<Wtxid>> {
    let found = node.transactions(wtxids).await;
    found.iter().map(|found| found.as_ref().map(RawTransaction::wtxid)).collect()
}

/// On the main network a description of all that waits is longer than what is read of an answer, and none came.
#[tokio::test]
async fn a_mempool_is_searched_that_is_too_large_to_be_described_in_one_answer() {
    let fake = FakeNode::start().await;
    // Templates have everything that waits, and are asked first.
    fake.trick("getblocktemplate", Trick::Fault(-10, "Downloading blocks..."));
    fake.wait(Duration::from_secs(10));
    let node = Node::rpc(&fake.config());
    let mut asked = wtxids(&fake);
    assert!(asked.len() > 2);
    asked.reverse();
    asked.push(Wtxid::from_byte_array([9; 32]));
    let (unknown, known) = asked.split_last().unwrap();
    let wanted: Vec<_> = known.iter().copied().map(Some).chain([None]).collect();
    assert_eq!(found(&node, &asked).await, wanted, "{unknown}");
    let described = fake.calls(ENTRIES);
    assert_eq!(described, known.len());

    // Two seconds later the node is asked of what is new, and of nothing twice.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    fake.wait(Duration::from_secs(10));
    let all = wtxids(&fake);
    assert!(all.len() > known.len());
    let wanted: Vec<_> = all.iter().copied().map(Some).collect();
    assert_eq!(found(&node, &all).await, wanted);
    assert_eq!(fake.calls(ENTRIES), all.len());

    // More than are asked of in one batch; what is found ends the search.
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    fake.wait(Duration::from_secs(3_600));
    let all = wtxids(&fake);
    assert!(all.len() > 600, "{}", all.len());
    let wanted: Vec<_> = all.iter().copied().map(Some).collect();
    assert_eq!(found(&node, &all).await, wanted);
    assert_eq!(fake.calls(ENTRIES), all.len());
}
