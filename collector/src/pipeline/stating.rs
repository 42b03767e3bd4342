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
    statement::{BatchPoint, Said, UnverifiedStatement},
    watchman::{Now, Watchman, WatchmanConfig},
};
use ledger::Reader;

use super::{NotStated, RecoverError, Recovery, Retain};
use crate::config::Config;

/// Anomalies of one host's clock, of one kind, are stated at most this often.
const CLOCK_EVERY: Duration = Duration::from_secs(3600);

pub(super) struct Stating {
    pub(super) watchman: Watchman,
    /// The legal holds in force behind the last statement admitted.
    pub(super) holds: Holds,
    signer: SignerKey,
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
    /// A watchman who knows what the ledger says: every statement in order, then every chain's end.
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
        let mut holds = Holds::default();
        let count = reader
            .host_head(&HostId::COLLECTOR)?
            .map_or(0, |last| last.sequence.0.saturating_add(1));
        for number in 0..count {
            if let Some(record) = reader.find(&HostId::COLLECTOR, Sequence(number))? {
                let statement = UnverifiedStatement::parse(&reader.header(record.leaf)?)?;
                let (number, said) = (StatementNumber(number), &statement.claimed().said);
                watchman.note(now, number, said);
                holds.follow(number, said);
            }
        }
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
            holds,
            signer: recovery.signer.clone(),
        })
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
