//! One agent's connection: drives its session machine between the stream, the pipeline and the ledger.
//!
//! One task owns the machine; what it awaits is awaited in one place. Owns the bounds of this connection: it
//! reads nothing more while its batches wait for a share of the bytes in flight, or while the agent does not
//! take what was written.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use common::{
    ids::{BootNanos, Nonce},
    sequencer::check_batch,
    session::{
        CloseReason, CollectorConfig, CollectorEffect, CollectorSession, Receipts, Refusal, RefusalCode,
        Window,
    },
    signature::LastKey,
    text::Text,
};
use quinn::{Connection, RecvStream, SendStream, VarInt};
use tokio::task::JoinHandle;
use tracing::{debug, warn};

use super::{
    close,
    outbox::Outbox,
    prove,
    queue::{Queue, Shared},
    server::Context,
};
use crate::{
    evidence::Evidence,
    mailbox::{Letters, Mailbox},
    pipeline::{ConnectionId, Input, Submission, now},
    pki::{self, PeerIdentity},
    reasons,
    stop::Stop,
};

/// Most pieces taken from the stream at a time: one for each packet, so that a turn of the loop is shared.
const CHUNKS: usize = 64;
/// Most batches whose receipts are made on the spot; making one takes less than handing it to another thread.
const PROVEN_HERE_MAX: u64 = 8;
/// How long the agent is given to take the last words.
const LINGER: Duration = Duration::from_secs(1);

static NEXT_CONNECTION: AtomicU64 = AtomicU64::new(0);

/// Serves one connection until it ends.
pub(super) async fn serve(
    connection: &Connection,
    send: SendStream,
    receive: RecvStream,
    identity: &PeerIdentity,
    context: &Context,
    stop: Stop,
) {
    let id = ConnectionId(NEXT_CONNECTION.fetch_add(1, Ordering::Relaxed));
    let epoch = context.epoch;
    let mut task = Task {
        id,
        session: CollectorSession::new(session_config(context), identity.host, now(epoch)),
        peer: connection.remote_address().to_string(),
        context: context.clone(),
        mailbox: Mailbox::default(),
        queue: Queue::new(Arc::clone(&context.shares), Arc::clone(&context.metrics)),
        proving: None,
        follows: false,
        outbox: Outbox::default(),
        last_key: LastKey::default(),
    };
    let reason = task.run(send, receive, stop).await;
    let host = identity.host;
    task.context
        .pipeline
        .send(Input::Closed { host, connection: id })
        .await;
    let (code, text) = match &reason {
        Ended::Closed(CloseReason::Refused(refusal)) => {
            (u32::from(refusal.code.number()), refusal.text.clone())
        }
        Ended::Closed(CloseReason::Garbage(bad)) => {
            (u32::from(RefusalCode::Protocol.number()), bad.to_string())
        }
        Ended::Closed(other) => (close::DONE, other.to_string()),
        Ended::Lost => (close::DONE, "the stream ended".to_owned()),
        Ended::Pipeline => (
            u32::from(RefusalCode::Internal.number()),
            "the collector failed".to_owned(),
        ),
    };
    debug!(%host, peer = task.peer, text, "session ended");
    connection.close(VarInt::from_u32(code), text.as_bytes());
}

fn session_config(context: &Context) -> CollectorConfig {
    let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
    let config = &context.config;
    let defaults = CollectorConfig::default();
    CollectorConfig {
        window: Window {
            bytes: u32::try_from(config.connection_bytes_max).unwrap_or(u32::MAX),
            ..defaults.window
        },
        idle_ns: nanos(config.idle_timeout),
        nonce_ns: nanos(config.nonce_interval),
        key_history: context.reader.keys().encode(),
        ..defaults
    }
}

/// Why a connection ended.
enum Ended {
    /// The machine closed it.
    Closed(CloseReason),
    /// The agent is gone.
    Lost,
    /// The pipeline is gone.
    Pipeline,
}

type Proving = JoinHandle<Option<(Receipts, u64)>>;

struct Task {
    id: ConnectionId,
    session: CollectorSession,
    peer: String,
    context: Context,
    mailbox: Mailbox,
    queue: Queue,
    proving: Option<Proving>,
    /// Whether this agent has had a receipt on this connection: from then on it asks for the newest batches.
    follows: bool,
    outbox: Outbox,
    last_key: LastKey,
}

impl Task {
    async fn run(&mut self, mut send: SendStream, mut receive: RecvStream, stop: Stop) -> Ended {
        let mut stopping = std::pin::pin!(stop.requested());
        let mut told_stop = false;
        let mut chunks: [bytes::Bytes; CHUNKS] = std::array::from_fn(|_| bytes::Bytes::new());
        loop {
            if let Some(ended) = self.effects().await {
                self.linger(&mut send).await;
                return ended;
            }
            while let Some(message) = self.session.poll_transmit() {
                self.outbox.push(message);
            }
            let timeout = self.session.poll_timeout();
            let may_read = self.queue.is_empty() && !self.outbox.is_full();
            tokio::select! {
                () = &mut stopping, if !told_stop => {
                    told_stop = true;
                    let text = "the collector stops; what it did not acknowledge stays with you";
                    self.session.handle_refused(Refusal::fatal(RefusalCode::Stopping, None, text));
                }
                letters = self.mailbox.take() => self.read_letters(letters),
                read = receive.read_chunks(&mut chunks), if may_read => match read {
                    Ok(Some(count)) => self.read(&mut chunks[..count]),
                    Ok(None) | Err(_) => return Ended::Lost,
                },
                written = self.outbox.write(&mut send), if !self.outbox.is_empty() => {
                    if written.is_err() {
                        return Ended::Lost;
                    }
                }
                batch = self.queue.next() => {
                    if !self.submit(batch).await {
                        return Ended::Pipeline;
                    }
                }
                proven = proven(&mut self.proving), if self.proving.is_some() => {
                    self.proving = None;
                    self.proven(proven);
                }
                () = sleep_until(self.context.epoch, timeout) => {
                    let at = now(self.context.epoch);
                    if !may_read {
                        // It is we who do not listen: the agent's silence says nothing.
                        self.session.handle_bytes(at, &[]);
                    }
                    self.session.handle_timeout(at);
                }
            }
        }
    }

    /// Feeds the machine and lets the packets' memory go.
    fn read(&mut self, chunks: &mut [bytes::Bytes]) {
        let at = now(self.context.epoch);
        for chunk in chunks {
            let chunk = std::mem::take(chunk);
            self.context.metrics.received_bytes.add(chunk.len() as u64);
            self.session.handle_bytes(at, &chunk);
        }
    }

    /// Carries out what the machine asks for; the reason when it asked to close.
    async fn effects(&mut self) -> Option<Ended> {
        while let Some(effect) = self.session.poll_effect() {
            match effect {
                CollectorEffect::Open(hello) => {
                    let Some(nonce) = self.draw() else {
                        continue;
                    };
                    let version = Text::from(hello.agent_version.as_str());
                    debug!(host = %hello.host, %version, peer = self.peer, "agent says hello");
                    let open = Input::Open {
                        host: hello.host,
                        connection: self.id,
                        agent: (hello.next, hello.head),
                        nonce,
                        mailbox: self.mailbox.clone(),
                    };
                    if !self.context.pipeline.send(open).await {
                        return Some(Ended::Pipeline);
                    }
                }
                CollectorEffect::Submit { header, body } => self.queue.push(header, body),
                CollectorEffect::Prove {
                    from,
                    through,
                    since_size,
                } => {
                    let (reader, host) = (self.context.reader.clone(), self.session.host());
                    let make = move || {
                        prove::receipts(&reader, &host, from, through, since_size).unwrap_or_else(|error| {
                            tracing::error!(%host, %error, "receipts cannot be made");
                            None
                        })
                    };
                    // What was published just now is in memory; what an agent comes back for may have to be read.
                    if self.follows && through.0.saturating_sub(from.0) < PROVEN_HERE_MAX {
                        self.proven(make());
                    } else {
                        self.proving = Some(tokio::task::spawn_blocking(make));
                    }
                }
                CollectorEffect::DrawNonce => {
                    if let Some(nonce) = self.draw() {
                        let host = self.session.host();
                        if !self.context.pipeline.send(Input::Nonce { host, nonce }).await {
                            return Some(Ended::Pipeline);
                        }
                        self.session.handle_nonce(nonce);
                    }
                }
                CollectorEffect::Close(reason) => {
                    self.count_close(&reason);
                    return Some(Ended::Closed(reason));
                }
            }
        }
        None
    }

    fn proven(&mut self, proven: Option<(Receipts, u64)>) {
        if let Some((receipts, _)) = &proven {
            self.context.metrics.receipts.add(receipts.proven.len() as u64);
            self.follows = true;
        }
        self.session.handle_receipts(proven);
    }

    fn draw(&mut self) -> Option<Nonce> {
        match pki::random() {
            Ok(bytes) => Some(Nonce(bytes)),
            Err(error) => {
                let refusal = Refusal::fatal(RefusalCode::Internal, None, &error.to_string());
                self.session.handle_refused(refusal);
                None
            }
        }
    }

    /// Counts what the machine itself refused; the pipeline and the checks count their own.
    fn count_close(&self, reason: &CloseReason) {
        let word = match reason {
            CloseReason::Garbage(_) => "garbage",
            CloseReason::Idle => "idle",
            CloseReason::Unsendable(_) => "unsendable",
            CloseReason::Refused(refusal) if counted_here(refusal) => reasons::word(refusal.code),
            CloseReason::Left | CloseReason::Refused(_) => return,
        };
        self.context.metrics.refuse(word);
        warn!(host = %self.session.host(), peer = self.peer, reason = word, text = %reason, "session refused");
    }

    fn read_letters(&mut self, letters: Letters) {
        if let Some(opening) = letters.opening {
            self.session.handle_opening(now(self.context.epoch), &opening);
        }
        if let Some(through) = letters.stored {
            self.session.handle_stored(through);
        }
        if let Some(before) = letters.published {
            self.session.handle_published(before);
        }
        for refusal in letters.notice.into_iter().chain(letters.refused) {
            self.session.handle_refused(refusal);
        }
    }

    /// Checks a batch and hands it to the pipeline; `false` when that is gone.
    async fn submit(&mut self, batch: Shared) -> bool {
        let Some((header, body, permit)) = batch else {
            return false;
        };
        let host = self.session.host();
        // Hashing at most a megabyte: about as long as the switch to another thread and back would be worth.
        let checked = check_batch(&host, &header, body, &mut self.last_key);
        match checked {
            Ok(batch) => {
                self.context
                    .pipeline
                    .send(Input::Submit(Box::new(Submission {
                        connection: self.id,
                        batch,
                        peer: self.peer.clone(),
                        permit,
                    })))
                    .await
            }
            Err(refusal) => {
                self.keep(&refusal, header);
                self.context.metrics.refuse(reasons::word(refusal.code));
                warn!(%host, peer = self.peer, reason = reasons::word(refusal.code), text = refusal.text, "batch refused");
                self.queue.clear();
                self.session.handle_refused(refusal);
                true
            }
        }
    }

    /// Keeps what was wrong with a batch by itself. Its bytes are written where blocking is allowed.
    fn keep(&self, refusal: &Refusal, header: Vec<u8>) {
        if !reasons::concerns_chain(refusal.code) {
            return;
        }
        let evidence = Evidence {
            reason: reasons::word(refusal.code),
            text: refusal.text.clone(),
            host: self.session.host(),
            sequence: refusal.sequence,
            peer: self.peer.clone(),
            at: jiff::Timestamp::now().to_string(),
            files: vec![("offered.header", header)],
        };
        let store = self.context.evidence.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = store.keep(&evidence) {
                tracing::error!(%error, "evidence not kept");
            }
        });
    }

    /// Gives the agent a moment to take the last words, most of all the reason.
    async fn linger(&mut self, send: &mut SendStream) {
        while let Some(message) = self.session.poll_transmit() {
            self.outbox.push(message);
        }
        let _ = tokio::time::timeout(LINGER, self.outbox.finish(send)).await;
    }
}

/// Whether the session machine itself made this refusal: those of batches name one, or their form.
fn counted_here(refusal: &Refusal) -> bool {
    refusal.sequence.is_none()
        && matches!(
            refusal.code,
            RefusalCode::Version
                | RefusalCode::Host
                | RefusalCode::Protocol
                | RefusalCode::Window
                | RefusalCode::LedgerBehind
        )
}

/// The receipts being made; `None` also when the making of them failed.
async fn proven(proving: &mut Option<Proving>) -> Option<(Receipts, u64)> {
    match proving {
        Some(task) => task.await.ok().flatten(),
        None => pending().await,
    }
}

async fn sleep_until(epoch: Instant, at: Option<BootNanos>) {
    match at {
        Some(at) => tokio::time::sleep_until((epoch + Duration::from_nanos(at.0)).into()).await,
        None => pending().await,
    }
}
