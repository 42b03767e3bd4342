//! The collector's statements, by number.

use common::{
    answer::{Moment, Page, StatementRow},
    ids::{HostId, StatementNumber, WallNanos},
    statement::{Kind, UnverifiedStatement},
};

use super::{Paging, Query, QueryError};

/// Which statements. Alternatives within a field, all fields must fit.
#[derive(Debug, Clone, Default)]
pub struct StatementFilter {
    /// Names, ids or beginnings of ids of the hosts they are about; any where empty.
    pub hosts: Vec<String>,
    /// Their kinds; any where empty.
    pub kinds: Vec<Kind>,
    /// Made at this instant or later.
    pub since: Option<WallNanos>,
    /// Made at this instant or earlier.
    pub until: Option<WallNanos>,
}

impl Query {
    /// Statements that fit, by number.
    ///
    /// # Errors
    /// The question, or the ledger.
    pub fn statements(
        &self,
        filter: &StatementFilter,
        paging: &Paging,
    ) -> Result<Page<StatementRow>, QueryError> {
        let rows_max = paging.rows()?;
        let from: usize = match &paging.cursor {
            None => 0,
            Some(text) => text.parse().map_err(|_| QueryError::BadRequest {
                cause: "`cursor` is none that a page gave".into(),
                remedy: "give `next` of the page before, unchanged".into(),
            })?,
        };
        let hosts = filter
            .hosts
            .iter()
            .map(|text| self.host_stated(text))
            .collect::<Result<Vec<_>, _>>()?;
        // One more than a page holds tells whether there is another.
        let found: Vec<usize> = self.projection.statements(|statements| {
            let fits = |at: &usize| {
                statements.records().get(*at).is_some_and(|record| {
                    (hosts.is_empty() || record.host.is_some_and(|host| hosts.contains(&host)))
                        && (filter.kinds.is_empty() || filter.kinds.contains(&record.kind))
                        && filter.since.is_none_or(|since| record.at >= since)
                        && filter.until.is_none_or(|until| record.at <= until)
                })
            };
            (from..statements.records().len())
                .filter(fits)
                .take(rows_max + 1)
                .collect()
        });
        let next = found.get(rows_max).map(ToString::to_string);
        let rows = found.iter().take(rows_max).map(|at| self.statement_row(*at));
        Ok(Page {
            rows: rows.collect::<Result<Vec<_>, _>>()?,
            next,
        })
    }

    /// A host that a statement may be about although it never sent a batch: then only its whole id names it.
    fn host_stated(&self, text: &str) -> Result<HostId, QueryError> {
        match self.host(text) {
            Err(QueryError::NoSuchHost(_)) if text.parse::<HostId>().is_ok() => {
                text.parse().map_err(|_| QueryError::NoSuchHost(text.to_owned()))
            }
            found => found,
        }
    }

    fn statement_row(&self, at: usize) -> Result<StatementRow, QueryError> {
        let number = StatementNumber(at as u64);
        let found = self
            .projection
            .statements(|statements| statements.get(number).copied());
        let record = found.ok_or_else(|| QueryError::Internal("an indexed statement is gone".into()))?;
        let bytes = self.projection.entries().header(record.leaf)?;
        let statement =
            UnverifiedStatement::parse(&bytes).map_err(|bad| QueryError::Internal(bad.to_string()))?;
        let fields = statement.claimed();
        let hostname = record.host.and_then(|host| {
            self.projection
                .chain(&host, |chain| chain.hostname().cloned())
                .flatten()
        });
        Ok(StatementRow {
            number,
            leaf: record.leaf,
            at: Moment(fields.at),
            clock_error_ns: Some(fields.clock_error_ns).filter(|error| *error != u64::MAX),
            kind: fields.said.kind().to_string(),
            hostname,
            text: fields.said.to_string(),
            said: fields.said.clone(),
        })
    }
}
