//! The two connections of one attempt at an upstream, in a task of their own.

use core::time::Duration;
use std::sync::Arc;

use adit_channel::{ExtranonceBaseError, LinkId};
use adit_net::{
    Clock, ConnectError, Connection, Intake, Io, IoError, OutboxLimits, QueueError, TaskHandle, Timer, Url,
    UrlError, at_once, connect, connect_unauthenticated,
};
use adit_pool::server::ReloadError;
use adit_transport::OpenError;
use adit_units::Hashrate;
use tokio::sync::mpsc;

use super::{Event, Proposal, Server, Share, Upstream, UpstreamConfig, UpstreamError};

/// What may wait for a link that is busy; more is let go.
const COMMANDS_MAX: usize = 8_192;

/// Bytes that may wait for a server. All transactions of a block, which a declarator server may ask for, take up to four million and some
/// seconds on a slow line; what waits behind them may be a block.
const OUTBOX_BYTES: usize = 16 << 20;

/// How long a server may take to hear the last of a link that is given up.
const CLOSE_PATIENCE: Duration = Duration::from_secs(2);

/// How often at most both servers are read from before they are judged by what they have not said; neither gains anything by talking on and on.
const CATCH_UP_READS: usize = 64;

/// What a link is told.
#[derive(Debug)]
pub(super) enum Command {
    /// The miners below have been given this job.
    Propose(Arc<Proposal>),
    /// A share was accepted below.
    Share(Share),
    /// The miners below have this speed together.
    Hashrate(Hashrate),
}

/// What a link tells.
#[derive(Debug)]
pub(super) enum Report {
    /// Something that the upstream said.
    Event(Event),
    /// It is over. What was lost with it, in shares, and why.
    Ended { lost: u64, reason: LinkError },
}

/// Why a link has ended.
#[derive(Debug, thiserror::Error)]
pub(super) enum LinkError {
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the connection to {0} is lost: {1}")]
    Io(Server, IoError),
    #[error("{0} sent what cannot be read: {1}")]
    Open(Server, OpenError),
    #[error("{0} does not read: {1}")]
    Queue(Server, QueueError),
    #[error("the upstream leaves no extranonce for the miners below: {0}")]
    Extranonce(#[from] ExtranonceBaseError),
    #[error(
        "the upstream's extranonces have {extranonce_len} bytes, which leave {limit} to a signature, and not {len}: shorten jdc.signature"
    )]
    Signature { len: usize, extranonce_len: usize, limit: usize },
    #[error("the upstream's terms make no rules: {0}")]
    Rules(#[from] ReloadError),
    #[error("no job can be made by the upstream's terms")]
    Jobless,
    #[error("it is of no more use")]
    Dismissed,
}

/// Where an attempt goes.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) pool: Url,
    pub(super) declarator: Url,
    /// Whether servers elsewhere may do without a key that they are known by.
    pub(super) insecure: bool,
    pub(super) upstream: Arc<UpstreamConfig>,
}

impl Destination {
    /// The same upstream with one of its servers elsewhere, which is told so, too.
    pub(super) fn redirected(&self, server: Server, host: &str, port: u16) -> Result<Self, UrlError> {
        let (mut to, mut upstream) = (self.clone(), UpstreamConfig::clone(&self.upstream));
        let (url, endpoint) = match server {
            Server::Pool => (&mut to.pool, &mut upstream.pool),
            Server::Declarator => (&mut to.declarator, &mut upstream.declarator),
        };
        *url = url.redirected(host, port)?;
        *endpoint = (url.host().to_owned(), url.port());
        to.upstream = Arc::new(upstream);
        Ok(to)
    }
}

/// A handle on a link, which ends when this is dropped.
pub(super) type Link = TaskHandle<Command>;

/// Begins an attempt. What it reports comes with its number.
pub(super) fn begin(id: LinkId, to: Destination, reports: mpsc::Sender<(LinkId, Report)>) -> Link {
    TaskHandle::spawn(COMMANDS_MAX, move |told| async move {
        let mut lost = 0;
        let ended = run(to, told, (id, &reports), &mut lost).await;
        let reason = ended.err().unwrap_or(LinkError::Dismissed);
        // Without a steward nobody wants to know.
        let _ = reports.send((id, Report::Ended { lost, reason })).await;
    })
}

/// Connects and serves until there is a reason to end.
async fn run(
    to: Destination,
    mut commands: mpsc::Receiver<Command>,
    (id, reports): (LinkId, &mpsc::Sender<(LinkId, Report)>),
    lost: &mut u64,
) -> Result<(), LinkError> {
    let (mut pool, mut declarator) = tokio::select! {
        biased;
        () = dismissed(&mut commands) => return Ok(()),
        both = async { tokio::try_join!(dial(&to.pool, to.insecure), dial(&to.declarator, to.insecure)) } => both?,
    };
    let mut upstream = Upstream::new(&to.upstream, Clock.monotonic());
    let mut timer = Timer::default();
    loop {
        *lost = upstream.lost() + upstream.held() as u64;
        pool.queue(upstream.pool_frames()).map_err(|error| LinkError::Queue(Server::Pool, error))?;
        declarator
            .queue(upstream.declarator_frames())
            .map_err(|error| LinkError::Queue(Server::Declarator, error))?;
        while let Some(event) = upstream.poll_event() {
            if reports.send((id, Report::Event(event))).await.is_err() {
                return Ok(());
            }
        }
        timer.set(upstream.poll_timeout());
        tokio::select! {
            biased;
            command = commands.recv() => match command {
                Some(command) => take(&mut upstream, command),
                None => {
                    tokio::join!(pool.close(CLOSE_PATIENCE), declarator.close(CLOSE_PATIENCE));
                    return Ok(());
                }
            },
            () = timer.fired() => judge(&mut upstream, &mut pool, &mut declarator).await?,
            io = pool.io(Intake::Open) => read_pool(&mut upstream, &mut pool, io)?,
            io = declarator.io(Intake::Open) => read_declarator(&mut upstream, &mut declarator, io)?,
        }
        // What has gathered is dealt with together, because each round writes.
        while let Ok(command) = commands.try_recv() {
            take(&mut upstream, command);
        }
    }
}

/// Waits until nobody has anything to say to the link any more. What is said before it is up is of no use.
async fn dismissed(commands: &mut mpsc::Receiver<Command>) {
    while commands.recv().await.is_some() {}
}

fn take(upstream: &mut Upstream, command: Command) {
    match command {
        Command::Propose(proposal) => {
            let number = proposal.number();
            if !upstream.handle_proposal(proposal, Clock.monotonic()) {
                tracing::debug!(job = number.0, "job does not keep the upstream's terms");
            }
        }
        Command::Share(share) => upstream.handle_share(share),
        Command::Hashrate(hashrate) => upstream.handle_hashrate(hashrate, Clock.monotonic()),
    }
}

/// Tells the protocol the time, once the servers are heard: after a pause of the whole process, what they have said in time waits to be read.
async fn judge(
    upstream: &mut Upstream,
    pool: &mut Connection,
    declarator: &mut Connection,
) -> Result<(), LinkError> {
    for _ in 0..CATCH_UP_READS {
        let from_pool = at_once(pool.io(Intake::Open)).await;
        let from_declarator = at_once(declarator.io(Intake::Open)).await;
        if from_pool.is_none() && from_declarator.is_none() {
            break;
        }
        from_pool.map_or(Ok(()), |io| read_pool(upstream, pool, io))?;
        from_declarator.map_or(Ok(()), |io| read_declarator(upstream, declarator, io))?;
    }
    Ok(upstream.handle_timeout(Clock.monotonic())?)
}

fn read_pool(
    upstream: &mut Upstream,
    connection: &mut Connection,
    io: Result<Io, IoError>,
) -> Result<(), LinkError> {
    io.map_err(|error| LinkError::Io(Server::Pool, error))?;
    let open = |error| LinkError::Open(Server::Pool, error);
    while let Some(frame) = connection.next_frame(|header| upstream.pool_frame_limit(header)).map_err(open)? {
        upstream.handle_pool_frame(frame, Clock.monotonic())?;
    }
    Ok(())
}

fn read_declarator(
    upstream: &mut Upstream,
    connection: &mut Connection,
    io: Result<Io, IoError>,
) -> Result<(), LinkError> {
    io.map_err(|error| LinkError::Io(Server::Declarator, error))?;
    let open = |error| LinkError::Open(Server::Declarator, error);
    let limit = |upstream: &Upstream, header: &_| upstream.declarator_frame_limit(header);
    while let Some(frame) = connection.next_frame(|header| limit(upstream, header)).map_err(open)? {
        upstream.handle_declarator_frame(frame, Clock.monotonic())?;
    }
    Ok(())
}

async fn dial(url: &Url, insecure: bool) -> Result<Connection, ConnectError> {
    let connection = match url.authority() {
        None if insecure => connect_unauthenticated(&url.address()).await?,
        authority => connect(&url.address(), authority).await?,
    };
    Ok(connection.with_outbox_limits(OutboxLimits { bytes: OUTBOX_BYTES, ..OutboxLimits::default() }))
}

#[cfg(test)]
mod tests;
