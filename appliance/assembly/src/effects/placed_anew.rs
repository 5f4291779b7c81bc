//! A disk of which an operator says where it is, or which medium it is, while it is being opened as it was recorded before.

use crate::medium;
use crate::shared::Shared;
use palisade_control::TaskId;
use palisade_model::Disk;
use palisade_sys::Opened;

/// Whether what a task has opened is the disk's medium as it is agreed on at this moment.
pub fn is_agreed(shared: &Shared, task: TaskId, opened: &Opened) -> bool {
    let state = shared.state();
    let mut steps = state.control.under_way.values();
    let Some(step) = steps.find(|step| step.task == task) else {
        return false;
    };
    let (name, now) = (step.step.action.target().1, shared.cluster());
    !is_placed_elsewhere(step.cluster.disks.get(name), now.disks.get(name), opened)
}

/// Whether a disk was recorded elsewhere, or as another medium, since the step was planned that has opened it.
fn is_placed_elsewhere(then: Option<&Disk>, now: Option<&Disk>, opened: &Opened) -> bool {
    let (Some(then), Some(now)) = (then, now) else {
        return false;
    };
    let is_moved = then.uuid == now.uuid && then.medium.path() != now.medium.path();
    is_moved || then.uuid == now.uuid && medium::check(now, opened).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk_growth::tests::disk;
    use crate::opening;
    use palisade_model::Medium;
    use palisade_words::Uuid;

    /// What was said of a disk while it was being opened counts for what has been opened.
    #[test]
    fn a_disk_that_was_recorded_elsewhere_while_it_was_opened_is_known() {
        let folder = tempfile::tempdir().unwrap();
        let at = |file: &str| folder.path().join(file).display().to_string();
        let file = |path: String| {
            disk(Medium::File {
                path,
                bytes: 100 * 512,
                created: true,
            })
        };
        ["d1", "other"]
            .iter()
            .for_each(|file| std::fs::write(at(file), vec![7; 100 * 512]).unwrap());
        let open = |disk: &Disk| Opened::beside(&opening::spec(&disk.medium, 512).medium).unwrap();
        let (mut then, mut other) = (file(at("d1")), file(at("other")));
        for disk in [&mut then, &mut other] {
            (disk.record, _) = medium::record_open(&open(disk), disk.usage).unwrap();
        }
        let opened = open(&then);
        let is_elsewhere = |now: &Disk| is_placed_elsewhere(Some(&then), Some(now), &opened);
        assert!(!is_elsewhere(&then));
        let grown = Disk {
            sectors: 200,
            ..then.clone()
        };
        assert!(!is_elsewhere(&grown), "the same medium");
        assert!(is_elsewhere(&other), "another path");
        if other.has_identity() {
            let confirmed = Disk {
                medium: then.medium.clone(),
                ..other.clone()
            };
            assert!(is_elsewhere(&confirmed), "another file under that path");
        }
        // A later disk of the name is not meant, nor is one that is gone: such a one is closed by the planner.
        let later = Disk {
            uuid: Uuid(99),
            ..other
        };
        assert!(!is_elsewhere(&later));
        assert!(!is_placed_elsewhere(Some(&then), None, &opened));
    }
}
