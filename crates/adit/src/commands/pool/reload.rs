//! What SIGHUP does: config and certificate are read anew and taken, unless there is a mistake in them.

use std::path::{Path, PathBuf};

use adit_job_declarator::server::{Jds, JdsReload, PreparedReload};
use adit_net::Clock;
use adit_pool::server::{Reload, Server};
use adit_pool::{CustomJobs, PoolConfig};
use anyhow::bail;
use bitcoin::Network;

use super::{keys, usable_identity};
use crate::config::{self, Config, LIVE, Values};
use crate::logging::Logging;

/// Where to read, and what was read before.
pub(super) struct Reloader {
    file: PathBuf,
    network: Network,
    instance: u16,
    /// Whether a job declarator server runs in the pool's process.
    declares: bool,
    /// The values that the pool was started with, for keys that only a restart changes.
    started: Values,
    /// The values that were taken last.
    taken: Values,
    logging: Logging,
    /// How miners may make jobs of their own, which only a restart changes.
    pub(super) custom_jobs: Option<CustomJobs>,
}

/// Whether a key means nothing to the pool, so that a restart of the pool would be for nothing: `adit init` writes the keys of all roles into
/// one file. Those of the job declarator server are the pool's own where its process `declares`, but for the percentage that every pool needs to know.
fn is_of_another_role(path: &str, declares: bool) -> bool {
    let others = ["template_provider.", "jdc.", "translator.", "upstream"];
    let is_declarators = path.starts_with("jds.") && path != "jds.least_pool_percent";
    others.iter().any(|role| path.starts_with(role)) || (!declares && is_declarators)
}

impl Reloader {
    /// A pool has been started with this config.
    pub(super) fn new(file: &Path, config: &Config, values: Values, logging: Logging) -> Self {
        Self {
            file: file.to_owned(),
            network: config.network,
            instance: config.pool.role.instance,
            declares: config.declarator.is_some(),
            started: values.clone(),
            taken: values,
            logging,
            custom_jobs: None,
        }
    }

    /// Reads everything again; says what was taken, what only a restart can change, or why nothing was taken.
    pub(super) fn reload(&mut self, server: &Server, declarator: Option<&Jds>) {
        if let Err(error) = self.take(server, declarator) {
            // A config may have many mistakes, each in a line of its own.
            for reason in format!("{error:#}").lines() {
                tracing::error!(reason, "not reloaded; the pool goes on as it was");
            }
        }
    }

    fn take(&mut self, server: &Server, declarator: Option<&Jds>) -> anyhow::Result<()> {
        let (config, values) = config::load_with_values(&self.file)?;
        if config.network != self.network {
            bail!("the network is {} now; only a restart can change it", config.network);
        }
        let identity = usable_identity(&config.pool.server_key)?;
        let certificate = keys::validity(&identity, Clock.unix());
        let declarator = prepared(declarator, &config)?;
        let custom_jobs = self.custom_jobs.clone();
        let declares = self.declares || config.declarator.is_some();
        let pool = PoolConfig { instance: self.instance, custom_jobs, ..config.pool.role };
        server.reload(Reload { pool, limits: config.pool.limits, identity })?;
        if let Some(declarator) = declarator {
            declarator.take();
        }
        self.logging.set(config.log.as_ref());
        let is_live = |path: &String| LIVE.contains(&path.as_str());
        let changed: Vec<_> = self.taken.changed(&values).into_iter().filter(is_live).collect();
        let is_ours = |path: &String| !is_live(path) && !is_of_another_role(path, declares);
        let late: Vec<_> = self.started.changed(&values).into_iter().filter(is_ours).collect();
        self.taken = values;
        tracing::info!(changed = changed.join(", "), certificate, "reloaded");
        if !late.is_empty() {
            tracing::warn!(keys = late.join(", "), "needs a restart");
        }
        Ok(())
    }
}

/// What the job declarator server in this process is to go on with; one that the config no longer wants goes on as it was until a restart.
fn prepared<'a>(declarator: Option<&'a Jds>, config: &Config) -> anyhow::Result<Option<PreparedReload<'a>>> {
    let (Some(declarator), Some(settings)) = (declarator, &config.declarator) else { return Ok(None) };
    let identity = usable_identity(&settings.server_key)?;
    let payout_script = settings.payout_address.script_pubkey();
    Ok(Some(declarator.prepare(JdsReload { payout_script, identity })?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_translators_new_address_had_the_pool_restarted() {
        let ours = |declares| move |path: &&&str| !is_of_another_role(path, declares);
        let keys =
            ["data_dir", "node.url", "pool.listen", "jds.payout_address", "jdc.listen", "translator.listen"];
        let keys =
            [&keys[..], &["translator.devices", "template_provider.listen", "upstream.user", "upstreams"]]
                .concat();
        let named: Vec<_> = keys.iter().filter(ours(true)).collect();
        assert_eq!(named, [&"data_dir", &"node.url", &"pool.listen", &"jds.payout_address"]);
        let named: Vec<_> = keys.iter().filter(ours(false)).collect();
        assert_eq!(named, [&"data_dir", &"node.url", &"pool.listen"], "`adit jds` alone reads the rest");
        assert!(
            !is_of_another_role("jds.least_pool_percent", false),
            "the pool holds jobs to it wherever they are declared"
        );
    }
}
