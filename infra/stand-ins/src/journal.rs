//! What a stand-in did, in a file of JSON lines that only grows: it is read again at the next start.
//!
//! A line is written before its answer leaves, so what was answered is never forgotten by a kill. A line that a kill cut short
//! is cut off at the next start: nobody was told of it.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufRead, BufReader, Seek, SeekFrom, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

/// An open journal, or none at all: then nothing outlives the process.
#[derive(Debug, Default)]
pub struct Journal(Option<File>);

impl Journal {
    /// Opens the journal at `path`, makes it where it is not there, and folds what it holds. One process at a time.
    pub fn open<T: DeserializeOwned>(path: Option<&Path>, mut fold: impl FnMut(T)) -> io::Result<Self> {
        let Some(path) = path else { return Ok(Self(None)) };
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let file = OpenOptions::new().read(true).append(true).create(true).open(path).map_err(named)?;
        file.try_lock().map_err(|error| named(error.into()))?;

        let mut reader = BufReader::new(&file);
        let (mut line, mut number, mut sound) = (Vec::new(), 0, 0);
        while reader.read_until(b'\n', &mut line)? > 0 {
            number += 1;
            if line.last() != Some(&b'\n') {
                file.set_len(sound)?;
                break;
            }
            let entry = serde_json::from_slice(&line).map_err(|error| {
                let problem = format!("{} line {number}: {error}; move the file away to begin anew", path.display());
                io::Error::new(io::ErrorKind::InvalidData, problem)
            })?;
            fold(entry);
            sound += line.len() as u64;
            line.clear();
        }
        Ok(Self(Some(file)))
    }

    /// Adds one entry.
    pub fn append<T: Serialize>(&mut self, entry: &T) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut line = serde_json::to_vec(entry)?;
        line.push(b'\n');
        let end = file.seek(SeekFrom::End(0))?;
        // Half a line (a full disk) would join the next one to it.
        file.write_all(&line).inspect_err(|_| drop(file.set_len(end)))
    }

    /// Replaces all that was written by `entries`.
    pub fn rewrite<T: Serialize>(&mut self, entries: impl Iterator<Item = T>) -> io::Result<()> {
        let Some(file) = &mut self.0 else { return Ok(()) };
        let mut text = Vec::new();
        for entry in entries {
            serde_json::to_writer(&mut text, &entry)?;
            text.push(b'\n');
        }
        file.set_len(0)?;
        file.write_all(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        let path = std::env::temp_dir().join(format!("quadrille-journal-{}-{name}", std::process::id()));
        let _ = std::fs::remove_file(&path);
        path
    }

    fn read(path: &Path) -> io::Result<Vec<u32>> {
        let mut entries = vec![];
        Journal::open(Some(path), |entry| entries.push(entry))?;
        Ok(entries)
    }

    #[test]
    fn entries_come_back_and_a_line_cut_short_is_cut_off() -> io::Result<()> {
        let path = scratch("cut");
        let mut journal = Journal::open(Some(&path), |_: u32| ())?;
        journal.append(&1)?;
        journal.append(&22)?;
        drop(journal);
        let text = std::fs::read(&path)?;
        std::fs::write(&path, &text[..text.len() - 2])?;
        assert_eq!(read(&path)?, [1]);

        let mut journal = Journal::open(Some(&path), |_: u32| ())?;
        journal.append(&3)?;
        drop(journal);
        assert_eq!(read(&path)?, [1, 3]);
        std::fs::remove_file(&path)
    }

    #[test]
    fn a_broken_line_and_a_second_process_are_refused_by_name() -> io::Result<()> {
        let path = scratch("broken");
        std::fs::write(&path, "1\n{\n3\n")?;
        let problem = read(&path).map_err(|error| error.to_string());
        assert!(problem.as_ref().is_err_and(|text| text.contains("line 2")), "{problem:?}");
        std::fs::write(&path, "1\n")?;
        let _first = Journal::open(Some(&path), |_: u32| ())?;
        assert!(read(&path).is_err());
        std::fs::remove_file(&path)
    }

    #[test]
    fn a_rewritten_journal_holds_the_new_entries_alone() -> io::Result<()> {
        let path = scratch("rewrite");
        let mut journal = Journal::open(Some(&path), |_: u32| ())?;
        journal.append(&1)?;
        journal.rewrite([7, 8].iter())?;
        journal.append(&9)?;
        drop(journal);
        assert_eq!(read(&path)?, [7, 8, 9]);
        std::fs::remove_file(&path)
    }
}
