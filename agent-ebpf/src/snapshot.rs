//! Iterators: what is there now, in the same records as the live hooks write.
//!
//! aya has no macro for iterator programs, so their sections are named by hand. The context layouts are the
//! kernel's own (user space compares them with its BTF before loading).

use aya_ebpf::cty::{c_long, c_void};
use aya_ebpf::helpers::generated::{
    bpf_copy_from_user_task, bpf_get_socket_cookie, bpf_seq_write, bpf_sock_from_file,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::Array;
use common::abi::Kind;
use common::abi::fields::Field;
use common::abi::process::flag;
use common::abi::tcp::{Direction, OwnerSource, SocketOwnerRaw, TcpRaw, flag as tcp_flag, state};

use crate::kernel::{copy, offset, peek};
use crate::ring::{count_storage_failure, header};
use crate::task::{Progress, Scratch, key};
use crate::tcp::{Note, as_tcp, describe, note_on};

/// Scratch of the process iterator, which may sleep and move between CPUs. User space runs one at a time.
#[map]
static SCRATCH_ITER: Array<Scratch> = Array::with_max_entries(1, 0);

/// What every iterator context begins with.
#[repr(C)]
struct Meta {
    seq: *mut c_void,
}

#[repr(C)]
struct TaskContext {
    meta: *mut Meta,
    task: *mut c_void,
}

#[repr(C)]
struct TcpContext {
    meta: *mut Meta,
    sk: *mut c_void,
}

#[repr(C)]
struct TaskFileContext {
    meta: *mut Meta,
    task: *mut c_void,
    fd: u32,
    file: *mut c_void,
}

/// Writes one record to the reader.
///
/// # Safety
/// `seq` is the context's, `record` points to `bytes` readable bytes.
#[inline(always)]
unsafe fn write(seq: *mut c_void, record: *const u8, bytes: u32) -> c_long {
    // SAFETY: the caller vouches for both.
    unsafe { bpf_seq_write(seq.cast(), record.cast(), bytes) }
}

/// Called for every thread; tells each process once, by its leader, or by any living thread if the leader has
/// ended.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter.s/task")]
extern "C" fn iter_task(ctx: *mut TaskContext) -> i32 {
    // SAFETY: the kernel hands a valid context.
    let (task, seq) = unsafe { ((*ctx).task, (*(*ctx).meta).seq) };
    if task.is_null() {
        return 0;
    }
    let at = task as u64;
    let leader: u64 = peek(at, Field::TaskLeader);
    let ended = peek::<u32>(at, Field::TaskExitState) != 0;
    let leader_ended = peek::<u32>(leader, Field::TaskExitState) != 0;
    if ended || (at != leader && !leader_ended) {
        return 0;
    }
    // The last thread leaves this count before its end is told: what is not counted has been or will be seen.
    if peek::<u32>(peek(at, Field::TaskSignal), Field::SignalLive) == 0 {
        return 0;
    }
    let Some(scratch) = SCRATCH_ITER.get_ptr_mut(0) else {
        return 0;
    };
    // SAFETY: user space runs one process iterator at a time.
    let scratch = unsafe { &mut *scratch };
    let mut progress = Progress {
        used: 0,
        flags: scratch.fill(at),
    };
    let mm: u64 = peek(at, Field::TaskMm);
    if mm == 0 {
        progress.flags |= flag::NO_MEMORY;
    } else {
        progress = scratch.add_paths(at, mm, progress);
        progress = scratch.add_arguments(mm, progress, |to, len, from| {
            // SAFETY: `to` has room for `len` bytes; the helper checks the source.
            unsafe { bpf_copy_from_user_task(to.cast(), len, from as *const _, task.cast(), 0) }
        });
    }
    let bytes = Scratch::record_bytes(progress);
    scratch.raw.header = header(Kind::ProcessSnapshot, 0, bytes, progress.flags);
    // SAFETY: the record lies at the start of the scratch value and within it.
    unsafe { write(seq, (&raw const *scratch).cast(), bytes) };
    0
}

/// Called for every TCP socket of the reader's network namespace, in whatever state. Adds to the sockets that
/// processes hold those that none does: closing ones, and the kernel's own.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/tcp")]
extern "C" fn iter_tcp(ctx: *mut TcpContext) -> i32 {
    // SAFETY: the kernel hands a valid context.
    let (sk, seq) = unsafe { ((*ctx).sk, (*(*ctx).meta).seq) };
    if sk.is_null() {
        return 0;
    }
    tell_socket(sk, seq);
    0
}

/// Writes the record of a socket, unless it is none that lives.
#[inline(always)]
fn tell_socket(sk: *mut c_void, seq: *mut c_void) {
    let tcp = as_tcp(sk);
    let now: u8 = peek(tcp, Field::SockState);
    // A connection in TIME_WAIT has closed, one not yet answered is no socket of anyone's, and an unused socket
    // is no connection.
    let lives = now != 0 && now <= state::CLOSING && now != state::TIME_WAIT && now != state::CLOSE;
    if tcp == 0 || !lives {
        return;
    }
    // SAFETY: `sk` is the socket the kernel handed to this program.
    let cookie = unsafe { bpf_get_socket_cookie(sk) };
    let empty = Note {
        flags: tcp_flag::OPENED_BEFORE,
        ..Note::EMPTY
    };
    let mut note = empty;
    match note_on(sk, Some(&empty)) {
        Some(kept) => {
            if kept.direction == Direction::Unknown as u8 {
                infer_direction(tcp, now, kept);
            }
            if now == state::LISTEN {
                // For the connections that will inherit this note.
                kept.listener_cookie = cookie;
            }
            note = *kept;
        }
        None => {
            count_storage_failure();
            note.flags |= tcp_flag::MEMORY_FAILED;
        }
    }
    let mut record = describe(tcp, cookie, &note, now, now);
    record.header = header(
        Kind::TcpSnapshot,
        0,
        size_of::<TcpRaw>() as u32,
        record.header.flags,
    );
    // SAFETY: the whole record on our stack.
    unsafe { write(seq, (&raw const record).cast(), size_of::<TcpRaw>() as u32) };
}

/// Who opened a connection older than the agent, from the socket's own counters.
///
/// The end that sent the first SYN had it acknowledged, and the kernel counts that as one byte; the end that
/// accepted starts counting after it. Only where no FIN of ours can be in the count.
#[inline(always)]
fn infer_direction(tcp: u64, now: u8, note: &mut Note) {
    if now == state::LISTEN {
        note.direction = Direction::Inbound as u8;
        return;
    }
    if now != state::ESTABLISHED && now != state::CLOSE_WAIT {
        return;
    }
    if offset(Field::TcpSndNxt) == u32::MAX || offset(Field::TcpSndUna) == u32::MAX {
        return;
    }
    let sent = peek::<u64>(tcp, Field::TcpBytesSent).wrapping_sub(peek(tcp, Field::TcpBytesRetrans));
    let in_flight = peek::<u32>(tcp, Field::TcpSndNxt).wrapping_sub(peek(tcp, Field::TcpSndUna));
    let acked_payload = sent.wrapping_sub(in_flight as u64);
    let direction = match peek::<u64>(tcp, Field::TcpBytesAcked).wrapping_sub(acked_payload) {
        0 => Direction::Inbound,
        1 => Direction::Outbound,
        _ => return,
    };
    note.direction = direction as u8;
    note.flags |= tcp_flag::DIRECTION_INFERRED;
}

/// Called for every open file of every process, in whatever network namespace; notes on each TCP socket who
/// holds it, and tells both.
#[unsafe(no_mangle)]
#[unsafe(link_section = "iter/task_file")]
extern "C" fn iter_task_file(ctx: *mut TaskFileContext) -> i32 {
    // SAFETY: the kernel hands a valid context.
    let (task, file, fd, seq) = unsafe { ((*ctx).task, (*ctx).file, (*ctx).fd, (*(*ctx).meta).seq) };
    if task.is_null() || file.is_null() {
        return 0;
    }
    // SAFETY: `file` is the one the kernel handed to this program.
    let socket = unsafe { bpf_sock_from_file(file.cast()) };
    let at = offset(Field::SocketSk);
    if socket.is_null() || at == u32::MAX {
        return 0;
    }
    // SAFETY: the verifier checks that a socket has such a field at this offset, and keeps the pointer's type.
    let sk = unsafe {
        socket
            .cast::<u8>()
            .add(at as usize)
            .cast::<*mut c_void>()
            .read_volatile()
    };
    if sk.is_null() || as_tcp(sk) == 0 {
        return 0;
    }
    tell_owner(sk, task as u64, fd, seq);
    tell_socket(sk, seq);
    0
}

/// Writes who holds a socket, and notes it there.
#[inline(always)]
fn tell_owner(sk: *mut c_void, task: u64, fd: u32, seq: *mut c_void) {
    let mut record = SocketOwnerRaw {
        header: header(Kind::SocketOwner, 0, size_of::<SocketOwnerRaw>() as u32, 0),
        // SAFETY: `sk` is the socket the kernel handed to this program.
        cookie: unsafe { bpf_get_socket_cookie(sk) },
        owner_start_boot_ns: 0,
        owner_tgid: 0,
        fd,
        comm: [0; 16],
    };
    (record.owner_tgid, record.owner_start_boot_ns) = key(task);
    copy(peek(task, Field::TaskLeader), Field::TaskComm, &mut record.comm);
    let note = Note {
        flags: tcp_flag::OPENED_BEFORE,
        ..Note::EMPTY
    };
    match note_on(sk, Some(&note)) {
        // The first holder found is kept: processes come in order of their ids, so it is mostly the parent.
        Some(kept) if kept.owner_source == OwnerSource::None as u8 => {
            kept.owner_tgid = record.owner_tgid;
            kept.owner_start_boot_ns = record.owner_start_boot_ns;
            kept.owner_comm = record.comm;
            kept.owner_source = OwnerSource::Holder as u8;
        }
        Some(_) => {}
        None => count_storage_failure(),
    }
    // SAFETY: the whole record on our stack.
    unsafe {
        write(
            seq,
            (&raw const record).cast(),
            size_of::<SocketOwnerRaw>() as u32,
        )
    };
}
