//! Ledgers in which the collector has said something of its hosts.

use std::sync::Arc;

use common::{
    ids::{Hash, HostId, Sequence},
    note::SignerKey,
    statement::{BatchPoint, Said, StatementChain},
};
use ledger::{Entry, Ledger, Memory};

use crate::chains::{LEDGER_KEY_SEED, Maker, ledger_of, wall};

/// That a host fell silent after its batch `last`, at `ms`.
#[must_use]
pub fn silent(host: HostId, last: u64, ms: u64) -> Said {
    Said::Silent {
        host,
        last: Some(BatchPoint {
            sequence: Sequence(last),
            header: Hash::default(),
        }),
        since: wall(ms),
        watching_since: wall(0),
        threshold_ns: 1_000_000_000,
    }
}

/// A ledger of these chains and, behind them, what was said, a millisecond apart.
///
/// # Panics
/// Where it cannot be written.
#[must_use]
#[expect(
    clippy::unwrap_used,
    reason = "test support: a ledger that cannot be written fails the test"
)]
pub fn stated(makers: &[&Maker], said: &[Said]) -> Ledger {
    let key = SignerKey::from_seed("ledger.example/test", &LEDGER_KEY_SEED).unwrap();
    let mut ledger = ledger_of(Arc::new(Memory::new()), makers);
    let mut chain = StatementChain::default();
    for (said, ms) in said.iter().zip(0..) {
        let statement = chain.write(said.clone(), wall(ms), 5, &key).unwrap();
        let header = statement.bytes();
        ledger.append_group(&[Entry { header, body: &[] }]).unwrap();
        chain.follow(&statement).unwrap();
    }
    ledger.integrate_and_publish().unwrap();
    ledger
}
