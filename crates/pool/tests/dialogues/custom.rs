//! Jobs that miners make themselves (spec 5.3.18 to 5.3.20): what is accepted, what is refused, and what their shares are.

mod scopes;

use core::time::Duration;
use std::sync::Arc;

use adit_channel::{DeclarationId, Purpose, Token, TokenKey, UsedTokens, UserIdentity};
use adit_messages::flags::MiningSetupFlags;
use adit_messages::types::{B032, B064K, B0255, Seq0255, U256};
use adit_messages::{Message, mining};
use adit_pool::{CustomJobs, PoolConfig, TIP_PATIENCE, Work};
use adit_share::{CoinbaseFields, Declaration, DeclaredCoinbase};
use adit_units::{Height, UnixTime};
use bitcoin::hashes::Hash as _;
use bitcoin::{Amount, CompactTarget, ScriptBuf, TxOut, consensus};
use rand_core::{TryCryptoRng, TryRng};

use crate::world::{
    Client, EASY, START, VERSION, World, config, extended_share, open_extended, open_standard, text, update,
};

/// Numbers that tests can repeat.
struct Counter(u64);

impl TryRng for Counter {
    type Error = core::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        self.0 += 1;
        Ok(self.0)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Self::Error> {
        for chunk in bytes.chunks_mut(8) {
            self.0 += 1;
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
        Ok(())
    }
}

impl TryCryptoRng for Counter {}

fn payout() -> ScriptBuf {
    ScriptBuf::from_bytes(vec![0x51])
}

fn user(name: &str) -> UserIdentity {
    UserIdentity::from_wire(name.as_bytes()).unwrap()
}

/// A pool that takes custom jobs, with what its job declarator server has.
struct Stage {
    world: World,
    key: Arc<TokenKey>,
    used: UsedTokens,
    random: Counter,
}

impl Stage {
    fn new() -> Self {
        Self::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut CustomJobs)) -> Self {
        let key = Arc::new(TokenKey::generate(&mut Counter(0)));
        let mut custom =
            CustomJobs { key: Arc::clone(&key), accepts_undeclared: true, least_pool_percent: 100 };
        change(&mut custom);
        let mut world = World::without_work(PoolConfig { custom_jobs: Some(custom), ..config() });
        world.new_tip();
        Self { world, key, used: UsedTokens::default(), random: Counter(99) }
    }

    /// A client with one extended channel, number 2, of which any hash is a share.
    fn client(&mut self) -> Client {
        let mut client = self.world.connect_with(MiningSetupFlags::REQUIRES_WORK_SELECTION);
        client.opens_extended(&self.world);
        client
    }

    fn seal(&mut self, purpose: Purpose, name: &str) -> Vec<u8> {
        let expires = UnixTime::from_secs(START + 3_600);
        let token = Token::new(purpose, &user(name), &payout(), expires, &mut self.random);
        self.key.seal(&token)
    }

    /// A job on the pool's own template, with a token for it.
    fn job(&mut self) -> Job {
        let token = self.seal(Purpose::CoinbaseOnly, "alice");
        Job::on(self.world.work.as_ref().unwrap(), token)
    }

    /// The client puts a job to the pool, whose driver answers for tokens at once.
    fn puts(&mut self, client: &mut Client, job: &Job) {
        job.send(client, &self.world);
        self.answers(client);
    }

    /// The driver answers for the tokens that are asked about.
    fn answers(&mut self, client: &mut Client) {
        while let Some(token) = client.session.poll_token() {
            let verdict = self.used.use_up(&token, self.world.now);
            client.session.handle_token(verdict, self.world.now);
        }
        client.collect();
    }

    /// The job is accepted; the answer is its number.
    #[track_caller]
    fn accepts(&mut self, client: &mut Client, job: &Job) -> u32 {
        self.puts(client, job);
        accepted(client)
    }

    #[track_caller]
    fn refuses(&mut self, client: &mut Client, job: &Job, code: &str) {
        self.puts(client, job);
        is_refused(client, job, code);
    }
}

#[track_caller]
fn accepted(client: &mut Client) -> u32 {
    let answer = client.receives();
    match answer.message() {
        Message::SetCustomMiningJobSuccess(success) => success.job_id,
        other => panic!("not accepted: {other:?}"),
    }
}

#[track_caller]
fn is_refused(client: &mut Client, job: &Job, code: &str) {
    client.expects(mining::SetCustomMiningJobError {
        channel_id: job.channel,
        request_id: job.request,
        error_code: text(code),
    });
    client.expects_nothing();
}

/// A job as a client describes it.
#[derive(Clone)]
struct Job {
    channel: u32,
    request: u32,
    token: Vec<u8>,
    version: u32,
    prev_hash: [u8; 32],
    min_ntime: u32,
    nbits: u32,
    script_prefix: Vec<u8>,
    outputs: Vec<TxOut>,
    lock_time: u32,
    path: Vec<[u8; 32]>,
}

impl Job {
    fn on(work: &Arc<Work>, token: Vec<u8>) -> Self {
        let (template, tip) = (work.template(), work.tip());
        let value = Amount::from_sat(template.coinbase_value.to_sats());
        let mut outputs = vec![TxOut { value, script_pubkey: payout() }];
        outputs.extend_from_slice(&template.required_outputs);
        Self {
            channel: 2,
            request: 40,
            token,
            version: VERSION,
            prev_hash: tip.prev_hash.to_byte_array(),
            min_ntime: template.time,
            nbits: tip.nbits.to_consensus(),
            script_prefix: height_push(tip.height),
            outputs,
            lock_time: 0,
            path: template.merkle_path.clone(),
        }
    }

    fn send(&self, client: &mut Client, world: &World) {
        let outputs = consensus::serialize(&self.outputs);
        let set = mining::SetCustomMiningJob {
            channel_id: self.channel,
            request_id: self.request,
            token: B0255::try_from(&*self.token).unwrap(),
            version: self.version,
            prev_hash: U256::from(&self.prev_hash),
            min_ntime: self.min_ntime,
            nbits: self.nbits,
            coinbase_tx_version: 2,
            coinbase_prefix: B0255::try_from(&*self.script_prefix).unwrap(),
            coinbase_tx_input_n_sequence: u32::MAX,
            coinbase_tx_outputs: B064K::try_from(&*outputs).unwrap(),
            coinbase_tx_locktime: self.lock_time,
            merkle_path: Seq0255::new(self.path.iter().map(U256::from).collect()).unwrap(),
        };
        client.sends(set, world);
    }

    fn declaration(&self) -> Declaration {
        let outputs = consensus::serialize(&self.outputs);
        let fields = CoinbaseFields {
            version: 2,
            script_prefix: &self.script_prefix,
            sequence: u32::MAX,
            outputs: &outputs,
            lock_time: self.lock_time,
        };
        let tip =
            (bitcoin::BlockHash::from_byte_array(self.prev_hash), CompactTarget::from_consensus(self.nbits));
        let coinbase = DeclaredCoinbase::from_fields(fields, 32).unwrap();
        Declaration::new(self.version, tip, coinbase, self.path.clone()).unwrap()
    }

    fn other(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut other = self.clone();
        change(&mut other);
        other
    }
}

fn height_push(height: Height) -> Vec<u8> {
    let script = bitcoin::script::Builder::new().push_int(i64::from(height.0)).into_script();
    // What miners push of their own keeps the script apart from the extranonce.
    [script.as_bytes(), &[4], b"mine"].concat()
}

/// A share of a custom job, whose extranonce the miner rolls 20 bytes of.
fn share(job: u32, nonce: u32, world: &World) -> mining::SubmitSharesExtended<'static> {
    mining::SubmitSharesExtended {
        extranonce: B032::new(&[0; 20]).unwrap(),
        ..extended_share(job, nonce, world)
    }
}

fn submits(client: &mut Client, job: u32, nonce: u32, world: &World) -> u32 {
    client.submits_share(share(job, nonce, world), world)
}

#[test]
fn pool_without_jds_rejects_set_custom_mining_job() {
    let mut world = World::new();
    let mut client = world.connect();
    let flags = MiningSetupFlags::REQUIRES_WORK_SELECTION;
    client.sends(crate::world::setup(flags.bits()), &world);
    client.expects(adit_messages::common::SetupConnectionError {
        flags: flags.bits(),
        error_code: text("unsupported-feature-flags"),
    });
    let mut stage = Stage::new();
    let job = stage.job();
    let mut unflagged = stage.world.extended_miner();
    job.send(&mut unflagged, &stage.world);
    is_refused(&mut unflagged, &job, "jd-not-supported");
}

#[test]
fn pool_does_not_send_jobs_to_jdc() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    client.expects_nothing();
    for work in [stage.world.refresh(), stage.world.new_tip()] {
        client.hears(&work, &stage.world);
        client.expects_nothing();
    }
}

#[test]
fn channels_for_custom_work_are_extended_and_their_extranonce_is_like_no_other() {
    let mut stage = Stage::new();
    let mut client = stage.world.connect_with(MiningSetupFlags::REQUIRES_WORK_SELECTION);
    client.sends(open_standard(0.0, &[0xff; 32]), &stage.world);
    let error_code = text("standard-channels-not-supported-for-custom-work");
    client.expects(mining::OpenMiningChannelError { request_id: 11, error_code });
    let solo = mining::OpenExtendedMiningChannel {
        user_identity: text("sri/solo/bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"),
        ..open_extended(0.0, &[0xff; 32])
    };
    client.sends(solo, &stage.world);
    client.expects(mining::OpenMiningChannelError {
        request_id: 12,
        error_code: text("invalid-user-identity"),
    });
    client.sends(open_extended(0.0, &[0xff; 32]), &stage.world);
    let answer = client.receives();
    let Message::OpenExtendedMiningChannelSuccess(success) = answer.message() else { panic!("it is opened") };
    // Server 7, run 3, connection 1, channel 1.
    assert_eq!(success.extranonce_prefix.as_bytes(), [7, 0, 3, 0, 0, 0, 1, 0, 0, 0, 1, 0]);
    assert_eq!(success.extranonce_size, 20);
    client.expects_nothing();
}

#[test]
fn a_job_is_accepted_and_its_shares_say_what_it_pays() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    let number = stage.accepts(&mut client, &job);
    submits(&mut client, number, 1, &stage.world);
    client.is_durable(1);
    assert_eq!(client.names(), ["SubmitShares.Success"]);
    let record = &client.records[0];
    let custom = record.custom.as_ref().expect("it says what the job pays");
    let value = stage.world.work.as_ref().unwrap().template().coinbase_value;
    assert_eq!(custom.declaration, DeclarationId(job.declaration().id()));
    assert_eq!((custom.pays_pool, custom.value), (value, value));
    assert_eq!(custom.fees, stage.world.work.as_ref().unwrap().template().fees);
    assert_eq!((record.tag.instance, record.tag.boot, record.tag.job.0), (7, 3, number));
}

#[test]
fn pool_rejects_reused_set_custom_mining_job_token() {
    let mut stage = Stage::new();
    let (mut first, mut second) = (stage.client(), stage.client());
    let job = stage.job();
    stage.accepts(&mut first, &job);
    stage.refuses(&mut first, &job, "invalid-mining-job-token");
    stage.refuses(&mut second, &job, "invalid-mining-job-token");
}

#[test]
fn a_refused_job_burns_no_token() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    stage.refuses(&mut client, &job.other(|job| job.version = 1), "invalid-version");
    stage.accepts(&mut client, &job);
}

#[test]
fn tokens_that_are_no_good_are_refused() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    let forged = job.other(|job| job.token[5] ^= 1);
    stage.refuses(&mut client, &forged, "invalid-mining-job-token");
    let stolen = stage.seal(Purpose::CoinbaseOnly, "mallory");
    stage.refuses(&mut client, &job.other(|job| job.token = stolen), "invalid-mining-job-token");
    let undeclared = stage.seal(Purpose::Declare, "alice");
    stage.refuses(&mut client, &job.other(|job| job.token = undeclared), "job-not-yet-validated");
    let another = job.other(|job| job.path.push([1; 32]));
    let declared = stage.seal(Purpose::Declared(DeclarationId(another.declaration().id())), "alice");
    stage.refuses(&mut client, &job.other(|job| job.token = declared.clone()), "invalid-coinbase-tx");
    stage.accepts(&mut client, &another.other(|job| job.token = declared));
    stage.world.wait(3_601);
    stage.refuses(&mut client, &job, "invalid-mining-job-token");
}

#[test]
fn a_pool_may_want_to_see_all_transactions() {
    let mut stage = Stage::with(|custom| custom.accepts_undeclared = false);
    let mut client = stage.client();
    let job = stage.job();
    stage.refuses(&mut client, &job, "invalid-mining-job-token");
    let declared = stage.seal(Purpose::Declared(DeclarationId(job.declaration().id())), "alice");
    stage.accepts(&mut client, &job.other(|job| job.token = declared));
}

/// What is wrong with a job.
type Change<'a> = &'a dyn Fn(&mut Job);

#[test]
fn each_field_that_is_wrong_has_its_code() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    let elsewhere = |job: &mut Job| job.outputs[0].script_pubkey = ScriptBuf::from_bytes(vec![0x52]);
    let overflow = |job: &mut Job| {
        job.outputs = vec![job.outputs[0].clone(); 2]
            .into_iter()
            .map(|mut output| {
                output.value = Amount::from_sat(u64::MAX);
                output
            })
            .collect()
    };
    let part = |job: &mut Job| {
        let half = job.outputs[0].value / 2;
        job.outputs[0].value = half;
        job.outputs.push(TxOut { value: half, script_pubkey: ScriptBuf::from_bytes(vec![0x52]) });
    };
    let cases: [(&str, Change<'_>); 12] = [
        ("invalid-channel-id", &|job| job.channel = 9),
        ("invalid-version", &|job| job.version = 0x6000_0000),
        ("invalid-min-ntime", &|job| job.min_ntime = START - 4_201),
        ("invalid-min-ntime", &|job| job.min_ntime = START + 700),
        ("invalid-nbits", &|job| job.nbits = EASY),
        ("stale-chain-tip", &|job| job.prev_hash = [3; 32]),
        ("invalid-coinbase-prefix", &|job| job.script_prefix = height_push(Height(500))),
        ("invalid-coinbase-prefix", &|job| job.script_prefix = vec![2, 101, 0]),
        ("invalid-coinbase-prefix", &|job| job.script_prefix.extend([0; 70])),
        ("invalid-coinbase-tx-outputs", &elsewhere),
        ("invalid-coinbase-tx-outputs", &part),
        ("invalid-coinbase-tx-outputs", &|job| job.outputs.clear()),
    ];
    for (code, change) in cases {
        stage.refuses(&mut client, &job.other(change), code);
    }
    stage.puts(&mut client, &job.other(overflow));
    assert_eq!(client.names(), ["SetCustomMiningJob.Error"]);
    let many = job.other(|job| {
        job.outputs.extend(
            vec![TxOut::NULL; 2_000]
                .into_iter()
                .map(|_| TxOut { value: Amount::ZERO, script_pubkey: ScriptBuf::from_bytes(vec![0x6a]) }),
        )
    });
    stage.refuses(&mut client, &many, "invalid-coinbase-tx-outputs");
    stage.accepts(&mut client, &job);
}

/// Seen with Bitcoin Core over IPC: its tips are as old as the first template that a pool asked for, and the pool had just been started.
#[test]
fn a_pool_that_was_started_later_refused_jobs_that_were_made_before() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    stage.accepts(&mut client, &job.other(|job| job.min_ntime = START - 601));
}

#[test]
fn a_part_for_the_pool_may_be_enough_and_the_record_says_how_much_it_is() {
    let mut stage = Stage::with(|custom| custom.least_pool_percent = 50);
    let mut client = stage.client();
    let job = stage.job();
    let pays = |percent: u64| {
        job.other(|job| {
            let whole = job.outputs[0].value.to_sat();
            job.outputs[0].value = Amount::from_sat(whole * percent / 100);
            let rest = Amount::from_sat(whole - whole * percent / 100);
            job.outputs.push(TxOut { value: rest, script_pubkey: ScriptBuf::from_bytes(vec![0x52]) });
        })
    };
    stage.refuses(&mut client, &pays(49), "invalid-coinbase-tx-outputs");
    let number = stage.accepts(&mut client, &pays(50));
    submits(&mut client, number, 1, &stage.world);
    let custom = client.records[0].custom.clone().unwrap();
    assert_eq!(custom.pays_pool.to_sats() * 2, custom.value.to_sats());
}

#[test]
fn a_job_on_a_block_that_our_node_has_not_seen_waits_for_it() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let early = {
        let token = stage.seal(Purpose::CoinbaseOnly, "alice");
        let mut ahead = World::without_work(config());
        (0..2).for_each(|_| drop(ahead.new_tip()));
        Job::on(ahead.work.as_ref().unwrap(), token)
    };
    stage.puts(&mut client, &early);
    client.expects_nothing();
    let work = stage.world.new_tip();
    client.hears(&work, &stage.world);
    stage.answers(&mut client);
    accepted(&mut client);

    let mut impatient = stage.client();
    let later = early.other(|job| {
        job.prev_hash = [9; 32];
        job.script_prefix = height_push(Height(103));
        job.request = 41;
    });
    stage.puts(&mut impatient, &later);
    let newest = later.other(|job| job.request = 42);
    stage.puts(&mut impatient, &newest);
    is_refused(&mut impatient, &later, "stale-chain-tip");
    let due = stage.world.now.monotonic + TIP_PATIENCE;
    assert_eq!(impatient.session.poll_timeout(), Some(due));
    stage.world.now = stage.world.now.after(TIP_PATIENCE - Duration::from_millis(1));
    impatient.ticks(&stage.world);
    impatient.expects_nothing();
    stage.world.now = stage.world.now.after(Duration::from_millis(1));
    impatient.ticks(&stage.world);
    is_refused(&mut impatient, &newest, "stale-chain-tip");
}

#[test]
fn shares_of_past_jobs_are_paid_until_the_tip_goes() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let first = stage.job();
    let first = stage.accepts(&mut client, &first);
    let second = stage.job().other(|job| job.script_prefix.push(0x51));
    let second = stage.accepts(&mut client, &second);
    assert!(second > first);
    submits(&mut client, first, 1, &stage.world);
    submits(&mut client, second, 1, &stage.world);
    assert_eq!(client.records.len(), 2);
    let unknown = submits(&mut client, second + 1, 1, &stage.world);
    client.is_refused(unknown, "invalid-job-id");
    let work = stage.world.new_tip();
    client.hears(&work, &stage.world);
    let late = submits(&mut client, second, 2, &stage.world);
    client.is_refused(late, "stale-share");
    assert_eq!(client.records.len(), 2);
}

#[test]
fn the_same_block_from_another_node_ends_no_custom_job() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    let number = stage.accepts(&mut client, &job);
    stage.world.least_time += 7;
    let work = stage.world.refresh();
    client.hears(&work, &stage.world);
    submits(&mut client, number, 1, &stage.world);
    assert_eq!(client.records.len(), 1);
}

#[test]
fn what_a_coinbase_does_not_claim_is_withheld_from_the_pool() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let claims_little = |stage: &mut Stage| {
        let job = stage.job();
        job.other(|job| job.outputs[0].value = Amount::ONE_SAT)
    };
    let job = claims_little(&mut stage);
    stage.refuses(&mut client, &job, "invalid-coinbase-tx-outputs");

    let mut stage = Stage::with(|custom| custom.least_pool_percent = 0);
    let mut client = stage.client();
    let job = claims_little(&mut stage);
    let number = stage.accepts(&mut client, &job);
    submits(&mut client, number, 1, &stage.world);
    let custom = client.records[0].custom.clone().unwrap();
    let subsidy = stage.world.template().subsidy;
    assert_eq!((custom.pays_pool.to_sats(), custom.value, custom.fees.to_sats()), (1, subsidy, 0));
}

#[test]
fn fees_that_no_node_has_seen_count_no_more_than_our_own() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job().other(|job| job.outputs[0].value += Amount::from_btc(1_000.0).unwrap());
    let number = stage.accepts(&mut client, &job);
    submits(&mut client, number, 1, &stage.world);
    let custom = client.records[0].custom.clone().unwrap();
    assert_eq!(custom.fees, stage.world.work.as_ref().unwrap().template().fees);
}

#[test]
fn a_job_that_is_declared_twice_earns_once() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    let first = stage.accepts(&mut client, &job);
    let again = stage.seal(Purpose::CoinbaseOnly, "alice");
    let second = stage.accepts(&mut client, &job.other(|job| job.token = again));
    submits(&mut client, first, 1, &stage.world);
    let repeated = submits(&mut client, first, 1, &stage.world);
    client.is_refused(repeated, "duplicate-share");
    let repeated = submits(&mut client, second, 1, &stage.world);
    client.is_refused(repeated, "duplicate-share");
    submits(&mut client, second, 2, &stage.world);
    assert_eq!(client.records.len(), 2);
}

#[test]
fn a_block_is_complete_with_the_transactions_of_its_job() {
    let mut stage = Stage::new();
    stage.world.nbits = EASY;
    let work = stage.world.new_tip();
    let mut client = stage.client();
    let job = stage.job();
    let number = stage.accepts(&mut client, &job);
    let found = (0..64).find_map(|nonce| {
        submits(&mut client, number, nonce, &stage.world);
        client.session.poll_custom_block()
    });
    let found = found.expect("every second hash is a block");
    let bytes =
        found.declaration.block(&found.header, found.extranonce.as_bytes(), &work.template().transactions);
    let block: bitcoin::Block = consensus::deserialize(&bytes).unwrap();
    assert!(block.check_merkle_root() && block.check_witness_commitment());
    assert_eq!(block.header.prev_blockhash, work.tip().prev_hash);
    assert_eq!(block.txdata[0].output[0].script_pubkey, payout());
    assert_eq!(found.record, client.records.len() as u64);
    let prefix = [7, 0, 3, 0, 0, 0];
    assert!(found.extranonce.as_bytes().starts_with(&prefix));

    let next = stage.world.new_tip();
    client.hears(&next, &stage.world);
    let late = (100..164).find_map(|nonce| {
        submits(&mut client, number, nonce, &stage.world);
        client.session.poll_custom_block()
    });
    assert!(late.is_some(), "the chain may come back to that tip");
    assert!(client.records.iter().all(|record| record.custom.is_some()));
}

#[test]
fn a_closed_channel_has_no_jobs() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    let number = stage.accepts(&mut client, &job);
    client.sends(crate::world::close(2), &stage.world);
    let stray = submits(&mut client, number, 1, &stage.world);
    client.is_refused(stray, "invalid-channel-id");
    let job = stage.job();
    stage.refuses(&mut client, &job, "invalid-channel-id");
}

#[test]
fn an_update_brings_another_target_with_the_next_job() {
    let mut stage = Stage::new();
    let mut client = stage.client();
    let job = stage.job();
    let first = stage.accepts(&mut client, &job);
    client.sends(update(1e12, &[0xff; 32]), &stage.world);
    client.skips_all();
    let job = stage.job().other(|job| job.script_prefix.push(0x51));
    stage.puts(&mut client, &job);
    let names = client.names();
    assert_eq!(names.last(), Some(&"SetCustomMiningJob.Success"), "{names:?}");
    submits(&mut client, first, 1, &stage.world);
    assert_eq!(client.records.len(), 1, "the first job keeps the target that it was accepted with");
}

/// Where an upstream gives a client another part of the extranonce, the channels below get theirs with the next job.
#[test]
fn another_beginning_of_extranonces_comes_with_the_job_that_leaves_room_for_it() {
    let mut world = World::new();
    let (mut client, mut standard) = (world.extended_miner(), world.standard_miner());
    let before = world.work.as_ref().unwrap().id().0;
    let base = adit_channel::ExtranonceBase::new(&[5; 12], 32, 14).unwrap();
    world.factory.handle_config(&PoolConfig { extranonce: base, ..config() });
    let work = world.factory.handle_timeout(world.now).unwrap().expect("a job at once");
    for miner in [&mut client, &mut standard] {
        miner.hears(&work, &world);
    }
    let answer = client.receives();
    let Message::SetExtranoncePrefix(set) = answer.message() else { panic!("it is told its prefix first") };
    // The base, connection 1, channel 2 of those that it was given.
    let prefix = [&[5; 12][..], &[1, 0, 0, 0, 2, 0]].concat();
    assert_eq!((set.channel_id, set.extranonce_prefix.as_bytes()), (2, &*prefix));
    assert_eq!(client.names(), ["NewExtendedMiningJob"]);
    assert_eq!(standard.names(), ["SetExtranoncePrefix", "NewMiningJob"]);
    client.submits(before, 1, &world);
    client.submits(work.id().0, 1, &world);
    client.is_durable(2);
    assert_eq!(
        client.names(),
        ["SubmitShares.Success"],
        "shares on the job before are judged with the prefix of before"
    );
    assert_ne!(client.records[0].hash, client.records[1].hash);
    standard.submits_standard(2, before, 1, &world);
    standard.submits_standard(2, work.id().0, 1, &world);
    assert_eq!(standard.records.len(), 2);
}

#[test]
fn a_job_held_in_reserve_goes_with_the_extranonces_that_it_was_made_for() {
    let mut world = World::without_work(crate::world::bridging());
    world.new_tip();
    let mut client = world.extended_miner();
    let reserved = world.put_by();
    client.hears(&reserved, &world);
    client.skips_all();
    let base = adit_channel::ExtranonceBase::new(&[5; 12], 32, 14).unwrap();
    world.factory.handle_config(&PoolConfig { extranonce: base, ..crate::world::bridging() });
    let work = world.factory.handle_timeout(world.now).unwrap().expect("a job at once");
    client.hears(&work, &world);
    assert_eq!(client.names(), ["SetExtranoncePrefix", "NewExtendedMiningJob"]);
    let again = world.factory.handle_timeout(world.now).unwrap().expect("a new job is held in reserve");
    world.work = Some(Arc::clone(&again));
    client.hears(&again, &world);
    assert_eq!(client.names(), ["NewExtendedMiningJob"]);
    let interim = world.tip_alone().expect("it is mined when the tip comes");
    client.hears(&interim, &world);
    assert_eq!(client.names(), ["SetNewPrevHash"]);
    client.submits(interim.id().0, 1, &world);
    assert_eq!(client.records.len(), 1);
}

/// A proxy's channels roll as much as they were promised when they were opened, or they are closed.
#[test]
fn channels_that_could_not_roll_as_promised_are_closed() {
    let mut world = World::new();
    let mut client = world.extended_miner();
    let base = adit_channel::ExtranonceBase::new(&[5; 12], 32, 8).unwrap();
    world.factory.handle_config(&PoolConfig { extranonce: base, ..config() });
    let work = world.factory.handle_timeout(world.now).unwrap().expect("a job at once");
    client.hears(&work, &world);
    assert_eq!(client.names(), ["CloseChannel"]);
}
