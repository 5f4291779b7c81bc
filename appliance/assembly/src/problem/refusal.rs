//! What an operator is told of a refusal: the model says what is in the way, and here is what to do about it. The model counts in
//! sectors, REST in bytes.

use palisade_api::size::human;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{Refusal, Rule};
use palisade_words::SECTOR_BYTES;

/// A refusal of the model.
pub fn of_refusal(refusal: &Refusal) -> Problem {
    let kind = match refusal {
        Refusal::NotFound { kind, name } => return Problem::not_found(kind.as_str(), name.as_str()),
        Refusal::RevisionMismatch {
            kind,
            name,
            expected,
            actual,
        } => {
            return Problem::changed(kind.as_str(), name.as_str(), expected.0, actual.0);
        }
        Refusal::Exists { kind, name, differs } => {
            return Problem::exists(kind.as_str(), name.as_str(), field_of_rest(differs.as_str()));
        }
        Refusal::Invalid { .. } | Refusal::CannotShrink { .. } | Refusal::BlockTooSmall { .. } => {
            ProblemKind::Invalid
        }
        Refusal::NoSpace { .. } | Refusal::Fragmented { .. } => ProblemKind::NoSpace,
        _ => ProblemKind::Conflict,
    };
    let problem = Problem::new(kind, refusal.code(), message(refusal), remedy(refusal));
    match refusal.field() {
        Some(field) => problem.about(field_of_rest(field)),
        None => problem,
    }
}

/// What is in the way, in the words of REST.
fn message(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Invalid {
            kind,
            name,
            field,
            rule,
        } => format!("{kind} {name}: `{}` {rule}", field_of_rest(field.as_str())),
        Refusal::CannotShrink {
            kind,
            name,
            sectors,
            wanted_sectors,
        } => {
            let (present, wanted) = (sectors * SECTOR_BYTES, wanted_sectors * SECTOR_BYTES);
            format!(
                "{kind} {name} has {present} bytes ({}) and cannot shrink to {wanted} ({})",
                human(present),
                human(wanted)
            )
        }
        other => other.to_string(),
    }
}

/// What to do about it.
fn remedy(refusal: &Refusal) -> String {
    match refusal {
        Refusal::Protected { kind, name } => {
            format!("lift that first with `palisade {kind} set {name} --unprotect`")
        }
        Refusal::VolumeInUse { attachment, .. } => {
            format!("take it away first: palisade attachment delete {attachment}")
        }
        Refusal::SuperblockPending { disk } => {
            format!("wait until `palisade disk show {disk}` says that it is, or see there what is in the way")
        }
        Refusal::VolumeGoing { volume } => {
            format!("wait for it, or end it without clearing with `palisade volume delete {volume} --no-clear`")
        }
        Refusal::DiskGoing { disk } => format!(
            "wait for it. If its medium cannot be reached any more, `palisade disk remove {disk} --force` leaves on the medium \
             what it carries"
        ),
        Refusal::BlockTooSmall { disk_block_bytes, .. } => {
            format!("ask for {disk_block_bytes}, or name another disk")
        }
        Refusal::DiskElsewhere { disk_node, node, .. } => {
            format!("name a disk of node {node}, or node {disk_node}")
        }
        Refusal::Invalid { field, rule, .. } => match rule {
            Rule::Sectors => {
                "sizes in whole KiB times four, as all in MiB and GiB, fit every logical block; MB and GB need not".to_owned()
            }
            Rule::ClearsOthers => "wait until it is clear, or choose `on-delete`".to_owned(),
            _ => format!("correct `{}` and ask again", field_of_rest(field.as_str())),
        },
        other => always(other).to_owned(),
    }
}

/// What to do where that is always the same.
fn always(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NotInitialised => "start the daemon, which begins one",
        Refusal::AlreadyInitialised { .. } => "to begin another one, name another state directory",
        Refusal::TooMany { .. } => "remove one that is not needed",
        Refusal::UuidTaken { .. } => "leave it out and a new one is drawn",
        Refusal::NotAMember { .. } | Refusal::NodeJoining { .. } => "let the node start as a member first",
        Refusal::NodeEvicted { .. } => {
            "see in `palisade cluster status` whether it is heard: it is taken back by itself when it is"
        }
        Refusal::OtherMembership { .. } | Refusal::OtherIncarnation { .. } => "judge it anew",
        Refusal::IncarnationNotLater { .. } => {
            "two machines may have the identity of one node: stop one, and give it a state directory of its own"
        }
        Refusal::FeatureLevelTooLow { .. } | Refusal::FeatureOff { .. } => {
            "install the later version on all nodes, and ask again"
        }
        Refusal::NodeInUse { .. } => "take that off the node first",
        Refusal::LastVoter { .. } => "give another node a vote first",
        Refusal::AddressTaken { .. } => "choose another address, or take it from that node first",
        Refusal::TokenUnknown | Refusal::TokenExpired { .. } | Refusal::TokenUsed { .. } => {
            "make a new token on a node of the cluster, and join with that"
        }
        Refusal::NodeKeyDiffers { .. } => {
            "bring the node's own state directory back; or remove the node, and let this machine join as a new one"
        }
        Refusal::KeyTaken { .. } => {
            "a state directory was copied: let this machine join with a new, empty one"
        }
        Refusal::MediumTaken { .. } => "use that disk, or name another medium",
        Refusal::DiskInUse { .. } => {
            "the disk can go once nothing that is wanted lies on it and its volumes are deleted"
        }
        Refusal::DiskHoldsFragment { .. } => {
            "import those disks too, or, if the volume is not wanted any more, delete it first"
        }
        Refusal::ClusterHasDisks { .. } => "import the disk as one of another cluster",
        Refusal::ImportOverlaps { .. } => "keep an image of the disk and report it",
        Refusal::NoDisk { .. } => "add a disk, or name one",
        Refusal::NoSpace { .. } => {
            "ask for less, let the disk grow (`palisade disk grow`), name another disk, or add one"
        }
        Refusal::Fragmented { .. } => "ask for less, or name another disk",
        Refusal::DiskTaken { .. } => "name another disk",
        Refusal::CannotShrink { .. } => "ask for a larger size",
        Refusal::SocketTaken { .. } => "choose another path",
        Refusal::HasWriter { .. } => "delete that attachment first, or make all attachments read-only",
        Refusal::HasReaders { .. } => "attach it read-only, or delete the read-only attachments first",
        // These are answered with a remedy of their own above, or by REST's own sentence.
        Refusal::NotFound { .. }
        | Refusal::Exists { .. }
        | Refusal::RevisionMismatch { .. }
        | Refusal::Invalid { .. }
        | Refusal::SuperblockPending { .. }
        | Refusal::Protected { .. }
        | Refusal::VolumeGoing { .. }
        | Refusal::DiskGoing { .. }
        | Refusal::VolumeInUse { .. }
        | Refusal::BlockTooSmall { .. }
        | Refusal::DiskElsewhere { .. } => "change the request",
    }
}

/// The name that a field of the model has in REST.
fn field_of_rest(field: &'static str) -> &'static str {
    match field {
        "sectors" => "bytes",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_model::{Field, Kind};
    use palisade_words::Name;

    fn invalid(field: Field, rule: Rule) -> Problem {
        let name = Name::new("v1").unwrap();
        of_refusal(&Refusal::Invalid {
            kind: Kind::Volume,
            name,
            field,
            rule,
        })
    }

    #[test]
    fn a_broken_rule_is_the_message_and_not_the_remedy() {
        let problem = invalid(Field::Sectors, Rule::Sectors);
        assert_eq!(
            problem.message,
            "volume v1: `bytes` must be a multiple of the logical block, at least one and at most 2^53 sectors"
        );
        assert!(
            problem.remedy.contains("fit every logical block"),
            "{}",
            problem.remedy
        );
        assert_eq!(problem.field.as_deref(), Some("bytes"));
        assert_eq!(
            invalid(Field::Mode, Rule::Permissions).remedy,
            "correct `mode` and ask again"
        );
        assert_eq!(
            invalid(Field::Clear, Rule::ClearsOthers).remedy,
            "wait until it is clear, or choose `on-delete`"
        );
    }

    /// The model says what is in the way, and this what to do: one does not say the other's.
    #[test]
    fn a_disk_that_is_given_up_can_be_taken_away_by_force() {
        let disk = Name::new("d1").unwrap();
        let problem = of_refusal(&Refusal::DiskGoing { disk });
        assert!(
            problem.message.ends_with("and it is closed"),
            "{}",
            problem.message
        );
        assert!(
            problem.remedy.contains("`palisade disk remove d1 --force`"),
            "{}",
            problem.remedy
        );
    }

    #[test]
    fn sizes_are_in_bytes() {
        let problem = of_refusal(&Refusal::CannotShrink {
            kind: Kind::Volume,
            name: Name::new("v1").unwrap(),
            sectors: 4096,
            wanted_sectors: 2048,
        });
        let message = "volume v1 has 2097152 bytes (2 MiB) and cannot shrink to 1048576 (1 MiB)";
        assert_eq!(problem.message, message);
        assert_eq!(problem.field.as_deref(), Some("bytes"));
    }
}
