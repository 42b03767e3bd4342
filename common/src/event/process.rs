//! Process: a thread group, from its fork to the exit of its last thread.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{Field, Key, Source, Why};
use crate::{
    codec::{Reader, Short, Write},
    ids::{BootId, BootNanos},
    text::Text,
};

/// Names a process for ever: pids are reused, start times within a boot are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProcessKey {
    /// The boot it ran in.
    pub boot: BootId,
    /// Thread group id, as seen from the initial pid namespace.
    pub tgid: u32,
    /// `task_struct::start_boottime` of the group leader, nanoseconds.
    pub started: BootNanos,
}

impl Key for ProcessKey {
    fn put(&self, out: &mut Vec<u8>) {
        self.boot.put(out);
        out.put_u32(self.tgid);
        out.put_u64(self.started.0);
    }
    fn read(reader: &mut Reader<'_>) -> Result<Self, Short> {
        Ok(Self {
            boot: BootId::read(reader)?,
            tgid: reader.u32("tgid")?,
            started: BootNanos(reader.u64("start time")?),
        })
    }
}

/// The whole record of a process at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// What made the agent write this record.
    pub cause: ProcessCause,
    /// Running, or how it ended.
    pub state: ProcessState,
    /// Where the record came from.
    pub source: Source,
    /// The parent at that instant; absent for the first process.
    pub parent: Field<ProcessKey>,
    /// `task_struct::comm`, at most 15 bytes.
    pub comm: Text,
    /// Path of the executable; absent for kernel threads.
    pub exe: Field<Path>,
    /// For a script: the interpreter that the kernel started for it; `exe` is then the interpreter's file and
    /// this the script's path as given. Absent for binaries.
    pub script: Field<Text>,
    /// The arguments.
    pub argv: Field<Argv>,
    /// Working directory.
    pub cwd: Field<Path>,
    /// User and group ids and effective capabilities.
    pub credentials: Field<Credentials>,
    /// Inode numbers of its namespaces.
    pub namespaces: Field<Namespaces>,
    /// Kernel id of its cgroup (v2 hierarchy).
    pub cgroup: Field<u64>,
    /// Controlling terminal by its driver's name, e.g. `pts0`, `tty1`; absent without one.
    pub tty: Field<Text>,
}

/// What made the agent write the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessCause {
    /// It existed when the agent took a baseline.
    Baseline,
    /// It was created.
    Fork,
    /// It replaced its program.
    Exec,
    /// Its last thread ended.
    Exit,
}

/// Whether it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// At least one thread is alive.
    Running,
    /// All threads have ended.
    Exited {
        /// Exit code 0–255; 0 where a signal ended it.
        code: u8,
        /// The signal that ended it; 0 where it exited by itself.
        signal: u8,
        /// Whether a core was dumped.
        core_dumped: bool,
    },
    /// All threads have ended, and nobody saw how: code and signal are unknown for this reason.
    Gone(Why),
}

/// A path as the kernel resolved it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Path {
    /// The path's bytes.
    pub text: Text,
    /// Whether leading components were cut because the path is longer than the sensor reads.
    pub cut: bool,
}

/// Arguments of a process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Argv {
    /// The arguments, in order; the last one may be cut.
    pub args: Vec<Text>,
    /// Length of the whole list in the process's memory, bytes. More than is kept means it was cut.
    pub bytes_total: u32,
    /// Whether it was cut.
    pub cut: bool,
}

/// Credentials of the group leader or, at exec, of the thread that execs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the kernel's, credentials(7)")]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    pub suid: u32,
    pub sgid: u32,
    pub fsuid: u32,
    pub fsgid: u32,
    /// Effective capability set, bit n = capability n (capabilities(7)).
    pub cap_effective: u64,
}

/// Namespace inode numbers, as `/proc/<pid>/ns` shows them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names are the kernel's, namespaces(7)")]
pub struct Namespaces {
    pub pid: u32,
    pub mnt: u32,
    pub net: u32,
    pub uts: u32,
    pub ipc: u32,
    pub cgroup: u32,
    pub user: u32,
}
