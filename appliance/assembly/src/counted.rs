//! From counters to findings: what has gone wrong since the last look, by its cause.
//!
//! The data path only counts. Here the counts of two looks are compared, so that a condition comes from recent faults and
//! not from one of last year. It ends when what had failed works again: no such fault for a while, and something of the
//! same kind done well meanwhile. A disk that fails again soon after is held for longer each time, so that one that
//! comes and goes is not an event every few seconds.

use crate::findings::sessions;
use crate::local_state::{LocalState, OpenDisk};
use crate::samples::sum;
use crate::standing::Findings;
use palisade_api::FindingKind;
use palisade_api::size::counted;
use palisade_block::Fault;
use palisade_block::stats::Count;
use palisade_control::Offered;
use palisade_frontend::SessionReport;
use palisade_model::{Cluster, Disk, Medium};
use palisade_virtio::QueueStats;
use palisade_words::{AttachmentIndex, DeviceIndex, Name, SECTOR_BYTES};
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long a fault must not have come again before it can be over.
const HOLD: Duration = Duration::from_secs(2);

/// The same for one that comes again and again.
const HOLD_MAX: Duration = Duration::from_secs(320);

/// Sessions in a row that are refused before it is told.
const REFUSED_IN_A_ROW: u64 = 3;

/// Requests may be parked for so long before it is told: a change of their volume parks what it meets for a moment.
const PARKED_PATIENCE: Duration = Duration::from_secs(5);

/// A queue may be unable to start for so long before it is told: the messages of a VMM come one after the other.
const START_PATIENCE: Duration = Duration::from_secs(2);

type Faults = [u64; Fault::KINDS];

/// What was counted up to the last look.
#[derive(Debug, Default)]
pub struct Counted {
    disks: BTreeMap<Name, DiskSeen>,
    attachments: BTreeMap<Name, AttachmentSeen>,
    /// Times without a file descriptor.
    files_short: u64,
}

/// A counter's faults, reactor by reactor, as seen at the last look.
type Seen = Vec<Faults>;

#[derive(Debug)]
struct DiskSeen {
    device: DeviceIndex,
    faults: Seen,
    /// Slow ranges, reactor by reactor.
    slow_ranges: Vec<u64>,
    bad: BTreeMap<FindingKind, Bad>,
}

/// One kind of fault of one disk.
#[derive(Clone, Debug)]
struct Bad {
    last: Instant,
    /// What had been done well when the fault last came, counter by counter.
    done: Vec<u64>,
    hold: Duration,
    /// The attachments whose requests have met it since it began.
    met: BTreeSet<AttachmentIndex>,
    over: bool,
}

#[derive(Debug)]
struct AttachmentSeen {
    index: AttachmentIndex,
    faults: Seen,
    /// What came since the look before.
    more: Seen,
    refused: u64,
    /// What was no valid request already at the ring.
    malformed: u64,
    /// Sessions in a row that were refused.
    refused_sessions: u64,
    /// Since when requests of it are parked.
    parked: Option<Instant>,
    /// Since when some queue cannot start.
    cannot_start: Option<Instant>,
}

/// What a counter says of things done well: now, and when a fault last came; and whether that was since the last look.
struct Done {
    now: u64,
    at_fault: u64,
    fresh: bool,
}

/// The finding that a fault is with the disk on which it came; `None` for what says nothing of the disk.
pub fn finding_of_disk(fault: Fault) -> Option<FindingKind> {
    Some(match fault {
        Fault::Media => FindingKind::DiskMedia,
        Fault::NoSpace => FindingKind::DiskNoSpace,
        Fault::Gone => FindingKind::DiskGone,
        Fault::Fenced => FindingKind::DiskFenced,
        Fault::Unsupported => FindingKind::DiskUnsupported,
        Fault::ReadOnly => FindingKind::DiskReadOnly,
        Fault::TimedOut => FindingKind::DiskTimedOut,
        Fault::Unreachable => FindingKind::DiskUnreachable,
        Fault::BeyondEnd => FindingKind::DiskShrunk,
        Fault::TooLarge => FindingKind::DiskTooLarge,
        Fault::NoMemory => FindingKind::HostShort,
        Fault::Denied => FindingKind::DiskDenied,
        Fault::Rejected => FindingKind::DiskRejects,
        Fault::GuestMemory => return None,
    })
}

/// The finding that a fault is with the attachment whose request met it; `None` where it is one with the disk.
pub fn finding_of_attachment(fault: Fault) -> Option<FindingKind> {
    match fault {
        Fault::GuestMemory => Some(FindingKind::GuestMemoryLost),
        _ => None,
    }
}

/// Whether a disk is gone or only failing, of the kinds that faults bring.
pub const GONE: [FindingKind; 2] = [FindingKind::DiskGone, FindingKind::DiskUnreachable];

/// Kinds of which an I/O error that names no reason is most likely a consequence.
const EXPLAINS_MEDIA: [FindingKind; 6] = [
    FindingKind::DiskGone,
    FindingKind::DiskUnreachable,
    FindingKind::DiskShrunk,
    FindingKind::DiskNoSpace,
    FindingKind::DiskReadOnly,
    FindingKind::DiskFenced,
];

/// Kinds that only a write shows, and only a write that succeeds shows to be over.
const OF_WRITES: [FindingKind; 4] = [
    FindingKind::DiskNoSpace,
    FindingKind::DiskReadOnly,
    FindingKind::DiskTooLarge,
    FindingKind::DiskDenied,
];

/// What has happened. How often is counted with the finding, and goes on while the sentence stands.
fn sentence(fault: Fault, disk: &str, met: &str) -> String {
    let what = match fault {
        Fault::Media => "ended with an I/O error of the device",
        Fault::NoSpace => "failed because the file system or pool that holds it has no space left",
        Fault::Gone => "failed because the device is no longer there",
        Fault::Fenced => "met a reservation that keeps this node out",
        Fault::Unsupported => "failed because the device does not offer that",
        Fault::ReadOnly => "failed because what holds it may only be read",
        Fault::TimedOut => "lasted too long and had to be taken back",
        Fault::GuestMemory => "failed because the guest's memory was not there",
        Fault::Unreachable => "failed because the way to the device is broken or too slow",
        Fault::BeyondEnd => "lay behind its end: it is, or was, shorter than it should be",
        Fault::TooLarge => "failed because its file may not become that large",
        Fault::NoMemory => "failed because the host had no memory for that",
        Fault::Denied => {
            "failed because the host forbids it: rights, a seal, an immutable file or a device that may only be read"
        }
        Fault::Rejected => "failed because the kernel took that for malformed",
    };
    format!("operations on {disk} {what}{met}")
}

/// What parked requests wait for.
fn parked(by: Option<(Option<&Name>, Fault)>) -> String {
    let Some((disk, fault)) = by else {
        return "requests wait for a change of their volume, about which nothing is decided yet".to_owned();
    };
    let disk = disk.map_or("a disk that is not open here".to_owned(), |disk| {
        format!("disk {disk}")
    });
    let why = match fault {
        Fault::Gone => "which is gone",
        Fault::Fenced => "which has refused this node",
        Fault::TimedOut => "on which they lasted too long",
        _ => "which cannot be reached",
    };
    format!("requests wait for {disk}, {why}")
}

impl Counted {
    /// Compares, raises and clears.
    pub fn look(
        &mut self,
        cluster: &Cluster,
        state: &LocalState,
        reports: &dyn Fn(AttachmentIndex) -> Option<SessionReport>,
        findings: &Findings,
        now: Instant,
    ) {
        self.look_at_attachments(state, reports, findings, now);
        let short = palisade_frontend::shortage::times();
        let times = short.saturating_sub(std::mem::replace(&mut self.files_short, short));
        if times > 0 {
            let message = "there was no file descriptor left for what a VMM wanted (RLIMIT_NOFILE)";
            findings.raise_times(FindingKind::FilesShort, "node", message, times);
        }
        self.disks.retain(|name, _| state.disks.contains_key(name));
        for (name, open) in &state.disks {
            let fresh = || DiskSeen {
                device: open.index,
                faults: Seen::new(),
                slow_ranges: Vec::new(),
                bad: BTreeMap::new(),
            };
            let seen = self.disks.entry(name.clone()).or_insert_with(fresh);
            if seen.device != open.index {
                *seen = fresh();
            }
            let on_it: Vec<_> = attachments_on(cluster, name)
                .filter_map(|attachment| {
                    let (seen, offered) = (
                        self.attachments.get(attachment)?,
                        state.control.attachments.get(attachment)?,
                    );
                    Some((attachment, offered, seen))
                })
                .collect();
            let look = DiskLook {
                name,
                disk: cluster.disks.get(name),
                open,
                on_it: &on_it,
                findings,
                now,
            };
            seen.look(&look);
            seen.look_at_ranges(&look);
            seen.heal(&look);
        }
    }

    /// Faults that each attachment has met since the last look.
    fn look_at_attachments(
        &mut self,
        state: &LocalState,
        reports: &dyn Fn(AttachmentIndex) -> Option<SessionReport>,
        findings: &Findings,
        now: Instant,
    ) {
        self.attachments
            .retain(|name, _| state.control.attachments.contains_key(name));
        for (name, offered) in &state.control.attachments {
            let index = offered.index;
            let fresh = || AttachmentSeen {
                index,
                faults: Seen::new(),
                more: Seen::new(),
                refused: 0,
                malformed: 0,
                refused_sessions: 0,
                parked: None,
                cannot_start: None,
            };
            let seen = self.attachments.entry(name.clone()).or_insert_with(fresh);
            if seen.index != index {
                *seen = fresh();
            }
            let subject = format!("attachment/{name}");
            seen.more = more(&mut seen.faults, offered.stats.iter().map(|stats| &stats.faults));
            for fault in Fault::ALL {
                let times = total(&seen.more, fault);
                if let Some(kind) = finding_of_attachment(fault).filter(|_| times > 0) {
                    let message = sentence(fault, &format!("behalf of attachment {name}"), "");
                    findings.raise_times(kind, &*subject, message, times);
                }
            }
            let refused = sum(Some(offered), |stats| stats.refused.get());
            let times = refused.saturating_sub(seen.refused);
            seen.refused = refused;
            if times > 0 {
                let message = format!(
                    "the guest has made {}: outside the volume, misaligned, or writing to a disk offered read-only",
                    counted(times, "wrong request")
                );
                findings.raise_times(FindingKind::RequestsRefused, &*subject, message, times);
            }
            seen.look_at_parked(state, offered, &subject, findings, now);
            if let Some(report) = reports(index) {
                seen.look_at_session(&report, &subject, findings, now);
            }
        }
    }
}

impl AttachmentSeen {
    /// Tells whose requests wait on no disk, and for what.
    fn look_at_parked(
        &mut self,
        state: &LocalState,
        offered: &Offered,
        subject: &str,
        findings: &Findings,
        now: Instant,
    ) {
        if sum(Some(offered), |stats| stats.parked.get()) == 0 {
            if self.parked.take().is_some() {
                findings.clear(FindingKind::RequestsParked, subject);
            }
            return;
        }
        let since = *self.parked.get_or_insert(now);
        if now.duration_since(since) >= PARKED_PATIENCE {
            let message = parked(state.control.parked_by(offered.volume));
            findings.restate(FindingKind::RequestsParked, subject, message);
        }
    }

    fn look_at_session(&mut self, report: &SessionReport, subject: &str, findings: &Findings, now: Instant) {
        let at_the_rings = |count: fn(&QueueStats) -> u64| -> u64 {
            let queues = report.queue_stats.iter();
            queues.map(|stats| count(stats)).sum()
        };
        // Unknown types are no fault: a driver may ask for what there is.
        let malformed = at_the_rings(|stats| stats.malformed.get() + stats.refused_writes.get());
        let times = malformed.saturating_sub(self.malformed);
        self.malformed = malformed;
        if times > 0 {
            let message = format!(
                "the guest has made {}: malformed, or writing to a disk offered read-only ({} in all had no status byte to \
                 be answered by)",
                counted(times, "wrong request"),
                at_the_rings(|stats| stats.unanswerable.get())
            );
            findings.raise_times(FindingKind::RequestsRefused, subject, message, times);
        }
        let more = report.refused_sessions.saturating_sub(self.refused_sessions);
        self.refused_sessions = report.refused_sessions;
        if more > 0 && report.refused_sessions >= REFUSED_IN_A_ROW {
            let why = report
                .first_refusal
                .as_deref()
                .unwrap_or("it did not say what it wanted");
            let message = format!("a VMM comes again and again, and is refused each time: {why}");
            findings.raise_times(FindingKind::SessionsRefused, subject, message, more);
        } else if report.refused_sessions == 0 && findings.stands(FindingKind::SessionsRefused, subject) {
            findings.clear(FindingKind::SessionsRefused, subject);
        }
        match sessions::cannot_start(report).filter(|_| report.connected) {
            Some(why) => {
                let since = *self.cannot_start.get_or_insert(now);
                let told = findings.stands(FindingKind::QueueCannotStart, subject);
                if now.duration_since(since) >= START_PATIENCE && !told {
                    findings.raise(FindingKind::QueueCannotStart, subject, why);
                }
            }
            None if self.cannot_start.take().is_some() => {
                findings.clear(FindingKind::QueueCannotStart, subject);
            }
            None => {}
        }
    }
}

/// A disk at one look.
struct DiskLook<'a> {
    name: &'a Name,
    disk: Option<&'a Disk>,
    open: &'a OpenDisk,
    /// The attachments of volumes on it.
    on_it: &'a [(&'a Name, &'a Offered, &'a AttachmentSeen)],
    findings: &'a Findings,
    now: Instant,
}

impl DiskSeen {
    fn look(&mut self, at: &DiskLook<'_>) {
        let grown = more(&mut self.faults, at.open.stats.iter().map(|stats| &stats.faults));
        let (subject, called) = (format!("disk/{}", at.name), called(at.name, at.disk));
        // Media last: it may be the consequence of another one of this very look.
        let others = Fault::ALL.into_iter().filter(|fault| *fault != Fault::Media);
        for fault in others.chain([Fault::Media]) {
            let times = total(&grown, fault);
            // The kernel forbids a write to a device that may only be read (EPERM), and names no reason.
            let may_only_be_read = at.open.sight.look.is_some_and(|look| look.read_only);
            let fault = match fault {
                Fault::Denied if may_only_be_read => Fault::ReadOnly,
                other => other,
            };
            let Some(mut kind) = finding_of_disk(fault).filter(|_| times > 0) else {
                continue;
            };
            // A device that is gone or cut off answers with whatever number its driver gives for a capacity of nothing.
            if kind == FindingKind::DiskNoSpace && at.is_device() {
                let shorter = at
                    .open
                    .sight
                    .look
                    .filter(|look| look.gone || look.bytes < at.agreed_bytes());
                kind = match shorter {
                    Some(look) if look.gone => FindingKind::DiskGone,
                    Some(_) => FindingKind::DiskShrunk,
                    None => kind,
                };
            }
            if kind == FindingKind::DiskMedia {
                let explains = |cause: &FindingKind| at.findings.stands(*cause, &subject);
                kind = EXPLAINS_MEDIA.into_iter().find(explains).unwrap_or(kind);
            }
            let message = sentence(fault, &called, &at.met(fault));
            at.findings.raise_times(kind, &*subject, message, times);
            let hold = match self.bad.get(&kind) {
                Some(bad) if bad.over && at.now.duration_since(bad.last) < 10 * bad.hold => {
                    (2 * bad.hold).min(HOLD_MAX)
                }
                Some(bad) if !bad.over => bad.hold,
                _ => HOLD,
            };
            let mut met = match self.bad.remove(&kind) {
                Some(bad) if !bad.over => bad.met,
                _ => BTreeSet::new(),
            };
            met.extend(at.concerned(fault).map(|(_, offered, _)| offered.index));
            let done = at.done(kind, fault, &grown).into_iter();
            let bad = Bad {
                last: at.now,
                done: done
                    .map(|done| if done.fresh { done.at_fault } else { done.now })
                    .collect(),
                hold,
                met,
                over: false,
            };
            self.bad.insert(kind, bad);
        }
    }

    /// Tells whose discards or writes of zeroes have kept the disk for long since the last look, or do so now.
    fn look_at_ranges(&mut self, at: &DiskLook<'_>) {
        self.slow_ranges.resize(at.open.stats.len(), 0);
        for (stats, before) in at.open.stats.iter().zip(&mut self.slow_ranges) {
            let ranges = &stats.slow_ranges;
            let seen = ranges.seen.get();
            if std::mem::replace(before, seen) == seen {
                continue;
            }
            let whose = at
                .on_it
                .iter()
                .find(|(_, offered, _)| u64::from(offered.index.0) == ranges.of.get());
            let whose = match whose {
                Some((name, ..)) => format!("attachment {name}"),
                None => "an attachment that is no longer there".to_owned(),
            };
            let message = format!(
                "a discard or write of zeroes of {whose} has kept {} for {} ms: reads and writes there waited",
                called(at.name, at.disk),
                ranges.last_ns.get() / 1_000_000
            );
            let subject = format!("disk/{}", at.name);
            at.findings.raise(FindingKind::DiskDiscardsSlow, subject, message);
        }
    }

    /// Ends what works again, and what nobody is left to show that it does.
    fn heal(&mut self, at: &DiskLook<'_>) {
        for (kind, bad) in self.bad.iter_mut().filter(|(_, bad)| !bad.over) {
            // That the file system is still full is told by a look at it.
            if *kind == FindingKind::DiskNoSpace && at.has_nobody_left_of(&bad.met) {
                bad.over = true;
                at.findings.clear(*kind, &format!("disk/{}", at.name));
                continue;
            }
            let done: Vec<_> = at
                .done(*kind, Fault::Media, &[])
                .iter()
                .map(|done| done.now)
                .collect();
            if done.len() != bad.done.len() {
                // Attachments have come or gone: what was done before is not known.
                bad.done = done;
            } else if done.iter().zip(&bad.done).any(|(now, before)| now > before)
                && at.now.duration_since(bad.last) >= bad.hold
            {
                bad.over = true;
                at.findings.clear(*kind, &format!("disk/{}", at.name));
            }
        }
    }
}

impl DiskLook<'_> {
    fn is_device(&self) -> bool {
        self.disk
            .is_some_and(|disk| matches!(disk.medium, Medium::Block { .. }))
    }

    fn agreed_bytes(&self) -> u64 {
        self.disk.map_or(0, |disk| disk.sectors * SECTOR_BYTES)
    }

    /// What tells of a kind whether it works again.
    fn done(&self, kind: FindingKind, fault: Fault, grown: &[Faults]) -> Vec<Done> {
        let at = fault.kind();
        let fresh = |more: Option<&Faults>| more.and_then(|more| more.get(at)).is_some_and(|more| *more > 0);
        if !OF_WRITES.contains(&kind) {
            let stats = self.open.stats.iter().enumerate();
            return stats
                .map(|(reactor, stats)| Done {
                    now: stats.sound(),
                    at_fault: stats.sound_at_fault.get(at).map_or(0, Count::get),
                    fresh: fresh(grown.get(reactor)),
                })
                .collect();
        }
        let of_attachment = |(_, offered, seen): &(&Name, &Offered, &AttachmentSeen)| -> Vec<Done> {
            let stats = offered.stats.iter().enumerate();
            stats
                .map(|(reactor, stats)| Done {
                    now: stats.written(),
                    at_fault: stats.written_at_fault.get(at).map_or(0, Count::get),
                    fresh: fresh(seen.more.get(reactor)),
                })
                .collect()
        };
        self.on_it.iter().flat_map(of_attachment).collect()
    }

    /// Whether a fault was met by attachments of which none is left.
    fn has_nobody_left_of(&self, met: &BTreeSet<AttachmentIndex>) -> bool {
        let is_left =
            |index: &AttachmentIndex| self.on_it.iter().any(|(_, offered, _)| offered.index == *index);
        !met.is_empty() && !met.iter().any(is_left)
    }

    /// The attachments whose requests have met a fault since the last look.
    fn concerned(&self, fault: Fault) -> impl Iterator<Item = &(&Name, &Offered, &AttachmentSeen)> {
        let on_it = self.on_it.iter();
        on_it.filter(move |(_, _, seen)| total(&seen.more, fault) > 0)
    }

    fn met(&self, fault: Fault) -> String {
        let names: Vec<_> = self
            .concerned(fault)
            .map(|(name, _, _)| name.to_string())
            .collect();
        match names.as_slice() {
            [] => String::new(),
            names => format!("; requests of attachment {} met it", names.join(", ")),
        }
    }
}

/// What came since the last look, reactor by reactor.
fn more<'a>(seen: &mut Seen, now: impl Iterator<Item = &'a [Count; Fault::KINDS]>) -> Seen {
    let now: Seen = now
        .map(|counts| std::array::from_fn(|kind| counts.get(kind).map_or(0, Count::get)))
        .collect();
    let before = std::mem::replace(seen, now.clone());
    let grown = |(reactor, now): (usize, &Faults)| -> Faults {
        let before = before.get(reactor).copied().unwrap_or_default();
        std::array::from_fn(|kind| match (now.get(kind), before.get(kind)) {
            (Some(now), Some(before)) => now.saturating_sub(*before),
            _ => 0,
        })
    };
    now.iter().enumerate().map(grown).collect()
}

/// Faults of one kind over all reactors.
fn total(faults: &[Faults], fault: Fault) -> u64 {
    faults.iter().filter_map(|faults| faults.get(fault.kind())).sum()
}

/// How a disk is called in a sentence.
fn called(name: &Name, disk: Option<&Disk>) -> String {
    match disk.map(|disk| &disk.medium) {
        Some(Medium::File { path, .. } | Medium::Block { path, .. }) => format!("disk {name} ({path})"),
        _ => format!("disk {name}"),
    }
}

fn attachments_on<'a>(cluster: &'a Cluster, disk: &'a Name) -> impl Iterator<Item = &'a Name> {
    let lies_on = move |volume: &Name| {
        let volume = cluster.volumes.get(volume);
        volume.is_some_and(|volume| volume.all_extents().iter().any(|extent| extent.disk == *disk))
    };
    let all = cluster.attachments.iter();
    all.filter(move |(_, attachment)| lies_on(&attachment.volume))
        .map(|(name, _)| name)
}

#[cfg(test)]
mod tests;
