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
    ] {
        let ran = site.palisade(asked);
        assert_eq!(ran.code, code, "{asked}: {}", ran.err);
        assert!(ran.out.contains(word), "{asked}: {}", ran.out);
    }
}
