//! `compare`: do two checkpoints belong to one history? Where they do not, a proof for everybody.

use std::{fs, path::Path, sync::Arc};

use common::{proof::PROOF_BYTES_MAX, split::checkpoint_at_end};
use ledger::{
    Local,
    split::{Compared, compare},
    storage::Storage,
};
use serde_json::json;

use super::{read_file, read_key};
use crate::{
    Exit, Failure, World,
    args::{CompareArgs, Output},
};

/// Compares and reports.
pub(crate) fn run(args: &CompareArgs, output: Output, world: &mut World<'_>) -> Result<Exit, Failure> {
    let key = read_key(&args.vkey)?;
    let (a, b) = (note(&args.first)?, note(&args.second)?);
    let ledger = args.ledger.as_deref().map(open).transpose()?;
    let found = compare(&a, &b, &key, ledger).map_err(|error| Failure::Usage {
        cause: error.to_string(),
        remedy: "give two files that end in a checkpoint of the ledger of --vkey, and with --ledger the \
                 directory that the one with more leaves came from"
            .into(),
    })?;
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

fn note(path: &Path) -> Result<Vec<u8>, Failure> {
    let bytes = read_file(path, PROOF_BYTES_MAX as u64)?;
    let found = checkpoint_at_end(&bytes).map(<[u8]>::to_vec);
    found.ok_or_else(|| Failure::Usage {
        cause: format!("{} does not end in a checkpoint", path.display()),
        remedy: "give a checkpoint, a receipt, a proof file, an agent's remembered checkpoint or a witness's record"
            .into(),
    })
}

fn open(path: &Path) -> Result<Arc<dyn Storage>, Failure> {
    match Local::open_reader(path) {
        Ok(storage) if path.join("log").is_dir() => Ok(Arc::new(storage)),
        _ => Err(Failure::Usage {
            cause: format!("{} is no ledger", path.display()),
            remedy: "give the directory that holds `groups` and `log`, e.g. COLLECTOR_DIR/ledger".into(),
        }),
    }
}
