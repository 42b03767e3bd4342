//! One open connection: what was sent, what may be sent.

use alloc::{collections::VecDeque, vec::Vec};

use super::{AgentConfig, AgentFault, ConnectionId};
use crate::{
    batch::UnverifiedHeader,
    ids::{BootNanos, Hash, Sequence},
    session::message::{FrameDecoder, Message, Welcome, Window},
    spool::{Place, Spool},
};

#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) decoder: FrameDecoder,
    pub(super) heard_at: BootNanos,
    pub(super) sent_at: BootNanos,
    pub(super) phase: Phase,
    pub(super) loading: Option<Sequence>,
}

#[derive(Debug)]
pub(super) enum Phase {
    AwaitWelcome,
    Shipping {
        /// The next batch to send.
        next: Sequence,
        /// What the collector says precedes it; checked when the first batch is loaded.
        precedes: Option<Hash>,
        window: Window,
        /// Sent and not known to be stored, with their bytes.
        under_way: VecDeque<(Sequence, u64)>,
        under_way_bytes: u64,
    },
}

impl Connection {
    pub(super) fn new(id: ConnectionId, now: BootNanos) -> Self {
        Self {
            id,
            decoder: FrameDecoder::default(),
            heard_at: now,
            sent_at: now,
            phase: Phase::AwaitWelcome,
            loading: None,
        }
    }

    pub(super) fn start(&mut self, welcome: &Welcome) {
        self.phase = Phase::Shipping {
            next: welcome.next,
            precedes: Some(welcome.head),
            window: welcome.window,
            under_way: VecDeque::new(),
            under_way_bytes: 0,
        };
    }

    pub(super) fn idle_at(&self, config: &AgentConfig) -> BootNanos {
        BootNanos(self.heard_at.0.saturating_add(config.idle_ns))
    }

    pub(super) fn keepalive_at(&self, config: &AgentConfig) -> BootNanos {
        BootNanos(self.sent_at.0.saturating_add(config.keepalive_ns))
    }

    pub(super) fn next_timeout(&self, config: &AgentConfig) -> BootNanos {
        self.idle_at(config).min(self.keepalive_at(config))
    }

    /// The batch to read next, if the window lets it be sent.
    pub(super) fn next_load(&mut self, spool: &Spool) -> Result<Option<(Sequence, Place)>, AgentFault> {
        let Phase::Shipping {
            next,
            window,
            under_way,
            under_way_bytes,
            ..
        } = &self.phase
        else {
            return Ok(None);
        };
        if self.loading.is_some() || *next >= spool.head().next_sequence {
            return Ok(None);
        }
        let Some(entry) = spool.entry(*next) else {
            return Err(AgentFault::SpoolMissing { sequence: *next });
        };
        let bytes = under_way_bytes + u64::from(entry.place.length);
        let full = under_way.len() as u64 >= u64::from(window.batches) || bytes > u64::from(window.bytes);
        if full {
            return Ok(None);
        }
        self.loading = Some(*next);
        Ok(Some((*next, entry.place)))
    }

    /// The message for a batch that was loaded; `None` where it is not the one awaited.
    pub(super) fn loaded(
        &mut self,
        sequence: Sequence,
        header: &[u8],
        body: &[u8],
    ) -> Result<Option<Message>, AgentFault> {
        if self.loading != Some(sequence) {
            return Ok(None);
        }
        self.loading = None;
        let Phase::Shipping {
            next,
            precedes,
            under_way,
            under_way_bytes,
            ..
        } = &mut self.phase
        else {
            return Ok(None);
        };
        if *next != sequence {
            return Ok(None);
        }
        if let Some(theirs) = precedes.take() {
            let header =
                UnverifiedHeader::parse(header).map_err(|_| AgentFault::SpoolMissing { sequence })?;
            let ours = header.claimed().previous;
            if ours != theirs {
                return Err(AgentFault::ChainDiffers {
                    next: sequence,
                    theirs,
                    ours,
                });
            }
        }
        let bytes = (header.len() + body.len()) as u64;
        under_way.push_back((sequence, bytes));
        *under_way_bytes += bytes;
        *next = Sequence(sequence.0.saturating_add(1));
        Ok(Some(Message::Batch {
            header: Vec::from(header),
            body: Vec::from(body),
        }))
    }

    /// What was being loaded is proven: the next to send is the first that is not.
    pub(super) fn load_obsolete(&mut self, sequence: Sequence, spool: &Spool) {
        if self.loading != Some(sequence) {
            return;
        }
        self.loading = None;
        if let Phase::Shipping { next, precedes, .. } = &mut self.phase {
            *next = spool.oldest().max(*next);
            *precedes = None;
        }
    }

    /// Batches up to `through` are durable at the collector.
    pub(super) fn stored(&mut self, through: Sequence, spool: &Spool) -> Result<(), &'static str> {
        let Phase::Shipping {
            next,
            precedes,
            under_way,
            under_way_bytes,
            ..
        } = &mut self.phase
        else {
            return Err("stored");
        };
        if through >= spool.head().next_sequence {
            return Err("stored for a batch that was never sealed");
        }
        if through >= *next {
            // Sent on an earlier connection and made durable since the welcome: no need to send it again.
            *next = Sequence(through.0.saturating_add(1));
            *precedes = None;
        }
        while let Some((_, bytes)) = under_way.pop_front_if(|(sequence, _)| *sequence <= through) {
            *under_way_bytes -= bytes;
        }
        Ok(())
    }

    pub(super) fn set_window(&mut self, changed: Window) {
        if let Phase::Shipping { window, .. } = &mut self.phase {
            *window = changed;
        }
    }

    /// Whether the collector said of every batch that it is durable there.
    pub(super) fn all_stored(&self, spool: &Spool) -> bool {
        matches!(
            &self.phase,
            Phase::Shipping { next, under_way, .. }
                if under_way.is_empty() && *next >= spool.head().next_sequence
        )
    }
}

/// Whether what the collector expects can be continued from this spool.
pub(super) fn check_welcome(welcome: &Welcome, spool: &Spool) -> Result<(), AgentFault> {
    let head = spool.head();
    if welcome.next > head.next_sequence {
        return Err(AgentFault::RolledBack {
            collector_next: welcome.next,
            own_next: head.next_sequence,
        });
    }
    if welcome.next < spool.oldest() {
        return Err(AgentFault::CollectorLost {
            next: welcome.next,
            oldest: spool.oldest(),
        });
    }
    if welcome.next == head.next_sequence && welcome.head != head.hash {
        return Err(AgentFault::ChainDiffers {
            next: welcome.next,
            theirs: welcome.head,
            ours: head.hash,
        });
    }
    Ok(())
}
