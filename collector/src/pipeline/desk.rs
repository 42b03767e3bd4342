//! The pipeline's front desk: connections on one side, the sequencer on the other.
//!
//! Owns which connection speaks for a host and what each is told; hands what it sees to the watchman. Everything
//! here is quick but for reading a stored header when a batch comes again.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use common::{
    ids::{BootNanos, Hash, HostId, Nonce, Sequence},
    sequencer::{Admission, Admitted, CheckedBatch, Group, Rejected, Sequencer, SequencerFailed},
    session::{Opening, Refusal, RefusalCode},
};
use ledger::Reader;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    ConnectionId, Input, Submission,
    retaining::{AwaitDurable, Retained, Retaining},
    stating::{Stating, read_clocks},
};
use crate::{
    evidence::{Evidence, EvidenceStore},
    mailbox::Mailbox,
    metrics::Metrics,
    reasons,
};

/// The connection that speaks for a host.
struct Speaker {
    connection: ConnectionId,
    mailbox: Mailbox,
}

pub(super) struct Desk {
    pub(super) sequencer: Sequencer,
    stating: Stating,
    reader: Reader,
    metrics: Arc<Metrics>,
    evidence: EvidenceStore,
    speakers: HashMap<HostId, Speaker>,
    /// Shares of the bytes in flight, by host in order of sequence, given back when the batch is stored. They
    /// outlive the connection, as the batches do.
    permits: HashMap<HostId, VecDeque<(Sequence, OwnedSemaphorePermit)>>,
    /// What retention had stated and is not durable yet, in order.
    retaining: VecDeque<AwaitDurable>,
    /// Whether agents were told that there is no room.
    paused: bool,
    /// Whether room is missing because too many leaves wait for a checkpoint, not because the disk is full.
    pub(super) backlog: bool,
}

impl Desk {
    pub(super) fn new(
        sequencer: Sequencer,
        stating: Stating,
        reader: Reader,
        metrics: Arc<Metrics>,
        evidence: EvidenceStore,
    ) -> Self {
        Self {
            sequencer,
            stating,
            reader,
            metrics,
            evidence,
            speakers: HashMap::new(),
            permits: HashMap::new(),
            retaining: VecDeque::new(),
            paused: false,
            backlog: false,
        }
    }

    pub(super) fn handle(&mut self, at: BootNanos, input: Input) {
        match input {
            Input::Open {
                host,
                connection,
                agent,
                nonce,
                mailbox,
            } => {
                self.look_at_opening(&host, agent);
                self.stating.watchman.handle_nonce(read_clocks(at), host, nonce);
                self.open(host, connection, nonce, mailbox);
            }
            Input::Nonce { host, nonce } => {
                self.stating.watchman.handle_nonce(read_clocks(at), host, nonce);
            }
            Input::Register(list) => {
                self.stating.watchman.handle_register(read_clocks(at), &list);
                self.dismiss_ended();
            }
            Input::Submit(submission) => self.submit(at, *submission),
            Input::Closed { host, connection } => {
                if self.speaks(&host, connection) {
                    self.speakers.remove(&host);
                }
            }
            Input::Retain(asked) => self.retain(at, *asked),
            // Looked at before the next step, or before this.
            Input::Done | Input::PruneFailed(_) | Input::Stop => {}
        }
    }

    /// Takes what the watchman has to say into the sequencer.
    pub(super) fn say(&mut self, at: BootNanos) {
        self.stating.say(read_clocks(at), &mut self.sequencer);
        let watchman = &self.stating.watchman;
        self.metrics.hosts_silent.set(watchman.silent());
        self.metrics.contradictions_unstated.set(watchman.unsaid());
        let holds = self.stating.holds.in_force().len();
        self.metrics.legal_holds.set(holds as u64);
    }

    /// States what retention asks for; it is told once that is durable.
    fn retain(&mut self, at: BootNanos, asked: Retaining) {
        let Retaining { what, reply } = asked;
        let stated = self
            .stating
            .retain(read_clocks(at), what, &mut self.sequencer)
            .map(|number| Retained {
                number,
                holds: self.stating.holds.clone(),
            });
        match stated {
            Ok(
                told @ Retained {
                    number: Some(number), ..
                },
            ) => {
                self.retaining.push_back(AwaitDurable { number, told, reply });
            }
            // Whoever asked may be gone.
            other => drop(reply.try_send(other)),
        }
    }

    /// When something is due although nothing came in.
    pub(super) fn poll_timeout(&self) -> BootNanos {
        let watchman = self.stating.watchman.poll_timeout();
        self.sequencer
            .poll_timeout()
            .map_or(watchman, |due| due.min(watchman))
    }

    /// Holds an agent's account of its chain against the ledger's.
    fn look_at_opening(&mut self, host: &HostId, agent: (Sequence, Hash)) {
        let (next, head, _) = self.sequencer.position(host);
        let before = agent.0.0.checked_sub(1).filter(|_| agent.0 <= next);
        let shared = before.and_then(|before| {
            let record = self.reader.find(host, Sequence(before)).ok()??;
            self.reader.header(record.leaf).ok()
        });
        let shared = shared.map(|header| Hash::of(&header));
        if before.is_some() && shared.is_none() {
            // Our own ledger cannot be read: that is no word against the host.
            return;
        }
        self.stating
            .watchman
            .handle_opening(*host, agent, (next, head), shared);
    }

    /// Ends the sessions of hosts whose end was declared.
    fn dismiss_ended(&mut self) {
        for (host, speaker) in &self.speakers {
            if self.stating.watchman.has_ended(host) {
                speaker.mailbox.refused(ended(None));
                self.metrics.refuse(reasons::word(RefusalCode::Ended));
            }
        }
    }

    fn open(&mut self, host: HostId, connection: ConnectionId, nonce: Nonce, mailbox: Mailbox) {
        let (next, head, published_before) = self.sequencer.position(&host);
        mailbox.post(|letters| {
            letters.opening = Some(Opening {
                next,
                head,
                published_before,
                published_size: self.sequencer.published_size(),
                nonce,
            });
        });
        if self.paused {
            mailbox.refused(self.no_space());
        }
        let speaker = Speaker { connection, mailbox };
        if let Some(before) = self.speakers.insert(host, speaker) {
            self.metrics.refuse(reasons::word(RefusalCode::Replaced));
            let text = "a newer connection of this host took over";
            before
                .mailbox
                .refused(Refusal::fatal(RefusalCode::Replaced, None, text));
        }
    }

    fn submit(&mut self, at: BootNanos, submission: Submission) {
        let Submission {
            connection,
            batch,
            peer,
            permit,
        } = submission;
        let fields = batch.header().fields();
        let (host, sequence) = (fields.host, fields.sequence);
        // What a replaced connection still had under way comes again on the newer one.
        if !self.speaks(&host, connection) {
            return;
        }
        if self.stating.watchman.has_ended(&host) {
            self.metrics.refuse(reasons::word(RefusalCode::Ended));
            return self.tell(&host, |mailbox| mailbox.refused(ended(Some(sequence))));
        }
        let header = batch.header().bytes().to_vec();
        let (fields, hash) = (fields.clone(), batch.header().hash());
        let judged = match self.sequencer.admit(at, batch) {
            Ok(Admission::Accepted) => {
                self.stating.watchman.handle_batch(read_clocks(at), &fields, hash);
                self.permits
                    .entry(host)
                    .or_default()
                    .push_back((sequence, permit));
                return;
            }
            // Named once it is stored; this permit goes back, the first one's stays.
            Ok(Admission::Waiting) => {
                self.metrics.batches_repeated.add(1);
                return;
            }
            Ok(Admission::Lookup(batch)) => self.judge_again(&host, sequence, &batch),
            Err(rejected) => Err(rejected),
        };
        match judged {
            Ok(()) => {
                self.metrics.batches_repeated.add(1);
                self.tell(&host, |mailbox| mailbox.stored(sequence));
            }
            Err(rejected) => {
                if matches!(rejected.refusal.code, RefusalCode::Busy | RefusalCode::Internal) {
                    self.stating.watchman.handle_deaf(read_clocks(at));
                }
                self.reject(&host, sequence, header, rejected, &peer);
            }
        }
    }

    /// Holds a batch against the one stored under its sequence.
    fn judge_again(&self, host: &HostId, sequence: Sequence, batch: &CheckedBatch) -> Result<(), Rejected> {
        let stored = self
            .reader
            .find(host, sequence)
            .and_then(|found| found.map(|record| self.reader.header(record.leaf)).transpose());
        match stored {
            Ok(Some(header)) => Sequencer::judge_stored(batch, &header),
            other => {
                // Ours to fix: the ledger cannot show what it acknowledged.
                let text = match other {
                    Err(error) => error.to_string(),
                    Ok(_) => "the stored batch is not indexed".to_owned(),
                };
                tracing::error!(%host, %sequence, error = %text, "a stored batch cannot be read");
                Err(Rejected {
                    refusal: Refusal::fatal(RefusalCode::Internal, Some(sequence), &text),
                    offending: Vec::new(),
                    held: Vec::new(),
                })
            }
        }
    }

    fn reject(&mut self, host: &HostId, sequence: Sequence, header: Vec<u8>, rejected: Rejected, peer: &str) {
        let Rejected { refusal, held, .. } = rejected;
        let word = reasons::word(refusal.code);
        self.metrics.refuse(word);
        tracing::warn!(%host, %sequence, peer, reason = word, text = refusal.text, "batch refused");
        if reasons::concerns_chain(refusal.code) {
            let before = self.header_before(host, sequence).filter(|_| held.is_empty());
            if let Some(contradicted) = before.as_ref().or(Some(&held)).filter(|held| !held.is_empty()) {
                let watchman = &mut self.stating.watchman;
                watchman.handle_contradiction(*host, contradicted, &header);
            }
            let mut files = vec![("offered.header", header)];
            if !held.is_empty() {
                files.push(("stored.header", held));
            } else if let Some(previous) = before {
                // Beside a header that continues another history, the one it should have continued.
                files.push(("stored.previous.header", previous));
            }
            let evidence = Evidence {
                reason: word,
                text: refusal.text.clone(),
                host: *host,
                sequence: Some(sequence),
                peer: peer.to_owned(),
                at: jiff::Timestamp::now().to_string(),
                files,
            };
            if let Err(error) = self.evidence.keep(&evidence) {
                tracing::error!(%error, "evidence not kept");
            }
        }
        self.tell(host, |mailbox| mailbox.refused(refusal));
    }

    fn header_before(&self, host: &HostId, sequence: Sequence) -> Option<Vec<u8>> {
        let before = Sequence(sequence.0.checked_sub(1)?);
        let record = self.reader.find(host, before).ok()??;
        self.reader.header(record.leaf).ok()
    }

    /// Passes on what a step brought.
    pub(super) fn announce(&mut self) {
        while let Some((host, through)) = self.sequencer.poll_stored() {
            if let Some(permits) = self.permits.get_mut(&host) {
                while permits
                    .pop_front_if(|(sequence, _)| *sequence <= through)
                    .is_some()
                {}
                if permits.is_empty() {
                    self.permits.remove(&host);
                }
            }
            self.tell(&host, |mailbox| mailbox.stored(through));
        }
        while let Some(number) = self.sequencer.poll_stated() {
            self.stating.durable(number);
            while let Some(durable) = self.retaining.pop_front_if(|waits| waits.number <= number) {
                let _ = durable.reply.try_send(Ok(durable.told));
            }
        }
        while let Some((host, before)) = self.sequencer.poll_published() {
            self.tell(&host, |mailbox| mailbox.published(before));
        }
        let full = self.sequencer.no_space();
        if full != self.paused {
            self.paused = full;
            self.metrics.paused.set(u64::from(full));
            if full {
                self.metrics.refuse(reasons::word(RefusalCode::NoSpace));
                tracing::error!(why = self.no_room(), "batches wait at the agents");
                for speaker in self.speakers.values() {
                    speaker.mailbox.refused(self.no_space());
                }
            } else {
                tracing::info!("there is space for the ledger again");
            }
        }
    }

    pub(super) fn tell_failure(&self, failed: &SequencerFailed) {
        for speaker in self.speakers.values() {
            speaker
                .mailbox
                .refused(Refusal::fatal(RefusalCode::Internal, None, &failed.to_string()));
        }
    }

    pub(super) fn count_stored(&self, group: &Group) {
        for batch in group.batches() {
            let fields = batch.header().fields();
            self.metrics.batches_stored.add(1);
            self.metrics.events_stored.add(u64::from(fields.event_count));
            self.metrics.event_bytes_stored.add(u64::from(fields.body_bytes));
        }
        for entry in &group.entries {
            if let Admitted::Statement(statement) = entry {
                let kind = statement.fields().said.kind();
                self.metrics.state(kind.name().unwrap_or("other"));
            }
        }
    }

    fn speaks(&self, host: &HostId, connection: ConnectionId) -> bool {
        self.speakers
            .get(host)
            .is_some_and(|speaker| speaker.connection == connection)
    }

    fn tell(&self, host: &HostId, say: impl FnOnce(&Mailbox)) {
        if let Some(speaker) = self.speakers.get(host) {
            say(&speaker.mailbox);
        }
    }

    fn no_room(&self) -> &'static str {
        if self.backlog {
            "too many of the collector's leaves wait for a checkpoint; keep your batches, they are taken again \
             once one is published"
        } else {
            "the collector's disk is full; keep your batches, they are taken when there is room"
        }
    }

    fn no_space(&self) -> Refusal {
        Refusal::notice(RefusalCode::NoSpace, None, self.no_room())
    }
}

fn ended(sequence: Option<Sequence>) -> Refusal {
    let text =
        "an operator declared that this host has ended; a host that lives on is enrolled with a new key";
    Refusal::fatal(RefusalCode::Ended, sequence, text)
}
