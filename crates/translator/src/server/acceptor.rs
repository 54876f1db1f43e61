//! Takes machines in, one task each.

use std::sync::Arc;

use adit_net::{Draining, Listener};

use super::{Hall, peer};

/// Accepts until the program ends.
pub(super) async fn run(hall: Arc<Hall>, mut listener: Listener, mut draining: Draining) {
    loop {
        tokio::select! {
            biased;
            () = draining.begun() => return,
            accepted = listener.accept() => {
                let task = peer::serve(Arc::clone(&hall), accepted, draining.clone());
                tokio::spawn(task);
            }
        }
    }
}
