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
        // What is still to be cleared is nobody's yet, nor what a deleted volume only keeps until it is cleared: were the
        // database lost, whoever brings the disk back must not take that for content.
        for extent in &volume.usable_extents() {
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
                    volume_sectors: volume.usable_sectors(),
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

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_model::{
        AddDisk, Command, CreateVolume, GrowVolume, InitCluster, Medium, MediumRecord, Usage, Uuid,
    };
    use palisade_wire::{Geometry, SECTOR_BYTES, Update};
    use std::collections::BTreeMap;

    const SECTORS: u64 = 400_000;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn volume(text: &str, sectors: u64) -> Command {
        let (disk, node) = (Some(name("pool")), name("n1"));
        let uuid = Uuid(sectors.into());
        Command::CreateVolume(CreateVolume {
            name: name(text),
            uuid,
            node,
            disk,
            sectors: Some(sectors),
            block_bytes: None,
            clear: None,
            clears: false,
        })
    }

    fn cluster(more: &[Command]) -> Cluster {
        let geometry = Geometry::of(SECTORS).unwrap();
        let init = InitCluster {
            id: Uuid(1),
            node: name("n1"),
            node_uuid: Uuid(2),
        };
        let disk = AddDisk {
            name: name("pool"),
            uuid: Uuid(3),
            node: name("n1"),
            medium: Medium::File {
                path: "/srv/pool".to_owned(),
                bytes: SECTORS * 512,
                created: true,
            },
            record: MediumRecord::default(),
            usage: Usage::Pooled,
            block_bytes: 512,
            sectors: SECTORS,
            data_start: geometry.data_start.0,
            data_end: geometry.data_end.0,
        };
        let whole = AddDisk {
            name: name("whole"),
            uuid: Uuid(4),
            usage: Usage::Whole,
            data_start: 0,
            data_end: SECTORS,
            medium: Medium::File {
                path: "/srv/whole".to_owned(),
                bytes: SECTORS * 512,
                created: true,
            },
            ..disk.clone()
        };
        let first = [
            Command::InitCluster(init),
            Command::AddDisk(disk),
            Command::AddDisk(whole),
        ];
        first
            .iter()
            .chain(more)
            .fold(Cluster::empty(), |cluster, command| {
                cluster.apply(command).unwrap().0
            })
    }

    /// What the disk says once an update has been written to it.
    fn written(update: &Update) -> Decoded {
        let sectors: BTreeMap<u64, [u8; SECTOR_BYTES]> = update
            .phases
            .iter()
            .flat_map(|phase| &phase.writes)
            .map(|write| (write.lba.0, write.bytes))
            .collect();
        palisade_wire::decode(SECTORS, |lba| sectors.get(&lba.0).copied().ok_or("not written")).unwrap()
    }

    #[test]
    fn a_disk_says_what_the_cluster_has_put_on_it() {
        let grow = GrowVolume {
            name: name("a"),
            sectors: 20_000,
            disk: None,
            expected: None,
            clears: false,
        };
        let cluster = cluster(&[volume("a", 10_000), volume("b", 8_192), Command::GrowVolume(grow)]);
        let image = image(&cluster, &name("pool")).unwrap();
        let told: Vec<_> = image
            .extents
            .iter()
            .map(|extent| {
                (
                    extent.volume_name.as_str(),
                    extent.volume_lba.0,
                    extent.disk_lba.0,
                    extent.sectors,
                    extent.volume_sectors,
                )
            })
            .collect();
        let b = ("b", 0, 8192 * 3, 8192, 8192);
        assert_eq!(
            told,
            [
                ("a", 0, 8192, 16_384, 20_000),
                ("a", 16_384, 8192 * 4, 3_616, 20_000),
                b
            ]
        );
        let (superblock, disk) = (&image.superblock, &cluster.disks[&name("pool")]);
        assert_eq!((superblock.disk, superblock.cluster, superblock.owner), (3, 1, 2));
        assert_eq!(superblock.generation, disk.superblock_generation().0);
        assert_eq!(
            standing(
                &written(&palisade_wire::format(superblock, &image.extents).unwrap()),
                &image
            ),
            Standing::InForce
        );
    }

    #[test]
    fn what_is_still_to_be_cleared_is_not_on_record() {
        let clears = |command| match command {
            Command::CreateVolume(create) => Command::CreateVolume(CreateVolume {
                clears: true,
                ..create
            }),
            other => other,
        };
        let recorded = |sectors| {
            Command::RecordCleared(palisade_model::RecordCleared {
                name: name("a"),
                uuid: Uuid(10_000),
                sectors,
            })
        };
        let told = |more: &[Command]| {
            let image = image(&cluster(more), &name("pool")).unwrap();
            image
                .extents
                .iter()
                .map(|extent| extent.volume_sectors)
                .collect::<Vec<_>>()
        };
        let create = clears(volume("a", 10_000));
        assert_eq!(told(std::slice::from_ref(&create)), [0u64; 0]);
        assert_eq!(told(&[create.clone(), recorded(5_000)]), [0u64; 0]);
        assert_eq!(told(&[create.clone(), recorded(10_000)]), [10_000]);
        let grow = Command::GrowVolume(GrowVolume {
            name: name("a"),
            sectors: 20_000,
            disk: None,
            expected: None,
            clears: true,
        });
        assert_eq!(told(&[create.clone(), recorded(10_000), grow]), [10_000]);
        let delete = Command::DeleteVolume(palisade_model::DeleteVolume {
            name: name("a"),
            expected: None,
            clear: Some(true),
            detaches: false,
        });
        assert_eq!(told(&[create, recorded(10_000), delete]), [0u64; 0]);
    }

    #[test]
    fn older_newer_and_foreign_disks_are_told_apart() {
        let (old, new) = (cluster(&[]), cluster(&[volume("a", 10_000)]));
        let [old, new] = [old, new].map(|cluster| image(&cluster, &name("pool")).unwrap());
        let found = written(&palisade_wire::format(&old.superblock, &old.extents).unwrap());
        assert_eq!(standing(&found, &old), Standing::InForce);
        assert_eq!(standing(&found, &new), Standing::Behind);
        let newer = written(&palisade_wire::format(&new.superblock, &new.extents).unwrap());
        assert_eq!(standing(&newer, &old), Standing::Ahead);
        let with = |change: fn(&mut Image)| {
            let mut wanted = old.clone();
            change(&mut wanted);
            standing(&found, &wanted)
        };
        assert_eq!(with(|wanted| wanted.superblock.disk = 9), Standing::OtherDisk);
        assert_eq!(
            with(|wanted| wanted.superblock.cluster = 9),
            Standing::OtherCluster
        );
        assert_eq!(
            with(|wanted| wanted.superblock.block_bytes = 4096),
            Standing::Differs
        );
        assert_eq!(with(|wanted| wanted.superblock.epoch += 1), Standing::Behind);
    }

    #[test]
    fn disks_without_a_superblock_have_no_image() {
        let cluster = cluster(&[]);
        assert_eq!(
            image(&cluster, &name("whole")),
            Err(ImageError::NotPooled { disk: name("whole") })
        );
        assert_eq!(
            image(&cluster, &name("none")),
            Err(ImageError::NoDisk { disk: name("none") })
        );
        let mut moved = cluster;
        moved.disks.get_mut(&name("pool")).unwrap().data_end -= 8192;
        assert!(matches!(
            image(&moved, &name("pool")),
            Err(ImageError::DataArea { .. })
        ));
    }
}
