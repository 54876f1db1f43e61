//! Shares on their way up, and what becomes of them.

use adit_channel::WorkerName;

use super::*;

fn accepted(channel_id: u32, last: u32) -> mining::SubmitSharesSuccess {
    mining::SubmitSharesSuccess {
        channel_id,
        last_sequence_number: last,
        new_submits_accepted_count: 1,
        new_shares_sum: 1,
    }
}

fn refused(channel_id: u32, sequence_number: u32) -> mining::SubmitSharesError<'static> {
    mining::SubmitSharesError { channel_id, sequence_number, error_code: text("stale-share") }
}

fn good(tags: core::ops::RangeInclusive<u64>) -> Vec<Event> {
    tags.map(|tag| settled(tag, Outcome::Accepted)).collect()
}

#[test]
fn a_share_goes_up_as_it_is() {
    let (mut stage, work) = Stage::mining();
    let extranonce = Extranonce::join(&[1, 2, 3, 4], &[5; 10]);
    stage.upstream.submit(&UpShare { extranonce, ..share(70, &work) }).unwrap();
    let (bytes, name) = (extranonce.as_bytes().to_vec(), None);
    assert_eq!(stage.sent(), [Sent::Submit { channel: 2, number: 1, job: 1, extranonce: bytes, name }]);
    assert_eq!((stage.event(), stage.upstream.pending()), (None, 1));
    stage.hears(accepted(2, 1)).unwrap();
    assert_eq!((stage.events(), stage.upstream.pending()), (good(70..=70), 0));
}

#[test]
fn a_code_without_end_was_kept_whole() {
    let (mut stage, work) = Stage::mining();
    stage.submits(1, &work).unwrap();
    let code = "\n".repeat(255);
    stage
        .hears(mining::SubmitSharesError { channel_id: 2, sequence_number: 1, error_code: text(&code) })
        .unwrap();
    assert_eq!(stage.events(), [settled(1, Outcome::Refused("\\n".repeat(32)))]);
}

#[test]
fn an_answer_is_for_all_shares_up_to_that_one() {
    let (mut stage, work) = Stage::mining();
    for tag in 1..=9 {
        stage.submits(tag, &work).unwrap();
    }
    stage.hears(accepted(2, 3)).unwrap();
    assert_eq!(stage.events(), good(1..=3));
    stage.hears(refused(2, 6)).unwrap();
    assert_eq!(stage.events(), [settled(6, Outcome::Refused("stale-share".to_owned()))]);
    stage.hears(accepted(2, 7)).unwrap();
    assert_eq!(stage.events(), [good(4..=5), good(7..=7)].concat());
    stage.hears(accepted(2, 100)).unwrap();
    assert_eq!((stage.events(), stage.upstream.pending()), (good(8..=9), 0));
    assert_eq!(stage.ignored(), Ignored::default());
    for late in [7, 6] {
        stage.hears(accepted(2, late)).unwrap();
        stage.hears(refused(2, late)).unwrap();
    }
    assert_eq!((stage.event(), stage.ignored().answers), (None, 4));
}

#[test]
fn an_answer_to_what_was_not_sent_settles_nothing() {
    let (mut stage, work) = Stage::mining();
    stage.hears(refused(2, 1)).unwrap();
    stage.hears(accepted(2, 0)).unwrap();
    stage.submits(1, &work).unwrap();
    stage.hears(refused(2, 2)).unwrap();
    stage.hears(refused(2, 0)).unwrap();
    stage.hears(accepted(2, 0)).unwrap();
    assert_eq!((stage.event(), stage.upstream.pending(), stage.ignored().answers), (None, 1, 5));
}

#[test]
fn channels_count_their_shares_for_themselves() {
    let mut stage = Stage::open(&[(7, 2), (8, 3)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    let (first, second) = (stage.work(), stage.work());
    stage.submits(70, &first).unwrap();
    stage.submits(80, &second).unwrap();
    stage.submits(81, &second).unwrap();
    let numbers = stage.sent().into_iter().map(|sent| match sent {
        Sent::Submit { channel, number, .. } => (channel, number),
        other => panic!("a share, not {other:?}"),
    });
    assert_eq!(numbers.collect::<Vec<_>>(), [(2, 1), (3, 1), (3, 2)]);
    stage.hears(accepted(3, 2)).unwrap();
    assert_eq!(stage.events(), good(80..=81));
    let pending: Vec<_> = stage.upstream.channels().map(|channel| channel.pending).collect();
    assert_eq!(pending, [1, 0]);
}

#[test]
fn numbers_may_wrap() {
    let (mut stage, work) = Stage::mining();
    stage.upstream.registry.by_id(2).unwrap().pending.start_at(u32::MAX - 2);
    for tag in 1..=5 {
        stage.submits(tag, &work).unwrap();
    }
    stage.hears(refused(2, u32::MAX)).unwrap();
    assert_eq!(stage.events(), [settled(3, Outcome::Refused("stale-share".to_owned()))]);
    stage.hears(accepted(2, u32::MAX - 1)).unwrap();
    assert_eq!(stage.events(), good(1..=2));
    stage.hears(accepted(2, 1)).unwrap();
    assert_eq!(stage.events(), good(4..=5));
}

#[test]
fn a_share_of_an_old_tip_is_not_sent_except_the_last() {
    let (mut stage, first) = Stage::mining();
    for id in [2, 3] {
        stage.hears(job(2, id, None)).unwrap();
        stage.hears(tip(2, id, 2)).unwrap();
        stage.work();
        // It may be a block that still wins.
        let expected = if id == 2 { Ok(()) } else { Err(NotSubmitted::Stale) };
        assert_eq!(stage.submits(1, &first), expected);
    }
}

#[test]
fn a_share_of_another_channel_or_length_is_not_sent() {
    let mut stage = Stage::open(&[(7, 2), (8, 3)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    let work = stage.work();
    let stranger = ChannelWork { key: 8, ..work.clone() };
    assert_eq!(stage.submits(1, &stranger), Err(NotSubmitted::Closed));
    for given in [0, 13, 15] {
        let short = UpShare { extranonce: Extranonce::join(&[0; 32][..given], &[]), ..share(1, &work) };
        assert_eq!(stage.upstream.submit(&short), Err(NotSubmitted::Extranonce { given, size: 14 }));
    }
    let unheard = Source { generation: 9, ..work.source };
    assert_eq!(stage.submits(1, &ChannelWork { source: unheard, ..work }), Err(NotSubmitted::Stale));
    assert_eq!((stage.sent(), stage.upstream.pending()), (vec![], 0));
}

/// SRI: `test_extension_negotiation_with_tlv_in_submit_shares`.
#[test]
fn every_share_has_a_name_where_that_is_agreed_on() {
    let mut stage = Stage::with(UpstreamConfig { names_workers: true, user: "a".repeat(40), ..config() });
    stage.hears(success(MiningSuccessFlags::NONE)).unwrap();
    let supported_extensions = Seq064K::new(vec![2]).unwrap();
    stage.hears(RequestExtensionsSuccess { request_id: 1, supported_extensions }).unwrap();
    stage.sent();
    let request = stage.asks(7);
    for message in [opened(request, 2, 1), job(2, 1, None), tip(2, 1, 1)] {
        stage.hears(message).unwrap();
    }
    let [Event::Ready { names_workers: true }, Event::Opened { .. }, Event::Work(work)] = &stage.events()[..]
    else {
        panic!("work")
    };
    let worker = Some(WorkerName::from_wire(b"user_identity.miner1").unwrap());
    stage.upstream.submit(&UpShare { worker, ..share(1, work) }).unwrap();
    stage.submits(2, work).unwrap();
    let names = stage.sent().into_iter().map(|sent| match sent {
        Sent::Submit { name, .. } => name,
        other => panic!("a share, not {other:?}"),
    });
    let names: Vec<_> = names.collect();
    assert_eq!(names, [Some("user_identity.miner1".to_owned()), Some("a".repeat(32))]);
}

#[test]
fn no_share_has_a_name_where_none_is_agreed_on() {
    let (mut stage, work) = Stage::mining();
    let worker = Some(WorkerName::from_wire(b"rig").unwrap());
    stage.upstream.submit(&UpShare { worker, ..share(1, &work) }).unwrap();
    assert!(matches!(&stage.sent()[..], [Sent::Submit { name: None, .. }]));
}

#[test]
fn shares_that_a_pool_leaves_unanswered_are_given_up_when_they_are_too_many() {
    let (mut stage, work) = Stage::mining();
    for tag in 0..PENDING_MAX as u64 {
        stage.submits(tag, &work).unwrap();
    }
    assert_eq!(stage.event(), None);
    stage.submits(1_000_000, &work).unwrap();
    assert_eq!(stage.events(), [settled(0, Outcome::Lost)]);
    assert_eq!(stage.upstream.pending(), PENDING_MAX);
    stage.upstream.frames().clear();
    stage.hears(accepted(2, u32::try_from(PENDING_MAX).unwrap() + 1)).unwrap();
    assert_eq!((stage.events().len(), stage.upstream.pending()), (PENDING_MAX, 0));
}

#[test]
fn shares_of_all_channels_together_are_bounded() {
    let mut stage = Stage::open(&[(7, 2)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    let work = stage.work();
    stage.upstream.pending = PENDING_TOTAL_MAX;
    stage.submits(5, &work).unwrap();
    assert_eq!(stage.events(), [settled(5, Outcome::Lost)], "it is sent, and nobody waits for the answer");
    assert_eq!(stage.sent().len(), 1);
}

#[test]
fn a_connection_that_is_gone_takes_its_shares_along() {
    let mut stage = Stage::open(&[(7, 2), (8, 3)]);
    stage.hears(job(1, 1, None)).unwrap();
    stage.hears(tip(1, 1, 1)).unwrap();
    let (first, second) = (stage.work(), stage.work());
    stage.submits(1, &second).unwrap();
    stage.submits(2, &first).unwrap();
    stage.submits(3, &first).unwrap();
    stage.upstream.abandon();
    assert_eq!(stage.events(), [2, 3, 1].map(|tag| settled(tag, Outcome::Lost)));
    assert_eq!(stage.upstream.pending(), 0);
    stage.upstream.abandon();
    assert_eq!(stage.event(), None);
}
