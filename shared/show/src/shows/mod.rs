//! The shows, one file each.

pub mod kill;
pub mod memory;
pub mod two;
