//! Retention: which bodies go, when, and how that is carried out beside the running pipeline.
//!
//! Owns one thread that prunes, by the operator's rules and on request, one prune at a time ([`keeper`]); what one
//! prune does ([`pruner`]); and the same over a stopped collector's ledger ([`stopped`]). The pipeline stays the only
//! writer of leaves, tiles and checkpoints: it states certificates and holds through the same group commit as
//! everything else. This thread rewrites groups under the published checkpoint, which the pipeline never touches
//! again (`docs/adr/0015-pruning-beside-the-pipeline.md`).

mod keeper;
mod pruner;
mod stopped;
mod told;

pub use self::{
    keeper::{Busy, Keeper, Order, Progress, start},
    pruner::{Pruned, Pruner, RetentionError},
    stopped::{Stopped, StoppedError},
    told::{Told, hold_added, hold_lifted, holds_listed, planned, pruned},
};
