//! TCP hook: every change of a TCP socket's state, in whatever context the kernel makes it.
//!
//! The current process is believed only where the change is made by a system call of the owner: when a socket
//! begins to connect or to listen. All other changes may happen in a softirq on behalf of nobody. Who opened a
//! socket is therefore remembered on the socket itself ([`SOCKETS`]), and a connection that a listener accepts
//! inherits its listener's note, because the kernel clones such notes with the socket.

use aya_ebpf::cty::c_void;
use aya_ebpf::helpers::generated::{
    bpf_get_current_comm, bpf_get_current_task_btf, bpf_get_socket_cookie, bpf_ktime_get_boot_ns,
    bpf_sk_storage_get, bpf_skc_to_tcp_sock,
};
use aya_ebpf::macros::{btf_map, btf_tracepoint};
use aya_ebpf::programs::BtfTracePointContext;
use common::abi::fields::Field;
use common::abi::tcp::{AF_INET, AF_INET6, Direction, OwnerSource, TcpRaw, flag, state};
use common::abi::{Header, Kind};

use crate::kernel::{copy, peek, sock_done_bit};
use crate::ring::{count_storage_failure, number};
use crate::task::{PF_KTHREAD, key};

const BPF_MAP_TYPE_SK_STORAGE: usize = 24;
const BPF_F_NO_PREALLOC: usize = 1;
const BPF_F_CLONE: usize = 1 << 9;
const BPF_SK_STORAGE_GET_F_CREATE: u64 = 1;

/// What is remembered on a socket: who opened it, how, and when.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Note {
    pub(crate) listener_cookie: u64,
    pub(crate) opened_boot_ns: u64,
    pub(crate) established_boot_ns: u64,
    pub(crate) owner_start_boot_ns: u64,
    pub(crate) owner_tgid: u32,
    pub(crate) flags: u32,
    pub(crate) direction: u8,
    pub(crate) owner_source: u8,
    pub(crate) reserved: [u8; 6],
    pub(crate) owner_comm: [u8; 16],
}

impl Note {
    /// Nothing known.
    pub(crate) const EMPTY: Self = Self {
        listener_cookie: 0,
        opened_boot_ns: 0,
        established_boot_ns: 0,
        owner_start_boot_ns: 0,
        owner_tgid: 0,
        flags: 0,
        direction: Direction::Unknown as u8,
        owner_source: OwnerSource::None as u8,
        reserved: [0; 6],
        owner_comm: [0; 16],
    };
}

/// Map definition that the loader reads from this object's type information; the fields carry types only.
#[repr(C)]
pub(crate) struct SocketNotes {
    r#type: *const [i32; BPF_MAP_TYPE_SK_STORAGE],
    key: *const i32,
    value: *const Note,
    max_entries: *const [i32; 0],
    map_flags: *const [i32; BPF_F_NO_PREALLOC | BPF_F_CLONE],
}

// SAFETY: the pointers are never followed; the kernel synchronises what the loader puts in their place.
unsafe impl Sync for SocketNotes {}

/// One [`Note`] on each socket, freed with it by the kernel, cloned into the sockets that a listener accepts.
#[btf_map]
pub(crate) static SOCKETS: SocketNotes = SocketNotes {
    r#type: core::ptr::null(),
    key: core::ptr::null(),
    value: core::ptr::null(),
    max_entries: core::ptr::null(),
    map_flags: core::ptr::null(),
};

/// The note on a socket, made from `init` if that is given and there is none.
#[inline(always)]
pub(crate) fn note_on(sk: *mut c_void, init: Option<&Note>) -> Option<&'static mut Note> {
    let map = (&raw const SOCKETS).cast_mut().cast();
    let (value, flags) = match init {
        Some(note) => ((&raw const *note).cast_mut().cast(), BPF_SK_STORAGE_GET_F_CREATE),
        None => (core::ptr::null_mut(), 0),
    };
    // SAFETY: `sk` is a socket the kernel handed to this program; the helper checks it. The note lives at least
    // as long as this run.
    unsafe { bpf_sk_storage_get(map, sk, value, flags).cast::<Note>().as_mut() }
}

/// A socket as the TCP socket it is, 0 if it is none over IPv4 or IPv6. The result is a typed pointer that
/// reaches the fields of all the structures that a TCP socket begins with.
#[inline(always)]
pub(crate) fn as_tcp(sk: *mut c_void) -> u64 {
    // SAFETY: `sk` is a socket the kernel handed to this program.
    let tcp = unsafe { bpf_skc_to_tcp_sock(sk) } as u64;
    if tcp == 0 {
        return 0;
    }
    let family: u16 = peek(tcp, Field::SockFamily);
    if family == AF_INET || family == AF_INET6 {
        tcp
    } else {
        0
    }
}

#[btf_tracepoint(function = "inet_sock_set_state")]
fn tcp_state(ctx: BtfTracePointContext) -> i32 {
    let sk: *mut c_void = ctx.arg(0);
    let old: u8 = ctx.arg::<u32>(1) as u8;
    let new: u8 = ctx.arg::<u32>(2) as u8;
    let tcp = as_tcp(sk);
    if tcp == 0 {
        return 0;
    }
    let kind = match (old, new) {
        (_, state::SYN_SENT) => {
            opened_by_current(sk, Direction::Outbound, OwnerSource::Connect);
            Kind::TcpConnect
        }
        (_, state::LISTEN) => {
            opened_by_current(sk, Direction::Inbound, OwnerSource::Listen);
            Kind::ListenStart
        }
        (state::SYN_SENT, state::SYN_RECV) => return 0,
        (_, state::SYN_RECV) => {
            inherited(sk);
            return 0;
        }
        (state::SYN_SENT | state::SYN_RECV, state::ESTABLISHED) => {
            established(sk, old);
            Kind::TcpOpen
        }
        (state::LISTEN, state::CLOSE) => Kind::ListenStop,
        (state::CLOSE, _) | (_, state::ESTABLISHED) => return 0,
        (_, state::CLOSE) => Kind::TcpClose,
        _ => return 0,
    };
    let Some(numbered) = number(kind) else { return 0 };
    let note = match note_on(sk, None) {
        Some(note) => *note,
        None => older(old),
    };
    // SAFETY: `sk` is the socket the kernel handed to this program.
    let cookie = unsafe { bpf_get_socket_cookie(sk) };
    let mut record = describe(tcp, cookie, &note, old, new);
    record.header = numbered.header(size_of::<TcpRaw>() as u32, record.header.flags);
    // SAFETY: the whole record on our stack.
    unsafe { numbered.send((&raw const record).cast(), size_of::<TcpRaw>() as u32) };
    0
}

/// A note about a socket that began to open before the agent watched: its state still tells the direction if it
/// is not open yet.
#[inline(always)]
fn older(old: u8) -> Note {
    let direction = match old {
        state::SYN_SENT => Direction::Outbound,
        state::SYN_RECV | state::LISTEN => Direction::Inbound,
        _ => Direction::Unknown,
    };
    Note {
        flags: flag::OPENED_BEFORE,
        direction: direction as u8,
        ..Note::EMPTY
    }
}

/// Notes when a connection was established.
#[inline(always)]
fn established(sk: *mut c_void, old: u8) {
    match note_on(sk, Some(&older(old))) {
        // SAFETY: a helper without arguments.
        Some(note) => note.established_boot_ns = unsafe { bpf_ktime_get_boot_ns() },
        None => count_storage_failure(),
    }
}

/// Notes that the current process opened the socket. Only for changes that a system call makes.
#[inline(always)]
fn opened_by_current(sk: *mut c_void, direction: Direction, source: OwnerSource) {
    let mut note = Note::EMPTY;
    // SAFETY: helpers that write to our stack or take no arguments.
    unsafe {
        note.opened_boot_ns = bpf_ktime_get_boot_ns();
        (note.owner_tgid, note.owner_start_boot_ns) = key(bpf_get_current_task_btf() as u64);
        bpf_get_current_comm(note.owner_comm.as_mut_ptr().cast(), 16);
    }
    note.direction = direction as u8;
    note.owner_source = source as u8;
    if source as u8 == OwnerSource::Listen as u8 {
        // For the connections that will inherit this note.
        // SAFETY: `sk` is the socket the kernel handed to this program.
        note.listener_cookie = unsafe { bpf_get_socket_cookie(sk) };
    }
    match note_on(sk, Some(&note)) {
        // A note from an earlier use of the same socket.
        Some(kept) => *kept = note,
        None => count_storage_failure(),
    }
}

/// A socket that a listener has just made for a new connection: its note is the listener's, cloned.
#[inline(always)]
fn inherited(sk: *mut c_void) {
    let empty = Note::EMPTY;
    let Some(note) = note_on(sk, Some(&empty)) else {
        count_storage_failure();
        return;
    };
    if note.owner_source != OwnerSource::None as u8 {
        note.owner_source = OwnerSource::Listener as u8;
    }
    // SAFETY: a helper without arguments.
    note.opened_boot_ns = unsafe { bpf_ktime_get_boot_ns() };
    note.established_boot_ns = 0;
    note.direction = Direction::Inbound as u8;
    note.flags = 0;
}

/// Runs whenever a process reads from a TCP socket. No hook tells who accepted a connection; who reads from it
/// first is whoever got it from the listener: a worker, a child, a service that is started by its socket.
#[btf_tracepoint(function = "tcp_rcv_space_adjust")]
fn tcp_read(ctx: BtfTracePointContext) -> i32 {
    let sk: *mut c_void = ctx.arg(0);
    let Some(note) = note_on(sk, None) else { return 0 };
    let known = note.owner_source;
    if known != OwnerSource::Listener as u8 && known != OwnerSource::None as u8 {
        return 0;
    }
    // The kernel reads for itself too, some of it in softirqs: only a system call owns the socket's lock.
    // SAFETY: a helper without arguments.
    let task = unsafe { bpf_get_current_task_btf() } as u64;
    let by_system_call = peek::<u32>(sk as u64, Field::SockLockOwned) != 0;
    if !by_system_call || peek::<u32>(task, Field::TaskFlags) & PF_KTHREAD != 0 {
        return 0;
    }
    (note.owner_tgid, note.owner_start_boot_ns) = key(task);
    note.owner_comm = [0; 16];
    copy(task, Field::TaskComm, &mut note.owner_comm);
    note.owner_source = OwnerSource::Reader as u8;
    0
}

/// The record of a socket (a typed pointer, see [`as_tcp`]), its header left to the caller except for the flags.
#[inline(always)]
pub(crate) fn describe(tcp: u64, cookie: u64, note: &Note, old: u8, new: u8) -> TcpRaw {
    let socket: u64 = peek(tcp, Field::SockSocket);
    let inode: u64 = peek(peek(socket, Field::SocketFile), Field::FileInode);
    let mut flags = note.flags;
    let mut bytes_received: u64 = peek(tcp, Field::TcpBytesReceived);
    let done = sock_done_bit();
    if done < 64 && peek::<u64>(tcp, Field::SockFlags) & (1 << done) != 0 {
        flags |= flag::FIN_RECEIVED;
        // The kernel counts the FIN as a byte received.
        bytes_received = bytes_received.saturating_sub(1);
    }
    let sent: u64 = peek(tcp, Field::TcpBytesSent);
    let again: u64 = peek(tcp, Field::TcpBytesRetrans);
    let family: u16 = peek(tcp, Field::SockFamily);
    let (mut local, mut remote) = ([0u8; 16], [0u8; 16]);
    if family == AF_INET6 {
        copy(tcp, Field::SockSaddr6, &mut local);
        copy(tcp, Field::SockDaddr6, &mut remote);
    } else {
        let address: u32 = peek(tcp, Field::SockSaddr);
        [local[0], local[1], local[2], local[3]] = address.to_ne_bytes();
        let address: u32 = peek(tcp, Field::SockDaddr);
        [remote[0], remote[1], remote[2], remote[3]] = address.to_ne_bytes();
    }
    TcpRaw {
        header: Header {
            kind: 0,
            version: 0,
            record_bytes: 0,
            sequence: 0,
            time_boot_ns: 0,
            cpu: 0,
            flags,
        },
        cookie,
        // A listener keeps its own there, for others.
        listener_cookie: if note.listener_cookie == cookie {
            0
        } else {
            note.listener_cookie
        },
        opened_boot_ns: note.opened_boot_ns,
        established_boot_ns: note.established_boot_ns,
        bytes_sent: sent.saturating_sub(again),
        bytes_retransmitted: again,
        bytes_acked: peek(tcp, Field::TcpBytesAcked),
        bytes_received,
        owner_start_boot_ns: note.owner_start_boot_ns,
        inode: peek(inode, Field::InodeNumber),
        owner_tgid: note.owner_tgid,
        uid: peek(tcp, Field::SockUid),
        netns: peek(peek(tcp, Field::SockNet), Field::NetNsInum),
        error: peek(tcp, Field::SockError),
        backlog_max: peek(tcp, Field::SockBacklogMax),
        backlog: peek(tcp, Field::SockBacklog),
        family,
        // Unlike the number in use, this one survives the port being given back before a close is told.
        local_port: u16::from_be(peek(tcp, Field::InetSport)),
        remote_port: u16::from_be(peek(tcp, Field::SockDport)),
        old_state: old,
        new_state: new,
        direction: note.direction,
        owner_source: note.owner_source,
        reserved: [0; 6],
        local,
        remote,
        owner_comm: note.owner_comm,
    }
}
