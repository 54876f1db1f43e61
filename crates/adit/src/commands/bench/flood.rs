//! The attackers that `adit bench --flood` starts: one address, one thread, a pace that a household could have.

use std::io;

use adit_miner::Url;
use adit_testkit::flood::{Flood, Victim};
use anyhow::Context as _;
use tokio::task::spawn_blocking;

use crate::cli::BenchFloodArgs;

/// Floods until standard input ends, then prints what that came to as JSON.
///
/// # Errors
///
/// If the URL names no address with a key.
pub(crate) fn flood(args: &BenchFloodArgs) -> anyhow::Result<()> {
    let url: Url = args.url.parse()?;
    let authority = url.authority().context("attackers need the key of the pool, too")?;
    let address = url.address().parse().context("the pool is not named by its address")?;
    let flooding = async {
        let attack = Flood::of_one_household(args.kind).start(Victim { address, authority });
        // Whatever comes, and be it an error, is the end.
        let _end = spawn_blocking(|| io::stdin().lines().next()).await;
        println!("{}", serde_json::to_string(&attack.felt())?);
        Ok(())
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(flooding)
}
