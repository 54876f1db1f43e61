//! A connection to a node's socket, and the calls over it: each has a deadline, and errors say what to do.

use core::cell::RefCell;
use core::time::Duration;
use std::io;
use std::os::unix::net::UnixStream as Socket;
use std::path::Path;
use std::rc::Rc;

use bitcoin::hashes::Hash as _;
use bitcoin::{BlockHash, Wtxid};
use bitcoin_capnp_types::capnp::capability::{Client as AnyClient, Promise, Request, Response};
use bitcoin_capnp_types::capnp::{self, ErrorKind, any_pointer};
use bitcoin_capnp_types::capnp_rpc::RpcSystem;
use bitcoin_capnp_types::capnp_rpc::rpc_twoparty_capnp::Side;
use bitcoin_capnp_types::capnp_rpc::twoparty::VatNetwork;
use bitcoin_capnp_types::common_capnp::block_ref;
use bitcoin_capnp_types::echo_capnp::echo::{echo_params, echo_results};
use bitcoin_capnp_types::init_capnp::init::{self, make_mining_params, make_mining_results};
use bitcoin_capnp_types::mining_capnp::block_template::get_coinbase_merkle_path_results;
use bitcoin_capnp_types::mining_capnp::mining::{check_block_params, check_block_results};
use bitcoin_capnp_types::mining_capnp::{block_template, mining};
use bitcoin_capnp_types::proxy_capnp::{thread, thread_map};
use tokio::net::UnixStream;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};

use super::calls::Calls;
use super::config::IpcConfig;
use super::template::{BLOCK_OVERHEAD_WEIGHT, CoinbaseOffer, CoinbaseParts, RawOffer};
use super::v30;
use super::wtxids::set_wtxids;
use crate::{CoinbaseReserve, NodeError, Timing};

/// How long the socket may take to take us in.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);
/// The least room for a coinbase that a node lets anybody ask for.
const MIN_RESERVED_WEIGHT: u64 = 2_000;

/// Methods that the published interface does not have yet, by their number; arguments and answers look like those of a method that
/// it has.
mod newer {
    /// `Init.makeRpc`, like `makeMining`.
    pub(super) const MAKE_RPC: u16 = 4;
    /// `Mining.getTransactionsByWitnessID`; answers like `BlockTemplate.getCoinbaseMerklePath`.
    pub(super) const TRANSACTIONS_BY_WTXID: u16 = 9;
    /// `Mining.submitBlock`, like `checkBlock` without its options.
    pub(super) const SUBMIT_BLOCK: u16 = 7;
    /// The interface `Rpc`.
    pub(super) const RPC: u64 = 0xacb1_d37f_0a71_3129;
    /// `Rpc.executeRpc`, like `Echo.echo`.
    pub(super) const EXECUTE_RPC: u16 = 0;
}

/// Which numbers the methods have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// Bitcoin Core 30.
    V30,
    /// Bitcoin Core 31 and later.
    V31,
}

/// A block by its hash and height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BlockRef {
    pub(super) hash: BlockHash,
    pub(super) height: u32,
}

/// What a node says of a block: whether it is good, and the reason if not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Judgement {
    pub(super) good: bool,
    pub(super) reason: String,
}

impl Judgement {
    /// The reason as JSON-RPC tells it: none for a good block (BIP 22).
    pub(super) fn word(self) -> Option<String> {
        (!self.good).then_some(self.reason)
    }
}

/// Whether a connection is of no more use after this; a call that was not answered keeps its thread in the node.
pub(super) const fn breaks(error: &NodeError) -> bool {
    matches!(error, NodeError::Silent { .. } | NodeError::Unplugged { .. })
}

/// A connection to one node; it ends when this is dropped.
pub(super) struct Link {
    url: String,
    timing: Timing,
    coinbase: CoinbaseReserve,
    threads: thread_map::Client,
    mining: mining::Client,
    /// The node's JSON-RPC, where it can be had this way.
    rpc: Option<AnyClient>,
    dialect: Dialect,
    /// The template whose successor is waited for.
    awaited: RefCell<Option<block_template::Client>>,
    calls: Calls,
}

/// Comes when the connection is no more.
pub(super) type Lost = oneshot::Receiver<String>;

impl Link {
    /// Connects and asks for what will be used.
    pub(super) async fn open(config: &IpcConfig) -> Result<(Rc<Self>, Lost), NodeError> {
        let (timing, url) = (config.timing, config.url());
        let stream = connect(config.path()).await?;
        let (stream, socket) = doubled(stream).map_err(|error| unreachable(config.path(), &error))?;
        let (reader, writer) = stream.into_split();
        let network = VatNetwork::new(
            reader.compat(),
            writer.compat_write(),
            Side::Client,
            capnp::message::ReaderOptions::default(),
        );
        let mut system = RpcSystem::new(Box::new(network), None);
        let init: init::Client = system.bootstrap(Side::Server);
        let (ended, lost) = oneshot::channel();
        tokio::task::spawn_local(async move {
            let reason =
                system.await.err().map_or_else(|| "the node has closed it".to_owned(), |error| error.extra);
            // Whoever left the connection does not listen any more.
            let _ = ended.send(reason);
        });
        let calls = Calls::over(socket);
        let asker = Asker { url: &url, calls: &calls };
        let answer = asker.ask("construct", timing.answer, init.construct_request().send().promise).await?;
        let threads = asker.read("construct", answer.get().and_then(|results| results.get_thread_map()))?;
        let thread = new_thread(&asker, &threads, timing.answer).await?;
        let (dialect, mining) = make_mining(&asker, &init, &thread, timing.template).await?;
        let rpc = make_rpc(&asker, &init, &thread, timing.answer).await?;
        let (coinbase, awaited) = (config.coinbase, RefCell::default());
        let link = Self { url, timing, coinbase, threads, mining, rpc, dialect, awaited, calls };
        Ok((Rc::new(link), lost))
    }

    /// Somebody who makes one call after the other, on a thread of the node's own.
    pub(super) async fn caller(self: &Rc<Self>) -> Result<Caller, NodeError> {
        let thread = new_thread(&self.asker(), &self.threads, self.timing.answer).await?;
        Ok(Caller { link: Rc::clone(self), thread })
    }

    fn asker(&self) -> Asker<'_> {
        Asker { url: &self.url, calls: &self.calls }
    }
}

impl Drop for Link {
    /// Tells the node that nobody waits any more for a tip or a template, so that it answers those calls now.
    fn drop(&mut self) {
        if self.dialect == Dialect::V31 {
            self.calls.make(self.mining.interrupt_request().send().promise);
        }
        match (self.awaited.take(), self.dialect) {
            (Some(template), Dialect::V31) => {
                self.calls.make(template.interrupt_wait_request().send().promise);
            }
            (Some(template), Dialect::V30) => {
                self.calls.make(v30::interrupt_wait(template));
            }
            (None, _) => {}
        }
    }
}

async fn connect(path: &Path) -> Result<UnixStream, NodeError> {
    let connecting = timeout(CONNECT_DEADLINE, UnixStream::connect(path)).await;
    let error = match connecting {
        Ok(Ok(stream)) => return Ok(stream),
        Ok(Err(error)) => error,
        Err(_) => io::Error::from(io::ErrorKind::TimedOut),
    };
    Err(unreachable(path, &error))
}

fn unreachable(path: &Path, error: &io::Error) -> NodeError {
    let path = path.to_owned();
    match error.kind() {
        io::ErrorKind::PermissionDenied => NodeError::SocketForbidden { path },
        _ => NodeError::SocketUnreachable { path, reason: error.to_string() },
    }
}

/// The stream, and its socket once more.
fn doubled(stream: UnixStream) -> io::Result<(UnixStream, Socket)> {
    let stream = stream.into_std()?;
    let socket = stream.try_clone()?;
    Ok((UnixStream::from_std(stream)?, socket))
}

async fn new_thread(
    asker: &Asker<'_>,
    threads: &thread_map::Client,
    deadline: Duration,
) -> Result<thread::Client, NodeError> {
    let mut request = threads.make_thread_request();
    request.get().set_name("adit");
    let answer = asker.ask("makeThread", deadline, request.send().promise).await?;
    asker.read("makeThread", answer.get().and_then(|results| results.get_result()))
}

/// The interface for mining. A node that is starting answers only when it has loaded its chain.
async fn make_mining(
    asker: &Asker<'_>,
    init: &init::Client,
    thread: &thread::Client,
    deadline: Duration,
) -> Result<(Dialect, mining::Client), NodeError> {
    let mut request = init.make_mining_request();
    request.get().init_context().set_thread(thread.clone());
    let starting = |error| match error {
        NodeError::Silent { .. } => NodeError::WarmingUp("it has not loaded its chain yet".to_owned()),
        other => other,
    };
    match asker.ask("makeMining", deadline, request.send().promise).await {
        Ok(answer) => {
            let mining = asker.read("makeMining", answer.get().and_then(|results| results.get_result()))?;
            Ok((Dialect::V31, mining))
        }
        Err(NodeError::Unsupported { .. }) => {
            let promise = v30::make_mining(init.clone(), thread.clone());
            let mining = asker.ask("makeMining", deadline, promise).await.map_err(starting)?;
            Ok((Dialect::V30, mining))
        }
        Err(error) => Err(starting(error)),
    }
}

/// The interface for JSON-RPC, which older nodes do not have.
async fn make_rpc(
    asker: &Asker<'_>,
    init: &init::Client,
    thread: &thread::Client,
    deadline: Duration,
) -> Result<Option<AnyClient>, NodeError> {
    let mut request: Request<make_mining_params::Owned, make_mining_results::Owned> =
        init.client.new_call(init_type_id(), newer::MAKE_RPC, None);
    request.get().init_context().set_thread(thread.clone());
    match asker.ask("makeRpc", deadline, request.send().promise).await {
        Ok(answer) => {
            let rpc = asker.read("makeRpc", answer.get().and_then(|results| results.get_result()))?;
            Ok(Some(rpc.client))
        }
        Err(NodeError::Unsupported { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The number of the interface `Init`.
const fn init_type_id() -> u64 {
    <init::Client as capnp::traits::HasTypeId>::TYPE_ID
}

/// Waits for answers and reads them.
struct Asker<'a> {
    url: &'a str,
    calls: &'a Calls,
}

impl Asker<'_> {
    /// Waits until `deadline` for the answer.
    async fn ask<T: 'static>(
        &self,
        method: &'static str,
        deadline: Duration,
        promise: impl Future<Output = capnp::Result<T>> + 'static,
    ) -> Result<T, NodeError> {
        let silent = || NodeError::Silent { url: self.url.to_owned(), method, secs: deadline.as_secs() };
        let answer = timeout(deadline, self.calls.make(promise)).await.map_err(|_| silent())?;
        self.read(method, answer.map_err(|error| NodeError::Gone(error.to_string()))?)
    }

    /// What an answer holds, or why it cannot be read.
    fn read<T>(&self, method: &'static str, answer: capnp::Result<T>) -> Result<T, NodeError> {
        answer.map_err(|error| match error.kind {
            ErrorKind::Disconnected => NodeError::Unplugged { url: self.url.to_owned(), reason: error.extra },
            ErrorKind::Unimplemented => NodeError::Unsupported { method },
            _ => NodeError::Exception { method, message: error.to_string() },
        })
    }
}

/// Makes calls, one after the other: a thread of the node answers them.
pub(super) struct Caller {
    link: Rc<Link>,
    thread: thread::Client,
}

impl Caller {
    async fn ask<T: 'static>(
        &self,
        method: &'static str,
        deadline: Duration,
        promise: impl Future<Output = capnp::Result<T>> + 'static,
    ) -> Result<T, NodeError> {
        self.link.asker().ask(method, deadline, promise).await
    }

    fn read<T>(&self, method: &'static str, answer: capnp::Result<T>) -> Result<T, NodeError> {
        self.link.asker().read(method, answer)
    }

    fn timing(&self) -> &Timing {
        &self.link.timing
    }

    fn thread(&self) -> thread::Client {
        self.thread.clone()
    }

    /// Which version's interface the node speaks.
    pub(super) fn dialect(&self) -> Dialect {
        self.link.dialect
    }

    /// Whether JSON-RPC goes through this socket, too.
    pub(super) fn has_rpc(&self) -> bool {
        self.link.rpc.is_some()
    }

    /// What stands where something else should.
    pub(super) fn malformed(&self, reason: String) -> NodeError {
        NodeError::NotANode { url: self.link.url.clone(), reason }
    }

    /// Whether the node's chain is one for tests.
    pub(super) async fn is_test_chain(&self) -> Result<bool, NodeError> {
        let mut request = self.link.mining.is_test_chain_request();
        request.get().init_context().set_thread(self.thread());
        let answer = self.ask("isTestChain", self.timing().answer, request.send().promise).await?;
        self.read("isTestChain", answer.get().map(|results| results.get_result()))
    }

    /// Whether the node is still downloading the chain.
    pub(super) async fn is_initial_block_download(&self) -> Result<bool, NodeError> {
        const METHOD: &str = "isInitialBlockDownload";
        let mut request = self.link.mining.is_initial_block_download_request();
        request.get().init_context().set_thread(self.thread());
        let answer = self.ask(METHOD, self.timing().answer, request.send().promise).await?;
        self.read(METHOD, answer.get().map(|results| results.get_result()))
    }

    /// The node's last block; `None` before it has one.
    pub(super) async fn tip(&self) -> Result<Option<BlockRef>, NodeError> {
        let mut request = self.link.mining.get_tip_request();
        request.get().init_context().set_thread(self.thread());
        let answer = self.ask("getTip", self.timing().answer, request.send().promise).await?;
        let tip = answer.get().and_then(|results| match results.get_has_result() {
            true => results.get_result().and_then(block_reference).map(Some),
            false => Ok(None),
        });
        self.read("getTip", tip)
    }

    /// The node's last block once it is another one than `known`, or after `patience`; `None` when the node is shutting down.
    pub(super) async fn wait_tip_changed(
        &self,
        known: BlockHash,
        patience: Duration,
    ) -> Result<Option<BlockRef>, NodeError> {
        const METHOD: &str = "waitTipChanged";
        let deadline = patience + self.timing().answer;
        match self.link.dialect {
            Dialect::V31 => {
                let mut request = self.link.mining.wait_tip_changed_request();
                let mut params = request.get();
                params.reborrow().init_context().set_thread(self.thread());
                params.set_current_tip(known.as_byte_array());
                params.set_timeout(millis(patience));
                let answer = self.ask(METHOD, deadline, request.send().promise).await?;
                let tip = answer.get().and_then(|results| match results.has_result() {
                    true => results.get_result().and_then(block_reference).map(Some),
                    false => Ok(None),
                });
                self.read(METHOD, tip)
            }
            Dialect::V30 => {
                let mining = self.link.mining.clone();
                let promise = v30::wait_tip_changed(mining, self.thread(), known, millis(patience));
                self.ask(METHOD, deadline, promise).await
            }
        }
    }

    /// A template, with the transactions of the mempool or none.
    pub(super) async fn create(&self, use_mempool: bool) -> Result<block_template::Client, NodeError> {
        const METHOD: &str = "createNewBlock";
        let CoinbaseReserve { weight, sigops } = self.link.coinbase;
        // Nodes count what is around the transactions to the coinbase's room.
        let weight = weight.saturating_add(BLOCK_OVERHEAD_WEIGHT).max(MIN_RESERVED_WEIGHT);
        match self.link.dialect {
            Dialect::V31 => {
                let mut request = self.link.mining.create_new_block_request();
                let mut params = request.get();
                params.reborrow().init_context().set_thread(self.thread());
                // The node would wait without a word until it has left its initial download; that is asked for by itself.
                params.set_cooldown(false);
                let mut options = params.init_options();
                options.set_use_mempool(use_mempool);
                options.set_block_reserved_weight(weight);
                options.set_coinbase_output_max_additional_sigops(sigops);
                let answer = self.ask(METHOD, self.timing().template, request.send().promise).await?;
                self.read(METHOD, answer.get().and_then(|results| results.get_result()))
            }
            Dialect::V30 => {
                let mining = self.link.mining.clone();
                let promise = v30::create(mining, use_mempool, weight, sigops);
                self.ask(METHOD, self.timing().template, promise).await
            }
        }
    }

    /// The template after `template`: on a new tip, or when it pays `fee_rise` satoshis more; `None` after `patience`.
    pub(super) async fn wait_next(
        &self,
        template: &block_template::Client,
        patience: Duration,
        fee_rise: Option<i64>,
    ) -> Result<Option<block_template::Client>, NodeError> {
        self.link.awaited.replace(Some(template.clone()));
        let deadline = patience + self.timing().template;
        let fee_threshold = fee_rise.unwrap_or(bitcoin_capnp_types::mining_capnp::MAX_MONEY);
        match self.link.dialect {
            Dialect::V31 => {
                let mut request = template.wait_next_request();
                let mut params = request.get();
                params.reborrow().init_context().set_thread(self.thread());
                let mut options = params.init_options();
                options.set_timeout(millis(patience));
                options.set_fee_threshold(fee_threshold);
                let answer = self.ask("waitNext", deadline, request.send().promise).await?;
                let next = answer.get().and_then(|results| match results.has_result() {
                    true => results.get_result().map(Some),
                    false => Ok(None),
                });
                self.read("waitNext", next)
            }
            Dialect::V30 => {
                let template = template.clone();
                let promise = v30::wait_next(template, self.thread(), millis(patience), fee_threshold);
                self.ask("waitNext", deadline, promise).await
            }
        }
    }

    /// The 80 bytes of the template's header.
    pub(super) async fn header(&self, template: &block_template::Client) -> Result<Vec<u8>, NodeError> {
        let mut request = template.get_block_header_request();
        request.get().init_context().set_thread(self.thread());
        let answer = self.ask("getBlockHeader", self.timing().answer, request.send().promise).await?;
        self.read("getBlockHeader", answer.get().and_then(|results| results.get_result()).map(<[u8]>::to_vec))
    }

    /// All that a template says.
    pub(super) async fn offer(&self, template: &block_template::Client) -> Result<RawOffer, NodeError> {
        let deadline = self.timing().template;
        let mut request = template.get_block_request();
        request.get().init_context().set_thread(self.thread());
        let answer = self.ask("getBlock", deadline, request.send().promise).await?;
        let block = self.read("getBlock", answer.get().and_then(|results| results.get_result()))?.to_vec();

        let mut request = template.get_tx_fees_request();
        request.get().init_context().set_thread(self.thread());
        let answer = self.ask("getTxFees", deadline, request.send().promise).await?;
        let fees = self.read("getTxFees", answer.get().and_then(|results| results.get_result()))?;
        let fees = fees.iter().collect();

        let mut request = template.get_tx_sigops_request();
        request.get().init_context().set_thread(self.thread());
        let answer = self.ask("getTxSigops", deadline, request.send().promise).await?;
        let sigops = self.read("getTxSigops", answer.get().and_then(|results| results.get_result()))?;
        let sigops = sigops.iter().collect();

        let merkle_path = self.merkle_path(template).await?;
        let coinbase = self.coinbase(template).await?;
        Ok(RawOffer { block, fees, sigops, merkle_path, coinbase })
    }

    async fn merkle_path(&self, template: &block_template::Client) -> Result<Vec<Vec<u8>>, NodeError> {
        const METHOD: &str = "getCoinbaseMerklePath";
        match self.link.dialect {
            Dialect::V31 => {
                let mut request = template.get_coinbase_merkle_path_request();
                request.get().init_context().set_thread(self.thread());
                let answer = self.ask(METHOD, self.timing().answer, request.send().promise).await?;
                self.read(METHOD, answer.get().and_then(|results| bytes_of(results.get_result()?)))
            }
            Dialect::V30 => {
                let promise = v30::merkle_path(template.clone(), self.thread());
                self.ask(METHOD, self.timing().answer, promise).await
            }
        }
    }

    async fn coinbase(&self, template: &block_template::Client) -> Result<CoinbaseOffer, NodeError> {
        const METHOD: &str = "getCoinbaseTx";
        match self.link.dialect {
            Dialect::V31 => {
                let mut request = template.get_coinbase_tx_request();
                request.get().init_context().set_thread(self.thread());
                let answer = self.ask(METHOD, self.timing().answer, request.send().promise).await?;
                let coinbase = answer.get().and_then(|results| {
                    let coinbase = results.get_result()?;
                    Ok(CoinbaseOffer::Parts(CoinbaseParts {
                        version: coinbase.get_version(),
                        sequence: coinbase.get_sequence(),
                        lock_time: coinbase.get_lock_time(),
                        script_sig_prefix: coinbase.get_script_sig_prefix()?.to_vec(),
                        witness: coinbase.get_witness()?.to_vec(),
                        value_remaining: coinbase.get_block_reward_remaining(),
                        required_outputs: bytes_of(coinbase.get_required_outputs()?)?,
                    }))
                });
                self.read(METHOD, coinbase)
            }
            Dialect::V30 => {
                let promise = v30::coinbase(template.clone(), self.thread());
                Ok(CoinbaseOffer::Whole(self.ask(METHOD, self.timing().answer, promise).await?))
            }
        }
    }

    /// Makes a block of the template and puts it into the chain; whether the node took it in, which does not mean that it is good.
    pub(super) async fn submit_solution(
        &self,
        template: &block_template::Client,
        solution: &Solution<'_>,
    ) -> Result<bool, NodeError> {
        const METHOD: &str = "submitSolution";
        let deadline = self.timing().submit;
        match self.link.dialect {
            Dialect::V31 => {
                let mut request = template.submit_solution_request();
                let mut params = request.get();
                params.reborrow().init_context().set_thread(self.thread());
                params.set_version(solution.version);
                params.set_timestamp(solution.time);
                params.set_nonce(solution.nonce);
                params.set_coinbase(solution.coinbase);
                let answer = self.ask(METHOD, deadline, request.send().promise).await?;
                self.read(METHOD, answer.get().map(|results| results.get_result()))
            }
            Dialect::V30 => {
                let promise = v30::submit_solution(template.clone(), self.thread(), solution);
                self.ask(METHOD, deadline, promise).await
            }
        }
    }

    /// Whether a block that nobody has solved yet keeps every rule.
    pub(super) async fn check_block(&self, block: &[u8]) -> Result<Judgement, NodeError> {
        const METHOD: &str = "checkBlock";
        match self.link.dialect {
            Dialect::V31 => {
                let mut request = self.link.mining.check_block_request();
                let mut params = request.get();
                params.reborrow().init_context().set_thread(self.thread());
                params.reborrow().set_block(block);
                let mut options = params.init_options();
                options.set_check_merkle_root(true);
                options.set_check_pow(false);
                self.judgement(METHOD, self.timing().template, request.send().promise).await
            }
            Dialect::V30 => {
                let promise = v30::check_block(self.link.mining.clone(), block);
                self.ask(METHOD, self.timing().template, promise).await
            }
        }
    }

    /// Puts a block into the chain; older nodes cannot.
    pub(super) async fn submit_block(&self, block: &[u8]) -> Result<Judgement, NodeError> {
        const METHOD: &str = "submitBlock";
        if self.link.dialect == Dialect::V30 {
            return Err(NodeError::Unsupported { method: METHOD });
        }
        let interface = <mining::Client as capnp::traits::HasTypeId>::TYPE_ID;
        let mut request: Request<check_block_params::Owned, check_block_results::Owned> =
            self.link.mining.client.new_call(interface, newer::SUBMIT_BLOCK, None);
        let mut params = request.get();
        params.reborrow().init_context().set_thread(self.thread());
        params.set_block(block);
        self.judgement(METHOD, self.timing().submit, request.send().promise).await
    }

    /// For each hash the transaction of the mempool, empty where there is none; older nodes cannot tell.
    pub(super) async fn transactions_by_wtxid(&self, wtxids: &[Wtxid]) -> Result<Vec<Vec<u8>>, NodeError> {
        const METHOD: &str = "getTransactionsByWitnessID";
        if self.link.dialect == Dialect::V30 {
            return Err(NodeError::Unsupported { method: METHOD });
        }
        let interface = <mining::Client as capnp::traits::HasTypeId>::TYPE_ID;
        let mut request: Request<any_pointer::Owned, get_coinbase_merkle_path_results::Owned> =
            self.link.mining.client.new_call(interface, newer::TRANSACTIONS_BY_WTXID, None);
        let written = set_wtxids(&mut request.get(), wtxids).and_then(|()| {
            let params: check_block_params::Builder<'_> = request.get().get_as()?;
            params.init_context().set_thread(self.thread());
            Ok(())
        });
        self.read(METHOD, written)?;
        let answer = self.ask(METHOD, self.timing().template, request.send().promise).await?;
        self.read(METHOD, answer.get().and_then(|results| bytes_of(results.get_result()?)))
    }

    async fn judgement(
        &self,
        method: &'static str,
        deadline: Duration,
        promise: Promise<Response<check_block_results::Owned>, capnp::Error>,
    ) -> Result<Judgement, NodeError> {
        let answer = self.ask(method, deadline, promise).await?;
        let judgement = answer.get().and_then(|results| {
            Ok(Judgement { good: results.get_result(), reason: results.get_reason()?.to_string()? })
        });
        self.read(method, judgement)
    }

    /// The answer to a JSON-RPC request; older nodes take none.
    pub(super) async fn execute_rpc(&self, request: &str) -> Result<String, NodeError> {
        const METHOD: &str = "executeRpc";
        let rpc = self.link.rpc.as_ref().ok_or(NodeError::Unsupported { method: METHOD })?;
        let mut call: Request<echo_params::Owned, echo_results::Owned> =
            rpc.new_call(newer::RPC, newer::EXECUTE_RPC, None);
        let mut params = call.get();
        params.reborrow().init_context().set_thread(self.thread());
        params.set_echo(request);
        let answer = self.ask(METHOD, self.timing().answer, call.send().promise).await?;
        self.read(METHOD, answer.get().and_then(|results| Ok(results.get_result()?.to_string()?)))
    }
}

/// What a miner found for a template.
#[derive(Clone, Copy, Debug)]
pub(super) struct Solution<'a> {
    pub(super) version: u32,
    pub(super) time: u32,
    pub(super) nonce: u32,
    /// The whole coinbase, with its witness.
    pub(super) coinbase: &'a [u8],
}

/// Reads a block's hash and height.
pub(super) fn block_reference(block: block_ref::Reader<'_>) -> capnp::Result<BlockRef> {
    let hash = BlockHash::from_slice(block.get_hash()?)
        .map_err(|_| capnp::Error::failed("a block's hash has another length".to_owned()))?;
    let height = u32::try_from(block.get_height())
        .map_err(|_| capnp::Error::failed("a block's height is negative".to_owned()))?;
    Ok(BlockRef { hash, height })
}

/// Reads a list of byte strings.
pub(super) fn bytes_of(list: capnp::data_list::Reader<'_>) -> capnp::Result<Vec<Vec<u8>>> {
    list.iter().map(|item| item.map(<[u8]>::to_vec)).collect()
}

/// The interface's measure of time.
#[expect(clippy::float_arithmetic, reason = "the interface counts milliseconds in floating point")]
fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}
