//! What people and scripts see: tables, JSON, colours, durations, progress.

use std::{
    io::{self, IsTerminal, Write},
    time::{Duration, Instant},
};

use quadrille_program::hide_secrets;
use serde::Serialize;

/// Prints `value` as JSON, for scripts.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let pretty = io::stdout().is_terminal();
    line(&if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? })
}

/// Prints a line. A reader that has gone (`| head`) ends the program: nobody is left to tell.
pub fn line(text: &str) -> anyhow::Result<()> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes bytes to standard output, all of them, now.
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// An error as people read it: what failed, then why, one cause a line. Wherever an address stands in it, its secrets do not.
pub fn failure(error: &anyhow::Error) -> String {
    let mut lines: Vec<String> = vec![format!("quadrille: {error}")];
    for cause in error.chain().skip(1).map(ToString::to_string) {
        // Many errors repeat their cause in their own text.
        if !lines.iter().any(|line| line.contains(&cause)) {
            lines.push(format!("  since: {cause}"));
        }
    }
    hide_secrets(&lines.join("\n"))
}

/// Columns for people, aligned by the widest cell.
pub struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into());
    }

    /// Prints it.
    pub fn print(&self) -> anyhow::Result<()> {
        self.lines().iter().try_for_each(|text| line(text))
    }

    fn lines(&self) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let widest = |column: usize| self.rows.iter().filter_map(|row| row.get(column)).map(|cell| width(cell)).max();
        let widths: Vec<usize> = (0..columns).filter_map(widest).collect();
        let padded = |row: &Vec<String>| {
            let cells = row.iter().zip(&widths).map(|(cell, widest)| cell.clone() + &" ".repeat(widest - width(cell)));
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(padded).collect()
    }
}

/// How many columns a cell takes: colours take none.
fn width(cell: &str) -> usize {
    let (mut width, mut in_colour) = (0, false);
    for char in cell.chars() {
        match char {
            '\u{1b}' => in_colour = true,
            'm' if in_colour => in_colour = false,
            _ => width += usize::from(!in_colour),
        }
    }
    width
}

/// A text that came from outside, fit for a terminal: control characters are written out, so that nobody's name moves the cursor.
pub fn printable(text: &str) -> String {
    let shown = |char: char| {
        let plain = if char.is_control() { None } else { Some(char) };
        let escaped = if char.is_control() { Some(char.escape_default()) } else { None };
        plain.into_iter().chain(escaped.into_iter().flatten())
    };
    text.chars().flat_map(shown).collect()
}

/// `text`, or a word for its absence.
pub fn or_nothing(text: &str) -> &str {
    if text.is_empty() { "(nothing)" } else { text }
}

/// A span in its largest whole unit: `30d`, `1h`, `90s`, `250ms`.
pub fn duration(span: Duration) -> String {
    let ms = span.as_millis();
    for (unit, size) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)] {
        if ms > 0 && ms.is_multiple_of(size) {
            return format!("{}{unit}", ms / size);
        }
    }
    format!("{ms}ms")
}

/// A span between two steps as people read it: `+3 ms`, `+1.24 s`, `+2 m 05 s`. Negative where clocks disagree.
pub fn step(ms: i64) -> String {
    let sign = if ms < 0 { '-' } else { '+' };
    let size = ms.unsigned_abs();
    match size {
        0..1_000 => format!("{sign}{size} ms"),
        1_000..60_000 => format!("{sign}{}.{:02} s", size / 1_000, size % 1_000 / 10),
        60_000..3_600_000 => format!("{sign}{} m {:02} s", size / 60_000, size / 1_000 % 60),
        _ => format!("{sign}{} h {:02} m", size / 3_600_000, size / 60_000 % 60),
    }
}

/// A span from now on or until now, as people read it: `3 ms`, `1.24 s`. Nothing is shorter than no time.
pub fn span(ms: i64) -> String {
    step(ms.max(0)).trim_start_matches('+').to_owned()
}

/// Whether and how standard output is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Paint(bool);

/// Distinct on dark and light grounds, none of them red: red is for what is wrong.
const SAGA_COLOURS: [u8; 12] = [33, 35, 37, 64, 69, 97, 99, 130, 133, 136, 166, 172];

impl Paint {
    /// On a terminal, unless NO_COLOR is set.
    pub fn detect() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self(wanted && io::stdout().is_terminal())
    }

    /// Never, or always.
    pub const fn fixed(on: bool) -> Self {
        Self(on)
    }

    /// One colour a saga, the same wherever it is shown.
    pub fn saga(self, correlation: &str, text: &str) -> String {
        // FNV-1a: short ids spread well, and the colour of an id never changes.
        let hash = correlation
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        let colour = SAGA_COLOURS[usize::try_from(hash >> 32).unwrap_or_default() % SAGA_COLOURS.len()];
        self.wrap(&format!("38;5;{colour}"), text)
    }

    /// For what is wrong.
    pub fn bad(self, text: &str) -> String {
        self.wrap("1;31", text)
    }

    /// For what is well.
    pub fn good(self, text: &str) -> String {
        self.wrap("32", text)
    }

    /// For what matters less.
    pub fn faint(self, text: &str) -> String {
        self.wrap("2", text)
    }

    fn wrap(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

/// A line on standard error that says how far a long work has come; on a terminal only.
pub struct Progress {
    what: String,
    shown: Option<Instant>,
    on: bool,
}

impl Progress {
    /// Nothing is shown before the first [`Progress::at`], and nothing at all where nobody watches.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), shown: None, on: io::stderr().is_terminal() }
    }

    /// Shows how far it is, ten times a second at most.
    pub fn at(&mut self, done: u64, of: u64) {
        if !self.on || self.shown.is_some_and(|shown| shown.elapsed() < Duration::from_millis(100)) {
            return;
        }
        self.shown = Some(Instant::now());
        let percent = (done * 100).checked_div(of).unwrap_or(100).min(100);
        eprint!("\r\u{1b}[2K{}: {percent} % ({done} of {of})", self.what);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown.is_some() {
            eprint!("\r\u{1b}[2K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_whatever_their_colours() {
        let mut table = Table::new(["a", "state"]);
        table.row(["long-one".into(), "x".into()]);
        table.row([Paint::fixed(true).bad("red"), "y".into()]);
        assert_eq!(table.lines(), ["a         state", "long-one  x", "\u{1b}[1;31mred\u{1b}[0m       y"]);
    }

    #[test]
    fn an_errors_addresses_have_no_secrets() {
        let error =
            anyhow::anyhow!("error for url (http://me:s3cret@h/ids)").context("the registry at http://me:s3cret@h");
        assert_eq!(
            failure(&error),
            "quadrille: the registry at http://***@h\n  since: error for url (http://***@h/ids)"
        );
    }

    #[test]
    fn durations_are_read_at_a_glance() {
        let shown = |seconds| duration(Duration::from_secs(seconds));
        assert_eq!([shown(86_400), shown(3_600), shown(5_400), shown(90)], ["1d", "1h", "90m", "90s"]);
        assert_eq!(duration(Duration::ZERO), "0ms");
        assert_eq!(
            [step(3), step(1_240), step(125_000), step(-40), step(7_260_000)],
            ["+3 ms", "+1.24 s", "+2 m 05 s", "-40 ms", "+2 h 01 m"]
        );
    }

    #[test]
    fn nobodys_name_moves_the_cursor() {
        assert_eq!(printable("Ann\u{1b}[2J\r\nÉ"), "Ann\\u{1b}[2J\\r\\nÉ");
    }

    #[test]
    fn a_saga_keeps_its_colour() {
        let paint = Paint::fixed(true);
        assert_eq!(paint.saga("a", "x"), paint.saga("a", "x"));
        assert_eq!(Paint::fixed(false).saga("a", "x"), "x");
    }
}
