//! `verify`: check every byte of a ledger, offline.

use std::{
    io::IsTerminal,
    path::PathBuf,
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Context;
use common::ledger_keys::{LEDGER_KEYS_BYTES_MAX, read_trust};
use ledger::{
    Local,
    audit::{self, Audit},
    fsck::{Options, Progress},
};
use serde_json::json;

use super::{Outcome, TAMPERED, print};
use crate::files;

/// Progress is shown once in so many groups.
const PROGRESS_EVERY: u64 = 256;

/// Arguments of `verify`.
#[derive(clap::Args)]
pub(super) struct Verify {
    /// The ledger's directory: `ledger` in a collector's, or a copy of it.
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// The verifier key, or the key history, to trust. Without it the one in the directory is believed, so that only damage is
    /// found, not a ledger that was replaced as a whole.
    #[arg(long, value_name = "FILE")]
    key: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(super) fn run(self) -> Outcome {
        // A collector's directory is what people have at hand.
        let within = self.dir.join("ledger");
        let dir = if within.is_dir() { within } else { self.dir };
        let storage = Local::open_reader(&dir)?;
        let key = self
            .key
            .map(|path| {
                let text = files::read_text(&path, LEDGER_KEYS_BYTES_MAX as u64)?;
                read_trust(text.as_bytes())
                    .map_err(anyhow::Error::msg)
                    .with_context(|| path.display().to_string())
            })
            .transpose()?;
        let shown = AtomicU64::new(0);
        let show = |progress: Progress| show(&shown, progress);
        let on_terminal = std::io::stderr().is_terminal();
        let options = Options {
            seen: &[],
            wait: None,
            key: key.as_ref(),
            progress: if on_terminal { Some(&show) } else { None },
        };
        let audit = audit::run(&storage, &options);
        if on_terminal {
            eprint!("\r\x1b[K");
        }
        print(self.json, &to_json(&audit), || to_text(&audit))?;
        Ok(if audit.report.is_sound() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(TAMPERED)
        })
    }
}

fn show(shown: &AtomicU64, progress: Progress) {
    let step = progress.groups / PROGRESS_EVERY;
    if shown.swap(step, Ordering::Relaxed) != step {
        eprint!(
            "\rchecked {} of {} groups, {} MiB",
            progress.groups,
            progress.groups_total,
            progress.bytes >> 20
        );
    }
}

fn to_json(audit: &Audit) -> serde_json::Value {
    let report = &audit.report;
    let faults: Vec<_> = report
        .faults
        .iter()
        .map(|fault| {
            json!({
                "object": fault.object,
                "offset": fault.offset,
                "leaf": fault.leaf,
                "cause": fault.cause.to_string(),
                "what": fault.what,
            })
        })
        .collect();
    let hosts: Vec<_> = audit
        .hosts
        .iter()
        .map(|(host, chain)| json!({"host": host, "batches": chain.batches, "events": chain.events}))
        .collect();
    json!({
        "sound": report.is_sound(),
        "checkpoint": report.checkpoint.as_ref().map(|head| json!({
            "origin": head.origin,
            "size": head.size,
            "root": head.root,
        })),
        "leaves": report.counts.leaves,
        "groups": report.counts.groups,
        "resources": report.counts.resources,
        "bytes": report.counts.bytes,
        "hosts": hosts,
        "statements": audit.statements,
        "pruned": audit.pruned,
        "faults": faults,
        "faults_dropped": report.faults_dropped,
        "notes": report.notes,
    })
}

fn to_text(audit: &Audit) -> String {
    let report = &audit.report;
    let mut lines: Vec<String> = report
        .faults
        .iter()
        .map(|fault| format!("FAULT {fault}"))
        .collect();
    if report.faults_dropped > 0 {
        lines.push(format!("FAULT and {} more", report.faults_dropped));
    }
    lines.extend(report.notes.iter().map(|note| format!("note  {note}")));
    if let Some(head) = &report.checkpoint {
        lines.push(format!(
            "checkpoint {} size {} root {}",
            head.origin, head.size, head.root
        ));
    }
    for (host, chain) in &audit.hosts {
        lines.push(format!(
            "host {host}: {} batches, {} events",
            chain.batches, chain.events
        ));
    }
    lines.push(format!("statements of the collector: {}", audit.statements));
    if audit.pruned > 0 {
        lines.push(format!("bodies pruned, by certificates: {}", audit.pruned));
    }
    let counts = &report.counts;
    lines.push(format!(
        "{}: {} leaves in {} groups, {} tiles and bundles, {} bytes checked",
        if report.is_sound() { "sound" } else { "NOT SOUND" },
        counts.leaves,
        counts.groups,
        counts.resources,
        counts.bytes
    ));
    lines.join("\n")
}
