//! Writes the records' Rust types from `schemas/`.

use std::{env, path::Path};

fn main() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../schemas");
    let out = Path::new(&env::var_os("OUT_DIR").expect("cargo sets OUT_DIR")).join("records.rs");
    if let Err(problems) = quadrille_schemas::generate(&root, &out) {
        for problem in problems.0 {
            println!("cargo::error={problem}");
        }
    }
}
