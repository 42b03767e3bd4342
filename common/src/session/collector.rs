//! The collector's side of one connection.
//!
//! Owns what one agent may send now, what it was told is stored, and which receipts it still awaits. Refuses
//! to judge chains: that is [`crate::sequencer`]'s, which decides across connections and restarts; the driver
//! carries answers between the two.

use alloc::{
    collections::VecDeque,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::{
    message::{
        BadMessage, FrameDecoder, Hello, Message, PROTOCOL_VERSION, PROTOCOL_VERSION_OLDEST, Receipts,
        Welcome, Window,
    },
    refusal::{Refusal, RefusalCode},
};
use crate::{
    ids::{BootNanos, Hash, HostId, Nonce, Sequence},
    limits::RECEIPTS_MAX,
};

/// Where a batch header holds its sequence (`docs/format/batch.md`).
const SEQUENCE_OFFSET: usize = 112;

/// Settings of the collector's sessions. Times in nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorConfig {
    /// What an agent may have under way; bounds the memory one connection can take.
    pub window: Window,
    /// How long an agent may take to say who it is.
    pub hello_ns: u64,
    /// The connection is closed when nothing came for this long.
    pub idle_ns: u64,
    /// A new nonce is given out this often.
    pub nonce_ns: u64,
    /// The history of the ledger's keys; empty where there is none.
    pub key_history: Vec<u8>,
}

impl Default for CollectorConfig {
    fn default() -> Self {
        const SECOND: u64 = 1_000_000_000;
        Self {
            window: Window {
                batches: 64,
                bytes: 4 * 1024 * 1024,
            },
            hello_ns: 10 * SECOND,
            idle_ns: 30 * SECOND,
            nonce_ns: 10 * SECOND,
            key_history: Vec::new(),
        }
    }
}

/// What the driver must do for one connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CollectorEffect {
    /// An agent said who it is; answer with [`CollectorSession::handle_opening`].
    Open(Hello),
    /// Judge this batch; answer with [`CollectorSession::handle_stored`] or
    /// [`CollectorSession::handle_refused`]. Batches of one connection are judged in order.
    Submit {
        /// The signed header, unverified.
        header: Vec<u8>,
        /// The body, unverified.
        body: Vec<u8>,
    },
    /// Make receipts for these batches under the published checkpoint, with a consistency proof from this
    /// size; answer with [`CollectorSession::handle_receipts`].
    Prove {
        /// The first.
        from: Sequence,
        /// The last; at most [`RECEIPTS_MAX`] of them.
        through: Sequence,
        /// The checkpoint size the agent knows.
        since_size: u64,
    },
    /// Draw a nonce at random; answer with [`CollectorSession::handle_nonce`].
    DrawNonce,
    /// Transmit what is left for at most a second, then close.
    Close(CloseReason),
}

/// Why the collector closes a connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CloseReason {
    /// The agent said goodbye.
    #[error("the agent left in order")]
    Left,
    /// Nothing came for too long, or no hello.
    #[error("the agent has been silent for too long")]
    Idle,
    /// The agent sent what is no message.
    #[error("the agent sent garbage: {0}")]
    Garbage(BadMessage),
    /// Something was refused for good; the agent was told.
    #[error("{0}")]
    Refused(Refusal),
    /// A message of ours was over the format's limits. Ours to fix.
    #[error("an answer could not be encoded: {0}")]
    Unsendable(BadMessage),
}

/// What the collector knows of a host when it connects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The first batch that is not durable here.
    pub next: Sequence,
    /// Hash of the header before it; zeros for none.
    pub head: Hash,
    /// The first batch of this host that no published checkpoint covers.
    pub published_before: Sequence,
    /// Size of the published checkpoint.
    pub published_size: u64,
    /// A nonce drawn at random.
    pub nonce: Nonce,
}

/// The machine of one connection.
#[derive(Debug)]
pub struct CollectorSession {
    config: CollectorConfig,
    host: HostId,
    phase: Phase,
    decoder: FrameDecoder,
    opened_at: BootNanos,
    heard_at: BootNanos,
    nonce_at: BootNanos,
    transmit: VecDeque<Vec<u8>>,
    effects: VecDeque<CollectorEffect>,
}

#[derive(Debug)]
enum Phase {
    AwaitHello,
    AwaitOpening(Hello),
    Receiving(Receiving),
    Closed,
}

#[derive(Debug)]
struct Receiving {
    /// Submitted and not answered: the sequence claimed, the bytes.
    under_way: VecDeque<(Sequence, u64)>,
    under_way_bytes: u64,
    next_receipt: Sequence,
    published_before: Sequence,
    since_size: u64,
    proving: bool,
}

impl CollectorSession {
    /// A connection whose certificate names `host`.
    #[must_use]
    pub fn new(config: CollectorConfig, host: HostId, now: BootNanos) -> Self {
        Self {
            config,
            host,
            phase: Phase::AwaitHello,
            decoder: FrameDecoder::default(),
            opened_at: now,
            heard_at: now,
            nonce_at: now,
            transmit: VecDeque::new(),
            effects: VecDeque::new(),
        }
    }

    /// Whose connection it is.
    #[must_use]
    pub fn host(&self) -> HostId {
        self.host
    }

    /// The next bytes for the stream. Bounded: the agent's window bounds what is answered.
    pub fn poll_transmit(&mut self) -> Option<Vec<u8>> {
        self.transmit.pop_front()
    }

    /// The next thing to do.
    pub fn poll_effect(&mut self) -> Option<CollectorEffect> {
        self.effects.pop_front()
    }

    /// When to call [`Self::handle_timeout`].
    #[must_use]
    pub fn poll_timeout(&self) -> Option<BootNanos> {
        let after = |from: BootNanos, ns: u64| BootNanos(from.0.saturating_add(ns));
        match self.phase {
            Phase::AwaitHello => Some(after(self.opened_at, self.config.hello_ns)),
            Phase::AwaitOpening(_) => None,
            Phase::Receiving(_) => Some(
                after(self.heard_at, self.config.idle_ns).min(after(self.nonce_at, self.config.nonce_ns)),
            ),
            Phase::Closed => None,
        }
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: BootNanos) {
        let past = |from: BootNanos, ns: u64| now.0 >= from.0.saturating_add(ns);
        match self.phase {
            Phase::AwaitHello if past(self.opened_at, self.config.hello_ns) => self.close(CloseReason::Idle),
            Phase::Receiving(_) if past(self.heard_at, self.config.idle_ns) => self.close(CloseReason::Idle),
            Phase::Receiving(_) if past(self.nonce_at, self.config.nonce_ns) => {
                self.nonce_at = now;
                self.effects.push_back(CollectorEffect::DrawNonce);
            }
            _ => {}
        }
    }

    /// Bytes came on the stream.
    pub fn handle_bytes(&mut self, now: BootNanos, bytes: &[u8]) {
        if self.closed() {
            return;
        }
        self.heard_at = now;
        self.decoder.push(bytes);
        while !self.closed() {
            match self.decoder.next_message() {
                Ok(Some(message)) => self.handle_message(message),
                Ok(None) => return,
                Err(bad) => {
                    let refusal = Refusal::fatal(RefusalCode::Protocol, None, &bad.to_string());
                    self.send(&Message::Refused(refusal));
                    self.close(CloseReason::Garbage(bad));
                }
            }
        }
    }

    /// What is known of the host that said hello.
    pub fn handle_opening(&mut self, now: BootNanos, opening: &Opening) {
        let Phase::AwaitOpening(hello) = &self.phase else {
            return;
        };
        if hello.seen_size > opening.published_size {
            let text = format!(
                "this ledger has {} published leaves, the agent saw {}: the ledger was lost or restored from an older copy",
                opening.published_size, hello.seen_size
            );
            return self.handle_refused(Refusal::fatal(RefusalCode::LedgerBehind, None, &text));
        }
        let version = hello.version;
        self.phase = Phase::Receiving(Receiving {
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            next_receipt: hello.oldest,
            published_before: opening.published_before,
            since_size: hello.seen_size,
            proving: false,
        });
        self.nonce_at = now;
        self.send(&Message::Welcome(Welcome {
            version,
            nonce: opening.nonce,
            next: opening.next,
            head: opening.head,
            window: self.config.window,
        }));
        if version > PROTOCOL_VERSION_OLDEST && !self.config.key_history.is_empty() {
            // Before any receipt: those may be signed by a key that only the history names.
            self.send(&Message::Keys(self.config.key_history.clone()));
        }
        self.prove();
    }

    /// Every batch of this host up to `through` is durable.
    pub fn handle_stored(&mut self, through: Sequence) {
        let Phase::Receiving(receiving) = &mut self.phase else {
            return;
        };
        while let Some((_, bytes)) = receiving
            .under_way
            .pop_front_if(|(claimed, _)| *claimed <= through)
        {
            receiving.under_way_bytes -= bytes;
        }
        self.send(&Message::Stored { through });
    }

    /// Something was refused.
    pub fn handle_refused(&mut self, refusal: Refusal) {
        if self.closed() {
            return;
        }
        self.send(&Message::Refused(refusal.clone()));
        if refusal.fatal {
            self.close(CloseReason::Refused(refusal));
        }
    }

    /// A checkpoint was published that covers every batch of this host before `before`.
    pub fn handle_published(&mut self, before: Sequence) {
        if let Phase::Receiving(receiving) = &mut self.phase {
            receiving.published_before = receiving.published_before.max(before);
            self.prove();
        }
    }

    /// The receipts asked for; `size` is that of their checkpoint. `None` where they could not be made now:
    /// they are asked for again with the next checkpoint.
    pub fn handle_receipts(&mut self, receipts: Option<(Receipts, u64)>) {
        let Phase::Receiving(receiving) = &mut self.phase else {
            return;
        };
        receiving.proving = false;
        let Some((receipts, size)) = receipts else {
            return;
        };
        receiving.since_size = size;
        if let Some(last) = receipts.proven.last() {
            receiving.next_receipt = Sequence(last.sequence.0.saturating_add(1));
        }
        self.send(&Message::Receipts(receipts));
        self.prove();
    }

    /// A nonce was drawn.
    pub fn handle_nonce(&mut self, nonce: Nonce) {
        if matches!(self.phase, Phase::Receiving(_)) {
            self.send(&Message::Nonce(nonce));
        }
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    fn handle_message(&mut self, message: Message) {
        match (&mut self.phase, message) {
            (Phase::AwaitHello, Message::Hello(hello)) => self.handle_hello(hello),
            (Phase::Receiving(receiving), Message::Batch { header, body }) => {
                let bytes = (header.len() + body.len()) as u64;
                let window = self.config.window;
                if receiving.under_way.len() as u64 >= u64::from(window.batches)
                    || receiving.under_way_bytes + bytes > u64::from(window.bytes)
                {
                    let text = "more was sent than the window allows";
                    return self.handle_refused(Refusal::fatal(RefusalCode::Window, None, text));
                }
                receiving.under_way.push_back((claimed_sequence(&header), bytes));
                receiving.under_way_bytes += bytes;
                self.effects.push_back(CollectorEffect::Submit { header, body });
            }
            (Phase::Receiving(_), Message::Ping) => {}
            (Phase::Receiving(_), Message::Bye) => self.close(CloseReason::Left),
            (_, other) => {
                let text = format!("a {} message is out of place", other.name());
                self.handle_refused(Refusal::fatal(RefusalCode::Protocol, None, &text));
            }
        }
    }

    fn handle_hello(&mut self, hello: Hello) {
        let spoken = PROTOCOL_VERSION_OLDEST..=PROTOCOL_VERSION;
        let refusal = if !spoken.contains(&hello.version) {
            let text: String = format!(
                "protocol {} is not spoken here, up to {PROTOCOL_VERSION} is: upgrade the older side",
                hello.version
            );
            Refusal::fatal(RefusalCode::Version, None, &text)
        } else if hello.host != self.host {
            let text = format!(
                "the certificate is of host {}, the chain of host {}",
                self.host, hello.host
            );
            Refusal::fatal(RefusalCode::Host, None, &text)
        } else {
            self.phase = Phase::AwaitOpening(hello.clone());
            return self.effects.push_back(CollectorEffect::Open(hello));
        };
        self.handle_refused(refusal);
    }

    /// Asks for the next receipts, one message's worth at a time.
    fn prove(&mut self) {
        let Phase::Receiving(receiving) = &mut self.phase else {
            return;
        };
        if receiving.proving || receiving.next_receipt >= receiving.published_before {
            return;
        }
        let from = receiving.next_receipt;
        let through = from
            .0
            .saturating_add(RECEIPTS_MAX as u64 - 1)
            .min(receiving.published_before.0 - 1);
        receiving.proving = true;
        self.effects.push_back(CollectorEffect::Prove {
            from,
            through: Sequence(through),
            since_size: receiving.since_size,
        });
    }

    fn send(&mut self, message: &Message) {
        match message.encode() {
            Ok(bytes) => self.transmit.push_back(bytes),
            Err(bad) => self.close(CloseReason::Unsendable(bad)),
        }
    }

    fn close(&mut self, reason: CloseReason) {
        if !self.closed() {
            self.phase = Phase::Closed;
            self.effects.push_back(CollectorEffect::Close(reason));
        }
    }
}

/// The sequence a header claims, for accounting only: what does not parse is refused by whoever judges it.
fn claimed_sequence(header: &[u8]) -> Sequence {
    let field = header.get(SEQUENCE_OFFSET..).and_then(|rest| rest.first_chunk());
    field.map_or(Sequence(0), |bytes| Sequence(u64::from_be_bytes(*bytes)))
}
