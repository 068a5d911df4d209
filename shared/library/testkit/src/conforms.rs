//! Whether a service in PostgreSQL does what it does in memory.

use std::{borrow::Cow, collections::BTreeSet, fmt::Debug, ops::Range};

use proptest::{
    sample::select,
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use quadrille_core::{
    EffectRow, Envelope, Fact, Input, Named, Policy, Records, Row, Rows, TimerRow, Timestamp, Trace, ids,
    memory::{OpenEffect, Service},
};
use quadrille_runtime::{Batches, Store};
use sqlx::{PgConnection, PgPool, Postgres, Row as _, Transaction, postgres::PgRow};
use uuid::Uuid;

use crate::{Database, start};

/// How many batches a story has.
const BATCHES: usize = 320;

/// Tells one random story to a service with this store, in an empty and migrated database, and to the same service in memory: batches of
/// records from `heard`, repeats, timers that are due (or were) and those of `outcomes` that answer an open effect, with claims in between.
/// Returns its states, one per batch, so that a test can say what a story must come to.
///
/// After each batch rows, inbox, facts, effects and timers must be the same in both. And of the store: rows are locked, new ones too; what
/// did not change is not written; and any row can be saved over any other state of it.
///
/// # Panics
/// Where they differ, or the tests' PostgreSQL does not answer.
pub async fn conforms<S: Store>(
    database: &Database,
    store: S,
    heard: impl Strategy<Value = <S::Policy as Policy>::Heard>,
    outcomes: &[<S::Policy as Policy>::Outcome],
) -> Vec<<S::Policy as Policy>::State> {
    let batches = Batches::over(&database.url(), store).await.expect("the database is migrated");
    let pool = &database.pool;
    let (mut memory, mut facts, mut now) = (Service::default(), vec![], start());
    let (mut told, mut states) = (Vec::<Envelope<S::Policy>>::new(), vec![]);
    let mut rows = Touched { store: batches.store(), pool, rows: BTreeSet::new(), empty: Default::default() };
    // The same story each time: one that fails is told again.
    let mut any = Any(TestRunner::deterministic());
    for number in 0..BATCHES {
        if let Some(open) = any.of(0..memory.effects.len()) {
            memory.effects[open].claimed = true;
            let claim = "update effect set tries = 1, first_tried_at = clock_timestamp() where id = $1";
            sqlx::query(claim).bind(memory.effects[open].row.id).execute(pool).await.expect("a claim");
        }
        let mut batch = vec![];
        for place in 0..any.of(1..6).unwrap_or(1) {
            let timer = any.of(0..memory.timers.len()).map(|timer| memory.due(timer));
            let claimed = any.of(0..memory.effects.len()).filter(|open| memory.effects[*open].claimed);
            let outcome = claimed.map(|open| {
                let effect = &memory.effects[open].row.effect;
                let outcomes = outcomes.iter().filter(|outcome| S::Policy::answers(effect, outcome)).cloned();
                memory.outcome(open, any.one(select(outcomes.collect::<Vec<_>>())))
            });
            let again = any.of(0..told.len()).map(|place| told[place].clone());
            // Timers seldom: each that fires ends something, and what is to be seen takes several inputs.
            let other = match any.of(0..60) {
                Some(0) => timer,
                Some(1..=15) => outcome,
                Some(16..=25) => again,
                _ => None,
            };
            let input = other.unwrap_or_else(|| record(number * 10 + place, any.one(&heard)));
            told.push(input.clone());
            batch.push(input);
        }
        rows.touch(&memory.state, &batch).await;

        batches.commit(batch.clone()).await.expect("a batch is committed");
        let decided = "select (decided ->> 'now')::timestamptz from history order by number desc limit 1";
        now = sqlx::query_scalar(decided).fetch_optional(pool).await.expect("the history").unwrap_or(now);
        let came_to = memory.batch(now, &batch);
        facts.extend(came_to.into_iter().flat_map(|came_to| came_to.facts));

        let loaded = rows.load(&mut *rows.begin().await, &rows.rows).await.expect("rows");
        assert_eq!(loaded, rows.expected(&memory.state), "PostgreSQL's rows and the memory's");
        assert_eq!(stated(pool).await, facts, "PostgreSQL's facts and the memory's");
        let state = memory.state.clone();
        let kept =
            Service { state, inbox: inbox(pool).await, effects: effects(pool).await, timers: timers(pool).await };
        memory.timers.sort_by_key(|row| row.id);
        assert_eq!(kept, memory, "PostgreSQL's inbox, effects and timers and the memory's");
        states.push(kept.state);
    }
    rows.take_turns(&rows.rows).await;
    rows.over_each_other(&states[BATCHES / 16]).await;
    states
}

/// A record as an input: the `number`th of a story. Its id says nothing else, and its version is the number, so later ones are newer.
pub fn record<P: Policy>(number: usize, heard: P::Heard) -> Envelope<P> {
    let id = ids::v5(&["record", &number.to_string()]);
    let trace = Trace { parent: format!("00-{:032x}-{:016x}-01", id.as_u128(), number), state: String::new() };
    Envelope { id, cause: id, key: heard.key(), version: number as i64 + 1, trace, input: Input::Record(heard) }
}

/// All that a service has stated, as its outbox has it while nobody publishes.
///
/// # Panics
/// Where it cannot be read.
pub async fn stated<P: Policy>(pool: &PgPool) -> Vec<Fact<P>> {
    let fact = |row: PgRow| {
        let name: String = row.try_get("type")?;
        let index = P::Stated::TYPES.iter().position(|ty| ty.name == name).expect("it states this type");
        let datum: Vec<u8> = row.try_get("datum")?;
        let record = P::Stated::decode(index, &datum).expect("its own schema");
        assert_eq!(record.record_type().topic.name, row.try_get::<String, _>("topic")?);
        let (id, version, time) = (row.try_get("event_id")?, row.try_get("version")?, row.try_get("time")?);
        Ok(Fact {
            id,
            cause: row.try_get("causation_id")?,
            key: row.try_get("key")?,
            version,
            time,
            trace: trace(&row)?,
            record,
        })
    };
    all(pool, "select * from outbox order by id", fact).await
}

async fn inbox(pool: &PgPool) -> BTreeSet<Uuid> {
    let ids = sqlx::query_scalar("select id from inbox").fetch_all(pool).await;
    ids.expect("the inbox").into_iter().collect()
}

async fn effects<P: Policy>(pool: &PgPool) -> Vec<OpenEffect<P>> {
    let open = |row: PgRow| {
        let effect: P::Effect = serde_json::from_value(row.try_get("effect")?).expect("an effect");
        let named: (String, String) = (row.try_get("kind")?, row.try_get("name")?);
        assert_eq!(named, (effect.kind().to_owned(), effect.name()));
        let (id, key, cause) = (row.try_get("id")?, row.try_get("key")?, row.try_get("causation_id")?);
        let claimed = row.try_get::<i32, _>("tries")? > 0;
        Ok(OpenEffect { row: EffectRow { id, key, cause, trace: trace(&row)?, effect }, claimed })
    };
    all(pool, "select * from effect order by seq", open).await
}

async fn timers<P: Policy>(pool: &PgPool) -> Vec<TimerRow<P>> {
    let set = |row: PgRow| {
        let timer: P::Timer = serde_json::from_value(row.try_get("timer")?).expect("a timer");
        assert_eq!(row.try_get::<String, _>("name")?, timer.name());
        assert_eq!(row.try_get::<bool, _>("deadline")?, P::is_deadline(&timer));
        let (id, key, cause) = (row.try_get("id")?, row.try_get("key")?, row.try_get("causation_id")?);
        Ok(TimerRow { id, key, cause, trace: trace(&row)?, due: row.try_get::<Timestamp, _>("due")?, timer })
    };
    all(pool, "select * from timer order by id", set).await
}

fn trace(row: &PgRow) -> sqlx::Result<Trace> {
    Ok(Trace { parent: row.try_get("traceparent")?, state: row.try_get("tracestate")? })
}

async fn all<T>(pool: &PgPool, select: &'static str, read: impl Fn(PgRow) -> sqlx::Result<T>) -> Vec<T> {
    let rows = sqlx::query(select).fetch_all(pool).await.expect(select);
    rows.into_iter().map(|row| read(row).expect(select)).collect()
}

/// The rows that a story has touched.
struct Touched<'a, S: Store> {
    store: &'a S,
    pool: &'a PgPool,
    rows: BTreeSet<Row>,
    /// Each of them as the store made it.
    empty: <S::Policy as Policy>::State,
}

impl<S: Store> Touched<'_, S> {
    /// Adds the rows that a batch touches.
    async fn touch(&mut self, state: &<S::Policy as Policy>::State, batch: &[Envelope<S::Policy>]) {
        let named: BTreeSet<Row> = batch.iter().flat_map(|input| S::Policy::rows(state, input)).collect();
        let new: BTreeSet<Row> = named.difference(&self.rows).cloned().collect();
        self.take_turns(&new).await;
        let made = self.load(&mut *self.begin().await, &new).await.expect("new rows");
        new.iter().for_each(|row| made.copy(row, &mut self.empty));
        self.rows.extend(new);
    }

    /// The rows as they must be where the memory has this state.
    fn expected(&self, state: &<S::Policy as Policy>::State) -> <S::Policy as Policy>::State {
        let mut expected = self.empty.clone();
        self.rows.iter().for_each(|row| state.copy(row, &mut expected));
        expected
    }

    async fn begin(&self) -> Transaction<'_, Postgres> {
        self.pool.begin().await.expect("a transaction")
    }

    async fn load(&self, tx: &mut PgConnection, rows: &BTreeSet<Row>) -> sqlx::Result<<S::Policy as Policy>::State> {
        let mut state = Default::default();
        for table in S::Policy::TABLES {
            let of_table = rows.iter().filter(|row| row.table == *table);
            let keys: Vec<String> = of_table.map(|row| row.key.clone()).collect();
            if !keys.is_empty() {
                self.store.load(tx, table, &keys, &mut state).await?;
            }
        }
        Ok(state)
    }

    /// Whoever comes second to a row waits for the first one, which may only just have made it.
    async fn take_turns(&self, rows: &BTreeSet<Row>) {
        for table in S::Policy::TABLES.iter().filter(|table| !S::Policy::UNLOCKED.contains(table)) {
            let rows: BTreeSet<Row> = rows.iter().filter(|row| row.table == *table).cloned().collect();
            if rows.is_empty() {
                continue;
            }
            let (mut first, mut second) = (self.begin().await, self.begin().await);
            self.load(&mut first, &rows).await.expect("the first one has the rows");
            let bound = "set local lock_timeout = '20ms'";
            sqlx::query(bound).execute(&mut *second).await.expect(bound);
            let waited = self.load(&mut second, &rows).await.expect_err("the second one waits");
            let code = waited.as_database_error().and_then(|error| error.code().map(Cow::into_owned));
            assert_eq!(code.as_deref(), Some("55P03"), "{table}: {waited}");
        }
    }

    /// Saves the rows as they were in an earlier state, or before there was any: those that differ are written, all of each, and no others.
    /// Rows that are not locked never go back.
    async fn over_each_other(&self, earlier: &<S::Policy as Policy>::State) {
        let mut tx = self.begin().await;
        let before = self.load(&mut tx, &self.rows).await.expect("rows");
        let mut after = self.expected(earlier);
        let unlocked = self.rows.iter().filter(|row| S::Policy::UNLOCKED.contains(&row.table));
        unlocked.for_each(|row| before.copy(row, &mut after));
        let differs = |row: &&Row| {
            let (mut then, mut now) = <(<S::Policy as Policy>::State, <S::Policy as Policy>::State)>::default();
            before.copy(row, &mut then);
            after.copy(row, &mut now);
            then != now
        };
        let changed = self.rows.iter().filter(differs).count();
        assert!(changed > 0, "nothing has happened in all the rest of a story");
        let earlier = written(&mut tx).await;
        self.store.save(&mut tx, &before, &after, &[]).await.expect("rows are saved");
        assert_eq!(written(&mut tx).await - earlier, changed as i64, "what did not change is not written");
        assert_eq!(self.load(&mut tx, &self.rows).await.expect("rows"), after);
    }
}

/// How many rows this connection has updated, of late and in this transaction.
async fn written(tx: &mut PgConnection) -> i64 {
    let written = "select coalesce(sum(n_tup_upd), 0)::bigint from pg_stat_xact_user_tables";
    sqlx::query_scalar(written).fetch_one(tx).await.expect(written)
}

/// Draws for a story.
struct Any(TestRunner);

impl Any {
    fn one<T: Debug>(&mut self, strategy: impl Strategy<Value = T>) -> T {
        strategy.new_tree(&mut self.0).expect("a strategy without conditions").current()
    }

    /// One of these numbers, if there are any.
    fn of(&mut self, numbers: Range<usize>) -> Option<usize> {
        (!numbers.is_empty()).then(|| self.one(numbers))
    }
}
