//! What people and scripts see: tables, JSON, colours, durations, progress.
//!
//! **Whatever is shown goes through here**, and what a stranger wrote does nothing to a terminal: control characters, escape sequences,
//! and what turns or hides text are written out, in lines and cells as `\u{1b}`, in JSON as `\u001b`. A reader that has gone
//! (`| head`) ends the program quietly.

use std::{
    fmt::Display,
    io::{self, IsTerminal, Write},
    time::Duration,
};

use icu_properties::{CodePointMapData, props::GeneralCategory};
use indicatif::{ProgressBar, ProgressStyle};
use quadrille_program::hide_secrets;
use serde::Serialize;

use crate::kafka::Unreadable;

/// Prints `value` as JSON, for scripts.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let pretty = io::stdout().is_terminal();
    json_text(&if pretty { serde_json::to_string_pretty(value)? } else { serde_json::to_string(value)? })
}

/// Prints a JSON text, meaning the same.
pub fn json_text(text: &str) -> anyhow::Result<()> {
    bytes(format!("{}\n", safe_json(text)).as_bytes())
}

/// Prints a line, or several.
pub fn line(text: &str) -> anyhow::Result<()> {
    bytes(format!("{}\n", safe(text)).as_bytes())
}

/// Writes bytes to standard output, all of them, now. A reader that has gone ends the program: nobody is left to tell.
pub fn bytes(bytes: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => std::process::exit(0),
        result => Ok(result?),
    }
}

/// Says something beside the output, on standard error. Whether anybody hears it is not looked at.
pub fn note(text: &str) {
    let mut stderr = io::stderr().lock();
    let _ = stderr.write_all(format!("{}\n", safe(text)).as_bytes()).and_then(|()| stderr.flush());
}

/// Says what could not be read and was passed over.
pub fn unreadable(unreadable: &[Unreadable]) {
    unreadable.iter().for_each(|unreadable| note(&format!("{unreadable}: passed over")));
    if unreadable.len() > 1 {
        note(&format!("{} places could not be read.", unreadable.len()));
    }
}

/// So much of a cause is told.
const LONGEST_CAUSE: usize = 4_000;

/// An error as people read it: what failed, then why, one cause a line. Wherever an address stands in it, its secrets do not.
pub fn failure(error: &anyhow::Error) -> String {
    // A cause may be a whole page that some server answered.
    let bounded = |text: String| text.chars().take(LONGEST_CAUSE).collect::<String>();
    let mut lines: Vec<String> = vec![bounded(format!("quadrille: {error}"))];
    for cause in error.chain().skip(1).map(|cause| bounded(cause.to_string())) {
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

/// The widest that a cell may be, and the last one of a row, behind which nothing is aligned. What is longer is cut: `--json` has it whole.
const WIDEST: [usize; 2] = [64, 512];

impl Table {
    /// A table with these headings.
    pub fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.iter().map(|heading| (*heading).to_owned()).collect()] }
    }

    /// Adds a row.
    pub fn row<const N: usize>(&mut self, cells: [String; N]) {
        let fitted = |(at, cell): (usize, &String)| cell_text(cell, WIDEST[usize::from(at + 1 == N)]);
        self.rows.push(cells.iter().enumerate().map(fitted).collect());
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
    console::measure_text_width(cell)
}

/// A text that came from outside, as part of a line: on one line, harmless, and short.
pub fn short(text: &str) -> String {
    cell_text(&printable(&text.chars().take(WIDEST[0] + 1).collect::<String>()), WIDEST[0])
}

/// A cell on one line, harmless, and `widest` columns wide at most.
fn cell_text(cell: &str, widest: usize) -> String {
    // Not all that is written takes a column: what has no width is bounded, too.
    let bounded: String = cell.chars().take(4 * widest).collect();
    let cut = if bounded.len() < cell.len() { "…" } else { "" };
    let safe = safe(&(bounded + cut)).replace('\n', "\\n");
    let fitted = console::truncate_str(&safe, widest, "…");
    // A colour that was begun ends here, whatever was cut.
    if fitted.contains('\u{1b}') && !fitted.ends_with(RESET) { format!("{fitted}{RESET}") } else { fitted.into_owned() }
}

const RESET: &str = "\u{1b}[0m";

/// A text that came from outside, fit for a terminal and on one line: what a terminal would obey, and what turns or hides text, is
/// written out, so that nobody's name moves the cursor.
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\n' | '\r' | '\t' => printable.extend(char.escape_default()),
            _ if is_unsafe(char) => printable.extend(char.escape_unicode()),
            _ => printable.push(char),
        }
    }
    printable
}

/// A text of our own with what came from outside in it: lines and our own colours stay as they are, the rest is [`printable`].
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(|char: char| is_unsafe(char)) {
        safe += &rest[..at];
        rest = &rest[at..];
        let kept = match rest.starts_with('\n') {
            true => 1,
            false => our_colour(rest).unwrap_or_default(),
        };
        if kept == 0 {
            let Some(char) = rest.chars().next() else { break };
            safe += &printable(char.encode_utf8(&mut [0; 4]));
            rest = &rest[char.len_utf8()..];
        } else {
            safe += &rest[..kept];
            rest = &rest[kept..];
        }
    }
    safe + rest
}

/// The length of one of [`Paint`]'s sequences at the beginning of a text.
fn our_colour(text: &str) -> Option<usize> {
    let code = text.strip_prefix("\u{1b}[")?;
    let end = code.bytes().take("38;5;255m".len()).position(|byte| byte == b'm')?;
    let code = &code[..end];
    let is_ours = ["0", "1;31", "2", "32"].contains(&code) || SAGA_COLOURS.iter().any(|saga| saga_code(*saga) == code);
    is_ours.then_some("\u{1b}[".len() + end + 1)
}

/// The same JSON with what is unsafe escaped: such characters stand in its texts only, apart from line ends and blanks between.
fn safe_json(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for char in text.chars() {
        if char == '\n' || !is_unsafe(char) {
            safe.push(char);
            continue;
        }
        for unit in char.encode_utf16(&mut [0; 2]) {
            safe += &format!("\\u{unit:04x}");
        }
    }
    safe
}

/// What a terminal may obey, or what changes how the text around it is read: controls, formats such as the turning of direction, line
/// separators, and what has no meaning that everybody agrees on.
fn is_unsafe(char: char) -> bool {
    use GeneralCategory::{Control, Format, LineSeparator, ParagraphSeparator, PrivateUse, Unassigned};
    !char.is_ascii_graphic()
        && char != ' '
        && matches!(
            CodePointMapData::<GeneralCategory>::new().get(char),
            Control | Format | LineSeparator | ParagraphSeparator | PrivateUse | Unassigned
        )
}

/// How many of what: `1 instance`, `2 instances`.
pub fn counted<N: Display + PartialEq + From<u8>>(count: N, what: &str) -> String {
    let plural = if count == N::from(1) { "" } else { "s" };
    format!("{count} {what}{plural}")
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
        self.wrap(&saga_code(colour), text)
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

fn saga_code(colour: u8) -> String {
    format!("38;5;{colour}")
}

/// A line on standard error that says how far a long work has come; on a terminal only.
pub struct Progress(ProgressBar);

impl Progress {
    /// Nothing is shown before the first [`Progress::at`], and nothing at all where nobody watches.
    pub fn new(what: &'static str) -> Self {
        let style = ProgressStyle::with_template("{msg}: {percent} % ({pos} of {len})");
        let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
        Self(ProgressBar::no_length().with_style(style).with_message(what))
    }

    /// Shows how far it is, some times a second at most.
    pub fn at(&mut self, done: u64, of: u64) {
        self.0.set_length(of);
        self.0.set_position(done);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn columns_are_aligned_whatever_their_colours() {
        let mut table = Table::new(["a", "state"]);
        table.row(["long-one".into(), "x".into()]);
        table.row([Paint::fixed(true).bad("red"), "y".into()]);
        assert_eq!(table.lines(), ["a         state", "long-one  x", "\u{1b}[1;31mred\u{1b}[0m       y"]);
    }

    #[test]
    fn a_table_is_not_as_wide_as_a_stranger_wants() {
        let long = "k".repeat(65_536);
        let mut table = Table::new(["key", "what is wrong"]);
        table.row([long.clone(), long.clone()]);
        table.row([Paint::fixed(true).bad(&long), "x\u{301}".repeat(65_536)]);
        table.row(["short".into(), "y".into()]);
        let lines = table.lines();
        assert_eq!(lines[0], format!("key{}what is wrong", " ".repeat(63)));
        assert!(lines[1].starts_with(&format!("{}…  kkk", "k".repeat(63))), "{}", lines[1]);
        assert_eq!(width(&lines[1]), 64 + 2 + 512);
        assert!(lines[2].contains(&format!("k…{RESET}  x")), "{}", lines[2]);
        assert!(lines[2].len() < 8_000, "{}", lines[2].len());
        assert_eq!(lines[3], format!("short{}y", " ".repeat(61)));
        // Wide letters take two columns.
        let mut table = Table::new(["key", "x"]);
        table.row(["漢".repeat(100), "y".into()]);
        assert_eq!(width(&table.lines()[1]), 63 + 2 + 1);
    }

    /// What a terminal obeys, and what turns, hides or breaks the text around it.
    const HOSTILE: [(char, &str); 10] = [
        ('\u{1b}', "\\u{1b}"),
        ('\u{9b}', "\\u{9b}"),
        ('\u{7}', "\\u{7}"),
        ('\u{7f}', "\\u{7f}"),
        ('\0', "\\u{0}"),
        ('\u{202e}', "\\u{202e}"),
        ('\u{2066}', "\\u{2066}"),
        ('\u{200b}', "\\u{200b}"),
        ('\u{2028}', "\\u{2028}"),
        ('\u{e0001}', "\\u{e0001}"),
    ];

    #[test]
    fn what_a_stranger_wrote_does_nothing_to_a_terminal() {
        for (char, written) in HOSTILE {
            let text = format!("a{char}[2Jb");
            assert_eq!(printable(&text), format!("a{written}[2Jb"));
            assert_eq!(safe(&text), format!("a{written}[2Jb"));
            let mut table = Table::new(["key"]);
            table.row([text.clone()]);
            assert_eq!(table.lines()[1], format!("a{written}[2Jb"));
            let json = serde_json::to_string(&text).unwrap();
            let safe = safe_json(&json);
            assert!(!safe.contains(char), "{safe}");
            assert_eq!(serde_json::from_str::<String>(&safe).unwrap(), text);
        }
        // Our own colours and lines stay, others' do not.
        let painted = Paint::fixed(true).saga("k", "Jörg 漢字 e\u{301}");
        assert_eq!(safe(&format!("{painted}\nx")), format!("{painted}\nx"));
        assert_eq!(safe("\u{1b}[8mhidden\u{1b}[5;41m"), "\\u{1b}[8mhidden\\u{1b}[5;41m");
        let began = Instant::now();
        assert!(safe(&"\u{1b}[".repeat(200_000)).len() > 1_000_000);
        assert!(began.elapsed() < Duration::from_secs(5));
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
    fn one_is_not_several() {
        let told = |count: usize| counted(count, "dead letter");
        assert_eq!([told(0), told(1), told(2)], ["0 dead letters", "1 dead letter", "2 dead letters"]);
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
