//! A disk and the database say different things: what each side loses is said before it is taken.

use crate::site::node::TestNode;
use crate::site::{Site, run};

/// Nobody listens there, and nobody is asked.
const NOWHERE: &str = "http://127.0.0.1:1";

/// A node whose database was put back from a backup, and whose disk has gone on from there, with a volume that the database does
/// not know.
fn put_back() -> Site {
    let before = Site::new();
    before
        .palisade("disk add d1 --file @disks/d1.img --size 128MiB --sparse --wait")
        .ok();
    before.palisade("volume create v1 1MiB --disk d1 --wait").ok();
    before.palisade("state backup @backup").ok();
    before
        .palisade("volume create precious 4MiB --disk d1 --wait")
        .ok();
    let restore = before.words("state restore @backup --state-dir @restored");
    let folder = before.node.stop();
    run(NOWHERE, &restore).ok();
    let restored = folder.path().join("restored");
    let more = format!("state_dir = '{}'", restored.display());
    Site::of(TestNode::within(folder, &more))
}

/// Each side says what it loses, whether it is only looked at or nobody can be asked; neither can be given a generation.
#[test]
fn the_sides_of_a_disk_say_what_each_loses() {
    let site = put_back();
    let shown = |side| {
        site.palisade(&format!("disk adopt d1 --take {side} --dry-run"))
            .ok()
    };
    let (database, disk) = (shown("database"), shown("disk"));
    assert!(
        database.contains("What the disk knows of these volumes is lost: precious (4 MiB)."),
        "{database}"
    );
    assert!(disk.contains("No volume of the database is lost."), "{disk}");
    for shown in [&database, &disk] {
        assert!(shown.contains("Nothing was changed."), "{shown}");
    }
    let asked = site.palisade("disk adopt d1 --take database");
    assert_eq!(asked.code, 2);
    assert!(
        asked
            .err
            .contains("add --yes if that is what you want; --dry-run shows it"),
        "{}",
        asked.err
    );
    assert!(
        !asked.err.contains("--expect"),
        "there is none here: {}",
        asked.err
    );
    let guarded = site.palisade("volume rm v1");
    assert!(guarded.err.contains("--expect guards"), "{guarded:?}");
    // To take the side of the disk brings the volume back.
    site.palisade("disk adopt d1 --take disk --yes --wait").ok();
    let volumes = site.palisade("volume list").ok();
    assert!(volumes.contains("precious"), "{volumes}");
}
