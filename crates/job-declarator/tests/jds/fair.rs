//! One client's flood holds up nobody.

use adit_job_declarator::server::CHECKS_AT_ONCE;

use crate::client::{Client, Job, Said};
use crate::slow_node::SlowNode;
use crate::stage::{Stage, eventually};

/// How many clients flood the server from one address.
const FLOOD: u8 = 12;

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_from_one_address_holds_up_a_calm_client_by_one_judgement() {
    let (slow, node) = SlowNode::start().await;
    let stage = Stage::start(node);
    let template = stage.template(|_| true).await;
    let mut flood = Vec::new();
    for number in 0..FLOOD {
        let mut client = Client::connect_from([127, 0, 0, 2], &stage).await;
        let token = client.token().await;
        client.say(Job::new(&template, &[b'f', b'l', b'o', number]).declaration(1, &token)).await;
        flood.push(client);
    }
    slow.asked(CHECKS_AT_ONCE).await;
    let mut calm = Client::connect(&stage).await;
    let token = calm.token().await;
    calm.say(Job::new(&template, b"calm").declaration(1, &token)).await;
    let waiting = usize::from(FLOOD) - CHECKS_AT_ONCE + 1;
    eventually(|| stage.jds.metrics().waiting >= waiting).await;
    assert_eq!(slow.count(), CHECKS_AT_ONCE, "no more are asked at once");
    // Each judgement lets one more be asked for: one of the flood's and the calm one's, whichever comes first.
    for more in 1..=2 {
        slow.judge(1);
        slow.asked(CHECKS_AT_ONCE + more).await;
    }
    // These are for those that are under way now, in their order.
    slow.judge(CHECKS_AT_ONCE);
    assert!(matches!(calm.hear().await, Some(Said::Accepted(1, _))));
    assert!(slow.count() <= 2 * CHECKS_AT_ONCE + 2, "the flood still waits");
    slow.judge(usize::from(FLOOD));
    for client in &mut flood {
        assert!(matches!(client.hear().await, Some(Said::Accepted(1, _))));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_job_is_judged_once() {
    let (slow, node) = SlowNode::start().await;
    let stage = Stage::start(node);
    let template = stage.template(|_| true).await;
    slow.judge(1);
    for number in 0..5_u8 {
        let mut client = Client::connect_from([127, 0, 0, 1 + number], &stage).await;
        let token = client.token().await;
        client.say(Job::new(&template, b"same").declaration(1, &token)).await;
        assert!(matches!(client.hear().await, Some(Said::Accepted(1, _))));
    }
    assert_eq!(slow.count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_of_clients_that_had_gone_were_held_by_nobody_and_without_end() {
    let (slow, node) = SlowNode::start().await;
    let stage = Stage::start(node);
    let template = stage.template(|_| true).await;
    let metrics = || stage.jds.metrics();
    for number in 0..FLOOD {
        let mut client = Client::connect(&stage).await;
        let token = client.token().await;
        let held = metrics().held_bytes;
        client.say(Job::new(&template, &[b'g', b'o', b'n', number]).declaration(1, &token)).await;
        let asked = usize::from(number).min(CHECKS_AT_ONCE - 1) + 1;
        let waiting = usize::from(number) + 1 - asked;
        eventually(|| slow.count() == asked && metrics().waiting == waiting).await;
        drop(client);
        eventually(|| metrics().connections == 0).await;
        assert!(metrics().held_bytes > held, "the block is held beyond its connection");
    }
    slow.judge(CHECKS_AT_ONCE);
    eventually(|| metrics().waiting == 0 && metrics().held_bytes == 0).await;
    assert_eq!(slow.count(), CHECKS_AT_ONCE, "nobody wants to know about the others");
}
