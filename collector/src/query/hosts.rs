//! Which hosts there are, and which one a person means.

use common::{
    answer::{BatchRow, Clock, HostRow, Moment, Page, Status},
    batch::{SensorCounters, UnverifiedHeader},
    ids::HostId,
};

use super::{Paging, Query, QueryError, bad_cursor};

/// Most candidates named where a text fits several hosts.
const CANDIDATES_MAX: usize = 10;

impl Query {
    /// The collector and its ledger.
    #[must_use]
    pub fn status(&self) -> Status {
        let entries = self.projection.entries();
        Status {
            origin: entries.origin(),
            size: entries.size(),
            root: entries.root(),
            verifier_key: entries.verifier_key(),
            key_in_force: entries.key_in_force(),
            indexed: self.projection.indexed(),
            hosts: self.projection.hosts().len() as u64,
        }
    }

    /// The host that a text names: its id, the beginning of its id, or its name.
    pub fn host(&self, text: &str) -> Result<HostId, QueryError> {
        let hosts = self.projection.hosts();
        let name_of = |host: &HostId| self.projection.hostname(host).map(|name| name.to_string());
        let fits: Vec<&HostId> = hosts
            .iter()
            .filter(|host| {
                (!text.is_empty() && host.to_string().starts_with(text))
                    || name_of(host).as_deref() == Some(text)
            })
            .collect();
        match fits[..] {
            [] => Err(QueryError::NoSuchHost(text.chars().take(80).collect())),
            [host] => Ok(*host),
            _ => Err(QueryError::Ambiguous {
                text: text.chars().take(80).collect(),
                candidates: fits
                    .iter()
                    .take(CANDIDATES_MAX)
                    .map(|host| match name_of(host) {
                        Some(name) => format!("{} ({name})", host.short()),
                        None => host.short(),
                    })
                    .collect(),
            }),
        }
    }

    /// The hosts that texts name, by id; all where there is no text.
    pub(super) fn hosts_named(&self, texts: &[String]) -> Result<Vec<HostId>, QueryError> {
        if texts.is_empty() {
            return Ok(self.projection.hosts());
        }
        let mut hosts = texts
            .iter()
            .map(|text| self.host(text))
            .collect::<Result<Vec<_>, _>>()?;
        hosts.sort();
        hosts.dedup();
        Ok(hosts)
    }

    /// The hosts, by id.
    pub fn hosts(&self, named: &[String], paging: &Paging) -> Result<Page<HostRow>, QueryError> {
        let rows_max = paging.rows()?;
        let after: Option<HostId> = match &paging.cursor {
            None => None,
            Some(text) => Some(text.parse().map_err(|_| bad_cursor())?),
        };
        let mut hosts = self.hosts_named(named)?;
        hosts.retain(|host| after.is_none_or(|after| *host > after));
        let more = hosts.len() > rows_max;
        hosts.truncate(rows_max);
        let rows = hosts
            .iter()
            .map(|host| self.host_row(host))
            .collect::<Result<Vec<_>, _>>()?;
        let next = rows.last().filter(|_| more).map(|row| row.host.to_string());
        Ok(Page { rows, next })
    }

    fn host_row(&self, host: &HostId) -> Result<HostRow, QueryError> {
        let no_such = || QueryError::NoSuchHost(host.to_string());
        let chain = self.projection.chain(host).ok_or_else(no_such)?;
        let ends = [chain.at(0)?, chain.newest().copied()].into_iter().flatten();
        let ends = chain.spans(&ends.collect::<Vec<_>>())?;
        let (Some(first), Some(last)) = (ends.first(), ends.last()) else {
            return Err(no_such());
        };
        let mut row = HostRow {
            host: *host,
            hostname: self.projection.hostname(host),
            batches: chain.len() as u64,
            events: chain.events(),
            runs: chain.runs(),
            first: Moment(first.from_wall),
            until: Moment(last.until_wall),
            stopped: last.flags.last_before_stop,
            clock: Clock::of(last),
            happened: 0,
            lost: 0,
            misplaced: chain.misplaced(),
        };
        if let Ok(header) = UnverifiedHeader::parse(&self.projection.entries().header(last.leaf)?) {
            let sum = |count: fn(&SensorCounters) -> u64| header.claimed().sensors.iter().map(count).sum();
            row.happened = sum(|counters| counters.happened);
            row.lost = sum(|counters| counters.lost);
        }
        Ok(row)
    }

    /// The batches of a host, by sequence.
    pub fn batches(&self, host: &str, paging: &Paging) -> Result<Page<BatchRow>, QueryError> {
        let host = self.host(host)?;
        let rows_max = paging.rows()?;
        let from = usize::try_from(paging.from()?).unwrap_or(usize::MAX);
        let Some(chain) = self.projection.chain(&host) else {
            return Err(QueryError::NoSuchHost(host.to_string()));
        };
        let spans = chain.spans(&chain.records(from, from.saturating_add(rows_max))?)?;
        let end = from.saturating_add(spans.len());
        Ok(Page {
            rows: spans.iter().map(BatchRow::of).collect(),
            next: (end < chain.len()).then(|| end.to_string()),
        })
    }
}
