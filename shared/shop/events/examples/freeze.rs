//! Freezes the shop's and the platform's schemas and writes the golden records that are missing: `cargo run -p quadrille-events --example freeze`.
//! `quadrille schemas freeze` does the same.

use std::path::Path;

use quadrille_events::{RECORD_TYPES, write_golden};
use quadrille_schemas::{Problems, freeze};

fn main() -> Result<(), Problems> {
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../.."));
    for (root, registry) in
        [("schemas", RECORD_TYPES), ("shared/library/platform/schemas", quadrille_platform::RECORD_TYPES)]
    {
        let root = repository.join(root);
        for frozen in freeze(&root)? {
            println!("{}", frozen.file);
        }
        for golden in write_golden(&root, registry)? {
            println!("{golden}");
        }
    }
    Ok(())
}
