//! What is old enough is forgotten, and no sooner than a topic may bring it back; what comes of a key whose rows have gone is too old.

use crate::support::{
    Instance, Shop, tables,
    tally::{State, Table, Tally},
};
use quadrille_core::Fact;
use quadrille_platform::RedriveRequested;
use quadrille_runtime::{Ended, Service, Store, remove_ended};
use sqlx::PgConnection;
use uuid::Uuid;

/// The example's table, whose rows go once they hold seven pieces or more; those of a hundred are kept for the books.
struct Going;

impl Store for Going {
    type Policy = Tally;

    const ENDED: Option<Ended> = Some(Ended {
        table: "tally",
        key: "sku",
        settled: "pieces between 7 and 99",
        booked: "pieces = 100",
        beside: Some("delete from beside where sku = any(array(select key from old))"),
    });

    async fn load(
        &self,
        tx: &mut PgConnection,
        table: &'static str,
        skus: &[String],
        state: &mut State,
    ) -> sqlx::Result<()> {
        Table.load(tx, table, skus, state).await
    }

    async fn save(&self, tx: &mut PgConnection, old: &State, new: &State, facts: &[Fact<Tally>]) -> sqlx::Result<()> {
        Table.save(tx, old, new, facts).await
    }
}

async fn going() -> anyhow::Result<Shop> {
    let shop = Shop::open().await?;
    sqlx::raw_sql(
        "alter table tally add column changed_at timestamptz not null default clock_timestamp();
         create table beside (sku text primary key)",
    )
    .execute(&shop.database.pool)
    .await?;
    Ok(shop)
}

fn start(shop: &Shop) -> Instance {
    Instance::start(Service::new(Going).migrations(&tables()), shop.config())
}

/// Removes what has ended, and returns how many rows there were.
async fn removed(shop: &Shop) -> sqlx::Result<u64> {
    let retention = shop.config().retention;
    let mut connection = shop.database.pool.acquire().await?;
    let mut rows = 0;
    loop {
        let removed = remove_ended::<Going>(&mut connection, &retention).await?;
        assert!(removed.rows <= 1_000, "a small batch per transaction");
        rows += removed.rows;
        if !removed.is_full {
            return Ok(rows);
        }
    }
}

/// What `select` of one text column says, sorted.
async fn texts(shop: &Shop, select: &'static str) -> sqlx::Result<Vec<String>> {
    let mut texts: Vec<String> = sqlx::query_scalar(select).fetch_all(&shop.database.pool).await?;
    texts.sort();
    Ok(texts)
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_are_forgotten_once_nothing_can_bring_them_back() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    // More than a few batches, and some that are a day too young.
    sqlx::query(
        "insert into inbox (id, at) select gen_random_uuid(), clock_timestamp() - interval '1 day' * case when n > 3500 then 34 else 36 end
         from generate_series(1, 3600) n",
    )
    .execute(&shop.database.pool)
    .await?;
    let instance = shop.start();
    let left =
        "select count(*) from inbox having count(*) filter (where at < clock_timestamp() - interval '35 days') = 0";
    let left: i64 = shop.row(|pool| sqlx::query_scalar(left).fetch_optional(pool)).await?;
    assert_eq!(left, 100, "what is younger stays");
    instance.stop().await
}

/// An id that is forgotten while its record can still come would let it take effect twice.
#[tokio::test(flavor = "multi_thread")]
async fn a_retention_that_a_topic_outlives_is_refused_at_the_start() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let mut config = shop.config();
    config.retention.inbox_days = 7;
    let refused = crate::support::service().run_until(config, std::future::pending()).await;
    let refused = refused.err().map(|error| error.to_string()).unwrap_or_default();
    assert!(refused.contains("retention.inbox_days is 7") && refused.contains("stock.requests"), "{refused}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_go_once_they_have_ended_and_nothing_of_their_key_is_open() -> anyhow::Result<()> {
    let shop = going().await?;
    sqlx::raw_sql(
        "insert into tally (sku, pieces, changed_at)
         select sku, pieces, clock_timestamp() - make_interval(days => days) from (values
             ('OLD', 7, 91), ('BOOKED', 100, 3654), ('YOUNG', 7, 89), ('OPEN', 3, 4000), ('BOOK-YOUNG', 100, 3652),
             ('EFFECT', 7, 91), ('TIMER', 7, 91), ('OUTBOX', 7, 91), ('LETTER', 7, 91), ('CLOSED', 7, 91), ('BUSY', 7, 91))
             as row (sku, pieces, days);
         insert into tally (sku, pieces, changed_at)
         select 'MANY-' || n, 7, clock_timestamp() - interval '200 days' from generate_series(1, 2500) n;
         insert into beside select sku from tally;
         insert into effect (id, key, kind, name, effect, causation_id, traceparent, tracestate)
         values (gen_random_uuid(), 'EFFECT', 'k', 'n', '{}', gen_random_uuid(), '', '');
         insert into timer (id, key, name, timer, causation_id, traceparent, tracestate, due, next_try)
         values (gen_random_uuid(), 'TIMER', 'n', '{}', gen_random_uuid(), '', '', now(), now());
         insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
         values ('t', 'OUTBOX', gen_random_uuid(), 't', 1, gen_random_uuid(), now(), '', '', '');
         -- As it came: in a spelling of its client's. And one that is none, which is nobody's.
         insert into dead_letter (id, topic, partition, \"offset\", record_time, record_type, key, value_size, value_digest, headers, withheld,
             reason, field, detail, closed_at)
         select gen_random_uuid(), 't', 0, 0, now(), '', key, 0, '', '[]', false, '', '', '', closed_at
         from (values ('letter'::bytea, null), ('CLOSED', now()), ('\\xff', null)) as letter (key, closed_at)",
    )
    .execute(&shop.database.pool)
    .await?;
    let mut busy = shop.database.pool.begin().await?;
    sqlx::query("select from tally where sku = 'BUSY' for update").execute(&mut *busy).await?;

    assert_eq!(removed(&shop).await?, 2_503);
    let stay = ["BOOK-YOUNG", "BUSY", "EFFECT", "LETTER", "OPEN", "OUTBOX", "TIMER", "YOUNG"];
    assert_eq!(texts(&shop, "select sku from tally").await?, stay);
    let gone = "select key from gone where key not like 'MANY-%'";
    assert_eq!(texts(&shop, gone).await?, ["BOOKED", "CLOSED", "OLD"]);
    // What is beside stays for the books.
    let beside = "select sku from beside where sku not like 'MANY-%' and sku not in (select sku from tally)";
    assert_eq!(texts(&shop, beside).await?, ["CLOSED", "OLD"]);

    busy.rollback().await?;
    sqlx::raw_sql(
        "delete from effect; delete from timer; delete from outbox; update dead_letter set closed_at = now();
         update gone set ended_at = clock_timestamp() - interval '3654 days'",
    )
    .execute(&shop.database.pool)
    .await?;
    assert_eq!(removed(&shop).await?, 5);
    assert_eq!(texts(&shop, "select sku from tally").await?, ["BOOK-YOUNG", "OPEN", "YOUNG"]);
    assert_eq!(texts(&shop, beside).await?, ["BUSY", "EFFECT", "LETTER", "OUTBOX", "TIMER"]);
    assert_eq!(texts(&shop, "select count(*)::text from beside").await?, ["8"], "of more than one batch, too");
    assert_eq!(removed(&shop).await?, 0);
    Ok(())
}

/// Asks for seven pieces, and waits until they are counted and the row has gone.
async fn gone(shop: &Shop, sku: &'static str) -> anyhow::Result<()> {
    let instance = start(shop);
    shop.ask_for(sku, 7, None).await?;
    shop.stated(1).await?;
    instance.stop().await?;
    let age = "update tally set changed_at = clock_timestamp() - interval '91 days' where sku = $1";
    sqlx::query(age).bind(sku).execute(&shop.database.pool).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_of_a_key_that_has_gone_is_too_old_and_others_go_on() -> anyhow::Result<()> {
    let mut shop = going().await?;
    gone(&shop, "GONE").await?;
    let instance = start(&shop);
    const IS_GONE: &str = "select key from gone";
    let key: String = shop.row(|pool| sqlx::query_scalar(IS_GONE).fetch_optional(pool)).await?;
    assert_eq!(key, "GONE");

    // In another spelling, beside others in one batch.
    for sku in ["A-1", "gone", "A-2", "Gone", "A-3"] {
        shop.ask(sku, 0).await?;
    }
    const LETTERS: &str =
        "select id, reason, field, detail, attempts from dead_letter where closed_at is null order by \"offset\"";
    const TWO: &str = "select count(*) from dead_letter where closed_at is null having count(*) = 2";
    let _: i64 = shop.row(|pool| sqlx::query_scalar(TWO).fetch_optional(pool)).await?;
    assert_eq!(shop.stated(4).await?.len(), 4, "the first one's fact and three others'");
    let letters: Vec<(Uuid, String, String, String, i32)> =
        sqlx::query_as(LETTERS).fetch_all(&shop.database.pool).await?;
    for (_, reason, field, detail, _) in &letters {
        assert_eq!((reason.as_str(), field.as_str()), ("too_old", "key"));
        assert!(detail.starts_with("GONE ended long ago"), "{detail}");
    }
    assert_eq!(shop.pieces().await?, 3, "nothing begins anew");

    // A redrive changes nothing, whoever asks for it.
    let (who, why) = ("ann".into(), "once more".into());
    let redrive =
        RedriveRequested { dead_letter_id: Some(letters[0].0), who, why, ..RedriveRequested::new("tally".into()) };
    assert_eq!(shop.operate(&redrive).await?.0, "done");
    const AGAIN: &str = "select reason from dead_letter where attempts = 2 and closed_at is null and next_try is null";
    let reason: String = shop.row(|pool| sqlx::query_scalar(AGAIN).fetch_optional(pool)).await?;
    assert_eq!(reason, "too_old");
    assert_eq!(shop.pieces().await?, 3);
    instance.stop().await
}

/// The row goes while the worker waits for it: before it has looked whether it is there, or after that.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_goes_while_its_key_is_asked_for_does_not_begin_anew() -> anyhow::Result<()> {
    for has_been_looked_at in [false, true] {
        let shop = going().await?;
        gone(&shop, "GONE").await?;
        let mut going = shop.database.pool.begin().await?;
        let remove = "delete from tally where sku = 'GONE'; insert into gone values ('GONE', now(), false)";
        let hold = "select from tally where sku = 'GONE' for update";
        sqlx::raw_sql(if has_been_looked_at { hold } else { remove }).execute(&mut *going).await?;
        let instance = start(&shop);
        shop.ask("GONE", 0).await?;
        const WAITS: &str =
            "select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
        let _: i32 = shop.row(|pool| sqlx::query_scalar(WAITS).fetch_optional(pool)).await?;
        if has_been_looked_at {
            sqlx::raw_sql(remove).execute(&mut *going).await?;
        }
        going.commit().await?;
        const REASON: &str = "select reason from dead_letter";
        let reason: String = shop.row(|pool| sqlx::query_scalar(REASON).fetch_optional(pool)).await?;
        assert_eq!(reason, "too_old");
        assert_eq!(shop.stated(1).await?.len(), 1);
        assert_eq!(shop.pieces().await?, 0);
        instance.stop().await?;
    }
    Ok(())
}
