//! The proofs of one event and of one statement.

use common::{
    ids::{EventIndex, HostId, StatementNumber},
    merkle::inclusion_proof,
    proof::{EventProof, KEY_HISTORY_MAX},
    statement::{Equivocation, Said, StatementProof},
};

use super::{Query, QueryError};

impl Query {
    /// The proof file of an event, named `<host>:<index>`.
    pub fn proof(&self, event: &str) -> Result<EventProof, QueryError> {
        let (host, index) = self.event_named(event)?;
        let Some(span) = self.projection.batch_of(&host, index)? else {
            return Err(QueryError::NotFound(format!(
                "host {} has no event {index} in the ledger",
                host.short()
            )));
        };
        let (header, body) = self.projection.batch(&host, &span)?;
        let epoch = header.fields().key_epoch;
        if epoch.0 > KEY_HISTORY_MAX as u64 {
            return Err(QueryError::TooMuch {
                cause: format!(
                    "event {index} is of key epoch {epoch}, a proof file carries the history of {KEY_HISTORY_MAX}"
                ),
            });
        }
        let events = self.projection.check(span.leaf, &header, &body)?;
        let position = index.0.saturating_sub(span.first_event.0);
        let at = usize::try_from(position).unwrap_or(usize::MAX);
        let found = events.events().nth(at).zip(inclusion_proof(events.leaves(), at));
        let ((_, event), path) =
            found.ok_or_else(|| QueryError::Internal("a batch lacks its own event".into()))?;
        Ok(EventProof {
            event: event.to_vec(),
            position: u32::try_from(position).map_err(|error| QueryError::Internal(error.to_string()))?,
            path,
            header: header.bytes().to_vec(),
            key_history: self.projection.key_history(&host, epoch)?,
            receipt: self.projection.entries().receipt(span.leaf)?,
        })
    }

    /// The proof file of a statement of the collector.
    pub fn statement_proof(&self, number: StatementNumber) -> Result<StatementProof, QueryError> {
        let Some((record, statement)) = self.projection.statements().get(number)? else {
            return Err(QueryError::NotFound(format!(
                "there is no statement {number} in the ledger"
            )));
        };
        Ok(StatementProof {
            statement: statement.bytes().to_vec(),
            key_history: match &statement.claimed().said {
                Said::Equivocation(said) => self.accused_keys(said)?,
                _ => Vec::new(),
            },
            receipt: self.projection.entries().receipt(record.leaf)?,
        })
    }

    /// What proves that the key of the header held is the accused host's; nothing where there is more than a file
    /// carries, which then leaves that open.
    fn accused_keys(&self, said: &Equivocation) -> Result<Vec<Vec<u8>>, QueryError> {
        match said.key_epoch() {
            Some(epoch) if epoch.0 <= KEY_HISTORY_MAX as u64 => {
                Ok(self.projection.key_history(&said.host, epoch)?)
            }
            _ => Ok(Vec::new()),
        }
    }

    pub(super) fn event_named(&self, text: &str) -> Result<(HostId, EventIndex), QueryError> {
        let bad = || QueryError::BadRequest {
            cause: format!("`{}` names no event", text.chars().take(100).collect::<String>()),
            remedy: "write it as <host>:<event>, where event is the number a row gives as `event`".into(),
        };
        let (host, index) = text.rsplit_once(':').ok_or_else(bad)?;
        let index = index.parse().map_err(|_| bad())?;
        Ok((self.host(host)?, EventIndex(index)))
    }
}
