//! Who may connect to a socket: what was said last, also for one that is put back or offered anew.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod stand;

use palisade_frontend::SocketOwner;
use palisade_words::AttachmentIndex;
use stand::{Entrance, spec, until};
use std::os::unix::fs::PermissionsExt;

const WEB: AttachmentIndex = AttachmentIndex(7);

#[test]
fn a_socket_that_is_put_back_has_the_rights_that_were_set_last() {
    let entrance = Entrance::new(WEB.0);
    let handle = entrance.door.handle();
    let path = &entrance.path;
    let mode = || std::fs::symlink_metadata(path).map_or(0, |at| at.permissions().mode() & 0o777);
    let owner = |mode| SocketOwner {
        mode,
        ..spec(WEB.0, path).owner
    };
    let socket = || handle.report(WEB).and_then(|report| report.socket);
    assert_eq!(mode(), 0o600);
    handle.change_owner(WEB, owner(0o660));
    until("the mode to change", || mode() == 0o660);
    // The second is changed while it is missing.
    for (changed, last) in [(None, 0o660), (Some(owner(0o640)), 0o640)] {
        let before = socket();
        std::fs::remove_file(path).unwrap();
        if let Some(owner) = changed {
            handle.change_owner(WEB, owner);
        }
        handle.restore(WEB);
        until("another socket", || path.exists() && socket() != before);
        assert_eq!(mode(), last);
    }
    // What another has put in its place is not touched.
    std::fs::remove_file(path).unwrap();
    std::fs::write(path, "precious").unwrap();
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o604)).unwrap();
    handle.change_owner(WEB, owner(0o600));
    handle.restore(WEB);
    until("the reason to be seen", || {
        handle
            .report(WEB)
            .is_some_and(|report| report.last_error.is_some())
    });
    assert_eq!(mode(), 0o604);
}
