//! One client's connection: its handshake, its session, and its orderly end.

use core::time::Duration;
use std::sync::Arc;

use adit_net::{
    Accepted, Clock, Connection, Draining, HANDSHAKE_PATIENCE, Intake, Io, IoError, Permit, QueueError, Timer,
};
use adit_transport::{FrameQueue, OpenError};
use tokio::sync::watch;
use tokio::time::timeout;

use super::Hall;
use super::vigil::{News, Vigil};
use crate::tdp::{Offers, Session, SessionEnd};

/// How long a client that is sent away has to take its leave.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// A queue of frames that has held more than this gives its memory back.
const FRAMES_KEPT: usize = 16 * 1024;

/// Reads of what had arrived when the end began.
const LAST_READS: usize = 8;

/// One client.
struct Client {
    hall: Arc<Hall>,
    number: u64,
    permit: Permit,
    connection: Connection,
    session: Session,
    offers: watch::Receiver<Arc<Offers>>,
    vigil: Vigil,
    timer: Timer,
    draining: Draining,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the server shuts down")]
    Shutdown,
    #[error("the node is away or hangs, so there is nothing good to mine on")]
    NodeAway,
    #[error(transparent)]
    Session(#[from] SessionEnd),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Serves an admitted client from handshake to end.
pub(super) async fn serve(accepted: Accepted, hall: Arc<Hall>, mut draining: Draining) {
    let Accepted { stream, peer, at, permit } = accepted;
    let handshake =
        hall.lane.respond(stream, Arc::clone(&hall.identity), at + HANDSHAKE_PATIENCE, hall.outbox);
    let shaken = tokio::select! {
        biased;
        () = draining.begun() => return,
        shaken = handshake => shaken,
    };
    let connection = match shaken {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%peer, %error, "handshake failed"),
    };
    let number = hall.next_connection();
    tracing::debug!(connection = number, %peer, "connected");
    let mut offers = hall.offers.clone();
    let session = Session::new(number, Arc::clone(&offers.borrow_and_update()), Clock.now());
    let timer = Timer::default();
    let vigil = hall.vigil.clone();
    let mut client = Client { hall, number, permit, connection, session, offers, vigil, timer, draining };
    let end = client.run().await;
    if matches!(end, End::Shutdown | End::NodeAway) {
        client.take_what_came().await;
    }
    client.part(&end).await;
}

impl Client {
    /// Serves the client until there is a reason to end.
    async fn run(&mut self) -> End {
        loop {
            let step = match self.take_frames().await {
                Ok(()) => self.step().await,
                Err(end) => Err(end),
            };
            if let Err(end) = step {
                return end;
            }
        }
    }

    /// Waits for the next thing to do, and does it.
    async fn step(&mut self) -> Result<(), End> {
        self.timer.set(self.session.poll_timeout());
        // A client that lags behind is not sent every template, only the newest once it has caught up.
        let congested = self.connection.is_congested();
        let intake = if congested { Intake::Paused } else { Intake::Open };
        let awaits_pulse = self.session.awaits_pulse();
        let Self { connection, offers, vigil, timer, draining, .. } = self;
        tokio::select! {
            biased;
            () = draining.begun() => return Err(End::Shutdown),
            news = vigil.news(awaits_pulse) => match news {
                News::NodeAway => return Err(End::NodeAway),
                News::Pulse => self.session.handle_pulse(),
            },
            Ok(()) = offers.changed(), if !congested => {
                let newest = Arc::clone(&self.offers.borrow_and_update());
                self.session.handle_offers(newest, Clock.now())?;
            }
            () = timer.fired() => self.session.handle_timeout(Clock.now())?,
            done = connection.io(intake) => match done? {
                Io::Read(_) | Io::Written => {}
            },
        }
        self.settle()
    }

    /// Hands whole frames that have come to the session, as long as the client takes the answers: each request of a few bytes can have a
    /// block for an answer.
    async fn take_frames(&mut self) -> Result<(), End> {
        while !self.connection.is_congested() {
            let (session, connection) = (&mut self.session, &mut self.connection);
            let Some(frame) = connection.next_frame(|header| session.frame_limit(header))? else {
                return Ok(());
            };
            let awaited_pulse = session.awaits_pulse();
            let handled = session.handle_frame(frame, Clock.now());
            if !awaited_pulse && session.awaits_pulse() {
                self.vigil.ask();
            }
            while let Some(block) = self.session.poll_block() {
                // The receiver is there until the last client is gone.
                let _ = self.hall.blocks.send(block).await;
            }
            handled?;
            self.settle()?;
        }
        Ok(())
    }

    /// Takes the bytes that had arrived when the end began: a block may be among them.
    async fn take_what_came(&mut self) {
        for _ in 0..LAST_READS {
            // No patience at all still asks the socket once.
            let Ok(Ok(_)) = timeout(Duration::ZERO, self.connection.read()).await else { return };
            if self.take_frames().await.is_err() {
                return;
            }
        }
    }

    /// Moves what the session has to say to the outbox.
    fn settle(&mut self) -> Result<(), End> {
        if self.session.is_established() {
            self.permit.establish();
        }
        let frames = self.session.frames();
        let is_long = frames.len_bytes() > FRAMES_KEPT;
        self.connection.queue(frames)?;
        if is_long {
            *frames = FrameQueue::default();
        }
        Ok(())
    }

    /// Ends the connection; a client that was sent away is told why.
    async fn part(mut self, end: &End) {
        tracing::debug!(connection = self.number, reason = %end, "disconnected");
        let listens =
            matches!(end, End::Shutdown | End::NodeAway | End::Session(_) | End::Io(IoError::Closed));
        if listens && self.connection.queue(self.session.frames()).is_ok() {
            self.connection.close(CLOSE_PATIENCE).await;
        }
    }
}
