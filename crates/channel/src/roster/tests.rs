//! Attempts that fail, follow one another and are let go, on a virtual clock.

use super::*;

fn at(secs: u64) -> Monotonic {
    Monotonic::from_micros(secs * 1_000_000)
}

/// What some upstream asks for.
type Terms = u8;

fn terms() -> Terms {
    1
}

/// Makes all attempts that are due; the answer is which.
fn tries(roster: &mut Roster<(), Terms>, now: u64) -> Vec<usize> {
    let mut tried = Vec::new();
    while let Some(upstream) = roster.poll_attempt(at(now)) {
        roster.begin((upstream, 0), |_| ());
        tried.push(upstream);
    }
    tried
}

/// Of that many upstreams the first is in use, as attempt number one, and the others have failed.
fn using_the_first(upstreams: usize) -> Roster<(), Terms> {
    let mut roster = Roster::new(upstreams, at(0));
    assert_eq!(tries(&mut roster, 0).len(), upstreams);
    for other in 2..=upstreams {
        roster.handle_failed(other as LinkId, Credit::Given, at(0), 0).unwrap();
    }
    assert!(roster.handle_ready(1, terms(), at(0)));
    roster.handle_job();
    roster
}

fn ids(roster: &Roster<(), Terms>) -> Vec<LinkId> {
    roster.attempts.iter().map(|attempt| attempt.id).collect()
}

#[test]
fn an_upstream_whose_terms_make_no_rules_is_not_used_and_the_next_one_is() {
    let mut roster = Roster::new(2, at(0));
    assert_eq!(tries(&mut roster, 0), [0, 1]);
    // Both come through; the better one asks for what cannot be done.
    assert!(roster.handle_ready(2, terms(), at(1)));
    assert_eq!(
        roster.handle_failed(1, Credit::Given, at(1), 0),
        Some(Failed { upstream: 0, was_used: false })
    );
    assert_eq!(roster.used().map(|used| used.upstream), Some(1));
    assert_eq!(ids(&roster), [2], "it was not let go for the better one");
    assert_eq!(
        (tries(&mut roster, 1), tries(&mut roster, 2)),
        (vec![], vec![0]),
        "the better one is tried again later"
    );
}

#[test]
fn the_upstream_in_use_is_left_when_its_terms_come_to_make_no_rules() {
    let mut roster = using_the_first(2);
    assert!(roster.handle_terms(1, terms(), at(5)));
    assert_eq!(
        roster.handle_failed(1, Credit::Given, at(5), 0),
        Some(Failed { upstream: 0, was_used: true })
    );
    assert!(roster.used().is_none());
    assert_eq!(tries(&mut roster, 5), [1]);
    assert!(roster.handle_ready(3, terms(), at(6)));
}

#[test]
fn an_upstream_that_no_job_is_made_for_is_given_up() {
    let mut roster = using_the_first(1);
    assert_eq!(roster.poll_timeout(), None, "it has a job");
    assert!(roster.handle_terms(1, terms(), at(100)));
    assert_eq!(roster.poll_timeout(), Some(at(110)));
    assert_eq!(roster.poll_jobless(true, at(109)), None);
    assert_eq!(roster.poll_jobless(false, at(110)), None, "the node is to blame");
    assert_eq!(roster.poll_jobless(true, at(119)), None, "it has only just come back");
    assert_eq!(roster.poll_jobless(true, at(120)), Some(1));
    roster.handle_job();
    assert_eq!(roster.poll_jobless(true, at(1_000)), None);
}

#[test]
fn an_upstream_in_use_that_sends_us_on_again_and_again_is_followed_once() {
    let mut roster = using_the_first(1);
    assert_eq!(roster.redirect(1, at(10)), Some((0, 1)));
    roster.begin((0, 1), |_| ());
    for _ in 0..1_000 {
        assert_eq!(roster.redirect(1, at(10)), None, "the first one is under way");
    }
    assert_eq!(roster.handle_failed(2, Credit::Given, at(11), 0), None, "the one in use still is");
    assert_eq!(roster.redirect(1, at(69)), None, "too soon after the last time");
    assert_eq!(roster.redirect(1, at(70)), Some((0, 1)));
    roster.begin((0, 1), |_| ());
    assert!(roster.handle_ready(3, terms(), at(71)));
    assert_eq!(roster.used().map(|used| used.id), Some(3));
    assert_eq!(roster.redirect(1, at(72)), None, "it is being let go");
    assert_eq!(ids(&roster), [1, 3]);
    assert!(!roster.handle_timeout(at(81)));
    assert_eq!(ids(&roster), [3]);
}

#[test]
fn one_that_is_let_go_is_kept_for_as_long_as_it_is_needed() {
    let mut roster = Roster::new(2, at(0));
    assert_eq!(tries(&mut roster, 0), [0, 1]);
    assert!(roster.handle_ready(2, terms(), at(0)) && roster.handle_ready(1, terms(), at(0)));
    for now in 1..60 {
        roster.keep(2, at(now));
        assert!(!roster.handle_timeout(at(now)));
    }
    assert_eq!(
        (ids(&roster), roster.poll_timeout()),
        (vec![1, 2], Some(at(10))),
        "it has the time for its farewell"
    );
    roster.keep(1, at(60));
    assert!(roster.attempt(1).is_some_and(|attempt| !attempt.is_leaving()), "the one in use does not leave");
    roster.handle_timeout(at(69));
    assert_eq!(ids(&roster), [1]);
}

#[test]
fn whoever_is_sent_from_place_to_place_does_not_go_on_for_ever() {
    let mut roster: Roster<(), Terms> = Roster::new(1, at(0));
    assert_eq!(tries(&mut roster, 0), [0]);
    for (id, hops) in [(1, 1), (2, 2), (3, 3)] {
        assert_eq!(roster.redirect(id, at(0)), Some((0, hops)));
        assert!(roster.attempts.is_empty(), "its place is taken by the next one");
        roster.begin((0, hops), |_| ());
    }
    assert_eq!(roster.redirect(4, at(0)), None);
    assert_eq!(ids(&roster), [4]);
}

#[test]
fn miners_are_left_to_themselves_when_nothing_is_to_be_had() {
    let mut roster = using_the_first(1);
    roster.handle_failed(1, Credit::Given, at(500), 0).unwrap();
    assert!(roster.handle_timeout(at(503)));
    assert_eq!(roster.standing(), Standing::Solo);
    assert_eq!(tries(&mut roster, 503), [0], "and it is tried again");
}

#[test]
fn an_upstream_that_has_sent_us_on_took_the_miners_back_and_then_left_them_without_any() {
    let mut roster = using_the_first(1);
    let (upstream, hops) = roster.redirect(1, at(1)).unwrap();
    roster.begin((upstream, hops), |_| ());
    assert!(roster.handle_ready(2, terms(), at(2)));
    assert!(!roster.handle_ready(1, terms(), at(3)), "what the former one says changes nothing");
    assert_eq!(roster.used().map(|used| used.id), Some(2));
    assert!(roster.attempt(1).is_some_and(Attempt::is_leaving), "it may still answer");
    roster.handle_timeout(at(30));
    assert_eq!(ids(&roster), [2], "the one in use is never dropped");
}

#[test]
fn of_two_attempts_at_one_upstream_the_later_is_used_and_stays() {
    let mut roster = using_the_first(1);
    let (upstream, hops) = roster.redirect(1, at(1)).unwrap();
    roster.begin((upstream, hops), |_| ());
    roster.handle_failed(1, Credit::Given, at(1), 0);
    assert_eq!(tries(&mut roster, 3), [0]);
    assert!(roster.handle_ready(2, terms(), at(4)) && roster.handle_ready(3, terms(), at(4)));
    assert!(!roster.handle_ready(2, terms(), at(5)));
    roster.handle_timeout(at(30));
    assert_eq!((ids(&roster), roster.used().map(|used| used.id)), (vec![3], Some(3)));
}
