//! One QUIC connection with its stream, as two small tasks.
//!
//! Owns the socket for as long as it lives. Names what ended it in words an operator can act on.

use std::{
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use common::{
    limits::DATAGRAM_BYTES_MAX,
    session::{ConnectionId, RefusalCode},
};
use quinn::{
    AckFrequencyConfig, ConnectionError, Endpoint, MtuDiscoveryConfig, RecvStream, SendStream,
    TransportConfig, VarInt,
};
use tokio::{sync::mpsc, task::JoinHandle};

use crate::config::Collector;

/// Messages handed over and not yet written.
const OUTGOING_MAX: usize = 2;
/// Bytes read at once.
const READ_BYTES: usize = 64 * 1024;
/// How long the last messages may take on an orderly close.
const FINISH_WITHIN: Duration = Duration::from_secs(1);

/// Datagrams that the collector may leave unacknowledged for a moment (draft-ietf-quic-ack-frequency): its next word on a
/// batch mostly comes before and carries the acknowledgement. Half of the first congestion window, so that a transfer
/// starts as fast as ever.
const UNACKNOWLEDGED: u32 = 5;
/// Close codes from here on are refusals.
const REFUSAL_CODES_FROM: u64 = 0x1_0000;

/// What a connection tells the machine's loop.
#[derive(Debug)]
pub(super) enum Incoming {
    /// The stream is open.
    Connected(ConnectionId),
    /// Bytes came.
    Bytes(ConnectionId, Vec<u8>),
    /// It is gone: a word for the counter and a sentence for people.
    Gone(ConnectionId, String, String),
}

/// The loop's end of a connection. Dropping it ends the connection.
#[derive(Debug)]
pub(super) struct Link {
    id: ConnectionId,
    outgoing: mpsc::Sender<Vec<u8>>,
    task: JoinHandle<()>,
}

/// Why a connection ended, or never was.
#[derive(Debug, thiserror::Error)]
enum Ended {
    /// The name does not resolve.
    #[error("{address} cannot be resolved: {cause}")]
    Resolve { address: String, cause: std::io::Error },
    /// No socket.
    #[error("no UDP socket: {0}")]
    Socket(std::io::Error),
    /// The address or name is not usable.
    #[error("cannot connect: {0}")]
    Connect(#[from] quinn::ConnectError),
    /// The handshake or the connection failed.
    #[error("{}", explain(.0))]
    Connection(#[from] ConnectionError),
    /// The collector closed the stream.
    #[error("the collector closed the stream")]
    Closed,
}

impl Link {
    /// Connects in the background.
    pub(super) fn open(
        id: ConnectionId,
        config: quinn::ClientConfig,
        collector: Collector,
        incoming: mpsc::Sender<Incoming>,
    ) -> Self {
        let (outgoing, messages) = mpsc::channel(OUTGOING_MAX);
        let task = tokio::spawn(async move {
            if let Err(ended) = talk(id, config, &collector, &incoming, messages).await {
                let gone = Incoming::Gone(id, ended.kind(), ended.to_string());
                // The loop is gone only when the agent ends.
                let _ = incoming.send(gone).await;
            }
        });
        Self { id, outgoing, task }
    }

    pub(super) fn id(&self) -> ConnectionId {
        self.id
    }

    /// Hands over a message, or gives it back where there is no room. One for a connection that is gone is
    /// dropped: its end is on its way to the loop.
    pub(super) fn send(&self, bytes: Vec<u8>) -> Result<(), Vec<u8>> {
        match self.outgoing.try_send(bytes) {
            Err(mpsc::error::TrySendError::Full(bytes)) => Err(bytes),
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => Ok(()),
        }
    }

    /// Waits until there is room.
    pub(super) async fn room(&self) {
        let _ = self.outgoing.reserve().await;
    }

    /// Lets what was handed over be written, then closes.
    pub(super) async fn finish(self) {
        drop(self.outgoing);
        let _ = tokio::time::timeout(FINISH_WITHIN, self.task).await;
    }
}

/// What an agent asks of QUIC: large datagrams where the path takes them, and few acknowledgements.
#[must_use]
pub fn transport() -> TransportConfig {
    let mut path = MtuDiscoveryConfig::default();
    path.upper_bound(DATAGRAM_BYTES_MAX);
    let mut acks = AckFrequencyConfig::default();
    acks.ack_eliciting_threshold(VarInt::from_u32(UNACKNOWLEDGED));
    let mut transport = TransportConfig::default();
    transport
        .mtu_discovery_config(Some(path))
        .ack_frequency_config(Some(acks));
    transport
}

async fn talk(
    id: ConnectionId,
    mut config: quinn::ClientConfig,
    collector: &Collector,
    incoming: &mpsc::Sender<Incoming>,
    messages: mpsc::Receiver<Vec<u8>>,
) -> Result<(), Ended> {
    config.transport_config(Arc::new(transport()));
    let address = resolve(&collector.address).await?;
    let local: SocketAddr = if address.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let endpoint = Endpoint::client(local).map_err(Ended::Socket)?;
    let connection = endpoint
        .connect_with(config, address, &collector.server_name)?
        .await?;
    let (sending, receiving) = connection.open_bi().await?;
    if incoming.send(Incoming::Connected(id)).await.is_err() {
        return Ok(());
    }
    let outcome = tokio::select! {
        written = write(sending, messages) => written.map(|()| None),
        read = read(id, receiving, incoming) => read.map(Some),
    };
    // A refusal may have arrived together with the close: its words are in the connection's reason.
    let closed = connection.close_reason();
    connection.close(VarInt::from_u32(0), b"");
    endpoint.wait_idle().await;
    match (outcome, closed) {
        (Ok(None), _) => Ok(()),
        (_, Some(reason)) => Err(reason.into()),
        (Ok(Some(())), None) => Err(Ended::Closed),
        (Err(ended), None) => Err(ended),
    }
}

async fn resolve(address: &str) -> Result<SocketAddr, Ended> {
    let failed = |cause| Ended::Resolve {
        address: address.to_owned(),
        cause,
    };
    tokio::net::lookup_host(address)
        .await
        .map_err(failed)?
        .next()
        .ok_or_else(|| failed(std::io::Error::other("no address")))
}

/// Writes until the loop lets go, then waits until the peer has everything.
async fn write(mut stream: SendStream, mut messages: mpsc::Receiver<Vec<u8>>) -> Result<(), Ended> {
    while let Some(message) = messages.recv().await {
        if let Err(error) = stream.write_all(&message).await {
            return Err(match error {
                quinn::WriteError::ConnectionLost(lost) => lost.into(),
                _ => Ended::Closed,
            });
        }
    }
    let _ = stream.finish();
    let _ = stream.stopped().await;
    Ok(())
}

async fn read(
    id: ConnectionId,
    mut stream: RecvStream,
    incoming: &mpsc::Sender<Incoming>,
) -> Result<(), Ended> {
    loop {
        match stream.read_chunk(READ_BYTES, true).await {
            Ok(Some(chunk)) => {
                if incoming
                    .send(Incoming::Bytes(id, chunk.bytes.to_vec()))
                    .await
                    .is_err()
                {
                    return Ok(());
                }
            }
            Ok(None) => return Ok(()),
            Err(quinn::ReadError::ConnectionLost(lost)) => return Err(lost.into()),
            Err(_) => return Err(Ended::Closed),
        }
    }
}

impl Ended {
    fn kind(&self) -> String {
        if let Self::Connection(ConnectionError::ApplicationClosed(close)) = self
            && let Some(code) = refusal(close.error_code)
        {
            return format!("refused-{}", code.name().replace(' ', "-"));
        }
        let word = match self {
            Self::Resolve { .. } => "resolve",
            Self::Socket(_) => "socket",
            Self::Connect(_) => "connect",
            Self::Connection(error) => match tls_alert(error) {
                Some(_) => "tls",
                None => match error {
                    ConnectionError::TimedOut => "timeout",
                    ConnectionError::ApplicationClosed(_) => "closed-by-collector",
                    _ => "connection",
                },
            },
            Self::Closed => "closed-by-collector",
        };
        word.to_owned()
    }
}

/// The refusal that a collector's close code stands for (`docs/format/session.md`); `None` for other codes.
fn refusal(code: VarInt) -> Option<RefusalCode> {
    let number = code.into_inner().checked_sub(REFUSAL_CODES_FROM)?;
    u16::try_from(number).ok().map(RefusalCode::from_number)
}

/// The TLS alert that ended the handshake, whichever side raised it.
fn tls_alert(error: &ConnectionError) -> Option<u8> {
    let code = match error {
        ConnectionError::TransportError(error) => u64::from(error.code),
        ConnectionError::ConnectionClosed(close) => u64::from(close.error_code),
        _ => return None,
    };
    // RFC 9001 §4.8: 0x100 plus the alert.
    u8::try_from(code.checked_sub(0x100)?).ok()
}

/// What an ended connection means and what to do about it.
fn explain(error: &ConnectionError) -> String {
    let ours = matches!(error, ConnectionError::TransportError(_));
    let (who, whose) = if ours {
        (
            "this agent refused the collector's certificate",
            "ca.crt or the collector's certificate",
        )
    } else {
        ("the collector refused this host's certificate", "tls.crt")
    };
    match (error, tls_alert(error)) {
        (_, Some(45)) => format!("{who}: expired; renew {whose} ({error})"),
        (_, Some(48)) => format!("{who}: unknown authority; check {whose} ({error})"),
        (_, Some(42 | 43 | 44 | 46 | 51)) => format!("{who}; check {whose} ({error})"),
        (_, Some(116)) => format!("the collector asks for a certificate and got none ({error})"),
        (_, Some(120)) => {
            format!("the other end speaks another protocol; is this the collector's ingest port? ({error})")
        }
        (ConnectionError::TimedOut, _) => {
            "the collector does not answer; is it running, and does UDP reach it?".to_owned()
        }
        _ => format!("connection: {error}"),
    }
}
