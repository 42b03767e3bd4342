//! Kernel ABI: the fixed structures that the eBPF programs write and the agent reads.
//!
//! Owns the record layouts (one file per hook family), their kinds, the table of kernel fields the programs
//! need ([`fields`]) and a decoder that takes any bytes whatever. Everything is in native byte order, because
//! writer and reader are always the same machine; nothing here is persisted or sent.
//! Refuses: meaning. What a record says about an entity is decided by the agent's sensors.

pub mod fields;
pub mod process;
mod read;
pub mod tcp;

use core::mem::offset_of;

pub use process::Process;
use read::Bytes;
pub use tcp::{SocketOwner, Tcp};

/// Version of every layout in this module; both ends are built together and refuse any other.
pub const VERSION: u16 = 1;

/// Number of slots in the per-CPU counter map: kinds are used as its index, so it exceeds every [`Kind`].
pub const KINDS_MAX: usize = 16;

/// Largest record of any kind, in bytes, including the header.
pub const RECORD_BYTES_MAX: usize = process::RECORD_BYTES_MAX;

/// What a record tells; stable numbers, also the index into the kernel's counters.
///
/// Each live kind is written by exactly one program. That matters: the kernel never runs one tracing program
/// twice at once on a CPU, which makes that program's per-CPU counter and scratch space its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u16)]
pub enum Kind {
    /// A process (not a thread) was created.
    ProcessFork = 1,
    /// A process replaced its program.
    ProcessExec = 2,
    /// The last thread of a process ended.
    ProcessExit = 3,
    /// A socket began to connect (SYN is about to be sent).
    TcpConnect = 4,
    /// A connection was established, in either direction.
    TcpOpen = 5,
    /// A connection, or an attempt at one, ended.
    TcpClose = 6,
    /// A socket began to listen.
    ListenStart = 7,
    /// A socket stopped listening.
    ListenStop = 8,
    /// A process as an iterator found it; carries no sequence number.
    ProcessSnapshot = 9,
    /// A socket as an iterator found it; carries no sequence number.
    TcpSnapshot = 10,
    /// A process that holds a TCP socket open, as an iterator found it; carries no sequence number.
    SocketOwner = 11,
}

impl Kind {
    /// The kinds that are counted: each has a sequence of its own on every CPU.
    pub const LIVE: [Self; 8] = [
        Self::ProcessFork,
        Self::ProcessExec,
        Self::ProcessExit,
        Self::TcpConnect,
        Self::TcpOpen,
        Self::TcpClose,
        Self::ListenStart,
        Self::ListenStop,
    ];

    /// The kind with this number, if there is one.
    #[must_use]
    pub const fn from_number(number: u16) -> Option<Self> {
        Some(match number {
            1 => Self::ProcessFork,
            2 => Self::ProcessExec,
            3 => Self::ProcessExit,
            4 => Self::TcpConnect,
            5 => Self::TcpOpen,
            6 => Self::TcpClose,
            7 => Self::ListenStart,
            8 => Self::ListenStop,
            9 => Self::ProcessSnapshot,
            10 => Self::TcpSnapshot,
            11 => Self::SocketOwner,
            _ => return None,
        })
    }

    /// Position in the counter map.
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }

    /// The name used in loss reports and diagnostics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::ProcessFork => "process-fork",
            Self::ProcessExec => "process-exec",
            Self::ProcessExit => "process-exit",
            Self::TcpConnect => "tcp-connect",
            Self::TcpOpen => "tcp-open",
            Self::TcpClose => "tcp-close",
            Self::ListenStart => "listen-start",
            Self::ListenStop => "listen-stop",
            Self::ProcessSnapshot => "process-snapshot",
            Self::TcpSnapshot => "tcp-snapshot",
            Self::SocketOwner => "socket-owner",
        }
    }
}

/// First bytes of every record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Header {
    /// [`Kind`] as a number.
    pub kind: u16,
    /// [`VERSION`].
    pub version: u16,
    /// Length of the whole record in bytes, this header included.
    pub record_bytes: u32,
    /// Counted from 1 for each kind on each CPU, taken before a place in the ring is asked for; 0 in snapshots.
    pub sequence: u64,
    /// `CLOCK_BOOTTIME` in nanoseconds when the hook ran.
    pub time_boot_ns: u64,
    /// The CPU whose sequence this is.
    pub cpu: u32,
    /// Flags of the record's family, such as [`process::flag`].
    pub flags: u32,
}

/// Bytes of a [`Header`].
pub const HEADER_BYTES: usize = size_of::<Header>();

/// One CPU's counters for one kind, as the kernel map holds them.
///
/// `happened` is also the last sequence number given out. What was seen by user space is `happened - lost`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counter {
    /// Events for which a sequence number was taken.
    pub happened: u64,
    /// Those of them that found no room in the ring.
    pub lost: u64,
}

/// A decoded record: what every record has, and what its family adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// What happened.
    pub kind: Kind,
    /// See [`Header::sequence`].
    pub sequence: u64,
    /// See [`Header::time_boot_ns`].
    pub time_boot_ns: u64,
    /// See [`Header::cpu`].
    pub cpu: u32,
    /// The family's own fields.
    pub body: Body<'a>,
}

/// The part of a record that depends on its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body<'a> {
    /// `Process*` kinds.
    Process(Process<'a>),
    /// `Tcp*` and `Listen*` kinds.
    Tcp(Tcp),
    /// [`Kind::SocketOwner`].
    SocketOwner(SocketOwner),
}

/// Bytes that no program of this version writes: a fault of ours, or a foreign writer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// Fewer bytes than the header, the family's fixed part or the announced length needs.
    Short {
        /// Bytes needed.
        needed: usize,
        /// Bytes there.
        found: usize,
    },
    /// A layout of another version.
    Version(u16),
    /// No such kind.
    Kind(u16),
    /// A field holds a value outside its range.
    Field(&'static str),
}

impl core::fmt::Display for DecodeError {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Short { needed, found } => write!(f, "record needs {needed} bytes but has {found}"),
            Self::Version(version) => write!(f, "record layout {version} is not ours ({VERSION})"),
            Self::Kind(kind) => write!(f, "no record kind has number {kind}"),
            Self::Field(name) => write!(f, "record field {name} is out of range"),
        }
    }
}

impl core::error::Error for DecodeError {}

/// Decodes the record at the start of `bytes`; bytes after its announced length are left alone.
///
/// # Errors
/// [`DecodeError`] for anything that no program of this version writes. Never panics, whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<Record<'_>, DecodeError> {
    let header = header(bytes)?;
    let kind = Kind::from_number(header.kind).ok_or(DecodeError::Kind(header.kind))?;
    // `header` has checked that the announced bytes are there.
    let bytes = bytes.get(..record_bytes(&header)).unwrap_or_default();
    let body = match kind {
        Kind::ProcessFork | Kind::ProcessExec | Kind::ProcessExit | Kind::ProcessSnapshot => {
            Body::Process(Process::decode(kind, header.flags, bytes)?)
        }
        Kind::TcpConnect
        | Kind::TcpOpen
        | Kind::TcpClose
        | Kind::ListenStart
        | Kind::ListenStop
        | Kind::TcpSnapshot => Body::Tcp(Tcp::decode(header.flags, bytes)?),
        Kind::SocketOwner => Body::SocketOwner(SocketOwner::decode(bytes)?),
    };
    Ok(Record {
        kind,
        sequence: header.sequence,
        time_boot_ns: header.time_boot_ns,
        cpu: header.cpu,
        body,
    })
}

/// Decodes the header alone and checks that the record it announces is wholly there.
///
/// # Errors
/// [`DecodeError::Short`] and [`DecodeError::Version`].
pub fn header(bytes: &[u8]) -> Result<Header, DecodeError> {
    let b = Bytes(bytes);
    let header = Header {
        kind: b.u16(offset_of!(Header, kind))?,
        version: b.u16(offset_of!(Header, version))?,
        record_bytes: b.u32(offset_of!(Header, record_bytes))?,
        sequence: b.u64(offset_of!(Header, sequence))?,
        time_boot_ns: b.u64(offset_of!(Header, time_boot_ns))?,
        cpu: b.u32(offset_of!(Header, cpu))?,
        flags: b.u32(offset_of!(Header, flags))?,
    };
    if header.version != VERSION {
        return Err(DecodeError::Version(header.version));
    }
    let needed = record_bytes(&header).max(HEADER_BYTES);
    if bytes.len() < needed {
        return Err(DecodeError::Short {
            needed,
            found: bytes.len(),
        });
    }
    if record_bytes(&header) < HEADER_BYTES {
        return Err(DecodeError::Field("record_bytes"));
    }
    Ok(header)
}

fn record_bytes(header: &Header) -> usize {
    usize::try_from(header.record_bytes).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests;
