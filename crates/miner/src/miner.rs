//! The miner: a client on a connection, a crew that hashes, and patience when the connection is lost.

use core::convert::Infallible;
use core::future::pending;
use core::time::Duration;
use std::sync::{Arc, Mutex, PoisonError};

use adit_net::{
    Clock, ConnectError, Connection, Intake, IoError, OsRng, QueueError, connect, connect_unauthenticated,
};
use adit_transport::OpenError;
use adit_units::{Hashrate, Target};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{sleep, sleep_until};

use crate::Url;
use crate::backoff::Backoff;
use crate::client::{Client, ClientConfig, ClientError, Event};
use crate::config::{ConfigError, MinerConfig};
use crate::crew::{Board, Crew, measure};
use crate::stats::{Speedometer, Stats, rate};
use crate::work::Solution;

/// Shares that may wait to be sent; the crew pauses when there are more.
const SOLUTIONS_MAX: usize = 256;

/// How long to hash on one thread to learn the speed to tell the server.
const MEASURING: Duration = Duration::from_millis(200);

/// How long a goodbye may take.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How long a connection must last to be worth coming back to at once; a server that sends its clients in circles does not reach it.
const WORTHWHILE: Duration = Duration::from_secs(30);

/// An extranonce of four bytes is more than a processor can roll.
const MIN_EXTRANONCE_SIZE: u16 = 4;

/// Starts miners.
#[derive(Clone, Copy, Debug)]
pub struct Miner;

/// Why a miner has given up.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// The server has refused what the miner is configured to ask for, before ever having accepted it.
    #[error(transparent)]
    Refused(Arc<ClientError>),
    /// There is no key to know the server by.
    #[error(transparent)]
    Unauthenticated(Arc<ConnectError>),
    /// The system does not give a thread to hash on.
    #[error("cannot start a hashing thread: {0}")]
    NoThread(Arc<std::io::Error>),
    /// A hashing thread has panicked.
    #[error("a hashing thread has failed; this is a bug")]
    ThreadLost,
}

/// A miner that runs. Dropping it stops it without saying goodbye to the server.
#[derive(Debug)]
pub struct MinerHandle {
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    failure: watch::Receiver<Option<Failure>>,
    task: JoinHandle<()>,
}

/// What the task writes and the handle reads.
#[derive(Default)]
struct Shared {
    stats: Mutex<Stats>,
    board: Arc<Board>,
}

impl core::fmt::Debug for Shared {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    fn update(&self, change: impl FnOnce(&mut Stats)) {
        // Counters are whole at any time, whoever panicked while they were locked.
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

impl Miner {
    /// Starts to mine, and goes on until it is stopped or fails.
    ///
    /// # Errors
    ///
    /// If the config cannot work, whatever the server says.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    pub fn start(config: MinerConfig) -> Result<MinerHandle, ConfigError> {
        config.check()?;
        let shared = Arc::<Shared>::default();
        let (stop, stopped) = watch::channel(false);
        let (failed, failure) = watch::channel(None);
        let task = tokio::spawn(run(config, Arc::clone(&shared), stopped, Arc::new(failed)));
        Ok(MinerHandle { shared, stop, failure, task })
    }
}

impl MinerHandle {
    /// The miner at this moment.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        self.shared.update(|current| stats = current.clone());
        stats.hashes = self.shared.board.hashes();
        stats
    }

    /// Waits until the miner has given up, and says why; waits for ever while all is well.
    pub async fn failure(&self) -> Failure {
        let mut failure = self.failure.clone();
        if let Ok(failure) = failure.wait_for(Option::is_some).await
            && let Some(failure) = failure.clone()
        {
            return failure;
        }
        pending().await
    }

    /// Closes the channel, sends what is left to send and ends the threads.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.task).await {
            tracing::warn!(%error, "the miner's task failed");
        }
    }
}

impl Drop for MinerHandle {
    fn drop(&mut self) {
        self.shared.board.close();
        self.task.abort();
    }
}

/// Why a connection ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(transparent)]
    Io(#[from] IoError),
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Queue(#[from] QueueError),
    #[error("the server sends its clients to {0}")]
    Redirected(Url),
}

/// The miner's task, from the first thread to the last.
async fn run(
    config: MinerConfig,
    shared: Arc<Shared>,
    stopped: watch::Receiver<bool>,
    failed: Arc<watch::Sender<Option<Failure>>>,
) {
    let (found, solutions) = mpsc::channel(SOLUTIONS_MAX);
    let threads = config.thread_count();
    let alarm = {
        let failed = Arc::clone(&failed);
        move || drop(failed.send_replace(Some(Failure::ThreadLost)))
    };
    let crew = match Crew::hire(&shared.board, threads, &found, alarm) {
        Ok(crew) => crew,
        Err(error) => {
            failed.send_replace(Some(Failure::NoThread(Arc::new(error))));
            return;
        }
    };
    shared.update(|stats| stats.threads = threads.get());
    let nominal_hashrate = match config.nominal_hashrate {
        Some(hashrate) => hashrate,
        None => measured(threads.get()).await,
    };
    let mut shift =
        Shift { config, nominal_hashrate, shared, solutions, stopped, backoff: Backoff::default() };
    let shared = Arc::clone(&shift.shared);
    tokio::select! {
        outcome = shift.mine() => {
            if let Err(failure) = outcome {
                failed.send_replace(Some(failure));
            }
        }
        never = keep_speed(&shared) => match never {},
    }
    // A thread that waits to hand over a share must not wait for ever.
    drop(shift);
    let dismissed = spawn_blocking(move || crew.dismiss()).await;
    dismissed.expect("dismissing waits for threads and does not panic");
}

/// The speed of so many threads, from a moment of hashing on one.
async fn measured(threads: usize) -> Hashrate {
    let measurement = spawn_blocking(|| measure(MEASURING)).await;
    let (hashes, time) = measurement.expect("measuring hashes and does not panic");
    let threads = u64::try_from(threads).unwrap_or(u64::MAX);
    rate(hashes.saturating_mul(threads), time)
}

async fn keep_speed(shared: &Shared) -> Infallible {
    let mut speed = Speedometer::default();
    loop {
        speed.read(shared.board.hashes(), Clock.monotonic());
        shared.update(|stats| stats.hashrate = speed.hashrate());
        sleep(Speedometer::INTERVAL).await;
    }
}

async fn told_to_stop(stopped: &mut watch::Receiver<bool>) {
    // Without a handle nobody wants the miner any more.
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

/// One connection after the other.
struct Shift {
    config: MinerConfig,
    nominal_hashrate: Hashrate,
    shared: Arc<Shared>,
    solutions: mpsc::Receiver<Solution>,
    stopped: watch::Receiver<bool>,
    backoff: Backoff,
}

impl Shift {
    /// Mines until told to stop.
    async fn mine(&mut self) -> Result<(), Failure> {
        let mut url = self.config.url.clone();
        loop {
            let began = Clock.monotonic();
            let Err(ended) = self.connection(&url).await else { return Ok(()) };
            self.shared.board.clear();
            let mut was_ever_open = false;
            self.shared.update(|stats| {
                stats.connected = false;
                stats.target = None;
                stats.last_error = Some(ended.to_string());
                was_ever_open = stats.connections > 0;
            });
            if Clock.monotonic() - began >= WORTHWHILE {
                self.backoff.reset();
            }
            tracing::debug!(server = %url, error = %ended, "not connected");
            url = match ended {
                Ended::Client(error) if error.is_refusal() && !was_ever_open => {
                    return Err(Failure::Refused(Arc::new(error)));
                }
                Ended::Connect(error @ ConnectError::Unauthenticated { .. }) => {
                    return Err(Failure::Unauthenticated(Arc::new(error)));
                }
                Ended::Redirected(url) => url,
                // Whoever was sent elsewhere and lost that server too asks at home again.
                _ => self.config.url.clone(),
            };
            tokio::select! {
                () = told_to_stop(&mut self.stopped) => return Ok(()),
                () = sleep(self.backoff.next(&mut OsRng)) => {}
            }
        }
    }

    /// Mines on one connection, until told to stop or it ends.
    async fn connection(&mut self, url: &Url) -> Result<(), Ended> {
        let mut connection = tokio::select! {
            () = told_to_stop(&mut self.stopped) => return Ok(()),
            connection = dial(url, self.config.insecure) => connection?,
        };
        let config = ClientConfig {
            host: url.host().to_owned(),
            port: url.port(),
            device: self.config.device.clone(),
            user: self.config.user.clone(),
            channel: self.config.channel,
            nominal_hashrate: self.nominal_hashrate,
            max_target: Target::MAX,
            min_extranonce_size: MIN_EXTRANONCE_SIZE,
        };
        let mut client =
            Client::new(config, Clock.monotonic()).expect("the config and the host's length were checked");
        // What was found for an earlier connection is of no use to this one.
        while self.solutions.try_recv().is_ok() {}
        let outcome = self.drive(url, &mut client, &mut connection).await;
        if matches!(outcome, Ok(()) | Err(Ended::Redirected(_))) {
            client.close();
            connection.queue(client.frames())?;
            connection.close(CLOSE_PATIENCE).await;
        }
        outcome
    }

    async fn drive(
        &mut self,
        url: &Url,
        client: &mut Client,
        connection: &mut Connection,
    ) -> Result<(), Ended> {
        loop {
            connection.queue(client.frames())?;
            let deadline = client.poll_timeout();
            tokio::select! {
                () = told_to_stop(&mut self.stopped) => return Ok(()),
                () = sleep_until(Clock.instant(deadline)) => client.handle_timeout(Clock.monotonic())?,
                Some(solution) = self.solutions.recv(), if !connection.is_congested() => {
                    self.submit(client, &solution);
                }
                io = connection.io(Intake::Open) => {
                    io?;
                    let outcome = read_frames(client, connection);
                    // What came before an error counts.
                    while let Some(event) = client.poll_event() {
                        self.handle_event(event, url)?;
                    }
                    outcome?;
                }
            }
        }
    }

    fn submit(&self, client: &mut Client, solution: &Solution) {
        match client.submit(solution) {
            Ok(sequence_number) => {
                tracing::trace!(%sequence_number, job = %solution.work.job_id, "share submitted");
                let is_block = solution.is_block();
                if is_block {
                    tracing::info!(job = %solution.work.job_id, "found a block");
                }
                self.shared.update(|stats| {
                    stats.submitted += 1;
                    stats.blocks += u64::from(is_block);
                });
            }
            Err(_) => self.shared.update(|stats| stats.outdated += 1),
        }
    }

    fn handle_event(&self, event: Event, url: &Url) -> Result<(), Ended> {
        match event {
            Event::Opened(channel) => {
                tracing::debug!(server = %url, %channel, "mining");
                self.shared.update(|stats| {
                    stats.connected = true;
                    stats.connections += 1;
                    stats.last_error = None;
                });
            }
            Event::Work(work) => {
                self.shared.update(|stats| stats.target = Some(work.target));
                self.shared.board.put_up(work);
            }
            Event::Accepted { submits, .. } => {
                self.shared.update(|stats| stats.accepted = stats.accepted.saturating_add(submits.into()));
            }
            Event::Rejected { sequence_number, code } => {
                tracing::debug!(%sequence_number, ?code, "share rejected");
                self.shared.update(|stats| stats.rejected.add(&code));
            }
            Event::Reconnect { host, port } => match url.redirected(&host, port) {
                Ok(url) => return Err(Ended::Redirected(url)),
                Err(error) => tracing::debug!(%host, port, %error, "redirection ignored"),
            },
        }
        Ok(())
    }
}

async fn dial(url: &Url, insecure: bool) -> Result<Connection, ConnectError> {
    match url.authority() {
        None if insecure => connect_unauthenticated(&url.address()).await,
        authority => connect(&url.address(), authority).await,
    }
}

fn read_frames(client: &mut Client, connection: &mut Connection) -> Result<(), Ended> {
    while let Some(frame) = connection.next_frame(|header| client.frame_limit(header))? {
        client.handle_frame(frame, Clock.monotonic())?;
    }
    Ok(())
}
