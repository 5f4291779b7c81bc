//! Disks as their superblocks tell of them.

use super::{disk, init, name, then, uuid_of};
use palisade_model::*;
use palisade_words::{Ancestor, Epoch, Generation, LineageId};

/// An extent: of which volume, its size, where in it, where on the disk, how long; in sectors.
pub type Told = (&'static str, u64, u64, u64, u64);

pub fn told(&(volume, volume_sectors, volume_lba, disk_lba, sectors): &Told) -> ImportedExtent {
    ImportedExtent {
        volume: uuid_of(volume),
        name: name(volume),
        volume_sectors,
        block_bytes: 512,
        volume_lba,
        disk_lba,
        sectors,
    }
}

pub fn found(text: &str, uuid: u128, extents: &[Told]) -> ImportedDisk {
    let point = |generation| Ancestor {
        generation: Generation(generation),
        id: LineageId(u128::from(generation)),
    };
    ImportedDisk {
        disk: disk(text, uuid),
        seen: OnMedium {
            point: point(40),
            epoch: Epoch(3),
            ancestors: vec![point(38), point(39)],
        },
        extents: extents.iter().map(told).collect(),
    }
}

pub fn import(disks: &[ImportedDisk]) -> Command {
    let (disks, cluster) = (disks.to_vec(), None);
    Command::ImportDisks(ImportDisks {
        disks,
        cluster,
        holds_clearings: false,
        regards_protection: false,
    })
}

pub fn begun() -> Cluster {
    then(&Cluster::empty(), init(1, "n", 2))
}

pub fn taken(cluster: &Cluster, disks: &[ImportedDisk]) -> Cluster {
    let next = then(cluster, import(disks));
    check(&next).unwrap();
    next
}

/// Where a volume lies: disk, first sector, sectors.
pub fn layout(cluster: &Cluster, text: &str) -> Vec<(String, u64, u64)> {
    let extents = cluster.volumes[&name(text)].all_extents();
    let told = |extent: &Extent| (extent.disk.to_string(), extent.disk_lba, extent.sectors);
    extents.iter().map(told).collect()
}
