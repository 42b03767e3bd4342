//! `compare`: do two checkpoints belong to one history? Where they do not, a proof for everybody.

use std::{fs, path::Path, sync::Arc};

use common::{
    checkpoint::Checkpoint, ledger_keys::LedgerTrust, note::UnverifiedNote, proof::PROOF_BYTES_MAX,
    split::checkpoint_at_end,
};
use ledger::{
    Local,
    split::{CompareError, Compared, compare},
    storage::Storage,
    tiles::TileError,
};
use serde_json::json;
use ureq::tls::RootCerts;

use super::{await_stored, read_file, read_keys};
use crate::{
    Exit, Failure, World,
    args::{CompareArgs, Output},
    remote::{Remote, authorities, is_url},
};

/// Compares and reports.
pub(crate) fn run(args: &CompareArgs, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let key = read_keys(&args.vkey, args.keys.as_deref())?;
    let roots = authorities(args.ca.as_deref())?;
    let a = note(&args.first, key.origin(), &roots)?;
    let b = note(&args.second, key.origin(), &roots)?;
    // The log itself has the tiles of what it shows.
    let larger = if claimed_size(&a) > claimed_size(&b) {
        &args.first
    } else {
        &args.second
    };
    let ledger = args.ledger.as_ref().or(Some(larger).filter(|from| is_url(from)));
    let storage = ledger.map(|at| open(at, &roots)).transpose()?;
    let on_disk = ledger.is_some_and(|at| !is_url(at));
    let mut looks = 0;
    let found = loop {
        match compare(&a, &b, &key, storage.clone()) {
            Err(CompareError::Tile(TileError::Missing(_))) if on_disk && await_stored(looks) => looks += 1,
            found => break found.map_err(|error| failure(error, args))?,
        }
    };
    match found {
        Compared::Consistent { smaller, larger } => {
            match output {
                Output::Json | Output::Jsonl => {
                    writeln!(
                        world.out,
                        "{}",
                        json!({ "split": false, "smaller": smaller, "larger": larger })
                    )?;
                }
                Output::Table | Output::Wide => {
                    writeln!(world.out, "consistent: {larger} leaves extend {smaller}")?;
                }
            }
            Ok(Exit::Fine)
        }
        Compared::Split(split) => {
            let (proof, proven) = *split;
            let path = args.file.as_deref().unwrap_or(Path::new("split-view.proof"));
            fs::write(path, proof.encode()).map_err(|cause| Failure::File {
                verb: "write",
                path: path.display().to_string(),
                cause,
            })?;
            match output {
                Output::Json | Output::Jsonl => {
                    let said = json!({
                        "split": true, "smaller": proven.smaller.size, "larger": proven.larger.size,
                        "proof": path,
                    });
                    writeln!(world.out, "{said}")?;
                }
                Output::Table | Output::Wide => writeln!(
                    world.out,
                    "SPLIT VIEW: {proven}\nproof written to {}; anybody checks it with hostledger proof check",
                    path.display()
                )?,
            }
            Ok(Exit::Tampered)
        }
    }
}

/// Who is at fault where nothing can be said.
fn failure(error: CompareError, args: &CompareArgs) -> Failure {
    let cause = match &error {
        CompareError::Checkpoint { which, cause } => {
            let from = if *which == "the first file" {
                &args.first
            } else {
                &args.second
            };
            format!("{from} holds no checkpoint of this ledger: {cause}")
        }
        _ => error.to_string(),
    };
    match error {
        CompareError::Tile(_) => Failure::Config {
            cause,
            remedy: "the tiles of the larger checkpoint are needed: give the ledger it came from with --ledger, or ask \
                     whoever serves that one; a witness has none"
                .into(),
        },
        _ => Failure::Usage {
            cause,
            remedy: "give two checkpoints of the ledger of --vkey, and with --ledger the directory or URL that the one \
                     with more leaves came from"
                .into(),
        },
    }
}

/// What an unverified note says of its size; it only tells where to look for tiles.
fn claimed_size(note: &[u8]) -> Option<u64> {
    let parsed = UnverifiedNote::parse(note).ok()?;
    let head = Checkpoint::parse_body(parsed.danger_unverified_text()).ok()?;
    Some(head.size)
}

fn note(from: &str, origin: &str, roots: &RootCerts) -> Result<Vec<u8>, Failure> {
    if is_url(from) {
        return Remote::at(from, roots).checkpoint(origin);
    }
    let bytes = read_file(Path::new(from), PROOF_BYTES_MAX as u64)?;
    let found = checkpoint_at_end(&bytes).map(<[u8]>::to_vec);
    found.ok_or_else(|| Failure::Usage {
        cause: format!("{from} does not end in a checkpoint"),
        remedy: "give a checkpoint, a receipt, a proof file, an agent's remembered checkpoint or a witness's record"
            .into(),
    })
}

pub(super) fn open(at: &str, roots: &RootCerts) -> Result<Arc<dyn Storage>, Failure> {
    if is_url(at) {
        return Ok(Arc::new(Remote::at(at, roots)));
    }
    let path = Path::new(at);
    match Local::open_reader(path) {
        Ok(storage) if path.join("log").is_dir() => Ok(Arc::new(storage)),
        _ => Err(Failure::Usage {
            cause: format!("{} is no ledger", path.display()),
            remedy: "give the directory that holds `groups` and `log`, e.g. COLLECTOR_DIR/ledger".into(),
        }),
    }
}
