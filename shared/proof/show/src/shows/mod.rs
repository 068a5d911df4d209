//! The shows, one file each.

pub mod deadlines;
pub mod demo;
pub mod effects;
pub mod foreign;
pub mod foreign_workspace;
pub mod hostile;
pub mod kcat;
pub mod kill;
pub mod malformed;
pub mod memory;
pub mod rebalance;
pub mod replay;
pub mod two;
