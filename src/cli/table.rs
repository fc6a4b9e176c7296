//! Tables: one line per row, free text last.
//!
//! On a terminal the last column is cut to the width; in a pipe nothing is cut. Cells are made safe
//! for terminals in both cases, so a row is always one line.

use comfy_table::{ColumnConstraint, ContentArrangement, Row, presets};

use super::{colour::Colour, text};

/// Space between columns.
const GAP: u16 = 2;

/// A table with a heading.
#[derive(Debug)]
pub(crate) struct TextTable {
    heading: &'static [&'static str],
    rows: Vec<Vec<String>>,
}

impl TextTable {
    /// A table without rows.
    pub(crate) fn new(heading: &'static [&'static str]) -> Self {
        Self { heading, rows: Vec::new() }
    }

    /// Adds a row; only the last cell may be cut.
    pub(crate) fn row<'a>(&mut self, cells: impl IntoIterator<Item = &'a str>) {
        self.rows.push(cells.into_iter().map(text::one_line).collect());
    }

    /// The rows as lines, with coloured status words if `colour`, cut to `width` if given.
    pub(super) fn lines(&self, width: Option<u16>, colour: bool) -> Vec<String> {
        let mut table = comfy_table::Table::new();
        table.load_style(presets::NOTHING).set_truncation_indicator("…");
        table.set_header(self.heading.to_vec());
        for cells in &self.rows {
            let mut row = Row::from(cells.clone());
            row.max_height(1);
            table.add_row(row);
        }
        match width {
            Some(width) => {
                table.set_content_arrangement(ContentArrangement::Dynamic).set_width(width);
            }
            None => {
                table.set_content_arrangement(ContentArrangement::Disabled);
            }
        }
        let last = self.heading.len().saturating_sub(1);
        for (index, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, if index == last { 0 } else { GAP }));
            if index != last {
                column.set_constraint(ColumnConstraint::ContentWidth);
            }
        }
        let mut lines: Vec<_> = table.lines().map(|line| line.trim_end().to_owned()).collect();
        if colour {
            for (line, cells) in lines.iter_mut().skip(1).zip(&self.rows) {
                paint_status(line, cells);
            }
            if let Some(heading) = lines.first_mut() {
                *heading = Colour::Dim.paint(heading);
            }
        }
        lines
    }
}

/// Colours the row's status word. It precedes free text, so the word's first occurrence is the
/// status.
fn paint_status(line: &mut String, cells: &[String]) {
    for cell in cells {
        if let Some(colour) = Colour::of_status(cell)
            && let Some(at) = line.find(&format!(" {cell}")).map(|at| at + 1)
        {
            line.replace_range(at..at + cell.len(), &colour.paint(cell));
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> TextTable {
        let mut table = TextTable::new(&["ID", "STATUS", "GOAL"]);
        table.row(["17", "success", "print\n\u{1b}[31m6765"]);
        table.row(["4", "error", &"long ".repeat(30)]);
        table
    }

    #[test]
    fn a_terminal_gets_rows_that_fit() {
        let lines = table().lines(Some(40), false);
        assert_eq!(lines.len(), 3, "{lines:#?}");
        assert_eq!(lines[1], "17  success  print 6765");
        assert!(lines[2].starts_with("4   error    long long") && lines[2].ends_with('…'));
        assert!(lines.iter().all(|line| line.chars().count() <= 40), "{lines:#?}");
    }

    #[test]
    fn a_pipe_gets_everything() {
        let lines = table().lines(None, false);
        assert_eq!(lines[0], "ID  STATUS   GOAL");
        assert_eq!(lines[2].matches("long").count(), 30);
    }

    #[test]
    fn only_the_status_is_coloured() {
        let lines = table().lines(None, true);
        assert_eq!(lines[1], "17  \u{1b}[32msuccess\u{1b}[0m  print 6765");
    }
}
