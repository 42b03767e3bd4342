//! One file per command.

pub(crate) mod anchor;
pub(crate) mod audit;
pub(crate) mod compare;
mod cosigned;
pub(crate) mod doctor;
pub(crate) mod get;
pub(crate) mod list;
mod pages;
pub(crate) mod proof;
pub(crate) mod statements;
pub(crate) mod status;
pub(crate) mod verify;

use std::{fs, path::Path, thread, time::Duration};

use common::ledger_keys::{LEDGER_KEYS_BYTES_MAX, LedgerKeys, read_trust};

use crate::Failure;

/// How long, and how often in that time, a checkpoint that somebody saw is looked for in the directory of a collector
/// that may be about to store it.
const LOOK_EVERY: Duration = Duration::from_millis(100);
const LOOKS_MAX: u32 = 50;

/// Waits a little, unless it was looked for often enough.
fn await_stored(looks: u32) -> bool {
    thread::sleep(LOOK_EVERY);
    looks < LOOKS_MAX
}

/// Reads what to trust: a verifier key file (one line, `name+id+base64`) or a key history; and, where one is given,
/// the history that leads on from there.
fn read_keys(path: &Path, history: Option<&Path>) -> Result<LedgerKeys, Failure> {
    let bytes = read_file(path, LEDGER_KEYS_BYTES_MAX as u64)?;
    let trusted = read_trust(&bytes).map_err(|error| Failure::Config {
        cause: format!(
            "{} holds neither a verifier key nor a key history: {error}",
            path.display()
        ),
        remedy: "give the file `ledger.vkey` that lies beside the ledger, or the key its operator published"
            .into(),
    })?;
    let Some(path) = history else {
        return Ok(trusted);
    };
    match trusted.learn(&read_file(path, LEDGER_KEYS_BYTES_MAX as u64)?) {
        Ok(learnt) => Ok(learnt.unwrap_or(trusted)),
        Err(fault) => Err(Failure::Config {
            cause: format!("{}: {fault}", path.display()),
            remedy: "give the file `ledger.keys` of the ledger whose key you trust".into(),
        }),
    }
}

/// Reads a file that must not be longer than `bytes_max`.
pub(crate) fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let fault = |cause| Failure::File {
        verb: "read",
        path: path.display().to_string(),
        cause,
    };
    let length = fs::metadata(path).map_err(fault)?.len();
    if length > bytes_max {
        return Err(fault(std::io::Error::other(format!(
            "{length} bytes are more than the {bytes_max} it may have"
        ))));
    }
    fs::read(path).map_err(fault)
}
