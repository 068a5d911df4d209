//! What a service's own routes have at hand.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use chrono::{DateTime, Utc};
use quadrille_core::{Policy, TopicType};
use sqlx::PgPool;

use crate::{
    changes::{Announcer, Changes},
    commands::Commands,
    health::Health,
    position,
};

/// What a service's own routes have at hand: its rows, to read; its health; what was committed; and commands, which change rows. Clones are of one
/// instance.
#[derive(Clone)]
pub struct Context<P: Policy> {
    pub(crate) pool: PgPool,
    pub(crate) generation: u16,
    pub(crate) health: Arc<Health>,
    /// The instance's parts have it: it ends with them, whoever keeps this.
    pub(crate) changes: Weak<Announcer>,
    pub(crate) topics: Arc<[&'static TopicType]>,
    pub(crate) commands: Commands<P>,
}

impl<P: Policy> Context<P> {
    /// The service's database, with `http.connections` of its own: whatever pages ask, the worker has its connections. Transactions on it are
    /// read-only, since rows change by inputs alone, and a statement ends after 10 s. Before the first `migrate` there are no tables.
    pub fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The generation of the rows that this instance keeps and answers from: see [`Service::generation`](crate::Service::generation).
    pub fn generation(&self) -> u16 {
        self.generation
    }

    /// The instance's health, to which a service may add parts of its own.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// What transactions of this service change from now on, on whichever instance. A change is heard within moments of its commit, and within
    /// 5 s even where the word of it is lost: then as [`Changed::Anything`](crate::Changed::Anything), which is said each 5 s in any case.
    pub fn committed(&self) -> Changes {
        self.changes.upgrade().map_or_else(Changes::ended, |announcer| announcer.receiver())
    }

    /// Tells the service's policy what somebody wants of it.
    pub fn commands(&self) -> &Commands<P> {
        &self.commands
    }

    /// As of when, on the database's clock, the rows have all that the service hears: every partition was read to its end then, or later. None
    /// while one of them never was, and of a service that is no projection.
    ///
    /// # Errors
    ///
    /// The database does not tell.
    pub async fn as_of(&self) -> sqlx::Result<Option<DateTime<Utc>>> {
        position::as_of(&self.pool, &self.topics).await
    }
}

impl<P: Policy> fmt::Debug for Context<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}
