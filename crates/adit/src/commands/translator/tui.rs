//! The live table of a translator on the terminal: machines, totals and upstreams.

mod columns;
mod draw;
#[cfg(test)]
mod tests;
mod view;

use std::future::Future;
use std::io::{self, IsTerminal as _, Stdout, stdout};
use std::panic;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Once};
use std::time::Duration;

use adit_net::Clock;
use adit_translator::Status;
use adit_units::Monotonic;
use ratatui::Terminal;
use ratatui::backend::{Backend as _, CrosstermBackend};
use ratatui::crossterm::cursor::{Hide, Show};
use ratatui::crossterm::event::{self, Event};
use ratatui::crossterm::execute;
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use tokio::sync::{mpsc, watch};
use tokio::task::block_in_place;
use tokio::time::sleep_until;

use view::{Turn, View};

/// The least time between two drawings.
const DRAW_INTERVAL: Duration = Duration::from_millis(250);
/// How often the thread that waits for keys looks whether anybody still wants them.
const KEYS_INTERVAL: Duration = Duration::from_millis(200);
/// Keys that wait for the next turn; typing pauses when they are too many.
const KEYS_WAITING_MAX: usize = 64;

/// Shows the table until the operator quits, `stop` happens, or nobody tells `status` any more.
///
/// While it runs, nothing else may write to the terminal: logs on standard error would tear the table. The terminal is as it was before when this
/// returns, is dropped, or the program panics. Must run on a runtime of several threads, because a terminal can take its time.
///
/// # Errors
///
/// If standard output is no terminal, or the terminal fails.
pub(crate) async fn run(
    mut status: watch::Receiver<Arc<Status>>,
    stop: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut stop = pin!(stop);
    let mut screen = Screen::open()?;
    let mut keys = listen_to_keys()?;
    let mut view = View::new(Arc::clone(&status.borrow_and_update()));
    let (mut turn, mut next) = (Turn::Draw, Clock.monotonic());
    loop {
        if turn == Turn::Draw && Clock.monotonic() >= next {
            block_in_place(|| screen.draw(&mut view))?;
            next = Clock.monotonic() + DRAW_INTERVAL;
            turn = Turn::Wait;
        }
        let happened = tokio::select! {
            () = &mut stop => return Ok(()),
            event = keys.recv() => match event {
                Some(event) => view.event(&event?),
                None => return Err(io::Error::other("the keyboard is gone")),
            },
            changed = status.changed() => match changed {
                Ok(()) => view.update(Arc::clone(&status.borrow_and_update())),
                Err(_) => return Ok(()),
            },
            () = until(next), if turn == Turn::Draw => continue,
        };
        match happened {
            Turn::Quit => return Ok(()),
            Turn::Draw => turn = Turn::Draw,
            Turn::Wait => {}
        }
    }
}

async fn until(moment: Monotonic) {
    sleep_until(Clock.instant(moment)).await;
}

/// Starts a thread that waits for keys, until the receiver is dropped.
fn listen_to_keys() -> io::Result<mpsc::Receiver<io::Result<Event>>> {
    let (sender, receiver) = mpsc::channel(KEYS_WAITING_MAX);
    let listen = move || {
        while !sender.is_closed() {
            let event = match event::poll(KEYS_INTERVAL) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let is_over = event.is_err();
            if sender.blocking_send(event).is_err() || is_over {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".to_owned()).spawn(listen)?;
    Ok(receiver)
}

/// Whether the terminal shows the table.
static SHOWN: AtomicBool = AtomicBool::new(false);
/// Whether a panic took the terminal from the table, in whatever thread.
static TORN: AtomicBool = AtomicBool::new(false);

/// The terminal while the table is on it.
struct Screen {
    terminal: Terminal<CrosstermBackend<Stdout>>,
}

impl Screen {
    fn open() -> io::Result<Self> {
        if !stdout().is_terminal() {
            return Err(io::Error::other("the live table needs a terminal; standard output is none"));
        }
        give_back_on_panic();
        // From here on, whatever fails, dropping gives the terminal back.
        let mut screen = Self { terminal: Terminal::new(CrosstermBackend::new(stdout()))? };
        screen.take()?;
        Ok(screen)
    }

    fn take(&mut self) -> io::Result<()> {
        SHOWN.store(true, Ordering::SeqCst);
        enable_raw_mode()?;
        execute!(stdout(), EnterAlternateScreen, Hide)?;
        // A terminal that remembers nothing draws all. Its own way to forget asks the screen for the cursor's place, which not every screen says.
        let mut backend = CrosstermBackend::new(stdout());
        backend.clear()?;
        self.terminal = Terminal::new(backend)?;
        Ok(())
    }

    fn draw(&mut self, view: &mut View) -> io::Result<()> {
        if TORN.swap(false, Ordering::SeqCst) {
            self.take()?;
            view.tell_of_trouble();
        }
        self.terminal.draw(|frame| draw::draw(view, frame.area(), frame.buffer_mut()))?;
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

/// Makes the terminal what it was, if the table is on it.
fn give_back() -> bool {
    let was_shown = SHOWN.swap(false, Ordering::SeqCst);
    if was_shown {
        // A terminal that cannot be written to is gone; there is nobody to tell.
        let _ = disable_raw_mode();
        let _ = execute!(stdout(), LeaveAlternateScreen, Show);
    }
    was_shown
}

/// Lets the message of a panic be seen. If that was not the table's own, the table comes back with the next drawing.
fn give_back_on_panic() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if give_back() {
                TORN.store(true, Ordering::SeqCst);
            }
            before(info);
        }));
    });
}
