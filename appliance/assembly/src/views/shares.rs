//! What an attachment has of its shares, as REST shows it.

use crate::config::Settings;
use crate::pinning::machine_bytes;
use crate::views::View;
use palisade_api::Share;
use palisade_frontend::SessionReport;
use palisade_memory::{ADDRESS_BYTES_TOTAL, MAPPINGS_TOTAL};

/// Every share, used or not.
pub(super) fn shares(report: &SessionReport, pinned_bytes: u64, settings: &Settings) -> Vec<Share> {
    let share = |of: &str, used: u64, limit: u64| Share {
        of: of.to_owned(),
        used,
        limit,
    };
    let hanging = report.hanging.as_ref().map_or(0, |hanging| hanging.count);
    let mapped = report.mapped.into_iter().flat_map(|(mapped, limits)| {
        [
            share("mapped_bytes", mapped.bytes, limits.memory_bytes),
            share("mappings", mapped.mappings, limits.mappings),
        ]
    });
    let pinned = machine_bytes() / 100 * settings.pinned_each_percent;
    let others = [
        share(
            "messages_per_s",
            report.messages.recent(),
            report.messages.limit_per_s,
        ),
        share(
            "connects_per_s",
            report.connects.recent(),
            report.connects.limit_per_s,
        ),
        share("pinned_bytes", pinned_bytes, pinned),
        share(
            "hanging_processes",
            hanging as u64,
            settings.door.hanging_each_max as u64,
        ),
    ];
    mapped.chain(others).collect()
}

impl View<'_> {
    /// What all attachments together have, and may have.
    pub(crate) fn totals(&self) -> Vec<Share> {
        let share = |of: &str, used: u64, limit: u64| Share {
            of: of.to_owned(),
            used,
            limit,
        };
        let (settings, mapped) = (&self.shared.settings, self.shared.shares.mapped());
        let offered = || self.state.control.all_offered();
        let pinned = offered().map(|offered| self.shared.pinning.pinned_bytes(offered.index));
        let hanging = offered().filter_map(|offered| {
            let report = self.shared.door().report(offered.index)?;
            report.hanging.map(|hanging| hanging.count as u64)
        });
        vec![
            share("mapped_bytes", mapped.bytes, ADDRESS_BYTES_TOTAL),
            share("mappings", mapped.mappings, MAPPINGS_TOTAL),
            share(
                "pinned_bytes",
                pinned.sum(),
                machine_bytes() / 100 * settings.pinned_percent,
            ),
            share(
                "hanging_processes",
                hanging.sum(),
                settings.door.hanging_max as u64,
            ),
        ]
    }
}
