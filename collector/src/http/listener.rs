//! The HTTP socket with its bounds: so many connections, none of them idle for long, none that is no HTTP.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use axum::serve::Listener;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, Sleep},
};

use crate::metrics::Metrics;

/// Connections served at a time; further ones wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// A connection that neither sends nor takes anything for this long is closed.
const IDLE_MAX: Duration = Duration::from_secs(120);

/// A listener that bounds what it accepts.
pub struct Guarded {
    inner: TcpListener,
    places: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Guarded {
    /// Wraps `inner`.
    #[must_use]
    pub fn new(inner: TcpListener, metrics: Arc<Metrics>) -> Self {
        Self {
            inner,
            places: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            metrics,
        }
    }
}

impl Listener for Guarded {
    type Io = Bounded;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Bounded, SocketAddr) {
        // The semaphore is never closed; if it were, an unbounded place is better than a dead socket.
        let place = Arc::clone(&self.places).acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.inner).await;
        let io = Bounded {
            stream,
            first: true,
            idle: Box::pin(tokio::time::sleep(IDLE_MAX)),
            metrics: Arc::clone(&self.metrics),
            _place: place,
        };
        (io, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// One connection with its deadline and its place.
pub struct Bounded {
    stream: TcpStream,
    /// Nothing was read yet.
    first: bool,
    idle: Pin<Box<Sleep>>,
    metrics: Arc<Metrics>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsyncRead for Bounded {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        if let Poll::Ready(read) = Pin::new(&mut self.stream).poll_read(cx, buffer) {
            read?;
            self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
            // Every request begins with a method in capitals. Saying so here counts what hyper would only
            // answer with 400.
            let new = buffer.filled().get(before..).unwrap_or_default();
            if std::mem::take(&mut self.first) && new.first().is_some_and(|byte| !byte.is_ascii_uppercase()) {
                self.metrics.refuse("http_garbage");
                return Poll::Ready(Err(io::ErrorKind::InvalidData.into()));
            }
            return Poll::Ready(Ok(()));
        }
        ready!(self.idle.as_mut().poll(cx));
        self.metrics.refuse("http_idle");
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.idle.as_mut().reset(Instant::now() + IDLE_MAX);
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
