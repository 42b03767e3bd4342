//! Programs that are only loaded, to learn whether this kernel allows their kind (tier A).

use aya_ebpf::macros::{fentry, lsm};
use aya_ebpf::programs::{FEntryContext, LsmContext};

/// Tells whether fentry is to be had.
#[fentry(function = "acct_process")]
fn trial_fentry(_: FEntryContext) -> i32 {
    0
}

/// Tells whether LSM programs are to be had.
#[lsm(hook = "bprm_committed_creds")]
fn trial_lsm(_: LsmContext) -> i32 {
    0
}
