//! `key`: the keys of the ledger, replaced and revoked on a stopped collector, listed at any time.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use common::{
    ids::hex,
    ledger_keys::{KeyChange, LedgerKeys, Why},
};
use serde_json::{Value, json};

use super::{Dir, Outcome, print};
use crate::{
    config::{self, Config},
    keys::{self, Change},
};

/// Arguments of `key`.
#[derive(clap::Args)]
pub(super) struct KeyCommand {
    #[command(subcommand)]
    what: What,
}

#[derive(clap::Subcommand)]
enum What {
    /// Put a new key in the place of the one in force; signed by both and by the offline key.
    Rotate {
        #[command(flatten)]
        dir: Dir,
        /// File with the offline key.
        #[arg(long, value_name = "FILE")]
        offline_key: PathBuf,
        #[command(flatten)]
        new: NewKey,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Declare that the key in force is not to be believed any more, and put a new one in its place. Whatever it
    /// signs beyond the leaves there are now is refused by whoever knows the history.
    Revoke {
        #[command(flatten)]
        dir: Dir,
        /// File with the offline key.
        #[arg(long, value_name = "FILE")]
        offline_key: PathBuf,
        /// Id of the key, 8 hex digits, as `key list` shows it.
        #[arg(long, value_name = "ID")]
        key: String,
        /// Why, for whoever reads the history.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        new: NewKey,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make a key that may follow the one in force, so that witnesses can be told of it first; changes nothing else.
    Make {
        #[command(flatten)]
        dir: Dir,
        /// Where to write it; must not exist yet.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// The ledger's keys and from when to when each counts.
    List {
        #[command(flatten)]
        dir: Dir,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Make an offline key and begin the history of a ledger that was made without.
    InitHistory {
        #[command(flatten)]
        dir: Dir,
        /// Where to write the offline key; must not exist yet.
        #[arg(long, value_name = "FILE")]
        offline_key: PathBuf,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(clap::Args)]
struct NewKey {
    /// File with the key that is to follow, from `key make`; left out, one is made that no witness knows yet.
    #[arg(long, value_name = "FILE")]
    new_key: Option<PathBuf>,
}

impl KeyCommand {
    pub(super) fn run(self) -> Outcome {
        match self.what {
            What::Rotate {
                dir,
                offline_key,
                new,
                json,
            } => change(&dir, &offline_key, &new, Change::Rotate, json)?,
            What::Revoke {
                dir,
                offline_key,
                key,
                reason,
                new,
                json,
            } => {
                let (key, reason) = (key.as_str(), reason.as_str());
                change(&dir, &offline_key, &new, Change::Revoke { key, reason }, json)?;
            }
            What::Make { dir, out, json } => {
                let key = keys::make(&dir.layout(), &out)?;
                print(json, &json!({ "key": key.to_string() }), || {
                    format!(
                        "{key}\ngive this to your witnesses; the key itself, in {}, lies best with the offline key",
                        out.display()
                    )
                })?;
            }
            What::List { dir, json } => {
                let keys = keys::known(&dir.layout())?;
                print(json, &rows(&keys), || lines(&keys))?;
            }
            What::InitHistory {
                dir,
                offline_key,
                json,
            } => {
                let keys = keys::init_history(&dir.layout(), &offline_key)?;
                print(json, &rows(&keys), || {
                    format!(
                        "{}\noffline key written to {}; move it to where no collector runs",
                        lines(&keys),
                        offline_key.display()
                    )
                })?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn change(dir: &Dir, offline_key: &Path, new: &NewKey, change: Change<'_>, json: bool) -> anyhow::Result<()> {
    let layout = dir.layout();
    let config = Config::load(&layout.config(), std::env::vars(), &config::Raw::default())?;
    let ask_witnesses = config.witnesses.is_some();
    let keys = keys::change(
        &layout,
        offline_key,
        new.new_key.as_deref(),
        change,
        ask_witnesses,
    )?;
    print(json, &rows(&keys), || {
        let done = keys.changes().last().map(ToString::to_string).unwrap_or_default();
        let next = if ask_witnesses {
            format!(
                "\nthe next start of the collector asks its witnesses, which must know {}, and publishes it",
                keys.in_force()
            )
        } else {
            String::new()
        };
        format!("{done}{next}")
    })?;
    Ok(())
}

/// From how many leaves on, and up to how many, each key counts.
fn terms(keys: &LedgerKeys) -> Vec<(u64, Option<&KeyChange>, String)> {
    let mut terms = Vec::new();
    let mut from = 0;
    for change in keys.changes() {
        terms.push((from, Some(change), change.ends.to_string()));
        from = change.after.saturating_add(1);
    }
    terms.push((from, None, keys.in_force().to_string()));
    terms
}

fn rows(keys: &LedgerKeys) -> Value {
    let id = |change: &KeyChange| hex(&change.ends.id());
    let rows: Vec<Value> = terms(keys)
        .into_iter()
        .map(|(from, ended, key)| {
            json!({
                "id": ended.map_or_else(|| hex(&keys.in_force().id()), id),
                "key": key,
                "from": from,
                "through": ended.map(|change| change.after),
                "ended": ended.map(|change| match change.why {
                    Why::Rotated => "rotated",
                    Why::Revoked { .. } => "revoked",
                }),
                "reason": ended.and_then(|change| match &change.why {
                    Why::Rotated => None,
                    Why::Revoked { reason } => Some(reason.clone()),
                }),
            })
        })
        .collect();
    json!({
        "keys": rows,
        "offline": keys.offline().map(ToString::to_string),
    })
}

fn lines(keys: &LedgerKeys) -> String {
    let mut lines: Vec<String> = terms(keys)
        .into_iter()
        .map(|(from, ended, key)| match ended {
            Some(change) => format!("{key}  from {from} to {} leaves: {change}", change.after),
            None => format!("{key}  from {from} leaves on: in force"),
        })
        .collect();
    lines.push(match keys.offline() {
        Some(key) => format!("{key}  offline"),
        None => "no history: keys cannot be replaced before `key init-history`".to_owned(),
    });
    lines.join("\n")
}
