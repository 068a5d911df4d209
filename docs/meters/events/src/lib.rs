//! The records of `schemas/` as Rust types.

include!(concat!(env!("OUT_DIR"), "/records.rs"));
