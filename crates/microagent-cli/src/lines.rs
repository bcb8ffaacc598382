//! Things that happened, each told on a line of its own: all at once, or one by one as they come.

use crate::error::Error;
use crate::output::{self, Format, Text};
use serde::Serialize;
use std::io::{self, Write};

/// What can be told on one line.
pub(crate) trait Line {
    /// Writes the line, whatever words it holds.
    fn line(&self, out: &mut dyn Write) -> io::Result<()>;
}

/// All of them.
#[derive(Serialize)]
pub(crate) struct Events<T> {
    pub(crate) events: Vec<T>,
}

impl<T: Line> Text for Events<T> {
    fn text(&self, out: &mut dyn Write) -> io::Result<()> {
        self.events.iter().try_for_each(|event| event.line(out))
    }
}

/// Shows one that has just happened.
pub(crate) fn show<T: Line + Serialize>(event: &T, format: Format) -> Result<(), Error> {
    if format != Format::Text {
        return output::show_line(event);
    }
    let mut out = anstream::stdout().lock();
    event.line(&mut out)?;
    Ok(out.flush()?)
}

/// Somebody else's words, as they may stand on a line.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}
