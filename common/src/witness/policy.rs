//! Which witnesses are enough: k of n, or k of n of such groups.

use alloc::{
    string::{String, ToString},
    vec::Vec,
};

use super::cosignature::{Cosignature, cosignatures};
use crate::ledger_keys::LedgerTrust;
use crate::note::{KeyError, NoteError, UnverifiedNote, VerifierKey, WitnessKey};

/// A witness of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PolicyWitness {
    /// Its key, which names it.
    pub key: WitnessKey,
    /// Where it takes checkpoints (the submission prefix), if the policy says.
    pub url: Option<String>,
}

/// Who must have signed what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Rule {
    /// Nobody.
    Nobody,
    /// The witness at this place of the list.
    Witness(usize),
    /// So many of these.
    Group {
        /// How many.
        threshold: usize,
        /// Of these.
        members: Vec<Rule>,
    },
}

/// A trust policy (C2SP tlog-policy): witnesses, and which of them are enough.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    pub(super) logs: Vec<VerifierKey>,
    pub(super) witnesses: Vec<PolicyWitness>,
    pub(super) rule: Rule,
}

/// Why a policy was refused. Whoever wrote it is at fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PolicyError {
    /// A line that is none of a policy.
    #[error("line {line}: {what}")]
    Line {
        /// Which, counted from 1.
        line: usize,
        /// What is wrong.
        what: &'static str,
    },
    /// A key that cannot be used.
    #[error("line {line}: {cause}")]
    Key {
        /// Which, counted from 1.
        line: usize,
        /// What is wrong.
        cause: KeyError,
    },
    /// The whole.
    #[error("{0}")]
    Whole(&'static str),
}

/// What a policy says of one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Quorum {
    /// Witnesses of the policy that cosigned, in its order.
    pub signed: Vec<Cosignature>,
    /// Names of those that did not.
    pub missing: Vec<String>,
    /// Whether those who did are enough.
    pub satisfied: bool,
}

impl Policy {
    /// `quorum` of these witnesses.
    pub fn of(witnesses: Vec<PolicyWitness>, quorum: usize) -> Result<Self, PolicyError> {
        if quorum == 0 || quorum > witnesses.len() {
            return Err(PolicyError::Whole(
                "the quorum is not between 1 and the number of witnesses",
            ));
        }
        for (at, witness) in witnesses.iter().enumerate() {
            if witnesses[..at]
                .iter()
                .any(|other| same_witness(&other.key, &witness.key))
            {
                return Err(PolicyError::Whole("a witness is listed twice"));
            }
        }
        let members = (0..witnesses.len()).map(Rule::Witness).collect();
        Ok(Self {
            logs: Vec::new(),
            witnesses,
            rule: Rule::Group {
                threshold: quorum,
                members,
            },
        })
    }

    /// The witnesses.
    #[must_use]
    pub fn witnesses(&self) -> &[PolicyWitness] {
        &self.witnesses
    }

    /// Whether the policy may be applied to the ledger of `trust`: it names no log at all, or this one by any key that
    /// its history has, so that a change of key makes no policy useless. Which key counts is for the history to say.
    #[must_use]
    pub fn covers(&self, trust: &impl LedgerTrust) -> bool {
        self.logs.is_empty() || trust.keys().all().any(|key| self.logs.contains(key))
    }

    /// Which witnesses cosigned `note` and whether they are enough. That the ledger signed it is for the
    /// caller to check. A cosignature of a known witness that does not verify sinks the note.
    pub fn judge(&self, note: &[u8]) -> Result<Quorum, NoteError> {
        let parsed = UnverifiedNote::parse(note)?;
        let keys: Vec<&WitnessKey> = self.witnesses.iter().map(|witness| &witness.key).collect();
        let found = cosignatures(&parsed, &keys)?;
        let by = |key: &WitnessKey| found.iter().find(|one| one.witness == key.name());
        let signed = keys.iter().filter_map(|key| by(key).cloned()).collect();
        let missing = keys
            .iter()
            .filter(|key| by(key).is_none())
            .map(|key| key.name().to_string())
            .collect();
        let satisfied = self.holds(&self.rule, &|at| {
            keys.get(at).is_some_and(|key| by(key).is_some())
        });
        Ok(Quorum {
            signed,
            missing,
            satisfied,
        })
    }

    fn holds(&self, rule: &Rule, signed: &dyn Fn(usize) -> bool) -> bool {
        match rule {
            Rule::Nobody => true,
            Rule::Witness(at) => signed(*at),
            Rule::Group { threshold, members } => {
                members.iter().filter(|member| self.holds(member, signed)).count() >= *threshold
            }
        }
    }
}

/// Two names over one key would let one party count twice; one name over two keys could not be told apart.
pub(super) fn same_witness(a: &WitnessKey, b: &WitnessKey) -> bool {
    a.public() == b.public() || a.name() == b.name()
}
