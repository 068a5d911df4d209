//! What the documents say is true: what they name exists, what they show runs.

#![allow(clippy::unwrap_used, reason = "a test's failure is its message")]

mod claims;
mod commands;
mod markdown;
