//! Figures of others that cannot be run everywhere: the best poll-mode dataplane written in C, measured beside
//! qemu-storage-daemon 10.0.2 on a quiet machine with two cores (target on one, a native poll-mode client on the
//! other; medians of three windows of 5 s). Absolute figures do not travel; the ratio between the two is the bridge.

use crate::row::{Medium, Row, Work};

/// What the figures are, for the foot of a table.
pub const SOURCE: &str = "Best C dataplane: ratios to qemu-storage-daemon 10.0.2 as given with this project's performance \
     goals (quiet machine, 2 cores, medians of three 5 s windows). They are constants, not measured in this run.";

/// How many times as fast as qemu-storage-daemon the best C dataplane was in a row; `None` where nobody measured.
pub fn best_c_ratio(row: Row) -> Option<f64> {
    let (dataplane, qemu) = best_c(row)?;
    Some(dataplane / qemu)
}

/// The two figures: kIOPS, or MB/s for long requests.
fn best_c(row: Row) -> Option<(f64, f64)> {
    let by_depth = |figures: [(f64, f64); 3]| match row.depth {
        1 => Some(figures[0]),
        32 => Some(figures[1]),
        128 => Some(figures[2]),
        _ => None,
    };
    match (row.medium, row.work, row.measures_bytes()) {
        (Medium::Null, Work::Read, false) => by_depth([(1349.0, 319.0), (4538.0, 536.0), (4496.0, 458.0)]),
        (Medium::Null, Work::Write, false) => by_depth([(1279.0, 303.0), (4364.0, 528.0), (3671.0, 534.0)]),
        (Medium::Memory, Work::Read, false) => by_depth([(707.0, 112.0), (1106.0, 194.0), (1073.0, 174.0)]),
        (Medium::Memory, Work::Write, false) => by_depth([(706.0, 104.0), (1138.0, 192.0), (1085.0, 170.0)]),
        (Medium::Memory, Work::Read, true) => Some((8189.0, 3656.0)),
        (Medium::Memory, Work::Write, true) => Some((5978.0, 3172.0)),
        (Medium::File, Work::Read, false) => by_depth([(29.6, 22.0), (65.7, 59.2), (74.4, 69.6)]),
        (Medium::File, Work::Write, false) => by_depth([(35.3, 23.3), (110.0, 92.8), (123.0, 98.5)]),
        (Medium::Null | Medium::File, _, true) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_those_of_the_goals() {
        let rounded = |name: &str| {
            let ratio = best_c_ratio(Row::matching(name).unwrap()[0]);
            ratio.map(|ratio| (ratio * 10.0).round() / 10.0)
        };
        assert_eq!(rounded("null-read-4k-qd1"), Some(4.2));
        assert_eq!(rounded("null-read-4k-qd128"), Some(9.8));
        assert_eq!(rounded("memory-write-4k-qd32"), Some(5.9));
        assert_eq!(rounded("memory-read-128k-qd16"), Some(2.2));
        assert_eq!(rounded("file-read-4k-qd1"), Some(1.3));
        assert_eq!(rounded("file-read-128k-qd16"), None);
    }
}
