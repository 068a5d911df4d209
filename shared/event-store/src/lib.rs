//! An event store on PostgreSQL: streams with optimistic concurrency.
