//! What a pooled disk should say about itself, and how that compares with what it says.

use palisade_model::{Cluster, Name};
use palisade_wire::{Decoded, ExtentRecord, ExtentRole, GeometryError, Lba, NameError, Superblock};
use std::fmt;

/// What a disk should say. To be written with `palisade_wire::format` or `palisade_wire::update`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    /// The superblock; sequence and table are filled in when it is encoded.
    pub superblock: Superblock,
    /// All extents on the disk, by volume name, in the volume's order.
    pub extents: Vec<ExtentRecord>,
}

/// Why there is no image of a disk.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ImageError {
    /// The cluster has no such disk.
    NoDisk {
        /// Which.
        disk: Name,
    },
    /// The cluster has no such node as reaches the disk.
    NoNode {
        /// Which.
        node: Name,
    },
    /// The disk keeps no superblock: whole, or gone with the daemon.
    NotPooled {
        /// Which.
        disk: Name,
    },
    /// The disk has no room for our areas.
    Geometry(GeometryError),
    /// The model's data area is not the one that follows from the disk's size. In sectors.
    DataArea {
        /// In the model: start and end.
        model: (u64, u64),
        /// By the size of the disk: start and end.
        disk: (u64, u64),
    },
    /// A name does not fit its place on the disk.
    Name(NameError),
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImageError::NoDisk { disk } => write!(f, "there is no disk {disk}"),
            ImageError::NoNode { node } => write!(f, "there is no node {node}"),
            ImageError::NotPooled { disk } => write!(f, "disk {disk} keeps no superblock"),
            ImageError::Geometry(error) => error.fmt(f),
            ImageError::DataArea { model, disk } => write!(
                f,
                "the data area agreed on is {}..{}, that of the disk {}..{}",
                model.0, model.1, disk.0, disk.1
            ),
            ImageError::Name(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ImageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ImageError::Geometry(error) => Some(error),
            ImageError::Name(error) => Some(error),
            _ => None,
        }
    }
}

/// How what a disk says relates to what it should say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Standing {
    /// The same.
    InForce,
    /// Older: an update is due.
    Behind,
    /// Newer than the cluster knows: the cluster's database is an old one. Nothing may be written.
    Ahead,
    /// Of the same generation, yet different. Nothing may be written.
    Differs,
    /// Another disk than the one looked for.
    OtherDisk,
    /// The disk of another cluster.
    OtherCluster,
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
    let (id, cluster_id, owner) = (found.uuid.0, cluster.id.0, node.uuid.0);
    let mut superblock = Superblock::new(id, cluster_id, owner, label, found.block_bytes, found.sectors)
        .map_err(ImageError::Geometry)?;
    superblock.generation = found.superblock_generation().0;
    superblock.epoch = cluster.epoch.0;
    let agreed = (found.data_start, found.data_end);
    let laid_out = (superblock.data_start.0, superblock.data_end.0);
    if agreed != laid_out {
        return Err(ImageError::DataArea {
            model: agreed,
            disk: laid_out,
        });
    }
    let mut extents = Vec::new();
    for (name, volume) in &cluster.volumes {
        let volume_name = name_on_disk(name)?;
        let mut volume_lba = 0u64;
        for extent in volume.extents() {
            if extent.disk == *disk {
                extents.push(ExtentRecord {
                    volume: volume.uuid.0,
                    volume_name: volume_name.clone(),
                    role: ExtentRole::Linear,
                    part: 0,
                    block_bytes: volume.block_bytes,
                    volume_lba: Lba(volume_lba),
                    disk_lba: Lba(extent.disk_lba),
                    sectors: extent.sectors,
                    volume_sectors: volume.sectors,
                });
            }
            volume_lba = volume_lba.saturating_add(extent.sectors);
        }
    }
    Ok(Image { superblock, extents })
}

/// Compares what a disk says with what it should say.
pub fn standing(found: &Decoded, wanted: &Image) -> Standing {
    let (is, should) = (&found.superblock, &wanted.superblock);
    if is.disk != should.disk {
        return Standing::OtherDisk;
    }
    if is.cluster != should.cluster {
        return Standing::OtherCluster;
    }
    let (is_at, should_be_at) = ((is.epoch, is.generation), (should.epoch, should.generation));
    if is_at.0 > should_be_at.0 || is_at.1 > should_be_at.1 {
        return Standing::Ahead;
    }
    if is_at != should_be_at {
        return Standing::Behind;
    }
    let numbered = Superblock {
        sequence: is.sequence,
        table: is.table,
        ..should.clone()
    };
    if numbered == *is && found.extents == wanted.extents {
        Standing::InForce
    } else {
        Standing::Differs
    }
}

fn name_on_disk(name: &Name) -> Result<palisade_wire::Name, ImageError> {
    palisade_wire::Name::new(name.as_str()).map_err(ImageError::Name)
}
