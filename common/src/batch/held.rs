//! The public side of the keys that an agent holds, held against its own chain.
//!
//! Owns the judgement whether keys and chain belong to one moment: a key file or a spool that was put back from
//! an older copy is told here, before anything is signed.

use super::{KeyHead, SignedHeader, VerifiedHeader};
use crate::ids::{HostId, KeyEpoch, PublicKey};

/// What an agent can sign with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldKeys {
    /// Whose keys.
    pub host: HostId,
    /// The epoch in force.
    pub epoch: KeyEpoch,
    /// Its key.
    pub key: PublicKey,
    /// The key of the next epoch, to be announced.
    pub next: PublicKey,
    /// The key of the epoch before, whose private half is erased; `None` in epoch 0.
    pub previous: Option<PublicKey>,
}

/// Why keys do not continue a chain. Whoever restored a file is at fault; nothing is signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeysDiffer {
    /// The keys are those of an epoch that is over.
    #[error(
        "the key file is of epoch {keys}, the chain in the spool has reached epoch {chain}: an older copy of \
         the key file was put back. Restore the newer one; if it is lost, this host's chain ends here, and the \
         host must be enrolled anew under a new identity"
    )]
    KeysOlder {
        /// Epoch of the keys.
        keys: KeyEpoch,
        /// Epoch of the chain.
        chain: KeyEpoch,
    },
    /// The chain is behind the keys by more than a crash explains.
    #[error(
        "the key file is of epoch {keys}, and the spool knows of no chain that leads there: the spool was lost \
         or an older copy of it put back. Restore the newer one, or enrol this host anew under a new identity"
    )]
    SpoolOlder {
        /// Epoch of the keys.
        keys: KeyEpoch,
    },
    /// Keys and chain are of one time and not of one host.
    #[error(
        "the keys of epoch {0} are not the ones that the chain in the spool has in force and announced: the key \
         file or the spool is another one's. Restore the one that belongs here"
    )]
    Other(KeyEpoch),
}

impl HeldKeys {
    /// Whether these keys continue a chain that stands at `chain`.
    ///
    /// # Errors
    /// [`KeysDiffer`], with the remedy.
    pub fn fits(&self, chain: &KeyHead) -> Result<(), KeysDiffer> {
        let fits = match chain.key {
            None if self.epoch == KeyEpoch(0) => HostId::of_genesis_key(&self.key) == self.host,
            None => return Err(KeysDiffer::SpoolOlder { keys: self.epoch }),
            Some(_) if self.epoch < chain.epoch => {
                return Err(KeysDiffer::KeysOlder {
                    keys: self.epoch,
                    chain: chain.epoch,
                });
            }
            Some(key) if self.epoch == chain.epoch => {
                key == self.key && chain.announced.is_none_or(|next| next == self.next)
            }
            // Keys were replaced, and nothing was sealed since: what a crash may leave.
            Some(key) if chain.epoch.checked_add(1) == Some(self.epoch) => {
                self.previous == Some(key) && chain.announced == Some(self.key)
            }
            Some(_) => return Err(KeysDiffer::SpoolOlder { keys: self.epoch }),
        };
        if fits {
            Ok(())
        } else {
            Err(KeysDiffer::Other(self.epoch))
        }
    }

    /// Believes a header of this agent's own: signed with the key in force or the one before.
    ///
    /// # Errors
    /// As [`Self::fits`].
    pub fn check(&self, header: SignedHeader) -> Result<VerifiedHeader, KeysDiffer> {
        let fields = header.fields();
        if fields.host != self.host {
            return Err(KeysDiffer::Other(self.epoch));
        }
        self.fits(&KeyHead::behind(&fields.keys()))?;
        Ok(VerifiedHeader::believed(header))
    }
}
