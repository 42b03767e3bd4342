//! The baseline and its seam with the live stream.
//!
//! Live sensors are attached first, then everything that exists is read. Whatever both tell is told once:
//! what was seen to begin live is not repeated, what was seen to end before it was read is not revived.

use std::collections::{HashMap, HashSet};

use common::{
    event::{
        Baseline, BaselineKey, Fact, Kind, ProcessKey, SocketKey, Source,
        baseline::Phase,
        connection::{ConnectionCause, ConnectionState},
        listener::ListenerCause,
        process::{ProcessCause, ProcessState},
    },
    ids::{BootId, BootNanos},
};

/// The kinds a full baseline covers.
pub const KINDS: [Kind; 3] = [Kind::Process, Kind::Listener, Kind::Connection];

/// The two marks around a baseline.
#[derive(Debug, Clone)]
pub struct Mark {
    key: BaselineKey,
    source: Source,
    kinds: Vec<Kind>,
}

impl Mark {
    /// A baseline of `kinds` that began at `began`, after the live sensors were attached.
    #[must_use]
    pub fn new(boot: BootId, began: BootNanos, source: Source, kinds: Vec<Kind>) -> Self {
        Self {
            key: BaselineKey { boot, began },
            source,
            kinds,
        }
    }

    /// Its events follow.
    #[must_use]
    pub fn begun(&self) -> Fact {
        self.fact(Phase::Begun)
    }

    /// All of its `events` are written.
    #[must_use]
    pub fn complete(&self, events: u64) -> Fact {
        self.fact(Phase::Complete { events })
    }

    fn fact(&self, phase: Phase) -> Fact {
        Fact::Baseline {
            key: self.key,
            record: Baseline {
                phase,
                source: self.source,
                kinds: self.kinds.clone(),
            },
        }
    }
}

/// An entity as live events and snapshots name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Entity {
    Process(ProcessKey),
    Socket(SocketKey),
}

fn entity(fact: &Fact) -> Option<Entity> {
    match fact {
        Fact::Process { key, .. } => Some(Entity::Process(*key)),
        Fact::Listener { key, .. } | Fact::Connection { key, .. } => Some(Entity::Socket(*key)),
        _ => None,
    }
}

/// Whether a live fact is an entity's beginning, which makes a snapshot of it superfluous.
fn begins(fact: &Fact) -> bool {
    match fact {
        Fact::Process { record, .. } => record.cause == ProcessCause::Fork,
        Fact::Listener { record, .. } => record.cause == ListenerCause::Listen,
        Fact::Connection { record, .. } => matches!(
            record.cause,
            ConnectionCause::Connect | ConnectionCause::Accept | ConnectionCause::Established
        ),
        _ => false,
    }
}

/// Whether a live fact is an entity's end.
fn ends(fact: &Fact) -> bool {
    match fact {
        Fact::Process { record, .. } => record.state != ProcessState::Running,
        Fact::Listener { record, .. } => !record.listening,
        Fact::Connection { record, .. } => matches!(record.state, ConnectionState::Closed(_)),
        _ => false,
    }
}

/// Joins a snapshot with what the live sensors told while it was taken: in the order of time, each entity
/// once. `began` is when all sensors were attached; the second value counts the snapshot's facts that stay.
#[must_use]
pub fn join(
    began: BootNanos,
    snapshot: Vec<(BootNanos, Fact)>,
    live: Vec<(BootNanos, Fact)>,
) -> (Vec<(BootNanos, Fact)>, u64) {
    let mut begun = HashSet::new();
    let mut ended: HashMap<Entity, BootNanos> = HashMap::new();
    for (at, fact) in &live {
        let Some(entity) = entity(fact) else { continue };
        // What began while sensors were still being attached stands before the baseline, which must hold it.
        if begins(fact) && *at >= began {
            begun.insert(entity);
        }
        if ends(fact) {
            ended.insert(entity, *at);
        }
    }
    let mut seen = HashSet::new();
    let mut joined: Vec<_> = snapshot
        .into_iter()
        .filter(|(read, fact)| {
            entity(fact).is_some_and(|entity| {
                !begun.contains(&entity)
                    && ended.get(&entity).is_none_or(|end| end > read)
                    && seen.insert(entity)
            })
        })
        .collect();
    let kept = joined.len() as u64;
    joined.extend(live);
    // Stable: of one instant the snapshot comes first, and each CPU's order stays.
    joined.sort_by_key(|(at, _)| *at);
    (joined, kept)
}

#[cfg(test)]
mod tests {
    use common::event::{Field, Process, Why};

    use super::*;

    fn process(tgid: u32, cause: ProcessCause) -> Fact {
        let unknown = Why::NotObserved;
        Fact::Process {
            key: ProcessKey {
                boot: BootId::default(),
                tgid,
                started: BootNanos(1),
            },
            record: Process {
                cause,
                state: if cause == ProcessCause::Exit {
                    ProcessState::Gone(unknown)
                } else {
                    ProcessState::Running
                },
                source: Source::Agent,
                parent: Field::Absent,
                comm: "x".into(),
                exe: Field::Unknown(unknown),
                script: Field::Unknown(unknown),
                argv: Field::Unknown(unknown),
                cwd: Field::Unknown(unknown),
                credentials: Field::Unknown(unknown),
                namespaces: Field::Unknown(unknown),
                cgroup: Field::Unknown(unknown),
                tty: Field::Unknown(unknown),
            },
        }
    }

    fn told(joined: &[(BootNanos, Fact)]) -> Vec<(u64, u32, ProcessCause)> {
        joined
            .iter()
            .filter_map(|(at, fact)| match fact {
                Fact::Process { key, record } => Some((at.0, key.tgid, record.cause)),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn each_process_of_the_seam_is_told_once() {
        use ProcessCause::{Baseline, Exit, Fork};
        let at = |time, tgid, cause| (BootNanos(time), process(tgid, cause));
        let snapshot = vec![
            at(20, 1, Baseline), // older than everything
            at(21, 2, Baseline), // seen to begin live
            at(22, 3, Baseline), // ends after it was read
            at(23, 4, Baseline), // ended before it was read: a zombie
            at(24, 5, Baseline), // began while sensors were being attached
            at(25, 1, Baseline), // listed twice
        ];
        let live = vec![
            at(5, 5, Fork),
            at(12, 2, Fork),
            at(22, 4, Exit),
            at(30, 3, Exit),
            at(31, 6, Exit), // never listed: told with what the hook had
        ];
        let (joined, kept) = join(BootNanos(10), snapshot, live);
        assert_eq!(kept, 3);
        assert_eq!(
            told(&joined),
            [
                (5, 5, Fork),
                (12, 2, Fork),
                (20, 1, Baseline),
                (22, 3, Baseline),
                (22, 4, Exit),
                (24, 5, Baseline),
                (30, 3, Exit),
                (31, 6, Exit),
            ]
        );
    }
}
