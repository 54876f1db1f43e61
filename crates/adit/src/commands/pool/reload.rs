//! What SIGHUP does: config and certificate are read anew and taken, unless there is a mistake in them.

use std::path::{Path, PathBuf};

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
    /// The values that the pool was started with, for keys that only a restart changes.
    started: Values,
    /// The values that were taken last.
    taken: Values,
    logging: Logging,
    /// How miners may make jobs of their own, which only a restart changes.
    pub(super) custom_jobs: Option<CustomJobs>,
}

impl Reloader {
    /// A pool has been started with this config.
    pub(super) fn new(file: &Path, config: &Config, values: Values, logging: Logging) -> Self {
        Self {
            file: file.to_owned(),
            network: config.network,
            instance: config.pool.role.instance,
            started: values.clone(),
            taken: values,
            logging,
            custom_jobs: None,
        }
    }

    /// Reads everything again; says what was taken, what only a restart can change, or why nothing was taken.
    pub(super) fn reload(&mut self, server: &Server) {
        if let Err(error) = self.take(server) {
            // A config may have many mistakes, each in a line of its own.
            for reason in format!("{error:#}").lines() {
                tracing::error!(reason, "not reloaded; the pool goes on as it was");
            }
        }
    }

    fn take(&mut self, server: &Server) -> anyhow::Result<()> {
        let (config, values) = config::load_with_values(&self.file)?;
        if config.network != self.network {
            bail!("the network is {} now; only a restart can change it", config.network);
        }
        let identity = usable_identity(&config.pool.server_key)?;
        let certificate = keys::validity(&identity, Clock.unix());
        let custom_jobs = self.custom_jobs.clone();
        let pool = PoolConfig { instance: self.instance, custom_jobs, ..config.pool.role };
        server.reload(Reload { pool, limits: config.pool.limits, identity })?;
        self.logging.set(config.log.as_ref());
        let is_live = |path: &String| LIVE.contains(&path.as_str());
        let changed: Vec<_> = self.taken.changed(&values).into_iter().filter(is_live).collect();
        let is_other = |path: &String| {
            ["template_provider.", "jdc.", "upstream"].iter().any(|role| path.starts_with(role))
        };
        let is_ours = |path: &String| !is_live(path) && !is_other(path);
        let late: Vec<_> = self.started.changed(&values).into_iter().filter(is_ours).collect();
        self.taken = values;
        tracing::info!(changed = changed.join(", "), certificate, "reloaded");
        if !late.is_empty() {
            tracing::warn!(keys = late.join(", "), "needs a restart");
        }
        Ok(())
    }
}
