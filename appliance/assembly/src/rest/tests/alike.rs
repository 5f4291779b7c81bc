//! Disks that nothing tells apart: what is said of the second when it is added.

use super::preview::BYTES;
use super::*;
use std::fs;
use std::process::Command as Program;

struct Loop(String);

impl Loop {
    fn over(of: &str) -> Option<Loop> {
        let made = Program::new("losetup").args(["-f", "--show", of]).output().ok()?;
        let path = String::from_utf8(made.stdout).ok()?.trim().to_owned();
        made.status.success().then_some(Loop(path))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let _ = Program::new("losetup").args(["-d", &self.0]).status();
    }
}

/// A device that tells nothing of itself, over another: nothing tells either of which file it is. The upper one goes first.
fn nameless(file: &Path, fill: u8) -> Option<(Loop, Loop)> {
    fs::write(file, vec![fill; BYTES as usize]).unwrap();
    let under = Loop::over(&file.display().to_string())?;
    let upper = Loop::over(&under.0)?;
    Some((upper, under))
}

#[test]
fn a_disk_that_nothing_tells_from_another_is_said_to_be_so_when_it_is_added() {
    let folder = tempfile::tempdir().unwrap();
    let (rest, _door) = still_node_with(folder.path(), "[allow]\ndevices = ['/dev']\n");
    let image = |name: &str, fill| nameless(&folder.path().join(name), fill);
    let devices = [image("v", 5), image("w", 5), image("x", 9)];
    if devices.iter().any(Option::is_none) {
        eprintln!("skipped: no loop device can be made here");
        return;
    }
    let add = |id: &str, (upper, _): &(Loop, Loop)| {
        let request = api::DiskCreate {
            node: None,
            id: id.into(),
            medium: api::Medium::Block(api::BlockMedium {
                path: upper.0.clone(),
            }),
            usage: api::DiskUsage::Whole,
            block_bytes: None,
            force: true,
            volatile: true,
        };
        let (Created::New(disk) | Created::Existing(disk)) = rest.disk_add(request).unwrap();
        disk.notes.join("\n")
    };
    let said: Vec<String> = ["v", "w", "x"]
        .into_iter()
        .zip(devices.iter().flatten())
        .map(|(id, device)| add(id, device))
        .collect();
    let is_said = |notes: &String| notes.contains("holds the same as disk v");
    assert_eq!(
        said.iter().map(is_said).collect::<Vec<_>>(),
        [false, true, false],
        "{said:?}"
    );
}
