//! The attackers that `adit bench --flood` starts: one address, one thread, a pace that a household could have.

use std::path::Path;
use std::sync::Arc;
use std::{fs, io};

use adit_miner::Url;
use adit_testkit::flood::{DeclarableJob, Flood, Victim};
use anyhow::Context as _;
use tokio::task::spawn_blocking;

use crate::cli::BenchFloodArgs;

/// Floods until standard input ends, then prints what that came to as JSON.
///
/// # Errors
///
/// If the URL names no address with a key, or the job cannot be read.
pub(crate) fn flood(args: &BenchFloodArgs) -> anyhow::Result<()> {
    let url: Url = args.url.parse()?;
    let authority = url.authority().context("attackers need the key of the pool, too")?;
    let address = url.address().parse().context("the pool is not named by its address")?;
    let job = args.job.as_deref().map(read_job).transpose()?;
    let flooding = async {
        let attack = Flood::of_one_household(args.kind).start(&Victim { address, authority, job });
        // Whatever comes, and be it an error, is the end.
        let _end = spawn_blocking(|| io::stdin().lines().next()).await;
        println!("{}", serde_json::to_string(&attack.felt())?);
        Ok(())
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(flooding)
}

fn read_job(file: &Path) -> anyhow::Result<Arc<DeclarableJob>> {
    let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(Arc::new(serde_json::from_str(&text)?))
}
