//! What an attachment has of its shares, as REST shows it.

use crate::config::Settings;
use crate::pinning::machine_bytes;
use palisade_api::Share;
use palisade_frontend::SessionReport;

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
        share("pinned_bytes", pinned_bytes, pinned),
        share(
            "hanging_processes",
            hanging as u64,
            settings.door.hanging_each_max as u64,
        ),
    ];
    mapped.chain(others).collect()
}
