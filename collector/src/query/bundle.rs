//! Audit bundles: hosts and events named as in every other question, the rest is [`ledger::bundle`]'s.

use common::{bundle::Selection, fold::EntityId, ids::WallNanos};
use ledger::bundle::ExportError;

use super::{Query, QueryError};

/// Longest bundle that is made for a request, bytes: it is built and checked in memory. A ledger directory has no
/// such bound.
const BUNDLE_BYTES_MAX: usize = 256 << 20;

impl Query {
    /// The bundle about an interval, of these hosts (all where none is named) and this entity.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn bundle_of_interval(
        &self,
        (since, until): (WallNanos, WallNanos),
        hosts: &[String],
        entity: Option<&str>,
    ) -> Result<Vec<u8>, QueryError> {
        if since > until {
            return Err(QueryError::BadRequest {
                cause: "`since` lies after `until`".into(),
                remedy: "swap `since` and `until`".into(),
            });
        }
        let entity = entity.map(str::parse::<EntityId>).transpose();
        let entity = entity.map_err(|bad| QueryError::BadRequest {
            cause: bad.to_string(),
            remedy: "use the address that `get` or `ps -o wide` gives".into(),
        })?;
        let mut named = Vec::new();
        if !hosts.is_empty() {
            named = self.hosts_named(hosts)?;
            named.sort_unstable();
            named.dedup();
        }
        self.export(&Selection::Interval {
            since,
            until,
            hosts: named,
            entity,
        })
    }

    /// The bundle of events named `<host>:<index>`.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn bundle_of_events(&self, events: &[String]) -> Result<Vec<u8>, QueryError> {
        let named = events.iter().map(|event| self.event_named(event));
        let mut named = named.collect::<Result<Vec<_>, _>>()?;
        named.sort_unstable();
        named.dedup();
        self.export(&Selection::Events(named))
    }

    fn export(&self, selection: &Selection) -> Result<Vec<u8>, QueryError> {
        let made = self.projection.entries().bundle(selection, BUNDLE_BYTES_MAX);
        made.map_err(|error| match error {
            ExportError::NoSuchEvent { .. } => QueryError::NotFound(error.to_string()),
            ExportError::TooMuch { .. } => QueryError::TooMuch {
                cause: error.to_string(),
            },
            _ => QueryError::Unprovable(error.to_string()),
        })
    }
}
