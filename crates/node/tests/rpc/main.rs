//! Dialogues with a scripted node on the loopback: what our side makes of its answers, its silence and its lies.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod errors;
mod fake;
mod follow;
mod mempool;
mod several;
mod submit;
mod template;
mod zmq;

use std::sync::Arc;
use std::time::Duration;

use adit_node::{Health, Node};
use adit_share::{Template, Tip};
use bitcoin::BlockHash;
use tokio::sync::watch;
use tokio::time::timeout;

/// Longer than anything here takes, and short enough to fail while somebody looks.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits for a template that `wanted` likes.
async fn template(
    templates: &mut watch::Receiver<Option<Arc<Template>>>,
    wanted: impl Fn(&Template) -> bool,
) -> Arc<Template> {
    let found = templates.wait_for(|template| template.as_deref().is_some_and(&wanted));
    let template = timeout(PATIENCE, found).await.expect("a template comes in time").expect("the node lives");
    template.clone().expect("it was just looked at")
}

/// Waits for any template.
async fn first_template(node: &Node) -> Arc<Template> {
    template(&mut node.templates(), |_| true).await
}

/// Waits until this block is told of as the newest.
async fn tip(tips: &mut watch::Receiver<Option<Tip>>, hash: BlockHash) {
    let found = tips.wait_for(|tip| tip.is_some_and(|tip| tip.prev_hash == hash));
    timeout(PATIENCE, found).await.expect("the tip is told in time").expect("the node lives");
}

/// Waits until templates come.
async fn up(node: &Node) {
    let mut health = node.health();
    let found = health.wait_for(|health| matches!(health, Health::Up));
    timeout(PATIENCE, found).await.expect("templates come in time").expect("the node lives");
}

/// Waits until no templates come, for a reason that has `words` in it, and gives the reason.
async fn down(node: &Node, words: &str) -> String {
    let mut health = node.health();
    let reason = |health: &Health| match health {
        Health::Down(error) => error.to_string(),
        Health::Starting | Health::Up => String::new(),
    };
    let found = timeout(PATIENCE, health.wait_for(|health| reason(health).contains(words))).await;
    match found {
        Ok(found) => reason(&found.expect("the node lives")),
        Err(_) => panic!("waited for {words:?}, but the state is {:?}", node.health().borrow()),
    }
}
