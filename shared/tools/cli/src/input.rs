//! What a command reads: a file, or standard input.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, IsTerminal, Read},
    path::Path,
};

use anyhow::{Context, bail, ensure};

use crate::output;

/// The most that is read at once: an input without end is refused before it has filled the memory.
pub const MOST: u64 = 64 * 1024 * 1024;

/// What some editors and shells write before a text: it is none of it.
const MARK: &str = "\u{feff}";

/// Opens a file; `-` or nothing is standard input. A byte order mark at its beginning is passed over.
pub fn open(file: Option<&Path>) -> anyhow::Result<Box<dyn BufRead>> {
    let mut opened: Box<dyn BufRead> = match file.filter(|file| file.as_os_str() != "-") {
        Some(file) => Box::new(BufReader::new(file_at(file)?)),
        None => {
            if io::stdin().is_terminal() {
                output::note("Reading from the terminal: end with Ctrl-D.");
            }
            Box::new(BufReader::new(io::stdin()))
        }
    };
    // The mark comes in one piece: whatever writes it writes more with it.
    if opened.fill_buf().context("The input cannot be read")?.starts_with(MARK.as_bytes()) {
        opened.consume(MARK.len());
    }
    Ok(opened)
}

fn file_at(file: &Path) -> anyhow::Result<File> {
    let named = || format!("{} cannot be read", file.display());
    let opened = File::open(file).with_context(named)?;
    // It could be opened all the same, and would fail at the first byte without its name.
    ensure!(!opened.metadata().with_context(named)?.is_dir(), "{} cannot be read: it is a folder", file.display());
    Ok(opened)
}

/// Reads all of it.
pub fn bytes(input: &mut impl Read) -> anyhow::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    input.take(MOST + 1).read_to_end(&mut bytes).context("The input cannot be read")?;
    ensure!(bytes.len() as u64 <= MOST, "The input is larger than {} MiB: give it in parts", MOST >> 20);
    Ok(bytes)
}

/// Reads all of it as text.
pub fn text(file: Option<&Path>) -> anyhow::Result<String> {
    let bytes = bytes(&mut open(file)?)?;
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        bail!("The input is UTF-16: save it as UTF-8 (in PowerShell: Out-File -Encoding utf8)");
    }
    String::from_utf8(bytes).ok().context("The input is not UTF-8 text")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> anyhow::Result<String> {
        let file = std::env::temp_dir().join(format!("quadrille-input-{}", uuid::Uuid::new_v4()));
        std::fs::write(&file, bytes).unwrap();
        let text = text(Some(&file));
        std::fs::remove_file(&file).unwrap();
        text
    }

    #[test]
    fn a_mark_before_a_text_is_none_of_it_and_other_texts_are_named() {
        assert_eq!(read(b"\xef\xbb\xbf{}").unwrap(), "{}");
        assert_eq!(read(b"\xef\xbb\xbf").unwrap(), "");
        assert_eq!(read(b"").unwrap(), "");
        assert!(read(b"\xff\xfe{\0").unwrap_err().to_string().contains("UTF-16"));
        assert!(read(b"\xff").unwrap_err().to_string().contains("not UTF-8"));
    }

    #[test]
    fn what_has_no_end_a_folder_and_what_is_not_there_are_refused_by_name() {
        let endless = bytes(&mut io::repeat(b' ')).unwrap_err().to_string();
        assert!(endless.contains("64 MiB"), "{endless}");
        assert!(text(Some(&std::env::temp_dir())).unwrap_err().to_string().contains("it is a folder"));
        let missing = text(Some(Path::new("/no/such/file"))).unwrap_err().to_string();
        assert!(missing.contains("/no/such/file cannot be read"), "{missing}");
    }
}
