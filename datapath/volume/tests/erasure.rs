//! A disk that leaves takes with it what its cluster has written, and nothing that another has.

#![cfg(test)]

mod stand;

use palisade_model::{Cluster, History};
use palisade_volume::{Leaving, OnRecord, is_to_be_erased};
use palisade_wire::{Label, Lineage, Superblock, Update, erase, format};
use palisade_words::{Generation, LineageId, Uuid};
use stand::{CLUSTER, Medium4k, SECTORS, at, begun, name, read, then, volume};
use std::convert::Infallible;

const DISK: u128 = 7;

fn superblock(disk: u128, id: Option<u128>) -> Superblock {
    let label = Label::new("d").unwrap();
    Superblock {
        generation: Generation(5),
        lineage: id.map(|id| Lineage {
            id: LineageId(id),
            ancestors: Vec::new(),
        }),
        ..Superblock::new(Uuid(disk), Uuid(CLUSTER), Uuid(9), label, 512, SECTORS).unwrap()
    }
}

fn formatted(superblock: &Superblock) -> (Medium4k, Update) {
    let update = format(superblock, &[]).unwrap();
    let writes = update.phases.iter().flat_map(|phase| &phase.writes);
    let medium = writes.map(|write| (write.lba.0, write.bytes)).collect();
    (medium, update)
}

/// The cluster knows the generations of these ids.
fn leaving(ids: &[u128], pending: bool) -> Leaving {
    Leaving {
        on_record: OnRecord::Waived,
        uuid: Uuid(DISK),
        cluster: Uuid(CLUSTER),
        history: history(ids),
        pending,
    }
}

/// The history of a disk that has changed once for each id.
fn history(ids: &[u128]) -> History {
    let mut cluster = Cluster::empty();
    for (number, id) in ids.iter().enumerate() {
        let next = match number {
            0 => begun(DISK),
            // Each of another length, and so another volume.
            _ => then(&cluster, volume(&"v".repeat(number))),
        };
        cluster = next.known_as(LineageId(*id));
    }
    let disk = cluster.disks.get(&name("d"));
    disk.map_or_else(History::default, |disk| disk.history.clone())
}

fn goes(medium: &Medium4k, leaving: &Leaving) -> bool {
    let sector = |lba: palisade_words::Lba| Ok::<_, Infallible>(at(medium, lba.0));
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
    assert!(!goes(&Medium4k::new(), &leaving(&[50], true)), "nothing");
}

#[test]
fn the_beginning_of_a_first_write_goes_while_that_is_still_to_come() {
    let (_, update) = formatted(&superblock(DISK, Some(50)));
    let mut half = Medium4k::new();
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
