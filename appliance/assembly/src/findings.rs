//! What is wrong, as it follows from the present state of the node.

pub mod media;

use crate::plant::OpenDisk;
use crate::samples::{disk_faults, oldest_ns};
use crate::views::View;
use palisade_admin::TcpAccess;
use palisade_api as api;
use palisade_api::FindingKind;
use palisade_model::{Kind, Name};
use palisade_reconcile::Cause;
use palisade_sys::PageBacking;

impl View<'_> {
    /// What follows from the present state. What has been raised by those who saw a cause is not among it.
    pub fn derived(&self) -> Vec<(FindingKind, api::Finding)> {
        let mut derived = Vec::new();
        let mut add = |kind: FindingKind, subject: String, message: String| {
            derived.push((kind, api::Finding::new(kind, subject, message)));
        };
        for wait in self.waits() {
            // What waits for something else is a consequence; the cause is listed by itself.
            if matches!(wait.cause, Cause::On { .. }) {
                continue;
            }
            let kind = match wait.kind {
                Kind::Disk => FindingKind::DiskBlocked,
                Kind::Volume => FindingKind::VolumeBlocked,
                Kind::Attachment => FindingKind::AttachmentBlocked,
                Kind::Node => FindingKind::NodeBlocked,
            };
            add(
                kind,
                format!("{}/{}", wait.kind, wait.name),
                wait.cause.to_string(),
            );
        }
        for (name, open) in &self.plant.disks {
            for (kind, message) in media::findings(self.plant, name, open) {
                add(kind, format!("disk/{name}"), message);
            }
            if let Some((kind, message)) = self.disk_finding(name, open) {
                add(kind, format!("disk/{name}"), message);
            }
        }
        for (name, offered) in &self.plant.attachments {
            let report = self.shared.door().report(offered.index);
            let waiting = report.and_then(|report| report.waiting);
            if let Some(waiting) = waiting.filter(|waiting| waiting.overdue) {
                let message = format!("{}, for {} s", waiting.on, waiting.since.elapsed().as_secs());
                add(FindingKind::DrainOverdue, format!("attachment/{name}"), message);
            }
        }
        let mut reactors = self.shared.reactors.iter();
        if reactors.any(|reactor| reactor.backing == PageBacking::Plain) {
            let message = "buffers are made of plain pages; hugepages are faster";
            add(FindingKind::PlainPages, "node".into(), message.into());
        }
        if let Some(door) = &self.shared.settings.admin.tcp
            && door.access == TcpAccess::Nothing
        {
            let message = format!(
                "every user of this machine may change everything over {}",
                door.listen
            );
            add(FindingKind::RestWithoutToken, "node".into(), message);
        }
        derived
    }

    fn disk_finding(&self, name: &Name, open: &OpenDisk) -> Option<(FindingKind, String)> {
        let told = match self.condition(name, Some(open)) {
            api::DiskCondition::Stalled => {
                let ms = oldest_ns(open) / 1_000_000;
                (
                    FindingKind::DiskStalled,
                    format!("blocked on disk {name}, for {ms} ms"),
                )
            }
            api::DiskCondition::Missing => (
                FindingKind::DiskGone,
                format!("disk {name} has vanished under the daemon"),
            ),
            api::DiskCondition::Failing => {
                let faults = disk_faults(open).into_iter().filter(|(_, count)| *count > 0);
                let faults: Vec<_> = faults.map(|(name, count)| format!("{count} {name}")).collect();
                let message = format!("operations on disk {name} have failed: {}", faults.join(", "));
                (FindingKind::DiskMedia, message)
            }
            _ => return None,
        };
        Some(told)
    }
}
