//! Who is paid by the blocks of a channel, as its user identity says it; and that everybody beside it is paid as before.

use core::str::FromStr as _;

use adit_channel::{PAST_JOBS, RewardKind, ShareKind};
use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::B032;
use adit_messages::{Message, mining};
use adit_pool::{DISTRIBUTIONS_MAX, Distribution, GROUP_CHANNEL, PoolConfig};
use adit_share::FULL_EXTRANONCE_LEN;
use adit_units::ChannelId;
use bitcoin::hashes::{Hash as _, sha256d};
use bitcoin::{Address, ScriptBuf, Transaction, consensus};

use crate::world::{
    Client, EASY, Opened, VERSION, World, bridging, close, config, extended_share, open_extended,
    open_standard, text,
};

const NONE: MiningSetupFlags = MiningSetupFlags::NONE;
const STANDARD: MiningSetupFlags = MiningSetupFlags::REQUIRES_STANDARD_JOBS;
const ANY: [u8; 32] = [0xff; 32];

/// An address of somebody who mines (BIP 173).
const MINER: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
/// The same, as some QR codes have it.
const MINER_IN_CAPITALS: &str = "BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4";
/// An address of somebody else, the first one ever paid.
const OTHER: &str = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa";

fn script(address: &str) -> ScriptBuf {
    Address::from_str(address).unwrap().assume_checked().script_pubkey()
}

/// What each output pays, but for those that are worth nothing.
fn paid(coinbase: &Transaction) -> Vec<(u64, ScriptBuf)> {
    let outputs = coinbase.output.iter().map(|output| (output.value.to_sat(), output.script_pubkey.clone()));
    outputs.filter(|(value, _)| *value > 0).collect()
}

/// The coinbase that a job describes, with zeros where the miner rolls.
fn coinbase(job: &mining::NewExtendedMiningJob<'_>, prefix: &[u8]) -> Transaction {
    let mut extranonce = prefix.to_vec();
    extranonce.resize(FULL_EXTRANONCE_LEN, 0);
    let bytes = [job.coinbase_tx_prefix.as_bytes(), &extranonce, job.coinbase_tx_suffix.as_bytes()].concat();
    let coinbase = consensus::deserialize(&bytes).unwrap();
    assert_eq!(consensus::serialize(&coinbase), bytes, "it is sent without its witness (spec 5.3.16)");
    coinbase
}

fn extended<'a>(user: &'a str) -> mining::OpenExtendedMiningChannel<'a> {
    mining::OpenExtendedMiningChannel { user_identity: text(user), ..open_extended(0.0, &ANY) }
}

fn standard<'a>(user: &'a str) -> mining::OpenStandardMiningChannel<'a> {
    mining::OpenStandardMiningChannel { user_identity: text(user), ..open_standard(0.0, &ANY) }
}

/// A channel, its group, and what its first job pays.
struct Paid {
    channel: u32,
    group: u32,
    prefix: Vec<u8>,
    to: Vec<(u64, ScriptBuf)>,
}

/// The peer opens an extended channel as that user.
#[track_caller]
fn opens(client: &mut Client, user: &str, world: &World) -> Paid {
    client.sends(extended(user), world);
    let answer = client.receives();
    let Message::OpenExtendedMiningChannelSuccess(open) = answer.message() else {
        panic!("{user}: {:?}", answer.message());
    };
    let (channel, group, prefix) =
        (open.channel_id, open.group_channel_id, open.extranonce_prefix.as_bytes().to_vec());
    let first = client.receives();
    let Message::NewExtendedMiningJob(job) = first.message() else { panic!("{:?}", first.message()) };
    assert_eq!((job.channel_id, job.min_ntime.as_ref()), (channel, None));
    let to = paid(&coinbase(&job, &prefix));
    assert_eq!(client.addressed().first(), Some(&("SetNewPrevHash", channel)));
    Paid { channel, group, prefix, to }
}

/// The next message is a job for that channel or group, which pays so.
#[track_caller]
fn pays(client: &mut Client, to: u32) -> Vec<(u64, ScriptBuf)> {
    let mut message = client.receives();
    while let Message::SetTarget(_) = message.message() {
        message = client.receives();
    }
    let Message::NewExtendedMiningJob(job) = message.message() else { panic!("{:?}", message.message()) };
    assert_eq!(job.channel_id, to);
    paid(&coinbase(&job, &[]))
}

/// What a template pays in all.
fn value(world: &World) -> u64 {
    world.work.as_ref().unwrap().template().coinbase_value.to_sats()
}

fn pool(world: &World) -> ScriptBuf {
    world.config.payout_script.clone()
}

/// Whoever opens a channel as that user is paid so by its first job, by one on the same tip, and by the first of a new tip.
#[track_caller]
fn always_pays(user: &str, expected: impl Fn(&World) -> Vec<(u64, ScriptBuf)>) {
    let mut world = World::new();
    world.refresh();
    let mut client = world.connect_with(NONE);
    let opened = opens(&mut client, user, &world);
    assert_eq!(opened.to, expected(&world), "{user}");
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(pays(&mut client, opened.group), expected(&world), "{user}");
    client.expects_nothing();
    let work = world.new_tip();
    client.hears(&work, &world);
    assert_eq!(pays(&mut client, opened.group), expected(&world), "{user}");
    assert_eq!(client.addressed(), [("SetNewPrevHash", opened.group)]);
}

/// Nobody opens a channel of either kind as that user.
#[track_caller]
fn never_opens(user: &str, world: &World, client: &mut Client) {
    let error_code = || text("invalid-user-identity");
    client.sends(extended(user), world);
    client.expects(mining::OpenMiningChannelError { request_id: 12, error_code: error_code() });
    client.sends(standard(user), world);
    client.expects(mining::OpenMiningChannelError { request_id: 11, error_code: error_code() });
    client.expects_nothing();
}

// The forms of the Stratum Reference Implementation, by the names of its tests of its pool.

#[test]
fn sri_pool_solo_mining_invalid_payout_address() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    never_opens("sri/solo/tb1qbalieiro/worker.1", &world, &mut client);
    // Of another network.
    never_opens("sri/solo/tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx/worker.1", &world, &mut client);
}

#[test]
fn sri_pool_solo_mining_wrong_user_identity() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    never_opens("sri/worker.1", &world, &mut client);
}

#[test]
fn sri_pool_solo_mining_random_user_identity() {
    always_pays("cool_miner/worker.1", |world| vec![(value(world), pool(world))]);
}

/// Here an address names the account that the pool pays; there the block pays it. Who wants the block says so.
#[test]
fn sri_pool_solo_mining_legacy_pattern_is_an_account_here() {
    for user in [MINER, &format!("{MINER}.worker.1")] {
        always_pays(user, |world| vec![(value(world), pool(world))]);
    }
}

#[test]
fn sri_pool_solo_mining_solo_pattern() {
    for user in [&format!("sri/solo/{MINER}/worker.1"), &format!("sri/solo/{MINER}")] {
        always_pays(user, |world| vec![(value(world), script(MINER))]);
    }
}

#[test]
fn sri_pool_solo_mining_full_donate() {
    always_pays("sri/donate/worker.1", |world| vec![(value(world), pool(world))]);
}

#[test]
fn sri_pool_solo_mining_full_donate_no_worker_name() {
    always_pays("sri/donate", |world| vec![(value(world), pool(world))]);
}

#[test]
fn sri_pool_solo_mining_partial_donation() {
    for percent in [1, 20, 50, 99] {
        always_pays(&format!("sri/donate/{percent}/{OTHER}/worker.1"), |world| {
            let part = value(world) * percent / 100;
            vec![(part, pool(world)), (value(world) - part, script(OTHER))]
        });
    }
}

#[test]
fn who_is_paid_belongs_to_the_channel_and_not_to_the_connection() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let users =
        ["alice", &format!("sri/solo/{MINER}"), &format!("sri/donate/3/{MINER}"), "sri/donate", "bob"];
    let opened: Vec<_> = users.iter().map(|user| opens(&mut client, user, &world)).collect();
    let all = value(&world);
    let part = all * 3 / 100;
    assert_eq!(opened[1].to, [(all, script(MINER))]);
    assert_eq!(opened[2].to, [(part, pool(&world)), (all - part, script(MINER))]);
    for pooled in [0, 3, 4] {
        assert_eq!(opened[pooled].to, [(all, pool(&world))]);
        assert_eq!(opened[pooled].group, GROUP_CHANNEL.0);
    }
    let mut numbers: Vec<_> = opened.iter().map(|open| open.channel).collect();
    numbers.extend([GROUP_CHANNEL.0, opened[1].group, opened[2].group]);
    numbers.sort_unstable();
    numbers.dedup();
    assert_eq!(numbers.len(), 8, "channels and groups share their numbers: {numbers:?}");
}

#[test]
fn a_group_is_one_message_for_each_way_to_pay_and_template() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let mut groups = Vec::new();
    for _ in 0..4 {
        for user in ["alice", &format!("sri/solo/{MINER}/a"), &format!("sri/solo/{MINER_IN_CAPITALS}/b")] {
            groups.push(opens(&mut client, user, &world).group);
            client.sends(standard(user), &world);
            client.skips_all();
        }
    }
    let solo = groups[1];
    assert!(groups.chunks(3).all(|group| *group == [GROUP_CHANNEL.0, solo, solo]));
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1), ("NewExtendedMiningJob", solo)]);
    let work = world.new_tip();
    client.hears(&work, &world);
    let (job, tip) = ("NewExtendedMiningJob", "SetNewPrevHash");
    assert_eq!(client.addressed(), [(job, 1), (tip, 1), (job, solo), (tip, solo)]);
}

#[test]
fn a_connection_of_solo_miners_hears_nothing_of_the_pools_jobs() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let solo = opens(&mut client, &format!("sri/solo/{MINER}"), &world).group;
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", solo)]);
}

/// A share on a job as its message described it: the share, and the hash of its header.
fn share(
    opened: &Paid,
    job: &mining::NewExtendedMiningJob<'_>,
    (nonce, world): (u32, &World),
) -> (mining::SubmitSharesExtended<'static>, [u8; 32]) {
    let id = consensus::serialize(&coinbase(job, &opened.prefix));
    let id = sha256d::Hash::hash(&id).to_byte_array();
    let fold = |left: [u8; 32], right: [u8; 32]| sha256d::Hash::hash(&[left, right].concat()).to_byte_array();
    let root = job.merkle_path.iter().fold(id, |left, right| fold(left, right.to_array()));
    let (tip, ntime) = (world.tip(), world.now.unix.to_secs());
    let header = [
        &job.version.to_le_bytes()[..],
        tip.prev_hash.as_ref(),
        &root,
        &ntime.to_le_bytes(),
        &tip.nbits.to_consensus().to_le_bytes(),
        &nonce.to_le_bytes(),
    ];
    let share = mining::SubmitSharesExtended {
        channel_id: opened.channel,
        sequence_number: 0,
        job_id: job.job_id,
        nonce,
        ntime,
        version: VERSION,
        extranonce: B032::new(&[0; 14]).unwrap(),
    };
    (share, sha256d::Hash::hash(&header.concat()).to_byte_array())
}

#[test]
fn a_late_share_on_any_open_job_is_hashed_as_its_group_was_told() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let opened = opens(&mut client, &format!("sri/solo/{MINER}"), &world);
    let mut jobs = Vec::new();
    for _ in 0..=PAST_JOBS {
        let work = world.refresh();
        client.hears(&work, &world);
        jobs.push(client.receives());
    }
    // There and back, so that each is asked for when it was used last, and when it was not for long.
    for (nonce, told) in (0..).zip(jobs.iter().chain(jobs.iter().rev())) {
        let Message::NewExtendedMiningJob(job) = told.message() else { panic!("{:?}", told.message()) };
        let (share, hash) = share(&opened, &job, (nonce, &world));
        client.submits_share(share, &world);
        client.expects_nothing();
        assert_eq!(client.records.last().unwrap().hash, hash, "job {}", job.job_id);
    }
}

#[test]
fn a_record_says_who_owes_the_share_its_reward() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    for user in ["alice", "sri/donate/rig", &format!("sri/solo/{MINER}"), &format!("sri/donate/7/{MINER}")] {
        let opened = opens(&mut client, user, &world);
        let share =
            mining::SubmitSharesExtended { channel_id: opened.channel, ..extended_share(1, 0, &world) };
        client.submits_share(share, &world);
        client.expects_nothing();
    }
    let rewards: Vec<_> = client.records.iter().map(|record| record.reward).collect();
    let seven = adit_channel::Percent::new(7).unwrap();
    assert_eq!(
        rewards,
        [RewardKind::Pooled, RewardKind::Donated, RewardKind::Solo, RewardKind::Split(seven)]
    );
}

#[test]
fn a_block_pays_as_its_channels_job_says() {
    let split = format!("sri/donate/25/{OTHER}/rig");
    for (user, reward) in [
        ("alice".to_owned(), RewardKind::Pooled),
        (format!("sri/solo/{MINER}/rig"), RewardKind::Solo),
        (split, RewardKind::Split(adit_channel::Percent::new(25).unwrap())),
    ] {
        for flags in [NONE, STANDARD] {
            let mut world = World::without_work(config());
            world.nbits = EASY;
            world.new_tip();
            let work = world.refresh();
            let mut client = world.connect_with(flags);
            client.sends(standard(&user), &world);
            let Opened { channel, .. } = client.opened();
            for nonce in 0..64 {
                client.submits_standard(channel, work.id().0, nonce, &world);
            }
            let found = client.blocks().pop().expect("every second hash is a block");
            found.block.check().unwrap();
            let block: bitcoin::Block = consensus::deserialize(&found.block.to_bytes()).unwrap();
            let all = value(&world);
            let expected = match reward {
                RewardKind::Solo => vec![(all, script(MINER))],
                RewardKind::Split(_) => vec![(all / 4, pool(&world)), (all - all / 4, script(OTHER))],
                RewardKind::Pooled | RewardKind::Donated => vec![(all, pool(&world))],
            };
            assert_eq!(paid(&block.txdata[0]), expected, "{user}");
            assert!(block.check_merkle_root() && block.check_witness_commitment());
            let record = client.records.iter().rfind(|record| record.kind == ShareKind::Block).unwrap();
            assert_eq!((record.reward, record.tag), (reward, work.tag()));
        }
    }
}

#[test]
fn where_standard_jobs_are_required_every_channel_has_its_own_payout() {
    let mut world = World::without_work(bridging());
    world.new_tip();
    let mut client = world.connect_with(STANDARD);
    let mut channels = Vec::new();
    for user in ["alice", &format!("sri/solo/{MINER}"), &format!("sri/solo/{OTHER}")] {
        client.sends(standard(user), &world);
        channels.push(client.opened().channel);
    }
    let mut given = Vec::new();
    for work in [world.refresh(), world.put_by()] {
        client.hears(&work, &world);
        for &channel in &channels {
            let message = client.receives();
            let Message::NewMiningJob(job) = message.message() else { panic!("{:?}", message.message()) };
            assert_eq!(job.channel_id, channel);
            given.push((job.job_id, job.merkle_root.to_array()));
        }
        client.expects_nothing();
    }
    // What they were given is what they are judged by.
    let interim = world.tip_alone().unwrap();
    client.hears(&interim, &world);
    assert_eq!(client.names(), ["SetNewPrevHash"; 3]);
    let (ntime, tip) = (world.now.unix.to_secs(), world.tip());
    for (place, &channel) in channels.iter().enumerate() {
        let (job, root) = given[channels.len() + place];
        assert_eq!(job, interim.id().0);
        client.submits_standard(channel, job, 5, &world);
        let header = [
            &VERSION.to_le_bytes()[..],
            tip.prev_hash.as_ref(),
            &root,
            &ntime.to_le_bytes(),
            &tip.nbits.to_consensus().to_le_bytes(),
            &5_u32.to_le_bytes(),
        ];
        client.expects_nothing();
        let hash = sha256d::Hash::hash(&header.concat()).to_byte_array();
        assert_eq!(client.records.last().unwrap().hash, hash);
    }
    let mut roots: Vec<_> = given.iter().map(|(_, root)| *root).collect();
    roots.sort_unstable();
    roots.dedup();
    assert_eq!(roots.len(), 6);
}

#[test]
fn the_job_for_the_next_tip_pays_in_every_way_too() {
    let mut world = World::without_work(bridging());
    world.new_tip();
    let mut client = world.connect_with(NONE);
    let pooled = opens(&mut client, "alice", &world);
    let solo = opens(&mut client, &format!("sri/solo/{MINER}"), &world);
    client.hears(&world.put_by(), &world);
    assert_eq!(pays(&mut client, pooled.group), [(5_000_000_000, pool(&world))]);
    let told = client.receives();
    let Message::NewExtendedMiningJob(reserve) = told.message() else { panic!("{:?}", told.message()) };
    assert_eq!((reserve.channel_id, reserve.min_ntime.as_ref()), (solo.group, None));
    assert_eq!(paid(&coinbase(&reserve, &solo.prefix)), [(5_000_000_000, script(MINER))]);
    let late = opens_with_reserve(&mut client, &format!("sri/solo/{OTHER}"), &world);
    client.expects_nothing();

    world.nbits = EASY;
    let interim = world.tip_alone().unwrap();
    client.hears(&interim, &world);
    let tip = "SetNewPrevHash";
    assert_eq!(client.addressed(), [(tip, pooled.group), (tip, solo.group), (tip, late)]);
    for nonce in 0..64 {
        let (share, hash) = share(&solo, &reserve, (nonce, &world));
        client.submits_share(share, &world);
        assert_eq!(client.records.last().unwrap().hash, hash);
    }
    let found = client.blocks().pop().expect("every second hash is a block");
    found.block.check().unwrap();
    let block: bitcoin::Block = consensus::deserialize(&found.block.to_bytes()).unwrap();
    assert_eq!(paid(&block.txdata[0]), [(5_000_000_000, script(MINER))]);
    let full = world.refresh();
    client.hears(&full, &world);
    assert_eq!(pays(&mut client, pooled.group), [(value(&world), pool(&world))]);
    assert_eq!(pays(&mut client, solo.group), [(value(&world), script(MINER))]);
    assert_eq!(pays(&mut client, late), [(value(&world), script(OTHER))]);
}

/// A channel that is opened while there is a job for the next tip; the number of its group.
fn opens_with_reserve(client: &mut Client, user: &str, world: &World) -> u32 {
    client.sends(extended(user), world);
    let answer = client.receives();
    let Message::OpenExtendedMiningChannelSuccess(open) = answer.message() else {
        panic!("{user}: {:?}", answer.message());
    };
    let (channel, group) = (open.channel_id, open.group_channel_id);
    let all = pays(client, channel);
    assert_eq!(client.receives().message().info().name, "SetNewPrevHash");
    let ahead = pays(client, channel);
    assert_eq!((&all[0].1, &ahead[..]), (&script(OTHER), &[(5_000_000_000, script(OTHER))][..]));
    group
}

#[test]
fn a_connection_may_pay_in_so_many_ways_and_a_closed_channel_makes_room() {
    let address = |number: usize| {
        let hash = bitcoin::PubkeyHash::hash(&number.to_le_bytes());
        format!("sri/solo/{}", Address::p2pkh(hash, bitcoin::Network::Bitcoin))
    };
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let first = opens(&mut client, &address(0), &world);
    for number in 1..DISTRIBUTIONS_MAX {
        opens(&mut client, &address(number), &world);
    }
    let one_more = address(DISTRIBUTIONS_MAX);
    client.sends(extended(&one_more), &world);
    let error_code = text("channel-capacity-exhausted");
    client.expects(mining::OpenMiningChannelError { request_id: 12, error_code });
    opens(&mut client, "alice", &world);
    opens(&mut client, &address(3), &world);
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.names().len(), DISTRIBUTIONS_MAX + 1);
    client.sends(close(first.channel), &world);
    let last = opens(&mut client, &one_more, &world);
    assert!(last.group > last.channel && last.channel > first.group, "no number comes back");
}

#[test]
fn closing_a_group_leaves_the_others_open() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    opens(&mut client, "alice", &world);
    let solo = opens(&mut client, &format!("sri/solo/{MINER}"), &world);
    opens(&mut client, &format!("sri/solo/{MINER}"), &world);
    client.sends(close(solo.group), &world);
    assert_eq!(client.session.channels(), 1);
    let work = world.refresh();
    client.hears(&work, &world);
    assert_eq!(client.addressed(), [("NewExtendedMiningJob", 1)]);
    opens(&mut client, &format!("sri/solo/{MINER}"), &world);
    client.sends(close(1), &world);
    assert_eq!(client.session.channels(), 1);
}

#[test]
fn a_pool_that_wants_it_so_finds_no_blocks_for_others() {
    let mut world = World::without_work(PoolConfig { solo: false, ..config() });
    world.new_tip();
    let mut client = world.connect_with(NONE);
    never_opens(&format!("sri/solo/{MINER}"), &world, &mut client);
    never_opens(&format!("sri/donate/99/{MINER}"), &world, &mut client);
    for user in ["alice", MINER, "sri/donate"] {
        opens(&mut client, user, &world);
    }
}

/// The hash is over what every miner was told, and no two of them were told the same.
#[test]
fn the_same_nonce_in_two_groups_is_two_shares() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let users = ["alice", &format!("sri/solo/{MINER}"), &format!("sri/solo/{OTHER}"), "bob"];
    let channels: Vec<_> = users.iter().map(|user| opens(&mut client, user, &world).channel).collect();
    for _ in 0..2 {
        for &channel_id in &channels {
            let share = extended_share(1, 0, &world);
            client.submits_share(mining::SubmitSharesExtended { channel_id, ..share }, &world);
        }
    }
    assert_eq!(client.names(), ["SubmitShares.Error"; 4], "the second time, each is a repetition");
    let mut hashes: Vec<_> = client.records.iter().map(|record| record.hash).collect();
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 4);
}

#[test]
fn whom_the_pool_pays_after_all_is_credited_by_his_address() {
    let mut world = World::new();
    let mut client = world.connect_with(NONE);
    let Paid { channel, .. } = opens(&mut client, &format!("sri/solo/{MINER}/rig"), &world);
    client.session.set_distribution(&[ChannelId(channel)], &Distribution::Pooled).unwrap();
    let work = world.refresh();
    client.hears(&work, &world);
    let old = work.id().0 - 1;
    for job in [old, work.id().0] {
        let share = mining::SubmitSharesExtended { channel_id: channel, ..extended_share(job, 0, &world) };
        client.submits_share(share, &world);
    }
    let credited: Vec<_> =
        client.records.iter().map(|record| (record.reward, record.user.as_str().to_owned())).collect();
    let asked = format!("sri/solo/{MINER}/rig");
    assert_eq!(credited, [(RewardKind::Solo, asked), (RewardKind::Pooled, format!("{MINER}.rig"))]);
    assert_eq!(client.records[1].user.account(), MINER);
}
