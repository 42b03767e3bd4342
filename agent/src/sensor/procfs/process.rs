//! One process as `/proc/<pid>` tells it, byte for byte.
//!
//! Owns the parsing of `stat` and `status`. Reads bytes and not strings, because names and arguments are
//! whatever a program put there.

use std::{
    fs, io,
    os::unix::{ffi::OsStrExt, fs::MetadataExt},
    path::PathBuf,
};

use common::{
    event::{
        Field, Process, ProcessKey, Source, Why,
        process::{Argv, Credentials, Namespaces, Path, ProcessCause, ProcessState},
    },
    ids::{BootId, BootNanos},
    text::Text,
};

use crate::sensor::why;

/// Nanoseconds of a clock tick: `/proc` counts in `USER_HZ`, which is 100 on every architecture we run on.
pub(crate) const TICK_NS: u64 = 10_000_000;
/// The kernel's marker of a deleted file at the end of a link.
const DELETED: &[u8] = b" (deleted)";
/// Kernel threads have this bit in their flags (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;
/// A thread that ends has this bit before the exit hook runs (`PF_EXITING`).
const EXITING: u64 = 0x4;

/// What `/proc/<pid>/stat` says, as far as needed to know a process again and to see that it changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) comm: Text,
    pub(super) parent: u32,
    pub(super) tty: u32,
    pub(super) started: BootNanos,
    pub(super) kernel_thread: bool,
    /// All threads have ended or the last is about to; only the parent's wait is missing.
    pub(super) ended: bool,
    /// Places of code and stack: they change with the program. Ones where the kernel hides them.
    pub(super) program: (u64, u64),
}

impl Stat {
    /// Parses the file. The name may hold spaces, parentheses and newlines, so fields count from its end.
    pub(super) fn parse(bytes: &[u8]) -> Option<Self> {
        let open = bytes.iter().position(|&b| b == b'(')?;
        let close = bytes.iter().rposition(|&b| b == b')')?;
        let comm = bytes.get(open + 1..close)?;
        let rest = std::str::from_utf8(bytes.get(close + 1..)?).ok()?;
        // Field numbers are proc_pid_stat(5)'s, of which 3 is the first after the name.
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3).copied();
        let number = |at: usize| field(at)?.parse::<u64>().ok();
        let dead = matches!(field(3)?, "Z" | "X" | "x") || number(9)? & EXITING != 0;
        Some(Self {
            comm: comm.into(),
            parent: u32::try_from(number(4)?).ok()?,
            // A device number printed as signed.
            tty: field(7)?.parse::<i32>().ok()?.cast_unsigned(),
            started: BootNanos(number(22)?.saturating_mul(TICK_NS)),
            kernel_thread: number(9)? & KERNEL_THREAD != 0,
            ended: dead && number(20)? <= 1,
            program: (number(26)?, number(28)?),
        })
    }

    /// Reads the file of a process; `None` where it has gone meanwhile.
    pub(super) fn read(pid: u32) -> Option<Self> {
        Self::parse(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }
}

/// The whole record of a process that `stat` belongs to. What cannot be read says why.
pub(super) fn read_record(
    pid: u32,
    stat: &Stat,
    cause: ProcessCause,
    parent: Field<ProcessKey>,
    argv_bytes_max: usize,
) -> Process {
    let dir = PathBuf::from(format!("/proc/{pid}"));
    let absent_for_kernel = |found: io::Result<PathBuf>| match found {
        _ if stat.kernel_thread => Field::Absent,
        Ok(target) => Field::Known(path_of(target.as_os_str().as_bytes())),
        Err(error) => Field::Unknown(why(&error)),
    };
    Process {
        cause,
        state: ProcessState::Running,
        source: Source::Procfs,
        parent,
        comm: stat.comm.clone(),
        exe: absent_for_kernel(fs::read_link(dir.join("exe"))),
        script: Field::Unknown(Why::NotOffered),
        argv: match fs::read(dir.join("cmdline")) {
            _ if stat.kernel_thread => Field::Absent,
            Ok(bytes) => Field::Known(argv_of(&bytes, argv_bytes_max)),
            Err(error) => Field::Unknown(why(&error)),
        },
        cwd: absent_for_kernel(fs::read_link(dir.join("cwd"))),
        credentials: match fs::read_to_string(dir.join("status")) {
            Ok(text) => credentials_of(&text).map_or(Field::Unknown(Why::NotOffered), Field::Known),
            Err(error) => Field::Unknown(why(&error)),
        },
        namespaces: match namespaces_of(&dir) {
            Ok(namespaces) => Field::Known(namespaces),
            Err(error) => Field::Unknown(why(&error)),
        },
        cgroup: cgroup_of(&dir),
        tty: tty_of(stat.tty),
    }
}

fn path_of(bytes: &[u8]) -> Path {
    let text = bytes.strip_suffix(DELETED).unwrap_or(bytes);
    let kept = text.len().min(common::limits::PATH_BYTES_MAX);
    Path {
        text: text[text.len() - kept..].into(),
        cut: kept < text.len(),
    }
}

/// Cuts `bytes`, arguments each ended by a NUL, to `max`.
pub(super) fn argv_of(bytes: &[u8], max: usize) -> Argv {
    let kept = &bytes[..bytes.len().min(max)];
    let kept = kept.strip_suffix(&[0]).unwrap_or(kept);
    Argv {
        args: if kept.is_empty() {
            Vec::new()
        } else {
            kept.split(|&b| b == 0).map(Text::from).collect()
        },
        bytes_total: u32::try_from(bytes.len()).unwrap_or(u32::MAX),
        cut: bytes.len() > max,
    }
}

/// Reads the id lines of `status`.
fn credentials_of(status: &str) -> Option<Credentials> {
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let ids = |name: &str| -> Option<[u32; 4]> {
        let ids: Vec<u32> = line(name)?
            .split_ascii_whitespace()
            .filter_map(|id| id.parse().ok())
            .collect();
        ids.try_into().ok()
    };
    let [uid, euid, suid, fsuid] = ids("Uid:")?;
    let [gid, egid, sgid, fsgid] = ids("Gid:")?;
    Some(Credentials {
        uid,
        gid,
        euid,
        egid,
        suid,
        sgid,
        fsuid,
        fsgid,
        cap_effective: u64::from_str_radix(line("CapEff:")?.trim(), 16).ok()?,
    })
}

fn namespaces_of(dir: &std::path::Path) -> io::Result<Namespaces> {
    let inode = |name: &str| -> io::Result<u32> {
        let metadata = fs::metadata(dir.join("ns").join(name))?;
        u32::try_from(metadata.ino()).map_err(io::Error::other)
    };
    Ok(Namespaces {
        pid: inode("pid")?,
        mnt: inode("mnt")?,
        net: inode("net")?,
        uts: inode("uts")?,
        ipc: inode("ipc")?,
        cgroup: inode("cgroup")?,
        user: inode("user")?,
    })
}

/// The id of a v2 cgroup is the inode of its directory, wherever that hierarchy is mounted.
fn cgroup_of(dir: &std::path::Path) -> Field<u64> {
    let text = match fs::read_to_string(dir.join("cgroup")) {
        Ok(text) => text,
        Err(error) => return Field::Unknown(why(&error)),
    };
    let Some(path) = text.lines().find_map(|line| line.strip_prefix("0::/")) else {
        return Field::Unknown(Why::NotOffered);
    };
    ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"]
        .iter()
        .filter(|root| PathBuf::from(root).join("cgroup.procs").exists())
        .find_map(|root| fs::metadata(PathBuf::from(root).join(path)).ok())
        .map_or(Field::Unknown(Why::NotOffered), |metadata| {
            Field::Known(metadata.ino())
        })
}

/// The driver's name of a terminal from its device number as `stat` has it.
fn tty_of(device: u32) -> Field<Text> {
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | (device >> 12 & 0xfff00);
    let name = match (major, minor) {
        (0, 0) => return Field::Absent,
        (4, 0..64) => format!("tty{minor}"),
        (4, _) => format!("ttyS{}", minor - 64),
        (5, 1) => "console".to_owned(),
        (136..144, _) => format!("pts{}", (major - 136) * 256 + minor),
        _ => format!("{major}:{minor}"),
    };
    Field::Known(name.as_str().into())
}

/// The key of a process by what `stat` says of it.
pub(super) fn key(boot: BootId, pid: u32, stat: &Stat) -> ProcessKey {
    ProcessKey {
        boot,
        tgid: pid,
        started: stat.started,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_do_not_shift_fields() {
        let line = b"42 (a) R 1 (\n\xff) S 7 42 42 34817 -1 4194560 1 0 0 0 2 3 0 0 20 0 5 0 1234 99 9 9 111 112 113 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!(stat.comm, Text::from(&b"a) R 1 (\n\xff"[..]));
        assert_eq!((stat.parent, stat.ended), (7, false));
        assert_eq!(stat.started, BootNanos(12_340_000_000));
        assert_eq!(stat.program, (111, 113));
        assert_eq!(tty_of(stat.tty), Field::Known("pts1".into()));
    }

    #[test]
    fn a_leader_that_ended_before_its_threads_still_runs() {
        let line = |threads: u32| {
            format!("42 (x) Z 7 42 42 0 -1 0 1 0 0 0 2 3 0 0 20 0 {threads} 0 1234 99 9 9 0 0 0 0")
                .into_bytes()
        };
        assert!(!Stat::parse(&line(3)).unwrap().ended);
        assert!(Stat::parse(&line(1)).unwrap().ended);
    }

    #[test]
    fn arguments_are_cut_where_said() {
        let argv = argv_of(b"sh\0-c\0\0x\0", 4096);
        assert_eq!(argv.args, ["sh", "-c", "", "x"].map(Text::from));
        assert!(!argv.cut && argv.bytes_total == 9);
        let argv = argv_of(b"sh\0-c\0", 4);
        assert_eq!(argv.args, ["sh", "-"].map(Text::from));
        assert!(argv.cut);
        assert!(argv_of(b"", 4).args.is_empty());
    }

    #[test]
    fn this_process_reads_as_itself() {
        let pid = std::process::id();
        let stat = Stat::read(pid).unwrap();
        let record = read_record(pid, &stat, ProcessCause::Baseline, Field::Absent, 4096);
        let exe = std::env::current_exe().unwrap();
        assert_eq!(record.exe.known().unwrap().text.0, exe.as_os_str().as_bytes());
        assert_eq!(
            record.credentials.known().unwrap().uid,
            rustix::process::getuid().as_raw()
        );
        assert!(record.namespaces.known().unwrap().net > 0);
    }

    proptest::proptest! {
        #[test]
        fn prop_garbage_never_panics(bytes: Vec<u8>) {
            let _ = Stat::parse(&bytes);
            let _ = argv_of(&bytes, 16);
        }
    }
}
