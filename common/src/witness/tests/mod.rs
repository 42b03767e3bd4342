//! Witnesses: what they sign and refuse, what a ledger makes of their answers, who is enough.

mod decision;
mod policy;

use alloc::{string::String, vec::Vec};

use crate::{
    checkpoint::Checkpoint,
    ids::Hash,
    merkle::{consistency_proof, leaf_hash, root_of},
    note::{SignerKey, WitnessSigner, encode_signature},
};

pub(super) const ORIGIN: &str = "ledger.example/one";

pub(super) fn ledger_key() -> SignerKey {
    SignerKey::from_seed(ORIGIN, &[7; 32]).unwrap()
}

pub(super) fn witness(number: u8) -> WitnessSigner {
    WitnessSigner::from_seed(&std::format!("witness.example/w{number}"), &[100 + number; 32]).unwrap()
}

/// Leaves of the true history, or of one that differs from `fork` on.
pub(super) fn leaves(size: u64, fork: u64) -> Vec<Hash> {
    (0..size)
        .map(|i| leaf_hash(&if i < fork { i } else { i + 1_000_000 }.to_be_bytes()))
        .collect()
}

pub(super) fn note(leaves: &[Hash]) -> String {
    let head = Checkpoint {
        origin: ORIGIN.into(),
        size: leaves.len() as u64,
        root: root_of(leaves),
        extensions: Vec::new(),
    };
    head.sign(&ledger_key()).unwrap()
}

/// A cosignature line that names any time at all, well signed.
pub(super) fn stamped(signer: &WitnessSigner, head: &Checkpoint, time: u64) -> String {
    let message = std::format!("cosignature/v1\ntime {time}\n{}", head.body());
    let mut stamped = Vec::from(time.to_be_bytes());
    stamped.extend_from_slice(&signer.sign_bytes(message.as_bytes()));
    encode_signature(signer.verifier().name(), signer.verifier().id(), &stamped)
}

pub(super) fn proof(leaves: &[Hash], old: u64) -> Vec<Hash> {
    consistency_proof(leaves, usize::try_from(old).unwrap(), leaves.len()).unwrap()
}
