//! Statements as people and JSON see them.

use core::fmt;

use super::{
    ClockFault, Said,
    kinds::{BatchPoint, Kind},
};
use crate::{answer::Moment, ledger_keys::UnverifiedRecord};

/// An instant in RFC 3339.
pub(super) mod instant {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::{answer::Moment, ids::WallNanos};

    pub(in crate::statement) fn serialize<S: Serializer>(at: &WallNanos, s: S) -> Result<S::Ok, S::Error> {
        Moment(*at).serialize(s)
    }

    pub(in crate::statement) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<WallNanos, D::Error> {
        Moment::deserialize(d).map(|moment| moment.0)
    }
}

/// Bytes in standard base64.
pub(super) mod base64 {
    use alloc::{string::String, vec::Vec};

    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(in crate::statement) fn serialize<S: Serializer>(bytes: &[u8], s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&STANDARD.encode(bytes))
    }

    pub(in crate::statement) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(d)?).map_err(D::Error::custom)
    }
}

/// A length of time with its unit, as short as it is exact.
struct Length(u64);

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nanos = self.0;
        match nanos {
            u64::MAX => f.write_str("unknown"),
            _ if nanos.is_multiple_of(1_000_000_000) => write!(f, "{} s", nanos / 1_000_000_000),
            _ if nanos.is_multiple_of(1_000_000) => write!(f, "{} ms", nanos / 1_000_000),
            _ => write!(f, "{nanos} ns"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "kind {}", self.0),
        }
    }
}

/// One sentence; names and reasons are shown escaped.
impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HostEnrolled {
                name, enrolled_at, ..
            } => write!(f, "enrolled as {name} at {}", Moment(*enrolled_at)),
            Self::HostEnded {
                ended_at,
                reason,
                last,
                ..
            } => {
                write!(f, "declared to have ended at {} ", Moment(*ended_at))?;
                after(f, last.as_ref())?;
                write!(f, ": {reason}")
            }
            Self::Silent {
                last,
                since,
                watching_since,
                threshold_ns,
                ..
            } => {
                write!(f, "silent since {} ", Moment(*since))?;
                after(f, last.as_ref())?;
                write!(f, ", stated after {}", Length(*threshold_ns))?;
                if watching_since == since {
                    f.write_str("; the collector itself has been listening only since then")?;
                }
                Ok(())
            }
            Self::Back {
                silence,
                first,
                seen_at,
                ..
            } => write!(
                f,
                "back with batch {} at {}; statement {silence} said that it was silent",
                first.sequence,
                Moment(*seen_at)
            ),
            Self::Rollback(divergence) => {
                let (agent, held) = (divergence.agent_next, divergence.held_next);
                let how = if divergence.differs {
                    "in another history than the ledger's"
                } else {
                    "behind the ledger"
                };
                write!(
                    f,
                    "rolled back or cloned: its agent stands before batch {agent}, {how}, which awaits batch {held}"
                )
            }
            Self::Equivocation(_) => {
                f.write_str("signed two histories: both headers are in this statement and prove it")
            }
            Self::ClockAnomaly(anomaly) => {
                let sequence = anomaly.batch.sequence;
                let (shows, against) = (Moment(anomaly.shows), Moment(anomaly.against));
                match anomaly.fault {
                    ClockFault::Ahead => write!(
                        f,
                        "clock ahead: batch {sequence} ends at {shows} and arrived at {against}"
                    )?,
                    ClockFault::Behind => write!(
                        f,
                        "clock behind: batch {sequence} ends at {shows} and echoes what was given out at {against}"
                    )?,
                    ClockFault::SetBack => write!(
                        f,
                        "clock set back: batch {sequence} begins at {shows}, the one before it ends at {against}"
                    )?,
                }
                write!(
                    f,
                    " (error bounds {} and {}, {} tolerated, {} more not stated)",
                    Length(anomaly.shows_error_ns),
                    Length(anomaly.against_error_ns),
                    Length(anomaly.tolerance_ns),
                    anomaly.unstated
                )
            }
            Self::Prune(certificate) => write!(f, "{certificate}"),
            Self::Hold(hold) => write!(f, "{hold}"),
            Self::HoldLifted(lifted) => write!(f, "{lifted}"),
            Self::KeyChange { record } => match UnverifiedRecord::parse(&record.0, 0) {
                Ok(parsed) => parsed.claimed().map_or(Ok(()), |change| write!(f, "{change}")),
                Err(_) => f.write_str("changes the ledger's key by a record that cannot be read"),
            },
            Self::Other { kind, payload } => write!(
                f,
                "statement of {kind}, {} bytes: upgrade to read it",
                payload.len()
            ),
        }
    }
}

fn after(f: &mut fmt::Formatter<'_>, last: Option<&BatchPoint>) -> fmt::Result {
    match last {
        Some(point) => write!(f, "after batch {}", point.sequence),
        None => f.write_str("without a single batch"),
    }
}
