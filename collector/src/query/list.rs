//! Lists: the entities of a kind that live at an instant.

use common::{
    answer::{Answer, HostAnswer, Moment, ORDER_STATEMENT, Row, Verdict},
    event::Kind,
    ids::WallNanos,
};

use super::{Filter, HOSTS_PER_PAGE_MAX, HostAt, Paging, Query, QueryError, cursor::Cursor};

impl Query {
    /// The entities of `kind` that live at `at` (each host's latest watched instant where absent), host by
    /// host, by key.
    pub fn list(
        &self,
        kind: Kind,
        at: Option<WallNanos>,
        hosts: &[String],
        filter: &Filter,
        paging: &Paging,
    ) -> Result<Answer<Vec<Row>>, QueryError> {
        let mut rows_left = paging.rows()?;
        let begin = paging.cursor.as_deref().map(Cursor::decode).transpose()?;
        let mut hosts = self.hosts_named(hosts)?;
        if let Some(begin) = &begin {
            hosts.retain(|host| *host >= begin.host);
        }
        let mut answers: Vec<HostAnswer<Vec<Row>>> = Vec::new();
        let mut next = None;
        for host in hosts {
            if rows_left == 0 || answers.len() == HOSTS_PER_PAGE_MAX {
                next = Some(Cursor {
                    host,
                    at: at.or_else(|| self.projection.latest(&host)).unwrap_or_default(),
                    after: None,
                });
                break;
            }
            let resumed = begin.as_ref().filter(|cursor| cursor.host == host);
            let looked = self.look(&host, resumed.map(|cursor| cursor.at).or(at), kind)?;
            let after = resumed.and_then(|cursor| cursor.after.clone());
            let (verdict, more) = rows_of(&looked, kind, filter, after.as_ref(), rows_left);
            if let Verdict::Known { value } = &verdict {
                rows_left -= value.len();
            }
            answers.push(self.frame(&looked, verdict, kind));
            if let Some(after) = more {
                next = Some(Cursor {
                    host,
                    at: looked.cut.at,
                    after: Some(after),
                });
                break;
            }
        }
        Ok(Answer {
            at: at.map(Moment),
            ledger: self.position(),
            order: ORDER_STATEMENT.into(),
            hosts: answers,
            next: next.map(|cursor| cursor.encode()),
        })
    }
}

/// The rows of one host, and the last one's address where more follow.
fn rows_of(
    looked: &HostAt,
    kind: Kind,
    filter: &Filter,
    after: Option<&common::fold::EntityId>,
    rows_max: usize,
) -> (Verdict<Vec<Row>>, Option<common::fold::EntityId>) {
    let (folded, span) = match &looked.outcome {
        Ok(found) => found,
        Err(why) => return (Verdict::Unknown { why: why.clone() }, None),
    };
    let mut rows = Vec::new();
    let mut last = None;
    for (id, entry) in folded.state.alive(kind) {
        if after.is_some_and(|after| id <= after) {
            continue;
        }
        let Some(row) = Row::of(id, entry, span, Some(&folded.state)).filter(|row| filter.admits(row)) else {
            continue;
        };
        if rows.len() == rows_max {
            return (Verdict::Known { value: rows }, last);
        }
        rows.push(row);
        last = Some(id.clone());
    }
    (Verdict::Known { value: rows }, None)
}
