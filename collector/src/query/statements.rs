//! The collector's statements, by number.

use common::{
    answer::{Moment, Page, StatementRow},
    ids::{HostId, StatementNumber, WallNanos},
    statement::Kind,
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
        let from = paging.from()?;
        let hosts = filter
            .hosts
            .iter()
            .map(|text| self.host_stated(text))
            .collect::<Result<Vec<_>, _>>()?;
        let statements = self.projection.statements();
        // One more than a page holds tells whether there is another.
        let found = statements.find(from, rows_max.saturating_add(1), |record| {
            (hosts.is_empty() || record.host.is_some_and(|host| hosts.contains(&host)))
                && (filter.kinds.is_empty() || filter.kinds.contains(&record.kind))
                && filter.since.is_none_or(|since| record.at >= since)
                && filter.until.is_none_or(|until| record.at <= until)
        })?;
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

    fn statement_row(&self, number: StatementNumber) -> Result<StatementRow, QueryError> {
        let found = self.projection.statements().get(number)?;
        let (record, statement) =
            found.ok_or_else(|| QueryError::Internal("an indexed statement is gone".into()))?;
        let fields = statement.claimed();
        let hostname = record.host.and_then(|host| self.projection.hostname(&host));
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
