//! Who cosigned what, judged with code of its own: the oracle's part for witnesses.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use ed25519_dalek::{Signature, VerifyingKey};

type Digest32 = [u8; 32];

/// What is demanded of checkpoints, and what was done on their word.
#[derive(Debug)]
pub(crate) struct Cosigned {
    keys: Vec<[u8; 32]>,
    quorum: usize,
    /// Whether nobody may see one that too few cosigned.
    closed: bool,
    /// Leaves of the largest checkpoint that enough cosigned.
    covered: u64,
    /// (host, sequence before which its spool has nothing) → what was covered when that was first so.
    trims: BTreeMap<(Digest32, u64), u64>,
}

impl Cosigned {
    pub(crate) fn new(keys: Vec<[u8; 32]>, quorum: usize, closed: bool) -> Self {
        Self {
            keys,
            quorum,
            closed,
            covered: 0,
            trims: BTreeMap::new(),
        }
    }

    /// Somebody sees a checkpoint of `size` leaves.
    pub(crate) fn shown(&mut self, note: &[u8], size: u64) -> Result<(), String> {
        let found = self.count(note)?;
        if found >= self.quorum {
            self.covered = self.covered.max(size);
        } else if self.closed && size > 0 {
            return Err(format!(
                "a checkpoint of {size} leaves is shown that {found} witnesses cosigned"
            ));
        }
        Ok(())
    }

    pub(crate) fn trimmed(&mut self, host: Digest32, before: u64) {
        self.trims.entry((host, before)).or_insert(self.covered);
    }

    /// Nothing went before a checkpoint that enough cosigned had it.
    pub(crate) fn check(&self, leaf_of: &BTreeMap<(Digest32, u64), u64>) -> Result<(), String> {
        for ((host, before), covered) in &self.trims {
            let Some(last) = before.checked_sub(1) else {
                continue;
            };
            if leaf_of.get(&(*host, last)).is_none_or(|leaf| leaf >= covered) {
                return Err(format!(
                    "batch {last} was trimmed when enough witnesses had cosigned {covered} leaves"
                ));
            }
        }
        Ok(())
    }

    /// How many of the witnesses signed it (C2SP tlog-cosignature, version 1).
    fn count(&self, note: &[u8]) -> Result<usize, String> {
        let text = std::str::from_utf8(note).map_err(|_| "not UTF-8")?;
        let (body, signatures) = text.split_once("\n\n").ok_or("no signatures")?;
        let blobs: Vec<Vec<u8>> = signatures
            .lines()
            .filter_map(|line| STANDARD.decode(line.rsplit(' ').next()?).ok())
            // Key id, time, signature; the ledger's own has no time.
            .filter(|blob| blob.len() == 4 + 8 + 64)
            .collect();
        let by = |key: &[u8; 32]| {
            let Ok(key) = VerifyingKey::from_bytes(key) else {
                return false;
            };
            blobs.iter().any(|blob| {
                let time = blob[4..12]
                    .iter()
                    .fold(0_u64, |time, byte| time << 8 | u64::from(*byte));
                let message = format!("cosignature/v1\ntime {time}\n{body}\n");
                Signature::from_slice(&blob[12..])
                    .and_then(|signature| key.verify_strict(message.as_bytes(), &signature))
                    .is_ok()
            })
        };
        Ok(self.keys.iter().filter(|key| by(key)).count())
    }
}
