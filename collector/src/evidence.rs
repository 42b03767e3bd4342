//! Evidence against hosts: what broke a chain, kept so that it can be shown to others.
//!
//! One item is some byte files and a JSON file that names them with their hashes (`docs/format/evidence.md`).
//! The JSON file comes last: without it an item does not exist. Owns the bound: what exceeds it, in all or for
//! one host, is dropped and counted, the earliest evidence being the most telling. Refuses to judge; whoever
//! reads an item checks signatures anew.

use std::{
    collections::BTreeSet,
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use common::ids::{Hash, HostId, Sequence};
use serde::{Deserialize, Serialize};

use crate::{
    files::{self, FileError, PUBLIC},
    findings::Finding,
    layout::Layout,
    metrics::Metrics,
};

/// The format written today.
const FORMAT: u32 = 1;
/// Ends the name of the file with an item's sums.
const SUMS: &str = "sha256";
/// Most items kept of one host, so that one cannot crowd out the others.
const ITEMS_PER_HOST_MAX: usize = 64;

/// One item, as its JSON file describes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Format of this description.
    pub format: u32,
    /// The reason, one word, as counted in the metrics.
    pub reason: String,
    /// The reason in a sentence.
    pub text: String,
    /// The host whose certificate the connection carried.
    pub host: HostId,
    /// The batch concerned.
    pub sequence: Option<Sequence>,
    /// Where the connection came from.
    pub peer: String,
    /// When, by the collector's clock, RFC 3339.
    pub at: String,
    /// The byte files.
    pub files: Vec<ItemFile>,
}

/// A byte file of an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ItemFile {
    /// What it is: `offered.header`, `offered.body`, `stored.header`.
    pub role: String,
    /// Its name beside the JSON file.
    pub name: String,
    /// Its length, bytes.
    pub bytes: u64,
    /// SHA-256 of it.
    pub sha256: Hash,
}

/// What is to be kept.
#[derive(Debug, Clone)]
pub struct Evidence {
    /// See [`Item::reason`].
    pub reason: &'static str,
    /// See [`Item::text`].
    pub text: String,
    /// See [`Item::host`].
    pub host: HostId,
    /// See [`Item::sequence`].
    pub sequence: Option<Sequence>,
    /// See [`Item::peer`].
    pub peer: String,
    /// See [`Item::at`].
    pub at: String,
    /// Roles and bytes.
    pub files: Vec<(&'static str, Vec<u8>)>,
}

/// What became of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It was written.
    New,
    /// The same reason for the same bytes is there already.
    Known,
    /// A bound was reached.
    Dropped,
}

/// The store. Blocking: call it where blocking is allowed.
#[derive(Debug, Clone)]
pub struct EvidenceStore {
    layout: Layout,
    bytes_max: u64,
    metrics: Arc<Metrics>,
    /// Bytes on disk; the lock also keeps two writers apart.
    bytes: Arc<Mutex<u64>>,
}

impl EvidenceStore {
    /// Opens the store and counts what is there.
    pub fn open(layout: Layout, bytes_max: u64, metrics: Arc<Metrics>) -> Result<Self, FileError> {
        let root = layout.evidence();
        files::create_dir(&root)?;
        let bytes = bytes_below(&root).map_err(FileError::on("list", &root))?;
        Ok(Self {
            layout,
            bytes_max,
            metrics,
            bytes: Arc::new(Mutex::new(bytes)),
        })
    }

    /// Keeps an item, once.
    pub fn keep(&self, evidence: &Evidence) -> Result<Kept, FileError> {
        let outcome = self.write(evidence);
        match outcome {
            Ok(Kept::New) => self.metrics.evidence_kept.add(1),
            Ok(Kept::Known) => {}
            Ok(Kept::Dropped) | Err(_) => self.metrics.evidence_dropped.add(1),
        }
        outcome
    }

    fn write(&self, evidence: &Evidence) -> Result<Kept, FileError> {
        let mut used = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        let dir = self.layout.evidence().join(evidence.host.to_string());
        let stem = stem(evidence);
        let description = dir.join(format!("{stem}.json"));
        if description.exists() {
            return Ok(Kept::Known);
        }
        let item = describe(evidence, &stem);
        let json = serde_json::to_vec_pretty(&item)
            .map_err(|error| FileError::on("describe", &description)(io::Error::other(error)))?;
        let sums = sums(&item, &stem, &json);
        let size = (json.len() + sums.len()) as u64 + item.files.iter().map(|file| file.bytes).sum::<u64>();
        if used.saturating_add(size) > self.bytes_max || count_items(&dir) >= ITEMS_PER_HOST_MAX {
            return Ok(Kept::Dropped);
        }
        files::create_dir(&dir)?;
        for ((_, bytes), file) in evidence.files.iter().zip(&item.files) {
            files::replace(&dir.join(&file.name), bytes, PUBLIC)?;
        }
        files::replace(&dir.join(format!("{stem}.{SUMS}")), sums.as_bytes(), PUBLIC)?;
        // Commit point: a crash before leaves byte files that no item names, written again next time.
        files::create(&description, &json, PUBLIC)?;
        *used = used.saturating_add(size);
        Ok(Kept::New)
    }
}

/// The item's name: the same reason for the same bytes has the same.
fn stem(evidence: &Evidence) -> String {
    let files = evidence.files.iter();
    let files = files.map(|(role, bytes)| (*role, Hash::of(bytes)));
    stem_of(evidence.reason, evidence.sequence, files)
}

fn stem_of<'a>(
    reason: &str,
    sequence: Option<Sequence>,
    files: impl Iterator<Item = (&'a str, Hash)>,
) -> String {
    let mut all = Vec::new();
    for (role, hash) in files {
        all.extend_from_slice(role.as_bytes());
        all.extend_from_slice(&hash.0);
    }
    let sequence = sequence.map_or_else(|| "none".to_owned(), |s| s.to_string());
    format!("{reason}-{sequence}-{}", Hash::of(&all).short())
}

fn describe(evidence: &Evidence, stem: &str) -> Item {
    Item {
        format: FORMAT,
        reason: evidence.reason.to_owned(),
        text: evidence.text.clone(),
        host: evidence.host,
        sequence: evidence.sequence,
        peer: evidence.peer.clone(),
        at: evidence.at.clone(),
        files: evidence
            .files
            .iter()
            .map(|(role, bytes)| ItemFile {
                role: (*role).to_owned(),
                name: format!("{stem}.{role}"),
                bytes: bytes.len() as u64,
                sha256: Hash::of(bytes),
            })
            .collect(),
    }
}

/// What `sha256sum --check` reads: a line for each byte file, and one for the JSON file.
fn sums(item: &Item, stem: &str, json: &[u8]) -> String {
    let files = item.files.iter().map(|file| (file.sha256, file.name.clone()));
    let all = files.chain([(Hash::of(json), format!("{stem}.json"))]);
    all.map(|(hash, name)| format!("{hash}  {name}\n")).collect()
}

/// Items that are not as they were kept.
pub(crate) fn examine(layout: &Layout) -> Vec<Finding> {
    let mut findings = Vec::new();
    for host in fs::read_dir(layout.evidence()).into_iter().flatten().flatten() {
        let mut stems = BTreeSet::new();
        for file in fs::read_dir(host.path()).into_iter().flatten().flatten() {
            let name = file.file_name().to_string_lossy().into_owned();
            // A crash leaves files under another name, which the next write of the same removes.
            if !name.ends_with(".tmp") {
                stems.extend(name.split_once('.').map(|(stem, _)| stem.to_owned()));
            }
        }
        for stem in stems {
            let unfit = examine_item(&host.path(), &stem);
            findings.extend(
                unfit
                    .into_iter()
                    .map(|(name, what)| Finding::new(host.path().join(name), what)),
            );
        }
    }
    findings
}

/// Names of an item's files that are not as they were kept, and what is wrong with each.
fn examine_item(dir: &Path, stem: &str) -> Vec<(String, &'static str)> {
    const ALTERED: &str = "it was altered since it was kept; the other files of its item are as they were";
    const DISAGREE: &str = "it and the .sha256 file beside it disagree: one of the two was altered";
    let (json_name, sums_name) = (format!("{stem}.json"), format!("{stem}.{SUMS}"));
    let read = |name: &str| fs::read(dir.join(name)).ok();
    let Some(json) = read(&json_name) else {
        return vec![(
            json_name,
            "it is not there, and files that it names are: a crash left them, or it was removed",
        )];
    };
    let Ok(item) = serde_json::from_slice::<Item>(&json) else {
        return vec![(json_name, "it describes no item: it was altered")];
    };
    // The name is a hash of what the description tells of the byte files.
    let told = item.files.iter().map(|file| (file.role.as_str(), file.sha256));
    let own = |file: &ItemFile| file.name == format!("{stem}.{}", file.role);
    if stem_of(&item.reason, item.sequence, told) != stem || !item.files.iter().all(own) {
        let other = "it describes another item than its name says: it was altered or exchanged";
        return vec![(json_name, other)];
    }
    let Some(kept) = read(&sums_name) else {
        return vec![(
            sums_name,
            "it is not there: an earlier version kept the item, or it was removed",
        )];
    };
    let kept = String::from_utf8_lossy(&kept);
    let lines: Vec<&str> = kept.lines().collect();
    let expected = sums(&item, stem, &json);
    // The names are known, so each line is about one file.
    let altered_line = |line: &&str| !lines.contains(line);
    let unlisted: Vec<&str> = expected.lines().filter(altered_line).collect();
    let mut found = Vec::new();
    for file in &item.files {
        let bytes = read(&file.name).unwrap_or_default();
        if Hash::of(&bytes) != file.sha256 {
            found.push((file.name.clone(), ALTERED));
        }
    }
    if found.is_empty() && kept != expected {
        let json_alone = unlisted.len() == 1 && unlisted.iter().all(|line| line.ends_with(&json_name));
        found.push(if json_alone && lines.len() == expected.lines().count() {
            (json_name, DISAGREE)
        } else {
            (sums_name, ALTERED)
        });
    }
    found
}

fn count_items(dir: &PathBuf) -> usize {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.path().extension().is_some_and(|e| e == "json"))
        .count()
}

fn bytes_below(dir: &PathBuf) -> io::Result<u64> {
    let mut bytes = 0;
    for host in fs::read_dir(dir)? {
        let host = host?;
        if host.file_type()?.is_dir() {
            for file in fs::read_dir(host.path())? {
                bytes += file?.metadata()?.len();
            }
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn evidence(sequence: u64, bytes: &[u8]) -> Evidence {
        Evidence {
            reason: "equivocation",
            text: "two batches under one sequence".to_owned(),
            host: HostId([1; 32]),
            sequence: Some(Sequence(sequence)),
            peer: "127.0.0.1:1".to_owned(),
            at: "2026-01-01T00:00:00Z".to_owned(),
            files: vec![
                ("offered.header", bytes.to_vec()),
                ("stored.header", b"s".to_vec()),
            ],
        }
    }

    fn store(dir: &tempfile::TempDir, bytes_max: u64) -> (EvidenceStore, Arc<Metrics>) {
        let metrics = Arc::new(Metrics::default());
        let layout = Layout::new(dir.path());
        let store = EvidenceStore::open(layout, bytes_max, Arc::clone(&metrics)).unwrap();
        (store, metrics)
    }

    #[test]
    fn an_item_is_kept_once_with_its_bytes() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, metrics) = store(&dir, 1 << 20);
        assert_eq!(keeper.keep(&evidence(3, b"o")).unwrap(), Kept::New);
        assert_eq!(keeper.keep(&evidence(3, b"o")).unwrap(), Kept::Known);
        assert_eq!(keeper.keep(&evidence(3, b"p")).unwrap(), Kept::New);
        assert_eq!(metrics.evidence_kept.get(), 2);
        let host = dir.path().join("evidence").join(HostId([1; 32]).to_string());
        let json = fs::read_dir(&host)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .find(|path| path.extension().is_some_and(|e| e == "json"))
            .unwrap();
        let item: Item = serde_json::from_slice(&fs::read(json).unwrap()).unwrap();
        for file in &item.files {
            assert_eq!(Hash::of(&fs::read(host.join(&file.name)).unwrap()), file.sha256);
        }
    }

    #[test]
    fn bounds_hold_across_restarts_and_are_counted() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, _) = store(&dir, 2000);
        assert_eq!(keeper.keep(&evidence(1, &[0; 500])).unwrap(), Kept::New);
        let (again, metrics) = store(&dir, 2000);
        assert_eq!(again.keep(&evidence(2, &[0; 500])).unwrap(), Kept::Dropped);
        assert_eq!(metrics.evidence_dropped.get(), 1);
    }

    #[test]
    fn one_host_cannot_crowd_out_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let (keeper, _) = store(&dir, 1 << 30);
        for sequence in 0..ITEMS_PER_HOST_MAX as u64 {
            assert_eq!(keeper.keep(&evidence(sequence, b"x")).unwrap(), Kept::New);
        }
        assert_eq!(keeper.keep(&evidence(999, b"x")).unwrap(), Kept::Dropped);
        let other = Evidence {
            host: HostId([2; 32]),
            ..evidence(999, b"x")
        };
        assert_eq!(keeper.keep(&other).unwrap(), Kept::New);
    }
}
