//! Channels from the wish for them to their end.

use super::*;

fn refused(request_id: u32) -> Message<'static> {
    mining::OpenMiningChannelError { request_id, error_code: text("unknown-user") }.into()
}

/// SRI: `tproxy_sends_single_open_extended_mining_channel_in_aggregated_mode`.
#[test]
fn one_wish_is_one_request() {
    let mut stage = Stage::ready();
    stage.upstream.open(7, "farm.rig", rate(5_000), stage.now).unwrap();
    let request = Sent::Open { request: 1, user: "farm.rig".to_owned(), rate: 5_000, least: 12 };
    assert_eq!(stage.sent(), [request]);
    assert_eq!(stage.upstream.open(7, "farm.rig", rate(5_000), stage.now), Err(NotOpened::Taken));
    stage.hears(opened(1, 2, 1)).unwrap();
    assert_eq!(stage.events(), [Event::Opened { key: 7 }]);
    assert_eq!(stage.upstream.open(7, "farm.rig", rate(5_000), stage.now), Err(NotOpened::Taken));
    assert_eq!(stage.sent(), []);
    let view: Vec<_> = stage.upstream.channels().collect();
    let prefix = [2, 0, 0, 0, 9, 9, 9, 9];
    let expected = ChannelView {
        key: 7,
        channel_id: 2,
        group_channel_id: 1,
        user: "farm.rig",
        nominal: rate(5_000),
        target: Target::MAX,
        prefix: &prefix,
        extranonce_size: 14,
        pending: 0,
    };
    assert_eq!(view, [expected]);
}

#[test]
fn a_user_that_is_too_long_is_not_asked_for() {
    let mut stage = Stage::ready();
    let long = "a".repeat(256);
    assert_eq!(stage.upstream.open(1, &long, rate(1), stage.now), Err(NotOpened::UserTooLong(256)));
    assert_eq!(stage.sent(), []);
    assert!(stage.upstream.open(1, &long[1..], rate(1), stage.now).is_ok());
}

/// SRI: `test_translator_fallback_on_open_mining_message_error`.
#[test]
fn a_refusal_is_told_and_the_name_is_free_again() {
    let mut stage = Stage::ready();
    let request = stage.asks(7);
    stage.hears(refused(request)).unwrap();
    assert_eq!(stage.events(), [Event::Refused { key: 7, code: "unknown-user".to_owned() }]);
    assert_eq!(stage.upstream.poll_timeout(), None);
    assert_ne!(stage.asks(7), request, "requests are told apart");
}

#[test]
fn answers_find_their_requests_in_any_order() {
    let mut stage = Stage::ready();
    let (first, second) = (stage.asks(10), stage.asks(11));
    stage.hears(opened(second, 5, 1)).unwrap();
    stage.hears(opened(first, 4, 1)).unwrap();
    assert_eq!(stage.events(), [Event::Opened { key: 11 }, Event::Opened { key: 10 }]);
    stage.hears(opened(77, 6, 1)).unwrap();
    stage.hears(refused(77)).unwrap();
    stage.hears(opened(first, 8, 1)).unwrap();
    assert_eq!((stage.event(), stage.ignored().answers), (None, 3));
    assert_eq!(stage.upstream.channels().count(), 2);
}

#[test]
fn a_channel_without_room_for_the_machines_ends_the_connection() {
    for (prefix, size) in [(8, 11), (8, 0), (20, 13), (32, 14), (8, u16::MAX)] {
        let mut stage = Stage::ready();
        let prefix = vec![1; prefix];
        let success = mining::OpenExtendedMiningChannelSuccess {
            request_id: stage.asks(7),
            channel_id: 2,
            target: U256::from(const { &[0xff; 32] }),
            extranonce_size: size,
            extranonce_prefix: B032::try_from(&*prefix).unwrap(),
            group_channel_id: 1,
        };
        let error = stage.hears(success).unwrap_err();
        assert_eq!(error, UpstreamError::Extranonce { prefix: prefix.len(), size, least: 12 });
        assert!(error.is_refusal());
    }
}

#[test]
fn no_two_channels_have_the_same_number() {
    let mut stage = Stage::open(&[(7, 2)]);
    let request = stage.asks(8);
    let error = stage.hears(opened(request, 2, 1)).unwrap_err();
    assert_eq!(error, UpstreamError::Misbehaved("it gave two channels the same number"));
    for (channel, group) in [(1, 1), (1, 5)] {
        let mut stage = Stage::open(&[(7, 2)]);
        let request = stage.asks(8);
        let error = stage.hears(opened(request, channel, group)).unwrap_err();
        assert_eq!(error, UpstreamError::Misbehaved("it gave a channel the number of a group"));
    }
}

#[test]
fn a_pool_that_knows_no_groups_may_number_them_as_it_likes() {
    for groups in [[0, 0], [0, 1]] {
        let mut stage = Stage::ready();
        for (key, channel, group) in [(10, 0, groups[0]), (11, 1, groups[1])] {
            let request = stage.asks(key);
            stage.hears(opened(request, channel, group)).unwrap();
            stage.hears(job(channel, 1, None)).unwrap();
            stage.hears(tip(channel, 1, 1)).unwrap();
        }
        let works = stage.events().into_iter().filter_map(|event| match event {
            Event::Work(work) => Some((work.key, work.source.channel)),
            _ => None,
        });
        assert_eq!(works.collect::<Vec<_>>(), [(10, 0), (11, 1)]);
    }
}

#[test]
fn a_machine_that_leaves_takes_its_channel_along() {
    let (mut stage, work) = Stage::mining();
    stage.upstream.close(7);
    let farewell = Sent::Close { channel: 2, reason: "the machine left".to_owned() };
    assert_eq!(stage.sent(), [farewell]);
    assert_eq!(stage.event(), None, "its owner knows");
    assert_eq!(stage.submits(1, &work), Err(NotSubmitted::Closed));
    stage.upstream.close(7);
    assert_eq!(stage.sent(), [], "there is none to close");
    assert_eq!(stage.upstream.poll_timeout(), None);
}

#[test]
fn a_machine_that_leaves_early_has_its_channel_closed_when_it_is_there() {
    let mut stage = Stage::ready();
    let first = stage.asks(7);
    stage.upstream.close(7);
    assert_eq!(stage.sent(), [], "it has no number yet");
    let second = stage.asks(7);
    stage.hears(opened(first, 2, 1)).unwrap();
    assert_eq!(stage.sent(), [Sent::Close { channel: 2, reason: "the machine left".to_owned() }]);
    assert_eq!(stage.event(), None);
    stage.hears(opened(second, 3, 1)).unwrap();
    assert_eq!(stage.events(), [Event::Opened { key: 7 }]);
    let third = stage.asks(8);
    stage.upstream.close(8);
    stage.hears(refused(third)).unwrap();
    assert_eq!((stage.event(), stage.sent()), (None, vec![]));
}

#[test]
fn a_pool_that_opens_nothing_for_long_is_left() {
    let mut stage = Stage::ready();
    let first = stage.asks(1);
    stage.asks(2);
    stage.passes(seconds(29)).unwrap();
    stage.hears(refused(first)).unwrap();
    stage.passes(seconds(29)).unwrap();
    let error = stage.passes(seconds(1)).unwrap_err();
    assert_eq!(error, UpstreamError::Silent("an answer to OpenExtendedMiningChannel"));
}

#[test]
fn a_channel_that_gets_no_job_is_given_up_and_no_other() {
    let mut stage = Stage::open(&[(7, 2), (8, 3)]);
    stage.hears(job(2, 1, None)).unwrap();
    stage.hears(tip(2, 1, 1)).unwrap();
    stage.work();
    stage.passes(seconds(29)).unwrap();
    assert_eq!(stage.events(), []);
    stage.passes(seconds(1)).unwrap();
    let reason = "the pool sent no job for it".to_owned();
    assert_eq!(stage.events(), [Event::Closed { key: 8, reason }]);
    assert_eq!(stage.sent(), [Sent::Close { channel: 3, reason: "no job came".to_owned() }]);
    assert_eq!(stage.upstream.channels().count(), 1);
}

#[test]
fn a_line_on_which_nothing_comes_is_dead() {
    let (mut stage, _) = Stage::mining();
    stage.passes(seconds(599)).unwrap();
    stage.hears(set_target(2, 0x7f)).unwrap();
    stage.passes(seconds(599)).unwrap();
    assert_eq!(stage.passes(seconds(1)).unwrap_err(), UpstreamError::Silent("anything"));
}

#[test]
fn there_are_not_more_channels_than_are_possible() {
    let mut stage = Stage::ready();
    for key in 0..CHANNELS_MAX as u64 {
        stage.upstream.open(key, "", rate(1), stage.now).unwrap();
    }
    let one_more = u64::MAX;
    assert_eq!(stage.upstream.open(one_more, "", rate(1), stage.now), Err(NotOpened::Full));
    // A request that nobody waits for counts until it is answered: the pool may open it.
    stage.upstream.close(0);
    assert_eq!(stage.upstream.open(one_more, "", rate(1), stage.now), Err(NotOpened::Full));
    stage.hears(refused(1)).unwrap();
    assert!(stage.upstream.open(one_more, "", rate(1), stage.now).is_ok());
}
