//! A service's transactions alone: no Kafka, no worker, nothing that performs effects or fires timers.

use quadrille_core::{Envelope, Policy, Records};

use crate::{
    arrival::{Arrival, Content, Origin},
    database::Database,
    history,
    outbox::SchemaIds,
    store::Store,
    telemetry::Spans,
    transaction::Transactions,
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
        let types = <S::Policy as Policy>::Stated::TYPES;
        Ok(Self(Transactions {
            store,
            spans: Spans::new(S::Policy::SERVICE, "")?,
            // Nobody publishes what is stated here, so any ids do.
            schema_ids: SchemaIds::new(types, (1..).take(types.len()).collect()),
            has_effects: true,
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
        let arrival = |input| Arrival { origin: Origin::Outcome, content: Content::Input(input, None), room: None };
        let arrivals: Vec<_> = inputs.into_iter().map(arrival).collect();
        self.0.handle(&arrivals).await?;
        Ok(())
    }

    /// The service's rows.
    pub fn store(&self) -> &S {
        &self.0.store
    }
}
