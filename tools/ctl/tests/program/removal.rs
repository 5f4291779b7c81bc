//! Waiting until what was taken away is gone, as scripts do: the exit code says whether it is.

use crate::site::{Ran, Site};
use palisade_control::Work;
use serde_json::Value;
use std::process::Stdio;

/// A disk d1 with a volume v1.
fn with_volume() -> Site {
    let site = Site::new();
    site.palisade("disk add d1 --file @disks/d1.img --size 64MiB --sparse --wait")
        .ok();
    site.palisade("volume create v1 1MiB --disk d1").ok();
    site
}

/// What a removal takes its time for: the erasing of a disk's superblock, the clearing of a volume's space.
fn is_removal(work: &Work) -> bool {
    matches!(work, Work::EraseSuperblock { .. } | Work::ClearSpace { .. })
}

/// How many removals were asked for.
fn removals(events: &Ran) -> usize {
    let of = |event: &Value| event["kind"] == "disk_remove" || event["kind"] == "volume_delete";
    events
        .json()
        .as_array()
        .unwrap()
        .iter()
        .filter(|event| of(event))
        .count()
}

const REMOVALS: [(&str, &str, &str); 2] = [
    (
        "disk add x --file @disks/x.img --size 64MiB --sparse --wait",
        "disk rm x --yes",
        "Disk x is given up.",
    ),
    (
        "volume create x 1MiB --disk d1 --wait",
        "volume rm x --clear --yes",
        "Volume x is deleted.",
    ),
];

#[test]
fn what_is_gone_is_what_was_waited_for() {
    let site = with_volume();
    for (create, remove, done) in REMOVALS {
        for json in ["", " --json"] {
            site.palisade(create).ok();
            let said = site.palisade(&format!("{remove} --wait{json}"));
            assert_eq!(said.code, 0, "{remove}{json}: {said:?}");
            assert_eq!(said.err, "", "{remove}{json}");
            let expected = if json.is_empty() { done } else { "" };
            assert_eq!(said.out.trim_end(), expected);
            let kind = remove.split(' ').next().unwrap();
            let show = site.palisade(&format!("{kind} show x"));
            assert!(show.code == 1 && show.err.contains("there is no"), "{show:?}");
        }
        // Who does not wait is told how far it is, and who comes later waits for it.
        site.palisade(create).ok();
        site.node.work.hold(is_removal);
        let said = site.palisade(remove).ok();
        assert!(said.contains("is being "), "{said}");
        let asked = removals(&site.palisade("events --all --json"));
        let waits = site
            .program(&format!("{remove} --wait"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // It may go once that one, too, has asked for its removal, which is on record before it is answered.
        site.until("events --all --json", |events| removals(events) > asked);
        site.node.work.until_held();
        site.node.work.release();
        let said = Ran::from(waits.wait_with_output().unwrap()).ok();
        assert_eq!(said.trim_end(), done);
    }
}

#[test]
fn a_removal_that_takes_too_long_is_no_success() {
    let site = with_volume();
    for (create, remove, _) in REMOVALS {
        site.palisade(create).ok();
        site.node.work.hold(is_removal);
        let late = site.palisade(&format!("{remove} --wait --wait-timeout 0"));
        assert_eq!(late.code, 1, "{late:?}");
        let kind = remove.split(' ').next().unwrap();
        let told = format!("the removal of {kind} x is agreed on and not in force yet");
        assert!(late.err.contains(&told), "{late:?}");
        assert_eq!(late.out, "", "nothing is said to be done that is not");
        site.node.work.until_held();
        site.node.work.release();
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
    assert!(shown.contains("volume v1 is deleted, and"), "{shown}");
    site.palisade("volume show v1").ok();
}
