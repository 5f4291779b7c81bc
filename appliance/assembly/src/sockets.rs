//! Looks after the sockets' files: one that somebody has deleted or replaced cannot be found by a virtual machine that
//! comes, and nothing else would tell of it. It is a finding, and the socket is put back; whoever is connected stays so.

use crate::shared::Shared;
use crate::watch::Waiting;
use palisade_api::FindingKind;
use palisade_block::{AttachmentIndex, Doing, Whom};
use palisade_model::Name;
use std::fs::DirBuilder;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

/// How often all of them are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Looks again and again, until the watch is told to stop. A folder that does not answer holds up nobody else.
pub fn run(shared: &Shared) {
    let watched = shared.watch.enrol(
        "node/sockets",
        "the thread that looks after sockets",
        Waiting::nothing(),
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
    let Some(plant) = shared.plant_within(Duration::ZERO) else {
        return Vec::new();
    };
    let changing = |name: &Name| plant.under_way.keys().any(|action| action.target().1 == name);
    let sockets = plant.observed.sockets.iter();
    sockets
        .filter(|(name, _)| !changing(name))
        .filter_map(|(name, socket)| {
            let index = plant.attachments.get(name)?.index;
            Some((name.clone(), index, socket.attachment.socket.clone()))
        })
        .collect()
}

fn look(shared: &Shared, name: &Name, index: AttachmentIndex, path: &str) {
    let subject = format!("attachment/{name}");
    let report = shared.door().report(index);
    // One that was cut off, or is about to leave, has no socket on purpose.
    let Some(ours) = report.and_then(|report| report.socket) else {
        return;
    };
    match wrong(Path::new(path), ours) {
        None => shared.findings.clear(FindingKind::SocketLost, &subject),
        Some(what) => {
            shared.findings.raise(FindingKind::SocketLost, subject, what);
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
    match std::fs::symlink_metadata(path) {
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
    use std::os::unix::net::UnixListener;

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
