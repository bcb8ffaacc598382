//! Tables for people: no borders, upper-case headers.

use comfy_table::{ContentArrangement, Table, presets};
use std::io::{self, IsTerminal, Write};

/// Space between two columns.
const GAP: u16 = 3;

/// Writes a table. On a terminal it is fitted to the width; elsewhere every cell is whole, on one line.
pub(crate) fn write(out: &mut dyn Write, header: &[&str], rows: Vec<Vec<String>>) -> io::Result<()> {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(header.to_vec());
    table.add_rows(rows);
    // Some terminals say that they have no columns.
    if io::stdout().is_terminal() && table.width() > Some(0) {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, GAP));
    }
    writeln!(out, "{}", table.trim_fmt())
}
