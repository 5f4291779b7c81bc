//! The server: one thread of its own, from start to stop.

use crate::access::Access;
use crate::appliance::Appliance;
use crate::config::{AdminConfig, StartError};
use crate::connection;
use crate::limits::{CALLS_MAX, CONNECTIONS_MAX, STOP_WAIT};
use crate::rest::{self, Door};
use crate::tls;
use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use palisade_api::{Problem, ProblemKind};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    stopping: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts listening; once this returns, clients are served.
    pub fn start(config: AdminConfig, appliance: Arc<dyn Appliance>) -> Result<Server, StartError> {
        config.check()?;
        let tls = config.tls.as_ref().map(tls::acceptor).transpose()?;
        let listen = config.listen;
        let listener = TcpListener::bind(listen).map_err(|source| StartError::Listen { listen, source })?;
        let address = listener
            .set_nonblocking(true)
            .and_then(|()| listener.local_addr())
            .map_err(|source| StartError::Listen { listen, source })?;
        // One thread serves all connections; calls into the appliance have theirs, which end when they are idle.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(CALLS_MAX)
            .thread_name("palisade-admin")
            .build()
            .map_err(|source| StartError::Runtime { source })?;
        let (stopping, stopped) = watch::channel(false);
        let door = Door::new(appliance, stopped.clone());
        let router = rest::router(
            door,
            Access {
                token: config.token.map(Arc::from),
            },
        );
        let thread = thread::Builder::new()
            .name("palisade-admin".to_owned())
            .spawn(move || {
                runtime.block_on(accept(listener, tls, router, stopped));
                runtime.shutdown_timeout(STOP_WAIT);
            })
            .map_err(|source| StartError::Runtime { source })?;
        Ok(Server {
            address,
            stopping,
            thread: Some(thread),
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more connections, lets requests in flight end for a bounded time, and returns when all threads have ended.
    pub fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        self.stopping.send_replace(true);
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("rest: the server's thread ended by a panic");
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Takes connections until told to stop, then waits for them.
async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    router: Router,
    mut stopped: watch::Receiver<bool>,
) {
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return log::error!("rest: no connections are taken: {error}"),
    };
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let graceful = GracefulShutdown::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = stopped.wait_for(|stopped| *stopped) => break,
        };
        match accepted {
            Ok((stream, _)) => match places.clone().try_acquire_owned() {
                Ok(place) => {
                    let served = connection::serve(stream, tls.clone(), router.clone(), graceful.watcher());
                    tokio::spawn(async move {
                        served.await;
                        drop(place);
                    });
                }
                Err(_) => turn_away(&stream, tls.is_some()),
            },
            // The client was gone before it was taken, or this process has no file descriptor left: rather a pause
            // than a loop that fails as fast as it can.
            Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    drop(listener);
    if tokio::time::timeout(STOP_WAIT, graceful.shutdown())
        .await
        .is_err()
    {
        log::info!("rest: connections that did not end in time were cut");
    }
}

/// Says that there is no room, without waiting for anything.
fn turn_away(stream: &TcpStream, encrypted: bool) {
    if encrypted {
        return;
    }
    let problem = Problem::new(
        ProblemKind::Unavailable,
        "too_many_connections",
        format!("{CONNECTIONS_MAX} clients are connected, and there may be no more"),
        "close some, or try again later",
    );
    let body = serde_json::to_string(&problem).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: \
         5\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}
