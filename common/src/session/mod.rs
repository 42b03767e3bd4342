//! The session between an agent and its collector, as two machines without I/O.
//!
//! Bytes, time and the completion of effects go in through `handle_*`; bytes, deadlines, effects and events
//! come out through `poll_*`. One bidirectional stream carries framed [`Message`]s (`docs/format/session.md`).
//! Nothing here knows what the stream, the disk or the clock is, so that two ends run against each other in
//! virtual time. All times are nanoseconds of one monotonic clock ([`BootNanos`](crate::ids::BootNanos)).

mod agent;
mod collector;
mod message;
mod refusal;

pub use self::{
    agent::{
        AgentConfig, AgentEffect, AgentEvent, AgentFault, AgentSession, ConnectionId, EndReason, Forgotten,
        RecallFault, Seen,
    },
    collector::{CloseReason, CollectorConfig, CollectorEffect, CollectorSession, Opening},
    message::{
        BadMessage, FrameDecoder, Hello, Message, PROTOCOL_VERSION, Proven, Receipts, Welcome, Window,
    },
    refusal::{Refusal, RefusalCode},
};

#[cfg(test)]
mod tests;
