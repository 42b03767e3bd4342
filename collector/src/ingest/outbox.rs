//! What a connection has to say and the agent has not taken yet.

use std::collections::VecDeque;

use bytes::Bytes;
use quinn::{SendStream, WriteError};

/// Beyond this many bytes not taken by the agent, nothing more is read from it.
const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Encoded messages in order; the first may have been taken in part.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    messages: VecDeque<Bytes>,
    bytes: usize,
}

impl Outbox {
    pub(super) fn push(&mut self, message: Vec<u8>) {
        self.bytes += message.len();
        self.messages.push_back(message.into());
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Whether the agent takes too little to be heard any further.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= BYTES_MAX
    }

    /// Writes as much as the stream takes at once. Cancelling loses nothing.
    pub(super) async fn write(&mut self, stream: &mut SendStream) -> Result<(), WriteError> {
        if let Some(first) = self.messages.front_mut() {
            let count = stream.write(first).await?;
            self.bytes = self.bytes.saturating_sub(count);
            let _ = first.split_to(count.min(first.len()));
            if first.is_empty() {
                self.messages.pop_front();
            }
        }
        Ok(())
    }

    /// Writes everything, ends the stream, and waits until the agent has it all.
    pub(super) async fn finish(&mut self, stream: &mut SendStream) -> Option<()> {
        while !self.is_empty() {
            self.write(stream).await.ok()?;
        }
        stream.finish().ok()?;
        stream.stopped().await.ok()?;
        Some(())
    }
}
