//! Questions and changes while a thread holds the state of the node.

mod agreed;
mod alike;
mod coming_up;
mod elsewhere;
mod held;
mod import;
mod moved_over;
mod placed;
pub(crate) mod preview;

use super::*;
use crate::agreed::Agreed;
use crate::config::{Config, Cores};
use crate::effects::executor::Threads;
use crate::host::DoorHost;
use crate::reactor_thread::NoticeSink;
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
    still_node_agreeing(folder, more, |store| store)
}

/// The same with an agreement over its files.
fn still_node_agreeing(
    folder: &Path,
    more: &str,
    agreement: impl FnOnce(Arc<Store>) -> Arc<dyn Agreement + Send + Sync>,
) -> (Rest, Door) {
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
    let store = Arc::new(Store::open(&folder.join("state")).unwrap());
    let name = Name::new("n1").unwrap();
    let first = InitCluster {
        id: chance(),
        node: name.clone(),
        node_uuid: chance(),
    };
    store.propose(Command::InitCluster(first)).unwrap();
    let (control, _) = crossbeam::channel::unbounded();
    let told = NoticeSink {
        control,
        door: Arc::default(),
    };
    let agreement = agreement(Arc::clone(&store));
    let executor = Arc::new(Threads);
    let agreed = Agreed::alone(store, agreement);
    let shared = Shared::new(settings, agreed, executor, name, Vec::new(), told);
    let shared = Arc::new(shared);
    let door = Door::open(shared.settings.door, |_| DoorHost::new(Arc::clone(&shared))).unwrap();
    shared.set_door(door.handle());
    (Rest::new(shared), door)
}

/// Says of a disk where it is, or that its medium is what lies there.
fn confirmed(rest: &Rest, disk: &str, path: Option<String>, confirm: bool) -> Result<api::Disk, Problem> {
    let patch = api::DiskPatch {
        path,
        confirm,
        ..api::DiskPatch::default()
    };
    rest.disk_change(disk, patch, None)
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
    let request = api::DiskCreate {
        node: None,
        id: "d1".into(),
        medium: api::Medium::Null(api::NullMedium { bytes: 1 << 30 }),
        usage: api::DiskUsage::Whole,
        block_bytes: None,
        force: false,
        volatile: false,
    };
    rest.disk_add(request).unwrap();
    assert!(found().is_none());
}

#[test]
fn what_is_made_names_its_node_and_a_node_that_is_not_there_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = still_node(folder.path());
    let [node] = rest.nodes().try_into().unwrap();
    assert_eq!((node.name.as_str(), node.answers), ("n1", true));
    assert_eq!(node.id, rest.node().id);
    let disk = |id: &str, node: Option<&str>| api::DiskCreate {
        id: id.into(),
        node: node.map(str::to_owned),
        medium: api::Medium::Null(api::NullMedium { bytes: 1 << 30 }),
        usage: api::DiskUsage::Whole,
        block_bytes: None,
        force: false,
        volatile: false,
    };
    for (id, asked) in [
        ("d1", None),
        ("d2", Some("self")),
        ("d3", Some("n1")),
        ("d4", Some(&*node.id)),
    ] {
        let made = rest.disk_add(disk(id, asked)).unwrap().into_inner();
        assert_eq!(made.node, "n1");
        let on: Vec<_> = made.state.applied.keys().collect();
        assert_eq!(on, ["n1"]);
    }
    let volume = |node: Option<&str>| api::VolumeCreate {
        id: "v1".into(),
        node: node.map(str::to_owned),
        bytes: 1 << 20,
        disk: Some("d1".into()),
        block_bytes: None,
        clear: None,
    };
    let attachment = |node: Option<&str>| -> api::AttachmentCreate {
        let request = serde_json::json!({ "id": "a1", "volume": "v1", "node": node });
        serde_json::from_value(request).unwrap()
    };
    let elsewhere = Some("n2");
    for refused in [
        rest.disk_add(disk("d5", elsewhere)).unwrap_err(),
        rest.disk_preview(disk("d5", elsewhere)).unwrap_err(),
        rest.volume_create(volume(elsewhere)).unwrap_err(),
        rest.attachment_create(attachment(elsewhere)).unwrap_err(),
    ] {
        assert_eq!(
            (refused.code.as_ref(), refused.field.as_deref()),
            ("node_not_found", Some("node"))
        );
        assert_eq!(refused.message, "there is no node \"n2\"");
    }
    assert_eq!(rest.volume_create(volume(None)).unwrap().into_inner().node, "n1");
    let again = rest.volume_create(volume(Some("n1"))).unwrap();
    assert!(
        matches!(again, Created::Existing(_)),
        "where it lies was left to placement before"
    );
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

    let request = api::VolumeCreate {
        node: None,
        id: "v1".into(),
        bytes: 1 << 20,
        disk: None,
        block_bytes: None,
        clear: None,
    };
    let refused = asked(&rest, move |rest| rest.volume_create(request))
        .unwrap()
        .unwrap_err();
    // The model has the first word: without a disk there is nothing to look at.
    assert_eq!(refused.code, "no_disk");
    let request = api::DiskCreate {
        node: None,
        id: "d1".into(),
        medium: api::Medium::Null(api::NullMedium { bytes: 1 << 30 }),
        usage: api::DiskUsage::Whole,
        block_bytes: None,
        force: false,
        volatile: false,
    };
    let add = {
        let request = request.clone();
        move |rest: &Rest| rest.disk_add(request)
    };
    let refused = asked(&rest, add).unwrap().unwrap_err();
    assert_eq!((refused.code.as_ref(), refused.status()), ("control_busy", 503));

    drop(held);
    assert!(matches!(rest.disk_add(request), Ok(Created::New(_))));
    assert_eq!(rest.metrics().state_age, Duration::ZERO);
    let health = rest.health();
    assert!(
        health
            .findings
            .iter()
            .all(|finding| finding.code != "control_busy")
    );
}
