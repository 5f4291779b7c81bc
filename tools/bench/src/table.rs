//! A table with its heading and what it says.

use comfy_table::presets::ASCII_MARKDOWN;
use comfy_table::{CellAlignment, ColumnConstraint};
use std::fmt::Write;

/// One table with what it means.
#[derive(Clone, Debug)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// What was done and how to read it; may be empty.
    pub about: String,
    /// Headings of the columns, with units. A column with nothing under it is left out.
    pub columns: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<String>>,
    /// What follows from it, a line each.
    pub notes: Vec<String>,
}

impl Table {
    /// As markdown, which can be read in a terminal as it is.
    pub fn page(&self) -> String {
        let mut text = format!("## {}\n\n", self.title);
        for part in [&self.about, &self.drawn()] {
            if !part.is_empty() {
                let _ = writeln!(text, "{part}\n");
            }
        }
        for note in &self.notes {
            let _ = writeln!(text, "- {note}");
        }
        format!("{}\n", text.trim_end())
    }

    fn drawn(&self) -> String {
        let mut table = comfy_table::Table::new();
        table
            .load_style(ASCII_MARKDOWN)
            .set_header(&self.columns)
            .add_rows(&self.rows);
        for (place, column) in table.column_iter_mut().enumerate() {
            if place > 0 {
                column.set_cell_alignment(CellAlignment::Right);
            }
            if self
                .rows
                .iter()
                .all(|row| row.get(place).is_none_or(String::is_empty))
            {
                column.set_constraint(ColumnConstraint::Hidden);
            }
        }
        table.trim_fmt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_columns_go_and_the_others_stand_under_each_other() {
        let cells = |cells: [&str; 3]| cells.map(str::to_owned).to_vec();
        let table = Table {
            title: "T".into(),
            about: "What it says.".into(),
            columns: cells(["who", "empty", "rate"]),
            rows: vec![cells(["a", "", "1000"]), cells(["bcd", "", "7"])],
            notes: vec!["it is fast".into()],
        };
        let lines = [
            "## T\n",
            "What it says.\n",
            "| who | rate |",
            "|-----|------|",
            "| a   | 1000 |",
            "| bcd |    7 |\n",
            "- it is fast\n",
        ];
        assert_eq!(table.page(), lines.join("\n"));
    }
}
