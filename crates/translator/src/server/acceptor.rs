//! Takes machines in, one task each.

use std::sync::Arc;

use adit_net::{Draining, Listener};

use super::tls::Tls;
use super::{Hall, peer};

/// Accepts until the program ends.
pub(super) async fn run(hall: Arc<Hall>, mut listener: Listener, tls: Option<Tls>, mut draining: Draining) {
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
