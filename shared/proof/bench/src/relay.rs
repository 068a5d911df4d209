//! The relay by itself: rows are written into one service's outbox, and what is measured is when a consumer sees them.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Context;
use quadrille_program::say;
use quadrille_testkit::Settings;
use serde::{Deserialize, Serialize};
use sqlx::{ConnectOptions, Connection, PgConnection, PgPool};

use crate::{
    ear::{Ear, event},
    quantiles::Quantiles,
    stage::{Mode, Stage},
    usage::{Usage, rest},
};

/// Whose outbox: a service that hears nothing of what is written.
const SERVICE: &str = "user";
const TOPIC: &str = "user.events";
/// A fact's size, about.
const PAYLOAD: usize = 300;

/// How much is measured.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Rows a second, and for how many seconds.
    pub rates: Vec<(u32, u32)>,
    /// Rows that are committed at once.
    pub rows: i64,
    /// How often.
    pub drains: usize,
}

/// Rows at a steady rate.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Commits {
    pub rate: u32,
    /// From the return of the commit until a consumer saw the record.
    pub commit_to_consumer_ms: Quantiles,
    pub usage: Usage,
}

/// Rows that were committed all at once.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rows {
    pub rows: i64,
    /// From the return of the commit until the consumer has seen all.
    pub seconds: f64,
    pub rows_per_second: f64,
    pub usage: Usage,
}

/// What came of it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Relayed {
    pub commits: Vec<Commits>,
    pub drains: Vec<Rows>,
    /// Records that came again, and records that did not come: both must be 0.
    pub repeats: u64,
    pub lost: u64,
}

/// When rows were seen, by the version that they were written with.
#[derive(Default)]
struct Seen {
    first: HashMap<i64, Instant>,
    repeats: u64,
}

/// Measures the relay of the user service in the folder `programs`, in a world of its own.
pub async fn run(programs: &Path, plan: &Plan) -> anyhow::Result<Relayed> {
    let stage = Stage::open_with(Mode::Alone, programs, &[SERVICE]).await?;
    let ear = listen(&stage.world.settings)?;
    let mut outbox = Outbox::connect(&stage.database(SERVICE)?.pool).await?;
    outbox.commit(100).await?;
    outbox.seen(&ear).await?;

    let mut relayed = Relayed::default();
    for (rate, seconds) in &plan.rates {
        rest().await;
        let meter = stage.meter()?;
        let mut committed = vec![];
        let began = Instant::now();
        for number in 0..rate * seconds {
            let due = began + Duration::from_secs_f64(f64::from(number) / f64::from(*rate));
            tokio::time::sleep_until(due.into()).await;
            committed.push(outbox.commit(1).await?);
        }
        outbox.seen(&ear).await?;
        let usage = meter.stop()?;
        let seen = ear.heard();
        // A record may be seen before its writer knows of its own commit.
        let times = committed.iter().filter_map(|(row, at)| Some(seen.first.get(row)?.saturating_duration_since(*at)));
        let commit_to_consumer_ms = Quantiles::of(times);
        let Quantiles { p50, p99, .. } = commit_to_consumer_ms;
        say!(
            "{rate:>5} rows/s: commit to consumer p50 {p50:.2} ms, p99 {p99:.2} ms; noise {:.0} %",
            usage.noise_percent
        );
        relayed.commits.push(Commits { rate: *rate, commit_to_consumer_ms, usage });
    }
    for _ in 0..plan.drains {
        rest().await;
        let meter = stage.meter()?;
        let (_, committed) = outbox.commit(plan.rows).await?;
        outbox.seen(&ear).await?;
        let usage = meter.stop()?;
        let last = ear.heard().first.get(&outbox.written).copied().context("the last row was not seen")?;
        let all = ear.heard().first.values().copied().max().unwrap_or(last);
        let seconds = all.saturating_duration_since(committed).as_secs_f64();
        let rows_per_second = plan.rows as f64 / seconds;
        say!("{} rows relayed: {rows_per_second:.0} rows/s; noise {:.0} %", plan.rows, usage.noise_percent);
        relayed.drains.push(Rows { rows: plan.rows, seconds, rows_per_second, usage });
    }
    rest().await;
    let seen = ear.heard();
    relayed.repeats = seen.repeats;
    relayed.lost = u64::try_from(outbox.written)?.saturating_sub(seen.first.len() as u64);
    Ok(relayed)
}

fn listen(settings: &Settings) -> anyhow::Result<Ear<Seen>> {
    Ear::open(settings, TOPIC, |seen: &mut Seen, message, at| {
        if let Ok(version) = event(message).version.parse::<i64>()
            && seen.first.insert(version, at).is_some()
        {
            seen.repeats += 1;
        }
    })
}

/// A writer of rows, as another instance of the service would write them.
struct Outbox {
    connection: PgConnection,
    /// Wakes the relay, after the commit and without waiting for the disk.
    bell: PgConnection,
    written: i64,
}

impl Outbox {
    async fn connect(database: &PgPool) -> anyhow::Result<Self> {
        let options = database.connect_options();
        let bell = options.as_ref().clone().options([("synchronous_commit", "off")]).connect().await?;
        Ok(Self { connection: options.connect().await?, bell, written: 0 })
    }

    /// Commits so many rows at once, and returns the last one's number and the moment of the commit.
    async fn commit(&mut self, rows: i64) -> anyhow::Result<(i64, Instant)> {
        let mut tx = self.connection.begin().await?;
        // Whoever writes the outbox has a transaction id before it draws a number.
        sqlx::query("select pg_current_xact_id()").execute(&mut *tx).await?;
        sqlx::query(
            "insert into outbox (topic, key, event_id, type, version, causation_id, time, traceparent, tracestate, payload)
             select $1, gen_random_uuid()::text, gen_random_uuid(), 'quadrille.bench.Row', n, gen_random_uuid(),
                 clock_timestamp(), '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01', '', $2
             from generate_series($3::bigint + 1, $3 + $4) n",
        )
        .bind(TOPIC)
        .bind(vec![7_u8; PAYLOAD])
        .bind(self.written)
        .bind(rows)
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        let committed = Instant::now();
        sqlx::query("select pg_notify('quadrille_outbox', '')").execute(&mut self.bell).await?;
        self.written += rows;
        Ok((self.written, committed))
    }

    async fn seen(&self, ear: &Ear<Seen>) -> anyhow::Result<()> {
        let all = self.written as usize;
        ear.until(|seen| seen.first.len() == all, |seen| format!("{} of {all} rows were seen", seen.first.len())).await
    }
}
