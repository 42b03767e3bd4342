//! Boot: one run of the kernel. Keyed by the boot id.

use serde::{Deserialize, Serialize};

use super::{Field, Source};
use crate::{ids::WallNanos, text::Text};

/// The whole record of a boot at one instant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Boot {
    /// Where the record came from.
    pub source: Source,
    /// Wall time of the boot clock's zero, as the host reckons it now.
    pub booted: WallNanos,
    /// The kernel command line.
    pub command_line: Field<Text>,
}
