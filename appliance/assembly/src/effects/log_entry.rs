//! What the control machine has to tell: in the log, and among the events that an operator is shown.

use crate::shared::Shared;
use palisade_api::Severity;
use palisade_control::LogEntry;

/// Tells it.
pub(super) fn tell(shared: &Shared, entry: LogEntry) {
    let events = &shared.events;
    match entry {
        LogEntry::Begun { step } => log::debug!("begins: {step}"),
        LogEntry::AsBefore { step, superblock } => {
            log::debug!("done: {step}, superblock={superblock:?}, as before");
        }
        // The finding that follows says what is the matter with the medium.
        LogEntry::LeftUndone { step, superblock } => {
            log::warn!(
                "left undone: {step}, superblock={superblock:?}: the medium is no longer as it was known"
            );
        }
        LogEntry::Done { step, message } => {
            log::info!("done: {step}");
            let (kind, name) = step.action.target();
            let subject = format!("{kind}/{name}");
            events.push(Severity::Info, step.action.as_str(), subject, message);
        }
        LogEntry::Failed { step, reason } => {
            log::error!("failed: {step}, reason={reason}");
            let (kind, name) = step.action.target();
            let subject = format!("{kind}/{name}");
            events.push(Severity::Error, step.action.as_str(), subject, reason);
        }
        LogEntry::SuperblockChanged { disk, before, now } => {
            log::warn!("disk {disk}: its superblock was {before:?} and is {now:?}");
        }
        LogEntry::SuperblockDamaged { disk, damage } => log::warn!("disk {disk}: {damage}"),
        LogEntry::SuperblockMended { disk, mended } => {
            let message = format!(
                "disk {disk}: written anew from sound copies: {}",
                mended.join("; ")
            );
            log::warn!("{message}");
            let subject = format!("disk/{disk}");
            events.push(Severity::Warning, "superblock_mended", subject, message);
        }
        LogEntry::DeviceReturned { disk } => {
            let message = format!("disk {disk} is there again and was opened anew");
            log::info!("{message}");
            events.push(Severity::Info, "disk_returned", format!("disk/{disk}"), message);
        }
    }
}
