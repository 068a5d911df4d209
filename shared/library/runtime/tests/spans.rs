//! Spans reach a collector that speaks OTLP over HTTP.

use axum::{Router, body::Bytes, http::HeaderMap, routing::post};
use quadrille_core::Record as _;
use quadrille_events::StockReplenishmentRequested;
use quadrille_testkit::TIMEOUT;
use tokio::{net::TcpListener, sync::mpsc, time::timeout};
use uuid::Uuid;

use crate::support::Shop;

const TRACE: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const PARENT: u64 = 0xb7ad_6b71_6920_3331;

/// Of protobuf's texts and ids the bytes stand in a message as they are.
#[tokio::test(flavor = "multi_thread")]
async fn an_input_is_a_span_of_the_trace_that_its_record_names() -> anyhow::Result<()> {
    let (sender, mut requests) = mpsc::unbounded_channel::<(HeaderMap, Bytes)>();
    let collect = post(async move |headers: HeaderMap, body: Bytes| drop(sender.send((headers, body))));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let mut shop = Shop::open().await?;
    let mut config = shop.config();
    config.telemetry.otlp_endpoint = format!("http://{}", listener.local_addr()?);
    let collector = tokio::spawn(axum::serve(listener, Router::new().route("/v1/traces", collect)).into_future());

    let value = shop.world.framed(&StockReplenishmentRequested::new("TEA".into(), Uuid::from_u128(1), 5)).await?;
    let trace = [("traceparent", format!("00-{TRACE:032x}-{PARENT:016x}-01"))];
    shop.world.send_raw(&StockReplenishmentRequested::TYPE.topic.name, Some(b"TEA"), &value, &trace).await?;
    let instance = shop.start_with(config);
    let stated = shop.stated(1).await?;
    // Whoever stops sends what waits.
    instance.stop().await?;
    let (headers, body) = timeout(TIMEOUT, requests.recv()).await?.expect("the collector listens");
    collector.abort();

    assert_eq!(headers["content-type"], "application/x-protobuf");
    let says = |part: &[u8]| body.windows(part.len()).any(|window| window == part);
    for text in ["quadrille-tally", "tally StockReplenishmentRequested", "messaging.system"] {
        assert!(says(text.as_bytes()), "the span says {text}");
    }
    assert!(says(&TRACE.to_be_bytes()) && says(&PARENT.to_be_bytes()), "it is of the record's trace, below its span");
    let carried_on = stated[0].header("traceparent").expect("facts carry the trace on").to_owned();
    let span = carried_on.strip_prefix(&format!("00-{TRACE:032x}-")).and_then(|rest| rest.strip_suffix("-01"));
    let span = u64::from_str_radix(span.expect("the same trace"), 16)?;
    assert!(span != PARENT && says(&span.to_be_bytes()), "and the fact is below that span");
    Ok(())
}
