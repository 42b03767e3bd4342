//! How a header can fail to continue its chain.

use super::KeyFault;
use crate::ids::{EventIndex, Hash, HostId, Sequence};

/// Why a header does not continue its chain. The host that sent it is at fault, or whoever altered it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChainFault {
    /// It is another host's.
    #[error("header of host {found} in the chain of host {expected}")]
    Host {
        /// Whose chain.
        expected: HostId,
        /// Whose header.
        found: HostId,
    },
    /// Its key is not the one that must sign it, or it announces what it may not.
    #[error("batch {sequence} of host {host}: {fault}")]
    Keys {
        /// Whose chain.
        host: HostId,
        /// Which batch.
        sequence: Sequence,
        /// How.
        fault: KeyFault,
    },
    /// The signature does not fit: forged, or altered since.
    #[error("signature of batch {sequence} of host {host} does not fit")]
    Signature {
        /// Whose header.
        host: HostId,
        /// Which batch.
        sequence: Sequence,
    },
    /// Headers are missing or repeated.
    #[error("batch {found} where {expected} must follow")]
    Sequence {
        /// What must follow.
        expected: Sequence,
        /// What came.
        found: Sequence,
    },
    /// Events are missing or repeated.
    #[error("batch {sequence} starts at event {found} where {expected} must follow")]
    EventIndex {
        /// Which batch.
        sequence: Sequence,
        /// What must follow.
        expected: EventIndex,
        /// What came.
        found: EventIndex,
    },
    /// It continues another history.
    #[error("batch {sequence} names {found} as its previous header where the chain has {expected}")]
    Previous {
        /// Which batch.
        sequence: Sequence,
        /// Hash of the chain's last header.
        expected: Hash,
        /// Hash the header names.
        found: Hash,
    },
    /// A counter would wrap.
    #[error("batch {0} overflows the chain's counters")]
    Overflow(Sequence),
}
