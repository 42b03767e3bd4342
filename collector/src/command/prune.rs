//! `prune`: remove the bodies of old batches by a policy.

use std::process::ExitCode;

use anyhow::bail;
use common::{
    ids::{HostId, WallNanos},
    retention::Policy,
};

use super::{Dir, Outcome, ask_or_do, hold::instant, now, print};
use crate::{config::duration, control::Question, retention};

/// Arguments of `prune`. A body goes where every criterion given lets it go; legal holds win.
#[derive(clap::Args)]
pub(super) struct Prune {
    #[command(flatten)]
    dir: Dir,
    /// Batches that ended before this instant (RFC 3339), or so long ago (`90d`, `12h`), by their host's clock.
    #[arg(long, value_name = "INSTANT|AGE")]
    older_than: Option<String>,
    /// Batches that are not among this many newest ones of their host.
    #[arg(long, value_name = "COUNT")]
    keep_batches: Option<u64>,
    /// The oldest bodies, until at most this many bytes of bodies are left.
    #[arg(long, value_name = "BYTES")]
    max_bytes: Option<u64>,
    /// Batches of this host.
    #[arg(long, value_name = "HOST_ID")]
    host: Option<HostId>,
    /// Say what would go, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Prune {
    pub(super) fn run(self) -> Outcome {
        let now = now();
        let older_than = self
            .older_than
            .as_deref()
            .map(|text| before(text, now))
            .transpose()?;
        let policy = Policy {
            older_than,
            keep_batches: self.keep_batches,
            bytes_max: self.max_bytes,
            host: self.host,
        };
        if !policy.is_some() {
            bail!("name what goes: --older-than, --keep-batches, --max-bytes or --host");
        }
        let question = Question::Prune {
            policy: policy.clone(),
            dry_run: self.dry_run,
        };
        let told = ask_or_do(&self.dir, &question, |stopped| {
            let pruner = stopped.pruner();
            if self.dry_run {
                return Ok(retention::planned(&policy, &pruner.plan(&policy)?));
            }
            let done = pruner.prune(&policy, true, &mut |phase| {
                if let Some(words) = phase.held_up() {
                    eprintln!("waiting: {words}");
                }
            })?;
            Ok(retention::pruned(&policy, &done))
        })?;
        print(self.json, &told.value, || told.text.clone())?;
        Ok(ExitCode::SUCCESS)
    }
}

/// An instant, or an age before `now`.
fn before(text: &str, now: WallNanos) -> anyhow::Result<WallNanos> {
    if let Ok(at) = instant(text) {
        return Ok(at);
    }
    let Some(age) = duration(text) else {
        bail!("--older-than: `{text}` is neither an instant (RFC 3339) nor an age like 90d or 12h");
    };
    let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
    Ok(WallNanos(now.0.saturating_sub(age)))
}
