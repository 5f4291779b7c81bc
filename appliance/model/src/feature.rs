//! What the programs of a cluster can, as a number. A node says at each start what its own can; what all members can is
//! switched on for the cluster, once and for good. So a program of before is never shown what it does not understand, and
//! programs of two versions are members side by side.
//!
//! | level | what came with it |
//! |---|---|
//! | 0 | all that there was before nodes said what they can |
//! | 1 | nodes say so, and in which incarnation they are; they are let in and taken away |
//! | 2 | attachments have a permanent id; those that are there get one when it is switched on |
//! | 3 | a disk has a path for each node that reaches it |
//! | 4 | tokens let nodes in, and a node has a key |
//! | 5 | a volume is offered on nodes that do not reach its disks, and ask the one that does |
//! | 6 | members that are not heard are given up, and taken back when they are |

use crate::command::Command;
use palisade_words::FeatureLevel;

/// What this program can.
pub const FEATURE_LEVEL: FeatureLevel = EVICTION;

/// From here on attachments have a permanent id.
pub(crate) const ATTACHMENT_IDS: FeatureLevel = FeatureLevel(2);

/// From here on several nodes may reach one disk.
pub(crate) const PATHS: FeatureLevel = FeatureLevel(3);

/// From here on tokens let nodes in.
pub(crate) const TOKENS: FeatureLevel = FeatureLevel(4);

/// From here on volumes are offered on nodes that do not reach their disks.
pub(crate) const FORWARDING: FeatureLevel = FeatureLevel(5);

/// From here on members are given up that the others do not hear; programs of before send no heartbeats.
pub const EVICTION: FeatureLevel = FeatureLevel(6);

impl Command {
    /// The level that must be switched on for it: a member below would not know what it says.
    pub fn needs(&self) -> FeatureLevel {
        match self {
            Command::AddNode(_) | Command::ChangeNode(_) | Command::RemoveNode(_) => FeatureLevel(1),
            Command::AddPath(_) | Command::RemovePath(_) => PATHS,
            Command::CreateToken(_) | Command::RevokeToken(_) | Command::AdmitNode(_) => TOKENS,
            Command::EvictNodes(_) | Command::ReadmitNode(_) => EVICTION,
            // These two lead there from where nobody has said anything.
            Command::NodeStarted(_) | Command::RaiseFeatureLevel(_) => FeatureLevel(0),
            Command::InitCluster(_)
            | Command::AddDisk(_)
            | Command::RemoveDisk(_)
            | Command::ReleaseDisk(_)
            | Command::GrowDisk(_)
            | Command::IdentifyDisk(_)
            | Command::RelocateDisks(_)
            | Command::ChangeDisk(_)
            | Command::ConfirmSuperblock(_)
            | Command::AdoptDisk(_)
            | Command::ImportDisks(_)
            | Command::CreateVolume(_)
            | Command::GrowVolume(_)
            | Command::ChangeVolume(_)
            | Command::DeleteVolume(_)
            | Command::DeleteFragment(_)
            | Command::RecordCleared(_)
            | Command::HoldClearings
            | Command::HoldDisks(_)
            | Command::ClearHeld(_)
            | Command::CreateAttachment(_)
            | Command::ChangeAttachment(_)
            | Command::DeleteAttachment(_) => FeatureLevel(0),
        }
    }
}
