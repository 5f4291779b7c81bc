//! Taking something away: what it does is said first, and what a virtual machine uses is not taken without consent.
//!
//! Whether a machine is connected is known at the door and not in the model. So the door is held shut from before the
//! look until after the decision: one that comes in that very moment waits, and finds the attachment gone, or is served.

use crate::problem;
use crate::rest::Rest;
use crate::views::View;
use palisade_api as api;
use palisade_api::size::human;
use palisade_api::{ConnectionState, Problem, ProblemKind, Removal, RemovalOptions};
use palisade_model::{
    Attachment, Clear, Cluster, Command, DeleteFragment, Disk, Fragment, Medium, Usage, Volume,
};
use palisade_words::{Generation, Name, SECTOR_BYTES, Uuid};

#[cfg(test)]
mod tests;

/// What is taken away, and how far its revision has come.
struct Subject {
    name: String,
    revision: Generation,
    effects: Vec<String>,
}

impl Rest {
    /// Takes a disk away by `command`, or says what that would do.
    pub(crate) fn remove_disk(
        &self,
        name: &Name,
        command: Command,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        let subject = self.view(|view| {
            let disk = view.cluster.disks.get(name)?;
            Some(Subject {
                name: format!("disk {name}"),
                revision: disk.revision,
                effects: disk_effects(name, disk, how),
            })
        });
        self.take_away(("disk", name), subject, command, how)
    }

    /// Takes a volume away by `command`, or says what that would do.
    pub(crate) fn remove_volume(
        &self,
        name: &Name,
        command: Command,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        let subject = self.view(|view| {
            let volume = view.cluster.volumes.get(name)?;
            let mut effects = volume_effects(view.cluster, name, volume, how);
            for (attachment, wanted) in view.cluster.attachments_of(name) {
                effects.extend(attachment_effects(&view, attachment, wanted));
            }
            Some(Subject {
                name: format!("volume {name}"),
                revision: volume.revision,
                effects,
            })
        });
        self.take_away(("volume", name), subject, command, how)
    }

    /// Gives up what is here of a volume that is not whole, told by its name or its permanent id, or says what that would do.
    /// `None`: there is no such thing.
    pub(crate) fn remove_fragment(&self, id: &str, how: RemovalOptions) -> Option<Result<Removal, Problem>> {
        let cluster = self.cluster();
        let named =
            |(uuid, fragment): &(&Uuid, &Fragment)| fragment.name.as_str() == id || uuid.to_string() == id;
        let found: Vec<(&Uuid, &Fragment)> = cluster.fragments.iter().filter(named).collect();
        let &[(&uuid, fragment)] = found.as_slice() else {
            let ids: Vec<String> = found.iter().map(|(uuid, _)| uuid.to_string()).collect();
            return (!ids.is_empty()).then(|| {
                let message = format!(
                    "several volumes that are not whole have the name {id}: {}",
                    ids.join(", ")
                );
                let remedy = "name it by its id";
                Err(Problem::new(ProblemKind::Conflict, "ambiguous", message, remedy))
            });
        };
        let disks: Vec<&str> = fragment.disks().into_iter().map(Name::as_str).collect();
        let subject = Subject {
            name: format!("volume {}", fragment.name),
            revision: cluster.generation,
            effects: vec![
                format!(
                    "what is here of volume {} ({uuid}), {} of {} on {}, is given up: it cannot be joined with the rest any more",
                    fragment.name,
                    human(fragment.present_sectors() * SECTOR_BYTES),
                    human(fragment.sectors * SECTOR_BYTES),
                    disks.join(", ")
                ),
                "its space is free for other volumes, and cleared before another guest sees it".to_owned(),
            ],
        };
        let command = Command::DeleteFragment(DeleteFragment { uuid });
        Some(self.take_away(("volume", &fragment.name), Some(subject), command, how))
    }

    /// Takes an attachment away by `command`, or says what that would do.
    pub(crate) fn remove_attachment(
        &self,
        name: &Name,
        command: Command,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        let found = self.view(|view| {
            let wanted = view.cluster.attachments.get(name)?;
            let mut effects = attachment_effects(&view, name, wanted);
            effects.push(format!("volume {} and what it holds stay", wanted.volume));
            let subject = Subject {
                name: format!("attachment {name}"),
                revision: wanted.revision,
                effects,
            };
            Some((subject, is_connected(&view, name)))
        });
        let connected = found.as_ref().is_some_and(|(_, connected)| *connected);
        let _held_shut = match (how.force, how.dry_run) {
            (true, _) => None,
            (false, true) if connected => return Err(in_use(name)),
            (false, true) => None,
            (false, false) => Some(self.hold_shut(name).ok_or_else(|| in_use(name))?),
        };
        self.take_away(
            ("attachment", name),
            found.map(|(subject, _)| subject),
            command,
            how,
        )
    }

    fn take_away(
        &self,
        (kind, name): (&str, &Name),
        subject: Option<Subject>,
        command: Command,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        let subject = subject.ok_or_else(|| Problem::not_found(kind, name.as_str()))?;
        if how.dry_run {
            let refused = self.cluster().apply(&command).err();
            refused.map_or(Ok(()), |refusal| Err(problem::of_refusal(&refusal)))?;
        } else {
            self.propose(command)?;
        }
        Ok(Removal {
            subject: subject.name,
            generation: subject.revision.0,
            effects: subject.effects,
        })
    }
}

/// Whether a virtual machine is connected to an attachment.
fn is_connected(view: &View<'_>, attachment: &Name) -> bool {
    let state = view
        .connection(view.state.control.attachments.get(attachment))
        .state;
    matches!(state, ConnectionState::Connected | ConnectionState::Running)
}

fn in_use(attachment: &Name) -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "attachment_in_use",
        format!("a virtual machine is connected to attachment {attachment}, and would lose its disk while it runs"),
        format!(
            "take the disk from the virtual machine first, or take it away all the same: palisade attachment delete \
             {attachment} --force"
        ),
    )
    .about("force")
}

fn disk_effects(name: &Name, disk: &Disk, how: RemovalOptions) -> Vec<String> {
    let (bytes, place) = (
        human(disk.sectors * SECTOR_BYTES),
        disk.medium.path().unwrap_or("memory"),
    );
    let mut effects = vec![format!("disk {name} ({place}, {bytes}) is given up and closed")];
    match disk.medium {
        Medium::Null { .. } => {}
        _ if disk.has_superblock() && how.force => effects.push(
            "it is taken away at once: if its medium cannot be reached now, it keeps its Palisade superblock, and has to be \
             wiped before it is used for anything else"
                .into(),
        ),
        Medium::Memory { .. } => effects.push("its memory is freed".into()),
        _ if disk.has_superblock() => {
            effects.push(
                "its Palisade superblock is erased, and nothing can be brought back from it afterwards; one that tells of more \
                 than this database knows is left as it is"
                    .into(),
            );
            effects.push("the disk is gone when that is done and it is closed".into());
        }
        _ => effects.push("what it holds stays on it".into()),
    }
    effects
}

/// The next volume there may have been told to show what is there.
const CLEARED: &str =
    "cleared before another volume's guest sees it, unless that volume is created with --clear never";

fn volume_effects(cluster: &Cluster, name: &Name, volume: &Volume, how: RemovalOptions) -> Vec<String> {
    let bytes = human(volume.sectors * SECTOR_BYTES);
    let extents = volume.all_extents();
    let on = extents.first().map(|extent| &extent.disk);
    let whole = on.filter(|disk| {
        cluster
            .disks
            .get(*disk)
            .is_some_and(|disk| disk.usage == Usage::Whole)
    });
    let holds_data = cluster.holds_data(volume);
    let by_choice = cluster.clear_of(name) == Some(Clear::OnDelete);
    // Where no guest has seen anything of it, or its disk keeps nothing, there is nothing to clear.
    let clears = how.clear.unwrap_or(by_choice) && (holds_data || volume.deleting);
    let lost = match whole {
        Some(disk) if holds_data && !clears => {
            format!(
                "volume {name} is deleted; the {bytes} that it holds stay on disk {disk} until another volume is created there"
            )
        }
        _ if volume.deleting => format!("volume {name} is deleted already, and what it held is lost"),
        _ => format!("volume {name} is deleted, and the {bytes} that it holds are lost"),
    };
    let space = match (volume.deleting, clears, whole) {
        (true, true, _) => "the clearing of its space goes on, and nothing changes".to_owned(),
        (true, false, _) => {
            format!("the clearing of its space ends: the space is free at once, and {CLEARED}")
        }
        (false, true, _) => {
            "its space is cleared before anybody else gets it; it keeps its name until then".to_owned()
        }
        (false, false, _) if !cluster.keeps_content(volume) => "its space is free at once".to_owned(),
        (false, false, Some(disk)) => {
            format!("disk {disk} is free for another volume at once, and {CLEARED}")
        }
        (false, false, None) => format!("its space is free at once, and {CLEARED}"),
    };
    let sparse = extents.iter().map(|extent| &extent.disk).find(|disk| {
        let disk = cluster.disks.get(*disk);
        disk.is_some_and(|disk| disk.record.sparse)
    });
    let taken = sparse.filter(|_| holds_data && !clears).map(|disk| {
        format!("the file of disk {disk} keeps what it has taken of its file system; --clear makes it give that back")
    });
    [lost, space].into_iter().chain(taken).collect()
}

fn attachment_effects(view: &View<'_>, name: &Name, wanted: &Attachment) -> Vec<String> {
    let mut effects = vec![format!(
        "attachment {name} is taken away, its socket {} with it",
        wanted.socket
    )];
    if is_connected(view, name) {
        effects.push(format!(
            "the virtual machine that is connected to {name} loses its disk: what it has in flight is finished first, and each \
             request after that ends with an I/O error, until its monitor takes the disk away or it is ended. Do one \
             of the two before this daemon restarts: after that its monitor looks for a socket that is not there any more, and \
             the guest waits for ever without an error. One that is still in its firmware is served by whatever is offered on \
             that socket next"
        ));
    }
    effects
}

/// What a patch asks for, if it is one thing: a new size, or another way to be treated.
pub(crate) fn one_change(
    resource: &str,
    sizes: bool,
    treats: bool,
    may_be_empty: bool,
) -> Result<(), Problem> {
    let (message, remedy) = match (sizes, treats) {
        (true, true) => (
            format!("a {resource}'s size or place and how it is treated are changed one after the other"),
            "send two requests",
        ),
        (false, false) if !may_be_empty => (
            format!("nothing of the {resource} is to be changed"),
            "name what is",
        ),
        _ => return Ok(()),
    };
    Err(Problem::new(
        ProblemKind::Invalid,
        "invalid_argument",
        message,
        remedy,
    ))
}

/// A choice of REST in the model's words.
pub(crate) fn clear(clear: api::Clear) -> Clear {
    match clear {
        api::Clear::Now => Clear::Now,
        api::Clear::OnDelete => Clear::OnDelete,
        api::Clear::Never => Clear::Never,
    }
}
