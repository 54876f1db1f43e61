//! Programs that are measured, as child processes that do not outlive this one.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context as _, anyhow, bail};
use tokio::process::Command;

/// How much of what a program wrote a complaint shows.
const BYTES_SHOWN: usize = 2_000;

/// A program that runs, and the file that has what it writes.
pub(super) struct Child {
    name: &'static str,
    child: tokio::process::Child,
    pid: u32,
    log: PathBuf,
}

/// How to start a program on one processor or on all, so that it does not outlive this process, however that one ends.
pub(super) fn command(cpu: Option<u16>, program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if let Some(cpu) = cpu {
        command.args(["taskset", "--cpu-list"]).arg(cpu.to_string());
    }
    command.arg(program);
    command
}

impl Child {
    /// Starts what [`command`] has made, under a name for complaints.
    pub(super) fn start(name: &'static str, mut command: Command, log: PathBuf) -> anyhow::Result<Self> {
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stderr(output.try_clone()?).stdout(output).kill_on_drop(true);
        let child = command.spawn().with_context(|| {
            format!("cannot start {name}; `setpriv` and `taskset` of util-linux are needed")
        })?;
        let pid = child.id().ok_or_else(|| anyhow!("{name} has ended"))?;
        Ok(Self { name, child, pid, log })
    }

    /// Its process.
    pub(super) const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether it still runs.
    ///
    /// # Errors
    ///
    /// If it has ended, with what it wrote last.
    pub(super) fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} has ended ({status}): {}", self.name, self.last_words()),
            None => Ok(()),
        }
    }

    /// Ends it.
    ///
    /// # Errors
    ///
    /// If it ran no more.
    pub(super) async fn stop(mut self) -> anyhow::Result<()> {
        self.check()?;
        Ok(self.child.kill().await?)
    }

    /// The end of what it wrote.
    pub(super) fn last_words(&self) -> String {
        let written = fs::read(&self.log).unwrap_or_default();
        let start = written.len().saturating_sub(BYTES_SHOWN);
        String::from_utf8_lossy(written.get(start..).unwrap_or_default()).into_owned()
    }
}
