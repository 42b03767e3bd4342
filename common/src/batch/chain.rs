//! One host's chain: what the next header must be.
//!
//! A header climbs three steps, each a type: [`UnverifiedHeader`] was parsed; [`SignedHeader`] carries a good
//! signature of the key that it names itself; [`VerifiedHeader`] is signed with a key that is proven to be its
//! host's.

use serde::{Deserialize, Serialize};

use super::{ChainFault, HeaderFields, KeyHead, UnverifiedHeader};
use crate::{
    ids::{EventIndex, Hash, HostId, Sequence},
    signature::LastKey,
};

/// A header whose signature fits the key that it names. Whether that key is its host's is not known yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedHeader {
    header: UnverifiedHeader,
    hash: Hash,
}

impl SignedHeader {
    /// Checks the signature: what is expensive about a header, and needs no other one.
    ///
    /// # Errors
    /// [`ChainFault::Signature`].
    pub fn check(header: UnverifiedHeader) -> Result<Self, ChainFault> {
        Self::check_by(header, &mut LastKey::default())
    }

    /// The same for one of many headers that one key may have signed.
    ///
    /// # Errors
    /// [`ChainFault::Signature`].
    pub fn check_by(header: UnverifiedHeader, last: &mut LastKey) -> Result<Self, ChainFault> {
        let fields = header.claimed();
        if !header.signature_fits_by(last) {
            return Err(ChainFault::Signature {
                host: fields.host,
                sequence: fields.sequence,
            });
        }
        let hash = header.hash();
        Ok(Self { header, hash })
    }

    /// The fields, as whoever holds the key signed them.
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
}

/// A header whose signature was checked, and whose key is proven to be its host's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedHeader {
    signed: SignedHeader,
}

impl VerifiedHeader {
    /// For [`super::HostKeys`], which has checked the key.
    pub(super) fn believed(signed: SignedHeader) -> Self {
        Self { signed }
    }

    /// Believes a header for where it stands: in a ledger, under a checkpoint signed by the caller himself, who
    /// admitted it after [`ChainHead::follow`]. Only for taking up a chain again without walking all of it.
    #[must_use]
    pub fn danger_admitted_before(signed: SignedHeader) -> Self {
        Self { signed }
    }

    /// The fields, now believed.
    #[must_use]
    pub fn fields(&self) -> &HeaderFields {
        self.signed.fields()
    }

    /// The signed bytes: the ledger's entry.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        self.signed.bytes()
    }

    /// SHA-256 of the signed bytes.
    #[must_use]
    pub fn hash(&self) -> Hash {
        self.signed.hash
    }

    /// Its first step.
    #[must_use]
    pub fn signed(&self) -> &SignedHeader {
        &self.signed
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
    /// Which key must sign it.
    pub keys: KeyHead,
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
            keys: KeyHead::default(),
        }
    }

    /// Where a chain stands behind this header.
    ///
    /// # Errors
    /// [`ChainFault::Overflow`] where a counter would wrap.
    pub fn after(header: &VerifiedHeader) -> Result<Self, ChainFault> {
        Self::behind(&header.signed, KeyHead::behind(&header.fields().keys()))
    }

    fn behind(header: &SignedHeader, keys: KeyHead) -> Result<Self, ChainFault> {
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
            keys,
        })
    }

    /// Judges the next header and moves on past it; on a fault the head stays as it was.
    ///
    /// Cheap checks come first, so that a flood of misplaced headers costs no signature check each.
    pub fn accept(&mut self, header: UnverifiedHeader) -> Result<VerifiedHeader, ChainFault> {
        self.check_place(header.claimed())?;
        let signed = SignedHeader::check(header)?;
        self.follow(&signed)?;
        Ok(VerifiedHeader { signed })
    }

    /// As [`Self::accept`], for a header whose signature was checked before: what is expensive can run in
    /// parallel, what needs the order runs here.
    pub fn follow(&mut self, header: &SignedHeader) -> Result<(), ChainFault> {
        let keys = self.check_place(header.fields())?;
        *self = Self::behind(header, keys)?;
        Ok(())
    }

    /// Everything but the signature. Whose key it is comes before what the header says of the chain, so that
    /// a fault behind it proves that the host itself signed it.
    fn check_place(&self, fields: &HeaderFields) -> Result<KeyHead, ChainFault> {
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
        let keys = self
            .keys
            .follow(&self.host, &fields.keys())
            .map_err(|fault| ChainFault::Keys {
                host: self.host,
                sequence,
                fault,
            })?;
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
        Ok(keys)
    }
}
