//! What health says between a start and the moment at which everything is up.

use super::preview::{BYTES, added, node, request, volume, written};
use super::*;
use palisade_reconcile::{Action, Step};

fn said(rest: &Rest, code: &str) -> Option<String> {
    let health = rest.health();
    let found = health
        .findings
        .into_iter()
        .find(|finding| finding.code == code)
        .map(|finding| finding.message);
    assert!(
        found.is_none() || health.overall != api::Overall::Ok,
        "{found:?} and all is well"
    );
    found
}

#[test]
fn health_names_what_is_not_up_yet_unless_something_is_in_its_way() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = node(folder.path());
    let d1 = Name::new("d1").unwrap();
    added(&rest, &request(&folder.path().join("d1.img"), Some(BYTES))).unwrap();
    written(&rest, &d1);
    volume(&rest, "v1", 11, &d1);
    let web1 = CreateAttachment {
        name: Name::new("web1").unwrap(),
        uuid: Uuid(31),
        volume: Name::new("v1").unwrap(),
        node: rest.shared.name.clone(),
        socket: folder.path().join("web1.sock").display().to_string(),
        queues: 1,
        queue_size: 256,
        owner: None,
        group: None,
        mode: 0o660,
        read_only: false,
        serial: None,
        limits: Limits::default(),
        write_cache: true,
    };
    rest.shared.propose(Command::CreateAttachment(web1)).unwrap();
    assert_eq!(
        said(&rest, "coming_up"),
        None,
        "what was agreed on just now shows in its own state"
    );
    // The next daemon on the same database.
    let started = rest.cluster().generation;
    rest.shared.state().learns(|state| state.started = started);
    assert_eq!(
        said(&rest, "coming_up").as_deref(),
        Some(
            "not in force yet: disk d1 is not open, volume v1 has no routes, attachment web1 is not offered"
        )
    );
    let open = Step {
        generation: rest.cluster().disks[&d1].revision,
        action: Action::OpenDisk { disk: d1 },
    };
    let fails = |reason: &str| {
        let mut state = rest.shared.state();
        state.learns(|state| state.observed.record_failure(&open, reason.to_owned()));
    };
    fails("its file is not there");
    assert_eq!(
        said(&rest, "coming_up"),
        None,
        "all of it waits for what has failed"
    );
    assert!(said(&rest, "disk_blocked").is_some_and(|said| said.contains("its file is not there")));
    // It is tried again: it has failed until it has not.
    rest.shared.state().learns(|state| state.observed.begin(&open));
    assert_eq!(said(&rest, "coming_up"), None);
    assert!(said(&rest, "disk_blocked").is_some());
}
