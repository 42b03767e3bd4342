//! The agent's journal, spool and session joined as the agent's tasks join them, but in one thread and in
//! virtual time: from an event to a proven batch.
//!
//! Owns what holds between the three: a batch is sealed only when the spool takes it, sent only when it is
//! durable, trimmed only when its receipt was verified and remembered. Refuses what needs a kernel, disk,
//! socket or clock: those are [`ShipperEffect`]s. After any input, and after bytes were transmitted, poll
//! everything until nothing comes.

use common::{
    batch::SensorCounters,
    event::loss::LossCause,
    ids::{BootNanos, Sequence},
    journal::{ClockReading, Journal, Offered},
    session::{AgentEffect, AgentEvent, AgentSession, ConnectionId},
    spool::{DiskFault, Spool, SpoolEffect, open_record},
};

/// What the driver must do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ShipperEffect {
    /// Carry it out on the disk and answer with [`Shipper::handle_disk`]; in order, one at a time.
    Disk(SpoolEffect),
    /// Carry it out. Never [`AgentEffect::Trim`] or [`AgentEffect::Nonce`], which stay inside. A load is
    /// answered with [`Shipper::handle_read`].
    Session(AgentEffect),
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Shipper {
    journal: Journal,
    spool: Spool,
    session: AgentSession,
}

impl Shipper {
    /// Joins the three. `journal` must have been started behind `spool`'s head.
    #[must_use]
    pub(crate) fn new(journal: Journal, mut spool: Spool, session: AgentSession) -> Self {
        spool.remember(session.mark());
        Self {
            journal,
            spool,
            session,
        }
    }

    /// The spool, to look at.
    #[must_use]
    pub(crate) fn spool(&self) -> &Spool {
        &self.spool
    }

    /// The session, to look at.
    #[must_use]
    pub(crate) fn session(&self) -> &AgentSession {
        &self.session
    }

    /// Takes an encoded event.
    pub(crate) fn handle_event(&mut self, event: Vec<u8>, now: ClockReading) -> Offered {
        let cause = if self.spool.full() || self.spool.no_space() {
            LossCause::SpoolFull
        } else {
            LossCause::QueueFull
        };
        self.journal.offer(event, now, cause)
    }

    /// The journal, to replace its keys.
    pub(crate) fn journal(&mut self) -> &mut Journal {
        &mut self.journal
    }

    /// Whether a batch is due: drain the sensors, then call [`Self::seal`].
    #[must_use]
    pub(crate) fn seal_due(&self, now: BootNanos) -> bool {
        self.spool.ready() && self.journal.poll_timeout().is_some_and(|due| now >= due)
    }

    /// Seals a batch if one is due and gives it to the spool. `watched` is the instant up to which every
    /// sensor was drained, `sensors` their counters, ascending.
    pub(crate) fn seal(&mut self, watched: ClockReading, sensors: &[SensorCounters]) -> Result<(), String> {
        if !self.seal_due(watched.boot) {
            return Ok(());
        }
        if let Some(batch) = self
            .journal
            .poll_seal(watched, sensors)
            .map_err(|error| error.to_string())?
        {
            // A crash here forgets a signed batch that nobody saw; its events are as lost as those that wait.
            self.spool.append(&batch).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// The disk effect under way ended.
    pub(crate) fn handle_disk(&mut self, now: BootNanos, result: Result<(), DiskFault>) {
        match result {
            Ok(()) => self.spool.handle_done(),
            Err(fault) => self.spool.handle_failed(now, fault),
        }
        while let Some(sequence) = self.spool.poll_durable() {
            self.journal.handle_durable(sequence);
        }
        if self.journal.stopped() {
            self.session.handle_stop();
        }
    }

    /// See [`AgentSession::handle_connected`].
    pub(crate) fn handle_connected(&mut self, now: BootNanos, id: ConnectionId) {
        self.session.handle_connected(now, id, &self.spool);
    }

    /// See [`AgentSession::handle_disconnected`].
    pub(crate) fn handle_disconnected(&mut self, now: BootNanos, id: ConnectionId) {
        self.session.handle_disconnected(now, id);
    }

    /// See [`AgentSession::handle_bytes`].
    pub(crate) fn handle_bytes(&mut self, now: BootNanos, id: ConnectionId, bytes: &[u8]) {
        self.session.handle_bytes(now, id, bytes, &self.spool);
    }

    /// The record read for [`AgentEffect::Load`], as it lies in its segment; `None` where it cannot be read.
    pub(crate) fn handle_read(&mut self, now: BootNanos, sequence: Sequence, record: Option<&[u8]>) {
        match record.map(open_record) {
            Some(Ok(record)) if record.sequence == sequence => {
                self.session
                    .handle_loaded(now, sequence, record.header, record.body, &self.spool);
            }
            // Trimmed while it was being read: the file is gone and nothing is missing.
            _ if sequence < self.spool.oldest() => self.session.handle_load_obsolete(sequence, &self.spool),
            _ => {
                self.spool.handle_damaged(sequence);
                self.session.handle_load_failed(sequence);
            }
        }
    }

    /// The checkpoint of [`AgentEffect::Remember`] is durable, or the disk refused it.
    pub(crate) fn handle_remembered(&mut self, now: BootNanos, done: bool) {
        if done {
            self.session.handle_remembered();
            self.spool.remember(self.session.mark());
        } else {
            self.session.handle_remember_failed(now);
        }
    }

    /// Stop in order: seal and ship the rest.
    pub(crate) fn handle_stop(&mut self) {
        self.journal.handle_stop();
    }

    /// Time passed.
    pub(crate) fn handle_timeout(&mut self, now: BootNanos) {
        self.session.handle_timeout(now);
    }

    /// The next bytes for the stream of this connection.
    pub(crate) fn poll_transmit(&mut self) -> Option<(ConnectionId, Vec<u8>)> {
        self.session.poll_transmit()
    }

    /// The next thing to do.
    pub(crate) fn poll_effect(&mut self, now: BootNanos) -> Option<ShipperEffect> {
        loop {
            if let Some(effect) = self.spool.poll_effect(now) {
                return Some(ShipperEffect::Disk(effect));
            }
            match self.session.poll_effect(now, &self.spool)? {
                AgentEffect::Trim { through } => self.spool.trim(through),
                AgentEffect::Nonce(nonce) => self.journal.handle_nonce(nonce),
                effect => return Some(ShipperEffect::Session(effect)),
            }
        }
    }

    /// Something to show and count.
    pub(crate) fn poll_event(&mut self) -> Option<AgentEvent> {
        self.session.poll_event()
    }

    /// When to look again: call [`Self::handle_timeout`], then [`Self::seal_due`] and the polls.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<BootNanos> {
        let seal = self.journal.poll_timeout().filter(|_| self.spool.ready());
        [seal, self.spool.poll_timeout(), self.session.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Whether an orderly stop is complete: everything is sealed, durable here and at the collector.
    #[must_use]
    pub(crate) fn finished(&self) -> bool {
        self.session.finished() && self.spool.idle()
    }
}
