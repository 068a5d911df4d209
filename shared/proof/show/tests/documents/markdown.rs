//! As much of Markdown as the documents use.

use std::path::{Path, PathBuf};

use quadrille_show::binaries::root;

/// A document of this repository.
pub struct Document {
    /// Its path below the checkout.
    pub name: String,
    pub text: String,
}

/// A fenced block.
pub struct Block {
    /// What stands behind the fence, e.g. `sh run`.
    pub info: String,
    pub text: String,
}

/// The README, CONTRIBUTING, all of docs/, and the READMEs beside the code.
pub fn documents() -> Vec<Document> {
    let mut paths: Vec<PathBuf> =
        ["README.md", "CONTRIBUTING.md", "schemas/README.md", "infra/stand-ins/README.md"].map(PathBuf::from).into();
    let docs = std::fs::read_dir(root().join("docs")).unwrap();
    paths.extend(docs.map(|entry| Path::new("docs").join(entry.unwrap().file_name())));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    assert!(paths.len() >= 10, "{paths:?}");
    paths.into_iter().map(|path| document(path.to_str().unwrap())).collect()
}

/// The document at this path below the checkout.
pub fn document(name: &str) -> Document {
    let text = std::fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
    Document { name: name.to_owned(), text }
}

impl Document {
    /// Its fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let mut blocks = vec![];
        let mut lines = self.text.lines();
        while let Some(line) = lines.next() {
            if let Some(info) = line.strip_prefix("```") {
                let text: Vec<&str> = lines.by_ref().take_while(|line| *line != "```").collect();
                blocks.push(Block { info: info.to_owned(), text: text.join("\n") + "\n" });
            }
        }
        blocks
    }

    /// Everything but fenced blocks.
    pub fn prose(&self) -> String {
        let mut fenced = false;
        let prose = self.text.lines().filter(|line| {
            let fence = line.starts_with("```");
            fenced ^= fence;
            !fence && !fenced
        });
        prose.collect::<Vec<_>>().join("\n")
    }

    /// Code within lines.
    pub fn spans(&self) -> Vec<String> {
        let prose = self.prose();
        // A span's end is the next backtick; none of ours contains one.
        prose.split('`').skip(1).step_by(2).map(|span| span.replace('\n', " ")).collect()
    }

    /// Text and target of each link.
    pub fn links(&self) -> Vec<(String, String)> {
        let prose = self.prose();
        let link = |(at, _): (usize, &str)| {
            let text = &prose[prose[..at].rfind('[')? + 1..at];
            let target = prose[at + 2..].split(')').next()?;
            Some((text.to_owned(), target.to_owned()))
        };
        prose.match_indices("](").filter_map(link).collect()
    }

    /// The names by which its headings can be linked to.
    pub fn anchors(&self) -> Vec<String> {
        let prose = self.prose();
        let headings = prose.lines().filter_map(|line| Some(line.trim_start_matches('#')).filter(|rest| *rest != line));
        let slug = |heading: &str| -> String {
            let kept = heading.trim().chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
        };
        headings.map(slug).collect()
    }

    /// The rows of its tables, cell by cell.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |line: &str| {
            let cells = line.strip_prefix("| ")?.strip_suffix(" |")?.split(" | ");
            Some(cells.map(|cell| cell.trim().to_owned()).collect())
        };
        self.prose().lines().filter_map(row).collect()
    }
}
