//! The files that are made from the choreography and kept in the tree.

use std::{fs, io, path::Path};

use crate::{Choreography, Kind, Problem, asyncapi, markdown, picture};

/// A file's path, relative to the checkout, and what it has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The path.
    pub path: &'static str,
    /// The text.
    pub text: String,
}

/// Where the document itself is kept: what `--against` reads of another revision.
pub(crate) const DOCUMENT: &str = "docs/choreography.json";

/// All that is made from a choreography.
pub fn generated(choreography: &Choreography) -> Vec<Generated> {
    let json = serde_json::to_string_pretty(choreography).expect("names, texts and lists have a JSON form");
    vec![
        Generated { path: "docs/choreography.md", text: markdown::page(choreography) },
        Generated { path: "docs/choreography.svg", text: picture::svg(choreography) },
        Generated { path: "docs/asyncapi.yaml", text: asyncapi::yaml(choreography) },
        Generated { path: DOCUMENT, text: json + "\n" },
    ]
}

impl Generated {
    /// The document's path in a checkout.
    pub const DOCUMENT: &str = DOCUMENT;

    /// What is wrong where the file below `checkout` is missing or says something else.
    pub fn differs(&self, checkout: &Path) -> Option<Problem> {
        let what = match fs::read_to_string(checkout.join(self.path)) {
            Ok(text) if text == self.text => return None,
            Ok(_) => "is not what the declarations make of it".to_owned(),
            Err(error) => format!("cannot be read: {error}"),
        };
        Some(Problem::new(Kind::Generated, self.path, "", what, "run `quadrille check --write`, and commit it"))
    }

    /// Writes the file below `checkout`.
    pub fn write(&self, checkout: &Path) -> io::Result<()> {
        let path = checkout.join(self.path);
        path.parent().map_or(Ok(()), fs::create_dir_all)?;
        fs::write(path, &self.text)
    }
}
