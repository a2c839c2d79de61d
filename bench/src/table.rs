//! Tables in Markdown, aligned so that a terminal shows them as tables too.

use std::fmt::{self, Display, Formatter};

/// Rows of cells under a head.
#[derive(Debug)]
pub(crate) struct Table(Vec<Vec<String>>);

impl Table {
    pub(crate) fn new(head: impl IntoIterator<Item = String>) -> Self {
        Self(vec![head.into_iter().collect()])
    }

    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.0.push(cells.into_iter().collect());
    }

    /// Of each column, in characters.
    fn widths(&self) -> Vec<usize> {
        let columns = self.0.iter().map(Vec::len).max().unwrap_or(0);
        (0..columns).map(|column| self.0.iter().map(|row| width(row, column)).max().unwrap_or(0)).collect()
    }
}

fn width(row: &[String], column: usize) -> usize {
    row.get(column).map_or(0, |cell| cell.chars().count())
}

impl Display for Table {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let widths = self.widths();
        for (number, row) in self.0.iter().enumerate() {
            for (cell, width) in row.iter().zip(&widths) {
                write!(f, "| {cell:width$} ")?;
            }
            writeln!(f, "|")?;
            if number == 0 {
                widths.iter().try_for_each(|width| write!(f, "|-{:-<width$}-", ""))?;
                writeln!(f, "|")?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_are_as_wide_as_their_widest_cell() {
        let mut table = Table::new(["", "time"].map(str::to_owned));
        table.row(["ADD".to_owned(), "1.5 ms".to_owned()]);
        assert_eq!(table.to_string(), "|     | time   |\n|-----|--------|\n| ADD | 1.5 ms |\n");
    }
}
