//! The real agent and the real collector: killed at random, stopped in order, held against `/proc`.
//!
//! Without the feature `privileged` the agent watches `/proc` alone, which needs no root; with it the same
//! tests run on the kernel's sensors as well.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail by panicking, as tests do; clippy excuses only the tests themselves"
)]

mod baseline;
mod cosigned;
mod crash;
mod disk;
mod key_witnesses;
mod keys;
mod node;
mod refused;
mod sampler;
mod split_view;
mod stolen_disk;
mod stop;
mod witness;
