//! Payloads: fixed rules for each kind, every byte accounted for.

use alloc::vec::Vec;

use super::{
    BadStatement, BatchPoint, ClockAnomaly, ClockFault, Divergence, Equivocation, STATEMENT_FIXED_BYTES,
    kinds::{Kind, Said},
    retention,
};
use crate::{
    codec::{Reader, Write},
    ids::{Hash, HostId, Sequence, StatementNumber, WallNanos},
    ledger_keys::UnverifiedRecord,
    limits::{ENTRY_BYTES_MAX, HEADER_BYTES_MAX, STATEMENT_TEXT_BYTES_MAX},
    text::Text,
};

impl Said {
    /// Reads the payload of a kind; every byte of it must be taken.
    pub(super) fn read(kind: Kind, payload: &[u8]) -> Result<Self, BadStatement> {
        let mut reader = Reader::new(payload);
        let said = read_kind(kind, &mut reader)?;
        if reader.rest().is_empty() {
            Ok(said)
        } else {
            Err(BadStatement::Length {
                expected: reader.at(),
                found: payload.len(),
            })
        }
    }

    /// Appends the payload.
    pub(super) fn write(&self, out: &mut Vec<u8>) -> Result<(), BadStatement> {
        match self {
            Self::HostEnrolled {
                host,
                name,
                enrolled_at,
            } => {
                out.extend_from_slice(&host.0);
                out.put_u64(enrolled_at.0);
                put_bytes(out, "name", &name.0, STATEMENT_TEXT_BYTES_MAX)?;
            }
            Self::HostEnded {
                host,
                ended_at,
                reason,
                last,
            } => {
                out.extend_from_slice(&host.0);
                out.put_u64(ended_at.0);
                put_last(out, last.as_ref());
                put_bytes(out, "reason", &reason.0, STATEMENT_TEXT_BYTES_MAX)?;
            }
            Self::Silent {
                host,
                last,
                since,
                watching_since,
                threshold_ns,
            } => {
                out.extend_from_slice(&host.0);
                put_last(out, last.as_ref());
                out.put_u64(since.0);
                out.put_u64(watching_since.0);
                out.put_u64(*threshold_ns);
            }
            Self::Back {
                host,
                silence,
                first,
                seen_at,
            } => {
                out.extend_from_slice(&host.0);
                out.put_u64(silence.0);
                put_point(out, first);
                out.put_u64(seen_at.0);
            }
            Self::Rollback(divergence) => {
                out.extend_from_slice(&divergence.host.0);
                out.put_u8(u8::from(divergence.differs));
                out.put_u64(divergence.agent_next.0);
                out.extend_from_slice(&divergence.agent_head.0);
                out.put_u64(divergence.held_next.0);
                out.extend_from_slice(&divergence.held_head.0);
            }
            Self::Equivocation(equivocation) => {
                out.extend_from_slice(&equivocation.host.0);
                put_bytes(out, "held header", &equivocation.held, HEADER_BYTES_MAX)?;
                put_bytes(out, "offered header", &equivocation.offered, HEADER_BYTES_MAX)?;
            }
            Self::ClockAnomaly(anomaly) => {
                out.extend_from_slice(&anomaly.host.0);
                put_point(out, &anomaly.batch);
                out.put_u8(match anomaly.fault {
                    ClockFault::Ahead => 0,
                    ClockFault::Behind => 1,
                    ClockFault::SetBack => 2,
                });
                out.put_u64(anomaly.shows.0);
                out.put_u64(anomaly.shows_error_ns);
                out.put_u64(anomaly.against.0);
                out.put_u64(anomaly.against_error_ns);
                out.put_u64(anomaly.tolerance_ns);
                out.put_u64(anomaly.unstated);
            }
            Self::Prune(certificate) => retention::write_certificate(certificate, out)?,
            Self::Hold(hold) => hold.write(out)?,
            Self::HoldLifted(lifted) => retention::write_lifted(lifted, out)?,
            Self::KeyChange { record } => out.extend_from_slice(&key_change(&record.0)?.0),
            Self::Other { kind, payload } => {
                // Whoever names a kind that is known must say it in its own words.
                if known(*kind) || payload.len() > ENTRY_BYTES_MAX - STATEMENT_FIXED_BYTES {
                    return Err(BadStatement::Field {
                        field: "kind",
                        value: u64::from(kind.0),
                    });
                }
                out.extend_from_slice(payload);
            }
        }
        Ok(())
    }
}

fn known(kind: Kind) -> bool {
    (Kind::HOST_ENROLLED..=Kind::HOLD_LIFTED).contains(&kind)
}

fn read_kind(kind: Kind, reader: &mut Reader<'_>) -> Result<Said, BadStatement> {
    if !known(kind) {
        let payload = reader.rest().to_vec();
        reader.take("payload", payload.len())?;
        return Ok(Said::Other { kind, payload });
    }
    if let Some(said) = retention::read(kind, reader)? {
        return Ok(said);
    }
    if kind == Kind::KEY_CHANGE {
        let record = reader.rest();
        let record = key_change(reader.take("record", record.len())?)?;
        return Ok(Said::KeyChange { record });
    }
    let host = HostId(reader.array("host")?);
    Ok(match kind {
        Kind::HOST_ENROLLED => Said::HostEnrolled {
            host,
            enrolled_at: WallNanos(reader.u64("enrolled at")?),
            name: read_text(reader, "name")?,
        },
        Kind::HOST_ENDED => Said::HostEnded {
            host,
            ended_at: WallNanos(reader.u64("ended at")?),
            last: read_last(reader)?,
            reason: read_text(reader, "reason")?,
        },
        Kind::SILENT => Said::Silent {
            host,
            last: read_last(reader)?,
            since: WallNanos(reader.u64("since")?),
            watching_since: WallNanos(reader.u64("watching since")?),
            threshold_ns: reader.u64("threshold")?,
        },
        Kind::BACK => Said::Back {
            host,
            silence: StatementNumber(reader.u64("silence")?),
            first: read_point(reader)?,
            seen_at: WallNanos(reader.u64("seen at")?),
        },
        Kind::ROLLBACK => Said::Rollback(Divergence {
            host,
            differs: read_choice(reader, "differs", 1)? == 1,
            agent_next: Sequence(reader.u64("agent's next batch")?),
            agent_head: Hash(reader.array("agent's last header")?),
            held_next: Sequence(reader.u64("next batch awaited")?),
            held_head: Hash(reader.array("last header held")?),
        }),
        Kind::EQUIVOCATION => Said::Equivocation(Equivocation {
            host,
            held: read_bytes(reader, "held header", HEADER_BYTES_MAX)?.to_vec(),
            offered: read_bytes(reader, "offered header", HEADER_BYTES_MAX)?.to_vec(),
        }),
        _ => Said::ClockAnomaly(ClockAnomaly {
            host,
            batch: read_point(reader)?,
            fault: match read_choice(reader, "clock fault", 2)? {
                0 => ClockFault::Ahead,
                1 => ClockFault::Behind,
                _ => ClockFault::SetBack,
            },
            shows: WallNanos(reader.u64("the host's clock")?),
            shows_error_ns: reader.u64("the host's clock error")?,
            against: WallNanos(reader.u64("what it contradicts")?),
            against_error_ns: reader.u64("the error of what it contradicts")?,
            tolerance_ns: reader.u64("tolerance")?,
            unstated: reader.u64("unstated")?,
        }),
    })
}

/// A record of the ledger's key history that says of a change. Whether it stands is for whoever holds the history.
fn key_change(record: &[u8]) -> Result<Text, BadStatement> {
    match UnverifiedRecord::parse(record, 0) {
        Ok(parsed) if parsed.claimed().is_some() => Ok(Text(record.to_vec())),
        _ => Err(BadStatement::Field {
            field: "record of the key history",
            value: record.len() as u64,
        }),
    }
}

fn put_point(out: &mut Vec<u8>, point: &BatchPoint) {
    out.put_u64(point.sequence.0);
    out.extend_from_slice(&point.header.0);
}

fn read_point(reader: &mut Reader<'_>) -> Result<BatchPoint, BadStatement> {
    Ok(BatchPoint {
        sequence: Sequence(reader.u64("sequence")?),
        header: Hash(reader.array("header hash")?),
    })
}

fn put_last(out: &mut Vec<u8>, last: Option<&BatchPoint>) {
    out.put_u8(u8::from(last.is_some()));
    if let Some(point) = last {
        put_point(out, point);
    }
}

fn read_last(reader: &mut Reader<'_>) -> Result<Option<BatchPoint>, BadStatement> {
    match read_choice(reader, "whether a batch is held", 1)? {
        0 => Ok(None),
        _ => read_point(reader).map(Some),
    }
}

pub(super) fn read_choice(reader: &mut Reader<'_>, field: &'static str, max: u8) -> Result<u8, BadStatement> {
    let value = reader.u8(field)?;
    if value > max {
        let value = u64::from(value);
        return Err(BadStatement::Field { field, value });
    }
    Ok(value)
}

pub(super) fn put_bytes(
    out: &mut Vec<u8>,
    field: &'static str,
    bytes: &[u8],
    bytes_max: usize,
) -> Result<(), BadStatement> {
    let too_long = BadStatement::Field {
        field,
        value: bytes.len() as u64,
    };
    let length = u16::try_from(bytes.len()).map_err(|_| too_long.clone())?;
    if bytes.len() > bytes_max {
        return Err(too_long);
    }
    out.put_u16(length);
    out.extend_from_slice(bytes);
    Ok(())
}

fn read_bytes<'a>(
    reader: &mut Reader<'a>,
    field: &'static str,
    bytes_max: usize,
) -> Result<&'a [u8], BadStatement> {
    let length = usize::from(reader.u16(field)?);
    if length > bytes_max {
        return Err(BadStatement::Field {
            field,
            value: length as u64,
        });
    }
    Ok(reader.take(field, length)?)
}

pub(super) fn read_text(reader: &mut Reader<'_>, field: &'static str) -> Result<Text, BadStatement> {
    Ok(Text(
        read_bytes(reader, field, STATEMENT_TEXT_BYTES_MAX)?.to_vec(),
    ))
}
