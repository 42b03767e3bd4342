//! The rogue's deeds, done at the collector's door without a network: faults strike what comes of them.

use common::session::{FrameDecoder, Message};

use super::*;
use crate::{
    accused::Planted,
    rogue::Deed,
    watch::{SILENCE_NS, Watch},
};

/// Numbers of its connections: beyond those of links.
const CONNECTIONS: u64 = 1 << 40;

impl World {
    /// Deeds at random instants while faults strike.
    pub(super) fn plan_rogue(&mut self) {
        let mut at = 0;
        while at < CHAOS {
            at += self.rng.range(SECOND / 10, SECOND);
            let deeds = [Deed::Send, Deed::Ahead, Deed::Late, Deed::Twin, Deed::Behind];
            let deed = deeds[self.rng.index(deeds.len())];
            self.at(at, Event::Rogue(deed));
        }
    }

    /// Everything once more where nothing disturbs it, then a silence.
    pub(super) fn finish_rogue(&mut self) -> Result<Planted, String> {
        for deed in [
            Deed::Send,
            Deed::Ahead,
            Deed::Send,
            Deed::Late,
            Deed::Send,
            Deed::Send,
            Deed::Twin,
            Deed::Behind,
        ] {
            self.misbehave(deed)?;
            // Durable, so that the next one meets it.
            self.run_until(self.now + SECOND)?;
        }
        let (intake, ..) = self.collector.running.as_ref().ok_or("the collector is down")?;
        let (behind_at, ..) = intake.sequencer().position(&self.rogue.host);
        self.run_until(self.now + 2 * SILENCE_NS)?;
        Ok(Planted {
            host: self.rogue.host,
            twins: self.rogue.twins(),
            behind_at,
        })
    }

    pub(super) fn misbehave(&mut self, deed: Deed) -> Result<(), String> {
        self.rogue.connections += 1;
        let connection = ConnectionId(CONNECTIONS + self.rogue.connections);
        let (now, host) = (BootNanos(self.now), self.rogue.host);
        let hello = self.rogue.hello(deed);
        let Some((intake, ..)) = &mut self.collector.running else {
            return Ok(());
        };
        intake.handle_connected(now, connection, host);
        intake.handle_bytes(now, connection, &hello);
        self.pump_collector()?;
        let Some((next, nonce)) = self.welcomed(connection) else {
            return Ok(());
        };
        // A twin proves something once the ledger holds the other one.
        let batches = match (deed, next.0) {
            (Deed::Twin, 0) => Vec::new(),
            _ => self.rogue.batches(deed, next, nonce, self.now),
        };
        for batch in batches {
            if let Some((intake, ..)) = &mut self.collector.running {
                intake.handle_bytes(now, connection, &batch);
            }
            self.pump_collector()?;
        }
        if let Some((intake, ..)) = &mut self.collector.running {
            intake.handle_disconnected(connection);
        }
        self.count("deeds of a rogue");
        Ok(())
    }

    /// The batch that the collector awaits and the nonce it gave, if it took the hello.
    fn welcomed(&mut self, connection: ConnectionId) -> Option<(Sequence, Nonce)> {
        let (intake, ..) = self.collector.running.as_mut()?;
        let mut decoder = FrameDecoder::default();
        while let Some(bytes) = intake.poll_transmit(connection) {
            decoder.push(&bytes);
        }
        while let Ok(Some(message)) = decoder.next_message() {
            if let Message::Welcome(welcome) = message {
                return Some((welcome.next, welcome.nonce));
            }
        }
        None
    }
}

/// What the pipeline's desk tells the watchman where headers contradict each other.
pub(super) fn contradicted(
    watch: &mut Watch,
    host: common::ids::HostId,
    rejected: &common::sequencer::Rejected,
) {
    if !rejected.held.is_empty() {
        watch.contradiction(host, &rejected.held, &rejected.offending);
    }
}
