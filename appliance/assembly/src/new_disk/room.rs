//! Whether a file that is to be made finds room, and what to do when it does not: only what would help on that very file
//! system.

use crate::findings::media;
use crate::problem;
use crate::shared::Shared;
use crate::sight::promised;
use palisade_api as api;
use palisade_api::Problem;
use palisade_api::size::human;
use palisade_sys::OpenError;
use palisade_sys::device::room::takes_length;
use palisade_sys::filesystem::FileSystem;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Refuses, in the words in which making it would fail, a file that has no folder or no room. Gives what is to be known of
/// it, a sentence each.
///
/// # Errors
/// What making it would fail with.
pub fn room_for(shared: &Shared, file: &api::FileMedium) -> Result<Vec<String>, Problem> {
    let path = Path::new(&file.path);
    let refused = |source| {
        problem::of_open(&OpenError::Open {
            path: path.into(),
            source,
        })
    };
    let parent = path.parent().unwrap_or(Path::new("/"));
    if shared.settings.makes_folder(parent) {
        return Ok(Vec::new());
    }
    let folder = File::open(parent).map_err(refused)?;
    let filesystem = FileSystem::of(&folder).map_err(refused)?;
    let bytes = file.bytes.unwrap_or_default();
    let kind = match takes_length(parent, bytes) {
        _ if !file.sparse && bytes > filesystem.unreserved_bytes => Some(ErrorKind::StorageFull),
        Some(false) => Some(ErrorKind::FileTooLarge),
        _ => None,
    };
    if let Some(kind) = kind {
        let error = |source| OpenError::Create {
            path: path.into(),
            bytes,
            source,
        };
        return Err(of_creation(&error(kind.into()), &kind.into(), file));
    }
    let promised = folder
        .metadata()
        .map_or(0, |meta| promised(&shared.seen(), meta.dev()));
    let short = media::short_of(bytes, promised.saturating_add(bytes), &filesystem).filter(|_| file.sparse);
    Ok(short.into_iter().chain(media::hazard_of(&filesystem)).collect())
}

/// A file that could not be made.
pub fn of_creation(error: &OpenError, source: &io::Error, file: &api::FileMedium) -> Problem {
    let problem = problem::of_open(error);
    let parent = Path::new(&file.path).parent().unwrap_or(Path::new("/"));
    let filesystem = File::open(parent).and_then(|folder| FileSystem::of(&folder)).ok();
    let bytes = file.bytes.unwrap_or_default();
    let sparse_works = || takes_length(parent, bytes) == Some(true);
    match remedy(source, filesystem.as_ref(), file.sparse, bytes, sparse_works) {
        Some(remedy) => Problem { remedy, ..problem }.about("file.bytes"),
        None => problem,
    }
}

/// What helps when a file of so many bytes does not fit; `None` when room is not what is missing.
fn remedy(
    source: &io::Error,
    filesystem: Option<&FileSystem>,
    sparse: bool,
    bytes: u64,
    sparse_works: impl Fn() -> bool,
) -> Option<String> {
    let (kind, room) = match filesystem {
        Some(filesystem) => {
            let (free, total) = (filesystem.unreserved_bytes, filesystem.total_bytes);
            let room = format!(
                "it has {} in all, of which {} are free",
                human(total),
                human(free)
            );
            (filesystem.name(), room)
        }
        None => (
            "of a kind that cannot be told",
            "its room cannot be told".to_owned(),
        ),
    };
    let never_fits = filesystem.is_some_and(|filesystem| bytes > filesystem.total_bytes);
    match source.kind() {
        ErrorKind::FileTooLarge | ErrorKind::InvalidInput => Some(format!(
            "choose a smaller size: the file system ({kind}) takes no file of that length, with holes or without, or the daemon's \
             limit on files does not (`prlimit --fsize`); {room}"
        )),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => {
            let mut ways = Vec::new();
            if !never_fits || sparse {
                ways.push("make room on the file system (`df`, `df -i`, `quota`)".to_owned());
            }
            if !sparse {
                ways.push(format!("choose a smaller size ({room})"));
            }
            if !sparse && sparse_works() {
                ways.push(
                    "make the file sparse (--sparse, `file.sparse` in REST): it takes its space as it is written to then, and \
                     writes fail when there is none left"
                        .to_owned(),
                );
            }
            Some(ways.join(", or "))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advised_would_help() {
        let here = FileSystem::of(File::open("/").unwrap()).unwrap();
        let small = FileSystem {
            free_bytes: 5 << 30,
            unreserved_bytes: 4 << 30,
            total_bytes: 10 << 30,
            ..here
        };
        let said = |kind: ErrorKind, sparse, bytes, sparse_works| {
            remedy(&kind.into(), Some(&small), sparse, bytes, || sparse_works).unwrap_or_default()
        };
        // 100 TiB, with holes, where no file is that long.
        let long = said(ErrorKind::FileTooLarge, true, 100 << 40, false);
        assert!(
            long.starts_with("choose a smaller size") && long.contains("10 GiB in all"),
            "{long}"
        );
        assert!(
            !long.contains("--sparse") && !long.contains("make room"),
            "{long}"
        );
        // The same without holes: neither room nor holes would do.
        let whole = said(ErrorKind::StorageFull, false, 100 << 40, false);
        assert!(whole.starts_with("choose a smaller size"), "{whole}");
        assert!(
            !whole.contains("--sparse") && !whole.contains("make room"),
            "{whole}"
        );
        // More than the file system has, but no more than a file may have.
        let beyond = said(ErrorKind::StorageFull, false, 20 << 30, true);
        assert!(
            beyond.contains("--sparse") && !beyond.contains("make room"),
            "{beyond}"
        );
        let within = said(ErrorKind::StorageFull, false, 6 << 30, true);
        assert!(
            within.contains("--sparse") && within.contains("make room"),
            "{within}"
        );
        // With holes there was no room even for the inode.
        let sparse = said(ErrorKind::StorageFull, true, 6 << 30, true);
        assert!(
            sparse.starts_with("make room") && !sparse.contains("--sparse"),
            "{sparse}"
        );
        assert_eq!(said(ErrorKind::PermissionDenied, false, 1, true), "");
    }

    #[test]
    fn a_length_that_no_file_may_have_is_told_without_making_one() {
        let folder = tempfile::tempdir().unwrap();
        if let Some(takes) = takes_length(folder.path(), u64::MAX) {
            assert!(!takes);
            assert_eq!(takes_length(folder.path(), 1 << 20), Some(true));
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
