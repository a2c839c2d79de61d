//! What a terminal gets and a pipe does not: colour, and a line that says what is being done.

use std::io::{IsTerminal, Write, stderr, stdout};

use selvedge_lab::matrix::Style;

/// How to print on standard output.
pub(super) fn style() -> Style {
    let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    if wanted && stdout().is_terminal() { Style::Colour } else { Style::Plain }
}

/// A line on the terminal that the next one replaces.
pub(super) struct Progress {
    shown: bool,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self { shown: stderr().is_terminal() }
    }

    /// Shows what is being done now.
    pub(super) fn show(&self, doing: &str) {
        self.write(&format!("\r\x1b[Klab: {doing} …"));
    }

    /// Takes the line away.
    pub(super) fn clear(&self) {
        self.write("\r\x1b[K");
    }

    fn write(&self, text: &str) {
        if self.shown {
            // A terminal that is gone needs no progress.
            stderr().write_all(text.as_bytes()).ok();
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.clear();
    }
}
