//! The text of a policy: C2SP tlog-policy files.
//!
//! Lines of words: `log vkey [url]`, `witness name vkey [url]`, `group name k|any|all member…`,
//! `quorum name|none`; `#` begins a comment line. Names are opaque octets and mean nothing outside the file.
//! Stricter than the text in one point: two witnesses must also differ in key name, for cosignatures are
//! told apart by it.

use alloc::{string::String, vec::Vec};

use super::policy::{Policy, PolicyError, PolicyWitness, Rule, same_witness};
use crate::note::{VerifierKey, WitnessKey};

/// Longest policy file accepted, bytes.
pub const POLICY_BYTES_MAX: usize = 64 * 1024;
/// Most logs, witnesses and groups of one policy, each.
const ITEMS_MAX: usize = 64;

struct Reading<'a> {
    logs: Vec<VerifierKey>,
    witnesses: Vec<PolicyWitness>,
    /// Defined names, what they stand for, and whether a group has them already.
    names: Vec<(&'a [u8], Rule, bool)>,
    groups: usize,
    quorum: Option<Rule>,
}

impl Policy {
    /// Reads a policy file.
    pub fn parse(bytes: &[u8]) -> Result<Self, PolicyError> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(PolicyError::Whole("the policy is too long"));
        }
        let mut reading = Reading {
            logs: Vec::new(),
            witnesses: Vec::new(),
            names: Vec::new(),
            groups: 0,
            quorum: None,
        };
        for (at, text) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let line = at + 1;
            if text
                .iter()
                .any(|byte| (*byte < b' ' && *byte != b'\t') || *byte == 0x7f)
            {
                let what = "a control character other than tab";
                return Err(PolicyError::Line { line, what });
            }
            let words: Vec<&[u8]> = text
                .split(|byte| matches!(byte, b' ' | b'\t'))
                .filter(|word| !word.is_empty())
                .collect();
            match words.first() {
                None => {}
                Some(word) if word.starts_with(b"#") => {}
                Some(_) => reading.line(line, &words)?,
            }
        }
        let rule = reading
            .quorum
            .ok_or(PolicyError::Whole("the policy has no quorum line"))?;
        Ok(Self {
            logs: reading.logs,
            witnesses: reading.witnesses,
            rule,
        })
    }
}

impl<'a> Reading<'a> {
    fn line(&mut self, line: usize, words: &[&'a [u8]]) -> Result<(), PolicyError> {
        let fail = |what| PolicyError::Line { line, what };
        match words {
            [b"log", key] | [b"log", key, _] => {
                let key =
                    VerifierKey::parse(text(line, key)?).map_err(|cause| PolicyError::Key { line, cause })?;
                if self.logs.iter().any(|other| other.public() == key.public()) {
                    return Err(fail("this log's key was listed before"));
                }
                bounded(line, self.logs.len())?;
                self.logs.push(key);
                Ok(())
            }
            [b"witness", name, key, url @ ..] if url.len() <= 1 => {
                let key =
                    WitnessKey::parse(text(line, key)?).map_err(|cause| PolicyError::Key { line, cause })?;
                if self.witnesses.iter().any(|other| same_witness(&other.key, &key)) {
                    return Err(fail("this witness's key or key name was listed before"));
                }
                bounded(line, self.witnesses.len())?;
                let url = match url {
                    [url] => Some(String::from(text(line, url)?)),
                    _ => None,
                };
                self.define(line, name, Rule::Witness(self.witnesses.len()))?;
                self.witnesses.push(PolicyWitness { key, url });
                Ok(())
            }
            [b"group", name, threshold, members @ ..] if !members.is_empty() => {
                bounded(line, self.groups)?;
                let threshold = match *threshold {
                    b"any" => 1,
                    b"all" => members.len(),
                    digits => decimal(digits)
                        .filter(|k| (1..=members.len()).contains(k))
                        .ok_or(fail(
                            "the threshold is not any, all, or between 1 and the members",
                        ))?,
                };
                let members = members
                    .iter()
                    .map(|member| self.take(line, member))
                    .collect::<Result<Vec<Rule>, PolicyError>>()?;
                self.groups += 1;
                self.define(line, name, Rule::Group { threshold, members })
            }
            [b"quorum", name] => {
                let rule = if *name == b"none" {
                    Rule::Nobody
                } else {
                    let known = self.names.iter().find(|known| known.0 == *name);
                    known
                        .ok_or(fail("the quorum's name is not defined above"))?
                        .1
                        .clone()
                };
                match self.quorum.replace(rule) {
                    None => Ok(()),
                    Some(_) => Err(fail("a second quorum line")),
                }
            }
            _ => Err(fail("not a line of log, witness, group or quorum")),
        }
    }

    fn define(&mut self, line: usize, name: &'a [u8], rule: Rule) -> Result<(), PolicyError> {
        if name == b"none" || self.names.iter().any(|known| known.0 == name) {
            let what = "this name was defined before";
            return Err(PolicyError::Line { line, what });
        }
        self.names.push((name, rule, false));
        Ok(())
    }

    /// What a group's member stands for. Each name may be a member once in the whole file.
    fn take(&mut self, line: usize, name: &[u8]) -> Result<Rule, PolicyError> {
        let fail = |what| PolicyError::Line { line, what };
        let known = self.names.iter_mut().find(|known| known.0 == name);
        let known = known.ok_or(fail("a member is not defined above"))?;
        if core::mem::replace(&mut known.2, true) {
            return Err(fail("a member of two groups, or twice of this one"));
        }
        Ok(known.1.clone())
    }
}

fn bounded(line: usize, count: usize) -> Result<(), PolicyError> {
    if count < ITEMS_MAX {
        return Ok(());
    }
    let what = "more than 64 of this kind";
    Err(PolicyError::Line { line, what })
}

fn text(line: usize, word: &[u8]) -> Result<&str, PolicyError> {
    let what = "not UTF-8";
    core::str::from_utf8(word).map_err(|_| PolicyError::Line { line, what })
}

fn decimal(digits: &[u8]) -> Option<usize> {
    let text = core::str::from_utf8(digits).ok()?;
    usize::try_from(crate::checkpoint::parse_decimal(text)?).ok()
}
