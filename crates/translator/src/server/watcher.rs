//! What the translator tells of itself, put together for those who ask, and for nobody else.

use core::time::Duration;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use adit_net::{Admission, Clock};
use adit_units::Monotonic;
use tokio::sync::{Mutex, watch};
use tokio::time::timeout;

use super::registry::Slot;
use super::steward::Overview;
use super::{Hall, Mode};
use crate::status::{MachineStatus, ShareCounts, Status, UpstreamShares, UpstreamStatus};

/// How old the numbers may be that somebody is given who asks.
const AGE_MAX: Duration = Duration::from_secs(1);

/// How long the steward may take to say what he knows, which he does once a second. One that has ended says nothing.
const PATIENCE: Duration = Duration::from_secs(2);

/// A translator's numbers. They are put together when somebody asks; while nobody does, they cost nothing.
#[derive(Clone, Debug)]
pub struct Numbers(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    hall: Arc<Hall>,
    /// The steward fills it while anybody has subscribed.
    overview: watch::Sender<Overview>,
    admission: Admission,
    started: Monotonic,
    /// When the latest numbers were put together; held by whoever does it, so that others wait for the same.
    made: Mutex<Option<Monotonic>>,
    latest: watch::Sender<Arc<Status>>,
}

impl Numbers {
    pub(super) fn new(hall: Arc<Hall>, overview: watch::Sender<Overview>, admission: Admission) -> Self {
        let (made, latest) = (Mutex::new(None), watch::Sender::new(Arc::default()));
        Self(Arc::new(Inner { hall, overview, admission, started: Clock.monotonic(), made, latest }))
    }

    /// The numbers, at most a second old; it takes as long until they are there, if nobody has asked for a while.
    pub async fn look(&self) -> Arc<Status> {
        let mut made = self.0.made.lock().await;
        if made.is_none_or(|at| Clock.monotonic().saturating_since(at) >= AGE_MAX) {
            let mut seen = self.0.overview.subscribe();
            // Without a steward the numbers are what they were in the end.
            let _ = timeout(PATIENCE, seen.changed()).await;
            self.put_together(&mut seen);
            *made = Some(Clock.monotonic());
        }
        self.latest()
    }

    /// The numbers as somebody was given them last; nothing before the first who asked.
    #[must_use]
    pub fn latest(&self) -> Arc<Status> {
        Arc::clone(&self.0.latest.borrow())
    }

    /// The numbers anew each second, until nobody has the receiver any more.
    ///
    /// # Panics
    ///
    /// If called outside a tokio runtime.
    #[must_use]
    pub fn follow(&self) -> watch::Receiver<Arc<Status>> {
        let (numbers, mut seen) = (self.clone(), self.0.overview.subscribe());
        numbers.put_together(&mut seen);
        let (tell, told) = watch::channel(numbers.latest());
        tokio::spawn(async move {
            loop {
                tokio::select! {
                    () = tell.closed() => return,
                    changed = seen.changed() => if changed.is_err() { return },
                }
                numbers.put_together(&mut seen);
                tell.send_replace(numbers.latest());
            }
        });
        told
    }

    fn put_together(&self, seen: &mut watch::Receiver<Overview>) {
        // Copied, so that the steward does not have to wait for whoever looks.
        let overview = seen.borrow_and_update().clone();
        let Inner { hall, admission, started, latest, .. } = &*self.0;
        let refused = admission.refused().iter().map(|(_, times)| times).sum();
        latest.send_replace(Arc::new(status(hall, &overview, refused, *started)));
    }
}

fn status(hall: &Hall, overview: &Overview, connections_refused: u64, started: Monotonic) -> Status {
    let now = Clock.monotonic();
    let (machines_seen, mut shares) = hall.registry.history();
    let machine = |slot: &Arc<Slot>| machine(hall, slot, overview.machines.get(&slot.id), now);
    let machines: Vec<MachineStatus> = hall.registry.machines().iter().filter_map(machine).collect();
    machines.iter().for_each(|machine| shares.add(&machine.shares));
    let upstreams = hall.config.upstreams.iter().zip(&overview.upstreams);
    let upstreams = upstreams.map(|(target, known)| UpstreamStatus {
        address: target.pool.address(),
        user: target.user.clone(),
        state: known.state.clone(),
        channels: known.channels.clone(),
        shares: known.shares.clone(),
    });
    Status {
        uptime: now.saturating_since(started),
        aggregated: hall.config.mode == Mode::Aggregated,
        upstreams: upstreams.collect(),
        machines,
        machines_seen,
        connections_refused,
        shares,
    }
}

/// What is known of a machine, once it has said anything.
fn machine(
    hall: &Hall,
    slot: &Slot,
    above: Option<&UpstreamShares>,
    now: Monotonic,
) -> Option<MachineStatus> {
    let report = slot.report()?;
    let mut upstream = above.cloned().unwrap_or_default();
    upstream.lost += slot.lost.load(Ordering::Relaxed);
    Some(MachineStatus {
        id: slot.id,
        peer: slot.peer,
        user_agent: report.user_agent,
        class: report.class,
        users: report.users,
        extranonce1: report.extranonce1,
        extranonce2_len: hall.machine.extranonce2_len,
        version_mask: report.version_mask,
        difficulty: report.difficulty,
        hashrate: report.hashrate,
        shares: report.shares,
        upstream,
        connected: now.saturating_since(report.connected),
        last_share: report.last_share.map(|at| now.saturating_since(at)),
        best: report.best,
        long_coinbase: report.long_coinbase,
    })
}

impl ShareCounts {
    /// Adds those of another.
    pub(super) fn add(&mut self, more: &Self) {
        self.accepted += more.accepted;
        self.stale += more.stale;
        self.duplicate += more.duplicate;
        self.low_difficulty += more.low_difficulty;
        self.invalid += more.invalid;
        self.blocks += more.blocks;
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, SocketAddr};

    use adit_net::{Bound, Limits};
    use adit_units::Hashrate;
    use tokio::time::sleep;

    use super::*;
    use crate::MachineConfig;
    use crate::server::{Translator, TranslatorConfig, UpstreamTarget};
    use crate::status::UpstreamState;

    /// A translator with one upstream, where nobody is.
    fn translator() -> Translator {
        let upstream = UpstreamTarget {
            pool: "stratum2+tcp://127.0.0.1:1".parse().unwrap(),
            user: "farm".to_owned(),
            expects: None,
        };
        let config = TranslatorConfig {
            upstreams: vec![upstream],
            mode: Mode::Aggregated,
            machine: MachineConfig::default(),
            keepalive: Duration::from_secs(30),
            first_guess: Hashrate::from_hashes_per_second(1),
            limits: Limits::default(),
            insecure: false,
            allows_public: false,
            expects_proxy: false,
        };
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        Translator::start(config, Bound::new(address).unwrap()).unwrap()
    }

    fn listeners(numbers: &Numbers) -> usize {
        numbers.0.overview.receiver_count()
    }

    #[tokio::test]
    async fn numbers_were_put_together_each_second_for_an_api_that_nobody_asked() {
        let translator = translator();
        let numbers = translator.numbers();
        sleep(AGE_MAX + AGE_MAX / 2).await;
        assert_eq!((listeners(&numbers), numbers.latest().upstreams.len()), (0, 0), "nobody asks");
        let status = numbers.look().await;
        let [upstream] = &*status.upstreams else { panic!("one upstream: {status:?}") };
        assert!(matches!(upstream.state, UpstreamState::Failed { .. } | UpstreamState::Connecting));
        assert!(Arc::ptr_eq(&status, &numbers.latest()));
        assert_eq!(listeners(&numbers), 0, "who has asked once asks no more");

        let mut followed = translator.status();
        let uptime = followed.borrow().uptime;
        followed.changed().await.unwrap();
        assert!(followed.borrow_and_update().uptime > uptime);
        drop(followed);
        while listeners(&numbers) > 0 {
            sleep(Duration::from_millis(10)).await;
        }
        // An answer comes when nobody is left to say anything new.
        translator.shutdown().await;
        assert_eq!(numbers.look().await.upstreams.len(), 1);
    }

    #[tokio::test]
    async fn who_asks_at_the_same_time_gets_the_same_numbers() {
        let numbers = translator().numbers();
        let (one, other) = tokio::join!(numbers.look(), numbers.look());
        assert!(Arc::ptr_eq(&one, &other));
    }
}
