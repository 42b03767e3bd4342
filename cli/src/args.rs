//! The command line.

use std::path::PathBuf;

use clap::{Parser, Subcommand, ValueEnum};

/// Where a collector listens that was not told otherwise.
pub const COLLECTOR_DEFAULT: &str = "http://127.0.0.1:4434";

/// What exactly was the state of this host at time T, and the proof of it.
#[derive(Debug, Parser)]
#[command(
    name = "hostledger",
    version,
    after_help = "Times: RFC 3339 (2026-01-02T03:04:05.678Z), a date (midnight UTC), `now`, `5m ago`.\n\
                  Exit codes: 0 fine, 1 failure, 2 usage, 3 unknown (gap), 4 tampered, 5 too few witnesses cosigned,\n\
                  78 bad configuration."
)]
pub struct Args {
    /// The collector's API
    #[arg(long, global = true, env = "HOSTLEDGER_COLLECTOR", default_value = COLLECTOR_DEFAULT, value_name = "URL")]
    pub collector: String,
    /// How to show answers
    #[arg(short, long, global = true, value_enum, default_value_t = Output::Table)]
    pub output: Output,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// How answers are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// Aligned columns
    Table,
    /// More columns, and reasons where something is unknown
    Wide,
    /// The API's answer
    Json,
    /// One JSON object a line
    Jsonl,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the ledger and its hosts
    Status(HostArgs),
    /// Show the processes that ran at an instant
    Ps(PsArgs),
    /// Show the TCP connections open at an instant, or during an interval
    Flows(FlowsArgs),
    /// Show who was listening at an instant
    Listeners(ListArgs),
    /// Show one entity at an instant
    Get(GetArgs),
    /// Show every event about one entity
    Timeline(TimelineArgs),
    /// Show what the collector states of its hosts: enrolled, silent, back, rolled back, equivocating
    Statements(StatementsArgs),
    /// Check every byte of a ledger directory, and every chain in it
    Verify(VerifyArgs),
    /// Write the proof of one event or statement, or check one offline
    Proof(ProofArgs),
    /// Write everything an auditor needs into one file, or check such a file offline
    Audit(AuditArgs),
    /// Say whether two checkpoints belong to one history, and prove it where they do not
    Compare(CompareArgs),
    /// Hold a ledger against the checkpoints of it that were anchored elsewhere
    Anchor(AnchorArgs),
    /// Check that questions can be answered
    Doctor,
}

/// Which hosts.
#[derive(Debug, Clone, clap::Args)]
pub struct HostArgs {
    /// Host name, id or beginning of an id; repeat for several
    #[arg(long, value_name = "HOST")]
    pub host: Vec<String>,
}

/// Which entities, when.
#[derive(Debug, Clone, clap::Args)]
pub struct ListArgs {
    /// Hosts
    #[command(flatten)]
    pub hosts: HostArgs,
    /// The instant; each host's latest where absent
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Process id (of the owner, for sockets); repeat for several
    #[arg(long)]
    pub pid: Vec<u32>,
    /// Path of the owner's executable, or its last component; repeat for several
    #[arg(long)]
    pub exe: Vec<String>,
    /// Port, local or remote; repeat for several
    #[arg(long)]
    pub port: Vec<u16>,
}

/// Arguments of `ps`.
#[derive(Debug, Clone, clap::Args)]
pub struct PsArgs {
    /// Hosts
    #[command(flatten)]
    pub hosts: HostArgs,
    /// The instant; each host's latest where absent
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
    /// Process id; repeat for several
    #[arg(long)]
    pub pid: Vec<u32>,
    /// Path of the executable, or its last component; repeat for several
    #[arg(long)]
    pub exe: Vec<String>,
    /// Draw who started whom
    #[arg(long)]
    pub tree: bool,
}

/// Arguments of `flows`.
#[derive(Debug, Clone, clap::Args)]
pub struct FlowsArgs {
    /// What `listeners` takes as well
    #[command(flatten)]
    pub list: ListArgs,
    /// Beginning of an interval
    #[arg(long, value_name = "TIME", conflicts_with = "at")]
    pub since: Option<String>,
    /// End of an interval; now where absent
    #[arg(long, value_name = "TIME", requires = "since")]
    pub until: Option<String>,
}

/// Arguments of `get`.
#[derive(Debug, Clone, clap::Args)]
pub struct GetArgs {
    /// As `-o wide` shows it, e.g. `process:<boot>/<pid>/<start>`; or `process:<pid>`
    pub entity: String,
    /// Hosts
    #[command(flatten)]
    pub hosts: HostArgs,
    /// The instant; each host's latest where absent
    #[arg(long, value_name = "TIME")]
    pub at: Option<String>,
}

/// Arguments of `timeline`.
#[derive(Debug, Clone, clap::Args)]
pub struct TimelineArgs {
    /// As `-o wide` shows it
    pub entity: String,
    /// Host name, id or beginning of an id
    #[arg(long, value_name = "HOST")]
    pub host: String,
}

/// Arguments of `statements`.
#[derive(Debug, Clone, clap::Args)]
pub struct StatementsArgs {
    /// Hosts
    #[command(flatten)]
    pub hosts: HostArgs,
    /// `host_enrolled`, `host_ended`, `silent`, `back`, `rollback`, `equivocation`, `clock_anomaly`, `prune` or
    /// `key_change`; repeat for several
    #[arg(long)]
    pub kind: Vec<String>,
    /// Made at this instant or later, by the collector's clock
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Made at this instant or earlier
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

/// Arguments of `verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct VerifyArgs {
    /// The ledger's directory; by default the one you stand in
    #[arg(long, value_name = "DIR", env = "HOSTLEDGER_LEDGER", default_value = ".")]
    pub ledger: PathBuf,
    /// File with the verifier key to trust, or with a key history to trust; without it the key beside the ledger is
    /// believed
    #[arg(long, value_name = "FILE")]
    pub vkey: Option<PathBuf>,
    /// File with the history of the ledger's keys (`ledger.keys`), believed as far as it follows from --vkey
    #[arg(long, value_name = "FILE", requires = "vkey")]
    pub keys: Option<PathBuf>,
    /// File with a checkpoint of this ledger seen elsewhere (an agent's `state/checkpoint`, a receipt, a proof); repeat
    /// for several. Without one an older copy of the whole directory cannot be told from the ledger
    #[arg(long, value_name = "FILE")]
    pub seen: Vec<PathBuf>,
    /// Who must have cosigned the checkpoint
    #[command(flatten)]
    pub witnesses: WitnessArgs,
}

/// Which witnesses must have cosigned a checkpoint.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct WitnessArgs {
    /// File with the witnesses that must have cosigned (C2SP tlog-policy)
    #[arg(long, value_name = "FILE", conflicts_with_all = ["witness", "quorum"])]
    pub witness_policy: Option<PathBuf>,
    /// Verifier key of a witness that must have cosigned the checkpoint; repeat for several
    #[arg(long, value_name = "KEY")]
    pub witness: Vec<String>,
    /// How many of the witnesses are enough; all where absent
    #[arg(long, value_name = "K", requires = "witness")]
    pub quorum: Option<usize>,
}

impl WitnessArgs {
    /// Whether none is demanded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.witness_policy.is_none() && self.witness.is_empty()
    }
}

/// Arguments of `compare`.
#[derive(Debug, Clone, clap::Args)]
pub struct CompareArgs {
    /// A file that ends in a checkpoint (a bare one, a receipt, a proof, an agent's or a witness's), or the URL of a
    /// checkpoint, a log or a witness
    pub first: String,
    /// Another
    pub second: String,
    /// File with the ledger's verifier key, or with its key history
    #[arg(long, value_name = "FILE")]
    pub vkey: PathBuf,
    /// File with the history of the ledger's keys (`ledger.keys`), believed as far as it follows from --vkey
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// The ledger that the checkpoint with more leaves came from, its directory or URL; needed where sizes differ and
    /// that checkpoint was not itself read from its log's URL
    #[arg(long, value_name = "DIR|URL")]
    pub ledger: Option<String>,
    /// PEM file with the certificate authorities that count under https://, in the place of the public ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Where to write the proof of a split view
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
}

/// Arguments of `proof`.
#[derive(Debug, Clone, clap::Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ProofArgs {
    /// `<host>:<event>`, with the number that `-o wide` shows as EVENT; or `statement:<number>`
    #[arg(required = true)]
    pub event: Option<String>,
    /// Where to write the proof; `-` for the terminal
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// What else
    #[command(subcommand)]
    pub command: Option<ProofCommand>,
}

/// What else `proof` does.
#[derive(Debug, Clone, Subcommand)]
pub enum ProofCommand {
    /// Check a proof file with no network
    Check {
        /// The proof file
        file: PathBuf,
        /// File with the ledger's verifier key, or with its key history
        #[arg(long, value_name = "FILE")]
        vkey: PathBuf,
        /// File with the history of the ledger's keys (`ledger.keys`), believed as far as it follows from --vkey
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
        /// Who must have cosigned its checkpoint
        #[command(flatten)]
        witnesses: WitnessArgs,
    },
}

/// Arguments of `audit`.
#[derive(Debug, Clone, clap::Args)]
pub struct AuditArgs {
    /// What to do
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// What `audit` does.
#[derive(Debug, Clone, Subcommand)]
pub enum AuditCommand {
    /// Write a bundle: headers, events, proofs, keys, statements and cosignatures
    Export(ExportArgs),
    /// Check a bundle with no network and no ledger
    Verify(BundleArgs),
    /// Show what a bundle claims, without checking it
    Show {
        /// The bundle
        file: PathBuf,
    },
}

/// Arguments of `audit export`.
#[derive(Debug, Clone, clap::Args)]
pub struct ExportArgs {
    /// Beginning of the interval, by the hosts' wall clocks
    #[arg(
        long,
        value_name = "TIME",
        required_unless_present = "event",
        conflicts_with = "event"
    )]
    pub since: Option<String>,
    /// End of the interval; now where absent
    #[arg(long, value_name = "TIME", requires = "since")]
    pub until: Option<String>,
    /// Hosts; all where absent
    #[command(flatten)]
    pub hosts: HostArgs,
    /// Only events about this entity, as `-o wide` shows it
    #[arg(long, value_name = "ENTITY", requires = "since")]
    pub entity: Option<String>,
    /// This event, `<host>:<event>` with the number that `-o wide` shows as EVENT; repeat for several
    #[arg(long, value_name = "EVENT", conflicts_with = "host")]
    pub event: Vec<String>,
    /// Read this ledger directory instead of asking the collector; hosts are named by id then
    #[arg(long, value_name = "DIR")]
    pub ledger: Option<PathBuf>,
    /// Where to write the bundle; `-` for the terminal
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: PathBuf,
}

/// Arguments of `audit verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct BundleArgs {
    /// The bundle
    pub file: PathBuf,
    /// File with the ledger's verifier key, or with its key history
    #[arg(long, value_name = "FILE")]
    pub vkey: PathBuf,
    /// File with the history of the ledger's keys (`ledger.keys`), believed as far as it follows from --vkey
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// Who must have cosigned its checkpoint
    #[command(flatten)]
    pub witnesses: WitnessArgs,
}

/// Arguments of `anchor`.
#[derive(Debug, Clone, clap::Args)]
pub struct AnchorArgs {
    /// What to do
    #[command(subcommand)]
    pub command: AnchorCommand,
}

/// What `anchor` does.
#[derive(Debug, Clone, Subcommand)]
pub enum AnchorCommand {
    /// Check that the ledger begins with every anchored checkpoint, and since when each existed
    Verify(AnchorVerifyArgs),
}

/// Arguments of `anchor verify`.
#[derive(Debug, Clone, clap::Args)]
pub struct AnchorVerifyArgs {
    /// The ledger's directory, or the URL of its tiles
    #[arg(long, value_name = "DIR|URL", env = "HOSTLEDGER_LEDGER")]
    pub ledger: String,
    /// An anchor file, or a file that ends in a checkpoint (what a sink was sent); several or repeat
    #[arg(long, value_name = "FILE", required = true, num_args = 1..)]
    pub anchors: Vec<PathBuf>,
    /// File with the ledger's verifier key
    #[arg(long, value_name = "FILE")]
    pub vkey: PathBuf,
    /// File with the history of the ledger's keys (`ledger.keys`), believed as far as it follows from --vkey
    #[arg(long, value_name = "FILE")]
    pub keys: Option<PathBuf>,
    /// PEM file with the certificate authorities whose time stamps count; without it stamps are not judged
    #[arg(long, value_name = "FILE")]
    pub tsa_ca: Option<PathBuf>,
    /// PEM file with the certificate authorities that count under https://, in the place of the public ones
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Where to write the proof of a split view
    #[arg(short = 'f', long, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// Write each anchored checkpoint and its stamp into this directory, for
    /// `openssl ts -verify -in N.tsr -data N.checkpoint -CAfile CA`
    #[arg(long, value_name = "DIR")]
    pub extract: Option<PathBuf>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }
}
