//! Sensors: from what the kernel and `/proc` tell to whole events.
//!
//! One file per source and one per entity family. Everything a sensor says ends as an observation in the
//! queue; what it could not see is said as well.

pub mod host;
pub mod process;
pub mod procfs;
pub mod socket;

use std::io;

use common::event::Why;

/// Why a field could not be read, from the error of reading it.
#[must_use]
pub fn why(error: &io::Error) -> Why {
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::PermissionDenied, _) => Why::NotPermitted,
        (io::ErrorKind::NotFound, _) | (_, Some(libc::ESRCH)) => Why::Gone,
        _ => Why::Fault,
    }
}
