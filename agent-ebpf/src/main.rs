//! The kernel side of the Hostledger agent: programs that write what happened into a ring.
//!
//! One file per hook family, named as in `common::abi`. Programs read the kernel's structures at offsets that
//! user space found in the kernel's BTF ([`kernel`]), and number every event before asking for room ([`ring`]).
//! They hold no policy: what an event means is decided in user space.
//!
//! SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
//! The second licence is there because the kernel lends its tracing helpers to GPL-compatible programs only.
#![no_std]
#![no_main]

mod kernel;
mod path;
mod process;
mod ring;
mod snapshot;
mod task;
mod tcp;
mod trial;

/// Tells the kernel that these programs may use its GPL-only helpers: of the two licences, the one it knows.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The verifier rejects programs that can loop for ever, so reaching this would have failed to load.
    loop {}
}
