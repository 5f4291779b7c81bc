//! What REST asks for, carried out: wishes become commands of the model, answers come from the views.

use crate::hands;
use crate::node::Shared;
use crate::problem;
use crate::views::{View, list};
use palisade_admin::{Appliance, MetricsSnapshot};
use palisade_api as api;
use palisade_api::{Created, Problem, ProblemKind};
use palisade_block::SECTOR_BYTES;
use palisade_model::{
    Account, AddDisk, ChangeAttachment, Command, CreateAttachment, CreateVolume, DeleteAttachment,
    DeleteVolume, Generation, GrowDisk, GrowVolume, Limits, Medium, Name, Outcome, RemoveDisk, Usage, Uuid,
};
use palisade_reconcile::{Action, Superblock};
use palisade_sys::Opened;
use palisade_sys::device::{Medium as Device, identity, probe};
use palisade_wire::Geometry;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Mode of a socket when none is asked for: its owner and group may connect.
const SOCKET_MODE: u32 = 0o660;

/// How long the creation of a volume waits for the first superblock of a new disk.
const SUPERBLOCK_PATIENCE: Duration = Duration::from_secs(3);

/// Logical block of a disk when none is asked for.
const BLOCK_BYTES: u32 = 512;

/// The node as REST sees it.
#[derive(Debug)]
pub struct Rest {
    shared: Arc<Shared>,
}

impl Rest {
    /// Of a node.
    pub fn new(shared: Arc<Shared>) -> Rest {
        Rest { shared }
    }

    fn view<T>(&self, look: impl FnOnce(View<'_>) -> T) -> T {
        let cluster = self.shared.cluster();
        let plant = self.shared.plant();
        look(View {
            shared: &self.shared,
            cluster: &cluster,
            plant: &plant,
        })
    }

    fn propose(&self, command: Command) -> Result<Outcome, Problem> {
        self.shared
            .propose(command)
            .map_err(|error| problem::of_proposal(&error))
    }

    /// Proposes a creation and shows what is there then.
    fn create<T>(
        &self,
        command: Command,
        look: impl FnOnce(View<'_>) -> Option<T>,
    ) -> Result<Created<T>, Problem> {
        let outcome = self.propose(command)?;
        let made = self.view(look).ok_or_else(gone_again)?;
        Ok(if matches!(outcome, Outcome::Unchanged { .. }) {
            Created::Existing(made)
        } else {
            Created::New(made)
        })
    }

    /// Proposes a change and shows what is there then.
    fn change<T>(&self, command: Command, look: impl FnOnce(View<'_>) -> Option<T>) -> Result<T, Problem> {
        self.propose(command)?;
        self.view(look).ok_or_else(gone_again)
    }

    /// Opens a new disk's medium, looks what is on it, and lets it go again.
    fn examine(&self, wish: &api::DiskCreate, block_bytes: u32) -> Result<Examined, Problem> {
        let patience = self.shared.settings.lock_wait;
        let medium = match &wish.medium {
            api::Medium::Null(null) => Device::Null { bytes: null.bytes },
            // Not opened here: its memory is taken once, when it is put to use.
            api::Medium::Memory(memory) => {
                return Ok(Examined {
                    medium: Medium::Memory { bytes: memory.bytes },
                    sectors: memory.bytes / SECTOR_BYTES,
                });
            }
            api::Medium::File(file) => Device::File {
                path: (&file.path).into(),
                create: file.bytes.map(|bytes| hands::create(bytes, file.sparse)),
            },
            api::Medium::Block(block) => Device::Block {
                path: (&block.path).into(),
            },
        };
        let opened =
            hands::open_new(medium, block_bytes, patience).map_err(|error| problem::of_open(&error))?;
        self.refuse_data(wish, &opened)?;
        let sectors = opened.sectors().0;
        let medium = match &wish.medium {
            api::Medium::Null(null) => Medium::Null { bytes: null.bytes },
            api::Medium::Memory(memory) => Medium::Memory { bytes: memory.bytes },
            api::Medium::File(file) => Medium::File {
                path: file.path.clone(),
                bytes: sectors * SECTOR_BYTES,
                created: opened.created(),
            },
            api::Medium::Block(block) => Medium::Block {
                path: block.path.clone(),
                wwid: identity::identity(Path::new(&block.path))
                    .ok()
                    .and_then(|identity| identity.wwid),
            },
        };
        Ok(Examined { medium, sectors })
    }

    /// Refuses a medium that holds somebody's data. A file that is given whole may hold anything: it is an image
    /// for its one volume.
    fn refuse_data(&self, wish: &api::DiskCreate, opened: &Opened) -> Result<(), Problem> {
        let image = matches!(wish.medium, api::Medium::File(_)) && wish.usage == api::DiskUsage::Whole;
        if opened.path().is_none() || image {
            return Ok(());
        }
        let unread = |error: std::io::Error| {
            let message = format!("disk {} cannot be read: {error}", wish.id);
            Problem::new(
                ProblemKind::Internal,
                "disk_not_readable",
                message,
                "look into the kernel log",
            )
        };
        match probe::probe(opened).map_err(unread)? {
            probe::Content::Blank => Ok(()),
            probe::Content::Palisade { .. } if wish.force => hands::wipe(opened).map_err(|message| {
                Problem::new(
                    ProblemKind::Internal,
                    "disk_not_writable",
                    message,
                    "look into the kernel log",
                )
            }),
            _ if wish.force => Ok(()),
            content => {
                let path = wish.medium.path().unwrap_or_default();
                let message = format!("{path} holds {content}, which would be lost");
                let remedy =
                    "choose another disk, or add it with `force` if its content is not wanted any more";
                Err(Problem::new(ProblemKind::Conflict, "disk_holds_data", message, remedy).about("force"))
            }
        }
    }

    /// The disk that a repeated wish means, if it means the same.
    fn known_disk(&self, name: &Name, wish: &api::DiskCreate) -> Option<Result<Created<api::Disk>, Problem>> {
        let cluster = self.shared.cluster();
        let disk = cluster.disks.get(name)?;
        let usage = match disk.usage {
            Usage::Pooled => api::DiskUsage::Pooled,
            Usage::Whole => api::DiskUsage::Whole,
        };
        let same_medium = match (&disk.medium, &wish.medium) {
            (Medium::Null { bytes }, api::Medium::Null(wish)) => *bytes == wish.bytes,
            (Medium::Memory { bytes }, api::Medium::Memory(wish)) => *bytes == wish.bytes,
            (Medium::File { path, bytes, .. }, api::Medium::File(wish)) => {
                *path == wish.path && wish.bytes.is_none_or(|wished| wished == *bytes)
            }
            (Medium::Block { path, .. }, api::Medium::Block(wish)) => *path == wish.path,
            _ => false,
        };
        let differs = if !same_medium {
            wish.medium.name()
        } else if usage != wish.usage {
            "usage"
        } else if wish.block_bytes.is_some_and(|bytes| bytes != disk.block_bytes) {
            "block_bytes"
        } else {
            return Some(Ok(Created::Existing(self.view(|view| view.disk(name, disk)))));
        };
        Some(Err(Problem::exists("disk", name.as_str(), differs)))
    }
}

impl Rest {
    /// Waits a moment for disks that have just been added to get their first superblock. An extent is agreed on only
    /// where that is on the disk already: a disk with extents and without a superblock is taken for one that has
    /// lost it, and after a crash in between that would be a false alarm.
    fn await_first_superblocks(&self) {
        let deadline = Instant::now() + SUPERBLOCK_PATIENCE;
        while Instant::now() < deadline {
            let cluster = self.shared.cluster();
            let waiting = {
                let plant = self.shared.plant();
                let failed = |disk: &Name| {
                    let actions = [
                        Action::OpenDisk { disk: disk.clone() },
                        Action::WriteSuperblock { disk: disk.clone() },
                    ];
                    actions
                        .iter()
                        .any(|action| plant.observed.failures.contains_key(action))
                };
                let on_record = |disk: &Name| {
                    let open = plant.observed.disks.get(disk);
                    open.is_some_and(|open| open.superblock != Superblock::Missing)
                };
                let mut lasting = cluster.disks.iter().filter(|(_, disk)| disk.has_superblock());
                lasting.any(|(name, _)| !on_record(name) && !failed(name))
            };
            if !waiting {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

/// A medium that may be taken.
struct Examined {
    medium: Medium,
    sectors: u64,
}

impl Appliance for Rest {
    fn node(&self) -> api::Node {
        self.view(|view| view.node())
    }

    fn reactors(&self) -> Vec<api::Reactor> {
        self.view(|view| view.reactors())
    }

    fn health(&self) -> api::Health {
        self.view(|view| view.health())
    }

    fn disks(&self) -> Vec<api::Disk> {
        self.view(|view| list(&view.cluster.disks, |name, disk| view.disk(name, disk)))
    }

    fn disk_add(&self, wish: api::DiskCreate) -> Result<Created<api::Disk>, Problem> {
        let name = name("id", &wish.id)?;
        if let Some(answer) = self.known_disk(&name, &wish) {
            return answer;
        }
        let block_bytes = wish.block_bytes.unwrap_or(BLOCK_BYTES);
        let Examined { medium, sectors } = self.examine(&wish, block_bytes)?;
        let (usage, data_start, data_end) = match wish.usage {
            api::DiskUsage::Whole => (Usage::Whole, 0, sectors),
            api::DiskUsage::Pooled => {
                let geometry = Geometry::of(sectors).map_err(|error| {
                    let remedy = "give a larger disk, or add it with usage `whole`";
                    Problem::new(ProblemKind::Invalid, "disk_too_small", error.to_string(), remedy)
                })?;
                (Usage::Pooled, geometry.data_start.0, geometry.data_end.0)
            }
        };
        let command = Command::AddDisk(AddDisk {
            name: name.clone(),
            uuid: chance(),
            node: self.shared.name.clone(),
            medium,
            usage,
            block_bytes,
            sectors,
            data_start,
            data_end,
        });
        self.create(command, |view| {
            Some(view.disk(&name, view.cluster.disks.get(&name)?))
        })
    }

    fn disk_change(
        &self,
        id: &str,
        patch: api::DiskPatch,
        expected: Option<u64>,
    ) -> Result<api::Disk, Problem> {
        let name = known("disk", id)?;
        let cluster = self.shared.cluster();
        let disk = cluster
            .disks
            .get(&name)
            .ok_or_else(|| Problem::not_found("disk", id))?;
        let opened = self
            .shared
            .plant()
            .disks
            .get(&name)
            .map(|open| Arc::clone(&open.opened));
        let opened = opened.ok_or_else(|| {
            let remedy = format!("repair it first: palisade disk show {id}");
            Problem::new(
                ProblemKind::Conflict,
                "disk_closed",
                format!("disk {id} is not open"),
                remedy,
            )
        })?;
        if let (Some(bytes), Medium::File { path, .. }) = (patch.bytes, &disk.medium)
            && bytes / SECTOR_BYTES > opened.sectors().0
        {
            let grown = std::fs::OpenOptions::new()
                .write(true)
                .open(path)
                .and_then(|file| file.set_len(bytes));
            grown.map_err(|error| {
                let message = format!("{path} cannot be made larger: {error}");
                Problem::new(
                    ProblemKind::NoSpace,
                    "disk_not_grown",
                    message,
                    "make room on its file system",
                )
            })?;
        }
        let sectors = opened.refresh_size().map_err(|error| {
            let message = format!("the size of disk {id} cannot be read: {error}");
            Problem::new(
                ProblemKind::Internal,
                "disk_not_readable",
                message,
                "look into the kernel log",
            )
        })?;
        let data_end = match disk.usage {
            Usage::Whole => sectors.0,
            Usage::Pooled => Geometry::of(sectors.0).map_or(disk.data_end, |geometry| geometry.data_end.0),
        };
        let expected = expected.map(Generation);
        let command = Command::GrowDisk(GrowDisk {
            name: name.clone(),
            sectors: sectors.0,
            data_end,
            expected,
        });
        self.change(command, |view| {
            Some(view.disk(&name, view.cluster.disks.get(&name)?))
        })
    }

    fn disk_remove(&self, id: &str, expected: Option<u64>) -> Result<(), Problem> {
        let name = known("disk", id)?;
        self.propose(Command::RemoveDisk(RemoveDisk {
            name,
            expected: expected.map(Generation),
        }))
        .map(drop)
    }

    fn volumes(&self) -> Vec<api::Volume> {
        self.view(|view| list(&view.cluster.volumes, |name, volume| view.volume(name, volume)))
    }

    fn volume_create(&self, wish: api::VolumeCreate) -> Result<Created<api::Volume>, Problem> {
        let id = name("id", &wish.id)?;
        self.await_first_superblocks();
        let command = Command::CreateVolume(CreateVolume {
            name: id.clone(),
            uuid: chance(),
            node: self.shared.name.clone(),
            disk: wish.disk.as_deref().map(|disk| name("disk", disk)).transpose()?,
            sectors: Some(sectors(wish.bytes)?),
            block_bytes: wish.block_bytes,
        });
        self.create(command, |view| {
            Some(view.volume(&id, view.cluster.volumes.get(&id)?))
        })
    }

    fn volume_change(
        &self,
        id: &str,
        patch: api::VolumePatch,
        expected: Option<u64>,
    ) -> Result<api::Volume, Problem> {
        let name = known("volume", id)?;
        let command = Command::GrowVolume(GrowVolume {
            name: name.clone(),
            sectors: sectors(patch.bytes)?,
            disk: None,
            expected: expected.map(Generation),
        });
        self.change(command, |view| {
            Some(view.volume(&name, view.cluster.volumes.get(&name)?))
        })
    }

    fn volume_delete(&self, id: &str, expected: Option<u64>) -> Result<(), Problem> {
        let name = known("volume", id)?;
        self.propose(Command::DeleteVolume(DeleteVolume {
            name,
            expected: expected.map(Generation),
        }))
        .map(drop)
    }

    fn attachments(&self) -> Vec<api::Attachment> {
        self.view(|view| {
            list(&view.cluster.attachments, |name, attachment| {
                view.attachment(name, attachment)
            })
        })
    }

    fn attachment_create(&self, wish: api::AttachmentCreate) -> Result<Created<api::Attachment>, Problem> {
        let id = name("id", &wish.id)?;
        let socket = wish.socket.unwrap_or_else(|| {
            self.shared
                .settings
                .run_dir
                .join(format!("{id}.sock"))
                .to_string_lossy()
                .into_owned()
        });
        let command = Command::CreateAttachment(CreateAttachment {
            name: id.clone(),
            volume: name("volume", &wish.volume)?,
            node: self.shared.name.clone(),
            socket,
            queues: wish.queues.unwrap_or(1),
            queue_size: wish
                .queue_size
                .unwrap_or(palisade_model::limits::QUEUE_SIZE_DEFAULT),
            owner: wish.owner.as_deref().map(account),
            group: wish.group.as_deref().map(account),
            mode: wish.mode.map_or(SOCKET_MODE, api::Mode::bits),
            read_only: wish.read_only,
            serial: wish.serial,
            limits: limits(wish.limits.unwrap_or_default(), Limits::default()),
            write_cache: wish.write_cache.unwrap_or(true),
        });
        self.create(command, |view| {
            Some(view.attachment(&id, view.cluster.attachments.get(&id)?))
        })
    }

    fn attachment_change(
        &self,
        id: &str,
        patch: api::AttachmentPatch,
        expected: Option<u64>,
    ) -> Result<api::Attachment, Problem> {
        let name = known("attachment", id)?;
        let command = Command::ChangeAttachment(ChangeAttachment {
            owner: patch.owner.as_deref().map(account),
            group: patch.group.as_deref().map(account),
            mode: patch.mode.map(api::Mode::bits),
            limits: patch.limits.map(|wish| limits(wish, Limits::default())),
            expected: expected.map(Generation),
            ..ChangeAttachment::of(name.clone())
        });
        self.change(command, |view| {
            Some(view.attachment(&name, view.cluster.attachments.get(&name)?))
        })
    }

    fn attachment_delete(&self, id: &str, expected: Option<u64>) -> Result<(), Problem> {
        let name = known("attachment", id)?;
        let expected = expected.map(Generation);
        self.propose(Command::DeleteAttachment(DeleteAttachment { name, expected }))
            .map(drop)
    }

    fn events_after(&self, after: u64, limit: usize) -> api::EventPage {
        self.shared.events.after(after, limit)
    }

    fn metrics(&self) -> MetricsSnapshot {
        self.view(|view| view.metrics())
    }
}

fn chance() -> Uuid {
    Uuid(uuid::Uuid::new_v4().as_u128())
}

/// A name the client has chosen.
fn name(field: &'static str, text: &str) -> Result<Name, Problem> {
    Name::new(text).map_err(|error| problem::of_name(field, error))
}

/// The name of something that should be there: what is no name is not there.
fn known(resource: &str, id: &str) -> Result<Name, Problem> {
    Name::new(id).map_err(|_| Problem::not_found(resource, id))
}

fn sectors(bytes: u64) -> Result<u64, Problem> {
    if bytes == 0 || !bytes.is_multiple_of(SECTOR_BYTES) {
        let message = format!("{bytes} bytes are not a whole number of 512-byte sectors");
        return Err(Problem::new(
            ProblemKind::Invalid,
            "invalid_argument",
            message,
            "round the size",
        )
        .about("bytes"));
    }
    Ok(bytes / SECTOR_BYTES)
}

/// A number, or a name.
fn account(text: &str) -> Account {
    text.parse()
        .map_or_else(|_| Account::Name(text.to_owned()), Account::Id)
}

/// Limits as wished; what is left out is as in `otherwise`.
fn limits(wish: api::Limits, otherwise: Limits) -> Limits {
    Limits {
        iops: wish.iops.unwrap_or(otherwise.iops),
        bytes_per_second: wish.bytes_per_second.unwrap_or(otherwise.bytes_per_second),
        burst_ms: wish.burst_ms.unwrap_or(otherwise.burst_ms),
    }
}

fn gone_again() -> Problem {
    Problem::new(
        ProblemKind::Conflict,
        "gone_again",
        "it was made, and removed again at once by another client",
        "look again",
    )
}
