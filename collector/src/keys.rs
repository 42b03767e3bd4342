//! The ledger's keys on disk: which one signs, and how another one takes its place.
//!
//! Owns the order of a change. 1. The new key is durable beside the old one. 2. The history says of it: from here on
//! it is in force. 3. It replaces the old one. 4. The ledger states it, and a checkpoint follows. A crash between 1
//! and 2 leaves everything as it was; after 2 the next start does 3 and 4, by the code that runs here. Takes the
//! ledger's lock, so that a running collector and this never meet. The offline key is read and forgotten.

use std::path::{Path, PathBuf};

use common::{
    ids::Hash,
    ledger_keys::{HistoryFault, LEDGER_KEYS_BYTES_MAX, LedgerKeys},
    note::{KeyError, SignerKey, VerifierKey},
};

use ledger::{PublishError, StorageError};

use crate::{
    files::{self, FileError, PUBLIC, SECRET},
    layout::Layout,
    pipeline::{RecoverError, recover},
    pki::{self, PkiError},
};

/// Longest key file read, bytes.
const KEY_BYTES_MAX: u64 = 4096;

/// Why the files of the ledger's keys cannot be used. The operator, or the disk.
#[derive(Debug, thiserror::Error)]
pub enum KeyFilesError {
    /// A file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key is none.
    #[error("{}: {cause}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: KeyError,
    },
    /// The history does not stand.
    #[error("{}: {cause}", path.display())]
    History {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        cause: HistoryFault,
    },
}

/// Why a key was not changed. Nothing was, unless the error says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// The collector cannot be opened: it runs, or its ledger is damaged.
    #[error("{0}; keys are changed on a stopped collector")]
    Recover(#[from] Box<RecoverError>),
    /// The change is made and not stated yet: the next start of the collector does that.
    #[error("the key is changed, and the next start of the collector states it: {0}")]
    Unstated(Box<RecoverError>),
    /// Files.
    #[error(transparent)]
    Files(#[from] KeyFilesError),
    /// The ledger's disk: if the history was written all the same, the next start goes on from there.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A new key could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The ledger has no history of keys.
    #[error("this ledger has no history of its keys: make one with `key init-history`")]
    NoHistory,
    /// It has one already.
    #[error("this ledger has a history of its keys already: {}", .0.display())]
    HasHistory(PathBuf),
    /// When it last ran it asked witnesses, and now it is not told of any: the change would be published past them.
    #[error(
        "this collector asked witnesses when it last ran, and no witness_policy is set here: nothing may be published past \
         them. Set witness_policy in collector.toml; where witnesses are given up for good, remove witnesses.json"
    )]
    PastWitnesses,
    /// The tree of what is durable could not be computed.
    #[error(transparent)]
    Tree(#[from] PublishError),
    /// The key that is to follow is none of this ledger.
    #[error("{}: it is a key of {found:?}, and this ledger is {origin:?}", path.display())]
    OtherName {
        /// The file.
        path: PathBuf,
        /// The name it bears.
        found: String,
        /// The ledger's origin, the name it must bear.
        origin: String,
    },
    /// The key to revoke is not the one in force.
    #[error(
        "key {asked} is not in force, {in_force} is: whatever a key signs beyond its time is refused anyway"
    )]
    NotInForce {
        /// Id of the key named, hex.
        asked: String,
        /// Id of the key in force, hex.
        in_force: String,
    },
    /// The keys given do not make a record that stands.
    #[error("{0}")]
    History(#[from] HistoryFault),
}

/// What is to be done to the key in force.
#[derive(Debug, Clone, Copy)]
pub enum Change<'a> {
    /// Its time is over.
    Rotate,
    /// It is not to be believed any more.
    Revoke {
        /// Its id, hex.
        key: &'a str,
        /// Why, for whoever reads the history.
        reason: &'a str,
    },
}

/// The key in a signer's file.
fn read_signer(path: PathBuf) -> Result<SignerKey, KeyFilesError> {
    let text = files::read_text(&path, KEY_BYTES_MAX)?;
    SignerKey::parse(text.trim()).map_err(|cause| KeyFilesError::Key { path, cause })
}

/// The history beside the ledger, which is believed here; `None` where there is none.
pub fn history(layout: &Layout) -> Result<Option<LedgerKeys>, KeyFilesError> {
    let path = layout.ledger_keys();
    if !path.exists() {
        return Ok(None);
    }
    let text = files::read_text(&path, LEDGER_KEYS_BYTES_MAX as u64)?;
    match LedgerKeys::given(text.as_bytes()) {
        Ok(keys) => Ok(Some(keys)),
        Err(cause) => Err(KeyFilesError::History { path, cause }),
    }
}

/// All that this collector says of its ledger's keys, with or without a history. Reads only.
pub fn known(layout: &Layout) -> Result<LedgerKeys, KeyFilesError> {
    if let Some(keys) = history(layout)? {
        return Ok(keys);
    }
    let path = layout.ledger_verifier();
    // Before the first checkpoint of a ledger there may be no public file.
    if !path.exists() {
        return Ok(read_signer(layout.ledger_key())?.verifier().clone().into());
    }
    let text = files::read_text(&path, KEY_BYTES_MAX)?;
    match VerifierKey::parse(text.trim()) {
        Ok(key) => Ok(key.into()),
        Err(cause) => Err(KeyFilesError::Key { path, cause }),
    }
}

/// The key that signs, after finishing or undoing what a crash interrupted. Call it under the ledger's lock.
pub fn settle(layout: &Layout) -> Result<SignerKey, KeyFilesError> {
    let (path, next_path) = (layout.ledger_key(), layout.ledger_key_next());
    if !next_path.exists() {
        return read_signer(path);
    }
    let next = match read_signer(next_path.clone()) {
        Ok(next) => Some(next),
        // Cut short by the crash: nothing can have come after it.
        Err(KeyFilesError::Key { .. }) => None,
        Err(error) => return Err(error),
    };
    let in_force = history(layout)?.map(|keys| keys.in_force().clone());
    match next.filter(|next| in_force.as_ref() == Some(next.verifier())) {
        Some(next) => {
            files::replace(&path, &line(next.encode_secret()), SECRET)?;
            files::remove(&next_path)?;
            Ok(next)
        }
        None => {
            files::remove(&next_path)?;
            read_signer(path)
        }
    }
}

fn line(text: String) -> Vec<u8> {
    format!("{text}\n").into_bytes()
}

/// A new offline key for the ledger of `origin`.
fn new_offline(origin: &str) -> Result<SignerKey, PkiError> {
    let name = format!("{origin}/offline");
    SignerKey::from_seed(&name, &pki::random()?).map_err(|cause| PkiError::Origin(name, cause))
}

/// Makes an offline key, and the beginning of the history that names it.
fn begun(signer: &SignerKey, offline: &Path) -> Result<LedgerKeys, ChangeError> {
    let key = new_offline(signer.verifier().name())?;
    let keys = LedgerKeys::genesis(signer, &key)?;
    files::create(offline, &line(key.encode_secret()), SECRET).map_err(KeyFilesError::from)?;
    Ok(keys)
}

/// The offline key and the history of a ledger that `init` just made and nobody has opened yet.
pub fn init(layout: &Layout) -> Result<LedgerKeys, ChangeError> {
    let keys = begun(&read_signer(layout.ledger_key())?, &layout.offline_key())?;
    files::create(&layout.ledger_keys(), &keys.encode(), PUBLIC).map_err(KeyFilesError::from)?;
    Ok(keys)
}

/// Begins the history of a ledger that was made without.
pub fn init_history(layout: &Layout, offline: &Path) -> Result<LedgerKeys, ChangeError> {
    if layout.ledger_keys().exists() {
        return Err(ChangeError::HasHistory(layout.ledger_keys()));
    }
    // For its lock, and so that nothing is begun on a ledger that cannot be opened.
    let mut recovery = recover(layout, true).map_err(Box::new)?;
    let keys = begun(&recovery.signer, offline)?;
    // A crash before this leaves an offline key that nothing names.
    recovery.ledger.replace_history(&keys)?;
    Ok(keys)
}

/// Makes a key that may follow the one in force, in a file of its own, so that witnesses can be told of it before it
/// does. Nothing else is changed; the collector may run.
pub fn make(layout: &Layout, out: &Path) -> Result<VerifierKey, ChangeError> {
    let new = new_key(known(layout)?.first().name())?;
    files::create(out, &line(new.encode_secret()), SECRET).map_err(KeyFilesError::from)?;
    Ok(new.verifier().clone())
}

fn new_key(origin: &str) -> Result<SignerKey, PkiError> {
    SignerKey::from_seed(origin, &pki::random()?).map_err(|cause| PkiError::Origin(origin.to_owned(), cause))
}

/// The key that is to follow: the one in `file`, which [`make`] wrote, or a new one.
fn following(keys: &LedgerKeys, file: Option<&Path>) -> Result<SignerKey, ChangeError> {
    let origin = keys.first().name();
    let Some(path) = file else {
        return Ok(new_key(origin)?);
    };
    let new = read_signer(path.to_path_buf())?;
    if new.verifier().name() == origin {
        return Ok(new);
    }
    Err(ChangeError::OtherName {
        path: path.to_path_buf(),
        found: new.verifier().name().to_owned(),
        origin: origin.to_owned(),
    })
}

/// Puts another key in the place of the one in force: the one in the file `new`, or one made now. `ask_witnesses`
/// where no checkpoint may be published past them: then the next start of the collector publishes it. Leaves that wait
/// for witnesses hinder nothing, for a key must be revocable although witnesses do not sign.
pub fn change(
    layout: &Layout,
    offline: &Path,
    new: Option<&Path>,
    change: Change<'_>,
    ask_witnesses: bool,
) -> Result<LedgerKeys, ChangeError> {
    if !ask_witnesses && layout.witnesses().exists() {
        return Err(ChangeError::PastWitnesses);
    }
    let mut recovery = recover(layout, ask_witnesses).map_err(Box::new)?;
    let reader = recovery.ledger.reader();
    // Every durable leaf, under a checkpoint or not: the old key has signed statements among them.
    let head = match recovery.ledger.draft()? {
        Some(draft) => draft.head().checkpoint.clone(),
        None => reader.published().checkpoint,
    };
    let keys = reader.keys();
    if keys.offline().is_none() {
        return Err(ChangeError::NoHistory);
    }
    let offline = read_signer(offline.to_path_buf())?;
    let new = following(keys, new)?;
    let changed = changed(
        keys,
        &recovery.signer,
        &new,
        &offline,
        change,
        head.size,
        head.root,
    )?;
    files::create(&layout.ledger_key_next(), &line(new.encode_secret()), SECRET)
        .map_err(KeyFilesError::from)?;
    // Commit point: a crash before this leaves the old key in force, one after it the new one.
    recovery.ledger.replace_history(&changed)?;
    drop(reader);
    drop(recovery);
    recover(layout, ask_witnesses).map_err(|error| ChangeError::Unstated(Box::new(error)))?;
    Ok(changed)
}

fn changed(
    keys: &LedgerKeys,
    old: &SignerKey,
    new: &SignerKey,
    offline: &SignerKey,
    change: Change<'_>,
    after: u64,
    root: Hash,
) -> Result<LedgerKeys, ChangeError> {
    match change {
        Change::Rotate => Ok(keys.rotate(old, new, offline, after, root)?),
        Change::Revoke { key, reason } => {
            let in_force = common::ids::hex(&keys.in_force().id());
            if key != in_force {
                return Err(ChangeError::NotInForce {
                    asked: key.to_owned(),
                    in_force,
                });
            }
            Ok(keys.revoke(new, offline, after, root, reason)?)
        }
    }
}
