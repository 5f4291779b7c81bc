//! An appliance that keeps what it is told and carries nothing out: the other implementation of the trait.

mod agreement;
mod answers;
mod findings;
mod nodes;
mod preview;
mod volumes;

#[allow(
    unused_imports,
    reason = "not every test that includes this file has others agree"
)]
pub use agreement::Agreed;
#[allow(unused_imports, reason = "not every test that includes this file names nodes")]
pub use nodes::{NODE_ID, OTHER_NODE_ID};

use answers::{guard, in_use, removal};
use palisade_admin::metrics::{
    AttachmentSample, DiskSample, LatencySample, MetricsSnapshot, OperationSample, ReactorSample,
};
use palisade_admin::{Appliance, DoorTrouble, EventLog};
use palisade_api::{
    Actor, AppliedOn, Attachment, AttachmentCreate, AttachmentPatch, Connection, ConnectionState, Created,
    Disk, DiskAdopt, DiskAdoption, DiskCondition, DiskCreate, DiskImport, DiskImported, DiskPatch,
    DiskPreview, DiskRelocate, DiskRelocated, Event, EventId, EventPage, Finding, Health, Hugepages,
    ImportMedium, ImportedDisk, ImportedVolume, Medium, Mode, Node, NodeSummary, OperationCounts, PollMode,
    Problem, Reactor, RelocatedDisk, Removal, RemovalOptions, Severity, Share, Side, State, StateBackup,
    Volume, VolumeCreate, VolumePart, VolumePatch,
};
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard};

/// The stand-in.
pub struct Fake {
    pub events: EventLog,
    /// What became of commands, in order.
    pub commands: Mutex<Vec<Event>>,
    started_unix_ms: u64,
    /// What comes of the next changes of volumes.
    agreed: Mutex<VecDeque<Agreed>>,
    state: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    generation: u64,
    disks: BTreeMap<String, (DiskCreate, Disk)>,
    volumes: BTreeMap<String, (VolumeCreate, Volume)>,
    attachments: BTreeMap<String, (AttachmentCreate, Attachment)>,
    /// Reads of an attachment until it is applied.
    reads_until_applied: u32,
    /// Reads of disks or volumes until those that were taken away are gone.
    reads_until_gone: u32,
    findings: Vec<Finding>,
    /// All that was ever told of doors, in order.
    doors: Vec<Vec<DoorTrouble>>,
}

impl Fake {
    /// As a daemon that has just been started: each at a time of its own.
    pub fn new() -> Fake {
        static STARTED: AtomicU64 = AtomicU64::new(1_795_224_000_000);
        Fake {
            started_unix_ms: STARTED.fetch_add(1, Relaxed),
            events: EventLog::beginning_after(64, 1000).of_node(NODE_ID, "host-a"),
            commands: Mutex::default(),
            agreed: Mutex::default(),
            state: Mutex::new(Kept::default()),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.state.lock().unwrap()
    }

    /// Attachments become applied after being looked at this often.
    #[allow(dead_code, reason = "not every test that includes this file waits")]
    pub fn apply_slowly(&self, reads: u32) {
        self.kept().reads_until_applied = reads;
    }

    /// Disks and volumes that are taken away are gone after being looked at this often.
    #[allow(dead_code, reason = "not every test that includes this file removes")]
    pub fn remove_slowly(&self, reads: u32) {
        self.kept().reads_until_gone = reads;
    }

    #[allow(dead_code, reason = "not every test that includes this file looks at doors")]
    pub fn doors(&self) -> Vec<Vec<DoorTrouble>> {
        self.kept().doors.clone()
    }

    fn happened(&self, kind: &str, subject: String) {
        let message = format!("{subject} {}", kind.rsplit('_').next().unwrap());
        self.events.push(Severity::Info, kind, subject, message);
    }
}

impl Kept {
    fn next(&mut self) -> State {
        self.generation += 1;
        let applied = AppliedOn {
            generation: Some(self.generation),
            blocked_on: None,
        };
        State::on("host-a", self.generation, applied)
    }

    /// Lets go of what was taken away, when it is time.
    fn let_go(&mut self) {
        if self.reads_until_gone > 0 {
            self.reads_until_gone -= 1;
            return;
        }
        self.disks.retain(|_, (_, disk)| !disk.leaving);
        self.volumes.retain(|_, (_, volume)| !volume.deleting);
        let volumes = &self.volumes;
        for (_, disk) in self.disks.values_mut() {
            disk.volumes.retain(|volume| volumes.contains_key(volume));
        }
    }
}

impl Appliance for Fake {
    fn doors_seen(&self, wrong: &[DoorTrouble]) {
        self.kept().doors.push(wrong.to_vec());
    }

    fn nodes(&self) -> Vec<NodeSummary> {
        nodes::both()
    }

    fn node(&self) -> Node {
        let generation = self.kept().generation;
        Node {
            id: NODE_ID.to_owned(),
            name: "host-a".to_owned(),
            version: "0.1.0".to_owned(),
            kernel: "6.18.0".to_owned(),
            member: nodes::member(),
            epoch: 1,
            generation,
            applied: generation,
            started_unix_ms: self.started_unix_ms,
            pid: 4711,
            hugepages: Hugepages {
                page_bytes: 2 << 20,
                pool_bytes: 64 << 20,
                used_bytes: 4 << 20,
            },
            disk_folders: vec!["/srv/disks".to_owned(), "/mnt/more".to_owned()],
        }
    }

    fn reactors(&self) -> Vec<Reactor> {
        (0..2)
            .map(|index| Reactor {
                index,
                core: Some(u32::from(index) + 2),
                numa_node: Some(0),
                poll_mode: PollMode::Adaptive,
                sleeping: index == 1,
                queues: 2,
                turns: 1_000_000,
                busy_turns: 250_000,
                sleeps: 17,
                slots: 1024,
                slots_used: 12,
                slots_short: 0,
                pool_short: 0,
                parked: 0,
                fenced_devices: 0,
                stale_commands: 0,
                slow_turns: 0,
            })
            .collect()
    }

    fn health(&self) -> Health {
        Health::of(self.kept().findings.clone())
    }

    fn disks(&self) -> Vec<Disk> {
        let mut kept = self.kept();
        kept.let_go();
        // Not in the order of ids: the server sorts.
        kept.disks.values().rev().map(|(_, disk)| disk.clone()).collect()
    }

    fn disk_add(&self, request: DiskCreate) -> Result<Created<Disk>, Problem> {
        let mut kept = self.kept();
        if let Some((before, disk)) = kept.disks.get(&request.id) {
            return match *before == request {
                true => Ok(Created::Existing(disk.clone())),
                false => Err(Problem::exists("disk", &request.id, "medium")),
            };
        }
        let bytes = match &request.medium {
            Medium::File(file) => file.bytes.unwrap_or(1 << 30),
            Medium::Block(_) => 1 << 40,
            Medium::Memory(memory) => memory.bytes,
            Medium::Null(null) => null.bytes,
        };
        let disk = Disk {
            id: request.id.clone(),
            uuid: format!("00000000-0000-4000-8000-{:012}", kept.generation),
            node: "host-a".to_owned(),
            medium: request.medium.clone(),
            usage: request.usage,
            bytes,
            free_bytes: bytes,
            block_bytes: request.block_bytes.unwrap_or(512),
            condition: DiskCondition::Online,
            identity: None,
            sparse: false,
            allocated_bytes: None,
            notes: Vec::new(),
            volumes: vec![],
            protected: false,
            leaving: false,
            in_flight: 0,
            oldest_ms: 0,
            faults: BTreeMap::new(),
            state: kept.next(),
        };
        kept.disks.insert(request.id.clone(), (request, disk.clone()));
        self.happened("disk_added", format!("disk/{}", disk.id));
        Ok(Created::New(disk))
    }

    fn disk_preview(&self, request: DiskCreate) -> Result<DiskPreview, Problem> {
        let known = self.kept().disks.get(&request.id).cloned();
        match known.is_some_and(|(before, _)| before != request) {
            true => Err(Problem::exists("disk", &request.id, request.medium.name())),
            false => Ok(preview::of(request)),
        }
    }

    fn disk_change(&self, id: &str, patch: DiskPatch, expected: Option<u64>) -> Result<Disk, Problem> {
        let mut kept = self.kept();
        let present = kept
            .disks
            .get(id)
            .ok_or_else(|| Problem::not_found("disk", id))?
            .1
            .clone();
        guard("disk", id, &present.state, expected)?;
        let state = kept.next();
        let (_, disk) = kept.disks.get_mut(id).unwrap();
        let bytes = patch.bytes.unwrap_or(disk.bytes).max(disk.bytes);
        disk.free_bytes += bytes - disk.bytes;
        disk.bytes = bytes;
        disk.protected = patch.protected.unwrap_or(disk.protected);
        disk.state = state;
        Ok(disk.clone())
    }

    fn disk_adopt(&self, id: &str, request: DiskAdopt) -> Result<DiskAdoption, Problem> {
        let kept = self.kept();
        let (_, disk) = kept.disks.get(id).ok_or_else(|| Problem::not_found("disk", id))?;
        Ok(DiskAdoption {
            disk: id.to_owned(),
            standing: "diverged".to_owned(),
            message: "disk and database went on apart after generation 3".to_owned(),
            disk_generation: Some(9),
            disk_lineage: None,
            database_generation: disk.state.generation,
            database_lineage: "0".repeat(32),
            only_on_disk: vec![VolumePart {
                id: "precious".to_owned(),
                uuid: disk.uuid.clone(),
                bytes: 4 << 20,
                database_bytes: None,
            }],
            only_in_database: vec![],
            elsewhere: vec![],
            overwritten: vec![],
            as_of_copy: vec![],
            holds: None,
            seen: "seen-1".to_owned(),
            taken: request.take.filter(|_| request.seen.as_deref() == Some("seen-1")),
            choices: vec![Side::Disk, Side::Database],
            refused: vec![],
        })
    }

    /// Each lies under the path of the next, and the last under that of the first.
    fn disks_relocate(&self, request: DiskRelocate) -> Result<DiskRelocated, Problem> {
        let (mut kept, mut disks) = (self.kept(), Vec::new());
        if !request.places.is_empty() {
            return Ok(preview::placed(request));
        }
        let path = |id: &String| match kept.disks.get(id).map(|(_, disk)| &disk.medium) {
            Some(Medium::File(file)) => Ok(file.path.clone()),
            Some(_) => Err(in_use("disk", id, "nobody")),
            None => Err(Problem::not_found("disk", id)),
        };
        let paths: Vec<String> = request.disks.iter().map(path).collect::<Result<_, Problem>>()?;
        for (at, id) in request.disks.iter().enumerate() {
            let path = paths[(at + 1) % paths.len()].clone();
            if let Some((_, disk)) = kept.disks.get_mut(id)
                && let Medium::File(file) = &mut disk.medium
            {
                file.path.clone_from(&path);
            }
            disks.push(RelocatedDisk {
                id: id.clone(),
                before: paths[at].clone(),
                path,
                holds: None,
                unproved: false,
            });
        }
        Ok(DiskRelocated { disks })
    }

    fn disk_import(&self, request: DiskImport) -> Result<DiskImported, Problem> {
        let disk = |medium: &ImportMedium| ImportedDisk {
            id: medium.id.clone().unwrap_or_else(|| "d1".to_owned()),
            path: medium
                .file
                .as_ref()
                .map_or_else(String::new, |file| file.path.clone()),
            uuid: "00000000-0000-4000-8000-000000000001".to_owned(),
            cluster: "00000000-0000-4000-8000-000000000002".to_owned(),
            generation: 9,
            damage: vec![],
        };
        Ok(DiskImported {
            disks: request.disks.iter().map(disk).collect(),
            volumes: vec![ImportedVolume {
                id: "precious".to_owned(),
                name: "precious".to_owned(),
                uuid: "00000000-0000-4000-8000-000000000003".to_owned(),
                bytes: 8 << 20,
                present_bytes: 4 << 20,
            }],
            takes_cluster_id: true,
            done: !request.dry_run,
        })
    }

    fn state_backup(&self) -> StateBackup {
        StateBackup {
            taken_unix_s: 1,
            generation: self.kept().generation,
            lineage: "0".repeat(32),
            file: "palisade state backup\n{}\n".to_owned(),
        }
    }

    fn disk_remove(&self, id: &str, expected: Option<u64>, how: RemovalOptions) -> Result<Removal, Problem> {
        let mut kept = self.kept();
        let found = kept.disks.get_mut(id);
        let (_, disk) = found.ok_or_else(|| Problem::not_found("disk", id))?;
        guard("disk", id, &disk.state, expected)?;
        if let Some(volume) = disk.volumes.first() {
            return Err(in_use("disk", id, &format!("volume {volume}")));
        }
        let removal = removal("disk", id, &disk.state);
        if !how.dry_run {
            disk.leaving = true;
            if kept.reads_until_gone == 0 {
                kept.let_go();
            }
            self.happened("disk_removed", format!("disk/{id}"));
        }
        Ok(removal)
    }

    fn volumes(&self) -> Vec<Volume> {
        let mut kept = self.kept();
        kept.let_go();
        kept.volumes
            .values()
            .rev()
            .map(|(_, volume)| volume.clone())
            .collect()
    }

    fn volume_create(&self, request: VolumeCreate) -> Result<Created<Volume>, Problem> {
        self.agreed(|| self.create_volume(request))
    }

    fn volume_change(&self, id: &str, patch: VolumePatch, expected: Option<u64>) -> Result<Volume, Problem> {
        self.agreed(|| self.change_volume(id, patch, expected))
    }

    fn volume_delete(
        &self,
        id: &str,
        expected: Option<u64>,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        match how.dry_run {
            true => self.delete_volume(id, expected, how),
            false => self.agreed(|| self.delete_volume(id, expected, how)),
        }
    }

    fn attachments(&self) -> Vec<Attachment> {
        let mut kept = self.kept();
        let all = kept
            .attachments
            .values()
            .map(|(_, attachment)| attachment.clone())
            .collect();
        if kept.reads_until_applied > 0 {
            kept.reads_until_applied -= 1;
        } else {
            for (_, attachment) in kept.attachments.values_mut() {
                let applied = AppliedOn {
                    generation: Some(attachment.state.generation),
                    blocked_on: None,
                };
                attachment.state = State::on("host-a", attachment.state.generation, applied);
            }
        }
        all
    }

    fn attachment_create(&self, request: AttachmentCreate) -> Result<Created<Attachment>, Problem> {
        let mut kept = self.kept();
        if let Some((before, attachment)) = kept.attachments.get(&request.id) {
            return match *before == request {
                true => Ok(Created::Existing(attachment.clone())),
                false => Err(Problem::exists("attachment", &request.id, "volume")),
            };
        }
        let Some((_, volume)) = kept.volumes.get_mut(&request.volume) else {
            return Err(Problem::not_found("volume", &request.volume).about("volume"));
        };
        volume.attachments.push(request.id.clone());
        let mut state = kept.next();
        if kept.reads_until_applied > 0 {
            let waits = AppliedOn {
                generation: None,
                blocked_on: Some(format!("blocked on the routes of volume {}", request.volume)),
            };
            state = State::on("host-a", state.generation, waits);
        }
        let asked = request.clone();
        let attachment = Attachment {
            id: asked.id.clone(),
            uuid: "00000000-0000-0000-0000-000000000031".into(),
            volume: asked.volume,
            node: "host-a".to_owned(),
            socket: asked
                .socket
                .unwrap_or_else(|| format!("/run/palisade/{}.sock", asked.id)),
            queues: asked.queues.unwrap_or(1),
            queue_size: asked.queue_size.unwrap_or(256),
            owner: asked.owner,
            group: asked.group,
            mode: asked.mode.unwrap_or(Mode::from_bits(0o660)),
            read_only: asked.read_only,
            serial: asked.serial.unwrap_or(asked.id),
            write_cache: asked.write_cache.unwrap_or(true),
            limits: asked.limits.unwrap_or_default(),
            connection: Connection {
                state: ConnectionState::Running,
                features: vec!["VIRTIO_F_VERSION_1".to_owned(), "VIRTIO_BLK_F_MQ".to_owned()],
                protocol_features: vec!["MQ".to_owned(), "INFLIGHT_SHMFD".to_owned()],
                queues_running: 1,
                memory_bytes: 1 << 30,
                memory_pinned_bytes: 1 << 29,
                shares: vec![Share {
                    of: "pinned_bytes".to_owned(),
                    used: 1 << 29,
                    limit: 1 << 31,
                }],
                sessions: 1,
                ..Connection::default()
            },
            in_flight: 3,
            refused: 0,
            throttled: 0,
            operations: vec![OperationCounts {
                operation: "read".to_owned(),
                requests: 1000,
                errors: 1,
                bytes: 4_096_000,
                timed: 1000,
                latency_ns_sum: 80_000_000,
                latency_ns_p50: Some(65_536),
                latency_ns_p99: Some(262_144),
            }],
            state,
        };
        kept.attachments
            .insert(request.id.clone(), (request, attachment.clone()));
        self.happened("attachment_created", format!("attachment/{}", attachment.id));
        Ok(Created::New(attachment))
    }

    fn attachment_change(
        &self,
        id: &str,
        patch: AttachmentPatch,
        expected: Option<u64>,
    ) -> Result<Attachment, Problem> {
        let mut kept = self.kept();
        let present = kept
            .attachments
            .get(id)
            .ok_or_else(|| Problem::not_found("attachment", id))?
            .1
            .clone();
        guard("attachment", id, &present.state, expected)?;
        let state = kept.next();
        let (_, attachment) = kept.attachments.get_mut(id).unwrap();
        attachment.limits = patch.limits.unwrap_or(attachment.limits);
        attachment.owner = patch.owner.or(attachment.owner.take());
        attachment.group = patch.group.or(attachment.group.take());
        attachment.mode = patch.mode.unwrap_or(attachment.mode);
        attachment.state = state;
        Ok(attachment.clone())
    }

    fn attachment_delete(
        &self,
        id: &str,
        expected: Option<u64>,
        how: RemovalOptions,
    ) -> Result<Removal, Problem> {
        let mut kept = self.kept();
        let (_, attachment) = kept
            .attachments
            .get(id)
            .ok_or_else(|| Problem::not_found("attachment", id))?;
        guard("attachment", id, &attachment.state, expected)?;
        if attachment.connection.state == ConnectionState::Running && !how.force {
            let problem = in_use("attachment", id, "a virtual machine");
            return Err(problem.about("force"));
        }
        let removal = removal("attachment", id, &attachment.state);
        if how.dry_run {
            return Ok(removal);
        }
        kept.attachments.remove(id);
        for (_, volume) in kept.volumes.values_mut() {
            volume.attachments.retain(|attachment| attachment != id);
        }
        self.happened("attachment_deleted", format!("attachment/{id}"));
        Ok(removal)
    }

    fn events_after(&self, after: &EventId, limit: usize) -> EventPage {
        let (number, is_foreign) = self.events.number_of(after);
        let page = self.events.after(number, limit);
        EventPage {
            lost: page.lost || is_foreign,
            ..page
        }
    }

    fn events_last(&self, count: usize) -> EventPage {
        self.events.last(count)
    }

    fn command_ended(&self, mut event: Event) {
        if let Actor::User { uid: _, name } = &mut event.actor {
            *name = Some("somebody".to_owned());
        }
        self.commands.lock().unwrap().push(event);
    }

    fn metrics(&self) -> MetricsSnapshot {
        let latency = LatencySample {
            buckets: vec![(512, 1), (1024, 2), (2048, 3), (u64::MAX, 4)],
            sum_ns: 9000,
        };
        let read = OperationSample {
            operation: "read",
            ok: 10,
            io_err: 1,
            unsupp: 0,
            bytes: 40960,
            latency,
        };
        let attachment = |(_, attachment): &(AttachmentCreate, Attachment)| AttachmentSample {
            attachment: attachment.id.clone(),
            volume: attachment.volume.clone(),
            connected: true,
            in_flight: 3,
            operations: vec![read.clone()],
            faults: vec![("media", 2)],
            ..AttachmentSample::default()
        };
        let kept = self.kept();
        MetricsSnapshot {
            version: "0.1.0".to_owned(),
            node: "6f1c5a52".to_owned(),
            reactors: vec![ReactorSample {
                index: 0,
                turns: 7,
                ..ReactorSample::default()
            }],
            attachments: kept.attachments.values().map(attachment).collect(),
            disks: vec![DiskSample {
                disk: "d\"1".to_owned(),
                online: true,
                ..DiskSample::default()
            }],
            ..MetricsSnapshot::default()
        }
    }
}
