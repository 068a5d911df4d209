//! The runtime that turns a policy into a Kafka service that loses nothing and doubles nothing.
//!
//! One event's way, in the order in which the modules read:
//!
//! ```text
//! Kafka record -> consumer -> decode -> worker -> transaction { store.load: make and lock rows -> inbox -> policy
//!     -> store.save, outbox, effects, timers } -> commit -> relay -> Kafka -> the outbox row is removed
//! ```
//!
//! One that states nothing is a projection: it has positions in place of the inbox. One with [routes](Service::routes) serves pages
//! of its rows, is told what was committed, and may take commands ([`Context`]).
//!
//! A service is a [`Policy`](quadrille_core::Policy), a [`Store`] and, where it has effects, an [`Outside`]; [`Service`] runs it.

mod backoff;
mod batch;
mod batches;
mod causality;
mod changes;
mod commands;
pub mod config;
mod consumer;
mod context;
mod database;
mod dead_letters;
mod deadline_barrier;
mod decode;
mod effects;
mod failure;
mod generation;
mod health;
mod heard;
mod heartbeat;
mod history;
pub mod http;
mod inbox;
mod instance;
mod kafka;
mod lease;
mod limits;
mod listener;
mod migrations;
mod operators;
mod outbox;
mod outside;
mod platform_events;
mod position;
mod progress;
mod prune;
mod published;
mod publisher;
mod record;
mod redrive;
mod relay;
mod resources;
mod retention_check;
mod routes;
mod serve;
mod service;
mod skips;
mod startup;
mod store;
pub mod table;
mod telemetry;
mod timers;
mod transaction;
mod work;
mod worker;

pub use axum;
pub use batches::Batches;
pub use changes::{Changed, Changes};
pub use commands::{CommandError, Commands, Handled};
pub use config::Config;
pub use context::Context;
pub use health::{Check, Health};
pub use operators::By;
pub use outside::{Answer, Effect, Limit, NoOutside, Outcome, Outside, Then};
pub use prune::{Removed, remove_ended};
pub use service::Service;
pub use store::{Ended, Store};
pub use table::{Mapped, unknown_table};
pub use telemetry::init_logs;
