//! Lines of cells as a table, for a terminal and for markdown. The first line is the head; a column with nothing under
//! its head is left out.

/// Columns of equal width, two spaces before each; the first to the left, the others to the right.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let lines = without_empty(lines);
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            if column == 0 {
                row.push_str(&format!("  {cell:<width$}"));
            } else {
                row.push_str(&format!("  {cell:>width$}"));
            }
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// A table of markdown.
pub fn markdown(lines: &[Vec<String>]) -> String {
    let mut text = String::new();
    for (index, line) in without_empty(lines).iter().enumerate() {
        text.push_str(&format!("| {} |\n", line.join(" | ")));
        if index == 0 {
            text.push_str(&format!("|{}\n", "---|".repeat(line.len())));
        }
    }
    text
}

fn without_empty(lines: &[Vec<String>]) -> Vec<Vec<String>> {
    let below = lines.get(1..).unwrap_or_default();
    let filled = |column: &usize| {
        let cell = |line: &Vec<String>| line.get(*column).is_some_and(|cell| !cell.is_empty());
        below.iter().any(cell)
    };
    let columns: Vec<usize> = (0..lines.first().map_or(0, Vec::len)).filter(filled).collect();
    let kept = |line: &Vec<String>| -> Vec<String> {
        let cells = columns.iter().map(|&column| line.get(column).cloned());
        cells.map(Option::unwrap_or_default).collect()
    };
    lines.iter().map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines() -> Vec<Vec<String>> {
        [["who", "empty", "rate"], ["a", "", "1000"], ["bcd", "", "7"]]
            .map(|line| line.map(str::to_owned).to_vec())
            .to_vec()
    }

    #[test]
    fn empty_columns_go_and_the_others_stand_under_each_other() {
        assert_eq!(aligned(&lines()), "  who  rate\n  a    1000\n  bcd     7\n");
        assert_eq!(
            markdown(&lines()),
            "| who | rate |\n|---|---|\n| a | 1000 |\n| bcd | 7 |\n"
        );
    }
}
