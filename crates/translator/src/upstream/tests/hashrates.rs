//! What the pool is told of the speed behind a channel, and when.

use super::*;

fn told(channel: u32, rate: u64) -> Vec<Sent> {
    vec![Sent::Update { channel, rate }]
}

/// SRI: `aggregated_translator_does_not_send_update_channel_before_channel_opens`.
#[test]
fn aggregated_translator_does_not_send_update_channel_before_channel_opens() {
    let mut stage = Stage::ready();
    stage.upstream.set_hashrate(7, rate(5_000), stage.now);
    let request = stage.asks(7);
    stage.upstream.set_hashrate(7, rate(9_000), stage.now);
    stage.passes(seconds(20)).unwrap();
    stage.upstream.set_hashrate(7, rate(8_000), stage.now);
    assert_eq!(stage.sent(), [], "there is no channel to update");
    stage.hears(opened(request, 2, 1)).unwrap();
    stage.passes(Duration::ZERO).unwrap();
    assert_eq!(stage.sent(), told(2, 8_000));
}

#[test]
fn a_speed_is_told_when_it_differs_by_more_than_a_fifth_and_not_too_often() {
    let (mut stage, _) = Stage::mining();
    stage.upstream.set_hashrate(7, rate(1_500), stage.now);
    assert_eq!(stage.sent(), [], "it was told with the opening");
    stage.passes(seconds(9)).unwrap();
    stage.upstream.set_hashrate(7, rate(2_000), stage.now);
    assert_eq!(stage.sent(), []);
    stage.passes(seconds(1)).unwrap();
    assert_eq!(stage.sent(), told(2, 2_000), "the last of them");
    stage.passes(seconds(60)).unwrap();
    for close in [2_400, 1_600] {
        stage.upstream.set_hashrate(7, rate(close), stage.now);
    }
    stage.passes(seconds(60)).unwrap();
    assert_eq!(stage.sent(), [], "a fifth is not more than a fifth");
    stage.upstream.set_hashrate(7, rate(2_401), stage.now);
    assert_eq!(stage.sent(), told(2, 2_401), "at once, as it is long ago");
    assert_eq!(stage.upstream.channels().next().unwrap().nominal, rate(2_401));
}

/// All machines of a farm come within seconds, and until the pool knows of them each sends it many times the shares that it wants.
#[test]
fn a_farm_that_starts_did_not_flood_the_pool_for_ten_seconds() {
    let (mut stage, _) = Stage::mining();
    stage.upstream.set_hashrate(7, rate(2_001), stage.now);
    assert_eq!(stage.sent(), []);
    stage.passes(GROWTH_INTERVAL).unwrap();
    assert_eq!(stage.sent(), told(2, 2_001));
    stage.upstream.set_hashrate(7, rate(50_000), stage.now);
    stage.passes(GROWTH_INTERVAL).unwrap();
    assert_eq!(stage.sent(), told(2, 50_000));
    for (speed, is) in [(100_000, "not more than doubled"), (1_000, "fallen")] {
        stage.upstream.set_hashrate(7, rate(speed), stage.now);
        stage.passes(seconds(9)).unwrap();
        assert_eq!(stage.sent(), [], "{is}");
        stage.passes(seconds(1)).unwrap();
        assert_eq!(stage.sent(), told(2, speed), "{is}");
    }
}

#[test]
fn a_speed_that_comes_back_in_time_is_not_told() {
    let (mut stage, _) = Stage::mining();
    stage.upstream.set_hashrate(7, rate(2_000), stage.now);
    stage.passes(seconds(5)).unwrap();
    stage.upstream.set_hashrate(7, rate(1_000), stage.now);
    stage.passes(seconds(60)).unwrap();
    assert_eq!(stage.sent(), []);
}

#[test]
fn the_last_machine_and_the_first_are_told() {
    let (mut stage, _) = Stage::mining();
    stage.passes(seconds(60)).unwrap();
    stage.upstream.set_hashrate(7, rate(0), stage.now);
    assert_eq!(stage.sent(), told(2, 0));
    stage.passes(seconds(10)).unwrap();
    stage.upstream.set_hashrate(7, rate(1), stage.now);
    assert_eq!(stage.sent(), told(2, 1));
}

#[test]
fn each_channel_has_its_own_pace() {
    let mut stage = Stage::open(&[(7, 2), (8, 3)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    stage.passes(seconds(5)).unwrap();
    stage.upstream.set_hashrate(7, rate(10), stage.now);
    stage.upstream.set_hashrate(8, rate(20), stage.now);
    stage.upstream.set_hashrate(9, rate(30), stage.now);
    stage.upstream.close(8);
    stage.sent();
    stage.passes(seconds(60)).unwrap();
    assert_eq!(stage.sent(), told(2, 10), "those that are gone have none");
}

#[test]
fn a_pool_that_refuses_an_update_is_not_left() {
    let (mut stage, _) = Stage::mining();
    let error_code = text("invalid-nominal-hashrate");
    stage.hears(mining::UpdateChannelError { channel_id: 2, error_code }).unwrap();
    assert_eq!((stage.event(), stage.ignored().updates), (None, 1));
}
