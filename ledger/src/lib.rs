//! The C2SP ledger: tiles, storage, checkpoints, proofs, fsck.
