//! Firmware that exists, and what it needs to be told and how.

use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::Str0255;
use adit_messages::{Message, common, mining};

use crate::world::{World, bridging, extended_share, open_extended, setup, text};

/// The largest frame that ESP-Miner reads, header included.
const BITAXE_FRAME: usize = 8192;

#[test]
fn bitaxe_opens_an_extended_channel_and_mines() {
    let mut world = World::new();
    let mut bitaxe = world.connect();
    let setup = common::SetupConnection {
        vendor: text("bitaxe"),
        hardware_version: text("BM1370"),
        firmware: text(""),
        ..setup(0)
    };
    bitaxe.sends(setup, &world);
    assert_eq!(bitaxe.names(), ["SetupConnection.Success"]);
    // Its nominal rate is always the same, whatever the device.
    let open =
        mining::OpenExtendedMiningChannel { min_extranonce_size: 2, ..open_extended(1e12, &[0xff; 32]) };
    bitaxe.sends(open, &world);
    // The frame after the request must be the answer, or it gives up.
    assert_eq!(
        bitaxe.addressed().into_iter().map(|(name, _)| name).collect::<Vec<_>>(),
        ["OpenExtendedMiningChannel.Success", "NewExtendedMiningJob", "SetNewPrevHash"]
    );
    for _ in 0..10 {
        let work = world.refresh();
        bitaxe.hears(&work, &world);
        let tip = world.new_tip();
        bitaxe.hears(&tip, &world);
        while bitaxe.has_mail() {
            let frame = bitaxe.receives();
            assert!(frame.frame_len() <= BITAXE_FRAME, "{} bytes", frame.frame_len());
            let name = frame.message().info().name;
            let known = ["NewExtendedMiningJob", "SetNewPrevHash", "SetTarget"];
            assert!(known.contains(&name), "{name} would be ignored");
        }
    }
}

#[test]
fn bitaxe_with_standard_jobs_gets_those_only() {
    let mut world = World::new();
    let mut bitaxe = world.standard_miner();
    let work = world.refresh();
    bitaxe.hears(&work, &world);
    let tip = world.new_tip();
    bitaxe.hears(&tip, &world);
    assert_eq!(bitaxe.names(), ["NewMiningJob", "NewMiningJob", "SetNewPrevHash"]);
}

#[test]
fn bitaxe_is_not_told_a_new_target_while_it_works_on_a_job() {
    // It filters its shares by the newest target at once, so they would miss the old job's credit.
    let mut world = World::new();
    let mut bitaxe = world.extended_miner();
    for nonce in 0..1000 {
        bitaxe.submits(1, nonce, &world);
        bitaxe.is_durable(usize::try_from(nonce).unwrap() + 1);
    }
    assert!(bitaxe.names().iter().all(|name| *name == "SubmitShares.Success"));
    let work = world.refresh();
    bitaxe.hears(&work, &world);
    assert_eq!(bitaxe.names(), ["SetTarget", "NewExtendedMiningJob"]);
}

#[test]
fn braiins_os_gets_no_identical_refresh_and_no_min_ntime_with_a_prevhash() {
    let mut world = World::new();
    let mut braiins = world.connect_with(MiningSetupFlags::REQUIRES_VERSION_ROLLING);
    braiins.opens_extended(&world);
    let template = world.template();
    assert!(
        world.factory.handle_template(&template, world.now).unwrap().is_none(),
        "its pipeline would restart"
    );
    let tip = world.new_tip();
    braiins.hears(&tip, &world);
    let job = braiins.receives();
    let Message::NewExtendedMiningJob(job) = job.message() else { panic!("{:?}", job.message()) };
    assert!(job.min_ntime.as_ref().is_none(), "a job that a prevhash names must be a future job");
    assert!(job.version_rolling_allowed);
    assert_eq!(braiins.names(), ["SetNewPrevHash"]);
}

#[test]
fn the_reference_mining_device_names_nobody_and_mines() {
    let mut world = World::new();
    let mut device = world.connect_with(MiningSetupFlags::REQUIRES_STANDARD_JOBS);
    let open = mining::OpenStandardMiningChannel {
        request_id: 0,
        user_identity: Str0255::new(b"").unwrap(),
        nominal_hash_rate: 5_500_000.0,
        max_target: adit_messages::types::U256::from(&[0xff; 32]),
    };
    device.sends(open, &world);
    assert_eq!(device.names(), ["OpenStandardMiningChannel.Success", "NewMiningJob", "SetNewPrevHash"]);
}

#[test]
fn firmware_that_sends_a_nonce_again_keeps_its_connection() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.submits(1, 7, &world);
    for _ in 0..2000 {
        let number = client.submits_share(extended_share(1, 7, &world), &world);
        client.is_refused(number, "duplicate-share");
    }
    assert_eq!((client.closed, client.records.len()), (None, 1));
}

/// ESP-Miner keeps eight jobs that wait for a tip and forgets the oldest one; jobs that are active at once do not count.
#[test]
fn bitaxe_still_has_the_job_for_the_next_tip_after_a_long_block() {
    for flags in [MiningSetupFlags::NONE, MiningSetupFlags::REQUIRES_STANDARD_JOBS] {
        let mut world = World::without_work(bridging());
        world.new_tip();
        let mut bitaxe = world.connect_with(flags);
        if flags == MiningSetupFlags::NONE {
            bitaxe.opens_extended(&world);
        } else {
            bitaxe.opens_standard(&world);
        }
        let mut waiting = Vec::new();
        bitaxe.hears(&world.put_by(), &world);
        for _ in 0..120 {
            world.wait(30);
            bitaxe.hears(&world.refresh(), &world);
        }
        while bitaxe.has_mail() {
            let frame = bitaxe.receives();
            assert!(frame.frame_len() <= BITAXE_FRAME, "{} bytes", frame.frame_len());
            match frame.message() {
                Message::NewExtendedMiningJob(job) if job.min_ntime.as_ref().is_none() => {
                    waiting.push(job.job_id)
                }
                Message::NewMiningJob(job) if job.min_ntime.as_ref().is_none() => waiting.push(job.job_id),
                Message::NewExtendedMiningJob(_) | Message::NewMiningJob(_) | Message::SetTarget(_) => {}
                other => panic!("{other:?}"),
            }
        }
        let interim = world.tip_alone().unwrap();
        assert_eq!(waiting, [interim.id().0], "one, and the right one");
        bitaxe.hears(&interim, &world);
        let names = bitaxe.names();
        assert_eq!(names.last(), Some(&"SetNewPrevHash"));
        assert!(names.iter().rev().skip(1).all(|name| *name == "SetTarget"), "{names:?}");
    }
}

/// It mines for whoever its user name says, and is told nothing that it would ignore.
#[test]
fn bitaxe_mines_solo_in_frames_that_it_can_read() {
    for user in [
        "sri/solo/bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0/bitaxe",
        "sri/donate/2/bc1p0xlxvlhemja6c4dqv22uapctqupfhlxm9h8z3k2e72q4k9hcz7vqzk5jj0/bitaxe",
    ] {
        let mut world = World::without_work(bridging());
        world.new_tip();
        let mut bitaxe = world.connect_with(MiningSetupFlags::NONE);
        let open = mining::OpenExtendedMiningChannel {
            user_identity: text(user),
            min_extranonce_size: 2,
            ..open_extended(1e12, &[0xff; 32])
        };
        bitaxe.sends(open, &world);
        assert_eq!(bitaxe.receives().message().info().name, "OpenExtendedMiningChannel.Success");
        for _ in 0..5 {
            bitaxe.hears(&world.put_by(), &world);
            bitaxe.hears(&world.refresh(), &world);
            bitaxe.hears(&world.tip_alone().unwrap(), &world);
            bitaxe.hears(&world.refresh(), &world);
        }
        while bitaxe.has_mail() {
            let frame = bitaxe.receives();
            assert!(frame.frame_len() <= BITAXE_FRAME, "{} bytes", frame.frame_len());
            let name = frame.message().info().name;
            let known = ["NewExtendedMiningJob", "SetNewPrevHash", "SetTarget"];
            assert!(known.contains(&name), "{name} would be ignored");
        }
    }
}

/// It knows no `SetExtranoncePrefix`. With standard jobs that does no harm: the root in the job goes with the prefix.
#[test]
fn bitaxe_with_standard_jobs_earns_although_it_ignores_another_extranonce_prefix() {
    let mut world = World::new();
    let mut bitaxe = world.standard_miner();
    bitaxe.session.renew_extranonce_prefix(adit_units::ChannelId(2)).unwrap();
    let work = world.refresh();
    bitaxe.hears(&work, &world);
    assert_eq!(bitaxe.names(), ["SetExtranoncePrefix", "NewMiningJob"]);
    bitaxe.submits_standard(2, work.id().0, 0, &world);
    assert_eq!(bitaxe.records.len(), 1);
}

/// It ignores `Reconnect`, and comes back to the address that it knows when it is let go; until then it earns.
#[test]
fn bitaxe_ignores_reconnect_and_keeps_its_pay() {
    let mut world = World::new();
    let mut bitaxe = world.extended_miner();
    bitaxe.session.reconnect("pool2.example", 34_255);
    for nonce in 0..100 {
        bitaxe.submits(1, nonce, &world);
    }
    bitaxe.is_durable(100);
    assert_eq!(bitaxe.names(), ["Reconnect", "SubmitShares.Success"]);
    let work = world.new_tip();
    bitaxe.hears(&work, &world);
    assert_eq!(bitaxe.names().last(), Some(&"SetNewPrevHash"));
}

/// BraiinsOS starts its pipeline anew with every job, so the job for the next tip comes once for each tip.
#[test]
fn braiins_os_gets_the_job_for_the_next_tip_once() {
    let mut world = World::without_work(bridging());
    world.new_tip();
    let mut miner = world.extended_miner();
    miner.hears(&world.put_by(), &world);
    assert_eq!(miner.names(), ["NewExtendedMiningJob"]);
    for _ in 0..5 {
        world.wait(60);
        let renewed = world.factory.handle_timeout(world.now).unwrap().expect("a minute is over");
        miner.hears(&renewed, &world);
        assert_eq!(miner.names().iter().filter(|name| **name == "NewExtendedMiningJob").count(), 1);
    }
    let again = world.factory.handle_timeout(world.now).unwrap();
    assert!(again.is_none(), "nothing is due");
}
