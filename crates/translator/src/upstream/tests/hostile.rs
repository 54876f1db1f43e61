//! Pools that send what no pool should.

use adit_messages::{Direction, MESSAGES};
use proptest::prelude::*;

use super::*;

#[test]
fn messages_of_unknown_extensions_and_of_later_versions_are_ignored() {
    let (mut stage, _) = Stage::mining();
    for (extension, is_channel_msg, msg_type) in
        [(0x4001, true, 0x00), (0x0003, false, 0x07), (0, false, 0xfe)]
    {
        let mut queue = FrameQueue::default();
        queue.push(extension, is_channel_msg, msg_type, &[1, 2, 3]).unwrap();
        let frame = queue.iter().next().unwrap();
        assert!(stage.upstream.frame_limit(&frame.header) >= 3);
        stage.upstream.handle_frame(frame, stage.now).unwrap();
    }
    assert_eq!((stage.event(), stage.ignored().unknown), (None, 3));
}

#[test]
fn a_message_that_is_none_ends_the_connection() {
    let (mut stage, _) = Stage::mining();
    let mut queue = FrameQueue::default();
    queue.push(0, true, 0x20, &[1, 2, 3]).unwrap();
    let error = stage.upstream.handle_frame(queue.iter().next().unwrap(), stage.now).unwrap_err();
    assert!(matches!(error, UpstreamError::Malformed(_)));
    assert_eq!(
        error.to_string(),
        "the pool sent a malformed message: SetNewPrevHash ends inside its field channel_id"
    );
}

#[test]
fn a_message_that_only_clients_send_ends_the_connection() {
    let (mut stage, _) = Stage::mining();
    let mut queue = FrameQueue::default();
    let easiest = Target::MAX.to_le_bytes();
    let update =
        mining::UpdateChannel { channel_id: 2, nominal_hash_rate: 1.0, maximum_target: U256::from(&easiest) };
    encode(update, &mut queue).unwrap();
    let frame = queue.iter().next().unwrap();
    assert_eq!(stage.upstream.frame_limit(&frame.header), 0, "the transport refuses it");
    let error = stage.upstream.handle_frame(frame, stage.now).unwrap_err();
    assert_eq!(error, UpstreamError::Misbehaved("it sent a message that only clients send"));
}

#[test]
fn standard_work_for_an_extended_channel_ends_the_connection() {
    let (mut stage, _) = Stage::mining();
    let standard = mining::NewMiningJob {
        channel_id: 1,
        job_id: 1,
        min_ntime: Sv2Option::new(None),
        version: 1,
        merkle_root: U256::from(const { &[1; 32] }),
    };
    let error = stage.hears(standard).unwrap_err();
    assert_eq!(error, UpstreamError::Misbehaved("it sent a standard job to an extended channel"));
    let mut stage = Stage::ready();
    let mut success = mining::OpenStandardMiningChannelSuccess {
        request_id: 99,
        channel_id: 2,
        target: U256::from(const { &[0xff; 32] }),
        extranonce_prefix: B032::try_from(&[1][..]).unwrap(),
        group_channel_id: 1,
    };
    stage.hears(success.clone()).unwrap();
    assert_eq!(stage.ignored().answers, 1, "nobody asked");
    success.request_id = stage.asks(7);
    let error = stage.hears(success).unwrap_err();
    assert_eq!(error, UpstreamError::Misbehaved("it opened a standard channel instead of an extended one"));
}

#[test]
fn answers_about_jobs_that_were_never_declared_are_ignored() {
    let (mut stage, _) = Stage::mining();
    stage.hears(mining::SetCustomMiningJobSuccess { channel_id: 2, request_id: 1, job_id: 1 }).unwrap();
    let error_code = text("jd-not-supported");
    stage.hears(mining::SetCustomMiningJobError { channel_id: 2, request_id: 1, error_code }).unwrap();
    stage.hears(common::ChannelEndpointChanged { channel_id: 2 }).unwrap();
    assert_eq!((stage.event(), stage.ignored().answers, stage.ignored().unknown), (None, 2, 1));
}

#[test]
fn future_jobs_do_not_fill_the_memory() {
    let mut stage = Stage::ready();
    let channels: Vec<u32> = (100..200).collect();
    for &channel in &channels {
        let request = stage.asks(channel.into());
        stage.hears(opened(request, channel, 1)).unwrap();
    }
    stage.events();
    let long = vec![0; 60_000];
    let mut big = |channel: u32, id: u32| {
        let Message::NewExtendedMiningJob(mut big) = job(channel, id, None) else { panic!("it is a job") };
        (big.coinbase_tx_prefix, big.coinbase_tx_suffix) =
            (B064K::try_from(&*long).unwrap(), B064K::try_from(&*long).unwrap());
        stage.hears(big)
    };
    for id in 0..100 {
        big(1, id).unwrap();
    }
    // To all together they cost what one costs, and to each alone as much as they are.
    let mut messages = channels.iter().flat_map(|&channel| (1000..1010).map(move |id| (channel, id)));
    let end = messages.find_map(|(channel, id)| big(channel, id).err());
    assert_eq!(end, Some(UpstreamError::TooMuch("jobs for tips to come")));
    assert!(stage.upstream.budget.used() <= jobs::JOB_BYTES_MAX);
}

/// One thing that may happen.
#[derive(Clone, Debug)]
enum Step {
    /// The pool sends one of the messages that tests know, about one of a few channels, jobs and requests.
    Known {
        kind: u8,
        channel: u32,
        job: u32,
        number: u32,
    },
    /// The pool sends bytes under the header of any message.
    Bytes {
        message: usize,
        payload: Vec<u8>,
    },
    Open {
        key: u64,
    },
    Close {
        key: u64,
    },
    Submit,
    Hashrate {
        key: u64,
        rate: u64,
    },
    Passes {
        millis: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0_u8..12, 0_u32..6, 0_u32..4, 0_u32..6)
            .prop_map(|(kind, channel, job, number)| Step::Known { kind, channel, job, number }),
        1 => (0..MESSAGES.len(), prop::collection::vec(any::<u8>(), 0..80))
            .prop_map(|(message, payload)| Step::Bytes { message, payload }),
        3 => (0_u64..5).prop_map(|key| Step::Open { key }),
        1 => (0_u64..5).prop_map(|key| Step::Close { key }),
        4 => Just(Step::Submit),
        1 => (0_u64..5, any::<u64>()).prop_map(|(key, rate)| Step::Hashrate { key, rate }),
        2 => (0_u64..20_000).prop_map(|millis| Step::Passes { millis }),
    ]
}

fn known(kind: u8, channel: u32, id: u32, number: u32) -> Message<'static> {
    match kind {
        0 | 1 => opened(number, channel, 1),
        2 => job(channel, id, None),
        3 => job(channel, id, Some(NTIME)),
        4 => tip(channel, id, 1),
        5 => set_target(channel, 1),
        6 => set_group(channel, &[id]),
        7 => close_channel(channel),
        8 => {
            mining::SubmitSharesError { channel_id: channel, sequence_number: number, error_code: text("no") }
                .into()
        }
        9 => mining::OpenMiningChannelError { request_id: number, error_code: text("no") }.into(),
        10 => common::Reconnect { new_host: text(""), new_port: 0 }.into(),
        _ => mining::SubmitSharesSuccess {
            channel_id: channel,
            last_sequence_number: number,
            new_submits_accepted_count: 1,
            new_shares_sum: 1,
        }
        .into(),
    }
}

/// Keeps count of what whoever holds the upstream may rely on.
#[derive(Default)]
struct Books {
    open: std::collections::BTreeSet<u64>,
    asked: std::collections::BTreeSet<u64>,
    pending: std::collections::BTreeSet<u64>,
    works: Vec<ChannelWork>,
    tags: u64,
}

impl Books {
    fn note(&mut self, event: Event) {
        match event {
            Event::Opened { key } => {
                assert!(self.asked.remove(&key) && self.open.insert(key), "{key} was asked for");
            }
            Event::Refused { key, .. } => assert!(self.asked.remove(&key), "{key} was asked for"),
            Event::Closed { key, .. } => assert!(self.open.remove(&key), "{key} was open"),
            Event::Work(work) => {
                assert!(self.open.contains(&work.key), "work for whom?");
                let len = work.prefix.as_bytes().len() + usize::from(work.extranonce_size);
                assert_eq!(work.job.extranonce_len(), len);
                self.works.retain(|known| known.key != work.key);
                self.works.push(work);
            }
            Event::Settled { tag, .. } => {
                assert!(self.pending.remove(&tag), "{tag} was sent, and not settled")
            }
            Event::Ready { .. } => panic!("it was ready"),
            Event::Reconnect { .. } => {}
        }
    }

    fn take(&mut self, step: Step, stage: &mut Stage) -> Result<(), UpstreamError> {
        match step {
            Step::Known { kind, channel, job, number } => stage.hears(known(kind, channel, job, number)),
            Step::Bytes { message, payload } => {
                let info = &MESSAGES[message];
                let mut queue = FrameQueue::default();
                queue.push(info.extension_type, info.channel_msg, info.msg_type, &payload).unwrap();
                let frame = queue.iter().next().unwrap();
                stage.upstream.handle_frame(frame, stage.now)
            }
            Step::Open { key } => {
                if stage.upstream.open(key, "", rate(1), stage.now).is_ok() {
                    assert!(!self.open.contains(&key) && self.asked.insert(key));
                }
                Ok(())
            }
            Step::Close { key } => {
                stage.upstream.close(key);
                self.open.remove(&key);
                self.asked.remove(&key);
                self.works.retain(|work| work.key != key);
                Ok(())
            }
            Step::Submit => {
                for work in &self.works {
                    self.tags += 1;
                    if stage.submits(self.tags, work).is_ok() {
                        self.pending.insert(self.tags);
                    }
                }
                Ok(())
            }
            Step::Hashrate { key, rate } => {
                stage.upstream.set_hashrate(key, Hashrate::from_hashes_per_second(rate), stage.now);
                Ok(())
            }
            Step::Passes { millis } => stage.passes(Duration::from_millis(millis)),
        }
    }
}

proptest! {
    #[test]
    fn whatever_a_pool_sends_the_books_are_right(steps in prop::collection::vec(step(), 0..200)) {
        let (mut stage, mut books) = (Stage::ready(), Books::default());
        for step in steps {
            let result = books.take(step, &mut stage);
            stage.events().into_iter().for_each(|event| books.note(event));
            for frame in stage.upstream.frames().iter() {
                let message = adit_messages::decode(Protocol::Mining, frame).unwrap();
                prop_assert_ne!(message.info().direction, Direction::ToClient);
            }
            stage.upstream.frames().clear();
            let open: std::collections::BTreeSet<u64> = stage.upstream.channels().map(|channel| channel.key).collect();
            prop_assert_eq!(&open, &books.open);
            let pending: usize = stage.upstream.channels().map(|channel| channel.pending).sum();
            prop_assert_eq!((stage.upstream.pending(), books.pending.len()), (pending, pending));
            if result.is_err() {
                break;
            }
        }
        stage.upstream.abandon();
        stage.events().into_iter().for_each(|event| books.note(event));
        prop_assert!(books.pending.is_empty());
        drop((stage.upstream.registry, books));
        prop_assert_eq!(stage.upstream.budget.used(), 0);
    }
}
