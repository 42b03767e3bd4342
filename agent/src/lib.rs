//! The node agent: watches the kernel, seals what it sees into signed batches, ships them.

pub mod clock;
pub mod config;
pub mod disk;
pub mod identity;
pub mod kernel;
pub mod sensor;
