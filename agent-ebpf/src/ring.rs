//! The way out: numbering, the ring, and what is counted when there is no room.
//!
//! The number is taken before room is asked for, so `seen + lost == happened` holds by construction. Counter
//! and scratch slots belong to one program on one CPU: the kernel never enters one tracing program twice on a
//! CPU (it counts such attempts instead), and each kind has one program. That is why plain additions are exact.

use aya_ebpf::helpers::generated::{
    bpf_get_smp_processor_id, bpf_ktime_get_boot_ns, bpf_ringbuf_output, bpf_ringbuf_query,
};
use aya_ebpf::macros::map;
use aya_ebpf::maps::{PerCpuArray, RingBuf};
use common::abi::{Header, KINDS_MAX, Kind, VERSION};

use crate::kernel::wake_bytes;

/// Records on their way to user space; the size is set before loading.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// `[happened, lost]` by kind.
#[map]
static COUNTERS: PerCpuArray<[u64; 2]> = PerCpuArray::with_max_entries(KINDS_MAX as u32, 0);

/// Index 0: socket storage that could not be had.
#[map]
static FAILURES: PerCpuArray<u64> = PerCpuArray::with_max_entries(1, 0);

const BPF_RB_NO_WAKEUP: u64 = 1;
const BPF_RB_FORCE_WAKEUP: u64 = 2;
const BPF_RB_AVAIL_DATA: u64 = 0;

/// A number taken for an event that has happened; it is lost unless [`Numbered::send`] finds room.
pub(crate) struct Numbered {
    counter: *mut [u64; 2],
    sequence: u64,
    kind: Kind,
}

/// Takes the next number of `kind` on this CPU.
#[inline(always)]
pub(crate) fn number(kind: Kind) -> Option<Numbered> {
    // The index is in range, so this never fails; the verifier wants it said.
    let counter = COUNTERS.get_ptr_mut(kind as u32)?;
    // SAFETY: the slot is this CPU's and this program's own, see the head of this file.
    let sequence = unsafe {
        (*counter)[0] += 1;
        (*counter)[0]
    };
    Some(Numbered {
        counter,
        sequence,
        kind,
    })
}

impl Numbered {
    /// The header of the record about this event.
    #[inline(always)]
    pub(crate) fn header(&self, record_bytes: u32, flags: u32) -> Header {
        header(self.kind, self.sequence, record_bytes, flags)
    }

    /// Puts the record into the ring, or counts it as lost.
    ///
    /// # Safety
    /// `record` must point to `bytes` readable bytes, a bound the verifier can follow.
    #[inline(always)]
    pub(crate) unsafe fn send(self, record: *const u8, bytes: u32) {
        let ring = (&raw const RING).cast_mut().cast();
        // SAFETY: `ring` is our map; the caller vouches for the bytes.
        let failed = unsafe {
            let waiting = bpf_ringbuf_query(ring, BPF_RB_AVAIL_DATA);
            bpf_ringbuf_output(ring, record.cast_mut().cast(), bytes as u64, wake(waiting))
        };
        if failed != 0 {
            // SAFETY: as in `number`.
            unsafe { (*self.counter)[1] += 1 };
        }
    }
}

/// Wakes the agent around the moment when enough has gathered, and lets its timer find the rest.
///
/// A whole window wakes, not one record, because records of several CPUs step over any single point.
#[inline(always)]
fn wake(waiting: u64) -> u64 {
    let enough = wake_bytes() as u64;
    if waiting >= enough && waiting < enough + 8192 {
        BPF_RB_FORCE_WAKEUP
    } else {
        BPF_RB_NO_WAKEUP
    }
}

/// A record header for this CPU and instant.
#[inline(always)]
pub(crate) fn header(kind: Kind, sequence: u64, record_bytes: u32, flags: u32) -> Header {
    // SAFETY: helpers without arguments.
    let (time_boot_ns, cpu) = unsafe { (bpf_ktime_get_boot_ns(), bpf_get_smp_processor_id()) };
    Header {
        kind: kind as u16,
        version: VERSION,
        record_bytes,
        sequence,
        time_boot_ns,
        cpu,
        flags,
    }
}

/// Counts a socket whose storage could not be had.
#[inline(always)]
pub(crate) fn count_storage_failure() {
    if let Some(count) = FAILURES.get_ptr_mut(0) {
        // SAFETY: as in `number`: only the TCP state program and one snapshot at a time count here.
        unsafe { *count += 1 };
    }
}
