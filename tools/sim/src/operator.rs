//! Invariant 10 in the model: whatever an operator asks for, and wherever the process ends, the cluster is what it
//! was or what it was to become; a refusal changes nothing; asking again after a crash does no harm; and the same
//! commands make the same cluster everywhere.

use crate::finding::{Findings, Invariant};
use crate::rng::{Rng, RunHash};
use palisade_block::Nanos;
use palisade_consensus::{Agreement, MemoryStore, ProposeError};
use palisade_model::{
    AddDisk, ChangeVolume, Cluster, Command, CreateAttachment, CreateVolume, DeleteAttachment, DeleteVolume,
    GrowVolume, InitCluster, Limits, Medium, MediumRecord, Name, RecordCleared, ReleaseDisk, RemoveDisk,
    Usage, Uuid, check,
};

/// Sectors of a disk's data area: where a pooled disk's begins, and how much.
const DATA_START: u64 = 8192;
const DATA_SECTORS: u64 = 16 * 8192;

/// Runs it.
pub fn run(mut rng: Rng, findings: &Findings) -> RunHash {
    let mut hash = RunHash::default();
    if let Err(what) = life(&mut rng, &mut hash) {
        findings.add(Invariant::AllOrNothing, Nanos(0), what);
    }
    hash
}

fn life(rng: &mut Rng, hash: &mut RunHash) -> Result<(), String> {
    let mut store = MemoryStore::new();
    let mut log: Vec<Command> = Vec::new();
    for _ in 0..rng.between(20, 120) {
        let command = draw(rng)?;
        let before = store.cluster();
        let answer = store.propose(command.clone());
        let after = store.cluster();
        hash.add([after.generation.0, u64::from(answer.is_ok())]);
        check(&after).map_err(|broken| format!("after {command:?}: {broken:?}"))?;
        match answer {
            Err(ProposeError::Refused(refusal)) if before != after => {
                return Err(format!(
                    "{command:?} was refused ({refusal:?}) and changed something"
                ));
            }
            Err(_) => {}
            Ok(_) if before == after => {}
            Ok(_) if after.generation <= before.generation => {
                return Err(format!("{command:?} changed the cluster and not its generation"));
            }
            Ok(_) => log.push(command.clone()),
        }
        if rng.one_in(6) {
            store = crash(rng, &mut log, &before, &after, &command)?;
        }
    }
    Ok(())
}

/// The process ends while the last command is under way: it is in the log or it is not. The operator, who has not
/// been told, asks again.
fn crash(
    rng: &mut Rng,
    log: &mut Vec<Command>,
    before: &Cluster,
    after: &Cluster,
    command: &Command,
) -> Result<MemoryStore, String> {
    if before != after && rng.one_in(2) {
        log.pop();
    }
    let mut found = Cluster::empty();
    for entry in log.iter() {
        found = found
            .apply(entry)
            .map_err(|refusal| format!("{entry:?} once done is refused: {refusal:?}"))?
            .0;
    }
    if found != *before && found != *after {
        return Err(format!(
            "after a crash in {command:?} the cluster is neither the old nor the new"
        ));
    }
    let was_done = found == *after;
    let store = MemoryStore::with(found);
    let repeated = store.propose(command.clone());
    if *store.cluster() != *after {
        return Err(format!(
            "{command:?} asked again (done before: {was_done}): {repeated:?}, another cluster"
        ));
    }
    if !was_done {
        log.push(command.clone());
    }
    Ok(store)
}

/// Some command over a few names, so that they meet.
fn draw(rng: &mut Rng) -> Result<Command, String> {
    let node = name("node", 0)?;
    let disk = name("disk", rng.below(3))?;
    let volume_number = rng.below(4);
    let volume = name("volume", volume_number)?;
    let attachment_number = rng.below(4);
    let attachment = name("attachment", attachment_number)?;
    let sectors = rng.between(1, 40) * 2048;
    Ok(match rng.below(14) {
        0 => Command::InitCluster(InitCluster {
            id: Uuid(1),
            node,
            node_uuid: Uuid(2),
        }),
        1 | 2 => {
            let path = format!("/disks/{}", disk.as_str());
            let bytes = (DATA_START + DATA_SECTORS + 8192) * 512;
            let uuid = Uuid(100 + u128::from(disk.as_str().bytes().last().unwrap_or(0)));
            Command::AddDisk(AddDisk {
                name: disk,
                uuid,
                node,
                medium: Medium::File {
                    path,
                    bytes,
                    created: true,
                },
                record: MediumRecord::default(),
                usage: Usage::Pooled,
                block_bytes: 512,
                sectors: bytes / 512,
                data_start: DATA_START,
                data_end: DATA_START + DATA_SECTORS,
                superblock_pending: false,
            })
        }
        3 => Command::RemoveDisk(RemoveDisk {
            name: disk,
            expected: None,
            releases: !rng.one_in(4),
        }),
        12 | 13 => Command::ReleaseDisk(ReleaseDisk {
            uuid: Uuid(100 + u128::from(disk.as_str().bytes().last().unwrap_or(0))),
            name: disk,
        }),
        4 | 5 => Command::CreateVolume(CreateVolume {
            name: volume,
            uuid: Uuid(1000 + u128::from(volume_number)),
            node,
            disk: rng.one_in(2).then_some(disk),
            sectors: Some(sectors),
            block_bytes: None,
            clear: rng.one_in(3).then_some(palisade_model::Clear::OnDelete),
            clears: true,
        }),
        6 => Command::GrowVolume(GrowVolume {
            name: volume,
            sectors,
            disk: None,
            expected: None,
            clears: true,
        }),
        7 => Command::DeleteVolume(DeleteVolume {
            name: volume,
            expected: None,
            clear: None,
            detaches: false,
        }),
        10 => Command::RecordCleared(RecordCleared {
            name: volume,
            uuid: Uuid(1000 + u128::from(volume_number)),
            sectors,
        }),
        11 => Command::ChangeVolume(ChangeVolume {
            name: volume,
            protected: Some(rng.one_in(4)),
            clear: rng.one_in(8).then_some(palisade_model::Clear::Never),
            expected: None,
        }),
        8 => Command::CreateAttachment(CreateAttachment {
            name: attachment,
            volume,
            node,
            socket: format!("/run/palisade/{attachment_number}.sock"),
            queues: 2,
            queue_size: 128,
            owner: None,
            group: None,
            mode: 0o660,
            read_only: rng.one_in(3),
            serial: None,
            limits: Limits::default(),
            write_cache: true,
        }),
        _ => Command::DeleteAttachment(DeleteAttachment {
            name: attachment,
            expected: None,
        }),
    })
}

fn name(kind: &str, number: u64) -> Result<Name, String> {
    Name::new(format!("{kind}-{number}")).map_err(|error| format!("{error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A scenario whose commands are all refused would prove nothing.
    #[test]
    fn commands_of_every_kind_succeed_often() {
        let mut done = std::collections::BTreeMap::new();
        for seed in 0..40 {
            let mut rng = Rng::new(seed);
            let store = MemoryStore::new();
            for _ in 0..100 {
                let command = draw(&mut rng).unwrap();
                let before = store.cluster();
                let kind = std::mem::discriminant(&command);
                if store.propose(command).is_ok() && before != store.cluster() {
                    *done.entry(format!("{kind:?}")).or_insert(0) += 1;
                }
            }
        }
        assert_eq!(done.len(), 11, "{done:?}");
        assert!(done.values().all(|times| *times >= 20), "{done:?}");
    }
}
