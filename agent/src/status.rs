//! What a running agent says of itself, over a Unix socket in its state directory.
//!
//! Owns the report and its forms. Whoever connects gets one JSON document; nothing is read from them.

use std::{
    io::{self, Read},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use common::{
    batch::SensorCounters,
    event::{SensorId, SensorStatus, sensor::SensorState},
    ids::{BootId, HostId, PublicKey, Sequence},
    journal::Journal,
};
use serde::{Deserialize, Serialize};
use tokio::{io::AsyncWriteExt, net::UnixListener, sync::watch};

use crate::{
    clock::boot_now,
    lag::Percentiles,
    pipeline::Pipeline,
    ship::{ShipStatus, WitnessStatus},
};

/// The socket's name in the state directory.
const SOCKET: &str = "status.sock";
/// Longest report read, bytes.
const REPORT_BYTES_MAX: u64 = 1 << 20;

/// Everything the status shows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    /// The host.
    pub host: HostId,
    /// Its name, for people.
    pub name: String,
    /// The boot that is watched.
    pub boot: BootId,
    /// Version of the agent.
    pub agent_version: String,
    /// Process id of the agent.
    pub pid: u32,
    /// What each sensor can do.
    pub sensors: Vec<SensorLine>,
    /// Where the chain stands.
    pub chain: Chain,
    /// The spool.
    pub spool: Spool,
    /// From an event's instant until its batch was durable here.
    pub kernel_to_sealed: Percentiles,
    /// From durable here until durable at the collector.
    pub sealed_to_stored: Percentiles,
    /// From durable here until proven to be in the ledger.
    pub sealed_to_proven: Percentiles,
    /// The connection; `None` where no collector is configured.
    pub shipping: Option<ShipStatus>,
}

/// One sensor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SensorLine {
    /// Its name.
    pub sensor: String,
    /// Its status as in the chain; `None` for a counter without one.
    pub status: Option<SensorStatus>,
    /// Events that happened.
    pub happened: u64,
    /// Events lost, each covered by a loss event.
    pub lost: u64,
}

/// Where the chain stands.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Chain {
    /// Sequence of the next batch.
    pub next_sequence: u64,
    /// Index of the next event.
    pub next_event: u64,
    /// Hash of the last header, hex.
    pub head: String,
    /// Batches sealed in this run.
    pub batches: u64,
    /// Events sealed in this run.
    pub events: u64,
    /// Bytes of headers and bodies sealed in this run.
    pub bytes: u64,
    /// The signing key in force.
    pub epoch: Epoch,
}

/// A key epoch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Epoch {
    /// How often the key has been replaced.
    pub number: u64,
    /// The public key.
    pub key: PublicKey,
    /// Age, seconds; `None` where it began in another boot.
    pub age_s: Option<u64>,
    /// It ends by age within this, seconds.
    pub ends_in_s: u64,
    /// Batches signed with the key.
    pub batches: u64,
    /// It ends when there are this many.
    pub batches_max: u64,
}

/// The spool.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Spool {
    /// Batches without a verified receipt.
    pub batches: usize,
    /// Bytes on disk.
    pub bytes: u64,
    /// The disk has no space.
    pub no_space: bool,
    /// The configured bound is reached.
    pub full: bool,
}

/// What the report needs beside the pipeline.
#[derive(Debug, Clone)]
pub struct About {
    /// The host.
    pub host: HostId,
    /// Its name.
    pub name: String,
    /// The shipper's own account; `None` where no collector is configured.
    pub shipping: Option<watch::Receiver<ShipStatus>>,
}

/// The report of this instant.
#[must_use]
pub fn report(about: &About, pipeline: &Pipeline) -> Report {
    let state = pipeline.lock();
    let head = state.spool.head();
    Report {
        host: about.host,
        name: about.name.clone(),
        boot: state.boot,
        agent_version: env!("CARGO_PKG_VERSION").to_owned(),
        pid: std::process::id(),
        sensors: sensor_lines(&state.sensors, &state.counters),
        chain: Chain {
            next_sequence: head.next_sequence.0,
            next_event: head.next_event.0,
            head: head.hash.to_string(),
            batches: state.lag.batches,
            events: state.lag.events,
            bytes: state.lag.bytes,
            epoch: epoch(&state.journal, &state.boot, head.next_sequence),
        },
        spool: Spool {
            batches: state.spool.batches(),
            bytes: state.spool.bytes(),
            no_space: state.spool.no_space(),
            full: state.spool.full(),
        },
        kernel_to_sealed: state.lag.sealed.percentiles(),
        sealed_to_stored: state.lag.stored.percentiles(),
        sealed_to_proven: state.lag.proven.percentiles(),
        shipping: about.shipping.as_ref().map(|shown| shown.borrow().clone()),
    }
}

fn epoch(journal: &Journal, boot: &BootId, next: Sequence) -> Epoch {
    const SECOND: u64 = 1_000_000_000;
    let (keys, policy, now) = (journal.keys(), journal.epoch_policy(), boot_now().0);
    let began = keys.began();
    Epoch {
        number: keys.held().epoch.0,
        key: keys.held().key,
        age_s: (began.boot == *boot).then(|| now.saturating_sub(began.at.0) / SECOND),
        ends_in_s: keys.ends(policy, boot).0.saturating_sub(now) / SECOND,
        batches: next.0.saturating_sub(began.sequence.0),
        batches_max: policy.batches,
    }
}

fn sensor_lines(statuses: &[(SensorId, SensorStatus)], counters: &[SensorCounters]) -> Vec<SensorLine> {
    statuses
        .iter()
        .map(|(sensor, status)| {
            let counted = counters.iter().find(|counted| counted.sensor == *sensor);
            SensorLine {
                sensor: sensor.name().to_owned(),
                status: Some(status.clone()),
                happened: counted.map_or(0, |counted| counted.happened),
                lost: counted.map_or(0, |counted| counted.lost),
            }
        })
        .collect()
}

/// Path of the socket.
#[must_use]
pub fn socket(state: &Path) -> PathBuf {
    state.join(SOCKET)
}

/// Answers whoever connects, until dropped.
///
/// # Errors
/// What binding the socket gives.
pub fn listen(state: &Path) -> io::Result<UnixListener> {
    let path = socket(state);
    // The directory's lock is ours, so a socket that is left belongs to a run that ended.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    UnixListener::bind(path)
}

/// Answers whoever connects, for ever.
pub async fn serve(listener: UnixListener, about: About, pipeline: Arc<Pipeline>) {
    loop {
        let Ok((mut stream, _)) = listener.accept().await else {
            tokio::time::sleep(Duration::from_secs(1)).await;
            continue;
        };
        let text = serde_json::to_vec(&report(&about, &pipeline)).unwrap_or_default();
        // One at a time and not for long: a reader that hangs holds up other readers, never the agent.
        let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(&text)).await;
    }
}

/// Asks the agent that runs on `state`.
///
/// # Errors
/// What the socket gives; [`io::ErrorKind::NotFound`] and [`io::ErrorKind::ConnectionRefused`] mean that none
/// runs.
pub fn ask(state: &Path) -> io::Result<Report> {
    let stream = UnixStream::connect(socket(state))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut text = Vec::new();
    stream.take(REPORT_BYTES_MAX).read_to_end(&mut text)?;
    serde_json::from_slice(&text).map_err(io::Error::other)
}

/// The report for people.
#[must_use]
pub fn table(report: &Report) -> String {
    let mut lines = vec![
        format!("host        {} ({})", report.host, report.name),
        format!("boot        {}", report.boot),
        format!("agent       {} pid {}", report.agent_version, report.pid),
        format!(
            "chain       {} batches, {} events, head {}",
            report.chain.next_sequence, report.chain.next_event, report.chain.head
        ),
        epoch_line(&report.chain.epoch),
        format!(
            "spool       {} batches, {} bytes{}{}",
            report.spool.batches,
            report.spool.bytes,
            if report.spool.no_space {
                ", NO SPACE ON DISK"
            } else {
                ""
            },
            if report.spool.full { ", FULL" } else { "" }
        ),
        lag("to sealed", &report.kernel_to_sealed),
        lag("to stored", &report.sealed_to_stored),
        lag("to proven", &report.sealed_to_proven),
    ];
    match &report.shipping {
        None => lines.push("collector   none configured: batches stay in the spool".to_owned()),
        Some(shipping) => lines.extend(shipping_lines(shipping)),
    }
    lines.push(format!(
        "{:<10} {:<7} {:<9} {:>10} {:>6}  {}",
        "SENSOR", "TIER", "STATE", "HAPPENED", "LOST", "PROBE"
    ));
    for line in &report.sensors {
        let Some(status) = &line.status else { continue };
        let state = match status.state {
            SensorState::Active => "active",
            SensorState::Degraded => "degraded",
            SensorState::Failed => "failed",
            SensorState::Stopped => "stopped",
        };
        lines.push(format!(
            "{:<10} {:<7} {state:<9} {:>10} {:>6}  {}",
            line.sensor,
            format!("{:?}", status.tier),
            line.happened,
            line.lost,
            status.probe
        ));
        if !status.reason.0.is_empty() {
            lines.push(format!("{:<10} {}", "", status.reason));
        }
    }
    lines.join("\n")
}

fn epoch_line(epoch: &Epoch) -> String {
    let age = epoch.age_s.map_or_else(
        || "began in another boot".to_owned(),
        |age| format!("{age} s old"),
    );
    format!(
        "key         epoch {}, {age}, ends in {} s or at {} of {} batches; {}",
        epoch.number, epoch.ends_in_s, epoch.batches, epoch.batches_max, epoch.key
    )
}

fn lag(name: &str, lag: &Percentiles) -> String {
    format!(
        "{name:<11} p50 {:.1} ms, p95 {:.1} ms, p99 {:.1} ms, max {:.1} ms of {}",
        lag.p50_ms, lag.p95_ms, lag.p99_ms, lag.max_ms, lag.count
    )
}

fn shipping_lines(shipping: &ShipStatus) -> Vec<String> {
    let state = match (shipping.halted, shipping.connected) {
        (true, _) => "HALTED, an operator must look",
        (false, true) => "connected",
        (false, false) => "not connected",
    };
    let mut lines = vec![format!(
        "collector   {} {state}; stored before {}, proven before {}, ledger size {}",
        shipping.collector, shipping.stored_before, shipping.proven_before, shipping.checkpoint_size
    )];
    lines.extend(shipping.witnesses.as_ref().map(WitnessStatus::line));
    if let Some(fault) = &shipping.last_fault {
        let counts: Vec<String> = shipping
            .faults
            .iter()
            .map(|(kind, count)| format!("{kind} {count}"))
            .collect();
        lines.push(format!("faults      {}; last: {fault}", counts.join(", ")));
    }
    lines
}
