//! Checking every byte of a ledger, and naming exactly what is wrong.
//!
//! Each fact is stored more than once (header in group and bundle, its hash in a tile, the tile's hash one
//! level up, all of it under a signed root), so a disagreement can be put down to the copy that stands
//! alone. Groups, and the entries of each, are checked in parallel, and put in order meanwhile; tiles and bundles are
//! recomputed with the very code that wrote them and compared byte by byte. Memory is bounded by the bytes of groups under way
//! and by the numbers in the names of objects. What is found, and in which order, does not depend on the number of threads.
//! Owns the judgement; refuses to repair.

mod compare;
mod groups;
mod in_order;
mod report;
mod walk;

pub use report::{Cause, Counts, Fault, Progress, Report};

use std::collections::BTreeMap;

use common::{
    checkpoint::Checkpoint,
    ids::{LeafIndex, StatementNumber},
    ledger_keys::{LEDGER_KEYS_BYTES_MAX, LedgerKeys, LedgerTrust},
    limits::NOTE_BYTES_MAX,
    note::{UnverifiedNote, VerifierKey},
    tile::TilePath,
};

use crate::{
    group::parse_group_path,
    kept::{kept_path, parse_kept_path},
    keys::{self, KEY_HISTORY, VERIFIER_KEY},
    prune::PRUNING,
    reader::checkpoint_path,
    storage::{Storage, StorageError},
    tiles::LOG,
};

/// Checks one header and its body against each other and the header's own signature, which only the caller
/// can read. The error says what is wrong, down to the event.
pub type CheckEntry<'a, T = ()> = &'a (dyn Fn(LeafIndex, &[u8], &[u8]) -> Result<T, String> + Sync);

/// Judges the header of a batch whose body is gone by the certificate that is named for it. The error says why that
/// is no excuse.
pub type CheckPruned<'a, T = ()> =
    &'a (dyn Fn(LeafIndex, &[u8], StatementNumber) -> Result<T, String> + Sync);

/// What only the caller can judge.
pub struct Checks<'a, T = ()> {
    /// An entry and its body.
    pub entry: CheckEntry<'a, T>,
    /// An entry whose body is gone.
    pub pruned: CheckPruned<'a, T>,
}

// Derived, they would ask the same of `T`.
impl<T> Clone for Checks<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Checks<'_, T> {}

/// How to check.
#[derive(Clone, Copy, Default)]
pub struct Options<'a> {
    /// The keys to trust; without them the first one beside the log is believed. The history beside the log is only
    /// believed as far as it follows from them.
    pub key: Option<&'a LedgerKeys>,
    /// Checkpoints of this ledger that were seen elsewhere, under a signature that the caller checked: by agents, in
    /// receipts, at witnesses. Only they tell an older copy of the whole directory from the ledger.
    pub seen: &'a [Seen],
    /// Told now and then how far the check is.
    pub progress: Option<&'a (dyn Fn(Progress) + Sync)>,
    /// Asked to wait a little where a checkpoint was seen that a writer at work may be about to store, with how often
    /// that was looked for already; `false` when that is enough. Without it nothing is waited for.
    pub wait: Option<&'a (dyn Fn(u32) -> bool + Sync)>,
}

/// A checkpoint that was seen elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Where, for the report.
    pub at: String,
    /// What it says, its signature checked.
    pub head: Checkpoint,
}

impl std::fmt::Debug for Options<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Options")
            .field("key", &self.key)
            .field("seen", &self.seen)
            .finish_non_exhaustive()
    }
}

/// Given, group by group and in order, what [`Checks`] made of the entries that nothing is wrong with.
pub type After<'a, T> = &'a mut (dyn FnMut(Vec<(LeafIndex, T)>, &mut Report) + Send);

/// Checks the ledger in `storage`. A writer may go on meanwhile: what it adds is left out of the check.
#[must_use]
pub fn run(storage: &dyn Storage, options: &Options<'_>, check_entry: CheckEntry<'_>) -> Report {
    let checks = Checks {
        entry: check_entry,
        pruned: &|_, _, by| {
            Err(format!(
                "its body is gone by statement {by}, which nobody here can read"
            ))
        },
    };
    run_in_order(storage, options, checks, &mut |_, _| ())
}

/// [`run`] for a caller who makes something of each entry, in parallel, and judges that in order. A group that overlaps those
/// before it is a stranger, and nothing is made of its entries.
#[must_use]
pub fn run_in_order<T: Send>(
    storage: &dyn Storage,
    options: &Options<'_>,
    checks: Checks<'_, T>,
    after: After<'_, T>,
) -> Report {
    let mut report = Report::default();
    // In the reverse of the order in which a writer makes them durable, so that whatever one step has seen, the
    // next sees all that it rests on: checkpoint, tiles, groups.
    let key = check_key(storage, options.key, &mut report);
    let head = check_checkpoint(storage, key.as_ref(), &mut report);
    let inventory = match take_inventory(storage, &mut report) {
        Ok(inventory) => inventory,
        Err(error) => {
            report.fault(Fault::of("", Cause::Unreadable, error.to_string()));
            return report;
        }
    };
    let trusted = (key.as_ref(), &head);
    walk::run(storage, inventory, trusted, options, checks, after, &mut report);
    report
}

/// All objects, by kind.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    /// Groups in order.
    groups: Vec<LeafIndex>,
    /// Widths present of each tile and bundle, keyed by the full form of its name.
    resources: BTreeMap<TilePath, Vec<u16>>,
}

impl Inventory {
    /// Takes the number in a name, where it is the name of a group, a tile or a bundle; else the name.
    fn take(&mut self, path: String, kept: &mut Vec<LeafIndex>, others: &mut Vec<String>) {
        let tile = path
            .strip_prefix(LOG)
            .and_then(|rest| TilePath::parse(rest.strip_prefix('/')?));
        if let Some(first) = parse_group_path(&path) {
            self.groups.push(first);
        } else if let Some(first) = parse_kept_path(&path) {
            kept.push(first);
        } else if let Some(tile) = tile {
            self.resources.entry(tile.full()).or_default().push(tile.width);
        } else {
            others.push(path);
        }
    }
}

/// Looks at every name: first at those below the log, which rest on all others.
fn take_inventory(storage: &dyn Storage, report: &mut Report) -> Result<Inventory, StorageError> {
    let mut inventory = Inventory::default();
    let (mut kept, mut in_log, mut others) = (Vec::new(), Vec::new(), Vec::new());
    storage.visit(LOG, &mut |path| inventory.take(path, &mut kept, &mut in_log))?;
    let below_log = |path: &str| path.strip_prefix(LOG).is_some_and(|rest| rest.starts_with('/'));
    storage.visit("", &mut |path| {
        if !below_log(&path) {
            inventory.take(path, &mut kept, &mut others);
        }
    })?;
    for names in [&mut in_log, &mut others] {
        names.sort_unstable();
        names.iter().for_each(|path| judge_name(storage, path, report));
    }
    let widths = inventory.resources.values_mut();
    widths.for_each(|widths| widths.sort_unstable_by(|one, other| other.cmp(one)));
    inventory.groups.sort_unstable();
    kept.sort_unstable();
    let whole = inventory.groups.len();
    for first in kept {
        if inventory.groups[..whole].binary_search(&first).is_ok() {
            report.note(format!(
                "{}: the group it is kept of is still there, and has the word; a prune was interrupted",
                kept_path(first)
            ));
        } else {
            inventory.groups.push(first);
        }
    }
    inventory.groups.sort_unstable();
    Ok(inventory)
}

/// Judges an object that is no group, tile or bundle by its name.
fn judge_name(storage: &dyn Storage, path: &str, report: &mut Report) {
    if path == PRUNING {
        report.note(format!(
            "{path}: a prune is under way, or was interrupted; the collector finishes it"
        ));
    } else if [VERIFIER_KEY, KEY_HISTORY].contains(&path) || path == checkpoint_path() {
        // Looked at already.
    } else if path == "lock" {
        if storage.length(path).ok().flatten() != Some(0) {
            report.fault(Fault::of(
                path,
                Cause::Stray,
                "the lock file holds bytes, it is always empty",
            ));
        }
    } else if path.starts_with("tmp/") {
        report.note(format!(
            "{path}: left by a crash before it had a name; the next writer removes it"
        ));
    } else {
        report.fault(Fault::of(
            path,
            Cause::Stray,
            "no ledger has an object of this name",
        ));
    }
}

/// The keys to check signatures with: those trusted, else the first one beside the log, if it can be read; and what
/// the history beside the log adds to them.
#[must_use]
pub fn key_of(storage: &dyn Storage, options: &Options<'_>) -> Option<LedgerKeys> {
    check_key(storage, options.key, &mut Report::default())
}

fn check_key(storage: &dyn Storage, trusted: Option<&LedgerKeys>, report: &mut Report) -> Option<LedgerKeys> {
    let first = check_first(storage, trusted, report)?;
    let missing = |what| Fault::of(KEY_HISTORY, Cause::Missing, what);
    match storage.read(KEY_HISTORY, LEDGER_KEYS_BYTES_MAX as u64) {
        Ok(None) if first.offline().is_none() => {}
        Ok(None) => report.fault(missing("is missing, though a history was given to trust")),
        Ok(Some(bytes)) => match first.learn(&bytes) {
            Ok(Some(keys)) => return Some(keys),
            Ok(None) if bytes.len() < first.encode().len() => {
                report.fault(missing("ends before the history given to trust does"));
            }
            Ok(None) => {}
            Err(fault) => {
                let rot = keys::is_rot(&fault);
                let cause = if rot { Cause::Rot } else { Cause::Forgery };
                report.fault(Fault::of(KEY_HISTORY, cause, fault.to_string()));
            }
        },
        Err(error @ StorageError::TooLong { .. }) => {
            report.fault(Fault::of(KEY_HISTORY, Cause::Rot, error.to_string()));
        }
        Err(error) => report.fault(Fault::of(KEY_HISTORY, Cause::Unreadable, error.to_string())),
    }
    Some(first)
}

fn check_first(
    storage: &dyn Storage,
    trusted: Option<&LedgerKeys>,
    report: &mut Report,
) -> Option<LedgerKeys> {
    let found = match read(storage, VERIFIER_KEY, NOTE_BYTES_MAX as u64) {
        Ok(bytes) => bytes,
        Err(fault) => {
            report.fault(fault);
            return trusted.cloned();
        }
    };
    let parsed = std::str::from_utf8(&found)
        .ok()
        .and_then(|text| text.strip_suffix('\n'))
        .ok_or_else(|| "not one line of text".to_owned())
        .and_then(|line| VerifierKey::parse(line).map_err(|error| error.to_string()));
    match (parsed, trusted) {
        (Err(why), _) => report.fault(Fault::of(VERIFIER_KEY, Cause::Rot, why)),
        (Ok(found), Some(trusted)) if found != *trusted.first() => {
            let what = format!("holds {found}, the key to trust is {}", trusted.first());
            report.fault(Fault::of(VERIFIER_KEY, Cause::Forgery, what));
        }
        (Ok(found), None) => return Some(found.into()),
        (Ok(_), Some(_)) => {}
    }
    trusted.cloned()
}

/// The head of the ledger as far as it can be believed.
#[derive(Debug, Default)]
pub(crate) struct Head {
    /// Size and root under a good signature.
    verified: Option<Checkpoint>,
    /// Size and root as the text claims them, where the signature does not hold.
    claimed: Option<Checkpoint>,
}

fn check_checkpoint(storage: &dyn Storage, key: Option<&LedgerKeys>, report: &mut Report) -> Head {
    let path = checkpoint_path();
    let note = match read(storage, &path, NOTE_BYTES_MAX as u64) {
        Ok(note) => note,
        Err(fault) => {
            report.fault(fault);
            return Head::default();
        }
    };
    let claimed = || {
        let text = UnverifiedNote::parse(&note).ok()?;
        Checkpoint::parse_body(text.danger_unverified_text()).ok()
    };
    let Some(key) = key else {
        report.note(format!("{path}: its signature was not checked for want of a key"));
        return Head {
            verified: None,
            claimed: claimed(),
        };
    };
    match key.open_checkpoint(&note) {
        Ok(verified) => Head {
            verified: Some(verified),
            claimed: None,
        },
        Err(error) => {
            // Whoever forges writes a note that parses.
            let parses = UnverifiedNote::parse(&note).is_ok();
            let cause = if parses { Cause::Forgery } else { Cause::Rot };
            report.fault(Fault::of(&path, cause, error.to_string()));
            Head {
                verified: None,
                claimed: claimed(),
            }
        }
    }
}

/// Reads a whole object or says why not.
fn read(storage: &dyn Storage, path: &str, length_max: u64) -> Result<Vec<u8>, Fault> {
    let mut bytes = Vec::new();
    read_into(storage, path, length_max, &mut bytes).map(|()| bytes)
}

fn read_into(storage: &dyn Storage, path: &str, length_max: u64, buffer: &mut Vec<u8>) -> Result<(), Fault> {
    match storage.read_into(path, length_max, buffer) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Fault::of(path, Cause::Missing, "is missing")),
        Err(error @ StorageError::TooLong { .. }) => Err(Fault::of(path, Cause::Rot, error.to_string())),
        Err(error) => Err(Fault::of(path, Cause::Unreadable, error.to_string())),
    }
}
