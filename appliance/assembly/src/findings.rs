//! What is wrong, in words: the health report.

use crate::plant::OpenDisk;
use crate::samples::{disk_faults, oldest_ns};
use crate::views::View;
use palisade_api as api;
use palisade_model::Name;
use palisade_reconcile::Cause;
use palisade_sys::PageBacking;

impl View<'_> {
    /// What is wrong.
    pub fn health(&self) -> api::Health {
        let mut findings = Vec::new();
        for wait in self.waits() {
            // What waits for something else is a consequence; the cause is listed by itself.
            if matches!(wait.cause, Cause::On { .. }) {
                continue;
            }
            findings.push(api::Finding {
                severity: api::Overall::Failed,
                code: format!("{}_blocked", wait.kind),
                subject: format!("{}/{}", wait.kind, wait.name),
                message: wait.cause.to_string(),
                remedy: format!(
                    "remove the cause; palisade {} show {} tells when it is over",
                    wait.kind, wait.name
                ),
            });
        }
        for (name, open) in &self.plant.disks {
            findings.extend(self.disk_finding(name, open));
        }
        for (name, offered) in &self.plant.attachments {
            let waiting = self
                .shared
                .door()
                .report(offered.index)
                .and_then(|report| report.waiting);
            if let Some(waiting) = waiting.filter(|waiting| waiting.overdue) {
                findings.push(api::Finding {
                    severity: api::Overall::Degraded,
                    code: "attachment_blocked".into(),
                    subject: format!("attachment/{name}"),
                    message: format!("{}, for {} s", waiting.on, waiting.since.elapsed().as_secs()),
                    remedy: "look at the disks of its volume: palisade disk list".into(),
                });
            }
        }
        if self
            .shared
            .reactors
            .iter()
            .any(|reactor| reactor.backing == PageBacking::Plain)
        {
            findings.push(api::Finding {
                severity: api::Overall::Ok,
                code: "plain_pages".into(),
                subject: "node".into(),
                message: "buffers are made of plain pages; hugepages are faster".into(),
                remedy: "palisade preflight --apply, then restart the daemon".into(),
            });
        }
        api::Health::of(findings)
    }

    fn disk_finding(&self, name: &Name, open: &OpenDisk) -> Option<api::Finding> {
        let (severity, code, message) = match self.condition(name, Some(open)) {
            api::DiskCondition::Stalled => {
                let ms = oldest_ns(open) / 1_000_000;
                (
                    api::Overall::Failed,
                    "disk_stalled",
                    format!("blocked on disk {name}, for {ms} ms"),
                )
            }
            api::DiskCondition::Missing => (
                api::Overall::Failed,
                "disk_missing",
                format!("disk {name} has vanished under the daemon"),
            ),
            api::DiskCondition::Failing => {
                let faults: Vec<_> = disk_faults(open)
                    .into_iter()
                    .filter(|(_, count)| *count > 0)
                    .collect();
                let faults: Vec<_> = faults
                    .iter()
                    .map(|(name, count)| format!("{count} {name}"))
                    .collect();
                let message = format!("operations on disk {name} have failed: {}", faults.join(", "));
                (api::Overall::Degraded, "disk_failing", message)
            }
            _ => return None,
        };
        Some(api::Finding {
            severity,
            code: code.into(),
            subject: format!("disk/{name}"),
            message,
            remedy: "look into the kernel log and at the disk's cabling; its volumes wait or fail, all others go on"
                .into(),
        })
    }
}
