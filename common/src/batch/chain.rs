//! One host's chain: what the next header must be.

use serde::{Deserialize, Serialize};

use super::{HeaderFields, UnverifiedHeader};
use crate::ids::{EventIndex, Hash, HostId, KeyEpoch, PublicKey, Sequence};

/// A header whose signature, key and place in its chain were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader {
    header: UnverifiedHeader,
    hash: Hash,
}

impl VerifiedHeader {
    /// The fields, now believed.
    #[must_use]
    pub fn fields(&self) -> &HeaderFields {
        self.header.claimed()
    }

    /// The signed bytes: the ledger's entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.header.bytes()
    }

    /// SHA-256 of the signed bytes.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.hash
    }

    /// Checks a header by itself, as an offline proof must: its signature, and that its key is its host's
    /// first one. Whether headers are missing before it is for whoever holds the chain.
    pub fn alone(header: UnverifiedHeader) -> Result<Self, ChainFault> {
        let fields = header.claimed();
        if fields.key_epoch != KeyEpoch(0) {
            return Err(ChainFault::Epoch {
                expected: KeyEpoch(0),
                found: fields.key_epoch,
            });
        }
        check_genesis_key(fields)?;
        if !header.signature_fits() {
            return Err(ChainFault::Signature {
                host: fields.host,
                sequence: fields.sequence,
            });
        }
        let hash = header.hash();
        Ok(Self { header, hash })
    }
}

/// Where a chain stands: all that is needed to judge the next header.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Whose chain.
    pub host: HostId,
    /// Sequence the next header must have.
    pub next_sequence: Sequence,
    /// Event index the next header must start at.
    pub next_event: EventIndex,
    /// Hash the next header must name as its previous; zeros before the first.
    pub hash: Hash,
    /// Key epoch in force.
    pub epoch: KeyEpoch,
    /// The key of that epoch; `None` before the first header.
    pub key: Option<PublicKey>,
}

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
    /// The first key does not hash to the host id.
    #[error("the key of host {0} is not the one its id was made from")]
    GenesisKey(HostId),
    /// The key epoch is not the one in force.
    #[error("key epoch {found} where {expected} is in force")]
    Epoch {
        /// The epoch in force.
        expected: KeyEpoch,
        /// The epoch found.
        found: KeyEpoch,
    },
    /// The key is not the one in force.
    #[error("key {found} where {expected} is in force")]
    Key {
        /// The key in force.
        expected: PublicKey,
        /// The key found.
        found: PublicKey,
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

impl ChainHead {
    /// A chain without batches.
    #[must_use]
    pub fn genesis(host: HostId) -> Self {
        Self {
            host,
            next_sequence: Sequence(0),
            next_event: EventIndex(0),
            hash: Hash::default(),
            epoch: KeyEpoch(0),
            key: None,
        }
    }

    /// Where a chain stands behind this header.
    ///
    /// # Errors
    /// [`ChainFault::Overflow`] where a counter would wrap.
    pub fn after(header: &VerifiedHeader) -> Result<Self, ChainFault> {
        let fields = header.fields();
        let overflow = || ChainFault::Overflow(fields.sequence);
        Ok(Self {
            host: fields.host,
            next_sequence: fields.sequence.checked_add(1).ok_or_else(overflow)?,
            next_event: fields
                .first_event
                .checked_add(u64::from(fields.event_count))
                .ok_or_else(overflow)?,
            hash: header.hash,
            epoch: fields.key_epoch,
            key: Some(fields.public_key),
        })
    }

    /// Judges the next header and moves on past it; on a fault the head stays as it was.
    ///
    /// Cheap checks come first, so that a flood of misplaced headers costs no signature check each.
    pub fn accept(&mut self, header: UnverifiedHeader) -> Result<VerifiedHeader, ChainFault> {
        let fields = header.claimed();
        self.check_place(fields)?;
        if !header.signature_fits() {
            return Err(ChainFault::Signature {
                host: self.host,
                sequence: fields.sequence,
            });
        }
        let hash = header.hash();
        let header = VerifiedHeader { header, hash };
        *self = Self::after(&header)?;
        Ok(header)
    }

    /// As [`Self::accept`], for a header whose signature was checked before ([`VerifiedHeader::alone`]): what
    /// is expensive can run in parallel, what needs the order runs here.
    pub fn follow(&mut self, header: &VerifiedHeader) -> Result<(), ChainFault> {
        self.check_place(header.fields())?;
        *self = Self::after(header)?;
        Ok(())
    }

    /// Everything but the signature.
    fn check_place(&self, fields: &HeaderFields) -> Result<(), ChainFault> {
        let sequence = fields.sequence;
        if fields.host != self.host {
            return Err(ChainFault::Host {
                expected: self.host,
                found: fields.host,
            });
        }
        if sequence != self.next_sequence {
            return Err(ChainFault::Sequence {
                expected: self.next_sequence,
                found: sequence,
            });
        }
        if fields.first_event != self.next_event {
            let (expected, found) = (self.next_event, fields.first_event);
            return Err(ChainFault::EventIndex {
                sequence,
                expected,
                found,
            });
        }
        if fields.previous != self.hash {
            return Err(ChainFault::Previous {
                sequence,
                expected: self.hash,
                found: fields.previous,
            });
        }
        if fields.key_epoch != self.epoch {
            return Err(ChainFault::Epoch {
                expected: self.epoch,
                found: fields.key_epoch,
            });
        }
        match self.key {
            None => check_genesis_key(fields),
            Some(expected) if expected != fields.public_key => Err(ChainFault::Key {
                expected,
                found: fields.public_key,
            }),
            Some(_) => Ok(()),
        }
    }
}

fn check_genesis_key(fields: &HeaderFields) -> Result<(), ChainFault> {
    if HostId::of_genesis_key(&fields.public_key) == fields.host {
        Ok(())
    } else {
        Err(ChainFault::GenesisKey(fields.host))
    }
}
