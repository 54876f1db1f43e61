//! The reference implementation's pool as a child process, on the test chain's templates.

use core::time::Duration;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::Arc;

use adit_miner::Url;
use adit_net::connect;
use adit_node::Node;
use adit_node::tdp::{ProviderConfig, TemplateProvider};
use adit_testkit::load::SERVER_PATIENCE;
use adit_transport::Identity;
use anyhow::{Context as _, anyhow};
use bitcoin::{Address, Network};
use tokio::time::{sleep, timeout};

use super::anyone;
use crate::cli::BenchServerArgs;
use crate::commands::bench::child::{self, Child};

/// The key pair of its sample configs.
const PUBLIC_KEY: &str = "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72";
const SECRET_KEY: &str = "mkDLTBBRxdBv998612qipDYoTK3YUrqLe8uWw7gu3iXbSrn2n";

/// Shares a minute that it is to expect of a channel. So many that every hash of a slow channel is a share; and its duplicate check
/// then remembers the most that it ever does, 2^20 shares of a channel under one tip, before it closes the channel.
const SHARES_PER_MINUTE: u32 = 1_000_000;

/// How often it is tried until it serves.
const TRY: Duration = Duration::from_millis(100);

/// The running pool, and the template provider that it gets its work from.
pub(super) struct ReferencePool {
    provider: TemplateProvider,
    child: Child,
    url: String,
}

impl ReferencePool {
    /// Starts it, and waits until it shakes hands.
    pub(super) async fn start(
        program: &Path,
        args: &BenchServerArgs,
        node: Node,
        identity: Arc<Identity>,
    ) -> anyhow::Result<Self> {
        let authority = identity.authority();
        let any_port = (Ipv4Addr::LOCALHOST, 0).into();
        let provider = TemplateProvider::start(ProviderConfig::new(any_port), node, identity);
        let provider = provider.await.context("cannot start the template provider")?;
        let listen = TcpListener::bind(any_port).and_then(|free| free.local_addr())?;
        let templates = (provider.address().to_string(), authority.to_string());
        let (config, log) = (args.data_dir.join("pool_sv2.toml"), args.data_dir.join("pool_sv2.log"));
        fs::create_dir_all(&args.data_dir)?;
        fs::write(&config, settings(&listen.to_string(), &templates, args.ack_batch))?;
        let mut command = child::command(args.server_cpu, program);
        command.arg("--config").arg(&config).env("RUST_LOG", "warn");
        let child = Child::start("the reference pool", command, log)?;
        let url = format!("stratum2+tcp://{listen}/{PUBLIC_KEY}");
        let mut pool = Self { provider, child, url };
        let in_time = timeout(SERVER_PATIENCE, pool.serving()).await;
        in_time.map_err(|_| anyhow!("the reference pool does not serve: {}", pool.child.last_words()))??;
        Ok(pool)
    }

    /// Where it listens.
    pub(super) fn url(&self) -> &str {
        &self.url
    }

    /// Its process.
    pub(super) const fn pid(&self) -> u32 {
        self.child.pid()
    }

    /// Ends it; whether it still ran.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        self.child.stop().await?;
        self.provider.shutdown().await;
        Ok(())
    }

    async fn serving(&mut self) -> anyhow::Result<()> {
        let url = self.url.parse::<Url>()?;
        while connect(&url.address(), url.authority()).await.is_err() {
            self.child.check().context("the reference pool does not start")?;
            sleep(TRY).await;
        }
        Ok(())
    }
}

/// Its config: as in its samples, but for the difficulty of shares.
fn settings(listen: &str, (templates, authority): &(String, String), ack_batch: u32) -> String {
    let payout = Address::p2wsh(&anyone(), Network::Regtest);
    format!(
        r#"listen_address = "{listen}"
authority_public_key = "{PUBLIC_KEY}"
authority_secret_key = "{SECRET_KEY}"
cert_validity_sec = 3600
coinbase_reward_script = "addr({payout})"
server_id = 1
pool_signature = "bench"
shares_per_minute = {SHARES_PER_MINUTE}.0
share_batch_size = {ack_batch}

[template_provider_type.Sv2Tp]
address = "{templates}"
public_key = "{authority}"
"#
    )
}
