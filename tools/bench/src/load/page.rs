//! The pages' part about a tenth of the load.

use super::{LOAD_CPU_SHARE_MAX, LoadRow, SATURATED_DEPTH};
use crate::report::columns::{aligned, markdown};
use crate::report::{figure, interval, spread};

const HEAD: [&str; 10] = [
    "target",
    "kIOPS",
    "CPU ns/request (min .. max)",
    "x qemu [interval]",
    "CPU %",
    "p50 us",
    "p99 us",
    "p99.9 us",
    "p99 x qemu [interval]",
    "kicks/request",
];

/// One row as lines for a terminal.
pub fn row_text(row: &LoadRow) -> String {
    let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
    lines.extend(cells(row));
    let mut text = format!("{}\n{}", title(row), aligned(&lines));
    for goal in &row.goals {
        text.push_str(&format!("  {goal}\n"));
    }
    text
}

/// All rows for a terminal.
pub fn text(rows: &[LoadRow]) -> String {
    let rows: Vec<String> = rows.iter().map(row_text).collect();
    format!("{}\n\n{}", about(), rows.join("\n"))
}

/// All rows for people.
pub fn page(rows: &[LoadRow]) -> String {
    let mut text = format!("## At a tenth of the load\n\n{}\n\n", about());
    for row in rows {
        let mut lines = vec![HEAD.map(str::to_owned).to_vec()];
        lines.extend(cells(row));
        text.push_str(&format!("{}\n\n{}\n", title(row), markdown(&lines)));
        for goal in &row.goals {
            text.push_str(&format!("- {goal}\n"));
        }
        text.push('\n');
    }
    text
}

fn about() -> String {
    format!(
        "At a tenth of the load: requests of 4 KiB come by chance (Poisson) at 10 % of the highest rate that \
         qemu-storage-daemon reached in this run at depth {SATURATED_DEPTH}, and are timed from the moment they are \
         due. Kicks by event index, as Linux guests ask for them. The goal: at most {LOAD_CPU_SHARE_MAX:.1} x qemu's \
         processor time for a request, p99 no worse; each against the way of qemu that is best in it. Targets that \
         always poll are left out: they take a whole core at any load."
    )
}

fn title(row: &LoadRow) -> String {
    let to = |rival: Option<&'static str>| rival.unwrap_or("nothing");
    format!(
        "{}: {} kIOPS, a tenth of {} kIOPS of {}; processor time against {}, p99 against {}",
        row.name,
        figure(row.asked_kiops),
        figure(row.saturated_kiops),
        row.saturated_way,
        to(row.cpu_rival),
        to(row.p99_rival),
    )
}

fn cells(row: &LoadRow) -> Vec<Vec<String>> {
    let line = |one: &super::LoadFigures| {
        vec![
            one.target.to_owned(),
            figure(one.kiops.median),
            spread(one.cpu_ns_per_request),
            interval(one.cpu_to_qemu),
            figure(one.cpu_percent),
            figure(one.p50_us),
            figure(one.p99_us),
            figure(one.p999_us),
            interval(one.p99_to_qemu),
            format!("{:.2}", one.kicks_per_request),
        ]
    };
    row.targets.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::load::tests::sample;

    #[test]
    fn both_pages_show_ratios_with_intervals_and_the_goal() {
        let rows = [sample()];
        for page in [text(&rows), page(&rows)] {
            assert!(page.contains("0.325 [0.300 .. 0.350]"), "{page}");
            assert!(page.contains("325 (300 .. 350)") && page.contains("null-read-4k-load10"));
            assert!(
                page.contains(
                    "goal at most 0.50 x qemu's processor time for a request: palisade-adaptive met"
                )
            );
        }
    }
}
