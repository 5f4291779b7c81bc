//! Guest memory is pinned, where the operator has asked for it, so that I/O on it costs less: the kernel looks its pages up
//! once and not for each request. Nobody tells us when the VMM takes pages out of the guest's memory (virtio-balloon, free
//! page reporting, virtio-mem: it punches holes into the memory's file). Pinned pages live on then, and what the guest has
//! in the same place afterwards is another page: writes would carry old data and reads would never arrive. So nothing is
//! pinned unless the operator says that no guest of this node has such a device.
//!
//! It takes long, it is a favour and no duty, and it is what a front-end would ask for without end: so one thread does it,
//! for one guest after the other, in pieces between which it asks whether the memory is still the guest's; a newer
//! table of a guest's memory takes the place of an older one that waits.
//!
//! Only what exists of it is pinned. Pages that nobody has made yet would be made by pinning, and charged to us; when
//! the guest has made more of them, its memory is pinned anew.
//!
//! A guest's memory is sent to the reactors only when all of them have given the former one back: so much of it waits in
//! the mailbox of a reactor that hangs, and no more.

use crate::reactor_thread::ReactorHandle;
use crate::shared::Shared;
use crate::watch::PendingWork;
use palisade_api::FindingKind;
use palisade_block::mailbox::ReactorCommand;
use palisade_block::{Doing, Whom};
use palisade_memory::GuestMemory;
use palisade_sys::MemoryRegistration;
use palisade_words::{AttachmentIndex, PinnedId};
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Pieces of one guest's memory at most: the rings of the reactors have 16,384 places for all.
const PIECES_MAX: usize = 256;

/// When to look whether a guest has made more of its memory: after these times, and from then on after the last.
const LOOKS: [Duration; 4] = [
    Duration::from_secs(2),
    Duration::from_secs(10),
    Duration::from_secs(60),
    Duration::from_secs(300),
];

/// Growth that is worth pinning anew: the eighth part of what there was, and so many bytes at least.
const GROWTH_BYTES_MIN: u64 = 64 << 20;

/// Which guests' memory is to be pinned, and what the reactors have of it.
#[derive(Debug, Default)]
pub struct Pinning {
    /// Whether guests' memory is pinned at all.
    wanted: bool,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    guests: BTreeMap<AttachmentIndex, Guest>,
    /// The number of what is pinned next.
    next: PinnedId,
    /// Former memory and what was pinned of it. The thread lets them go: to unpin or unmap can take long.
    former: Vec<Arc<GuestMemory>>,
    unpinned: Vec<Arc<MemoryRegistration>>,
    stopping: bool,
}

#[derive(Debug, Default)]
struct Guest {
    memory: Option<Arc<GuestMemory>>,
    /// Counts changes of the memory.
    round: u64,
    /// The number by which the reactors have the registration.
    id: PinnedId,
    /// Reactors that have not given the registration back.
    held_by: usize,
    /// Whether they were told to.
    removing: bool,
    /// When its memory is to be looked at.
    due: Option<Instant>,
    looks: usize,
    /// Bytes that existed when it was pinned last.
    existed: u64,
    /// Bytes pinned, until all reactors have given them back.
    pinned: u64,
}

/// One guest's turn.
#[derive(Debug)]
struct Job {
    attachment: AttachmentIndex,
    round: u64,
    memory: Arc<GuestMemory>,
    /// Something of it is in use; how much existed then.
    in_use: Option<u64>,
}

impl Pinning {
    /// For shares of the machine's memory, in percent, that may be pinned for one guest and for all.
    pub fn within(each_percent: u64, all_percent: u64) -> Pinning {
        Pinning {
            wanted: each_percent > 0 && all_percent > 0,
            ..Pinning::default()
        }
    }

    /// A guest has other memory from now on, or none any more. What the reactors have of the former is called back.
    pub fn change(
        &self,
        reactors: &[ReactorHandle],
        attachment: AttachmentIndex,
        memory: Option<Arc<GuestMemory>>,
    ) {
        let mut state = self.state();
        let guest = state.guests.entry(attachment).or_default();
        guest.round += 1;
        guest.call_back(reactors, attachment);
        // What may keep us waiting is not pinned: this thread serves all guests.
        let memory = memory.filter(|memory| self.wanted && memory.is_prompt());
        guest.due = memory.is_some().then(Instant::now);
        guest.looks = 0;
        guest.existed = 0;
        let former = std::mem::replace(&mut guest.memory, memory);
        state.former.extend(former);
        state.forget_if_over(attachment);
        self.changed.notify_all();
    }

    /// A reactor has given a guest's memory back.
    pub fn released(&self, id: PinnedId, registration: Option<Arc<MemoryRegistration>>) {
        let mut state = self.state();
        state.unpinned.extend(registration);
        let holders = state.guests.iter_mut();
        let mut holders = holders.filter(|(_, guest)| guest.held_by > 0 && guest.id == id);
        if let Some((&attachment, guest)) = holders.next() {
            guest.held_by -= 1;
            if guest.held_by == 0 {
                guest.removing = false;
                guest.pinned = 0;
            }
            state.forget_if_over(attachment);
        }
        self.changed.notify_all();
    }

    /// Bytes pinned of a guest's memory.
    pub fn pinned_bytes(&self, attachment: AttachmentIndex) -> u64 {
        self.state()
            .guests
            .get(&attachment)
            .map_or(0, |guest| guest.pinned)
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.state().stopping = true;
        self.changed.notify_all();
    }

    /// The next guest whose turn it is; waits for one. `None` when the thread is to end.
    fn next(&self) -> Option<Job> {
        let mut state = self.state();
        loop {
            if state.stopping {
                return None;
            }
            if !state.former.is_empty() || !state.unpinned.is_empty() {
                let gone = (
                    std::mem::take(&mut state.former),
                    std::mem::take(&mut state.unpinned),
                );
                drop(state);
                drop(gone);
                state = self.state();
                continue;
            }
            let now = Instant::now();
            let mut wake: Option<Instant> = None;
            for (&attachment, guest) in &mut state.guests {
                // While the reactors have yet to give back, their answer brings the turn.
                let (Some(due), Some(memory), false) = (guest.due, &guest.memory, guest.removing) else {
                    continue;
                };
                if due <= now {
                    return Some(Job {
                        attachment,
                        round: guest.round,
                        memory: Arc::clone(memory),
                        in_use: (guest.held_by > 0).then_some(guest.existed),
                    });
                }
                wake = Some(wake.map_or(due, |wake| wake.min(due)));
            }
            state = match wake {
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
                Some(wake) => {
                    let time = wake.saturating_duration_since(now);
                    let (state, _) = self
                        .changed
                        .wait_timeout(state, time)
                        .unwrap_or_else(PoisonError::into_inner);
                    state
                }
            };
        }
    }

    /// Whether a guest's turn has come. It waits for nobody: while others are at it, somebody is at work.
    fn has_work(&self, now: Instant) -> bool {
        let Ok(state) = self.state.try_lock() else {
            return false;
        };
        let has_turn = |guest: &Guest| guest.due.is_some_and(|due| due <= now) && !guest.removing;
        !state.stopping && (!state.former.is_empty() || state.guests.values().any(has_turn))
    }

    fn is_current(&self, job: &Job) -> bool {
        let state = self.state();
        let guest = state.guests.get(&job.attachment);
        !state.stopping && guest.is_some_and(|guest| guest.round == job.round)
    }

    /// Bytes that may be pinned for a guest: its share, and of what all may have, what the others leave.
    fn allowance(&self, attachment: AttachmentIndex, share: u64, all: u64) -> u64 {
        let others: u64 = self
            .state()
            .guests
            .iter()
            .filter(|(other, _)| **other != attachment)
            .map(|(_, guest)| guest.pinned)
            .sum();
        all.saturating_sub(others).min(share)
    }

    /// The registration of a guest's memory is ready: it goes to all reactors, if it still is the guest's.
    fn put(&self, reactors: &[ReactorHandle], job: &Job, existed: u64, registration: MemoryRegistration) {
        let mut state = self.state();
        let state = &mut *state;
        let Some(guest) = state
            .guests
            .get_mut(&job.attachment)
            .filter(|guest| guest.round == job.round)
        else {
            return;
        };
        guest.existed = existed;
        guest.look_later(job.memory.bytes());
        let pinned = registration.coverage().pinned_bytes;
        if pinned == 0 {
            return;
        }
        guest.pinned = pinned;
        guest.held_by = reactors.len();
        guest.id = state.next;
        state.next.0 = state.next.0.wrapping_add(1);
        let registration = Arc::new(registration);
        for reactor in reactors {
            reactor.send(ReactorCommand::AddMemory {
                id: guest.id,
                of: Whom::Attachment(job.attachment),
                pinned: Arc::clone(&registration),
            });
        }
    }

    /// A guest in use was looked at: it is pinned anew when it has grown enough.
    fn looked(&self, reactors: &[ReactorHandle], job: &Job, before: u64, existed: u64) {
        let mut state = self.state();
        let Some(guest) = state
            .guests
            .get_mut(&job.attachment)
            .filter(|guest| guest.round == job.round)
        else {
            return;
        };
        if existed >= before.saturating_add(GROWTH_BYTES_MIN.max(before / 8)) {
            guest.call_back(reactors, job.attachment);
            guest.due = Some(Instant::now());
        } else {
            guest.look_later(job.memory.bytes());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_if_over(&mut self, attachment: AttachmentIndex) {
        let over = |guest: &Guest| guest.memory.is_none() && guest.held_by == 0;
        if self.guests.get(&attachment).is_some_and(over) {
            self.guests.remove(&attachment);
        }
    }
}

impl Guest {
    /// Has all reactors give back what they have; once for each time they got it.
    fn call_back(&mut self, reactors: &[ReactorHandle], attachment: AttachmentIndex) {
        if self.held_by == 0 || std::mem::replace(&mut self.removing, true) {
            return;
        }
        for reactor in reactors {
            reactor.send(ReactorCommand::RemoveMemory {
                id: self.id,
                of: Whom::Attachment(attachment),
            });
        }
    }

    /// Sets the time of the next look; none when all there can be exists.
    fn look_later(&mut self, all: u64) {
        let after = LOOKS.get(self.looks.min(LOOKS.len() - 1)).copied();
        self.looks += 1;
        self.due = after
            .filter(|_| self.existed < all)
            .map(|after| Instant::now() + after);
    }
}

/// The thread.
pub fn run(shared: &Arc<Shared>) {
    let asked = Arc::downgrade(shared);
    let waiting = PendingWork::asks(move || {
        let shared = asked.upgrade()?;
        shared
            .pinning
            .has_work(Instant::now())
            .then_some("a guest's memory")
    });
    let watched = shared
        .watch
        .enrol("node/pin", "the thread that pins guests' memory", waiting);
    loop {
        watched.progress.asleep();
        let Some(job) = shared.pinning.next() else { return };
        let mark = || {
            watched
                .progress
                .mark(Doing::Memory, Whom::Attachment(job.attachment))
        };
        mark();
        let parts = job.memory.resident_segments(PIECES_MAX);
        let existed = parts.iter().map(|part| part.bytes() as u64).sum();
        if let Some(before) = job.in_use {
            shared.pinning.looked(&shared.reactors, &job, before, existed);
            continue;
        }
        let settings = &shared.settings;
        let hundredth = machine_bytes() / 100;
        let percent = |percent| hundredth * percent;
        let mut left = shared.pinning.allowance(
            job.attachment,
            percent(settings.pinned_each_percent),
            percent(settings.pinned_percent),
        );
        let mut short = false;
        let registration = MemoryRegistration::prepare_while(job.memory.lease(), &parts, |bytes| {
            mark();
            short = bytes > left;
            left = left.saturating_sub(bytes);
            !short && shared.pinning.is_current(&job)
        });
        tell(shared, &job, &registration, short);
        shared.pinning.put(&shared.reactors, &job, existed, registration);
    }
}

/// Says when memory that exists is not pinned, and why.
fn tell(shared: &Shared, job: &Job, registration: &MemoryRegistration, short: bool) {
    if !shared.pinning.is_current(job) {
        return;
    }
    let state = shared.seen();
    let Some((name, _)) = state.control.attachment_of(job.attachment) else {
        return;
    };
    let subject = format!("attachment/{name}");
    drop(state);
    let coverage = registration.coverage();
    let mib = coverage.unpinned_bytes >> 20;
    let why = match (short, coverage.errno) {
        // Of this kernel, not of this guest: the log of the start says what the kernel grants.
        _ if !MemoryRegistration::is_supported() => {
            return shared.findings.clear(FindingKind::MemoryNotPinned, &subject);
        }
        (true, _) => format!(
            "`guests.pinned_each_percent` allows {} % of this machine's memory for one guest, `guests.pinned_percent` \
             {} % for all",
            shared.settings.pinned_each_percent, shared.settings.pinned_percent
        ),
        (false, Some(errno)) => std::io::Error::from_raw_os_error(errno).to_string(),
        (false, None) => {
            return shared.findings.clear(FindingKind::MemoryNotPinned, &subject);
        }
    };
    let message = format!("{mib} MiB of the guest's memory cannot be pinned, I/O on it is slower: {why}");
    shared
        .findings
        .raise(FindingKind::MemoryNotPinned, subject, message);
}

/// The machine's memory in bytes; without an answer, none is pinned.
pub(crate) fn machine_bytes() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let total = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    total
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<u64>().ok())
        .map_or(0, |kib| kib << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_pinned_unless_that_is_asked_for() {
        assert!(!Pinning::default().wanted);
        assert!(!Pinning::within(50, 0).wanted && !Pinning::within(0, 75).wanted);
        assert!(Pinning::within(50, 75).wanted);
    }

    #[test]
    fn what_reactors_give_back_is_known_by_its_number() {
        let pinning = Pinning::default();
        let guest = |id| Guest {
            memory: None,
            id: PinnedId(id),
            held_by: 2,
            removing: true,
            pinned: 50,
            ..Guest::default()
        };
        for index in [3, 4] {
            let guest = guest(u32::from(index) + 4);
            pinning.state().guests.insert(AttachmentIndex(index), guest);
        }
        let left = || {
            let state = pinning.state();
            let held = state.guests.values().map(|guest| (guest.held_by, guest.pinned));
            held.collect::<Vec<_>>()
        };
        pinning.released(PinnedId(3), None);
        assert_eq!(left(), [(2, 50), (2, 50)], "of nobody's");
        pinning.released(PinnedId(8), None);
        assert_eq!(left(), [(2, 50), (1, 50)]);
        pinning.released(PinnedId(8), None);
        assert_eq!(left(), [(2, 50)], "nothing is left of the other");
    }

    #[test]
    fn a_guest_may_have_its_share_of_what_the_others_leave() {
        let pinning = Pinning::default();
        let guest = AttachmentIndex;
        let has = |attachment, pinned| {
            pinning.state().guests.entry(attachment).or_default().pinned = pinned;
        };
        assert_eq!(
            pinning.allowance(guest(0), 50, 75),
            50,
            "its share, however much there is"
        );
        has(guest(1), 50);
        assert_eq!(pinning.allowance(guest(0), 50, 75), 25, "what is left of all");
        has(guest(0), 25);
        assert_eq!(
            pinning.allowance(guest(0), 50, 75),
            25,
            "what it has itself is being given back"
        );
        assert_eq!(pinning.allowance(guest(2), 50, 75), 0);
    }
}
