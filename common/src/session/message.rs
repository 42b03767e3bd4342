//! Session messages and their bytes (`docs/format/session.md`).
//!
//! A frame is `u32 length`, `u8 type`, fields; the length counts type and fields. Owns encoding, decoding and
//! the cutting of a byte stream into frames; refuses to judge whether a message makes sense now.

use alloc::{string::String, vec::Vec};

use crate::{
    codec::{Reader, Short, Write},
    ids::{Hash, HostId, LeafIndex, Nonce, Sequence},
    ledger_keys::LEDGER_KEYS_BYTES_MAX,
    limits::{
        AGENT_VERSION_BYTES_MAX, BATCH_BODY_BYTES_MAX, HEADER_BYTES_MAX, MESSAGE_BYTES_MAX, NOTE_BYTES_MAX,
        RECEIPTS_MAX, REFUSAL_TEXT_BYTES_MAX,
    },
    merkle::PROOF_HASHES_MAX,
};

use super::refusal::{Refusal, RefusalCode};

/// The protocol spoken today.
pub const PROTOCOL_VERSION: u16 = 2;
/// The oldest one that a collector answers: it has no [`Message::Keys`].
pub(super) const PROTOCOL_VERSION_OLDEST: u16 = 1;
/// Bytes of a frame's length field.
const LENGTH_BYTES: usize = 4;

/// One message, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Agent: who I am and where my chain stands. The first message of a connection.
    Hello(Hello),
    /// Agent: the next batch of my chain.
    Batch {
        /// The signed header.
        header: Vec<u8>,
        /// The body it binds.
        body: Vec<u8>,
    },
    /// Agent: still here, nothing to send.
    Ping,
    /// Agent: all is sent, closing in order.
    Bye,
    /// Collector: what I expect of you. The answer to [`Message::Hello`].
    Welcome(Welcome),
    /// Collector: something was refused.
    Refused(Refusal),
    /// Collector: every batch up to this one is durable here.
    Stored {
        /// The last of them.
        through: Sequence,
    },
    /// Collector: proof that batches stand in a published checkpoint.
    Receipts(Receipts),
    /// Collector: echo this in the headers you sign from now on.
    Nonce(Nonce),
    /// Collector: the window changed.
    Credit(Window),
    /// Collector: the history of the ledger's keys, byte for byte.
    Keys(Vec<u8>),
}

/// An agent's first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// Protocol the agent speaks.
    pub version: u16,
    /// Whose chain it ships; must be the one its certificate names.
    pub host: HostId,
    /// The agent's version, for people.
    pub agent_version: String,
    /// Sequence of the next batch it will seal.
    pub next: Sequence,
    /// Hash of the last header it sealed; zeros before the first.
    pub head: Hash,
    /// The first batch it holds no receipt for; `next` where it holds all.
    pub oldest: Sequence,
    /// Size of the last checkpoint it verified; 0 before the first.
    pub seen_size: u64,
    /// Root of that checkpoint.
    pub seen_root: Hash,
}

/// A collector's first message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Welcome {
    /// Protocol the collector speaks.
    pub version: u16,
    /// Echo this in the headers you sign.
    pub nonce: Nonce,
    /// The batch to send first.
    pub next: Sequence,
    /// Hash of the header before it, as the collector has it; zeros for none.
    pub head: Hash,
    /// How much may be under way.
    pub window: Window,
}

/// How much an agent may have sent that was not yet answered with [`Message::Stored`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Window {
    /// Batches.
    pub batches: u32,
    /// Bytes of headers and bodies.
    pub bytes: u32,
}

/// Proof for several batches under one checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipts {
    /// The signed note of the checkpoint.
    pub checkpoint: Vec<u8>,
    /// Proof that it extends the checkpoint the agent named or was sent last.
    pub consistency: Vec<Hash>,
    /// One for each batch, ascending and gapless.
    pub proven: Vec<Proven>,
}

/// Inclusion of one batch's header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proven {
    /// Which batch.
    pub sequence: Sequence,
    /// Which leaf it is.
    pub leaf: LeafIndex,
    /// Hashes from the leaf's sibling up to the root's child.
    pub proof: Vec<Hash>,
}

/// Why bytes are not a message. The peer is at fault: the transport delivers what was sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadMessage {
    /// It ends too early.
    #[error("message cut short: {0}")]
    Short(#[from] Short),
    /// The frame is longer than any may be, or empty.
    #[error("frame of {0} bytes; 1 to {MESSAGE_BYTES_MAX} are allowed")]
    Length(usize),
    /// A type this build does not know.
    #[error("message type {0} is unknown; the peer speaks another protocol or a newer version")]
    Type(u8),
    /// A field holds what it may not.
    #[error("message field `{field}` holds {value}, which is not allowed")]
    Field {
        /// The field.
        field: &'static str,
        /// What it holds, or its length.
        value: u64,
    },
    /// Bytes follow the last field.
    #[error("{0} bytes follow the message")]
    Trailing(usize),
}

impl Message {
    /// The number on the wire.
    #[must_use]
    pub fn type_number(&self) -> u8 {
        match self {
            Self::Hello(_) => 1,
            Self::Batch { .. } => 2,
            Self::Ping => 3,
            Self::Bye => 4,
            Self::Welcome(_) => 129,
            Self::Refused(_) => 130,
            Self::Stored { .. } => 131,
            Self::Receipts(_) => 132,
            Self::Nonce(_) => 133,
            Self::Credit(_) => 134,
            Self::Keys(_) => 135,
        }
    }

    /// The word for diagnostics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Hello(_) => "hello",
            Self::Batch { .. } => "batch",
            Self::Ping => "ping",
            Self::Bye => "bye",
            Self::Welcome(_) => "welcome",
            Self::Refused(_) => "refused",
            Self::Stored { .. } => "stored",
            Self::Receipts(_) => "receipts",
            Self::Nonce(_) => "nonce",
            Self::Credit(_) => "credit",
            Self::Keys(_) => "keys",
        }
    }

    /// The whole frame.
    ///
    /// # Errors
    /// Ours to fix: a field longer than the format allows.
    pub fn encode(&self) -> Result<Vec<u8>, BadMessage> {
        let mut out = Vec::with_capacity(64);
        out.put_u32(0);
        out.put_u8(self.type_number());
        match self {
            Self::Hello(hello) => put_hello(hello, &mut out)?,
            Self::Batch { header, body } => {
                within("body length", body.len(), BATCH_BODY_BYTES_MAX)?;
                out.reserve(header.len() + body.len() + 2);
                put_short(&mut out, "header length", header, HEADER_BYTES_MAX)?;
                out.extend_from_slice(body);
            }
            Self::Ping | Self::Bye => {}
            Self::Welcome(welcome) => put_welcome(welcome, &mut out),
            Self::Refused(refusal) => put_refusal(refusal, &mut out)?,
            Self::Stored { through } => out.put_u64(through.0),
            Self::Receipts(receipts) => put_receipts(receipts, &mut out)?,
            Self::Nonce(nonce) => out.extend_from_slice(&nonce.0),
            Self::Credit(window) => put_window(*window, &mut out),
            Self::Keys(history) => {
                within("key history length", history.len(), LEDGER_KEYS_BYTES_MAX)?;
                out.extend_from_slice(history);
            }
        }
        let length = out.len() - LENGTH_BYTES;
        let length_field = u32::try_from(length).map_err(|_| BadMessage::Length(length))?;
        if length > MESSAGE_BYTES_MAX {
            return Err(BadMessage::Length(length));
        }
        out[..LENGTH_BYTES].copy_from_slice(&length_field.to_be_bytes());
        Ok(out)
    }

    /// Reads a frame's type and fields (the frame without its length); every byte must be accounted for.
    pub fn decode(frame: &[u8]) -> Result<Self, BadMessage> {
        let mut reader = Reader::new(frame);
        let message = match reader.u8("type")? {
            1 => Self::Hello(read_hello(&mut reader)?),
            2 => {
                let header = read_short(&mut reader, "header", HEADER_BYTES_MAX)?.to_vec();
                let body = reader.rest();
                within("body length", body.len(), BATCH_BODY_BYTES_MAX)?;
                return Ok(Self::Batch {
                    header,
                    body: body.to_vec(),
                });
            }
            3 => Self::Ping,
            4 => Self::Bye,
            129 => Self::Welcome(read_welcome(&mut reader)?),
            130 => Self::Refused(read_refusal(&mut reader)?),
            131 => Self::Stored {
                through: Sequence(reader.u64("through")?),
            },
            132 => Self::Receipts(read_receipts(&mut reader)?),
            133 => Self::Nonce(Nonce(reader.array("nonce")?)),
            134 => Self::Credit(read_window(&mut reader)?),
            135 => {
                let history = reader.rest();
                within("key history length", history.len(), LEDGER_KEYS_BYTES_MAX)?;
                return Ok(Self::Keys(history.to_vec()));
            }
            other => return Err(BadMessage::Type(other)),
        };
        match reader.rest().len() {
            0 => Ok(message),
            more => Err(BadMessage::Trailing(more)),
        }
    }
}

/// Cuts a byte stream into messages, however it is chunked. Holds at most one frame and one chunk.
#[derive(Debug, Clone, Default)]
pub struct FrameDecoder {
    buffer: Vec<u8>,
    at: usize,
}

impl FrameDecoder {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, bytes: &[u8]) {
        // What was consumed is dropped here, once for each chunk and not once for each message.
        self.buffer.drain(..self.at);
        self.at = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// The next whole message; `None` until more bytes come. After an error the stream is beyond repair.
    pub fn next_message(&mut self) -> Result<Option<Message>, BadMessage> {
        let rest = self.buffer.get(self.at..).unwrap_or_default();
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = u32::from_be_bytes(*length) as usize;
        // Checked before the frame has arrived, so that nobody makes us buffer more.
        if length == 0 || length > MESSAGE_BYTES_MAX {
            return Err(BadMessage::Length(length));
        }
        let Some(frame) = rest.get(..length) else {
            return Ok(None);
        };
        let message = Message::decode(frame)?;
        self.at += LENGTH_BYTES + length;
        Ok(Some(message))
    }

    /// Bytes held that belong to no message yet.
    #[must_use]
    pub fn buffered(&self) -> usize {
        self.buffer.len() - self.at
    }
}

fn within(field: &'static str, value: usize, max: usize) -> Result<(), BadMessage> {
    if value > max {
        Err(BadMessage::Field {
            field,
            value: value as u64,
        })
    } else {
        Ok(())
    }
}

fn put_short(out: &mut Vec<u8>, field: &'static str, bytes: &[u8], max: usize) -> Result<(), BadMessage> {
    within(field, bytes.len(), max)?;
    out.put_u16(u16::try_from(bytes.len()).map_err(|_| BadMessage::Field {
        field,
        value: bytes.len() as u64,
    })?);
    out.extend_from_slice(bytes);
    Ok(())
}

fn read_short<'a>(reader: &mut Reader<'a>, field: &'static str, max: usize) -> Result<&'a [u8], BadMessage> {
    let length = usize::from(reader.u16(field)?);
    within(field, length, max)?;
    Ok(reader.take(field, length)?)
}

fn read_text(reader: &mut Reader<'_>, field: &'static str, max: usize) -> Result<String, BadMessage> {
    let bytes = read_short(reader, field, max)?;
    // Shown to people only: what is not UTF-8 is replaced, never refused.
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

fn put_hello(hello: &Hello, out: &mut Vec<u8>) -> Result<(), BadMessage> {
    out.put_u16(hello.version);
    out.extend_from_slice(&hello.host.0);
    out.put_u64(hello.next.0);
    out.extend_from_slice(&hello.head.0);
    out.put_u64(hello.oldest.0);
    out.put_u64(hello.seen_size);
    out.extend_from_slice(&hello.seen_root.0);
    put_short(
        out,
        "agent version",
        hello.agent_version.as_bytes(),
        AGENT_VERSION_BYTES_MAX,
    )
}

fn read_hello(reader: &mut Reader<'_>) -> Result<Hello, BadMessage> {
    let mut hello = Hello {
        version: reader.u16("version")?,
        host: HostId(reader.array("host id")?),
        next: Sequence(reader.u64("next")?),
        head: Hash(reader.array("head")?),
        oldest: Sequence(reader.u64("oldest")?),
        seen_size: reader.u64("seen size")?,
        seen_root: Hash(reader.array("seen root")?),
        agent_version: String::new(),
    };
    hello.agent_version = read_text(reader, "agent version", AGENT_VERSION_BYTES_MAX)?;
    if hello.oldest > hello.next {
        return Err(BadMessage::Field {
            field: "oldest",
            value: hello.oldest.0,
        });
    }
    Ok(hello)
}

fn put_welcome(welcome: &Welcome, out: &mut Vec<u8>) {
    out.put_u16(welcome.version);
    out.extend_from_slice(&welcome.nonce.0);
    out.put_u64(welcome.next.0);
    out.extend_from_slice(&welcome.head.0);
    put_window(welcome.window, out);
}

fn read_welcome(reader: &mut Reader<'_>) -> Result<Welcome, BadMessage> {
    Ok(Welcome {
        version: reader.u16("version")?,
        nonce: Nonce(reader.array("nonce")?),
        next: Sequence(reader.u64("next")?),
        head: Hash(reader.array("head")?),
        window: read_window(reader)?,
    })
}

fn put_window(window: Window, out: &mut Vec<u8>) {
    out.put_u32(window.batches);
    out.put_u32(window.bytes);
}

fn read_window(reader: &mut Reader<'_>) -> Result<Window, BadMessage> {
    Ok(Window {
        batches: reader.u32("window batches")?,
        bytes: reader.u32("window bytes")?,
    })
}

fn put_refusal(refusal: &Refusal, out: &mut Vec<u8>) -> Result<(), BadMessage> {
    out.put_u16(refusal.code.number());
    out.put_u8(u8::from(refusal.fatal));
    out.put_u8(u8::from(refusal.sequence.is_some()));
    out.put_u64(refusal.sequence.unwrap_or_default().0);
    put_short(out, "text", refusal.text.as_bytes(), REFUSAL_TEXT_BYTES_MAX)
}

fn read_refusal(reader: &mut Reader<'_>) -> Result<Refusal, BadMessage> {
    let code = RefusalCode::from_number(reader.u16("code")?);
    let fatal = read_bool(reader, "fatal")?;
    let about_batch = read_bool(reader, "about a batch")?;
    let sequence = Sequence(reader.u64("sequence")?);
    Ok(Refusal {
        code,
        fatal,
        sequence: about_batch.then_some(sequence),
        text: read_text(reader, "text", REFUSAL_TEXT_BYTES_MAX)?,
    })
}

fn read_bool(reader: &mut Reader<'_>, field: &'static str) -> Result<bool, BadMessage> {
    match reader.u8(field)? {
        0 => Ok(false),
        1 => Ok(true),
        other => Err(BadMessage::Field {
            field,
            value: u64::from(other),
        }),
    }
}

fn put_receipts(receipts: &Receipts, out: &mut Vec<u8>) -> Result<(), BadMessage> {
    within("receipt count", receipts.proven.len(), RECEIPTS_MAX)?;
    within("checkpoint length", receipts.checkpoint.len(), NOTE_BYTES_MAX)?;
    let too_long = |field, value: usize| BadMessage::Field {
        field,
        value: value as u64,
    };
    let length = receipts.checkpoint.len();
    out.put_u32(u32::try_from(length).map_err(|_| too_long("checkpoint length", length))?);
    out.extend_from_slice(&receipts.checkpoint);
    put_proof(&receipts.consistency, out)?;
    let count = receipts.proven.len();
    out.put_u16(u16::try_from(count).map_err(|_| too_long("receipt count", count))?);
    for proven in &receipts.proven {
        out.put_u64(proven.sequence.0);
        out.put_u64(proven.leaf.0);
        put_proof(&proven.proof, out)?;
    }
    Ok(())
}

fn read_receipts(reader: &mut Reader<'_>) -> Result<Receipts, BadMessage> {
    let length = reader.u32("checkpoint length")? as usize;
    within("checkpoint length", length, NOTE_BYTES_MAX)?;
    let checkpoint = reader.take("checkpoint", length)?.to_vec();
    let consistency = read_proof(reader)?;
    let count = usize::from(reader.u16("receipt count")?);
    within("receipt count", count, RECEIPTS_MAX)?;
    let mut proven = Vec::with_capacity(count);
    for _ in 0..count {
        proven.push(Proven {
            sequence: Sequence(reader.u64("sequence")?),
            leaf: LeafIndex(reader.u64("leaf")?),
            proof: read_proof(reader)?,
        });
    }
    Ok(Receipts {
        checkpoint,
        consistency,
        proven,
    })
}

fn put_proof(proof: &[Hash], out: &mut Vec<u8>) -> Result<(), BadMessage> {
    within("proof length", proof.len(), PROOF_HASHES_MAX)?;
    out.put_u8(u8::try_from(proof.len()).unwrap_or(u8::MAX));
    for hash in proof {
        out.extend_from_slice(&hash.0);
    }
    Ok(())
}

fn read_proof(reader: &mut Reader<'_>) -> Result<Vec<Hash>, BadMessage> {
    let count = usize::from(reader.u8("proof length")?);
    within("proof length", count, PROOF_HASHES_MAX)?;
    (0..count)
        .map(|_| Ok(Hash(reader.array("proof hash")?)))
        .collect()
}
