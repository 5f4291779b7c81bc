//! What is known about one disk, as a value: the JSON of `--json`, and what the text is made from.

use crate::meaning;
use crate::medium::{Kind, LOOK_BYTES_MAX, Look, Medium};
use crate::remains;
use palisade_wire::{
    Damage, DecodeError, Decoded, ExtentRecord, SIGNATURE_BYTES, Superblock, decode, recognise,
};
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use serde::Serialize;
use std::path::Path;

/// How it is with a disk.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Ours, all copies sound.
    Healthy,
    /// Ours and readable, but something is not as it should be.
    Damaged,
    /// Ours, but nothing on it can be used.
    Lost,
    /// Not ours: something else, or nothing that is known.
    Foreign,
    /// Nothing but zeroes where something could be expected.
    Blank,
    /// It could not be opened or read.
    Unreadable,
}

impl State {
    /// Exit status when a disk cannot be read or is not ours.
    pub const UNREADABLE: u8 = 2;

    /// Exit status of the program for this disk.
    pub fn exit_code(self) -> u8 {
        match self {
            State::Healthy => 0,
            State::Damaged => 1,
            State::Lost | State::Foreign | State::Blank | State::Unreadable => State::UNREADABLE,
        }
    }
}

/// Everything about one disk. All sizes named `_bytes` are bytes; positions are in sectors of 512 bytes.
#[derive(Debug, Serialize)]
pub struct Report {
    /// As given.
    pub path: String,
    /// `file` or `block device`, if it could be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Size, if it could be opened.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// How it is.
    pub state: State,
    /// The same in a sentence, with what to do.
    pub summary: String,
    /// What it says about itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disk: Option<DiskReport>,
    /// What is not as it should be.
    pub damage: Vec<DamageReport>,
    /// How it is with each place of a superblock, on a pooled disk that is not healthy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub superblocks: Vec<PlaceReport>,
    /// What is lost and what to do, a sentence each, on a pooled disk that is not healthy.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub advice: Vec<String>,
    /// What else is worth knowing.
    pub notes: Vec<String>,
    /// Known signatures of others at its start.
    pub carries: Vec<&'static str>,
}

/// A pooled disk.
#[derive(Debug, Serialize)]
pub struct DiskReport {
    /// Name for people.
    pub label: String,
    /// Permanent id.
    pub uuid: String,
    /// Its cluster.
    pub cluster: String,
    /// The node that wrote it last.
    pub owner: String,
    /// Configuration written on it.
    pub generation: u64,
    /// Membership under which it was written.
    pub epoch: u64,
    /// Id of that configuration; `None` when it was written before there were lineages.
    pub lineage: Option<String>,
    /// The configurations that this disk carried before, the newest first.
    pub ancestors: Vec<AncestorReport>,
    /// Number of the write.
    pub sequence: u64,
    /// Logical block.
    pub block_bytes: u32,
    /// Size by its superblock.
    pub sectors: u64,
    /// First sector of data.
    pub data_start: u64,
    /// First sector behind the data.
    pub data_end: u64,
    /// Space for data.
    pub data_bytes: u64,
    /// Space given to volumes, in whole allocation units.
    pub used_bytes: u64,
    /// Space not given to a volume.
    pub free_bytes: u64,
    /// The longest free stretch.
    pub largest_free_bytes: u64,
    /// Superblock copies that are sound.
    pub copies: Vec<CopyReport>,
    /// Volumes with extents here.
    pub volumes: Vec<VolumeReport>,
}

/// A configuration that the disk carried before.
#[derive(Debug, Serialize)]
pub struct AncestorReport {
    /// Its number.
    pub generation: u64,
    /// Its id.
    pub id: String,
}

/// A sound copy of the superblock.
#[derive(Debug, Serialize)]
pub struct CopyReport {
    /// Which.
    pub place: String,
    /// Number of its write.
    pub sequence: u64,
}

/// A volume with extents on the disk.
#[derive(Debug, Serialize)]
pub struct VolumeReport {
    /// Name when it was written.
    pub name: String,
    /// Permanent id.
    pub uuid: String,
    /// Logical block.
    pub block_bytes: u32,
    /// Size of the whole volume.
    pub size_bytes: u64,
    /// What of it lies here.
    pub here_bytes: u64,
    /// Where.
    pub extents: Vec<ExtentReport>,
}

/// A stretch of a volume.
#[derive(Debug, Serialize)]
pub struct ExtentReport {
    /// First sector on the volume.
    pub volume_lba: u64,
    /// First sector on the disk.
    pub disk_lba: u64,
    /// Length.
    pub sectors: u64,
}

/// A place of a superblock.
#[derive(Debug, Serialize)]
pub struct PlaceReport {
    /// Which.
    pub place: String,
    /// Whether a copy is there that can be used.
    pub sound: bool,
    /// What is there, in words.
    pub what: String,
}

/// A record that is not as it should be.
#[derive(Debug, Serialize)]
pub struct DamageReport {
    /// Which record.
    pub place: String,
    /// Its first sector.
    pub lba: u64,
    /// What is wrong.
    pub what: String,
    /// What that means and what to do.
    pub meaning: &'static str,
}

/// Looks at one disk.
pub fn look_at(path: &Path) -> Report {
    let mut report = Report {
        path: path.display().to_string(),
        kind: None,
        size_bytes: None,
        state: State::Unreadable,
        summary: String::new(),
        disk: None,
        damage: Vec::new(),
        superblocks: Vec::new(),
        advice: Vec::new(),
        notes: Vec::new(),
        carries: Vec::new(),
    };
    let mut medium = match Medium::open(path) {
        Ok(medium) => medium,
        Err(error) => {
            report.summary = format!("cannot be opened: {error}");
            return report;
        }
    };
    report.kind = Some(match medium.kind {
        Kind::File => "file",
        Kind::Block => "block device",
    });
    report.size_bytes = Some(medium.bytes);
    let sectors = medium.bytes / 512;
    match decode(sectors, |lba| medium.sector(lba)) {
        Ok(decoded) => report.ours(&decoded, sectors),
        Err(error) => report.not_ours(&error, &mut medium),
    }
    report
}

impl Report {
    fn ours(&mut self, decoded: &Decoded, sectors: u64) {
        let superblock = &decoded.superblock;
        self.damage = damage(&decoded.damage);
        let mut lost = 0;
        for extent in decoded
            .extents
            .iter()
            .filter(|extent| extent.disk_end().0 > sectors)
        {
            lost += 1;
            let name = &extent.volume_name;
            self.notes.push(format!(
                "an extent of volume {name} reaches beyond the end of the disk"
            ));
        }
        if sectors > superblock.disk_sectors {
            let more = (sectors - superblock.disk_sectors) * 512;
            self.notes.push(format!(
                "the disk has grown by {more} bytes of which the cluster has not been told"
            ));
        }
        let sound = self.damage.is_empty() && lost == 0;
        self.state = if sound { State::Healthy } else { State::Damaged };
        self.summary = match (sound, decoded.sound.len()) {
            (true, copies) => {
                format!("pooled disk, healthy: all {copies} copies of the superblock are sound")
            }
            (false, copies) => {
                format!("pooled disk, damaged but readable: {copies} of 4 superblock copies are sound")
            }
        };
        if !sound {
            self.superblocks = remains::places(sectors, &decoded.sound, &decoded.damage);
            self.advice = remains::advice_on_some(&superblock.label.to_string(), decoded, lost > 0);
        }
        self.disk = Some(disk(superblock, decoded));
    }

    fn not_ours(&mut self, error: &DecodeError, medium: &mut Medium) {
        let head = medium.head(SIGNATURE_BYTES);
        self.carries = recognise(&head).iter().map(|signature| signature.name).collect();
        let meaning = meaning::of_failure(error);
        self.summary = format!("{error}: {meaning}");
        if let DecodeError::Unreadable { damage: records } | DecodeError::Damaged { damage: records } = error
        {
            self.damage = damage(records);
            self.superblocks = remains::places(medium.bytes / 512, &[], records);
        }
        let named = remains::named(medium);
        if matches!(error, DecodeError::NotOurs) && !named.is_empty() {
            self.state = State::Lost;
            self.superblocks = remains::overwritten(medium);
            self.summary = "was a pooled disk: no superblock is left, and its extent tables, or parts of them, are still there"
                .to_owned();
            self.advice = remains::advice_on_none(&self.path, &named);
            return;
        }
        if matches!(
            error,
            DecodeError::Damaged { .. } | DecodeError::Contradiction(_) | DecodeError::Impossible { .. }
        ) {
            self.advice = remains::advice_on_none(&self.path, &named);
        }
        self.state = match error {
            DecodeError::Unreadable { .. } => State::Unreadable,
            DecodeError::WrongVersion { .. }
            | DecodeError::Damaged { .. }
            | DecodeError::Contradiction(_)
            | DecodeError::Impossible { .. } => State::Lost,
            _ if !self.carries.is_empty() => State::Foreign,
            _ if head.first().is_none_or(|byte| *byte == 0) => match medium.look_for_data() {
                Look::Data { offset } => {
                    self.summary = format!(
                        "not a pooled disk: it begins with zeroes, and from byte {offset} on it carries data of no kind \
                         known here; somebody may need it"
                    );
                    self.state = State::Foreign;
                    return;
                }
                look => {
                    self.summary = blank(medium.bytes, look);
                    State::Blank
                }
            },
            _ => State::Foreign,
        };
        match self.state {
            State::Foreign if !self.carries.is_empty() => {
                self.summary = format!("not a pooled disk: it carries {}", self.carries.join(" and "));
            }
            State::Foreign => {
                // No disk has a size that is not in sectors; neither has an image of one.
                let advice = match medium.bytes % 512 {
                    0 => {
                        "if it is the image of a disk, one volume can have it whole (palisade disk add --whole)"
                    }
                    _ => "no image of a disk has its size, which is no multiple of 512 bytes",
                };
                self.summary = format!(
                    "not a pooled disk: it carries data of no kind known here, which somebody may need; {advice}"
                );
            }
            _ => {}
        }
    }
}

fn blank(bytes: u64, look: Look) -> String {
    match (bytes, look) {
        (0, _) => "empty: it has no bytes at all".to_owned(),
        (_, Look::Zeroes) => "blank: nothing but zeroes, from the first byte to the last".to_owned(),
        _ => format!(
            "no pooled disk, and no sign of another: the first {} MiB and the last one are zeroes; what lies between was \
             not read",
            LOOK_BYTES_MAX >> 20
        ),
    }
}

fn damage(records: &[Damage]) -> Vec<DamageReport> {
    let one = |damage: &Damage| DamageReport {
        place: damage.place.to_string(),
        lba: damage.lba.0,
        what: damage.why.to_string(),
        meaning: meaning::of(&damage.why),
    };
    records.iter().map(one).collect()
}

fn disk(superblock: &Superblock, decoded: &Decoded) -> DiskReport {
    let (free, largest) = free_space(superblock, &decoded.extents);
    let data = superblock.data_sectors();
    let copies = decoded.sound.iter().map(|(place, sequence)| CopyReport {
        place: place.to_string(),
        sequence: *sequence,
    });
    DiskReport {
        label: superblock.label.to_string(),
        uuid: superblock.disk.to_string(),
        cluster: superblock.cluster.to_string(),
        owner: superblock.owner.to_string(),
        generation: superblock.generation.0,
        epoch: superblock.epoch.0,
        lineage: superblock.lineage.as_ref().map(|lineage| lineage.id.to_string()),
        ancestors: ancestors(superblock),
        sequence: superblock.sequence,
        block_bytes: superblock.block_bytes,
        sectors: superblock.disk_sectors,
        data_start: superblock.data_start.0,
        data_end: superblock.data_end.0,
        data_bytes: data * 512,
        used_bytes: (data - free) * 512,
        free_bytes: free * 512,
        largest_free_bytes: largest * 512,
        copies: copies.collect(),
        volumes: volumes(&decoded.extents),
    }
}

fn ancestors(superblock: &Superblock) -> Vec<AncestorReport> {
    let ancestors = superblock.lineage.iter().flat_map(|lineage| &lineage.ancestors);
    let report = |ancestor: &palisade_words::Ancestor| AncestorReport {
        generation: ancestor.generation.0,
        id: ancestor.id.to_string(),
    };
    ancestors.map(report).collect()
}

/// Free sectors in all and in the longest stretch. An extent owns every allocation unit that it touches.
fn free_space(superblock: &Superblock, extents: &[ExtentRecord]) -> (u64, u64) {
    let start = superblock.data_start.0;
    let unit = |lba: u64| (lba - start) / ALLOCATION_UNIT_SECTORS;
    let mut owned: Vec<(u64, u64)> = extents
        .iter()
        .map(|extent| (unit(extent.disk_lba.0), unit(extent.disk_end().0 - 1) + 1))
        .collect();
    owned.sort_unstable();
    let last = superblock.data_sectors() / ALLOCATION_UNIT_SECTORS;
    let (mut end, mut free, mut largest) = (0, 0, 0);
    for (from, to) in owned.into_iter().chain([(last, last)]) {
        let gap = from.saturating_sub(end);
        free += gap;
        largest = largest.max(gap);
        end = end.max(to);
    }
    (free * ALLOCATION_UNIT_SECTORS, largest * ALLOCATION_UNIT_SECTORS)
}

/// The extents by volume, in the order in which the volumes first appear.
fn volumes(extents: &[ExtentRecord]) -> Vec<VolumeReport> {
    let mut volumes: Vec<VolumeReport> = Vec::new();
    for extent in extents {
        let id = extent.volume.to_string();
        let here = ExtentReport {
            volume_lba: extent.volume_lba.0,
            disk_lba: extent.disk_lba.0,
            sectors: extent.sectors,
        };
        if let Some(volume) = volumes.iter_mut().find(|volume| volume.uuid == id) {
            volume.here_bytes += extent.sectors * 512;
            volume.extents.push(here);
            continue;
        }
        volumes.push(VolumeReport {
            name: extent.volume_name.to_string(),
            uuid: id,
            block_bytes: extent.block_bytes,
            size_bytes: extent.volume_sectors.saturating_mul(512),
            here_bytes: extent.sectors * 512,
            extents: vec![here],
        });
    }
    volumes
}
