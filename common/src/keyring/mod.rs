//! An agent's private keys: which are in force, when they are replaced, and the file they lie in.
//!
//! Owns the pure part of the ratchet. The private key of the present epoch and that of the next one exist; the
//! next is drawn before the present one is used, for it is announced under it. Replacing keys is: write the
//! next pair into the other slot of the key file, then erase the old slot, then forget the old key. Refuses to
//! replace keys before a batch of the epoch is durable, so that no epoch is skipped. Randomness, clock and disk
//! are the driver's.

mod file;

use alloc::boxed::Box;
use core::fmt;

use ed25519_dalek::SigningKey;
use zeroize::Zeroize;

pub use self::file::{
    KEY_FILE_BYTES, KEY_SLOT_STRIDE, KeyFileFault, KeyFileFinding, KeyRecord, OtherSlot, SecretBytes,
    key_file_findings, read_key_file,
};
use crate::{
    batch::HeldKeys,
    ids::{BootId, BootNanos, PublicKey, Sequence},
};

/// A private key's seed (RFC 8032), overwritten when it is dropped. On the heap, so that moving it leaves no
/// copy behind.
pub struct Seed(Box<[u8; 32]>);

impl Seed {
    /// A seed that `fill` writes in place.
    ///
    /// # Errors
    /// Whatever `fill` gives.
    pub fn filled<E>(fill: impl FnOnce(&mut [u8; 32]) -> Result<(), E>) -> Result<Self, E> {
        let mut seed = Self(Box::new([0; 32]));
        fill(&mut seed.0)?;
        Ok(seed)
    }

    /// A second copy.
    #[must_use]
    pub fn copy(&self) -> Self {
        let mut seed = Self(Box::new([0; 32]));
        seed.0.copy_from_slice(&*self.0);
        seed
    }

    /// The public key.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(SigningKey::from_bytes(&self.0).verifying_key().to_bytes())
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl Drop for Seed {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed(secret)")
    }
}

/// When an epoch began.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochBegan {
    /// Sequence of its first batch.
    pub sequence: Sequence,
    /// The boot in which it began.
    pub boot: BootId,
    /// When, by that boot's clock.
    pub at: BootNanos,
}

/// When an epoch ends, whichever comes first. It ends with its boot as well, for no clock measures across boots.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochPolicy {
    /// Age, nanoseconds of the boot clock.
    pub age_ns: u64,
    /// Batches.
    pub batches: u64,
}

impl Default for EpochPolicy {
    fn default() -> Self {
        Self {
            age_ns: 6 * 3600 * 1_000_000_000,
            batches: 100_000,
        }
    }
}

/// The keys in force: the public side, and the private key that signs.
pub struct Keyring {
    held: HeldKeys,
    /// On the heap, so that moving it leaves no copy behind; overwritten when it is dropped.
    secret: Box<SigningKey>,
    began: EpochBegan,
}

impl Keyring {
    pub(crate) fn new(held: HeldKeys, seed: &Seed, began: EpochBegan) -> Self {
        Self {
            held,
            secret: Box::new(SigningKey::from_bytes(seed.bytes())),
            began,
        }
    }

    /// The public side.
    #[must_use]
    pub fn held(&self) -> &HeldKeys {
        &self.held
    }

    /// When the epoch began.
    #[must_use]
    pub fn began(&self) -> &EpochBegan {
        &self.began
    }

    /// What signs.
    pub(crate) fn secret(&self) -> &SigningKey {
        &self.secret
    }

    /// When the epoch is over by age, in the boot `boot`; zero where it began in another one.
    #[must_use]
    pub fn ends(&self, policy: &EpochPolicy, boot: &BootId) -> BootNanos {
        if self.began.boot == *boot {
            BootNanos(self.began.at.0.saturating_add(policy.age_ns))
        } else {
            BootNanos(0)
        }
    }

    /// Whether the epoch is over at `now` of the boot `boot`, where `next` is the next batch's sequence.
    #[must_use]
    pub fn over(&self, policy: &EpochPolicy, boot: &BootId, now: BootNanos, next: Sequence) -> bool {
        now >= self.ends(policy, boot) || next.0.saturating_sub(self.began.sequence.0) >= policy.batches
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyring")
            .field("held", &self.held)
            .field("began", &self.began)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
