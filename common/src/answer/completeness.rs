//! What may be missing from an answer about an instant that was watched.

use alloc::{string::String, vec::Vec};
use core::fmt;

use serde::{Deserialize, Serialize};

use super::{Moment, Span};
use crate::{
    batch::{HeaderFields, SensorCounters},
    event::{
        Event, Fact, Kind, Loss, LossKey, SensorId,
        sensor::{SensorState, Tier},
    },
    fold::State,
    ids::{EventIndex, WallNanos},
    text::Text,
};

/// Most losses named one by one in a caveat; the totals count all.
const LOSSES_NAMED_MAX: usize = 8;

/// One reason why something may be missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Caveat {
    /// Events of a sensor were lost since the run began.
    Lost {
        /// The sensor's name.
        sensor: String,
        /// How many, since the sensor was loaded.
        count: u64,
        /// How many of them may have happened at the very instant.
        around: u64,
        /// When, for the latest of them.
        bounds: Vec<LossBounds>,
    },
    /// A sensor does not do all it is made for.
    Sensor {
        /// The sensor's name.
        sensor: String,
        /// How it observes.
        tier: Tier,
        /// Whether it observes.
        state: SensorState,
        /// Why.
        reason: Text,
    },
    /// The run holds no statement about a sensor.
    SensorUnreported {
        /// The sensor's name.
        sensor: String,
    },
    /// The run's baseline does not cover the kind: what existed before it may be missing.
    NotInBaseline {
        /// The kind's name.
        kind: String,
    },
    /// Events that this build cannot read.
    Undecoded {
        /// How many.
        count: u64,
    },
    /// The wall clock was set back over this instant: it happened twice, and the later one is answered.
    ClockSetBack {
        /// Until then the same wall time had been used before.
        until: Moment,
    },
    /// Nothing watched during part of the interval.
    NotWatched {
        /// From this instant.
        from: Moment,
        /// Up to this one.
        until: Moment,
    },
    /// Older batches were not searched: there are too many.
    NotSearched {
        /// Those before this instant.
        before: Moment,
    },
    /// Nothing later has arrived yet, and this host's events have come in that much later before.
    InFlight {
        /// The longest an event has come in after its batch's beginning, nanoseconds.
        late_ns: u64,
    },
}

/// When lost events happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LossBounds {
    /// How many.
    pub count: u64,
    /// Not before this instant.
    pub not_before: Moment,
    /// Not after this instant.
    pub not_after: Moment,
}

impl fmt::Display for Caveat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lost {
                sensor,
                count,
                around,
                bounds,
            } => {
                write!(f, "{count} events of sensor `{sensor}` were lost in this run")?;
                if *around > 0 {
                    write!(f, ", {around} of them around this instant")?;
                }
                for loss in bounds {
                    write!(
                        f,
                        " [{} between {} and {}]",
                        loss.count, loss.not_before, loss.not_after
                    )?;
                }
                Ok(())
            }
            Self::Sensor {
                sensor,
                tier,
                state,
                reason,
            } => {
                let state = match state {
                    SensorState::Active => "works",
                    SensorState::Degraded => "sees less than it should",
                    SensorState::Failed => "does not work",
                    SensorState::Stopped => "was stopped",
                };
                write!(f, "sensor `{sensor}` {state}")?;
                if *tier == Tier::Procfs {
                    f.write_str(" and reads /proc only, so that short-lived things are missed")?;
                }
                if reason.0.is_empty() {
                    Ok(())
                } else {
                    write!(f, ": {reason}")
                }
            }
            Self::SensorUnreported { sensor } => {
                write!(f, "the agent has not said whether sensor `{sensor}` works")
            }
            Self::NotInBaseline { kind } => write!(
                f,
                "the baseline does not cover kind `{kind}`: what began before the agent may be missing"
            ),
            Self::Undecoded { count } => {
                write!(f, "{count} events are of a newer format; upgrade to read them")
            }
            Self::ClockSetBack { until } => write!(
                f,
                "the host's clock was set back: times up to {until} happened twice, the later one is answered"
            ),
            Self::NotWatched { from, until } => write!(f, "nothing watched between {from} and {until}"),
            Self::NotSearched { before } => {
                write!(
                    f,
                    "batches before {before} were not searched; ask at an earlier instant"
                )
            }
            Self::InFlight { late_ns } => write!(
                f,
                "this is the newest batch, and events of this host have come up to {} ms late",
                late_ns.div_ceil(1_000_000)
            ),
        }
    }
}

/// The sensors whose failure or loss can hide an entity of the kind.
#[must_use]
pub fn sensors_of(kind: Kind) -> &'static [SensorId] {
    match kind {
        Kind::Process => &[SensorId::FORK, SensorId::EXEC, SensorId::EXIT],
        Kind::Listener => &[SensorId::LISTEN, SensorId::UNLISTEN],
        Kind::Connection => &[SensorId::CONNECT, SensorId::OPEN, SensorId::CLOSE],
        Kind::Host | Kind::Boot | Kind::Loss | Kind::Sensor | Kind::Baseline => &[],
    }
}

/// What speaks against the completeness of an answer about `kind` at `at`, as far as the state, the deciding
/// batch's header and losses reported after the instant tell.
#[must_use]
pub fn caveats(
    kind: Kind,
    at: WallNanos,
    state: &State,
    span: &Span,
    header: &HeaderFields,
    later: &[(LossKey, Loss)],
) -> Vec<Caveat> {
    let mut caveats = Vec::new();
    let sensors = sensors_of(kind);
    let shared = [SensorId::AGENT, SensorId::QUEUE, SensorId::SPOOL];
    let run_start = state.run().map_or(EventIndex(0), |run| run.first_event);
    if !sensors.is_empty() && state.baseline(kind).is_none() {
        caveats.push(Caveat::NotInBaseline {
            kind: kind.name().into(),
        });
    }
    let losses = losses(state, run_start, later);
    for sensor in sensors.iter().chain(&shared) {
        caveats.extend(lost(*sensor, at, span, header, &losses));
        caveats.extend(status(*sensor, state, run_start, sensors.contains(sensor)));
    }
    if state.undecoded() > 0 {
        caveats.push(Caveat::Undecoded {
            count: state.undecoded(),
        });
    }
    caveats
}

/// The run's losses that are still remembered, with those reported later.
fn losses(state: &State, run_start: EventIndex, later: &[(LossKey, Loss)]) -> Vec<(LossKey, Loss)> {
    state
        .of_kind(Kind::Loss)
        .filter(|(_, entry)| entry.last.index >= run_start)
        .filter_map(|(_, entry)| match Event::decode(&entry.event).ok()?.fact {
            Fact::Loss { key, record } => Some((key, record)),
            _ => None,
        })
        .chain(later.iter().cloned())
        .collect()
}

fn lost(
    sensor: SensorId,
    at: WallNanos,
    span: &Span,
    header: &HeaderFields,
    losses: &[(LossKey, Loss)],
) -> Option<Caveat> {
    let of_sensor: Vec<&Loss> = losses
        .iter()
        .filter(|(key, _)| key.sensor == sensor && key.boot == span.boot)
        .map(|(_, loss)| loss)
        .collect();
    let named: u64 = of_sensor.iter().map(|loss| loss.count).sum();
    let counted = header
        .sensors
        .iter()
        .find(|counters: &&SensorCounters| counters.sensor == sensor)
        .map_or(0, |counters| counters.lost);
    let count = counted.max(named);
    let at = span.boot_of(at);
    let around = of_sensor
        .iter()
        .filter(|loss| loss.not_before <= at && at <= loss.not_after)
        .map(|loss| loss.count)
        .sum();
    let bounds = of_sensor
        .iter()
        .rev()
        .take(LOSSES_NAMED_MAX)
        .map(|loss| LossBounds {
            count: loss.count,
            not_before: Moment(span.wall_of(loss.not_before)),
            not_after: Moment(span.wall_of(loss.not_after)),
        })
        .collect();
    (count > 0).then(|| Caveat::Lost {
        sensor: sensor.name().into(),
        count,
        around,
        bounds,
    })
}

fn status(sensor: SensorId, state: &State, run_start: EventIndex, required: bool) -> Option<Caveat> {
    let reported = state
        .get(&crate::fold::EntityId::of(Kind::Sensor, &sensor))
        .filter(|entry| entry.last.index >= run_start)
        .and_then(|entry| Event::decode(&entry.event).ok());
    match reported.map(|event| event.fact) {
        Some(Fact::Sensor { record, .. }) => {
            let fine = record.state == SensorState::Active && (record.tier != Tier::Procfs || !required);
            (!fine).then(|| Caveat::Sensor {
                sensor: sensor.name().into(),
                tier: record.tier,
                state: record.state,
                reason: record.reason,
            })
        }
        _ => required.then(|| Caveat::SensorUnreported {
            sensor: sensor.name().into(),
        }),
    }
}
