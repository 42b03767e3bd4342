//! The node agent: watches the kernel, seals what it sees into signed batches, ships them.

pub mod clock;
pub mod config;
pub mod disk;
pub mod doctor;
pub mod files;
pub mod identity;
pub mod journal;
pub mod kernel;
pub mod keys;
pub mod lag;
pub mod pipeline;
pub mod run;
pub mod sensor;
pub mod ship;
pub mod spool;
pub mod status;
