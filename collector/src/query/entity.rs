//! One entity: what it was at an instant, or how it is known not to have been.

use common::{
    answer::{Absence, Answer, Caveat, Moment, ORDER_STATEMENT, Row, Unknown, Verdict, absence, sensors_of},
    event::{Kind, ProcessKey},
    fold::{EntityId, ends},
    ids::WallNanos,
};

use super::{HostAt, Query, QueryError, range::Search};

impl Query {
    /// What an entity was at `at` (each host's latest watched instant where absent).
    ///
    /// `text` is an address as rows give it, or `process:<pid>` for whichever process had that pid then.
    pub fn entity(
        &self,
        text: &str,
        at: Option<WallNanos>,
        hosts: &[String],
    ) -> Result<Answer<Row>, QueryError> {
        let wanted = Wanted::parse(text)?;
        let hosts = self.hosts_named(hosts)?;
        let mut answers = Vec::new();
        for host in hosts.iter().take(super::ROWS_MAX) {
            let looked = self.look(host, at, wanted.kind())?;
            let verdict = self.judge(&looked, &wanted)?;
            answers.push(self.frame(&looked, verdict, wanted.kind()));
        }
        // A boot belongs to one host: once a host knows the entity, what others do not know is no answer.
        if answers.iter().any(|answer| {
            matches!(
                &answer.verdict,
                Verdict::Known { .. } | Verdict::Absent { last: Some(_), .. }
            )
        }) {
            answers.retain(|answer| {
                matches!(
                    &answer.verdict,
                    Verdict::Known { .. } | Verdict::Absent { last: Some(_), .. }
                )
            });
        }
        Ok(Answer {
            at: at.map(Moment),
            ledger: self.position(),
            order: ORDER_STATEMENT.into(),
            hosts: answers,
            next: None,
        })
    }

    fn judge(&self, looked: &HostAt, wanted: &Wanted) -> Result<Verdict<Row>, QueryError> {
        let (folded, span) = match &looked.outcome {
            Ok(found) => found,
            Err(why) => return Ok(Verdict::Unknown { why: why.clone() }),
        };
        let state = &folded.state;
        let found = match wanted {
            Wanted::Address(id, _) => state.get(id).map(|entry| (id.clone(), entry.clone())),
            Wanted::Pid(pid) => state
                .of_kind(Kind::Process)
                .filter(|(id, _)| id.typed::<ProcessKey>().is_some_and(|key| key.tgid == *pid))
                .max_by_key(|(_, entry)| (entry.end.is_none(), entry.last.index))
                .map(|(id, entry)| (id.clone(), entry.clone())),
        };
        if let Some((id, entry)) = found {
            let row = Row::of(&id, &entry, span, Some(state));
            return Ok(match (row, absence(&entry)) {
                (Some(value), None) => Verdict::Known { value },
                (last, Some(why)) => Verdict::Absent { why, last },
                (None, None) => Verdict::Unknown {
                    why: Unknown::MayBeMissed {
                        caveats: looked.caveats(wanted.kind()),
                    },
                },
            });
        }
        // Ended long enough before for the fold to have forgotten it: its events are still in the chain.
        if let Wanted::Address(id, _) = wanted {
            match self.last_before(&looked.host, id, &looked.cut)? {
                Search::Found(last) => return Ok(forgotten(*last, Moment(looked.cut.at))),
                Search::GaveUp { before } => {
                    let before = Moment(before);
                    return Ok(Verdict::Unknown {
                        why: Unknown::MayBeMissed {
                            caveats: vec![Caveat::NotSearched { before }],
                        },
                    });
                }
                Search::Nothing => {}
            }
        }
        let caveats = looked.caveats(wanted.kind());
        Ok(if caveats.is_empty() || sensors_of(wanted.kind()).is_empty() {
            Verdict::Absent {
                why: Absence::NeverSeen,
                last: None,
            }
        } else {
            Verdict::Unknown {
                why: Unknown::MayBeMissed { caveats },
            }
        })
    }
}

/// The verdict about an entity that the fold has forgotten: it had ended before, by its own event or because
/// a baseline did not list it; which baseline is not remembered either.
fn forgotten(last: Row, at: Moment) -> Verdict<Row> {
    let why = if ends(&last.fact) {
        Absence::Ended { at: last.changed }
    } else {
        Absence::Vanished {
            not_before: last.changed,
            not_after: at,
        }
    };
    Verdict::Absent {
        why,
        last: Some(last),
    }
}

/// What is asked for.
pub(super) enum Wanted {
    Address(EntityId, Kind),
    Pid(u32),
}

impl Wanted {
    pub(super) fn parse(text: &str) -> Result<Self, QueryError> {
        if let Some(pid) = text.strip_prefix("process:").and_then(|pid| pid.parse().ok()) {
            return Ok(Self::Pid(pid));
        }
        let id: EntityId = text
            .parse()
            .map_err(|error: common::fold::BadEntity| QueryError::BadRequest {
                cause: error.to_string(),
                remedy: "use the address that a row gives as `entity`, or `process:<pid>`".into(),
            })?;
        match id.known_kind() {
            Some(kind) => Ok(Self::Address(id, kind)),
            None => Err(QueryError::Internal("an address of unknown kind was read".into())),
        }
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Address(_, kind) => *kind,
            Self::Pid(_) => Kind::Process,
        }
    }
}
