//! The watchman: what the collector has to state of its hosts, and when.
//!
//! Takes enrolments, openings, admitted batches, contradictions and time; yields what is to be said. Owns who
//! is silent; what was said already is kept as [`HostStanding`], live and at start alike. Bounded: one silence is one statement, an equivocation is stated once and at most
//! [`EQUIVOCATIONS_MAX`] of a host, clock anomalies of a host at most once in a while, with a count.
//!
//! Refuses to accuse a host of what is the collector's own doing: silence is measured from when it began to
//! listen, and it begins anew whenever it was down, stood still, or turned batches away. An agent that said
//! that it stops is stopped, not silent; a host that was removed or ended is not watched.

mod clocks;
mod host;
pub mod standing;

use alloc::{collections::BTreeMap, collections::VecDeque, vec::Vec};

use self::host::Watched;
pub use self::standing::{BadStanding, HostStanding, Standing, UnverifiedStanding};
use crate::{
    batch::HeaderFields,
    ids::{BootNanos, Hash, HostId, Nonce, Sequence, StatementNumber, WallNanos},
    statement::{BatchPoint, Divergence, Equivocation, Said},
    text::Text,
};

/// Most equivocations of one host that are stated: the first proves it, further ones add little.
pub const EQUIVOCATIONS_MAX: usize = 4;
/// Statements that may wait to be taken; what is not said then is found again, or counted.
const WAITING_MAX: usize = 1024;
/// Nonces remembered of a host: batches sealed under older ones are not judged by them.
const NONCES_MAX: usize = 4;

/// Settings. Times in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WatchmanConfig {
    /// A host of which nothing came for this long is silent.
    pub silence_ns: u64,
    /// What a clock may be wrong by beyond all error bounds.
    pub tolerance_ns: u64,
    /// Anomalies of one host's clock, of one kind, are stated at most this often.
    pub clock_every_ns: u64,
}

/// The collector's clocks, read together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// Monotonic: what waiting is measured with.
    pub monotonic: BootNanos,
    /// Wall clock: what statements say.
    pub wall: WallNanos,
    /// Bound of the wall clock's error, nanoseconds; `u64::MAX` where unknown.
    pub error_ns: u64,
}

/// One registered host, as the operator's files have it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registered {
    /// Which host.
    pub host: HostId,
    /// What people call it.
    pub name: Text,
    /// When it was enrolled.
    pub enrolled_at: WallNanos,
    /// When it was declared to have ended and why, if it was.
    pub ended: Option<(WallNanos, Text)>,
}

/// The machine.
#[derive(Debug)]
pub struct Watchman {
    config: WatchmanConfig,
    /// Since when it listens without a break.
    watching: Now,
    checked: BootNanos,
    hosts: BTreeMap<HostId, Watched>,
    waiting: VecDeque<Said>,
    unsaid: u64,
}

impl Watchman {
    /// A watchman who begins to listen now, before anything is restored.
    #[must_use]
    pub fn new(config: WatchmanConfig, now: Now) -> Self {
        Self {
            config,
            watching: now,
            checked: now.monotonic,
            hosts: BTreeMap::new(),
            waiting: VecDeque::new(),
            unsaid: 0,
        }
    }

    /// Takes up a host's chain where the ledger has it, behind [`Self::take_up`]. Names the batch with which the host
    /// broke a silence unstated as broken, for [`Self::restore_return`].
    pub fn restore(&mut self, last: &HeaderFields, hash: Hash) -> Option<Sequence> {
        let host = self.hosts.entry(last.host).or_default();
        host.place(last, hash);
        let after = host.said.silence?.after;
        (Some(last.sequence) > after)
            .then(|| after.map_or(Sequence(0), |after| Sequence(after.0.saturating_add(1))))
    }

    /// The first batch after a silence, found in the ledger at start.
    pub fn restore_return(&mut self, now: Now, host: HostId, first: BatchPoint) {
        if let Some(said) = self
            .hosts
            .get_mut(&host)
            .and_then(|watched| watched.back(host, first, now))
        {
            self.waiting.push_back(said);
        }
    }

    /// Takes up what all statements in the ledger come to, at start, before anything else.
    pub fn take_up(&mut self, now: Now, standing: &Standing) {
        for (host, said) in standing.hosts() {
            self.hosts.entry(*host).or_default().take_up(now, said);
        }
    }

    /// A statement stands in the collector's chain, just admitted.
    pub fn note(&mut self, now: Now, number: StatementNumber, said: &Said) {
        if let Some(host) = said.host() {
            self.hosts.entry(host).or_default().note(now, number, said);
        }
    }

    /// The whole register of hosts, at start and whenever it changed.
    pub fn handle_register(&mut self, now: Now, register: &[Registered]) {
        self.hosts.values_mut().for_each(|host| host.listed = false);
        for row in register {
            let host = self.hosts.entry(row.host).or_default();
            host.listed = true;
            host.listed_since.get_or_insert(now.monotonic);
            host.enrolled_at = row.enrolled_at;
            if !host.said.enrolled {
                host.said.enrolled = true;
                self.waiting.push_back(Said::HostEnrolled {
                    host: row.host,
                    name: cut(&row.name),
                    enrolled_at: row.enrolled_at,
                });
            }
            if let Some((ended_at, reason)) = row.ended.as_ref().filter(|_| !host.said.ended) {
                host.said.ended = true;
                self.waiting.push_back(Said::HostEnded {
                    host: row.host,
                    ended_at: *ended_at,
                    reason: cut(reason),
                    last: host.last,
                });
            }
        }
        for (_, host) in self.hosts.iter_mut().filter(|(_, host)| !host.listed) {
            host.listed_since = None;
        }
    }

    /// Whether an operator declared the host's end, so that no batch of it is taken.
    #[must_use]
    pub fn has_ended(&self, host: &HostId) -> bool {
        self.hosts.get(host).is_some_and(|host| host.said.ended)
    }

    /// An agent connected and says where its chain stands: its next batch and last hash. `held` is the same of
    /// the ledger, `shared` the hash of the header held before the agent's next batch, where there is one.
    pub fn handle_opening(
        &mut self,
        host: HostId,
        agent: (Sequence, Hash),
        held: (Sequence, Hash),
        shared: Option<Hash>,
    ) {
        let differs = agent.0.0 > 0 && agent.0 <= held.0 && shared != Some(agent.1);
        if agent.0 > held.0 || (agent.0 == held.0 && !differs) {
            return;
        }
        let room = self.has_room();
        let watched = self.hosts.entry(host).or_default();
        if watched.said.diverged_at.is_some() || !room {
            return;
        }
        watched.said.diverged_at = Some(held.0);
        self.waiting.push_back(Said::Rollback(Divergence {
            host,
            differs,
            agent_next: agent.0,
            agent_head: agent.1,
            held_next: held.0,
            held_head: held.1,
        }));
    }

    /// A nonce is given to a host's agent.
    pub fn handle_nonce(&mut self, now: Now, host: HostId, nonce: Nonce) {
        let nonces = &mut self.hosts.entry(host).or_default().nonces;
        if nonces.len() == NONCES_MAX {
            nonces.pop_front();
        }
        nonces.push_back((nonce, now));
    }

    /// A batch was admitted, the next one of its chain; `hash` is its signed header's.
    pub fn handle_batch(&mut self, now: Now, header: &HeaderFields, hash: Hash) {
        let id = header.host;
        let room = self.has_room();
        let host = self.hosts.entry(id).or_default();
        let mut said = Vec::new();
        // What was about to be said is no longer true.
        if core::mem::take(&mut host.saying_silent) {
            self.waiting
                .retain(|said| !matches!(said, Said::Silent { host, .. } if *host == id));
        }
        said.extend(host.back(id, host::point_of(header, hash), now));
        if room {
            said.extend(host.judge_clock(&self.config, now, header, hash));
        }
        host.place(header, hash);
        host.heard = Some(now);
        self.waiting.extend(said);
    }

    /// Two signed headers contradict each other; unless they prove it, nothing is said.
    pub fn handle_contradiction(&mut self, host: HostId, held: &[u8], offered: &[u8]) {
        let pair = (Hash::of(held), Hash::of(offered));
        let room = self.has_room();
        let known = &mut self.hosts.entry(host).or_default().said.contradictions;
        if known.contains(&pair) {
            return;
        }
        let equivocation = Equivocation {
            host,
            held: held.to_vec(),
            offered: offered.to_vec(),
        };
        if known.len() >= EQUIVOCATIONS_MAX || !room {
            self.unsaid = self.unsaid.saturating_add(1);
        } else if equivocation.check().is_ok() {
            known.push(pair);
            self.waiting.push_back(Said::Equivocation(equivocation));
        }
    }

    /// Batches are turned away for a fault of the collector's: whoever is not heard now is not silent.
    pub fn handle_deaf(&mut self, now: Now) {
        self.watching = now;
    }

    /// Time passed, and everything that came until now was handed over.
    pub fn handle_timeout(&mut self, now: Now) {
        let passed = now.monotonic.0.saturating_sub(self.checked.0);
        if passed < self.tick() {
            return;
        }
        self.checked = now.monotonic;
        if passed > self.config.silence_ns / 2 {
            // It stood still itself: what came meanwhile may still be on its way.
            return self.handle_deaf(now);
        }
        for (id, host) in &mut self.hosts {
            if self.waiting.len() >= WAITING_MAX {
                return;
            }
            let said = host.silent(*id, &self.config, self.watching, now);
            self.waiting.extend(said);
        }
    }

    /// When to call [`Self::handle_timeout`] next.
    #[must_use]
    pub fn poll_timeout(&self) -> BootNanos {
        BootNanos(self.checked.0.saturating_add(self.tick()))
    }

    /// What to say next; [note](Self::note) it once it stands in the chain.
    pub fn poll_said(&mut self) -> Option<Said> {
        self.waiting.pop_front()
    }

    /// Hosts that are stated to be silent.
    #[must_use]
    pub fn silent(&self) -> u64 {
        let silent = |host: &&Watched| host.said.silence.is_some();
        self.hosts.values().filter(silent).count() as u64
    }

    /// Contradictions that were not stated, for their number.
    #[must_use]
    pub fn unsaid(&self) -> u64 {
        self.unsaid
    }

    fn has_room(&self) -> bool {
        self.waiting.len() < WAITING_MAX
    }

    /// How often silence is looked for.
    fn tick(&self) -> u64 {
        (self.config.silence_ns / 16).max(1)
    }
}

/// A text as long as a statement carries.
fn cut(text: &Text) -> Text {
    let most = text.0.len().min(crate::limits::STATEMENT_TEXT_BYTES_MAX);
    Text(text.0.get(..most).unwrap_or_default().to_vec())
}

#[cfg(test)]
mod tests;
