//! `prune`: remove the bodies of old batches by a policy, on a stopped collector.

use std::process::ExitCode;

use anyhow::bail;
use common::{
    answer::Moment,
    ids::{HostId, WallNanos},
    retention::{Plan, Policy},
};
use ledger::{prune::Report, storage::Usage};
use serde_json::{Value, json};

use super::{Dir, Outcome, hold::instant, now, open_retention, print};
use crate::config::duration;

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
        let mut retention = open_retention(&self.dir)?;
        let plan = retention.plan(&policy)?;
        if self.dry_run {
            print(self.json, &planned(&policy, &plan), || {
                format!("would remove {}", in_words(&policy, &plan))
            })?;
            return Ok(ExitCode::SUCCESS);
        }
        let before = planned(&policy, &plan);
        let words = in_words(&policy, &plan);
        let report = retention.prune(plan, now)?;
        print(self.json, &pruned(before, &report), || {
            let (freed, lost) = (report.freed(), lost(report.before, report.after));
            format!(
                "removed {words}\n\
                 groups      {} rewritten, {} bodies of {} bytes\n\
                 freed       {} bytes on disk ({} by length) at these groups\n\
                 ledger      {} bytes on disk before, {} after: du lost {}; certificates, their tiles and directories took the difference",
                report.changes.len(),
                report.bodies(),
                report.body_bytes(),
                freed.disk,
                freed.apparent,
                report.before.disk,
                report.after.disk,
                lost["disk"],
            )
        })?;
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

fn in_words(policy: &Policy, plan: &Plan) -> String {
    let certificates: Vec<String> = plan.certificates.iter().map(ToString::to_string).collect();
    format!(
        "{} bodies of {} bytes by policy {}; {} more stay for a legal hold{}",
        plan.bodies(),
        plan.bytes(),
        policy.text(),
        plan.held,
        certificates
            .iter()
            .map(|one| format!("\ncertificate {one}"))
            .collect::<String>()
    )
}

fn planned(policy: &Policy, plan: &Plan) -> Value {
    json!({
        "policy": policy.text(),
        "older_than": policy.older_than.map(Moment),
        "bodies": plan.bodies(),
        "body_bytes": plan.bytes(),
        "held": plan.held,
        "certificates": plan.certificates,
    })
}

fn usage(usage: Usage) -> Value {
    json!({"apparent": usage.apparent, "disk": usage.disk})
}

/// What a directory lost, negative where it grew.
fn lost(before: Usage, after: Usage) -> Value {
    let less = |before: u64, after: u64| i128::from(before) - i128::from(after);
    let whole = |value: i128| i64::try_from(value).unwrap_or(i64::MAX);
    json!({
        "apparent": whole(less(before.apparent, after.apparent)),
        "disk": whole(less(before.disk, after.disk)),
    })
}

fn pruned(mut plan: Value, report: &Report) -> Value {
    let objects: Vec<Value> = report
        .changes
        .iter()
        .map(|change| {
            json!({
                "object": change.object, "bodies": change.bodies, "body_bytes": change.body_bytes,
                "before": usage(change.before), "after": usage(change.after),
            })
        })
        .collect();
    if let Some(map) = plan.as_object_mut() {
        map.insert("removed_bodies".into(), json!(report.bodies()));
        map.insert("removed_body_bytes".into(), json!(report.body_bytes()));
        map.insert("objects".into(), Value::Array(objects));
        map.insert("freed".into(), usage(report.freed()));
        map.insert("lost_by_removal".into(), lost(report.stated, report.after));
        map.insert("lost".into(), lost(report.before, report.after));
        map.insert(
            "ledger".into(),
            json!({
                "before": usage(report.before),
                "stated": usage(report.stated),
                "after": usage(report.after),
            }),
        );
    }
    plan
}
