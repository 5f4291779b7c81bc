//! Counters of reactors, attachments and disks, summed up for metrics.

use crate::local_state::OpenDisk;
use crate::views::View;
use palisade_admin::metrics::{
    AttachmentSample, DiskSample, LatencySample, MemberSample, MetricsSnapshot, OperationSample,
    ReactorSample, ShareSample, VolumeSample,
};
use palisade_api as api;
use palisade_block::stats::{AttachmentStats, Count, LATENCY_BUCKETS, Latency};
use palisade_block::{Fault, Op, Status};
use palisade_control::Offered;
use palisade_frontend::SessionReport;
use palisade_membership::PeerState;
use palisade_model::{Attachment, Disk, Node, Volume};
use palisade_sys::clock::boot_time;
use palisade_words::Name;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl View<'_> {
    /// All counters.
    pub fn metrics(&self) -> MetricsSnapshot {
        let node = self.node();
        let reactor = |reactor: api::Reactor| ReactorSample {
            index: reactor.index,
            turns: reactor.turns,
            busy_turns: reactor.busy_turns,
            sleeps: reactor.sleeps,
            slots_used: reactor.slots_used,
            slots_short: reactor.slots_short,
            pool_short: reactor.pool_short,
            parked: reactor.parked,
            fenced_devices: reactor.fenced_devices,
            stale_commands: reactor.stale_commands,
            slow_turns: reactor.slow_turns,
        };
        let attachment = |(name, attachment): (&Name, &Attachment)| {
            let offered = self.state.control.attachments.get(name);
            let connection = self.connection(offered);
            let report = offered.and_then(|offered| self.shared.door().report(offered.index));
            let report = report.unwrap_or_default();
            let running = matches!(
                connection.state,
                api::ConnectionState::Running | api::ConnectionState::Connected
            );
            AttachmentSample {
                attachment: name.to_string(),
                volume: attachment.volume.to_string(),
                connected: running,
                in_flight: sum(offered, |stats| stats.in_flight.get()),
                parked: sum(offered, |stats| stats.parked.get()),
                refused: self.refused(offered),
                rings: self.ring_events(offered),
                throttled: sum(offered, |stats| stats.throttled.get()),
                ranges_ns: sum(offered, |stats| stats.ranges_ns.get()),
                bounced: sum(offered, |stats| stats.bounced.get()),
                sessions: connection.sessions,
                messages_refused: report.messages_refused,
                held: held(&report),
                stalls: report.stalls.count,
                cut_off: report.stalls.cut_off,
                shares: connection.shares.into_iter().map(share).collect(),
                operations: operations(offered),
                faults: faults(|kind| sum(offered, |stats| stats.faults.get(kind).map_or(0, Count::get))),
            }
        };
        let disk = |(name, disk): (&Name, &Disk)| {
            let view = self.disk(name, disk);
            let open = self.state.disks.get(name);
            let all = |count: fn(&palisade_block::stats::DeviceStats) -> u64| {
                open.map_or(0, |open| open.stats.iter().map(|stats| count(stats)).sum())
            };
            DiskSample {
                disk: view.id,
                online: view.condition == api::DiskCondition::Online,
                bytes: view.bytes,
                free_bytes: view.free_bytes,
                finished: all(|stats| stats.finished.get()),
                in_flight: view.in_flight,
                oldest_ns: open.map_or(0, oldest_ns),
                stalls: all(|stats| stats.stalls.get()),
                faults: open.map(disk_faults).unwrap_or_default(),
            }
        };
        let volume = |(name, volume): (&Name, &Volume)| {
            let view = self.volume(name, volume);
            let uncleared = view
                .clearing
                .map(|clearing| clearing.bytes - clearing.cleared_bytes);
            VolumeSample {
                volume: view.id,
                bytes: view.bytes,
                usable_bytes: view.usable_bytes,
                uncleared_bytes: uncleared.unwrap_or(0),
            }
        };
        let health = self.shared.health();
        MetricsSnapshot {
            state_age: Duration::ZERO,
            health: match health.overall {
                api::Overall::Ok => 0,
                api::Overall::Degraded => 1,
                api::Overall::Failed => 2,
            },
            findings: health
                .findings
                .into_iter()
                .map(|finding| (finding.code, finding.subject, finding.count))
                .collect(),
            version: node.version,
            node: node.id,
            generation: node.generation,
            applied: node.applied,
            reactors: self.reactors().into_iter().map(reactor).collect(),
            attachments: self.cluster.attachments.iter().map(attachment).collect(),
            shares: self.totals().into_iter().map(share).collect(),
            volumes: self.cluster.volumes.iter().map(volume).collect(),
            disks: self.cluster.disks.iter().map(disk).collect(),
            heartbeats: self.heartbeats(),
            node_refusals: self.node_refusals(),
            members: self.members(),
        }
    }

    fn node_refusals(&self) -> Vec<(&'static str, u64)> {
        let site = self.shared.site.get();
        site.map(|site| site.refusals().counted().collect())
            .unwrap_or_default()
    }

    fn heartbeats(&self) -> Vec<(&'static str, u64)> {
        let Some(site) = self.shared.site.get() else {
            return Vec::new();
        };
        let counters = site.sensing().counters();
        vec![
            ("heard", counters.heard.load(Ordering::Relaxed)),
            ("refused", counters.refused.load(Ordering::Relaxed)),
            ("nonsense", counters.nonsense.load(Ordering::Relaxed)),
            ("turned_away", counters.turned_away.load(Ordering::Relaxed)),
            ("held_up", counters.held_up.load(Ordering::Relaxed)),
        ]
    }

    fn members(&self) -> Vec<MemberSample> {
        let Some(site) = self.shared.site.get() else {
            return Vec::new();
        };
        let (seen, now) = (site.sensing().seen(), boot_time());
        let others = self.cluster.nodes.iter();
        let sample = |(name, node): (&Name, &Node)| {
            let peer = seen.peers.get(&node.uuid)?;
            Some(MemberSample {
                member: name.to_string(),
                active: node.is_active(),
                heard: matches!(peer.state, PeerState::Alive | PeerState::Limping(_)),
                links: peer.connected.len() as u64,
                age: peer.heard.map(|heard| now.since(heard).duration()),
            })
        };
        others.filter_map(sample).collect()
    }
}

fn share(share: api::Share) -> ShareSample {
    ShareSample {
        of: share.of,
        used: share.used,
        limit: share.limit,
    }
}

fn held(report: &SessionReport) -> Vec<(&'static str, u64)> {
    vec![
        ("message", report.messages.held),
        ("connection", report.connects.held),
    ]
}

/// One figure of an attachment over all its reactors.
pub(crate) fn sum(offered: Option<&Offered>, count: impl Fn(&AttachmentStats) -> u64) -> u64 {
    offered.map_or(0, |offered| offered.stats.iter().map(|stats| count(stats)).sum())
}

pub(crate) fn operations(offered: Option<&Offered>) -> Vec<OperationSample> {
    let sample = |kind: usize, operation: &'static str| {
        let answered = |status: Status| {
            let of = |stats: &AttachmentStats| Some(stats.answered.get(kind)?.get(status as usize)?.get());
            sum(offered, |stats| of(stats).unwrap_or(0))
        };
        let latencies = offered
            .into_iter()
            .flat_map(|offered| &offered.stats)
            .filter_map(|s| s.latency.get(kind));
        OperationSample {
            operation,
            ok: answered(Status::Ok),
            io_err: answered(Status::IoErr),
            unsupp: answered(Status::Unsupp),
            bytes: sum(offered, |stats| stats.bytes.get(kind).map_or(0, Count::get)),
            latency: latency(latencies),
        }
    };
    Op::NAMES
        .iter()
        .enumerate()
        .map(|(kind, name)| sample(kind, name))
        .collect()
}

fn latency<'a>(all: impl Iterator<Item = &'a Latency>) -> LatencySample {
    let mut sum_ns = 0;
    let mut buckets: Vec<(u64, u64)> = Vec::with_capacity(LATENCY_BUCKETS);
    for one in all {
        sum_ns += one.sum_ns();
        for (at, (bound, count)) in one.buckets().enumerate() {
            match buckets.get_mut(at) {
                Some(bucket) => bucket.1 += count,
                None => buckets.push((bound, count)),
            }
        }
    }
    LatencySample { buckets, sum_ns }
}

fn faults(count: impl Fn(usize) -> u64) -> Vec<(&'static str, u64)> {
    Fault::NAMES
        .iter()
        .enumerate()
        .map(|(kind, name)| (*name, count(kind)))
        .collect()
}

pub(crate) fn disk_faults(open: &OpenDisk) -> Vec<(&'static str, u64)> {
    let count = |kind: usize| -> u64 {
        open.stats
            .iter()
            .filter_map(|stats| stats.faults.get(kind))
            .map(Count::get)
            .sum()
    };
    faults(count)
}

pub(crate) fn oldest_ns(open: &OpenDisk) -> u64 {
    open.stats
        .iter()
        .map(|stats| stats.oldest_ns.get())
        .max()
        .unwrap_or(0)
}
