//! Looks at the media of open disks from the outside, once a second: whether they are still there, still as long, still
//! where their path leads, and whether their file system has room. Guests' requests would find out too, one by one and
//! too late; nobody asks a guest that is idle.
//!
//! A look may wait as long as the device does, so each disk is looked at on a thread of its own, one look at a time. A
//! disk that does not come back from it is seen by the stall watch, not here.

mod end;

use crate::local_state::LocalState;
use crate::medium::{self, Manner};
use crate::message::{ControlMessage, Done};
use crate::moved;
use crate::opening;
use crate::shared::Shared;
use crate::superblocks;
use end::least;
use palisade_api::FindingKind;
use palisade_block::stats::DeviceStats;
use palisade_model::{Cluster, Disk};
use palisade_reconcile::SuperblockState;
use palisade_reconcile::refused::look_after_ms;
use palisade_sys::Opened;
use palisade_sys::device::Look;
use palisade_sys::device::fingerprint::{Fingerprint, Hold};
use palisade_words::{DeviceIndex, Name, SECTOR_BYTES};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How often a disk is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often the content of a disk without identity is looked at while it is in use.
const PRINT: Duration = Duration::from_secs(5);

/// How long the last look at the content of disks without identity may take when the node stops.
const LAST_PATIENCE: Duration = Duration::from_secs(2);

/// What was seen of an open disk.
#[derive(Clone, Debug, Default)]
pub struct Sight {
    /// The latest look; `None` before the first.
    pub look: Option<Look>,
    /// Why it could not be looked at, if so.
    pub error: Option<String>,
    /// It has not answered the latest look within some seconds. It is there, for all that is known.
    pub silent: bool,
    /// Why its path does not lead to it any more, if so.
    pub astray: Option<String>,
    /// Its path leads to another medium now that carries its superblock as well: a copy of it.
    pub copied: bool,
    /// The path that it was looked for under. Another one may have been recorded since.
    pub looked_under: Option<String>,
    /// The least size in bytes that it was seen to have, if that was less than it should be; 0 where that is not known. A file
    /// that is cut off and then written to behind its end is as long as before, and what it held is gone.
    pub shortest: Option<u64>,
    /// Why a device that has gone could not be opened again, if that was tried.
    pub reopening: Option<String>,
    /// Looks in a row that have found something else in the place of a device that had gone.
    strange: u32,
    /// When its place is looked at next, if that is not at once.
    reopen_due: Option<Instant>,
    looking: Arc<AtomicBool>,
    /// Operations that had ended when the latest look began.
    ended: u64,
    due: Option<Instant>,
    superblock_due: Option<Instant>,
    print_due: Option<Instant>,
    print: Option<Fingerprint>,
}

/// Looks at all disks whose turn it is. Waits for nothing.
pub fn look_around(shared: &Arc<Shared>, now: Instant) {
    let Some(mut state) = shared.state_within(Duration::ZERO) else {
        return;
    };
    let state = &mut *state;
    for (name, open) in &mut state.disks {
        let sight = &mut open.sight;
        let is_due = |due: Option<Instant>| due.is_none_or(|due| now >= due);
        // A guest's request has met the end of the file where none should be: how short it is has to be seen at once.
        let has_met_end = open.opened.cut().is_some() && sight.shortest.is_none();
        if !(is_due(sight.due) || has_met_end)
            || open.opened.path().is_none()
            || sight.looking.swap(true, Relaxed)
        {
            continue;
        }
        sight.due = Some(now + LOOK);
        let disk = state
            .control
            .observed
            .disks
            .get(name)
            .map(|observed| observed.disk.clone());
        let printed = disk.filter(|disk| medium::needs_fingerprint(disk) && is_due(sight.print_due));
        if printed.is_some() {
            sight.print_due = Some(now + PRINT);
        }
        let observed = state.control.observed.disks.get(name);
        let known = observed.map(|observed| observed.superblock);
        let superblock = known.filter(|_| sight.is_superblock_due(now, shared.settings.superblock_look));
        let cluster = shared.cluster();
        let path = cluster
            .disks
            .get(name)
            .and_then(|disk| disk.path_of(&shared.name));
        let ended = ended(&open.stats);
        let errand = Errand {
            shared: Arc::clone(shared),
            stats: open.stats.clone(),
            ended_before: std::mem::replace(&mut sight.ended, ended),
            clears: !state.clearings.is_empty(),
            shortest: sight.shortest,
            name: name.clone(),
            index: open.index,
            opened: Arc::clone(&open.opened),
            path: path.map(str::to_owned),
            agreed: cluster
                .disks
                .get(name)
                .map_or(0, |disk| disk.sectors * SECTOR_BYTES),
            cluster,
            printed: printed.map(|disk| (disk, sight.print.clone())),
            superblock,
            reopens: is_due(sight.reopen_due),
        };
        let looking = Arc::clone(&sight.looking);
        let begun = std::thread::Builder::new().name("look".into()).spawn(move || {
            errand.run();
            looking.store(false, Relaxed);
        });
        if begun.is_err() {
            // There is no thread to be had just now; the next turn tries again.
            sight.looking.store(false, Relaxed);
        }
    }
}

impl Sight {
    /// What its content looked like, where nothing else tells it.
    pub fn print(&self) -> Option<&Fingerprint> {
        self.print.as_ref()
    }

    /// Whether the superblock is to be looked at now; the opening of the disk was the first look.
    fn is_superblock_due(&mut self, now: Instant, every: Option<Duration>) -> bool {
        let Some(every) = every else { return false };
        let due = *self.superblock_due.get_or_insert(now + every);
        if now < due {
            return false;
        }
        self.superblock_due = Some(now + every);
        true
    }

    /// Notes what came of opening a device again that had gone, or that it has not. What has taken its place and is not the
    /// disk's medium is looked at as seldom as any medium that may not be used: it is somebody else's, who is to be able to
    /// open it.
    fn reopened(&mut self, failed: Option<Reopening>, now: Instant) {
        (self.strange, self.reopening) = match failed {
            None => (0, None),
            Some(Reopening::Absent(reason)) => (0, Some(reason)),
            Some(Reopening::Strange) => {
                let reason =
                    "what is there does not carry the superblock that the disk had: it is left alone";
                (self.strange.saturating_add(1), Some(reason.to_owned()))
            }
        };
        let wait = Duration::from_millis(look_after_ms(self.strange));
        self.reopen_due = (self.strange > 0).then(|| now + wait);
    }

    /// Has the superblock looked at once more, soon: what was found is believed when it is found twice.
    pub fn look_soon(&mut self, now: Instant) {
        self.superblock_due = Some(now + LOOK);
    }
}

/// Operations that have ended, on all reactors.
fn ended(stats: &[Arc<DeviceStats>]) -> u64 {
    stats.iter().map(|stats| stats.finished.get()).sum()
}

/// One look at one disk.
struct Errand {
    shared: Arc<Shared>,
    stats: Vec<Arc<DeviceStats>>,
    /// Operations that had ended when the look before this one began.
    ended_before: u64,
    /// Space of volumes is being cleared, on this disk or on another one.
    clears: bool,
    /// The least size that it was seen to have before, if that was less than it should be.
    shortest: Option<u64>,
    name: Name,
    index: DeviceIndex,
    opened: Arc<Opened>,
    path: Option<String>,
    /// Its size in bytes.
    agreed: u64,
    cluster: Arc<Cluster>,
    /// The disk whose content is to be looked at, and what it looked like.
    printed: Option<(Disk, Option<Fingerprint>)>,
    /// What is known of the superblock that is to be looked at.
    superblock: Option<SuperblockState>,
    /// Whether it may be opened again, if its device has gone.
    reopens: bool,
}

/// What came of a look.
struct Seen {
    look: Option<Look>,
    /// What the kernel says of a device that is not there any more.
    error: Option<String>,
    /// It was not answered in time: by a device that hangs, or because the process that waits for it was stopped. It has not
    /// gone, and is not opened anew: it still is open here, and locked.
    silent: bool,
}

impl Seen {
    fn of(look: io::Result<Option<Look>>) -> Seen {
        let silent = look
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::TimedOut);
        let (look, error) = match look {
            Ok(look) => (look, None),
            Err(error) => (None, Some(error.to_string()).filter(|_| !silent)),
        };
        Seen { look, error, silent }
    }
}

/// Why a device that has gone could not be opened again.
enum Reopening {
    /// Nothing of the disk is there.
    Absent(String),
    /// Something else is there, which carries another superblock.
    Strange,
}

impl Errand {
    fn run(self) {
        let met_end = self.opened.cut().is_some();
        let Seen { look, error, silent } = Seen::of(self.opened.look());
        let written = self.may_be_written();
        let astray = match (&self.path, &error, silent) {
            (Some(path), None, false) => {
                astray(&self.opened, path).map(|astray| match self.cluster.disks.get(&self.name) {
                    Some(disk) if !medium::is_followed(disk) => {
                        format!("{astray}; {}", moved::remedy(&self.cluster, &self.name, disk))
                    }
                    _ => astray,
                })
            }
            _ => None,
        };
        // As seldom as its own superblock is looked at: the medium is somebody else's, for all that is known.
        let copied = self
            .superblock
            .map(|_| astray.is_some() && self.is_copy_at_its_path());
        // What the kernel forbids on a device that may only be read was told without that reason until it was seen.
        if look.is_some_and(|look| look.read_only) {
            let subject = format!("disk/{}", self.name);
            self.shared.findings.clear(FindingKind::DiskDenied, &subject);
        }
        let has_gone = look.is_some_and(|look| look.gone) || error.is_some();
        if let (true, Some(disk)) = (has_gone, self.cluster.disks.get(&self.name)) {
            self.shared.last_seen.displace(disk.uuid);
        }
        let reopening = match has_gone && self.reopens {
            true => self.reopen(),
            false => None,
        };
        let print = match has_gone || silent {
            true => None,
            false => self.print(),
        };
        if !has_gone && !silent {
            let is_long = look.is_none_or(|look| look.bytes >= self.agreed);
            self.look_at_superblock(is_long && self.opened.cut().is_some());
        }
        let cut = self.opened.cut();
        let shorter = look.and_then(|look| least(&look, self.agreed, (self.shortest, cut), written));
        let least = shorter.into_iter().chain(cut).min();
        if let (Some(bytes), Some(disk)) = (least, self.cluster.disks.get(&self.name)) {
            medium::note_cut(&self.name, disk, bytes, &self.shared.last_seen);
        }
        let mut state = self.shared.state();
        if let Some(open) = state
            .disks
            .get_mut(&self.name)
            .filter(|open| open.index == self.index)
        {
            let sight = &mut open.sight;
            sight.silent = silent;
            // Where nothing was seen, what was seen last stands.
            if !silent {
                (sight.look, sight.error, sight.astray) = (look, error, astray);
                sight.looked_under.clone_from(&self.path);
                sight.copied = sight.astray.is_some() && copied.unwrap_or(sight.copied);
            }
            if !silent && (self.reopens || !has_gone) {
                sight.reopened(reopening, Instant::now());
            }
            sight.saw_end(&self.opened, look.as_ref(), self.agreed, (met_end, written));
            sight.print = print.or(sight.print.take());
        }
    }

    /// Whether anything may have been written to it since the look before this one.
    fn may_be_written(&self) -> bool {
        let is_busy = self.stats.iter().any(|stats| stats.in_flight.get() > 0);
        self.clears || is_busy || ended(&self.stats) != self.ended_before
    }

    /// Whether what lies under the path of the disk, which is open elsewhere, carries its superblock as well.
    fn is_copy_at_its_path(&self) -> bool {
        let disk = self.cluster.disks.get(&self.name);
        disk.filter(|disk| disk.has_superblock())
            .is_some_and(|disk| medium::beside(disk).is_ok_and(|there| superblocks::names(disk, &there)))
    }

    /// Opens a disk whose device has gone, if it is there again; else says why not.
    fn reopen(&self) -> Option<Reopening> {
        // That it is back is told by itself.
        let manner = Manner {
            patience: LOOK,
            again: true,
        };
        let work = opening::open_disk(Arc::clone(&self.shared), &self.cluster, &self.name, None, manner);
        match work() {
            Ok(Done::Opened { opened, look }) => {
                let superblock = look.superblock;
                let state = self.shared.state();
                let known = state
                    .control
                    .observed
                    .disks
                    .get(&self.name)
                    .map(|open| open.superblock);
                if known != Some(superblock) {
                    return Some(Reopening::Strange);
                }
                drop(state);
                self.shared.send(ControlMessage::CameBack {
                    disk: self.name.clone(),
                    device: self.index,
                    opened,
                    superblock,
                });
                None
            }
            Ok(_) => None,
            Err(reason) => Some(Reopening::Absent(reason)),
        }
    }

    /// Looks at the superblock, if it is time, or the medium `was_cut` off and made as long as before; and tells the
    /// control loop.
    fn look_at_superblock(&self, was_cut: bool) {
        let known = match self.superblock {
            None if was_cut => self.known_as_ours(),
            due => due,
        };
        let (Some(known), Some(disk)) = (known, self.cluster.disks.get(&self.name)) else {
            return;
        };
        if !disk.has_superblock() || disk.leaving {
            return;
        }
        self.shared.send(ControlMessage::Looked {
            disk: self.name.clone(),
            device: self.index,
            known,
            found: superblocks::look(
                &self.cluster,
                &self.name,
                disk,
                &self.opened,
                &self.shared.last_superblock,
            ),
        });
    }

    /// What is known of a superblock, unless it is known that it may not be used.
    fn known_as_ours(&self) -> Option<SuperblockState> {
        let state = self.shared.state();
        let known = state.control.observed.disks.get(&self.name)?.superblock;
        matches!(known, SuperblockState::Ours { .. }).then_some(known)
    }

    /// Looks at the content and keeps it, if it has changed.
    fn print(&self) -> Option<Fingerprint> {
        let (disk, before) = self.printed.as_ref()?;
        let now = Fingerprint::of(&self.opened).ok()?;
        let seen = &self.shared.last_seen;
        // Also when it was deleted from outside.
        if (before.as_ref() != Some(&now) || seen.recall(disk.uuid).is_none())
            && let Err(error) = seen.keep(disk.uuid, &now, Hold::InUse)
        {
            log::warn!("what disk {} looks like cannot be kept: {error}", self.name);
        }
        Some(now)
    }
}

fn astray(opened: &Opened, path: &str) -> Option<String> {
    match opened.is_at(Path::new(path)) {
        Ok(true) => None,
        Ok(false) => Some(format!("{path} leads to something else now")),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => None,
        Err(error) => Some(format!("{path} leads nowhere: {error}")),
    }
}

/// Keeps what disks without identity look like when nothing of ours is written to them any more.
pub fn look_last(shared: &Shared) {
    let last: Vec<(Disk, Arc<Opened>)> = {
        let state = shared.state();
        let open = state.disks.iter().filter_map(|(name, open)| {
            let disk = state.control.observed.disks.get(name)?.disk.clone();
            medium::needs_fingerprint(&disk).then(|| (disk, Arc::clone(&open.opened)))
        });
        open.collect()
    };
    let (done, all_done) = crossbeam::channel::bounded(last.len());
    for (disk, opened) in last {
        let (seen, done) = (shared.last_seen.clone(), done.clone());
        let look = move || {
            // Without it the one before stays, and the next start compares with more care.
            let kept = Fingerprint::of(&opened).and_then(|now| seen.keep(disk.uuid, &now, Hold::LetGo));
            if let Err(error) = kept {
                log::warn!("the last look at a disk without identity failed: {error}");
            }
            let _ = done.send(());
        };
        let _ = std::thread::Builder::new().name("look".into()).spawn(look);
    }
    drop(done);
    let deadline = Instant::now() + LAST_PATIENCE;
    while all_done.recv_deadline(deadline).is_ok() {}
}

/// Bytes that all files with holes on one file system may still ask of it.
pub fn promised(state: &LocalState, device: u64) -> u64 {
    let there = state.disks.iter().filter_map(|(name, open)| {
        let look = open.sight.look?;
        let file = look.file.filter(|file| file.device == device)?;
        // One that has just grown is as long as was agreed on, whatever the latest look saw.
        let observed = state.control.observed.disks.get(name);
        let agreed = observed.map_or(0, |observed| observed.disk.sectors * SECTOR_BYTES);
        Some(look.bytes.max(agreed).saturating_sub(file.allocated))
    });
    there.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_that_does_not_answer_has_not_gone() {
        let seen = |kind: io::ErrorKind| {
            let Seen { look, error, silent } = Seen::of(Err(kind.into()));
            (look.is_some(), error.is_some(), silent)
        };
        assert_eq!(seen(io::ErrorKind::TimedOut), (false, false, true));
        assert_eq!(seen(io::ErrorKind::NotConnected), (false, true, false));
        let Seen { look, error, silent } = Seen::of(Ok(None));
        assert_eq!((look, error, silent), (None, None, false));
    }

    #[test]
    fn what_has_taken_the_place_of_a_disk_is_looked_at_less_and_less_often() {
        let (mut sight, now) = (Sight::default(), Instant::now());
        for wait_s in [1, 2, 4, 8, 16, 32, 60, 60] {
            sight.reopened(Some(Reopening::Strange), now);
            assert_eq!(sight.reopen_due, Some(now + Duration::from_secs(wait_s)));
        }
        assert!(
            sight
                .reopening
                .as_deref()
                .unwrap_or_default()
                .contains("left alone")
        );
        sight.reopened(Some(Reopening::Absent("it is not there".into())), now);
        assert_eq!(
            (sight.reopen_due, sight.reopening.as_deref()),
            (None, Some("it is not there"))
        );
        sight.reopened(Some(Reopening::Strange), now);
        assert_eq!(sight.reopen_due, Some(now + LOOK));
        sight.reopened(None, now);
        assert_eq!((sight.reopen_due, sight.reopening), (None, None));
    }

    use crate::rest::tests::{preview, shared_of};
    use palisade_model::Usage;
    use std::fs;

    /// A look at a disk that was added as d1, open as what `opened` leads to, of which nothing runs.
    fn errand(shared: Arc<Shared>, opened: Opened, superblock: Option<SuperblockState>) -> Errand {
        let (name, cluster) = (Name::new("d1").unwrap(), shared.cluster());
        let disk = &cluster.disks[&name];
        Errand {
            name,
            stats: Vec::new(),
            ended_before: 0,
            clears: false,
            shortest: None,
            index: DeviceIndex(0),
            opened: Arc::new(opened),
            path: disk.medium.path().map(str::to_owned),
            agreed: disk.sectors * SECTOR_BYTES,
            cluster: Arc::clone(&cluster),
            printed: None,
            superblock,
            reopens: false,
            shared,
        }
    }

    #[test]
    fn a_file_given_whole_that_is_seen_shorter_is_remembered_beyond_the_daemon() {
        for usage in [Usage::Whole, Usage::Pooled] {
            let folder = tempfile::tempdir().unwrap();
            let (rest, _door) = preview::node(folder.path());
            let path = folder.path().join("d1.img");
            let request = palisade_api::DiskCreate {
                usage: match usage {
                    Usage::Whole => palisade_api::DiskUsage::Whole,
                    Usage::Pooled => palisade_api::DiskUsage::Pooled,
                },
                ..preview::request(&path, Some(preview::BYTES))
            };
            preview::added(&rest, &request).unwrap();
            let shared = shared_of(&rest);
            let disk = shared.cluster().disks[&Name::new("d1").unwrap()].clone();
            let file = fs::File::options().write(true).open(&path).unwrap();
            let open = || {
                let spec = opening::spec(&disk.medium, disk.block_bytes);
                Opened::beside(&spec.medium).unwrap()
            };
            errand(Arc::clone(&shared), open(), None).run();
            assert_eq!(shared.last_seen.cut(disk.uuid).unwrap(), None);
            file.set_len(preview::BYTES / 2).unwrap();
            errand(Arc::clone(&shared), open(), None).run();
            file.set_len(preview::BYTES).unwrap();
            errand(Arc::clone(&shared), open(), None).run();
            // A pool has lost a superblock with its end, which is told by itself.
            let kept = (usage == Usage::Whole).then_some(preview::BYTES / 2);
            assert_eq!(shared.last_seen.cut(disk.uuid).unwrap(), kept, "{usage:?}");
        }
    }

    #[test]
    fn a_copy_in_the_place_of_a_disk_in_use_is_found_out() {
        let folder = tempfile::tempdir().unwrap();
        let (rest, _door) = preview::node(folder.path());
        let (path, aside) = (folder.path().join("d1.img"), folder.path().join("aside"));
        preview::added(&rest, &preview::request(&path, Some(preview::BYTES))).unwrap();
        preview::written(&rest, &Name::new("d1").unwrap());
        let shared = shared_of(&rest);
        let disk = shared.cluster().disks[&Name::new("d1").unwrap()].clone();
        let spec = opening::spec(&disk.medium, disk.block_bytes);
        let opened = Opened::beside(&spec.medium).unwrap();
        let looks = errand(shared, opened, Some(SuperblockState::Missing));
        fs::rename(&path, &aside).unwrap();
        assert!(!looks.is_copy_at_its_path(), "nothing is there");
        fs::write(&path, vec![1; 1 << 20]).unwrap();
        assert!(!looks.is_copy_at_its_path(), "something else is there");
        fs::copy(&aside, &path).unwrap();
        assert!(looks.is_copy_at_its_path());
    }
}
