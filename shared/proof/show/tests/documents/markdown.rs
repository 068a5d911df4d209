//! What stands in the documents.

use std::{
    ops::Range,
    path::{Path, PathBuf},
};

use pulldown_cmark::{CodeBlockKind, Event, OffsetIter, Options, Parser, Tag, TagEnd};
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
    fn events(&self) -> OffsetIter<'_> {
        Parser::new_ext(&self.text, Options::ENABLE_TABLES).into_offset_iter()
    }

    /// Its fenced blocks.
    pub fn blocks(&self) -> Vec<Block> {
        let (mut blocks, mut is_within) = (vec![], false);
        for (event, _) in self.events() {
            match event {
                Event::Start(Tag::CodeBlock(CodeBlockKind::Fenced(info))) => {
                    blocks.push(Block { info: info.into_string(), text: String::new() });
                    is_within = true;
                }
                Event::End(TagEnd::CodeBlock) => is_within = false,
                Event::Text(text) if is_within => blocks.last_mut().unwrap().text.push_str(&text),
                _ => {}
            }
        }
        blocks
    }

    /// Everything but blocks of code, as it stands.
    pub fn prose(&self) -> String {
        let code = self.events().filter(|(event, _)| matches!(event, Event::Start(Tag::CodeBlock(_))));
        let (mut prose, mut from) = (String::new(), 0);
        for (_, block) in code {
            prose += &self.text[from..block.start];
            from = block.end;
        }
        prose + &self.text[from..]
    }

    /// Code within lines.
    pub fn spans(&self) -> Vec<String> {
        let span = |(event, _)| if let Event::Code(code) = event { Some(code.into_string()) } else { None };
        self.events().filter_map(span).collect()
    }

    /// Each link and picture as it stands, and its target.
    pub fn links(&self) -> Vec<(&str, String)> {
        let link = |(event, place): (Event, Range<usize>)| match event {
            Event::Start(Tag::Link { dest_url, .. } | Tag::Image { dest_url, .. }) => {
                Some((&self.text[place], dest_url.into_string()))
            }
            _ => None,
        };
        self.events().filter_map(link).collect()
    }

    /// The names by which its headings can be linked to.
    pub fn anchors(&self) -> Vec<String> {
        let headings = self.events().filter(|(event, _)| matches!(event, Event::Start(Tag::Heading { .. })));
        let slug = |(_, place): (Event, Range<usize>)| -> String {
            let heading = self.text[place].trim_start_matches('#').trim();
            let kept = heading.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
            kept.map(|c| if c == ' ' { '-' } else { c.to_ascii_lowercase() }).collect()
        };
        headings.map(slug).collect()
    }

    /// The rows of its tables, cell by cell, as they stand.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let mut rows = vec![];
        for (event, place) in self.events() {
            match event {
                Event::Start(Tag::TableHead | Tag::TableRow) => rows.push(vec![]),
                Event::Start(Tag::TableCell) => rows.last_mut().unwrap().push(self.text[place].trim().to_owned()),
                _ => {}
            }
        }
        rows
    }
}
