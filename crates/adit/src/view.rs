//! The live view on the terminal: one line that is kept current, and lines of events above it.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

/// A terminal, or a pipe or file that gets the same without control characters.
pub(crate) struct View {
    live: bool,
    status_shown: bool,
    /// How often a pipe gets the status, so that it is not flooded.
    since_status: u32,
}

/// How often the status line is drawn.
pub(crate) const REFRESH: Duration = Duration::from_millis(500);

/// How many refreshes a pipe waits for its next status line.
const PIPE_EVERY: u32 = 10;

impl View {
    /// A view on standard output.
    pub(crate) fn new() -> Self {
        Self { live: io::stdout().is_terminal(), status_shown: false, since_status: 0 }
    }

    /// Prints a line that stays.
    pub(crate) fn event(&mut self, line: &str) {
        self.clear_status();
        println!("{line}");
    }

    /// Shows the current state.
    pub(crate) fn status(&mut self, line: &str) {
        if self.live {
            self.clear_status();
            print!("{line}");
            // A terminal that cannot be written to is gone; there is nobody to tell.
            let _ = io::stdout().flush();
            self.status_shown = true;
            return;
        }
        if self.since_status == 0 {
            println!("{line}");
        }
        self.since_status = (self.since_status + 1) % PIPE_EVERY;
    }

    /// Takes the status line away before something else is printed.
    pub(crate) fn clear_status(&mut self) {
        if self.status_shown {
            // Carriage return, then erase to the end of the line (ECMA-48 EL).
            print!("\r\x1b[K");
            self.status_shown = false;
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        if self.status_shown {
            println!();
        }
    }
}
