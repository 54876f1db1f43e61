//! The command line: what a user may ask of the program.

use core::num::NonZeroU32;
use std::net::SocketAddr;
use std::path::PathBuf;

use adit_testkit::flood;
use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};

/// A Stratum V2 mining pool in one program.
#[derive(Debug, Parser)]
#[command(name = "adit", version, about, max_term_width = 110, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

const AFTER_HELP: &str = "First steps:
  adit demo                         see it work: pool, test chain and miner in one process
  adit init --payout-address ADDR   write adit.toml and keys
  adit check                        find every mistake in them, and try the node
  adit pool                         run the pool

Logs go to standard error; choose how much with ADIT_LOG (error, warn, info, debug, trace).";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run a pool, a test chain and a miner in this process; nothing to configure
    Demo(DemoArgs),
    /// Write adit.toml and keys for a network, a node and a payout address
    Init(InitArgs),
    /// Read the config, report every mistake at once, and try the keys and the node
    Check(ConfigArgs),
    /// Run the pool
    Pool(ConfigArgs),
    /// Serve the node's templates to pools and job declarators that speak the template distribution protocol
    TemplateProvider(ConfigArgs),
    /// Let miners with nodes of their own declare jobs to a pool: the job declarator server alone, on a host of its own
    Jds(ConfigArgs),
    /// Serve your miners with jobs from your own node, which a pool pays for
    Jdc(ConfigArgs),
    /// Let SV1 machines work for Stratum V2 pools
    Translator(TranslatorArgs),
    /// Mine with this machine's processor on a Stratum V2 pool
    Miner(MinerArgs),
    /// Make, sign and show keys
    Keys(KeysArgs),
    /// Load a Stratum V2 pool with connections and shares, and measure it
    Bench(BenchArgs),
    /// The server that `bench --serve` starts
    #[command(hide = true)]
    BenchServer(BenchServerArgs),
    /// The attackers that `bench --flood` starts
    #[command(hide = true)]
    BenchFlood(BenchFloodArgs),
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Stop after this many blocks were accepted; without it, run until Ctrl-C
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) blocks: Option<u64>,
    /// Hashing threads; all processors if left out
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// Give up after this many seconds without reaching --blocks
    #[arg(long, value_name = "SECONDS", default_value_t = 300)]
    pub(crate) timeout: u64,
    /// Where the pool listens
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:0")]
    pub(crate) listen: SocketAddr,
}

#[derive(Debug, Args)]
pub(crate) struct ConfigArgs {
    /// The config file
    #[arg(short, long, value_name = "FILE", default_value = "adit.toml", env = "ADIT_CONFIG")]
    pub(crate) config: PathBuf,
}

#[derive(Debug, Args)]
#[command(after_help = TRANSLATOR_HELP)]
pub(crate) struct TranslatorArgs {
    /// The config file, unless the pool is given here; what ADIT_CONFIG names, or else adit.toml
    // The variable is not read here, because it would clash with --pool as if it had been written on the command line.
    #[arg(short, long, value_name = "FILE", conflicts_with_all = ["pool", "user", "listen", "mode", "api"])]
    pub(crate) config: Option<PathBuf>,
    /// The pool: stratum2+tcp://HOST:PORT/AUTHORITY_KEY; give it more than once for several, the best first
    #[arg(long, value_name = "URL", requires = "user")]
    pub(crate) pool: Vec<String>,
    /// Whom the pool is to credit, such as ADDRESS.farm
    #[arg(long, requires = "pool")]
    pub(crate) user: Option<String>,
    /// Where machines connect
    #[arg(long, value_name = "HOST:PORT", requires = "pool")]
    pub(crate) listen: Option<String>,
    /// One channel for all machines (aggregated) or one for each (per-machine)
    #[arg(long, value_name = "MODE", requires = "pool")]
    pub(crate) mode: Option<String>,
    /// Where numbers are served over HTTP, or off
    #[arg(long, value_name = "HOST:PORT", requires = "pool")]
    pub(crate) api: Option<String>,
    /// Show machines and upstreams live on this terminal; logs go to adit-translator.log then
    #[arg(long)]
    pub(crate) tui: bool,
}

const TRANSLATOR_HELP: &str = "Without a config file:
  adit translator --pool stratum2+tcp://pool.example.org:34254/KEY --user ADDRESS.farm
Then point the machines at stratum+tcp://THIS-HOST:34255, with any user name and password.";

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The folder that gets adit.toml and keys/
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) dir: PathBuf,
    /// The chain to mine on
    #[arg(long, value_enum, default_value_t = Chain::Mainnet)]
    pub(crate) network: Chain,
    /// Where block rewards go: an address of that network
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) payout_address: String,
    /// The node's JSON-RPC; the network's default port on this machine if left out
    #[arg(long, value_name = "URL")]
    pub(crate) node_url: Option<String>,
    /// The node's cookie file; the network's default place if left out
    #[arg(long, value_name = "FILE", conflicts_with_all = ["node_user", "node_password"])]
    pub(crate) node_cookie: Option<PathBuf>,
    /// The node's RPC user, where it has no cookie file; the password comes with it
    #[arg(long, value_name = "NAME")]
    pub(crate) node_user: Option<String>,
    /// That user's password; what ADIT_NODE_PASSWORD says if left out
    // The variable is not read here, because without --node-user it would clash as if it had been written on the command line.
    #[arg(long, value_name = "PASSWORD", requires = "node_user")]
    pub(crate) node_password: Option<String>,
    /// Replace an adit.toml that is already there (keys are never replaced)
    #[arg(long)]
    pub(crate) force: bool,
}

/// A chain by the name that the config uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Chain {
    Mainnet,
    Testnet4,
    Signet,
    Regtest,
}

#[derive(Debug, Args)]
pub(crate) struct MinerArgs {
    /// The pool: stratum2+tcp://HOST:PORT/AUTHORITY_KEY
    #[arg(long)]
    pub(crate) url: String,
    /// Whom the pool is to credit, such as ADDRESS.worker
    #[arg(long)]
    pub(crate) user: String,
    /// Hashing threads; all processors if left out
    #[arg(long, value_name = "N")]
    pub(crate) threads: Option<usize>,
    /// The kind of channel to open
    #[arg(long, value_enum, default_value_t = ChannelKind::Extended)]
    pub(crate) channel: ChannelKind,
    /// Connect although the URL carries no authority key, so that anyone could be at the other end
    #[arg(long)]
    pub(crate) insecure: bool,
}

/// How those who are measured with hear of tips and jobs, and of their shares.
#[derive(Debug, Args)]
pub(crate) struct NewsArgs {
    /// Have machines acknowledge news late: over loopback, what a machine acknowledges at once is work for the call that sends
    #[arg(long)]
    pub(crate) late_acks: bool,
    /// Keep the generator from sleeping while news and answers are under way: over loopback, to wake it is work for the call that sends. It needs a processor of its own
    #[arg(long)]
    pub(crate) awake: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("pool").required(true)), args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(crate) struct BenchArgs {
    #[command(subcommand)]
    pub(crate) command: Option<BenchCommand>,
    /// The pool: stratum2+tcp://HOST:PORT/AUTHORITY_KEY
    #[arg(long, group = "pool")]
    pub(crate) url: Option<String>,
    /// Start a pool of this program on a test chain, with shares that cost nothing, and measure that
    #[arg(long, group = "pool")]
    pub(crate) serve: bool,
    /// Start the reference implementation's pool (its program pool_sv2) on such a chain, and measure that
    #[arg(long, value_name = "POOL_SV2", group = "pool")]
    pub(crate) sri: Option<PathBuf>,
    /// Let a node on regtest make the templates and blocks instead of a test chain: its JSON-RPC; only with --rate 0
    #[arg(long, value_name = "URL", conflicts_with = "url", requires = "node_cookie")]
    pub(crate) node_url: Option<String>,
    /// That node's cookie file
    #[arg(long, value_name = "FILE", requires = "node_url")]
    pub(crate) node_cookie: Option<PathBuf>,
    /// Keep the pool that was started to one processor; needs `taskset`
    #[arg(long, value_name = "CPU", conflicts_with = "url")]
    pub(crate) server_cpu: Option<u16>,
    /// Where the pool that was started keeps its data; a folder that is removed afterwards if left out
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    pub(crate) data_dir: Option<PathBuf>,
    /// The process number of the pool at --url, if it is on this machine
    #[arg(long, requires = "url")]
    pub(crate) pid: Option<u32>,
    /// Connections
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) connections: u32,
    /// Channels on each connection
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) channels: u32,
    /// The kind of channel
    #[arg(long, value_enum, default_value_t = ChannelKind::Extended)]
    pub(crate) kind: ChannelKind,
    /// Shares a second from all connections together: a number, 0 for none, or `max`
    #[arg(long, default_value = "max", value_parser = rate)]
    pub(crate) rate: Rate,
    /// How long to submit shares
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,
    /// Shares of a channel that may wait for an answer at --rate max; some 16 384 in all if left out
    #[arg(long, value_name = "N")]
    pub(crate) window: Option<u32>,
    /// Shares of a channel that the pool gathers for one acknowledgement, without a timer; 10 with --sri, else 1, if left out
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) ack_batch: Option<u32>,
    /// New blocks on the test chain meanwhile
    #[arg(long, value_name = "N", default_value_t = 0, conflicts_with = "url")]
    pub(crate) tips: u32,
    #[command(flatten)]
    pub(crate) news: NewsArgs,
    /// Others that connect, open their channels and leave, each second meanwhile
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) reconnects: u32,
    /// What attackers with one address do meanwhile, by turns with quiet times; the pool then has the limits of a real one. One of handshakes,
    /// slow-handshakes, length-claims, unread, worthless-shares, repeated-shares, channel-requests, channel-turnover, declarations (to a job declarator server in the pool's process)
    #[arg(long, value_name = "KIND", requires = "serve")]
    pub(crate) flood: Option<flood::Kind>,
    /// How often everybody connects; all but the last time they leave at once
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) generations: u32,
    /// Whom the pool is to credit
    #[arg(long, default_value = "bench.load")]
    pub(crate) user: String,
    /// The speed that each channel claims, in hashes a second
    #[arg(long, value_name = "HASHES", default_value_t = 1)]
    pub(crate) hashrate: u64,
    /// Connect although the URL carries no authority key, so that anyone could be at the other end
    #[arg(long)]
    pub(crate) insecure: bool,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Measure a translator with many SV1 machines below it and a scripted SV2 pool above
    Sv1(BenchSv1Args),
}

#[derive(Debug, Args)]
pub(crate) struct BenchSv1Args {
    /// Measure the reference implementation's translator (its program translator_sv2), and not that of this program
    #[arg(long, value_name = "TRANSLATOR_SV2")]
    pub(crate) translator: Option<PathBuf>,
    /// Give each machine a channel of its own; otherwise one channel serves all
    #[arg(long)]
    pub(crate) per_machine: bool,
    /// Keep the translator to one processor; needs `taskset`
    #[arg(long, value_name = "CPU")]
    pub(crate) server_cpu: Option<u16>,
    /// Machines, all on this one, each with an address of its own
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    pub(crate) machines: u32,
    /// New jobs on the same tip, to be timed to the machines
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) jobs: u32,
    /// New tips, to be timed likewise
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=10_000))]
    pub(crate) tips: u32,
    #[command(flatten)]
    pub(crate) news: NewsArgs,
    /// Shares a second from all machines together afterwards; 0 for none
    #[arg(long, default_value_t = 2_000)]
    pub(crate) rate: u32,
    /// How long to submit shares
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    pub(crate) seconds: u64,
    /// Blocks to mine through, for so many seconds each and on twenty jobs, so that memory is that of busy machines; 0 to stay on the last job
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) blocks: u32,
    /// Of how many shares one is good enough for the pool
    #[arg(long, value_name = "N", default_value_t = NonZeroU32::MIN)]
    pub(crate) one_up_in: NonZeroU32,
    /// Print JSON instead of a table
    #[arg(long)]
    pub(crate) json: bool,
}

/// How many shares a second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rate {
    PerSecond(u32),
    Max,
}

fn rate(text: &str) -> Result<Rate, String> {
    match text {
        "max" => Ok(Rate::Max),
        number => number.parse().map(Rate::PerSecond).map_err(|_| "write a number, or `max`".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct BenchServerArgs {
    /// Where to keep shares and blocks
    #[arg(long)]
    pub(crate) data_dir: PathBuf,
    /// Whether blocks are easy enough to be found on order
    #[arg(long)]
    pub(crate) easy_blocks: bool,
    /// How often there is a new job on the same tip, in milliseconds; never if left out
    #[arg(long)]
    pub(crate) refresh: Option<u64>,
    /// Whether the pool has the limits of a real one, and not as few as a load run wants
    #[arg(long)]
    pub(crate) guarded: bool,
    /// Where to listen for job declarator clients, too; which job can be declared is then in declarable.json beside the data
    #[arg(long)]
    pub(crate) declarator: Option<SocketAddr>,
    /// A node on regtest, instead of a test chain
    #[arg(long, requires = "node_cookie")]
    pub(crate) node_url: Option<String>,
    /// Its cookie file
    #[arg(long, requires = "node_url")]
    pub(crate) node_cookie: Option<PathBuf>,
    /// The reference implementation's pool, to serve instead of ours
    #[arg(long)]
    pub(crate) sri: Option<PathBuf>,
    /// The processor that it is kept to
    #[arg(long, requires = "sri")]
    pub(crate) server_cpu: Option<u16>,
    /// Shares of a channel that it gathers for one acknowledgement
    #[arg(long, requires = "sri", default_value_t = 10)]
    pub(crate) ack_batch: u32,
}

#[derive(Debug, Args)]
pub(crate) struct BenchFloodArgs {
    /// Whom to flood: stratum2+tcp://IP:PORT/AUTHORITY_KEY
    #[arg(long)]
    pub(crate) url: String,
    /// How
    #[arg(long)]
    pub(crate) kind: flood::Kind,
    /// The file that says which job can be declared there
    #[arg(long)]
    pub(crate) job: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ChannelKind {
    Standard,
    Extended,
}

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make an authority key: the pool's name that miners pin; keep it off the server
    Authority {
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE", default_value = "keys/authority.key")]
        out: PathBuf,
    },
    /// Make a server key with a certificate signed by the authority key
    Server {
        /// The authority key that signs
        #[arg(long, value_name = "FILE", default_value = "keys/authority.key")]
        authority: PathBuf,
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE", default_value = "keys/server.key")]
        out: PathBuf,
        /// How long the certificate is good for, in days
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Replace a server key by a new one, signed by the same authority; the old one is kept beside it
    Rotate {
        /// The authority key that signs
        #[arg(long, value_name = "FILE", default_value = "keys/authority.key")]
        authority: PathBuf,
        /// The server key to replace
        #[arg(long, value_name = "FILE", default_value = "keys/server.key")]
        server: PathBuf,
        /// How long the certificate is good for, in days
        #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
        days: u32,
    },
    /// Make the secret that a pool and its job declarator server share
    Token {
        /// The file to write; it must not exist
        #[arg(long, value_name = "FILE", default_value = "keys/token.key")]
        out: PathBuf,
    },
    /// Show what a key file holds, secrets left out
    Show {
        /// The key file
        file: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, Parser as _};

    use super::Cli;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_bench_of_machines_needs_no_pool_and_takes_none() {
        let parse = |words: &str| Cli::try_parse_from(words.split(' '));
        parse("adit bench sv1 --machines 5 --json").unwrap();
        parse("adit bench --serve --rate 0").unwrap();
        parse("adit bench --rate 0").unwrap_err();
        parse("adit bench --serve sv1").unwrap_err();
    }
}
