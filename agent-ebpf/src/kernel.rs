//! Reading kernel structures at offsets that user space resolved.
//!
//! Addresses are plain numbers here: every read goes through a helper that faults safely. A field this kernel
//! lacks, or a read that faults, yields zero; user space knows from the same table which fields are missing.

use core::ptr::read_volatile;

use aya_ebpf::helpers::generated::bpf_probe_read_kernel;
use common::abi::fields::{ABSENT, COUNT, Field};

/// Byte offsets in the order of [`Field`]; overwritten before loading, then read-only.
#[unsafe(no_mangle)]
static OFFSETS: [u32; COUNT] = [ABSENT; COUNT];
/// Whether `sched_process_exit` tells which thread is the last (Linux 6.16); overwritten before loading.
#[unsafe(no_mangle)]
static EXIT_TELLS_LAST: u32 = ABSENT;
/// Number of the socket flag that a received FIN sets; overwritten before loading.
#[unsafe(no_mangle)]
static SOCK_DONE_BIT: u32 = ABSENT;
/// Bytes waiting in the ring at which the agent is woken; overwritten before loading.
#[unsafe(no_mangle)]
static WAKE_BYTES: u32 = ABSENT;
/// Most bytes of arguments to keep; overwritten before loading.
#[unsafe(no_mangle)]
static ARGV_BYTES: u32 = ABSENT;

macro_rules! setting {
    ($name:ident, $global:ident) => {
        #[inline(always)]
        pub(crate) fn $name() -> u32 {
            // SAFETY: a valid, initialised static; volatile because the loader replaces its value.
            unsafe { read_volatile(&raw const $global) }
        }
    };
}

setting!(exit_tells_last, EXIT_TELLS_LAST);
setting!(sock_done_bit, SOCK_DONE_BIT);
setting!(wake_bytes, WAKE_BYTES);
setting!(argv_bytes, ARGV_BYTES);

/// The offset of a field, [`ABSENT`] if this kernel lacks it.
#[inline(always)]
pub(crate) fn offset(field: Field) -> u32 {
    // SAFETY: `Field` numbers index the table by construction; volatile because the loader replaces its values.
    unsafe { read_volatile((&raw const OFFSETS).cast::<u32>().add(field as usize)) }
}

/// The address of a field inside the structure at `base`, 0 if either is missing.
#[inline(always)]
pub(crate) fn address(base: u64, field: Field) -> u64 {
    let offset = offset(field);
    if base == 0 || offset == ABSENT {
        0
    } else {
        base + offset as u64
    }
}

/// The number at an address; zero if it cannot be read.
#[inline(always)]
pub(crate) fn load<T: Number>(at: u64) -> T {
    let mut value = T::ZERO;
    if at != 0 {
        // SAFETY: the destination is `size_of::<T>()` bytes of our stack; the helper checks the source.
        unsafe {
            bpf_probe_read_kernel((&raw mut value).cast(), size_of::<T>() as u32, at as *const _);
        }
    }
    value
}

/// The value of a field in the structure at `base`; zero if either is missing.
#[inline(always)]
pub(crate) fn get<T: Number>(base: u64, field: Field) -> T {
    load(address(base, field))
}

/// The value of a field in the structure at `base`, which must be a pointer that the kernel handed out with its
/// type (a hook's argument, or what such a structure points to); zero if the field is missing.
///
/// One instruction instead of a helper's call. The verifier compares offset and width with the kernel's types,
/// and the kernel turns a fault into zero.
#[inline(always)]
pub(crate) fn peek<T: Number>(base: u64, field: Field) -> T {
    let offset = offset(field);
    if base == 0 || offset == ABSENT {
        return T::ZERO;
    }
    // SAFETY: checked by the verifier as described; volatile keeps the compiler from moving or widening it.
    unsafe { ((base + offset as u64) as *const T).read_volatile() }
}

/// Copies `N` bytes from a field into `to`; leaves it alone if the field is missing.
#[inline(always)]
pub(crate) fn copy<const N: usize>(base: u64, field: Field, to: &mut [u8; N]) {
    let at = address(base, field);
    if at != 0 {
        // SAFETY: the destination is `N` bytes that we hold exclusively; the helper checks the source.
        unsafe {
            bpf_probe_read_kernel(to.as_mut_ptr().cast(), N as u32, at as *const _);
        }
    }
}

/// Plain numbers, for which any bytes are a value.
pub(crate) trait Number: Copy {
    const ZERO: Self;
}

impl Number for u8 {
    const ZERO: Self = 0;
}
impl Number for u16 {
    const ZERO: Self = 0;
}
impl Number for u32 {
    const ZERO: Self = 0;
}
impl Number for u64 {
    const ZERO: Self = 0;
}
