//! What a pooled disk should say about itself.

use palisade_model::{Cluster, Disk, Extent, Volume};
use palisade_wire::{
    ANCESTORS_MAX, ExtentRecord, ExtentRole, Geometry, GeometryError, LabelError, Lineage, Superblock,
};
use palisade_words::{Lba, Name, Uuid};

/// What a disk should say. To be written with `palisade_wire::format` or `palisade_wire::update`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// The superblock; sequence and table are filled in when it is encoded.
    pub superblock: Superblock,
    /// All extents on the disk, by volume name, in the volume's order.
    pub extents: Vec<ExtentRecord>,
}

/// Why there is no image of a disk.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImageError {
    /// The cluster has no such disk.
    #[error("there is no disk {disk}")]
    NoDisk {
        /// Which.
        disk: Name,
    },
    /// The cluster has no such node as reaches the disk.
    #[error("there is no node {node}")]
    NoNode {
        /// Which.
        node: Name,
    },
    /// The disk keeps no superblock: whole, or gone with the daemon.
    #[error("disk {disk} keeps no superblock")]
    NotPooled {
        /// Which.
        disk: Name,
    },
    /// The disk has no room for our areas.
    #[error("{0}")]
    Geometry(#[source] GeometryError),
    /// The model's data area is not the one that follows from the disk's size. In sectors.
    #[error(
        "the data area agreed on is {}..{}, that of the disk {}..{}",
        .model.0,
        .model.1,
        .disk.0,
        .disk.1
    )]
    DataArea {
        /// In the model: start and end.
        model: (u64, u64),
        /// By the size of the disk: start and end.
        disk: (u64, u64),
    },
    /// A name does not fit its place on the disk.
    #[error("{0}")]
    Name(#[source] LabelError),
}

/// What `disk` should say according to the cluster.
pub fn image(cluster: &Cluster, disk: &Name) -> Result<Image, ImageError> {
    let found = cluster
        .disks
        .get(disk)
        .ok_or_else(|| ImageError::NoDisk { disk: disk.clone() })?;
    let node = cluster.nodes.get(&found.node).ok_or_else(|| ImageError::NoNode {
        node: found.node.clone(),
    })?;
    if !found.has_superblock() {
        return Err(ImageError::NotPooled { disk: disk.clone() });
    }
    let label = name_on_disk(disk)?;
    let (id, cluster_id, owner) = (found.uuid, cluster.id, node.uuid);
    let mut superblock = Superblock::new(id, cluster_id, owner, label, found.block_bytes, found.sectors)
        .map_err(ImageError::Geometry)?;
    superblock.generation = found.superblock_generation();
    superblock.epoch = cluster.epoch;
    superblock.lineage = lineage(found);
    // A disk keeps the place of its data for ever, wherever a new one of its size would have it.
    let geometry = Geometry::of(found.sectors).map_err(ImageError::Geometry)?;
    if let Some(geometry) = geometry.starting_at(Lba(found.data_start)) {
        superblock.data_start = geometry.data_start;
    }
    let agreed = (found.data_start, found.data_end);
    let laid_out = (superblock.data_start.0, superblock.data_end.0);
    if agreed != laid_out {
        return Err(ImageError::DataArea {
            model: agreed,
            disk: laid_out,
        });
    }
    // What is still to be cleared is nobody's yet, nor what a deleted volume only keeps until it is cleared: were the
    // database lost, whoever brings the disk back must not take that for content.
    let extents = records(cluster, disk, |volume| {
        (volume.usable_extents(), volume.usable_sectors())
    })?;
    Ok(Image { superblock, extents })
}

/// Everything that lies on a disk as it is agreed on, also what is not clear yet and so in no image: what an operator would
/// lose who takes the side of the disk.
///
/// # Errors
/// A volume's name does not fit the records of a disk.
pub fn agreed(cluster: &Cluster, disk: &Name) -> Result<Vec<ExtentRecord>, ImageError> {
    records(cluster, disk, |volume| match volume.deleting {
        true => (Vec::new(), 0),
        false => (volume.extents_between(0, volume.sectors), volume.sectors),
    })
}

/// The records of what lies on a disk; `of` gives the pieces of a volume that count, and their sectors in all.
fn records(
    cluster: &Cluster,
    disk: &Name,
    of: impl Fn(&Volume) -> (Vec<Extent>, u64),
) -> Result<Vec<ExtentRecord>, ImageError> {
    let mut extents = Vec::new();
    for (name, volume) in &cluster.volumes {
        let mut volume_lba = 0u64;
        let (pieces, sectors) = of(volume);
        for extent in &pieces {
            if extent.disk == *disk {
                extents.push(record(
                    name,
                    volume.uuid,
                    sectors,
                    volume.block_bytes,
                    volume_lba,
                    extent,
                )?);
            }
            volume_lba = volume_lba.saturating_add(extent.sectors);
        }
    }
    // What is here of volumes that are not whole is nobody else's either.
    for (uuid, fragment, piece) in cluster.fragments_on(disk) {
        let (sectors, block_bytes) = (fragment.sectors, fragment.block_bytes);
        extents.push(record(
            &fragment.name,
            *uuid,
            sectors,
            block_bytes,
            piece.volume_lba,
            &piece.extent,
        )?);
    }
    Ok(extents)
}

/// Where the disk's configuration comes from; `None` in a database from before there were lineages.
fn lineage(disk: &Disk) -> Option<Lineage> {
    let mut newest_first = disk.history.iter().rev();
    let id = newest_first.next()?.id;
    let ancestors = newest_first.take(ANCESTORS_MAX).copied();
    Some(Lineage {
        id,
        ancestors: ancestors.collect(),
    })
}

fn record(
    name: &Name,
    volume: Uuid,
    volume_sectors: u64,
    block_bytes: u32,
    volume_lba: u64,
    extent: &Extent,
) -> Result<ExtentRecord, ImageError> {
    Ok(ExtentRecord {
        volume,
        volume_name: name_on_disk(name)?,
        role: ExtentRole::Linear,
        part: 0,
        block_bytes,
        volume_lba: Lba(volume_lba),
        disk_lba: Lba(extent.disk_lba),
        sectors: extent.sectors,
        volume_sectors,
    })
}

fn name_on_disk(name: &Name) -> Result<palisade_wire::Label, ImageError> {
    palisade_wire::Label::new(name.as_str()).map_err(ImageError::Name)
}
