//! A disk and the database say different things: what each side loses is said before it is taken.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod site;

use site::Site;

/// Each side says what it loses, whether it is only looked at or nobody can be asked; neither can be given a generation.
#[test]
fn the_sides_of_a_disk_say_what_each_loses() {
    let site = Site::new();
    site.palisade("disk add d1 --file /srv/d1.img --size 1GiB").ok();
    let shown = |side| {
        site.palisade(&format!("disk adopt d1 --take {side} --dry-run"))
            .ok()
    };
    let (database, disk) = (shown("database"), shown("disk"));
    assert!(
        database
            .contains("What the disk knows of these volumes is lost: precious (4 MiB). Nothing was changed."),
        "{database}"
    );
    assert!(
        disk.contains("No volume of the database is lost. Nothing was changed."),
        "{disk}"
    );
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
    assert!(site.palisade("disk remove d1").err.contains("--expect guards"));
    let confirmed = site.palisade("disk confirm d1 --yes").ok();
    assert!(
        confirmed.contains("went on apart after generation 3"),
        "{confirmed}"
    );
}
