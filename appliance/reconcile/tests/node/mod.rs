//! A simulated node: carries steps out, keeps media across restarts, and stops the test on a step that must not be.

use palisade_model::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_model::*;
use palisade_reconcile::*;
use std::collections::BTreeMap;

pub fn name(prefix: &str, number: u8) -> Name {
    Name::new(format!("{prefix}{number}")).expect("a good name")
}

/// What the node has, and what its media carry.
#[derive(Default)]
pub struct Node {
    pub observed: Observed,
    superblocks: BTreeMap<Uuid, Generation>,
}

impl Node {
    /// Plans once and carries all steps out, in the order that `turn` gives. True while there was something to do.
    pub fn round(&mut self, wanted: &Cluster, turn: usize, fails: &mut dyn FnMut(&Step) -> bool) -> bool {
        let mut steps = plan(wanted, &name("n", 0), &self.observed);
        let some = !steps.is_empty();
        if some {
            let by = turn % steps.len();
            steps.rotate_left(by);
        }
        for step in steps {
            if fails(&step) {
                self.observed.record_failure(&step, "the test said so".into());
            } else {
                self.take(wanted, &step);
            }
            self.invariants();
        }
        some
    }

    pub fn settle(&mut self, wanted: &Cluster) {
        for turn in 0..200 {
            self.observed.now_ms += 60_000;
            if !self.round(wanted, turn, &mut |_| false) {
                return;
            }
        }
        unreachable!("no end: {:?}", plan(wanted, &name("n", 0), &self.observed));
    }

    /// The daemon is gone and starts again: media keep what they carry.
    pub fn restart(&mut self, agreed: &Cluster) {
        self.observed = Observed {
            started: agreed.generation,
            ..Observed::default()
        };
    }

    fn take(&mut self, wanted: &Cluster, step: &Step) {
        let mut opened = Opened::default();
        let observed = &self.observed;
        match &step.action {
            Action::OpenDisk { disk } => {
                assert!(!observed.disks.contains_key(disk), "{step}: open already");
                let there = self.superblocks.get(&wanted.disks[disk].uuid);
                opened.superblock =
                    there.map_or(Superblock::Missing, |g| Superblock::Ours { generation: *g });
            }
            Action::CloseDisk { disk } => {
                let used = observed
                    .routes
                    .values()
                    .any(|r| r.extents.iter().any(|e| e.disk == *disk));
                assert!(!used, "{step}: a route leads there");
            }
            Action::WriteSuperblock { disk } => {
                let uuid = observed.disks[disk].disk.uuid;
                let before = self.superblocks.insert(uuid, step.generation);
                assert!(
                    before.is_none_or(|before| before < step.generation),
                    "{step}: goes back"
                );
            }
            Action::EraseSuperblock { disk } => {
                self.superblocks.remove(&observed.disks[disk].disk.uuid);
            }
            Action::SetRoute { volume } => {
                let before = observed.routes.get(volume);
                assert!(
                    before.is_none_or(|before| before.generation < step.generation),
                    "{step}: goes back"
                );
            }
            Action::ClearRoute { volume } => {
                let used = observed.sockets.values().any(|s| s.attachment.volume == *volume);
                assert!(!used, "{step}: a socket is open over it");
            }
            Action::OfferSocket { attachment } | Action::ReopenSocket { attachment } => {
                let before = observed.sockets.get(attachment);
                let newer = before.is_some_and(|before| before.attachment.revision > step.generation);
                assert!(!newer, "{step}: goes back");
            }
            _ => {}
        }
        self.observed.record(wanted, step, opened);
    }

    /// What must hold between any two steps.
    fn invariants(&self) {
        let Observed {
            disks,
            routes,
            sockets,
            ..
        } = &self.observed;
        for (name, socket) in sockets {
            let at = &socket.attachment;
            assert!(routes.contains_key(&at.volume), "socket {name} without a route");
            let beside =
                |(other, s): (&Name, &ObservedSocket)| other != name && s.attachment.volume == at.volume;
            assert!(
                at.read_only || !sockets.iter().any(beside),
                "{name} writes beside another"
            );
            let same_path =
                |(other, s): (&Name, &ObservedSocket)| other != name && s.attachment.socket == at.socket;
            assert!(!sockets.iter().any(same_path), "{name} shares its path");
        }
        for (name, route) in routes {
            for extent in &route.extents {
                let disk = disks.get(&extent.disk).expect("a route leads to an open disk");
                assert!(
                    extent.disk_lba + extent.sectors <= disk.disk.data_end,
                    "route {name} beyond its disk"
                );
                if disk.disk.has_superblock() {
                    let written = self.superblocks.get(&disk.disk.uuid).copied();
                    assert!(written >= Some(route.generation), "route {name} is not on record");
                }
                for (other, theirs) in routes.iter().filter(|(other, _)| *other != name) {
                    let clash = |e: &Extent| {
                        e.disk == extent.disk
                            && e.disk_lba < extent.disk_lba + extent.sectors
                            && extent.disk_lba < e.disk_lba + e.sectors
                    };
                    assert!(
                        !theirs.extents.iter().any(clash),
                        "routes {name} and {other} share sectors"
                    );
                }
            }
        }
    }

    /// Whether everything wanted is there and nothing else.
    pub fn is_as_wanted(&self, wanted: &Cluster) {
        let Observed {
            disks,
            routes,
            sockets,
            ..
        } = &self.observed;
        let revisions: Vec<_> = disks
            .iter()
            .map(|(name, open)| (name, &open.disk.uuid, open.disk.sectors))
            .collect();
        let agreed: Vec<_> = wanted
            .disks
            .iter()
            .map(|(name, disk)| (name, &disk.uuid, disk.sectors))
            .collect();
        assert_eq!(revisions, agreed);
        for (name, disk) in wanted.disks.iter().filter(|(_, disk)| disk.has_superblock()) {
            let generation = disk.superblock_generation();
            assert_eq!(disks[name].superblock, Superblock::Ours { generation }, "{name}");
        }
        let attached = wanted
            .volumes
            .iter()
            .filter(|(name, _)| wanted.attachments_of(name).next().is_some());
        let agreed: Vec<_> = attached
            .map(|(name, v)| (name, v.uuid, v.revision, v.extents()))
            .collect();
        let in_use: Vec<_> = routes
            .iter()
            .map(|(name, r)| (name, r.uuid, r.generation, &*r.extents))
            .collect();
        assert_eq!(in_use, agreed);
        assert!(sockets.keys().eq(wanted.attachments.keys()));
        for (name, socket) in sockets {
            let attachment = &wanted.attachments[name];
            let same = Attachment {
                revision: attachment.revision,
                ..socket.attachment.clone()
            };
            assert_eq!(same, *attachment);
            assert_eq!(socket.sectors, wanted.volumes[&attachment.volume].sectors);
        }
    }
}

pub fn begin() -> Cluster {
    let init = InitCluster {
        id: Uuid(1),
        node: name("n", 0),
        node_uuid: Uuid(2),
    };
    Cluster::empty()
        .apply(&Command::InitCluster(init))
        .expect("a beginning")
        .0
}

/// Applies an operator's wish, told in five small numbers; one that is refused leaves the cluster as it is. `serial`
/// never comes again, for uuids.
pub fn apply(cluster: &Cluster, serial: u128, (kind, a, b, c, flag): (u8, u8, u8, u8, bool)) -> Cluster {
    let expected = None;
    let units = u64::from(c) + 1;
    let command = match kind {
        0 | 1 => Command::AddDisk(disk(a, serial, units, flag)),
        2 => Command::RemoveDisk(RemoveDisk {
            name: name("d", a),
            expected,
        }),
        3 => {
            let sectors = (units + 8) * UNIT;
            let pooled = cluster
                .disks
                .get(&name("d", a))
                .is_some_and(|d| d.usage == Usage::Pooled);
            let data_end = if pooled { sectors - UNIT } else { sectors };
            Command::GrowDisk(GrowDisk {
                name: name("d", a),
                sectors,
                data_end,
                expected,
            })
        }
        4 | 5 => Command::CreateVolume(CreateVolume {
            name: name("v", b),
            uuid: Uuid(serial),
            node: name("n", 0),
            disk: flag.then(|| name("d", a)),
            sectors: Some(units * UNIT / 2),
            block_bytes: None,
        }),
        6 => Command::GrowVolume(GrowVolume {
            name: name("v", b),
            sectors: (units + 1) * UNIT,
            disk: flag.then(|| name("d", a)),
            expected,
        }),
        7 => Command::DeleteVolume(DeleteVolume {
            name: name("v", b),
            expected,
        }),
        8 | 9 => Command::CreateAttachment(CreateAttachment {
            name: name("a", b),
            volume: name("v", c % 4),
            node: name("n", 0),
            socket: format!("/run/{a}.sock"),
            queues: 1,
            queue_size: 256,
            owner: None,
            group: None,
            mode: 0o600,
            read_only: flag,
            serial: None,
            limits: Limits::default(),
            write_cache: true,
        }),
        10 => {
            let change = ChangeAttachment::of(name("a", b));
            Command::ChangeAttachment(match c {
                0 => ChangeAttachment {
                    mode: Some(0o660),
                    ..change
                },
                1 => ChangeAttachment {
                    queues: Some(u16::from(a) + 1),
                    ..change
                },
                2 => ChangeAttachment {
                    limits: Some(Limits {
                        iops: a.into(),
                        ..Limits::default()
                    }),
                    ..change
                },
                _ => ChangeAttachment {
                    read_only: Some(flag),
                    ..change
                },
            })
        }
        _ => Command::DeleteAttachment(DeleteAttachment {
            name: name("a", b),
            expected,
        }),
    };
    cluster
        .apply(&command)
        .map_or_else(|_| cluster.clone(), |(next, _)| next)
}

fn disk(number: u8, serial: u128, units: u64, pooled: bool) -> AddDisk {
    let sectors = (units + 2) * UNIT;
    let (usage, data_start, data_end) = if pooled {
        (Usage::Pooled, UNIT, sectors - UNIT)
    } else {
        (Usage::Whole, 0, sectors)
    };
    let bytes = sectors * 512;
    let medium = match units % 3 {
        0 => Medium::Memory { bytes },
        _ => Medium::File {
            path: format!("/disks/{}", units % 2),
            bytes,
            created: true,
        },
    };
    AddDisk {
        name: name("d", number),
        uuid: Uuid(serial),
        node: name("n", 0),
        medium,
        record: MediumRecord::default(),
        usage,
        block_bytes: 512,
        sectors,
        data_start,
        data_end,
    }
}
