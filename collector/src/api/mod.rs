//! The HTTP/JSON API under `/v1` (docs/api.md).
//!
//! Owns paths, parameters and status codes; every answer is [`Query`]'s. A few queries run at a time, others
//! wait their turn; each runs on one of a few threads, which writes the answer down as well. Refuses to authenticate:
//! that is a later issue, so the collector listens on loopback unless told otherwise.

mod params;
mod threads;

use std::{io, sync::Arc};

use axum::{
    Json, Router,
    extract::{RawQuery, State},
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use common::{event::Kind, ids::StatementNumber};

use self::{params::Params, threads::Threads};
use crate::query::{Query, QueryError};

/// Queries that run at a time.
const RUNNING_MAX: usize = 4;

/// What requests share.
#[derive(Clone)]
struct Api {
    query: Query,
    threads: Arc<Threads>,
}

/// The routes below `/v1`.
///
/// # Errors
/// The system refuses threads.
pub fn router(query: Query) -> io::Result<Router> {
    let api = Api {
        query,
        threads: Arc::new(Threads::start(RUNNING_MAX)?),
    };
    let routes = Router::new()
        .route("/v1/status", get(status))
        .route("/v1/hosts", get(hosts))
        .route("/v1/batches", get(batches))
        .route("/v1/processes", get(processes))
        .route("/v1/listeners", get(listeners))
        .route("/v1/flows", get(flows))
        .route("/v1/entities", get(entities))
        .route("/v1/entity", get(entity))
        .route("/v1/timeline", get(timeline))
        .route("/v1/statements", get(statements))
        .route("/v1/proof", get(proof))
        .route("/v1/bundle", get(bundle))
        .fallback(no_such_path)
        .with_state(api);
    Ok(routes)
}

impl Api {
    /// Runs a query and sends what it yields.
    async fn answer<T: serde::Serialize>(
        self,
        raw: RawQuery,
        ask: impl Fn(&Query, &mut Params) -> Result<T, QueryError> + Send + 'static,
    ) -> Response {
        let written = self
            .run(raw, move |query, params| {
                ask(query, params).map(|answer| Json(answer).into_response())
            })
            .await;
        written.unwrap_or_else(|error| refuse(&error))
    }

    async fn run<T: Send + 'static>(
        self,
        RawQuery(raw): RawQuery,
        ask: impl Fn(&Query, &mut Params) -> Result<T, QueryError> + Send + 'static,
    ) -> Result<T, QueryError> {
        let query = self.query.clone();
        let asked = self.threads.run(move || {
            query.ask(|query| {
                let mut params = Params::parse(raw.as_deref().unwrap_or_default())?;
                ask(query, &mut params)
            })
        });
        asked
            .await
            .unwrap_or_else(|error| Err(QueryError::Internal(error.to_string())))
    }
}

fn refuse(error: &QueryError) -> Response {
    if error.status() >= 500 {
        tracing::error!(%error, "query failed");
    }
    let status = StatusCode::from_u16(error.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    (status, Json(error.to_api())).into_response()
}

async fn no_such_path() -> Response {
    refuse(&QueryError::NotFound(
        "no such path in this API (docs/api.md lists them)".into(),
    ))
}

async fn status(State(api): State<Api>, raw: RawQuery) -> Response {
    api.answer(raw, |query, params| {
        params.finish()?;
        Ok(query.status())
    })
    .await
}

async fn hosts(State(api): State<Api>, raw: RawQuery) -> Response {
    api.answer(raw, |query, params| {
        let (hosts, paging) = (params.hosts(), params.paging()?);
        params.finish()?;
        query.hosts(&hosts, &paging)
    })
    .await
}

async fn batches(State(api): State<Api>, raw: RawQuery) -> Response {
    api.answer(raw, |query, params| {
        let (host, paging) = (params.required("host")?, params.paging()?);
        params.finish()?;
        query.batches(&host, &paging)
    })
    .await
}

async fn processes(State(api): State<Api>, raw: RawQuery) -> Response {
    list(api, raw, Some(Kind::Process)).await
}

async fn listeners(State(api): State<Api>, raw: RawQuery) -> Response {
    list(api, raw, Some(Kind::Listener)).await
}

async fn flows(State(api): State<Api>, raw: RawQuery) -> Response {
    list(api, raw, Some(Kind::Connection)).await
}

async fn entities(State(api): State<Api>, raw: RawQuery) -> Response {
    list(api, raw, None).await
}

async fn list(api: Api, raw: RawQuery, kind: Option<Kind>) -> Response {
    api.answer(raw, move |query, params| {
        let kind = kind.map_or_else(|| params.kind(), Ok)?;
        let (hosts, paging, filter) = (params.hosts(), params.paging()?, params.filter()?);
        let (at, since, until) = (
            params.instant("at")?,
            params.instant("since")?,
            params.instant("until")?,
        );
        params.finish()?;
        match (at, since, until) {
            (at, None, None) => query.list(kind, at, &hosts, &filter, &paging),
            (None, Some(since), Some(until)) => query.during(kind, since, until, &hosts, &filter, &paging),
            _ => Err(QueryError::BadRequest {
                cause: "give either `at`, or both `since` and `until`".into(),
                remedy: "drop one of them".into(),
            }),
        }
    })
    .await
}

async fn entity(State(api): State<Api>, raw: RawQuery) -> Response {
    api.answer(raw, |query, params| {
        let (id, at, hosts) = (params.required("id")?, params.instant("at")?, params.hosts());
        params.finish()?;
        query.entity(&id, at, &hosts)
    })
    .await
}

async fn timeline(State(api): State<Api>, raw: RawQuery) -> Response {
    api.answer(raw, |query, params| {
        let (id, host, paging) = (params.required("id")?, params.required("host")?, params.paging()?);
        params.finish()?;
        query.timeline(&id, &host, &paging)
    })
    .await
}

async fn statements(State(api): State<Api>, raw: RawQuery) -> Response {
    api.answer(raw, |query, params| {
        let (filter, paging) = (params.statements()?, params.paging()?);
        params.finish()?;
        query.statements(&filter, &paging)
    })
    .await
}

async fn proof(State(api): State<Api>, raw: RawQuery) -> Response {
    let proof = api
        .run(raw, |query, params| match params.number("statement")? {
            Some(number) => {
                params.finish()?;
                Ok(query.statement_proof(StatementNumber(number))?.encode())
            }
            None => {
                let event = params.required("event")?;
                params.finish()?;
                Ok(query.proof(&event)?.encode())
            }
        })
        .await;
    match proof {
        Ok(proof) => {
            let text = HeaderValue::from_static("text/plain; charset=utf-8");
            ([(header::CONTENT_TYPE, text)], proof).into_response()
        }
        Err(error) => refuse(&error),
    }
}

async fn bundle(State(api): State<Api>, raw: RawQuery) -> Response {
    let made = api
        .run(raw, |query, params| {
            let (hosts, entity, events) = (params.hosts(), params.one("entity")?, params.all("event"));
            let (since, until) = (params.instant("since")?, params.instant("until")?);
            params.finish()?;
            match (since, until, events.as_slice()) {
                (Some(since), Some(until), []) => {
                    query.bundle_of_interval((since, until), &hosts, entity.as_deref())
                }
                (None, None, [_, ..]) if hosts.is_empty() && entity.is_none() => {
                    query.bundle_of_events(&events)
                }
                _ => Err(QueryError::BadRequest {
                    cause: "give both `since` and `until`, or `event` alone".into(),
                    remedy: "an event is named <host>:<number>; `host` and `entity` narrow an interval"
                        .into(),
                }),
            }
        })
        .await;
    match made {
        Ok(bytes) => {
            let binary = HeaderValue::from_static("application/octet-stream");
            ([(header::CONTENT_TYPE, binary)], bytes).into_response()
        }
        Err(error) => refuse(&error),
    }
}
