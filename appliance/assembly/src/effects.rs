//! The control machine's effects are carried out. None waits: what takes a while ([`work`]) is given to an executor
//! ([`executor`]), and comes back as a message.

pub mod acknowledgements;
pub mod executor;
mod log_entry;
pub mod placed_anew;
pub mod work;

use crate::clearing::ClearProgress;
use crate::local_state::OpenDisk;
use crate::local_state::lock::StateGuard;
use crate::peers::Served;
use crate::shared::Shared;
use crate::sight::Sight;
use executor::SlowWork;
use palisade_api::FindingKind;
use palisade_block::mailbox::{ReactorChange, ReactorCommand};
use palisade_block::{Doing, Progress};
use palisade_control::{DoorChange, Effect, TaskId, Work};
use palisade_forward::NodeDevice;
use palisade_model::Cluster;
use palisade_sys::Opened;
use palisade_words::{DeviceIndex, Name, ReactorIndex};
use std::sync::Arc;
use std::time::Instant;

/// What an event has brought along that is no value, for an effect to take.
#[derive(Debug)]
pub enum Brought {
    /// Nothing, or it has been taken.
    Nothing,
    /// An open device.
    Device(Arc<Opened>),
}

/// Carries effects out, one after the other, under the lock under which they were decided: so nobody sees a state of which the
/// effects are still to come.
pub fn carry_out(
    shared: &Arc<Shared>,
    state: &mut StateGuard<'_>,
    effects: Vec<Effect>,
    brought: &mut Brought,
    progress: &Progress,
) {
    for effect in effects {
        progress.mark(Doing::Step, effect.whom());
        match effect {
            Effect::Start { task, cluster, work } => start(shared, state, task, cluster, work),
            Effect::Tell {
                reactor,
                task,
                change,
            } => tell(shared, state, reactor, task, change),
            Effect::UseDevice { device } => use_device(shared, state, device),
            Effect::UsePeer { node, device } => shared.peers.use_peer(shared, &node, device),
            Effect::Serve {
                uuid,
                volume,
                revision,
                epoch,
                askers,
            } => {
                let cluster = shared.cluster();
                let by_id =
                    |(name, may_change): (Name, bool)| Some((cluster.nodes.get(&name)?.uuid, may_change));
                let askers = askers.into_iter().filter_map(by_id).collect();
                let served = Served {
                    uuid,
                    volume,
                    revision,
                    epoch,
                    askers,
                };
                shared.peers.serve(shared, served);
            }
            Effect::TellDoor(change) => tell_door(shared, change),
            Effect::OpenDevice {
                disk,
                device,
                for_a_look,
            } => {
                if let Brought::Device(opened) = std::mem::replace(brought, Brought::Nothing) {
                    // Of one that is only looked at nothing is told that ends with the look.
                    if !for_a_look {
                        tell_what_it_lacks(shared, &disk, &opened);
                    }
                    state
                        .disks
                        .insert(disk, OpenDisk::new(device, opened, shared.reactors.len()));
                }
            }
            Effect::HoldReplacement { disk } => {
                if let Some(open) = state.disks.get_mut(&disk)
                    && let Brought::Device(opened) = std::mem::replace(brought, Brought::Nothing)
                {
                    open.replacement = Some(opened);
                }
            }
            Effect::ReplaceDevice { disk } => replace_device(shared, state, &disk),
            Effect::LookSoon { disk } => {
                if let Some(open) = state.disks.get_mut(&disk) {
                    open.sight.look_soon(Instant::now());
                }
            }
            Effect::StopClearing { volume } => {
                if let Some(progress) = state.clearings.get(&volume) {
                    progress.stop();
                }
            }
            Effect::ClearFindings { kind, name, stays } => {
                let subject = format!("{kind}/{name}");
                match stays {
                    true => shared.findings.clear_raised(&subject),
                    false => shared.findings.clear_all(&subject),
                }
            }
            // The effects before it are a part of what it looks at.
            Effect::DeriveFindings => shared.observe(&shared.cluster(), state),
            Effect::Log(entry) => log_entry::tell(shared, entry),
        }
    }
}

/// Carries out what a caller from outside the control loop has brought about, which only tells reactors.
pub fn tell_at_once(shared: &Shared, state: &mut StateGuard<'_>, effects: Vec<Effect>) {
    for effect in effects {
        if let Effect::Tell {
            reactor,
            task,
            change,
        } = effect
        {
            tell(shared, state, reactor, task, change);
        }
    }
}

/// Begins work that takes a while.
fn start(shared: &Arc<Shared>, state: &mut StateGuard<'_>, task: TaskId, cluster: Arc<Cluster>, work: Work) {
    if let Work::ClearSpace { volume, start, .. } = &work {
        let progress = Arc::new(ClearProgress::new(*start));
        state.clearings.insert(volume.clone(), progress);
    }
    let job = work::prepare(shared, state, cluster, work.clone());
    let slow = SlowWork::new(Arc::clone(shared), task, work, job);
    shared.executor.begin(slow);
}

/// Tells a reactor, and notes what it is to acknowledge.
fn tell(
    shared: &Shared,
    state: &mut StateGuard<'_>,
    reactor: ReactorIndex,
    task: Option<TaskId>,
    change: ReactorChange,
) {
    let Some(handle) = shared.reactors.get(reactor.usize()) else {
        return;
    };
    if let Some(task) = task {
        state.acknowledgements.expect(reactor, task, &change);
    }
    handle.send(change);
}

/// Has all reactors use a device that is open.
fn use_device(shared: &Shared, state: &StateGuard<'_>, device: DeviceIndex) {
    let Some(open) = state.device(device) else { return };
    for (index, reactor) in shared.reactors.iter().enumerate() {
        reactor.send(ReactorCommand::AddDevice {
            device,
            opened: NodeDevice::Local(Arc::clone(&open.opened)),
            stats: open.stats.get(index).cloned().unwrap_or_default(),
            deadline: shared.settings.stall,
        });
    }
}

fn tell_door(shared: &Shared, change: DoorChange) {
    let door = shared.door();
    match change {
        DoorChange::Detach { attachment } => door.detach(attachment),
        DoorChange::GiveUp { attachment } => door.give_up(attachment),
        DoorChange::Resize { attachment, sectors } => door.resize(attachment, sectors),
    }
}

/// The descriptor that came back takes the place of the dead one.
fn replace_device(shared: &Shared, state: &mut StateGuard<'_>, disk: &Name) {
    let Some(open) = state.disks.get_mut(disk) else {
        return;
    };
    let Some(opened) = open.replacement.take() else {
        return;
    };
    let dead = std::mem::replace(&mut open.opened, opened);
    open.sight = Sight::default();
    shared.publish(state);
    drop_aside(vec![dead]);
}

/// Tells what a disk that has just been opened goes without.
fn tell_what_it_lacks(shared: &Shared, name: &Name, opened: &Opened) {
    let subject = || format!("disk/{name}");
    if opened.buffered() {
        let message =
            format!("disk {name} lies on a file system without O_DIRECT: I/O goes through the page cache");
        shared
            .findings
            .raise(FindingKind::DiskBuffered, subject(), message);
    }
    if let Some(reason) = opened.open_to_qemu() {
        let message = format!(
            "QEMU and its tools are not kept from disk {name}, and one that has it open is not noticed: its file system \
             has no locks for that ({reason})"
        );
        shared
            .findings
            .raise(FindingKind::DiskOpenToQemu, subject(), message);
    }
}

/// Lets go of open media on a thread of its own: closing can take long.
pub fn drop_aside(left: Vec<Arc<Opened>>) {
    if !left.is_empty() {
        let _ = std::thread::Builder::new()
            .name("close".into())
            .spawn(move || drop(left));
    }
}

impl OpenDisk {
    fn new(index: DeviceIndex, opened: Arc<Opened>, reactors: usize) -> OpenDisk {
        OpenDisk {
            index,
            opened,
            stats: (0..reactors).map(|_| Arc::default()).collect(),
            sight: Sight::default(),
            replacement: None,
        }
    }
}
