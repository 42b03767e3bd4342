//! `status`: what a collector's directory holds and whether one runs in it.

use std::process::ExitCode;

use common::{checkpoint, ids::StatementNumber, ledger_keys::LedgerTrust};
use serde_json::json;

use super::{Dir, Outcome, print};
use crate::{
    anchor::AnchorsFile,
    control::{self, Answer, Question},
    cosign::WitnessesFile,
    files, findings, keys,
    layout::Layout,
    registry::{self, Registration},
    retention::Progress,
    service::RunningFile,
};

/// Longest small file read, bytes.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Arguments of `status`.
#[derive(clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    dir: Dir,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl Status {
    pub(super) fn run(self) -> Outcome {
        let layout = self.dir.layout();
        let hosts = registry::list(&layout)?;
        let running = running(&layout);
        let head = head(&layout);
        let witnesses = witnesses(&layout);
        let retention = running.as_ref().and_then(|_| progress(&layout));
        let anchors = anchors(&layout);
        let findings = findings::examine(&layout);
        let value = json!({
            "retention": retention.as_ref().map(|(progress, holds)| json!({
                "at": progress.at, "last": progress.last, "rules": progress.rules, "holds": holds,
            })),
            "witnesses": witnesses,
            "anchors": anchors,
            "running": running,
            "checkpoint": head.as_ref().map(|head| json!({
                "origin": head.origin,
                "size": head.size,
                "root": head.root,
            })),
            "hosts": hosts,
            "evidence": evidence(&layout),
            "findings": findings,
        });
        print(self.json, &value, || {
            let mut lines = vec![match &running {
                Some(at) => format!(
                    "running as process {}, ingest {}, http {}",
                    at.pid, at.ingest, at.http
                ),
                None => "not running".to_owned(),
            }];
            lines.push(match &head {
                Some(head) => format!("checkpoint {} size {} root {}", head.origin, head.size, head.root),
                None => "no checkpoint that verifies under the ledger's keys".to_owned(),
            });
            if let Some(file) = &witnesses {
                lines.extend(witness_lines(file));
            }
            if let Some((progress, holds)) = &retention {
                lines.extend(retention_lines(progress, holds.len()));
            }
            if let Some(file) = &anchors {
                lines.extend(anchor_lines(file));
            }
            lines.push(format!("{} items of evidence", evidence(&layout)));
            lines.push(format!("{} hosts registered", hosts.len()));
            lines.extend(hosts.iter().map(line));
            lines.extend(
                findings
                    .iter()
                    .map(|finding| format!("NOT AS IT WAS LEFT: {finding}")),
            );
            lines.join("\n")
        })?;
        Ok(ExitCode::SUCCESS)
    }
}

fn line(host: &Registration) -> String {
    let until = host
        .certificates
        .last()
        .map_or("none", |certificate| certificate.not_after.as_str());
    format!("  {} {:?}, certificate until {until}", host.host, host.name)
}

/// The running collector, if the process that says so is still there.
fn running(layout: &Layout) -> Option<RunningFile> {
    let text = files::read_text(&layout.running(), FILE_BYTES_MAX).ok()?;
    let at: RunningFile = serde_json::from_str(&text).ok()?;
    let pid = rustix::process::Pid::from_raw(i32::try_from(at.pid).ok()?)?;
    match rustix::process::test_kill_process(pid) {
        // Somebody else's process is a process too.
        Ok(()) | Err(rustix::io::Errno::PERM) => Some(at),
        Err(_) => None,
    }
}

fn head(layout: &Layout) -> Option<checkpoint::Checkpoint> {
    let keys = keys::known(layout).ok()?;
    let note = files::read_text(&layout.checkpoint(), FILE_BYTES_MAX).ok()?;
    keys.open_checkpoint(note.as_bytes()).ok()
}

/// What retention is at in the running collector, with the legal holds in force.
fn progress(layout: &Layout) -> Option<(Progress, Vec<StatementNumber>)> {
    match control::ask(layout, &Question::Progress, &mut |_| ()) {
        Ok(Some(Answer::Progress { progress, holds })) => Some((progress, holds)),
        _ => None,
    }
}

fn retention_lines(progress: &Progress, holds: usize) -> Vec<String> {
    let or = |text: &str, otherwise: &str| if text.is_empty() { otherwise } else { text }.to_owned();
    vec![
        format!(
            "retention: {}; {holds} legal holds; {}",
            or(&progress.rules.join("; "), "no rules"),
            or(&progress.at, "nothing under way")
        ),
        format!("  last prune: {}", or(&progress.last, "none since the start")),
    ]
}

/// What the collector last knew of its witnesses.
fn witnesses(layout: &Layout) -> Option<WitnessesFile> {
    let text = files::read_text(&layout.witnesses(), FILE_BYTES_MAX).ok()?;
    serde_json::from_str(&text).ok()
}

fn witness_lines(file: &WitnessesFile) -> Vec<String> {
    let verdict = match (&file.unsatisfied_since, file.withheld) {
        (None, _) => "enough of them cosigned".to_owned(),
        (Some(since), true) => {
            format!("TOO FEW since {since}: no checkpoint and no receipts until they sign")
        }
        (Some(since), false) => format!("TOO FEW since {since}: published all the same"),
    };
    let mut lines = vec![format!("witnesses ({}): {verdict}", file.quorum_missing)];
    lines.extend(file.witnesses.iter().map(|row| {
        let state = match (&row.missing_since, &row.fault) {
            (Some(since), fault) => {
                format!(
                    "MISSING since {since}: {}",
                    fault.as_deref().unwrap_or("no reason known")
                )
            }
            _ if row.cosigned_size == 0 => "not asked yet".to_owned(),
            _ => "cosigns".to_owned(),
        };
        format!("  {} {state}", row.name)
    }));
    lines
}

/// Where the collector's anchors last stood.
fn anchors(layout: &Layout) -> Option<AnchorsFile> {
    let text = files::read_text(&layout.anchors(), FILE_BYTES_MAX).ok()?;
    serde_json::from_str(&text).ok()
}

fn anchor_lines(file: &AnchorsFile) -> impl Iterator<Item = String> {
    let missed = file.file.as_ref().and_then(|file| file.missed.as_ref());
    let missed = missed.map(|missed| format!("anchor file: {missed}"));
    missed.into_iter().chain(file.targets.iter().map(|row| {
        let last = match row.anchored_at {
            Some(at) => format!("{} leaves at {at}", row.anchored_size),
            None => "nothing yet".to_owned(),
        };
        let failing = match (&row.failing_since, &row.fault, &row.remedy) {
            (Some(since), Some(fault), Some(remedy)) => {
                format!("; FAILING since {since}: {fault} ({remedy})")
            }
            _ => String::new(),
        };
        format!("anchor {} {}: {last}{failing}", row.target, row.place)
    }))
}

/// Items of evidence kept.
fn evidence(layout: &Layout) -> usize {
    let hosts = std::fs::read_dir(layout.evidence())
        .into_iter()
        .flatten()
        .flatten();
    hosts
        .filter_map(|host| std::fs::read_dir(host.path()).ok())
        .flat_map(|files| files.flatten())
        .filter(|file| {
            file.path()
                .extension()
                .is_some_and(|extension| extension == "json")
        })
        .count()
}
