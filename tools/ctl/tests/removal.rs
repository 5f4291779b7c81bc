//! Waiting until what was taken away is gone, as scripts do: the exit code says whether it is.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test ends by panicking")]

mod site;

use site::Site;

/// A disk d1 with a volume v1.
fn with_volume() -> Site {
    let site = Site::new();
    site.palisade("disk add d1 --memory 1GiB").ok();
    site.palisade("volume create v1 1MiB --disk d1").ok();
    site
}

#[test]
fn what_is_gone_is_what_was_waited_for() {
    let site = with_volume();
    // Gone at once, after some looks, and after some looks for a program.
    for (reads, json) in [(0, ""), (3, ""), (0, " --json"), (3, " --json")] {
        for (kind, create, done) in [
            ("disk", "disk add x --memory 1MiB", "Disk x is given up."),
            ("volume", "volume create x 1MiB --disk d1", "Volume x is deleted."),
        ] {
            site.palisade(create).ok();
            site.fake.remove_slowly(reads);
            let said = site.palisade(&format!("{kind} rm x --yes --wait{json}"));
            assert_eq!(said.code, 0, "{kind}{json} after {reads}: {said:?}");
            assert_eq!(said.err, "", "{kind}{json} after {reads}");
            let expected = if json.is_empty() { done } else { "" };
            assert_eq!(said.out.trim_end(), expected);
            let show = site.palisade(&format!("{kind} show x"));
            assert!(show.code == 1 && show.err.contains("there is no"), "{show:?}");
            // Who does not wait is told how far it is.
            site.palisade(create).ok();
            site.fake.remove_slowly(reads);
            let said = site.palisade(&format!("{kind} rm x --yes"));
            let is_gone = said.out.trim_end() == done;
            assert_eq!(is_gone, reads == 0, "{said:?}");
            assert!(is_gone || said.out.contains("is being "), "{said:?}");
            site.palisade(&format!("{kind} rm x --yes --wait"));
        }
    }
}

#[test]
fn a_removal_that_takes_too_long_is_no_success() {
    let site = with_volume();
    site.fake.remove_slowly(u32::MAX);
    for kind in ["volume v1", "disk d1"] {
        let (what, id) = kind.split_once(' ').unwrap();
        if what == "disk" {
            site.fake.remove_slowly(0);
            site.palisade("volume list").ok();
            site.fake.remove_slowly(u32::MAX);
        }
        let late = site.palisade(&format!("{what} rm {id} --yes --wait --wait-timeout 0"));
        assert_eq!(late.code, 1, "{late:?}");
        let told = format!("the removal of {kind} is agreed on and not in force yet");
        assert!(late.err.contains(&told), "{late:?}");
        assert_eq!(late.out, "", "nothing is said to be done that is not");
    }
}

#[test]
fn what_was_never_there_is_not_gone_and_what_is_only_shown_is_not_waited_for() {
    let site = with_volume();
    for request in ["disk rm d9 --yes --wait", "volume rm v9 --yes --wait"] {
        let refused = site.palisade(request);
        assert!(
            refused.code == 1 && refused.err.contains("there is no"),
            "{request}: {refused:?}"
        );
    }
    let shown = site.palisade("volume rm v1 --dry-run --wait").ok();
    assert!(shown.contains("volume v1 is gone"), "{shown}");
    site.palisade("volume show v1").ok();
}
