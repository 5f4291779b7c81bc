//! What went wrong below, as REST says it.

mod refusal;

pub use refusal::of_refusal;

use palisade_api::{Problem, ProblemKind};
use palisade_consensus::ProposeError;
use palisade_reconcile::SuperblockState;
use palisade_sys::OpenError;
use palisade_words::{Name, NameError};

/// A proposal that was not acknowledged.
pub fn of_proposal(error: &ProposeError) -> Problem {
    match error {
        ProposeError::Refused(refusal) => of_refusal(refusal),
        ProposeError::NotLeader { leader: Some(leader) } => {
            Problem::not_leader(leader.node.as_str(), &leader.addresses)
        }
        ProposeError::NotLeader { leader: None } => Problem::no_leader(),
        ProposeError::OutcomeUnknown => Problem::outcome_unknown(),
        ProposeError::Misplaced { .. } => Problem::new(
            ProblemKind::Internal,
            error.code(),
            error.to_string(),
            "files that were deleted are put back within seconds: try again; else put the state directory back",
        ),
        ProposeError::Storage { .. } | ProposeError::Halted => Problem::new(
            ProblemKind::Internal,
            error.code(),
            error.to_string(),
            "make room on the file system of the state directory (`df`), or see why it cannot be written; changes are taken \
             again by themselves then (`palisade health` tells when)",
        ),
    }
}

/// A change that needs the present state of the node, which somebody does not let go of.
pub fn of_busy_control() -> Problem {
    Problem::new(
        ProblemKind::Unavailable,
        "control_busy",
        "a thread holds the state of the node and does not let go of it; nothing has been changed",
        "look which thread is stuck (palisade health), and try again when it is over",
    )
}

/// What to ask for instead of a size that fits no logical block.
pub fn round(bytes: u64) -> String {
    /// The largest logical block there is: what fits it fits each.
    const BLOCK_BYTES: u64 = 4096;
    let below = bytes / BLOCK_BYTES * BLOCK_BYTES;
    let above = bytes.div_ceil(BLOCK_BYTES).saturating_mul(BLOCK_BYTES);
    let either = match below {
        0 => format!("{above}"),
        below => format!("{below} or {above}"),
    };
    format!("take {either} bytes; sizes in MiB and GiB fit every logical block, MB and GB need not")
}

/// A change of a disk whose medium carries something else than the database knows.
pub fn of_disk_that_knows_more(disk: &Name, superblock: SuperblockState) -> Problem {
    let (what, remedy) = match superblock {
        SuperblockState::Newer { generation } => (
            format!(
                "disk {disk} carries generation {generation}, which has grown out of what the database knows: the \
                 database is an old copy, and changing it would make it another branch"
            ),
            format!("restore the latest database, or see what each side knows: palisade disk adopt {disk}"),
        ),
        SuperblockState::Diverged { generation } => (
            format!("disk {disk} carries generation {generation}, which grew on apart from the database"),
            format!(
                "restore the database that belongs to it, or see what each side knows: palisade disk adopt {disk}"
            ),
        ),
        SuperblockState::Older {
            generation,
            last: Some(last),
        } => (
            format!(
                "disk {disk} carries generation {generation}, and was last known to carry {last}: its superblock is an earlier \
                 one, as on an older copy"
            ),
            format!("bring the right medium back, or see what each side knows: palisade disk adopt {disk}"),
        ),
        SuperblockState::EndLost { .. } => (
            format!("an end of the medium of disk {disk} is lost"),
            format!(
                "see what may be lost with it, and go on with what is there: palisade disk confirm {disk}"
            ),
        ),
        SuperblockState::Older {
            generation,
            last: None,
        } => (
            format!(
                "disk {disk} carries generation {generation}, which the database has gone on from, and what it carried last is not \
                 known: it may be an older copy that was put in its place"
            ),
            format!("bring the right medium back, or see what each side knows: palisade disk adopt {disk}"),
        ),
        _ => (
            format!("the medium of disk {disk} does not carry its superblock"),
            format!("bring the right medium back, or see what is the matter: palisade disk show {disk}"),
        ),
    };
    Problem::new(ProblemKind::Conflict, "disk_knows_more", what, remedy)
}

/// A change of a disk that has not been opened yet.
pub fn of_disk_not_looked_at(disk: &Name) -> Problem {
    let message = format!("disk {disk} is still being opened, and what its medium carries is not known yet");
    let remedy = format!("ask again when it is open: palisade disk show {disk}");
    Problem::new(ProblemKind::Conflict, "disk_not_looked_at", message, remedy)
}

/// A name that is none.
pub fn of_name(field: &'static str, error: NameError) -> Problem {
    Problem::new(
        ProblemKind::Invalid,
        "invalid_name",
        error.to_string(),
        "choose a name such as web-1",
    )
    .about(field)
}

/// Whether there was no room, and not something else.
fn is_full(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{FileTooLarge, QuotaExceeded, StorageFull};
    matches!(error.kind(), StorageFull | QuotaExceeded | FileTooLarge)
}

/// What cannot be read, as "disk d1" or by its path.
pub fn of_reading(what: impl std::fmt::Display, error: impl std::fmt::Display) -> Problem {
    let message = format!("{what} cannot be read: {error}");
    let remedy = "look into the kernel log";
    Problem::new(ProblemKind::Internal, "disk_not_readable", message, remedy)
}

/// A device that could not be opened.
pub fn of_open(error: &OpenError) -> Problem {
    let (kind, code, remedy) = match error {
        OpenError::Open { .. } => (
            ProblemKind::Invalid,
            "disk_not_readable",
            "check the path and the daemon's rights to it",
        ),
        OpenError::NotFile { .. } | OpenError::NotBlock { .. } => (
            ProblemKind::Invalid,
            "disk_wrong_kind",
            "add files as `file` and block devices as `block`",
        ),
        OpenError::OtherMedium { .. } => (
            ProblemKind::Conflict,
            "disk_other_medium",
            "see that the path leads to the medium that is meant, and so does what the device is made over, and try again",
        ),
        OpenError::InUse { .. } => (
            ProblemKind::Conflict,
            "disk_in_use_elsewhere",
            "unmount it, or end what uses it, and try again",
        ),
        OpenError::Locked { .. } => (
            ProblemKind::Conflict,
            "disk_locked",
            "stop the program that holds it, or wait until it has let go",
        ),
        OpenError::HeldByQemu { .. } => (
            ProblemKind::Conflict,
            "disk_locked",
            "shut down that program or its virtual machine, or detach the disk from it, and try again; force does not lift this",
        ),
        OpenError::Beneath { source, .. } => match &**source {
            OpenError::HeldByQemu { .. } => (
                ProblemKind::Conflict,
                "disk_locked",
                "shut down that program or its virtual machine, or detach from it what lies under the device, and try again; \
                 force does not lift this",
            ),
            OpenError::Locked { .. } => (
                ProblemKind::Conflict,
                "disk_locked",
                "stop the program that holds what lies under it, or wait until it has let go; force does not lift this",
            ),
            OpenError::InUse { .. } => (
                ProblemKind::Conflict,
                "disk_in_use_elsewhere",
                "end what uses what lies under it (lsblk shows it), and try again; force does not lift this",
            ),
            _ => (
                ProblemKind::Conflict,
                "disk_stands_on_unreachable",
                "see what lies under it (lsblk, losetup --list) and let the daemon reach that, or add that itself",
            ),
        },
        OpenError::Create { source, .. } if !is_full(source) => (
            ProblemKind::Invalid,
            "disk_not_created",
            "check the folder and the daemon's rights to it",
        ),
        OpenError::Create { .. } => (
            ProblemKind::NoSpace,
            "disk_not_created",
            "make room on the file system, or choose a smaller size",
        ),
        OpenError::BlockTooSmall { .. } | OpenError::BlockSize { .. } => (
            ProblemKind::Invalid,
            "block_size",
            "choose a logical block of 4096 bytes, or leave it out",
        ),
        OpenError::Empty { path: Some(_) } => (
            ProblemKind::Invalid,
            "disk_empty",
            "there is something, and nothing in it: name another path. To have a disk file made there, move it away first; a loop \
             device has a size once it has a file (losetup)",
        ),
        OpenError::Empty { path: None } => (
            ProblemKind::Invalid,
            "disk_empty",
            "give a size of one logical block at least",
        ),
        OpenError::Process { .. } => (
            ProblemKind::NoSpace,
            "disk_process",
            "raise the limits on processes and memory of the service, and try again",
        ),
        OpenError::Memory { .. } => (
            ProblemKind::NoSpace,
            "no_memory",
            "choose a smaller size, or free hugepages or memory",
        ),
        OpenError::Inspect { .. } => (
            ProblemKind::Internal,
            "disk_not_inspected",
            "look into the kernel log",
        ),
    };
    Problem::new(kind, code, error.to_string(), remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remedy_fits_what_was_in_the_way() {
        use std::io::{Error, ErrorKind};
        let create = |kind| {
            let path = "/disks/new.img".into();
            of_open(&OpenError::Create {
                path,
                bytes: 1 << 24,
                source: Error::from(kind),
            })
        };
        let denied = create(ErrorKind::PermissionDenied);
        assert!(
            denied.status() == 422 && denied.remedy.contains("rights"),
            "{denied:?}"
        );
        let full = create(ErrorKind::StorageFull);
        assert!(
            full.status() == 507 && full.remedy.contains("make room"),
            "{full:?}"
        );
        // A size cannot mend a file that is there already.
        let there = of_open(&OpenError::Empty {
            path: Some("/disks/letter".into()),
        });
        assert!(there.remedy.contains("move it away") && !there.remedy.contains("give a size"));
        // A disk that is added, or just being confirmed, has nothing to confirm: what the message names is to be mended.
        let other = of_open(&OpenError::OtherMedium {
            path: "/disks/moved.img".into(),
            reason: "it is not what /dev/loop0 has open under this name".into(),
        });
        assert!(
            other.message.contains("/dev/loop0") && !other.remedy.contains("palisade disk confirm"),
            "{other:?}"
        );
    }

    #[test]
    fn sizes_that_fit_are_named() {
        assert!(round(10_000_000).starts_with("take 9998336 or 10002432 bytes"));
        assert!(round(100).starts_with("take 4096 bytes"));
        assert!(round(u64::MAX).starts_with("take 18446744073709547520 or "));
    }
}
