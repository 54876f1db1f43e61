//! A node that offers a chain in memory over a socket, in the interface of either version.

mod newer;

use core::time::Duration;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use adit_share::Template;
use adit_units::{Monotonic, Now, UnixTime, Work};
use bitcoin::absolute::LockTime;
use bitcoin::block::{Header, Version as BlockVersion};
use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash as _;
use bitcoin::script::Builder;
use bitcoin::{
    Amount, Block, BlockHash, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut, Witness,
    opcodes, transaction,
};
use bitcoin_capnp_types::capnp;
use bitcoin_capnp_types::capnp_rpc::rpc_twoparty_capnp::Side;
use bitcoin_capnp_types::capnp_rpc::twoparty::VatNetwork;
use bitcoin_capnp_types::capnp_rpc::{RpcSystem, new_client};
use tokio::net::{UnixListener, UnixStream};
use tokio::runtime;
use tokio::sync::oneshot;
use tokio::task::LocalSet;
use tokio::time::sleep;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use crate::{Devnet, DevnetConfig, Pace};

/// When everything here happens.
const NOW: Now = Now { monotonic: Monotonic::from_micros(0), unix: UnixTime::from_secs(1_700_000_000) };
/// How often the chain is looked at by one who waits for a change.
const LOOK: Duration = Duration::from_millis(5);
/// Any fee: what the transactions pay in all is paid by the first.
const SIGOPS: i64 = 1;

/// What the fake node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Version {
    V30,
    V31,
    /// Takes connections and says nothing.
    Mute,
}

/// How a node misbehaves, and what was asked of it meanwhile.
#[derive(Default)]
pub(super) struct Tricks {
    /// It has the methods of versions after 31.
    pub(super) is_newer: bool,
    /// All of it stands still, as a stopped process does.
    is_frozen: bool,
    /// How many solutions it throws an exception at.
    pub(super) solutions_thrown_at: u32,
    /// How many solutions it has looked at.
    pub(super) solutions: u32,
    /// It does not know the method that takes solutions.
    pub(super) takes_no_solutions: bool,
    /// It makes no templates from the mempool, though it goes on answering all else.
    pub(super) makes_no_templates: bool,
    /// It checks no blocks, and never answers.
    pub(super) checks_nothing: bool,
    /// It says at once that it has no tip to tell of, to those who wait for one.
    pub(super) waits_for_no_tip: bool,
    /// How often it said so.
    pub(super) tips_not_waited_for: u32,
    /// How many transactions were asked for, in each call.
    pub(super) hashes_asked_for: Vec<u64>,
}

/// The chain, and what was asked about it.
struct Chain {
    devnet: Devnet,
    now: Now,
    tricks: Tricks,
    /// The tips on which an empty template was asked for.
    emptied: Vec<BlockHash>,
}

type Shared = Arc<Mutex<Chain>>;

fn lock(chain: &Shared) -> MutexGuard<'_, Chain> {
    chain.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A running fake node.
pub(super) struct Fake {
    version: Version,
    folder: tempfile::TempDir,
    chain: Shared,
    /// Ends the thread when it is dropped.
    running: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Fake {
    pub(super) fn start(version: Version) -> Self {
        let pace = Pace::Fixed(Work::from_hashes(2));
        let config = DevnetConfig { pace, arrival: Duration::from_secs(1), ..DevnetConfig::new([7; 32]) };
        let chain = Chain {
            devnet: Devnet::new(&config, NOW),
            now: NOW,
            tricks: Tricks::default(),
            emptied: Vec::new(),
        };
        let mut fake = Self {
            version,
            folder: tempfile::tempdir().unwrap(),
            chain: Arc::new(Mutex::new(chain)),
            running: None,
            thread: None,
        };
        fake.restart();
        fake
    }

    pub(super) fn socket(&self) -> PathBuf {
        self.folder.path().join("node.sock")
    }

    /// Has it misbehave, or shows what was asked of it.
    pub(super) fn trick<T>(&self, change: impl FnOnce(&mut Tricks) -> T) -> T {
        change(&mut lock(&self.chain).tricks)
    }

    /// Stops all of it, as it is.
    pub(super) fn freeze(&self) {
        self.trick(|tricks| tricks.is_frozen = true);
    }

    /// Lets time pass, in which transactions come in.
    pub(super) fn wait(&self, time: Duration) {
        let mut chain = lock(&self.chain);
        chain.now = chain.now.after(time);
    }

    /// Takes a block from elsewhere.
    pub(super) fn take(&self, block: &[u8]) {
        lock(&self.chain).devnet.submit_block(block, NOW).unwrap();
    }

    /// Ends the node and its socket.
    pub(super) fn stop(&mut self) {
        self.trick(|tricks| tricks.is_frozen = false);
        drop(self.running.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
        drop(std::fs::remove_file(self.socket()));
    }

    /// Starts it again on the same chain.
    pub(super) fn restart(&mut self) {
        self.stop();
        let (running, mut ended) = oneshot::channel::<()>();
        let (chain, version, socket) = (Arc::clone(&self.chain), self.version, self.socket());
        let listener = std::os::unix::net::UnixListener::bind(socket).unwrap();
        listener.set_nonblocking(true).unwrap();
        self.running = Some(running);
        self.thread = Some(thread::spawn(move || {
            let runtime = runtime::Builder::new_current_thread().enable_all().build().unwrap();
            LocalSet::new().block_on(&runtime, async move {
                let listener = UnixListener::from_std(listener).unwrap();
                let mut mute = Vec::new();
                tokio::task::spawn_local(stand_still_when_frozen(Arc::clone(&chain)));
                loop {
                    tokio::select! {
                        _ = &mut ended => return,
                        accepted = listener.accept() => {
                            let (stream, _) = accepted.unwrap();
                            match version {
                                Version::V30 => serve(stream, v30::init(Arc::clone(&chain))),
                                Version::V31 => serve(stream, v31::init(Arc::clone(&chain))),
                                Version::Mute => mute.push(stream),
                            }
                        }
                    }
                }
            });
        }));
    }

    pub(super) fn best_block(&self) -> BlockHash {
        lock(&self.chain).devnet.best_block()
    }

    /// A template on the same tip that this node did not give, with other transactions.
    pub(super) fn template_of_another_node(&self) -> Arc<Template> {
        Arc::new(lock(&self.chain).devnet.template(NOW.after(Duration::from_secs(1))))
    }

    /// Waits until somebody has an empty template on `tip`, and has had time to note it.
    pub(super) async fn wait_for_an_empty_template(&self, tip: BlockHash) {
        while !lock(&self.chain).emptied.contains(&tip) {
            sleep(LOOK).await;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Keeps the thread from doing anything while the node is frozen.
async fn stand_still_when_frozen(chain: Shared) {
    loop {
        sleep(LOOK).await;
        while lock(&chain).tricks.is_frozen {
            thread::sleep(LOOK);
        }
    }
}

/// Never ends while the node plays that trick.
async fn hold(chain: &Shared, trick: impl Fn(&Tricks) -> bool) {
    while trick(&lock(chain).tricks) {
        sleep(LOOK).await;
    }
}

/// Whether it says at once that it has no tip; that it said so is counted.
fn waits_for_no_tip(chain: &Shared) -> bool {
    let tricks = &mut lock(chain).tricks;
    tricks.tips_not_waited_for += u32::from(tricks.waits_for_no_tip);
    tricks.waits_for_no_tip
}

/// What to answer to one who brings a solution, instead of taking it.
fn objection(chain: &Shared) -> capnp::Result<()> {
    let tricks = &mut lock(chain).tricks;
    if tricks.takes_no_solutions {
        return Err(capnp::Error::unimplemented("no such method".to_owned()));
    }
    if tricks.solutions_thrown_at > 0 {
        tricks.solutions_thrown_at -= 1;
        return Err(capnp::Error::failed("std::exception".to_owned()));
    }
    tricks.solutions += 1;
    Ok(())
}

/// The interface for mining as it is described.
fn as_described<C: capnp::capability::FromServer<S>, S>(_: &Shared, server: S) -> C {
    new_client(server)
}

/// Serves one connection for as long as it lasts.
fn serve(stream: UnixStream, init: capnp::capability::Client) {
    let (reader, writer) = stream.into_split();
    let options = capnp::message::ReaderOptions::default();
    let network = VatNetwork::new(reader.compat(), writer.compat_write(), Side::Server, options);
    tokio::task::spawn_local(RpcSystem::new(Box::new(network), Some(init)));
}

/// A template with a coinbase that stands in for the miner's.
struct Offer {
    header: Header,
    coinbase: Transaction,
    template: Template,
}

impl Offer {
    fn new(chain: &Shared, use_mempool: bool) -> Self {
        let mut chain = lock(chain);
        let template = match use_mempool {
            true => {
                let now = chain.now;
                chain.devnet.template(now)
            }
            false => {
                let template = chain.devnet.template(NOW);
                chain.emptied.push(template.tip.prev_hash);
                (*super::emptied(&template)).clone()
            }
        };
        let header = Header {
            version: BlockVersion::from_consensus(template.version.cast_signed()),
            prev_blockhash: template.tip.prev_hash,
            merkle_root: TxMerkleNode::all_zeros(),
            time: template.time,
            bits: template.tip.nbits,
            nonce: 0,
        };
        Self { header, coinbase: stand_in(&template), template }
    }

    /// The block with that coinbase, serialised.
    fn block(&self, header: &Header, coinbase: &[u8]) -> Vec<u8> {
        let count = bitcoin::VarInt::from(self.template.transactions.len() + 1);
        let mut bytes = [serialize(header), serialize(&count), coinbase.to_vec()].concat();
        for transaction in &self.template.transactions {
            bytes.extend_from_slice(transaction.as_bytes());
        }
        bytes
    }

    /// Fees for each transaction, of which only the sum is known.
    fn fees(&self) -> Vec<i64> {
        let all = self.template.fees.to_sats().cast_signed();
        (0..self.template.transactions.len()).map(|index| if index == 0 { all } else { 0 }).collect()
    }

    fn solve(&self, chain: &Shared, fields: [u32; 3], coinbase: &[u8]) -> bool {
        let [version, time, nonce] = fields;
        let id = bitcoin::consensus::deserialize::<Transaction>(coinbase).unwrap().compute_txid();
        let root = self.template.merkle_path.iter().fold(id.to_byte_array(), |left, right| {
            bitcoin::hashes::sha256d::Hash::hash(&[left, *right].concat()).to_byte_array()
        });
        let header = Header {
            version: BlockVersion::from_consensus(version.cast_signed()),
            merkle_root: TxMerkleNode::from_byte_array(root),
            time,
            nonce,
            ..self.header
        };
        lock(chain).devnet.submit_block(&self.block(&header, coinbase), NOW).is_ok()
    }
}

/// The coinbase that Bitcoin Core 30 would use itself.
fn stand_in(template: &Template) -> Transaction {
    let script_sig = Builder::new().push_int(i64::from(template.tip.height.0)).push_opcode(opcodes::OP_0);
    let value = Amount::from_sat(template.coinbase_value.to_sats());
    let mut output = vec![TxOut { value, script_pubkey: ScriptBuf::from_bytes(vec![0x51]) }];
    output.extend(template.required_outputs.iter().cloned());
    Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: script_sig.into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output,
    }
}

/// The interfaces in the words of one crate; `$coinbase` and `$path` write what the versions tell in different ways.
macro_rules! fake_node {
    ($name:ident, $types:ident, $mining:path, |$results:ident, $offer:ident| $coinbase:block) => {
        mod $name {
            use $types::init_capnp::init;
            use $types::mining_capnp::{block_template, mining};
            use $types::proxy_capnp::{thread, thread_map};

            use super::*;

            type Done = Result<(), capnp::Error>;

            pub(super) fn init(chain: Shared) -> capnp::capability::Client {
                new_client::<init::Client, _>(Init { chain }).client
            }

            struct Init {
                chain: Shared,
            }

            struct Threads;

            struct Thread;

            struct Mining {
                chain: Shared,
            }

            struct Given {
                chain: Shared,
                offer: Offer,
            }

            impl thread::Server for Thread {}

            impl thread_map::Server for Threads {
                async fn make_thread(
                    self: Rc<Self>,
                    _: thread_map::MakeThreadParams,
                    mut results: thread_map::MakeThreadResults,
                ) -> Done {
                    results.get().set_result(new_client(Thread));
                    Ok(())
                }
            }

            impl init::Server for Init {
                async fn construct(
                    self: Rc<Self>,
                    _: init::ConstructParams,
                    mut results: init::ConstructResults,
                ) -> Done {
                    results.get().set_thread_map(new_client(Threads));
                    Ok(())
                }

                async fn make_mining(
                    self: Rc<Self>,
                    _: init::MakeMiningParams,
                    mut results: init::MakeMiningResults,
                ) -> Done {
                    let mining = Mining { chain: Arc::clone(&self.chain) };
                    results.get().set_result($mining(&self.chain, mining));
                    Ok(())
                }
            }

            impl mining::Server for Mining {
                async fn is_test_chain(
                    self: Rc<Self>,
                    _: mining::IsTestChainParams,
                    mut results: mining::IsTestChainResults,
                ) -> Done {
                    results.get().set_result(true);
                    Ok(())
                }

                async fn is_initial_block_download(
                    self: Rc<Self>,
                    _: mining::IsInitialBlockDownloadParams,
                    mut results: mining::IsInitialBlockDownloadResults,
                ) -> Done {
                    results.get().set_result(true);
                    Ok(())
                }

                async fn get_tip(
                    self: Rc<Self>,
                    _: mining::GetTipParams,
                    mut results: mining::GetTipResults,
                ) -> Done {
                    let chain = lock(&self.chain);
                    results.get().set_has_result(true);
                    let mut tip = results.get().init_result();
                    tip.set_hash(chain.devnet.best_block().as_byte_array());
                    tip.set_height(chain.devnet.height().0.cast_signed());
                    Ok(())
                }

                async fn wait_tip_changed(
                    self: Rc<Self>,
                    params: mining::WaitTipChangedParams,
                    mut results: mining::WaitTipChangedResults,
                ) -> Done {
                    let known = BlockHash::from_slice(params.get()?.get_current_tip()?).unwrap();
                    assert!(params.get()?.get_timeout() > 1000.0, "in milliseconds");
                    while lock(&self.chain).devnet.best_block() == known {
                        if waits_for_no_tip(&self.chain) {
                            return Ok(());
                        }
                        sleep(LOOK).await;
                    }
                    let chain = lock(&self.chain);
                    let mut tip = results.get().init_result();
                    tip.set_hash(chain.devnet.best_block().as_byte_array());
                    tip.set_height(chain.devnet.height().0.cast_signed());
                    Ok(())
                }

                async fn create_new_block(
                    self: Rc<Self>,
                    params: mining::CreateNewBlockParams,
                    mut results: mining::CreateNewBlockResults,
                ) -> Done {
                    let options = params.get()?.get_options()?;
                    assert_eq!(options.get_block_reserved_weight(), 4000 + 89 * 4);
                    assert_eq!(options.get_coinbase_output_max_additional_sigops(), 400);
                    if options.get_use_mempool() {
                        hold(&self.chain, |tricks| tricks.makes_no_templates).await;
                    }
                    let offer = Offer::new(&self.chain, options.get_use_mempool());
                    results.get().set_result(new_client(Given { chain: Arc::clone(&self.chain), offer }));
                    Ok(())
                }

                async fn check_block(
                    self: Rc<Self>,
                    params: mining::CheckBlockParams,
                    mut results: mining::CheckBlockResults,
                ) -> Done {
                    hold(&self.chain, |tricks| tricks.checks_nothing).await;
                    let options = params.get()?.get_options()?;
                    assert!(options.get_check_merkle_root() && !options.get_check_pow());
                    let good = bitcoin::consensus::deserialize::<Block>(params.get()?.get_block()?).is_ok();
                    results.get().set_result(good);
                    if !good {
                        results.get().set_reason("bad");
                    }
                    Ok(())
                }
            }

            impl block_template::Server for Given {
                async fn get_block_header(
                    self: Rc<Self>,
                    _: block_template::GetBlockHeaderParams,
                    mut results: block_template::GetBlockHeaderResults,
                ) -> Done {
                    results.get().set_result(&serialize(&self.offer.header));
                    Ok(())
                }

                async fn get_block(
                    self: Rc<Self>,
                    _: block_template::GetBlockParams,
                    mut results: block_template::GetBlockResults,
                ) -> Done {
                    let coinbase = serialize(&self.offer.coinbase);
                    results.get().set_result(&self.offer.block(&self.offer.header, &coinbase));
                    Ok(())
                }

                async fn get_tx_fees(
                    self: Rc<Self>,
                    _: block_template::GetTxFeesParams,
                    mut results: block_template::GetTxFeesResults,
                ) -> Done {
                    let fees = self.offer.fees();
                    let mut list = results.get().init_result(u32::try_from(fees.len()).unwrap());
                    (0_u32..).zip(fees).for_each(|(index, fee)| list.set(index, fee));
                    Ok(())
                }

                async fn get_tx_sigops(
                    self: Rc<Self>,
                    _: block_template::GetTxSigopsParams,
                    mut results: block_template::GetTxSigopsResults,
                ) -> Done {
                    let count = u32::try_from(self.offer.template.transactions.len()).unwrap();
                    let mut list = results.get().init_result(count);
                    (0..count).for_each(|index| list.set(index, SIGOPS));
                    Ok(())
                }

                async fn get_coinbase_tx(
                    self: Rc<Self>,
                    _: block_template::GetCoinbaseTxParams,
                    mut $results: block_template::GetCoinbaseTxResults,
                ) -> Done {
                    let $offer = &self.offer;
                    $coinbase;
                    Ok(())
                }

                async fn get_coinbase_merkle_path(
                    self: Rc<Self>,
                    _: block_template::GetCoinbaseMerklePathParams,
                    mut results: block_template::GetCoinbaseMerklePathResults,
                ) -> Done {
                    let path = &self.offer.template.merkle_path;
                    let mut list = results.get().init_result(u32::try_from(path.len()).unwrap());
                    (0_u32..).zip(path).for_each(|(index, node)| list.set(index, node));
                    Ok(())
                }

                async fn submit_solution(
                    self: Rc<Self>,
                    params: block_template::SubmitSolutionParams,
                    mut results: block_template::SubmitSolutionResults,
                ) -> Done {
                    objection(&self.chain)?;
                    let params = params.get()?;
                    let fields = [params.get_version(), params.get_timestamp(), params.get_nonce()];
                    results.get().set_result(self.offer.solve(&self.chain, fields, params.get_coinbase()?));
                    Ok(())
                }

                async fn wait_next(
                    self: Rc<Self>,
                    params: block_template::WaitNextParams,
                    mut results: block_template::WaitNextResults,
                ) -> Done {
                    let options = params.get()?.get_options()?;
                    assert!(options.get_timeout() > 1000.0, "in milliseconds");
                    assert!(options.get_fee_threshold() > 0);
                    while lock(&self.chain).devnet.best_block() == self.offer.header.prev_blockhash {
                        sleep(LOOK).await;
                    }
                    hold(&self.chain, |tricks| tricks.makes_no_templates).await;
                    let (chain, offer) = (Arc::clone(&self.chain), Offer::new(&self.chain, true));
                    results.get().set_result(new_client(Given { chain, offer }));
                    Ok(())
                }

                async fn interrupt_wait(
                    self: Rc<Self>,
                    _: block_template::InterruptWaitParams,
                    _: block_template::InterruptWaitResults,
                ) -> Done {
                    Ok(())
                }
            }
        }
    };
}

fake_node!(v30, bitcoin_capnp_types_v30, as_described, |results, offer| {
    results.get().set_result(&serialize(&offer.coinbase));
});

fake_node!(v31, bitcoin_capnp_types, newer::client, |results, offer| {
    let coinbase = &offer.coinbase;
    let mut told = results.get().init_result();
    told.set_version(coinbase.version.0.cast_unsigned());
    told.set_sequence(coinbase.input[0].sequence.to_consensus_u32());
    told.set_lock_time(coinbase.lock_time.to_consensus_u32());
    told.set_script_sig_prefix(Builder::new().push_int(i64::from(offer.template.tip.height.0)).as_bytes());
    told.set_witness(&[0; 32]);
    told.set_block_reward_remaining(coinbase.output[0].value.to_sat().cast_signed());
    let outputs = &offer.template.required_outputs;
    let mut list = told.init_required_outputs(u32::try_from(outputs.len()).unwrap());
    (0_u32..).zip(outputs).for_each(|(index, output)| list.set(index, &serialize(output)));
});
