//! The service over its table, with what it serves.

use std::process::ExitCode;

use chrono::{DateTime, Utc};
use meters_usage::{Page, State, Usage};
use quadrille_core::Fact;
use quadrille_runtime::{
    Context, Mapped, Service, Store,
    axum::{Json, Router, extract::Path, http::StatusCode, response::IntoResponse, routing::get},
    table,
};
use sqlx::PgConnection;

table! {
    struct PageRow in "page" {
        key meter: String,
        used: i64,
        measured: i64,
        refused: i64,
        version: i64,
    }
}

impl Mapped for PageRow {
    type Value = Page;

    fn from_value(meter: String, &Page { used, measured, refused, version }: &Page) -> Self {
        Self { meter, used, measured, refused, version }
    }

    fn into_value(self) -> sqlx::Result<Page> {
        let Self { used, measured, refused, version, .. } = self;
        Ok(Page { used, measured, refused, version })
    }
}

struct Tables;

impl Store for Tables {
    type Policy = Usage;

    async fn load(&self, tx: &mut PgConnection, _: &str, meters: &[String], state: &mut State) -> sqlx::Result<()> {
        PageRow::load(tx, meters, state).await
    }

    async fn save(&self, tx: &mut PgConnection, old: &State, new: &State, _: &[Fact<Usage>]) -> sqlx::Result<()> {
        PageRow::save(tx, old, new).await
    }
}

/// What `/usage` tells.
#[derive(serde::Serialize, sqlx::FromRow)]
struct Total {
    meters: i64,
    used: i64,
    measured: i64,
    refused: i64,
    #[sqlx(skip)]
    as_of: Option<DateTime<Utc>>,
}

const TOTAL: &str = "select count(*) as meters, coalesce(sum(used), 0)::bigint as used, \
    coalesce(sum(measured), 0)::bigint as measured, coalesce(sum(refused), 0)::bigint as refused from page";

async fn total(context: &Context<Usage>) -> sqlx::Result<Total> {
    let total: Total = sqlx::query_as(TOTAL).fetch_one(context.pool()).await?;
    Ok(Total { as_of: context.as_of().await?, ..total })
}

fn routes(context: Context<Usage>) -> Router {
    let now = context.clone();
    let told = |told: sqlx::Result<Total>| match told {
        Ok(total) => Json(total).into_response(),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, error.to_string()).into_response(),
    };
    // Answers once so many readings were heard of.
    let at_least = async move |Path(readings): Path<i64>| {
        // Listened to before it is looked: what is committed in between is not missed.
        let mut committed = context.committed();
        loop {
            match total(&context).await {
                Ok(total) if total.measured + total.refused < readings => {
                    if committed.next().await.is_none() {
                        return StatusCode::SERVICE_UNAVAILABLE.into_response();
                    }
                }
                enough => return told(enough),
            }
        }
    };
    Router::new()
        .route("/usage", get(async move || told(total(&now).await)))
        .route("/usage/at-least/{readings}", get(at_least))
}

fn main() -> ExitCode {
    Service::new(Tables).migrations(&sqlx::migrate!()).routes(routes).http("127.0.0.1:9202").main()
}
