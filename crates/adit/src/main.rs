//! The one program: reads the command line, does what it says, and exits with what came of it.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "a program speaks to its terminal; libraries do not")]

mod cli;
mod commands;
mod config;
mod logging;
mod stop;
mod supervisor;
mod view;

use std::process::ExitCode;
use std::sync::Arc;

use adit_net::Rest;
use anyhow::Context as _;
use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::config::Mistakes;
use crate::supervisor::Supervisor;

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// Does what the command says.
fn run(command: &Command) -> anyhow::Result<()> {
    // Commands with a view of their own show what matters in it.
    let quiet = !matches!(
        command,
        Command::Pool(_)
            | Command::TemplateProvider(_)
            | Command::Jds(_)
            | Command::Jdc(_)
            | Command::Translator(_)
    );
    if let Command::Translator(args) = command {
        commands::translator::spare_terminal(args)?;
    }
    let logging = logging::start(quiet);
    match command {
        Command::Init(args) => commands::init::run(args),
        Command::Keys(args) => commands::keys::run(&args.command),
        Command::Check(args) => block_on(commands::check::run(args)),
        Command::Demo(args) => block_on(commands::demo::run(args)),
        Command::Miner(args) => block_on(commands::miner::run(args)),
        Command::Bench(args) => commands::bench::run(args),
        Command::BenchServer(args) => block_on(commands::bench::serve(args)),
        Command::BenchFlood(args) => commands::bench::flood(args),
        Command::Pool(args) => {
            let supervisor = Supervisor::take().context("cannot take over the supervisor's socket")?;
            block_on(commands::pool::run(args, supervisor, &logging))
        }
        Command::TemplateProvider(args) => block_on(commands::template_provider::run(args, &logging)),
        Command::Jds(args) => block_on(commands::jds::run(args, &logging)),
        // One thread costs less than one that is ready to be one of many. The live table needs a second, because a terminal can take its time.
        Command::Translator(args) if !args.tui && has_one_processor() => {
            let rest = Arc::new(Rest::default());
            rest.runtime()?.block_on(commands::translator::run(args, &logging, Some(Arc::clone(&rest))))
        }
        Command::Translator(args) => block_on(commands::translator::run(args, &logging, None)),
        Command::Jdc(args) => block_on(commands::jdc::run(args, &logging)),
    }
}

/// Runs a command that waits for others.
fn block_on(command: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(command)
}

/// Whether this program may use no more than one processor.
fn has_one_processor() -> bool {
    std::thread::available_parallelism().is_ok_and(|number| number.get() == 1)
}

/// Says on standard error what went wrong, and what led to it.
#[expect(clippy::print_stderr, reason = "this is where a failed command says why")]
fn complain(error: &anyhow::Error) {
    match error.downcast_ref::<Mistakes>() {
        Some(mistakes) => {
            eprintln!("{mistakes}");
            eprintln!("adit: cannot use {} ({})", mistakes.place(), count(mistakes.len(), "mistake"));
        }
        None => eprintln!("adit: {}", with_causes(error)),
    }
}

/// An error and what led to it, each cause once: some errors name theirs in words of their own.
fn with_causes(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            let separator = if text.is_empty() { "" } else { ": " };
            text = text + separator + &cause;
        }
    }
    text
}

/// A number with its noun: `1 mistake`, `2 mistakes`.
fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot listen: {source}; choose another port")]
    struct Chatty {
        source: io::Error,
    }

    #[test]
    fn a_cause_was_told_twice() {
        let error = anyhow::Error::new(Chatty { source: io::Error::other("taken") }).context("cannot start");
        assert_eq!(with_causes(&error), "cannot start: cannot listen: taken; choose another port");
        let silent = anyhow::Error::new(io::Error::other("taken")).context("cannot start");
        assert_eq!(with_causes(&silent), "cannot start: taken");
    }
}
