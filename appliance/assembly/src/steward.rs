//! The steward: compares what is wanted with what is, and has the steps carried out.
//!
//! It never waits for anything but its next event, or the moment at which a failed step is to be tried again; with
//! neither it sleeps, however much there is on the node. Steps that take a while are begun here and end with an event:
//! the slow ones on threads of their own ([`hands`](crate::hands)), those of the reactors when all have
//! acknowledged. So whatever a plan depends on is followed by a plan: the cluster (`Event::Changed`), what is observed
//! and under way (changed here alone, by events and by steps that end at once), the time (the deadline).

mod giving_up;
mod looks;
mod placed_anew;
mod refusing;
mod reports;
mod returning;

use crate::clearing::{self, ClearProgress, Piece};
use crate::event::{Done, Event};
use crate::hands;
use crate::medium::Manner;
use crate::orders::Order;
use crate::plant::left::GivenUp;
use crate::plant::{Offered, OpenDisk, Plant, Returning, UnderWay, pace};
use crate::shared::Shared;
use crate::sight::Sight;
use crate::superblocks;
use crate::write_cache;
use crossbeam::channel::{Receiver, RecvTimeoutError};
use palisade_api::Severity;
use palisade_block::mailbox::Command;
use palisade_block::{Doing, Progress, Route, Whom};
use palisade_consensus::ProposeError;
use palisade_model::{Cluster, ConfirmSuperblock, Disk, Extent, ReleaseDisk};
use palisade_reconcile::{Action, Opened as Found, Step, Superblock, plan};
use palisade_sys::Opened;
use palisade_volume::{Leaving, OnRecord};
use palisade_words::{DeviceIndex, Name, ReactorIndex, Sectors, VolumeIndex};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use refusing::drop_aside;

/// How long the first try to open a disk waits for its lock.
const FIRST_LOCK_WAIT: Duration = Duration::from_secs(1);

/// One for each node.
#[derive(Debug)]
pub struct Steward {
    shared: Arc<Shared>,
    events: Receiver<Event>,
    began: Instant,
    progress: Arc<Progress>,
}

impl Steward {
    /// For a node, fed by a channel.
    pub fn new(shared: Arc<Shared>, events: Receiver<Event>, progress: Arc<Progress>) -> Steward {
        Steward {
            shared,
            events,
            began: Instant::now(),
            progress,
        }
    }

    /// Runs until it is told to stop.
    pub fn run(self) {
        loop {
            match self.next_event() {
                Ok(Event::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => {}
            }
            // What else has come meanwhile is taken before the next plan.
            while let Ok(event) = self.events.try_recv() {
                if matches!(event, Event::Stop) {
                    return;
                }
                self.progress.mark(Doing::Event, Whom::Nobody);
                self.take(event);
            }
            // A step that ends at once makes room for others without an event.
            while self.next_steps() {}
        }
    }

    /// Sleeps until something happens or a failed step is due.
    fn next_event(&self) -> Result<Event, RecvTimeoutError> {
        let due_ms = self.shared.plant().observed.next_retry_ms();
        let due = due_ms.map(|due_ms| self.began + Duration::from_millis(due_ms));
        let now = Instant::now();
        self.progress
            .asleep_for(due.map(|due| due.saturating_duration_since(now)));
        let event = match due {
            Some(due) => self.events.recv_deadline(due),
            None => self.events.recv().map_err(RecvTimeoutError::from),
        };
        self.progress.mark(Doing::Event, Whom::Nobody);
        event
    }

    /// Plans, and begins what can be begun. Whether a step has come to its end already, well or not: there may be more
    /// to do then. One that has failed is held back by that for a while, so this comes to an end.
    fn next_steps(&self) -> bool {
        self.progress.mark(Doing::Plan, Whom::Nobody);
        let wanted = self.shared.cluster();
        let mut plant = self.shared.plant();
        let ended = plant.ended;
        plant.observed.now_ms = self.began.elapsed().as_millis() as u64;
        for step in plan(&wanted, &self.shared.name, &plant.observed) {
            if !plant.under_way.contains_key(&step.action) {
                log::debug!("begins: {step}");
                self.progress.mark(Doing::Step, plant.whom(&step.action));
                self.begin(&mut plant, step, &wanted);
            }
        }
        // What no step has taken over is wanted by none.
        if !plant.decided.is_empty() {
            let left: Vec<_> = std::mem::take(&mut plant.decided).into_values().collect();
            self.shared.publish(&mut plant);
            drop_aside(left);
        }
        plant.ended != ended
    }

    /// Begins a step, and ends it at once where that can be.
    fn begin(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>) {
        match step.action.clone() {
            Action::OpenDisk { disk } => {
                // The first try is a short one, so that a disk that a predecessor's requests still hold is named soon; and so
                // is a look at one that may not be used, whose owner may have it.
                let again = plant.observed.refused.contains_key(&disk);
                let first = !plant.observed.failures.contains_key(&step.action);
                let patience = match first || again {
                    true => self.shared.settings.lock_wait.min(FIRST_LOCK_WAIT),
                    false => self.shared.settings.lock_wait,
                };
                let decided = plant.decided.remove(&disk);
                let manner = Manner { patience, again };
                let work = hands::open_disk(Arc::clone(&self.shared), wanted, &disk, decided, manner);
                self.aside(plant, step, wanted, work);
            }
            Action::WriteSuperblock { disk } => {
                let opened = plant.disks.get(&disk).map(|open| Arc::clone(&open.opened));
                let seen = |disk: &Disk| disk.created > plant.started || plant.renewed.contains(&disk.uuid);
                let examined = wanted.disks.get(&disk).is_some_and(seen);
                let work = superblocks::write(
                    Arc::clone(wanted),
                    disk,
                    opened,
                    examined,
                    self.shared.last_superblock.clone(),
                );
                self.aside(plant, step, wanted, work);
            }
            Action::ExamineSuperblock { disk } => {
                let opened = plant.disks.get(&disk).map(|open| Arc::clone(&open.opened));
                let last = self.shared.last_superblock.clone();
                let work = superblocks::examine(Arc::clone(wanted), disk, opened, last);
                self.aside(plant, step, wanted, work);
            }
            Action::ConfirmSuperblock { disk } => self.confirm_superblock(plant, step, wanted, disk),
            Action::EraseSuperblock { disk } => {
                let opened = plant.disks.get(&disk).map(|open| Arc::clone(&open.opened));
                let Some(known) = plant.observed.disks.get(&disk) else {
                    return self.end(plant, &step, wanted, Ok(Found::default()));
                };
                // A record that cannot be read counts as none.
                let last = self
                    .shared
                    .last_superblock
                    .recall(known.disk.uuid)
                    .unwrap_or_default();
                let leaving = Leaving::of(wanted, &disk, &known.disk, known.touched)
                    .held_against(OnRecord::of(&known.disk, last));
                self.aside(plant, step, wanted, superblocks::erase(opened, leaving));
            }
            Action::ReleaseDisk { disk } => self.release_disk(plant, step, wanted, disk),
            Action::GrowDisk { disk } => self.grow_disk(plant, step, wanted, &disk),
            Action::CloseDisk { disk } => self.close_disk(plant, step, wanted, &disk),
            Action::SetRoute { volume } => self.set_route(plant, step, wanted, &volume),
            Action::ClearVolume { volume } => self.clear_volume(plant, step, wanted, &volume),
            Action::StopClearing { volume } => {
                if let Some(progress) = plant.clearings.get(&volume) {
                    progress.stop();
                }
                self.end(plant, &step, wanted, Ok(Found::default()));
            }
            Action::ClearRoute { volume } => self.clear_route(plant, step, wanted, &volume),
            Action::OfferSocket { attachment } | Action::ReopenSocket { attachment }
                if !plant.attachments.contains_key(&attachment) =>
            {
                self.offer(plant, step, wanted, &attachment);
            }
            Action::OfferSocket { attachment }
            | Action::ReopenSocket { attachment }
            | Action::WithdrawSocket { attachment } => self.withdraw(plant, step, wanted, &attachment),
            Action::ResizeVolume { attachment } => self.resize(plant, &step, wanted, &attachment),
            Action::ChangeLimits { attachment } => self.change_limits(plant, &step, wanted, &attachment),
            Action::ChangeSocketPermissions { attachment } => {
                let cluster = Arc::clone(wanted);
                // The socket's folder may not answer.
                let work = move || hands::change_permissions(&cluster, &attachment).map(|()| Done::Plain);
                self.aside(plant, step, wanted, Box::new(work));
            }
        }
    }

    /// Notes the end of a step.
    fn end(&self, plant: &mut Plant, step: &Step, wanted: &Cluster, result: Result<Found, String>) {
        plant.under_way.remove(&step.action);
        plant.ended += 1;
        plant.observed.now_ms = self.began.elapsed().as_millis() as u64;
        let (kind, name) = step.action.target();
        let subject = format!("{kind}/{name}");
        match result {
            Ok(found) => {
                let again = plant.observed.failures.contains_key(&step.action);
                let before = refusing::before(plant, step);
                plant.observed.record(wanted, step, found);
                if refusing::is_told(plant, step, before, found) {
                    log::debug!("done: {step}, superblock={:?}, as before", found.superblock);
                    return;
                }
                let writes = matches!(step.action, Action::WriteSuperblock { .. });
                if writes && !found.superblock.has_reached(step.generation) {
                    // The finding that follows says what is the matter with the medium.
                    log::warn!(
                        "left undone: {step}, superblock={:?}: the medium is no longer as it was known",
                        found.superblock
                    );
                    return;
                }
                log::info!("done: {step}");
                let refused = plant.observed.refused.get(name);
                let message = match (&step.action, refused) {
                    (Action::CloseDisk { .. }, Some(refused)) => refusing::said(refused, name),
                    _ if again => format!("{} succeeded at last", step.action),
                    _ => step.to_string(),
                };
                self.shared
                    .events
                    .push(Severity::Info, step.action.as_str(), subject, message);
            }
            Err(reason) => {
                // The same failure again and again is one event; its count is in the health report.
                let known = plant
                    .observed
                    .failures
                    .get(&step.action)
                    .is_some_and(|f| f.reason == reason);
                plant.observed.record_failure(step, reason.clone());
                if !known {
                    log::error!("failed: {step}, reason={reason}");
                    self.shared
                        .events
                        .push(Severity::Error, step.action.as_str(), subject, reason);
                }
            }
        }
    }

    /// Runs slow work on a thread of its own.
    fn aside(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, work: hands::Work) {
        self.under_way(plant, step.clone(), wanted, BTreeSet::new(), 0);
        let (again, cluster) = (step.clone(), Arc::clone(wanted));
        let (shared, wanted, name) = (Arc::clone(&self.shared), Arc::clone(wanted), step.action.as_str());
        let run = move || {
            shared.send(Event::Finished {
                result: work(),
                step,
                wanted,
            })
        };
        if let Err(error) = std::thread::Builder::new().name(name.into()).spawn(run) {
            let reason = format!(
                "no thread could be started for it: {error}; raise the service's limits on threads and memory \
                 (TasksMax, LimitNPROC, MemoryMax)"
            );
            self.end_aside(plant, &again, &cluster, Err(reason));
        }
    }

    fn under_way(
        &self,
        plant: &mut Plant,
        step: Step,
        wanted: &Arc<Cluster>,
        awaited: BTreeSet<ReactorIndex>,
        index: u16,
    ) {
        let under_way = UnderWay {
            step: step.clone(),
            wanted: Arc::clone(wanted),
            awaited,
            index,
            since: Instant::now(),
        };
        plant.observed.begin(&step);
        plant.under_way.insert(step.action, under_way);
    }

    /// Tells the cluster that a disk's first superblock is on the medium. It waits for the database's disk.
    fn confirm_superblock(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, name: Name) {
        let Some(disk) = wanted.disks.get(&name) else {
            return self.end(plant, &step, wanted, Ok(Found::default()));
        };
        let (shared, uuid) = (Arc::clone(&self.shared), disk.uuid);
        plant.renewed.remove(&uuid);
        let work = move || {
            let confirm = palisade_model::Command::ConfirmSuperblock(ConfirmSuperblock { name, uuid });
            match shared.propose(confirm) {
                // The disk has been removed meanwhile.
                Ok(_) | Err(ProposeError::Refused(_)) => Ok(Done::Plain),
                Err(error) => Err(error.to_string()),
            }
        };
        self.aside(plant, step, wanted, Box::new(work));
    }

    /// Tells the cluster that the medium of a disk that leaves has been let go. It waits for the database's disk.
    fn release_disk(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, name: Name) {
        let Some(disk) = wanted.disks.get(&name) else {
            return self.end(plant, &step, wanted, Ok(Found::default()));
        };
        let (shared, uuid) = (Arc::clone(&self.shared), disk.uuid);
        let work = move || {
            shared.last_superblock.forget(uuid);
            let release = palisade_model::Command::ReleaseDisk(ReleaseDisk { name, uuid });
            match shared.propose(release) {
                // It was taken away by force meanwhile.
                Ok(_) | Err(ProposeError::Refused(_)) => Ok(Done::Plain),
                Err(error) => Err(error.to_string()),
            }
        };
        self.aside(plant, step, wanted, Box::new(work));
    }

    fn all_reactors(&self) -> BTreeSet<ReactorIndex> {
        (0..self.shared.reactors.len())
            .map(|index| ReactorIndex(index as u16))
            .collect()
    }

    fn grow_disk(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, disk: &Name) {
        let asked = wanted.disks.get(disk).map_or(0, |disk| disk.sectors);
        let Some(open) = plant.disks.get(disk) else {
            let reason = format!("disk {disk} is not open");
            return self.end(plant, &step, wanted, Err(reason));
        };
        let (opened, device) = (Arc::clone(&open.opened), open.index);
        let (shared, name) = (Arc::clone(&self.shared), disk.clone());
        // Its file system may not answer: not under the lock, on which the sessions of all others wait.
        let work = move || match opened.refresh_size() {
            Err(error) => Err(format!("the size of disk {name} cannot be read: {error}")),
            Ok(sectors) if sectors.0 < asked => Err(format!(
                "disk {name} has {sectors} sectors, {asked} were agreed on"
            )),
            Ok(_) => {
                let reactors = shared.reactors.iter();
                reactors.for_each(|reactor| reactor.send(Order::GrowDevice { device }));
                Ok(Done::Plain)
            }
        };
        self.aside(plant, step, wanted, Box::new(work));
    }

    fn close_disk(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, disk: &Name) {
        let Some(open) = plant.disks.get_mut(disk) else {
            return self.end(plant, &step, wanted, Ok(Found::default()));
        };
        let device = open.index;
        // Those that have let go of it already, because another was to take its place, will not say so again.
        if let Some(Returning { opened, awaited }) = open.returning.take() {
            open.unused = Some(opened);
            self.under_way(plant, step, wanted, awaited, device.0);
            return;
        }
        self.under_way(plant, step, wanted, self.all_reactors(), device.0);
        self.shared
            .reactors
            .iter()
            .for_each(|reactor| reactor.send(Order::CloseDevice { device }));
    }

    fn set_route(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, name: &Name) {
        let Some(volume) = wanted.volumes.get(name) else {
            return;
        };
        let device_of = |disk: &Name| plant.disks.get(disk).map(|open| open.index);
        match palisade_volume::compile(volume, wanted.epoch, device_of) {
            Ok(route) => self.send_route(plant, step, wanted, name, Some(route)),
            Err(error) => self.end(plant, &step, wanted, Err(error.to_string())),
        }
    }

    /// From now on nobody else uses the space, until the step has come to its end.
    fn clear_volume(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, name: &Name) {
        let Some(clearing) = plant.observed.begin_clearing(wanted, name).cloned() else {
            return self.end(plant, &step, wanted, Ok(Found::default()));
        };
        let piece = |extent: Extent| {
            let open = plant.disks.get(&extent.disk);
            let opened = open.map(|open| Arc::clone(&open.opened));
            Ok(Piece {
                opened: opened.ok_or_else(|| format!("disk {} is not open", extent.disk))?,
                disk: extent.disk,
                lba: extent.disk_lba,
                sectors: extent.sectors,
            })
        };
        let pieces = clearing
            .extents
            .into_iter()
            .map(piece)
            .collect::<Result<Vec<_>, String>>();
        let pieces = match pieces {
            Ok(pieces) => pieces,
            Err(reason) => return self.end(plant, &step, wanted, Err(reason)),
        };
        let progress = Arc::new(ClearProgress::new(clearing.start));
        plant.clearings.insert(name.clone(), Arc::clone(&progress));
        let shared = Arc::clone(&self.shared);
        let work = clearing::clear(shared, name.clone(), clearing.uuid, pieces, progress);
        self.aside(plant, step, wanted, work);
    }

    fn clear_route(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, name: &Name) {
        if plant.volumes.contains_key(name) {
            self.send_route(plant, step, wanted, name, None);
        } else {
            self.end(plant, &step, wanted, Ok(Found::default()));
        }
    }

    fn send_route(
        &self,
        plant: &mut Plant,
        step: Step,
        wanted: &Arc<Cluster>,
        name: &Name,
        route: Option<Route>,
    ) {
        let (volume, generation) = (plant.volume_index(name), step.generation);
        self.under_way(plant, step, wanted, self.all_reactors(), volume.0);
        for reactor in &self.shared.reactors {
            let route = route.clone();
            reactor.send(Order::Engine(Command::SetRoute {
                volume,
                route,
                generation,
            }));
        }
    }

    fn offer(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, name: &Name) {
        let Some(attachment) = wanted.attachments.get(name) else {
            return;
        };
        let (Some(served), Some(route)) = (
            wanted.volumes.get(&attachment.volume),
            plant.observed.routes.get(&attachment.volume),
        ) else {
            return;
        };
        let (volume, sectors) = (VolumeIndex(route.index), Sectors(route.sectors));
        let count = self.shared.reactors.len();
        let index = plant.free_attachment();
        let offered = Offered::new(index, volume, attachment, count, plant.least_loaded(count));
        plant.attachments.insert(name.clone(), offered);
        let run_dir = self.shared.settings.run_dir.clone();
        let door = self.shared.door().clone();
        let share = self.shared.shares.join();
        let work = hands::offer(
            door,
            share,
            index,
            (name, attachment),
            served.uuid,
            sectors,
            (served.block_bytes, run_dir),
        );
        self.aside(plant, step, wanted, work);
    }

    fn withdraw(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, name: &Name) {
        let Some(offered) = plant.attachments.get_mut(name) else {
            return self.end(plant, &step, wanted, Ok(Found::default()));
        };
        let index = offered.index;
        let socket = plant.observed.sockets.get(name);
        let is_given_up = socket.is_some_and(|now| now.wanted(wanted, &self.shared.name, name).is_none());
        let connected = self
            .shared
            .door()
            .report(index)
            .is_some_and(|report| report.connected);
        // A machine that is connected still believes what it was told of its write cache if the attachment comes back.
        offered.forgets = matches!(step.action, Action::WithdrawSocket { .. }) && !connected;
        match is_given_up {
            true => self.give_up(plant, step, wanted, name, index),
            false => {
                self.under_way(plant, step, wanted, BTreeSet::new(), index.0);
                self.shared.door().detach(index);
            }
        }
    }

    /// Ends the withdrawing of a socket. What the guest has made of its write cache is forgotten before, if it is to be, on a
    /// thread of its own: the folder may not answer, and whoever is offered next under the name reads what is there.
    fn withdrawn(&self, plant: &mut Plant, step: Step, wanted: &Arc<Cluster>, name: &Name, forgets: bool) {
        if !forgets {
            return self.end(plant, &step, wanted, Ok(Found::default()));
        }
        let (run_dir, name) = (self.shared.settings.run_dir.clone(), name.clone());
        let work = move || {
            write_cache::forget(&run_dir, &name);
            Ok(Done::Plain)
        };
        self.aside(plant, step, wanted, Box::new(work));
    }

    fn resize(&self, plant: &mut Plant, step: &Step, wanted: &Arc<Cluster>, name: &Name) {
        let sectors = wanted
            .attachments
            .get(name)
            .and_then(|a| plant.observed.routes.get(&a.volume))
            .map(|r| r.sectors);
        if let (Some(sectors), Some(offered)) = (sectors, plant.attachments.get(name)) {
            self.shared.door().resize(offered.index, Sectors(sectors));
        }
        self.end(plant, step, wanted, Ok(Found::default()));
    }

    fn change_limits(&self, plant: &mut Plant, step: &Step, wanted: &Arc<Cluster>, name: &Name) {
        if let (Some(attachment), Some(offered)) =
            (wanted.attachments.get(name), plant.attachments.get_mut(name))
        {
            offered.pace = pace(&attachment.limits, offered.pace.clone());
            self.shared.retell(offered);
        }
        self.end(plant, step, wanted, Ok(Found::default()));
    }

    fn take(&self, event: Event) {
        match event {
            Event::Changed | Event::Stop => {}
            Event::Report(report) => self.take_report(*report),
            Event::CameBack {
                disk,
                device,
                opened,
                superblock,
            } => self.came_back(&disk, device, opened, superblock),
            Event::Finished { step, wanted, result } => self.finished(&step, &wanted, result),
            Event::Looked {
                disk,
                device,
                known,
                found,
            } => self.looked_at(&disk, device, known, found),
            Event::GivenUp(index) => {
                self.door_came(&mut self.shared.plant(), index, GivenUp::Left);
            }
            Event::Detached(index) => {
                let mut plant = self.shared.plant();
                if plant.left.remove(&index).is_some() || self.door_came(&mut plant, index, GivenUp::Gone) {
                    return;
                }
                let Some((name, _)) = plant.attachment_of(index) else {
                    return;
                };
                let name = name.clone();
                let offered = plant.attachments.remove(&name);
                self.shared.findings.clear_all(&format!("attachment/{name}"));
                let of_it = |(action, _): &(&Action, &UnderWay)| {
                    let withdraws = matches!(
                        action,
                        Action::WithdrawSocket { .. } | Action::ReopenSocket { .. }
                    );
                    withdraws && action.target().1 == &name
                };
                let Some(action) = plant
                    .under_way
                    .iter()
                    .find(of_it)
                    .map(|(action, _)| action.clone())
                else {
                    return;
                };
                let Some(UnderWay { step, wanted, .. }) = plant.under_way.remove(&action) else {
                    return;
                };
                match action {
                    // The second half of reopening.
                    Action::ReopenSocket { attachment } => self.offer(&mut plant, step, &wanted, &attachment),
                    _ => {
                        let forgets = offered.is_some_and(|offered| offered.forgets);
                        self.withdrawn(&mut plant, step, &wanted, &name, forgets);
                    }
                }
            }
        }
    }

    fn finished(&self, step: &Step, wanted: &Arc<Cluster>, result: Result<Done, String>) {
        let mut plant = self.shared.plant();
        let result = match result {
            Ok(Done::Plain) => Ok(Found::default()),
            Ok(Done::Looked(look)) => Ok(self.looked(&mut plant, step, look)),
            Ok(Done::Opened { opened, .. }) if self.is_placed_anew(&plant, step, wanted, &opened) => {
                drop_aside(vec![opened]);
                Err("where it is, or what it is, was said anew while it was being opened".to_owned())
            }
            Ok(Done::Opened { opened, look }) => {
                let index = self.take_disk(&mut plant, step.action.target().1, opened, look.superblock);
                Ok(Found {
                    index: index.0,
                    ..self.looked(&mut plant, step, look)
                })
            }
            Err(reason) => Err(reason),
        };
        self.end_aside(&mut plant, step, wanted, result);
    }

    /// Notes the end of a step that ran, or should have run, on a thread of its own.
    fn end_aside(&self, plant: &mut Plant, step: &Step, wanted: &Cluster, result: Result<Found, String>) {
        if let Action::ClearVolume { volume } = &step.action {
            plant.clearings.remove(volume);
        }
        if let (Err(_), Action::OfferSocket { attachment } | Action::ReopenSocket { attachment }) =
            (&result, &step.action)
        {
            plant.attachments.remove(attachment);
        }
        self.end(plant, step, wanted, result);
    }

    /// Gives an open disk its number and all reactors their use of it.
    fn take_disk(
        &self,
        plant: &mut Plant,
        name: &Name,
        opened: Arc<Opened>,
        superblock: Superblock,
    ) -> DeviceIndex {
        let device = plant.free_device();
        let stats: Vec<_> = self.shared.reactors.iter().map(|_| Arc::default()).collect();
        for (reactor, stats) in self.shared.reactors.iter().zip(&stats) {
            reactor.send(Order::OpenDevice {
                device,
                opened: Arc::clone(&opened),
                stats: Arc::clone(stats),
                deadline: self.shared.settings.stall,
            });
        }
        // Of one that is only looked at nothing is told that ends with the look.
        if matches!(superblock, Superblock::Ours { .. } | Superblock::Missing) {
            self.tell_what_it_lacks(name, &opened);
        }
        let open = OpenDisk {
            index: device,
            opened,
            stats,
            stalled_on: BTreeSet::new(),
            sight: Sight::default(),
            superblock_damage: Vec::new(),
            sides: None,
            returning: None,
            unused: None,
        };
        plant.disks.insert(name.clone(), open);
        device
    }
}
