//! A file given whole that was cut off: it is remembered, and the disk stays closed until an operator says that it is to be used.

use crate::last_seen::LastSeen;
use crate::own_file::Obstacle;
use palisade_api::size::human;
use palisade_model::{Disk, Medium, Usage};
use palisade_words::Name;

/// Whether nothing on a disk's medium tells that it was cut off and made as long as before: it keeps no superblock at its ends,
/// and a file does not bring its content back with its size, as a block device does.
fn hides_a_cut(disk: &Disk) -> bool {
    disk.usage == Usage::Whole && matches!(disk.medium, Medium::File { .. })
}

/// Keeps that the file of a disk was seen shorter than the disk, where nothing else will tell so.
pub fn note_cut(name: &Name, disk: &Disk, bytes: u64, seen: &LastSeen) {
    if hides_a_cut(disk)
        && let Err(error) = seen.keep_cut(disk.uuid, bytes)
    {
        log::warn!("disk {name}: that its file has been cut off cannot be kept: {error}");
    }
}

/// A file that was cut off reads as zeros where it was made as long as before: no guest sees that before an operator has had the
/// time to put back what was there.
pub fn refuse_cut(name: &Name, disk: &Disk, seen: &LastSeen) -> Result<(), String> {
    if !hides_a_cut(disk) {
        return Ok(());
    }
    let path = disk.medium.path().unwrap_or_default();
    let cut = seen.cut(disk.uuid).map_err(|error| {
        let Obstacle { what, remedy } = seen.obstacle_to_cut(disk.uuid, &error);
        format!(
            "whether {path}, the file of disk {name}, was ever cut off cannot be looked up: {what}. Nothing says that it was, and \
             nothing was written to it. To do: {remedy}. The disk is opened by itself then"
        )
    })?;
    let Some(least) = cut else {
        return Ok(());
    };
    let down_to = match least {
        0 => "and nobody knows down to where".to_owned(),
        least => format!("down to {}", human(least)),
    };
    Err(format!(
        "{path}, the file of disk {name}, was cut off by somebody, {down_to}, and is as long as before: unless its content was \
         put back since, what lay behind that reads as zeros. Put a copy of the whole medium in its place or restore what lay \
         there from a backup, and then say that it is to be used: palisade disk confirm {name} --yes"
    ))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{BYTES, added, name, open_one, text};
    use super::*;

    /// Nothing on a file tells that it was cut off, once it is as long as before.
    #[test]
    fn a_file_given_whole_that_was_cut_off_stays_closed_until_an_operator_says_that_it_is_to_be_used() {
        let folder = tempfile::tempdir().unwrap();
        let seen = LastSeen::below(folder.path());
        let path = folder.path().join("d1");
        let length = |bytes: u64| {
            let file = std::fs::File::options().write(true).open(&path).unwrap();
            file.set_len(bytes).unwrap();
        };
        std::fs::write(&path, vec![7; BYTES as usize]).unwrap();
        let disk = added(Medium::File {
            path: text(&path),
            bytes: BYTES,
            created: true,
        });
        assert!(open_one(&disk, &seen).is_ok());
        // Found when it is opened, and while it is in use.
        let ways: [&dyn Fn(); 2] = [
            &|| {
                length(BYTES / 2);
                let refused = open_one(&disk, &seen).unwrap_err();
                assert!(
                    refused.contains("has shrunk") && refused.contains("palisade disk confirm d1 --yes"),
                    "{refused}"
                );
            },
            &|| note_cut(&name(), &disk, BYTES / 2, &seen),
        ];
        for found in ways {
            found();
            length(BYTES);
            for _ in 0..2 {
                let refused = open_one(&disk, &LastSeen::below(folder.path())).unwrap_err();
                assert!(
                    refused.contains("down to 4 MiB") && refused.contains("palisade disk confirm d1 --yes"),
                    "{refused}"
                );
            }
            seen.forget_cut(disk.uuid).unwrap();
            assert!(open_one(&disk, &seen).is_ok());
        }
        // A pool is known by its superblocks, and a block device brings its content back with its size.
        let pooled = Disk {
            usage: Usage::Pooled,
            ..disk.clone()
        };
        let block = Disk {
            medium: Medium::Block {
                path: text(&path),
                wwid: None,
            },
            ..disk.clone()
        };
        for other in [pooled, block] {
            note_cut(&name(), &other, 0, &seen);
            assert_eq!(seen.cut(disk.uuid).unwrap(), None);
        }
    }

    /// What was known of it cannot be read: that says nothing of the file, and least of all that nothing of it is left.
    #[test]
    fn what_is_in_the_place_of_the_folder_is_told_and_not_taken_for_a_cut() {
        let folder = tempfile::tempdir().unwrap();
        let seen = LastSeen::below(folder.path());
        let path = folder.path().join("d1");
        std::fs::write(&path, vec![7; BYTES as usize]).unwrap();
        let disk = added(Medium::File {
            path: text(&path),
            bytes: BYTES,
            created: true,
        });
        let media = seen.folder().to_owned();
        std::fs::write(&media, "").unwrap();
        let refused = open_one(&disk, &seen).unwrap_err();
        let moves = format!("mv {0} {0}.aside", media.display());
        for words in ["is not a folder", &moves, "Nothing says that it was"] {
            assert!(refused.contains(words), "{words}: {refused}");
        }
        for untrue in [
            "was cut off by somebody",
            "0 B",
            "copy of the whole medium",
            "--yes",
        ] {
            assert!(!refused.contains(untrue), "{untrue}: {refused}");
        }
        // What is told to be done works, and loses nothing.
        std::fs::rename(&media, media.with_extension("aside")).unwrap();
        assert!(open_one(&disk, &seen).is_ok());
        // In the place of the one file.
        let cut = media.join(format!("{}.cut", disk.uuid));
        std::fs::create_dir_all(&cut).unwrap();
        let refused = open_one(&disk, &seen).unwrap_err();
        let named = format!("{} is not a file", cut.display());
        assert!(refused.contains(&named), "{refused}");
        std::fs::remove_dir(&cut).unwrap();
        assert!(open_one(&disk, &seen).is_ok());
        // A damaged one tells that it was cut off, and nothing more.
        std::fs::write(&cut, "\0").unwrap();
        let refused = open_one(&disk, &seen).unwrap_err();
        assert!(
            refused.contains("nobody knows down to where") && !refused.contains("0 B"),
            "{refused}"
        );
    }
}
