//! The calls that Bitcoin Core 30 numbers, or whose arguments it lays out, in another way than later versions.

use bitcoin::BlockHash;
use bitcoin::hashes::Hash as _;
use bitcoin_capnp_types::capnp;
use bitcoin_capnp_types::capnp::capability::FromClientHook as _;
use bitcoin_capnp_types::common_capnp::block_ref;
use bitcoin_capnp_types::init_capnp::init;
use bitcoin_capnp_types::mining_capnp::{block_template, mining};
use bitcoin_capnp_types::proxy_capnp::thread;
use bitcoin_capnp_types_v30 as old;
use old::mining_capnp::{block_template as old_template, mining as old_mining};

use super::link::{BlockRef, Judgement, Solution, block_reference, bytes_of};

/// The same thread under the name that the old interface has for it.
fn aged(thread: thread::Client) -> old::proxy_capnp::thread::Client {
    thread.cast_to()
}

/// Asks for the interface for mining.
pub(super) async fn make_mining(init: init::Client, thread: thread::Client) -> capnp::Result<mining::Client> {
    let init: old::init_capnp::init::Client = init.cast_to();
    let mut request = init.make_mining_request();
    request.get().init_context().set_thread(aged(thread));
    let answer = request.send().promise.await?;
    Ok(answer.get()?.get_result()?.cast_to())
}

pub(super) async fn wait_tip_changed(
    mining: mining::Client,
    thread: thread::Client,
    known: BlockHash,
    patience_ms: f64,
) -> capnp::Result<Option<BlockRef>> {
    let mining: old_mining::Client = mining.cast_to();
    let mut request = mining.wait_tip_changed_request();
    let mut params = request.get();
    params.reborrow().init_context().set_thread(aged(thread));
    params.set_current_tip(known.as_byte_array());
    params.set_timeout(patience_ms);
    let answer = request.send().promise.await?;
    let results = answer.get()?;
    if !results.has_result() {
        return Ok(None);
    }
    let tip = results.get_result()?;
    // The node that is shutting down gives a block without a hash.
    if tip.get_hash()?.is_empty() {
        return Ok(None);
    }
    let mut message = capnp::message::Builder::new_default();
    let mut copy = message.init_root::<block_ref::Builder<'_>>();
    copy.set_hash(tip.get_hash()?);
    copy.set_height(tip.get_height());
    block_reference(copy.into_reader()).map(Some)
}

/// Makes a template; this version does so on its own thread for all connections.
pub(super) async fn create(
    mining: mining::Client,
    use_mempool: bool,
    reserved_weight: u64,
    sigops: u64,
) -> capnp::Result<block_template::Client> {
    let mining: old_mining::Client = mining.cast_to();
    let mut request = mining.create_new_block_request();
    let mut options = request.get().init_options();
    options.set_use_mempool(use_mempool);
    options.set_block_reserved_weight(reserved_weight);
    options.set_coinbase_output_max_additional_sigops(sigops);
    let answer = request.send().promise.await?;
    Ok(answer.get()?.get_result()?.cast_to())
}

pub(super) async fn wait_next(
    template: block_template::Client,
    thread: thread::Client,
    patience_ms: f64,
    fee_threshold: i64,
) -> capnp::Result<Option<block_template::Client>> {
    let template: old_template::Client = template.cast_to();
    let mut request = template.wait_next_request();
    let mut params = request.get();
    params.reborrow().init_context().set_thread(aged(thread));
    let mut options = params.init_options();
    options.set_timeout(patience_ms);
    options.set_fee_threshold(fee_threshold);
    let answer = request.send().promise.await?;
    let results = answer.get()?;
    if !results.has_result() {
        return Ok(None);
    }
    Ok(Some(results.get_result()?.cast_to()))
}

pub(super) async fn interrupt_wait(template: block_template::Client) -> capnp::Result<()> {
    let template: old_template::Client = template.cast_to();
    template.interrupt_wait_request().send().promise.await.map(drop)
}

pub(super) async fn merkle_path(
    template: block_template::Client,
    thread: thread::Client,
) -> capnp::Result<Vec<Vec<u8>>> {
    let template: old_template::Client = template.cast_to();
    let mut request = template.get_coinbase_merkle_path_request();
    request.get().init_context().set_thread(aged(thread));
    let answer = request.send().promise.await?;
    bytes_of(answer.get()?.get_result()?)
}

/// The whole coinbase that the node would make.
pub(super) async fn coinbase(
    template: block_template::Client,
    thread: thread::Client,
) -> capnp::Result<Vec<u8>> {
    let template: old_template::Client = template.cast_to();
    let mut request = template.get_coinbase_tx_request();
    request.get().init_context().set_thread(aged(thread));
    let answer = request.send().promise.await?;
    Ok(answer.get()?.get_result()?.to_vec())
}

pub(super) fn submit_solution(
    template: block_template::Client,
    thread: thread::Client,
    solution: &Solution<'_>,
) -> impl Future<Output = capnp::Result<bool>> + use<> {
    let template: old_template::Client = template.cast_to();
    let mut request = template.submit_solution_request();
    let mut params = request.get();
    params.reborrow().init_context().set_thread(aged(thread));
    params.set_version(solution.version);
    params.set_timestamp(solution.time);
    params.set_nonce(solution.nonce);
    params.set_coinbase(solution.coinbase);
    async move {
        let answer = request.send().promise.await?;
        Ok(answer.get()?.get_result())
    }
}

pub(super) fn check_block(
    mining: mining::Client,
    block: &[u8],
) -> impl Future<Output = capnp::Result<Judgement>> + use<> {
    let mining: old_mining::Client = mining.cast_to();
    let mut request = mining.check_block_request();
    let mut params = request.get();
    params.reborrow().set_block(block);
    let mut options = params.init_options();
    options.set_check_merkle_root(true);
    options.set_check_pow(false);
    async move {
        let answer = request.send().promise.await?;
        let results = answer.get()?;
        Ok(Judgement { good: results.get_result(), reason: results.get_reason()?.to_string()? })
    }
}
