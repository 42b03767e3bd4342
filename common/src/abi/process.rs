//! Process records: fork, exec, exit, and a process as an iterator finds it.
//!
//! All four carry the same fixed part, so that each is a self-contained statement about one process at one
//! instant. The texts follow it in this order: executable, working directory, file name given to exec,
//! interpreter, arguments.

use core::mem::offset_of;

use super::read::{Bytes, until_nul};
use super::{DecodeError, HEADER_BYTES, Header, Kind};

/// Most bytes kept of a path (executable, working directory); what is cut is the part nearest the root.
pub const PATH_BYTES_MAX: usize = 1024;
/// Most bytes kept of a file name given to exec, or of an interpreter.
pub const NAME_BYTES_MAX: usize = 256;
/// Most bytes kept of the arguments, whatever the operator configures.
pub const ARGV_BYTES_MAX: usize = 4096;
/// Bytes of a kernel task name, NUL included.
pub const COMM_BYTES: usize = 16;
/// Largest record of this family.
pub const RECORD_BYTES_MAX: usize =
    size_of::<ProcessRaw>() + 2 * PATH_BYTES_MAX + 2 * NAME_BYTES_MAX + ARGV_BYTES_MAX;

/// Bits of [`super::Header::flags`] in this family.
pub mod flag {
    /// The arguments are longer than what was kept; their whole length is in `argv_bytes_total`.
    pub const ARGV_CUT: u32 = 1 << 0;
    /// Reading the arguments from user memory faulted; what was readable is kept.
    pub const ARGV_FAULT: u32 = 1 << 1;
    /// The executable's path is longer or deeper than what was kept; its beginning is missing.
    pub const EXE_CUT: u32 = 1 << 2;
    /// The executable has been deleted.
    pub const EXE_DELETED: u32 = 1 << 3;
    /// The working directory's path is longer or deeper than what was kept; its beginning is missing.
    pub const CWD_CUT: u32 = 1 << 4;
    /// The working directory has been deleted.
    pub const CWD_DELETED: u32 = 1 << 5;
    /// A kernel thread: it has no executable.
    pub const KERNEL_THREAD: u32 = 1 << 6;
    /// The address space is already gone: texts are empty for that reason.
    pub const NO_MEMORY: u32 = 1 << 7;
    /// The executable lies outside what the process can reach from its root (a detached or memory file).
    pub const EXE_UNREACHABLE: u32 = 1 << 8;
    /// A file name or interpreter is longer than what was kept.
    pub const NAME_CUT: u32 = 1 << 9;
    /// The leading thread has ended while others live on.
    pub const LEADER_ENDED: u32 = 1 << 10;
    /// The exec was made by a thread that was not the leader; `old_tid` is its former id.
    pub const EXEC_BY_THREAD: u32 = 1 << 11;
    /// The process has no address space of its own yet (vfork): texts are those of its parent.
    pub const SHARED_MEMORY: u32 = 1 << 12;
}

/// Namespace inode numbers in the order of [`ProcessRaw::namespaces`]; 0 where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Namespaces {
    /// cgroup namespace.
    pub cgroup: u32,
    /// System V IPC namespace.
    pub ipc: u32,
    /// Mount namespace.
    pub mnt: u32,
    /// Network namespace.
    pub net: u32,
    /// PID namespace of the process itself.
    pub pid: u32,
    /// Time namespace.
    pub time: u32,
    /// User namespace of its credentials.
    pub user: u32,
    /// UTS (host name) namespace.
    pub uts: u32,
}

/// Fixed part of a process record as it lies in memory; see [`Process`] for the meaning of each field.
#[derive(Clone, Copy)]
#[repr(C)]
#[expect(
    missing_docs,
    reason = "each field is documented where it is decoded, in `Process`"
)]
pub struct ProcessRaw {
    pub header: Header,
    pub start_boot_ns: u64,
    pub parent_start_boot_ns: u64,
    pub cgroup_id: u64,
    pub exe_inode: u64,
    /// Inheritable, permitted, effective, bounding, ambient.
    pub caps: [u64; 5],
    pub exe_dev: u32,
    pub tgid: u32,
    pub tid: u32,
    pub old_tid: u32,
    pub parent_tgid: u32,
    pub ns_tgid: u32,
    pub wait_status: u32,
    /// uid, gid, euid, egid, suid, sgid, fsuid, fsgid.
    pub ids: [u32; 8],
    pub login_uid: u32,
    pub session_id: u32,
    /// cgroup, ipc, mnt, net, pid, time, user, uts.
    pub namespaces: [u32; 8],
    pub argv_bytes_total: u32,
    pub exe_bytes: u16,
    pub cwd_bytes: u16,
    pub file_bytes: u16,
    pub interpreter_bytes: u16,
    pub argv_bytes: u16,
    pub reserved: [u16; 3],
    pub comm: [u8; COMM_BYTES],
    pub tty: [u8; 16],
}

// The decoder reads by offset: padding would be bytes nobody wrote.
const _: () = assert!(size_of::<ProcessRaw>() == HEADER_BYTES + 72 + 28 + 32 + 8 + 32 + 4 + 16 + 32);

/// A process's key within one boot: a thread group and when its leader started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProcessKey {
    /// Thread group id in the initial PID namespace: what user space calls the pid.
    pub tgid: u32,
    /// Start of the leading thread, nanoseconds of `CLOCK_BOOTTIME`; survives exec, also by another thread.
    pub start_boot_ns: u64,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitStatus {
    /// What it passed to exit; 0 if a signal ended it.
    pub code: u8,
    /// The signal that ended it; 0 if it exited by itself.
    pub signal: u8,
    /// A core was dumped.
    pub core_dumped: bool,
}

impl ExitStatus {
    /// Splits the kernel's wait status.
    #[must_use]
    pub const fn from_wait_status(status: u32) -> Self {
        let [low, code, ..] = status.to_le_bytes();
        Self {
            code,
            signal: low & 0x7f,
            core_dumped: low & 0x80 != 0,
        }
    }
}

/// Credentials in the initial user namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the kernel's own names, credentials(7)")]
pub struct Credentials {
    pub uid: u32,
    pub gid: u32,
    pub euid: u32,
    pub egid: u32,
    pub suid: u32,
    pub sgid: u32,
    pub fsuid: u32,
    pub fsgid: u32,
    pub cap_inheritable: u64,
    pub cap_permitted: u64,
    pub cap_effective: u64,
    pub cap_bounding: u64,
    pub cap_ambient: u64,
}

/// A process at one instant. Texts are raw bytes exactly as the kernel holds them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Process<'a> {
    /// Which process.
    pub key: ProcessKey,
    /// Its parent at this instant (who reaps it), 0 for none.
    pub parent: ProcessKey,
    /// The thread that acted.
    pub tid: u32,
    /// The acting thread's id before an exec; equals `tid` unless [`flag::EXEC_BY_THREAD`].
    pub old_tid: u32,
    /// Its pid in its own PID namespace.
    pub ns_tgid: u32,
    /// Only in [`Kind::ProcessExit`].
    pub exit: Option<ExitStatus>,
    /// Who it acts as.
    pub credentials: Credentials,
    /// Audit login uid, `u32::MAX` if unset or not told.
    pub login_uid: u32,
    /// Audit session, `u32::MAX` if unset or not told.
    pub session_id: u32,
    /// Its namespaces.
    pub namespaces: Namespaces,
    /// Id of its cgroup in the v2 hierarchy (the inode of its directory), 0 if not told.
    pub cgroup_id: u64,
    /// Inode of the executable, 0 without one.
    pub exe_inode: u64,
    /// Device of the executable in the kernel's own encoding (major << 20 | minor).
    pub exe_dev: u32,
    /// Task name of the acting thread, up to 15 bytes.
    pub comm: &'a [u8],
    /// Name of the controlling terminal, empty without one.
    pub tty: &'a [u8],
    /// Executable as seen from the process's own root.
    pub exe: &'a [u8],
    /// Working directory as seen from the process's own root; empty at exit.
    pub cwd: &'a [u8],
    /// The file name given to exec: the script, where one was run. Only in [`Kind::ProcessExec`].
    pub file: &'a [u8],
    /// The interpreter that a script named; empty where the file itself was run.
    pub interpreter: &'a [u8],
    /// Arguments, each followed by a NUL, cut at the configured length.
    pub argv: &'a [u8],
    /// Length of the whole argument area, of which `argv` is the beginning.
    pub argv_bytes_total: u32,
    /// Bits of [`flag`].
    pub flags: u32,
}

impl<'a> Process<'a> {
    pub(super) fn decode(kind: Kind, flags: u32, bytes: &'a [u8]) -> Result<Self, DecodeError> {
        let b = Bytes(bytes);
        macro_rules! at {
            ($read:ident, $($field:tt)+) => { b.$read(offset_of!(ProcessRaw, $($field)+))? };
        }
        let ids = offset_of!(ProcessRaw, ids);
        let caps = offset_of!(ProcessRaw, caps);
        let ns = offset_of!(ProcessRaw, namespaces);
        let mut tail = Tail {
            bytes: b,
            at: size_of::<ProcessRaw>(),
        };
        Ok(Self {
            key: ProcessKey {
                tgid: at!(u32, tgid),
                start_boot_ns: at!(u64, start_boot_ns),
            },
            parent: ProcessKey {
                tgid: at!(u32, parent_tgid),
                start_boot_ns: at!(u64, parent_start_boot_ns),
            },
            tid: at!(u32, tid),
            old_tid: at!(u32, old_tid),
            ns_tgid: at!(u32, ns_tgid),
            exit: matches!(kind, Kind::ProcessExit)
                .then_some(ExitStatus::from_wait_status(at!(u32, wait_status))),
            credentials: Credentials {
                uid: b.u32(ids)?,
                gid: b.u32(ids + 4)?,
                euid: b.u32(ids + 8)?,
                egid: b.u32(ids + 12)?,
                suid: b.u32(ids + 16)?,
                sgid: b.u32(ids + 20)?,
                fsuid: b.u32(ids + 24)?,
                fsgid: b.u32(ids + 28)?,
                cap_inheritable: b.u64(caps)?,
                cap_permitted: b.u64(caps + 8)?,
                cap_effective: b.u64(caps + 16)?,
                cap_bounding: b.u64(caps + 24)?,
                cap_ambient: b.u64(caps + 32)?,
            },
            login_uid: at!(u32, login_uid),
            session_id: at!(u32, session_id),
            namespaces: Namespaces {
                cgroup: b.u32(ns)?,
                ipc: b.u32(ns + 4)?,
                mnt: b.u32(ns + 8)?,
                net: b.u32(ns + 12)?,
                pid: b.u32(ns + 16)?,
                time: b.u32(ns + 20)?,
                user: b.u32(ns + 24)?,
                uts: b.u32(ns + 28)?,
            },
            cgroup_id: at!(u64, cgroup_id),
            exe_inode: at!(u64, exe_inode),
            exe_dev: at!(u32, exe_dev),
            comm: until_nul(b.slice(offset_of!(ProcessRaw, comm), COMM_BYTES)?),
            tty: until_nul(b.slice(offset_of!(ProcessRaw, tty), 16)?),
            exe: tail.take(at!(u16, exe_bytes))?,
            cwd: tail.take(at!(u16, cwd_bytes))?,
            file: tail.take(at!(u16, file_bytes))?,
            interpreter: tail.take(at!(u16, interpreter_bytes))?,
            argv: tail.take(at!(u16, argv_bytes))?,
            argv_bytes_total: at!(u32, argv_bytes_total),
            flags,
        })
    }

    /// The arguments one by one, without their NULs; the last may be cut ([`flag::ARGV_CUT`]).
    pub fn arguments(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        let whole = self.argv.strip_suffix(&[0]).unwrap_or(self.argv);
        whole.split(|&b| b == 0).filter(move |_| !whole.is_empty())
    }

    /// Whether a bit of [`flag`] is set.
    #[must_use]
    pub const fn has(&self, bit: u32) -> bool {
        self.flags & bit != 0
    }
}

/// Hands out the texts that follow the fixed part, in order.
struct Tail<'a> {
    bytes: Bytes<'a>,
    at: usize,
}

impl<'a> Tail<'a> {
    fn take(&mut self, len: u16) -> Result<&'a [u8], DecodeError> {
        let text = self.bytes.slice(self.at, usize::from(len))?;
        self.at += usize::from(len);
        Ok(text)
    }
}
