//! What the collector says of retention: bodies removed, and what may not be removed.
//!
//! Kinds 8, 10 and 11 (`docs/format/statement.md`). Owns their bytes; what goes and what stays is decided in
//! [`crate::retention`].

use alloc::vec::Vec;
use core::fmt;

use serde::{Deserialize, Serialize};

use super::{
    BadStatement,
    kinds::{Kind, Said},
    read::{put_bytes, read_choice, read_text},
};
use crate::{
    answer::Moment,
    codec::{Reader, Write},
    ids::{HostId, LeafIndex, Sequence, StatementNumber, WallNanos},
    limits::{HOLDS_MAX, PRUNE_HOSTS_MAX, PRUNE_RANGES_MAX, STATEMENT_TEXT_BYTES_MAX},
    text::Text,
};

/// Consecutive leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeafRange {
    /// The first.
    pub first: LeafIndex,
    /// How many, at least one.
    pub count: u32,
}

impl LeafRange {
    /// The leaf after the last.
    #[must_use]
    pub fn end(&self) -> LeafIndex {
        LeafIndex(self.first.0.saturating_add(u64::from(self.count)))
    }

    /// Whether `leaf` is among them.
    #[must_use]
    pub fn holds(&self, leaf: LeafIndex) -> bool {
        (self.first..self.end()).contains(&leaf)
    }
}

/// What went of one host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PrunedHost {
    /// Which host.
    pub host: HostId,
    /// Lowest sequence whose body goes.
    pub first: Sequence,
    /// Highest sequence whose body goes; between them some may stay.
    pub last: Sequence,
    /// Batches whose bodies go.
    pub batches: u64,
    /// Bytes of those bodies.
    pub bytes: u64,
}

/// Bodies that the collector removes: said before the first of them goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PruneCertificate {
    /// By which rule, in words that a program can read as well.
    pub policy: Text,
    /// Bodies that go.
    pub bodies: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Legal holds that were in force and respected: the statements that set them.
    pub holds: Vec<StatementNumber>,
    /// Hosts concerned.
    pub hosts_total: u32,
    /// The first of them by id.
    pub hosts: Vec<PrunedHost>,
    /// The leaves, in order and apart: of those that have a body beside them it goes.
    pub ranges: Vec<LeafRange>,
}

impl PruneCertificate {
    /// Whether it names this leaf.
    #[must_use]
    pub fn names(&self, leaf: LeafIndex) -> bool {
        let after = self.ranges.partition_point(|range| range.first <= leaf);
        after
            .checked_sub(1)
            .and_then(|at| self.ranges.get(at))
            .is_some_and(|range| range.holds(leaf))
    }
}

/// A legal hold: bodies of these batches stay, whatever retention says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Whose batches; every host's where absent.
    pub host: Option<HostId>,
    /// Batches that watched anything from here on,
    #[serde(with = "super::display::instant")]
    pub from: WallNanos,
    /// up to here, by the host's clock.
    #[serde(with = "super::display::instant")]
    pub until: WallNanos,
    /// Why, in the operator's words.
    pub reason: Text,
}

/// A legal hold ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HoldLifted {
    /// The statement that set it.
    pub hold: StatementNumber,
    /// Why, in the operator's words.
    pub reason: Text,
}

/// Reads the payload of one of these kinds; `None` for another kind.
pub(super) fn read(kind: Kind, reader: &mut Reader<'_>) -> Result<Option<Said>, BadStatement> {
    Ok(Some(match kind {
        Kind::PRUNE => Said::Prune(read_certificate(reader)?),
        Kind::HOLD => Said::Hold(Hold::read(reader)?),
        Kind::HOLD_LIFTED => Said::HoldLifted(HoldLifted {
            hold: StatementNumber(reader.u64("hold")?),
            reason: read_text(reader, "reason")?,
        }),
        _ => return Ok(None),
    }))
}

fn read_certificate(reader: &mut Reader<'_>) -> Result<PruneCertificate, BadStatement> {
    let policy = read_text(reader, "policy")?;
    let (bodies, bytes) = (reader.u64("bodies")?, reader.u64("bytes")?);
    let holds = (0..read_count(reader, "holds", HOLDS_MAX)?)
        .map(|_| Ok(StatementNumber(reader.u64("hold")?)))
        .collect::<Result<Vec<_>, BadStatement>>()?;
    in_order("holds", holds.iter())?;
    let hosts_total = reader.u32("hosts")?;
    let hosts = (0..read_count(reader, "hosts listed", PRUNE_HOSTS_MAX)?)
        .map(|_| {
            Ok(PrunedHost {
                host: HostId(reader.array("host")?),
                first: Sequence(reader.u64("first sequence")?),
                last: Sequence(reader.u64("last sequence")?),
                batches: reader.u64("batches")?,
                bytes: reader.u64("bytes of the host")?,
            })
        })
        .collect::<Result<Vec<_>, BadStatement>>()?;
    in_order("hosts listed", hosts.iter().map(|row| row.host))?;
    let ranges = (0..read_count(reader, "ranges", PRUNE_RANGES_MAX)?)
        .map(|_| {
            Ok(LeafRange {
                first: LeafIndex(reader.u64("first leaf")?),
                count: reader.u32("leaves")?,
            })
        })
        .collect::<Result<Vec<_>, BadStatement>>()?;
    apart(&ranges)?;
    Ok(PruneCertificate {
        policy,
        bodies,
        bytes,
        holds,
        hosts_total,
        hosts,
        ranges,
    })
}

/// Appends the payload.
pub(super) fn write_certificate(
    certificate: &PruneCertificate,
    out: &mut Vec<u8>,
) -> Result<(), BadStatement> {
    put_bytes(out, "policy", &certificate.policy.0, STATEMENT_TEXT_BYTES_MAX)?;
    out.put_u64(certificate.bodies);
    out.put_u64(certificate.bytes);
    in_order("holds", certificate.holds.iter())?;
    put_count(out, "holds", certificate.holds.len(), HOLDS_MAX)?;
    certificate.holds.iter().for_each(|hold| out.put_u64(hold.0));
    out.put_u32(certificate.hosts_total);
    in_order("hosts listed", certificate.hosts.iter().map(|row| row.host))?;
    put_count(out, "hosts listed", certificate.hosts.len(), PRUNE_HOSTS_MAX)?;
    for row in &certificate.hosts {
        out.extend_from_slice(&row.host.0);
        out.put_u64(row.first.0);
        out.put_u64(row.last.0);
        out.put_u64(row.batches);
        out.put_u64(row.bytes);
    }
    apart(&certificate.ranges)?;
    put_count(out, "ranges", certificate.ranges.len(), PRUNE_RANGES_MAX)?;
    for range in &certificate.ranges {
        out.put_u64(range.first.0);
        out.put_u32(range.count);
    }
    Ok(())
}

impl Hold {
    /// Reads the payload.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, BadStatement> {
        let host = match read_choice(reader, "whether one host", 1)? {
            0 => None,
            _ => Some(HostId(reader.array("host")?)),
        };
        let (from, until) = (reader.u64("from")?, reader.u64("until")?);
        if until < from {
            return Err(field("until", until));
        }
        Ok(Self {
            host,
            from: WallNanos(from),
            until: WallNanos(until),
            reason: read_text(reader, "reason")?,
        })
    }

    /// Appends the payload.
    pub(crate) fn write(&self, out: &mut Vec<u8>) -> Result<(), BadStatement> {
        if self.until < self.from {
            return Err(field("until", self.until.0));
        }
        out.put_u8(u8::from(self.host.is_some()));
        if let Some(host) = &self.host {
            out.extend_from_slice(&host.0);
        }
        out.put_u64(self.from.0);
        out.put_u64(self.until.0);
        put_bytes(out, "reason", &self.reason.0, STATEMENT_TEXT_BYTES_MAX)
    }
}

/// Appends the payload.
pub(super) fn write_lifted(lifted: &HoldLifted, out: &mut Vec<u8>) -> Result<(), BadStatement> {
    out.put_u64(lifted.hold.0);
    put_bytes(out, "reason", &lifted.reason.0, STATEMENT_TEXT_BYTES_MAX)
}

fn read_count(reader: &mut Reader<'_>, what: &'static str, max: usize) -> Result<u16, BadStatement> {
    let count = reader.u16(what)?;
    if usize::from(count) > max {
        return Err(field(what, u64::from(count)));
    }
    Ok(count)
}

fn put_count(
    out: &mut Vec<u8>,
    what: &'static str,
    count: usize,
    count_max: usize,
) -> Result<(), BadStatement> {
    match u16::try_from(count) {
        Ok(short) if count <= count_max => out.put_u16(short),
        _ => return Err(field(what, count as u64)),
    }
    Ok(())
}

/// One spelling for one list: rising, nothing twice.
fn in_order<T: PartialOrd>(
    what: &'static str,
    mut items: impl Iterator<Item = T> + Clone,
) -> Result<(), BadStatement> {
    let rest = items.clone().skip(1);
    match items.by_ref().zip(rest).position(|(one, next)| next <= one) {
        None => Ok(()),
        Some(at) => Err(field(what, at as u64)),
    }
}

/// Ranges that could be one are one.
fn apart(ranges: &[LeafRange]) -> Result<(), BadStatement> {
    let mut free_from = 0;
    for range in ranges {
        let end = range.first.checked_add(u64::from(range.count));
        if range.count == 0 || range.first.0 < free_from || end.is_none() {
            return Err(field("ranges", range.first.0));
        }
        free_from = range.end().0.saturating_add(1);
    }
    Ok(())
}

fn field(field: &'static str, value: u64) -> BadStatement {
    BadStatement::Field { field, value }
}

impl fmt::Display for PruneCertificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "removes {} bodies of {} hosts, {} bytes, in {} ranges of leaves by policy {}",
            self.bodies,
            self.hosts_total,
            self.bytes,
            self.ranges.len(),
            self.policy
        )?;
        match self.holds.len() {
            0 => Ok(()),
            holds => write!(f, "; {holds} legal holds respected"),
        }
    }
}

impl fmt::Display for Hold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("legal hold on the bodies of ")?;
        match &self.host {
            Some(host) => write!(f, "host {host}")?,
            None => f.write_str("every host")?,
        }
        write!(
            f,
            " from {} until {}: {}",
            Moment(self.from),
            Moment(self.until),
            self.reason
        )
    }
}

impl fmt::Display for HoldLifted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "lifts the legal hold of statement {}: {}",
            self.hold, self.reason
        )
    }
}
