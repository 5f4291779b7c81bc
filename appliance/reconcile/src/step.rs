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

    /// What is so once it is done, for who looks at events.
    pub fn done(&self) -> String {
        let (_, name) = self.target();
        match self {
            Action::WithdrawSocket { .. } => {
                format!("attachment {name} is no longer offered: its socket was taken away")
            }
            Action::ClearRoute { .. } => format!("volume {name} is no longer served from its disks"),
            Action::EraseSuperblock { .. } => {
                format!("disk {name} no longer carries a superblock, and can be used for something else")
            }
            Action::CloseDisk { .. } => format!("disk {name} was closed"),
            Action::ReleaseDisk { .. } => format!("it is on record that disk {name} is no longer in use"),
            Action::OpenDisk { .. } => format!("disk {name} was opened"),
            Action::GrowDisk { .. } => format!("the new size of disk {name} is in use"),
            Action::WriteSuperblock { .. } => {
                format!("it is recorded on disk {name} which volumes lie on it")
            }
            Action::ClearVolume { .. } => format!("the space of volume {name} was cleared"),
            Action::StopClearing { .. } => format!("the clearing of volume {name} was ended"),
            Action::ExamineSuperblock { .. } => format!("the superblock of disk {name} was looked at again"),
            Action::ConfirmSuperblock { .. } => format!("disk {name} says which volumes lie on it"),
            Action::SetRoute { .. } => format!("volume {name} is served from its disks"),
            Action::ResizeVolume { .. } => {
                format!("the guest of attachment {name} was told the new size of its disk")
            }
            Action::OfferSocket { .. } => {
                format!("attachment {name} is offered: a virtual machine can connect to its socket")
            }
            Action::ReopenSocket { .. } => {
                format!("attachment {name} is offered again: a virtual machine can connect to its new socket")
            }
            Action::ChangeSocketPermissions { .. } => {
                format!("who may connect to attachment {name} was changed")
            }
            Action::ChangeLimits { .. } => format!("the limits of attachment {name} were changed"),
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

/// While it lasts, as in `opening disk d1`.
impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (_, name) = self.target();
        match self {
            Action::WithdrawSocket { .. } => write!(f, "taking away the socket of attachment {name}"),
            Action::ClearRoute { .. } => write!(f, "stopping requests to volume {name}"),
            Action::EraseSuperblock { .. } => write!(f, "erasing the superblock of disk {name}"),
            Action::CloseDisk { .. } => write!(f, "closing disk {name}"),
            Action::ReleaseDisk { .. } => write!(f, "recording that disk {name} is no longer in use"),
            Action::OpenDisk { .. } => write!(f, "opening disk {name}"),
            Action::GrowDisk { .. } => write!(f, "taking the new size of disk {name} into use"),
            Action::WriteSuperblock { .. } => write!(f, "recording on disk {name} which volumes lie on it"),
            Action::ClearVolume { .. } => write!(f, "clearing the space of volume {name}"),
            Action::StopClearing { .. } => write!(f, "ending the clearing of volume {name}"),
            Action::ExamineSuperblock { .. } => write!(f, "looking again at the superblock of disk {name}"),
            Action::ConfirmSuperblock { .. } => {
                write!(f, "noting that disk {name} says which volumes lie on it")
            }
            Action::SetRoute { .. } => write!(f, "directing requests of volume {name} to its disks"),
            Action::ResizeVolume { .. } => {
                write!(
                    f,
                    "telling the guest of attachment {name} the new size of its disk"
                )
            }
            Action::OfferSocket { .. } => write!(f, "making the socket of attachment {name}"),
            Action::ReopenSocket { .. } => write!(f, "making the socket of attachment {name} anew"),
            Action::ChangeSocketPermissions { .. } => {
                write!(f, "changing who may connect to attachment {name}")
            }
            Action::ChangeLimits { .. } => write!(f, "changing the limits of attachment {name}"),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (generation {})", self.action, self.generation)
    }
}
