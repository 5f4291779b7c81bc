//! Disks whose places are named: what lies there is shown first.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod site;

use site::Site;

/// A dry run ends as what it shows would: nothing proves what lies there, and one disk alone may be placed.
#[test]
fn a_dry_run_ends_as_what_it_shows_would() {
    let site = Site::new();
    for (asked, code, word) in [
        (
            "disk confirm a=/srv/x --dry-run",
            1,
            "Nothing proves that /srv/x is disk a",
        ),
        (
            "disk confirm a=/srv/x b=/srv/y --dry-run",
            1,
            "and that /srv/y is disk b",
        ),
        ("disk confirm a=/srv/x --dry-run --yes", 0, "Nothing was changed."),
        // The other spelling of the same.
        (
            "disk confirm a --path /srv/x --dry-run",
            1,
            "Nothing proves that /srv/x is disk a",
        ),
        (
            "disk confirm a --path /srv/x --dry-run --yes",
            0,
            "Nothing was changed.",
        ),
    ] {
        let ran = site.palisade(asked);
        assert_eq!(ran.code, code, "{asked}: {}", ran.err);
        assert!(ran.out.contains(word), "{asked}: {}", ran.out);
    }
}

#[test]
fn what_nodes_are_in_the_cluster_is_shown() {
    let site = Site::new();
    let table = site.palisade("nodes").ok();
    for (node, words) in [
        ("host-a", ["this one", "voter", "rack-3"]),
        ("host-b", ["joining as learner", "-", "https://192.0.2.2:7780"]),
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
