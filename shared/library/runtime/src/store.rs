//! What a service writes itself about its database: how its rows are locked, loaded and saved, a whole batch at a time.

use std::future::Future;

use quadrille_core::{Fact, Policy};
use sqlx::{PgConnection, error::BoxDynError};

/// Which of a service's rows go some time after their end, and leave their key in the table `gone`: see `prune.rs`.
///
/// The rows are of one table, named in SQL as in [`Policy::TABLES`], keyed by the key of the records that they are about. It has a column
/// `changed_at`, the time of the last change, best with a block range index.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    /// The table.
    pub table: &'static str,
    /// Its key's column.
    pub key: &'static str,
    /// Which rows have ended, as SQL: go they do `retention.ended_days` after their last change.
    pub settled: &'static str,
    /// Which rows have ended and are kept for the books: they go after `retention.books_days`. `false` where there are none.
    pub booked: &'static str,
    /// A `delete` of what else belongs to the keys in `select key from old`, and is kept for the books.
    pub beside: Option<&'static str>,
}

/// A service's rows. Every method gets the whole batch's keys or rows: one statement each, never one per row. A table's
/// columns are declared with [`table!`](crate::table!), and [`Mapped`](crate::Mapped) has both methods for it.
pub trait Store: Send + Sync + 'static {
    /// The policy whose state the rows are.
    type Policy: Policy;

    /// Which rows go some time after their end; none go otherwise.
    const ENDED: Option<Ended> = None;

    /// Does what a migration needs and SQL cannot do. `migrate` calls it before the migrations, in a transaction of its own, each time it
    /// is run: a new database has no tables yet, and one that is up to date needs nothing. What it refuses is told, and nothing is migrated.
    fn prepare(&self, _tx: &mut PgConnection) -> impl Future<Output = Result<(), BoxDynError>> + Send {
        async { Ok(()) }
    }

    /// Takes over what the topics of a read model no longer hold, from the tables of the generation that serves: these are in the schema `old`, the
    /// generation's own are found by their names alone. It is done once, before the generation reads its first record, in one transaction that
    /// sees one moment, within an hour; between two statements it may be silent for `kafka.session_timeout_ms`. Returns how many rows it took;
    /// `None`, the default, takes nothing over, and then a generation whose topics have lost records is refused. After a passing error of the
    /// database's, an [`sqlx::Error`] among the causes of what it returns, it is done anew; any other error ends the instance.
    ///
    /// All records that the topics still hold come afterwards, and the version that a row is given here says up to where it stands: a record
    /// that is not newer is passed over by the policy, as any repeat is. So a row that is to be folded anew from what is held is taken with
    /// version 0, and one that is the sum of all that ever came with the version that it has.
    ///
    /// A version does not stand for the records of that generation's open dead letters: these are in none of its rows, and are passed over all
    /// the same where a row has a higher version. The runtime counts them and says so.
    fn take_over(
        &self,
        _tx: &mut PgConnection,
        _old: &str,
    ) -> impl Future<Output = Result<Option<u64>, BoxDynError>> + Send {
        async { Ok(None) }
    }

    /// Locks the rows `keys` of `table` in the order of their keys, makes those that are not there, and puts all into `state`.
    ///
    /// Called once per table of [`Policy::TABLES`] that the batch touches, in that order; `keys` are sorted, without repeats and in
    /// normal form. A row that is not there cannot be locked, so an empty one is made first: see
    /// [`Mapped::load`](crate::Mapped::load).
    fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        keys: &[String],
        state: &mut <Self::Policy as Policy>::State,
    ) -> impl Future<Output = sqlx::Result<()>> + Send;

    /// Saves what the batch changed: [`changed`](quadrille_core::changed) rows of `after` against `before`. `facts` are what it
    /// stated, for a store that keeps events.
    fn save(
        &self,
        tx: &mut PgConnection,
        before: &<Self::Policy as Policy>::State,
        after: &<Self::Policy as Policy>::State,
        facts: &[Fact<Self::Policy>],
    ) -> impl Future<Output = sqlx::Result<()>> + Send;
}
