//! Channels opened, updated and closed.

use adit_channel::VardiffConfig;
use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::{B032, Str0255, Sv2Option, U256};
use adit_messages::{Message, common, mining};
use adit_pool::{Disconnect, Fault, PoolConfig};
use adit_share::FULL_EXTRANONCE_LEN;
use adit_units::{Target, Work};

use crate::world::{
    Client, VERSION, World, close, config, open_extended, open_standard, setup, text, update,
};

const ANY: [u8; 32] = [0xff; 32];

/// A terahash a second; at ten shares a minute a share is worth about 6e12 hashes.
const TERAHASH: f32 = 1e12;

fn target(hashes: u128) -> Target {
    Target::from_work(Work::from_hashes(hashes))
}

/// The pool answers a request for a channel with this code.
#[track_caller]
fn refuses<'a>(client: &mut Client, request: impl Into<Message<'a>>, code: &str, world: &World) {
    let request = request.into();
    let request_id = match &request {
        Message::OpenStandardMiningChannel(open) => open.request_id,
        Message::OpenExtendedMiningChannel(open) => open.request_id,
        other => panic!("{other:?} opens no channel"),
    };
    client.sends(request, world);
    client.expects(mining::OpenMiningChannelError { request_id, error_code: text(code) });
    client.expects_nothing();
    assert_eq!(client.closed, None);
}

#[test]
fn an_extended_channel_gets_its_answer_then_a_future_job_then_the_tip() {
    let mut world = World::new();
    let work = world.refresh();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.sends(open_extended(TERAHASH, &ANY), &world);
    let target = target(59_999_999_754_240 / 10).to_le_bytes();
    client.expects(mining::OpenExtendedMiningChannelSuccess {
        request_id: 12,
        channel_id: 2,
        target: U256::from(&target),
        extranonce_size: 14,
        extranonce_prefix: B032::new(&[1, 0, 0, 0, 1, 0]).unwrap(),
        group_channel_id: 1,
    });
    let job = client.receives();
    let Message::NewExtendedMiningJob(job) = job.message() else { panic!("{:?}", job.message()) };
    assert_eq!((job.channel_id, job.job_id, job.min_ntime.as_ref()), (2, work.id().0, None));
    assert_eq!((job.version, job.version_rolling_allowed), (VERSION, true));
    assert_eq!(job.coinbase_tx_prefix.as_bytes(), work.job().coinbase_prefix());
    assert_eq!(job.coinbase_tx_suffix.as_bytes(), work.job().coinbase_suffix());
    let path: Vec<_> = job.merkle_path.iter().map(|node| node.to_array()).collect();
    assert_eq!(path, work.job().merkle_path());
    client.expects(mining::SetNewPrevHash {
        channel_id: 2,
        job_id: work.id().0,
        prev_hash: U256::from(AsRef::<[u8; 32]>::as_ref(&work.tip().prev_hash)),
        min_ntime: work.job().min_ntime(),
        nbits: work.tip().nbits.to_consensus(),
    });
    client.expects_nothing();
}

#[test]
fn a_standard_channel_gets_its_answer_then_a_future_job_of_its_own_then_the_tip() {
    for flags in [MiningSetupFlags::NONE, MiningSetupFlags::REQUIRES_STANDARD_JOBS] {
        let mut world = World::new();
        let work = world.refresh();
        let mut client = world.connect_with(flags);
        client.sends(open_standard(0.0, &ANY), &world);
        let mut extranonce = [0; FULL_EXTRANONCE_LEN];
        (extranonce[0], extranonce[4]) = (1, 1);
        client.expects(mining::OpenStandardMiningChannelSuccess {
            request_id: 11,
            channel_id: 2,
            target: U256::from(&[0xff; 32]),
            extranonce_prefix: B032::new(&extranonce).unwrap(),
            group_channel_id: 1,
        });
        let root = work.job().merkle_root(&extranonce).unwrap();
        client.expects(mining::NewMiningJob {
            channel_id: 2,
            job_id: work.id().0,
            min_ntime: Sv2Option::new(None),
            version: VERSION,
            merkle_root: U256::from(&root),
        });
        assert_eq!(client.addressed(), [("SetNewPrevHash", 2)]);
    }
}

#[test]
fn a_channel_that_opens_before_there_is_work_gets_its_job_when_there_is() {
    let mut world = World::without_work(config());
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.sends(open_extended(0.0, &ANY), &world);
    assert_eq!(client.names(), ["OpenExtendedMiningChannel.Success"]);
    let work = world.new_tip();
    client.hears(&work, &world);
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1), ("SetNewPrevHash", 1)]);
    client.submits(work.id().0, 0, &world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn a_nominal_rate_that_is_no_number_of_hashes_is_refused() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    for hostile in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0, -f32::MIN_POSITIVE] {
        refuses(&mut client, open_extended(hostile, &ANY), "invalid-nominal-hashrate", &world);
        refuses(&mut client, open_standard(hostile, &ANY), "invalid-nominal-hashrate", &world);
    }
}

#[test]
fn any_other_nominal_rate_gives_a_target_between_floor_and_ceiling() {
    let vardiff = VardiffConfig { easiest: target(1 << 20), hardest: target(1 << 60), ..config().vardiff };
    for (nominal, wanted) in [
        (0.0, vardiff.easiest),
        (-0.0, vardiff.easiest),
        (f32::MIN_POSITIVE, vardiff.easiest),
        (1e38, vardiff.hardest),
        (f32::MAX, vardiff.hardest),
    ] {
        let mut world = World::without_work(PoolConfig { vardiff, ..config() });
        world.new_tip();
        let mut client = world.connect_with(MiningSetupFlags::NONE);
        client.sends(open_extended(nominal, &ANY), &world);
        assert_eq!(client.opened().target, wanted, "{nominal}");
    }
}

#[test]
fn a_maximum_target_is_kept_to_or_refused() {
    let (mut world, hardest) = (World::new(), config().vardiff.hardest);
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    let harder = target((1 << 80) + 1);
    for impossible in [[0; 32], harder.to_le_bytes()] {
        refuses(&mut client, open_extended(0.0, &impossible), "max-target-out-of-range", &world);
        refuses(&mut client, open_standard(0.0, &impossible), "max-target-out-of-range", &world);
    }
    for possible in [hardest, target(1000), Target::MAX] {
        client.sends(open_standard(0.0, &possible.to_le_bytes()), &world);
        assert_eq!(client.opened().target, possible);
    }
}

#[test]
fn a_user_identity_must_be_text_that_prints() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    for bad in [&b"a\0b"[..], b"\xff\xfe", b"line\nbreak", b"\x1b[2J"] {
        let user_identity = Str0255::new(bad).unwrap();
        let open = mining::OpenStandardMiningChannel { user_identity, ..open_standard(0.0, &ANY) };
        refuses(&mut client, open, "invalid-user-identity", &world);
    }
    let long = "x".repeat(255);
    for good in ["", "alice", "alice.rig", "bc1qexample.rig 1", "élan", long.as_str()] {
        let open =
            mining::OpenStandardMiningChannel { user_identity: text(good), ..open_standard(0.0, &ANY) };
        client.sends(open, &world);
        client.opened();
    }
}

#[test]
fn an_identity_that_cannot_be_paid_opens_no_channel() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    let mine = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
    for refused in [
        // Of another network, with a typing error, in no known form.
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx.rig",
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5.rig",
        "sri/what/ever",
    ] {
        client.sends(
            mining::OpenStandardMiningChannel { user_identity: text(refused), ..open_standard(0.0, &ANY) },
            &world,
        );
        let error_code = text("invalid-user-identity");
        client.expects(mining::OpenMiningChannelError { request_id: 11, error_code });
        client.expects_nothing();
    }
    for accepted in [mine, &format!("{mine}.rig"), "sri/donate", "sri/donate/rig", "account.worker"] {
        client.sends(
            mining::OpenStandardMiningChannel { user_identity: text(accepted), ..open_standard(0.0, &ANY) },
            &world,
        );
        client.opened();
    }
}

#[test]
fn the_user_identity_belongs_to_the_channel_and_not_to_the_connection() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    for name in ["alice", "bob"] {
        let open =
            mining::OpenStandardMiningChannel { user_identity: text(name), ..open_standard(0.0, &ANY) };
        client.sends(open, &world);
        client.opened();
    }
    client.submits_standard(3, 1, 0, &world);
    client.submits_standard(2, 1, 0, &world);
    let users: Vec<_> = client.records.iter().map(|record| record.user.as_str()).collect();
    assert_eq!(users, ["bob", "alice"]);
}

#[test]
fn more_extranonce_than_there_is_is_refused() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    for min_extranonce_size in [15, 16, 32, u16::MAX] {
        let open = mining::OpenExtendedMiningChannel { min_extranonce_size, ..open_extended(0.0, &ANY) };
        refuses(&mut client, open, "min-extranonce-size-too-large", &world);
    }
    for min_extranonce_size in [0, 2, 14] {
        let open = mining::OpenExtendedMiningChannel { min_extranonce_size, ..open_extended(0.0, &ANY) };
        client.sends(open, &world);
        assert_eq!(client.opened().prefix.len(), 6);
    }
}

#[test]
fn a_connection_has_a_limit_of_channels_and_closing_one_makes_room() {
    let mut world = World::without_work(PoolConfig { channels_per_connection: 2, ..config() });
    world.new_tip();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    let first = client.opens_extended(&world);
    let second = client.opens_standard(&world);
    refuses(&mut client, open_extended(0.0, &ANY), "channel-capacity-exhausted", &world);
    client.sends(close(first.channel), &world);
    let third = client.opens_extended(&world);
    assert_eq!([first.channel, second.channel, third.channel], [2, 3, 4], "no number comes back");
    assert_ne!(first.prefix, third.prefix, "no extranonce comes back");
    refuses(&mut client, open_standard(0.0, &ANY), "channel-capacity-exhausted", &world);
}

/// Every further channel was refused on it, for as long as the proxy kept it.
#[test]
fn a_connection_that_has_opened_65535_channels_is_made_anew() {
    let mut world = World::without_work(PoolConfig { channels_per_connection: 2, ..config() });
    world.new_tip();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    let kept = client.opens_standard(&world).channel;
    let last = (1..u32::from(u16::MAX)).fold(kept, |previous, number| {
        // Slowly enough not to be taken for a flood.
        world.wait(u64::from(number % 16 == 0));
        let opened = client.opens_standard(&world);
        assert_eq!(opened.channel, if number == 1 { kept + 1 } else { previous + 1 }, "no number comes back");
        if number < u32::from(u16::MAX) - 1 {
            client.sends(close(opened.channel), &world);
        }
        opened.channel
    });
    refuses(&mut client, open_standard(0.0, &ANY), "channel-capacity-exhausted", &world);
    client.submits_standard(last, 1, 0, &world);
    client.sends(close(kept), &world);
    client.sends(open_standard(0.0, &ANY), &world);
    client.expects(common::Reconnect { new_host: text(""), new_port: 0 });
    client.expects_nothing();
    let closed = client.closed.expect("there is room for a channel, and none can be opened");
    assert_eq!((closed, closed.fault()), (Disconnect::PrefixesExhausted, Fault::Ours));
    client.is_durable(1);
    assert_eq!(client.names(), ["SubmitShares.Success"], "what was earned is acknowledged");
}

#[test]
fn no_two_channels_of_a_pool_share_an_extranonce() {
    let mut world = World::new();
    let mut prefixes = std::collections::HashSet::new();
    for _ in 0..50 {
        let mut client = world.connect_with(MiningSetupFlags::NONE);
        for _ in 0..20 {
            assert!(prefixes.insert(client.opens_extended(&world).prefix[..6].to_vec()));
            assert!(prefixes.insert(client.opens_standard(&world).prefix[..6].to_vec()));
        }
    }
}

/// Their coinbases have scripts of one length, which the job says once for all of them (spec 5.1.2.1, 5.2.3).
#[test]
fn all_channels_of_a_connection_have_extranonces_of_one_length() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    for min_extranonce_size in [0, 4, 14] {
        let open = mining::OpenExtendedMiningChannel { min_extranonce_size, ..open_extended(0.0, &ANY) };
        client.sends(open, &world);
        let answer = client.receives();
        let Message::OpenExtendedMiningChannelSuccess(open) = answer.message() else {
            panic!("{:?}", answer.message());
        };
        let prefix = open.extranonce_prefix.as_bytes().len();
        assert_eq!(prefix + usize::from(open.extranonce_size), FULL_EXTRANONCE_LEN);
        client.skips_all();
    }
    assert_eq!(client.opens_standard(&world).prefix.len(), FULL_EXTRANONCE_LEN);
}

#[test]
fn a_connection_that_takes_standard_jobs_only_opens_no_extended_channel() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::REQUIRES_STANDARD_JOBS);
    let code = "extended-channels-not-supported-for-standard-jobs";
    refuses(&mut client, open_extended(0.0, &ANY), code, &world);
    client.opens_standard(&world);
}

#[test]
fn an_update_of_a_channel_that_is_not_there_is_refused() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for channel_id in [0, 1, 3, u32::MAX] {
        client.sends(mining::UpdateChannel { channel_id, ..update(1.0, &ANY) }, &world);
        client.expects(mining::UpdateChannelError { channel_id, error_code: text("invalid-channel-id") });
    }
    client.expects_nothing();
}

#[test]
fn an_impossible_update_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for hostile in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
        client.sends(update(hostile, &ANY), &world);
        client.expects(mining::UpdateChannelError {
            channel_id: 2,
            error_code: text("invalid-nominal-hashrate"),
        });
    }
    client.sends(update(TERAHASH, &[0; 32]), &world);
    client.expects(mining::UpdateChannelError { channel_id: 2, error_code: text("max-target-out-of-range") });
    client.expects_nothing();
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"], "no target changed");
}

#[test]
fn an_update_that_makes_shares_harder_is_answered_at_once() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let maximum = target(1 << 40).to_le_bytes();
    client.sends(update(0.0, &maximum), &world);
    client.expects(mining::SetTarget { channel_id: 2, maximum_target: U256::from(&maximum) });
    client.sends(update(TERAHASH, &ANY), &world);
    let faster = target(5_999_999_975_424).to_le_bytes();
    client.expects(mining::SetTarget { channel_id: 2, maximum_target: U256::from(&faster) });
    client.expects_nothing();
}

#[test]
fn an_update_that_makes_shares_easier_is_answered_with_the_next_job() {
    let mut world = World::new();
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.sends(open_extended(TERAHASH, &ANY), &world);
    client.opened();
    client.sends(update(0.0, &ANY), &world);
    client.expects_nothing();
    let work = world.refresh();
    client.hears(&work, &world);
    client.expects(mining::SetTarget { channel_id: 2, maximum_target: U256::from(&ANY) });
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1)]);
}

#[test]
fn an_update_that_changes_nothing_has_no_answer() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.sends(update(0.0, &ANY), &world);
    client.expects_nothing();
}

#[test]
fn a_closed_channel_gets_no_answer_no_job_and_no_acknowledgement() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.submits(1, 0, &world);
    client.sends(close(2), &world);
    client.expects_nothing();
    client.is_durable(1);
    client.expects_nothing();
    let work = world.refresh();
    client.hears(&work, &world);
    client.expects_nothing();
    let number = client.submits(work.id().0, 0, &world);
    client.is_refused(number, "invalid-channel-id");
    assert_eq!(client.records.len(), 1, "what was accepted before is credited all the same");
}

#[test]
fn closing_one_channel_leaves_the_others() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.opens_extended(&world);
    client.sends(close(3), &world);
    client.submits(1, 0, &world);
    assert_eq!((client.records.len(), client.session.channels()), (1, 1));
}

#[test]
fn closing_the_group_closes_every_channel() {
    for flags in [MiningSetupFlags::NONE, MiningSetupFlags::REQUIRES_STANDARD_JOBS] {
        let mut world = World::new();
        let mut client = world.connect_with(flags);
        for _ in 0..3 {
            client.opens_standard(&world);
        }
        client.sends(close(1), &world);
        client.expects_nothing();
        assert_eq!(client.session.channels(), 0);
        assert_eq!(client.opens_standard(&world).channel, 5);
    }
}

#[test]
fn closing_what_is_not_there_is_no_offence() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    for channel in [0, 3, u32::MAX] {
        client.sends(close(channel), &world);
    }
    client.expects_nothing();
    assert_eq!((client.closed, client.session.channels()), (None, 1));
}

#[test]
fn ten_minutes_without_any_channel_ends_the_session() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    world.wait(100);
    client.sends(close(2), &world);
    world.wait(599);
    client.ticks(&world);
    assert_eq!(client.closed, None);
    world.wait(1);
    client.ticks(&world);
    assert_eq!(client.closed, Some(Disconnect::NoChannel));
}

#[test]
fn a_channel_that_opens_again_in_time_lifts_the_deadline() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.sends(close(2), &world);
    world.wait(59);
    client.opens_extended(&world);
    world.wait(600);
    client.ticks(&world);
    assert_eq!((client.closed, client.session.poll_timeout()), (None, None));
}

#[test]
fn a_channel_opened_after_a_refused_setup_of_another_peer_is_not_disturbed() {
    let mut world = World::new();
    let mut honest = world.extended_miner();
    let mut other = world.connect();
    other.sends(setup(u32::MAX), &world);
    assert!(other.closed.is_some());
    honest.submits(1, 0, &world);
    assert_eq!(honest.records.len(), 1);
}

#[test]
fn a_custom_job_is_refused_where_nobody_declared_one() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.sends(
        mining::SetCustomMiningJob {
            channel_id: 2,
            request_id: 77,
            token: adit_messages::types::B0255::new(&[1, 2, 3]).unwrap(),
            version: VERSION,
            prev_hash: U256::from(&[0; 32]),
            min_ntime: 0,
            nbits: 0,
            coinbase_tx_version: 2,
            coinbase_prefix: adit_messages::types::B0255::new(&[]).unwrap(),
            coinbase_tx_input_n_sequence: 0,
            coinbase_tx_outputs: adit_messages::types::B064K::new(&[]).unwrap(),
            coinbase_tx_locktime: 0,
            merkle_path: adit_messages::types::Seq0255::new(Vec::new()).unwrap(),
        },
        &world,
    );
    let error_code = text("jd-not-supported");
    client.expects(mining::SetCustomMiningJobError { channel_id: 2, request_id: 77, error_code });
    assert_eq!(client.closed, None);
}

/// The network's difficulty is one.
const DIFFICULTY_1: u32 = 0x1d00_ffff;

#[test]
fn no_miner_is_told_to_throw_blocks_away() {
    let easiest = Target::DIFFICULTY_1.to_le_bytes();
    let set_target = || mining::SetTarget { channel_id: 2, maximum_target: U256::from(&easiest) };
    let mut world = World::without_work(config());
    // Before there is a tip, and then with a tip that is harder than the shares.
    let mut early = world.connect_with(MiningSetupFlags::NONE);
    early.sends(open_extended(1.2 * TERAHASH, &ANY), &world);
    assert!(early.opened().target < Target::DIFFICULTY_1);
    let mut late = world.connect_with(MiningSetupFlags::REQUIRES_STANDARD_JOBS);
    let hard = world.new_tip();
    late.hears(&hard, &world);
    late.sends(open_standard(1.2 * TERAHASH, &ANY), &world);
    assert!(late.opened().target < Target::DIFFICULTY_1);
    world.nbits = DIFFICULTY_1;
    let work = world.new_tip();
    early.hears(&work, &world);
    early.expects(set_target());
    assert_eq!(early.addressed(), [("NewExtendedMiningJob", 1), ("SetNewPrevHash", 1)]);
    late.hears(&work, &world);
    late.expects(set_target());
    assert_eq!(late.addressed(), [("NewMiningJob", 2), ("SetNewPrevHash", 2)]);
    // On a tip that is known.
    let mut client = world.connect_with(MiningSetupFlags::NONE);
    client.sends(open_extended(1.2 * TERAHASH, &ANY), &world);
    assert_eq!(client.opened().target, Target::DIFFICULTY_1);
    client.sends(update(100.0 * TERAHASH, &ANY), &world);
    client.expects_nothing();
    let own = target(1 << 40).to_le_bytes();
    client.sends(open_extended(0.0, &own), &world);
    assert_eq!(client.opened().target, target(1 << 40), "this miner accepts none that is easier");
}
