#![allow(dead_code, reason = "not every test that includes this file uses all of it")]

//! A simulated node: carries steps out, keeps media across restarts, and stops the test on a step that must not be.

use palisade_model::*;
use palisade_reconcile::*;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS as UNIT;
use palisade_words::{Generation, Name, Uuid};
use std::collections::{BTreeMap, BTreeSet};

pub fn name(prefix: &str, number: u8) -> Name {
    Name::new(format!("{prefix}{number}")).expect("a good name")
}

/// What the node has, and what its media carry.
#[derive(Default)]
pub struct Node {
    pub observed: Observed,
    superblocks: BTreeMap<Uuid, Generation>,
    /// What lies under a disk's path in place of its medium.
    pub strange: BTreeMap<Uuid, SuperblockState>,
    /// Clearings that write zeros, in the background.
    running: Vec<Running>,
    /// Who wrote a grain of a medium last; absent: it reads as zeros.
    pub content: BTreeMap<(String, u64), Uuid>,
}

/// The grain at which content is kept, in sectors: all sizes here are whole grains.
pub const GRAIN: u64 = UNIT / 2;

/// A clearing as it is carried out.
struct Running {
    step: Step,
    volume: Name,
    uuid: Uuid,
    /// The volume's sector at which it has begun.
    start: u64,
    /// Sectors of the volume up to which it has come.
    at: u64,
    /// Where zeros are still to be written.
    extents: Vec<Extent>,
    stopped: bool,
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

    /// Lets clearings go on by a few grains each and tells what they have done; `bits` say how far, and whether the
    /// record is made or the node looks away. True while there are some.
    pub fn work(&mut self, cluster: &mut Cluster, bits: u64) -> bool {
        let some = !self.running.is_empty();
        for (number, mut running) in std::mem::take(&mut self.running).into_iter().enumerate() {
            let bits = bits.rotate_right(7 * number as u32);
            for _ in 0..=bits % 3 {
                self.zero_a_grain(&mut running);
            }
            if running.at.is_multiple_of(GRAIN) && (bits & 8 == 0 || running.extents.is_empty()) {
                let record = Command::RecordCleared(RecordCleared {
                    name: running.volume.clone(),
                    uuid: running.uuid,
                    sectors: running.at,
                    start: running.start,
                });
                if let Ok((next, _)) = cluster.apply(&record) {
                    *cluster = next;
                }
            }
            match running.extents.is_empty() || running.stopped {
                true => self
                    .observed
                    .record(cluster, &running.step, StepOutcome::default()),
                false => self.running.push(running),
            }
            self.invariants();
        }
        some
    }

    fn zero_a_grain(&mut self, running: &mut Running) {
        let Some(first) = running.extents.first_mut() else {
            return;
        };
        let medium = medium_of(&self.observed.disks[&first.disk].disk);
        self.content.remove(&(medium, first.disk_lba / GRAIN));
        (first.disk_lba, first.sectors) = (first.disk_lba + GRAIN, first.sectors - GRAIN);
        running.at += GRAIN;
        if first.sectors == 0 {
            running.extents.remove(0);
        }
    }

    /// Every guest reads what it can reach, and then writes all of it. `careless` are volumes whose operator wants what
    /// was there.
    pub fn guests_read_and_write(&mut self, careless: &BTreeSet<Uuid>) {
        for socket in self.observed.sockets.values() {
            let route = &self.observed.routes[&socket.attachment.volume];
            for extent in &route.extents {
                let medium = medium_of(&self.observed.disks[&extent.disk].disk);
                for grain in extent.disk_lba / GRAIN..(extent.disk_lba + extent.sectors) / GRAIN {
                    let writer = self.content.insert((medium.clone(), grain), route.uuid);
                    let own = writer.is_none_or(|writer| writer == route.uuid);
                    let volume = &socket.attachment.volume;
                    assert!(own || careless.contains(&route.uuid), "{volume} reads {writer:?}");
                }
            }
        }
    }

    /// As [`Node::settle`], with all that is to be cleared.
    pub fn settle_and_clear(&mut self, cluster: &mut Cluster) {
        for turn in 0..500u64 {
            self.observed.now_ms += 60_000;
            let stepped = self.round(cluster, turn as usize, &mut |_| false);
            if !self.work(cluster, turn) && !stepped {
                return;
            }
        }
        unreachable!("no end: {:?}", plan(cluster, &name("n", 0), &self.observed));
    }

    /// The daemon is gone and starts again: media keep what they carry.
    pub fn restart(&mut self) {
        self.observed = Observed::default();
        self.running.clear();
        self.content.retain(|(medium, _), _| medium.starts_with('/'));
    }

    fn take(&mut self, wanted: &Cluster, step: &Step) {
        let mut opened = StepOutcome::default();
        let observed = &self.observed;
        match &step.action {
            Action::OpenDisk { disk } => {
                assert!(!observed.disks.contains_key(disk), "{step}: open already");
                let wanted = &wanted.disks[disk];
                if wanted.has_superblock() && wanted.first_superblock.is_on_medium() && !wanted.leaving {
                    self.superblocks.entry(wanted.uuid).or_insert(wanted.created);
                }
                let there = self.superblocks.get(&wanted.uuid);
                let own = there.map_or(SuperblockState::Missing, |g| SuperblockState::Ours {
                    generation: *g,
                    flawed: false,
                });
                opened.superblock = self.strange.get(&wanted.uuid).copied().unwrap_or(own);
            }
            Action::CloseDisk { disk } => {
                let used = observed
                    .routes
                    .values()
                    .any(|r| r.extents.iter().any(|e| e.disk == *disk));
                assert!(!used, "{step}: a route leads there");
            }
            Action::WriteSuperblock { disk }
                if self.strange.contains_key(&observed.disks[disk].disk.uuid) =>
            {
                let strange = self.strange[&observed.disks[disk].disk.uuid];
                assert_eq!(strange, SuperblockState::Missing, "{step}: over somebody else's");
                // Looked at once more before anything is written.
                opened.superblock = SuperblockState::Occupied;
            }
            Action::WriteSuperblock { disk } => {
                let uuid = observed.disks[disk].disk.uuid;
                let before = self.superblocks.insert(uuid, step.generation);
                assert!(
                    before.is_none_or(|before| before < step.generation),
                    "{step}: goes back"
                );
                opened.superblock = SuperblockState::Ours {
                    generation: step.generation,
                    flawed: false,
                };
            }
            Action::EraseSuperblock { disk } => {
                self.superblocks.remove(&observed.disks[disk].disk.uuid);
            }
            Action::ReleaseDisk { disk } => {
                let wanted = &wanted.disks[disk];
                assert!(!observed.disks.contains_key(disk), "{step}: it is open");
                assert!(!self.superblocks.contains_key(&wanted.uuid), "{step}: not erased");
            }
            Action::SetRoute { volume } => {
                let before = observed.routes.get(volume);
                assert!(
                    before.is_none_or(|before| before.generation < step.generation),
                    "{step}: goes back"
                );
            }
            Action::ClearVolume { volume } => {
                assert!(
                    !self.observed.clearings.contains_key(volume),
                    "{step}: under way already"
                );
                let begun = self.observed.begin_clearing(wanted, volume);
                let begun = begun.expect("something to clear");
                self.running.push(Running {
                    step: step.clone(),
                    volume: volume.clone(),
                    uuid: begun.uuid,
                    start: begun.start,
                    at: begun.start,
                    extents: begun.extents.clone(),
                    stopped: false,
                });
                return;
            }
            Action::StopClearing { volume } => {
                let mut running = self.running.iter_mut();
                let running = running.find(|running| running.volume == *volume);
                running.expect("what is stopped runs").stopped = true;
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

    /// The generation that a medium carries.
    pub fn superblock(&self, disk: Uuid) -> Option<Generation> {
        self.superblocks.get(&disk).copied()
    }

    /// What must hold between any two steps.
    fn invariants(&self) {
        let Observed {
            disks,
            routes,
            sockets,
            ..
        } = &self.observed;
        for running in &self.running {
            for extent in &running.extents {
                assert!(disks.contains_key(&extent.disk), "zeros go to a closed disk");
                for (name, route) in routes {
                    let share = |e: &Extent| overlap(e, extent);
                    assert!(!route.extents.iter().any(share), "zeros go to {name}, in use");
                }
            }
        }
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
                    assert!(
                        !theirs.extents.iter().any(|e| overlap(e, extent)),
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
        for disk in wanted.disks.values().filter(|disk| disk.leaving) {
            assert_eq!(
                self.observed.released.get(&disk.uuid),
                Some(&true),
                "let go and told"
            );
            assert!(!self.superblocks.contains_key(&disk.uuid), "a superblock is left");
        }
        let stays = || wanted.disks.iter().filter(|(_, disk)| !disk.leaving);
        let agreed: Vec<_> = stays()
            .map(|(name, disk)| (name, &disk.uuid, disk.sectors))
            .collect();
        assert_eq!(revisions, agreed);
        for (name, disk) in stays().filter(|(_, disk)| disk.has_superblock()) {
            let generation = disk.superblock_generation();
            let ours = SuperblockState::Ours {
                generation,
                flawed: false,
            };
            assert_eq!(disks[name].superblock, ours, "{name}");
        }
        let attached = wanted
            .volumes
            .iter()
            .filter(|(name, _)| wanted.attachments_of(name).next().is_some());
        let agreed: Vec<_> = attached
            .map(|(name, v)| (name, v.uuid, v.route_generation(), v.all_extents()))
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

fn overlap(a: &Extent, b: &Extent) -> bool {
    a.disk == b.disk && a.disk_lba < b.disk_lba + b.sectors && b.disk_lba < a.disk_lba + a.sectors
}

/// What keeps a disk's content: its path, as long as there is one.
pub fn medium_of(disk: &Disk) -> String {
    let path = disk.medium.path().map(str::to_owned);
    path.unwrap_or_else(|| disk.uuid.to_string())
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

/// Applies an operator's command, told in five small numbers; one that is refused leaves the cluster as it is. `serial`
/// never comes again, for uuids.
pub fn apply(cluster: &Cluster, serial: u128, (kind, a, b, c, flag): (u8, u8, u8, u8, bool)) -> Cluster {
    let expected = None;
    let units = u64::from(c) + 1;
    let leaving = cluster.disks.get(&name("d", a)).filter(|disk| disk.leaving);
    let command = match kind {
        // Told by a node that has done it, or by one that has not: it is gone either way.
        0 | 1 if leaving.is_some() => Command::ReleaseDisk(ReleaseDisk {
            name: name("d", a),
            uuid: leaving.map(|disk| disk.uuid).unwrap_or_default(),
        }),
        0 | 1 => Command::AddDisk(disk(a, serial, units, flag)),
        2 => Command::RemoveDisk(RemoveDisk {
            name: name("d", a),
            expected,
            releases: flag,
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
        4 | 5 | 12 => Command::CreateVolume(CreateVolume {
            name: name("v", b),
            uuid: Uuid(serial),
            node: name("n", 0),
            disk: flag.then(|| name("d", a)),
            sectors: Some(units * UNIT / 2),
            block_bytes: None,
            clear: None,
            clears: kind == 12,
            clears_reused: kind == 12,
            clears_unknown_past: kind == 12,
        }),
        6 | 13 => Command::GrowVolume(GrowVolume {
            name: name("v", b),
            sectors: (units + 1) * UNIT,
            disk: flag.then(|| name("d", a)),
            expected,
            clears: kind == 13,
        }),
        7 | 14 => Command::DeleteVolume(DeleteVolume {
            name: name("v", b),
            expected,
            clear: (kind == 14).then_some(flag),
            detaches: kind == 14 && c % 2 == 0,
        }),
        15 => Command::ChangeVolume(ChangeVolume {
            name: name("v", b),
            protected: None,
            clear: Some([Clear::Now, Clear::OnDelete, Clear::Never][usize::from(c) % 3]),
            expected,
        }),
        8 | 9 => Command::CreateAttachment(CreateAttachment {
            name: name("a", b),
            uuid: Uuid(u128::from(b) + 500),
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
        superblock_pending: false,
    }
}
