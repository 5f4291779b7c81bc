//! A disk that leaves takes with it what its cluster has written, and nothing that another has.

#![cfg(test)]

use palisade_model::{
    AddDisk, Cluster, Command, CreateVolume, History, InitCluster, LineageId, Medium, MediumRecord, Usage,
    Uuid,
};
use palisade_volume::{Leaving, is_to_be_erased};
use palisade_wire::{DecodeError, Decoded, Lineage, Name, SECTOR_BYTES, Superblock, Update, erase, format};
use std::collections::BTreeMap;
use std::convert::Infallible;

const SECTORS: u64 = 200_000;
const DISK: u128 = 7;
const CLUSTER: u128 = 8;

type Sectors = BTreeMap<u64, [u8; SECTOR_BYTES]>;

fn superblock(disk: u128, id: Option<u128>) -> Superblock {
    let label = Name::new("d").unwrap();
    Superblock {
        generation: 5,
        lineage: id.map(|id| Lineage {
            id,
            ancestors: Vec::new(),
        }),
        ..Superblock::new(disk, CLUSTER, 9, label, 512, SECTORS).unwrap()
    }
}

fn formatted(superblock: &Superblock) -> (Sectors, Update) {
    let update = format(superblock, &[]).unwrap();
    let writes = update.phases.iter().flat_map(|phase| &phase.writes);
    let medium = writes.map(|write| (write.lba.0, write.bytes)).collect();
    (medium, update)
}

fn read(medium: &Sectors) -> Result<Decoded, DecodeError> {
    palisade_wire::decode(SECTORS, |lba| Ok::<_, Infallible>(at(medium, lba.0)))
}

fn at(medium: &Sectors, lba: u64) -> [u8; SECTOR_BYTES] {
    medium.get(&lba).copied().unwrap_or([0; SECTOR_BYTES])
}

/// The cluster knows the generations of these ids.
fn leaving(ids: &[u128], pending: bool) -> Leaving {
    Leaving {
        last: None,
        uuid: Uuid(DISK),
        cluster: Uuid(CLUSTER),
        history: history(ids),
        pending,
    }
}

/// The history of a disk that has changed once for each id.
fn history(ids: &[u128]) -> History {
    let name = |text: &str| palisade_model::Name::new(text).unwrap();
    let init = Command::InitCluster(InitCluster {
        id: Uuid(CLUSTER),
        node: name("n"),
        node_uuid: Uuid(9),
    });
    let add = Command::AddDisk(AddDisk {
        name: name("d"),
        uuid: Uuid(DISK),
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
        data_start: 8_192,
        data_end: 8_192 * 20,
        superblock_pending: false,
    });
    let volume = |number: usize| {
        Command::CreateVolume(CreateVolume {
            name: name(&format!("v{number}")),
            uuid: Uuid(100 + number as u128),
            node: name("n"),
            disk: Some(name("d")),
            sectors: Some(8),
            block_bytes: None,
            clear: None,
            clears: false,
            clears_reused: false,
        })
    };
    let then = |cluster: &Cluster, command: &Command| cluster.apply(command).unwrap().0;
    let mut cluster = then(&Cluster::empty(), &init);
    for (number, id) in ids.iter().enumerate() {
        let command = if number == 0 { add.clone() } else { volume(number) };
        cluster = then(&cluster, &command).known_as(LineageId(*id));
    }
    cluster
        .disks
        .get(&name("d"))
        .map_or_else(History::default, |disk| disk.history.clone())
}

fn goes(medium: &Sectors, leaving: &Leaving) -> bool {
    let sector = |lba: palisade_wire::Lba| Ok::<_, Infallible>(at(medium, lba.0));
    is_to_be_erased(&read(medium), leaving, SECTORS, sector).unwrap()
}

#[test]
fn what_the_cluster_knows_goes_and_what_it_does_not_know_stays() {
    let (ours, _) = formatted(&superblock(DISK, Some(50)));
    assert!(goes(&ours, &leaving(&[40, 50], false)), "the latest");
    assert!(goes(&ours, &leaving(&[50, 60], false)), "an earlier one");
    assert!(
        !goes(&ours, &leaving(&[40, 60], false)),
        "one that grew on elsewhere"
    );
    assert!(!goes(&ours, &leaving(&[], false)));
    let (other, _) = formatted(&superblock(70, Some(50)));
    assert!(!goes(&other, &leaving(&[50], false)), "another disk's");
    // From before there were lineages: known by the disk's id alone.
    let (plain, _) = formatted(&superblock(DISK, None));
    assert!(goes(&plain, &leaving(&[40], false)));
    let (plain, _) = formatted(&superblock(70, None));
    assert!(!goes(&plain, &leaving(&[40], false)));
    assert!(!goes(&Sectors::new(), &leaving(&[50], true)), "nothing");
}

#[test]
fn the_beginning_of_a_first_write_goes_while_that_is_still_to_come() {
    let (_, update) = formatted(&superblock(DISK, Some(50)));
    let mut half = Sectors::new();
    // All but the superblock at the head.
    let (_, before) = update.phases.split_last().unwrap();
    for phase in before {
        half.extend(phase.writes.iter().map(|write| (write.lba.0, write.bytes)));
    }
    let tail: Vec<u64> = before[before.len() - 1]
        .writes
        .iter()
        .map(|write| write.lba.0)
        .collect();
    // One of the two copies is torn, the other gone: nothing that can be decoded.
    half.remove(&tail[0]);
    if let Some(sector) = half.get_mut(&tail[1]) {
        sector[512..].fill(0);
    }
    assert!(read(&half).is_err());
    assert!(goes(&half, &leaving(&[50], true)));
    assert!(
        !goes(&half, &leaving(&[50], false)),
        "a superblock that was damaged by itself"
    );
}

#[test]
fn an_erasure_that_was_cut_off_is_gone_on_with() {
    let (whole, update) = formatted(&superblock(DISK, Some(50)));
    let phases = erase(SECTORS).unwrap();
    let mut medium = whole;
    let mut was_cut = 0;
    for write in phases.iter().flat_map(|phase| &phase.writes) {
        medium.insert(write.lba.0, write.bytes);
        let is_left = medium.values().any(|sector| sector[..8] == palisade_wire::MAGIC);
        if read(&medium).is_err() {
            was_cut += usize::from(is_left);
            assert_eq!(
                goes(&medium, &leaving(&[50], false)),
                is_left,
                "after {}",
                write.lba.0
            );
        }
    }
    assert!(was_cut > 0 || update.superblock.table.count == 0);
}
