//! The ingest socket: accepts connections within bounds and gives each certified, registered peer a task.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use common::limits::DATAGRAM_BYTES_MAX;
use ledger::Reader;

use quinn::{
    Connection, Endpoint, EndpointConfig, IdleTimeout, Incoming, MtuDiscoveryConfig, Runtime, ServerConfig,
    TokioRuntime, TransportConfig, VarInt,
};
use quinn_proto::HashedConnectionIdGenerator;
use rustix::net::sockopt;
use rustls_pki_types::CertificateDer;
use tokio::sync::Semaphore;
use tracing::{debug, info, warn};

use super::{
    close, connection,
    refuse::{Unwelcome, handshake_word},
    socket::{Counting, QUIC_V1},
    tls::{self, TlsError},
};
use crate::{
    config::Config,
    evidence::EvidenceStore,
    layout::Layout,
    metrics::Metrics,
    pipeline::PipelineHandle,
    pki::{self, BadIdentity, PeerIdentity},
    registry,
    stop::Stop,
};

/// Bytes of one connection that quinn holds before they are read: a full batch and a round trip's worth.
const RECEIVE_WINDOW_BYTES: u32 = 2 * 1024 * 1024;
/// Bytes that the system may hold of what agents send at once, before we take it.
const BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// A handshake takes at most this long.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);
/// Handshakes under way at a time; further attempts are refused.
const HANDSHAKES_MAX: usize = 256;
/// How long connections are given to end when the collector stops.
const DRAIN_MAX: Duration = Duration::from_secs(3);

/// What every connection shares.
#[derive(Clone)]
pub struct Context {
    /// Settings.
    pub config: Arc<Config>,
    /// Where registrations lie.
    pub layout: Layout,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Where evidence goes.
    pub evidence: EvidenceStore,
    /// Where batches go.
    pub pipeline: PipelineHandle,
    /// What is stored and published.
    pub reader: Reader,
    /// Shares of the bytes in flight.
    pub shares: Arc<Semaphore>,
    /// Monotonic time counts from here, for the pipeline as well.
    pub epoch: Instant,
}

/// Why the socket could not be opened. The operator is at fault.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Keys and certificates.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address.
    #[error("cannot listen on UDP {address}: {cause}")]
    Socket {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        cause: std::io::Error,
    },
    /// A limit of ours that QUIC does not allow.
    #[error("QUIC cannot be set up: {0}")]
    Quic(#[from] quinn::ConfigError),
    /// No randomness for connection ids.
    #[error(transparent)]
    Random(#[from] pki::PkiError),
}

/// The bound socket.
pub struct Server {
    endpoint: Endpoint,
    context: Context,
}

impl Server {
    /// Binds the socket. Must be called within the runtime.
    pub fn bind(context: Context) -> Result<Self, BindError> {
        let address = context.config.ingest_listen;
        let failed = |cause| BindError::Socket { address, cause };
        let mut config = ServerConfig::with_crypto(Arc::new(tls::server_config(&context.layout)?));
        config
            .transport_config(Arc::new(transport(&context.config)))
            // An agent's address is part of no trust; it may move.
            .migration(true)
            .max_incoming(HANDSHAKES_MAX);
        let key = u64::from_be_bytes(pki::random()?);
        let mut endpoint = EndpointConfig::default();
        endpoint
            .max_udp_payload_size(DATAGRAM_BYTES_MAX)?
            .supported_versions(vec![QUIC_V1])
            .grease_quic_bit(false)
            .cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(key)));
        let socket = std::net::UdpSocket::bind(address).map_err(failed)?;
        let room = buffer(&socket).map_err(failed)?;
        if room < BUFFER_BYTES {
            warn!(
                bytes = room,
                "the system gives the ingest socket a small buffer, so agents that send at once lose datagrams and \
                 wait; set the sysctl net.core.rmem_max to {BUFFER_BYTES} and restart"
            );
        }
        let runtime = Arc::new(TokioRuntime);
        let socket = Counting {
            inner: runtime.wrap_udp_socket(socket).map_err(failed)?,
            metrics: Arc::clone(&context.metrics),
            ids: HashedConnectionIdGenerator::from_key(key),
        };
        let endpoint = Endpoint::new_with_abstract_socket(endpoint, Some(config), Arc::new(socket), runtime)
            .map_err(failed)?;
        Ok(Self { endpoint, context })
    }

    /// The address bound.
    pub fn local_addr(&self) -> std::io::Result<SocketAddr> {
        self.endpoint.local_addr()
    }

    /// Serves until `stop` fires, then lets connections end in order.
    pub async fn run(self, stop: Stop) {
        let places = Arc::new(Semaphore::new(self.context.config.connections_max));
        let mut stopping = std::pin::pin!(stop.clone().requested());
        loop {
            let incoming = tokio::select! {
                () = &mut stopping => break,
                incoming = self.endpoint.accept() => match incoming {
                    Some(incoming) => incoming,
                    None => break,
                },
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                self.context.metrics.refuse("too_many_connections");
                incoming.refuse();
                continue;
            };
            // Near the bound, whoever only pretends an address must not take a place from those who have one.
            let scarce = places.available_permits() < self.context.config.connections_max / 2;
            if scarce && !incoming.remote_address_validated() {
                // Fails only for an address that is validated already, which this one is not.
                let _ = incoming.retry();
                continue;
            }
            let (context, stop) = (self.context.clone(), stop.clone());
            tokio::spawn(async move {
                admit(incoming, context, stop).await;
                drop(place);
            });
        }
        let _ = tokio::time::timeout(DRAIN_MAX, self.endpoint.wait_idle()).await;
        self.endpoint
            .close(VarInt::from_u32(close::STOPPING), b"the collector stops");
        // Gives the close frames a moment to leave; agents find out by themselves otherwise.
        let _ = tokio::time::timeout(Duration::from_millis(200), self.endpoint.wait_idle()).await;
    }
}

/// Makes room for what many agents send at once; returns the bytes that the system gave.
fn buffer(socket: &std::net::UdpSocket) -> std::io::Result<usize> {
    sockopt::set_socket_recv_buffer_size(socket, BUFFER_BYTES)?;
    // Linux answers with twice what it granted, for its own bookkeeping (socket(7)).
    Ok(sockopt::socket_recv_buffer_size(socket)? / 2)
}

fn transport(config: &Config) -> TransportConfig {
    let mut path = MtuDiscoveryConfig::default();
    path.upper_bound(DATAGRAM_BYTES_MAX);
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(path))
        // One stream carries the session; anything else a peer opens would only take memory.
        .max_concurrent_bidi_streams(VarInt::from_u32(1))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .datagram_receive_buffer_size(None)
        .receive_window(VarInt::from_u32(RECEIVE_WINDOW_BYTES))
        .max_idle_timeout(IdleTimeout::try_from(config.idle_timeout).ok());
    transport
}

/// Handshake, identity, registration; then the session.
async fn admit(incoming: Incoming, context: Context, stop: Stop) {
    let peer = incoming.remote_address();
    let metrics = Arc::clone(&context.metrics);
    let handshake = async { incoming.accept()?.await };
    let connection = match tokio::time::timeout(HANDSHAKE_MAX, handshake).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            metrics.refuse(handshake_word(&error));
            info!(%peer, %error, reason = handshake_word(&error), "connection refused");
            return;
        }
        Err(_) => {
            metrics.refuse("handshake_timeout");
            return;
        }
    };
    let identity = match identify(&connection, &context.layout).await {
        Ok(identity) => identity,
        Err(unwelcome) => {
            unwelcome.refuse(&connection, &metrics);
            warn!(%peer, error = %unwelcome, "connection refused");
            // The close reaches the peer only while the connection is driven.
            connection.closed().await;
            return;
        }
    };
    let opened = tokio::time::timeout(HANDSHAKE_MAX, connection.accept_bi()).await;
    let Ok(Ok((send, receive))) = opened else {
        Unwelcome::NoStream.refuse(&connection, &metrics);
        return;
    };
    metrics.connections_total.add(1);
    metrics.connections.add(1);
    debug!(%peer, host = %identity.host, "agent connected");
    connection::serve(&connection, send, receive, &identity, &context, stop).await;
    metrics.connections.sub(1);
    debug!(%peer, host = %identity.host, "agent gone");
}

/// Who the verified certificate names, if that host is registered with it.
async fn identify(connection: &Connection, layout: &Layout) -> Result<PeerIdentity, Unwelcome> {
    let certificates = connection
        .peer_identity()
        .and_then(|identity| identity.downcast::<Vec<CertificateDer<'static>>>().ok())
        .ok_or(BadIdentity::Malformed)?;
    let leaf = certificates.first().ok_or(BadIdentity::Malformed)?;
    let identity = PeerIdentity::of_certificate(leaf)?;
    let (layout, asked) = (layout.clone(), identity.clone());
    let admitted = tokio::task::spawn_blocking(move || registry::admit(&layout, &asked)).await;
    match admitted {
        Ok(admitted) => admitted.map(|_| identity).map_err(Unwelcome::from),
        // The runtime is shutting down.
        Err(_) => Err(Unwelcome::NoStream),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_gets_the_room_that_the_system_allows() {
        let allowed = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
        let allowed: usize = allowed.trim().parse().unwrap();
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        assert_eq!(buffer(&socket).unwrap(), BUFFER_BYTES.min(allowed));
    }
}
