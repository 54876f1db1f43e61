//! A flood beside honest connections, by turns with quiet times, and what it does to their acknowledgements.

use core::time::Duration;
use std::ffi::OsString;
use std::process::Stdio;

use serde::Serialize;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use super::histogram::Quantiles;
use super::process::{SERVER_PATIENCE, ServerError};
use super::tally::Tally;
use super::{Crowd, LoadError};
use crate::flood::{Felt, Kind};

/// How often quiet and flood take turns.
pub const ROUNDS: u32 = 5;

/// What of each phase is left out, so that one has ended and the other has begun.
const SETTLING: Duration = Duration::from_millis(500);

/// A flood to be measured.
#[derive(Clone, Debug)]
pub struct Flooding {
    /// Of which kind.
    pub kind: Kind,
    /// The command line of a program that floods the server until its standard input ends, and then prints [`Felt`] as JSON.
    pub command: Vec<OsString>,
}

/// What became of honest connections beside a flood.
#[derive(Clone, Debug, Serialize)]
pub struct FloodResults {
    /// Of which kind.
    pub kind: Kind,
    /// One after the other.
    pub rounds: Vec<FloodRound>,
    /// The median over the rounds of 99 in a hundred acknowledgements in quiet times, in microseconds.
    pub quiet_p99_micros: u64,
    /// The same beside the flood.
    pub beside_p99_micros: u64,
    /// What the attackers did and felt in all rounds.
    pub felt: Felt,
}

/// A quiet phase and a flooded one.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FloodRound {
    /// From the moment that a share was due to its acknowledgement.
    pub quiet_micros: Quantiles,
    /// The same beside the flood.
    pub beside_micros: Quantiles,
    /// What the attackers did and felt.
    pub felt: Felt,
}

impl FloodResults {
    /// The results of these rounds, if there are any.
    pub(super) fn new(kind: Kind, rounds: Vec<FloodRound>) -> Option<Self> {
        let median = |p99: fn(&FloodRound) -> u64| {
            let mut all: Vec<_> = rounds.iter().map(p99).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied()
        };
        let quiet_p99_micros = median(|round| round.quiet_micros.p99)?;
        let beside_p99_micros = median(|round| round.beside_micros.p99)?;
        let felt = rounds.iter().fold(Felt::default(), |sum, round| sum.and(round.felt));
        Some(Self { kind, rounds, quiet_p99_micros, beside_p99_micros, felt })
    }

    /// How many hundredths of the quiet p99 the one beside the flood is.
    #[must_use]
    pub fn percent(&self) -> u64 {
        self.beside_p99_micros * 100 / self.quiet_p99_micros.max(1)
    }
}

impl Crowd {
    /// Measures the acknowledgements of paced shares in quiet times and beside a flood, by turns; each phase takes its part of `span`.
    pub(super) async fn take_turns(
        &self,
        flooding: &Flooding,
        span: Duration,
    ) -> Result<Option<FloodResults>, LoadError> {
        let phase = span / (2 * ROUNDS);
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let quiet_micros = self.phase(phase).await?;
            let flooder = Flooder::start(&flooding.command)?;
            let beside_micros = self.phase(phase).await?;
            rounds.push(FloodRound { quiet_micros, beside_micros, felt: flooder.stop().await? });
        }
        Ok(FloodResults::new(flooding.kind, rounds))
    }

    /// The acknowledgements of a while, but for its beginning.
    async fn phase(&self, span: Duration) -> Result<Quantiles, LoadError> {
        sleep(SETTLING).await;
        self.run.tally().phase = Some(Default::default());
        sleep(span).await;
        let Tally { phase, .. } = &mut *self.run.tally();
        phase.take().and_then(|acks| acks.quantiles()).ok_or(LoadError::NoAcknowledgements)
    }
}

/// The process of the attackers.
struct Flooder {
    child: Child,
}

impl Flooder {
    fn start(command: &[OsString]) -> Result<Self, ServerError> {
        let silent = || ServerError::Silent("flood".to_owned());
        let (program, arguments) = command.split_first().ok_or_else(silent)?;
        let mut command = Command::new(program);
        let child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
        Ok(Self { child: child.spawn()? })
    }

    /// Ends it; what it has felt.
    async fn stop(mut self) -> Result<Felt, ServerError> {
        drop(self.child.stdin.take());
        let silent = || ServerError::Silent("flood".to_owned());
        let (mut said, mut stdout) = (String::new(), self.child.stdout.take().ok_or_else(silent)?);
        let ending = async {
            stdout.read_to_string(&mut said).await?;
            self.child.wait().await
        };
        let status = timeout(SERVER_PATIENCE, ending).await.map_err(|_| silent())??;
        let felt = serde_json::from_str(&said).ok();
        felt.filter(|_| status.success()).ok_or_else(silent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(quiet: u64, beside: u64) -> FloodRound {
        let quantiles = |p99| Quantiles { p50: 1, p90: 2, p99, max: 9_999 };
        let felt = Felt { acts: 10, longest_micros: quiet, ..Felt::default() };
        FloodRound { quiet_micros: quantiles(quiet), beside_micros: quantiles(beside), felt }
    }

    #[test]
    fn one_bad_round_does_not_decide() {
        let rounds = vec![round(100, 150), round(110, 9_000), round(90, 140)];
        let results = FloodResults::new(Kind::Unread, rounds).unwrap();
        assert_eq!((results.quiet_p99_micros, results.beside_p99_micros, results.percent()), (100, 150, 150));
        assert_eq!((results.felt.acts, results.felt.longest_micros), (30, 110));
        assert!(FloodResults::new(Kind::Unread, Vec::new()).is_none());
    }

    #[tokio::test]
    async fn a_flooder_ends_with_its_input_and_says_what_it_felt() {
        let command = |script: &str| ["sh", "-c", script].map(OsString::from);
        let felt = Felt { acts: 7, limited: 2, ..Felt::default() };
        let said = serde_json::to_string(&felt).unwrap();
        let flooder = Flooder::start(&command(&format!("read end; echo '{said}'"))).unwrap();
        assert_eq!(flooder.stop().await.unwrap(), felt);
        for broken in ["read end; exit 0".to_owned(), format!("echo '{said}'; exit 1")] {
            let flooder = Flooder::start(&command(&broken)).unwrap();
            assert!(matches!(flooder.stop().await, Err(ServerError::Silent(_))), "{broken}");
        }
    }
}
