//! The agent's side of a session, over all its connections.
//!
//! Owns when to connect, what to send next, and whether to believe the collector. Reads what there is to
//! send from the [`Spool`]'s index. Refuses to trim anything whose inclusion it has not verified in a
//! checkpoint that extends the last one it saw, that enough witnesses cosigned where witnesses are demanded,
//! and that is remembered durably.

mod config;
mod connection;
mod effect;
mod fault;
mod recall;
mod trust;

use alloc::{boxed::Box, collections::VecDeque, vec::Vec};

use self::connection::{Connection, Phase};
use self::trust::{Trust, Writing};
pub use self::{
    config::AgentConfig,
    effect::AgentEffect,
    fault::{AgentEvent, AgentFault, EndReason},
    recall::{Forgotten, RecallFault},
    trust::Seen,
};
use super::message::{BadMessage, Hello, Message, PROTOCOL_VERSION};
use crate::{
    ids::{BootNanos, Sequence},
    spool::{LedgerMark, Spool},
};

/// Messages encoded and not yet taken by the transport: beyond this nothing more is loaded.
const TRANSMIT_QUEUE_MAX: usize = 4;
/// Diagnostics kept until the driver asks; older ones are dropped, for they are no evidence.
const EVENTS_MAX: usize = 256;

/// Names one connection attempt; what belongs to an older one is ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// The machine.
#[derive(Debug)]
pub struct AgentSession {
    config: AgentConfig,
    random: u64,
    state: State,
    attempts: u64,
    failures: u32,
    trust: Trust,
    stopping: bool,
    transmit: VecDeque<Vec<u8>>,
    effects: VecDeque<AgentEffect>,
    events: VecDeque<AgentEvent>,
}

#[derive(Debug)]
enum State {
    /// Not connected; tries again at this instant.
    Waiting(BootNanos),
    /// The driver connects.
    Connecting { id: ConnectionId, deadline: BootNanos },
    /// A stream is open.
    Open(Connection),
    /// Nothing is sent any more: the collector or our own spool is not to be trusted.
    Halted,
    /// Stopped in order.
    Finished,
}

impl AgentSession {
    /// Starts not connected; the first attempt is due at once. `seed` is any number another agent hardly has.
    #[must_use]
    pub fn new(config: AgentConfig, seen: Seen, seed: u64, now: BootNanos) -> Self {
        Self {
            trust: Trust::new(config.ledger_keys.clone(), config.witnesses.clone(), seen),
            config,
            random: seed,
            state: State::Waiting(now),
            attempts: 0,
            failures: 0,
            stopping: false,
            transmit: VecDeque::new(),
            effects: VecDeque::new(),
            events: VecDeque::new(),
        }
    }

    /// The next bytes for the connection's stream. Call it only when the transport takes them: what is not
    /// called for is the back-pressure.
    pub fn poll_transmit(&mut self) -> Option<(ConnectionId, Vec<u8>)> {
        let id = self.connection()?;
        let bytes = self.transmit.pop_front()?;
        Some((id, bytes))
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self, now: BootNanos, spool: &Spool) -> Option<AgentEffect> {
        if self.effects.is_empty() {
            self.drive(now, spool);
        }
        self.effects.pop_front()
    }

    /// Something to show and count.
    pub fn poll_event(&mut self) -> Option<AgentEvent> {
        self.events.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNanos> {
        let connection = match &self.state {
            State::Waiting(at) => Some(*at),
            State::Connecting { deadline, .. } => Some(*deadline),
            State::Open(connection) => Some(connection.next_timeout(&self.config)),
            State::Halted | State::Finished => None,
        };
        [connection, self.trust.retry_at()].into_iter().flatten().min()
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: BootNanos) {
        if self.trust.retry_at().is_some_and(|at| now >= at) {
            self.remember();
        }
        match &mut self.state {
            State::Connecting { deadline, .. } if now >= *deadline => {
                self.end(now, EndReason::ConnectTimeout);
            }
            State::Open(connection) if now >= connection.idle_at(&self.config) => {
                self.end(now, EndReason::Idle);
            }
            State::Open(connection) if now >= connection.keepalive_at(&self.config) => {
                connection.sent_at = now;
                self.send(&Message::Ping);
            }
            _ => {}
        }
    }

    /// The stream of this attempt is open.
    pub fn handle_connected(&mut self, now: BootNanos, id: ConnectionId, spool: &Spool) {
        if !matches!(self.state, State::Connecting { id: awaited, .. } if awaited == id) {
            return;
        }
        self.state = State::Open(Connection::new(id, now));
        let seen = self.trust.seen();
        self.send(&Message::Hello(Hello {
            version: PROTOCOL_VERSION,
            host: spool.host(),
            agent_version: self.config.agent_version.clone(),
            next: spool.head().next_sequence,
            head: spool.head().hash,
            oldest: self.trust.proven_next().max(spool.oldest()),
            seen_size: seen.size,
            seen_root: seen.root,
        }));
    }

    /// The attempt failed or the connection is gone.
    pub fn handle_disconnected(&mut self, now: BootNanos, id: ConnectionId) {
        if self.connection() == Some(id) {
            self.end(now, EndReason::Lost);
        }
    }

    /// Bytes came on the stream.
    pub fn handle_bytes(&mut self, now: BootNanos, id: ConnectionId, bytes: &[u8], spool: &Spool) {
        match &mut self.state {
            State::Open(connection) if connection.id == id => {
                connection.heard_at = now;
                connection.decoder.push(bytes);
            }
            _ => return,
        }
        loop {
            let State::Open(connection) = &mut self.state else {
                return;
            };
            match connection.decoder.next_message() {
                Ok(Some(message)) => self.handle_message(now, message, spool),
                Ok(None) => return,
                Err(bad) => return self.end(now, EndReason::Garbage(bad)),
            }
        }
    }

    /// A batch was read back from the spool.
    pub fn handle_loaded(
        &mut self,
        now: BootNanos,
        sequence: Sequence,
        header: &[u8],
        body: &[u8],
        spool: &Spool,
    ) {
        let State::Open(connection) = &mut self.state else {
            return;
        };
        match connection.loaded(sequence, header, body) {
            Ok(None) => {}
            Ok(Some(message)) => {
                connection.sent_at = now;
                self.send(&message);
                self.drive(now, spool);
            }
            Err(fault) => self.halt(fault, Vec::new()),
        }
    }

    /// A batch could not be read back: its record is damaged. Give it to [`Spool::handle_damaged`] as well.
    pub fn handle_load_failed(&mut self, sequence: Sequence) {
        if let State::Open(connection) = &mut self.state
            && connection.loading == Some(sequence)
        {
            self.halt(AgentFault::SpoolMissing { sequence }, Vec::new());
        }
    }

    /// A batch was proven and trimmed while it was being read: go on behind it.
    pub fn handle_load_obsolete(&mut self, sequence: Sequence, spool: &Spool) {
        if let State::Open(connection) = &mut self.state {
            connection.load_obsolete(sequence, spool);
        }
    }

    /// The checkpoint of the last [`AgentEffect::Remember`] is durable.
    pub fn handle_remembered(&mut self) {
        if let Some(through) = self.trust.handle_remembered() {
            self.effects.push_back(AgentEffect::Trim { through });
        }
        self.remember();
    }

    /// What of the ledger is remembered durably, for the spool's head: changes with [`Self::handle_remembered`].
    #[must_use]
    pub fn mark(&self) -> LedgerMark {
        self.trust.mark()
    }

    /// The checkpoint of the last [`AgentEffect::Remember`] could not be made durable: it is asked for again.
    pub fn handle_remember_failed(&mut self, now: BootNanos) {
        self.trust.handle_remember_failed(now);
    }

    /// Ship what the spool holds, say goodbye, finish.
    pub fn handle_stop(&mut self) {
        self.stopping = true;
    }

    /// Whether an orderly stop is complete.
    #[must_use]
    pub fn finished(&self) -> bool {
        matches!(self.state, State::Finished)
    }

    /// Whether the session halted for a fault: nothing is sent any more until the agent restarts.
    #[must_use]
    pub fn halted(&self) -> bool {
        matches!(self.state, State::Halted)
    }

    /// Whether a session is open and the collector answered.
    #[must_use]
    pub fn shipping(&self) -> bool {
        matches!(
            &self.state,
            State::Open(Connection {
                phase: Phase::Shipping { .. },
                ..
            })
        )
    }

    /// The last checkpoint verified.
    #[must_use]
    pub fn seen(&self) -> &Seen {
        self.trust.seen()
    }

    fn connection(&self) -> Option<ConnectionId> {
        match &self.state {
            State::Connecting { id, .. } => Some(*id),
            State::Open(connection) => Some(connection.id),
            _ => None,
        }
    }

    fn handle_message(&mut self, now: BootNanos, message: Message, spool: &Spool) {
        let State::Open(connection) = &mut self.state else {
            return;
        };
        let awaiting_welcome = matches!(connection.phase, Phase::AwaitWelcome);
        match message {
            Message::Welcome(welcome) if awaiting_welcome => {
                if welcome.version != PROTOCOL_VERSION {
                    return self.end(now, EndReason::Version(welcome.version));
                }
                if let Err(fault) = connection::check_welcome(&welcome, spool) {
                    return self.halt(fault, Message::Welcome(welcome).encode().unwrap_or_default());
                }
                connection.start(&welcome);
                self.effects.push_back(AgentEffect::Nonce(welcome.nonce));
                self.note(AgentEvent::Opened { next: welcome.next });
            }
            Message::Refused(refusal) => {
                self.note(AgentEvent::Refused(refusal.clone()));
                if refusal.fatal {
                    self.end(now, EndReason::Refused(refusal.code));
                }
            }
            Message::Stored { through } if !awaiting_welcome => match connection.stored(through, spool) {
                Ok(()) => {
                    self.failures = 0;
                    self.note(AgentEvent::Stored { through });
                }
                Err(what) => self.end(now, EndReason::Misplaced(what)),
            },
            Message::Receipts(receipts) if !awaiting_welcome => match self.trust.verify(&receipts, spool) {
                Ok(quorum) => {
                    self.failures = 0;
                    let (before, size) = (self.trust.covered_next(), self.trust.seen().size);
                    if let Some(quorum) = quorum {
                        self.note(AgentEvent::Judged { size, quorum });
                    }
                    self.note(AgentEvent::Proven { before, size });
                    self.remember();
                }
                Err(trust::Untrue::Lie(fault)) => {
                    self.halt(fault, Message::Receipts(receipts).encode().unwrap_or_default());
                }
                Err(trust::Untrue::Misplaced(what)) => self.end(now, EndReason::Misplaced(what)),
            },
            Message::Keys(history) if !awaiting_welcome => self.handle_keys(history),
            Message::Nonce(nonce) if !awaiting_welcome => self.effects.push_back(AgentEffect::Nonce(nonce)),
            Message::Credit(window) if !awaiting_welcome => connection.set_window(window),
            other => self.end(now, EndReason::Misplaced(other.name())),
        }
    }

    fn handle_keys(&mut self, history: Vec<u8>) {
        match self.trust.learn(&history) {
            Ok(changes) => {
                for change in changes {
                    self.note(AgentEvent::KeyChanged(Box::new(change)));
                }
                self.remember();
            }
            Err(fault) => {
                let held = self.trust.history();
                let offending = Message::Keys(history).encode().unwrap_or_default();
                self.halt_beside(AgentFault::Keys(fault), held, offending);
            }
        }
    }

    /// Whatever can be done now without new input.
    fn drive(&mut self, now: BootNanos, spool: &Spool) {
        match &mut self.state {
            State::Waiting(_) if self.stopping && spool.batches() == 0 => self.finish(),
            State::Waiting(at) if now >= *at => {
                self.attempts += 1;
                let id = ConnectionId(self.attempts);
                self.state = State::Connecting {
                    id,
                    deadline: BootNanos(now.0.saturating_add(self.config.connect_ns)),
                };
                self.effects.push_back(AgentEffect::Connect(id));
            }
            State::Open(connection) => {
                if self.transmit.len() >= TRANSMIT_QUEUE_MAX {
                    return;
                }
                match connection.next_load(spool) {
                    Ok(Some((sequence, place))) => {
                        self.effects.push_back(AgentEffect::Load { sequence, place });
                    }
                    Ok(None) if self.stopping && connection.all_stored(spool) => {
                        let id = connection.id;
                        self.send(&Message::Bye);
                        self.effects.push_back(AgentEffect::Disconnect(id));
                        self.finish();
                    }
                    Ok(None) => {}
                    Err(fault) => self.halt(fault, Vec::new()),
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self) {
        self.state = State::Finished;
        self.note(AgentEvent::Finished);
    }

    fn send(&mut self, message: &Message) {
        match message.encode() {
            Ok(bytes) => self.transmit.push_back(bytes),
            Err(bad) => self.note(AgentEvent::Unsendable(bad)),
        }
    }

    fn remember(&mut self) {
        self.effects
            .extend(self.trust.poll_remember().map(|writing| match writing {
                Writing::Keys(history) => AgentEffect::RememberKeys { history },
                Writing::Checkpoint(checkpoint) => AgentEffect::Remember { checkpoint },
            }));
    }

    /// Ends the connection and plans the next one.
    fn end(&mut self, now: BootNanos, reason: EndReason) {
        let wait = self.backoff(&reason);
        self.leave(State::Waiting(BootNanos(now.0.saturating_add(wait))));
        self.failures = self.failures.saturating_add(1);
        self.note(AgentEvent::Ended {
            reason,
            retry_in_ns: wait,
        });
    }

    /// Ends everything: the spool is kept, nothing is trimmed, an operator must look.
    fn halt(&mut self, fault: AgentFault, offending: Vec<u8>) {
        let remembered = self.trust.seen().note.clone();
        self.halt_beside(fault, remembered, offending);
    }

    fn halt_beside(&mut self, fault: AgentFault, remembered: Vec<u8>, offending: Vec<u8>) {
        self.leave(State::Halted);
        self.effects.push_back(AgentEffect::Evidence {
            fault: fault.clone(),
            remembered,
            offending,
        });
        self.note(AgentEvent::Halted(fault));
    }

    fn leave(&mut self, next: State) {
        if let Some(id) = self.connection() {
            self.effects.push_back(AgentEffect::Disconnect(id));
        }
        self.transmit.clear();
        self.state = next;
    }

    /// Exponential, with a random part so that a fleet does not come back all at once, nanoseconds.
    fn backoff(&mut self, reason: &EndReason) -> u64 {
        let doubled = self
            .config
            .backoff_min_ns
            .saturating_mul(1 << self.failures.min(20));
        let full = match reason {
            // Repeating what was refused for good helps nobody soon.
            EndReason::Refused(code) if !code.passes() => self.config.backoff_max_ns,
            _ => doubled.min(self.config.backoff_max_ns),
        };
        full / 2 + self.next_random() % (full / 2 + 1)
    }

    /// SplitMix64: enough to spread retries, not for secrets.
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn note(&mut self, event: AgentEvent) {
        if self.events.len() == EVENTS_MAX {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}

impl From<BadMessage> for EndReason {
    fn from(bad: BadMessage) -> Self {
        Self::Garbage(bad)
    }
}
