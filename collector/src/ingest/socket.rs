//! The UDP socket as quinn sees it, with a count of the datagrams that are no QUIC of ours.
//!
//! quinn drops such datagrams without a word; counting them by reason is all this adds. Nothing is dropped
//! here: a datagram that this file misjudges is still served.

use std::{
    fmt, io,
    io::IoSliceMut,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use quinn::{
    AsyncUdpSocket, ConnectionId, ConnectionIdGenerator, UdpPoller,
    udp::{RecvMeta, Transmit},
};
use quinn_proto::HashedConnectionIdGenerator;

use crate::metrics::Metrics;

/// QUIC version 1 (RFC 9000), the only one spoken here.
pub(super) const QUIC_V1: u32 = 1;
/// Most bytes of a connection id (RFC 9000 §17.2).
const CONNECTION_ID_BYTES_MAX: u8 = 20;
/// Shortest datagram that can hold a protected packet: header byte, our id of 8, 4 + 16 for header protection.
const SHORT_BYTES_MIN: usize = 1 + 8 + 4 + 16;
/// First bit: long header.
const LONG: u8 = 0x80;
/// Second bit: set in all packets but version negotiation, since we do not grease it.
const FIXED: u8 = 0x40;

/// Wraps the runtime's socket.
pub(super) struct Counting {
    pub(super) inner: Arc<dyn AsyncUdpSocket>,
    pub(super) metrics: Arc<Metrics>,
    /// Knows the connection ids that this endpoint has handed out.
    pub(super) ids: HashedConnectionIdGenerator,
}

impl fmt::Debug for Counting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.inner.fmt(f)
    }
}

impl AsyncUdpSocket for Counting {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Arc::clone(&self.inner).create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.inner.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = ready!(self.inner.poll_recv(cx, buffers, meta))?;
        for (buffer, meta) in buffers.iter().zip(meta.iter()).take(received) {
            let bytes = buffer.get(..meta.len).unwrap_or_default();
            for datagram in bytes.chunks(meta.stride.max(1)) {
                if let Err(reason) = judge(datagram, &self.ids) {
                    self.metrics.refuse(reason);
                }
            }
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.inner.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.inner.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.inner.may_fragment()
    }
}

/// Names what is wrong with a datagram's first packet as far as its unprotected bytes tell.
fn judge(datagram: &[u8], ids: &HashedConnectionIdGenerator) -> Result<(), &'static str> {
    let (&first, rest) = datagram.split_first().ok_or("udp_garbage")?;
    if first & FIXED == 0 {
        return Err("udp_garbage");
    }
    if first & LONG != 0 {
        let (version, rest) = rest.split_first_chunk::<4>().ok_or("udp_garbage")?;
        if u32::from_be_bytes(*version) != QUIC_V1 {
            return Err("quic_version");
        }
        let known = rest
            .first()
            .is_some_and(|length| *length <= CONNECTION_ID_BYTES_MAX && rest.len() > usize::from(*length));
        return if known { Ok(()) } else { Err("udp_garbage") };
    }
    if datagram.len() < SHORT_BYTES_MIN {
        return Err("udp_garbage");
    }
    let id = rest.get(..ids.cid_len()).ok_or("udp_garbage")?;
    // Also what a connection of before a restart looks like; its agent finds out by a stateless reset.
    ids.validate(&ConnectionId::new(id))
        .map_err(|_| "unknown_connection")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn datagrams_are_judged_by_their_open_bytes() {
        let mut ids = HashedConnectionIdGenerator::from_key(7);
        let ours = ids.generate_cid();
        let mut short = vec![FIXED];
        short.extend_from_slice(&ours);
        short.extend_from_slice(&[0; 20]);
        assert_eq!(judge(&short, &ids), Ok(()));
        let mut foreign = short.clone();
        foreign[5] ^= 1;
        assert_eq!(judge(&foreign, &ids), Err("unknown_connection"));
        assert_eq!(judge(&short[..9], &ids), Err("udp_garbage"));
        let long = [LONG | FIXED, 0, 0, 0, 1, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0];
        assert_eq!(judge(&long, &ids), Ok(()));
        let mut version = long;
        version[1] = 9;
        assert_eq!(judge(&version, &ids), Err("quic_version"));
        for garbage in [
            &b""[..],
            b"GET / HTTP/1.1",
            b"\x00\x01",
            b"\xc0\x00\x00\x00\x01\xff",
        ] {
            let found = judge(garbage, &ids);
            assert!(matches!(found, Err("udp_garbage")), "{garbage:?} {found:?}");
        }
    }
}
