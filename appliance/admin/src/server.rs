//! The server: one thread of its own, from start to stop.

use crate::access::{Access, Caller};
use crate::appliance::Appliance;
use crate::config::{AdminConfig, AdminStartError, SocketDoor};
use crate::connection::{self, Answering};
use crate::crowd::{Crowd, PeerKey, Place};
use crate::keeper::{Keeper, Kept, KeptSocket};
use crate::keys::Keys;
use crate::limits::{
    CALLS_MAX, CONNECTIONS_MAX, HEALTH_CALLS_MAX, LISTEN_PERIOD, LOCAL_CONNECTIONS_MAX, PROGRESS_PERIOD,
    RECORDS_MAX, STOP_WAIT,
};
use crate::rest::{self, Door};
use crate::socket;
use axum::Router;
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use palisade_api::{Problem, ProblemKind};
use palisade_block::{Doing, Progress, Whom};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio_rustls::TlsAcceptor;

/// A running server. Dropping it stops it.
#[derive(Debug)]
pub struct Server {
    address: Arc<OnceLock<SocketAddr>>,
    port_trouble: Option<String>,
    keys: Option<Arc<Keys>>,
    stopping: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
    keeper: Option<Keeper>,
    progress: Arc<Progress>,
}

impl Server {
    /// Starts listening; once this returns, clients are served. With a Unix socket, a TCP port that another process
    /// holds is no reason not to start, nor an address that the machine has not got yet: perhaps a predecessor holds it that
    /// waits for a device, or a network comes up later than we do. It is tried again until it works, and
    /// [`address`](Server::address) says nothing until then.
    ///
    /// # Errors
    /// A door that cannot be opened, or whose keys cannot be taken.
    pub fn start(config: AdminConfig, appliance: Arc<dyn Appliance>) -> Result<Server, AdminStartError> {
        config.check()?;
        let keys = config.tcp.as_ref().map(Keys::load).transpose()?.map(Arc::new);
        let socket = config
            .socket
            .map(|door| socket::bind(&door).map(|(file, listener)| (door, file, listener)))
            .transpose()?;
        let address = Arc::new(OnceLock::new());
        let mut port_trouble = None;
        let port = match &config.tcp {
            None => None,
            Some(door) => match listen(door.listen) {
                Ok(listener) => Some(Port::Open(listener)),
                Err(source) if socket.is_some() && may_come_right(&source) => {
                    port_trouble = Some(match source.kind() {
                        io::ErrorKind::AddrInUse => format!("another process listens on {}", door.listen),
                        _ => format!("{} cannot be listened on: {source}", door.listen),
                    });
                    Some(Port::Waiting(door.listen))
                }
                Err(source) => {
                    return Err(AdminStartError::Listen {
                        listen: door.listen,
                        source,
                    });
                }
            },
        };
        if let Some(Port::Open(listener)) = &port
            && let Ok(local) = listener.local_addr()
        {
            let _ = address.set(local);
        }
        // One thread serves all connections; calls into the appliance have theirs. They stay: as long as there is one, a
        // call waits for it where the host allows no more threads; without any, the runtime would panic.
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .max_blocking_threads(CALLS_MAX + HEALTH_CALLS_MAX + RECORDS_MAX)
            .thread_keep_alive(Duration::from_secs(10 * 365 * 24 * 3600))
            .thread_name("palisade-admin")
            .build()
            .map_err(|source| AdminStartError::Runtime { source })?;
        let (stopping, stopped) = watch::channel(false);
        let access = Access {
            keys: keys.clone(),
            metrics_open: config.metrics_open,
            socket: socket
                .as_ref()
                .map(|(door, ..)| door.path.display().to_string().into()),
        };
        let router = rest::router(Door::new(Arc::clone(&appliance), stopped.clone()), access);
        let reception = Reception {
            answer: TowerToHyperService::new(router),
            graceful: GracefulShutdown::new(),
        };
        let (listeners, taken) = mpsc::unbounded_channel();
        let (socket, kept) = match socket {
            None => (None, None),
            Some((door, file, listener)) => {
                let _ = listeners.send(listener);
                let kept = KeptSocket {
                    door: door.clone(),
                    file,
                    listeners,
                };
                (Some((door, taken)), Some(kept))
            }
        };
        let kept = Kept {
            socket: kept,
            keys: keys.clone(),
        };
        let keeper = Keeper::start(kept, appliance).map_err(|source| AdminStartError::Runtime { source })?;
        let serving = Serving {
            socket,
            port,
            keys: keys.clone(),
            address: Arc::clone(&address),
            stopped,
        };
        let progress = Arc::new(Progress::default());
        let marks = Arc::clone(&progress);
        let thread = thread::Builder::new()
            .name("palisade-admin".to_owned())
            .spawn(move || {
                runtime.spawn(show_progress(Arc::clone(&marks)));
                runtime.spawn_blocking(|| ());
                runtime.block_on(serving.run(reception));
                marks.asleep();
                runtime.shutdown_timeout(STOP_WAIT);
            })
            .map_err(|source| AdminStartError::Runtime { source })?;
        Ok(Server {
            address,
            port_trouble,
            keys,
            stopping,
            thread: Some(thread),
            keeper: Some(keeper),
            progress,
        })
    }

    /// The sign of life of the thread that serves all connections.
    pub fn progress(&self) -> Arc<Progress> {
        Arc::clone(&self.progress)
    }

    /// Where it listens on TCP, once it does.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address.get().copied()
    }

    /// Why it does not listen on TCP, if it was to and does not yet.
    pub fn port_trouble(&self) -> Option<&str> {
        self.port_trouble
            .as_deref()
            .filter(|_| self.address.get().is_none())
    }

    /// Reads tokens, certificate and key again, for connections and requests to come.
    ///
    /// # Errors
    /// What is wrong with a file; the keys stay as they were.
    pub fn reload(&self) -> Result<(), AdminStartError> {
        self.keys.as_ref().map_or(Ok(()), |keys| keys.reload())
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
        drop(self.keeper.take());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end();
    }
}

/// Shows that connections get their turns: this one gets its own among them.
async fn show_progress(progress: Arc<Progress>) {
    loop {
        progress.mark(Doing::Rest, Whom::Nobody);
        tokio::time::sleep(PROGRESS_PERIOD).await;
    }
}

/// Whether a port that cannot be listened on may be had later, with nobody's help here.
fn may_come_right(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable
    )
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The TCP port: had, or held by somebody else.
enum Port {
    Open(TcpListener),
    Waiting(SocketAddr),
}

/// Who may come in by the Unix socket, and the socket that is in its place: the first one, and each that takes its place.
type Listeners = (
    SocketDoor,
    mpsc::UnboundedReceiver<std::os::unix::net::UnixListener>,
);

/// What the server's thread needs.
struct Serving {
    socket: Option<Listeners>,
    port: Option<Port>,
    keys: Option<Arc<Keys>>,
    address: Arc<OnceLock<SocketAddr>>,
    stopped: watch::Receiver<bool>,
}

/// What takes connections up.
struct Reception {
    answer: TowerToHyperService<Router>,
    graceful: GracefulShutdown,
}

impl Serving {
    /// Takes connections until told to stop, then waits for them.
    async fn run(mut self, reception: Reception) {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            () = serve_socket(self.socket.take(), &reception) => {}
            () = serve_port(self.port.take(), self.keys.clone(), &self.address, &reception) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        if tokio::time::timeout(STOP_WAIT, reception.graceful.shutdown())
            .await
            .is_err()
        {
            log::info!("rest: connections that did not end in time were cut");
        }
    }
}

async fn serve_socket(socket: Option<Listeners>, reception: &Reception) {
    let Some((door, mut listeners)) = socket else {
        return std::future::pending().await;
    };
    let crowd = Crowd::new(LOCAL_CONNECTIONS_MAX);
    let mut listener = None;
    loop {
        let accepted = tokio::select! {
            new = listeners.recv() => {
                match new.map(tokio::net::UnixListener::from_std) {
                    Some(Ok(new)) => listener = Some(new),
                    Some(Err(error)) => log::error!("rest: no connections are taken on the Unix socket: {error}"),
                    // Whoever looks after the socket has ended, and the server is about to.
                    None => return std::future::pending().await,
                }
                continue;
            }
            accepted = accept(listener.as_ref()) => accepted,
        };
        let Ok(stream) = accepted else {
            breathe().await;
            continue;
        };
        // Who cannot be told is gone again.
        let Ok((user, role)) = door.judge(&stream) else {
            continue;
        };
        match crowd.enter(PeerKey::User(user)) {
            Some(place) => reception.take(stream, None, Caller::Local { user, role }, place),
            None => turn_away(&stream, &full(LOCAL_CONNECTIONS_MAX)),
        }
    }
}

/// The next connection; there is none for as long as there is no socket.
async fn accept(listener: Option<&tokio::net::UnixListener>) -> io::Result<UnixStream> {
    match listener {
        Some(listener) => listener.accept().await.map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn serve_port(
    port: Option<Port>,
    keys: Option<Arc<Keys>>,
    address: &OnceLock<SocketAddr>,
    reception: &Reception,
) {
    let (Some(port), Some(keys)) = (port, keys) else {
        return std::future::pending().await;
    };
    let listener = match port {
        Port::Open(listener) => listener,
        Port::Waiting(wanted) => loop {
            tokio::time::sleep(LISTEN_PERIOD).await;
            if let Ok(listener) = listen(wanted) {
                log::info!("rest: {wanted} can be had now and is listened on");
                if let Ok(local) = listener.local_addr() {
                    let _ = address.set(local);
                }
                break listener;
            }
        },
    };
    let listener = match tokio::net::TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => {
            log::error!("rest: no connections are taken on the TCP port: {error}");
            return std::future::pending().await;
        }
    };
    let crowd = Crowd::new(CONNECTIONS_MAX);
    loop {
        let Ok((stream, peer)) = listener.accept().await else {
            breathe().await;
            continue;
        };
        // Answers are small and whole; waiting for more to send would only delay them.
        let _ = stream.set_nodelay(true);
        let tls = keys.acceptor();
        match crowd.enter(PeerKey::Address(peer.ip().to_canonical())) {
            Some(place) => reception.take(stream, tls, Caller::Remote { peer }, place),
            None if tls.is_some() => {}
            None => turn_away(&stream, &full(CONNECTIONS_MAX)),
        }
    }
}

impl Reception {
    /// Serves a connection on a task of its own, which ends when the place is needed for somebody else.
    fn take<S>(&self, stream: S, tls: Option<TlsAcceptor>, caller: Caller, place: Place)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let answering = Answering {
            router: self.answer.clone(),
            caller,
            marks: Arc::clone(&place.marks),
        };
        let served = connection::serve(stream, tls, answering, self.graceful.watcher());
        let (crowd, number) = place.known_as();
        let task = tokio::spawn(async move {
            served.await;
            drop(place);
        });
        crowd.served_by(number, task.abort_handle());
    }
}

/// The client was gone before it was taken, or this process has no file descriptor left: rather a pause than a loop that
/// fails as fast as it can.
async fn breathe() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

fn full(places: usize) -> Problem {
    Problem::new(
        ProblemKind::Unavailable,
        "too_many_connections",
        format!(
            "{places} clients are connected and each is in the middle of a request; there may be no more"
        ),
        "close some, or try again later",
    )
}

/// A stream that takes bytes without waiting.
trait TryWrite {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize>;
}

impl TryWrite for TcpStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        TcpStream::try_write(self, bytes)
    }
}

impl TryWrite for UnixStream {
    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        UnixStream::try_write(self, bytes)
    }
}

/// Says why not, without waiting for anything.
fn turn_away(stream: &impl TryWrite, problem: &Problem) {
    let body = serde_json::to_string(problem).unwrap_or_default();
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\ncontent-type: application/json\r\ncontent-length: {}\r\nretry-after: \
         5\r\nconnection: close\r\n\r\n{body}",
        body.len()
    );
    let _ = stream.try_write(answer.as_bytes());
}
