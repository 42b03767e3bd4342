//! Who signed, who did not, since when and why: for status, metrics and the log.

use std::{
    fmt::Write,
    mem::{Discriminant, discriminant},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

use common::witness::{Policy, WitnessFault};
use serde::{Deserialize, Serialize};

use crate::{
    config::QuorumMissing,
    files::{self, PUBLIC},
};

/// One witness.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessRow {
    /// Its key's name.
    pub name: String,
    /// Leaves of the checkpoint it cosigned last, as far as this run knows; 0 for none.
    pub cosigned_size: u64,
    /// When it did, by its own clock, seconds since 1970.
    pub cosigned_at: u64,
    /// Since when it has not cosigned what it was asked to (RFC 3339), if so.
    pub missing_since: Option<String>,
    /// Why not.
    pub fault: Option<String>,
}

/// `witnesses.json`: what the running collector last knew of its witnesses. Written when it changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessesFile {
    /// `closed` or `open`.
    pub quorum_missing: String,
    /// Since when too few witnesses signed (RFC 3339), if so.
    pub unsatisfied_since: Option<String>,
    /// Whether checkpoints are held back because of that.
    pub withheld: bool,
    /// The witnesses in the policy's order.
    pub witnesses: Vec<WitnessRow>,
}

/// The board; written by the asking thread, read by everybody.
#[derive(Debug)]
pub struct Board {
    path: PathBuf,
    known: Mutex<Known>,
}

#[derive(Debug)]
struct Known {
    file: WitnessesFile,
    /// Of which kind each witness's last fault was: another kind is news, other numbers in it are not.
    kinds: Vec<Option<Kind>>,
}

/// What two faults have in common that need not both be told. Words that a witness chose make no difference: it could
/// have the file written and the log filled with each checkpoint.
#[derive(Debug, PartialEq, Eq)]
struct Kind(Discriminant<WitnessFault>, String);

impl Kind {
    fn of(fault: &WitnessFault) -> Self {
        let words = match fault {
            WitnessFault::Unreachable(words) => words.chars().filter(|c| !c.is_ascii_digit()).collect(),
            WitnessFault::Refused { status, .. } | WitnessFault::Garbage { status, .. } => status.to_string(),
            _ => String::new(),
        };
        Self(discriminant(fault), words)
    }
}

impl Board {
    /// A board on which nobody was asked yet; its file is written to `path`.
    #[must_use]
    pub fn new(path: PathBuf, policy: &Policy, missing: QuorumMissing) -> Self {
        let witnesses = policy
            .witnesses()
            .iter()
            .map(|witness| WitnessRow {
                name: witness.key.name().to_owned(),
                cosigned_size: 0,
                cosigned_at: 0,
                missing_since: None,
                fault: None,
            })
            .collect();
        let kinds = policy.witnesses().iter().map(|_| None).collect();
        let file = WitnessesFile {
            quorum_missing: missing.word().to_owned(),
            unsatisfied_since: None,
            withheld: false,
            witnesses,
        };
        Self {
            path,
            known: Mutex::new(Known { file, kinds }),
        }
    }

    /// Notes the outcomes for a checkpoint of `size` leaves: the time of each cosignature or why there is none.
    pub(super) fn record(
        &self,
        size: u64,
        outcomes: Vec<Result<u64, WitnessFault>>,
        satisfied: bool,
        publish: bool,
    ) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let Known { file: known, kinds } = &mut *known;
        let now = jiff::Timestamp::now().to_string();
        let mut changed = false;
        for ((row, kind), outcome) in known.witnesses.iter_mut().zip(kinds).zip(outcomes) {
            match outcome {
                Ok(time) => {
                    *kind = None;
                    changed |= row.cosigned_size == 0;
                    (row.cosigned_size, row.cosigned_at) = (size, time);
                    row.fault = None;
                    if let Some(since) = row.missing_since.take() {
                        changed = true;
                        tracing::info!(witness = row.name, since, "a witness cosigns again");
                    }
                }
                Err(fault) => {
                    let text = fault.to_string();
                    row.missing_since.get_or_insert_with(|| now.clone());
                    let what = Kind::of(&fault);
                    if kind.as_ref() != Some(&what) {
                        *kind = Some(what);
                        changed = true;
                        let grave = matches!(
                            fault,
                            WitnessFault::Ahead { .. } | WitnessFault::Contradicts { .. }
                        );
                        if grave {
                            tracing::error!(witness = row.name, %fault,
                                "a witness holds another view of this ledger: keep everything, compare both");
                        } else {
                            tracing::warn!(witness = row.name, %fault, "a witness does not cosign");
                        }
                    }
                    row.fault = Some(text);
                }
            }
        }
        if satisfied {
            if let Some(since) = known.unsatisfied_since.take() {
                changed = true;
                tracing::info!(since, "enough witnesses cosign again");
            }
        } else if known.unsatisfied_since.is_none() {
            known.unsatisfied_since = Some(now);
            changed = true;
            if publish {
                tracing::error!(
                    size,
                    "too few witnesses cosigned; published all the same, as configured (open)"
                );
            } else {
                tracing::error!(
                    size,
                    "too few witnesses cosigned: no checkpoint and no receipts until they do, as configured \
                     (closed); batches are stored and acknowledged, agents keep their spools. Remedy: bring the \
                     witnesses back, or change the witness policy"
                );
            }
        }
        let withheld = !publish;
        changed |= known.withheld != withheld;
        known.withheld = withheld;
        if changed {
            self.save(known);
        }
    }

    /// What is known.
    #[must_use]
    pub fn read(&self) -> WitnessesFile {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.file.clone()
    }

    /// The Prometheus text of the witnesses.
    #[must_use]
    pub fn render(&self) -> String {
        let known = self.read();
        let mut text = format!(
            "# HELP hostledger_checkpoint_withheld 1 while checkpoints are held back for want of cosignatures.\n\
             # TYPE hostledger_checkpoint_withheld gauge\nhostledger_checkpoint_withheld {}\n\
             # HELP hostledger_witness_cosigned_leaves Leaves of the checkpoint each witness cosigned last.\n\
             # TYPE hostledger_witness_cosigned_leaves gauge\n",
            u8::from(known.withheld)
        );
        // Writing to a string cannot fail. A key's name may hold quotes, which the format escapes.
        let label = |name: &str| name.replace('\\', "\\\\").replace('"', "\\\"");
        for row in &known.witnesses {
            let (name, size) = (label(&row.name), row.cosigned_size);
            let _ = writeln!(
                text,
                "hostledger_witness_cosigned_leaves{{witness=\"{name}\"}} {size}"
            );
        }
        text.push_str(
            "# HELP hostledger_witness_missing 1 while a witness does not cosign what it is asked to.\n\
             # TYPE hostledger_witness_missing gauge\n",
        );
        for row in &known.witnesses {
            let missing = u8::from(row.missing_since.is_some());
            let _ = writeln!(
                text,
                "hostledger_witness_missing{{witness=\"{}\"}} {missing}",
                label(&row.name)
            );
        }
        text
    }

    fn save(&self, known: &WitnessesFile) {
        let saved = serde_json::to_vec_pretty(known)
            .map_err(|error| error.to_string())
            .and_then(|json| files::replace(&self.path, &json, PUBLIC).map_err(|error| error.to_string()));
        if let Err(error) = saved {
            tracing::warn!(
                error,
                "witnesses.json was not written; the log and /metrics say the same"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use common::{note::WitnessSigner, witness::PolicyWitness};

    use super::*;

    /// A board with one witness, and its file.
    fn board(dir: &Path) -> (PathBuf, Board) {
        let path = dir.join("witnesses.json");
        let signer = WitnessSigner::from_seed("witness.example/w", &[1; 32]).unwrap();
        let listed = PolicyWitness {
            key: signer.verifier().clone(),
            url: None,
        };
        let policy = Policy::of(vec![listed], 1).unwrap();
        let board = Board::new(path.clone(), &policy, QuorumMissing::Closed);
        (path, board)
    }

    /// What the file shows after a fault.
    fn record(board: &Board, path: &Path, fault: WitnessFault) -> WitnessRow {
        board.record(5, vec![Err(fault)], false, false);
        let file: WitnessesFile = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        assert!(file.withheld && file.unsatisfied_since.is_some());
        file.witnesses[0].clone()
    }

    /// A witness that was merely down, or knew of more leaves, and then says that it holds another history: the file
    /// went on showing the first reason, and the log never named the second.
    #[test]
    fn another_reason_is_written_down_although_the_witness_was_missing_before() {
        let dir = tempfile::tempdir().unwrap();
        let (path, board) = board(dir.path());
        let shown = |fault: WitnessFault| {
            let text = fault.to_string();
            let row = record(&board, &path, fault);
            (row.fault == Some(text), row.missing_since.unwrap())
        };
        let (first, since) = shown(WitnessFault::Unreachable("down".into()));
        let ahead = |size| WitnessFault::Ahead { recorded: 9, size };
        assert!(first);
        assert_eq!(shown(ahead(5)), (true, since.clone()));
        assert!(!shown(ahead(6)).0, "other numbers are not written each time");
        let words = String::new();
        assert_eq!(shown(WitnessFault::Contradicts { words }), (true, since));
    }

    /// A witness that was refused by a firewall, then had a bad certificate, then answered in another way each time: the
    /// file went on showing why it could not be reached first.
    #[test]
    fn the_newest_reason_is_shown_with_the_time_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let (path, board) = board(dir.path());
        let mut since = None;
        let unreachable = |words: &str| WitnessFault::Unreachable(words.to_owned());
        let refused = |status, words: &str| WitnessFault::Refused {
            status,
            words: words.to_owned(),
        };
        let late = |text: &str| WitnessFault::Late(text.to_owned());
        for (fault, is_news) in [
            (unreachable("Connection refused (os error 111)"), true),
            (unreachable("Connection refused (os error 112)"), false),
            (unreachable("the certificate has expired"), true),
            (late("no answer within 2.1s"), true),
            (late("it is still busy with an earlier checkpoint"), false),
            (refused(503, "later"), true),
            (refused(503, "still later"), false),
            (refused(500, "oops"), true),
            (unreachable("the certificate has expired"), true),
        ] {
            let text = fault.to_string();
            let shown = record(&board, &path, fault);
            assert_eq!(shown.fault == Some(text.clone()), is_news, "{text}");
            assert_eq!(
                board.read().witnesses[0].fault,
                Some(text),
                "/metrics and the API"
            );
            let first = since.get_or_insert_with(|| shown.missing_since.clone());
            assert_eq!(shown.missing_since, *first);
        }
    }
}
