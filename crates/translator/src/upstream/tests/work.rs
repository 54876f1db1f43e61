//! Jobs, tips, targets and extranonces: what a channel is to mine, and when that changes.

use super::*;

fn set_prefix(channel_id: u32, prefix: &[u8]) -> Message<'_> {
    mining::SetExtranoncePrefix { channel_id, extranonce_prefix: B032::try_from(prefix).unwrap() }.into()
}

#[test]
fn a_future_job_becomes_work_with_its_tip() {
    let mut stage = Stage::open(&[(7, 2)]);
    stage.hears(job(2, 1, None)).unwrap();
    assert_eq!(stage.event(), None, "nobody knows what it stands on");
    stage.hears(tip(2, 1, 1)).unwrap();
    let ChannelWork { key, job, source, prefix, extranonce_size, target, version_mask, is_new_tip } =
        stage.work();
    assert_eq!(version_mask, 0x1fff_ffe0);
    assert_eq!((key, source), (7, Source { channel: 2, job: 1, generation: 1 }));
    assert_eq!((prefix.as_bytes(), extranonce_size), (&[2, 0, 0, 0, 9, 9, 9, 9][..], 14));
    assert_eq!((target, is_new_tip), (Target::MAX, true));
    assert_eq!((job.min_ntime(), job.extranonce_len()), (NTIME, 22));
    assert_eq!((job.coinbase_prefix(), job.coinbase_suffix()), (&b"begin"[..], &b"end"[..]));
    assert_eq!((job.merkle_path(), job.version()), (&[[6; 32]][..], 0x2000_0000));
    assert_eq!(job.tip().nbits.to_consensus(), 0x1d00_ffff);
    assert!(job.version_rolling_allowed());
}

#[test]
fn jobs_that_each_channel_was_sent_by_itself_were_held_as_often_as_there_are_channels() {
    let mut stage = Stage::open(&[(7, 2), (8, 3), (9, 4)]);
    let mut start = |channel, message: Message<'_>| {
        stage.hears(message).unwrap();
        stage.hears(tip(channel, 10 + channel, 1)).unwrap();
        let work = stage.work();
        assert_eq!(
            (work.source.channel, work.source.job),
            (channel, 10 + channel),
            "numbers are the channel's own"
        );
        work.job
    };
    let [one, other] = [2, 3].map(|channel| start(channel, job(channel, 10 + channel, None)));
    assert!(Arc::ptr_eq(&one, &other));
    let Message::NewExtendedMiningJob(like) = job(4, 14, None) else { panic!("a job") };
    let coinbase_tx_suffix = B064K::try_from(&b"END"[..]).unwrap();
    let paid_apart = start(4, mining::NewExtendedMiningJob { coinbase_tx_suffix, ..like }.into());
    assert_eq!(paid_apart.coinbase_suffix(), b"END");
    assert!(core::ptr::eq(paid_apart.merkle_path(), one.merkle_path()));
}

/// SRI: `aggregated_translator_handles_downstream_connecting_during_future_job`.
#[test]
fn a_channel_that_is_opened_while_there_is_only_a_future_job_gets_work_with_the_tip() {
    let (mut stage, _) = Stage::mining();
    stage.hears(job(1, 5, None)).unwrap();
    let request = stage.asks(8);
    stage.hears(opened(request, 3, 1)).unwrap();
    stage.hears(job(3, 5, None)).unwrap();
    assert_eq!(stage.events(), [Event::Opened { key: 8 }]);
    stage.hears(tip(1, 5, 2)).unwrap();
    assert_eq!(stage.works(), [(7, 5), (8, 5)]);
}

#[test]
fn a_channel_that_came_after_the_future_job_waits_for_one_of_its_own() {
    let (mut stage, _) = Stage::mining();
    stage.hears(job(1, 5, None)).unwrap();
    let request = stage.asks(8);
    stage.hears(opened(request, 3, 1)).unwrap();
    assert_eq!(stage.events(), [Event::Opened { key: 8 }]);
    stage.hears(tip(1, 5, 2)).unwrap();
    assert_eq!(stage.works(), [(7, 5)]);
    stage.hears(job(1, 6, Some(NTIME + 1))).unwrap();
    let (old, new) = (stage.work(), stage.work());
    assert_eq!((old.key, old.is_new_tip), (7, false));
    assert_eq!((new.key, new.is_new_tip), (8, true), "it had none before");
    assert_eq!(old.source.generation, new.source.generation);
    assert!(Arc::ptr_eq(&old.job, &new.job));
}

#[test]
fn a_job_that_comes_with_the_answer_to_the_opening_works() {
    let mut stage = Stage::ready();
    let request = stage.asks(7);
    let mut queue = FrameQueue::default();
    for message in [opened(request, 2, 1), job(2, 1, None), tip(2, 1, 1)] {
        encode(message, &mut queue).unwrap();
    }
    for frame in &queue {
        stage.upstream.handle_frame(frame, stage.now).unwrap();
    }
    assert_eq!(stage.event(), Some(Event::Opened { key: 7 }));
    assert_eq!(stage.works(), [(7, 1)]);
}

#[test]
fn a_job_with_a_time_is_work_at_once_on_the_same_tip() {
    let (mut stage, first) = Stage::mining();
    stage.hears(job(2, 2, Some(NTIME + 30))).unwrap();
    let second = stage.work();
    assert!(!second.is_new_tip);
    assert_eq!(second.source, Source { job: 2, ..first.source });
    assert_eq!((second.job.min_ntime(), second.job.tip()), (NTIME + 30, first.job.tip()));
}

#[test]
fn a_job_with_a_time_that_comes_before_any_tip_waits_for_it() {
    let mut stage = Stage::open(&[(7, 2)]);
    stage.hears(job(2, 1, Some(NTIME + 5))).unwrap();
    assert_eq!(stage.event(), None);
    stage.hears(tip(2, 1, 1)).unwrap();
    assert_eq!(stage.work().job.min_ntime(), NTIME);
}

#[test]
fn a_tip_ends_all_future_jobs_but_the_one_it_names() {
    let (mut stage, _) = Stage::mining();
    for id in [2, 3] {
        stage.hears(job(2, id, None)).unwrap();
    }
    stage.hears(tip(2, 3, 2)).unwrap();
    let work = stage.work();
    assert_eq!((work.source.job, work.source.generation, work.is_new_tip), (3, 2, true));
    let error = stage.hears(tip(2, 2, 3)).unwrap_err();
    let what = "SetNewPrevHash names a job that was not sent as a future job";
    assert_eq!(error, UpstreamError::Misbehaved(what));
}

#[test]
fn a_number_that_is_used_again_means_the_later_job() {
    let (mut stage, _) = Stage::mining();
    stage.hears(job(2, 2, None)).unwrap();
    stage.hears(set_prefix(2, &[5; 8])).unwrap();
    stage.hears(job(2, 2, None)).unwrap();
    stage.hears(tip(2, 2, 2)).unwrap();
    assert_eq!(stage.work().prefix.as_bytes(), [5; 8]);
}

#[test]
fn a_target_is_for_later_jobs_and_for_future_ones() {
    let (mut stage, _) = Stage::mining();
    stage.hears(job(2, 2, None)).unwrap();
    stage.hears(set_target(2, 0x3f)).unwrap();
    assert_eq!(stage.event(), None, "the present job keeps its own");
    stage.hears(job(2, 3, Some(NTIME))).unwrap();
    assert_eq!(stage.work().target, target(0x3f));
    stage.hears(set_target(2, 0x1f)).unwrap();
    stage.hears(tip(2, 2, 2)).unwrap();
    assert_eq!(stage.work().target, target(0x1f));
}

#[test]
fn a_prefix_is_for_jobs_that_come_later() {
    let (mut stage, _) = Stage::mining();
    stage.hears(job(2, 2, None)).unwrap();
    stage.hears(set_prefix(2, &[5; 10])).unwrap();
    assert_eq!(stage.event(), None);
    stage.hears(job(2, 3, Some(NTIME))).unwrap();
    let later = stage.work();
    assert_eq!((later.prefix.as_bytes(), later.job.extranonce_len()), (&[5; 10][..], 24));
    stage.hears(tip(2, 2, 2)).unwrap();
    let earlier = stage.work();
    assert_eq!(
        (earlier.prefix.as_bytes(), earlier.job.extranonce_len()),
        (&[2, 0, 0, 0, 9, 9, 9, 9][..], 22)
    );
    let view = stage.upstream.channels().next().unwrap();
    assert_eq!(view.prefix, [5; 10]);
}

#[test]
fn a_prefix_without_room_ends_the_connection() {
    let (mut stage, _) = Stage::mining();
    stage.hears(set_prefix(2, &[5; 18])).unwrap();
    let error = stage.hears(set_prefix(2, &[5; 19])).unwrap_err();
    assert_eq!(error, UpstreamError::Extranonce { prefix: 19, size: 14, least: 14 });
}

#[test]
fn version_rolling_is_what_the_job_and_the_connection_allow() {
    for (flags, is_allowed, expected) in [
        (MiningSuccessFlags::NONE, true, true),
        (MiningSuccessFlags::NONE, false, false),
        (MiningSuccessFlags::REQUIRES_FIXED_VERSION, true, false),
    ] {
        let mut stage = Stage::new();
        stage.hears(success(flags)).unwrap();
        stage.sent();
        let request = stage.asks(7);
        stage.hears(opened(request, 2, 1)).unwrap();
        stage.events();
        let Message::NewExtendedMiningJob(mut first) = job(2, 1, None) else { panic!("it is a job") };
        first.version_rolling_allowed = is_allowed;
        stage.hears(first).unwrap();
        stage.hears(tip(2, 1, 1)).unwrap();
        assert_eq!(stage.work().job.version_rolling_allowed(), expected);
    }
}

#[test]
fn the_oldest_of_too_many_future_jobs_make_room() {
    let (mut stage, _) = Stage::mining();
    let most = u32::try_from(channel::FUTURE_JOBS_MAX).unwrap();
    for id in 10..=10 + most {
        stage.hears(job(2, id, None)).unwrap();
    }
    stage.hears(tip(2, 11, 2)).unwrap();
    assert_eq!(stage.works(), [(7, 11)]);
    assert_eq!(stage.upstream.budget.used(), 0, "jobs that are over take no memory");
    for id in 10..=10 + most {
        stage.hears(job(2, id, None)).unwrap();
    }
    assert!(matches!(stage.hears(tip(2, 10, 2)), Err(UpstreamError::Misbehaved(_))));
}
