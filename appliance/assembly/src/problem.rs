//! What went wrong below, as REST says it.

use palisade_api::{Problem, ProblemKind};
use palisade_consensus::ProposeError;
use palisade_model::{NameError, Refusal};
use palisade_sys::OpenError;

/// A proposal that was not acknowledged.
pub fn of_proposal(error: &ProposeError) -> Problem {
    match error {
        ProposeError::Refused(refusal) => of_refusal(refusal),
        other => Problem::new(
            ProblemKind::Internal,
            other.code(),
            other.to_string(),
            "look after the file system of the state directory, then restart the daemon",
        ),
    }
}

/// A refusal of the model. Its sentence has two halves, what and what to do, joined by a colon.
fn of_refusal(refusal: &Refusal) -> Problem {
    let kind = match refusal {
        Refusal::NotFound { .. } => ProblemKind::NotFound,
        Refusal::RevisionMismatch {
            kind,
            name,
            expected,
            actual,
        } => {
            return Problem::changed(kind.as_str(), name.as_str(), expected.0, actual.0);
        }
        Refusal::Exists { kind, name, differs } => {
            return Problem::exists(kind.as_str(), name.as_str(), differs);
        }
        Refusal::NoSpace { .. } | Refusal::Fragmented { .. } => ProblemKind::NoSpace,
        Refusal::Invalid { .. } | Refusal::CannotShrink { .. } | Refusal::BlockTooSmall { .. } => {
            ProblemKind::Invalid
        }
        _ => ProblemKind::Conflict,
    };
    let sentence = refusal.to_string();
    let (message, remedy) = sentence
        .rsplit_once(": ")
        .unwrap_or((sentence.as_str(), "change the request"));
    let problem = Problem::new(kind, refusal.code(), message, remedy);
    match refusal.field() {
        Some(field) => problem.about(field),
        None => problem,
    }
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
        OpenError::Create { .. } => (
            ProblemKind::NoSpace,
            "disk_not_created",
            "make room on the file system, choose a smaller size, or make the file sparse",
        ),
        OpenError::BlockTooSmall { .. } | OpenError::BlockSize { .. } => (
            ProblemKind::Invalid,
            "block_size",
            "choose a logical block of 4096 bytes, or leave it out",
        ),
        OpenError::Empty { .. } => (
            ProblemKind::Invalid,
            "disk_empty",
            "give a size of at least 16 MiB",
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
