//! What the stand-in finds on a medium: something on /dev/used, a disk with a volume on /dev/pooled, and nothing anywhere
//! else.

use palisade_api::{
    DiskCreate, DiskPreview, DiskRelocate, DiskRelocated, PartitionFound, PooledFound, Problem, ProblemKind,
    RelocatedDisk, VolumePart,
};

pub fn of(request: DiskCreate) -> DiskPreview {
    let is_used = request.medium.path() == Some("/dev/used");
    let refusal = (is_used && !request.force).then(|| {
        let message = "/dev/used holds a partition table (gpt), which would be lost";
        Problem::new(
            ProblemKind::Conflict,
            "disk_holds_data",
            message,
            "choose another disk",
        )
    });
    let found = |text: &str| -> Vec<String> { is_used.then(|| text.to_owned()).into_iter().collect() };
    let partition = is_used.then(|| PartitionFound {
        number: 1,
        name: "root".to_owned(),
        offset_bytes: 1 << 20,
        bytes: 8 << 30,
    });
    let palisade = (request.medium.path() == Some("/dev/pooled")).then(|| PooledFound {
        id: "old".to_owned(),
        uuid: "77".to_owned(),
        cluster: "0000".to_owned(),
        generation: 9,
        volumes: vec![VolumePart {
            id: "mail".to_owned(),
            uuid: "78".to_owned(),
            bytes: 1 << 30,
            database_bytes: None,
        }],
        damage: vec![],
    });
    DiskPreview {
        id: request.id,
        medium: request.medium,
        usage: request.usage,
        bytes: 1 << 40,
        block_bytes: request.block_bytes.unwrap_or(512),
        identity: None,
        found: found("a partition table (gpt)"),
        partitions: partition.into_iter().collect(),
        palisade,
        effects: found("a partition table (gpt) on /dev/used is lost"),
        notes: vec![],
        refusal,
    }
}

/// Where disks are said to be: of each of them nothing proves what it is.
pub fn placed(request: DiskRelocate) -> DiskRelocated {
    let disks = request.places.into_iter().map(|place| RelocatedDisk {
        id: place.id,
        before: String::new(),
        path: place.path,
        holds: Some("another medium".into()),
        unproved: true,
    });
    DiskRelocated {
        disks: disks.collect(),
    }
}
