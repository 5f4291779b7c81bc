//! What a new disk's medium holds already, and what becomes of that. The preview and the deed ask here, with the same
//! open medium in their hands: neither can find, or decide, anything else than the other.

use super::unread;
use crate::superblocks;
use palisade_api as api;
use palisade_api::{Problem, ProblemKind};
use palisade_model::Usage;
use palisade_sys::Opened;
use palisade_sys::device::probe::{self, Content};
use palisade_wire::{DecodeError, Decoded};
use std::collections::BTreeSet;
use std::io::ErrorKind;

/// What was found, and what is to be done.
pub struct Weighed {
    /// What was found, what names it best first.
    pub found: Vec<Content>,
    /// The superblock of ours that is there, if there is one or what is left of one.
    pub ours: Option<Result<Decoded, DecodeError>>,
    /// What becomes of it, or why it is left alone.
    pub fate: Result<Fate, Problem>,
}

/// What becomes of what a medium holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It stays.
    Kept,
    /// Every mark of it is overwritten with zeroes.
    Wiped,
    /// Only the superblock of ours is erased; what else is there may be meant for the guest.
    SuperblockErased,
}

/// Looks at an open medium. Nothing is changed.
///
/// # Errors
/// It cannot be read.
pub fn weigh(request: &api::DiskCreate, opened: &Opened) -> Result<Weighed, Problem> {
    let mut found = match opened.path() {
        None => Vec::new(),
        Some(_) => probe::all(opened).map_err(|error| unread(request, &error))?,
    };
    // A file that is given whole may hold anything, as it is an image for its one volume, but volumes of ours that could be
    // imported.
    if is_image(request) && !matches!(found.first(), Some(Content::Palisade { .. })) {
        found.clear();
    }
    let ours = matches!(found.first(), Some(Content::Palisade { .. })).then(|| superblocks::read(opened));
    let fate = fate(request, found.first(), ours.as_ref());
    Ok(Weighed { found, ours, fate })
}

/// Whether it is a file that is given whole.
fn is_image(request: &api::DiskCreate) -> bool {
    matches!(request.medium, api::Medium::File(_)) && request.usage == api::DiskUsage::Whole
}

fn fate(
    request: &api::DiskCreate,
    found: Option<&Content>,
    ours: Option<&Result<Decoded, DecodeError>>,
) -> Result<Fate, Problem> {
    let Some(content) = found else {
        return Ok(Fate::Kept);
    };
    match (request.force, request.usage, content) {
        // Whatever was there comes to life again if its copy at the end, or anywhere else, is left.
        (true, api::DiskUsage::Pooled, _) => Ok(Fate::Wiped),
        // The guest of an image may be one that runs Palisade. What is there is served once that was confirmed.
        (true, api::DiskUsage::Whole, _) if is_image(request) => Ok(Fate::Kept),
        // What is given whole to a guest may be meant for it; only a superblock of ours is nobody's.
        (true, api::DiskUsage::Whole, Content::Palisade { .. }) => Ok(Fate::SuperblockErased),
        (true, api::DiskUsage::Whole, _) => Ok(Fate::Kept),
        (false, _, Content::Palisade { .. }) => Err(is_ours(request, ours)),
        (false, _, content) => {
            let path = request.medium.path().unwrap_or_default();
            let message = format!("{path} holds {content}, which would be lost");
            let remedy = "choose another disk, or add it with `force` if its content is not wanted any more";
            Err(Problem::new(ProblemKind::Conflict, "disk_holds_data", message, remedy).about("force"))
        }
    }
}

impl Fate {
    /// Carries it out, stable when this returns.
    ///
    /// # Errors
    /// The medium cannot be written.
    pub fn carry_out(self, path: &str, opened: &Opened) -> Result<(), Problem> {
        match self {
            Fate::Kept => Ok(()),
            Fate::Wiped => opened.wipe().map_err(|error| unwritten(path, &error)),
            Fate::SuperblockErased => superblocks::wipe(opened).map_err(|message| {
                let remedy = "look into the kernel log";
                Problem::new(ProblemKind::Internal, "disk_not_writable", message, remedy)
            }),
        }
    }
}

/// What is said of a medium that is, or was, a pooled disk: adding it anew would give its volumes' space away.
fn is_ours(request: &api::DiskCreate, ours: Option<&Result<Decoded, DecodeError>>) -> Problem {
    let path = request.medium.path().unwrap_or_default();
    let (message, remedy) = match ours {
        Some(Ok(found)) => {
            let label = &found.superblock.label;
            let cluster = found.superblock.cluster;
            let kind = request.medium.name();
            (
                format!(
                    "{path} is disk {label} of cluster {cluster}, with {}, which would be lost",
                    volumes_in_words(found)
                ),
                format!(
                    "take it in with its volumes: palisade disk import --{kind} {path} --dry-run shows what comes; \
                     `force` is for a disk of which nothing is wanted any more"
                ),
            )
        }
        unusable => {
            let why = match unusable {
                Some(Err(error)) => format!(" ({error})"),
                _ => String::new(),
            };
            (
                format!("{path} was a pooled disk of Palisade, and its superblock cannot be used{why}"),
                "keep an image of it, and see with `palisade-inspect` what is left; `force` is for a disk of which nothing \
                 is wanted any more"
                    .to_owned(),
            )
        }
    };
    Problem::new(ProblemKind::Conflict, "disk_holds_data", message, remedy).about("force")
}

/// "no volume", "volume v1", "volumes v1, v2".
pub fn volumes_in_words(found: &Decoded) -> String {
    let volumes: BTreeSet<&str> = found
        .extents
        .iter()
        .map(|extent| extent.volume_name.as_str())
        .collect();
    let volumes: Vec<&str> = volumes.into_iter().collect();
    match volumes.as_slice() {
        [] => "no volume".to_owned(),
        [volume] => format!("volume {volume}"),
        volumes => format!("volumes {}", volumes.join(", ")),
    }
}

/// A medium that could be opened and does not take what must be written first.
fn unwritten(path: &str, error: &std::io::Error) -> Problem {
    let (kind, remedy) = match error.kind() {
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => (
            ProblemKind::Conflict,
            "see what forbids it, and lift that or name another: a device or file system that may only be read (blockdev \
             --getro, mount), an immutable file (lsattr), a seal",
        ),
        ErrorKind::ExecutableFileBusy => (
            ProblemKind::Conflict,
            "end what the kernel uses it for, swap space or a program that runs, or name another",
        ),
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => (
            ProblemKind::NoSpace,
            "make room on the file system that it lies on, or name another",
        ),
        _ => (ProblemKind::Internal, "look into the kernel log"),
    };
    let message = format!("{path} cannot be wiped: {error}");
    Problem::new(kind, "disk_not_writable", message, remedy)
}

/// How the model calls a use.
pub fn usage(request: &api::DiskCreate) -> Usage {
    match request.usage {
        api::DiskUsage::Pooled => Usage::Pooled,
        api::DiskUsage::Whole => Usage::Whole,
    }
}
