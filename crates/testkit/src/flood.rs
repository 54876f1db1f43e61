//! Floods of every kind that a server has to bear, for tests that hold it against its limits and for `adit bench`.
//!
//! On Linux the attackers come from addresses of their own, from 127.0.0.2 on, so that a server on this machine tells them from honest miners, as it would
//! elsewhere. They pin the server's key and read what it says, but believe nothing of it.

mod declarer;
mod insider;

use core::fmt;
use core::net::SocketAddr;
use core::str::FromStr;
use core::time::Duration;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use adit_net::{Clock, OsRng};
use adit_transport::{ACT2_LEN, AuthorityPublicKey, FrameQueue, Initiator, PAYLOAD_MAX, Transport};
use rand_core::Rng as _;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinSet, yield_now};
use tokio::time::{MissedTickBehavior, interval, sleep};

pub use declarer::DeclarableJob;
use declarer::{Answer, Declarer};
use insider::Insider;

/// What attackers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Shake hands, which the server has to compute for, and then send what is no frame.
    Handshakes,
    /// Send the first act of the handshake a byte at a time.
    SlowHandshakes,
    /// Announce frames beyond what may be sent before setup: one attacker 16 MiB, the others little too much.
    LengthClaims,
    /// Submit worthless shares and read none of the answers.
    Unread,
    /// Submit shares on a job that does not exist.
    WorthlessShares,
    /// Submit the same share over and over.
    RepeatedShares,
    /// Ask for more and more channels.
    ChannelRequests,
    /// Open channels and close them.
    ChannelTurnover,
    /// Declare jobs to a job declarator server: a hundred clients from four addresses, each ten times a second.
    Declarations,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Handshakes,
        Self::SlowHandshakes,
        Self::LengthClaims,
        Self::Unread,
        Self::WorthlessShares,
        Self::RepeatedShares,
        Self::ChannelRequests,
        Self::ChannelTurnover,
        Self::Declarations,
    ];

    /// Its name on a command line and in results.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handshakes => "handshakes",
            Self::SlowHandshakes => "slow-handshakes",
            Self::LengthClaims => "length-claims",
            Self::Unread => "unread",
            Self::WorthlessShares => "worthless-shares",
            Self::RepeatedShares => "repeated-shares",
            Self::ChannelRequests => "channel-requests",
            Self::ChannelTurnover => "channel-turnover",
            Self::Declarations => "declarations",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A name that is none of a flood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no flood of that name: choose one of {}", Kind::ALL.map(Kind::as_str).join(", "))]
pub struct UnknownKind;

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Self, UnknownKind> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name).ok_or(UnknownKind)
    }
}

/// Whom a flood is for.
#[derive(Clone, Debug)]
pub struct Victim {
    /// Where it listens.
    pub address: SocketAddr,
    /// What it is known by.
    pub authority: AuthorityPublicKey,
    /// What can be declared to it, if it is a job declarator server.
    pub job: Option<Arc<DeclarableJob>>,
}

/// A flood of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// What is done.
    pub kind: Kind,
    /// How many do it at once.
    pub attackers: u32,
    /// How long each of them rests after each act: a connection, a byte of a handshake, or a batch of messages.
    pub rest: Duration,
}

impl Flood {
    /// As much as somebody with one address and the line of a household can send: at most some 20 000 shares or 8 000 requests a second, which are
    /// 15 Mbit/s, or a thousand handshakes.
    #[must_use]
    pub const fn of_one_household(kind: Kind) -> Self {
        let (attackers, millis) = match kind {
            Kind::Handshakes => (64, 64),
            // More than one address may have under way.
            Kind::SlowHandshakes => (400, 250),
            Kind::LengthClaims => (16, 100),
            Kind::Unread => (4, 10),
            Kind::Declarations => (100, 100),
            // Few, so that each comes to its limits soon.
            Kind::WorthlessShares | Kind::RepeatedShares | Kind::ChannelRequests | Kind::ChannelTurnover => {
                (2, 5)
            }
        };
        Self { kind, attackers, rest: Duration::from_millis(millis) }
    }

    /// Begins; it ends when the answer is dropped.
    #[must_use]
    pub fn start(self, victim: &Victim) -> Attack {
        let felt = Arc::new(Counts::default());
        let mut attackers = JoinSet::new();
        for number in 0..self.attackers {
            attackers.spawn(self.attack(victim.clone(), number, Arc::clone(&felt)));
        }
        Attack { felt, _attackers: attackers }
    }

    async fn attack(self, victim: Victim, number: u32, felt: Arc<Counts>) {
        loop {
            // Whatever comes of it, the next attempt follows.
            let _outcome = match self.kind {
                Kind::Handshakes => garbage_after_handshake(&victim, &felt).await,
                Kind::SlowHandshakes => self.dribble(&victim, &felt).await,
                Kind::Declarations => self.declare(&victim, number, &felt).await,
                Kind::LengthClaims => {
                    claim(&victim, if number == 0 { PAYLOAD_MAX } else { CLAIMED_BEFORE_SETUP }, &felt).await
                }
                kind @ (Kind::Unread
                | Kind::WorthlessShares
                | Kind::RepeatedShares
                | Kind::ChannelRequests
                | Kind::ChannelTurnover) => self.insist(&victim, kind, &felt).await,
            };
            self.pause().await;
        }
    }

    async fn pause(self) {
        if self.rest.is_zero() { yield_now().await } else { sleep(self.rest).await }
    }

    /// Sends the first act of a handshake byte by byte, each of them in time, until the server has had enough.
    async fn dribble(self, victim: &Victim, felt: &Counts) -> io::Result<()> {
        let (mut stream, start) = (stranger(victim.address).await?, Clock.monotonic());
        // The first byte makes the difference between a server that turns strangers away and one that waits.
        while stream.write_all(&[1]).await.is_ok() {
            Counts::note(&felt.acts);
            self.pause().await;
        }
        felt.longest_micros.fetch_max(micros(Clock.monotonic() - start), Relaxed);
        Counts::note(&felt.limited);
        Ok(())
    }

    /// Declares a job at the pace of the flood, until the server closes; answers count as such, and refusals.
    async fn declare(self, victim: &Victim, number: u32, felt: &Counts) -> io::Result<()> {
        let Some(job) = &victim.job else { return Ok(()) };
        let stream = stranger_of(number / CLIENTS_OF_ADDRESS, victim.address).await?;
        let mut declarer = Declarer::enter(stream, victim.authority, (number, Arc::clone(job))).await?;
        let mut due = interval(self.rest);
        due.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            due.tick().await;
            Counts::note(&felt.acts);
            match declarer.declare().await {
                Ok(Answer::Accepted) => Counts::note(&felt.answered),
                Ok(Answer::Refused) => Counts::note(&felt.refused),
                Err(error) => {
                    Counts::note(&felt.limited);
                    return Err(error);
                }
            }
        }
    }

    /// Sends batches of messages until the server ends the channel or the connection.
    async fn insist(self, victim: &Victim, kind: Kind, felt: &Counts) -> io::Result<()> {
        let stream = match kind {
            Kind::Unread => deaf_stranger(victim.address).await?,
            _ => stranger(victim.address).await?,
        };
        let mut insider = Insider::enter(stream, victim.authority).await?;
        loop {
            match kind {
                Kind::RepeatedShares => insider.queue_shares(SHARES_IN_BATCH, insider.present_job()),
                Kind::ChannelRequests => insider.queue_requests(REQUESTS_IN_BATCH, false),
                Kind::ChannelTurnover => insider.queue_requests(REQUESTS_IN_BATCH / 2, true),
                Kind::Handshakes
                | Kind::SlowHandshakes
                | Kind::LengthClaims
                | Kind::Unread
                | Kind::Declarations
                | Kind::WorthlessShares => insider.queue_shares(SHARES_IN_BATCH, insider::UNKNOWN_JOB),
            }
            Counts::note(&felt.acts);
            let pushed = insider.push().await;
            if pushed.is_err() || kind != Kind::Unread && insider.is_cut_off(&felt.refused).await {
                Counts::note(&felt.limited);
                return pushed;
            }
            self.pause().await;
        }
    }
}

/// Shares that an attacker sends in one go.
const SHARES_IN_BATCH: u32 = 50;

/// Bytes that the kernel of an attacker who never reads holds for him; systems make it somewhat more.
const DEAF_BUFFER: u32 = 4_096;

/// Requests that an attacker sends in one go.
const REQUESTS_IN_BATCH: u32 = 20;

/// Payload bytes that no message has that may come before setup.
const CLAIMED_BEFORE_SETUP: usize = 2_000;

/// A flood under way; dropping it ends it.
#[derive(Debug)]
pub struct Attack {
    felt: Arc<Counts>,
    _attackers: JoinSet<()>,
}

/// What attackers have done and felt so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Felt {
    /// Connections, bytes of handshakes, declarations, or batches of messages.
    pub acts: u64,
    /// How often a limit of the server ended a connection or channel.
    pub limited: u64,
    /// How often a handshake was answered, or a declaration accepted.
    pub answered: u64,
    /// How often the server refused a channel because there were too many, or a declaration.
    pub refused: u64,
    /// How long the server bore with the slowest handshake, in microseconds.
    pub longest_micros: u64,
}

impl Felt {
    /// This and what others felt at another time.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            acts: self.acts + other.acts,
            limited: self.limited + other.limited,
            answered: self.answered + other.answered,
            refused: self.refused + other.refused,
            longest_micros: self.longest_micros.max(other.longest_micros),
        }
    }
}

impl Attack {
    /// What has been felt so far.
    #[must_use]
    pub fn felt(&self) -> Felt {
        let Counts { acts, limited, answered, refused, longest_micros } = &*self.felt;
        let [acts, limited, answered, refused, longest_micros] =
            [acts, limited, answered, refused, longest_micros].map(|count| count.load(Relaxed));
        Felt { acts, limited, answered, refused, longest_micros }
    }
}

/// [`Felt`] while it changes.
#[derive(Debug, Default)]
struct Counts {
    acts: AtomicU64,
    limited: AtomicU64,
    answered: AtomicU64,
    refused: AtomicU64,
    longest_micros: AtomicU64,
}

impl Counts {
    fn note(count: &AtomicU64) {
        count.fetch_add(1, Relaxed);
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Clients that declare jobs from one address; a server takes no more than some.
const CLIENTS_OF_ADDRESS: u32 = 25;

/// Connects from an address of its own where the system has one: on Linux all of 127.0.0.0/8 is this machine.
async fn stranger(server: SocketAddr) -> io::Result<TcpStream> {
    stranger_of(0, server).await
}

/// As [`stranger`], for one of several at home in different places.
async fn stranger_of(place: u32, server: SocketAddr) -> io::Result<TcpStream> {
    let socket = at_home(place, server)?;
    connected(socket, server).await
}

/// As [`stranger`], with a kernel that holds next to nothing for it, so that what it does not read soon waits in the server.
async fn deaf_stranger(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = at_home(0, server)?;
    socket.set_recv_buffer_size(DEAF_BUFFER)?;
    connected(socket, server).await
}

/// A socket with an address of its own, where the system has one.
fn at_home(place: u32, server: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if server.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    if cfg!(target_os = "linux") && server.is_ipv4() && server.ip().is_loopback() {
        let last = u8::try_from(2 + place).map_err(io::Error::other)?;
        socket.bind(SocketAddr::from(([127, 0, 0, last], 0)))?;
    }
    Ok(socket)
}

async fn connected(socket: TcpSocket, server: SocketAddr) -> io::Result<TcpStream> {
    let stream = socket.connect(server).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Reads until the server closes; how many bytes came.
async fn until_closed(stream: &mut TcpStream) -> usize {
    let (mut bytes, mut came) = ([0; 1_024], 0);
    while let Ok(count @ 1..) = stream.read(&mut bytes).await {
        came += count;
    }
    came
}

/// Shakes hands and sends what is no frame. Every 64 bytes are a key, so this is answered.
async fn garbage_after_handshake(victim: &Victim, felt: &Counts) -> io::Result<()> {
    let mut garbage = [0; 64 + 200];
    OsRng.fill_bytes(&mut garbage);
    let mut stream = stranger(victim.address).await?;
    Counts::note(&felt.acts);
    let sent = stream.write_all(&garbage).await;
    let came = until_closed(&mut stream).await;
    Counts::note(if came >= ACT2_LEN { &felt.answered } else { &felt.limited });
    sent
}

/// A handshake by hand.
async fn shake_hands(stream: &mut TcpStream, authority: AuthorityPublicKey) -> io::Result<Transport> {
    let initiator = Initiator::new(Some(authority), &mut OsRng);
    stream.write_all(&initiator.act1()).await?;
    let mut act2 = [0; ACT2_LEN];
    stream.read_exact(&mut act2).await?;
    initiator.finish(&act2, Clock.unix()).map_err(io::Error::other)
}

/// Announces a frame of that length. To claim costs the attacker more than to refuse: his keys seal nothing but whole frames.
async fn claim(victim: &Victim, length: usize, felt: &Counts) -> io::Result<()> {
    let mut stream = stranger(victim.address).await?;
    let mut transport = shake_hands(&mut stream, victim.authority).await?;
    Counts::note(&felt.answered);
    let (mut frames, mut sealed) = (FrameQueue::default(), Vec::new());
    frames.push(0, false, 0, &vec![0; length]).map_err(io::Error::other)?;
    transport.sealer.seal_all(&mut frames, &mut sealed).map_err(io::Error::other)?;
    sealed.truncate(600);
    Counts::note(&felt.acts);
    stream.write_all(&sealed).await?;
    until_closed(&mut stream).await;
    Counts::note(&felt.limited);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flood_has_a_name_that_is_read_back() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_string(&kind).unwrap(), format!("\"{kind}\""));
        }
        assert!("".parse::<Kind>().unwrap_err().to_string().contains("channel-turnover"));
    }
}
