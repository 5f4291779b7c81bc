//! A cluster of one node and one pooled disk, and what a medium carries, in memory.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "each test file uses its part, and ends by panicking"
)]

use palisade_model::{
    AddDisk, Cluster, Command, CreateVolume, InitCluster, Medium, MediumRecord, SuperblockState, Usage,
};
use palisade_volume::{Image, Known, OnRecord, carried, image, is_first_write_cut_off};
use palisade_wire::{DecodeError, Decoded, Geometry, SECTOR_4K_BYTES, Sector, decode, format};
use palisade_words::{Generation, Name, Uuid};
use std::collections::BTreeMap;
use std::convert::Infallible;

pub const SECTORS: u64 = 400_000;

/// The cluster's permanent id.
pub const CLUSTER: u128 = 1;

pub type Medium4k = BTreeMap<u64, Sector>;

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn then(cluster: &Cluster, command: Command) -> Cluster {
    cluster.apply(&command).unwrap().0
}

pub fn volume(text: &str) -> Command {
    Command::CreateVolume(CreateVolume {
        name: name(text),
        uuid: Uuid(text.len() as u128 + 100),
        node: name("n"),
        disk: Some(name("d")),
        sectors: Some(8_192),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    })
}

pub fn begun(disk: u128) -> Cluster {
    let geometry = Geometry::of(SECTORS).unwrap();
    let init = InitCluster {
        id: Uuid(CLUSTER),
        node: name("n"),
        node_uuid: Uuid(2),
    };
    let add = AddDisk {
        name: name("d"),
        uuid: Uuid(disk),
        node: name("n"),
        medium: Medium::File {
            path: "/d".to_owned(),
            bytes: SECTORS * 512,
            created: true,
        },
        record: MediumRecord::default(),
        usage: Usage::Pooled,
        block_bytes: 512,
        sectors: SECTORS,
        data_start: geometry.data_start.0,
        data_end: geometry.data_end.0,
        superblock_pending: false,
    };
    then(
        &then(&Cluster::empty(), Command::InitCluster(init)),
        Command::AddDisk(add),
    )
}

pub fn image_of(cluster: &Cluster) -> Image {
    image(cluster, &name("d")).unwrap()
}

/// What a disk carries that says what a cluster has on it.
pub fn written(cluster: &Cluster) -> Medium4k {
    let image = image_of(cluster);
    let update = format(&image.superblock, &image.extents).unwrap();
    let writes = update.phases.iter().flat_map(|phase| &phase.writes);
    writes.map(|write| (write.lba.0, write.bytes)).collect()
}

pub fn at(medium: &Medium4k, lba: u64) -> Sector {
    medium.get(&lba).copied().unwrap_or([0; SECTOR_4K_BYTES])
}

pub fn read(medium: &Medium4k) -> Result<Decoded, DecodeError> {
    decode(SECTORS, |lba| Ok::<_, Infallible>(at(medium, lba.0)))
}

pub fn told(medium: &Medium4k, cluster: &Cluster) -> Result<SuperblockState, DecodeError> {
    told_after(medium, cluster, None)
}

/// The same of a medium that was last known to carry a generation.
pub fn told_after(
    medium: &Medium4k,
    cluster: &Cluster,
    last: Option<Generation>,
) -> Result<SuperblockState, DecodeError> {
    told_knowing(medium, cluster, known(last))
}

pub fn known(last: Option<Generation>) -> Known {
    Known {
        last: last.map_or(OnRecord::Waived, OnRecord::At),
        ..Known::NOTHING
    }
}

/// The same of a medium of which something is known beside.
pub fn told_knowing(
    medium: &Medium4k,
    cluster: &Cluster,
    known: Known,
) -> Result<SuperblockState, DecodeError> {
    let disk = &cluster.disks[&name("d")];
    carried(&read(medium), &image_of(cluster), known.of(disk), || {
        is_first_write_cut_off(cluster, disk, SECTORS, |lba| {
            Ok::<_, Infallible>(at(medium, lba.0))
        })
    })
}
