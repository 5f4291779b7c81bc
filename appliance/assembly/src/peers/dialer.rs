//! Links are made: one thread for each other node, which tries one after the other and gives a node that does not answer time.

use crate::peers::{Place, tell};
use crate::shared::Shared;
use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use palisade_forward::PeerOrder;
use palisade_sys::SocketConnection;
use palisade_words::{LinkIndex, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// A node that does not answer is given up for this time.
const CONNECT_WAIT: Duration = Duration::from_millis(1000);

/// After a failure the next try comes so much later, and twice as much after each more.
const PAUSE_FIRST: Duration = Duration::from_millis(20);

/// But not later than this.
const PAUSE_MOST: Duration = Duration::from_millis(500);

/// A thread without work for so long ends.
const IDLE: Duration = Duration::from_secs(60);

/// A link to be made.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
struct Wanted {
    place: Place,
    link: LinkIndex,
}

/// All threads that make links.
#[derive(Debug, Default)]
pub(super) struct Dialer {
    threads: Mutex<BTreeMap<Uuid, Sender<Wanted>>>,
    /// What is being made or waits for that. A session that has given a link up and asks for it again gets the one that comes.
    pending: Mutex<BTreeSet<Wanted>>,
}

impl Dialer {
    /// Has a link made. What comes of it the session hears.
    pub(super) fn dial(&self, shared: &Arc<Shared>, peer: Uuid, place: Place, link: LinkIndex) {
        let wanted = Wanted { place, link };
        if !self.pending().insert(wanted) {
            return;
        }
        let mut threads = self.threads();
        if let Some(thread) = threads.get(&peer)
            && thread.send(wanted).is_ok()
        {
            return;
        }
        let (orders, taken) = crossbeam::channel::unbounded();
        let _ = orders.send(wanted);
        threads.insert(peer, orders);
        let of = Arc::downgrade(shared);
        let started = std::thread::Builder::new()
            .name("dial".into())
            .spawn(move || run(&of, peer, &taken));
        if let Err(error) = started {
            log::error!("no thread could be started that makes links: {error}");
            threads.remove(&peer);
            self.pending().remove(&wanted);
            let session = place.session;
            tell(shared, place, PeerOrder::DialFailed { session, link });
        }
    }

    fn threads(&self) -> MutexGuard<'_, BTreeMap<Uuid, Sender<Wanted>>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pending(&self) -> MutexGuard<'_, BTreeSet<Wanted>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn run(shared: &Weak<Shared>, peer: Uuid, taken: &Receiver<Wanted>) {
    let (mut pause, mut tries) = (PAUSE_FIRST, 0usize);
    loop {
        let wanted = match taken.recv_timeout(IDLE) {
            Ok(wanted) => wanted,
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let Some(shared) = shared.upgrade() else { return };
                // Whoever wants another one starts another thread. What came just now would be taken by none.
                let mut threads = shared.peers.dialer.threads();
                match taken.try_recv() {
                    Ok(wanted) => wanted,
                    Err(_) => {
                        threads.remove(&peer);
                        return;
                    }
                }
            }
        };
        let Some(shared) = shared.upgrade() else { return };
        let Wanted { place, link } = wanted;
        let session = place.session;
        let made = connect(&shared, peer, tries + usize::from(link.0));
        let order = match made {
            Ok(connection) => {
                pause = PAUSE_FIRST;
                PeerOrder::Connected {
                    session,
                    link,
                    connection,
                }
            }
            Err(error) => {
                log::debug!("a link to node {peer} cannot be made: {error}");
                tries = tries.wrapping_add(1);
                std::thread::sleep(pause);
                pause = (pause * 2).min(PAUSE_MOST);
                PeerOrder::DialFailed { session, link }
            }
        };
        // It may be asked for again from the moment on at which the session hears of this.
        shared.peers.dialer.pending().remove(&wanted);
        tell(&shared, place, order);
    }
}

fn connect(shared: &Shared, peer: Uuid, at: usize) -> io::Result<SocketConnection> {
    let site = shared.site.get();
    let site = site.ok_or_else(|| io::Error::other("this node is in no cluster of several"))?;
    let cluster = shared.cluster();
    let addresses = cluster
        .node_by_id(peer)
        .map(|(_, node)| node.addresses.clone())
        .unwrap_or_default();
    // Links are spread over the addresses, and another one is tried after a failure.
    let address = addresses
        .get(at.checked_rem(addresses.len()).unwrap_or_default())
        .ok_or_else(|| io::Error::other("the cluster knows no address of it"))?;
    let socket = site.way().connect_for_data(peer, *address, CONNECT_WAIT)?;
    Ok(SocketConnection::new(socket))
}
