//! One file per command.

pub(crate) mod audit;
pub(crate) mod compare;
mod cosigned;
pub(crate) mod doctor;
pub(crate) mod get;
pub(crate) mod list;
pub(crate) mod proof;
pub(crate) mod statements;
pub(crate) mod status;
pub(crate) mod verify;

use std::{fs, path::Path};

use common::{limits::NOTE_BYTES_MAX, note::VerifierKey};

use crate::Failure;

/// Reads a verifier key file: one line, `name+id+base64`.
fn read_key(path: &Path) -> Result<VerifierKey, Failure> {
    let text = read_file(path, NOTE_BYTES_MAX as u64)?;
    let line = String::from_utf8_lossy(&text);
    VerifierKey::parse(line.trim()).map_err(|error| Failure::Config {
        cause: format!("{} holds no verifier key: {error}", path.display()),
        remedy: "give the file `ledger.vkey` that lies beside the ledger, or the key its operator published"
            .into(),
    })
}

/// Reads a file that must not be longer than `bytes_max`.
fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
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
