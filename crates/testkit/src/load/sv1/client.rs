//! One SV1 machine of a run, from connecting to its end.

use core::net::{Ipv4Addr, SocketAddr};
use core::num::NonZeroU32;
use std::io;
use std::sync::Arc;

use adit_net::Clock;
use adit_units::{Monotonic, Target};
use tokio::io::Interest;
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::super::crowd::{self, Lost, Member, Step};
use super::super::pace::Pace;
use super::Plan;
use super::machine::{Heard, Machine};

/// Longest line of a translator.
const LINE_MAX: usize = 64 * 1024;

/// Bytes that one read takes.
const READ_MAX: usize = 8 * 1024;

/// What all machines share.
pub(super) type Run = crowd::Run<Client>;

/// What machines are told, and the pool above them.
pub(super) struct Terms {
    /// How many machines there are.
    pub(super) machines: usize,
    /// How many shares a second, from all of them together.
    rate: Option<NonZeroU32>,
    /// Where the translator listens.
    address: SocketAddr,
    password: String,
    /// What a share must meet to be one for the pool.
    pub(super) pool_target: Target,
    /// Whether they acknowledge jobs late.
    pub(super) late_acks: bool,
    pub(super) awake: bool,
}

impl Terms {
    pub(super) fn new(plan: &Plan, address: SocketAddr) -> Self {
        let (password, pool_target) = (plan.password(), plan.pool_target());
        let Plan { machines, rate, late_acks, awake, .. } = *plan;
        Self { machines, rate, address, password, pool_target, late_acks, awake }
    }
}

/// A machine that is connected.
pub(super) struct Client {
    run: Arc<Run>,
    stream: TcpStream,
    machine: Machine,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    /// Where there are shares to be sent.
    pace: Option<Pace>,
    /// When it set out to connect.
    since: Monotonic,
    /// Held until it has work.
    turn: Option<OwnedSemaphorePermit>,
}

impl Member for Client {
    type Plan = Terms;
    const MANY: &'static str = "machines";
    /// So many are on their way from connecting to work at once; more would wait in the kernel's queue of the translator's socket, which has a
    /// thousand places.
    const DOOR: usize = 512;

    async fn connect(run: Arc<Run>, place: usize) -> Result<Self, Lost> {
        let turn = Some(run.turn().await?);
        let since = Clock.monotonic();
        let Terms { machines, rate, address, ref password, .. } = run.plan;
        let stream = connect(address, place).await.map_err(|error| format!("cannot connect: {error}"))?;
        let machine = Machine::new(&format!("bench.{place}"), password);
        let pace = rate.map(|rate| Pace::new(rate, place, machines));
        Ok(Self { run, stream, machine, partial: Vec::new(), pace, since, turn })
    }

    fn settle(&mut self, step: Step) -> Result<bool, Lost> {
        if step == Step::Mine {
            self.submit_due()?;
        }
        self.write().map(|()| false)
    }

    fn has_work(&self) -> bool {
        self.turn.is_none()
    }

    fn due(&self) -> Option<Monotonic> {
        self.pace.as_ref().and_then(Pace::due)
    }

    async fn io(&mut self) -> Result<(), Lost> {
        let waits_to_write = !self.machine.out.is_empty();
        let interest =
            if waits_to_write { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
        let ready = self.stream.ready(interest).await.map_err(|error| error.to_string())?;
        if ready.is_readable() { self.read() } else { Ok(()) }
    }

    fn socket(&self) -> &TcpStream {
        &self.stream
    }

    async fn close(self) {}
}

impl Client {
    /// Writes what there is to be written, as far as the socket takes it.
    fn write(&mut self) -> Result<(), Lost> {
        while !self.machine.out.is_empty() {
            match self.stream.try_write(&self.machine.out) {
                Ok(written) => drop(self.machine.out.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("the connection is lost: {error}")),
            }
        }
        Ok(())
    }

    /// Reads what has come and takes in its lines.
    fn read(&mut self) -> Result<(), Lost> {
        let mut buffer = [0; READ_MAX];
        loop {
            let read = match self.stream.try_read(&mut buffer) {
                Ok(0) => return Err("the translator closed the connection".to_owned()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(format!("the connection is lost: {error}")),
            };
            self.take(buffer.get(..read).unwrap_or_default(), Clock.monotonic())?;
            if read < READ_MAX {
                return Ok(());
            }
        }
    }

    fn take(&mut self, bytes: &[u8], now: Monotonic) -> Result<(), Lost> {
        let mut rest = bytes;
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let (line, behind) = rest.split_at(end);
            rest = behind.get(1..).unwrap_or_default();
            if self.partial.is_empty() {
                self.take_line(line, now)?;
            } else {
                let mut whole = core::mem::take(&mut self.partial);
                whole.extend_from_slice(line);
                self.take_line(&whole, now)?;
            }
        }
        self.partial.extend_from_slice(rest);
        if self.partial.len() > LINE_MAX {
            return Err(format!("a line has more than {LINE_MAX} bytes"));
        }
        Ok(())
    }

    fn take_line(&mut self, line: &[u8], now: Monotonic) -> Result<(), Lost> {
        if line.trim_ascii().is_empty() {
            return Ok(());
        }
        match self.machine.take(line)? {
            Heard::Job(number) => self.run.tally().see_job(number, now),
            Heard::Accepted(due) => self.run.tally().accept(1, [now - due]),
            Heard::Refused(reason) => self.run.tally().refuse(reason),
            Heard::Other => {}
        }
        if self.turn.is_some() && self.machine.has_work() {
            self.turn = None;
            self.run.tally().open(self.since, now);
        }
        Ok(())
    }

    /// Submits what has become due.
    fn submit_due(&mut self) -> Result<(), Lost> {
        let now = Clock.monotonic();
        while let Some(due) = self.pace.as_mut().and_then(|pace| pace.take(now)) {
            let target = &self.run.plan.pool_target;
            let found = self.machine.submit(due, target).map_err(|error| error.to_string())?;
            if let Some(meets_the_pools) = found {
                let mut tally = self.run.tally();
                tally.submitted += 1;
                tally.due_up += u64::from(meets_the_pools);
            }
        }
        Ok(())
    }
}

/// Connects from an address of its own on this machine, as every machine of a farm has one.
async fn connect(address: SocketAddr, place: usize) -> io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    if address.ip().is_loopback() {
        socket.bind(SocketAddr::from((home(place), 0)))?;
    }
    let stream = socket.connect(address).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Of the loopback network's 16 million addresses the one for that machine.
fn home(place: usize) -> Ipv4Addr {
    let number = u32::try_from(place % (1 << 23)).unwrap_or_default();
    Ipv4Addr::from_bits(Ipv4Addr::new(127, 1, 0, 1).to_bits() + number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_have_addresses_of_their_own() {
        assert_eq!(home(0), Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(home(300), Ipv4Addr::new(127, 1, 1, 45));
        assert!(home(usize::MAX).is_loopback());
    }
}
