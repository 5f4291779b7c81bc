//! What was agreed on and is not in force yet, with nothing in its way: after a start, disks that are being opened,
//! volumes without their routes, attachments without their sockets. What has failed, or waits for something that has, is
//! told as that.

use crate::views::View;
use palisade_model::Kind;
use palisade_reconcile::{Cause, Wait};
use palisade_words::{Generation, Name};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// What was agreed on after the start shows in its own state; it is named here once its step has lasted for so long.
const LASTING: Duration = Duration::from_secs(1);

/// So many are named.
const NAMED_MAX: usize = 4;

/// A sentence about everything that is coming up, if anything is.
pub fn coming_up(view: &View<'_>) -> Option<String> {
    let late = late(view);
    if late.is_empty() {
        return None;
    }
    let waits = Waits::of(view.waits());
    let words: Vec<String> = late
        .iter()
        .filter(|(kind, name)| !waits.is_blocked(*kind, name))
        .map(|(kind, name)| {
            let lacks = match kind {
                Kind::Disk => "is not open",
                Kind::Volume => "has no routes",
                _ => "is not offered",
            };
            format!("{kind} {name} {lacks}")
        })
        .collect();
    let (named, more) = words.split_at(words.len().min(NAMED_MAX));
    let more = match more.len() {
        0 => String::new(),
        more => format!(", and {more} more"),
    };
    (!named.is_empty()).then(|| format!("not in force yet: {}{more}", named.join(", ")))
}

/// What is to be brought up on this node and is not up: disks before volumes before attachments, as they depend on each
/// other.
fn late<'a>(view: &View<'a>) -> Vec<(Kind, &'a Name)> {
    let (cluster, observed, node) = (view.cluster, &view.state.control.observed, &view.shared.name);
    let now = view.shared.now();
    let is_due = |kind: Kind, name: &Name, agreed: Generation| {
        let mut steps = view.state.control.under_way.iter();
        agreed <= view.state.control.started
            || steps.any(|(action, step)| {
                action.target() == (kind, name) && now.since(step.since).duration() >= LASTING
            })
    };
    let disks = cluster.disks.iter().filter(|(name, disk)| {
        let wanted = *disk.custodian() == *node && !disk.leaving && !observed.disks.contains_key(*name);
        wanted && is_due(Kind::Disk, name, disk.revision)
    });
    let here: BTreeMap<&Name, _> = cluster
        .attachments
        .iter()
        .filter(|(_, attachment)| attachment.node == *node)
        .collect();
    let attached: BTreeSet<&Name> = here.values().map(|attachment| &attachment.volume).collect();
    let volumes = cluster.volumes.iter().filter(|(name, volume)| {
        let wanted = attached.contains(name) && !observed.routes.contains_key(*name);
        wanted && is_due(Kind::Volume, name, volume.revision)
    });
    let attachments = here.iter().filter(|(name, attachment)| {
        let wanted = !observed.sockets.contains_key(**name);
        wanted && is_due(Kind::Attachment, name, attachment.revision)
    });
    let disks = disks.map(|(name, _)| (Kind::Disk, name));
    let volumes = volumes.map(|(name, _)| (Kind::Volume, name));
    disks
        .chain(volumes)
        .chain(attachments.map(|(name, _)| (Kind::Attachment, *name)))
        .collect()
}

/// What waits, by what it is.
struct Waits<'a>(BTreeMap<(Kind, &'a Name), &'a Cause>);

impl<'a> Waits<'a> {
    fn of(waits: &'a [Wait]) -> Waits<'a> {
        let by_name = waits.iter().map(|wait| ((wait.kind, &wait.name), &wait.cause));
        Waits(by_name.collect())
    }

    /// Whether something has failed, or waits for what has in the end.
    fn is_blocked(&self, kind: Kind, name: &Name) -> bool {
        let mut at = (kind, name);
        // An attachment waits for a volume, that for a disk, that for another; nothing waits in a circle for long.
        for _ in 0..=self.0.len() {
            match self.0.get(&at) {
                Some(Cause::On { kind, name }) => at = (*kind, name),
                Some(_) => return true,
                None => return false,
            }
        }
        true
    }
}
