//! The ladder on a virtual clock.

use super::*;

fn at(millis: u64) -> Monotonic {
    Monotonic::from_micros(millis * 1_000)
}

/// A ladder of which every upstream is being tried.
fn tried(upstreams: usize) -> Ladder {
    let mut ladder = Ladder::new(upstreams, at(0));
    for place in 0..upstreams {
        assert_eq!(ladder.poll_attempt(at(0)), Some(place));
    }
    assert_eq!(ladder.poll_attempt(at(0)), None);
    ladder
}

#[test]
fn the_best_that_is_ready_is_used_and_given_up_for_a_better_one() {
    let mut ladder = tried(3);
    assert!(ladder.handle_ready(1, at(100)));
    assert!(!ladder.handle_ready(2, at(150)), "worse than what there is");
    assert!(ladder.handle_ready(0, at(200)));
    assert_eq!(ladder.standing(), Standing::Using { upstream: 0, since: at(200) });
    assert_eq!(ladder.poll_attempt(at(1_000_000)), None, "nothing is better than the best");
    assert_eq!(ladder.poll_timeout(), None);
}

#[test]
fn one_that_failed_is_tried_again_with_longer_and_longer_pauses() {
    let mut ladder = tried(2);
    assert!(ladder.handle_ready(1, at(0)));
    let mut now = 0;
    for pause in [1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 60_000, 60_000] {
        ladder.handle_failed(0, Credit::Given, at(now), 0);
        assert_eq!(ladder.poll_timeout(), Some(at(now + pause)));
        assert_eq!(ladder.poll_attempt(at(now + pause - 1)), None);
        now += pause;
        assert_eq!(ladder.poll_attempt(at(now)), Some(0), "after {pause} ms");
    }
    assert!(ladder.handle_ready(0, at(now)), "it came back, and so do the miners");
}

#[test]
fn chance_makes_a_pause_up_to_a_quarter_longer() {
    let mut ladder = tried(1);
    ladder.handle_failed(0, Credit::Given, at(0), u8::MAX);
    let due = ladder.poll_timeout().unwrap();
    assert!(due > at(1_000) && due <= at(1_250), "{due:?}");
}

#[test]
fn miners_work_for_themselves_once_nothing_is_left_to_wait_for() {
    let mut ladder = tried(2);
    ladder.handle_failed(0, Credit::Given, at(10), 0);
    assert!(!ladder.handle_timeout(at(10)), "the other one may still answer");
    ladder.handle_failed(1, Credit::Given, at(20), 0);
    assert!(ladder.handle_timeout(at(20)));
    assert_eq!(ladder.standing(), Standing::Solo);
    assert!(!ladder.handle_timeout(at(30)), "said once");
    assert_eq!(ladder.poll_attempt(at(1_010)), Some(0), "and it goes on trying");
    assert!(ladder.handle_ready(0, at(1_100)));
}

#[test]
fn an_upstream_that_hangs_does_not_keep_miners_from_working_for_themselves() {
    let mut ladder = tried(1);
    assert!(!ladder.handle_timeout(at(2_999)));
    assert_eq!(ladder.poll_timeout(), Some(at(3_000)));
    assert!(ladder.handle_timeout(at(3_000)));
    assert!(ladder.handle_ready(0, at(9_000)), "late is better than never");
}

#[test]
fn when_the_one_in_use_fails_all_others_are_tried() {
    let mut ladder = tried(3);
    assert!(ladder.handle_ready(0, at(0)));
    ladder.handle_failed(1, Credit::Given, at(0), 0);
    assert!(!ladder.handle_ready(2, at(0)));
    ladder.handle_failed(0, Credit::Given, at(5_000), 0);
    assert_eq!(ladder.standing(), Standing::Stranded { until: at(8_000) });
    assert_eq!(ladder.poll_attempt(at(5_000)), Some(1));
    assert_eq!(ladder.poll_attempt(at(5_000)), Some(2));
    assert_eq!(ladder.poll_attempt(at(5_000)), None, "its own pause has begun");
    assert_eq!(ladder.poll_attempt(at(6_000)), Some(0));
}

#[test]
fn failures_are_forgiven_to_who_has_served_well() {
    let mut ladder = tried(1);
    for _ in 0..5 {
        ladder.handle_failed(0, Credit::Given, at(0), 0);
    }
    assert!(ladder.handle_ready(0, at(100_000)));
    ladder.handle_failed(0, Credit::Given, at(100_000 + 119_999), 0);
    assert_eq!(
        ladder.poll_timeout(),
        Some(at(219_999 + 3_000)),
        "its pause is longer than the patience of miners"
    );
    assert_eq!(ladder.poll_attempt(at(219_999 + 31_999)), None);
    assert_eq!(ladder.poll_attempt(at(219_999 + 32_000)), Some(0));
    assert!(ladder.handle_ready(0, at(300_000)));
    ladder.handle_failed(0, Credit::Given, at(300_000 + 120_000), 0);
    assert_eq!(ladder.poll_attempt(at(421_000)), Some(0));
}

/// Of six hours, the seconds that an upstream has the miners which holds them for 200 seconds each time, with a good one behind it.
fn seconds_held(credit: Credit) -> u64 {
    let (mut ladder, mut held, mut ends) = (Ladder::new(2, at(0)), 0, None);
    for now in 0..6 * 3_600 {
        let time = at(now * 1_000);
        if ends == Some(now) {
            ladder.handle_failed(0, credit, time, 0);
            ends = None;
        }
        while let Some(upstream) = ladder.poll_attempt(time) {
            if ladder.handle_ready(upstream, time) && upstream == 0 {
                ends = Some(now + 200);
            }
        }
        held += u64::from(ends.is_some());
    }
    held
}

/// It was tried again a second after it had failed, because it had held the miners for long, and they worked for nothing nearly all the time.
#[test]
fn an_upstream_that_paid_for_nothing_had_the_miners_of_one_that_did() {
    let [paying, worthless] = [Credit::Given, Credit::Withheld].map(seconds_held);
    assert!(paying > 21_000, "{paying}");
    assert!(worthless < 21_600 / 3, "{worthless}");
}

#[test]
fn one_that_paid_for_nothing_is_tried_soon_where_there_is_no_other() {
    let mut ladder = Ladder::new(1, at(0));
    let mut now = 0;
    for _ in 0..20 {
        now += 60_000;
        assert_eq!(ladder.poll_attempt(at(now)), Some(0));
        ladder.handle_ready(0, at(now));
        now += 1_000;
        ladder.handle_failed(0, Credit::Withheld, at(now), 0);
    }
}

#[test]
fn without_upstreams_miners_work_for_themselves_at_once() {
    let mut ladder = Ladder::new(0, at(0));
    assert_eq!(ladder.poll_attempt(at(0)), None);
    assert!(ladder.handle_timeout(at(0)));
    assert_eq!((ladder.standing(), ladder.poll_timeout()), (Standing::Solo, None));
}
