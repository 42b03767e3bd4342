//! The witness's HTTP side: C2SP tlog-witness `add-checkpoint` and the checkpoints for monitors.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use axum::{
    Extension, Router,
    body::Bytes,
    extract::{DefaultBodyLimit, Path, State},
    http::{HeaderValue, StatusCode, header},
    middleware,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use common::witness::{REQUEST_BYTES_MAX, SIZE_CONTENT_TYPE, WitnessRefusal};
use tokio::net::TcpListener;

use super::store::{Refused, Store};
use crate::{
    http::{Guarded, Peer, RateLimit, limit},
    metrics::Metrics,
    stop::Stop,
};

/// Why a witness does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// What the system says about the socket.
    #[error("the witness's HTTP socket: {0}")]
    Socket(#[from] std::io::Error),
}

/// Serves until `stop` fires; requests under way are finished.
pub async fn serve(
    listener: TcpListener,
    store: Arc<Store>,
    requests_per_second: u32,
    stop: Stop,
) -> Result<(), ServeError> {
    let metrics = Arc::new(Metrics::default());
    let rate = RateLimit::new(requests_per_second);
    let routes = Router::new()
        .route("/add-checkpoint", post(add_checkpoint))
        .route("/{origin_hash}/checkpoint", get(checkpoint))
        .with_state(store)
        .layer(DefaultBodyLimit::max(REQUEST_BYTES_MAX))
        .layer(middleware::from_fn_with_state(rate, limit))
        .layer(Extension(Arc::clone(&metrics)));
    let service = routes.into_make_service_with_connect_info::<Peer>();
    axum::serve(Guarded::new(listener, metrics), service)
        .with_graceful_shutdown(stop.requested())
        .await?;
    Ok(())
}

async fn add_checkpoint(State(store): State<Arc<Store>>, body: Bytes) -> Response {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    // A clock before 1970 gives no time that a cosignature may name.
    let Some(now) = now.ok().map(|since| since.as_secs()).filter(|now| *now > 0) else {
        return plain(
            StatusCode::INTERNAL_SERVER_ERROR,
            "this witness's clock is not set".to_owned(),
        );
    };
    // The record is flushed where blocking is allowed.
    let decided = tokio::task::spawn_blocking(move || store.add_checkpoint(&body, now)).await;
    match decided {
        Ok(Ok(line)) => plain(StatusCode::OK, line),
        Ok(Err(Refused::Witness(refusal))) => refused(&refusal),
        Ok(Err(Refused::Storage(error))) => {
            tracing::error!(%error, "nothing was cosigned");
            plain(
                StatusCode::INTERNAL_SERVER_ERROR,
                "this witness's disk takes nothing\n".to_owned(),
            )
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn refused(refusal: &WitnessRefusal) -> Response {
    tracing::info!(status = refusal.status(), reason = %refusal, "not cosigned");
    let status = StatusCode::from_u16(refusal.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let WitnessRefusal::Conflict { recorded, .. } = refusal {
        let kind = HeaderValue::from_static(SIZE_CONTENT_TYPE);
        return (status, [(header::CONTENT_TYPE, kind)], format!("{recorded}\n")).into_response();
    }
    plain(status, format!("{refusal}\n"))
}

/// The checkpoint cosigned last, for monitors: `GET /<SHA-256 of the origin, hex>/checkpoint`.
async fn checkpoint(State(store): State<Arc<Store>>, Path(hash): Path<String>) -> Response {
    let last = store
        .logs()
        .find(|followed| followed.hash == hash)
        .map(super::store::Followed::last);
    match last {
        Some(Some(record)) => plain(StatusCode::OK, record.note),
        Some(None) => plain(
            StatusCode::NOT_FOUND,
            "nothing of this log was cosigned yet\n".to_owned(),
        ),
        None => plain(
            StatusCode::NOT_FOUND,
            "this witness does not follow such a log\n".to_owned(),
        ),
    }
}

fn plain(status: StatusCode, text: String) -> Response {
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    let cache = HeaderValue::from_static("no-store");
    (
        status,
        [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, cache)],
        text,
    )
        .into_response()
}
