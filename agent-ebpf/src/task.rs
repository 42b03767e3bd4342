//! What a task tells about its process: the part that all process records share.

use aya_ebpf::helpers::generated::{bpf_probe_read_kernel, bpf_probe_read_kernel_str};
use common::abi::fields::{ABSENT, Field};
use common::abi::process::{ARGV_BYTES_MAX, NAME_BYTES_MAX, PATH_BYTES_MAX, ProcessRaw, flag};

use crate::kernel::{address, argv_bytes, copy, get, offset, peek};
use crate::path::{self, PathBuffer};

/// Bytes of texts before the arguments begin at most; a power of two above what the texts can fill, so that
/// the verifier can bound every write by a mask.
const TAIL_BYTES: usize = 8192;
const TAIL_MASK: u32 = TAIL_BYTES as u32 - 1;
const _: () = assert!(2 * PATH_BYTES_MAX + 2 * NAME_BYTES_MAX + ARGV_BYTES_MAX < TAIL_BYTES);

/// Flag of a task that is a kernel thread.
pub(crate) const PF_KTHREAD: u32 = 0x0020_0000;
const PAGE_MASK: u64 = 4095;

/// A record under construction, too large for the stack.
#[repr(C)]
pub(crate) struct Scratch {
    /// The fixed part.
    pub(crate) raw: ProcessRaw,
    tail: [u8; TAIL_BYTES + ARGV_BYTES_MAX],
    path: PathBuffer,
}

/// What is written so far.
#[derive(Clone, Copy)]
pub(crate) struct Progress {
    /// Bytes of texts in the tail.
    pub(crate) used: u32,
    /// Bits of [`flag`].
    pub(crate) flags: u32,
}

/// Key of a task's process: thread group id and start of its leader. `task` must be a typed pointer.
#[inline(always)]
pub(crate) fn key(task: u64) -> (u32, u64) {
    let leader: u64 = peek(task, Field::TaskLeader);
    (peek(task, Field::TaskTgid), peek(leader, Field::TaskStart))
}

impl Scratch {
    /// Fills the fixed part from a task, texts excepted; yields the flags it implies. `task` must be a typed
    /// pointer.
    #[inline(always)]
    pub(crate) fn fill(&mut self, task: u64) -> u32 {
        let raw = &mut self.raw;
        let leader: u64 = peek(task, Field::TaskLeader);
        let parent: u64 = peek(leader, Field::TaskRealParent);
        raw.tgid = peek(task, Field::TaskTgid);
        raw.tid = peek(task, Field::TaskPid);
        raw.old_tid = raw.tid;
        raw.start_boot_ns = peek(leader, Field::TaskStart);
        (raw.parent_tgid, raw.parent_start_boot_ns) = key(parent);
        raw.wait_status = 0;
        raw.argv_bytes_total = 0;
        raw.exe_bytes = 0;
        raw.cwd_bytes = 0;
        raw.file_bytes = 0;
        raw.interpreter_bytes = 0;
        raw.argv_bytes = 0;
        raw.reserved = [0; 3];
        raw.exe_inode = 0;
        raw.exe_dev = 0;
        raw.comm = [0; 16];
        copy(task, Field::TaskComm, &mut raw.comm);
        raw.tty = [0; 16];
        let signal: u64 = peek(task, Field::TaskSignal);
        copy(peek(signal, Field::SignalTty), Field::TtyName, &mut raw.tty);
        fill_credentials(raw, task);
        fill_namespaces(raw, task, leader);
        let css_set: u64 = peek(task, Field::TaskCgroups);
        let cgroup: u64 = peek(css_set, Field::CssSetDefault);
        raw.cgroup_id = peek(peek(cgroup, Field::CgroupKn), Field::KernfsNodeId);
        let mut flags = 0;
        if peek::<u32>(task, Field::TaskFlags) & PF_KTHREAD != 0 {
            flags |= flag::KERNEL_THREAD;
        }
        if raw.tid != raw.tgid && peek::<u32>(leader, Field::TaskExitState) != 0 {
            flags |= flag::LEADER_ENDED;
        }
        flags
    }

    /// Adds the executable and the working directory of `task`.
    #[inline(always)]
    pub(crate) fn add_paths(&mut self, task: u64, mm: u64, mut progress: Progress) -> Progress {
        let fs: u64 = peek(task, Field::TaskFs);
        let root = address(fs, Field::FsRoot);
        let exe: u64 = peek(mm, Field::MmExeFile);
        if exe != 0 {
            let inode: u64 = peek(exe, Field::FileInode);
            self.raw.exe_inode = peek(inode, Field::InodeNumber);
            self.raw.exe_dev = peek(peek(inode, Field::InodeSuper), Field::SuperDevice);
            let (len, bits) = self.add_path(address(exe, Field::FilePath), root, progress.used);
            self.raw.exe_bytes = len as u16;
            progress.used += len;
            progress.flags |= bit(bits, path::CUT, flag::EXE_CUT)
                | bit(bits, path::DELETED, flag::EXE_DELETED)
                | bit(bits, path::UNREACHABLE, flag::EXE_UNREACHABLE);
        }
        if fs != 0 {
            let (len, bits) = self.add_path(address(fs, Field::FsPwd), root, progress.used);
            self.raw.cwd_bytes = len as u16;
            progress.used += len;
            progress.flags |=
                bit(bits, path::CUT, flag::CWD_CUT) | bit(bits, path::DELETED, flag::CWD_DELETED);
        }
        progress
    }

    #[inline(always)]
    fn add_path(&mut self, at: u64, root: u64, used: u32) -> (u32, u32) {
        let (start, bits) = path::walk(at, root, &mut self.path);
        let start = start & (PATH_BYTES_MAX as u32 - 1);
        let len = (PATH_BYTES_MAX as u32 - start) & (2 * PATH_BYTES_MAX as u32 - 1);
        // SAFETY: the mask keeps the start within the tail, which has room for a whole path after that; the
        // source is checked by the helper.
        unsafe {
            bpf_probe_read_kernel(
                self.tail.as_mut_ptr().add((used & TAIL_MASK) as usize).cast(),
                len,
                self.path.text.as_ptr().add(start as usize).cast(),
            );
        }
        (len, bits)
    }

    /// Adds a kernel string of at most [`NAME_BYTES_MAX`] bytes; yields its length.
    #[inline(always)]
    pub(crate) fn add_name(&mut self, at: u64, progress: &mut Progress) -> u16 {
        // SAFETY: the mask keeps the start within the tail, which has room for a name after that.
        let written = unsafe {
            bpf_probe_read_kernel_str(
                self.tail
                    .as_mut_ptr()
                    .add((progress.used & TAIL_MASK) as usize)
                    .cast(),
                NAME_BYTES_MAX as u32 + 1,
                at as *const _,
            )
        };
        if written <= 1 {
            return 0;
        }
        let len = (written as u32 - 1) & (2 * NAME_BYTES_MAX as u32 - 1);
        if len == NAME_BYTES_MAX as u32 {
            progress.flags |= flag::NAME_CUT;
        }
        progress.used += len;
        len as u16
    }

    /// Adds the arguments in `mm`, read by `read` (current process or another's).
    ///
    /// `read` copies user memory and yields 0 if all of it could be read.
    #[inline(always)]
    pub(crate) fn add_arguments(
        &mut self,
        mm: u64,
        mut progress: Progress,
        read: impl Fn(*mut u8, u32, u64) -> i64,
    ) -> Progress {
        let start: u64 = peek(mm, Field::MmArgStart);
        let end: u64 = peek(mm, Field::MmArgEnd);
        if start == 0 || end <= start {
            return progress;
        }
        let total = end - start;
        self.raw.argv_bytes_total = if total > u32::MAX as u64 {
            u32::MAX
        } else {
            total as u32
        };
        let bound = argv_bytes() as u64;
        let mut len = total;
        if len > bound {
            len = bound;
            progress.flags |= flag::ARGV_CUT;
        }
        if len > ARGV_BYTES_MAX as u64 {
            len = ARGV_BYTES_MAX as u64;
        }
        // SAFETY: the mask keeps the start within the tail, which has ARGV_BYTES_MAX bytes after that.
        let to = unsafe { self.tail.as_mut_ptr().add((progress.used & TAIL_MASK) as usize) };
        if read(to, len as u32, start) != 0 {
            progress.flags |= flag::ARGV_FAULT;
            // One of the (at most two) pages is not there; the first may be.
            let first = PAGE_MASK + 1 - (start & PAGE_MASK);
            if first < len && read(to, first as u32, start) == 0 {
                len = first;
            } else {
                len = 0;
            }
        }
        self.raw.argv_bytes = len as u16;
        progress.used += len as u32;
        progress
    }

    /// Length of the whole record, masked so that the verifier can follow it.
    #[inline(always)]
    pub(crate) fn record_bytes(progress: Progress) -> u32 {
        size_of::<ProcessRaw>() as u32 + (progress.used & TAIL_MASK)
    }
}

#[inline(always)]
fn bit(bits: u32, from: u32, to: u32) -> u32 {
    if bits & from != 0 { to } else { 0 }
}

#[inline(always)]
fn fill_credentials(raw: &mut ProcessRaw, task: u64) {
    let cred: u64 = peek(task, Field::TaskCred);
    raw.ids = [
        peek(cred, Field::CredUid),
        peek(cred, Field::CredGid),
        peek(cred, Field::CredEuid),
        peek(cred, Field::CredEgid),
        peek(cred, Field::CredSuid),
        peek(cred, Field::CredSgid),
        peek(cred, Field::CredFsuid),
        peek(cred, Field::CredFsgid),
    ];
    raw.caps = [
        peek(cred, Field::CredCapInheritable),
        peek(cred, Field::CredCapPermitted),
        peek(cred, Field::CredCapEffective),
        peek(cred, Field::CredCapBounding),
        peek(cred, Field::CredCapAmbient),
    ];
    raw.namespaces[6] = peek(peek(cred, Field::CredUserNs), Field::UserNsInum);
    // Zero would name root and session 0: what is not told is "unset" instead.
    raw.login_uid = peek_or_unset(task, Field::TaskLoginUid);
    raw.session_id = peek_or_unset(task, Field::TaskSessionId);
}

#[inline(always)]
fn peek_or_unset(base: u64, field: Field) -> u32 {
    if offset(field) == ABSENT {
        u32::MAX
    } else {
        peek(base, field)
    }
}

#[inline(always)]
fn fill_namespaces(raw: &mut ProcessRaw, task: u64, leader: u64) {
    let proxy: u64 = peek(task, Field::TaskNsproxy);
    raw.namespaces[0] = peek(peek(proxy, Field::NsproxyCgroup), Field::CgroupNsInum);
    raw.namespaces[1] = peek(peek(proxy, Field::NsproxyIpc), Field::IpcNsInum);
    raw.namespaces[2] = peek(peek(proxy, Field::NsproxyMnt), Field::MntNsInum);
    raw.namespaces[3] = peek(peek(proxy, Field::NsproxyNet), Field::NetNsInum);
    raw.namespaces[5] = peek(peek(proxy, Field::NsproxyTime), Field::TimeNsInum);
    raw.namespaces[7] = peek(peek(proxy, Field::NsproxyUts), Field::UtsNsInum);
    // A pid has a number in each namespace from the initial one down to its own, which is the last.
    let pid: u64 = peek(leader, Field::TaskThreadPid);
    let level: u32 = peek(pid, Field::PidLevel);
    let numbers = address(pid, Field::PidNumbers);
    let each = offset(Field::UpidBytes) as u64;
    let own = if numbers == 0 {
        0
    } else {
        numbers + each * (level & 0x1f) as u64
    };
    raw.ns_tgid = get(own, Field::UpidNr);
    raw.namespaces[4] = get(get(own, Field::UpidNs), Field::PidNsInum);
}
