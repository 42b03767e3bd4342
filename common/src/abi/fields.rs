//! The kernel structure fields the programs read, by name.
//!
//! User space resolves each against the running kernel's BTF and hands the byte offsets to the programs as one
//! read-only array, indexed by [`Field`]. A field the kernel lacks is [`ABSENT`]: an error where it is
//! required, a declared degradation where it is not. Nothing is ever guessed.

/// Offset of a field that this kernel does not have.
pub const ABSENT: u32 = u32::MAX;

/// What it means that a field is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Without it the process hooks say nothing useful.
    Process,
    /// Without it the TCP hooks say nothing useful.
    Tcp,
    /// Records go without it and the sensor is reported degraded.
    Optional,
}

/// Where a field is found and what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The field.
    pub field: Field,
    /// Kernel structure that holds it.
    pub structure: &'static str,
    /// Member path in it, separated by dots; members of unnamed unions and structures count as its own.
    /// Empty for the size of the structure itself.
    pub path: &'static str,
    /// Size in bytes the programs read; the kernel's must match. 0 for an embedded structure.
    pub bytes: u32,
    /// What its absence means.
    pub need: Need,
}

macro_rules! fields {
    ($($name:ident = $structure:literal . $path:literal, $bytes:literal, $need:ident;)+) => {
        /// A kernel field the programs read; the number is its index in the offset array.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        #[expect(missing_docs, reason = "each is documented by the structure and path beside it")]
        pub enum Field { $($name,)+ }

        /// Every field, in the order of [`Field`].
        pub const PLACES: &[Place] = &[$(Place {
            field: Field::$name,
            structure: $structure,
            path: $path,
            bytes: $bytes,
            need: Need::$need,
        },)+];
    };
}

fields! {
    TaskPid = "task_struct"."pid", 4, Process;
    TaskTgid = "task_struct"."tgid", 4, Process;
    TaskStart = "task_struct"."start_boottime", 8, Process;
    TaskLeader = "task_struct"."group_leader", 8, Process;
    TaskRealParent = "task_struct"."real_parent", 8, Process;
    TaskMm = "task_struct"."mm", 8, Process;
    TaskFs = "task_struct"."fs", 8, Optional;
    TaskCred = "task_struct"."cred", 8, Process;
    TaskNsproxy = "task_struct"."nsproxy", 8, Optional;
    TaskThreadPid = "task_struct"."thread_pid", 8, Optional;
    TaskSignal = "task_struct"."signal", 8, Process;
    TaskComm = "task_struct"."comm", 16, Process;
    TaskFlags = "task_struct"."flags", 4, Process;
    TaskExitCode = "task_struct"."exit_code", 4, Process;
    TaskExitState = "task_struct"."exit_state", 4, Process;
    TaskCgroups = "task_struct"."cgroups", 8, Optional;
    TaskLoginUid = "task_struct"."loginuid", 4, Optional;
    TaskSessionId = "task_struct"."sessionid", 4, Optional;
    SignalLive = "signal_struct"."live.counter", 4, Process;
    SignalFlags = "signal_struct"."flags", 4, Process;
    SignalGroupExitCode = "signal_struct"."group_exit_code", 4, Process;
    SignalTty = "signal_struct"."tty", 8, Optional;
    TtyName = "tty_struct"."name", 64, Optional;
    MmArgStart = "mm_struct"."arg_start", 8, Process;
    MmArgEnd = "mm_struct"."arg_end", 8, Process;
    MmExeFile = "mm_struct"."exe_file", 8, Process;
    FilePath = "file"."f_path", 0, Process;
    FileInode = "file"."f_inode", 8, Optional;
    PathMnt = "path"."mnt", 8, Process;
    PathDentry = "path"."dentry", 8, Process;
    DentryParent = "dentry"."d_parent", 8, Process;
    DentryHashPprev = "dentry"."d_hash.pprev", 8, Optional;
    DentryName = "dentry"."d_name.name", 8, Process;
    DentryNameLen = "dentry"."d_name.len", 4, Process;
    VfsmountRoot = "vfsmount"."mnt_root", 8, Process;
    MountMnt = "mount"."mnt", 0, Process;
    MountParent = "mount"."mnt_parent", 8, Process;
    MountMountpoint = "mount"."mnt_mountpoint", 8, Process;
    FsRoot = "fs_struct"."root", 0, Optional;
    FsPwd = "fs_struct"."pwd", 0, Optional;
    CredUid = "cred"."uid", 4, Process;
    CredGid = "cred"."gid", 4, Process;
    CredEuid = "cred"."euid", 4, Process;
    CredEgid = "cred"."egid", 4, Process;
    CredSuid = "cred"."suid", 4, Process;
    CredSgid = "cred"."sgid", 4, Process;
    CredFsuid = "cred"."fsuid", 4, Process;
    CredFsgid = "cred"."fsgid", 4, Process;
    CredCapInheritable = "cred"."cap_inheritable", 8, Optional;
    CredCapPermitted = "cred"."cap_permitted", 8, Optional;
    CredCapEffective = "cred"."cap_effective", 8, Optional;
    CredCapBounding = "cred"."cap_bset", 8, Optional;
    CredCapAmbient = "cred"."cap_ambient", 8, Optional;
    CredUserNs = "cred"."user_ns", 8, Optional;
    NsproxyUts = "nsproxy"."uts_ns", 8, Optional;
    NsproxyIpc = "nsproxy"."ipc_ns", 8, Optional;
    NsproxyMnt = "nsproxy"."mnt_ns", 8, Optional;
    NsproxyNet = "nsproxy"."net_ns", 8, Optional;
    NsproxyTime = "nsproxy"."time_ns", 8, Optional;
    NsproxyCgroup = "nsproxy"."cgroup_ns", 8, Optional;
    UtsNsInum = "uts_namespace"."ns.inum", 4, Optional;
    IpcNsInum = "ipc_namespace"."ns.inum", 4, Optional;
    MntNsInum = "mnt_namespace"."ns.inum", 4, Optional;
    NetNsInum = "net"."ns.inum", 4, Tcp;
    TimeNsInum = "time_namespace"."ns.inum", 4, Optional;
    CgroupNsInum = "cgroup_namespace"."ns.inum", 4, Optional;
    UserNsInum = "user_namespace"."ns.inum", 4, Optional;
    PidNsInum = "pid_namespace"."ns.inum", 4, Optional;
    PidLevel = "pid"."level", 4, Optional;
    PidNumbers = "pid"."numbers", 0, Optional;
    UpidNr = "upid"."nr", 4, Optional;
    UpidNs = "upid"."ns", 8, Optional;
    UpidBytes = "upid"."", 0, Optional;
    CssSetDefault = "css_set"."dfl_cgrp", 8, Optional;
    CgroupKn = "cgroup"."kn", 8, Optional;
    KernfsNodeId = "kernfs_node"."id", 8, Optional;
    InodeNumber = "inode"."i_ino", 8, Optional;
    InodeSuper = "inode"."i_sb", 8, Optional;
    SuperDevice = "super_block"."s_dev", 4, Optional;
    BprmFilename = "linux_binprm"."filename", 8, Optional;
    BprmInterp = "linux_binprm"."interp", 8, Optional;
    SockFamily = "sock"."__sk_common.skc_family", 2, Tcp;
    SockState = "sock"."__sk_common.skc_state", 1, Tcp;
    SockDport = "sock"."__sk_common.skc_dport", 2, Tcp;
    SockDaddr = "sock"."__sk_common.skc_daddr", 4, Tcp;
    SockSaddr = "sock"."__sk_common.skc_rcv_saddr", 4, Tcp;
    SockDaddr6 = "sock"."__sk_common.skc_v6_daddr", 16, Optional;
    SockSaddr6 = "sock"."__sk_common.skc_v6_rcv_saddr", 16, Optional;
    SockNet = "sock"."__sk_common.skc_net.net", 8, Tcp;
    SockFlags = "sock"."__sk_common.skc_flags", 8, Tcp;
    SockError = "sock"."sk_err", 4, Tcp;
    SockUid = "sock"."sk_uid", 4, Optional;
    SockBacklog = "sock"."sk_ack_backlog", 4, Optional;
    SockBacklogMax = "sock"."sk_max_ack_backlog", 4, Optional;
    SockLockOwned = "sock"."sk_lock.owned", 4, Optional;
    SockSocket = "sock"."sk_socket", 8, Optional;
    SocketFile = "socket"."file", 8, Optional;
    SocketSk = "socket"."sk", 8, Optional;
    InetSport = "inet_sock"."inet_sport", 2, Tcp;
    TcpBytesReceived = "tcp_sock"."bytes_received", 8, Tcp;
    TcpBytesSent = "tcp_sock"."bytes_sent", 8, Tcp;
    TcpBytesRetrans = "tcp_sock"."bytes_retrans", 8, Tcp;
    TcpBytesAcked = "tcp_sock"."bytes_acked", 8, Tcp;
    TcpSndUna = "tcp_sock"."snd_una", 4, Optional;
    TcpSndNxt = "tcp_sock"."snd_nxt", 4, Optional;
    IterMeta = "bpf_iter__task"."meta", 8, Optional;
    IterTask = "bpf_iter__task"."task", 8, Optional;
    IterTcpSock = "bpf_iter__tcp"."sk_common", 8, Optional;
    IterFileTask = "bpf_iter__task_file"."task", 8, Optional;
    IterFileFd = "bpf_iter__task_file"."fd", 4, Optional;
    IterFileFile = "bpf_iter__task_file"."file", 8, Optional;
    IterMetaSeq = "bpf_iter_meta"."seq", 8, Optional;
}

/// Number of fields.
pub const COUNT: usize = PLACES.len();
