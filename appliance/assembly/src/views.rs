//! The cluster and the state as REST and metrics show them: values in, values out.

mod nodes;
mod queues;
mod shares;

pub use nodes::{member, node_role, node_summary};

use crate::counted::{GONE, finding_of_disk};
use crate::findings::media;
use crate::local_state::{LocalState, OpenDisk};
use crate::samples::{disk_faults, oldest_ns, operations, sum};
use crate::shared::Shared;
use crate::unix_time::ms_of;
use palisade_api as api;
use palisade_api::FindingKind;
use palisade_api::size::human;
use palisade_block::Fault;
use palisade_block::stats::{AttachmentStats, Count};
use palisade_control::Offered;
use palisade_engine::IdlePolicy;
use palisade_model::{Account, Attachment, Clear, Cluster, Disk, Kind, Layout, Medium, Usage, Volume};
use palisade_reconcile::{Action, ObservedDisk, Wait, waits};
use palisade_sys::PageBacking;
use palisade_words::limits::ALLOCATION_UNIT_SECTORS;
use palisade_words::{Generation, Name, SECTOR_BYTES};
use std::cell::OnceCell;
use std::collections::BTreeMap;

/// A moment of the node: what is agreed on beside what there is.
pub struct View<'a> {
    /// The node.
    pub shared: &'a Shared,
    /// What is agreed on.
    pub cluster: &'a Cluster,
    /// What there is.
    pub state: &'a LocalState,
    waits: OnceCell<Vec<Wait>>,
}

impl<'a> View<'a> {
    /// Of the moment at which the state is locked.
    pub fn new(shared: &'a Shared, cluster: &'a Cluster, state: &'a LocalState) -> View<'a> {
        View {
            shared,
            cluster,
            state,
            waits: OnceCell::new(),
        }
    }
}

impl View<'_> {
    /// This node.
    pub fn node(&self) -> api::Node {
        let own = self.cluster.nodes.get(&self.shared.name);
        let pools = self.shared.reactors.iter();
        let page_bytes = pools
            .clone()
            .map(|reactor| page_bytes(reactor.backing))
            .min()
            .unwrap_or_default();
        let buffers: u64 = pools.map(|reactor| u64::from(reactor.plan.pool_buffers)).sum();
        let reactors = self.shared.reactors.iter();
        let used: u64 = reactors.map(|reactor| reactor.stats.buffers_used.get()).sum();
        let folders = self.shared.settings.allow.files.iter();
        api::Node {
            id: own.map(|node| node.uuid.to_string()).unwrap_or_default(),
            name: self.shared.name.to_string(),
            version: env!("CARGO_PKG_VERSION").into(),
            kernel: kernel(),
            member: own.map(member).unwrap_or_default(),
            epoch: self.cluster.epoch.0,
            generation: self.cluster.generation.0,
            applied: self.applied(),
            started_unix_ms: ms_of(self.shared.started),
            pid: std::process::id(),
            hugepages: api::Hugepages {
                page_bytes,
                pool_bytes: buffers * palisade_block::limits::BOUNCE_BYTES as u64,
                used_bytes: used * palisade_block::limits::BOUNCE_BYTES as u64,
            },
            disk_folders: folders.map(|folder| folder.display().to_string()).collect(),
        }
    }

    /// What is not as wanted, and why: asked of the planner once, however many resources are shown.
    pub(crate) fn waits(&self) -> &[Wait] {
        self.waits
            .get_or_init(|| waits(self.cluster, &self.shared.name, &self.state.control.observed))
    }

    /// The generation in force: that agreed on once nothing is left to do, else that of the last step taken.
    fn applied(&self) -> u64 {
        let settled = palisade_reconcile::plan(self.cluster, &self.shared.name, &self.state.control.observed)
            .is_empty()
            && self.state.control.under_way.is_empty()
            && self.waits().is_empty();
        if settled {
            self.cluster.generation.0
        } else {
            self.state
                .control
                .observed
                .generation
                .0
                .min(self.cluster.generation.0)
        }
    }

    /// All reactors.
    pub fn reactors(&self) -> Vec<api::Reactor> {
        let running = |index: u16| {
            let queues = self
                .state
                .control
                .attachments
                .values()
                .flat_map(|offered| offered.running.values());
            queues.filter(|reactor| reactor.0 == index).count() as u32
        };
        let view = |reactor: &crate::reactor_thread::ReactorHandle| api::Reactor {
            index: reactor.plan.index.0,
            core: Some(reactor.plan.core as u32),
            numa_node: numa_node(reactor.plan.core),
            poll_mode: match reactor.plan.idle {
                IdlePolicy::AlwaysPoll => api::PollMode::AlwaysPoll,
                IdlePolicy::Adaptive { .. } => api::PollMode::Adaptive,
            },
            sleeping: reactor.sleeps_now(),
            queues: running(reactor.plan.index.0),
            turns: reactor.stats.turns.get(),
            busy_turns: reactor.stats.busy_turns.get(),
            sleeps: reactor.stats.sleeps.get(),
            slots: u64::from(reactor.plan.config.slots),
            slots_used: reactor.stats.slots_used.get(),
            slots_short: reactor.stats.slots_short.get(),
            pool_short: reactor.stats.pool_short.get(),
            parked: reactor.stats.parked.get(),
            fenced_devices: reactor.stats.fenced_devices.get(),
            stale_commands: reactor.stats.stale_commands.get(),
            slow_turns: reactor.slow.count(),
        };
        self.shared.reactors.iter().map(view).collect()
    }

    /// One disk.
    pub fn disk(&self, name: &Name, disk: &Disk) -> api::Disk {
        let open = self.state.disks.get(name);
        let used: u64 = self
            .cluster
            .extents_on(name)
            .map(|(_, _, extent)| match disk.usage {
                Usage::Pooled => units(extent.sectors),
                Usage::Whole => extent.sectors,
            })
            .sum();
        let room = match disk.usage {
            Usage::Pooled => disk.data_end - disk.data_start,
            // What its volume does not have yet is that volume's, when it grows.
            Usage::Whole => disk.sectors,
        };
        let mut volumes: Vec<_> = self
            .cluster
            .extents_on(name)
            .map(|(name, _, _)| name.to_string())
            .collect();
        volumes.dedup();
        let applied = self
            .state
            .control
            .observed
            .disks
            .get(name)
            .filter(|open| open.disk.revision >= disk.revision && !disk.leaving && disk.held.is_none())
            .filter(|open| {
                let written =
                    open.superblock.has_reached(disk.revision) && disk.first_superblock.is_on_medium();
                !disk.has_superblock() || written
            });
        let allocated_bytes = open.and_then(|open| Some(open.sight.look?.file?.allocated));
        api::Disk {
            id: name.to_string(),
            uuid: disk.uuid.to_string(),
            node: disk.custodian().to_string(),
            medium: medium(&disk.medium, disk.record.sparse),
            usage: match disk.usage {
                Usage::Pooled => api::DiskUsage::Pooled,
                Usage::Whole => api::DiskUsage::Whole,
            },
            bytes: disk.sectors * SECTOR_BYTES,
            free_bytes: room.saturating_sub(used) * SECTOR_BYTES,
            block_bytes: disk.block_bytes,
            condition: self.condition(name, open),
            identity: crate::medium::describe(&disk.record, disk.medium.wwid()),
            sparse: disk.record.sparse,
            allocated_bytes,
            notes: media::notes(self.state, disk, open)
                .into_iter()
                .chain(
                    self.state
                        .control
                        .age_of_last_read(name, self.shared.now())
                        .map(|age| format!("its medium may not be used: {age}")),
                )
                .chain(media::note_of_growth(
                    name,
                    disk,
                    open.and_then(|open| open.sight.look),
                    volumes.first().map(|volume| (volume.as_str(), used)),
                ))
                .chain(media::note_of_held(disk))
                .chain(volumes.is_empty().then(|| media::note_of_reuse(disk)).flatten())
                .chain(
                    allocated_bytes.and_then(|taken| media::note_of_kept(disk, taken, used * SECTOR_BYTES)),
                )
                .collect(),
            volumes,
            protected: disk.protected,
            leaving: disk.leaving,
            in_flight: open.map_or(0, |open| {
                open.stats.iter().map(|stats| stats.in_flight.get()).sum()
            }),
            oldest_ms: open.map_or(0, oldest_ns) / 1_000_000,
            faults: open
                .map(disk_faults)
                .unwrap_or_default()
                .into_iter()
                .filter(|(_, count)| *count > 0)
                .map(|(name, count)| (name.into(), count))
                .collect(),
            state: self.state(Kind::Disk, name, disk.revision, applied.is_some()),
        }
    }

    pub(crate) fn condition(&self, name: &Name, open: Option<&OpenDisk>) -> api::DiskCondition {
        if open.is_none() || self.is_refused(name) {
            let failed = self
                .state
                .control
                .observed
                .failures
                .contains_key(&Action::OpenDisk { disk: name.clone() });
            return if failed {
                api::DiskCondition::Missing
            } else {
                api::DiskCondition::Closed
            };
        }
        let subject = format!("disk/{name}");
        let stands = |kind: &FindingKind| self.shared.findings.stands(*kind, &subject);
        if self.state.control.has_stalled(name) {
            api::DiskCondition::Stalled
        } else if GONE.iter().any(stands) {
            api::DiskCondition::Missing
        } else if Fault::ALL
            .into_iter()
            .filter_map(finding_of_disk)
            .any(|kind| stands(&kind))
        {
            api::DiskCondition::Failing
        } else {
            api::DiskCondition::Online
        }
    }

    /// Whether a disk's medium may not be used. It is open for the time of a look only, and shown as it was last read.
    fn is_refused(&self, disk: &Name) -> bool {
        self.state.control.observed.refused.contains_key(disk)
    }

    /// Whether a disk is open, and for more than a look.
    fn is_in_use(&self, disk: &Name) -> bool {
        let open = self.state.control.observed.disks.get(disk);
        let is_held = self
            .cluster
            .disks
            .get(disk)
            .is_some_and(|disk| disk.held.is_some());
        let carries_others =
            |open: &ObservedDisk| !open.disk.has_superblock() && !open.disk.is_its_own(open.superblock);
        !is_held && !self.is_refused(disk) && open.is_some_and(|open| !carries_others(open))
    }

    /// One volume.
    pub fn volume(&self, name: &Name, volume: &Volume) -> api::Volume {
        let extent = |extent: &palisade_model::Extent| api::Extent {
            disk: extent.disk.to_string(),
            offset_bytes: extent.disk_lba * SECTOR_BYTES,
            bytes: extent.sectors * SECTOR_BYTES,
        };
        let layout = match &volume.layout {
            Layout::Linear { extents } => api::Layout::Linear {
                extents: extents.iter().map(extent).collect(),
            },
        };
        let applied = self.volume_applied(name, volume);
        api::Volume {
            id: name.to_string(),
            uuid: volume.uuid.to_string(),
            node: volume
                .all_extents()
                .first()
                .and_then(|extent| self.cluster.disks.get(&extent.disk))
                .map_or_else(String::new, |disk| disk.custodian().to_string()),
            bytes: volume.sectors * SECTOR_BYTES,
            usable_bytes: volume.usable_sectors() * SECTOR_BYTES,
            block_bytes: volume.block_bytes,
            clear: self.cluster.clear_of(name).map(clear).unwrap_or_default(),
            clearing: self.clearing(name, volume),
            protected: volume.protected,
            deleting: volume.deleting,
            layout,
            attachments: self
                .cluster
                .attachments_of(name)
                .map(|(name, _)| name.to_string())
                .collect(),
            state: self.state(Kind::Volume, name, volume.revision, applied),
        }
    }

    /// What is still to be cleared of a volume: as agreed on, and as far as it has come since.
    fn clearing(&self, name: &Name, volume: &Volume) -> Option<api::Clearing> {
        let clearing = volume.clearing?;
        let observed = self.state.control.observed.clearings.get(name);
        let mine = observed.is_some_and(|observed| observed.uuid == volume.uuid);
        let running = self.state.clearings.get(name).filter(|_| mine);
        let reached = running.map_or(0, |progress| progress.sectors());
        let cleared = clearing.cleared.max(reached).min(volume.sectors);
        Some(api::Clearing {
            bytes: (volume.sectors - clearing.from) * SECTOR_BYTES,
            cleared_bytes: cleared.saturating_sub(clearing.from) * SECTOR_BYTES,
        })
    }

    /// A volume is in force when its route is; one that nobody uses here, when its extents are on record.
    fn volume_applied(&self, name: &Name, volume: &Volume) -> bool {
        let used = self.cluster.attachments_of(name).next().is_some();
        let revision = volume.route_generation();
        let routed = |revision| {
            self.state
                .control
                .observed
                .routes
                .get(name)
                .is_some_and(|route| route.generation >= revision)
        };
        let recorded = |disk: &Name| {
            let open = self
                .state
                .control
                .observed
                .disks
                .get(disk)
                .filter(|_| self.is_in_use(disk));
            open.is_some_and(|open| !open.disk.has_superblock() || open.superblock.has_reached(revision))
        };
        if volume.clearing.is_some() {
            return false;
        }
        routed(revision) || (!used && volume.all_extents().iter().all(|extent| recorded(&extent.disk)))
    }

    /// One attachment.
    pub fn attachment(&self, name: &Name, attachment: &Attachment) -> api::Attachment {
        let offered = self.state.control.attachments.get(name);
        let applied = self
            .state
            .control
            .observed
            .sockets
            .get(name)
            .is_some_and(|socket| is_in_force(&socket.attachment, attachment));
        let all = |count: fn(&AttachmentStats) -> &Count| sum(offered, |stats| count(stats).get());
        let operations = operations(offered)
            .into_iter()
            .map(|sample| api::OperationCounts {
                operation: sample.operation.into(),
                requests: sample.ok + sample.io_err + sample.unsupp,
                errors: sample.io_err + sample.unsupp,
                bytes: sample.bytes,
                timed: sample.latency.count(),
                latency_ns_sum: sample.latency.sum_ns,
                latency_ns_p50: sample.latency.quantile_ns(500),
                latency_ns_p99: sample.latency.quantile_ns(990),
            });
        api::Attachment {
            id: name.to_string(),
            uuid: match attachment.uuid.is_nil() {
                true => String::new(),
                false => attachment.uuid.to_string(),
            },
            volume: attachment.volume.to_string(),
            node: attachment.node.to_string(),
            socket: attachment.socket.clone(),
            queues: attachment.queues,
            queue_size: attachment.queue_size,
            owner: attachment.owner.as_ref().map(Account::to_string),
            group: attachment.group.as_ref().map(Account::to_string),
            mode: api::Mode::from_bits(attachment.mode),
            read_only: attachment.read_only,
            serial: attachment.serial.clone(),
            write_cache: attachment.write_cache,
            limits: api::Limits {
                iops: Some(attachment.limits.iops).filter(|limit| *limit > 0),
                bytes_per_second: Some(attachment.limits.bytes_per_second).filter(|limit| *limit > 0),
                // Without a limit there is nothing that it would be a burst of.
                burst_ms: attachment
                    .limits
                    .is_limited()
                    .then_some(attachment.limits.burst_ms),
            },
            connection: self.connection(offered),
            in_flight: all(|stats| &stats.in_flight),
            refused: self.refused(offered),
            throttled: all(|stats| &stats.throttled),
            operations: operations.collect(),
            state: self.state(Kind::Attachment, name, attachment.revision, applied),
        }
    }

    pub(crate) fn connection(&self, offered: Option<&Offered>) -> api::Connection {
        let report = offered.and_then(|offered| self.shared.door().report(offered.index));
        let (Some(offered), Some(report)) = (offered, report) else {
            return api::Connection::default();
        };
        let state = match (report.leaving, report.connected, report.queues_running.is_empty()) {
            (true, ..) => api::ConnectionState::Draining,
            (_, false, _) => api::ConnectionState::Listening,
            (_, true, true) => api::ConnectionState::Connected,
            (_, true, false) => api::ConnectionState::Running,
        };
        let names = |names: &[&'static str]| names.iter().map(|name| (*name).to_owned()).collect();
        api::Connection {
            state,
            features: names(&report.features),
            protocol_features: names(&report.protocol_features),
            queues_running: report.queues_running.len() as u16,
            memory_bytes: offered.memory_bytes,
            memory_pinned_bytes: self.shared.pinning.pinned_bytes(offered.index),
            shares: shares::shares(
                &report,
                self.shared.pinning.pinned_bytes(offered.index),
                &self.shared.settings,
            ),
            sessions: report.connections,
            last_end: report.last_disconnect.or(report.last_error),
            queues: report
                .queues
                .iter()
                .zip(report.queue_stats.iter())
                .map(queues::queue)
                .collect(),
            refused_sessions: report.refused_sessions,
            first_refusal: report.first_refusal,
        }
    }

    /// Agreed and applied, and what is in the way.
    fn state(&self, kind: Kind, name: &Name, revision: Generation, applied: bool) -> api::State {
        let before = match kind {
            Kind::Disk if self.is_refused(name) => None,
            Kind::Disk => self
                .state
                .control
                .observed
                .disks
                .get(name)
                .map(|open| open.disk.revision),
            Kind::Volume => self
                .state
                .control
                .observed
                .routes
                .get(name)
                .map(|route| route.generation),
            _ => self
                .state
                .control
                .observed
                .sockets
                .get(name)
                .map(|socket| socket.attachment.revision),
        };
        let here = api::AppliedOn {
            generation: generation_in_force(revision, applied, before),
            blocked_on: self.blocked_on(kind, name, applied).or_else(|| match kind {
                Kind::Volume if !applied => self.disk_in_the_way(name),
                _ => None,
            }),
            elsewhere: false,
        };
        // How far another node is, that node alone can tell.
        let on = |node: &Name| match *node == self.shared.name {
            true => here.clone(),
            false => api::AppliedOn::elsewhere(),
        };
        let nodes = self.nodes_of(kind, name);
        api::State {
            generation: revision.0,
            applied: nodes
                .into_iter()
                .map(|node| (node.to_string(), on(&node)))
                .collect(),
        }
    }

    fn blocked_on(&self, kind: Kind, name: &Name, applied: bool) -> Option<String> {
        let mine = |other: (Kind, &Name)| other == (kind, name);
        if kind == Kind::Volume && self.state.clearings.contains_key(name) {
            let volume = self.cluster.volumes.get(name);
            if let Some(clearing) = volume.and_then(|volume| self.clearing(name, volume)) {
                return Some(clearing_text(&clearing));
            }
        }
        // What is in force already does not wait for a step whose end has not been noted yet.
        let under_way = self
            .state
            .control
            .under_way
            .keys()
            .find(|action| mine(action.target()));
        let is_look = kind == Kind::Disk && self.is_refused(name);
        if let Some(action) = under_way.filter(|_| !applied && !is_look) {
            let offered = self
                .state
                .control
                .attachments
                .get(name)
                .filter(|_| kind == Kind::Attachment);
            let report = offered.and_then(|offered| self.shared.door().report(offered.index));
            let on = report.and_then(|report| report.waiting).map(|waiting| waiting.on);
            return Some(on.unwrap_or_else(|| format!("{action} is under way")));
        }
        self.waits()
            .iter()
            .find(|wait| mine((wait.kind, &wait.name)))
            .map(ToString::to_string)
    }

    /// The disk that a volume lies on and that is not open: nothing waits for it by a step, as nobody uses the volume.
    fn disk_in_the_way(&self, volume: &Name) -> Option<String> {
        let volume = self.cluster.volumes.get(volume)?;
        let closed = |disk: &&Name| !self.is_in_use(disk);
        let disk = volume
            .all_extents()
            .iter()
            .map(|extent| &extent.disk)
            .find(closed)?;
        Some(format!("waits for disk {disk}"))
    }
}

/// Whether a socket on offer is as wanted. Its revision is that of the day it was offered: a change of rights or limits
/// is made on it as it stands, and one that was taken back in time is not made at all.
fn is_in_force(offered: &Attachment, wanted: &Attachment) -> bool {
    let revision = wanted.revision;
    Attachment {
        revision,
        ..offered.clone()
    } == *wanted
}

fn clearing_text(clearing: &api::Clearing) -> String {
    let percent = u128::from(clearing.cleared_bytes) * 100 / u128::from(clearing.bytes.max(1));
    format!(
        "its space is being cleared: {percent} % of {}",
        human(clearing.bytes)
    )
}

fn clear(clear: Clear) -> api::Clear {
    match clear {
        Clear::Now => api::Clear::Now,
        Clear::OnDelete => api::Clear::OnDelete,
        Clear::Never => api::Clear::Never,
    }
}

fn medium(medium: &Medium, sparse: bool) -> api::Medium {
    match medium {
        Medium::Null { bytes } => api::Medium::Null(api::NullMedium { bytes: *bytes }),
        Medium::Memory { bytes } => api::Medium::Memory(api::MemoryMedium { bytes: *bytes }),
        Medium::File { path, bytes, .. } => api::Medium::File(api::FileMedium {
            path: path.clone(),
            bytes: Some(*bytes),
            sparse,
        }),
        Medium::Block { path, .. } => api::Medium::Block(api::BlockMedium { path: path.clone() }),
    }
}

/// Sectors that an extent takes on a pooled disk: whole allocation units.
fn units(sectors: u64) -> u64 {
    sectors.div_ceil(ALLOCATION_UNIT_SECTORS) * ALLOCATION_UNIT_SECTORS
}

fn page_bytes(backing: PageBacking) -> u64 {
    match backing {
        PageBacking::Huge1G => 1 << 30,
        PageBacking::Huge2M => 2 << 20,
        PageBacking::Plain => 4096,
    }
}

fn kernel() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map(|text| text.trim().to_owned())
        .unwrap_or_default()
}

/// The NUMA node of a core, by the kernel's directory of it.
fn numa_node(core: usize) -> Option<u32> {
    let directory = std::fs::read_dir(format!("/sys/devices/system/cpu/cpu{core}")).ok()?;
    directory
        .flatten()
        .find_map(|entry| entry.file_name().to_str()?.strip_prefix("node")?.parse().ok())
}

/// All disks by name, and so on: one list for each kind of resource.
pub fn list<T, U>(all: &BTreeMap<Name, T>, view: impl Fn(&Name, &T) -> U) -> Vec<U> {
    all.iter().map(|(name, one)| view(name, one)).collect()
}

/// The generation of a resource that is in force. One that is open, or has a route, may be of the generation agreed on
/// without that being in force: its superblock is not on the medium yet.
fn generation_in_force(agreed: Generation, applied: bool, before: Option<Generation>) -> Option<u64> {
    match applied {
        true => Some(agreed.0),
        false => before
            .filter(|before| *before < agreed)
            .map(|generation| generation.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use palisade_model::Limits;

    #[test]
    fn what_is_open_and_not_on_the_medium_is_not_in_force() {
        let generation = |number| Some(Generation(number));
        assert_eq!(generation_in_force(Generation(4), true, generation(4)), Some(4));
        assert_eq!(generation_in_force(Generation(4), false, generation(4)), None);
        assert_eq!(generation_in_force(Generation(4), false, generation(3)), Some(3));
        assert_eq!(generation_in_force(Generation(4), false, None), None);
    }

    #[test]
    fn a_change_made_on_an_offered_socket_is_in_force() {
        let offered = Attachment {
            uuid: palisade_words::Uuid(31),
            volume: Name::new("v1").unwrap(),
            node: Name::new("n1").unwrap(),
            socket: "/run/v1.sock".into(),
            queues: 1,
            queue_size: 256,
            owner: None,
            group: None,
            mode: 0o660,
            read_only: false,
            serial: "1".into(),
            limits: Limits::default(),
            write_cache: true,
            created: Generation(4),
            revision: Generation(4),
        };
        let limits = Limits {
            iops: 7,
            ..Limits::default()
        };
        let wanted = Attachment {
            limits,
            revision: Generation(5),
            ..offered.clone()
        };
        assert!(!is_in_force(&offered, &wanted));
        assert!(is_in_force(&Attachment { limits, ..offered }, &wanted));
    }
}
