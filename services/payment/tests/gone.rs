//! An order whose rows have gone is never charged again, whatever brings its goods back.

mod common;

use std::time::Duration;

use common::*;
use quadrille_core::{Policy as _, Record as _};
use quadrille_events::{TOPICS, payment::PaymentCaptured, reservation::StockReserved};
use quadrille_payment::{
    Payment,
    outside::{Provider, ProviderSettings},
    store::PaymentStore,
};
use quadrille_runtime::{Config, Service};
use quadrille_stand_ins::payment;
use quadrille_testkit::{Database, World, decoded};
use tokio_util::sync::CancellationToken;

#[tokio::test(flavor = "multi_thread")]
async fn goods_of_an_order_that_has_gone_are_not_charged_again() -> Result<(), Box<dyn std::error::Error>> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let provider = payment::start(([127, 0, 0, 1], 0).into(), None).await.expect("the stand-in");
    let mut world = World::new(TOPICS, &[Payment::SERVICE]).await?;
    let database = Database::fresh([]).await;
    let service = Service::new(PaymentStore)
        .migrations(&sqlx::migrate!())
        .outside(|settings: ProviderSettings| Ok(Provider::new(&settings)?));
    service.migrate(&database.url()).await?;
    let ended = "insert into gone (key, ended_at, beside) values ($1, now() - interval '11 years', false)";
    sqlx::query(ended).bind(ORDER.to_string()).execute(&database.pool).await?;

    let mut config: Config<ProviderSettings> = world.config("payment", &database.url());
    config.outside.url = provider.url();
    let stop = CancellationToken::new();
    let running = tokio::spawn(service.run_until(config, stop.clone().cancelled_owned()));
    let late = reserved();
    let new = StockReserved { order_id: id(7), ..reserved() };
    for (record, event) in [(&late, id(21)), (&new, id(22))] {
        let value = world.framed(record).await?;
        let headers = [("ce_id", event.to_string())];
        world.send_raw(&StockReserved::TYPE.topic.name, Some(record.key().as_bytes()), &value, &headers).await?;
    }

    let captured = world.read_until(&PaymentCaptured::TYPE.topic.name, |records| !records.is_empty()).await?;
    assert_eq!(decoded::<PaymentCaptured>(&captured[0])?.order_id, id(7), "others are charged as ever");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    let letter: (String, String) = loop {
        let letter = "select reason, record_type from dead_letter";
        if let Some(letter) = sqlx::query_as(letter).fetch_optional(&database.pool).await? {
            break letter;
        }
        assert!(tokio::time::Instant::now() < deadline, "no dead letter within a minute");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert_eq!(letter, ("too_old".to_owned(), StockReserved::TYPE.name.to_owned()));
    let effects = "select count(*) from effect where key = $1";
    let effects: i64 = sqlx::query_scalar(effects).bind(ORDER.to_string()).fetch_one(&database.pool).await?;
    assert_eq!(effects, 0);
    assert_eq!(world.read(&PaymentCaptured::TYPE.topic.name).await?.len(), 1);
    stop.cancel();
    running.await??;
    Ok(())
}
