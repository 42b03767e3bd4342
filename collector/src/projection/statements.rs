//! The index of the collector's statements: a fixed-size record for each, by number; silences also by the batch
//! that they follow.

use std::collections::BTreeMap;

use common::{
    answer::{Moment, StatedSilence},
    ids::{Hash, HostId, LeafIndex, Sequence, StatementNumber, WallNanos},
    statement::{Kind, Said, UnverifiedStatement},
};

/// One statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatementRecord {
    /// Its place in the ledger.
    pub leaf: LeafIndex,
    /// When it was made.
    pub at: WallNanos,
    /// Its kind.
    pub kind: Kind,
    /// The host it is about, where it is about one.
    pub host: Option<HostId>,
}

/// All statements.
#[derive(Debug, Default)]
pub struct Statements {
    records: Vec<StatementRecord>,
    silences: BTreeMap<(HostId, Sequence), StatedSilence>,
    head: Hash,
}

impl Statements {
    /// Appends a statement; `false` where it does not continue the chain.
    pub fn push(&mut self, leaf: LeafIndex, statement: &UnverifiedStatement) -> bool {
        let fields = statement.claimed();
        if fields.number.0 != self.records.len() as u64 || fields.previous != self.head {
            return false;
        }
        self.records.push(StatementRecord {
            leaf,
            at: fields.at,
            kind: fields.said.kind(),
            host: fields.said.host(),
        });
        if let Said::Silent {
            host,
            last: Some(last),
            since,
            ..
        } = &fields.said
        {
            let stated = StatedSilence {
                statement: fields.number,
                since: Moment(*since),
            };
            self.silences.entry((*host, last.sequence)).or_insert(stated);
        }
        self.head = statement.hash();
        true
    }

    /// The statement of that number.
    #[must_use]
    pub fn get(&self, number: StatementNumber) -> Option<&StatementRecord> {
        self.records.get(usize::try_from(number.0).ok()?)
    }

    /// The statement that a host was silent after this batch of it.
    #[must_use]
    pub fn silence_after(&self, host: &HostId, batch: Sequence) -> Option<StatedSilence> {
        self.silences.get(&(*host, batch)).copied()
    }

    /// All of them, by number.
    #[must_use]
    pub fn records(&self) -> &[StatementRecord] {
        &self.records
    }
}
