//! Tables of figures with their spread, and verdicts: the same value as text, as markdown and as JSON.

use crate::report::columns::{aligned, markdown};
use crate::report::figure;
use crate::tally::Spread;
use serde::Serialize;
use std::fmt::Write;

/// One table with what it means.
#[derive(Clone, Debug, Serialize)]
pub struct Table {
    /// Its heading.
    pub title: String,
    /// What was done and how to read it.
    pub about: String,
    /// Headings of the columns, with units.
    pub columns: Vec<String>,
    /// Rows of as many cells.
    pub rows: Vec<Vec<Cell>>,
    /// What follows from it.
    pub verdicts: Vec<Verdict>,
}

/// One cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Cell {
    /// Words.
    Words(String),
    /// One figure.
    Figure(f64),
    /// A median with its smallest and largest.
    Spread(Spread),
    /// Not measured.
    None,
}

/// A statement that may turn out false.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    /// What was to be shown.
    pub claim: String,
    /// Whether it holds.
    pub holds: bool,
    /// The figures it rests on.
    pub because: String,
}

impl From<&str> for Cell {
    fn from(words: &str) -> Cell {
        Cell::Words(words.to_owned())
    }
}

impl From<String> for Cell {
    fn from(words: String) -> Cell {
        Cell::Words(words)
    }
}

impl From<f64> for Cell {
    fn from(figure: f64) -> Cell {
        Cell::Figure(figure)
    }
}

impl From<Option<Spread>> for Cell {
    fn from(spread: Option<Spread>) -> Cell {
        spread.map_or(Cell::None, Cell::Spread)
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Cell::Words(words) => words.clone(),
            Cell::Figure(value) => figure(*value),
            Cell::Spread(spread) => format!(
                "{} ({} .. {})",
                figure(spread.median),
                figure(spread.min),
                figure(spread.max)
            ),
            Cell::None => "-".into(),
        }
    }
}

impl Table {
    /// Without rows yet.
    pub fn new(title: &str, about: impl Into<String>, columns: &[&str]) -> Table {
        Table {
            title: title.to_owned(),
            about: about.into(),
            columns: columns.iter().map(|&column| column.to_owned()).collect(),
            rows: Vec::new(),
            verdicts: Vec::new(),
        }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl Into<Vec<Cell>>) {
        self.rows.push(cells.into());
    }

    /// Adds a verdict.
    pub fn verdict(&mut self, claim: impl Into<String>, holds: bool, because: impl Into<String>) {
        self.verdicts.push(Verdict {
            claim: claim.into(),
            holds,
            because: because.into(),
        });
    }

    /// Headings, then rows.
    fn lines(&self) -> Vec<Vec<String>> {
        let rows = self.rows.iter().map(|row| row.iter().map(Cell::text).collect());
        std::iter::once(self.columns.clone()).chain(rows).collect()
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut text = format!(
            "{}\n{}\n\n{}",
            self.title,
            wrap(&self.about, 110),
            aligned(&self.lines())
        );
        for verdict in &self.verdicts {
            let _ = writeln!(
                text,
                "  {}: {}; {}.",
                if verdict.holds { "HOLDS" } else { "DOES NOT HOLD" },
                verdict.claim,
                verdict.because
            );
        }
        text
    }

    /// For people.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "## {}\n\n{}\n\n{}",
            self.title,
            self.about,
            markdown(&self.lines())
        );
        for verdict in &self.verdicts {
            let _ = write!(
                text,
                "\n**{}**: {}; {}.\n",
                if verdict.holds { "Holds" } else { "Does not hold" },
                verdict.claim,
                verdict.because
            );
        }
        text
    }
}

fn wrap(words: &str, width: usize) -> String {
    let (mut text, mut column) = (String::new(), 0);
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if column > 0 && column + 1 + length > width {
            text.push('\n');
            column = 0;
        } else if column > 0 {
            text.push(' ');
            column += 1;
        }
        text.push_str(word);
        column += length;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Table {
        let mut table = Table::new("T", "What it says. ".repeat(20), &["what", "ns"]);
        table.row([
            Cell::from("a long name"),
            Cell::from(Spread::of([1.0, 2.0, 30.0])),
        ]);
        table.row([Cell::from("b"), Cell::None]);
        table.verdict("it is fast", false, "2.00 of 1");
        table
    }

    #[test]
    fn text_has_straight_columns_and_says_what_does_not_hold() {
        let text = sample().text();
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
        let ends: Vec<Option<usize>> = ["  ns", "2.00 (1.00 .. 30.0)"]
            .iter()
            .map(|cell| {
                text.lines()
                    .find_map(|line| line.find(cell).map(|at| at + cell.len()))
            })
            .collect();
        assert!(ends[0].is_some() && ends[0] == ends[1], "{text}");
        assert!(text.contains("DOES NOT HOLD: it is fast; 2.00 of 1."));
    }

    #[test]
    fn markdown_has_as_many_cells_in_each_line() {
        let markdown = sample().markdown();
        let bars: Vec<usize> = markdown
            .lines()
            .filter(|line| line.starts_with('|'))
            .map(|line| line.matches('|').count())
            .collect();
        assert_eq!(bars, [3; 4], "{markdown}");
        assert!(markdown.contains("**Does not hold**"));
    }
}
