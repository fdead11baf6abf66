//! Tables for people: columns as wide as what is in them, numbers to the right.

use super::output::{Paint, Tone};

/// A table.
pub(super) struct Table {
    columns: Vec<Column>,
    rows: Vec<Vec<Cell>>,
}

struct Column {
    title: &'static str,
    right: bool,
}

/// One cell.
pub(super) struct Cell {
    words: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A cell in a colour.
    pub(super) fn tinted(tone: Tone, words: impl Into<String>) -> Self {
        Self { words: words.into(), tone: Some(tone) }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(words: T) -> Self {
        Self { words: words.into(), tone: None }
    }
}

impl Table {
    /// An empty table; a title that starts with `>` has its column to the right.
    pub(super) fn new(titles: &[&'static str]) -> Self {
        let column = |title: &&'static str| match title.strip_prefix('>') {
            Some(title) => Column { title, right: true },
            None => Column { title, right: false },
        };
        Self { columns: titles.iter().map(column).collect(), rows: Vec::new() }
    }

    /// One more row, as many cells as there are columns.
    pub(super) fn row<const N: usize>(&mut self, cells: [Cell; N]) {
        debug_assert_eq!(N, self.columns.len(), "a cell for every column");
        self.rows.push(cells.into());
    }

    /// The table, every line indented, no blanks at their ends.
    pub(super) fn render(&self, indent: usize, paint: Paint) -> String {
        let widths: Vec<_> = (0..self.columns.len())
            .map(|at| {
                let cells = self.rows.iter().filter_map(|row| row.get(at)).map(|cell| cell.words.chars().count());
                cells.chain([self.columns[at].title.len()]).max().unwrap_or(0)
            })
            .collect();
        let titles: Vec<_> = self.columns.iter().map(|column| Cell::tinted(Tone::Strong, column.title)).collect();
        let mut text = String::new();
        for row in std::iter::once(&titles).chain(&self.rows) {
            let mut line = " ".repeat(indent);
            for ((cell, column), width) in row.iter().zip(&self.columns).zip(&widths) {
                let blanks = " ".repeat(width - cell.words.chars().count());
                let words = cell.tone.map_or_else(|| cell.words.clone(), |tone| paint.tint(tone, &cell.words));
                let (before, after) = if column.right { (blanks, String::new()) } else { (String::new(), blanks) };
                line.extend([before.as_str(), words.as_str(), after.as_str(), "  "]);
            }
            text.push_str(line.trim_end());
            text.push('\n');
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_with_and_without_colours() {
        let mut table = Table::new(&["NAME", ">FLOWS", "STATE"]);
        table.row(["a".into(), "12".into(), Cell::tinted(Tone::Good, "up")]);
        table.row(["longer".into(), "1,234".into(), "down".into()]);
        let plain = "  NAME    FLOWS  STATE\n  a          12  up\n  longer  1,234  down\n";
        assert_eq!(table.render(2, Paint::Plain), plain);
        let coloured = table.render(2, Paint::Colours);
        assert!(coloured.contains("  a          12  \x1b[32mup\x1b[0m\n"), "{coloured:?}");
    }
}
