//! The end of the server's certificate, told in time to make a new one.

use core::time::Duration;
use std::sync::Arc;

use adit_net::{Clock, Draining};
use adit_transport::Identity;
use adit_units::UnixTime;
use tokio::sync::watch;
use tokio::time::sleep;

/// How often the certificate is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(DAY as u64);

/// Seconds of a day.
const DAY: u32 = 24 * 60 * 60;

/// What there is to say about a certificate, with the days that are left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Notice {
    /// At most thirty days are left.
    Month(u32),
    /// At most seven days are left.
    Week(u32),
    /// At most one day is left.
    Day,
    /// It has ended: miners refuse the server.
    Expired,
}

/// What to say about a certificate that holds until `not_valid_after`, in seconds since 1970.
fn notice(not_valid_after: u32, now: UnixTime) -> Option<Notice> {
    let Some(left) = not_valid_after.checked_sub(now.to_secs()) else { return Some(Notice::Expired) };
    let days = left.div_ceil(DAY);
    match days {
        0 | 1 => Some(Notice::Day),
        2..=7 => Some(Notice::Week(days)),
        8..=30 => Some(Notice::Month(days)),
        _ => None,
    }
}

/// Tells the operator every day how long the certificate holds, once its end is near, and at once when there is another one.
pub(super) async fn watch(mut identity: watch::Receiver<Arc<Identity>>, mut draining: Draining) {
    loop {
        let not_valid_after = identity.borrow_and_update().certificate().not_valid_after;
        match notice(not_valid_after, Clock.unix()) {
            None => {}
            Some(Notice::Month(days)) => {
                tracing::warn!(
                    days,
                    "the server's certificate ends soon; plan `adit keys rotate` and a reload"
                )
            }
            Some(Notice::Week(days)) => {
                tracing::warn!(
                    days,
                    "the server's certificate ends within a week; run `adit keys rotate` and reload"
                )
            }
            Some(Notice::Day) => {
                tracing::error!(
                    "the server's certificate ends within a day; run `adit keys rotate` and reload"
                )
            }
            Some(Notice::Expired) => {
                tracing::error!(
                    "the server's certificate has ended and miners refuse it; run `adit keys rotate` and reload"
                )
            }
        }
        tokio::select! {
            biased;
            () = draining.begun() => return,
            Ok(()) = identity.changed() => {}
            () = sleep(LOOK_EVERY) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_running_pool_mentions_the_end_of_its_certificate() {
        let end = 1_800_000_000;
        let at = |left: i64| notice(end, UnixTime::from_secs(u32::try_from(i64::from(end) - left).unwrap()));
        let day = i64::from(DAY);
        assert_eq!([at(365 * day), at(30 * day + 1)], [None; 2]);
        assert_eq!([at(30 * day), at(7 * day + 1)], [Some(Notice::Month(30)), Some(Notice::Month(8))]);
        assert_eq!([at(7 * day), at(day + 1)], [Some(Notice::Week(7)), Some(Notice::Week(2))]);
        assert_eq!([at(day), at(1), at(0)], [Some(Notice::Day); 3]);
        assert_eq!([at(-1), at(-day)], [Some(Notice::Expired); 2]);
    }
}
