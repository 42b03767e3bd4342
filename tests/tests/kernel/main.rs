//! The eBPF programs in the running kernel, read through `agent::kernel`.
//!
//! What must be told is said by programs in C (`tests/programs`) that make processes and connections and know
//! from the system calls themselves what happened. Needs root and an agent built with the eBPF object.
#![cfg(feature = "privileged")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do; clippy excuses only the tests themselves"
)]

mod network;
mod process;
mod refusal;
mod snapshot;
mod tcp;
mod watch;
