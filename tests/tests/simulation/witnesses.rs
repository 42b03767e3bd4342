//! Witnesses of the simulated collector: each judges, records and signs as a real one does, over bytes.
//!
//! Owns what they recorded, who of them is down, and what the collector does without a quorum. An answer may get lost after
//! it was recorded. Whatever else than that keeps an honest ledger from its cosignature is a finding.

use common::{
    note::{VerifierKey, WitnessSigner},
    witness::{
        AddCheckpoint, Exchange, Next, Policy, PolicyWitness, Recorded, TrustedLog, WitnessRefusal, judge,
        with_line,
    },
};
use ledger::{Published, Reader};

use crate::rng::Rng;

const SECOND: u64 = 1_000_000_000;

/// Three witnesses and a policy over them, which agents demand as well.
pub(crate) struct Witnesses {
    each: Vec<Witness>,
    pub(crate) policy: Policy,
    /// How many of them the policy asks for.
    pub(crate) quorum: usize,
    /// Whether nothing is published without a quorum.
    pub(crate) closed: bool,
}

struct Witness {
    signer: WitnessSigner,
    recorded: Option<Recorded>,
    /// The size that the collector believes it to have recorded; forgotten when the collector ends.
    believed: u64,
    down_until: u64,
}

/// What came of asking.
pub(crate) struct Verdict {
    /// Signature lines.
    pub(crate) lines: String,
    pub(crate) satisfied: bool,
}

impl Witnesses {
    pub(crate) fn new(seed: &[u8; 32], closed: bool) -> Self {
        let each: Vec<Witness> = (1..=3)
            .map(|number| {
                let mut seed = *seed;
                seed[31] = number;
                Witness {
                    signer: WitnessSigner::from_seed(&format!("witness.example/{number}"), &seed).unwrap(),
                    recorded: None,
                    believed: 0,
                    down_until: 0,
                }
            })
            .collect();
        let listed = |witness: &Witness| PolicyWitness {
            key: witness.signer.verifier().clone(),
            url: None,
        };
        let quorum = 2;
        let policy = Policy::of(each.iter().map(listed).collect(), quorum).unwrap();
        Self {
            each,
            policy,
            quorum,
            closed,
        }
    }

    /// Public keys, for whoever judges by himself.
    pub(crate) fn keys(&self) -> Vec<[u8; 32]> {
        let keys = self.each.iter();
        keys.map(|witness| *witness.signer.verifier().public()).collect()
    }

    /// The collector's process ends.
    pub(crate) fn forget(&mut self) {
        for witness in &mut self.each {
            witness.believed = 0;
        }
    }

    /// Asks all of them about `head`, whose tiles are durable.
    pub(crate) fn ask(
        &mut self,
        head: &Published,
        reader: &Reader,
        log: &VerifierKey,
        now: u64,
        rng: Option<&mut Rng>,
    ) -> Result<Verdict, String> {
        let own = String::from_utf8(head.note.to_vec()).map_err(|e| e.to_string())?;
        let mut lines = String::new();
        let mut rng = rng;
        for witness in &mut self.each {
            let mut lost = false;
            if let Some(rng) = &mut rng {
                if rng.chance(15) {
                    witness.down_until = now + rng.range(1, 2 * SECOND);
                }
                if now < witness.down_until {
                    continue;
                }
                lost = rng.chance(10);
            }
            let line = witness.cosign(&own, head, reader, log, now)?;
            if lost {
                witness.believed = 0;
            } else {
                lines.push_str(&line);
            }
        }
        let judged = self.policy.judge(with_line(&own, &lines).as_bytes());
        let satisfied = judged.map_err(|e| e.to_string())?.satisfied;
        Ok(Verdict { lines, satisfied })
    }
}

impl Witness {
    fn cosign(
        &mut self,
        own: &str,
        head: &Published,
        reader: &Reader,
        log: &VerifierKey,
        now: u64,
    ) -> Result<String, String> {
        let name = self.signer.verifier().name().to_owned();
        let trusted = TrustedLog {
            origin: head.checkpoint.origin.clone(),
            keys: vec![log.clone()],
        };
        let size = head.checkpoint.size;
        let mut exchange = Exchange::new(self.signer.verifier(), own, size, self.believed);
        loop {
            let old = exchange.old();
            let proof = reader.consistency_to(&head.checkpoint, old);
            let request = AddCheckpoint {
                old,
                proof: proof.map_err(|e| e.to_string())?,
                note: head.note.to_vec(),
            };
            let request = AddCheckpoint::decode(&request.encode()).map_err(|e| e.to_string())?;
            let (status, body) = match judge(&request, &trusted, self.recorded.as_ref()) {
                Ok(accepted) => {
                    let cosigned = accepted.cosign(&self.signer, 1 + now / SECOND);
                    self.recorded = Some(cosigned.record);
                    (200, cosigned.line)
                }
                Err(WitnessRefusal::Conflict { recorded, .. }) => (409, format!("{recorded}\n")),
                Err(refusal) => (refusal.status(), refusal.to_string()),
            };
            match exchange.handle(status, body.as_bytes()) {
                Ok(Next::Ask) => {}
                Ok(Next::Cosigned { line, .. }) => {
                    self.believed = size;
                    return Ok(line);
                }
                Err(fault) => return Err(format!("witness {name}, of an honest ledger: {fault}")),
            }
        }
    }
}
