//! The succession of a host's signing keys: which key may sign which header.
//!
//! The host id is made from the key of epoch 0. Every header may announce the key of the next epoch, and once
//! one has, each must: the same key throughout an epoch, never the one in force. The next epoch starts with
//! the first header under exactly the announced key. So keys are proven from the host id alone, one signed
//! header an epoch, and a private key that was erased is of no use to whoever steals the host later. Owns the
//! rules; refuses to know how or when keys are replaced.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::{ChainFault, HeaderFields, SignedHeader, VerifiedHeader};
use crate::ids::{HostId, KeyEpoch, PublicKey};

/// What a header says of keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyClaim {
    /// The epoch it is signed in.
    pub epoch: KeyEpoch,
    /// The key it is signed with.
    pub key: PublicKey,
    /// The key of the next epoch.
    pub next: Option<PublicKey>,
}

impl HeaderFields {
    /// What the header says of keys.
    #[must_use]
    pub fn keys(&self) -> KeyClaim {
        KeyClaim {
            epoch: self.key_epoch,
            key: self.public_key,
            next: (self.next_public_key != PublicKey::default()).then_some(self.next_public_key),
        }
    }
}

/// Where a host's succession of keys stands behind a header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeyHead {
    /// The epoch in force.
    pub epoch: KeyEpoch,
    /// Its key; `None` before the first header.
    pub key: Option<PublicKey>,
    /// The key of the next epoch; `None` while none was announced.
    pub announced: Option<PublicKey>,
}

/// How a header breaks the succession of its host's keys. Of those about an announcement the host is at fault,
/// for the key in force signed it; of the others whoever made the header, for its key is not known to be the
/// host's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFault {
    /// The first key does not hash to the host id.
    #[error("its key is not the one the host id was made from")]
    Genesis,
    /// An epoch that was over is used again.
    #[error("key epoch {found} was over when epoch {in_force} began")]
    EpochBack {
        /// The epoch in force.
        in_force: KeyEpoch,
        /// The epoch found.
        found: KeyEpoch,
    },
    /// An epoch has no header.
    #[error("key epoch {found} cannot follow epoch {in_force}: epochs advance by one")]
    EpochSkipped {
        /// The epoch in force.
        in_force: KeyEpoch,
        /// The epoch found.
        found: KeyEpoch,
    },
    /// An epoch begins although no key was announced for it.
    #[error("key epoch {0} begins, and no key was announced for it")]
    Unannounced(KeyEpoch),
    /// The key is not the epoch's.
    #[error("key {found} signs in epoch {epoch}, whose key is {expected}")]
    Key {
        /// The epoch.
        epoch: KeyEpoch,
        /// Its key.
        expected: PublicKey,
        /// The key found.
        found: PublicKey,
    },
    /// A new epoch begins under another key than was announced.
    #[error("epoch {epoch} begins under key {found}, announced was {announced}")]
    Successor {
        /// The epoch that begins.
        epoch: KeyEpoch,
        /// Its key as announced.
        announced: PublicKey,
        /// The key found.
        found: PublicKey,
    },
    /// Two keys were announced for one epoch.
    #[error("epoch {epoch} announces {found} as the next key, before it announced {announced}")]
    AnnouncementChanged {
        /// The epoch that announces.
        epoch: KeyEpoch,
        /// What it announced first.
        announced: PublicKey,
        /// What it announces now.
        found: PublicKey,
    },
    /// A host that announced keys stopped doing so.
    #[error("epoch {0} announces no next key, though the host announced keys before")]
    AnnouncementMissing(KeyEpoch),
    /// The key in force is announced as its own successor.
    #[error("epoch {0} announces its own key as the next one")]
    AnnouncementRepeats(KeyEpoch),
}

impl KeyFault {
    /// Whether the header was signed with the key in force, so that it proves its host to be at fault.
    #[must_use]
    pub fn is_the_hosts(&self) -> bool {
        matches!(
            self,
            Self::AnnouncementChanged { .. } | Self::AnnouncementMissing(_) | Self::AnnouncementRepeats(_)
        )
    }
}

impl KeyHead {
    /// Where the succession stands behind a header whose place in it was checked.
    #[must_use]
    pub fn behind(claim: &KeyClaim) -> Self {
        Self {
            epoch: claim.epoch,
            key: Some(claim.key),
            announced: claim.next,
        }
    }

    /// Judges what the next header of `host` says of keys, and says where the succession stands behind it.
    ///
    /// # Errors
    /// [`KeyFault`]. Who holds the key is checked before what it announces.
    pub fn follow(&self, host: &HostId, claim: &KeyClaim) -> Result<Self, KeyFault> {
        let (in_force, found) = (self.epoch, claim.epoch);
        match self.key {
            None if found != in_force => return Err(KeyFault::EpochSkipped { in_force, found }),
            None => check_genesis(host, claim)?,
            Some(_) if found < in_force => return Err(KeyFault::EpochBack { in_force, found }),
            Some(expected) if found == in_force => check_key(found, expected, claim)?,
            Some(_) if in_force.checked_add(1) != Some(found) => {
                return Err(KeyFault::EpochSkipped { in_force, found });
            }
            Some(_) => match self.announced {
                None => return Err(KeyFault::Unannounced(found)),
                Some(announced) if announced != claim.key => {
                    return Err(KeyFault::Successor {
                        epoch: found,
                        announced,
                        found: claim.key,
                    });
                }
                Some(_) => {}
            },
        }
        match (self.announced, claim.next) {
            (_, Some(next)) if next == claim.key => Err(KeyFault::AnnouncementRepeats(found)),
            (Some(_), None) => Err(KeyFault::AnnouncementMissing(found)),
            (Some(announced), Some(next)) if found == in_force && announced != next => {
                Err(KeyFault::AnnouncementChanged {
                    epoch: found,
                    announced,
                    found: next,
                })
            }
            _ => Ok(Self::behind(claim)),
        }
    }

    /// Whether a header under `claim` was surely signed with this host's key, as far as this one place of the
    /// succession tells: in the same epoch with its key, or in the next with the key announced.
    #[must_use]
    pub fn vouches_for(&self, claim: &KeyClaim) -> bool {
        (claim.epoch == self.epoch && self.key == Some(claim.key))
            || (self.epoch.checked_add(1) == Some(claim.epoch) && self.announced == Some(claim.key))
    }
}

fn check_genesis(host: &HostId, claim: &KeyClaim) -> Result<(), KeyFault> {
    if HostId::of_genesis_key(&claim.key) == *host {
        Ok(())
    } else {
        Err(KeyFault::Genesis)
    }
}

fn check_key(epoch: KeyEpoch, expected: PublicKey, claim: &KeyClaim) -> Result<(), KeyFault> {
    if claim.key == expected {
        Ok(())
    } else {
        Err(KeyFault::Key {
            epoch,
            expected,
            found: claim.key,
        })
    }
}

/// The keys of one host, proven from its id: that of epoch 0, and of each later epoch as far as it was learnt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKeys {
    host: HostId,
    /// Of epochs 1, 2, …: 32 bytes each.
    announced: Vec<PublicKey>,
}

impl HostKeys {
    /// What a host's id alone proves.
    #[must_use]
    pub fn new(host: HostId) -> Self {
        Self {
            host,
            announced: Vec::new(),
        }
    }

    /// The last epoch whose key is known.
    #[must_use]
    pub fn latest(&self) -> KeyEpoch {
        KeyEpoch(self.announced.len() as u64)
    }

    /// Believes a signed header whose key is its host's in the epoch it names. Whether headers are missing
    /// before it is for whoever holds the chain.
    ///
    /// # Errors
    /// [`ChainFault::Host`], [`ChainFault::Keys`].
    pub fn check(&self, header: SignedHeader) -> Result<VerifiedHeader, ChainFault> {
        self.judge(&header)?;
        Ok(VerifiedHeader::believed(header))
    }

    /// Learns the key of the epoch after a signed header's.
    ///
    /// # Errors
    /// As [`Self::check`], and where the header announces no key, or another one than is known.
    pub fn learn(&mut self, header: &SignedHeader) -> Result<(), ChainFault> {
        self.judge(header)?;
        let fields = header.fields();
        let fault = |fault| ChainFault::Keys {
            host: self.host,
            sequence: fields.sequence,
            fault,
        };
        let claim = fields.keys();
        let Some(next) = claim.next else {
            return Err(fault(KeyFault::AnnouncementMissing(claim.epoch)));
        };
        if next == claim.key {
            return Err(fault(KeyFault::AnnouncementRepeats(claim.epoch)));
        }
        let known = usize::try_from(claim.epoch.0)
            .ok()
            .and_then(|epoch| self.announced.get(epoch));
        match known {
            None => self.announced.push(next),
            Some(known) if *known != next => {
                return Err(fault(KeyFault::AnnouncementChanged {
                    epoch: claim.epoch,
                    announced: *known,
                    found: next,
                }));
            }
            Some(_) => {}
        }
        Ok(())
    }

    fn judge(&self, header: &SignedHeader) -> Result<(), ChainFault> {
        let fields = header.fields();
        if fields.host != self.host {
            return Err(ChainFault::Host {
                expected: self.host,
                found: fields.host,
            });
        }
        let claim = fields.keys();
        let known = claim.epoch.0.checked_sub(1).map(|before| {
            usize::try_from(before)
                .ok()
                .and_then(|before| self.announced.get(before))
        });
        let judged = match known {
            None => check_genesis(&self.host, &claim),
            Some(Some(expected)) => check_key(claim.epoch, *expected, &claim),
            Some(None) => Err(KeyFault::Unannounced(claim.epoch)),
        };
        judged.map_err(|fault| ChainFault::Keys {
            host: self.host,
            sequence: fields.sequence,
            fault,
        })
    }
}

#[cfg(test)]
mod tests;
