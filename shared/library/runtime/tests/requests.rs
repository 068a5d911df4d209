//! A service that requests something of another one: its record is what a client's would be.

use quadrille_core::{Decision, Envelope, Input, Moment, Nothing, Policy, Record as _, Row, records};
use quadrille_events::{StockReplenished, StockReplenishmentRequested};
use quadrille_testkit::decoded;
use uuid::Uuid;

use crate::support::{Instance, Shop, Versions, VersionsBySku, migrated, quantities};

records! { enum Heard { StockReplenished } }
records! { enum Stated { StockReplenishmentRequested } }

/// Requests two pieces more of whatever came as a single one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Reorders;

impl Policy for Reorders {
    const SERVICE: &'static str = "reorders";
    const TABLES: &'static [&'static str] = &["tally"];
    type State = VersionsBySku;
    type Heard = Heard;
    type Stated = Stated;
    type Effect = Nothing;
    type Outcome = Nothing;
    type Timer = Nothing;
    type Command = Nothing;

    fn rows(_: &VersionsBySku, input: &Envelope<Self>) -> Vec<Row> {
        vec![Row::new("tally", &input.key)]
    }

    fn react(_: &VersionsBySku, _: &Moment, input: &Envelope<Self>) -> Decision<Self> {
        match &input.input {
            Input::Record(Heard::StockReplenished(came)) if came.quantity == 1 => {
                Decision::fact(StockReplenishmentRequested::new(came.sku.clone(), Uuid::from_u128(2), 2))
            }
            _ => Decision::nothing(),
        }
    }

    fn evolve(_: &mut VersionsBySku, _: &Envelope<Self>, _: &Decision<Self>) {}

    fn version<'a>(_: &'a mut VersionsBySku, _: &Stated) -> &'a mut i64 {
        unreachable!("nobody numbers requests")
    }
}

/// It has neither version nor cause, and the time of its publication: not that of its decision, which may lie further back than its topic keeps
/// records, so that whoever is asked would find it too old.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_stated_as_a_client_would_send_it_and_never_too_old() -> anyhow::Result<()> {
    let shop = Shop::open().await?;
    let database = migrated(Versions::<Reorders>::service()).await?;
    // As if each fact had waited for its broker longer than any topic keeps a record.
    sqlx::raw_sql(
        "create function decided_long_ago() returns trigger language plpgsql as
             $$ begin new.time = now() - interval '400 days'; return new; end $$;
         create trigger decided_long_ago before insert on outbox for each row execute function decided_long_ago()",
    )
    .execute(&database.pool)
    .await?;
    let tally = shop.start();
    let config = shop.world.config("reorders", &database.url());
    let instance = Instance::start(Versions::<Reorders>::service(), config);

    shop.ask("TEA", 0).await?;
    assert_eq!(quantities(&shop.stated(2).await?), [1, 2], "the request was answered");
    let topic = &StockReplenishmentRequested::TYPE.topic.name;
    let requests = shop.world.read_until(topic, |records| records.len() == 2).await?;
    let request = requests.iter().find(|record| record.header("ce_id").is_some()).expect("the client's has no headers");
    assert_eq!(decoded::<StockReplenishmentRequested>(request)?.quantity, 2);
    assert_eq!(request.header("ce_source"), Some("/quadrille/reorders"));
    assert_eq!((request.header("ce_aggregateversion"), request.header("ce_causationid")), (None, None));
    let age = |ms: i64| chrono::Utc::now().timestamp_millis() - ms;
    let decided =
        request.header("ce_time").expect("it says when it was decided").parse::<chrono::DateTime<chrono::Utc>>()?;
    assert!(age(decided.timestamp_millis()) > 399 * 86_400_000, "{decided}");
    assert!(age(request.timestamp_ms) < 600_000, "{}", request.timestamp_ms);

    instance.stop().await?;
    tally.stop().await
}
