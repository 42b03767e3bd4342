//! Whether what the collector stated of its hosts is true: no honest host is accused, and each misbehaviour that was
//! planted is stated once.
//!
//! Owns what really happened: which batch came when, and since when the collector listened. Reads the statements from
//! the ledger as anybody would, after the run.

use std::collections::{BTreeMap, BTreeSet};

use common::{
    batch::UnverifiedHeader,
    ids::{Hash, HostId, LeafIndex, Sequence, StatementNumber},
    statement::{BatchPoint, ClockFault, Said, StatementFields, UnverifiedStatement},
};
use ledger::Reader;

use crate::watch::{SILENCE_NS, WALL_ORIGIN};

/// What really happened.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// When batches of a host were admitted, by any life of the collector.
    heard: BTreeMap<HostId, Vec<u64>>,
    /// When lives of the collector began.
    starts: Vec<u64>,
}

/// What was planted, and by whom.
#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) host: HostId,
    /// The headers of one sequence: the one that the ledger holds, and the other one.
    pub(crate) twins: (Vec<u8>, Vec<u8>),
    /// Where the ledger stood when its chain was behind for the last time.
    pub(crate) behind_at: Sequence,
}

impl Truth {
    pub(crate) fn admitted(&mut self, now: u64, host: HostId) {
        self.heard.entry(host).or_default().push(now);
    }

    pub(crate) fn started(&mut self, now: u64) {
        self.starts.push(now);
    }

    /// Judges every statement of the ledger; how many of each kind there are.
    pub(crate) fn judge(
        &self,
        reader: &Reader,
        honest: &[HostId],
        planted: &Planted,
    ) -> Result<BTreeMap<&'static str, u64>, String> {
        let mut story = Story {
            truth: self,
            reader,
            planted,
            enrolled: BTreeMap::new(),
            silent: BTreeMap::new(),
            behind: BTreeSet::new(),
            counts: BTreeMap::new(),
        };
        for leaf in 0..reader.leaves() {
            let entry = reader.header(LeafIndex(leaf)).map_err(|e| e.to_string())?;
            if let Ok(statement) = UnverifiedStatement::parse(&entry) {
                let fields = statement.claimed();
                let judged = story.follow(LeafIndex(leaf), fields);
                judged.map_err(|why| format!("statement {}, {}: {why}", fields.number, fields.said))?;
            }
        }
        story.end(honest)?;
        Ok(story.counts)
    }
}

struct Story<'a> {
    truth: &'a Truth,
    reader: &'a Reader,
    planted: &'a Planted,
    enrolled: BTreeMap<HostId, u64>,
    /// Hosts that are said to be silent: by which statement, after which batch.
    silent: BTreeMap<HostId, (StatementNumber, Option<BatchPoint>)>,
    behind: BTreeSet<Sequence>,
    counts: BTreeMap<&'static str, u64>,
}

fn must(holds: bool, otherwise: &str) -> Result<(), String> {
    if holds { Ok(()) } else { Err(otherwise.to_owned()) }
}

impl Story<'_> {
    fn follow(&mut self, leaf: LeafIndex, fields: &StatementFields) -> Result<(), String> {
        let said_at = fields.at.0.saturating_sub(WALL_ORIGIN);
        let kind = fields.said.kind().name().unwrap_or("other");
        *self.counts.entry(kind).or_default() += 1;
        match &fields.said {
            Said::HostEnrolled { host, .. } => {
                *self.enrolled.entry(*host).or_default() += 1;
                Ok(())
            }
            Said::Silent {
                host,
                last,
                since,
                watching_since,
                ..
            } => {
                let since = since.0.saturating_sub(WALL_ORIGIN);
                let watching = watching_since.0.saturating_sub(WALL_ORIGIN);
                let heard = self.truth.heard.get(host).into_iter().flatten();
                let broken = heard.filter(|at| since < **at && **at < said_at).count();
                must(broken == 0, "its batches came all the while")?;
                must(said_at >= since + SILENCE_NS, "it was not that long")?;
                let began = self.truth.starts.iter().filter(|at| **at <= said_at).max();
                must(
                    began.is_some_and(|began| *began <= watching && watching <= since),
                    "the collector did not listen all the while",
                )?;
                if let Some(point) = last {
                    let header = self.held(host, point)?;
                    must(!header.claimed().flags.last_before_stop, "it said that it stops")?;
                }
                let before = self.silent.insert(*host, (fields.number, *last));
                must(before.is_none(), "it was said to be silent already")
            }
            Said::Back {
                host, silence, first, ..
            } => {
                let (number, last) = self.silent.remove(host).ok_or("it was not silent")?;
                must(number == *silence, "another statement said that it is silent")?;
                let next = last.map_or(0, |last| last.sequence.0 + 1);
                must(first.sequence.0 == next, "that is not the first batch after it")?;
                self.held(host, first).map(drop)
            }
            Said::Rollback(divergence) => {
                must(divergence.host == self.planted.host, "an honest host is accused")?;
                must(!divergence.differs, "its chain was merely behind")?;
                // A batch that was taken ends it, durable or not: the ledger has it before the next statement.
                let next = self.reader.find(&divergence.host, divergence.held_next);
                let came = next
                    .map_err(|e| e.to_string())?
                    .is_some_and(|next| next.leaf < leaf);
                must(
                    self.behind.insert(divergence.held_next) || came,
                    "that was said before, and nothing came since",
                )
            }
            Said::Equivocation(equivocation) => {
                must(
                    equivocation.host == self.planted.host,
                    "an honest host is accused",
                )?;
                let (held, offered) = &self.planted.twins;
                let twins = equivocation.held == *held && equivocation.offered == *offered;
                must(
                    twins && equivocation.check().is_ok(),
                    "those are not the headers that it signed",
                )
            }
            Said::ClockAnomaly(anomaly) => {
                must(anomaly.host == self.planted.host, "an honest host is accused")?;
                self.held(&anomaly.host, &anomaly.batch)?;
                *self.counts.entry(clock(anomaly.fault)).or_default() += 1;
                Ok(())
            }
            other => Err(format!("nobody asked for a {}", other.kind())),
        }
    }

    /// The header that the ledger holds of a batch that a statement names.
    fn held(&self, host: &HostId, point: &BatchPoint) -> Result<UnverifiedHeader, String> {
        let record = self
            .reader
            .find(host, point.sequence)
            .map_err(|e| e.to_string())?;
        let leaf = record
            .ok_or("it names a batch that the ledger does not hold")?
            .leaf;
        let header = self.reader.header(leaf).map_err(|e| e.to_string())?;
        must(
            Hash::of(&header) == point.header,
            "it names another batch than the ledger holds",
        )?;
        UnverifiedHeader::parse(&header).map_err(|e| e.to_string())
    }

    /// What must have been said by now.
    fn end(&self, honest: &[HostId]) -> Result<(), String> {
        for host in honest.iter().chain([&self.planted.host]) {
            let times = self.enrolled.get(host).copied().unwrap_or(0);
            must(times == 1, &format!("a host's enrolment is stated {times} times"))?;
        }
        for kind in [
            "equivocation",
            clock(ClockFault::Ahead),
            clock(ClockFault::Behind),
            clock(ClockFault::SetBack),
        ] {
            let times = self.counts.get(kind).copied().unwrap_or(0);
            must(times == 1, &format!("the planted {kind} is stated {times} times"))?;
        }
        must(
            self.behind.contains(&self.planted.behind_at),
            "the planted rollback is not stated",
        )?;
        must(
            self.silent.contains_key(&self.planted.host),
            "the planted silence is not stated",
        )
    }
}

fn clock(fault: ClockFault) -> &'static str {
    match fault {
        ClockFault::Ahead => "clock ahead",
        ClockFault::Behind => "clock behind",
        ClockFault::SetBack => "clock set back",
    }
}
