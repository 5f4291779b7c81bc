//! Looks after the sockets' files: one that somebody has deleted or replaced cannot be found by a virtual machine that
//! comes, and nothing else would tell of it. It is a finding, and the socket is put back; whoever is connected stays so.
//!
//! A daemon that is killed leaves all its sockets behind. Those that are wanted are taken over by its successor as they are
//! offered again; the others are taken away at its start.

use crate::shared::Shared;
use crate::watch::PendingWork;
use palisade_api::FindingKind;
use palisade_block::{Doing, Whom};
use palisade_frontend::remove_dead;
use palisade_model::Cluster;
use palisade_words::{AttachmentIndex, Name};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// How often all of them are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How the socket of an attachment is called where its place was not given, and while it is being made.
const OWN_SUFFIXES: [&str; 2] = [".sock", ".sock.new"];

/// Takes away what attachments that are no more have left in the folder of sockets, when the daemon was killed before it had
/// done so itself. Before anything is offered there: what is dead then stays so. What a guest has made of its write cache
/// stays: it may belong to another database, if the daemon was started with a wrong one.
pub fn sweep(run_dir: &Path, api_socket: &Path, cluster: &Cluster) {
    let Ok(found) = fs::read_dir(run_dir) else { return };
    for entry in found.flatten() {
        let path = entry.path();
        let file = entry.file_name();
        let Some(file) = file.to_str() else { continue };
        let of = |suffix: &str| Name::new(file.strip_suffix(suffix)?).ok();
        let is_wanted = |path: &Path| {
            let mut all = cluster.attachments.values();
            path == api_socket || all.any(|attachment| Path::new(&attachment.socket) == path)
        };
        if OWN_SUFFIXES.into_iter().find_map(of).is_some() && !is_wanted(&path) {
            match remove_dead(&path) {
                Ok(true) => log::info!(
                    "socket={} of an attachment that is no more: taken away",
                    path.display()
                ),
                Ok(false) => {}
                Err(error) => log::warn!("socket={} left behind, error={error}", path.display()),
            }
        }
    }
}

/// Looks again and again, until the watch is told to stop. A folder that does not answer holds up nobody else.
pub fn run(shared: &Shared) {
    let watched = shared.watch.enrol(
        "node/sockets",
        "the thread that looks after sockets",
        PendingWork::nothing(),
    );
    while !shared.watch.is_stopping() {
        watched.progress.asleep_for(Some(LOOK));
        std::thread::sleep(LOOK);
        for (name, index, path) in offered(shared) {
            watched.progress.mark(Doing::Socket, Whom::Attachment(index));
            look(shared, &name, index, &path);
        }
    }
}

/// Sockets that are on offer and stay so. None while that cannot be known: the next look is soon.
fn offered(shared: &Shared) -> Vec<(Name, AttachmentIndex, String)> {
    let Some(state) = shared.state_within(Duration::ZERO) else {
        return Vec::new();
    };
    let changing = |name: &Name| {
        state
            .control
            .under_way
            .keys()
            .any(|action| action.target().1 == name)
    };
    let sockets = state.control.observed.sockets.iter();
    sockets
        .filter(|(name, _)| !changing(name))
        .filter_map(|(name, socket)| {
            let index = state.control.attachments.get(name)?.index;
            Some((name.clone(), index, socket.attachment.socket.clone()))
        })
        .collect()
}

fn look(shared: &Shared, name: &Name, index: AttachmentIndex, path: &str) {
    let subject = format!("attachment/{name}");
    let socket = || shared.door().report(index).and_then(|report| report.socket);
    // One that was cut off, or is about to leave, has no socket on purpose.
    let Some(ours) = socket() else {
        return shared.findings.clear(FindingKind::SocketLost, &subject);
    };
    // It may have been taken away between the two looks.
    match wrong(Path::new(path), ours).filter(|_| socket() == Some(ours)) {
        None => shared.findings.clear(FindingKind::SocketLost, &subject),
        Some(what) => {
            shared.findings.restate(FindingKind::SocketLost, subject, what);
            make_folder_of(Path::new(path), &shared.settings.run_dir);
            shared.door().restore(index);
        }
    }
}

/// A socket's folder may have been deleted with it. Of others than our own it is not known whose they were.
fn make_folder_of(path: &Path, own: &Path) {
    if path.parent() == Some(own)
        && !own.exists()
        && let Err(error) = DirBuilder::new().recursive(true).mode(0o755).create(own)
    {
        log::warn!(
            "the folder {} has gone and cannot be made anew: {error}",
            own.display()
        );
    }
}

/// What is in the way of a virtual machine that looks for our socket, if anything.
fn wrong(path: &Path, ours: (u64, u64)) -> Option<String> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Ok(found) if (found.dev(), found.ino()) == ours => None,
        Ok(found) if found.file_type().is_socket() => {
            Some(format!("another socket has taken the place of ours, {shown}"))
        }
        Ok(_) => Some(format!(
            "something that is no socket is in the place of ours, {shown}"
        )),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Some(format!("the socket {shown} has been deleted from outside"))
        }
        Err(error) => Some(format!("the socket {shown} cannot be looked at: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_model::{Attachment, Limits};
    use palisade_words::Generation;
    use std::os::unix::net::UnixListener;

    #[test]
    fn what_attachments_that_are_no_more_have_left_is_taken_away() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let attachment = Attachment {
            uuid: palisade_words::Uuid(31),
            volume: Name::new("v").unwrap(),
            node: Name::new("n").unwrap(),
            socket: at("kept.sock").display().to_string(),
            queues: 1,
            queue_size: 256,
            owner: None,
            group: None,
            mode: 0o660,
            read_only: false,
            serial: "s".into(),
            limits: Limits::default(),
            write_cache: true,
            created: Generation(1),
            revision: Generation(1),
        };
        let mut cluster = Cluster::empty();
        cluster.attachments.insert(Name::new("kept").unwrap(), attachment);
        let dead = [
            "gone.sock",
            "gone.sock.new",
            "kept.sock",
            "api.sock",
            "of-others",
            "No Name.sock",
        ];
        for name in dead {
            UnixListener::bind(at(name)).unwrap();
        }
        let _listens = UnixListener::bind(at("alive.sock")).unwrap();
        std::fs::write(at("file.sock"), "x").unwrap();
        sweep(folder.path(), &at("api.sock"), &cluster);
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        let stay = [
            "No Name.sock",
            "alive.sock",
            "api.sock",
            "file.sock",
            "kept.sock",
            "of-others",
        ];
        assert_eq!(left, stay);
        sweep(&at("no-folder"), &at("api.sock"), &cluster);
    }

    #[test]
    fn only_our_own_socket_is_well() {
        let folder = std::env::temp_dir().join(format!("sockets-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join("a.sock");
        let _first = UnixListener::bind(&path).unwrap();
        let at = std::fs::symlink_metadata(&path).unwrap();
        let ours = (at.dev(), at.ino());
        assert_eq!(wrong(&path, ours), None);
        std::fs::rename(&path, folder.join("kept")).unwrap();
        assert!(wrong(&path, ours).unwrap().contains("deleted from outside"));
        let _second = UnixListener::bind(&path).unwrap();
        assert!(wrong(&path, ours).unwrap().contains("another socket"));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "x").unwrap();
        assert!(wrong(&path, ours).unwrap().contains("no socket"));
        std::fs::remove_dir_all(&folder).unwrap();
        assert!(wrong(&path, ours).unwrap().contains("deleted from outside"));
        make_folder_of(&path, &folder.join("another"));
        assert!(!folder.exists(), "it is somebody else's");
        make_folder_of(&path, &folder);
        assert!(folder.exists());
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
