//! Queries: which hosts, which instant, which entities, and how much of it at a time.
//!
//! Finds batches and folds states through the [`Projection`]; what follows from them is said by
//! [`common::answer`]. Blocking, bounded: each page holds at most [`ROWS_MAX`] rows and one host's state.

mod bundle;
mod cursor;
mod entity;
mod error;
mod event;
mod filter;
mod hosts;
mod list;
mod range;
mod statements;

use std::sync::Arc;

use common::{
    answer::{
        Caveat, Clock, Completeness, HostAnswer, LedgerPosition, Moment, Span, Unknown, Verdict, caveats,
        watched,
    },
    event::Kind,
    ids::{HostId, StatementNumber, WallNanos},
    statement::{Said, StatementFields},
};

pub use self::{error::QueryError, filter::Filter, statements::StatementFilter};
use crate::projection::{Cut, EntryError, Folded, IndexError, Projection, StateError};

/// Most rows of a page.
pub const ROWS_MAX: usize = 10_000;
/// Rows of a page where nobody says otherwise.
pub const ROWS_DEFAULT: usize = 1_000;
/// Most hosts a page looks at.
const HOSTS_PER_PAGE_MAX: usize = 64;

/// Answers questions about a ledger.
#[derive(Clone)]
pub struct Query {
    projection: Arc<Projection>,
}

/// Which part of a list.
#[derive(Debug, Clone, Default)]
pub struct Paging {
    /// Most rows; [`ROWS_DEFAULT`] where absent.
    pub limit: Option<usize>,
    /// Where the page before ended.
    pub cursor: Option<String>,
}

impl Paging {
    /// Where the page begins, where cursors are numbers; 0 for the first one.
    fn from(&self) -> Result<u64, QueryError> {
        let from = self.cursor.as_deref().map_or(Ok(0), str::parse);
        from.map_err(|_| bad_cursor())
    }

    fn rows(&self) -> Result<usize, QueryError> {
        match self.limit {
            None => Ok(ROWS_DEFAULT),
            Some(limit) if (1..=ROWS_MAX).contains(&limit) => Ok(limit),
            Some(limit) => Err(QueryError::BadRequest {
                cause: format!("limit {limit} is not between 1 and {ROWS_MAX}"),
                remedy: "ask for fewer rows and follow `next`".into(),
            }),
        }
    }
}

fn bad_cursor() -> QueryError {
    QueryError::BadRequest {
        cause: "`cursor` is none that a page gave".into(),
        remedy: "give `next` of the page before, unchanged".into(),
    }
}

/// One host at one instant, before anything was read of it: the judgement, and the state where there is one.
struct HostAt {
    host: HostId,
    cut: Cut,
    outcome: Result<(Box<Folded>, Span), Unknown>,
}

impl Query {
    /// Queries over a projection.
    #[must_use]
    pub fn new(projection: Arc<Projection>) -> Self {
        Self { projection }
    }

    /// Answers a question about all that was published. Where the index turns out to be wrong on the way, it is built
    /// again first.
    ///
    /// # Errors
    /// [`QueryError`].
    pub fn ask<T>(&self, question: impl Fn(&Self) -> Result<T, QueryError>) -> Result<T, QueryError> {
        let generation = self.projection.generation();
        match self.catch_up().and_then(|_| question(self)) {
            Err(QueryError::Index(IndexError::Damaged(why))) => {
                self.projection.distrust(generation, &why)?;
                self.catch_up()?;
                question(self)
            }
            answered => answered,
        }
    }

    /// Takes in what was published since. Cheap when there is nothing new.
    pub fn catch_up(&self) -> Result<u64, QueryError> {
        Ok(self.projection.catch_up()?)
    }

    fn position(&self) -> LedgerPosition {
        LedgerPosition {
            origin: self.projection.entries().origin(),
            size: self.projection.indexed(),
        }
    }

    /// Looks at a host at an instant; its latest watched one where none is given.
    fn look(&self, host: &HostId, at: Option<WallNanos>, kind: Kind) -> Result<HostAt, QueryError> {
        let at = at.or_else(|| self.projection.latest(host)).unwrap_or_default();
        let chain = self.projection.chain(host);
        let chain = chain.ok_or_else(|| QueryError::NoSuchHost(host.to_string()))?;
        let cut = chain.cut(at)?;
        let outcome = match (watched(at, cut.begun.as_ref(), cut.next.as_ref()), cut.begun) {
            (Err(why), Some(begun)) => {
                let statements = self.projection.statements();
                let silence = statements.silence_after(host, begun.sequence)?;
                let why = why.with_silence(silence);
                // An end is looked for where it would be named.
                match why {
                    Unknown::AfterLast { .. } => Err(why.with_end(statements.end_of(host)?)),
                    _ => Err(why),
                }
            }
            (Err(why), None) => Err(why.with_silence(None)),
            (Ok(()), None) => Err(Unknown::NoBatches),
            (Ok(()), Some(decides)) => match self.projection.state_at(host, &cut, &decides) {
                Err(StateError::Entry(EntryError {
                    pruned: Some(certificate),
                    ..
                })) => Err(self.pruned(certificate)?),
                Err(other) => return Err(other.into()),
                Ok(folded) => match self.lacks_baseline(&folded, &decides, &cut, kind) {
                    Some(why) => Err(why),
                    None => Ok((Box::new(folded), decides)),
                },
            },
        };
        Ok(HostAt {
            host: *host,
            cut,
            outcome,
        })
    }

    /// What the certificate says of what was pruned.
    fn pruned(&self, certificate: StatementNumber) -> Result<Unknown, QueryError> {
        let found = self.projection.statements().get(certificate)?;
        let (at, policy) = match found.as_ref().map(|(_, said)| said.claimed()) {
            Some(StatementFields {
                at,
                said: Said::Prune(certificate),
                ..
            }) => (Some(Moment(*at)), Some(certificate.policy.clone())),
            _ => (None, None),
        };
        Ok(Unknown::Pruned {
            statement: certificate,
            at,
            policy,
        })
    }

    /// At the beginning of a run nothing can be said of what existed before the run's baseline is complete.
    /// A complete baseline that leaves the kind out is another matter: then live events are all there will
    /// be, and the answer has a caveat.
    fn lacks_baseline(&self, folded: &Folded, decides: &Span, cut: &Cut, kind: Kind) -> Option<Unknown> {
        let concerned = matches!(kind, Kind::Process | Kind::Listener | Kind::Connection);
        if !concerned || folded.state.has_baseline() {
            return None;
        }
        let run = folded.state.run()?;
        let complete = self
            .projection
            .baseline_after(&folded.state.host(), decides, cut, kind);
        Some(Unknown::NoBaseline {
            since: Moment(run.from),
            complete: complete.map(Moment),
        })
    }

    /// The frame around a verdict about one host.
    fn frame<R>(&self, looked: &HostAt, verdict: Verdict<R>, kind: Kind) -> HostAnswer<R> {
        let decides = looked.cut.begun;
        HostAnswer {
            host: looked.host,
            hostname: self.projection.hostname(&looked.host),
            at: Some(Moment(looked.cut.at)),
            batch: decides.map(|span| common::answer::BatchRef {
                sequence: span.sequence,
                leaf: span.leaf,
            }),
            clock: decides.as_ref().map(Clock::of),
            verdict,
            completeness: match &looked.outcome {
                Ok(_) => Completeness::of(looked.caveats(kind)),
                Err(_) => Completeness::default(),
            },
        }
    }
}

impl HostAt {
    /// What may be missing.
    fn caveats(&self, kind: Kind) -> Vec<Caveat> {
        let Ok((folded, span)) = &self.outcome else {
            return Vec::new();
        };
        let mut found = caveats(
            kind,
            self.cut.at,
            &folded.state,
            span,
            &folded.header,
            &folded.later,
        );
        found.extend(
            self.cut
                .set_back_until
                .map(|until| Caveat::ClockSetBack { until: Moment(until) }),
        );
        found.extend(self.cut.in_flight_ns.map(|late_ns| Caveat::InFlight { late_ns }));
        found
    }
}
