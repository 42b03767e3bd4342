//! The HTTP side: the ledger's tiles as C2SP tlog-tiles has them, health, metrics, and the API's routes.
//!
//! Owns the socket and how static resources are served. Everything here reads; nothing authenticates, for the
//! ledger proves itself: keep the address on loopback or put a proxy before it.

mod limit;
mod listener;

use std::sync::Arc;

use axum::{
    Extension, Router,
    extract::{Path, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use ledger::Reader;

pub use limit::{Peer, RateLimit, limit};
pub use listener::Guarded;

use crate::{anchor, cosign::Board, metrics::Metrics, stop::Stop};

/// How long requests under way are given when the collector stops.
pub const STOP_MAX: std::time::Duration = std::time::Duration::from_secs(2);
/// Tiles, bundles and other immutable resources may be kept for ever.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");
/// What changes must be asked for anew.
const VOLATILE: HeaderValue = HeaderValue::from_static("no-cache");

/// What the routes need.
#[derive(Clone)]
pub struct Site {
    /// The ledger.
    pub reader: Reader,
    /// The counters.
    pub metrics: Arc<Metrics>,
    /// What is known of the witnesses, where there are any.
    pub witnesses: Option<Arc<Board>>,
    /// Where its anchors stand, where there are any.
    pub anchors: Option<Arc<anchor::Board>>,
}

/// The routes of this module.
pub fn router(site: Site) -> Router {
    Router::new()
        .route("/checkpoint", get(checkpoint))
        .route("/tile/{*path}", get(tile))
        .route("/ledger.keys", get(ledger_keys))
        .route("/healthz", get(health))
        .route("/metrics", get(metrics))
        .route("/witnesses", get(witnesses))
        .route("/anchors", get(anchors))
        .with_state(site)
}

/// Serves until `stop` fires, each client so many requests a second; requests under way are finished.
///
/// # Errors
/// What the system says about the socket.
pub async fn serve(
    listener: tokio::net::TcpListener,
    routes: Router,
    metrics: Arc<Metrics>,
    requests_per_second: u32,
    stop: Stop,
) -> std::io::Result<()> {
    let routes = routes
        .layer(middleware::from_fn_with_state(
            RateLimit::new(requests_per_second),
            limit,
        ))
        .layer(Extension(Arc::clone(&metrics)));
    let service = routes.into_make_service_with_connect_info::<Peer>();
    axum::serve(Guarded::new(listener, metrics), service)
        .with_graceful_shutdown(stop.requested())
        .await
}

async fn checkpoint(State(site): State<Site>) -> Response {
    resource(
        site,
        "checkpoint".to_owned(),
        "text/plain; charset=utf-8",
        VOLATILE,
    )
    .await
}

/// The history of the ledger's keys; nothing where there is none.
async fn ledger_keys(State(site): State<Site>) -> Response {
    let history = site.reader.keys().encode();
    if history.is_empty() {
        return failure(
            StatusCode::NOT_FOUND,
            "this ledger has no history of its keys".to_owned(),
        );
    }
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    (
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, VOLATILE)],
        history,
    )
        .into_response()
}

async fn tile(State(site): State<Site>, Path(path): Path<String>) -> Response {
    resource(
        site,
        format!("tile/{path}"),
        "application/octet-stream",
        IMMUTABLE,
    )
    .await
}

/// One resource of the tlog-tiles interface. The disk is read where blocking is allowed.
async fn resource(site: Site, name: String, kind: &'static str, cache: HeaderValue) -> Response {
    let shown = name.clone();
    let read = tokio::task::spawn_blocking(move || site.reader.resource(&name)).await;
    match read {
        Ok(Ok(Some(bytes))) => (
            [
                (header::CONTENT_TYPE, HeaderValue::from_static(kind)),
                (header::CACHE_CONTROL, cache),
                (
                    header::X_CONTENT_TYPE_OPTIONS,
                    HeaderValue::from_static("nosniff"),
                ),
            ],
            bytes,
        )
            .into_response(),
        Ok(Ok(None)) => failure(
            StatusCode::NOT_FOUND,
            format!("{shown} is no resource of this ledger"),
        ),
        Ok(Err(error)) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
        Err(error) => failure(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

fn failure(status: StatusCode, text: String) -> Response {
    (status, [(header::CACHE_CONTROL, VOLATILE)], format!("{text}\n")).into_response()
}

/// 200 while batches are accepted, 503 with the reason while they are not.
async fn health(State(site): State<Site>) -> Response {
    if site.metrics.paused.get() == 0 {
        ([(header::CACHE_CONTROL, VOLATILE)], "ok\n").into_response()
    } else {
        failure(
            StatusCode::SERVICE_UNAVAILABLE,
            "storage is full; batches wait at the agents".to_owned(),
        )
    }
}

/// Who cosigned, who is missing since when and why; 404 where no witnesses are asked.
async fn witnesses(State(site): State<Site>) -> Response {
    match site.witnesses {
        Some(board) => ([(header::CACHE_CONTROL, VOLATILE)], axum::Json(board.read())).into_response(),
        None => failure(
            StatusCode::NOT_FOUND,
            "this collector asks no witnesses".to_owned(),
        ),
    }
}

/// Where checkpoints were anchored last, what fails since when and why; 404 where they are not.
async fn anchors(State(site): State<Site>) -> Response {
    match site.anchors {
        Some(board) => ([(header::CACHE_CONTROL, VOLATILE)], axum::Json(board.read())).into_response(),
        None => failure(
            StatusCode::NOT_FOUND,
            "this collector anchors its checkpoints nowhere".to_owned(),
        ),
    }
}

async fn metrics(State(site): State<Site>) -> Response {
    (
        [
            (
                header::CONTENT_TYPE,
                HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8"),
            ),
            (header::CACHE_CONTROL, VOLATILE),
        ],
        site.metrics.render()
            + &site.witnesses.map(|board| board.render()).unwrap_or_default()
            + &site.anchors.map(|board| board.render()).unwrap_or_default(),
    )
        .into_response()
}
