//! The methods of versions after 31, which the published interface does not describe yet.

use core::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use bitcoin_capnp_types::capnp::capability::{
    DispatchCallResult, FromClientHook, FromServer, Params, Promise, Results, Server,
};
use bitcoin_capnp_types::capnp::private::capability::ClientHook;
use bitcoin_capnp_types::capnp::{self, any_pointer};
use bitcoin_capnp_types::capnp_rpc::new_client;
use bitcoin_capnp_types::mining_capnp::block_template::get_coinbase_merkle_path_results as list;
use bitcoin_capnp_types::mining_capnp::mining;
use bitcoin_capnp_types::mining_capnp::mining::{check_block_params, check_block_results};

use super::{NOW, Shared, lock};

/// `Mining.submitBlock`.
const SUBMIT_BLOCK: u16 = 7;
/// `Mining.getTransactionsByWitnessID`.
const TRANSACTIONS_BY_WTXID: u16 = 9;
/// The longest transaction that a mempool takes by default, in bytes: all witness.
const LONGEST: usize = 400_000;
/// Words for a hash and the pointer to it.
const HASH_WORDS: u64 = 5;

/// The interface for mining, with those methods where the node is told to have them.
pub(super) fn client<S: mining::Server + 'static>(chain: &Shared, described: S) -> mining::Client {
    let served = Served { chain: Arc::clone(chain), described: Rc::new(described) };
    let Untyped(hook) = new_client(served);
    FromClientHook::new(hook)
}

struct Untyped(Box<dyn ClientHook>);

impl FromClientHook for Untyped {
    fn new(hook: Box<dyn ClientHook>) -> Self {
        Self(hook)
    }

    fn into_client_hook(self) -> Box<dyn ClientHook> {
        self.0
    }

    fn as_client_hook(&self) -> &dyn ClientHook {
        &*self.0
    }
}

struct Served<S> {
    chain: Shared,
    described: Rc<S>,
}

struct Dispatch<S>(Rc<Served<S>>);

impl<S> Clone for Dispatch<S> {
    fn clone(&self) -> Self {
        Self(Rc::clone(&self.0))
    }
}

impl<S> Deref for Dispatch<S> {
    type Target = Served<S>;

    fn deref(&self) -> &Served<S> {
        &self.0
    }
}

impl<S: mining::Server + 'static> FromServer<Served<S>> for Untyped {
    type Dispatch = Dispatch<S>;

    fn from_server(served: Rc<Served<S>>) -> Dispatch<S> {
        Dispatch(served)
    }
}

impl<S: mining::Server + 'static> Server for Dispatch<S> {
    fn dispatch_call(
        self,
        interface_id: u64,
        method_id: u16,
        params: Params<any_pointer::Owned>,
        results: Results<any_pointer::Owned>,
    ) -> DispatchCallResult {
        let is_newer = lock(&self.chain).tricks.is_newer;
        let answer = match method_id {
            SUBMIT_BLOCK if is_newer => submit_block(&self.chain, &params, results),
            TRANSACTIONS_BY_WTXID if is_newer => transactions(&self.chain, &params, results),
            _ => {
                let described = <mining::Client as FromServer<S>>::from_server(Rc::clone(&self.described));
                return described.dispatch_call(interface_id, method_id, params, results);
            }
        };
        DispatchCallResult::new(Promise::from_future(core::future::ready(answer)), false)
    }

    fn as_ptr(&self) -> usize {
        Rc::as_ptr(&self.0).cast::<()>().addr()
    }
}

fn submit_block(
    chain: &Shared,
    params: &Params<any_pointer::Owned>,
    mut results: Results<any_pointer::Owned>,
) -> capnp::Result<()> {
    let params: check_block_params::Reader<'_> = params.get()?.get_as()?;
    let taken = lock(chain).devnet.submit_block(params.get_block()?, NOW);
    let mut answer: check_block_results::Builder<'_> = results.get().init_as();
    answer.set_result(taken.is_ok());
    answer.set_reason(if taken.is_ok() { "" } else { "bad" });
    Ok(())
}

/// For each hash something as long as the longest transaction, which is none.
fn transactions(
    chain: &Shared,
    params: &Params<any_pointer::Owned>,
    mut results: Results<any_pointer::Owned>,
) -> capnp::Result<()> {
    // The rest is the structure around them, and less than a hash is left of it.
    let count = params.get()?.target_size()?.word_count / HASH_WORDS - 1;
    lock(chain).tricks.hashes_asked_for.push(count);
    let answer: list::Builder<'_> = results.get().init_as();
    let count = u32::try_from(count).map_err(|error| capnp::Error::failed(error.to_string()))?;
    let mut transactions = answer.init_result(count);
    (0..transactions.len()).for_each(|index| transactions.set(index, &vec![0; LONGEST]));
    Ok(())
}
