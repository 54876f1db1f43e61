//! One client's connection: its handshake, its session, and its orderly end.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use adit_ledger::SavedBlock;
use adit_net::{
    Accepted, Clock, Connection, Draining, HANDSHAKE_PATIENCE, Intake, Io, IoError, OsRng, Permit,
    QueueError, Timer,
};
use adit_share::Tip;
use adit_transport::{FrameQueue, OpenError};
use adit_units::ConnectionId;
use bitcoin::hashes::Hash as _;
use tokio::sync::{mpsc, watch};

use super::Hall;
use super::judge::{Answer, Asked, Question};
use super::reload::Settings;
use crate::server::limits::Budget;
use crate::server::{Counters, Disconnect, Request, Session, Solved};

/// How long a client that is sent away has to take its leave.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// A queue of frames that has held more than this gives its memory back.
const FRAMES_KEPT: usize = 16 * 1024;

/// Answers that may wait for a connection: it asks one question at a time, and some answers may come when it has given up.
const ANSWERS_MAX: usize = 16;

/// One client.
struct Peer {
    hall: Arc<Hall>,
    id: ConnectionId,
    permit: Permit,
    connection: Connection,
    session: Session,
    settings: watch::Receiver<Settings>,
    tips: watch::Receiver<Option<Tip>>,
    answers: mpsc::Receiver<Answer>,
    reply: mpsc::Sender<Answer>,
    counted: Counters,
    timer: Timer,
    draining: Draining,
}

/// Why a connection ends.
#[derive(Debug, thiserror::Error)]
enum End {
    #[error("the server shuts down")]
    Shutdown,
    #[error(transparent)]
    Session(#[from] Disconnect),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// Serves an admitted client from handshake to end; `budget` is the share of its address.
pub(super) async fn serve(accepted: Accepted, hall: Arc<Hall>, budget: Budget, mut draining: Draining) {
    let Accepted { stream, peer, at, permit } = accepted;
    let mut settings = hall.settings.clone();
    let identity = Arc::clone(&settings.borrow().identity);
    let handshake = hall.lane.respond(stream, identity, at + HANDSHAKE_PATIENCE, hall.outbox);
    let shaken = tokio::select! {
        biased;
        () = draining.begun() => return,
        shaken = handshake => shaken,
    };
    let connection = match shaken {
        Ok(connection) => connection,
        Err(error) => return tracing::debug!(%peer, %error, "handshake failed"),
    };
    let id = ConnectionId(hall.last_connection.fetch_add(1, Relaxed).wrapping_add(1));
    tracing::debug!(connection = id.0, %peer, "declarator client connected");
    let (rules, key) = (Arc::clone(&settings.borrow_and_update().rules), Arc::clone(&hall.key));
    let session = Session::new(rules, key, id, budget, Clock.now());
    let (reply, answers) = mpsc::channel(ANSWERS_MAX);
    let tips = hall.tips.clone();
    let (counted, timer) = (Counters::default(), Timer::default());
    let mut peer = Peer {
        hall,
        id,
        permit,
        connection,
        session,
        settings,
        tips,
        answers,
        reply,
        counted,
        timer,
        draining,
    };
    let end = peer.run().await;
    peer.part(&end).await;
}

impl Peer {
    /// Serves the client until there is a reason to end.
    async fn run(&mut self) -> End {
        self.take_tip();
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
        let intake = if self.connection.is_congested() { Intake::Paused } else { Intake::Open };
        let Self { connection, settings, tips, answers, timer, draining, .. } = self;
        tokio::select! {
            biased;
            () = draining.begun() => return Err(End::Shutdown),
            Ok(()) = settings.changed() => self.take_rules(),
            Ok(()) = tips.changed() => self.take_tip(),
            Some(answer) = answers.recv() => self.take_answer(answer),
            () = timer.fired() => self.session.handle_timeout(Clock.now(), &mut OsRng)?,
            done = connection.io(intake) => match done? {
                Io::Read(_) | Io::Written => {}
            },
        }
        self.settle().await
    }

    fn take_tip(&mut self) {
        let tip = *self.tips.borrow_and_update();
        if let Some(tip) = tip {
            self.session.handle_tip(tip, Clock.now());
        }
    }

    fn take_rules(&mut self) {
        let rules = Arc::clone(&self.settings.borrow_and_update().rules);
        self.session.handle_rules(rules);
    }

    fn take_answer(&mut self, answer: Answer) {
        match answer {
            Answer::Resolved { id, found } => self.session.handle_resolved(id, found, Clock.now()),
            Answer::Checked { id, judgement } => {
                self.session.handle_checked(id, judgement, Clock.now(), &mut OsRng)
            }
        }
    }

    /// Hands whole frames that have come to the session, as long as the client takes the answers.
    async fn take_frames(&mut self) -> Result<(), End> {
        while !self.connection.is_congested() {
            let (session, connection) = (&mut self.session, &mut self.connection);
            let Some(frame) = connection.next_frame(|header| session.frame_limit(header))? else {
                return Ok(());
            };
            let handled = session.handle_frame(frame, Clock.now(), &mut OsRng);
            self.settle().await?;
            handled?;
        }
        Ok(())
    }

    /// Sees to what the session wants: blocks first, then questions, then what it has to say.
    async fn settle(&mut self) -> Result<(), End> {
        while let Some(request) = self.session.poll_request() {
            match request {
                Request::Propagate(solved) => self.propagate(solved).await,
                Request::Keep(job) => self.hall.declared.keep(self.permit.network(), job),
                Request::Resolve { id, wtxids } => self.ask(id, Asked::Transactions(wtxids)).await,
                Request::Check { id, account, declaration, block, hold } => {
                    self.ask(id, Asked::Block { account, declaration, block, hold }).await
                }
            }
        }
        if self.session.is_established() {
            self.permit.establish();
        }
        self.hall.gauges.add(&mut self.counted, self.session.counters());
        let frames = self.session.frames();
        let is_long = frames.len_bytes() > FRAMES_KEPT;
        self.connection.queue(frames)?;
        if is_long {
            *frames = FrameQueue::default();
        }
        Ok(())
    }

    async fn propagate(&self, solved: Solved) {
        let Solved { hash, height, bytes, user } = solved;
        let saved = SavedBlock { hash: hash.to_byte_array(), height, bytes };
        self.hall.blocks.take(saved, user, None).await;
    }

    async fn ask(&self, id: u64, asked: Asked) {
        let (from, reply) = (self.permit.network(), self.reply.clone());
        // Where nobody answers any more, the session gives up by itself.
        let _ = self.hall.questions.send(Question { id, from, asked, reply }).await;
    }

    /// Ends the connection; a client that was sent away is told why.
    async fn part(mut self, end: &End) {
        tracing::debug!(connection = self.id.0, reason = %end, "declarator client disconnected");
        let listens = matches!(end, End::Shutdown | End::Session(_) | End::Io(IoError::Closed));
        if listens && self.connection.queue(self.session.frames()).is_ok() {
            self.connection.close(CLOSE_PATIENCE).await;
        }
    }
}
