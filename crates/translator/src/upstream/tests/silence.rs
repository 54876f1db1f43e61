//! Pools that stop answering, and pools that are only slow to.

use super::*;

const LAST_JOB: u32 = 1_000;

/// The reference pool accepts ten shares with one answer, and waits for the tenth as long as it takes.
const SRI_BATCH: u64 = 10;

fn accepted(last_sequence_number: u32) -> mining::SubmitSharesSuccess {
    mining::SubmitSharesSuccess {
        channel_id: 2,
        last_sequence_number,
        new_submits_accepted_count: 1,
        new_shares_sum: 1,
    }
}

/// A pool that has brought a job every half minute so far.
fn steady() -> (Stage, ChannelWork) {
    let (mut stage, work) = Stage::mining();
    for id in 2..=6 {
        brings_job(&mut stage, id);
        stage.passes(seconds(30)).unwrap();
    }
    stage.hears(job(2, LAST_JOB, Some(NTIME))).unwrap();
    stage.work();
    (stage, work)
}

fn brings_job(stage: &mut Stage, id: u32) {
    stage.hears(job(2, id, Some(NTIME))).unwrap();
    stage.work();
}

/// Submits a share after each pause; when the pool is given up, if it is.
fn submits_until_given_up(stage: &mut Stage, work: &ChannelWork, pauses: &[Duration]) -> Option<Duration> {
    let start = stage.now;
    for (tag, &pause) in pauses.iter().enumerate() {
        stage.submits(tag as u64, work).unwrap();
        stage.sent();
        if let Err(error) = stage.passes(pause) {
            assert!(matches!(error, UpstreamError::Silent(_)), "{error}");
            return Some(stage.now.saturating_since(start));
        }
    }
    None
}

/// Without a word from the pool nobody knew whether it was slow.
#[test]
fn a_pool_that_hung_took_ten_minutes_of_shares() {
    for mut stage in [steady().0, Stage::mining().0] {
        stage.hears(job(2, LAST_JOB + 1, Some(NTIME))).unwrap();
        let work = stage.work();
        stage.is_there = false;
        stage.submits(1, &work).unwrap();
        stage.sent();
        stage.passes(seconds(7)).unwrap();
        let asked = stage.sent();
        assert!(matches!(asked.as_slice(), [Sent::Open { least: u16::MAX, .. }]), "{asked:?}");
        stage.passes(seconds(7)).unwrap();
        let error = stage.passes(seconds(4)).unwrap_err();
        assert_eq!(error, UpstreamError::Silent("anything while shares wait for an answer"));
        assert!(!error.is_refusal(), "it may be tried again soon");
    }
}

/// Whatever comes after the question answers it, and a channel that nobody wanted is not kept.
#[test]
fn a_pool_that_was_asked_and_speaks_is_there() {
    let (mut stage, work) = steady();
    stage.is_there = false;
    stage.submits(1, &work).unwrap();
    stage.passes(seconds(7)).unwrap();
    let Some(&Sent::Open { request, .. }) = stage.sent().last() else { panic!("it asks") };
    stage.hears(opened(request, 77, 1)).unwrap();
    assert_eq!(stage.sent(), [Sent::Close { channel: 77, reason: "nobody needs it".to_owned() }]);
    assert_eq!((stage.events(), stage.ignored().answers), (Vec::new(), 0));
    stage.passes(seconds(14)).unwrap();
    brings_job(&mut stage, 2_000);
    stage.passes(seconds(9)).unwrap();
    brings_job(&mut stage, 2_001);
    stage.passes(seconds(9)).unwrap();
    assert_eq!(stage.upstream.pending(), 1);
}

#[test]
fn a_pool_that_owes_nothing_may_be_silent_for_long() {
    let (mut stage, work) = steady();
    stage.passes(seconds(500)).unwrap();
    stage.submits(1, &work).unwrap();
    stage.passes(seconds(19)).unwrap();
    stage.hears(accepted(1)).unwrap();
    stage.passes(seconds(599)).unwrap();
    assert_eq!(stage.passes(seconds(1)), Err(UpstreamError::Silent("anything")));
}

#[test]
fn a_share_after_a_long_silence_has_its_time_to_be_answered() {
    let (mut stage, work) = steady();
    stage.submits(1, &work).unwrap();
    stage.hears(accepted(1)).unwrap();
    stage.passes(seconds(300)).unwrap();
    stage.is_there = false;
    let given_up = submits_until_given_up(&mut stage, &work, &[seconds(60)]).unwrap();
    assert!((seconds(15)..=seconds(18)).contains(&given_up), "{given_up:?}");
}

/// Jobs that come with new blocks only, as on test networks, and answers that come with every tenth share.
#[test]
fn a_pool_that_batches_answers_and_has_few_jobs_is_not_left() {
    let (mut stage, work) = Stage::mining();
    let mut sent = 0;
    for minute in 0..600 {
        if minute % 9 == 0 {
            brings_job(&mut stage, 2 + minute);
        }
        for _ in 0..4 {
            sent += 1;
            stage.submits(sent, &work).unwrap();
            if sent % SRI_BATCH == 0 {
                stage.accepts_all();
            }
            stage.passes(seconds(15)).unwrap();
        }
        stage.events();
        stage.sent();
    }
    assert!((1..=4).contains(&stage.doubts), "in 2 400 shares it was asked {} times", stage.doubts);
}

/// A machine so slow that ten shares take it most of a day: nine of them wait for hours.
#[test]
fn a_slow_channel_at_a_pool_that_batches_answers_is_not_left() {
    let (mut stage, work) = steady();
    let mut sent = 0;
    for id in 0..2_000 {
        brings_job(&mut stage, 2_000 + id);
        stage.passes(seconds(45)).unwrap();
        if id % 60 == 0 {
            sent += 1;
            stage.submits(sent, &work).unwrap();
        }
        if sent > 0 && sent % SRI_BATCH == 0 && id % 60 == 0 {
            stage.accepts_all();
            assert_eq!(stage.events().len() as u64, SRI_BATCH);
        }
        stage.sent();
    }
    assert_eq!((sent, stage.upstream.pending()), (34, 4));
    assert!(u64::from(stage.doubts) <= sent, "not asked again before there is another share");
}

/// The pool's jobs go on, and no share is accepted any more.
#[test]
fn a_pool_that_stopped_answering_and_went_on_with_jobs_took_all_shares() {
    let (mut stage, work) = steady();
    for tag in 1..=20 {
        stage.submits(tag, &work).unwrap();
        if tag % SRI_BATCH == 0 {
            stage.hears(accepted(u32::try_from(tag).unwrap())).unwrap();
        }
    }
    stage.events();
    let mut given_up = None;
    for minute in 0..5 {
        brings_job(&mut stage, 2_000 + minute);
        if let Some(time) = submits_until_given_up(&mut stage, &work, &[seconds(1); 60]) {
            given_up = Some(seconds(60 * u64::from(minute)) + time);
            break;
        }
    }
    let given_up = given_up.expect("it does not answer any more");
    // It refuses what it must, so it takes 65 shares, and then 20 seconds.
    assert!((seconds(85)..=seconds(91)).contains(&given_up), "{given_up:?}");
}

/// It took 64 shares, or a thousand if none had ever been answered: hours of a slow channel's work.
#[test]
fn a_pool_that_judged_nothing_was_left_only_after_many_shares() {
    for has_answered in [false, true] {
        let (mut stage, work) = steady();
        stage.judges = false;
        if has_answered {
            stage.submits(1, &work).unwrap();
            stage.passes(seconds(1)).unwrap();
            stage.accepts_all();
            stage.events();
        }
        let start = stage.now;
        let error = (0..100).find_map(|round| {
            brings_job(&mut stage, 2_000 + round);
            stage.submits(10 + u64::from(round), &work).unwrap();
            stage.sent();
            stage.passes(seconds(6)).err()
        });
        assert_eq!(error, Some(UpstreamError::Silent("an answer to any share")));
        let (given_up, bound) = (stage.now.saturating_since(start), DOUBT_AFTER + PROBE_PATIENCE);
        assert!((bound..=bound + seconds(3)).contains(&given_up), "{given_up:?}");
    }
}

/// The reference pool waits for nine others before it answers.
#[test]
fn one_lone_share_waits_for_hours_and_the_pool_is_asked_once() {
    let (mut stage, work) = steady();
    stage.submits(1, &work).unwrap();
    for round in 0..300 {
        brings_job(&mut stage, 2_000 + round);
        stage.sent();
        stage.passes(seconds(45)).unwrap();
    }
    assert_eq!((stage.upstream.pending(), stage.doubts, stage.ignored().answers), (1, 1, 0));
    assert_eq!(stage.events(), [], "and what it was asked with is nobody's share");
    stage.accepts_all();
    assert_eq!(stage.events(), [settled(1, Outcome::Accepted)]);
}

#[test]
fn how_many_shares_a_pool_answers_at_once_is_learnt() {
    let (mut stage, work) = steady();
    let mut sent = 0;
    for round in 0..20 {
        for _ in 0..500 {
            sent += 1;
            stage.submits(sent, &work).unwrap();
            stage.passes(Duration::from_millis(150)).unwrap();
        }
        stage.accepts_all();
        assert_eq!(stage.events().len(), 500);
        brings_job(&mut stage, 2_000 + round);
        stage.sent();
    }
}

#[test]
fn a_refusal_says_nothing_of_how_many_shares_are_answered_at_once() {
    let (mut stage, work) = steady();
    stage.submits(1, &work).unwrap();
    stage
        .hears(mining::SubmitSharesError { channel_id: 2, sequence_number: 1, error_code: text("no") })
        .unwrap();
    for tag in 2..=500 {
        stage.submits(tag, &work).unwrap();
    }
    stage.passes(seconds(80)).unwrap();
    stage.hears(accepted(500)).unwrap();
}

/// Its refusal was waited for all the same, and the whole link was dropped as dead, with the shares of all other machines.
#[test]
fn a_channel_that_closed_took_the_refusal_of_a_doubtful_share_with_it() {
    for is_ours in [true, false] {
        let mut stage = Stage::open(&[(7, 2), (8, 3)]);
        stage.judges = false;
        for (tag, channel) in [(1, 2), (2, 3)] {
            stage.hears(job(channel, 1, None)).unwrap();
            stage.hears(tip(channel, 1, 1)).unwrap();
            let work = stage.work();
            stage.submits(tag, &work).unwrap();
        }
        stage.sent();
        stage.passes(DOUBT_AFTER + seconds(2)).unwrap();
        let (channel_id, sequence_number) = stage.upstream.doubtful.unwrap();
        stage.sent();
        if is_ours {
            stage.upstream.close(if channel_id == 2 { 7 } else { 8 });
        } else {
            stage.hears(mining::CloseChannel { channel_id, reason_code: text("x") }).unwrap();
        }
        stage.passes(seconds(60)).unwrap();
        let error_code = text("invalid-channel-id");
        stage.hears(mining::SubmitSharesError { channel_id, sequence_number, error_code }).unwrap();
        assert_eq!((stage.upstream.pending(), stage.ignored().strays), (1, 1), "it may come too late");
    }
}

/// A pool that hangs up on a share of an unknown job, or says nothing to it, and that accepts ten at once was left every 40 seconds for ever.
#[test]
fn a_pool_that_judges_no_unknown_jobs_and_batches_was_left_again_and_again() {
    for hangs_up in [false, true] {
        let (mut links, mut doubt_after, mut accepted) = (0, DOUBT_AFTER, 0);
        while accepted < 100 {
            links += 1;
            assert!(links <= 4, "links that accept nothing: {accepted} {doubt_after:?}");
            let (stage, accepts) = serves_until_given_up(doubt_after, hangs_up, 20);
            accepted += accepts;
            doubt_after = stage.upstream.doubt_after_next();
        }
        assert_eq!((links, doubt_after), (4, DOUBT_AFTER_NEXT_MAX), "ten shares take 190 seconds");
    }
}

/// What was learnt was forgotten as soon as the first easy shares of a new channel were accepted, and the pool left a minute later.
#[test]
fn fast_first_shares_made_a_slow_pool_one_to_doubt() {
    let mut stage = Stage::with(UpstreamConfig { doubt_after: DOUBT_AFTER * 4, ..config() });
    let work = works_without_judging(&mut stage);
    for number in 1..=10 {
        stage.submits(number, &work).unwrap();
    }
    stage.passes(seconds(2)).unwrap();
    stage.accepts_all();
    stage.events();
    for number in 11..=19 {
        stage.submits(number, &work).unwrap();
        stage.sent();
        stage.passes(seconds(12)).unwrap();
    }
    assert_eq!((stage.doubts, stage.upstream.doubt_after_next()), (0, DOUBT_AFTER * 4));
}

#[test]
fn a_pool_that_accepted_nothing_with_all_patience_has_little_again() {
    let mut patience = vec![DOUBT_AFTER];
    while let &[.., last] = patience.as_slice()
        && patience.len() < 6
    {
        // One share in an hour is never ten.
        patience.push(serves_until_given_up(last, false, 3_600).0.upstream.doubt_after_next());
    }
    assert_eq!(patience, [30, 60, 120, 240, 300, 30].map(seconds));
}

/// One connection with a share after each pause, of which ten are accepted at once, and how many were.
fn serves_until_given_up(doubt_after: Duration, hangs_up: bool, pause: u64) -> (Stage, u64) {
    let mut stage = Stage::with(UpstreamConfig { doubt_after, ..config() });
    let work = works_without_judging(&mut stage);
    for sent in 1..=100 {
        stage.submits(sent, &work).unwrap();
        if sent % SRI_BATCH == 0 {
            stage.accepts_all();
            stage.events();
        }
        brings_job(&mut stage, 2 + u32::try_from(sent).unwrap());
        stage.sent();
        if stage.passes(seconds(pause)).is_err() || (hangs_up && stage.doubts > 0) {
            return (stage, sent / SRI_BATCH * SRI_BATCH);
        }
    }
    (stage, 100)
}

/// Work on a connection to a pool that judges no shares of unknown jobs.
fn works_without_judging(stage: &mut Stage) -> ChannelWork {
    stage.judges = false;
    stage.hears(success(MiningSuccessFlags::NONE)).unwrap();
    stage.event();
    let request = stage.asks(7);
    stage.hears(opened(request, 2, 1)).unwrap();
    stage.event();
    stage.hears(job(2, 1, None)).unwrap();
    stage.hears(tip(2, 1, 1)).unwrap();
    stage.work()
}
