//! The collector's statements, as the index finds them: by number; silences also by the batch that they follow.

use common::{
    answer::{Moment, StatedEnd, StatedSilence},
    ids::{HostId, Sequence, StatementNumber},
    projection::{Slot, StatedRecord, links::search},
    statement::{Said, UnverifiedStatement},
};

use super::{Entries, IndexError, Projection, StateError, index::Index};

/// Records held in memory at a time while statements are searched.
const RECORDS_AT_ONCE: usize = 1024;

/// All statements.
pub struct Statements<'a> {
    pub(super) index: &'a Index,
    pub(super) entries: &'a dyn Entries,
}

impl Projection {
    /// The collector's statements.
    #[must_use]
    pub fn statements(&self) -> Statements<'_> {
        Statements {
            index: &self.index,
            entries: &*self.entries,
        }
    }
}

impl Statements<'_> {
    /// The statement of that number: its record, and the statement as it stands in the ledger.
    ///
    /// # Errors
    /// Ledger or index do not serve.
    pub fn get(
        &self,
        number: StatementNumber,
    ) -> Result<Option<(StatedRecord, UnverifiedStatement)>, StateError> {
        if number.0 >= self.index.statements() {
            return Ok(None);
        }
        let record = self.index.stated(Slot(number.0), 1)?.pop();
        record.map(|record| self.held(number, record)).transpose()
    }

    /// A record that the statement in the ledger agrees with.
    fn held(
        &self,
        number: StatementNumber,
        record: StatedRecord,
    ) -> Result<(StatedRecord, UnverifiedStatement), StateError> {
        let bytes = self.entries.header(record.leaf)?;
        let fits = |statement: &UnverifiedStatement| {
            let fields = statement.claimed();
            fields.number == number && fields.at == record.at && fields.said.host() == record.host
        };
        match UnverifiedStatement::parse(&bytes).ok().filter(fits) {
            Some(statement) => Ok((record, statement)),
            None => Err(StateError::not_what_the_ledger_has(record.leaf)),
        }
    }

    /// The statement that a host was silent after this batch of it; the first one where several say so.
    ///
    /// # Errors
    /// Ledger or index do not serve.
    pub fn silence_after(&self, host: &HostId, batch: Sequence) -> Result<Option<StatedSilence>, StateError> {
        let Some(newest) = self.index.tip(host, |tip| tip.kept.silence).flatten() else {
            return Ok(None);
        };
        let read = |slot: Slot| Ok((slot, self.index.silence(slot)?));
        let past =
            |(_, record): &(Slot, StatedRecord)| record.silence.is_some_and(|silence| silence.last >= batch);
        let broken = |at: &(Slot, StatedRecord)| {
            IndexError::Damaged(format!("links of statement {} lead elsewhere", at.0.0))
        };
        let found = search(read(newest)?, past, read, broken)?.past;
        let Some((slot, record, silence)) =
            found.and_then(|(slot, record)| Some((slot, record, record.silence?)))
        else {
            return Ok(None);
        };
        if silence.last != batch {
            return Ok(None);
        }
        let statement = StatementNumber(slot.0);
        self.held(statement, record)?;
        Ok(Some(StatedSilence {
            statement,
            since: Moment(silence.since),
        }))
    }

    /// The statement that a host's end was declared.
    ///
    /// # Errors
    /// Ledger or index do not serve.
    pub fn end_of(&self, host: &HostId) -> Result<Option<StatedEnd>, StateError> {
        let Some(Slot(number)) = self.index.tip(host, |tip| tip.kept.end).flatten() else {
            return Ok(None);
        };
        let statement = StatementNumber(number);
        let Some((record, held)) = self.get(statement)? else {
            return Ok(None);
        };
        match &held.claimed().said {
            Said::HostEnded {
                host: ended,
                ended_at,
                reason,
                ..
            } if ended == host => Ok(Some(StatedEnd {
                statement,
                at: Moment(*ended_at),
                reason: reason.clone(),
            })),
            _ => Err(StateError::not_what_the_ledger_has(record.leaf)),
        }
    }

    /// Numbers from `from` on of statements that fit, at most so many.
    ///
    /// # Errors
    /// The index does not serve.
    pub fn find(
        &self,
        from: u64,
        most: usize,
        fits: impl Fn(&StatedRecord) -> bool,
    ) -> Result<Vec<StatementNumber>, IndexError> {
        let (mut at, all) = (from, self.index.statements());
        let mut found = Vec::new();
        while at < all && found.len() < most {
            let left = usize::try_from(all - at).unwrap_or(usize::MAX);
            let records = self.index.stated(Slot(at), left.min(RECORDS_AT_ONCE))?;
            let fitting = (at..).zip(&records).filter(|(_, record)| fits(record));
            found.extend(fitting.map(|(number, _)| StatementNumber(number)));
            at = at.saturating_add(records.len() as u64);
        }
        found.truncate(most);
        Ok(found)
    }
}
