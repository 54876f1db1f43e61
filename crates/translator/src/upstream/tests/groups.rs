//! Channels that are spoken to together, and the end that a pool puts to them.

use super::*;

/// SRI: `aggregated_translator_correctly_deals_with_group_channels`.
#[test]
fn aggregated_translator_correctly_deals_with_group_channels() {
    let mut stage = Stage::open(&[(7, 2)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    let work = stage.work();
    assert_eq!((work.key, work.source.channel), (7, 2), "shares name the channel, not the group");
    stage.hears(job(1, 2, Some(NTIME))).unwrap();
    assert_eq!(stage.works(), [(7, 2)]);
}

/// SRI: `non_aggregated_translator_correctly_deals_with_group_channels`.
#[test]
fn non_aggregated_translator_correctly_deals_with_group_channels() {
    let mut stage = Stage::open(&[(7, 2), (8, 3), (9, 4)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    let works = [stage.work(), stage.work(), stage.work()];
    assert_eq!(works.each_ref().map(|work| (work.key, work.source.channel)), [(7, 2), (8, 3), (9, 4)]);
    assert!(works.iter().all(|work| Arc::ptr_eq(&work.job, &works[0].job)), "one job for all of them");
    let prefixes = works.each_ref().map(|work| work.prefix.as_bytes()[0]);
    assert_eq!(prefixes, [2, 3, 4], "each with its own part of the extranonce");
    stage.hears(set_target(1, 0x0f)).unwrap();
    stage.hears(job(3, 2, Some(NTIME))).unwrap();
    let work = stage.work();
    assert_eq!((work.key, work.target), (8, target(0x0f)));
    assert_eq!(stage.event(), None);
}

#[test]
fn a_group_of_channels_with_extranonces_of_different_length_has_jobs_of_different_length() {
    let mut stage = Stage::open(&[(7, 2), (8, 3)]);
    let extranonce_prefix = B032::try_from(&[1; 5][..]).unwrap();
    stage.hears(mining::SetExtranoncePrefix { channel_id: 3, extranonce_prefix }).unwrap();
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    let lengths = [stage.work(), stage.work()].map(|work| work.job.extranonce_len());
    assert_eq!(lengths, [22, 19]);
}

/// SRI: `non_aggregated_translator_handles_set_group_channel_message`.
#[test]
fn non_aggregated_translator_handles_set_group_channel_message() {
    let mut stage = Stage::open(&[(7, 2), (8, 3), (9, 4)]);
    stage.hears(set_group(50, &[2, 4])).unwrap();
    stage.hears(job(50, 1, None)).unwrap();
    stage.hears(tip(50, 1, 1)).unwrap();
    assert_eq!(stage.works(), [(7, 1), (9, 1)]);
    stage.hears(job(1, 2, None)).unwrap();
    stage.hears(tip(1, 2, 1)).unwrap();
    assert_eq!(stage.works(), [(8, 2)]);
    stage.hears(set_group(1, &[4])).unwrap();
    stage.hears(close_channel(50)).unwrap();
    assert_eq!(stage.events(), [closed(7)]);
    assert_eq!(stage.ignored(), Ignored::default());
}

#[test]
fn a_group_of_channels_that_are_not_there_is_no_group() {
    let mut stage = Stage::open(&[(7, 2)]);
    stage.hears(set_group(50, &[90, 91])).unwrap();
    assert_eq!(stage.ignored().strays, 2);
    stage.hears(job(50, 1, None)).unwrap();
    assert_eq!((stage.event(), stage.ignored().strays), (None, 3));
}

#[test]
fn a_channel_does_not_become_a_group() {
    let mut stage = Stage::open(&[(7, 2), (8, 3)]);
    let error = stage.hears(set_group(2, &[3])).unwrap_err();
    assert_eq!(error, UpstreamError::Misbehaved("it made a group of a channel"));
}

/// SRI: `non_aggregated_translator_correctly_deals_with_close_channel_message`.
#[test]
fn non_aggregated_translator_correctly_deals_with_close_channel_message() {
    let mut stage = Stage::open(&[(7, 2), (8, 3), (9, 4)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    let works = [stage.work(), stage.work(), stage.work()];
    stage.submits(70, &works[0]).unwrap();
    stage.hears(close_channel(2)).unwrap();
    assert_eq!(stage.events(), [settled(70, Outcome::Lost), closed(7)]);
    assert_eq!(stage.submits(71, &works[0]), Err(NotSubmitted::Closed));
    stage.submits(80, &works[1]).unwrap();
    stage.hears(close_channel(1)).unwrap();
    let ends = [settled(80, Outcome::Lost), closed(8), closed(9)];
    assert_eq!(stage.events(), ends, "the number of a group means all of it");
    assert_eq!(stage.upstream.pending(), 0);
    assert_eq!(stage.upstream.poll_timeout(), None);
}

/// SRI: `aggregated_translator_triggers_fallback_on_close_channel_message`: whoever holds the upstream is told.
#[test]
fn aggregated_translator_triggers_fallback_on_close_channel_message() {
    let (mut stage, _) = Stage::mining();
    stage.hears(mining::CloseChannel { channel_id: 2, reason_code: text("bye\n") }).unwrap();
    assert_eq!(stage.events(), [Event::Closed { key: 7, reason: "bye\\n".to_owned() }]);
    stage.asks(7);
}

/// SRI: `translator_does_not_shutdown_on_missing_downstream_channel`.
#[test]
fn translator_does_not_shutdown_on_missing_downstream_channel() {
    let mut stage = Stage::open(&[(7, 2), (8, 3)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    stage.events();
    stage.upstream.close(7);
    for channel in [2, 99] {
        let before = stage.ignored().strays;
        let extranonce_prefix = B032::try_from(&[1][..]).unwrap();
        let (last_sequence_number, new_submits_accepted_count, new_shares_sum) = (1, 1, 1);
        let about: [Message<'_>; 11] = [
            job(channel, 2, Some(NTIME)),
            job(channel, 3, None),
            tip(channel, 3, 2),
            set_target(channel, 1),
            mining::SetExtranoncePrefix { channel_id: channel, extranonce_prefix }.into(),
            set_group(5, &[channel]),
            mining::SubmitSharesSuccess {
                channel_id: channel,
                last_sequence_number,
                new_submits_accepted_count,
                new_shares_sum,
            }
            .into(),
            mining::SubmitSharesError { channel_id: channel, sequence_number: 1, error_code: text("no") }
                .into(),
            mining::UpdateChannelError { channel_id: channel, error_code: text("no") }.into(),
            close_channel(channel),
            mining::NewMiningJob {
                channel_id: channel,
                job_id: 1,
                min_ntime: Sv2Option::new(None),
                version: 1,
                merkle_root: U256::from(const { &[1; 32] }),
            }
            .into(),
        ];
        let count = about.len() as u64;
        for message in about {
            stage.hears(message).unwrap();
        }
        assert_eq!((stage.events(), stage.ignored().strays), (vec![], before + count));
    }
    stage.hears(job(1, 9, Some(NTIME))).unwrap();
    assert_eq!(stage.works(), [(8, 9)], "the other channel mines on");
}
