//! One story told command by command: the same number gives the same command, so a cluster can be compared with what
//! it must be at its generation.

use palisade_model::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Generation, Name, Uuid};

fn name(prefix: &str, number: u64) -> Name {
    Name::new(format!("{prefix}{number}")).expect("a good name")
}

/// The command that leads to generation `number`, from 1.
pub fn command(number: u64) -> Command {
    match number {
        1 => Command::InitCluster(InitCluster {
            id: Uuid(1),
            node: name("n", 0),
            node_uuid: Uuid(2),
        }),
        2 => Command::AddDisk(AddDisk {
            name: name("d", 0),
            uuid: Uuid(3),
            node: name("n", 0),
            medium: Medium::File {
                path: "/disk".into(),
                bytes: 102 * UNIT * 512,
                created: true,
            },
            record: MediumRecord::default(),
            usage: Usage::Pooled,
            block_bytes: 512,
            sectors: 102 * UNIT,
            data_start: UNIT,
            data_end: 101 * UNIT,
            superblock_pending: false,
        }),
        _ => {
            let turn = (number - 3) / 3;
            match (number - 3) % 3 {
                0 => create(turn),
                1 => Command::GrowVolume(GrowVolume {
                    name: name("v", turn),
                    sectors: (turn % 4 + 2) * UNIT,
                    disk: None,
                    expected: None,
                    clears: false,
                }),
                _ if turn >= 9 => Command::DeleteVolume(DeleteVolume {
                    name: name("v", turn - 9),
                    expected: None,
                    clear: None,
                    detaches: false,
                }),
                _ => create(turn + 1_000_000),
            }
        }
    }
}

fn create(number: u64) -> Command {
    Command::CreateVolume(CreateVolume {
        name: name("v", number),
        uuid: Uuid(1000 + u128::from(number)),
        node: name("n", 0),
        disk: None,
        sectors: Some(UNIT + 8),
        block_bytes: None,
        clear: None,
        clears: false,
        clears_reused: false,
        clears_unknown_past: false,
    })
}

/// The cluster as it must be at each generation.
pub struct Story(Vec<Cluster>);

impl Story {
    pub fn new() -> Story {
        Story(vec![Cluster::empty()])
    }

    pub fn at(&mut self, generation: Generation) -> &Cluster {
        while self.0.len() as u64 <= generation.0 {
            let (next, _) = self.0[self.0.len() - 1]
                .apply(&command(self.0.len() as u64))
                .expect("the story goes on");
            self.0.push(next);
        }
        &self.0[generation.0 as usize]
    }
}
