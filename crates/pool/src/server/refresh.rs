//! When one connection takes in work that can wait, so that not all of them do at once.

use core::time::Duration;

use adit_units::{ConnectionId, Monotonic};

/// Over how long connections spread it that they tell their miners of work that can wait.
///
/// Long enough that thousands of writes are no burst in front of the acknowledgements of shares, short beside the minute after which a
/// job is made anew.
pub const REFRESH_SPREAD: Duration = Duration::from_secs(2);

/// A connection's turn to take in work that can wait.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Refresh {
    /// There is no such work.
    #[default]
    None,
    /// There is, and this is when.
    At(Monotonic),
    /// There is none, and none will have to wait.
    Wished,
}

impl Refresh {
    /// Whether work that can wait has to; the first that does is what the turn counts from, later work does not move it.
    pub(super) fn puts_off(&mut self, connection: ConnectionId, spread: Duration, now: Monotonic) -> bool {
        let due = match *self {
            Self::None => now + offset(connection, spread),
            Self::At(due) => due,
            Self::Wished => return false,
        };
        *self = Self::At(due);
        now < due
    }

    /// The connection's miners wait for their next job.
    pub(super) fn hasten(&mut self, now: Monotonic) {
        *self = match *self {
            Self::None | Self::Wished => Self::Wished,
            Self::At(due) => Self::At(due.min(now)),
        };
    }

    /// They have it, and nothing that is for all was passed by for that.
    pub(super) const fn settle(&mut self) {
        if matches!(self, Self::Wished) {
            *self = Self::None;
        }
    }

    /// When it is this connection's turn, if it waits for one.
    pub(super) const fn due(&self) -> Option<Monotonic> {
        match *self {
            Self::At(due) => Some(due),
            Self::None | Self::Wished => None,
        }
    }
}

/// How long after the others a connection has its turn.
///
/// Multiples of the golden ratio, taken modulo one, are even however many there are, and connections are numbered one after another.
fn offset(connection: ConnectionId, spread: Duration) -> Duration {
    let place = u128::from(connection.0.wrapping_mul(0x9e37_79b9));
    let micros = (spread.as_micros() * place) >> u32::BITS;
    Duration::from_micros(u64::try_from(micros).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_have_their_turns_evenly() {
        for count in [10_u32, 100, 1_000, 10_000] {
            let mut tenths = [0_u32; 10];
            for connection in 1..=count {
                let offset = offset(ConnectionId(connection), REFRESH_SPREAD);
                assert!(offset < REFRESH_SPREAD);
                tenths[usize::try_from(10 * offset.as_micros() / REFRESH_SPREAD.as_micros()).unwrap()] += 1;
            }
            let (least, most) = (tenths.iter().min().unwrap(), tenths.iter().max().unwrap());
            assert!(most - least <= 3, "{count} connections: {tenths:?}");
        }
    }

    #[test]
    fn later_work_does_not_move_a_turn() {
        let (connection, start) = (ConnectionId(1), Monotonic::default());
        let mut refresh = Refresh::default();
        assert!(refresh.puts_off(connection, REFRESH_SPREAD, start));
        let due = refresh.due().unwrap();
        assert_eq!(due, start + offset(connection, REFRESH_SPREAD));
        assert!(refresh.puts_off(connection, REFRESH_SPREAD, start + offset(connection, REFRESH_SPREAD) / 2));
        assert_eq!(refresh.due(), Some(due));
        assert!(!refresh.puts_off(connection, REFRESH_SPREAD, due), "it is its turn");
    }

    #[test]
    fn who_wishes_for_a_job_is_next() {
        let (connection, start) = (ConnectionId(1), Monotonic::default());
        let later = start + offset(connection, REFRESH_SPREAD) / 2;
        let mut refresh = Refresh::default();
        assert!(refresh.puts_off(connection, REFRESH_SPREAD, start));
        refresh.hasten(later);
        assert_eq!(refresh.due(), Some(later));
        assert!(!refresh.puts_off(connection, REFRESH_SPREAD, later), "what is there is taken");
        let mut refresh = Refresh::default();
        refresh.hasten(start);
        assert_eq!(refresh.due(), None, "there is nothing yet");
        let mut settled = refresh;
        settled.settle();
        assert!(
            settled.puts_off(connection, REFRESH_SPREAD, later),
            "who has what he wished for waits for the rest"
        );
        assert!(!refresh.puts_off(connection, REFRESH_SPREAD, later), "what comes is taken at once");
    }
}
