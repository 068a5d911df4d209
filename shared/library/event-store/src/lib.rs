//! An event store on PostgreSQL: streams with optimistic concurrency, within the transactions of their caller.
//!
//! A stream is one aggregate, named by its id. [`append`] adds events at the version that the caller expects the stream to be at,
//! [`read`] gives a stream back from a version on. Both take a connection and neither begins nor ends a transaction: events are
//! committed together with whatever else the caller does, or not at all.
//!
//! What holds, whoever writes at the same time:
//!
//! - **A stream has no gaps and no forks.** Its events are numbered 1, 2, 3 ...; of two writers that expect the same version one
//!   appends and the other is told [`Error::Conflict`], which names what it expected and what was found. No lock is needed for
//!   that, the primary key decides; a writer that holds a lock on its aggregate never meets a conflict.
//! - **An append is whole or nothing**, over all streams of a call. After a conflict nothing of the call is there, and the
//!   transaction is still good: the caller may read, decide again and append again.
//! - **An event id is stored once.** Appending the very same events again (same ids, same content, in the same order) answers
//!   [`Appended::Already`] and changes nothing, whatever version is expected then. A known id with other content is
//!   [`Error::OtherContent`].
//! - **Payloads stay readable.** Each event keeps the schema that it was written with, each schema's text once; [`Recorded`]
//!   hands it back with the payload. The store itself never looks into a payload.
//!
//! It counts on READ COMMITTED, PostgreSQL's default: a writer that waited for another must see what that one committed.
//! Every call is a fixed number of statements, whatever the number of streams and events: one to append where nothing is amiss.

mod append;
mod read;
mod schema;

pub use append::{Append, Appended, Error, Event, append};
pub use read::{Recorded, read};
pub use schema::Schema;

/// The store's own tables, `event` and `event_schema`, for a service that migrates them along with its own.
pub static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// The same as text, for a service that keeps all its migrations in one folder.
pub const MIGRATION: &str = include_str!("../migrations/20261125000000_event_store.sql");
