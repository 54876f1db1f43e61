//! One row for each key of the config: its path, an example and what it means.

/// One key of the config.
pub(crate) struct Key {
    /// The dotted path.
    pub(crate) path: &'static str,
    /// What is true when it is left out, or `None` if it must be there or has no default.
    pub(crate) default: Option<&'static str>,
    /// A value, in TOML, that stands in the written config as an example.
    pub(crate) example: &'static str,
    /// What it means, in one line.
    pub(crate) meaning: &'static str,
}

/// The keys that a running pool takes anew when it is told to reload; all others need a restart.
pub(crate) const LIVE: &[&str] = &[
    "log",
    "pool.channels_per_connection",
    "pool.connections",
    "pool.connections_per_address",
    "pool.empty_jobs",
    "pool.payout_address",
    "pool.require_worker_names",
    "pool.server_key",
    "pool.shares_per_minute",
    "pool.signature",
    "pool.solo",
    "pool.successor",
];

/// Every key, in the order in which `adit init` writes them.
pub(crate) const KEYS: &[Key] = &[
    Key {
        path: "network",
        default: None,
        example: "\"regtest\"",
        meaning: "The chain to mine on: mainnet, testnet4, signet or regtest.",
    },
    Key {
        path: "data_dir",
        default: Some("\"adit-data\""),
        example: "\"adit-data\"",
        meaning: "Where the share log and found blocks are kept, relative to this file. Back it up.",
    },
    Key {
        path: "log",
        default: Some("\"info\""),
        example: "\"info,adit_pool=debug\"",
        meaning: "How much is logged: error, warn, info, debug or trace, also by crate. ADIT_LOG overrides it.",
    },
    Key {
        path: "node.url",
        default: None,
        example: "\"http://127.0.0.1:18443\"",
        meaning: "The JSON-RPC address of the Bitcoin node. For several, give each a table [[nodes]], the best first.",
    },
    Key {
        path: "node.cookie_file",
        default: None,
        example: "\"/home/bitcoin/.bitcoin/regtest/.cookie\"",
        meaning: "The node's cookie file. Leave it out where user and password are given.",
    },
    Key {
        path: "node.user",
        default: None,
        example: "\"adit\"",
        meaning: "The node's RPC user, where there is no cookie file.",
    },
    Key {
        path: "node.password",
        default: None,
        example: "\"secret\"",
        meaning: "That user's password; better given as ADIT__NODE__PASSWORD.",
    },
    Key {
        path: "node.zmq_hashblock",
        default: None,
        example: "\"tcp://127.0.0.1:28332\"",
        meaning: "Where the node tells of new blocks (its zmqpubhashblock), or off. On this machine it is found by itself.",
    },
    Key {
        path: "node.ipc",
        default: None,
        example: "\"/home/bitcoin/.bitcoin/regtest/node.sock\"",
        meaning: "The socket of a Bitcoin Core that runs with ipcbind=unix, relative to this file. Its RPC may stand beside it as url.",
    },
    Key {
        path: "node.tdp",
        default: None,
        example: "\"stratum2+tcp://127.0.0.1:8442/9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72\"",
        meaning: "A template provider with its key, in the place of a node's RPC. Give it a node with RPC beside it.",
    },
    Key {
        path: "pool.listen",
        default: Some("\"0.0.0.0:34254\""),
        example: "\"0.0.0.0:34254\"",
        meaning: "Where miners connect.",
    },
    Key {
        path: "pool.payout_address",
        default: None,
        example: "\"bcrt1q...\"",
        meaning: "Where block rewards go: an address of that network.",
    },
    Key {
        path: "pool.signature",
        default: Some("\"/adit/\""),
        example: "\"/adit/\"",
        meaning: "The pool's name, which every found block carries; a few dozen printable characters at most.",
    },
    Key {
        path: "pool.instance",
        default: Some("0"),
        example: "0",
        meaning: "The number of this server; servers of one pool must differ.",
    },
    Key {
        path: "pool.shares_per_minute",
        default: Some("10"),
        example: "10",
        meaning: "How often a channel is meant to submit a share, 1 to 600.",
    },
    Key {
        path: "pool.empty_jobs",
        default: Some("\"until-template\""),
        example: "\"until-template\"",
        meaning: "What to mine at a new tip: an empty block until the node has a template, or never an empty block.",
    },
    Key {
        path: "pool.require_worker_names",
        default: Some("false"),
        example: "false",
        meaning: "Whether to serve only proxies and firmware that name the worker of each share (extension 0x0002).",
    },
    Key {
        path: "pool.solo",
        default: Some("true"),
        example: "true",
        meaning: "Whether miners may ask for blocks that pay them (sri/solo/ADDRESS, sri/donate/PERCENT/ADDRESS).",
    },
    Key {
        path: "pool.successor",
        default: None,
        example: "\"pool2.example.org:34254\"",
        meaning: "Where miners are told to go when this server stops: HOST:PORT of another one with the same authority key.",
    },
    Key {
        path: "pool.connections",
        default: Some("16384"),
        example: "16384",
        meaning: "Most connections at once.",
    },
    Key {
        path: "pool.connections_per_address",
        default: Some("4096"),
        example: "4096",
        meaning: "Most connections from one address, at most pool.connections; a quarter of them if left out.",
    },
    Key {
        path: "pool.channels_per_connection",
        default: Some("256"),
        example: "256",
        meaning: "Most channels in one connection; a proxy that opens one for each machine behind it needs as many.",
    },
    Key {
        path: "pool.server_key",
        default: Some("\"keys/server.key\""),
        example: "\"keys/server.key\"",
        meaning: "The server's key and certificate (adit keys), relative to this file.",
    },
    Key {
        path: "pool.token_key",
        default: None,
        example: "\"keys/token.key\"",
        meaning: "The secret shared with a job declarator server elsewhere (`adit keys token`): miners may then mine jobs of their own.",
    },
    Key {
        path: "pool.api",
        default: Some("\"127.0.0.1:4080\""),
        example: "\"127.0.0.1:4080\"",
        meaning: "Where the pool's numbers are served over HTTP, for Prometheus and pollers of SRI's monitoring API; off for nowhere.",
    },
    Key {
        path: "pool.api_hosts",
        default: None,
        example: "[\"pool.example.org\"]",
        meaning: "Names on the internet under which the numbers may be asked for, as by a proxy in front; addresses and local names always may.",
    },
    Key {
        path: "template_provider.listen",
        default: Some("\"127.0.0.1:8442\""),
        example: "\"127.0.0.1:8442\"",
        meaning: "Where clients of adit template-provider connect: pools and job declarators.",
    },
    Key {
        path: "template_provider.server_key",
        default: Some("\"keys/server.key\""),
        example: "\"keys/server.key\"",
        meaning: "The template provider's key and certificate (adit keys), relative to this file.",
    },
    Key {
        path: "template_provider.coinbase_bytes",
        default: Some("1000"),
        example: "1000",
        meaning: "Room that templates leave for the coinbase outputs of their clients, in bytes, 0 to 100000.",
    },
    Key {
        path: "template_provider.empty_templates",
        default: Some("\"until-template\""),
        example: "\"until-template\"",
        meaning: "What to tell clients at a new tip: an empty template until the node has a full one, or never an empty one.",
    },
    Key {
        path: "jds.listen",
        default: None,
        example: "\"0.0.0.0:34264\"",
        meaning: "Where job declarator clients connect; with it, the pool serves them in its own process. `adit jds` alone has port 34264 by default.",
    },
    Key {
        path: "jds.payout_address",
        default: None,
        example: "\"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"",
        meaning: "The address that declared jobs must pay; the pool's if left out.",
    },
    Key {
        path: "jds.token_key",
        default: Some("\"keys/token.key\""),
        example: "\"keys/token.key\"",
        meaning: "The secret that seals tokens (`adit keys token`); the pool must have the same.",
    },
    Key {
        path: "jds.server_key",
        default: Some("\"keys/server.key\""),
        example: "\"keys/server.key\"",
        meaning: "The server's key and certificate (`adit keys`).",
    },
    Key {
        path: "jds.coinbase_only",
        default: Some("true"),
        example: "false",
        meaning: "Whether clients may keep their transactions to themselves.",
    },
    Key {
        path: "jds.least_pool_percent",
        default: Some("100"),
        example: "100",
        meaning: "The least part of a block's value that a declared job must pay to that address, in percent; a job that pays a part earns as much less.",
    },
    Key {
        path: "jdc.listen",
        default: Some("\"0.0.0.0:34254\""),
        example: "\"0.0.0.0:34254\"",
        meaning: "Where miners connect to the job declarator client.",
    },
    Key {
        path: "jdc.solo_address",
        default: None,
        example: "\"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080\"",
        meaning: "Who is paid while no upstream can be had: an address of yours.",
    },
    Key {
        path: "jdc.signature",
        default: Some("\"/adit/\""),
        example: "\"/my farm/\"",
        meaning: "A text in every coinbase, for all to see.",
    },
    Key {
        path: "jdc.shares_per_minute",
        default: Some("10"),
        example: "10",
        meaning: "How many shares a minute a channel is meant to submit, 1 to 600.",
    },
    Key {
        path: "jdc.least_fee_gain",
        default: Some("1000"),
        example: "1000",
        meaning: "By how many satoshis more a template must pay to be declared before the present job is a minute old.",
    },
    Key {
        path: "jdc.server_key",
        default: Some("\"keys/server.key\""),
        example: "\"keys/server.key\"",
        meaning: "The key and certificate that miners are shown (`adit keys`).",
    },
    Key {
        path: "translator.listen",
        default: Some("\"0.0.0.0:34255\""),
        example: "\"0.0.0.0:34255\"",
        meaning: "Where SV1 machines connect to the translator.",
    },
    Key {
        path: "translator.allow_public",
        default: Some("false"),
        example: "false",
        meaning: "Whether machines may come from public addresses. SV1 is neither encrypted nor authenticated, so others on the way can take their work.",
    },
    Key {
        path: "translator.mode",
        default: Some("\"aggregated\""),
        example: "\"per-machine\"",
        meaning: "Whether all machines share one channel of the upstream (aggregated) or each has its own (per-machine).",
    },
    Key {
        path: "translator.shares_per_minute",
        default: Some("10"),
        example: "10",
        meaning: "How many shares a minute a machine is meant to submit, 1 to 600.",
    },
    Key {
        path: "translator.terahashes",
        default: Some("\"1\""),
        example: "\"110.5\"",
        meaning: "What all machines do together, in terahashes a second. Pools are told so until the machines are there, so that they are not flooded at a start.",
    },
    Key {
        path: "translator.vardiff",
        default: Some("true"),
        example: "true",
        meaning: "Whether difficulties follow the speed of machines; if not, they stay what the device or its password says.",
    },
    Key {
        path: "translator.least_difficulty",
        default: None,
        example: "\"0.001\"",
        meaning: "No machine is given shares that are easier than this.",
    },
    Key {
        path: "translator.extranonce2_size",
        default: Some("8"),
        example: "8",
        meaning: "Bytes of the extranonce that a machine may roll, 2 to 16. Markets for hashrate want 7 or more. With an SV1 upstream 4, unless it is given.",
    },
    Key {
        path: "translator.version_mask",
        default: Some("\"1fffe000\""),
        example: "\"1fffffe0\"",
        meaning: "The version bits that machines may roll where the pool allows it, in hexadecimal.",
    },
    Key {
        path: "translator.keepalive_secs",
        default: Some("30"),
        example: "30",
        meaning: "After how many seconds without a new job machines are given the old one again, 5 to 600.",
    },
    Key {
        path: "translator.connections",
        default: Some("16384"),
        example: "16384",
        meaning: "How many machines are served at once.",
    },
    Key {
        path: "translator.connections_per_address",
        default: Some("16384"),
        example: "4096",
        meaning: "How many of them from one address; a farm behind a router is one address.",
    },
    Key {
        path: "translator.proxy_protocol",
        default: Some("false"),
        example: "false",
        meaning: "Whether machines come through a proxy that says first where they come from (PROXY protocol, version 1 or 2).",
    },
    Key {
        path: "translator.tls_listen",
        default: None,
        example: "\"0.0.0.0:34256\"",
        meaning: "Where SV1 machines connect that speak TLS, besides those that speak plain text.",
    },
    Key {
        path: "translator.tls_certificate",
        default: None,
        example: "\"keys/translator.crt\"",
        meaning: "The certificate that they are shown, in PEM form and relative to this file, with those that vouch for it behind it.",
    },
    Key {
        path: "translator.tls_key",
        default: None,
        example: "\"keys/translator.key\"",
        meaning: "Its private key, in PEM form. One that was renewed is read by a restart.",
    },
    Key {
        path: "translator.api",
        default: Some("\"127.0.0.1:4081\""),
        example: "\"127.0.0.1:4081\"",
        meaning: "Where numbers are served over HTTP, for SRI's sv2-ui and Prometheus; off for nowhere.",
    },
    Key {
        path: "translator.api_hosts",
        default: None,
        example: "[\"farm.example.org\"]",
        meaning: "Names on the internet under which the numbers may be asked for, as by a proxy in front; addresses and local names always may.",
    },
    Key {
        path: "translator.devices",
        default: None,
        example: "[{ user_agent = \"myminer\", terahashes = \"1.5\", least_difficulty = \"512\", coinbase_bytes = 2250, quirks = [] }]",
        meaning: "What you know better of devices than docs/translator.md; may also be tables [[translator.devices]].",
    },
    Key {
        path: "upstream.pool",
        default: None,
        example: "\"stratum2+tcp://pool.example.org:34254/9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72\"",
        meaning: "The pool that pays. For several, give each a table [[upstreams]], the best first. A translator also takes stratum+tcp://HOST:PORT, a pool that speaks SV1.",
    },
    Key {
        path: "upstream.jds",
        default: None,
        example: "\"stratum2+tcp://pool.example.org:34264/9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72\"",
        meaning: "Its job declarator server.",
    },
    Key {
        path: "upstream.user",
        default: None,
        example: "\"account.farm\"",
        meaning: "Whom the pool is to credit.",
    },
    Key {
        path: "upstream.mode",
        default: Some("\"full-template\""),
        example: "\"coinbase-only\"",
        meaning: "What the pool is shown: all transactions full-template, which helps blocks to spread, or the coinbase only coinbase-only.",
    },
    Key {
        path: "upstream.pays",
        default: None,
        example: "\"user\"",
        meaning: "For a translator: whom the pool's blocks must pay, or else the next upstream is used: an address, sri/solo/ADDRESS, sri/donate/PERCENT/ADDRESS, raw(SCRIPT), or user for what upstream.user says.",
    },
    Key {
        path: "upstream.least_payout_percent",
        default: None,
        example: "90",
        meaning: "How much of a block must go there at least, in percent: 90 for a bare address or script if left out, what the form says for sri/solo and sri/donate.",
    },
];

/// The keys of each of `translator.devices`, in which `adit init` writes them all.
pub(crate) const DEVICE_KEYS: &[Key] = &[
    Key {
        path: "translator.devices.user_agent",
        default: None,
        example: "\"myminer\"",
        meaning: "A part of what the device calls itself, in letters of either case. The first entry that fits is taken.",
    },
    Key {
        path: "translator.devices.terahashes",
        default: None,
        example: "\"1.5\"",
        meaning: "How fast it is, in terahashes a second: a first guess, until its shares tell.",
    },
    Key {
        path: "translator.devices.least_difficulty",
        default: None,
        example: "\"512\"",
        meaning: "It is given no shares that are easier than this.",
    },
    Key {
        path: "translator.devices.coinbase_bytes",
        default: None,
        example: "2250",
        meaning: "The longest coinbase that it can work with; one that is longer is shown beside the machine.",
    },
    Key {
        path: "translator.devices.quirks",
        default: None,
        example: "[\"powers-of-two\", \"answers-pings\"]",
        meaning: "All that is peculiar about it: powers-of-two (it rounds difficulties), answers-pings (it is asked whether it is there). [] is nothing.",
    },
];
