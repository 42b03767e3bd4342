//! The collector's sessions and sequencer behind one door, as the collector's tasks and threads join them, but
//! in one thread and in virtual time.
//!
//! Owns which connection speaks for a host (the newest one) and who is told what. Refuses what needs a
//! network, ledger or randomness: those are [`IntakeEffect`]s. After any input poll everything until nothing
//! comes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use common::{
    batch::HeaderFields,
    ids::{BootNanos, Hash, HostId, LeafIndex, Nonce, Sequence},
    sequencer::{Admission, CheckedBatch, Group, Rejected, Sequencer, Step, StepError},
    session::{
        CollectorConfig, CollectorEffect, CollectorSession, ConnectionId, Opening, Receipts, Refusal,
        RefusalCode,
    },
};

/// What the driver must do.
#[derive(Debug)]
pub(crate) enum IntakeEffect {
    /// Run [`common::sequencer::check_batch`] and answer with [`Intake::handle_checked`]. Checks may run in
    /// parallel; those of one connection are answered in order.
    Check {
        /// Which connection.
        connection: ConnectionId,
        /// The host that its certificate names.
        host: HostId,
        /// The signed header, unverified.
        header: Vec<u8>,
        /// The body, unverified.
        body: Vec<u8>,
    },
    /// Read the header that the ledger holds for this batch's host and sequence, and answer with
    /// [`Intake::handle_found`].
    Lookup {
        /// Which connection.
        connection: ConnectionId,
        /// The batch that came.
        batch: Box<CheckedBatch>,
    },
    /// Carry it out on the ledger and answer with [`Intake::handle_commit`] or [`Intake::handle_publish`].
    Ledger(Step),
    /// Make receipts under the published checkpoint and answer with [`Intake::handle_receipts`].
    Prove {
        /// Which connection.
        connection: ConnectionId,
        /// Whose batches.
        host: HostId,
        /// The first.
        from: Sequence,
        /// The last.
        through: Sequence,
        /// Size of the checkpoint that the consistency proof starts from.
        since_size: u64,
    },
    /// Draw a nonce at random and answer with [`Intake::handle_nonce`].
    DrawNonce {
        /// Which connection.
        connection: ConnectionId,
        /// Whose agent gets it.
        host: HostId,
    },
    /// An agent said hello: for the watchman.
    Opened {
        /// Whose.
        host: HostId,
        /// Its next batch and the hash of its last header.
        agent: (Sequence, Hash),
    },
    /// A batch was admitted: for the watchman.
    Admitted {
        /// Its header.
        header: Box<HeaderFields>,
        /// The hash of its signed header.
        hash: Hash,
    },
    /// Too much waits: whoever is not heard now is not silent.
    Deaf,
    /// Keep for an auditor: signed headers that cannot stand beside each other.
    Evidence {
        /// Whose batch it is.
        host: HostId,
        /// What and why.
        rejected: Rejected,
    },
    /// Transmit what is left for at most a second, then close and call [`Intake::handle_disconnected`].
    Close {
        /// Which connection.
        connection: ConnectionId,
    },
}

/// The machine.
#[derive(Debug)]
pub(crate) struct Intake {
    config: CollectorConfig,
    sequencer: Sequencer,
    sessions: BTreeMap<ConnectionId, CollectorSession>,
    by_host: BTreeMap<HostId, ConnectionId>,
    opening: BTreeSet<ConnectionId>,
    effects: VecDeque<IntakeEffect>,
}

impl Intake {
    /// An intake without connections over a restored sequencer.
    #[must_use]
    pub(crate) fn new(config: CollectorConfig, sequencer: Sequencer) -> Self {
        Self {
            config,
            sequencer,
            sessions: BTreeMap::new(),
            by_host: BTreeMap::new(),
            opening: BTreeSet::new(),
            effects: VecDeque::new(),
        }
    }

    /// The sequencer, to look at. Once it failed the process must end.
    #[must_use]
    pub(crate) fn sequencer(&self) -> &Sequencer {
        &self.sequencer
    }

    /// The sequencer, for statements.
    pub(crate) fn sequencer_mut(&mut self) -> &mut Sequencer {
        &mut self.sequencer
    }

    /// A connection whose certificate names `host`; it replaces the host's older one once it said hello.
    pub(crate) fn handle_connected(&mut self, now: BootNanos, connection: ConnectionId, host: HostId) {
        let session = CollectorSession::new(self.config.clone(), host, now);
        self.sessions.insert(connection, session);
    }

    /// Bytes came on the connection's stream.
    pub(crate) fn handle_bytes(&mut self, now: BootNanos, connection: ConnectionId, bytes: &[u8]) {
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.handle_bytes(now, bytes);
            self.route(connection);
        }
    }

    /// The connection is gone.
    pub(crate) fn handle_disconnected(&mut self, connection: ConnectionId) {
        self.opening.remove(&connection);
        if let Some(session) = self.sessions.remove(&connection)
            && self.by_host.get(&session.host()) == Some(&connection)
        {
            self.by_host.remove(&session.host());
        }
    }

    /// Time passed.
    pub(crate) fn handle_timeout(&mut self, now: BootNanos) {
        let due: Vec<ConnectionId> = self
            .sessions
            .iter()
            .filter(|(_, session)| session.poll_timeout().is_some_and(|at| now >= at))
            .map(|(connection, _)| *connection)
            .collect();
        for connection in due {
            if let Some(session) = self.sessions.get_mut(&connection) {
                session.handle_timeout(now);
                self.route(connection);
            }
        }
    }

    /// The outcome of a check.
    pub(crate) fn handle_checked(
        &mut self,
        now: BootNanos,
        connection: ConnectionId,
        result: Result<CheckedBatch, Refusal>,
    ) {
        // A connection that is gone, or was told off, has nothing more to say: what it sent before is
        // either admitted or sent again.
        if self
            .sessions
            .get(&connection)
            .is_none_or(CollectorSession::closed)
        {
            return;
        }
        let batch = match result {
            Ok(batch) => batch,
            Err(refusal) => return self.refuse(connection, refusal),
        };
        let (header, hash) = (Box::new(batch.header().fields().clone()), batch.header().hash());
        match self.sequencer.admit(now, batch) {
            Ok(Admission::Accepted) => self.effects.push_back(IntakeEffect::Admitted { header, hash }),
            Ok(Admission::Waiting) => {}
            Ok(Admission::Lookup(batch)) => {
                self.effects.push_back(IntakeEffect::Lookup { connection, batch })
            }
            Err(rejected) => self.reject(connection, rejected),
        }
    }

    /// The header that the ledger holds for the batch's host and sequence.
    pub(crate) fn handle_found(
        &mut self,
        connection: ConnectionId,
        batch: &CheckedBatch,
        stored_header: &[u8],
    ) {
        match Sequencer::judge_stored(batch, stored_header) {
            Ok(()) => {
                if let Some(session) = self.sessions.get_mut(&connection) {
                    session.handle_stored(batch.header().fields().sequence);
                    self.route(connection);
                }
            }
            Err(rejected) => self.reject(connection, rejected),
        }
    }

    /// See [`Sequencer::handle_commit`].
    pub(crate) fn handle_commit(&mut self, now: BootNanos, result: Result<LeafIndex, (StepError, Group)>) {
        let no_space = matches!(&result, Err((StepError::NoSpace, _)));
        self.sequencer.handle_commit(now, result);
        while let Some((host, through)) = self.sequencer.poll_stored() {
            self.tell(host, |session| session.handle_stored(through));
        }
        if no_space {
            self.tell_no_space();
        }
    }

    /// See [`Sequencer::handle_publish`].
    pub(crate) fn handle_publish(&mut self, now: BootNanos, result: Result<u64, StepError>) {
        self.sequencer.handle_publish(now, result);
        while let Some((host, before)) = self.sequencer.poll_published() {
            self.tell(host, |session| session.handle_published(before));
        }
    }

    /// The receipts asked for, with the size of their checkpoint.
    pub(crate) fn handle_receipts(&mut self, connection: ConnectionId, receipts: Option<(Receipts, u64)>) {
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.handle_receipts(receipts);
            self.route(connection);
        }
    }

    /// A nonce was drawn.
    pub(crate) fn handle_nonce(&mut self, now: BootNanos, connection: ConnectionId, nonce: Nonce) {
        let Some(session) = self.sessions.get_mut(&connection) else {
            return;
        };
        if self.opening.remove(&connection) {
            let (next, head, published_before) = self.sequencer.position(&session.host());
            session.handle_opening(
                now,
                &Opening {
                    next,
                    head,
                    published_before,
                    published_size: self.sequencer.published_size(),
                    nonce,
                },
            );
        } else {
            session.handle_nonce(nonce);
        }
        self.route(connection);
    }

    /// Tell every agent that the collector stops, then close.
    pub(crate) fn handle_stop(&mut self) {
        let all: Vec<ConnectionId> = self.sessions.keys().copied().collect();
        for connection in all {
            let text = "the collector stops";
            self.refuse(connection, Refusal::fatal(RefusalCode::Stopping, None, text));
        }
    }

    /// The next bytes for the stream of this connection.
    pub(crate) fn poll_transmit(&mut self, connection: ConnectionId) -> Option<Vec<u8>> {
        self.sessions.get_mut(&connection)?.poll_transmit()
    }

    /// The next thing to do.
    pub(crate) fn poll_effect(&mut self, now: BootNanos) -> Option<IntakeEffect> {
        self.effects
            .pop_front()
            .or_else(|| self.sequencer.poll_step(now).map(IntakeEffect::Ledger))
    }

    /// When to look again: call [`Self::handle_timeout`], then the polls.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<BootNanos> {
        self.sessions
            .values()
            .filter_map(CollectorSession::poll_timeout)
            .chain(self.sequencer.poll_timeout())
            .min()
    }

    fn tell(&mut self, host: HostId, what: impl FnOnce(&mut CollectorSession)) {
        let Some(connection) = self.by_host.get(&host).copied() else {
            return;
        };
        if let Some(session) = self.sessions.get_mut(&connection) {
            what(session);
            self.route(connection);
        }
    }

    fn tell_no_space(&mut self) {
        let all: Vec<HostId> = self.by_host.keys().copied().collect();
        for host in all {
            let text = "no space is left for the ledger; batches wait";
            let notice = Refusal::notice(RefusalCode::NoSpace, None, text);
            self.tell(host, |session| session.handle_refused(notice));
        }
    }

    fn refuse(&mut self, connection: ConnectionId, refusal: Refusal) {
        if let Some(session) = self.sessions.get_mut(&connection) {
            session.handle_refused(refusal);
            self.route(connection);
        }
    }

    fn reject(&mut self, connection: ConnectionId, rejected: Rejected) {
        let Some(host) = self.sessions.get(&connection).map(CollectorSession::host) else {
            return;
        };
        self.refuse(connection, rejected.refusal.clone());
        if matches!(rejected.refusal.code, RefusalCode::Busy | RefusalCode::Internal) {
            self.effects.push_back(IntakeEffect::Deaf);
        }
        if !rejected.offending.is_empty() {
            self.effects.push_back(IntakeEffect::Evidence { host, rejected });
        }
    }

    /// Carries out or passes on what a session asks for.
    fn route(&mut self, connection: ConnectionId) {
        while let Some(session) = self.sessions.get_mut(&connection) {
            let host = session.host();
            let Some(effect) = session.poll_effect() else {
                return;
            };
            let effect = match effect {
                CollectorEffect::Open(hello) => {
                    self.take_over(host, connection);
                    self.opening.insert(connection);
                    let agent = (hello.next, hello.head);
                    self.effects.push_back(IntakeEffect::Opened { host, agent });
                    IntakeEffect::DrawNonce { connection, host }
                }
                CollectorEffect::Submit { header, body } => IntakeEffect::Check {
                    connection,
                    host,
                    header,
                    body,
                },
                CollectorEffect::Prove {
                    from,
                    through,
                    since_size,
                } => IntakeEffect::Prove {
                    connection,
                    host,
                    from,
                    through,
                    since_size,
                },
                CollectorEffect::DrawNonce => IntakeEffect::DrawNonce { connection, host },
                CollectorEffect::Close(_) => IntakeEffect::Close { connection },
            };
            self.effects.push_back(effect);
        }
    }

    /// The newest connection of a host speaks for it; an older one is told so and closed.
    fn take_over(&mut self, host: HostId, connection: ConnectionId) {
        if let Some(older) = self.by_host.insert(host, connection)
            && older != connection
        {
            let text = "a newer connection of this host took over";
            self.refuse(older, Refusal::fatal(RefusalCode::Replaced, None, text));
        }
    }
}
