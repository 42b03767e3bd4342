//! The witnesses this agent demands: their policy's file, and what it says of the checkpoints that come.
//!
//! Owns the file and what the status shows of it. Who is enough is [`common::witness::Policy`]'s to say, what follows
//! from it [`common::session::AgentSession`]'s. Refuses to judge the times of cosignatures: they are shown, for this
//! host's clock may be the one that is wrong.

use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};

use common::{
    ledger_keys::LedgerTrust,
    witness::{POLICY_BYTES_MAX, Policy, PolicyError, Quorum},
};
use serde::{Deserialize, Serialize};

/// Why a policy cannot be used. The operator is at fault; nothing is shipped, and so nothing trimmed, until it can.
#[derive(Debug, thiserror::Error)]
pub enum PolicyFault {
    /// The file.
    #[error("{path}, the witness policy: {cause}")]
    Io {
        /// Its path.
        path: PathBuf,
        /// What the system says.
        cause: io::Error,
    },
    /// Its contents.
    #[error("{path}, the witness policy: {cause}")]
    Policy {
        /// Its path.
        path: PathBuf,
        /// What is wrong.
        cause: PolicyError,
    },
    /// It is for other ledgers.
    #[error("{path}, the witness policy, has log lines and none is the key in ledger.vkey, {key}")]
    OtherLedger {
        /// Its path.
        path: PathBuf,
        /// The ledger's key.
        key: String,
    },
}

/// Reads the policy at `path`, to be applied to the ledger of `trust`.
///
/// # Errors
/// [`PolicyFault`].
pub fn read_policy(path: &Path, trust: &impl LedgerTrust) -> Result<Policy, PolicyFault> {
    let path = path.to_owned();
    let mut bytes = Vec::new();
    let read = File::open(&path).and_then(|file| {
        // One byte more than may be, so that a longer file is refused and not cut.
        file.take(POLICY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)
    });
    if let Err(cause) = read {
        return Err(PolicyFault::Io { path, cause });
    }
    let policy = match Policy::parse(&bytes) {
        Ok(policy) => policy,
        Err(cause) => return Err(PolicyFault::Policy { path, cause }),
    };
    if policy.covers(trust) {
        Ok(policy)
    } else {
        let key = trust.keys().in_force().to_string();
        Err(PolicyFault::OtherLedger { path, key })
    }
}

/// What the policy says of the checkpoint that came last.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessStatus {
    /// Size of that checkpoint; 0 before the first.
    pub checkpoint_size: u64,
    /// Whether enough witnesses cosigned it.
    pub satisfied: bool,
    /// Those that did.
    pub signed: Vec<Cosigned>,
    /// Names of those that did not.
    pub missing: Vec<String>,
}

/// A witness that cosigned.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cosigned {
    /// Its key's name.
    pub witness: String,
    /// When, by its own clock, seconds since 1970.
    pub posix_seconds: u64,
}

impl WitnessStatus {
    /// What is shown of `quorum`, judged for a checkpoint of `size` leaves.
    #[must_use]
    pub fn of(size: u64, quorum: Quorum) -> Self {
        let signed = quorum.signed.into_iter().map(|one| Cosigned {
            witness: one.witness,
            posix_seconds: one.posix_seconds,
        });
        Self {
            checkpoint_size: size,
            satisfied: quorum.satisfied,
            signed: signed.collect(),
            missing: quorum.missing,
        }
    }

    /// What to say of it where `before` was said: on each change for the worse, not at every checkpoint.
    #[must_use]
    pub fn complaint(&self, before: Option<&Self>) -> Option<String> {
        let said = before.is_some_and(|before| {
            before.checkpoint_size > 0 && !before.satisfied && before.missing == self.missing
        });
        (!self.satisfied && !said).then(|| {
            format!(
                "too few witnesses cosigned the collector's checkpoint of {} leaves, missing: {}; nothing is trimmed \
                 from the spool until enough of them are there",
                self.checkpoint_size,
                self.missing.join(", ")
            )
        })
    }

    /// The line of the status for people.
    #[must_use]
    pub fn line(&self) -> String {
        let names: Vec<&str> = self.signed.iter().map(|one| one.witness.as_str()).collect();
        let list = |names: &[&str]| match names {
            [] => "nobody".to_owned(),
            names => names.join(", "),
        };
        let missing: Vec<&str> = self.missing.iter().map(String::as_str).collect();
        match (self.checkpoint_size, self.satisfied) {
            (0, false) => format!(
                "witnesses   no checkpoint judged yet; asked for: {}",
                list(&missing)
            ),
            (size, true) => format!(
                "witnesses   enough cosigned {size} leaves: {}; missing: {}",
                list(&names),
                list(&missing)
            ),
            (size, false) => format!(
                "witnesses   TOO FEW COSIGNED {size} leaves: {}; missing: {}; nothing is trimmed",
                list(&names),
                list(&missing)
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use common::{
        note::{SignerKey, WitnessSigner},
        witness::Cosignature,
    };

    use super::*;

    fn key(seed: u8) -> common::note::VerifierKey {
        let signer = SignerKey::from_seed("ledger.example/one", &[seed; 32]).unwrap();
        signer.verifier().clone()
    }

    #[test]
    fn a_policy_that_cannot_be_used_is_named_with_its_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("witnesses.policy");
        let said = || read_policy(&path, &key(1)).unwrap_err().to_string();
        assert!(said().contains("witnesses.policy"), "missing");
        std::fs::write(&path, "quorum nobody\n").unwrap();
        assert!(said().contains("line 1"), "{}", said());
        let witness = WitnessSigner::from_seed("witness.example/w", &[9; 32]).unwrap();
        let text = |log: u8| format!("log {}\nwitness w {}\nquorum w\n", key(log), witness.verifier());
        std::fs::write(&path, text(2)).unwrap();
        assert!(said().contains("none is the key in ledger.vkey"), "{}", said());
        std::fs::write(&path, text(1)).unwrap();
        assert_eq!(read_policy(&path, &key(1)).unwrap().witnesses().len(), 1);
        std::fs::write(&path, vec![b'#'; POLICY_BYTES_MAX + 1]).unwrap();
        assert!(said().contains("too long"), "{}", said());
    }

    #[test]
    fn it_complains_once_and_again_when_others_are_missing() {
        let quorum = |missing: &[&str], satisfied| Quorum {
            signed: vec![Cosignature {
                witness: "w0".into(),
                posix_seconds: 5,
            }],
            missing: missing.iter().map(|&name| name.to_owned()).collect(),
            satisfied,
        };
        let first = WitnessStatus::of(7, quorum(&["w1", "w2"], false));
        let begun = WitnessStatus {
            missing: first.missing.clone(),
            ..WitnessStatus::default()
        };
        assert!(
            begun
                .line()
                .contains("no checkpoint judged yet; asked for: w1, w2")
        );
        assert!(first.complaint(Some(&begun)).is_some(), "nothing was said before");
        let said = first.complaint(None).unwrap();
        assert!(said.contains("7 leaves, missing: w1, w2"), "{said}");
        assert!(
            first
                .line()
                .contains("TOO FEW COSIGNED 7 leaves: w0; missing: w1, w2")
        );
        assert_eq!(
            WitnessStatus::of(9, quorum(&["w1", "w2"], false)).complaint(Some(&first)),
            None
        );
        assert!(
            WitnessStatus::of(9, quorum(&["w2", "w3"], false))
                .complaint(Some(&first))
                .is_some()
        );
        let good = WitnessStatus::of(9, quorum(&["w1"], true));
        assert_eq!(good.complaint(Some(&first)), None);
        assert!(first.complaint(Some(&good)).is_some());
    }
}
