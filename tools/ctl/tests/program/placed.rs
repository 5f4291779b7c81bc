//! Disks whose places are named: what lies there is shown first.

use crate::site::Site;
use palisade_control::Work;
use palisade_model::{AddNode, ChangeNode, Command};
use palisade_words::{Name, Uuid};
use std::net::SocketAddr;

/// Files that were given whole and have gone, and older copies of them: nothing proves what such a copy is of.
fn with_copies() -> Site {
    let site = Site::new();
    let why = "it does not answer";
    site.node
        .work
        .fail(|work| matches!(work, Work::OpenDisk { .. }), why);
    for (disk, fill) in [("a", 1), ("b", 2)] {
        let file = site.node.path(&format!("disks/{disk}.img"));
        std::fs::write(&file, vec![fill; 1 << 20]).unwrap();
        site.palisade(&format!(
            "disk add {disk} --file @disks/{disk}.img --whole --force"
        ))
        .ok();
        let older = site.node.path(&format!("disks/{disk}.copy"));
        std::fs::write(older, vec![fill + 2; 1 << 20]).unwrap();
        std::fs::remove_file(&file).unwrap();
    }
    site
}

/// A dry run ends as what it shows would: nothing proves what lies there, and one disk alone may be placed.
#[test]
fn a_dry_run_ends_as_what_it_shows_would() {
    let site = with_copies();
    let unproved = |path: &str, disk: &str| site.words(&format!("that {path} is disk {disk}"));
    let a = unproved("@disks/a.copy", "a");
    for (asked, code, words) in [
        (
            "disk confirm a=@disks/a.copy --dry-run",
            1,
            vec!["Nothing proves", &a],
        ),
        (
            "disk confirm a=@disks/a.copy b=@disks/b.copy --dry-run",
            1,
            vec![&a, &unproved("@disks/b.copy", "b")],
        ),
        (
            "disk confirm a=@disks/a.copy --dry-run --yes",
            0,
            vec!["Nothing was changed."],
        ),
        // The other spelling of the same.
        (
            "disk confirm a --path @disks/a.copy --dry-run",
            1,
            vec!["Nothing proves", &a],
        ),
        (
            "disk confirm a --path @disks/a.copy --dry-run --yes",
            0,
            vec!["Nothing was changed."],
        ),
    ] {
        let ran = site.palisade(asked);
        assert_eq!(ran.code, code, "{asked}: {ran:?}");
        assert!(
            words.iter().all(|word| ran.out.contains(word)),
            "{asked}: {ran:?}"
        );
    }
}

#[test]
fn what_nodes_are_in_the_cluster_is_shown() {
    let site = Site::new();
    let name = |text| Name::new(text).unwrap();
    let at = |host: u8| [[192, 0, 2, host], [198, 51, 100, host]].map(|ip| SocketAddr::from((ip, 7781)));
    site.node.others.have_agreed(Command::AddNode(AddNode {
        name: name("host-b"),
        uuid: Uuid(77),
        addresses: at(2).to_vec(),
        failure_domain: None,
    }));
    site.node.others.have_agreed(Command::ChangeNode(ChangeNode {
        name: name("host-a"),
        addresses: Some(at(1).to_vec()),
        failure_domain: Some(name("rack-3")),
        role: None,
        expected: None,
    }));
    let table = site.palisade("nodes").ok();
    for (node, words) in [
        ("host-a", ["this one", "voter", "rack-3"]),
        ("host-b", ["joining as learner", "-", "00000000004d"]),
    ] {
        let line = table.lines().find(|line| line.contains(node)).unwrap();
        assert!(words.iter().all(|word| line.contains(word)), "{table}");
    }
    let node = site.palisade("node").ok();
    for words in [
        "voter",
        "rack-3",
        "192.0.2.1:7781, 198.51.100.1:7781",
        "Feature level",
    ] {
        assert!(node.contains(words), "{words}: {node}");
    }
}
