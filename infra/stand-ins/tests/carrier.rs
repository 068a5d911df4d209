//! The carrier: what each way of delivery makes of a parcel, as its README promises.

mod common;

use std::time::Duration;

use common::{ANYWHERE, Asker, scratch};
use quadrille_stand_ins::{Running, carrier};
use serde_json::{Value, json};

struct Depot {
    carrier: Asker,
    _running: Running,
}

impl Depot {
    async fn open() -> Self {
        Self::of(carrier::start(ANYWHERE, None, 50).await.expect("a carrier"))
    }

    fn of(running: Running) -> Self {
        Self { carrier: Asker::new(running.url()), _running: running }
    }

    async fn hand_over(&self, key: &str, method: &str) -> (u16, Value) {
        self.carrier.post("/parcels", key, json!({"order_id": "o", "method": method})).await
    }

    /// Hands a parcel over and says how it is called from then on.
    async fn accepted(&self, method: &str) -> String {
        let (status, answer) = self.hand_over(method, method).await;
        assert_eq!((status, &answer["status"]), (200, &json!("accepted")), "{method}");
        answer["tracking_id"].as_str().expect("a tracking id").to_owned()
    }

    async fn track(&self, tracking_id: &str) -> Value {
        self.carrier.get(&format!("/parcels/{tracking_id}")).await.1["status"].clone()
    }

    async fn recall(&self, key: &str, tracking_id: &str) -> (u16, Value) {
        let (status, answer) = self.carrier.post(&format!("/parcels/{tracking_id}/recall"), key, json!({})).await;
        (status, answer["status"].clone())
    }
}

async fn a_while() {
    tokio::time::sleep(Duration::from_millis(80)).await;
}

#[tokio::test]
async fn a_parcel_is_under_way_then_delivered() {
    let depot = Depot::open().await;
    let parcel = depot.accepted("standard").await;
    assert_eq!(depot.track(&parcel).await, json!("under_way"));
    a_while().await;
    assert_eq!(depot.track(&parcel).await, json!("delivered"));
    assert_eq!(depot.recall("r", &parcel).await, (200, json!("delivered")));
    let express = depot.accepted("express").await;
    assert_eq!(depot.track(&express).await, json!("delivered"));
}

#[tokio::test]
async fn a_key_hands_over_one_parcel_however_often_it_comes() {
    let depot = Depot::open().await;
    let (_, first) = depot.hand_over("k", "standard").await;
    assert_eq!(depot.hand_over("k", "standard").await, (200, first.clone()));
    assert_eq!(depot.carrier.get("/hand-overs/k").await, (200, first));
    assert_eq!(depot.hand_over("k", "refuse").await.0, 409);
    let (_, all) = depot.carrier.get("/parcels?order_id=o").await;
    assert_eq!((all["parcels"].as_array().map(Vec::len), &all["parcels"][0]["requests"]), (Some(1), &json!(3)));
}

#[tokio::test]
async fn parcels_are_refused_lost_and_returned() {
    let depot = Depot::open().await;
    let (status, answer) = depot.hand_over("k", "refuse").await;
    assert_eq!((status, &answer["reason"]), (422, &json!("no_service")));
    assert_eq!(depot.carrier.get("/hand-overs/k").await, (200, answer));
    assert_eq!(depot.hand_over("p", "pigeon").await.1["reason"], json!("unknown_method"));

    let lost = depot.accepted("lose").await;
    assert_eq!(depot.carrier.get(&format!("/parcels/{lost}")).await.0, 404);
    assert_eq!(depot.recall("r", &lost).await.0, 404);

    let returned = depot.accepted("return").await;
    assert_eq!(depot.track(&returned).await, json!("under_way"));
    a_while().await;
    assert_eq!(depot.track(&returned).await, json!("returned"));
}

#[tokio::test]
async fn a_recall_brings_a_parcel_back_now_later_or_too_late() {
    let depot = Depot::open().await;
    let kept = depot.accepted("keep").await;
    assert_eq!(depot.recall("r1", &kept).await, (200, json!("returned")));
    assert_eq!(depot.carrier.get("/recalls/r1").await.1["status"], json!("returned"));

    let slow = depot.accepted("recall_slow_50").await;
    assert_eq!(depot.recall("r2", &slow).await, (200, json!("under_way")));
    a_while().await;
    assert_eq!(depot.track(&slow).await, json!("returned"));

    let late = depot.accepted("recall_too_late").await;
    assert_eq!(depot.track(&late).await, json!("under_way"));
    assert_eq!(depot.recall("r3", &late).await, (200, json!("delivered")));
    assert_eq!(depot.track(&late).await, json!("delivered"));
}

#[tokio::test]
async fn no_answer_may_mean_accepted_or_not_and_a_question_tells() {
    let depot = Depot::open().await;
    assert_eq!(depot.hand_over("after", "timeout_after_accept").await.0, 0);
    assert_eq!(depot.carrier.get("/hand-overs/after").await.1["status"], json!("accepted"));
    assert_eq!(depot.hand_over("before", "timeout_before_accept").await.0, 0);
    let (status, told) = depot.carrier.get("/hand-overs/before").await;
    assert_eq!((status, &told["status"]), (404, &json!("unknown_key")));
    assert_eq!(depot.hand_over("before", "timeout_before_accept").await.0, 200);

    let parcel = depot.accepted("recall_timeout_after").await;
    assert_eq!(depot.recall("r1", &parcel).await.0, 0);
    assert_eq!(depot.carrier.get("/recalls/r1").await.1["status"], json!("returned"));
    let parcel = depot.accepted("recall_timeout_before").await;
    assert_eq!(depot.recall("r2", &parcel).await.0, 0);
    assert_eq!(depot.carrier.get("/recalls/r2").await.0, 404);
    assert_eq!(depot.track(&parcel).await, json!("under_way"));
}

#[tokio::test]
async fn a_carrier_out_of_order_says_503() {
    let depot = Depot::open().await;
    let mut statuses = vec![];
    for _ in 0..3 {
        statuses.push(depot.hand_over("k", "accept_fail_twice").await.0);
    }
    assert_eq!(statuses, [503, 503, 200]);
    assert_eq!(depot.hand_over("u", "accept_unknown").await.0, 503);
    assert_eq!(depot.carrier.get("/hand-overs/u").await.0, 503);
}

#[tokio::test]
async fn parcels_and_keys_outlive_the_carrier() {
    let journal = scratch("carrier");
    let start = || carrier::start(ANYWHERE, Some(&journal), 50);
    let running = start().await.expect("a carrier");
    let depot = Depot::of(running);
    let (_, first) = depot.hand_over("k", "keep").await;
    let parcel = first["tracking_id"].as_str().expect("a tracking id").to_owned();
    depot._running.stop().await.expect("an end");

    let depot = Depot::of(start().await.expect("the carrier again"));
    assert_eq!(depot.hand_over("k", "keep").await, (200, first));
    assert_eq!(depot.recall("r", &parcel).await, (200, json!("returned")));
    depot._running.stop().await.expect("an end");

    let depot = Depot::of(start().await.expect("the carrier a third time"));
    assert_eq!(depot.track(&parcel).await, json!("returned"));
    let _ = std::fs::remove_file(journal);
}
