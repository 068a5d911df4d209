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
mod batches;
pub mod config;
mod database;
mod generation;
mod health;
pub mod http;
mod instance;
mod kafka;
mod limits;
mod migrations;
mod outside;
mod progress;
mod prune;
mod resources;
mod service;
mod startup;
mod store;
pub mod table;
mod telemetry;

/// What comes in: records, commands, timers, outcomes of effects, and dead letters again.
mod inputs {
    pub mod causality;
    pub mod commands;
    pub mod consumer;
    pub mod deadline_barrier;
    pub mod decode;
    pub mod effects;
    pub mod heard;
    pub mod record;
    pub mod redrive;
    pub mod retention_check;
    pub mod skips;
    pub mod timers;
    pub mod work;
}
/// What is done with it: batches of inputs, each in one transaction.
mod transactions {
    pub mod batch;
    pub mod failure;
    pub mod history;
    pub mod inbox;
    pub mod operators;
    pub mod position;
    pub mod transaction;
    pub mod worker;
}
/// What goes out: facts by the outbox and its relay, dead letters, heartbeats.
mod publishing {
    pub mod dead_letters;
    pub mod heartbeat;
    pub mod lease;
    pub mod outbox;
    pub mod platform_events;
    pub mod published;
    pub mod publisher;
    pub mod relay;
}
/// What is served over HTTP beside health: the service's own routes, and what they are told.
mod serving {
    pub mod changes;
    pub mod context;
    pub mod listener;
    pub mod routes;
    pub mod serve;
}

use self::inputs::{
    causality, commands, consumer, deadline_barrier, decode, effects, heard, record, redrive, retention_check, skips,
    timers, work,
};
use self::publishing::{dead_letters, heartbeat, lease, outbox, platform_events, published, publisher, relay};
use self::serving::{changes, context, listener, routes, serve};
use self::transactions::{batch, failure, history, inbox, operators, position, transaction, worker};
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
