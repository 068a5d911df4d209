//! The instance's HTTP server, which waits for no client: neither for a request's headers, nor for one that does not read. What clients have of
//! it is bounded: connections, and the memory and time of each.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use axum::{Router, serve::Listener};
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{Sleep, sleep},
};
use tracing::debug;

use crate::limits;

/// Serves `most` connections at once, until it is dropped, and they with it. One more waits in the system's queue until another ends: whoever
/// asks for health finds room later rather than none.
pub(crate) async fn serve(mut listener: TcpListener, router: Router, most: usize) {
    let mut connections = JoinSet::new();
    loop {
        let has_room = connections.len() < most;
        tokio::select! {
            Some(_ended) = connections.join_next() => {}
            (stream, _) = Listener::accept(&mut listener), if has_room => {
                connections.spawn(serve_connection(stream, router.clone()));
            }
        }
    }
}

/// HTTP/1.1 alone: within HTTP/2 a client can let one answer of many stand for ever, and nobody sees that. Nor is anything upgraded, which would be
/// a connection without bounds.
async fn serve_connection(stream: TcpStream, router: Router) {
    let io = TokioIo::new(Connection { stream, stalled: None });
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits::HEADERS).max_buf_size(limits::HEADERS_BYTES);
    if let Err(error) = http.serve_connection(io, TowerToHyperService::new(router)).await {
        debug!(%error, "A client's connection has ended");
    }
}

/// A client's connection, which ends where the client takes nothing for [`limits::TAKEN`]: with it end its answer, and the place of that.
struct Connection {
    stream: TcpStream,
    /// Set while the client has no room for what is to be written.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl Connection {
    /// What became of a write, or that it has waited for too long.
    fn bounded<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(sleep(limits::TAKEN)));
        ready!(stalled.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing of its answer")))
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.bounded(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, pieces);
        self.bounded(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
