//! Writes the records' Rust types from `schemas/`.

fn main() {
    quadrille_schemas::build("../schemas");
}
