//! Floods of every kind, the limits that end them, and an honest miner beside them whose acknowledgements come as in quiet times.

use core::time::Duration;

use adit_net::{HANDSHAKE_PATIENCE, Limits, OutboxLimits};
use adit_testkit::flood::{Attack, Felt, Flood, Kind, Victim};
use tokio::time::{sleep, timeout};

use crate::miner::Miner;
use crate::stage::{PATIENCE, Plan, Stage};

/// Quiet and hostile phases, in turns, so that what else happens on the machine happens to both.
const ROUNDS: usize = 5;

/// Acknowledgements that are measured in each phase.
const ACKS: usize = 110;

/// The most that an acknowledgement may take longer beside a flood than twice the quiet time, where that time is longer than this.
/// Attackers run in the same process as the server, on as few processors as the machine has, and beside compilers: a task that waits
/// for its turn waits for some slices of the scheduler's time.
const ALLOWANCE: Duration = Duration::from_millis(20);

/// How often the whole is measured before it counts as too slow: what else happens on the machine passes.
const TRIES: usize = 3;

/// The slowest acknowledgement but one in a hundred.
async fn p99(honest: &mut Miner) -> Duration {
    let mut times = Vec::with_capacity(ACKS);
    for _ in 0..ACKS {
        times.push(honest.earn().await);
        sleep(Duration::from_millis(2)).await;
    }
    times.sort();
    times[ACKS * 99 / 100]
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// The longest that an acknowledgement may take beside a flood: less than five times the quiet time, however short that is.
fn longest(quiet: Duration) -> Duration {
    2 * quiet + ALLOWANCE.min(2 * quiet)
}

#[test]
fn five_times_the_quiet_time_is_never_allowed() {
    for quiet in [1, 30, 400, 2_500, 9_999, 10_001, 40_000, 1_000_000].map(Duration::from_micros) {
        let longest = longest(quiet);
        assert!(longest >= 2 * quiet && longest < 5 * quiet, "{quiet:?}");
        assert!(longest <= 2 * quiet + Duration::from_millis(20), "{quiet:?}");
    }
}

/// Measures an honest miner beside a flood and without, again if that is too slow.
async fn keeps_earning(honest: &mut Miner, flood: Flood, victim: &Victim) {
    let mut measured = Vec::new();
    for _ in 0..TRIES {
        let (quiet, hostile) = measure(honest, flood, victim).await;
        eprintln!(
            "measured: {}: p99 of an acknowledgement {hostile:?}, in quiet times {quiet:?}",
            flood.kind
        );
        assert!(honest.refused.is_empty(), "{:?}", honest.refused);
        if hostile <= longest(quiet) {
            return;
        }
        measured.push((quiet, hostile));
    }
    panic!("{}: too slow each time, in quiet times and beside the flood: {measured:?}", flood.kind);
}

/// The times of acknowledgements in quiet and hostile phases.
async fn measure(honest: &mut Miner, flood: Flood, victim: &Victim) -> (Duration, Duration) {
    let (mut quiet, mut hostile) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        quiet.push(p99(honest).await);
        let attack = flood.start(victim);
        hostile.push(p99(honest).await);
        drop(attack);
    }
    (median(quiet), median(hostile))
}

/// Waits until attackers have felt enough: some limits take longer than the honest miner is measured.
async fn until_felt(attack: &Attack, enough: impl Fn(Felt) -> bool) -> Felt {
    let felt = async {
        while !enough(attack.felt()) {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, felt).await.unwrap_or_else(|_| panic!("only {:?}", attack.felt()));
    attack.felt()
}

/// Runs a flood beside an honest miner, and on until enough was felt.
async fn flooded(stage: &Stage, flood: Flood, enough: impl Fn(Felt) -> bool) -> Felt {
    let mut honest = stage.miner().await;
    let victim = Victim { address: stage.server.address(), authority: stage.authority, job: None };
    keeps_earning(&mut honest, flood, &victim).await;
    let attack = flood.start(&victim);
    let felt = until_felt(&attack, enough).await;
    stage.miner().await.earn().await;
    drop(attack);
    honest.earn().await;
    felt
}

/// A flood with nothing between two acts of an attacker but what the server takes.
fn restless(kind: Kind, attackers: u32) -> Flood {
    Flood { kind, attackers, rest: Duration::ZERO }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_handshakes_meets_the_limit_for_newcomers_and_delays_nobody() {
    let mut plan = Plan::quiet();
    plan.server.limits = Limits { newcomers_per_address: 16, ..Limits::default() };
    let flood = Flood { kind: Kind::Handshakes, attackers: 48, rest: Duration::from_millis(20) };
    let is_linux = cfg!(target_os = "linux");
    flooded(&plan.start(), flood, |felt| felt.answered >= 100 && (!is_linux || felt.limited >= 100)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn slow_handshakes_end_at_the_handshakes_deadline_and_delay_nobody() {
    let flood = Flood { kind: Kind::SlowHandshakes, attackers: 100, rest: Duration::from_millis(250) };
    let felt = flooded(&Plan::quiet().start(), flood, |felt| felt.limited >= 100).await;
    let longest = Duration::from_micros(felt.longest_micros);
    assert!(longest >= HANDSHAKE_PATIENCE && longest < PATIENCE, "{longest:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn claims_of_sixteen_mebibytes_are_refused_from_their_header_and_delay_nobody() {
    let stage = Plan::quiet().start();
    let flood = Flood { kind: Kind::LengthClaims, attackers: 9, rest: Duration::from_millis(20) };
    flooded(&stage, flood, |felt| felt.limited >= 9).await;
    // The first attacker is the one who claims all of it.
    flooded(&stage, Flood { attackers: 1, ..flood }, |felt| felt.limited >= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_worthless_shares_ends_with_the_patience_for_garbage_and_delays_nobody() {
    flooded(&Plan::quiet().start(), restless(Kind::WorthlessShares, 2), |felt| felt.limited >= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_repeated_shares_ends_with_the_patience_for_repeats_and_delays_nobody() {
    flooded(&Plan::quiet().start(), restless(Kind::RepeatedShares, 2), |felt| felt.limited >= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_requests_for_channels_meets_both_limits_and_delays_nobody() {
    let mut plan = Plan::quiet();
    plan.pool.channels_per_connection = 16;
    let flood = restless(Kind::ChannelRequests, 2);
    let felt = flooded(&plan.start(), flood, |felt| felt.limited >= 2).await;
    assert!(felt.refused > 0, "nobody was told of the limit for channels");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flood_of_channels_opened_and_closed_ends_with_the_patience_for_requests_and_delays_nobody() {
    flooded(&Plan::quiet().start(), restless(Kind::ChannelTurnover, 2), |felt| felt.limited >= 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn peers_that_never_read_are_cut_off_at_the_outboxs_age_and_delay_nobody() {
    let mut plan = Plan::quiet();
    plan.server.outbox = OutboxLimits { bytes: 16 * 1024, age: Duration::from_secs(1) };
    flooded(&plan.start(), restless(Kind::Unread, 4), |felt| felt.limited >= 4).await;
}
