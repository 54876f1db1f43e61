//! The calls that a node has not answered yet; a connection is closed only after them.
//!
//! Bitcoin Core can crash over a call whose caller is gone.

use core::cell::Cell;
use core::time::Duration;
use std::net::Shutdown;
use std::os::unix::net::UnixStream as Socket;
use std::rc::Rc;

use bitcoin_capnp_types::capnp;
use tokio::sync::Notify;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::timeout;

/// How long a node that hangs may take to answer what it was asked, when we have left it; few sockets are open in that time.
const PATIENCE: Duration = Duration::from_secs(600);

/// A connection's socket and the calls over it. When this is dropped, the connection is closed as soon as the node has answered all of
/// them, or after ten minutes.
pub(super) struct Calls {
    /// The socket that the calls go over, to close it with: those who use it hold each other.
    socket: Option<Socket>,
    unanswered: Rc<Unanswered>,
}

#[derive(Default)]
struct Unanswered {
    count: Cell<usize>,
    /// Told when the last one is answered.
    none: Notify,
}

impl Calls {
    pub(super) fn over(socket: Socket) -> Self {
        Self { socket: Some(socket), unanswered: Rc::default() }
    }

    /// Makes a call. It goes on when nobody waits for its answer any more: to give it up would be to tell the node so.
    pub(super) fn make<T: 'static>(
        &self,
        call: impl Future<Output = capnp::Result<T>> + 'static,
    ) -> JoinHandle<capnp::Result<T>> {
        let place = Place::among(&self.unanswered);
        spawn_local(async move {
            let answer = call.await;
            drop(place);
            answer
        })
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        let (socket, unanswered) = (self.socket.take(), Rc::clone(&self.unanswered));
        spawn_local(async move {
            // A node that does not answer is left all the same.
            drop(timeout(PATIENCE, unanswered.answered()).await);
            // It may be closed already.
            drop(socket.map(|socket| socket.shutdown(Shutdown::Both)));
        });
    }
}

impl Unanswered {
    /// Ends when every call is answered.
    async fn answered(&self) {
        while self.count.get() > 0 {
            self.none.notified().await;
        }
    }
}

/// One call among those that are not answered.
struct Place(Rc<Unanswered>);

impl Place {
    fn among(unanswered: &Rc<Unanswered>) -> Self {
        unanswered.count.update(|count| count + 1);
        Self(Rc::clone(unanswered))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.update(|count| count - 1);
        if self.0.count.get() == 0 {
            self.0.none.notify_one();
        }
    }
}
