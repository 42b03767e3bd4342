//! Process hooks: fork, exec and exit of thread groups; threads are never counted.

use aya_ebpf::helpers::generated::{bpf_map_update_elem, bpf_probe_read_user};
use aya_ebpf::macros::{btf_tracepoint, map};
use aya_ebpf::maps::{LruHashMap, PerCpuArray};
use aya_ebpf::programs::BtfTracePointContext;
use common::abi::Kind;
use common::abi::fields::Field;
use common::abi::process::flag;

use crate::kernel::{exit_tells_last, peek};
use crate::ring::number;
use crate::task::{Progress, Scratch, key};

/// One scratch record for each program, so that none can be overtaken on its CPU (see [`crate::ring`]).
#[map]
static SCRATCH_FORK: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH_EXEC: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);
#[map]
static SCRATCH_EXIT: PerCpuArray<Scratch> = PerCpuArray::with_max_entries(1, 0);

/// Processes already seen to end, where the kernel does not tell which thread is the last.
#[map]
static ENDED: LruHashMap<[u64; 2], u8> = LruHashMap::with_max_entries(4096, 0);

const SIGNAL_GROUP_EXIT: u32 = 4;
const BPF_NOEXIST: u64 = 1;

/// Runs in the parent, before the child first runs. The child's memory is a copy of the parent's or the same,
/// so its arguments are read from the current address space.
#[btf_tracepoint(function = "sched_process_fork")]
fn process_fork(ctx: BtfTracePointContext) -> i32 {
    let child: u64 = ctx.arg(1);
    if peek::<u32>(child, Field::TaskPid) != peek::<u32>(child, Field::TaskTgid) {
        return 0;
    }
    let (Some(numbered), Some(scratch)) = (number(Kind::ProcessFork), SCRATCH_FORK.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: the slot is this CPU's and this program's own.
    let scratch = unsafe { &mut *scratch };
    let mut progress = Progress {
        used: 0,
        flags: scratch.fill(child),
    };
    let mm: u64 = peek(child, Field::TaskMm);
    if mm == 0 {
        progress.flags |= flag::NO_MEMORY;
    } else {
        progress = scratch.add_paths(child, mm, progress);
        let parent: u64 = ctx.arg(0);
        if peek::<u64>(parent, Field::TaskMm) == mm {
            progress.flags |= flag::SHARED_MEMORY;
        }
        progress = scratch.add_arguments(mm, progress, read_current);
    }
    let bytes = Scratch::record_bytes(progress);
    scratch.raw.header = numbered.header(bytes, progress.flags);
    // SAFETY: the record lies at the start of the scratch value and within it.
    unsafe { numbered.send((&raw const *scratch).cast(), bytes) };
    0
}

/// Runs in the process, after its new memory and credentials are in place.
#[btf_tracepoint(function = "sched_process_exec")]
fn process_exec(ctx: BtfTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let old_tid: u32 = ctx.arg(1);
    let bprm: u64 = ctx.arg(2);
    let (Some(numbered), Some(scratch)) = (number(Kind::ProcessExec), SCRATCH_EXEC.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: the slot is this CPU's and this program's own.
    let scratch = unsafe { &mut *scratch };
    let mut progress = Progress {
        used: 0,
        flags: scratch.fill(task),
    };
    scratch.raw.old_tid = old_tid;
    if old_tid != scratch.raw.tid {
        progress.flags |= flag::EXEC_BY_THREAD;
    }
    let mm: u64 = peek(task, Field::TaskMm);
    progress = scratch.add_paths(task, mm, progress);
    let file: u64 = peek(bprm, Field::BprmFilename);
    let interpreter: u64 = peek(bprm, Field::BprmInterp);
    scratch.raw.file_bytes = scratch.add_name(file, &mut progress);
    // For a script the kernel puts another string there; otherwise both are the same one.
    if interpreter != file {
        scratch.raw.interpreter_bytes = scratch.add_name(interpreter, &mut progress);
    }
    progress = scratch.add_arguments(mm, progress, read_current);
    let bytes = Scratch::record_bytes(progress);
    scratch.raw.header = numbered.header(bytes, progress.flags);
    // SAFETY: the record lies at the start of the scratch value and within it.
    unsafe { numbered.send((&raw const *scratch).cast(), bytes) };
    0
}

/// Runs in each thread that ends; the last one of a process ends the process.
#[btf_tracepoint(function = "sched_process_exit")]
fn process_exit(ctx: BtfTracePointContext) -> i32 {
    let task: u64 = ctx.arg(0);
    let signal: u64 = peek(task, Field::TaskSignal);
    if exit_tells_last() == 1 {
        if ctx.arg::<u8>(1) == 0 {
            return 0;
        }
    } else if peek::<u32>(signal, Field::SignalLive) != 0 || !first_to_end(task) {
        return 0;
    }
    let (Some(numbered), Some(scratch)) = (number(Kind::ProcessExit), SCRATCH_EXIT.get_ptr_mut(0)) else {
        return 0;
    };
    // SAFETY: the slot is this CPU's and this program's own.
    let scratch = unsafe { &mut *scratch };
    let progress = Progress {
        used: 0,
        flags: scratch.fill(task),
    };
    // What a parent gets from wait: the group's code if anything ended the whole group, else the leader's own.
    scratch.raw.wait_status = if peek::<u32>(signal, Field::SignalFlags) & SIGNAL_GROUP_EXIT != 0 {
        peek(signal, Field::SignalGroupExitCode)
    } else {
        peek(peek(task, Field::TaskLeader), Field::TaskExitCode)
    };
    let bytes = Scratch::record_bytes(progress);
    scratch.raw.header = numbered.header(bytes, progress.flags);
    // SAFETY: the record lies at the start of the scratch value and within it.
    unsafe { numbered.send((&raw const *scratch).cast(), bytes) };
    0
}

/// Two threads that end at once both find the live count at zero: whoever leaves the mark first is the last.
#[inline(always)]
fn first_to_end(task: u64) -> bool {
    let (tgid, start) = key(task);
    let mark = [tgid as u64, start];
    let value = 1u8;
    // SAFETY: map, key and value are ours and live through the call.
    let outcome = unsafe {
        bpf_map_update_elem(
            (&raw const ENDED).cast_mut().cast(),
            (&raw const mark).cast_mut().cast(),
            (&raw const value).cast_mut().cast(),
            BPF_NOEXIST,
        )
    };
    // -EEXIST: the other was first. Any other failure must not swallow an end.
    outcome != -17
}

/// Reads the current process's memory.
#[inline(always)]
fn read_current(to: *mut u8, len: u32, at: u64) -> i64 {
    // SAFETY: the caller vouches for the destination; the helper checks the source.
    unsafe { bpf_probe_read_user(to.cast(), len, at as *const _) }
}
