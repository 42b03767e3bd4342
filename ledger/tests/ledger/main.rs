//! The ledger as a whole, through its public interface.

mod pipeline;
#[cfg(test)] // so that the lints know its helpers for test code
mod support;
