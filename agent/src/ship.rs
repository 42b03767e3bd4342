//! The shipper: carries batches to the collector over QUIC.
//!
//! Owns sockets, timers and files; every decision is [`common::session::AgentSession`]'s. TLS 1.3 with
//! certificates on both sides, no resumption, nothing sent early. Key files are read anew for each attempt, so
//! that a certificate can be replaced without a restart.

mod connection;
mod credentials;
mod evidence;
mod remembered;
mod tls;
mod witnesses;

pub use self::{
    connection::transport,
    tls::{TlsFiles, tls_files},
    witnesses::{Cosigned, PolicyFault, WitnessStatus, read_policy},
};
pub(crate) use self::{
    credentials::examine as examine_tls, evidence::examine as examine_evidence,
    remembered::examine as examine_remembered,
};

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use common::{
    ids::BootNanos,
    session::{AgentConfig, AgentEffect, AgentEvent, AgentSession, ConnectionId, EndReason},
    spool::{Place, open_record},
};
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, watch};

use self::{
    connection::{Incoming, Link},
    remembered::FilesError,
};
use crate::{
    clock::boot_now,
    config::{Collector, Layout},
    disk,
    pipeline::Pipeline,
    spool::read_record,
};

/// Events of connections waiting for the machine; a full queue holds the connection back.
const INCOMING_MAX: usize = 16;
/// Pause before files that cannot be used are read again.
const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// What the shipper shows of itself.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ShipStatus {
    /// Where batches go.
    pub collector: String,
    /// Whether a session is open.
    pub connected: bool,
    /// Batches before this one are durable at the collector.
    pub stored_before: u64,
    /// Batches before this one are proven to be in the ledger.
    pub proven_before: u64,
    /// Size of the last checkpoint verified.
    pub checkpoint_size: u64,
    /// What went wrong last, in words.
    pub last_fault: Option<String>,
    /// How often each kind of fault was met.
    pub faults: BTreeMap<String, u64>,
    /// Nothing is sent until an operator has looked.
    pub halted: bool,
    /// Who cosigned the last checkpoint; `None` where no witness is demanded.
    pub witnesses: Option<WitnessStatus>,
}

/// The shipper of one run.
pub struct Shipper {
    pipeline: Arc<Pipeline>,
    layout: Layout,
    collector: Collector,
    /// The file with the witnesses demanded.
    policy: Option<PathBuf>,
    status: watch::Sender<ShipStatus>,
    stop: watch::Receiver<bool>,
}

impl Shipper {
    /// A shipper that ends some time after `stop` turns true.
    #[must_use]
    pub fn new(
        pipeline: Arc<Pipeline>,
        layout: Layout,
        collector: Collector,
        policy: Option<PathBuf>,
        status: watch::Sender<ShipStatus>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        status.send_modify(|shown| shown.collector.clone_from(&collector.address));
        Self {
            pipeline,
            layout,
            collector,
            policy,
            status,
            stop,
        }
    }

    /// Ships until everything durable is stored after the stop; whoever cannot wait drops it.
    pub async fn run(mut self) {
        let session = loop {
            match self.session() {
                Ok(session) => break session,
                Err(error) => self.fault("files", &error.to_string()),
            }
            tokio::select! {
                () = tokio::time::sleep(RELOAD_EVERY) => {}
                stopped = self.stop.wait_for(|stop| *stop) => {
                    drop(stopped);
                    return;
                }
            }
        };
        let drive = Drive::new(self, session);
        drive.mark();
        drive.run().await;
    }

    fn session(&self) -> Result<AgentSession, FilesError> {
        let remembered = remembered::read(&self.layout, self.pipeline.lock().spool.mark())?;
        let (keys, seen) = (remembered.keys, remembered.seen);
        if let Some(forgotten) = remembered.forgotten {
            remembered::set_aside(&self.layout, &forgotten);
            self.fault("remembered", &forgotten.to_string());
        }
        let policy = self
            .policy
            .as_deref()
            .map(|path| read_policy(path, &keys))
            .transpose()?;
        self.status.send_modify(|shown| {
            shown.checkpoint_size = seen.size;
            shown.witnesses = policy.as_ref().map(|policy| WitnessStatus {
                missing: policy
                    .witnesses()
                    .iter()
                    .map(|one| one.key.name().to_owned())
                    .collect(),
                ..WitnessStatus::default()
            });
        });
        let mut seed = [0; 8];
        // Without randomness retries are spread less, nothing else.
        if getrandom::fill(&mut seed).is_err() {
            seed = boot_now().0.to_le_bytes();
        }
        let mut config = AgentConfig::new(env!("CARGO_PKG_VERSION"), keys);
        config.witnesses = policy;
        Ok(AgentSession::new(
            config,
            seen,
            u64::from_le_bytes(seed),
            boot_now(),
        ))
    }

    fn fault(&self, kind: &str, text: &str) {
        tracing::warn!(kind, "{text}");
        self.status.send_modify(|shown| {
            *shown.faults.entry(kind.to_owned()).or_default() += 1;
            shown.last_fault = Some(text.to_owned());
        });
    }
}

/// The loop around one session machine.
struct Drive {
    shipper: Shipper,
    session: AgentSession,
    incoming: mpsc::Receiver<Incoming>,
    sender: mpsc::Sender<Incoming>,
    link: Option<Link>,
    /// Taken from the machine and not yet by the connection.
    held: Option<(ConnectionId, Vec<u8>)>,
}

impl Drive {
    fn new(shipper: Shipper, session: AgentSession) -> Self {
        let (sender, incoming) = mpsc::channel(INCOMING_MAX);
        Self {
            shipper,
            session,
            incoming,
            sender,
            link: None,
            held: None,
        }
    }

    async fn run(mut self) {
        let mut stopping = false;
        let mut stop = self.shipper.stop.clone();
        loop {
            self.carry_out();
            self.transmit();
            self.show();
            if self.session.finished() {
                // The goodbye is on its way; the connection closes when its link is dropped.
                if let Some(link) = self.link.take() {
                    link.finish().await;
                }
                return;
            }
            let now = boot_now();
            let pause = self.session.poll_timeout().map_or(RELOAD_EVERY, |at| {
                Duration::from_nanos(at.0.saturating_sub(now.0))
            });
            let room = async {
                match (&self.held, &self.link) {
                    (Some(_), Some(link)) => link.room().await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                Some(incoming) = self.incoming.recv() => self.take(incoming),
                () = room => {}
                () = self.shipper.pipeline.durable.notified() => {}
                () = tokio::time::sleep(pause) => self.session.handle_timeout(boot_now()),
                _ = stop.wait_for(|stop| *stop), if !stopping => {
                    stopping = true;
                    self.session.handle_stop();
                }
            }
        }
    }

    fn carry_out(&mut self) {
        loop {
            let now = boot_now();
            let effect = {
                let state = self.shipper.pipeline.lock();
                self.session.poll_effect(now, &state.spool)
            };
            match effect {
                None => return,
                Some(AgentEffect::Connect(id)) => self.connect(id),
                Some(AgentEffect::Disconnect(id)) => {
                    if self.link.as_ref().is_some_and(|link| link.id() == id)
                        && let Some(link) = self.link.take()
                    {
                        tokio::spawn(link.finish());
                    }
                    self.held = None;
                }
                Some(AgentEffect::Load { sequence, place }) => self.load(sequence, &place),
                Some(AgentEffect::RememberKeys { history }) => {
                    let path = self.shipper.layout.learnt_keys();
                    self.remember(&path, &history, 0o644);
                }
                Some(AgentEffect::Remember { checkpoint }) => {
                    let path = self.shipper.layout.checkpoint();
                    self.remember(&path, &checkpoint, 0o600);
                }
                Some(AgentEffect::Trim { through }) => {
                    self.shipper.pipeline.lock().spool.trim(through);
                    self.shipper.pipeline.wake();
                }
                Some(AgentEffect::Nonce(nonce)) => self.shipper.pipeline.lock().journal.handle_nonce(nonce),
                Some(AgentEffect::Evidence {
                    fault,
                    remembered,
                    offending,
                }) => self.keep_evidence(&fault.to_string(), &remembered, &offending),
            }
        }
    }

    fn connect(&mut self, id: ConnectionId) {
        let sender = self.sender.clone();
        match tls::client(&self.shipper.layout) {
            Ok(config) => {
                let collector = self.shipper.collector.clone();
                self.link = Some(Link::open(id, config, collector, sender));
            }
            Err(error) => {
                self.shipper.fault("tls-files", &error.to_string());
                self.session.handle_disconnected(boot_now(), id);
            }
        }
    }

    fn take(&mut self, incoming: Incoming) {
        let now = boot_now();
        let state = self.shipper.pipeline.lock();
        match incoming {
            Incoming::Connected(id) => self.session.handle_connected(now, id, &state.spool),
            Incoming::Bytes(id, bytes) => self.session.handle_bytes(now, id, &bytes, &state.spool),
            Incoming::Gone(id, kind, text) => {
                drop(state);
                if self.link.as_ref().is_some_and(|link| link.id() == id) {
                    self.link = None;
                    self.shipper.fault(&kind, &text);
                }
                self.session.handle_disconnected(now, id);
            }
        }
    }

    fn load(&mut self, sequence: common::ids::Sequence, place: &Place) {
        let read = read_record(&self.shipper.layout.spool(), place);
        let opened = match &read {
            Ok(bytes) => open_record(bytes).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        let mut state = self.shipper.pipeline.lock();
        match opened {
            Ok(record) => {
                let (header, body) = (record.header, record.body);
                self.session
                    .handle_loaded(boot_now(), sequence, header, body, &state.spool);
            }
            // Trimmed while it was being read: the file is gone and nothing is missing.
            Err(_) if sequence < state.spool.oldest() => {
                self.session.handle_load_obsolete(sequence, &state.spool);
            }
            Err(error) => {
                state.spool.handle_damaged(sequence);
                drop(state);
                self.session.handle_load_failed(sequence);
                self.shipper
                    .fault("spool", &format!("batch {sequence} cannot be read back: {error}"));
            }
        }
    }

    /// A crash before this is durable leaves the old checkpoint, or the old keys, and nothing was trimmed on the new
    /// ones' word.
    fn remember(&mut self, path: &Path, bytes: &[u8], mode: u32) {
        match disk::replace(path, bytes, mode) {
            Ok(()) => {
                self.session.handle_remembered();
                self.mark();
            }
            // Nothing is trimmed meanwhile; it is asked for again.
            Err(error) => {
                self.session.handle_remember_failed(boot_now());
                self.shipper.fault(
                    "checkpoint",
                    &format!("{} cannot be remembered: {error}", path.display()),
                );
            }
        }
    }

    /// The spool's head knows what is remembered, so that a file which goes missing is missed.
    fn mark(&self) {
        self.shipper.pipeline.lock().spool.remember(self.session.mark());
        self.shipper.pipeline.wake();
    }

    fn keep_evidence(&mut self, fault: &str, remembered: &[u8], offending: &[u8]) {
        let place = match evidence::keep(&self.shipper.layout, fault, remembered, offending) {
            Ok(path) => format!("evidence in {}", path.display()),
            Err(error) => format!("evidence could not be kept: {error}"),
        };
        self.shipper.fault("halted", &format!("{fault}; {place}"));
    }

    fn transmit(&mut self) {
        loop {
            let Some((id, bytes)) = self.held.take().or_else(|| self.session.poll_transmit()) else {
                return;
            };
            match &self.link {
                Some(link) if link.id() == id => {
                    if let Err(bytes) = link.send(bytes) {
                        self.held = Some((id, bytes));
                        return;
                    }
                }
                // It belongs to a connection that is gone.
                _ => {}
            }
        }
    }

    fn show(&mut self) {
        let now = boot_now();
        while let Some(event) = self.session.poll_event() {
            self.show_event(event, now);
        }
        let (connected, halted) = (self.session.shipping(), self.session.halted());
        self.shipper.status.send_if_modified(|shown| {
            let changed = shown.connected != connected || shown.halted != halted;
            (shown.connected, shown.halted) = (connected, halted);
            changed
        });
    }

    fn show_event(&self, event: AgentEvent, now: BootNanos) {
        let status = &self.shipper.status;
        match event {
            AgentEvent::Opened { next } => tracing::info!(%next, "connected to the collector"),
            AgentEvent::Stored { through } => {
                self.shipper.pipeline.lock().lag.stored(through, now);
                status.send_modify(|shown| shown.stored_before = through.0.saturating_add(1));
            }
            AgentEvent::Proven { before, size } => {
                self.shipper.pipeline.lock().lag.proven(before, now);
                status.send_modify(|shown| (shown.proven_before, shown.checkpoint_size) = (before.0, size));
            }
            AgentEvent::Judged { size, quorum } => {
                let judged = WitnessStatus::of(size, quorum);
                let before = status.borrow().witnesses.clone();
                if let Some(text) = judged.complaint(before.as_ref()) {
                    self.shipper.fault("witnesses", &text);
                } else if judged.satisfied && before.is_some_and(|before| !before.satisfied) {
                    tracing::info!(size, "enough witnesses cosigned the collector's checkpoint");
                }
                status.send_modify(|shown| shown.witnesses = Some(judged));
            }
            AgentEvent::KeyChanged(change) => tracing::warn!(%change, "the ledger's key was changed"),
            AgentEvent::Refused(refusal) => {
                self.shipper.fault(
                    &format!("refused-{}", refusal.code.name().replace(' ', "-")),
                    &refusal.to_string(),
                );
            }
            AgentEvent::Ended { reason, retry_in_ns } => {
                let retry = Duration::from_nanos(retry_in_ns);
                // The transport has said more of a connection it lost, and a refusal was shown by itself.
                match reason {
                    EndReason::Lost | EndReason::Refused(_) => tracing::info!(?retry, "{reason}"),
                    reason => self.shipper.fault("session", &reason.to_string()),
                }
            }
            AgentEvent::Halted(fault) => tracing::error!("nothing is sent any more: {fault}"),
            AgentEvent::Unsendable(bad) => self.shipper.fault("unsendable", &bad.to_string()),
            AgentEvent::Finished => tracing::info!("everything is stored at the collector"),
        }
    }
}

#[cfg(test)]
mod own_files;
