//! Cross-crate tests.

pub mod chains;
