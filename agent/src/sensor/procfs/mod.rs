//! The sensor of last resort: `/proc`, scanned again and again.
//!
//! Owns the comparison of a scan with the one before. It misses whatever begins and ends between two scans and
//! never learns exit codes; it says so in its status and in each record. Serves also as the baseline where the
//! kernel's iterators are refused.

mod process;
mod socket;

use std::collections::{BTreeMap, BTreeSet};

use common::{
    event::{
        Fact, Field, Process, ProcessKey, SocketKey, Why,
        connection::{ConnectionCause, ConnectionState, Outcome},
        listener::ListenerCause,
        process::{ProcessCause, ProcessState},
    },
    ids::{BootId, BootNanos},
};

use self::{
    process::Stat,
    socket::{INODE_MARK, Socket},
};
pub(crate) use self::{process::TICK_NS, socket::unmap};
use super::status::Families;

/// Most processes and most sockets remembered between scans: beyond them new ones are left out, counted.
const REMEMBERED_MAX: usize = 1 << 18;

/// What the scan before found.
#[derive(Debug)]
pub struct Scanner {
    boot: BootId,
    argv_bytes_max: usize,
    processes: BTreeMap<ProcessKey, (Stat, Process)>,
    sockets: BTreeMap<SocketKey, Socket>,
    first: bool,
}

/// What a scan could not do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Shortfall {
    /// Network namespaces whose tables were refused.
    pub namespaces_refused: usize,
    /// Whether some processes refused a look at their descriptors.
    pub descriptors_refused: bool,
    /// Entities left out because the tables were full.
    pub left_out: u64,
}

impl Scanner {
    /// Before the first scan.
    #[must_use]
    pub fn new(boot: BootId, argv_bytes_max: usize) -> Self {
        Self {
            boot,
            argv_bytes_max,
            processes: BTreeMap::new(),
            sockets: BTreeMap::new(),
            first: true,
        }
    }

    /// Looks at all `families` and tells `emit` what differs from the scan before; the first scan is a
    /// baseline. Always pass the same families.
    pub fn scan(
        &mut self,
        now: BootNanos,
        families: Families,
        emit: &mut dyn FnMut(BootNanos, Fact),
    ) -> Shortfall {
        let mut shortfall = Shortfall::default();
        if families.processes {
            self.scan_processes(now, &mut shortfall, emit);
        } else {
            // Sockets are found through the processes that hold them.
            self.scan_processes(now, &mut shortfall, &mut |_, _| {});
        }
        if families.sockets {
            self.scan_sockets(now, &mut shortfall, emit);
        }
        self.first = false;
        shortfall
    }

    fn scan_processes(
        &mut self,
        now: BootNanos,
        shortfall: &mut Shortfall,
        emit: &mut dyn FnMut(BootNanos, Fact),
    ) {
        let live = list_processes(self.boot);
        let by_pid: BTreeMap<u32, ProcessKey> = live.keys().map(|key| (key.tgid, *key)).collect();
        // Ends first: a pid that was reused must not look as if two processes had it at once.
        let gone: Vec<ProcessKey> = self
            .processes
            .keys()
            .filter(|key| !live.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            if let Some((_, mut record)) = self.processes.remove(&key) {
                record.cause = ProcessCause::Exit;
                record.state = ProcessState::Gone(Why::NotObserved);
                emit(now, Fact::Process { key, record });
            }
        }
        for (key, stat) in live {
            let cause = match self.processes.get(&key) {
                Some((before, _)) if before.program == stat.program => continue,
                Some(_) => ProcessCause::Exec,
                None if self.first => ProcessCause::Baseline,
                None => ProcessCause::Fork,
            };
            if self.processes.len() >= REMEMBERED_MAX {
                shortfall.left_out += 1;
                continue;
            }
            let parent = parent_of(&stat, &by_pid);
            let record = process::read_record(key.tgid, &stat, cause, parent, self.argv_bytes_max);
            emit(
                now,
                Fact::Process {
                    key,
                    record: record.clone(),
                },
            );
            self.processes.insert(key, (stat, record));
        }
    }

    fn scan_sockets(
        &mut self,
        now: BootNanos,
        shortfall: &mut Shortfall,
        emit: &mut dyn FnMut(BootNanos, Fact),
    ) {
        let mut namespaces = BTreeMap::new();
        for (key, (_, record)) in &self.processes {
            if let Some(known) = record.namespaces.known() {
                namespaces.entry(known.net).or_insert(key.tgid);
            }
        }
        let (found, refused) = socket::read_all(self.boot, &namespaces);
        shortfall.namespaces_refused = refused;
        let gone: Vec<SocketKey> = self
            .sockets
            .keys()
            .filter(|key| !found.contains_key(key))
            .copied()
            .collect();
        for key in gone {
            if let Some(socket) = self.sockets.remove(&key) {
                emit(now, closed(key, socket));
            }
        }
        let fresh: BTreeSet<u64> = found
            .keys()
            .filter(|key| !self.sockets.contains_key(key))
            .map(|key| key.cookie & !INODE_MARK)
            .collect();
        let (owners, descriptors_refused) = if fresh.is_empty() {
            (BTreeMap::new(), false)
        } else {
            socket::owners(self.processes.keys().copied(), &fresh)
        };
        shortfall.descriptors_refused = descriptors_refused;
        let ownerless = if descriptors_refused {
            Why::NotPermitted
        } else {
            Why::Gone
        };
        for (key, mut socket) in found {
            let before = self.sockets.get(&key);
            let owner = match before {
                Some(before) => owner_of(before).clone(),
                None => owners
                    .get(&(key.cookie & !INODE_MARK))
                    .map_or(Field::Unknown(ownerless), |owner| Field::Known(*owner)),
            };
            let changed = match (before, &mut socket) {
                (Some(Socket::Connection(old)), Socket::Connection(new)) => {
                    new.owner = owner;
                    new.cause = if new.state == old.state {
                        old.cause
                    } else {
                        cause_of(new.state)
                    };
                    new.state != old.state
                }
                (Some(Socket::Listener(_)), Socket::Listener(new)) => {
                    new.owner = owner;
                    false
                }
                (_, Socket::Connection(new)) => {
                    new.owner = owner;
                    if !self.first {
                        new.cause = cause_of(new.state);
                    }
                    true
                }
                (_, Socket::Listener(new)) => {
                    new.owner = owner;
                    if !self.first {
                        new.cause = ListenerCause::Listen;
                    }
                    true
                }
            };
            if before.is_none() && self.sockets.len() >= REMEMBERED_MAX {
                shortfall.left_out += 1;
                continue;
            }
            if changed {
                emit(now, fact(key, socket.clone()));
            }
            self.sockets.insert(key, socket);
        }
    }
}

/// Every process whose threads have not all ended.
fn list_processes(boot: BootId) -> BTreeMap<ProcessKey, Stat> {
    let Ok(entries) = std::fs::read_dir("/proc") else {
        return BTreeMap::new();
    };
    entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter_map(|pid| Some((pid, Stat::read(pid)?)))
        .filter(|(_, stat)| !stat.ended)
        .map(|(pid, stat)| (process::key(boot, pid, &stat), stat))
        .collect()
}

/// The processes of `/proc` whose pid `listed` does not have: a baseline through the kernel's iterators is
/// held against it, for iterators have been seen to leave one out.
pub fn unlisted(
    boot: BootId,
    argv_bytes_max: usize,
    listed: &dyn Fn(u32) -> bool,
) -> Vec<(ProcessKey, Process)> {
    let live = list_processes(boot);
    let by_pid: BTreeMap<u32, ProcessKey> = live.keys().map(|key| (key.tgid, *key)).collect();
    live.iter()
        .filter(|(key, _)| !listed(key.tgid))
        .map(|(key, stat)| {
            let parent = parent_of(stat, &by_pid);
            let cause = ProcessCause::Baseline;
            let record = process::read_record(key.tgid, stat, cause, parent, argv_bytes_max);
            (*key, record)
        })
        .collect()
}

fn parent_of(stat: &Stat, by_pid: &BTreeMap<u32, ProcessKey>) -> Field<ProcessKey> {
    match by_pid.get(&stat.parent) {
        Some(parent) => Field::Known(*parent),
        None if stat.parent == 0 => Field::Absent,
        None => Field::Unknown(Why::Gone),
    }
}

/// The cause of a connection's record by its state alone: `/proc` does not tell who opened it, so an
/// established one is told as such and its direction stays unknown.
fn cause_of(state: ConnectionState) -> ConnectionCause {
    match state {
        ConnectionState::Connecting => ConnectionCause::Connect,
        ConnectionState::Established | ConnectionState::Closing => ConnectionCause::Established,
        ConnectionState::Closed(_) => ConnectionCause::Close,
    }
}

fn owner_of(socket: &Socket) -> &Field<ProcessKey> {
    match socket {
        Socket::Listener(listener) => &listener.owner,
        Socket::Connection(connection) => &connection.owner,
    }
}

fn closed(key: SocketKey, mut socket: Socket) -> Fact {
    match &mut socket {
        Socket::Listener(listener) => {
            listener.cause = ListenerCause::Close;
            listener.listening = false;
        }
        Socket::Connection(connection) => {
            connection.cause = ConnectionCause::Close;
            connection.state = ConnectionState::Closed(Outcome::Unknown);
        }
    }
    fact(key, socket)
}

fn fact(key: SocketKey, socket: Socket) -> Fact {
    match socket {
        Socket::Listener(record) => Fact::Listener { key, record },
        Socket::Connection(record) => Fact::Connection { key, record },
    }
}

#[cfg(test)]
mod tests;
