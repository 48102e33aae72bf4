//! The tables under "Borders" in docs/architecture.md.

/// A row of a table, by what stands in code quotes in each of its cells.
#[derive(Debug)]
pub struct Row {
    /// The line of the document.
    pub line: usize,
    pub text: String,
    pub cells: Vec<Vec<String>>,
}

impl Row {
    /// For a message about what breaks this row.
    pub fn place(&self) -> String {
        format!("{}:{}: {}", crate::DOCUMENT, self.line, self.text)
    }
}

/// The rows of the table below a heading.
pub fn rows(document: &str, heading: &str) -> Vec<Row> {
    let lines = document.lines().enumerate().skip_while(|(_, line)| line.trim_start_matches('#').trim() != heading);
    let below = lines.skip(1).take_while(|(_, line)| !line.starts_with('#'));
    // The first two are the head and the rule below it.
    let rows: Vec<Row> = below.filter(|(_, line)| line.starts_with('|')).skip(2).map(row).collect();
    assert!(!rows.is_empty(), "{}: no table under \"{heading}\"", crate::DOCUMENT);
    rows
}

fn row((index, line): (usize, &str)) -> Row {
    let cells = line.trim_matches('|').split('|').map(quoted).collect();
    Row { line: index + 1, text: line.to_owned(), cells }
}

fn quoted(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn a_row_is_what_stands_in_quotes() {
    let document =
        "# Other\n| x |\n|---|\n| `y` |\n\n### Mine\n\ntext\n\n| a | b |\n|---|---|\n| `one`, `two` | each other |\n";
    let rows = rows(document, "Mine");
    assert_eq!((rows.len(), rows[0].line), (1, 12));
    assert_eq!(rows[0].cells, [vec!["one", "two"], vec![]]);
}
