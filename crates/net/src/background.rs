//! A runtime whose work steps back behind that of everybody else.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// How far its threads step back: where there is not enough for all, they get next to nothing.
const NICENESS: i32 = 19;

/// A runtime for work that takes long and is not urgent, beside work that must not wait for it: its own threads, which the system lets run
/// after all others.
///
/// Where the system knows no such thing, they run as all others do.
///
/// # Errors
///
/// If the system gives no threads.
pub fn background_runtime(name: &str) -> io::Result<Runtime> {
    Builder::new_multi_thread().thread_name(name).enable_all().on_thread_start(step_back).build()
}

/// On Linux a thread has a niceness of its own.
fn step_back() {
    if cfg!(target_os = "linux") {
        // What stays as urgent as the rest still works.
        let _ = rustix::process::setpriority_process(None, NICENESS);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn only_its_threads_step_back() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        let runtime = background_runtime("test").unwrap();
        let there = runtime.block_on(async { tokio::spawn(async move { niceness() }).await.unwrap() });
        assert_eq!((there, niceness()), (NICENESS.max(before), before));
    }
}
