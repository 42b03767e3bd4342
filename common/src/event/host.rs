//! Host: the machine as the agent finds it. Keyed by the host id.

use serde::{Deserialize, Serialize};

use super::{Field, Source};
use crate::text::Text;

/// The whole record of a host at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Host {
    /// Where the record came from.
    pub source: Source,
    /// `uname` nodename.
    pub hostname: Text,
    /// `uname` release, e.g. `6.18.0`.
    pub kernel_release: Text,
    /// `uname` version, the build line.
    pub kernel_version: Text,
    /// `uname` machine, e.g. `x86_64`.
    pub architecture: Text,
    /// `ID` and `VERSION_ID` of os-release, e.g. `debian 12`; absent without such a file.
    pub os: Field<Text>,
    /// Logical processors online.
    pub cpus: u32,
    /// Physical memory, bytes.
    pub memory_bytes: u64,
    /// The kernel's clock source, e.g. `tsc`.
    pub clock_source: Field<Text>,
    /// Whether the kernel believes its clock to be synchronised (`adjtimex`).
    pub clock_synchronised: Field<bool>,
    /// Version of the agent that writes this.
    pub agent_version: Text,
}
