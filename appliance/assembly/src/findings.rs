//! What is wrong, as it follows from the present state of the node.

mod coming_up;
pub mod media;
pub mod members;
pub mod sessions;

use crate::samples::oldest_ns;
use crate::slow_turns;
use crate::views::View;
use palisade_admin::TcpAccess;
use palisade_api as api;
use palisade_api::FindingKind;
use palisade_api::size::human;
use palisade_model::Kind;
use palisade_reconcile::{Action, Cause};
use palisade_sys::clock::boot_time;
use palisade_sys::{MemoryLimit, PageBacking};
use palisade_words::{Name, SECTOR_BYTES};
use std::time::{Duration, Instant};

/// A step may be under way for so long before it is told.
const STEP_BOUND: Duration = Duration::from_secs(30);

impl View<'_> {
    /// What follows from the present state. What has been raised by those who saw a cause is not among it.
    pub fn derived(&self) -> Vec<(FindingKind, api::Finding)> {
        let (mut derived, now) = (Vec::new(), self.shared.now());
        let mut add = |kind: FindingKind, subject: String, message: String| {
            derived.push((kind, api::Finding::new(kind, subject, message)));
        };
        if let Some(site) = self.shared.site.get() {
            let (own, sensed) = (&self.shared.name, site.sensing().seen());
            for (kind, name, said) in members::findings(self.cluster, own, &sensed, boot_time()) {
                add(kind, format!("member/{name}"), said);
            }
        }
        for wait in self.waits() {
            // What waits for something else is a consequence; the cause is listed by itself.
            if matches!(wait.cause, Cause::On { .. }) {
                continue;
            }
            let kind = match wait.kind {
                Kind::Disk => FindingKind::DiskBlocked,
                Kind::Volume => FindingKind::VolumeBlocked,
                Kind::Attachment => FindingKind::AttachmentBlocked,
                // No step is for a token: nothing waits for one.
                Kind::Node | Kind::Token => FindingKind::NodeBlocked,
            };
            let mut message = wait.to_string();
            let with_more = matches!(
                wait.cause,
                Cause::OlderSuperblock { .. }
                    | Cause::EndLost { .. }
                    | Cause::SuperblockOnWhole { .. }
                    | Cause::ForeignSuperblock
            );
            if let (true, Some(sides)) = (with_more, self.state.control.sides(&wait.name)) {
                message = format!("{message}. {sides}");
            }
            let is_disk = wait.kind == Kind::Disk;
            if let Some(age) = is_disk
                .then(|| self.state.control.age_of_last_read(&wait.name, now))
                .flatten()
            {
                message = format!("{message}; {age}");
            }
            add(kind, format!("{}/{}", wait.kind, wait.name), message);
        }
        if let Some(message) = coming_up::coming_up(self) {
            add(FindingKind::ComingUp, "node".into(), message);
        }
        for (name, open) in &self.state.disks {
            for (kind, message) in media::findings(self.cluster, self.state, name, open) {
                add(kind, format!("disk/{name}"), message);
            }
            if self.state.control.has_stalled(name) {
                let message = format!("blocked on disk {name}, for {} ms", oldest_ns(open) / 1_000_000);
                add(FindingKind::DiskStalled, format!("disk/{name}"), message);
            }
            if let Some(message) = media::fenced(self.state, name) {
                add(FindingKind::DiskFenced, format!("disk/{name}"), message);
            }
            if let Some(message) = media::unusable(self.state, name) {
                add(FindingKind::DiskUnusable, format!("disk/{name}"), message);
            }
        }
        for (name, damage) in self.state.control.superblock_damage() {
            add(
                FindingKind::SuperblockDamaged,
                format!("disk/{name}"),
                damage.join("; "),
            );
        }
        for (uuid, fragment) in &self.cluster.fragments {
            let disks: Vec<&str> = fragment.disks().into_iter().map(Name::as_str).collect();
            let message = format!(
                "volume {} ({uuid}) is not whole: {} of its {} bytes are here, on {}",
                fragment.name,
                fragment.present_sectors() * SECTOR_BYTES,
                fragment.sectors * SECTOR_BYTES,
                disks.join(", ")
            );
            add(
                FindingKind::VolumeIncomplete,
                format!("volume/{}", fragment.name),
                message,
            );
        }
        let mut stalled = Vec::new();
        for (name, offered) in &self.state.control.attachments {
            let Some(report) = self.shared.door().report(offered.index) else {
                continue;
            };
            if sessions::has_stalled(&report) {
                stalled.push(name.as_str());
            }
            for (kind, message) in sessions::findings(&report) {
                add(kind, format!("attachment/{name}"), message);
            }
        }
        for (name, message) in self.state.control.left_by_name(now) {
            add(FindingKind::SessionLeft, format!("attachment/{name}"), message);
        }
        for (action, under_way) in &self.state.control.under_way {
            let lasted = now.since(under_way.since).duration();
            let bound = match action {
                // It waits for whoever has the disk locked, as long as it was told to.
                Action::OpenDisk { .. } => STEP_BOUND + self.shared.settings.lock_wait,
                _ => STEP_BOUND,
            };
            if lasted >= bound {
                let (kind, name) = action.target();
                let awaited = under_way
                    .awaited
                    .iter()
                    .map(|reactor| format!(", of reactor {}", reactor.0));
                let message = format!(
                    "\"{}\" has been under way for {} s{}",
                    under_way.step,
                    lasted.as_secs(),
                    awaited.collect::<String>()
                );
                add(FindingKind::StepOverdue, format!("{kind}/{name}"), message);
            }
        }
        for reactor in &self.shared.reactors {
            let index = reactor.plan.index;
            let told = slow_turns::told(&reactor.slow, index, self.state, &stalled, Instant::now());
            if let Some(message) = told {
                add(FindingKind::ReactorSlow, format!("reactor/{}", index.0), message);
            }
        }
        let mut reactors = self.shared.reactors.iter();
        if reactors.any(|reactor| reactor.backing == PageBacking::Plain) {
            let message = "buffers are made of plain pages; hugepages are faster";
            add(FindingKind::PlainPages, "node".into(), message.into());
        }
        let limit = || self.shared.last_limit.at(Instant::now());
        if let Some(message) = memory_limited(self.shared.shares.charged_bytes(), limit) {
            add(FindingKind::MemoryLimited, "node".into(), message);
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
}

/// What is to be said when guests share more memory with the daemon than its control group may use: whoever touches a page first
/// is charged for it.
fn memory_limited(shared_bytes: u64, limit: impl FnOnce() -> Option<MemoryLimit>) -> Option<String> {
    if shared_bytes == 0 {
        return None;
    }
    let MemoryLimit { bytes, file } = limit()?;
    (shared_bytes > bytes).then(|| {
        format!(
            "guests share {} with the daemon, and its control group may use {} ({}): a guest can have the kernel end the daemon",
            human(shared_bytes),
            human(bytes),
            file.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guests_that_share_more_memory_than_the_daemon_may_use_are_told() {
        let limit = || {
            Some(MemoryLimit {
                bytes: 600 << 20,
                file: "/sys/fs/cgroup/memory.max".into(),
            })
        };
        let told = memory_limited(2 << 30, limit).unwrap();
        for words in ["share 2 GiB", "may use 600 MiB", "(/sys/fs/cgroup/memory.max)"] {
            assert!(told.contains(words), "{told}");
        }
        assert_eq!(memory_limited(600 << 20, limit), None);
        assert_eq!(memory_limited(2 << 30, || None), None);
        assert_eq!(memory_limited(0, || unreachable!("nothing is to be read")), None);
    }
}
