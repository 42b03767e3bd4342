//! The baseline of the kernel's sensors: snapshot, what came live meanwhile, and the seam between them.
//!
//! Owns the order in which they are read: attached sensors first, then the iterators, then `/proc` for what
//! iterators refused or left out, then the ring.

use std::collections::HashSet;

use common::{
    abi::Record,
    event::{Fact, Process, ProcessKey, Source},
    ids::BootNanos,
};

use super::{DRAIN_RECORDS, Live};
use crate::{
    clock::boot_now,
    config::Config,
    kernel::{self, Item},
    sensor::{
        Watch, baseline,
        procfs::{self, Scanner},
        status::Families,
    },
};

/// One of the two snapshots.
type SnapshotOf<'a> =
    dyn FnMut(&mut kernel::Hooks, &mut dyn FnMut(Record<'_>)) -> Result<usize, kernel::SnapshotError> + 'a;

impl Live {
    pub(super) fn take_baseline(&mut self, watch: &mut Watch<'_, '_>, since: BootNanos, config: &Config) {
        let mut snapshot = Vec::new();
        let (processes, sockets) = self.snapshot(&mut snapshot);
        let source = if processes && sockets {
            Source::Iterator
        } else {
            Source::Procfs
        };
        if !processes || !sockets {
            self.snapshot_from_proc(config, (!processes, !sockets), &mut snapshot);
        }
        let unlisted = if processes {
            self.unlisted(config, &snapshot)
        } else {
            Vec::new()
        };
        let mut live = Vec::new();
        // Bounded: what does not fit here stays in the ring.
        for _ in 0..64 {
            let drained = self.reader.drain(DRAIN_RECORDS, &mut |item| {
                self.translator.item(item, &mut |at, fact| {
                    live.push((at, fact.clone()));
                    fact
                });
            });
            if !drained.more {
                break;
            }
        }
        self.take_unlisted(unlisted, &live, &mut snapshot);
        let (joined, kept) = baseline::join(since, snapshot, live);
        let mark = baseline::Mark::new(self.translator.boot, since, source, baseline::KINDS.to_vec());
        let mut joined = joined.into_iter().peekable();
        while let Some((at, fact)) = joined.next_if(|(at, _)| *at < since) {
            watch.recorder.record(at, fact);
        }
        watch.recorder.record(since, mark.begun());
        let mut last = since;
        for (at, fact) in joined {
            last = last.max(at);
            watch.recorder.record(at, fact);
        }
        watch.recorder.record(last.max(boot_now()), mark.complete(kept));
    }

    /// Reads everything through the kernel's iterators; says what of it could be read to the end. What broke
    /// off is dropped, for `/proc` names processes and sockets by other keys.
    fn snapshot(&mut self, out: &mut Vec<(BootNanos, Fact)>) -> (bool, bool) {
        let Some(hooks) = &mut self.hooks else {
            return (false, false);
        };
        let translator = &mut self.translator;
        let families = translator.families;
        let mut read = |name: &str, covered: bool, take: &mut SnapshotOf<'_>| {
            let mut found = Vec::new();
            let result = take(hooks, &mut |record| {
                translator.item(Item::Record(record), &mut |at, fact| {
                    found.push((at, fact.clone()));
                    fact
                });
            });
            match result {
                Ok(_) => {
                    out.append(&mut found);
                    true
                }
                Err(error) => {
                    tracing::warn!(%error, name, "the baseline falls back to /proc");
                    !covered
                }
            }
        };
        let processes = read("processes", families.processes, &mut |hooks, sink| {
            hooks.snapshot_processes(sink)
        });
        let sockets = read("sockets", families.sockets, &mut |hooks, sink| {
            hooks.snapshot_sockets(sink)
        });
        (processes, sockets)
    }

    fn snapshot_from_proc(
        &mut self,
        config: &Config,
        (processes, sockets): (bool, bool),
        out: &mut Vec<(BootNanos, Fact)>,
    ) {
        let wanted = Families {
            processes: processes && self.translator.families.processes,
            sockets: sockets && self.translator.families.sockets,
        };
        let mut scanner = Scanner::new(self.translator.boot, config.argv_bytes_max);
        let table = &mut self.translator.processes;
        scanner.scan(boot_now(), wanted, &mut |at, fact| {
            if let Fact::Process { key, record } = &fact {
                table.adopt(*key, record);
            }
            out.push((at, fact));
        });
    }

    /// Processes that the iterator left out and `/proc` shows. Read before the ring is drained: whatever was
    /// seen to begin meanwhile is then known and not taken for one of them.
    fn unlisted(&self, config: &Config, snapshot: &[(BootNanos, Fact)]) -> Vec<(ProcessKey, Process)> {
        if !self.translator.families.processes {
            return Vec::new();
        }
        let listed = tgids(snapshot);
        procfs::unlisted(self.translator.boot, config.argv_bytes_max, &|tgid| {
            listed.contains(&tgid)
        })
    }

    fn take_unlisted(
        &mut self,
        unlisted: Vec<(ProcessKey, Process)>,
        live: &[(BootNanos, Fact)],
        snapshot: &mut Vec<(BootNanos, Fact)>,
    ) {
        let told = tgids(live);
        let now = boot_now();
        for (key, record) in unlisted.into_iter().filter(|(key, _)| !told.contains(&key.tgid)) {
            // `/proc` gives the start in clock ticks; events go on under the start that hooks gave.
            let key = self.translator.processes.exact(key);
            tracing::debug!(
                tgid = key.tgid,
                "the process iterator left it out; taken from /proc"
            );
            self.translator.processes.adopt(key, &record);
            snapshot.push((now, Fact::Process { key, record }));
        }
    }
}

fn tgids(facts: &[(BootNanos, Fact)]) -> HashSet<u32> {
    facts
        .iter()
        .filter_map(|(_, fact)| match fact {
            Fact::Process { key, .. } => Some(key.tgid),
            _ => None,
        })
        .collect()
}
