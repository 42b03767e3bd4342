//! The watchman as the collector's pipeline drives him, in virtual time.
//!
//! Owns what the pipeline's desk does for him: what he is told at a start, his clock, and his words on their way into
//! the sequencer. What is to be said is his to decide, whether it is true is judged in [`crate::accused`].

use common::{
    batch::HeaderFields,
    ids::{BootNanos, Hash, HostId, LeafIndex, Nonce, Sequence, WallNanos},
    note::SignerKey,
    sequencer::Sequencer,
    statement::{BatchPoint, UnverifiedStatement},
    text::Text,
    watchman::{BadStanding, Now, Registered, Standing, UnverifiedStanding, Watchman, WatchmanConfig},
};
use ledger::{ReadError, Reader, last_header};

/// The wall clock of everybody who is honest: 2023-11-14, far from zero.
pub(crate) const WALL_ORIGIN: u64 = 1_700_000_000_000_000_000;
/// How long a host may say nothing.
pub(crate) const SILENCE_NS: u64 = 4_000_000_000;

/// A bug planted into what the watchman is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Deceived {
    Not,
    /// He believes that he has listened since time began.
    OfHisOwnAbsence,
    /// He does not know what was said before the last start.
    OfWhatWasSaid,
}

/// The watchman of one life of the collector.
#[derive(Debug)]
pub(crate) struct Watch {
    watchman: Watchman,
    signer: SignerKey,
}

fn clocks(now: u64) -> Now {
    Now {
        monotonic: BootNanos(now),
        wall: WallNanos(WALL_ORIGIN + now),
        error_ns: 0,
    }
}

/// What the next life reads of it.
fn kept(standing: &Standing, signer: &SignerKey) -> Result<Standing, BadStanding> {
    let ledger = Hash::default();
    let bytes = standing.sign(&ledger, signer)?.unwrap_or_default();
    UnverifiedStanding::parse(&bytes)?.verify(&ledger, signer.verifier())
}

impl Watch {
    /// One who knows what the ledger says, and watches over these hosts.
    pub(crate) fn recover(
        reader: &Reader,
        signer: &SignerKey,
        registered: &[HostId],
        now: u64,
        deceived: Deceived,
    ) -> Result<Self, String> {
        let begun = if deceived == Deceived::OfHisOwnAbsence {
            0
        } else {
            now
        };
        let config = WatchmanConfig {
            silence_ns: SILENCE_NS,
            tolerance_ns: 1_000_000_000,
            clock_every_ns: 3_600_000_000_000,
        };
        let mut watchman = Watchman::new(config, clocks(begun));
        let header = |host: &HostId, sequence| -> Result<Option<(LeafIndex, Vec<u8>)>, String> {
            let record = reader.find(host, sequence).map_err(|e| e.to_string())?;
            let read = record.map(|record| Ok((record.leaf, reader.header(record.leaf)?)));
            read.transpose().map_err(|e: ReadError| e.to_string())
        };
        let mut standing = Standing::default();
        while deceived != Deceived::OfWhatWasSaid
            && let Some((leaf, statement)) = header(&HostId::COLLECTOR, Sequence(standing.count()))?
        {
            let statement = UnverifiedStatement::parse(&statement).map_err(|e| e.to_string())?;
            standing.follow(leaf, &statement).map_err(|e| e.to_string())?;
            // An earlier life may have ended anywhere behind what it kept last.
            if (standing.count() + now).is_multiple_of(3) {
                standing = kept(&standing, signer).map_err(|e| e.to_string())?;
            }
        }
        watchman.take_up(clocks(now), &standing);
        for host in reader.hosts() {
            let last = last_header(reader, &host).map_err(|e| e.to_string())?;
            let Some(last) = last else { continue };
            let Some(first) = watchman.restore(last.fields(), last.hash()) else {
                continue;
            };
            if let Some((_, found)) = header(&host, first)? {
                let point = BatchPoint {
                    sequence: first,
                    header: Hash::of(&found),
                };
                watchman.restore_return(clocks(now), host, point);
            }
        }
        let register: Vec<Registered> = registered
            .iter()
            .map(|host| Registered {
                host: *host,
                name: Text(host.short().into_bytes()),
                enrolled_at: WallNanos(WALL_ORIGIN),
                ended: None,
            })
            .collect();
        watchman.handle_register(clocks(now), &register);
        Ok(Self {
            watchman,
            signer: signer.clone(),
        })
    }

    /// An agent says where its chain stands; held against the ledger as the pipeline's desk does.
    pub(crate) fn opened(
        &mut self,
        host: HostId,
        agent: (Sequence, Hash),
        sequencer: &Sequencer,
        reader: &Reader,
    ) {
        let (next, head, _) = sequencer.position(&host);
        let before = agent.0.0.checked_sub(1).filter(|_| agent.0 <= next);
        let shared = before.and_then(|before| {
            let record = reader.find(&host, Sequence(before)).ok()??;
            reader.header(record.leaf).ok()
        });
        let shared = shared.map(|header| Hash::of(&header));
        if before.is_none() || shared.is_some() {
            self.watchman.handle_opening(host, agent, (next, head), shared);
        }
    }

    pub(crate) fn nonce(&mut self, now: u64, host: HostId, nonce: Nonce) {
        self.watchman.handle_nonce(clocks(now), host, nonce);
    }

    pub(crate) fn admitted(&mut self, now: u64, header: &HeaderFields, hash: Hash) {
        self.watchman.handle_batch(clocks(now), header, hash);
    }

    pub(crate) fn contradiction(&mut self, host: HostId, held: &[u8], offered: &[u8]) {
        self.watchman.handle_contradiction(host, held, offered);
    }

    pub(crate) fn deaf(&mut self, now: u64) {
        self.watchman.handle_deaf(clocks(now));
    }

    pub(crate) fn poll_timeout(&self) -> BootNanos {
        self.watchman.poll_timeout()
    }

    /// Lets time pass and takes what is to be said into the sequencer; whether anything was.
    pub(crate) fn say(&mut self, now: u64, sequencer: &mut Sequencer) -> Result<bool, String> {
        if sequencer.no_space() {
            self.deaf(now);
        }
        self.watchman.handle_timeout(clocks(now));
        let mut spoke = false;
        while !sequencer.no_space()
            && sequencer.failed().is_none()
            && let Some(said) = self.watchman.poll_said()
        {
            let at = clocks(now);
            let statement = sequencer
                .statements()
                .write(said.clone(), at.wall, at.error_ns, &self.signer)
                .map_err(|e| e.to_string())?;
            let number = statement.fields().number;
            sequencer
                .admit_statement(at.monotonic, statement)
                .map_err(|e| e.to_string())?;
            self.watchman.note(at, number, &said);
            spoke = true;
        }
        Ok(spoke)
    }
}
