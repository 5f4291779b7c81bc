//! A disk that keeps no record is opened by nobody after the database was put back from a copy, and closed where one finds out
//! late.

mod node;

use node::{Node, apply, begin, name};
use palisade_model::{Cluster, Command, Held, IdentifyDisk, Kind};
use palisade_reconcile::{Cause, Wait, plan, waits};

/// A whole file `d0` with the volume `v0`, offered as `a0`; and a pooled one, `d1`, with `v1` as `a1`.
fn served() -> Cluster {
    let commands = [
        (0, 0, 0, 3, false),
        (0, 1, 0, 4, true),
        (4, 0, 0, 0, true),
        (4, 1, 1, 0, true),
        (8, 0, 0, 0, false),
        (8, 1, 1, 1, false),
    ];
    let all = commands.into_iter().enumerate();
    let cluster = all.fold(begin(), |cluster, (serial, command)| {
        apply(&cluster, 10 + serial as u128, command)
    });
    assert_eq!(cluster.attachments.len(), 2);
    assert!(cluster.disks[&name("d", 0)].keeps_no_record() && cluster.disks[&name("d", 1)].has_superblock());
    cluster
}

fn then(cluster: &Cluster, command: &Command) -> Cluster {
    cluster.apply(command).expect("it is accepted").0
}

fn held(cluster: &Cluster) -> Cluster {
    then(cluster, &Command::HoldDisks(Held { taken_unix_s: None }))
}

/// What is open and on offer.
fn in_use(node: &Node) -> (Vec<String>, Vec<String>) {
    let disks = node.observed.disks.keys().map(ToString::to_string).collect();
    let sockets = node.observed.sockets.keys().map(ToString::to_string).collect();
    (disks, sockets)
}

fn only(disk: &str, socket: &str) -> (Vec<String>, Vec<String>) {
    (vec![disk.to_owned()], vec![socket.to_owned()])
}

/// Why the disk is not used.
fn told(cluster: &Cluster, node: &Node) -> Vec<Cause> {
    let all = waits(cluster, &name("n", 0), &node.observed).into_iter();
    let of_disk = all.filter(|wait| wait.kind == Kind::Disk && wait.name == name("d", 0));
    of_disk.map(|wait| wait.cause).collect()
}

fn cause() -> Cause {
    Cause::HeldDisk {
        disk: name("d", 0),
        volumes: vec![name("v", 0)],
    }
}

fn confirmed(cluster: &Cluster) -> Cluster {
    let disk = &cluster.disks[&name("d", 0)];
    let identify = IdentifyDisk {
        name: name("d", 0),
        path: None,
        wwid: None,
        record: disk.record.clone(),
        confirmed: true,
        expected: None,
    };
    then(cluster, &Command::IdentifyDisk(identify))
}

#[test]
fn it_is_not_opened_before_an_operator_has_confirmed_it() {
    let cluster = held(&served());
    let mut node = Node::default();
    for _ in 0..2 {
        node.settle(&cluster);
        assert_eq!(in_use(&node), only("d1", "a1"));
        assert_eq!(told(&cluster, &node), [cause()]);
        // A restart forgets nothing of it.
        node = Node::default();
    }
    node.settle(&cluster);
    let words = Wait {
        kind: Kind::Disk,
        name: name("d", 0),
        cause: cause(),
    }
    .to_string();
    for word in [
        "v0",
        "palisade disk confirm d0 --yes",
        "palisade volume delete v0 --no-clear",
        "--disk d0 --clear never",
    ] {
        assert!(words.contains(word), "{words}");
    }
    // Of several volumes the first is taken off first, and all are named.
    let two = Cause::HeldDisk {
        disk: name("d", 0),
        volumes: vec![name("v", 0), name("v", 1)],
    };
    let words = Wait {
        kind: Kind::Disk,
        name: name("d", 0),
        cause: two,
    }
    .to_string();
    assert!(words.contains("has v0, v1 on it"), "{words}");
    assert!(words.contains("palisade volume delete v0 --no-clear"), "{words}");
    let cluster = confirmed(&cluster);
    node.settle(&cluster);
    assert_eq!(told(&cluster, &node), []);
    assert_eq!(node.observed.sockets.len(), 2);
}

#[test]
fn one_that_is_in_use_is_taken_from_its_guest_and_closed() {
    let cluster = served();
    let mut node = Node::default();
    node.settle(&cluster);
    assert_eq!(node.observed.sockets.len(), 2);
    let cluster = held(&cluster);
    let first = plan(&cluster, &name("n", 0), &node.observed);
    let first: Vec<String> = first.iter().map(ToString::to_string).collect();
    assert!(
        first.iter().any(|step| step.contains("attachment a0"))
            && !first.iter().any(|step| step.contains("a1")),
        "{first:?}"
    );
    node.settle(&cluster);
    assert_eq!(in_use(&node), only("d1", "a1"));
    assert_eq!(told(&cluster, &node), [cause()]);
    let cluster = confirmed(&cluster);
    node.settle(&cluster);
    assert_eq!(node.observed.sockets.len(), 2);
    assert_eq!(told(&cluster, &node), []);
}

/// It may be given up without being opened.
#[test]
fn one_that_leaves_is_let_go_unopened() {
    let cluster = held(&apply(&begin(), 10, (0, 0, 0, 3, false)));
    let cluster = apply(&cluster, 11, (2, 0, 0, 0, true));
    let node = Node::default();
    let steps = plan(&cluster, &name("n", 0), &node.observed);
    let steps: Vec<&str> = steps.iter().map(|step| step.action.as_str()).collect();
    assert_eq!(steps, ["release_disk"]);
}
