//! The steps: what a node may be told to do.

use palisade_model::Kind;
use palisade_words::{Generation, Name};
use std::fmt;

/// One step, to be carried out with the very cluster that it was planned from. It is idempotent: done twice, it is
/// as if done once. Whoever carries it out refuses it when what it changes is of a later generation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Step {
    /// The generation that what it changes will have: of the disk's superblock, the volume's for a route or a clearing,
    /// the attachment's for a socket, the cluster's generation for what goes away.
    pub generation: Generation,
    /// What to do, and with what.
    pub action: Action,
}

/// What to do. Names only, so that it is also the key under which a failure is remembered.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Action {
    /// Drain an attachment, end its session and remove its socket.
    WithdrawSocket {
        /// Which attachment.
        attachment: Name,
    },
    /// End a volume's route on all reactors, with nothing left in flight.
    ClearRoute {
        /// Which volume.
        volume: Name,
    },
    /// Erase the superblock of a disk that leaves, or has left, the cluster. It is done when nothing of it is on the medium
    /// any more; what the cluster does not know to be its own is left alone. If it fails, a disk that has left is closed
    /// all the same; one that leaves waits for it.
    EraseSuperblock {
        /// Which disk.
        disk: Name,
    },
    /// Close a disk.
    CloseDisk {
        /// Which disk.
        disk: Name,
    },
    /// Tell the cluster that the medium of a disk that leaves has been let go: erased and closed, for others to open.
    ReleaseDisk {
        /// Which disk.
        disk: Name,
    },
    /// Open a disk, and look whose superblock it carries.
    OpenDisk {
        /// Which disk.
        disk: Name,
    },
    /// Take a disk's new size into use.
    GrowDisk {
        /// Which disk.
        disk: Name,
    },
    /// Write superblock and extents of a pooled disk.
    WriteSuperblock {
        /// Which disk.
        disk: Name,
    },
    /// Make what is not known to be clear of a volume read as zeros, and have that agreed on piece by piece. It goes on
    /// in the background; see [`Observed::begin_clearing`](crate::Observed::begin_clearing).
    ClearVolume {
        /// Which volume.
        volume: Name,
    },
    /// Tell a clearing that is no longer wanted to end. It has ended when its own step has.
    StopClearing {
        /// Which volume.
        volume: Name,
    },
    /// Look again whose superblock an open disk carries: the cluster has decided about it.
    ExamineSuperblock {
        /// Which disk.
        disk: Name,
    },
    /// Tell the cluster that a disk's first superblock is on the medium.
    ConfirmSuperblock {
        /// Which disk.
        disk: Name,
    },
    /// Compile a volume's route and take it into use on all reactors, acknowledged.
    SetRoute {
        /// Which volume.
        volume: Name,
    },
    /// Tell the guest the volume's new size. Its route is in place already.
    ResizeVolume {
        /// Which attachment.
        attachment: Name,
    },
    /// Offer a volume to a VM.
    OfferSocket {
        /// Which attachment.
        attachment: Name,
    },
    /// Drain an attachment, end its session, and offer it anew with all its present settings.
    ReopenSocket {
        /// Which attachment.
        attachment: Name,
    },
    /// Change owner, group and mode of an attachment's socket.
    ChangeSocketPermissions {
        /// Which attachment.
        attachment: Name,
    },
    /// Change how fast an attachment may go.
    ChangeLimits {
        /// Which attachment.
        attachment: Name,
    },
}

impl Action {
    /// Its name in snake case, for logs, events and metrics.
    pub fn as_str(&self) -> &'static str {
        match self {
            Action::WithdrawSocket { .. } => "withdraw_socket",
            Action::ClearRoute { .. } => "clear_route",
            Action::EraseSuperblock { .. } => "erase_superblock",
            Action::CloseDisk { .. } => "close_disk",
            Action::ReleaseDisk { .. } => "release_disk",
            Action::OpenDisk { .. } => "open_disk",
            Action::GrowDisk { .. } => "grow_disk",
            Action::WriteSuperblock { .. } => "write_superblock",
            Action::ClearVolume { .. } => "clear_volume",
            Action::StopClearing { .. } => "stop_clearing",
            Action::ExamineSuperblock { .. } => "examine_superblock",
            Action::ConfirmSuperblock { .. } => "confirm_superblock",
            Action::SetRoute { .. } => "set_route",
            Action::ResizeVolume { .. } => "resize_volume",
            Action::OfferSocket { .. } => "offer_socket",
            Action::ReopenSocket { .. } => "reopen_socket",
            Action::ChangeSocketPermissions { .. } => "change_socket_permissions",
            Action::ChangeLimits { .. } => "change_limits",
        }
    }

    /// What it is done to.
    pub fn target(&self) -> (Kind, &Name) {
        match self {
            Action::EraseSuperblock { disk }
            | Action::CloseDisk { disk }
            | Action::ReleaseDisk { disk }
            | Action::OpenDisk { disk }
            | Action::GrowDisk { disk }
            | Action::WriteSuperblock { disk }
            | Action::ExamineSuperblock { disk }
            | Action::ConfirmSuperblock { disk } => (Kind::Disk, disk),
            Action::ClearRoute { volume }
            | Action::SetRoute { volume }
            | Action::ClearVolume { volume }
            | Action::StopClearing { volume } => (Kind::Volume, volume),
            Action::WithdrawSocket { attachment }
            | Action::ResizeVolume { attachment }
            | Action::OfferSocket { attachment }
            | Action::ReopenSocket { attachment }
            | Action::ChangeSocketPermissions { attachment }
            | Action::ChangeLimits { attachment } => (Kind::Attachment, attachment),
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::WithdrawSocket { attachment } => write!(f, "withdrawing attachment {attachment}"),
            Action::ClearRoute { volume } => write!(f, "ending the route of volume {volume}"),
            Action::EraseSuperblock { disk } => write!(f, "erasing the superblock of disk {disk}"),
            Action::CloseDisk { disk } => write!(f, "closing disk {disk}"),
            Action::ReleaseDisk { disk } => write!(f, "noting that the medium of disk {disk} is let go"),
            Action::OpenDisk { disk } => write!(f, "opening disk {disk}"),
            Action::GrowDisk { disk } => write!(f, "taking the new size of disk {disk} into use"),
            Action::WriteSuperblock { disk } => write!(f, "recording the extents on disk {disk}"),
            Action::ClearVolume { volume } => write!(f, "clearing the space of volume {volume}"),
            Action::StopClearing { volume } => write!(f, "ending the clearing of volume {volume}"),
            Action::ExamineSuperblock { disk } => write!(f, "looking again at the superblock of disk {disk}"),
            Action::ConfirmSuperblock { disk } => {
                write!(f, "noting that the superblock of disk {disk} is in place")
            }
            Action::SetRoute { volume } => write!(f, "routing volume {volume}"),
            Action::ResizeVolume { attachment } => {
                write!(f, "telling the guest of attachment {attachment} its new size")
            }
            Action::OfferSocket { attachment } => write!(f, "offering attachment {attachment}"),
            Action::ReopenSocket { attachment } => write!(f, "offering attachment {attachment} anew"),
            Action::ChangeSocketPermissions { attachment } => {
                write!(f, "changing who may connect to attachment {attachment}")
            }
            Action::ChangeLimits { attachment } => {
                write!(f, "changing the limits of attachment {attachment}")
            }
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (generation {})", self.action, self.generation)
    }
}
