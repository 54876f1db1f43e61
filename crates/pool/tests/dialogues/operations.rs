//! What a server does by itself: it moves channels to another group, renews their extranonce, closes them, and sends peers elsewhere.

use adit_channel::RewardKind;
use adit_messages::error_code::CloseChannelReason;
use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::{B032, Seq064K};
use adit_messages::{Message, common, mining};
use adit_pool::{
    CLOSURES_MAX, Disconnect, Distribution, GARBAGE_MAX, IDLE_TIMEOUT, JOB_AGE_MAX, JobFactory,
    OperationError, PoolConfig, REPEATS_MAX, SHARES_MAX, SHARES_PER_SECOND, WISH_INTERVAL, WISHED_JOB_AGE,
    Work,
};
use adit_units::{ChannelId, Target};
use bitcoin::ScriptBuf;
use bitcoin::hashes::{Hash as _, sha256d};

use crate::world::{
    Client, EASY, Opened, VERSION, World, bridging, close, config, extended_share, open_extended, text,
};

const NONE: MiningSetupFlags = MiningSetupFlags::NONE;
const STANDARD: MiningSetupFlags = MiningSetupFlags::REQUIRES_STANDARD_JOBS;
const REASON: CloseChannelReason = CloseChannelReason::ClosedByOperator;

fn solo() -> Distribution {
    Distribution::Solo(ScriptBuf::from_bytes(vec![0x52]))
}

fn set_group(group_channel_id: u32, channels: &[u32]) -> mining::SetGroupChannel<'static> {
    mining::SetGroupChannel { group_channel_id, channel_ids: Seq064K::new(channels.to_vec()).unwrap() }
}

/// The hash of a header that rolls nothing but the nonce, on the pool's job.
fn hash(work: &Work, prefix: &[u8], nonce: u32, world: &World) -> [u8; 32] {
    let mut extranonce = prefix.to_vec();
    extranonce.resize(20, 0);
    let header = [
        &VERSION.to_le_bytes()[..],
        work.tip().prev_hash.as_ref(),
        &work.job().merkle_root(&extranonce).unwrap(),
        &world.now.unix.to_secs().to_le_bytes(),
        &work.tip().nbits.to_consensus().to_le_bytes(),
        &nonce.to_le_bytes(),
    ];
    sha256d::Hash::hash(&header.concat()).to_byte_array()
}

/// The peer submits an extended share on any channel.
fn submits_on(client: &mut Client, channel_id: u32, job: u32, nonce: u32, world: &World) -> u32 {
    let share = extended_share(job, nonce, world);
    client.submits_share(mining::SubmitSharesExtended { channel_id, ..share }, world)
}

#[test]
fn a_channel_that_is_to_pay_in_another_way_is_told_its_group_and_then_given_jobs() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    for _ in 0..3 {
        client.opens_extended(&world);
    }
    client.session.set_distribution(&[ChannelId(2), ChannelId(4)], &solo()).unwrap();
    client.ticks(&world);
    let work = world.refresh();
    client.hears(&work, &world);
    client.expects(set_group(5, &[2, 4]));
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1), ("NewExtendedMiningJob", 5)]);
    // The job that was out keeps paying the pool.
    for (channel, job) in [(2, 1), (2, work.id().0), (3, work.id().0)] {
        submits_on(&mut client, channel, job, 0, &world);
    }
    client.expects_nothing();
    let rewards: Vec<_> = client.records.iter().map(|record| record.reward).collect();
    assert_eq!(rewards, [RewardKind::Pooled, RewardKind::Solo, RewardKind::Pooled]);
    // And back: the group that is empty then is gone, and its number with it.
    client.session.set_distribution(&[ChannelId(2), ChannelId(4)], &Distribution::Pooled).unwrap();
    let work = world.new_tip();
    client.hears(&work, &world);
    client.expects(set_group(1, &[2, 4]));
    for _ in 0..2 {
        assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1), ("SetNewPrevHash", 1)]);
        // Until now its last jobs might still have been blocks.
        let work = world.new_tip();
        client.hears(&work, &world);
    }
    client.skips_all();
    client.session.set_distribution(&[ChannelId(3)], &solo()).unwrap();
    let work = world.refresh();
    client.hears(&work, &world);
    client.expects(set_group(6, &[3]));
}

#[test]
fn a_channel_that_pays_in_that_way_already_is_told_nothing() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    client.session.set_distribution(&[ChannelId(2)], &Distribution::Pooled).unwrap();
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"]);
}

#[test]
fn the_job_for_the_next_tip_pays_as_it_was_given_and_the_next_one_in_the_new_way() {
    for flags in [NONE, STANDARD] {
        let mut world = World::without_work(bridging());
        world.nbits = EASY;
        world.new_tip();
        let mut client = world.connect_with(flags);
        let Opened { channel, prefix, .. } = client.opens_standard(&world);
        client.hears(&world.put_by(), &world);
        client.skips_all();
        client.session.set_distribution(&[ChannelId(channel)], &solo()).unwrap();
        let interim = world.tip_alone().unwrap();
        client.hears(&interim, &world);
        if flags == NONE {
            client.expects(set_group(3, &[channel]));
            assert_eq!(client.addressed(), [("SetNewPrevHash", 3)]);
        } else {
            assert_eq!(client.addressed(), [("SetNewPrevHash", channel)], "no groups are spoken of");
        }
        for nonce in 0..64 {
            client.submits_standard(channel, interim.id().0, nonce, &world);
            assert_eq!(client.records.last().unwrap().hash, hash(&interim, &prefix, nonce, &world));
        }
        assert!(client.records.iter().all(|record| record.reward == RewardKind::Pooled));
        client.blocks().iter().for_each(|found| found.block.check().unwrap());
        let full = world.refresh();
        client.hears(&full, &world);
        client.skips_all();
        for nonce in 0..64 {
            client.submits_standard(channel, full.id().0, nonce, &world);
        }
        assert_eq!(client.records.last().unwrap().reward, RewardKind::Solo);
        let found = client.blocks().pop().expect("every second hash is a block");
        found.block.check().unwrap();
        let block: bitcoin::Block = bitcoin::consensus::deserialize(&found.block.to_bytes()).unwrap();
        assert_eq!(block.txdata[0].output[0].script_pubkey, ScriptBuf::from_bytes(vec![0x52]));
    }
}

#[test]
fn what_cannot_be_done_changes_nothing() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let unknown = Err(OperationError::UnknownChannel(ChannelId(9)));
    assert_eq!(client.session.set_distribution(&[ChannelId(2), ChannelId(9)], &solo()), unknown);
    assert_eq!(client.session.renew_extranonce_prefix(ChannelId(9)), unknown);
    assert_eq!(client.session.close_channel(ChannelId(9), REASON, world.now), unknown);
    // A group is no channel.
    let unknown = Err(OperationError::UnknownChannel(ChannelId(1)));
    assert_eq!(client.session.set_distribution(&[ChannelId(1)], &solo()), unknown);
    assert_eq!(client.session.renew_extranonce_prefix(ChannelId(1)), unknown);
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1)]);
    for byte in 0..adit_pool::DISTRIBUTIONS_MAX {
        let to = Distribution::Solo(ScriptBuf::from_bytes(vec![u8::try_from(byte).unwrap()]));
        let channel = ChannelId(client.opens_extended(&world).channel);
        client.session.set_distribution(&[channel], &to).unwrap();
        client.is_durable(0);
        client.skips_all();
    }
    assert_eq!(
        client.session.set_distribution(&[ChannelId(2)], &solo()),
        Err(OperationError::TooManyDistributions)
    );
}

#[test]
fn another_extranonce_prefix_is_told_just_before_the_job_that_it_is_for() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let (extended, standard) = (client.opens_extended(&world), client.opens_standard(&world));
    let first = world.work.clone().unwrap();
    client.session.renew_extranonce_prefix(ChannelId(extended.channel)).unwrap();
    client.session.renew_extranonce_prefix(ChannelId(standard.channel)).unwrap();
    client.ticks(&world);
    client.expects_nothing();
    let work = world.refresh();
    client.hears(&work, &world);
    let (new, mut full) = ([1, 0, 0, 0, 3, 0], [0; 20]);
    (full[0], full[4]) = (1, 4);
    let set = |channel_id, prefix| mining::SetExtranoncePrefix { channel_id, extranonce_prefix: prefix };
    client.expects(set(extended.channel, B032::new(&new).unwrap()));
    client.expects(set(standard.channel, B032::new(&full).unwrap()));
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1)]);

    // Shares on the job that was out are judged with the prefix that it had.
    for (job, prefix, standard_prefix) in
        [(&first, &extended.prefix[..], &standard.prefix[..]), (&work, &new, &full)]
    {
        submits_on(&mut client, extended.channel, job.id().0, 7, &world);
        assert_eq!(client.records.last().unwrap().hash, hash(job, prefix, 7, &world));
        client.submits_standard(standard.channel, job.id().0, 7, &world);
        assert_eq!(client.records.last().unwrap().hash, hash(job, standard_prefix, 7, &world));
    }
    let work = world.new_tip();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob", "SetNewPrevHash"], "it is told once");
    submits_on(&mut client, extended.channel, work.id().0, 7, &world);
    assert_eq!(client.records.last().unwrap().hash, hash(&work, &new, 7, &world));
    assert_eq!(client.opens_extended(&world).prefix, [1, 0, 0, 0, 5, 0], "no prefix comes back");
}

#[test]
fn where_standard_jobs_are_required_the_next_job_has_the_root_of_the_new_prefix() {
    let mut world = World::new();
    let mut client = world.standard_miner();
    client.session.renew_extranonce_prefix(ChannelId(2)).unwrap();
    let work = world.new_tip();
    client.hears(&work, &world);
    let told = client.receives();
    let Message::SetExtranoncePrefix(set) = told.message() else { panic!("{:?}", told.message()) };
    let told = client.receives();
    let Message::NewMiningJob(job) = told.message() else { panic!("{:?}", told.message()) };
    let root = work.job().merkle_root(set.extranonce_prefix.as_bytes()).unwrap();
    assert_eq!(job.merkle_root.to_array(), root);
    assert_eq!(client.names(), ["SetNewPrevHash"]);
}

#[test]
fn the_job_for_the_next_tip_keeps_the_prefix_that_it_was_given_with() {
    let mut world = World::without_work(bridging());
    world.new_tip();
    let mut client = world.connect_with(NONE);
    let Opened { channel, prefix, .. } = client.opens_extended(&world);
    client.hears(&world.put_by(), &world);
    client.skips_all();
    client.session.renew_extranonce_prefix(ChannelId(channel)).unwrap();
    let interim = world.tip_alone().unwrap();
    client.hears(&interim, &world);
    assert_eq!(client.names(), ["SetNewPrevHash"], "no job is sent, so there is nothing to tell yet");
    client.submits(interim.id().0, 0, &world);
    assert_eq!(client.records.last().unwrap().hash, hash(&interim, &prefix, 0, &world));
    let full = world.refresh();
    client.hears(&full, &world);
    assert_eq!(client.names(), ["SetExtranoncePrefix", "NewExtendedMiningJob"]);
    client.submits(full.id().0, 0, &world);
    assert_eq!(client.records.last().unwrap().hash, hash(&full, &[1, 0, 0, 0, 2, 0], 0, &world));
}

#[test]
fn a_prefix_that_changes_before_a_job_is_given_ahead_is_told_with_that_job() {
    let mut world = World::without_work(bridging());
    world.new_tip();
    let mut client = world.connect_with(NONE);
    client.opens_extended(&world);
    client.session.renew_extranonce_prefix(ChannelId(2)).unwrap();
    client.hears(&world.put_by(), &world);
    assert_eq!(client.names(), ["SetExtranoncePrefix", "NewExtendedMiningJob"]);
    let interim = world.tip_alone().unwrap();
    client.hears(&interim, &world);
    client.submits(interim.id().0, 0, &world);
    assert_eq!(client.records.last().unwrap().hash, hash(&interim, &[1, 0, 0, 0, 2, 0], 0, &world));
}

#[test]
fn a_channel_that_the_server_closes_is_told_why_and_the_others_stay() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let channels = [0; 3].map(|_| client.opens_extended(&world).channel);
    submits_on(&mut client, channels[0], 1, 0, &world);
    client.session.close_channel(ChannelId(channels[0]), REASON, world.now).unwrap();
    client.is_durable(1);
    client.expects(mining::CloseChannel { channel_id: channels[0], reason_code: text("closed-by-operator") });
    client.expects_nothing();
    let number = submits_on(&mut client, channels[0], 1, 1, &world);
    client.expects(mining::SubmitSharesError {
        channel_id: channels[0],
        sequence_number: number,
        error_code: text("invalid-channel-id"),
    });
    submits_on(&mut client, channels[1], 1, 0, &world);
    client.expects_nothing();
    // With the number of the group, all of them.
    client.session.close_channel(ChannelId(1), REASON, world.now).unwrap();
    world.wait(IDLE_TIMEOUT.as_secs() - 1);
    client.ticks(&world);
    client.is_durable(2);
    client.expects(mining::CloseChannel { channel_id: 1, reason_code: text("closed-by-operator") });
    client.expects_nothing();
    assert_eq!((client.session.channels(), client.closed), (0, None));
    world.wait(1);
    client.ticks(&world);
    assert_eq!(client.closed, Some(Disconnect::NoChannel), "as if the peer had closed them");
}

/// A proxy with two channels, of which the first is about to misbehave.
fn proxy(world: &mut World) -> (Client, u32, u32) {
    let mut client = world.connect_with(NONE);
    let (bad, good) = (client.opens_extended(world).channel, client.opens_extended(world).channel);
    (client, bad, good)
}

/// The peer was told that a channel is closed for that reason, and is still connected.
#[track_caller]
fn is_closed(client: &mut Client, channel_id: u32, reason: &str) {
    assert_eq!(client.closed, None);
    while client.has_mail() {
        let last = client.receives();
        if let Message::CloseChannel(close) = last.message() {
            assert_eq!((close.channel_id, close.reason_code), (channel_id, text(reason)));
            return client.expects_nothing();
        }
        assert_eq!(last.message().info().name, "SubmitShares.Error");
    }
    panic!("no channel was closed");
}

#[test]
fn garbage_costs_the_channel_and_not_its_neighbours() {
    let mut world = World::new();
    let (mut client, bad, good) = proxy(&mut world);
    for nonce in 0..=GARBAGE_MAX {
        submits_on(&mut client, bad, 4_000, nonce, &world);
    }
    is_closed(&mut client, bad, "too-many-invalid-shares");
    // What was under way is answered, and costs the others nothing.
    for nonce in 0..20 * GARBAGE_MAX {
        submits_on(&mut client, bad, 4_000, nonce, &world);
    }
    assert_eq!(client.names().len(), 20 * GARBAGE_MAX as usize);
    submits_on(&mut client, good, 1, 0, &world);
    client.expects_nothing();
    assert_eq!((client.closed, client.records.len()), (None, 1));
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"]);
}

#[test]
fn repeated_and_late_shares_cost_the_channel_and_not_its_neighbours() {
    let mut world = World::new();
    let (mut client, bad, good) = proxy(&mut world);
    submits_on(&mut client, bad, 1, 0, &world);
    for _ in 0..=REPEATS_MAX {
        submits_on(&mut client, bad, 1, 0, &world);
    }
    is_closed(&mut client, bad, "too-many-repeated-shares");
    submits_on(&mut client, good, 1, 0, &world);
    assert_eq!((client.closed, client.records.len()), (None, 2));
}

#[test]
fn a_connection_whose_channels_have_to_be_closed_again_and_again_is_at_fault_itself() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    client.opens_extended(&world);
    let mut closed = 0;
    while client.closed.is_none() {
        let channel = client.opens_extended(&world).channel;
        for nonce in 0..=GARBAGE_MAX {
            submits_on(&mut client, channel, 4_000, nonce, &world);
        }
        closed += u32::from(client.names().contains(&"CloseChannel"));
    }
    assert_eq!((client.closed, closed), (Some(Disconnect::Garbage), CLOSURES_MAX));
}

/// A share on a channel of which every hash is one, none like another.
fn earns(client: &mut Client, channel: u32, numbers: core::ops::Range<u32>, world: &World) -> usize {
    let before = client.records.len();
    for nonce in numbers {
        submits_on(client, channel, 1, nonce, world);
    }
    client.records.len() - before
}

#[test]
fn a_channel_that_submits_more_than_anybody_may_loses_what_is_too_much_and_no_neighbour_does() {
    let mut world = World::new();
    let (mut client, flood, good) = proxy(&mut world);
    let most = SHARES_MAX as usize;
    // No more can wait for storage, so storage keeps up.
    assert_eq!(earns(&mut client, flood, 0..SHARES_MAX - 1, &world), most - 1);
    client.is_durable(most - 1);
    client.skips_all();
    assert_eq!(earns(&mut client, flood, 70_000..70_010, &world), 1);
    let codes = client.names();
    assert_eq!(codes, ["SubmitShares.Error"; 9]);
    assert_eq!(earns(&mut client, good, 0..100, &world), 100);
    let counters = *client.session.counters();
    let code = adit_messages::error_code::SubmitSharesError::TooManyShares;
    assert_eq!(counters.rejected(code), 9);
    // Time brings more; a new job makes room to remember them in.
    client.is_durable(most + 100);
    let work = world.refresh();
    client.hears(&work, &world);
    client.skips_all();
    for second in 0..3 {
        world.wait(1);
        let before = client.records.len();
        for nonce in 0..2 * SHARES_PER_SECOND {
            submits_on(&mut client, flood, work.id().0, 1_000 * second + nonce, &world);
        }
        // Its shares have become harder, too.
        assert!(client.records.len() - before <= SHARES_PER_SECOND as usize);
    }
    assert_eq!(client.closed, None);
}

#[test]
fn a_block_of_a_channel_that_may_submit_no_more_is_a_block() {
    let mut world = World::without_work(config());
    world.new_tip();
    let (mut client, flood, _) = proxy(&mut world);
    earns(&mut client, flood, 0..SHARES_MAX - 1, &world);
    client.is_durable(SHARES_MAX as usize - 1);
    earns(&mut client, flood, 70_000..70_100, &world);
    client.skips_all();
    world.nbits = EASY;
    let work = world.new_tip();
    client.hears(&work, &world);
    client.skips_all();
    for nonce in 0..64 {
        submits_on(&mut client, flood, work.id().0, nonce, &world);
    }
    let found = client.blocks();
    assert!(found.len() > 10, "every second hash is one: {}", found.len());
    found.iter().for_each(|found| found.block.check().unwrap());
}

#[test]
fn who_measures_a_pool_may_lift_the_limit() {
    let vardiff = adit_channel::VardiffConfig { hardest: Target::MAX, ..config().vardiff };
    let mut world = World::without_work(PoolConfig { limits_shares: false, vardiff, ..config() });
    world.new_tip();
    let (mut client, flood, _) = proxy(&mut world);
    let mut durable = 0;
    for round in 0..3 {
        let work = world.refresh();
        client.hears(&work, &world);
        for nonce in 0..SHARES_MAX / 2 {
            submits_on(&mut client, flood, 1 + round, nonce, &world);
        }
        durable += SHARES_MAX as usize / 2;
        client.is_durable(durable);
        client.skips_all();
    }
    assert_eq!(client.records.len(), durable);
}

#[test]
fn a_miner_at_the_floor_may_be_far_behind_its_difficulty() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    // A thousand times the shares that are wanted, until the next job; nothing of it is lost.
    for second in 0..60 {
        world.wait(1);
        for nonce in 0..170 {
            client.submits(1, second * 1_000 + nonce, &world);
        }
        client.is_durable(client.records.len());
        client.skips_all();
    }
    assert_eq!(client.records.len(), 60 * 170);
}

/// When the present job is to be renewed.
fn renewal(factory: &JobFactory, world: &World) -> core::time::Duration {
    factory.poll_timeout().unwrap() - world.now.monotonic
}

#[test]
fn wishes_bring_no_more_than_one_job_a_minute_where_somebody_is_told_of_every_job() {
    let mut world = World::new();
    world.factory = JobFactory::new(&PoolConfig { relays_shares: true, ..config() }, 3).unwrap();
    let first = world.factory.handle_template(&world.template(), world.now).unwrap().unwrap();
    assert_eq!(renewal(&world.factory, &world), JOB_AGE_MAX);
    world.factory.handle_wish(world.now.monotonic);
    assert_eq!(renewal(&world.factory, &world), WISHED_JOB_AGE);
    let mut made = 0;
    for _ in 0..600 {
        world.wait(1);
        world.factory.handle_wish(world.now.monotonic);
        let work = world.factory.handle_timeout(world.now).unwrap();
        assert!(work.as_ref().is_none_or(|work| !work.is_aside() && work.tip() == first.tip()));
        made += u64::from(work.is_some());
    }
    let minutes = 600 / WISH_INTERVAL.as_secs();
    assert!((minutes..=2 * minutes + 1).contains(&made), "{made} jobs in {minutes} minutes");
}

#[test]
fn a_peer_is_sent_elsewhere_or_back_to_where_it_is() {
    let mut world = World::new();
    let mut stranger = world.connect();
    stranger.session.reconnect("pool2.example", 1);
    stranger.ticks(&world);
    stranger.expects_nothing();
    let mut client = world.extended_miner();
    for (host, port) in [("pool2.example", 34_255), ("", 0), ("", 1), ("203.0.113.7", 0)] {
        client.session.reconnect(host, port);
        client.is_durable(0);
        client.expects(common::Reconnect { new_host: text(host), new_port: port });
    }
    client.session.reconnect(&"x".repeat(256), 1);
    client.submits(1, 0, &world);
    client.expects_nothing();
    assert_eq!(client.records.len(), 1, "it goes when it likes, and earns until then");
}

/// Spec 3.6.4 obliges proxies, whose channels may come to end elsewhere, to say so to those whose server they are. A pool is the end of
/// its channels, and nothing that it agrees on with a peer (extension 0x0002) belongs to a channel: it has nothing to tell, whatever it
/// does to a channel, and no client has to tell it.
#[test]
fn no_channels_endpoint_ever_changes() {
    let mut world = World::new();
    let (mut client, first, second) = proxy(&mut world);
    client.session.set_distribution(&[ChannelId(first)], &solo()).unwrap();
    client.session.renew_extranonce_prefix(ChannelId(second)).unwrap();
    client.hears(&world.new_tip(), &world);
    client.session.close_channel(ChannelId(first), REASON, world.now).unwrap();
    client.sends(close(second), &world);
    client.sends(open_extended(0.0, &[0xff; 32]), &world);
    assert!(!client.names().contains(&"ChannelEndpointChanged"));
    client.sends(common::ChannelEndpointChanged { channel_id: first }, &world);
    assert_eq!(client.closed, Some(Disconnect::WrongDirection { message: "ChannelEndpointChanged" }));
}
