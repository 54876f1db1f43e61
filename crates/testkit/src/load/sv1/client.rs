//! One SV1 machine of a run, from connecting to its end.

use core::net::{Ipv4Addr, SocketAddr};
use core::time::Duration;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_net::{Clock, Timer};
use adit_units::{Monotonic, Target};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::Plan;
use super::machine::{Heard, Machine};
use super::tally::Tally;

/// Machines at once on their way from connecting to work; more would wait in the kernel's queue of the translator's socket, which has a thousand places.
const DOOR: usize = 512;

/// Longest line of a translator.
const LINE_MAX: usize = 64 * 1024;

/// Bytes that one read takes.
const READ_MAX: usize = 8 * 1024;

/// How far a run has come; machines follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Step {
    /// Connect, and wait for jobs.
    Open,
    /// Submit shares.
    Mine,
    /// Submit nothing more, and hear what became of the last shares.
    Rest,
    /// Close.
    Leave,
}

/// What all machines of a run share.
pub(super) struct Run {
    pub(super) plan: Plan,
    /// Where the translator listens.
    address: SocketAddr,
    password: String,
    /// What a share must meet to be one for the pool.
    pub(super) pool_target: Target,
    tally: Mutex<Tally>,
    door: Semaphore,
}

impl Run {
    pub(super) fn new(plan: Plan, address: SocketAddr) -> Self {
        let (password, pool_target) = (plan.password(), plan.pool_target());
        Self { plan, address, password, pool_target, tally: Mutex::default(), door: Semaphore::new(DOOR) }
    }

    /// The counts; a machine that panicked leaves them as good as they were.
    pub(super) fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a machine ended before its time.
type Lost = String;

/// Follows the run's steps with one machine; `place` is its number among all, from zero.
pub(super) async fn follow(run: Arc<Run>, place: usize, steps: watch::Receiver<Step>) {
    if let Err(lost) = Client::live(&run, place, steps).await {
        run.tally().fail(lost);
    }
}

/// A machine that is connected.
struct Client<'a> {
    run: &'a Run,
    place: usize,
    stream: TcpStream,
    machine: Machine,
    /// The start of a line whose end has not come.
    partial: Vec<u8>,
    /// When the next share is due.
    due: Option<Monotonic>,
    /// When it set out to connect.
    since: Monotonic,
    /// Held until it has work.
    turn: Option<SemaphorePermit<'a>>,
}

impl<'a> Client<'a> {
    async fn live(run: &'a Run, place: usize, mut steps: watch::Receiver<Step>) -> Result<(), Lost> {
        let gone = "the run was broken off";
        let turn = Some(run.door.acquire().await.map_err(|_| gone)?);
        let since = Clock.monotonic();
        let stream = connect(run.address, place).await.map_err(|error| format!("cannot connect: {error}"))?;
        let machine = Machine::new(&format!("bench.{place}"), &run.password);
        let mut client = Self { run, place, stream, machine, partial: Vec::new(), due: None, since, turn };
        let mut timer = Timer::default();
        let mut step = *steps.borrow_and_update();
        while step < Step::Leave {
            if step == Step::Mine {
                client.submit_due()?;
            }
            client.write()?;
            timer.set(client.due.filter(|_| step == Step::Mine));
            tokio::select! {
                biased;
                changed = steps.changed() => {
                    changed.map_err(|_| gone)?;
                    step = *steps.borrow_and_update();
                }
                () = timer.fired() => {}
                ready = client.stream.readable() => {
                    ready.map_err(|error| error.to_string())?;
                    client.read()?;
                }
                ready = client.stream.writable(), if !client.machine.out.is_empty() => {
                    ready.map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

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
            Heard::Job(number) => self.run.tally().hear(number, now),
            Heard::Accepted(due) => self.run.tally().accept(now - due),
            Heard::Refused(reason) => self.run.tally().refuse(reason),
            Heard::Other => {}
        }
        if self.turn.is_some() && self.machine.has_work() {
            self.turn = None;
            self.run.tally().open(now, now - self.since);
        }
        Ok(())
    }

    /// Submits what has become due; the rate is that of all machines together, whose turns are spread evenly.
    fn submit_due(&mut self) -> Result<(), Lost> {
        let Some(rate) = self.run.plan.rate else { return Ok(()) };
        let now = Clock.monotonic();
        let turn = |shares: usize| Duration::from_micros(shares as u64 * 1_000_000 / u64::from(rate.get()));
        let mut due = self.due.unwrap_or_else(|| now + turn(self.place + 1));
        while due <= now {
            let found = self.machine.submit(due, &self.run.pool_target).map_err(|error| error.to_string())?;
            if let Some(meets_the_pools) = found {
                let mut tally = self.run.tally();
                tally.submitted += 1;
                tally.due_up += u64::from(meets_the_pools);
            }
            due = due + turn(self.run.plan.machines);
        }
        self.due = Some(due);
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
