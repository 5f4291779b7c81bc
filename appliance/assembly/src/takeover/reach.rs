//! How a disk that is to be decided about is reached: what is to be shown is read beside whoever has the medium; what is
//! decided about is open and locked by us from before it is read until the disk is opened with it, so that nobody can put
//! something else there, or write to it, in between.

use super::conflict;
use crate::alias;
use crate::medium::{self, Manner};
use crate::message::ControlMessage;
use crate::problem;
use crate::rest::STATE_PATIENCE;
use crate::shared::Shared;
use crate::smaller_copy::SmallerCopy;
use palisade_api::Problem;
use palisade_model::{Cluster, Disk};
use palisade_sys::Opened;
use palisade_words::Name;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long steps that are under way on a disk are waited for, beyond the time that one of them waits for a lock.
const STEP_PATIENCE: Duration = Duration::from_secs(5);

/// A disk that can be read.
pub(super) struct Reached<'a> {
    /// Its medium.
    pub(super) opened: Arc<Opened>,
    /// What stands against deciding about it, if it is not the medium on record.
    pub(super) other: Option<Problem>,
    /// Nobody else opens it until this is over.
    hold: Option<DiskHold<'a>>,
}

impl Reached<'_> {
    /// It has been decided about: the next step on the disk has this very medium, which has been locked all the while.
    pub(super) fn is_decided(&mut self) {
        if let Some(hold) = &mut self.hold {
            hold.decided = Some(Arc::clone(&self.opened));
        }
    }
}

/// While this is there the disk is left to us.
pub(crate) struct DiskHold<'a> {
    shared: &'a Shared,
    disk: Name,
    decided: Option<Arc<Opened>>,
}

impl Drop for DiskHold<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.control.decided(&self.disk);
        if let Some(decided) = self.decided.take() {
            state.decided.insert(self.disk.clone(), decided);
        }
        drop(state);
        self.shared.send(ControlMessage::Changed);
    }
}

/// Reaches a disk to show it, or to take a side.
///
/// # Errors
/// It cannot be opened, or is not the one on record and a side is to be taken.
pub(super) fn reach<'a>(
    shared: &'a Shared,
    cluster: &Cluster,
    name: &Name,
    disk: &Disk,
    takes: bool,
) -> Result<Reached<'a>, Problem> {
    if !takes {
        shared.look_again(|one, _| one == name);
        return match open(shared, name) {
            Some(opened) => Ok(Reached::in_use(opened)),
            None => beside(shared, cluster, name, disk),
        };
    }
    let Some(hold) = hold(shared, name)? else {
        let opened = open(shared, name).ok_or_else(|| being_looked_at(name))?;
        return Ok(Reached::in_use(opened));
    };
    // One that is not the disk's medium is not opened for more than a look at it.
    if let Some(other) = beside(shared, cluster, name, disk)?.other {
        return Err(other);
    }
    let manner = Manner {
        patience: shared.settings.lock_wait,
        again: true,
    };
    let opened = medium::open(cluster, name, manner, &shared.last_seen).map_err(|reason| {
        let message = format!("disk {name} cannot be opened to be decided about: {reason}");
        let remedy = format!(
            "see what is in the way: palisade disk show {name}. If another program has it, such as another daemon whose disk it \
             is, leave it to that, or end that first"
        );
        conflict("disk_closed", message, &remedy)
    })?;
    Ok(Reached {
        opened: Arc::new(opened),
        other: None,
        hold: Some(hold),
    })
}

impl Reached<'_> {
    /// One that stays open, or is in service still.
    fn in_use(opened: Arc<Opened>) -> Self {
        Reached {
            opened,
            other: None,
            hold: None,
        }
    }
}

fn open(shared: &Shared, name: &Name) -> Option<Arc<Opened>> {
    let state = shared.seen();
    state.disks.get(name).map(|open| Arc::clone(&open.opened))
}

/// Has the disk left to us, once no step is under way on it. `None`: it is open, and stays so.
fn hold<'a>(shared: &'a Shared, name: &Name) -> Result<Option<DiskHold<'a>>, Problem> {
    let deadline = Instant::now() + shared.settings.lock_wait + STEP_PATIENCE;
    loop {
        let state = shared.state_within(STATE_PATIENCE);
        let mut state = state.ok_or_else(problem::of_busy_control)?;
        if !state.control.observed.is_on_the_move(name) {
            if state.control.observed.disks.contains_key(name) {
                return Ok(None);
            }
            state.control.decide(name);
            return Ok(Some(DiskHold {
                shared,
                disk: name.clone(),
                decided: None,
            }));
        }
        drop(state);
        if Instant::now() >= deadline {
            return Err(being_looked_at(name));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Has the disk left to us from now on, whatever is under way on it: what that opens is let go again, and nobody opens it anew.
///
/// # Errors
/// Another operator decides about it at this moment.
pub(crate) fn hold_at_once<'a>(shared: &'a Shared, name: &Name) -> Result<DiskHold<'a>, Problem> {
    let state = shared.state_within(STATE_PATIENCE);
    let mut state = state.ok_or_else(problem::of_busy_control)?;
    match state.control.decide(name) {
        false => Err(being_looked_at(name)),
        true => Ok(DiskHold {
            shared,
            disk: name.clone(),
            decided: None,
        }),
    }
}

fn being_looked_at(name: &Name) -> Problem {
    let message =
        format!("something is being done with disk {name} at this moment, which does not come to its end");
    let remedy = format!("see what it is, and try again when it is over: palisade disk show {name}");
    conflict("disk_busy", message, &remedy)
}

/// Opens what lies under the path of a disk that is not open, to read it beside whoever has it open.
fn beside<'a>(shared: &Shared, cluster: &Cluster, name: &Name, disk: &Disk) -> Result<Reached<'a>, Problem> {
    let opened = medium::beside(disk).map_err(|error| {
        let message = format!("disk {name} is not open, and cannot be: {error}");
        let remedy = format!("see what is in the way: palisade disk show {name}");
        conflict("disk_closed", message, &remedy)
    })?;
    let other = medium::check(disk, &opened).err().map(|other| {
        let message = format!("what lies under the path of disk {name} is not known to be its medium: {other}");
        let remedy = format!(
            "if it is all the same, or a copy that took its place, say so first: palisade disk confirm {name} --yes; nothing \
             is written to an older copy by that"
        );
        let recorded = alias::refuse_recorded(shared, cluster, Some(name), &opened);
        recorded.err().unwrap_or_else(|| conflict("disk_closed", message, &remedy))
    });
    let smaller = || {
        let copy = SmallerCopy::of(disk, &opened)?;
        Some(conflict(
            "disk_smaller_copy",
            copy.told(name, disk),
            &copy.remedy(name, disk),
        ))
    };
    let other = other.or_else(smaller);
    Ok(Reached {
        opened: Arc::new(opened),
        other,
        hold: None,
    })
}
