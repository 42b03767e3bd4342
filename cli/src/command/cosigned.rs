//! Cosignatures that whoever asks demands of a checkpoint: which, who gave them, and when.

use std::path::Path;

use common::{
    answer::Moment,
    ids::WallNanos,
    ledger_keys::LedgerTrust,
    note::WitnessKey,
    witness::{POLICY_BYTES_MAX, Policy, PolicyWitness, Quorum},
};
use serde_json::{Value, json};

use super::read_file;
use crate::{Failure, World, args::WitnessArgs};

/// What is demanded of checkpoints of the ledger of `key`; `None` where nothing is.
pub(super) fn demanded(args: &WitnessArgs, key: &impl LedgerTrust) -> Result<Option<Policy>, Failure> {
    if let Some(path) = &args.witness_policy {
        return from_file(path, key).map(Some);
    }
    if args.witness.is_empty() {
        return Ok(None);
    }
    let usage = |cause: String| Failure::Usage {
        cause,
        remedy:
            "write --witness <name+id+key> for each witness, and --quorum for how many of them are enough"
                .into(),
    };
    let keys = args.witness.iter().map(|text| WitnessKey::parse(text.trim()));
    let witnesses = keys.map(|key| key.map(|key| PolicyWitness { key, url: None }));
    let witnesses = witnesses
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| usage(error.to_string()))?;
    let quorum = args.quorum.unwrap_or(witnesses.len());
    Policy::of(witnesses, quorum)
        .map(Some)
        .map_err(|error| usage(error.to_string()))
}

fn from_file(path: &Path, key: &impl LedgerTrust) -> Result<Policy, Failure> {
    let text = read_file(path, POLICY_BYTES_MAX as u64)?;
    let bad = |cause: String| Failure::Config {
        cause: format!("{}: {cause}", path.display()),
        remedy: "give a C2SP tlog-policy file with the witnesses you demand".into(),
    };
    let policy = Policy::parse(&text).map_err(|error| bad(error.to_string()))?;
    if policy.covers(key) {
        Ok(policy)
    } else {
        Err(bad("its log lines do not name this ledger's key".into()))
    }
}

/// Who cosigned a checkpoint, as far as that was demanded.
pub(super) struct Cosigned(Option<Quorum>);

impl Cosigned {
    /// Judges a signed note whose own signature is checked elsewhere; `Err` says which cosignature is false.
    pub(super) fn judge(policy: Option<&Policy>, note: &[u8]) -> Result<Self, String> {
        let judged = policy.map(|policy| policy.judge(note)).transpose();
        judged
            .map(Self)
            .map_err(|fault| format!("its checkpoint's cosignatures: {fault}"))
    }

    /// What to say where too few did.
    pub(super) fn too_few(&self) -> Option<String> {
        let quorum = self.0.as_ref().filter(|quorum| !quorum.satisfied)?;
        Some(too_few(&quorum.missing))
    }

    /// One object for each demanded witness that cosigned; null where none was demanded.
    pub(super) fn as_json(&self) -> Value {
        let Some(quorum) = &self.0 else { return Value::Null };
        let row =
            |name: &str, seconds: u64| json!({ "name": name, "posix_seconds": seconds, "at": at(seconds) });
        let rows = quorum
            .signed
            .iter()
            .map(|one| row(&one.witness, one.posix_seconds));
        rows.collect()
    }

    /// A line for each, of which `label` is the first word.
    pub(super) fn lines(&self, label: &str, world: &mut World<'_>) -> Result<(), Failure> {
        for one in self.0.iter().flat_map(|quorum| &quorum.signed) {
            writeln!(
                world.out,
                "{label}{} cosigned at {} by its own clock",
                one.witness,
                at(one.posix_seconds)
            )?;
        }
        Ok(())
    }
}

/// The sentence for a quorum that is not there.
pub(super) fn too_few(missing: &[String]) -> String {
    format!(
        "too few witnesses cosigned its checkpoint; missing: {}",
        missing.join(", ")
    )
}

/// Seconds since 1970 as an instant.
pub(super) fn at(posix_seconds: u64) -> Moment {
    Moment(WallNanos(posix_seconds.saturating_mul(1_000_000_000)))
}
