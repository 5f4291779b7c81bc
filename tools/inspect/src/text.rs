//! A report as text for people.

use crate::report::{DiskReport, Report};
use comfy_table::presets::UTF8_HORIZONTAL_ONLY;
use comfy_table::{CellAlignment, Table};
use std::fmt::Write;

/// One disk's page.
pub fn page(report: &Report, verbose: bool) -> String {
    let mut page = report.path.clone();
    if let (Some(kind), Some(size)) = (report.kind, report.size_bytes) {
        page += &format!(" ({kind}, {})", bytes(size));
    }
    page += &format!(": {}\n", report.summary);
    if let Some(disk) = &report.disk {
        page += &identity(disk);
        page += &volumes(disk, verbose);
    }
    for damage in &report.damage {
        page += &format!("  ! {} (sector {}) {}\n", damage.place, damage.lba, damage.what);
        page += &format!("      {}\n", damage.meaning);
    }
    for place in &report.superblocks {
        let mark = if place.sound { '+' } else { '-' };
        page += &format!("  {mark} {}: {}\n", place.place, place.what);
    }
    for advice in &report.advice {
        page += &format!("  > {advice}\n");
    }
    if let Some(disk) = report.disk.as_ref().filter(|_| verbose) {
        for ancestor in &disk.ancestors {
            page += &format!("  carried generation {} ({})\n", ancestor.generation, ancestor.id);
        }
        for copy in &disk.copies {
            page += &format!("  {} is sound, of write {}\n", copy.place, copy.sequence);
        }
    }
    for note in &report.notes {
        page += &format!("  {note}\n");
    }
    page
}

fn identity(disk: &DiskReport) -> String {
    let lines = [
        ("label", disk.label.clone()),
        ("disk", disk.uuid.clone()),
        ("cluster", disk.cluster.clone()),
        ("written by", format!("node {}", disk.owner)),
        (
            "state",
            format!(
                "generation {}, epoch {}, write {}",
                disk.generation, disk.epoch, disk.sequence
            ),
        ),
        ("lineage", lineage(disk)),
        ("block", format!("{} bytes", disk.block_bytes)),
        (
            "data",
            format!(
                "{}, sectors {} to {}",
                bytes(disk.data_bytes),
                disk.data_start,
                disk.data_end.saturating_sub(1)
            ),
        ),
        ("used", bytes(disk.used_bytes)),
        (
            "free",
            format!(
                "{}, {} in one piece",
                bytes(disk.free_bytes),
                bytes(disk.largest_free_bytes)
            ),
        ),
    ];
    lines.iter().fold(String::new(), |mut text, (name, value)| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "  {name:<11} {value}");
        text
    })
}

/// The id of the configuration, and the one that it grew out of.
fn lineage(disk: &DiskReport) -> String {
    let Some(id) = &disk.lineage else {
        return "none yet: written by a version without lineages".to_owned();
    };
    match disk.ancestors.first() {
        Some(before) => format!(
            "{id}, after generation {} ({}); {} remembered",
            before.generation,
            before.id,
            disk.ancestors.len()
        ),
        None => format!("{id}, the first on this disk"),
    }
}

fn volumes(disk: &DiskReport, verbose: bool) -> String {
    if disk.volumes.is_empty() {
        return "  no volume lies here\n".to_owned();
    }
    let mut table = Table::new();
    table.load_style(UTF8_HORIZONTAL_ONLY);
    table.set_header(["volume", "uuid", "size", "here", "block", "extents"]);
    for volume in &disk.volumes {
        table.add_row([
            volume.name.clone(),
            volume.uuid.clone(),
            bytes(volume.size_bytes),
            bytes(volume.here_bytes),
            volume.block_bytes.to_string(),
            volume.extents.len().to_string(),
        ]);
    }
    let mut text = right(table, 2..6);
    if verbose {
        let mut table = Table::new();
        table.load_style(UTF8_HORIZONTAL_ONLY);
        table.set_header(["volume", "volume sector", "disk sector", "sectors", "size"]);
        for volume in &disk.volumes {
            for extent in &volume.extents {
                table.add_row([
                    volume.name.clone(),
                    extent.volume_lba.to_string(),
                    extent.disk_lba.to_string(),
                    extent.sectors.to_string(),
                    bytes(extent.sectors * 512),
                ]);
            }
        }
        text += &right(table, 1..5);
    }
    text
}

/// The table with some columns set to the right.
fn right(mut table: Table, columns: std::ops::Range<usize>) -> String {
    for column in columns {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n")
}

/// A size for people: exact below 1 KiB, else with one digit behind the point.
fn bytes(size: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut unit = "B";
    let (mut whole, mut rest) = (size, 0);
    for next in UNITS {
        if whole < 1024 {
            break;
        }
        (unit, rest, whole) = (next, whole % 1024, whole / 1024);
    }
    match rest * 10 / 1024 {
        0 => format!("{whole} {unit}"),
        tenth => format!("{whole}.{tenth} {unit}"),
    }
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_read_like_people_say_them() {
        let sizes = [0, 1023, 1024, 1536, 4 << 20, (5 << 30) + (1 << 29), u64::MAX];
        assert_eq!(
            sizes.map(bytes),
            [
                "0 B", "1023 B", "1 KiB", "1.5 KiB", "4 MiB", "5.5 GiB", "15.9 EiB"
            ]
        );
    }
}
