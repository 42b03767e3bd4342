//! Processes: kernel records made whole.
//!
//! Owns the table of living processes, which gives an exit the arguments and paths that the kernel no longer
//! has by then. The table is bounded; what it could not remember is counted and said in the records.
//! Refuses to look anything up in `/proc`: a short process is gone by then.

use std::collections::HashMap;

use common::{
    abi::{
        self,
        process::{ProcessKey as AbiKey, flag},
    },
    event::{
        Field, Process, ProcessKey, Source, Why,
        process::{Argv, Credentials, Namespaces, Path, ProcessCause, ProcessState},
    },
    ids::{BootId, BootNanos},
    text::Text,
};

use super::procfs::TICK_NS;

/// Most processes remembered; at about 600 bytes each.
const PROCESSES_MAX: usize = 1 << 16;

/// The living processes as last seen.
#[derive(Debug)]
pub struct Processes {
    boot: BootId,
    known: HashMap<AbiKey, Process>,
    /// Keys of processes that `/proc` told of, whose start it gives in clock ticks only.
    coarse: HashMap<(u32, u64), ProcessKey>,
    max: usize,
    forgotten: u64,
}

impl Processes {
    /// An empty table.
    #[must_use]
    pub fn new(boot: BootId) -> Self {
        Self {
            boot,
            known: HashMap::new(),
            coarse: HashMap::new(),
            max: PROCESSES_MAX,
            forgotten: 0,
        }
    }

    /// How many processes could not be remembered because the table was full.
    #[must_use]
    pub fn forgotten(&self) -> u64 {
        self.forgotten
    }

    /// How many are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// The key events use for the kernel's one.
    #[must_use]
    pub fn key(&self, key: AbiKey) -> ProcessKey {
        // Almost always empty: filled only where the kernel's iterators were refused.
        if !self.coarse.is_empty()
            && let Some(found) = self.coarse.get(&(key.tgid, key.start_boot_ns / TICK_NS))
        {
            return *found;
        }
        ProcessKey {
            boot: self.boot,
            tgid: key.tgid,
            started: BootNanos(key.start_boot_ns),
        }
    }

    /// The key under which the process of a key from `/proc`, whose start is in clock ticks, is known already; the
    /// key itself for one that is not.
    #[must_use]
    pub fn exact(&self, coarse: ProcessKey) -> ProcessKey {
        let tick = |started: u64| started / TICK_NS;
        let known = self
            .known
            .keys()
            .find(|known| known.tgid == coarse.tgid && tick(known.start_boot_ns) == tick(coarse.started.0));
        known.map_or(coarse, |known| ProcessKey {
            started: BootNanos(known.start_boot_ns),
            ..coarse
        })
    }

    /// Remembers a process that `/proc` told of, so that its later records go under the same key.
    pub fn adopt(&mut self, key: ProcessKey, record: &Process) {
        let (tgid, start_boot_ns) = (key.tgid, key.started.0);
        self.coarse.insert((tgid, start_boot_ns / TICK_NS), key);
        self.remember(AbiKey { tgid, start_boot_ns }, record.clone());
    }

    /// The whole record of a process at a hook or in a snapshot. Give it back to [`Self::keep`] once it was
    /// written; the two steps spare a copy.
    #[must_use]
    pub fn record(&mut self, kind: abi::Kind, seen: &abi::Process<'_>) -> (ProcessKey, Process) {
        let cause = match kind {
            abi::Kind::ProcessFork => ProcessCause::Fork,
            abi::Kind::ProcessExec => ProcessCause::Exec,
            abi::Kind::ProcessExit => ProcessCause::Exit,
            _ => ProcessCause::Baseline,
        };
        let key = self.key(seen.key);
        // What the hook could not read is what the process was last seen to have; a new one has its parent's.
        let before = match cause {
            ProcessCause::Fork => self.known.get(&self.place(seen.parent)).cloned(),
            ProcessCause::Exit => self.known.remove(&self.place(seen.key)),
            // A later baseline takes nothing away from what was seen of the same program.
            ProcessCause::Baseline => self
                .known
                .get(&self.place(seen.key))
                .filter(|known| runs_the_same(known, seen))
                .cloned(),
            ProcessCause::Exec => None,
        };
        let unknown = match cause {
            _ if self.forgotten > 0 => Why::TableFull,
            ProcessCause::Exit => Why::Gone,
            ProcessCause::Fork | ProcessCause::Baseline => Why::BeforeSensor,
            ProcessCause::Exec => Why::Fault,
        };
        let earlier = Earlier {
            record: before,
            unknown,
        };
        (key, self.whole(cause, seen, earlier))
    }

    /// Remembers what was written of a process that lives on.
    pub fn keep(&mut self, seen: AbiKey, record: Process) {
        if record.cause == ProcessCause::Exit {
            if !self.coarse.is_empty() {
                self.coarse.remove(&(seen.tgid, seen.start_boot_ns / TICK_NS));
            }
            return;
        }
        self.remember(self.place(seen), record);
    }

    /// Where a process stands in the table: under the start that its events use.
    fn place(&self, key: AbiKey) -> AbiKey {
        AbiKey {
            tgid: key.tgid,
            start_boot_ns: self.key(key).started.0,
        }
    }

    fn remember(&mut self, key: AbiKey, record: Process) {
        if self.known.len() >= self.max && !self.known.contains_key(&key) {
            self.drop_dead();
            if self.known.len() >= self.max {
                self.forgotten += 1;
                return;
            }
        }
        self.known.insert(key, record);
    }

    /// Forgets processes that are gone without an exit seen (it was lost). Reads `/proc`, so only where the
    /// table is full.
    fn drop_dead(&mut self) {
        self.known
            .retain(|key, _| std::path::Path::new(&format!("/proc/{}", key.tgid)).exists());
    }

    fn whole(&self, cause: ProcessCause, seen: &abi::Process<'_>, mut earlier: Earlier) -> Process {
        let kernel_thread = seen.has(flag::KERNEL_THREAD);
        let text = |bytes: &[u8], cut: bool| Path {
            text: bytes.into(),
            cut,
        };
        Process {
            cause,
            state: match seen.exit {
                None => ProcessState::Running,
                Some(exit) => ProcessState::Exited {
                    code: exit.code,
                    signal: exit.signal,
                    core_dumped: exit.core_dumped,
                },
            },
            source: if cause == ProcessCause::Baseline {
                Source::Iterator
            } else {
                Source::Hook
            },
            parent: if seen.parent.tgid == 0 {
                Field::Absent
            } else if seen.parent.start_boot_ns == 0 && seen.parent.tgid != 1 {
                Field::Unknown(Why::NotOffered)
            } else {
                Field::Known(self.key(seen.parent))
            },
            comm: seen.comm.into(),
            exe: if kernel_thread {
                Field::Absent
            } else if seen.exe.is_empty() {
                earlier.take(|record| &mut record.exe)
            } else {
                Field::Known(text(seen.exe, seen.has(flag::EXE_CUT)))
            },
            script: match cause {
                ProcessCause::Exec if seen.interpreter.is_empty() => Field::Absent,
                ProcessCause::Exec => Field::Known(seen.file.into()),
                _ if kernel_thread => Field::Absent,
                _ => earlier.take(|record| &mut record.script),
            },
            argv: argv(seen, kernel_thread, &mut earlier),
            cwd: if seen.cwd.is_empty() {
                earlier.take(|record| &mut record.cwd)
            } else {
                Field::Known(text(seen.cwd, seen.has(flag::CWD_CUT)))
            },
            credentials: Field::Known(credentials(&seen.credentials)),
            namespaces: namespaces(&seen.namespaces)
                .map_or_else(|| earlier.take(|record| &mut record.namespaces), Field::Known),
            cgroup: match seen.cgroup_id {
                0 => earlier.take(|record| &mut record.cgroup),
                id => Field::Known(id),
            },
            tty: match (seen.tty.is_empty(), cause) {
                (false, _) => Field::Known(seen.tty.into()),
                // The terminal is let go before the last hook runs.
                (true, ProcessCause::Exit) => earlier.take(|record| &mut record.tty),
                (true, _) => Field::Absent,
            },
        }
    }
}

/// Whether a snapshot shows the program that was known before: another one has an exec between, which was lost.
fn runs_the_same(known: &Process, seen: &abi::Process<'_>) -> bool {
    let exe = matches!(&known.exe, Field::Known(path) if path.text == Text::from(seen.exe));
    let argv = match &known.argv {
        Field::Known(argv) => {
            argv.args
                .iter()
                .eq(seen.arguments().map(Text::from).collect::<Vec<_>>().iter())
        }
        Field::Absent | Field::Unknown(_) => seen.argv.is_empty(),
    };
    exe && argv
}

/// What was known before, and why something would be unknown.
struct Earlier {
    record: Option<Process>,
    unknown: Why,
}

impl Earlier {
    /// Moves a field out of the record before, which is not used again.
    fn take<T>(&mut self, field: impl FnOnce(&mut Process) -> &mut Field<T>) -> Field<T> {
        let unknown = Field::Unknown(self.unknown);
        match &mut self.record {
            Some(record) => std::mem::replace(field(record), unknown),
            None => unknown,
        }
    }
}

fn argv(seen: &abi::Process<'_>, kernel_thread: bool, earlier: &mut Earlier) -> Field<Argv> {
    let faulted = seen.has(flag::ARGV_FAULT);
    if kernel_thread {
        Field::Absent
    } else if !seen.argv.is_empty() {
        Field::Known(Argv {
            args: seen.arguments().map(Text::from).collect(),
            bytes_total: seen.argv_bytes_total,
            cut: faulted || seen.has(flag::ARGV_CUT),
        })
    } else if faulted {
        match earlier.take(|record| &mut record.argv) {
            Field::Unknown(_) => Field::Unknown(Why::Fault),
            known => known,
        }
    } else if seen.has(flag::NO_MEMORY) || seen.exe.is_empty() {
        earlier.take(|record| &mut record.argv)
    } else {
        // An address space with an empty argument area: it really has none.
        Field::Known(Argv {
            args: Vec::new(),
            bytes_total: seen.argv_bytes_total,
            cut: false,
        })
    }
}

fn credentials(seen: &abi::process::Credentials) -> Credentials {
    Credentials {
        uid: seen.uid,
        gid: seen.gid,
        euid: seen.euid,
        egid: seen.egid,
        suid: seen.suid,
        sgid: seen.sgid,
        fsuid: seen.fsuid,
        fsgid: seen.fsgid,
        cap_effective: seen.cap_effective,
    }
}

/// The namespaces; `None` where the kernel no longer tells (a process lets go of them as it ends).
fn namespaces(seen: &abi::process::Namespaces) -> Option<Namespaces> {
    (seen.net != 0 && seen.mnt != 0).then_some(Namespaces {
        pid: seen.pid,
        mnt: seen.mnt,
        net: seen.net,
        uts: seen.uts,
        ipc: seen.ipc,
        cgroup: seen.cgroup,
        user: seen.user,
    })
}

#[cfg(test)]
mod tests;
