//! Settings: file, environment, flags, in rising order of precedence; every fault reported together.
//!
//! Owns names, defaults, bounds and the meaning of each setting. Settings are plain data: nothing here opens
//! anything. A setting that is unknown, malformed or out of bounds refuses the whole configuration, since a
//! program that runs on half of what it was told is worse than one that does not start.

mod parse;
mod rule;

pub(crate) use self::parse::duration;
pub use self::rule::Rule;

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use common::limits::MESSAGE_BYTES_MAX;

use crate::files;

/// What every environment variable starts with; the setting's name in capitals follows.
pub const ENV_PREFIX: &str = "HOSTLEDGER_COLLECTOR_";
/// Environment variables with that prefix that are no settings but arguments.
const NOT_SETTINGS: [&str; 2] = ["dir", "log"];
/// Longest configuration file read, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// What the collector was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// UDP address agents connect to.
    pub ingest_listen: SocketAddr,
    /// TCP address of tiles, API and metrics. Unauthenticated: anything but loopback needs a proxy before it.
    pub http_listen: SocketAddr,
    /// Requests a second that one HTTP client may make.
    pub http_requests_per_second: u32,
    /// A group is committed once it holds this many batches.
    pub commit_batches_max: usize,
    /// A group is committed once its batches hold this many bytes.
    pub commit_bytes_max: usize,
    /// Groups are committed at most this often, and at the latest this long after their first batch arrived.
    pub commit_delay: Duration,
    /// A checkpoint is begun this long after the one before, or later.
    pub publish_interval: Duration,
    /// A new nonce is given to agents this often.
    pub nonce_interval: Duration,
    /// Connections served at a time.
    pub connections_max: usize,
    /// Bytes of batches one connection may have under way.
    pub connection_bytes_max: usize,
    /// Bytes of batches all connections may have under way.
    pub inflight_bytes_max: usize,
    /// A connection that says nothing for this long is closed.
    pub idle_timeout: Duration,
    /// Bytes of evidence kept against hosts.
    pub evidence_bytes_max: u64,
    /// How long client certificates are valid.
    pub certificate_lifetime: Duration,
    /// The witness policy's file, relative to the directory, and what to do when too few witnesses sign;
    /// `None` asks no witness.
    pub witnesses: Option<(PathBuf, QuorumMissing)>,
    /// How long to wait for witnesses.
    pub witness_timeout: Duration,
    /// Witnesses are asked at most this often: where there are any, it takes the place of a shorter
    /// [`Self::publish_interval`].
    pub witness_interval: Duration,
    /// File with the authorities that count for HTTPS to others, relative to the directory; `None` takes the public ones.
    pub https_ca: Option<PathBuf>,
    /// Where checkpoints are anchored, and how often; `None` where nowhere.
    pub anchors: Option<AnchorTargets>,
    /// A host of which nothing came for this long is stated to be silent.
    pub silence_after: Duration,
    /// What a host's clock may be wrong by beyond all error bounds before it is stated.
    pub clock_tolerance: Duration,
    /// By which rules bodies are pruned; none removes nothing.
    pub retention: Vec<Rule>,
    /// How often the rules are applied.
    pub retention_interval: Duration,
}

/// Where checkpoints are anchored, and how often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AnchorTargets {
    /// The anchor file, relative to the directory.
    pub file: Option<PathBuf>,
    /// The time stamping authority's URL, and the file with the certificates its stamps must lead to, relative to
    /// the directory.
    pub tsa: Option<(String, PathBuf)>,
    /// The URL of a sink.
    pub http: Option<String>,
    /// Anchor once so many leaves were added.
    pub leaves: u64,
    /// Anchor once so long after the last time, if leaves were added.
    pub interval: Duration,
    /// How long an authority or a sink may take.
    pub timeout: Duration,
}

/// What to do with a checkpoint that too few witnesses cosigned. There is no default.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuorumMissing {
    /// Hold it back: no new checkpoint, no receipts, agents keep their spools.
    Closed,
    /// Publish it with the cosignatures there are.
    Open,
}

impl QuorumMissing {
    /// The word for it in settings and reports.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
        }
    }
}

/// One setting as people see it.
pub struct Setting {
    /// Its name in the file; with dashes it is the flag, in capitals the environment variable.
    pub name: &'static str,
    /// What holds when nobody says otherwise.
    pub default: &'static str,
    /// What it means.
    pub help: &'static str,
}

/// Every setting, in the order `init` writes them.
pub const SETTINGS: &[Setting] = &[
    setting("ingest_listen", "127.0.0.1:4433", "UDP address agents connect to"),
    setting(
        "http_listen",
        "127.0.0.1:4434",
        "TCP address of tiles, API and metrics (unauthenticated: keep it on loopback or behind a proxy)",
    ),
    setting(
        "http_requests_per_second",
        "1000",
        "requests a second that one HTTP client may make; then 429 with Retry-After",
    ),
    setting(
        "commit_batches_max",
        "256",
        "commit a group once it holds this many batches",
    ),
    setting(
        "commit_bytes_max",
        "4194304",
        "commit a group once it holds this many bytes",
    ),
    setting(
        "commit_delay",
        "2ms",
        "commit a group this long after the one before or after its first batch, whichever is earlier",
    ),
    setting(
        "publish_interval",
        "100ms",
        "write a checkpoint and its tiles to disk this long after the one before; agents need not wait for that",
    ),
    setting("nonce_interval", "10s", "give agents a new nonce this often"),
    setting("connections_max", "1024", "connections served at a time"),
    setting(
        "connection_bytes_max",
        "4194304",
        "bytes one connection may have under way",
    ),
    setting(
        "inflight_bytes_max",
        "67108864",
        "bytes all connections may have under way",
    ),
    setting(
        "idle_timeout",
        "30s",
        "close a connection that says nothing for this long",
    ),
    setting(
        "evidence_bytes_max",
        "67108864",
        "bytes of evidence kept against hosts",
    ),
    setting(
        "certificate_lifetime",
        "90d",
        "how long certificates of agents are valid",
    ),
    setting(
        "witness_policy",
        "",
        "file with the witnesses to ask before a checkpoint is published, C2SP tlog-policy; empty asks nobody",
    ),
    setting(
        "witness_quorum_missing",
        "",
        "when too few witnesses sign: closed (publish nothing) or open (publish all the same); must be said \
         where there is a policy",
    ),
    setting("witness_timeout", "5s", "how long to wait for witnesses"),
    setting(
        "witness_interval",
        "250ms",
        "ask witnesses at most this often, and publish no more often than that where there are any",
    ),
    setting(
        "https_ca",
        "",
        "PEM file with the certificate authorities that count under https:// of witnesses, anchor_tsa and anchor_http, in \
         the place of the public ones; empty takes those",
    ),
    setting(
        "anchor_file",
        "",
        "file, best on another disk, that signed checkpoints are appended to; empty for none",
    ),
    setting(
        "anchor_tsa",
        "",
        "URL of an RFC 3161 time stamping authority that stamps checkpoints; its stamps go into anchor_file",
    ),
    setting(
        "anchor_tsa_ca",
        "",
        "PEM file with the certificate authorities that stamps must lead to; must be said where there is anchor_tsa",
    ),
    setting(
        "anchor_http",
        "",
        "URL that signed checkpoints are posted to; empty for none",
    ),
    setting(
        "anchor_leaves",
        "100000",
        "anchor a checkpoint once this many leaves were added since the last one",
    ),
    setting(
        "anchor_interval",
        "1h",
        "anchor a checkpoint this long after the last one, if leaves were added",
    ),
    setting(
        "anchor_timeout",
        "10s",
        "how long a time stamping authority or a sink may take",
    ),
    setting(
        "silence_after",
        "10s",
        "state that a host is silent after this long; twice the agents' heartbeat",
    ),
    setting(
        "clock_tolerance",
        "5s",
        "state a clock anomaly beyond all error bounds and this",
    ),
    setting(
        "retention",
        "",
        "rules by which bodies are pruned, with ; between them: \"older_than=90d; host=ID older_than=7d keep_batches=1000; \
         bytes_max=1000000000000\"; a body goes where all criteria of any rule let it go; empty removes nothing",
    ),
    setting("retention_interval", "1h", "apply these rules this often"),
];

const fn setting(name: &'static str, default: &'static str, help: &'static str) -> Setting {
    Setting { name, default, help }
}

/// Where a value came from, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// Nobody said otherwise.
    Default,
    /// The configuration file.
    File,
    /// An environment variable.
    Environment,
    /// A flag.
    Flag,
}

/// One thing wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Which setting, or the file.
    pub what: String,
    /// What is wrong with it.
    pub why: String,
}

/// All that is wrong with the configuration. The operator is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct ConfigError(pub Vec<Fault>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "configuration has {} fault(s):", self.0.len())?;
        for fault in &self.0 {
            write!(f, "\n  {}: {}", fault.what, fault.why)?;
        }
        Ok(())
    }
}

/// Values as they were written, by setting.
pub type Raw = BTreeMap<String, String>;

impl Config {
    /// Reads `file` (if it exists) and lays environment and flags over it.
    pub fn load(
        file: &Path,
        environment: impl Iterator<Item = (String, String)>,
        flags: &Raw,
    ) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let mut values: BTreeMap<&str, (String, Origin)> = SETTINGS
            .iter()
            .map(|s| (s.name, (s.default.to_owned(), Origin::Default)))
            .collect();
        let environment = environment
            .filter_map(|(key, value)| Some((key.strip_prefix(ENV_PREFIX)?.to_lowercase(), value)))
            .filter(|(name, _)| !NOT_SETTINGS.contains(&name.as_str()));
        let layers = [
            (Origin::File, read_file(file, &mut faults)),
            (Origin::Environment, environment.collect()),
            (Origin::Flag, flags.clone()),
        ];
        for (origin, layer) in layers {
            for (name, value) in layer {
                match SETTINGS.iter().find(|s| s.name == name) {
                    Some(known) => {
                        values.insert(known.name, (value, origin.clone()));
                    }
                    None => faults.push(Fault {
                        what: describe(&name, &origin, file),
                        why: "is no setting of this program".to_owned(),
                    }),
                }
            }
        }
        let mut read = parse::Values::new(&values, |name, origin| describe(name, origin, file));
        let config = Self {
            ingest_listen: read.address("ingest_listen"),
            http_listen: read.address("http_listen"),
            http_requests_per_second: u32::try_from(read.count("http_requests_per_second", 1..=1_000_000))
                .unwrap_or(u32::MAX),
            commit_batches_max: read.count("commit_batches_max", 1..=4096),
            commit_bytes_max: read.count("commit_bytes_max", 1..=64 << 20),
            commit_delay: read.duration("commit_delay", Duration::ZERO..=Duration::from_secs(10)),
            publish_interval: read.duration(
                "publish_interval",
                Duration::from_millis(1)..=Duration::from_secs(60),
            ),
            nonce_interval: read.duration(
                "nonce_interval",
                Duration::from_millis(100)..=Duration::from_secs(3600),
            ),
            connections_max: read.count("connections_max", 1..=65_536),
            connection_bytes_max: read.count("connection_bytes_max", MESSAGE_BYTES_MAX..=256 << 20),
            inflight_bytes_max: read.count("inflight_bytes_max", MESSAGE_BYTES_MAX..=16 << 30),
            idle_timeout: read.duration("idle_timeout", Duration::from_secs(1)..=Duration::from_secs(600)),
            evidence_bytes_max: read.count("evidence_bytes_max", 0..=1 << 40) as u64,
            certificate_lifetime: read.duration(
                "certificate_lifetime",
                Duration::from_secs(60)..=Duration::from_secs(3650 * 86_400),
            ),
            witnesses: read.witnesses("witness_policy", "witness_quorum_missing"),
            witness_timeout: read.duration(
                "witness_timeout",
                Duration::from_millis(10)..=Duration::from_secs(60),
            ),
            witness_interval: read.duration(
                "witness_interval",
                Duration::from_millis(1)..=Duration::from_secs(3600),
            ),
            https_ca: read.path("https_ca"),
            anchors: read.anchors(),
            silence_after: read.duration(
                "silence_after",
                Duration::from_millis(100)..=Duration::from_secs(30 * 86_400),
            ),
            clock_tolerance: read.duration("clock_tolerance", Duration::ZERO..=Duration::from_secs(86_400)),
            retention: read.rules("retention"),
            retention_interval: read.duration(
                "retention_interval",
                Duration::from_millis(100)..=Duration::from_secs(30 * 86_400),
            ),
        };
        faults.extend(read.into_faults());
        if config.connection_bytes_max > config.inflight_bytes_max {
            faults.push(Fault {
                what: "connection_bytes_max".to_owned(),
                why: format!(
                    "{} is more than inflight_bytes_max, {}",
                    config.connection_bytes_max, config.inflight_bytes_max
                ),
            });
        }
        if faults.is_empty() {
            Ok(config)
        } else {
            Err(ConfigError(faults))
        }
    }
}

/// The commented file that `init` writes: every setting with its default, those of `chosen` in force.
#[must_use]
pub fn template(chosen: &Raw) -> String {
    let mut text = String::from(
        "# Settings of hostledger-collector. Flags override environment variables\n\
         # (HOSTLEDGER_COLLECTOR_<NAME>), which override this file. Lines with # show defaults.\n",
    );
    for Setting { name, default, help } in SETTINGS {
        let line = match chosen.get(*name) {
            Some(value) => format!("{name} = {value:?}"),
            None => format!("# {name} = {default:?}"),
        };
        text.push_str(&format!("\n# {help}\n{line}\n"));
    }
    text
}

fn describe(name: &str, origin: &Origin, file: &Path) -> String {
    match origin {
        Origin::Default => format!("{name} (default)"),
        Origin::File => format!("{name} ({})", file.display()),
        Origin::Environment => format!("{ENV_PREFIX}{} (environment)", name.to_uppercase()),
        Origin::Flag => format!("--{}", name.replace('_', "-")),
    }
}

/// The file's values as text: a number and the same number in quotes mean the same.
fn read_file(file: &Path, faults: &mut Vec<Fault>) -> Raw {
    let mut fault = |why: String| {
        faults.push(Fault {
            what: file.display().to_string(),
            why,
        });
    };
    let text = match files::read_text(file, FILE_BYTES_MAX) {
        Ok(text) => text,
        Err(error) if error.cause.kind() == std::io::ErrorKind::NotFound => return Raw::new(),
        Err(error) => {
            fault(error.cause.to_string());
            return Raw::new();
        }
    };
    let table: toml::Table = match text.parse() {
        Ok(table) => table,
        Err(error) => {
            fault(error.to_string().trim_end().replace('\n', "\n    "));
            return Raw::new();
        }
    };
    table
        .into_iter()
        .map(|(name, value)| match value {
            toml::Value::String(text) => (name, text),
            other => (name, other.to_string()),
        })
        .collect()
}

#[cfg(test)]
mod tests;
