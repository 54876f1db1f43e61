//! Takes machines in, one task each.

use std::sync::Arc;

use adit_net::{Draining, Listener};

use super::tls::Tls;
use super::{Hall, peer};

/// Accepts until the program ends. `draining` comes first and so is dropped last: whoever waits for the end finds the address free.
pub(super) async fn run(mut draining: Draining, mut listener: Listener, tls: Option<Tls>, hall: Arc<Hall>) {
    loop {
        tokio::select! {
            biased;
            () = draining.begun() => return,
            accepted = listener.accept() => {
                let (hall, draining) = (Arc::clone(&hall), draining.clone());
                match tls.clone() {
                    None => drop(tokio::spawn(peer::serve(hall, accepted, draining))),
                    Some(tls) => drop(tokio::spawn(peer::serve_over_tls(hall, tls, accepted, draining))),
                }
            }
        }
    }
}
