//! A ledger as a busy fleet leaves it: full batches of connections, in groups of the collector's size.

use std::path::Path;
use std::sync::Arc;

use common::batch::HeaderFlags;
use common::note::SignerKey;
use common::sequencer::SequencerConfig;
use ledger::storage::Local;
use ledger::{Entry, Ledger};
use tests::chains::{Maker, connection, event, process_key};

use super::Outcome;

/// Hosts that take turns.
const HOSTS: u8 = 4;
/// Events of a batch.
const BATCH_EVENTS: u32 = 1600;

pub(super) fn ledger(folder: &Path, events: u32) -> Outcome {
    let signer = SignerKey::from_seed("bench.invalid/speed", &[1; 32])?;
    let storage = Arc::new(Local::open_writer(folder)?);
    let (mut ledger, _) = Ledger::open(storage, signer, collector::pipeline::describe)?;
    let mut makers: Vec<Maker> = (1..=HOSTS).map(Maker::new).collect();
    let group_bytes = SequencerConfig::default().group_bytes;
    let mut made = 0;
    while made < events {
        let mut bytes = 0;
        while made < events && bytes < group_bytes {
            for maker in &mut makers {
                let at = u64::from(made / BATCH_EVENTS + 1) * 10;
                let batch: Vec<_> = (0..BATCH_EVENTS)
                    .map(|number| {
                        let cookie = u64::from(made + number);
                        let ends = ("10.0.0.5:40000", "10.0.0.9:443");
                        let closed = (number % 2 == 1).then_some((1_000, 20_000));
                        event(at, connection(cookie, ends, process_key(1000, 1), at, closed))
                    })
                    .collect();
                maker.seal(HeaderFlags::default(), at, at + 9, &batch);
                made += BATCH_EVENTS;
                bytes += maker.sealed.last().map_or(0, |(_, body)| body.len() as u64);
            }
        }
        let sealed: Vec<_> = makers
            .iter_mut()
            .flat_map(|maker| maker.sealed.drain(..))
            .collect();
        let entries: Vec<Entry<'_>> = sealed
            .iter()
            .map(|(header, body)| Entry { header, body })
            .collect();
        ledger.append_group(&entries)?;
        ledger.integrate_and_publish()?;
    }
    Ok(())
}
