//! The budget of remembered shares that all channels of a connection have together.

use std::sync::Arc;

use adit_messages::types::{Str0255, U256};
use adit_messages::{Message, common, encode};
use adit_node::{Devnet, DevnetConfig};
use adit_transport::FrameQueue;
use adit_units::{ConnectionId, Target};
use bitcoin::ScriptBuf;
use core::time::Duration;

use super::*;
use crate::{JOB_AGE_MAX, JobFactory, PoolConfig};

fn say<'a>(session: &mut Session, message: impl Into<Message<'a>>, now: Now) {
    let mut queue = FrameQueue::default();
    encode(message, &mut queue).unwrap();
    for frame in &queue {
        session.handle_frame(frame, now).unwrap();
    }
}

fn text(text: &str) -> Str0255<'_> {
    Str0255::try_from(text).unwrap()
}

#[test]
fn a_connection_that_floods_is_refused_before_its_memory_grows_without_end() {
    let mut config = PoolConfig::new(1, ScriptBuf::from_bytes(vec![0x51]));
    (config.vardiff.easiest, config.vardiff.hardest) = (Target::MAX, Target::MAX);
    let mut now = Now { unix: adit_units::UnixTime::from_secs(1_800_000_000), ..Now::default() };
    let template = Arc::new(Devnet::new(&DevnetConfig::new([7; 32]), now).template(now));
    let mut factory = JobFactory::new(&config, 0).unwrap();
    let mut session = Session::new(Arc::new(config), ConnectionId(1), [0; 16], now);
    let work = factory.handle_template(&template, now).unwrap().unwrap();
    session.handle_work(Arc::clone(&work), now);
    let setup = common::SetupConnection {
        protocol: common::Protocol::MiningProtocol,
        min_version: 2,
        max_version: 2,
        flags: 0,
        endpoint_host: text("localhost"),
        endpoint_port: 34254,
        vendor: text("test"),
        hardware_version: text(""),
        firmware: text(""),
        device_id: text(""),
    };
    say(&mut session, setup, now);
    for request_id in 0..2 {
        let open = mining::OpenStandardMiningChannel {
            request_id,
            user_identity: text("alice"),
            nominal_hash_rate: 0.0,
            max_target: U256::from(&[0xff; 32]),
        };
        say(&mut session, open, now);
    }
    let submit = |session: &mut Session, channel_id, nonce, now| {
        let (job, sequence_number) = (work.job(), 0);
        let (job_id, ntime, version) = (job.id().0, job.min_ntime(), job.version());
        let before = session.counters.accepted;
        let share =
            mining::SubmitSharesStandard { channel_id, sequence_number, job_id, nonce, ntime, version };
        say(session, share, now);
        session.counters.accepted > before
    };
    assert!(submit(&mut session, 2, 0, now) && submit(&mut session, 3, 0, now));
    assert_eq!(session.remembered, 2);
    session.remembered = REMEMBERED_MAX - 1;
    assert!(submit(&mut session, 2, 1, now), "the last one that may be remembered");
    for channel in [2, 3] {
        assert!(!submit(&mut session, channel, 2, now), "channel {channel}");
    }
    assert_eq!(session.remembered, REMEMBERED_MAX);
    now = now.after(JOB_AGE_MAX + Duration::from_secs(1));
    let next = factory.handle_template(&template, now).unwrap().unwrap();
    session.handle_work(next, now);
    assert_eq!(session.remembered, 3, "counted anew");
    assert!(submit(&mut session, 2, 2, now) && submit(&mut session, 3, 2, now));
}
