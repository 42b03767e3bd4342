//! What a collector signed or sent that cannot stand beside what it signed before: files for an auditor.
//!
//! Owns `state/evidence/` ([format](../../../docs/format/evidence.md)). The text file is written last, so that files
//! which none names are what a crash left. Bounded: the same thing is kept once, and the first things are kept, for
//! they tell most. Refuses to judge: whoever holds two checkpoints and the ledger's key can.

use std::{
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use common::{
    ids::{Hash, hex},
    ledger_keys::LedgerKeys,
    note::VerifierKey,
    session::{FrameDecoder, Message},
    split::SplitProof,
};

use crate::{config::Layout, disk};

/// Items kept; with the longest message each takes little more than a megabyte.
const ITEMS_MAX: usize = 16;

/// Keeps what is known of `fault`: the checkpoint remembered, the message that contradicts it, the checkpoint in that
/// message, and the proof of a split view where one follows. Returns the file that names the others.
///
/// # Errors
/// What the disk says, or that there is no room for more.
pub(super) fn keep(layout: &Layout, fault: &str, remembered: &[u8], offending: &[u8]) -> io::Result<PathBuf> {
    let dir = layout.state().join("evidence");
    fs::create_dir_all(&dir)?;
    let parts = [fault.as_bytes(), remembered, offending].map(|part| Hash::of(part).0);
    let name = hex(&Hash::of(&parts.concat()).0[..6]);
    let summary = dir.join(format!("{name}.txt"));
    if summary.exists() {
        return Ok(summary);
    }
    if items(&dir)? >= ITEMS_MAX {
        let text = format!("{} holds {ITEMS_MAX} items: move them away", dir.display());
        return Err(io::Error::other(text));
    }
    let message = message_in(offending);
    let (offered, offered_what, remembered_what) = match &message {
        Some(Message::Keys(history)) => (
            Some(history.as_slice()),
            "the history of the ledger's keys that the collector sent",
            "the history of the ledger's keys that this agent held",
        ),
        Some(Message::Receipts(receipts)) => (
            Some(receipts.checkpoint.as_slice()),
            "the checkpoint that the collector sent",
            "the checkpoint this agent remembered",
        ),
        _ => (None, "", "the checkpoint this agent remembered"),
    };
    let proof = match &message {
        Some(Message::Receipts(receipts)) => keys_of(layout).and_then(|keys| {
            SplitProof::from_consistency(remembered, &receipts.checkpoint, &receipts.consistency, &keys)
        }),
        _ => None,
    };
    let proof = proof.map(|proof| proof.encode());
    let files = [
        ("remembered", Some(remembered), remembered_what),
        ("offered", offered, offered_what),
        (
            "split-view",
            proof.as_deref(),
            "the proof that both cannot be true: hostledger proof check",
        ),
        (
            "message",
            Some(offending),
            "the whole message that the collector sent",
        ),
    ];
    let mut text = format!("hostledger agent evidence, format 1\n{fault}\n\n");
    for (role, bytes, what) in files {
        let Some(bytes) = bytes.filter(|bytes| !bytes.is_empty()) else {
            continue;
        };
        disk::replace(&dir.join(format!("{name}.{role}")), bytes, 0o600)?;
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "{name}.{role}: {what}, {} bytes, sha256 {}",
            bytes.len(),
            Hash::of(bytes)
        );
    }
    disk::replace(&summary, text.as_bytes(), 0o600)?;
    // The directory itself may be new.
    disk::sync_dir(&layout.state())?;
    Ok(summary)
}

fn items(dir: &Path) -> io::Result<usize> {
    let mut found = 0;
    for entry in fs::read_dir(dir)? {
        found += usize::from(
            entry?
                .path()
                .extension()
                .is_some_and(|extension| extension == "txt"),
        );
    }
    Ok(found)
}

/// What this agent knows of the ledger's keys, for making a proof of what it refused.
fn keys_of(layout: &Layout) -> Option<LedgerKeys> {
    let key = fs::read_to_string(layout.ledger_key()).ok()?;
    let mut keys = LedgerKeys::from(VerifierKey::parse(key.trim()).ok()?);
    for path in [layout.ledger_keys(), layout.learnt_keys()] {
        let learnt = fs::read(path).ok().and_then(|history| keys.learn(&history).ok()?);
        keys = learnt.unwrap_or(keys);
    }
    Some(keys)
}

fn message_in(bytes: &[u8]) -> Option<Message> {
    let mut decoder = FrameDecoder::default();
    decoder.push(bytes);
    decoder.next_message().ok().flatten()
}

#[cfg(test)]
mod tests {
    use common::{
        checkpoint::Checkpoint,
        merkle::{consistency_proof, leaf_hash, root_of},
        note::SignerKey,
        session::Receipts,
    };

    use super::*;

    fn signer() -> SignerKey {
        SignerKey::from_seed("ledger.example/one", &[7; 32]).unwrap()
    }

    /// Checkpoints of 3 and of 5 leaves that differ from the first leaf on, and the message that holds the second.
    fn views() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
        let note = |leaves: &[Hash]| {
            let head = Checkpoint {
                origin: "ledger.example/one".into(),
                size: leaves.len() as u64,
                root: root_of(leaves),
                extensions: Vec::new(),
            };
            head.sign(&signer()).unwrap().into_bytes()
        };
        let leaves =
            |word: u8, count: u8| -> Vec<Hash> { (0..count).map(|n| leaf_hash(&[word, n])).collect() };
        let (mine, theirs) = (leaves(1, 3), leaves(2, 5));
        let receipts = Receipts {
            checkpoint: note(&theirs),
            consistency: consistency_proof(&theirs, 3, 5).unwrap(),
            proven: Vec::new(),
        };
        let message = Message::Receipts(receipts).encode().unwrap();
        (note(&mine), note(&theirs), message)
    }

    fn layout() -> (tempfile::TempDir, Layout) {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout {
            dir: dir.path().to_owned(),
        };
        fs::create_dir(layout.state()).unwrap();
        fs::write(layout.ledger_key(), format!("{}\n", signer().verifier())).unwrap();
        (dir, layout)
    }

    #[test]
    fn both_checkpoints_and_the_proof_are_kept_once() {
        let (_dir, layout) = layout();
        let (mine, theirs, message) = views();
        let summary = keep(&layout, "it forked", &mine, &message).unwrap();
        assert_eq!(keep(&layout, "it forked", &mine, &message).unwrap(), summary);
        let file = |role: &str| fs::read(summary.with_extension(role)).unwrap();
        assert_eq!((file("remembered"), file("offered")), (mine, theirs));
        assert_eq!(file("message"), message);
        let proven = SplitProof::decode(&file("split-view"))
            .unwrap()
            .check(signer().verifier());
        assert_eq!(proven.unwrap().larger.size, 5);
        let text = fs::read_to_string(&summary).unwrap();
        assert!(
            text.contains("it forked\n") && text.contains("split-view: the proof"),
            "{text}"
        );
        assert_eq!(fs::read_dir(layout.state().join("evidence")).unwrap().count(), 5);
    }

    #[test]
    fn it_is_bounded_and_what_came_first_stays() {
        let (_dir, layout) = layout();
        let (mine, _, message) = views();
        let first = keep(&layout, "fault 0", &mine, &message).unwrap();
        for number in 1..ITEMS_MAX {
            keep(&layout, &format!("fault {number}"), &mine, b"no message").unwrap();
        }
        let refused = keep(&layout, "one more", &mine, &message).unwrap_err();
        assert!(refused.to_string().contains("move them away"), "{refused}");
        assert_eq!(keep(&layout, "fault 0", &mine, &message).unwrap(), first);
        assert_eq!(items(&layout.state().join("evidence")).unwrap(), ITEMS_MAX);
    }
}
