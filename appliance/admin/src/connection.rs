//! One connection: its deadlines, from the handshake to the last byte.

use crate::access::Caller;
use crate::crowd::{Marks, Work};
use crate::limits::{HANDSHAKE_WAIT, HEADER_BYTES_MAX, HEADERS_WAIT, WRITE_WAIT};
use axum::Router;
use axum::body::{Body, Bytes};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper::{Request, Response};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::Watcher;
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep, timeout};
use tokio_rustls::TlsAcceptor;

/// Serves a connection until it ends. What goes wrong on it is the client's business and is not logged.
pub(crate) async fn serve<S>(stream: S, tls: Option<TlsAcceptor>, answering: Answering, watcher: Watcher)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    match tls {
        None => http(Deadlined::new(stream), answering, watcher).await,
        Some(acceptor) => {
            if let Ok(Ok(stream)) = timeout(HANDSHAKE_WAIT, acceptor.accept(Deadlined::new(stream))).await {
                http(stream, answering, watcher).await;
            }
        }
    }
}

async fn http<S: AsyncRead + AsyncWrite + Unpin + 'static>(
    stream: S,
    answering: Answering,
    watcher: Watcher,
) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADERS_WAIT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(TokioIo::new(stream), answering);
    let _ = watcher.watch(connection).await;
}

/// What answers the requests of one connection: each learns where it came in, and counts as work until its answer is
/// wholly written.
#[derive(Debug)]
pub(crate) struct Answering {
    pub(crate) router: TowerToHyperService<Router>,
    pub(crate) caller: Caller,
    pub(crate) marks: Arc<Marks>,
}

impl Service<Request<Incoming>> for Answering {
    type Response = Response<Worked>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Worked>, Infallible>> + Send>>;

    fn call(&self, mut request: Request<Incoming>) -> Self::Future {
        request.extensions_mut().insert(self.caller.clone());
        request.extensions_mut().insert(Arc::clone(&self.marks));
        let work = self.marks.begin();
        let answer = self.router.call(request);
        Box::pin(async move { Ok(answer.await?.map(|body| Worked { body, _work: work })) })
    }
}

/// The body of an answer; the request has ended when it has.
#[derive(Debug)]
pub(crate) struct Worked {
    body: Body,
    _work: Work,
}

impl hyper::body::Body for Worked {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A stream whose other end must take what is written within [`WRITE_WAIT`], so that one who never reads does not hold a
/// connection for ever.
struct Deadlined<S> {
    stream: S,
    /// Runs while a write waits.
    waiting: Pin<Box<Sleep>>,
    is_waiting: bool,
}

impl<S> Deadlined<S> {
    fn new(stream: S) -> Deadlined<S> {
        Deadlined {
            stream,
            waiting: Box::pin(sleep(WRITE_WAIT)),
            is_waiting: false,
        }
    }

    /// Passes a finished write on; lets an unfinished one wait no longer than it may.
    fn judge<T>(&mut self, wrote: Poll<io::Result<T>>, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if wrote.is_ready() {
            self.is_waiting = false;
            return wrote;
        }
        if !self.is_waiting {
            self.is_waiting = true;
            self.waiting.as_mut().reset(Instant::now() + WRITE_WAIT);
        }
        ready!(self.waiting.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Deadlined<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Deadlined<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.judge(wrote, context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(context, pieces);
        self.judge(wrote, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
