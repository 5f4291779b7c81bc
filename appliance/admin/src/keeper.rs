//! Looks after the files by which the interface is reached, on a thread of its own, so that a folder that does not answer
//! holds up no client.
//!
//! A Unix socket whose file is gone cannot be found by any client that comes, and nothing else would tell of it: it is
//! made anew. Keys that have been replaced are taken, so that renewing a certificate needs nobody's hand; what cannot be
//! taken leaves those of before in force, and is tried again at each look: a certificate becomes valid by the clock alone.
//! Either way the appliance is told what is wrong, until it no longer is, and of a certificate that is about to end.

use crate::appliance::{Appliance, DoorTrouble};
use crate::config::SocketDoor;
use crate::keys::Keys;
use crate::limits::{KEEPER_PERIOD, STOP_WAIT};
use crate::socket::{self, Listening, Place};
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::mpsc::UnboundedSender;

/// Everything that is looked after.
pub(crate) struct Kept {
    pub(crate) socket: Option<KeptSocket>,
    pub(crate) keys: Option<Arc<Keys>>,
}

/// The socket in its place, and where a new one is handed over.
pub(crate) struct KeptSocket {
    pub(crate) door: SocketDoor,
    pub(crate) file: Listening,
    pub(crate) listeners: UnboundedSender<UnixListener>,
}

/// The thread. Dropping it stops it, and takes the socket's file away.
#[derive(Debug)]
pub(crate) struct Keeper {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Keeper {
    pub(crate) fn start(kept: Kept, appliance: Arc<dyn Appliance>) -> io::Result<Keeper> {
        let (stop, stopped) = channel();
        let thread = thread::Builder::new()
            .name("palisade-doors".to_owned())
            .spawn(move || kept.run(&stopped, &*appliance))?;
        Ok(Keeper {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.stop.take());
        let Some(thread) = self.thread.take() else { return };
        // A folder that does not answer must not hold up the end.
        let deadline = Instant::now() + STOP_WAIT;
        while !thread.is_finished() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(2));
        }
        if !thread.is_finished() {
            log::warn!("rest: the socket's file is left behind: its folder does not answer");
        } else if thread.join().is_err() {
            log::error!("rest: the thread that looks after sockets and keys ended by a panic");
        }
    }
}

impl Kept {
    fn run(mut self, stopped: &Receiver<()>, appliance: &dyn Appliance) {
        let mut told = Vec::new();
        while stopped.recv_timeout(KEEPER_PERIOD) == Err(RecvTimeoutError::Timeout) {
            let socket = self.socket.as_mut().and_then(KeptSocket::look);
            let keys = self.keys.as_deref().and_then(look_at_keys);
            let certificate = self.keys.as_deref().and_then(look_at_certificate);
            let wrong: Vec<_> = [socket, keys, certificate].into_iter().flatten().collect();
            if wrong != told {
                appliance.doors_seen(&wrong);
                told = wrong;
            }
        }
    }
}

impl KeptSocket {
    /// What was wrong with the socket; it may be well again when this returns, and is then told so after the next look.
    fn look(&mut self) -> Option<DoorTrouble> {
        let shown = self.door.path.display();
        let what = match self.file.place() {
            Place::Ours => return None,
            Place::Empty => format!("the socket {shown} has been deleted from outside"),
            Place::AnotherSocket => format!("another socket has taken the place of ours, {shown}"),
            Place::Other => format!("something that is no socket is in the place of ours, {shown}"),
            Place::Unknown(error) => format!("the socket {shown} cannot be looked at: {error}"),
        };
        let message = match self.renew() {
            Ok(()) => what,
            Err(why) => format!("{what}, and cannot be made anew: {why}"),
        };
        Some(DoorTrouble::Socket { message })
    }

    fn renew(&mut self) -> Result<(), String> {
        if let Some(folder) = self.door.path.parent()
            && !folder.exists()
        {
            let made = DirBuilder::new().recursive(true).mode(0o755).create(folder);
            made.map_err(|error| format!("its folder {}: {error}", folder.display()))?;
        }
        let (file, listener) = socket::bind(&self.door).map_err(|error| error.to_string())?;
        // Without anybody to take it the server is about to end, and the file goes with it.
        let _ = self.listeners.send(listener);
        self.file = file;
        Ok(())
    }
}

fn look_at_keys(keys: &Keys) -> Option<DoorTrouble> {
    match keys.put_back() {
        Ok(true) => {
            log::warn!("rest: the folder of the token was made anew, and the token in force is in it again")
        }
        Ok(false) => {}
        Err(error) => log::warn!("rest: {error}; it is tried again"),
    }
    let before = keys.wrong();
    if keys.are_stale() || before.is_some() {
        match keys.reload() {
            Ok(()) => log::info!("rest: tokens, certificate and key were read again and are in force"),
            Err(_) if keys.wrong() == before => {}
            Err(error) => log::error!(
                "rest: a token, certificate or key has changed and cannot be taken, the old ones stay in force: {error}; {}",
                error.remedy()
            ),
        }
    }
    keys.wrong().map(|message| DoorTrouble::Keys { message })
}

fn look_at_certificate(keys: &Keys) -> Option<DoorTrouble> {
    let (state, message) = keys.certificate(SystemTime::now())?;
    Some(DoorTrouble::Certificate { state, message })
}
