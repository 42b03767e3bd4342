//! So many requests a second for each client, with a bounded memory of clients.
//!
//! Pure but for its driver, the middleware at the end: the bucket takes the instant as an argument. A client
//! is an IPv4 address or an IPv6 network of 64 bits. Overflow policy: when the table is full of clients that
//! have something on their account, all further ones share one bucket.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Extension,
    extract::{ConnectInfo, Request, State, connect_info::Connected},
    http::{HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
    serve::IncomingStream,
};

use super::listener::Guarded;
use crate::metrics::Metrics;

/// Clients remembered at a time.
const CLIENTS_MAX: usize = 4096;
/// Requests a client may make at once after a pause, in seconds of its rate.
const BURST_SECONDS: u32 = 2;

/// Who asks.
#[derive(Debug, Clone, Copy)]
pub struct Peer(pub SocketAddr);

impl Connected<IncomingStream<'_, Guarded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Guarded>) -> Self {
        Self(*stream.remote_addr())
    }
}

/// Tokens left and when they were counted.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

#[derive(Debug)]
struct Table {
    clients: HashMap<u128, Bucket>,
    /// For everybody the table has no place for.
    others: Option<Bucket>,
}

/// The limiter; clones share their counts.
#[derive(Debug, Clone)]
pub struct RateLimit {
    per_second: f64,
    burst: f64,
    table: Arc<Mutex<Table>>,
}

impl RateLimit {
    /// `per_second` requests for each client, at least one.
    #[must_use]
    pub fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(per_second.saturating_mul(BURST_SECONDS)),
            table: Arc::new(Mutex::new(Table {
                clients: HashMap::new(),
                others: None,
            })),
        }
    }

    /// Takes one request off the client's account, or says how long to wait.
    pub fn take(&self, client: IpAddr, now: Instant) -> Result<(), Duration> {
        let mut table = self.table.lock().unwrap_or_else(PoisonError::into_inner);
        let key = network(client);
        if table.clients.len() >= CLIENTS_MAX && !table.clients.contains_key(&key) {
            // Whoever has a full account again is as good as forgotten.
            table
                .clients
                .retain(|_, bucket| self.filled(*bucket, now) < self.burst);
        }
        let fresh = Bucket {
            tokens: self.burst,
            at: now,
        };
        let full = table.clients.len() >= CLIENTS_MAX && !table.clients.contains_key(&key);
        let bucket = if full {
            table.others.get_or_insert(fresh)
        } else {
            table.clients.entry(key).or_insert(fresh)
        };
        bucket.tokens = self.filled(*bucket, now);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            Ok(())
        } else {
            Err(Duration::from_secs_f64((1.0 - bucket.tokens) / self.per_second))
        }
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.tokens + since * self.per_second).min(self.burst)
    }
}

fn network(client: IpAddr) -> u128 {
    match client.to_canonical() {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64 | 1 << 63,
    }
}

/// Lets a request through or answers 429 with `Retry-After` in whole seconds.
pub async fn limit(
    State(limit): State<RateLimit>,
    ConnectInfo(Peer(peer)): ConnectInfo<Peer>,
    Extension(metrics): Extension<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let Err(wait) = limit.take(peer.ip(), Instant::now()) else {
        return next.run(request).await;
    };
    metrics.refuse("http_rate");
    let seconds = wait.as_secs().saturating_add(1);
    (
        StatusCode::TOO_MANY_REQUESTS,
        [
            (header::RETRY_AFTER, HeaderValue::from(seconds)),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ],
        format!("too many requests from your address; come back in {seconds} s\n"),
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_has_a_burst_then_its_rate_and_leaves_others_alone() {
        let limit = RateLimit::new(10);
        let (start, a, b) = (
            Instant::now(),
            IpAddr::from([10, 0, 0, 1]),
            IpAddr::from([10, 0, 0, 2]),
        );
        for _ in 0..20 {
            limit.take(a, start).unwrap();
        }
        let wait = limit.take(a, start).unwrap_err();
        assert!(wait <= Duration::from_millis(100) && wait > Duration::from_millis(90));
        limit.take(b, start).unwrap();
        limit.take(a, start + Duration::from_millis(101)).unwrap();
        assert!(limit.take(a, start + Duration::from_millis(102)).is_err());
        // A clock that seems to go back gives nothing away and breaks nothing.
        assert!(limit.take(a, start).is_err());
    }

    #[test]
    fn one_ipv6_network_is_one_client_and_the_table_is_bounded() {
        let limit = RateLimit::new(1);
        let now = Instant::now();
        let v6 = |network: u16, host: u16| IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, host]);
        limit.take(v6(1, 1), now).unwrap();
        limit.take(v6(1, 2), now).unwrap();
        assert!(limit.take(v6(1, 3), now).is_err());
        for client in 0..6000_u32 {
            let _ = limit.take(IpAddr::from(client.to_be_bytes()), now);
        }
        let held = limit.table.lock().unwrap().clients.len();
        assert_eq!(held, CLIENTS_MAX);
        assert!(
            limit.take(IpAddr::from([200, 0, 0, 1]), now).is_err(),
            "strangers share one bucket"
        );
        limit
            .take(IpAddr::from([200, 0, 0, 1]), now + Duration::from_secs(5))
            .unwrap();
    }
}
