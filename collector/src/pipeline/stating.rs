//! The watchman's driver: gives him the clock and the ledger, and takes what he says into the sequencer.
//!
//! Owns the key that signs statements and where the collector's chain of them stands at start. What is to be
//! said is [`Watchman`]'s to decide.

use std::time::{Duration, SystemTime};

use common::{
    batch::UnverifiedHeader,
    ids::{BootNanos, HostId, Sequence, StatementNumber, WallNanos},
    note::SignerKey,
    retention::Holds,
    sequencer::Sequencer,
    statement::{BatchPoint, Said},
    watchman::{Now, Watchman, WatchmanConfig},
};
use ledger::Reader;

use super::{
    NotStated, RecoverError, Recovery, Retain,
    standing::{Keeping, StandingFile},
};
use crate::config::Config;

/// Anomalies of one host's clock, of one kind, are stated at most this often.
const CLOCK_EVERY: Duration = Duration::from_secs(3600);

pub(super) struct Stating {
    pub(super) watchman: Watchman,
    /// The legal holds in force behind the last statement admitted.
    pub(super) holds: Holds,
    signer: SignerKey,
    /// Brings what statements come to into their file; nobody where there is none.
    keeping: Option<Keeping>,
}

/// Both clocks. Nobody vouches for the wall clock's error here: asking the kernel takes `unsafe`, which this
/// program forbids itself.
pub(super) fn read_clocks(monotonic: BootNanos) -> Now {
    Now {
        monotonic,
        wall: wall_now(),
        error_ns: u64::MAX,
    }
}

/// The collector's wall clock, by which statements are dated and ages reckoned.
pub(crate) fn wall_now() -> WallNanos {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let nanos = since.map_or(0, |since| since.as_nanos());
    WallNanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

impl Stating {
    /// A watchman who knows what the ledger says: what all statements come to, then every chain's end.
    pub(super) fn recover(
        recovery: &Recovery,
        config: &Config,
        monotonic: BootNanos,
    ) -> Result<Self, RecoverError> {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        let now = read_clocks(monotonic);
        let config = WatchmanConfig {
            silence_ns: nanos(config.silence_after),
            tolerance_ns: nanos(config.clock_tolerance),
            clock_every_ns: nanos(CLOCK_EVERY),
        };
        let reader = recovery.ledger.reader();
        let mut watchman = Watchman::new(config, now);
        watchman.take_up(now, &recovery.standing);
        for header in &recovery.chains {
            let host = header.fields().host;
            let Some(first) = watchman.restore(header.fields(), header.hash()) else {
                continue;
            };
            if let Some(first) = point_at(&reader, &host, first)? {
                watchman.restore_return(now, host, first);
            }
        }
        Ok(Self {
            watchman,
            holds: recovery.standing.holds().clone(),
            signer: recovery.signer.clone(),
            keeping: None,
        })
    }

    /// From now on what statements come to is kept in that file, on a thread of its own.
    pub(super) fn keep_in(&mut self, file: StandingFile) -> std::io::Result<()> {
        self.keeping = Some(Keeping::start(file)?);
        Ok(())
    }

    /// That statement is durable: what they come to may be kept up to it.
    pub(super) fn durable(&mut self, number: StatementNumber) {
        if let Some(keeping) = &mut self.keeping {
            keeping.durable(number);
        }
    }

    /// Lets time pass and takes what is to be said into the sequencer. While the disk is full it waits with the
    /// watchman, whose queue is bounded.
    pub(super) fn say(&mut self, now: Now, sequencer: &mut Sequencer) {
        if sequencer.no_space() {
            self.watchman.handle_deaf(now);
        }
        self.watchman.handle_timeout(now);
        while !sequencer.no_space() && sequencer.failed().is_none() {
            let Some(said) = self.watchman.poll_said() else {
                return;
            };
            let kind = said.kind();
            if let Err(error) = self.state(now, said, sequencer) {
                tracing::error!(%kind, %error, "a statement cannot be made; please report this");
            }
        }
    }

    /// States what retention asks for, where that may be; the statement's number, if there is one.
    pub(super) fn retain(
        &mut self,
        now: Now,
        what: Retain,
        sequencer: &mut Sequencer,
    ) -> Result<Option<StatementNumber>, NotStated> {
        let Some(said) = what.judge(&self.holds)? else {
            return Ok(None);
        };
        if sequencer.no_space() {
            return Err(NotStated::NoSpace);
        }
        Ok(Some(self.state(now, said, sequencer)?))
    }

    fn state(
        &mut self,
        now: Now,
        said: Said,
        sequencer: &mut Sequencer,
    ) -> Result<StatementNumber, NotStated> {
        let (kind, host) = (said.kind(), said.host());
        let chain = *sequencer.statements();
        let statement = chain.write(said, now.wall, now.error_ns, &self.signer)?;
        let (number, said) = (statement.fields().number, statement.fields().said.clone());
        sequencer.admit_statement(now.monotonic, statement)?;
        self.watchman.note(now, number, &said);
        self.holds.follow(number, &said);
        if let Some(host) = host {
            tracing::info!(%host, %number, %kind, text = %said, "stated");
        }
        Ok(number)
    }
}

/// The header held of a host under this sequence, named.
fn point_at(reader: &Reader, host: &HostId, sequence: Sequence) -> Result<Option<BatchPoint>, RecoverError> {
    let Some(record) = reader.find(host, sequence)? else {
        return Ok(None);
    };
    let header = reader.header(record.leaf)?;
    let parsed = UnverifiedHeader::parse(&header).ok();
    Ok(parsed.map(|header| BatchPoint {
        sequence,
        header: header.hash(),
    }))
}
