//! Counters of the running collector and their Prometheus text.
//!
//! Owns names and meaning. Every refusal is counted under its reason, so that nothing is turned away in
//! silence. Relaxed ordering throughout: each number stands for itself.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

/// One number that goes up, or up and down.
#[derive(Debug, Default)]
pub struct Number(AtomicU64);

impl Number {
    /// Adds `by`.
    pub fn add(&self, by: u64) {
        self.0.fetch_add(by, Relaxed);
    }

    /// Subtracts `by`, which was added before.
    pub fn sub(&self, by: u64) {
        self.0.fetch_sub(by, Relaxed);
    }

    /// Replaces the value.
    pub fn set(&self, value: u64) {
        self.0.store(value, Relaxed);
    }

    /// The value.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Everything counted. Fields are documented by [`Metrics::describe`].
#[derive(Debug, Default)]
#[expect(missing_docs, reason = "the help text of each is in `describe`")]
pub struct Metrics {
    pub connections: Number,
    pub connections_total: Number,
    pub received_bytes: Number,
    pub inflight_bytes: Number,
    pub batches_stored: Number,
    pub events_stored: Number,
    pub event_bytes_stored: Number,
    pub batches_repeated: Number,
    pub groups: Number,
    pub commit_nanos: Number,
    pub publish_nanos: Number,
    pub leaves: Number,
    pub published_size: Number,
    pub receipts: Number,
    pub paused: Number,
    pub evidence_kept: Number,
    pub evidence_dropped: Number,
    pub hosts_silent: Number,
    pub contradictions_unstated: Number,
    pub prune_running: Number,
    pub prune_waiting: Number,
    pub prunes: Number,
    pub prune_failures: Number,
    pub pruned_bodies: Number,
    pub pruned_body_bytes: Number,
    pub pruned_freed_bytes: Number,
    pub legal_holds: Number,
    stated: Mutex<BTreeMap<&'static str, u64>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
}

/// How Prometheus is to read a number.
#[derive(Clone, Copy)]
enum Type {
    Counter,
    Gauge,
}

impl Metrics {
    /// Counts a refusal under its reason.
    pub fn refuse(&self, reason: &'static str) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(reason).or_default() += 1;
    }

    /// Counts a statement made durable under its kind.
    pub fn state(&self, kind: &'static str) {
        let mut stated = self.stated.lock().unwrap_or_else(PoisonError::into_inner);
        *stated.entry(kind).or_default() += 1;
    }

    /// Refusals so far, by reason.
    #[must_use]
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.refused
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The Prometheus text format, version 0.0.4.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, number) in self.describe() {
            let kind = match kind {
                Type::Counter => "counter",
                Type::Gauge => "gauge",
            };
            // Writing to a string cannot fail.
            let _ = write!(
                text,
                "# HELP hostledger_{name} {help}\n# TYPE hostledger_{name} {kind}\nhostledger_{name} {}\n",
                number.get()
            );
        }
        text.push_str(
            "# HELP hostledger_statements_total Statements made durable, by kind.\n\
             # TYPE hostledger_statements_total counter\n",
        );
        let stated = self.stated.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (kind, count) in stated {
            let _ = writeln!(text, "hostledger_statements_total{{kind=\"{kind}\"}} {count}");
        }
        text.push_str(
            "# HELP hostledger_refused_total Connections, messages and batches refused, by reason.\n\
             # TYPE hostledger_refused_total counter\n",
        );
        for (reason, count) in self.refused() {
            let _ = writeln!(text, "hostledger_refused_total{{reason=\"{reason}\"}} {count}");
        }
        text
    }

    fn describe(&self) -> [(&'static str, Type, &'static str, &Number); 27] {
        use Type::{Counter, Gauge};
        [
            ("connections", Gauge, "Agents connected.", &self.connections),
            (
                "connections_total",
                Counter,
                "Connections accepted.",
                &self.connections_total,
            ),
            (
                "received_bytes_total",
                Counter,
                "Bytes received on session streams.",
                &self.received_bytes,
            ),
            (
                "inflight_bytes",
                Gauge,
                "Bytes of batches that arrived and were not checked yet.",
                &self.inflight_bytes,
            ),
            (
                "batches_stored_total",
                Counter,
                "Batches made durable.",
                &self.batches_stored,
            ),
            (
                "events_stored_total",
                Counter,
                "Events in them.",
                &self.events_stored,
            ),
            (
                "body_bytes_stored_total",
                Counter,
                "Bytes of their bodies.",
                &self.event_bytes_stored,
            ),
            (
                "batches_repeated_total",
                Counter,
                "Batches sent again and already stored.",
                &self.batches_repeated,
            ),
            ("groups_total", Counter, "Group commits.", &self.groups),
            (
                "commit_nanoseconds_total",
                Counter,
                "Time spent in group commits.",
                &self.commit_nanos,
            ),
            (
                "publish_nanoseconds_total",
                Counter,
                "Time spent integrating and publishing.",
                &self.publish_nanos,
            ),
            ("ledger_leaves", Gauge, "Durable leaves.", &self.leaves),
            (
                "published_leaves",
                Gauge,
                "Leaves under the latest checkpoint.",
                &self.published_size,
            ),
            ("receipts_total", Counter, "Receipts given.", &self.receipts),
            (
                "storage_paused",
                Gauge,
                "1 while the disk is full and nothing is accepted.",
                &self.paused,
            ),
            (
                "evidence_kept_total",
                Counter,
                "Items of evidence kept.",
                &self.evidence_kept,
            ),
            (
                "evidence_dropped_total",
                Counter,
                "Items of evidence not kept: bound reached or disk full.",
                &self.evidence_dropped,
            ),
            (
                "hosts_silent",
                Gauge,
                "Hosts that are stated to be silent.",
                &self.hosts_silent,
            ),
            (
                "contradictions_unstated_total",
                Counter,
                "Contradictions not stated: enough is proven of that host.",
                &self.contradictions_unstated,
            ),
            (
                "prune_running",
                Gauge,
                "1 while bodies are being pruned.",
                &self.prune_running,
            ),
            (
                "prune_waiting",
                Gauge,
                "1 while a prune certificate waits for a published checkpoint.",
                &self.prune_waiting,
            ),
            (
                "prunes_total",
                Counter,
                "Prunes that removed something.",
                &self.prunes,
            ),
            (
                "prune_failures_total",
                Counter,
                "Prunes that did not come to their end.",
                &self.prune_failures,
            ),
            (
                "pruned_bodies_total",
                Counter,
                "Bodies removed.",
                &self.pruned_bodies,
            ),
            (
                "pruned_body_bytes_total",
                Counter,
                "Bytes of bodies removed.",
                &self.pruned_body_bytes,
            ),
            (
                "pruned_freed_bytes_total",
                Counter,
                "Bytes on disk freed at the groups pruned.",
                &self.pruned_freed_bytes,
            ),
            ("legal_holds", Gauge, "Legal holds in force.", &self.legal_holds),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_counted_by_reason() {
        let metrics = Metrics::default();
        metrics.refuse("gap");
        metrics.refuse("gap");
        metrics.refuse("signature");
        metrics.inflight_bytes.add(5);
        metrics.inflight_bytes.sub(2);
        let text = metrics.render();
        assert!(
            text.contains("hostledger_refused_total{reason=\"gap\"} 2\n"),
            "{text}"
        );
        assert!(text.contains("hostledger_refused_total{reason=\"signature\"} 1\n"));
        assert!(text.contains("\nhostledger_inflight_bytes 3\n"));
    }
}
