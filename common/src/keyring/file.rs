//! The key file: two slots, of which one holds the keys in force and the other zeros.
//!
//! Bytes: `docs/format/keys.md`. The file keeps its inode and its length: keys are replaced by writing the free
//! slot and then overwriting the old one in place, never by renaming, which would leave the old keys in blocks
//! that no name leads to any more. After a crash between the two writes both slots are good; the one of the
//! higher generation is in force and the other one is erased.

use alloc::vec::Vec;

use zeroize::Zeroizing;

use super::{EpochBegan, Keyring, Seed};
use crate::{
    batch::HeldKeys,
    codec::{Reader, Short, Write},
    ids::{BootId, BootNanos, Hash, HostId, KeyEpoch, PublicKey, Sequence},
};

/// First bytes of a slot.
const MAGIC: &[u8; 4] = b"HLKS";
/// The format written today.
const FORMAT_VERSION: u16 = 1;
/// Bytes before the check.
const CHECKED_BYTES: usize = 184;
/// Bytes of a slot that are written; the rest is zero.
const SLOT_BYTES: usize = CHECKED_BYTES + 32;
/// Distance between the slots, bytes: they never share a sector.
pub const KEY_SLOT_STRIDE: usize = 4096;
/// Length of the key file, bytes.
pub const KEY_FILE_BYTES: usize = 2 * KEY_SLOT_STRIDE;

/// Bytes that hold private keys: overwritten when dropped.
pub type SecretBytes = Zeroizing<Vec<u8>>;

/// What a slot holds.
#[derive(Debug)]
pub struct KeyRecord {
    /// Counts the replacements; the higher one of two good slots is in force.
    pub generation: u64,
    /// Whose keys.
    pub host: HostId,
    /// The epoch in force.
    pub epoch: KeyEpoch,
    /// Its private key.
    pub present: Seed,
    /// The private key of the next epoch.
    pub next: Seed,
    /// The public key of the epoch before; `None` in epoch 0.
    pub previous: Option<PublicKey>,
    /// When the epoch began.
    pub began: EpochBegan,
}

/// What the slot that is not in force holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OtherSlot {
    /// Zeros.
    Erased,
    /// Anything else: perhaps keys of an epoch that is over, to be overwritten before anything is signed.
    NotErased,
}

/// Something in a key file that gives keys which is not as this agent leaves it. Nothing rests on those bytes; they are
/// overwritten at the next start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileFinding {
    /// It was cut or grew.
    #[error(
        "{bytes} bytes, where it always has {KEY_FILE_BYTES}: somebody, or the disk, cut or lengthened it"
    )]
    Length {
        /// Its length.
        bytes: usize,
    },
    /// Bytes that are zero ever since the file was made.
    #[error(
        "the byte at offset {offset}, outside what is written of its slots, is not zero: somebody, or the disk, wrote there"
    )]
    Stray {
        /// The first of them.
        offset: usize,
    },
    /// The slot that is not in force holds something.
    #[error(
        "slot {slot}, not in force, is not erased: a replacement of keys was cut short, or somebody wrote there"
    )]
    Leftover {
        /// Which slot.
        slot: usize,
    },
}

/// What is not in order in the file `bytes` that gives `record`.
#[must_use]
pub fn key_file_findings(bytes: &[u8], record: &KeyRecord) -> Vec<KeyFileFinding> {
    let is_record = |at: usize| at < KEY_FILE_BYTES && at % KEY_SLOT_STRIDE < SLOT_BYTES;
    let set = |at: &usize| bytes.get(*at).is_some_and(|byte| *byte != 0);
    let slot = 1 - record.slot();
    let other = slot * KEY_SLOT_STRIDE;
    let length = (bytes.len() != KEY_FILE_BYTES).then_some(KeyFileFinding::Length { bytes: bytes.len() });
    let stray = (0..bytes.len()).filter(|at| !is_record(*at)).find(set);
    let leftover = (other..other + SLOT_BYTES).any(|at| set(&at));
    [
        length,
        stray.map(|offset| KeyFileFinding::Stray { offset }),
        leftover.then_some(KeyFileFinding::Leftover { slot }),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Why a key file gives no keys. The disk is at fault, or whoever wrote over it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyFileFault {
    /// Neither slot is whole.
    #[error("neither of its two slots holds keys")]
    NoKeys,
    /// A format this build does not know.
    #[error("its format {0} is unknown here; upgrade the agent")]
    Version(u16),
}

impl KeyRecord {
    /// The keys of a new host.
    #[must_use]
    pub fn first(present: Seed, next: Seed, boot: BootId, at: BootNanos) -> Self {
        Self {
            generation: 1,
            host: HostId::of_genesis_key(&present.public()),
            epoch: KeyEpoch(0),
            present,
            next,
            previous: None,
            began: EpochBegan {
                sequence: Sequence(0),
                boot,
                at,
            },
        }
    }

    /// The keys of the epoch after this one, with `fresh` to be announced in it; `None` where a counter would
    /// wrap.
    #[must_use]
    pub fn successor(&self, fresh: Seed, began: EpochBegan) -> Option<Self> {
        Some(Self {
            generation: self.generation.checked_add(1)?,
            host: self.host,
            epoch: self.epoch.checked_add(1)?,
            present: self.next.copy(),
            next: fresh,
            previous: Some(self.present.public()),
            began,
        })
    }

    /// The public side.
    #[must_use]
    pub fn held(&self) -> HeldKeys {
        HeldKeys {
            host: self.host,
            epoch: self.epoch,
            key: self.present.public(),
            next: self.next.public(),
            previous: self.previous,
        }
    }

    /// What signs.
    #[must_use]
    pub fn keyring(&self) -> Keyring {
        Keyring::new(self.held(), &self.present, self.began)
    }

    /// Which slot it lies in: 0 or 1.
    #[must_use]
    pub fn slot(&self) -> usize {
        usize::from(self.generation.to_le_bytes()[0] & 1)
    }

    /// The slot's bytes.
    #[must_use]
    pub fn encode(&self) -> SecretBytes {
        // Never grows, so that no copy is left behind by moving.
        let mut out = Zeroizing::new(Vec::with_capacity(KEY_SLOT_STRIDE));
        out.extend_from_slice(MAGIC);
        out.put_u16(FORMAT_VERSION);
        out.put_u16(0);
        out.put_u64(self.generation);
        out.extend_from_slice(&self.host.0);
        out.put_u64(self.epoch.0);
        out.extend_from_slice(self.present.bytes());
        out.extend_from_slice(self.next.bytes());
        out.extend_from_slice(&self.previous.unwrap_or_default().0);
        out.put_u64(self.began.sequence.0);
        out.extend_from_slice(&self.began.boot.0);
        out.put_u64(self.began.at.0);
        let check = Hash::of(&out);
        out.extend_from_slice(&check.0);
        out.resize(KEY_SLOT_STRIDE, 0);
        out
    }
}

/// Reads both slots: the keys in force, and what is in the other slot.
///
/// # Errors
/// [`KeyFileFault`].
pub fn read_key_file(bytes: &[u8]) -> Result<(KeyRecord, OtherSlot), KeyFileFault> {
    let mut best: Option<KeyRecord> = None;
    let mut fault = KeyFileFault::NoKeys;
    let slot = |slot: usize| {
        let from = slot * KEY_SLOT_STRIDE;
        let rest = bytes.get(from..).unwrap_or_default();
        rest.get(..KEY_SLOT_STRIDE).unwrap_or(rest)
    };
    for at in 0..2 {
        match read_slot(slot(at)).unwrap_or(Err(KeyFileFault::NoKeys)) {
            Ok(record) if record.slot() == at => {
                if best
                    .as_ref()
                    .is_none_or(|best| best.generation < record.generation)
                {
                    best = Some(record);
                }
            }
            Ok(_) => {}
            Err(KeyFileFault::NoKeys) => {}
            // Keys that this build cannot read may be the newer ones.
            Err(version) => fault = version,
        }
    }
    if fault != KeyFileFault::NoKeys {
        return Err(fault);
    }
    let best = best.ok_or(fault)?;
    let other = slot(1 - best.slot()).iter().all(|byte| *byte == 0);
    let other = if other {
        OtherSlot::Erased
    } else {
        OtherSlot::NotErased
    };
    Ok((best, other))
}

fn read_slot(slot: &[u8]) -> Result<Result<KeyRecord, KeyFileFault>, Short> {
    let covered = slot.get(..CHECKED_BYTES).unwrap_or_default();
    let check = slot.get(CHECKED_BYTES..SLOT_BYTES).unwrap_or_default();
    if check.is_empty() || Hash::of(covered).0 != *check {
        return Ok(Err(KeyFileFault::NoKeys));
    }
    let mut fields = Reader::new(covered);
    if &fields.array("magic")? != MAGIC {
        return Ok(Err(KeyFileFault::NoKeys));
    }
    let version = fields.u16("version")?;
    if version != FORMAT_VERSION {
        return Ok(Err(KeyFileFault::Version(version)));
    }
    fields.u16("reserved")?;
    let generation = fields.u64("generation")?;
    let host = HostId(fields.array("host")?);
    let epoch = KeyEpoch(fields.u64("epoch")?);
    let seed = |bytes: &[u8]| {
        Seed::filled(|seed| {
            seed.copy_from_slice(bytes);
            Ok::<(), Short>(())
        })
    };
    let present = seed(fields.take("present key", 32)?)?;
    let next = seed(fields.take("next key", 32)?)?;
    let previous = PublicKey(fields.array("previous public key")?);
    Ok(Ok(KeyRecord {
        generation,
        host,
        epoch,
        present,
        next,
        previous: (epoch > KeyEpoch(0)).then_some(previous),
        began: EpochBegan {
            sequence: Sequence(fields.u64("first sequence")?),
            boot: BootId(fields.array("boot")?),
            at: BootNanos(fields.u64("began")?),
        },
    }))
}
