//! Ranges of time: what an entity went through, and the connections of an interval.
//!
//! Bodies are read one at a time; of a batch only envelopes are read until one fits.

use std::collections::BTreeMap;

use common::{
    answer::{Answer, Caveat, Completeness, Moment, ORDER_STATEMENT, Page, Row, Span, Unknown, Verdict},
    event::{Envelope, Event, Kind},
    fold::{End, EntityId, Entry, Mark, State, ends},
    ids::{EventIndex, HostId, WallNanos},
};

use super::{Filter, Paging, Query, QueryError, cursor::Cursor, entity::Wanted};
use crate::projection::{BatchRecord, Cut};

/// Most batches read for one page.
const BATCHES_PER_PAGE_MAX: usize = 20_000;
/// Most gaps within an interval that are named.
const GAPS_NAMED_MAX: usize = 16;
/// Most entities an interval may hold.
const ENTITIES_MAX: usize = 200_000;

/// What a search backwards found.
pub(super) enum Search {
    /// The last event about the entity.
    Found(Box<Row>),
    /// No event of the chain is about it.
    Nothing,
    /// None in the batches since then; there are more before.
    GaveUp { before: WallNanos },
}

impl Query {
    /// Every event about an entity, in the host's order.
    pub fn timeline(&self, entity: &str, host: &str, paging: &Paging) -> Result<Page<Row>, QueryError> {
        let host = self.host(host)?;
        let Wanted::Address(id, _) = Wanted::parse(entity)? else {
            return Err(QueryError::BadRequest {
                cause: "a pid names different processes over time".into(),
                remedy: "use the address that `get` or `ps -o wide` gives".into(),
            });
        };
        let rows_max = paging.rows()?;
        let from = paging.from()?;
        let Some(chain) = self.projection.chain(&host) else {
            return Err(QueryError::NoSuchHost(host.to_string()));
        };
        let begins = chain.first_past(|record| end_of(&record.span).0 > from)?;
        let first = begins.map_or(chain.len(), |record| record.position());
        let mut rows: Vec<Row> = Vec::new();
        let mut at = first;
        for record in chain.records(first, first.saturating_add(BATCHES_PER_PAGE_MAX))? {
            at += 1;
            for (index, bytes) in self.projection.events_about(&host, &record.span, &id)? {
                if index.0 < from {
                    continue;
                }
                if rows.len() == rows_max {
                    return Ok(Page {
                        rows,
                        next: Some(index.to_string()),
                    });
                }
                rows.extend(row(&id, index, bytes, &record.span));
            }
        }
        let next = chain.at(at)?;
        Ok(Page {
            rows,
            next: next.map(|record| record.span.first_event.to_string()),
        })
    }

    /// The last event about an entity before a cut, searched backwards.
    pub(super) fn last_before(&self, host: &HostId, id: &EntityId, cut: &Cut) -> Result<Search, QueryError> {
        let mut end = cut.end;
        let floor = cut.end.saturating_sub(BATCHES_PER_PAGE_MAX);
        let mut oldest = None;
        while end > floor {
            let begin = end.saturating_sub(64).max(floor);
            for record in self.projection.records(host, begin, end)?.iter().rev() {
                oldest = Some(record.span.from_wall);
                let events = self.projection.events_about(host, &record.span, id)?;
                let within = |bytes: &Vec<u8>| {
                    record.segment < cut.segment
                        || Envelope::parse(bytes).is_ok_and(|event| event.wall_ns <= cut.at)
                };
                if let Some((index, bytes)) = events.into_iter().rfind(|(_, bytes)| within(bytes)) {
                    return Ok(row(id, index, bytes, &record.span)
                        .map_or(Search::Nothing, |row| Search::Found(Box::new(row))));
                }
            }
            end = begin;
        }
        Ok(match oldest.filter(|_| floor > 0) {
            Some(before) => Search::GaveUp { before },
            None => Search::Nothing,
        })
    }

    /// The entities of `kind` that lived at some instant of `since..=until`, each as it was last in it.
    pub fn during(
        &self,
        kind: Kind,
        since: WallNanos,
        until: WallNanos,
        hosts: &[String],
        filter: &Filter,
        paging: &Paging,
    ) -> Result<Answer<Vec<Row>>, QueryError> {
        if since > until {
            return Err(QueryError::BadRequest {
                cause: format!("{} lies after {}", Moment(since), Moment(until)),
                remedy: "swap `since` and `until`".into(),
            });
        }
        let rows_max = paging.rows()?;
        let begin = paging.cursor.as_deref().map(Cursor::decode).transpose()?;
        let mut hosts = self.hosts_named(hosts)?;
        hosts.retain(|host| begin.as_ref().is_none_or(|cursor| *host >= cursor.host));
        let mut answers = Vec::new();
        let mut next = None;
        let mut rows_left = rows_max;
        for host in hosts {
            if rows_left == 0 || answers.len() == super::HOSTS_PER_PAGE_MAX {
                next = Some(Cursor {
                    host,
                    at: until,
                    after: None,
                });
                break;
            }
            let after = begin.as_ref().filter(|cursor| cursor.host == host);
            let after = after.and_then(|cursor| cursor.after.clone());
            let chain = self.projection.chain(&host);
            let clamped = chain.map_or(Ok(None), |chain| chain.clamp(since, until))?;
            let looked = self.look(&host, Some(clamped.map_or(until, |(_, hi)| hi)), kind)?;
            let (Some((lo, hi)), Some(span)) = (clamped, looked.cut.begun) else {
                let why = looked
                    .outcome
                    .as_ref()
                    .err()
                    .cloned()
                    .unwrap_or(Unknown::NoBatches);
                answers.push(self.frame(&looked, Verdict::Unknown { why }, kind));
                continue;
            };
            let mut entries = BTreeMap::new();
            // Where a run has no baseline yet, all that is known of its beginning follows as events.
            if let Ok((before, _)) = self.look(&host, Some(lo), kind)?.outcome {
                let alive = before.state.alive(kind);
                entries.extend(alive.map(|(id, entry)| (id.clone(), entry.clone())));
            }
            self.collect_between(&host, kind, lo, &looked.cut, &mut entries)?;
            let state = looked.outcome.as_ref().ok().map(|(folded, _)| &folded.state);
            if let Some(state) = state {
                mark_vanished(&mut entries, state, hi);
            }
            let mut found = rows_from(&entries, &span, state, filter);
            found.retain(|(id, _)| after.as_ref().is_none_or(|after| id > after));
            let more = found.len() > rows_left;
            found.truncate(rows_left);
            rows_left -= found.len();
            let last = found.last().map(|(id, _)| id.clone());
            let value = found.into_iter().map(|(_, row)| row).collect();
            let mut answer = self.frame(&looked, Verdict::Known { value }, kind);
            let mut caveats = answer.completeness.caveats;
            caveats.extend(self.unwatched(&host, (since, until), (lo, hi))?);
            if looked.outcome.is_err() {
                caveats.push(Caveat::NotInBaseline {
                    kind: kind.name().into(),
                });
            }
            answer.completeness = Completeness::of(caveats);
            answers.push(answer);
            if more {
                next = Some(Cursor {
                    host,
                    at: until,
                    after: last,
                });
                break;
            }
        }
        Ok(Answer {
            at: Some(Moment(until)),
            ledger: self.position(),
            order: ORDER_STATEMENT.into(),
            hosts: answers,
            next: next.map(|cursor| cursor.encode()),
        })
    }

    /// What of an interval nothing watched: before, within and after the part that was.
    fn unwatched(
        &self,
        host: &HostId,
        (since, until): (WallNanos, WallNanos),
        (lo, hi): (WallNanos, WallNanos),
    ) -> Result<Vec<Caveat>, QueryError> {
        let chain = self.projection.chain(host);
        let within = chain.map_or(Ok(Vec::new()), |chain| chain.gaps(lo, hi, GAPS_NAMED_MAX))?;
        Ok(std::iter::once((since, lo))
            .chain(within)
            .chain([(hi, until)])
            .filter(|(from, until)| from < until)
            .map(|(from, until)| Caveat::NotWatched {
                from: Moment(from),
                until: Moment(until),
            })
            .collect())
    }

    /// Adds what happened after `since` and up to the cut.
    fn collect_between(
        &self,
        host: &HostId,
        kind: Kind,
        since: WallNanos,
        cut: &Cut,
        found: &mut BTreeMap<EntityId, Entry>,
    ) -> Result<(), QueryError> {
        let chain = self.projection.chain(host);
        let first = chain.map(|chain| chain.cut(since)).transpose()?;
        let mut at = first
            .and_then(|cut| cut.begun)
            .map_or(0, |span| usize::try_from(span.sequence.0).unwrap_or(usize::MAX));
        while at < cut.end {
            let end = cut.end.min(at.saturating_add(256));
            for record in self.projection.records(host, at, end)? {
                self.collect_batch(host, &record, kind, since, cut, found)?;
            }
            at = end;
        }
        Ok(())
    }

    fn collect_batch(
        &self,
        host: &HostId,
        record: &BatchRecord,
        kind: Kind,
        since: WallNanos,
        cut: &Cut,
        found: &mut BTreeMap<EntityId, Entry>,
    ) -> Result<(), QueryError> {
        for (index, bytes) in self.projection.events_of_kind(host, &record.span, kind)? {
            let Ok(envelope) = Envelope::parse(&bytes) else {
                continue;
            };
            if envelope.wall_ns <= since || (record.segment == cut.segment && envelope.wall_ns > cut.at) {
                continue;
            }
            let id = EntityId {
                kind: envelope.kind,
                key: envelope.key.to_vec(),
            };
            if found.len() == ENTITIES_MAX && !found.contains_key(&id) {
                return Err(QueryError::TooMuch {
                    cause: format!("more than {ENTITIES_MAX} entities in this interval"),
                });
            }
            let last = Mark {
                index,
                boot_ns: envelope.boot_ns,
                wall_ns: envelope.wall_ns,
            };
            let first = found.get(&id).map_or(last, |entry| entry.first);
            found.insert(
                id,
                Entry {
                    first,
                    last,
                    end: None,
                    event: bytes,
                },
            );
        }
        Ok(())
    }
}

fn end_of(span: &Span) -> EventIndex {
    EventIndex(span.first_event.0.saturating_add(u64::from(span.event_count)))
}

/// Marks what neither said that it ended nor lives at the end: nobody saw how it went. The state remembers
/// between which instants, unless that was long ago.
fn mark_vanished(entries: &mut BTreeMap<EntityId, Entry>, state: &State, until: WallNanos) {
    for (id, entry) in entries {
        let last = state.get(id);
        let lives = last.is_some_and(|entry| entry.end.is_none());
        let said = Event::decode(&entry.event).is_ok_and(|event| ends(&event.fact));
        if !lives && !said {
            entry.end = last.and_then(|last| last.end).or(Some(End::Vanished {
                by: entry.last.index,
                not_before: entry.last.wall_ns,
                not_after: until,
            }));
        }
    }
}

fn rows_from(
    found: &BTreeMap<EntityId, Entry>,
    span: &Span,
    state: Option<&State>,
    filter: &Filter,
) -> Vec<(EntityId, Row)> {
    found
        .iter()
        .filter_map(|(id, entry)| Some((id.clone(), Row::of(id, entry, span, state)?)))
        .filter(|(_, row)| filter.admits(row))
        .collect()
}

fn row(id: &EntityId, index: EventIndex, bytes: Vec<u8>, span: &Span) -> Option<Row> {
    let envelope = Envelope::parse(&bytes).ok()?;
    let mark = Mark {
        index,
        boot_ns: envelope.boot_ns,
        wall_ns: envelope.wall_ns,
    };
    let entry = Entry {
        first: mark,
        last: mark,
        end: None,
        event: bytes,
    };
    Row::of(id, &entry, span, None)
}
