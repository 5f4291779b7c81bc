//! The medium of a disk that is to be added: what the operator wants is weighed before anything is touched, then the
//! medium is opened, looked at and let go again. A preview goes the same way and turns back before anything is changed.

mod content;
mod preview;
mod room;

pub use preview::{of_known, preview};

use crate::alias;
use crate::disk_growth::whole_blocks;
use crate::findings::media;
use crate::medium::{self, alike};
use crate::opening;
use crate::places;
use crate::problem;
use crate::shared::Shared;
use crate::sight::promised;
use content::{Weighed, weigh};
use palisade_api as api;
use palisade_api::size::human;
use palisade_api::{Problem, ProblemKind};
use palisade_model::{AddDisk, Command, Disk, Medium, MediumRecord, Usage};
use palisade_sys::device::{DeviceMedium, probe};
use palisade_sys::{OpenError, Opened};
use palisade_wire::{Geometry, GeometryError};
use palisade_words::{Name, SECTOR_BYTES, Uuid};
use std::time::{Duration, Instant};

/// Logical block of a disk when none is asked for and the medium is content with it.
const BLOCK_BYTES: u32 = 512;

/// Size of a medium while it is not known, for questions that do not depend on it: 1 GiB.
const PRESUMED_SECTORS: u64 = 1 << 21;

/// How long the creation of a volume waits for the first superblock of the disk it needs: four copies with a flush behind
/// each, which took a slow file system on a busy machine more than 3 s. Less than a client waits for an answer.
const SUPERBLOCK_PATIENCE: Duration = Duration::from_secs(10);

/// How long it waits when another disk would do: a new disk is to be among the choices, and one that hangs holds up
/// nobody for long.
const CHOICE_PATIENCE: Duration = Duration::from_secs(3);

/// Gives the command that adds a disk as asked, and what is to be known about it. Its medium is in order, and made if it
/// was to be made.
pub fn command_for(
    shared: &Shared,
    name: &Name,
    request: &api::DiskCreate,
    uuid: Uuid,
) -> Result<(AddDisk, Vec<String>), Problem> {
    may_be_added(shared, name, request, uuid)?;
    let found = examine(shared, request)?;
    let notes = found.notes.clone();
    Ok((found.command(shared, name, request.usage, uuid)?, notes))
}

/// Refuses what can be refused before a file is made or a device is opened.
fn may_be_added(shared: &Shared, name: &Name, request: &api::DiskCreate, uuid: Uuid) -> Result<(), Problem> {
    let cluster = shared.cluster();
    let asked_block = request.block_bytes.unwrap_or(BLOCK_BYTES);
    let bytes = bytes_asked_for(&request.medium);
    if let Some(bytes) = bytes {
        whole_blocks(bytes, asked_block)?;
    }
    // What the cluster would refuse.
    let presumed = Examined {
        medium: presumed_medium(&request.medium),
        sectors: bytes.map_or(PRESUMED_SECTORS, |bytes| bytes / SECTOR_BYTES),
        block_bytes: asked_block,
        record: MediumRecord::default(),
        notes: Vec::new(),
    };
    let rehearsal = Command::AddDisk(presumed.command(shared, name, request.usage, uuid)?);
    if let Err(refusal) = cluster.apply(&rehearsal) {
        return Err(problem::of_refusal(&refusal));
    }
    if let Some(path) = request.medium.path() {
        alias::refuse(shared, &cluster, None, path)?;
    }
    refuse_vast_memory(&request.medium)?;
    places::refuse_hidden(shared, request)
}

/// A medium that may be taken.
struct Examined {
    medium: Medium,
    sectors: u64,
    block_bytes: u32,
    record: MediumRecord,
    /// What is to be known about it, a sentence each.
    notes: Vec<String>,
}

impl Examined {
    fn command(
        self,
        shared: &Shared,
        name: &Name,
        usage: api::DiskUsage,
        uuid: Uuid,
    ) -> Result<AddDisk, Problem> {
        let Examined {
            medium,
            sectors,
            block_bytes,
            record,
            notes: _,
        } = self;
        let (usage, data_start, data_end) = match usage {
            api::DiskUsage::Whole => (Usage::Whole, 0, sectors),
            api::DiskUsage::Pooled => {
                let geometry = Geometry::of(sectors).map_err(|error| too_small(&error))?;
                (Usage::Pooled, geometry.data_start.0, geometry.data_end.0)
            }
        };
        Ok(AddDisk {
            name: name.clone(),
            uuid,
            node: shared.name.clone(),
            medium,
            record,
            usage,
            block_bytes,
            sectors,
            data_start,
            data_end,
            superblock_pending: true,
        })
    }
}

/// In bytes, as all of REST.
fn too_small(error: &GeometryError) -> Problem {
    let (message, remedy) = match *error {
        GeometryError::TooSmall { disk_sectors, least } => (
            format!(
                "a pooled disk of {} is too small: {} are the least",
                human(disk_sectors * SECTOR_BYTES),
                human(least * SECTOR_BYTES)
            ),
            "give a larger disk, or add it with usage `whole` (--whole)",
        ),
        GeometryError::TooLarge { .. } => (error.to_string(), "give a smaller disk"),
    };
    Problem::new(ProblemKind::Invalid, "disk_too_small", message, remedy)
}

/// Waits a moment for disks that have just been added to get their first superblock: the model puts no extent on one that
/// has none yet, and whoever adds a disk and asks for a volume at once means both. Only the disk that is asked for is
/// waited for, if one is.
pub(crate) fn await_superblocks(shared: &Shared, asked: Option<&Name>) {
    let begin = Instant::now();
    let patience = || {
        let cluster = shared.cluster();
        let state = shared.seen();
        let ready = |disk: &Disk| disk.first_superblock.is_on_medium();
        let mut pending = cluster
            .disks
            .iter()
            .filter(|(name, disk)| !ready(disk) && asked.is_none_or(|asked| asked == *name));
        let waits = pending.any(|(name, _)| !state.control.observed.has_failed(name));
        waits.then(|| match asked.is_none() && cluster.disks.values().any(ready) {
            true => CHOICE_PATIENCE,
            false => SUPERBLOCK_PATIENCE,
        })
    };
    while patience().is_some_and(|patience| begin.elapsed() < patience) {
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether opening may make a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Making {
    /// It makes the file that was asked for.
    Files,
    /// It leaves everything as it is.
    Nothing,
}

/// Opens a new disk's medium, and refuses one that cannot be taken whatever it holds. `None`: it is memory, which is taken
/// when it is put to use.
fn open(shared: &Shared, request: &api::DiskCreate, making: Making) -> Result<Option<Opened>, Problem> {
    let device = match &request.medium {
        api::Medium::Null(null) => DeviceMedium::Null { bytes: null.bytes },
        api::Medium::Memory(_) => return Ok(None),
        api::Medium::File(file) => DeviceMedium::File {
            path: (&file.path).into(),
            create: file
                .bytes
                .filter(|_| making == Making::Files)
                .map(|bytes| opening::create(bytes, file.sparse)),
        },
        api::Medium::Block(block) => DeviceMedium::Block {
            path: (&block.path).into(),
        },
    };
    let patience = shared.settings.lock_wait;
    let asked_block = request.block_bytes.unwrap_or(BLOCK_BYTES);
    let opened = match opening::open_new(device.clone(), asked_block, patience) {
        // The block was our choice, not the operator's: the medium's own is as good.
        Err(OpenError::BlockTooSmall { device: own, .. }) if request.block_bytes.is_none() => {
            opening::open_new(device, own, patience)
        }
        other => other,
    };
    let opened = opened.map_err(|error| match (&error, &request.medium) {
        (OpenError::Open { source, .. }, api::Medium::File(file))
            if source.kind() == std::io::ErrorKind::NotFound && file.bytes.is_none() =>
        {
            let remedy =
                "check the path, or give a size (--size, `file.bytes` in REST) to have a new file made there";
            Problem {
                remedy: remedy.to_owned(),
                ..problem::of_open(&error)
            }
            .about("file.path")
        }
        (OpenError::Open { source, .. }, api::Medium::Block(_))
            if source.kind() == std::io::ErrorKind::NotFound =>
        {
            let remedy = "there is no such device: see which there are (`lsblk --paths`); a file is given as `file` (--file)";
            Problem {
                remedy: remedy.to_owned(),
                ..problem::of_open(&error)
            }
            .about("block.path")
        }
        (OpenError::Create { source, .. }, api::Medium::File(file)) => {
            room::of_creation(&error, source, file)
        }
        _ => problem::of_open(&error),
    })?;
    refuse_used(request.medium.path().unwrap_or_default(), &opened)?;
    refuse_other_size(request, &opened)?;
    refuse_other_block(request, &opened)?;
    alias::refuse_open(shared, &shared.cluster(), None, &opened)?;
    Ok(Some(opened))
}

/// Opens a new disk's medium, does away with what is on it if that was agreed to, and lets it go again.
fn examine(shared: &Shared, request: &api::DiskCreate) -> Result<Examined, Problem> {
    let Some(opened) = open(shared, request, Making::Files)? else {
        let medium = presumed_medium(&request.medium);
        return Ok(Examined {
            sectors: medium.bytes().unwrap_or_default() / SECTOR_BYTES,
            medium,
            block_bytes: request.block_bytes.unwrap_or(BLOCK_BYTES),
            record: MediumRecord::default(),
            notes: Vec::new(),
        });
    };
    let Weighed { fate, .. } = weigh(request, &opened)?;
    fate?.carry_out(request.medium.path().unwrap_or_default(), &opened)?;
    let usage = content::usage(request);
    let (mut record, wwid) = medium::record_open(&opened, usage).map_err(|error| unread(request, &error))?;
    record.sparse = is_sparse(request, &opened);
    let sectors = opened.sectors().0;
    let alike = alike_note(shared, &record, wwid.as_deref(), &opened);
    let medium = match &request.medium {
        api::Medium::File(file) => Medium::File {
            path: file.path.clone(),
            bytes: sectors * SECTOR_BYTES,
            created: opened.created(),
        },
        api::Medium::Block(block) => Medium::Block {
            path: block.path.clone(),
            wwid,
        },
        other => presumed_medium(other),
    };
    Ok(Examined {
        medium,
        sectors,
        block_bytes: opened.limits().block_bytes,
        record,
        notes: notes(shared, &opened).into_iter().chain(alike).collect(),
    })
}

/// Says so when nothing tells a medium from that of a disk that is there.
fn alike_note(shared: &Shared, record: &MediumRecord, wwid: Option<&str>, opened: &Opened) -> Option<String> {
    let is_told_by_content =
        record.fingerprint.is_some() && wwid.is_none() && record.serial.is_none() && record.backing.is_none();
    let cluster = shared.cluster();
    let is_alike = |disk: &Disk| {
        let seen = &shared.last_seen;
        let is_other = alike::is_told_by_content(disk) && medium::was_seen(disk, seen);
        is_other && medium::is_content_of(disk, opened, seen).is_ok()
    };
    let mut disks = cluster.disks.iter().filter(|_| is_told_by_content);
    let (other, _) = disks.find(|(_, disk)| is_alike(disk))?;
    Some(media::told_alike(other))
}

/// What is to be known of a medium that may be taken.
fn notes(shared: &Shared, opened: &Opened) -> Vec<String> {
    let look = opened.look().ok().flatten();
    let tail = look.and_then(|look| media::tail(&look, opened.limits().block_bytes));
    let hazard = look.and_then(|look| media::hazard(&look));
    let notes = over_commit(shared, opened).into_iter().chain(tail);
    notes.chain(hazard).collect()
}

/// Says so when a file with holes has been promised more than its file system has, beside what that owes to others.
fn over_commit(shared: &Shared, opened: &Opened) -> Option<String> {
    let look = opened.look().ok().flatten()?;
    let file = look.file?;
    let wanting = look.bytes.saturating_sub(file.allocated);
    let promised = promised(&shared.seen(), file.device).saturating_add(wanting);
    media::over_commit(wanting, promised, &file)
}

/// Whether a file has holes: as it was made by us, or as it is if somebody else made it.
fn is_sparse(request: &api::DiskCreate, opened: &Opened) -> bool {
    match &request.medium {
        api::Medium::File(file) if opened.created() => file.sparse,
        _ => opened
            .look()
            .ok()
            .flatten()
            .and_then(|look| Some(look.file?.allocated < look.bytes))
            .unwrap_or(false),
    }
}

/// A disk's content was written for blocks of one size. Under another one each of its partitions would begin elsewhere,
/// and a guest would find nonsense. Who says the block size knows what is on it.
fn refuse_other_block(request: &api::DiskCreate, opened: &Opened) -> Result<(), Problem> {
    if request.usage != api::DiskUsage::Whole || request.block_bytes.is_some() || opened.path().is_none() {
        return Ok(());
    }
    let (block, path) = (
        opened.limits().block_bytes,
        request.medium.path().unwrap_or_default(),
    );
    let table = probe::block_of_table(opened).map_err(|error| unread(request, &error))?;
    let refused = |message: String, remedy: &str| {
        Err(
            Problem::new(ProblemKind::Conflict, "block_size_of_content", message, remedy)
                .about("block_bytes"),
        )
    };
    if let Some(table) = table.filter(|&table| table != block) {
        let message = format!(
            "the partition table on {path} was made for logical blocks of {table} bytes, and the disk would have {block}"
        );
        return match table > block {
            true => refused(message, "add it with `block_bytes` 4096"),
            false => refused(
                message,
                "put the image where blocks of 512 bytes can be had (another file system or disk), or add it with \
                 `block_bytes` 4096 if the guest is to partition it anew",
            ),
        };
    }
    let is_image = matches!(request.medium, api::Medium::File(_)) && !opened.created();
    if is_image && block > BLOCK_BYTES && table.is_none() {
        let content = probe::probe(opened).map_err(|error| unread(request, &error))?;
        if content != probe::Content::Blank {
            let message = format!(
                "the file system under {path} takes no blocks smaller than {block} bytes, and the image holds {content} \
                 that may have been written for 512"
            );
            return refused(
                message,
                "put the image where blocks of 512 bytes can be had, or add it with `block_bytes` 4096 if it was made for \
                 them",
            );
        }
    }
    Ok(())
}

fn unread(request: &api::DiskCreate, error: &std::io::Error) -> Problem {
    problem::of_reading(format_args!("disk {}", request.id), error)
}

/// Refuses what somebody else uses although it could be opened, and what takes no writes. `force` is for content that is
/// not wanted any more, and lifts neither.
pub fn refuse_used(path: &str, opened: &Opened) -> Result<(), Problem> {
    let unasked = |source| {
        problem::of_open(&OpenError::Inspect {
            path: path.into(),
            source,
        })
    };
    let uses = opened.uses().map_err(unasked)?;
    if !uses.is_empty() {
        let path = path.into();
        return Err(problem::of_open(&OpenError::InUse { path, uses }));
    }
    if opened.is_read_only().map_err(unasked)? {
        let message = format!("{path} is a block device that may only be read, and a disk is written to");
        let remedy = format!("let it be written to (blockdev --setrw {path}), or name another");
        return Err(Problem::new(
            ProblemKind::Conflict,
            "device_read_only",
            message,
            remedy,
        ));
    }
    Ok(())
}

/// A size is for a file that is to be made. One that is there has its own, and taking another for granted would make
/// the same request, asked again, look like a different one.
fn refuse_other_size(request: &api::DiskCreate, opened: &Opened) -> Result<(), Problem> {
    let api::Medium::File(file) = &request.medium else {
        return Ok(());
    };
    let found = opened.sectors().0 * SECTOR_BYTES;
    let Some(asked) = file.bytes.filter(|&asked| asked != found) else {
        return Ok(());
    };
    let message = format!(
        "{} exists and has {found} bytes ({}), {asked} ({}) were asked for",
        file.path,
        human(found),
        human(asked)
    );
    let remedy = "leave the size out to take the file as it is, or name another file";
    Err(Problem::new(ProblemKind::Conflict, "file_has_other_size", message, remedy).about("file.bytes"))
}

/// Memory is taken page by page as it is written: a disk larger than the machine's memory would end in the kernel
/// killing the daemon, with all its guests, when it fills up.
fn refuse_vast_memory(medium: &api::Medium) -> Result<(), Problem> {
    let api::Medium::Memory(memory) = medium else {
        return Ok(());
    };
    let Some(total) = memory_total().filter(|&total| memory.bytes > total) else {
        return Ok(());
    };
    let (asked, total) = (human(memory.bytes), human(total));
    let message = format!("{asked} are asked for and this machine has {total} of memory");
    let remedy = "ask for less, or add a file or block device";
    Err(Problem::new(ProblemKind::NoSpace, "no_memory", message, remedy).about("memory.bytes"))
}

/// `MemTotal` of proc_meminfo(5), in bytes.
fn memory_total() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib << 10)
}

/// The size that a request names, if it names one.
fn bytes_asked_for(medium: &api::Medium) -> Option<u64> {
    match medium {
        api::Medium::Null(null) => Some(null.bytes),
        api::Medium::Memory(memory) => Some(memory.bytes),
        api::Medium::File(file) => file.bytes,
        api::Medium::Block(_) => None,
    }
}

fn presumed_medium(medium: &api::Medium) -> Medium {
    match medium {
        api::Medium::Null(null) => Medium::Null { bytes: null.bytes },
        api::Medium::Memory(memory) => Medium::Memory { bytes: memory.bytes },
        api::Medium::File(file) => Medium::File {
            path: file.path.clone(),
            bytes: file.bytes.unwrap_or(PRESUMED_SECTORS * SECTOR_BYTES),
            created: true,
        },
        api::Medium::Block(block) => Medium::Block {
            path: block.path.clone(),
            wwid: None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(result: Result<(), Problem>) -> String {
        result.unwrap_err().code.into_owned()
    }

    #[test]
    fn memory_beyond_the_machine_is_refused() {
        let medium = |bytes| api::Medium::Memory(api::MemoryMedium { bytes });
        assert!(memory_total().unwrap() > 1 << 20);
        refuse_vast_memory(&medium(1 << 20)).unwrap();
        assert_eq!(code(refuse_vast_memory(&medium(1 << 60))), "no_memory");
    }
}
