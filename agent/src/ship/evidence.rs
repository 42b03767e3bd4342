//! What a collector signed or sent that cannot stand beside what it signed before: files for an auditor.
//!
//! Owns `state/evidence/` ([format](../../../docs/format/evidence.md)). The text file is written last, so that files
//! which none names are what a crash left. Bounded: the same thing is kept once, and the first things are kept, for
//! they tell most. Refuses to judge: whoever holds two checkpoints and the ledger's key can.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    fmt::Write as _,
    fs, io,
    path::{Path, PathBuf},
};

use common::{
    ids::{Hash, hex},
    session::{FrameDecoder, Message},
    split::SplitProof,
};

use super::remembered;
use crate::{config::Layout, disk, files::Finding};

/// Items kept; with the longest message each takes little more than a megabyte.
const ITEMS_MAX: usize = 16;

/// First line of the text file.
const TITLE: &str = "hostledger agent evidence, format 1\n";
/// What byte files are, in the text that names them.
const WHAT: [&str; 6] = [
    "the checkpoint this agent remembered",
    "the checkpoint that the collector sent",
    "the history of the ledger's keys that this agent held",
    "the history of the ledger's keys that the collector sent",
    "the proof that both cannot be true: hostledger proof check",
    "the whole message that the collector sent",
];
/// Longest file of an item that is looked at again, bytes: more than a message may have.
const FILE_BYTES_MAX: u64 = 8 << 20;

/// Keeps what is known of `fault`: the checkpoint remembered, the message that contradicts it, the checkpoint in that
/// message, and the proof of a split view where one follows. Returns the file that names the others.
///
/// # Errors
/// What the disk says, or that there is no room for more.
pub(super) fn keep(layout: &Layout, fault: &str, remembered: &[u8], offending: &[u8]) -> io::Result<PathBuf> {
    let dir = layout.evidence();
    fs::create_dir_all(&dir)?;
    let name = name_of(fault, remembered, offending);
    let summary = dir.join(format!("{name}.txt"));
    if summary.exists() {
        return Ok(summary);
    }
    if items(&dir)? >= ITEMS_MAX {
        let text = format!("{} holds {ITEMS_MAX} items: move them away", dir.display());
        return Err(io::Error::other(text));
    }
    let parts = Parts::of(layout, remembered, offending);
    for (role, bytes, _) in parts.files() {
        disk::replace(&dir.join(format!("{name}.{role}")), bytes, 0o600)?;
    }
    let text = parts.text(&name, fault);
    disk::replace(&summary, text.as_bytes(), 0o600)?;
    // The directory itself may be new.
    disk::sync_dir(&layout.state())?;
    Ok(summary)
}

/// The start of a hash over what happened and the bytes.
fn name_of(fault: &str, remembered: &[u8], offending: &[u8]) -> String {
    let parts = [fault.as_bytes(), remembered, offending].map(|part| Hash::of(part).0);
    hex(&Hash::of(&parts.concat()).0[..6])
}

/// How the text tells a file's bytes.
fn sealed(bytes: &[u8]) -> String {
    format!("{} bytes, sha256 {}", bytes.len(), Hash::of(bytes))
}

/// The byte files of one item.
struct Parts {
    keys: bool,
    remembered: Vec<u8>,
    offered: Vec<u8>,
    split_view: Vec<u8>,
    message: Vec<u8>,
}

impl Parts {
    /// All that follows from what was remembered and the message that came.
    fn of(layout: &Layout, remembered: &[u8], offending: &[u8]) -> Self {
        let (offered, proof) = match message_in(offending) {
            Some(Message::Keys(history)) => (history, None),
            Some(Message::Receipts(receipts)) => {
                let proof = remembered::keys_of(layout).ok().and_then(|keys| {
                    SplitProof::from_consistency(
                        remembered,
                        &receipts.checkpoint,
                        &receipts.consistency,
                        &keys,
                    )
                });
                (receipts.checkpoint, proof)
            }
            _ => (Vec::new(), None),
        };
        Self {
            keys: matches!(message_in(offending), Some(Message::Keys(_))),
            remembered: remembered.to_vec(),
            offered,
            split_view: proof.map_or_else(Vec::new, |proof| proof.encode()),
            message: offending.to_vec(),
        }
    }

    /// Role, bytes and what they are, of those that there are.
    fn files(&self) -> impl Iterator<Item = (&'static str, &[u8], &'static str)> {
        let [remembered, offered, remembered_keys, offered_keys, proof, message] = WHAT;
        let (remembered, offered) = match self.keys {
            true => (remembered_keys, offered_keys),
            false => (remembered, offered),
        };
        let files: [(&'static str, &[u8], &'static str); 4] = [
            ("remembered", &self.remembered, remembered),
            ("offered", &self.offered, offered),
            ("split-view", &self.split_view, proof),
            ("message", &self.message, message),
        ];
        files.into_iter().filter(|(_, bytes, _)| !bytes.is_empty())
    }

    /// The text that names them.
    fn text(&self, name: &str, fault: &str) -> String {
        let mut text = format!("{TITLE}{fault}\n\n");
        for (role, bytes, what) in self.files() {
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}.{role}: {what}, {}", sealed(bytes));
        }
        text
    }
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

fn message_in(bytes: &[u8]) -> Option<Message> {
    let mut decoder = FrameDecoder::default();
    decoder.push(bytes);
    decoder.next_message().ok().flatten()
}

/// What is not as it was kept. All of an item follows from what happened and two of its files, and its name is their
/// hash, so it is told which file was altered.
pub(crate) fn examine(layout: &Layout) -> Vec<Finding> {
    let dir = layout.evidence();
    let Ok(entries) = fs::read_dir(&dir) else {
        return Vec::new();
    };
    let mut found: BTreeMap<String, BTreeMap<String, Vec<u8>>> = BTreeMap::new();
    let mut findings = Vec::new();
    for path in entries.flatten().map(|entry| entry.path()) {
        let part = |part: Option<&OsStr>| part.and_then(OsStr::to_str).map(str::to_owned);
        let (Some(name), Some(role)) = (part(path.file_stem()), part(path.extension())) else {
            continue;
        };
        // What a crash left of a file that was being written.
        if role == "new" {
            continue;
        }
        let short = fs::metadata(&path).is_ok_and(|found| found.len() <= FILE_BYTES_MAX);
        match fs::read(&path) {
            Ok(bytes) if short => {
                found.entry(name).or_default().insert(role, bytes);
            }
            _ => findings.push(Finding::new(path, "it cannot be read, or is too long".to_owned())),
        }
    }
    for (name, files) in &found {
        let named =
            |role: &str, what: &str| Finding::new(dir.join(format!("{name}.{role}")), what.to_owned());
        findings.extend(
            examine_item(layout, name, files)
                .into_iter()
                .map(|(role, what)| named(&role, what)),
        );
    }
    findings
}

/// Roles whose files are not as they were kept, and why.
fn examine_item(
    layout: &Layout,
    name: &str,
    files: &BTreeMap<String, Vec<u8>>,
) -> Vec<(String, &'static str)> {
    const ALTERED: &str =
        "it was altered since it was kept; the other files of the same name are as they were";
    let bytes = |role: &str| files.get(role).map(Vec::as_slice).unwrap_or_default();
    let Some(text) = files.get("txt") else {
        let missing = "it is not there, and files of its item are: a crash left them, or it was removed";
        return vec![("txt".to_owned(), missing)];
    };
    let text = String::from_utf8_lossy(text);
    let fault = text
        .strip_prefix(TITLE)
        .and_then(|rest| rest.split_once("\n\n"))
        .map_or("", |(fault, _)| fault);
    if name_of(fault, bytes("remembered"), bytes("message")) != name {
        // One of the three is altered. Where all of the text but one line fits the files, it is the file of that line.
        let mut unfit = text
            .split_once("\n\n")
            .map_or("", |(_, list)| list)
            .lines()
            .filter_map(|line| {
                let (role, _) = line.strip_prefix(name)?.strip_prefix('.')?.split_once(": ")?;
                let fits = files
                    .get(role)
                    .is_some_and(|bytes| line.ends_with(&sealed(bytes)));
                (!fits).then_some(role)
            });
        let sound = |line: &str| {
            let told = line.strip_prefix(name).and_then(|rest| rest.split_once(": "));
            let told = told.and_then(|(_, rest)| rest.rsplit_once(" bytes, sha256 "));
            told.is_some_and(|(rest, hash)| {
                let what = rest.rsplit_once(", ").map(|(what, _)| what);
                hash.len() == 64 && what.is_some_and(|what| WHAT.contains(&what))
            })
        };
        return match (unfit.next(), unfit.next()) {
            (Some(role @ ("remembered" | "message")), None)
                if text
                    .lines()
                    .skip_while(|line| !line.is_empty())
                    .skip(1)
                    .all(sound) =>
            {
                vec![(role.to_owned(), ALTERED)]
            }
            _ => vec![("txt".to_owned(), ALTERED)],
        };
    }
    let mut parts = Parts::of(layout, bytes("remembered"), bytes("message"));
    let mut altered = Vec::new();
    if bytes("offered") != parts.offered {
        altered.push(("offered".to_owned(), ALTERED));
    }
    // The proof was made with the keys known then: it is held against the text.
    if bytes("split-view") != parts.split_view {
        let listed = |proof: &[u8]| text.contains(&sealed(proof));
        if files.get("split-view").is_none_or(|kept| !listed(kept)) && text.contains(".split-view: ") {
            altered.push(("split-view".to_owned(), ALTERED));
            if !listed(&parts.split_view) {
                return altered;
            }
        } else {
            parts.split_view = bytes("split-view").to_vec();
        }
    }
    if text != parts.text(name, fault) {
        altered.push(("txt".to_owned(), ALTERED));
    }
    let known = ["txt", "remembered", "offered", "split-view", "message"];
    let strange = files.keys().filter(|role| !known.contains(&role.as_str()));
    altered.extend(strange.map(|role| (role.clone(), "no item has such a file")));
    altered
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
