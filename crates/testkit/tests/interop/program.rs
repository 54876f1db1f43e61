//! Programs under test as child processes that end with the test and tell what they wrote when it fails.

use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How often something that takes time is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// How many looks are taken before a wait is given up: five minutes, for machines that share their processor.
const MAX_LOOKS: u32 = 3000;
/// How many of a program's last lines a failed test shows.
const LINES_SHOWN: usize = 40;

/// Looks again and again until `look` gives something.
///
/// # Panics
///
/// If it gives nothing for five minutes.
pub(crate) fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    for _ in 0..MAX_LOOKS {
        if let Some(found) = look() {
            return found;
        }
        sleep(LOOK_INTERVAL);
    }
    panic!("waited five minutes for {what}");
}

/// The `adit` program that the same build made, or the one that `ADIT_BIN` names.
pub(crate) fn adit() -> PathBuf {
    if let Some(program) = std::env::var_os("ADIT_BIN") {
        return program.into();
    }
    let test = std::env::current_exe().expect("the system knows this program's path");
    let folder = test.parent().and_then(Path::parent).expect("tests lie in target/PROFILE/deps");
    let program = folder.join("adit");
    assert!(program.exists(), "{} is missing; run: cargo build -p adit", program.display());
    program
}

/// The program that an environment variable names; without it, says on the terminal that `test` was left out.
pub(crate) fn foreign(test: &str, variable: &str) -> Option<PathBuf> {
    let program = std::env::var_os(variable).filter(|name| !name.is_empty()).map(PathBuf::from);
    if program.is_none() {
        tell(&format!("LEFT OUT: {test}: {variable} names no program (run scripts/interop)"));
    }
    program
}

/// Writes a line to the terminal, around the harness's capture.
pub(crate) fn tell(line: &str) {
    // There is nobody to tell when the terminal is gone.
    drop(std::io::stderr().write_all(format!("{line}\n").as_bytes()));
}

/// Waits until `program` takes connections on that address.
pub(crate) fn listens(what: &str, address: &str, program: &mut Program) {
    wait_for(what, || {
        program.assert_running();
        TcpStream::connect(address).ok()
    });
}

/// An address of the loopback with a port that is free now.
pub(crate) fn free_address() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has free ports");
    listener.local_addr().expect("a bound socket has an address").to_string()
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Program {
    name: &'static str,
    log: PathBuf,
    child: Child,
}

impl Program {
    /// Starts it with its output going to a file in `folder`.
    pub(crate) fn start(name: &'static str, command: &mut Command, folder: &Path) -> Self {
        let log = folder.join(format!("{}.log", name.replace(' ', "-")));
        let file = File::create(&log).expect("the test's folder can be written");
        let errors = file.try_clone().expect("an open file can be opened again");
        let child = command.stdin(Stdio::null()).stdout(file).stderr(errors).spawn();
        Self { name, log, child: child.unwrap_or_else(|e| panic!("cannot start {name}: {e}")) }
    }

    /// All that it wrote so far.
    pub(crate) fn output(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Whether it has not ended.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("a child's state can be read").is_none()
    }

    /// Fails the test if the program has ended.
    #[track_caller]
    pub(crate) fn assert_running(&mut self) {
        if let Some(status) = self.child.try_wait().expect("a child's state can be read") {
            panic!("{} ended by itself: {status}", self.name);
        }
    }

    /// Waits until it ends by itself.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let (name, child) = (self.name, &mut self.child);
        wait_for(name, || child.try_wait().expect("a child's state can be read"))
    }

    /// Asks it to end, as a service supervisor would, and waits until it has.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the program runs and is ours");
        let child = &mut self.child;
        wait_for("a program to end", || child.try_wait().expect("a child's state can be read"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            let output = self.output();
            let lines: Vec<&str> = output.lines().collect();
            let last = lines.get(lines.len().saturating_sub(LINES_SHOWN)..).unwrap_or_default();
            eprintln!("--- the last lines of {}:\n{}", self.name, last.join("\n"));
        }
    }
}
