//! A service's transactions alone: no Kafka, no worker, nothing that performs effects or fires timers.

use quadrille_core::{Envelope, Policy};

use crate::{
    database::Database,
    generation, history, outbox,
    store::Store,
    telemetry::Spans,
    transaction::Transactions,
    work::{Work, WorkItem},
};

/// Commits batches as a running service does, and keeps each decision in the history. For tests: the testkit's `conforms` holds it against
/// [`quadrille_core::memory::Service`].
pub struct Batches<S: Store>(Transactions<S>);

impl<S: Store> Batches<S> {
    /// Over this database, which is migrated.
    ///
    /// # Errors
    ///
    /// `url` is no address of a PostgreSQL database, or it cannot be reached.
    pub async fn over(url: &str, store: S) -> anyhow::Result<Self> {
        let pool = Database::new(url.parse()?, 8);
        outbox::enter_schemas::<S::Policy>(&pool).await?;
        Ok(Self(Transactions {
            store,
            generation: generation::FIRST,
            spans: Spans::new(S::Policy::SERVICE, "")?,
            has_effects: true,
            tells_changes: false,
            history: Some(history::begin::<S::Policy>(&pool).await?),
            pool,
        }))
    }

    /// Commits a batch, whole or not at all.
    ///
    /// # Errors
    ///
    /// Nothing of it has happened, or the answer to the commit was lost.
    pub async fn commit(&self, inputs: impl IntoIterator<Item = Envelope<S::Policy>>) -> anyhow::Result<()> {
        // As work that came from no topic: there is no offset to move.
        let items: Vec<_> = inputs.into_iter().map(|input| WorkItem::from(Work::Timer(input))).collect();
        self.0.run_bounded(&items).await?;
        Ok(())
    }

    /// The service's rows.
    pub fn store(&self) -> &S {
        &self.0.store
    }
}
