//! Questions and changes while a thread holds the state of the node.

mod alike;
mod coming_up;
mod held;
mod import;
mod moved_over;
pub(crate) mod preview;

use super::*;
use crate::config::{Config, Cores};
use crate::host::DoorHost;
use palisade_consensus::{Agreement, ProposeError, Store};
use palisade_frontend::Door;
use palisade_model::InitCluster;
use std::path::Path;
use std::sync::mpsc;

/// A node of which nothing runs but its door.
fn still_node(folder: &Path) -> (Rest, Door) {
    still_node_with(folder, "")
}

/// The state of such a node.
pub(crate) fn shared_of(rest: &Rest) -> Arc<Shared> {
    Arc::clone(&rest.shared)
}

/// The same with more in its configuration.
fn still_node_with(folder: &Path, more: &str) -> (Rest, Door) {
    let text = format!(
        "state_dir = '{0}/state'\nrun_dir = '{0}/run'\n{more}",
        folder.display()
    );
    let machine = Cores {
        settable: vec![0],
        inherited: vec![0],
        isolated: Vec::new(),
    };
    let settings = Config::parse(&text).unwrap().resolve(&machine).unwrap();
    let store = Store::open(&folder.join("state")).unwrap();
    let name = Name::new("n1").unwrap();
    let first = InitCluster {
        id: chance(),
        node: name.clone(),
        node_uuid: chance(),
    };
    store.propose(Command::InitCluster(first)).unwrap();
    let (messages, _) = crossbeam::channel::unbounded();
    let shared = Arc::new(Shared::new(settings, store, name, Vec::new(), messages));
    let door = Door::open(shared.settings.door, |_| DoorHost::new(Arc::clone(&shared))).unwrap();
    shared.set_door(door.handle());
    (Rest::new(shared), door)
}

/// Asks on a thread of its own; `None` when there is no answer in time.
fn asked<T: Send + 'static>(
    rest: &Arc<Rest>,
    question: impl FnOnce(&Rest) -> T + Send + 'static,
) -> Option<T> {
    let (answer, answered) = mpsc::channel();
    let rest = Arc::clone(rest);
    std::thread::spawn(move || answer.send(question(&rest)));
    answered
        .recv_timeout(STATE_PATIENCE + Duration::from_secs(3))
        .ok()
}

#[test]
fn a_database_that_takes_no_changes_is_a_finding_with_the_first_reason() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = still_node(folder.path());
    let found = || {
        let findings = rest.health().findings;
        findings
            .into_iter()
            .find(|finding| finding.code == "database_halted")
    };
    let storage = ProposeError::Storage {
        file: "log.redb".into(),
        reason: "no space".into(),
    };
    rest.shared.tell_of_database(&Err(storage));
    rest.shared.tell_of_database(&Err(ProposeError::Halted));
    let finding = found().unwrap();
    assert!(
        finding.message.contains("no space") && finding.count == 2,
        "{finding:?}"
    );
    // A change that is taken shows that it is over; one that is refused shows nothing.
    rest.volume_delete("nothing", None, api::RemovalOptions::default())
        .unwrap_err();
    assert!(found().is_some());
    let wish = api::DiskCreate {
        id: "d1".into(),
        medium: api::Medium::Null(api::NullMedium { bytes: 1 << 30 }),
        usage: api::DiskUsage::Whole,
        block_bytes: None,
        force: false,
        volatile: false,
    };
    rest.disk_add(wish).unwrap();
    assert!(found().is_none());
}

#[test]
fn questions_are_answered_and_changes_refused_while_a_thread_holds_the_state() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = still_node(folder.path());
    let rest = Arc::new(rest);
    let before = Instant::now();
    assert!(
        rest.shared.derive_findings(Duration::ZERO),
        "the watch has looked"
    );
    let held = rest.shared.state();

    assert_eq!(asked(&rest, |rest| rest.node().name).as_deref(), Some("n1"));
    assert_eq!(asked(&rest, Rest::reactors).map(|all| all.len()), Some(0));
    assert_eq!(asked(&rest, Rest::disks).map(|all| all.len()), Some(0));
    assert_eq!(asked(&rest, Rest::volumes).map(|all| all.len()), Some(0));
    assert_eq!(asked(&rest, Rest::attachments).map(|all| all.len()), Some(0));
    assert_eq!(asked(&rest, |rest| rest.state_backup().generation), Some(1));
    let age = asked(&rest, |rest| rest.metrics().state_age).unwrap();
    assert!(!age.is_zero() && age <= before.elapsed(), "{age:?}");
    let health = asked(&rest, Rest::health).unwrap();
    let codes: Vec<_> = health
        .findings
        .iter()
        .map(|finding| finding.code.as_ref())
        .collect();
    assert!(codes.contains(&"control_busy"), "{codes:?}");

    let wish = api::VolumeCreate {
        id: "v1".into(),
        bytes: 1 << 20,
        disk: None,
        block_bytes: None,
        clear: None,
    };
    let refused = asked(&rest, move |rest| rest.volume_create(wish))
        .unwrap()
        .unwrap_err();
    // The model has the first word: without a disk there is nothing to look at.
    assert_eq!(refused.code, "no_disk");
    let wish = api::DiskCreate {
        id: "d1".into(),
        medium: api::Medium::Null(api::NullMedium { bytes: 1 << 30 }),
        usage: api::DiskUsage::Whole,
        block_bytes: None,
        force: false,
        volatile: false,
    };
    let add = {
        let wish = wish.clone();
        move |rest: &Rest| rest.disk_add(wish)
    };
    let refused = asked(&rest, add).unwrap().unwrap_err();
    assert_eq!((refused.code.as_ref(), refused.status()), ("control_busy", 503));

    drop(held);
    assert!(matches!(rest.disk_add(wish), Ok(Created::New(_))));
    assert_eq!(rest.metrics().state_age, Duration::ZERO);
    let health = rest.health();
    assert!(
        health
            .findings
            .iter()
            .all(|finding| finding.code != "control_busy")
    );
}
