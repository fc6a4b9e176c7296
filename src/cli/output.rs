//! Output of a command: results to standard output, everything else to standard error.
//!
//! *Promises.* Nothing here panics: a closed pipe is an error like others, and a failed write to
//! standard error is ignored. Colours go to a terminal only, and nowhere with `NO_COLOR`.

use std::{
    borrow::Cow,
    ffi::OsString,
    io::{self, BufWriter, IsTerminal as _, Stdout, Write as _},
};

use serde::Serialize;

use super::{
    colour::{Colour, ColourChoice},
    table::TextTable,
    text,
};

/// The output of a command.
pub(crate) struct Output {
    stdout: BufWriter<Stdout>,
    /// Whether results are JSON.
    pub(crate) json: bool,
    /// Whether only results and errors are printed.
    pub(crate) quiet: bool,
    /// The terminal width of standard output, in columns.
    pub(crate) width: Option<u16>,
    colours: Colours,
}

/// Which streams are coloured.
#[derive(Clone, Copy)]
struct Colours {
    results: bool,
    notes: bool,
}

impl Output {
    /// The output of this process.
    pub(crate) fn new(
        json: bool,
        quiet: bool,
        colour: ColourChoice,
        environment: &[(OsString, OsString)],
    ) -> Self {
        let terminal = io::stdout().is_terminal();
        Self {
            stdout: BufWriter::new(io::stdout()),
            json,
            quiet,
            width: terminal.then(terminal_width),
            colours: Colours {
                results: colour.on(terminal, environment),
                notes: colour.on(io::stderr().is_terminal(), environment),
            },
        }
    }

    /// Whether notes are coloured.
    pub(crate) fn colours_notes(&self) -> bool {
        self.colours.notes
    }

    /// One line of results, unchanged.
    pub(crate) fn line(&mut self, line: &str) -> io::Result<()> {
        self.stdout.write_all(line.as_bytes())?;
        self.stdout.write_all(b"\n")
    }

    /// One line of results, byte for byte.
    pub(crate) fn line_of_bytes(&mut self, line: &[u8]) -> io::Result<()> {
        self.stdout.write_all(line)?;
        self.stdout.write_all(b"\n")
    }

    /// An external text: unchanged in a pipe, made safe on a terminal. Ends with a line break.
    pub(crate) fn text(&mut self, text: &str) -> io::Result<()> {
        let shown = self.shown(text);
        self.stdout.write_all(shown.as_bytes())?;
        if shown.ends_with('\n') { Ok(()) } else { self.stdout.write_all(b"\n") }
    }

    /// An external text in the form that may be shown.
    pub(crate) fn shown<'a>(&self, text: &'a str) -> Cow<'a, str> {
        if self.width.is_some() { text::lines(text) } else { text.into() }
    }

    /// One JSON document on one line.
    pub(crate) fn json(&mut self, document: &impl Serialize) -> io::Result<()> {
        serde_json::to_writer(&mut self.stdout, document)?;
        self.stdout.write_all(b"\n")
    }

    /// A table.
    pub(crate) fn table(&mut self, table: &TextTable) -> io::Result<()> {
        for line in table.lines(self.width, self.colours.results) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// A table that is never cut: the terminal wraps it.
    pub(crate) fn table_in_full(&mut self, table: &TextTable) -> io::Result<()> {
        for line in table.lines(None, self.colours.results) {
            self.line(&line)?;
        }
        Ok(())
    }

    /// A text in the results, coloured if results are.
    pub(crate) fn painted(&self, colour: Colour, text: &str) -> String {
        if self.colours.results { colour.paint(text) } else { text.to_owned() }
    }

    /// A status word in the results, in its colour.
    pub(crate) fn status(&self, status: &str) -> String {
        Colour::of_status(status)
            .map_or_else(|| status.to_owned(), |colour| self.painted(colour, status))
    }

    /// Flushes the results.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.stdout.flush()
    }

    /// A line on standard error, unless `--quiet` is set.
    pub(crate) fn note(&self, note: &str) {
        if !self.quiet {
            // If standard error is gone, nobody can be told.
            let _ = writeln!(io::stderr(), "{note}");
        }
    }

    /// An error message.
    pub(crate) fn error(&self, sentence: &str) {
        let mark = if self.colours.notes { Colour::Red.paint("error:") } else { "error:".into() };
        let _ = writeln!(io::stderr(), "{mark} {}", text::lines(sentence));
    }
}

/// Shows on standard error that something is to be typed.
pub(crate) fn prompt() {
    let mut stderr = io::stderr();
    let _ = write!(stderr, "> ").and_then(|()| stderr.flush());
}

/// Whether the reader of standard output is gone.
pub(crate) fn stdout_is_closed() -> bool {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    let stdout = io::stdout();
    let mut waiting = [PollFd::new(&stdout, PollFlags::empty())];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    poll(&mut waiting, Some(&now)).is_ok()
        && waiting[0].revents().intersects(PollFlags::ERR | PollFlags::HUP)
}

/// The width of a terminal that does not report it.
const WIDTH_DEFAULT: u16 = 80;

fn terminal_width() -> u16 {
    match rustix::termios::tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 => size.ws_col,
        _ => WIDTH_DEFAULT,
    }
}
