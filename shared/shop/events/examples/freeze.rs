//! Freezes the schemas and writes the golden records that are missing: `cargo run -p quadrille-events --example freeze`.
//! `quadrille schemas freeze` does the same.

use std::path::Path;

use quadrille_events::{REGISTRY, write_golden};
use quadrille_schemas::{Problems, freeze};

fn main() -> Result<(), Problems> {
    let root = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../schemas"));
    for frozen in freeze(root)? {
        println!("{}", frozen.file);
    }
    for golden in write_golden(root, REGISTRY)? {
        println!("{golden}");
    }
    Ok(())
}
