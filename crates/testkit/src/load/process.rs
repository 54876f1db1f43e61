//! What a server process costs, read from `/proc`, and a server that a load run starts for itself.

use core::time::Duration;
use std::fs;
use std::io;
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::timeout;

/// How long a server may take to come up, to solve a block, or to end.
pub const SERVER_PATIENCE: Duration = Duration::from_secs(60);

/// Another process of this machine, watched from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watched {
    pid: u32,
}

/// Why a server process could not be watched or started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// There is no such process, or this system has no `/proc`.
    #[error("cannot read {path}: {source}; is the server running on this machine?")]
    Unseen {
        /// What was to be read.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// What the kernel says of the process is not understood.
    #[error("{path} is not written as expected")]
    Strange {
        /// What was read.
        path: String,
    },
    /// The server could not be started or spoken to.
    #[error("the server cannot be started or spoken to: {0}")]
    Broken(#[from] io::Error),
    /// The server ended or took too long to answer.
    #[error("the server did not answer to `{0}`")]
    Silent(String),
}

impl Watched {
    /// The process with that number.
    #[must_use]
    pub const fn new(pid: u32) -> Self {
        Self { pid }
    }

    /// The process's number.
    #[must_use]
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// The processor time that all its threads have used, those that have ended included.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn cpu(&self) -> Result<Duration, ServerError> {
        self.read("stat", cpu_of_stat)
    }

    /// The memory that it holds, in bytes.
    ///
    /// # Errors
    ///
    /// If the process is gone.
    pub fn resident(&self) -> Result<u64, ServerError> {
        self.read("status", resident_of_status)
    }

    fn read<T>(&self, file: &str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ServerError> {
        let path = format!("/proc/{}/{file}", self.pid);
        match fs::read_to_string(&path) {
            Ok(text) => parse(&text).ok_or(ServerError::Strange { path }),
            Err(source) => Err(ServerError::Unseen { path, source }),
        }
    }
}

/// The processor time of a process from some moment on.
#[derive(Debug)]
pub(super) struct CpuMeter {
    watched: Option<Watched>,
    start: Option<Duration>,
}

impl CpuMeter {
    /// Starts now; of a process that is not known, nothing is measured.
    pub(super) fn start(watched: Option<Watched>) -> Result<Self, ServerError> {
        let start = watched.map(|watched| watched.cpu()).transpose()?;
        Ok(Self { watched, start })
    }

    /// What the process has used since.
    pub(super) fn spent(&self) -> Result<Option<Duration>, ServerError> {
        let now = self.watched.map(|watched| watched.cpu()).transpose()?;
        Ok(now.zip(self.start).map(|(now, start)| now.saturating_sub(start)))
    }
}

/// The sum of `utime` and `stime` (proc(5)), which Linux counts for programs in hundredths of a second on every platform it runs on.
fn cpu_of_stat(stat: &str) -> Option<Duration> {
    // The second field is the program's name in parentheses, which may hold anything.
    let (_, fields) = stat.rsplit_once(')')?;
    let mut times = fields.split_whitespace().skip(11).map(str::parse::<u64>);
    let ticks = times.next()?.ok()? + times.next()?.ok()?;
    Some(Duration::from_millis(ticks * 10))
}

/// `VmRSS` (proc(5)), which is in kibibytes.
fn resident_of_status(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

/// A server that was started for a load run and takes orders on its standard input, one a line.
///
/// Its first line says where it listens and, if that is another process than itself, the number of the process that serves there. It answers `solve` once it has a block ready for its chain, and `submit` once it has
/// handed that block in. It ends when its standard input does, so it never outlives whoever started it.
#[derive(Debug)]
pub struct OwnServer {
    child: Child,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
    url: String,
    watched: Watched,
}

impl OwnServer {
    /// Starts the program and waits for its first line.
    ///
    /// # Errors
    ///
    /// If it cannot be started or says nothing.
    pub async fn start(mut command: Command) -> Result<Self, ServerError> {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn()?;
        let gone = || ServerError::Silent("start".to_owned());
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (orders, answers) = (stdin.ok_or_else(gone)?, stdout.ok_or_else(gone)?);
        let watched = Watched::new(child.id().ok_or_else(gone)?);
        let answers = BufReader::new(answers).lines();
        let mut server = Self { child, orders, answers, url: String::new(), watched };
        let line = server.answer("start").await?;
        let mut words = line.split_whitespace();
        server.url = words.next().ok_or_else(gone)?.to_owned();
        if let Some(pid) = words.next() {
            server.watched = Watched::new(pid.parse().map_err(|_| gone())?);
        }
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The process that serves.
    #[must_use]
    pub const fn watched(&self) -> Watched {
        self.watched
    }

    /// Has it find a block and keep it.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn solve(&mut self) -> Result<(), ServerError> {
        self.order("solve").await?;
        self.answer("solve").await.map(drop)
    }

    /// Has it hand in the block that it found; the new tip is on its way when this returns, and the order is not yet answered.
    ///
    /// # Errors
    ///
    /// If it is gone.
    pub async fn submit(&mut self) -> Result<(), ServerError> {
        self.order("submit").await
    }

    /// Waits for what came of [`Self::submit`]; whether the chain took the block.
    ///
    /// # Errors
    ///
    /// If it does not answer.
    pub async fn submitted(&mut self) -> Result<bool, ServerError> {
        Ok(self.answer("submit").await? == "accepted")
    }

    /// Lets it end in order.
    ///
    /// # Errors
    ///
    /// If it does not end, or ends with an error.
    pub async fn stop(self) -> Result<(), ServerError> {
        let Self { mut child, orders, .. } = self;
        drop(orders);
        match timeout(SERVER_PATIENCE, child.wait()).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(_) | Err(_) => Err(ServerError::Silent("end".to_owned())),
        }
    }

    async fn order(&mut self, order: &str) -> Result<(), ServerError> {
        self.orders.write_all(format!("{order}\n").as_bytes()).await?;
        Ok(self.orders.flush().await?)
    }

    async fn answer(&mut self, order: &str) -> Result<String, ServerError> {
        match timeout(SERVER_PATIENCE, self.answers.next_line()).await {
            Ok(line) => line?.ok_or_else(|| ServerError::Silent(order.to_owned())),
            Err(_) => Err(ServerError::Silent(order.to_owned())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_stand_behind_whatever_a_program_is_called() {
        let stat = "7 (a) b (c)) S 1 7 7 0 -1 4194560 10 0 0 0 123 45 6 7 20 0 3 0 100 1000 200";
        assert_eq!(cpu_of_stat(stat), Some(Duration::from_millis(1680)));
        assert_eq!(cpu_of_stat("7 (a) S 1 7"), None);
        assert_eq!(cpu_of_stat(""), None);
    }

    #[test]
    fn memory_is_the_resident_set() {
        assert_eq!(resident_of_status("Name:\ta\nVmHWM:\t  9 kB\nVmRSS:\t    1234 kB\n"), Some(1_263_616));
        assert_eq!(resident_of_status("Name:\ta\n"), None);
    }

    #[test]
    fn this_process_can_be_watched() {
        let own = Watched::new(std::process::id());
        assert!(own.resident().unwrap() > 0);
        let meter = CpuMeter::start(Some(own)).unwrap();
        assert!(meter.spent().unwrap().unwrap() <= own.cpu().unwrap());
        assert_eq!(CpuMeter::start(None).unwrap().spent().unwrap(), None);
        let nobody = Watched::new(u32::MAX);
        assert!(matches!(nobody.cpu(), Err(ServerError::Unseen { .. })));
    }

    #[tokio::test]
    async fn a_server_is_given_orders_and_ends_with_its_input() {
        let mut command = Command::new("sh");
        command.args([
            "-c",
            "echo here; read order; echo $order; read order; echo accepted; read order; exit 0",
        ]);
        let mut server = OwnServer::start(command).await.unwrap();
        assert_eq!(server.url(), "here");
        assert_ne!(server.watched().pid(), 12);
        server.solve().await.unwrap();
        server.submit().await.unwrap();
        assert!(server.submitted().await.unwrap());
        server.stop().await.unwrap();
        let mut parent = Command::new("sh");
        parent.args(["-c", "echo there 12; read order"]);
        let parent = OwnServer::start(parent).await.unwrap();
        assert_eq!((parent.url(), parent.watched()), ("there", Watched::new(12)));
        let mut silent = Command::new("sh");
        silent.args(["-c", "exit 1"]);
        assert!(matches!(OwnServer::start(silent).await, Err(ServerError::Silent(_))));
    }
}
