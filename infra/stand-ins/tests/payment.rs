//! The payment provider: what each token makes of charges and refunds, as its README promises.

mod common;

use std::time::Duration;

use common::{ANYWHERE, Asker, scratch};
use quadrille_stand_ins::{Running, payment};
use serde_json::{Value, json};

struct Shop {
    provider: Asker,
    running: Running,
}

impl Shop {
    async fn open() -> Self {
        let running = payment::start(ANYWHERE, None).await.expect("a provider");
        Self { provider: Asker::new(running.url()), running }
    }

    async fn charge(&self, key: &str, token: &str) -> (u16, Value) {
        let wanted = json!({"order_id": "o", "amount": "19.99", "currency": "EUR", "token": token});
        self.provider.post("/charges", key, wanted).await
    }

    async fn refund(&self, key: &str, charge_id: &Value) -> (u16, Value) {
        let wanted = json!({"order_id": "o", "amount": "19.99", "currency": "EUR", "charge_id": charge_id});
        self.provider.post("/refunds", key, wanted).await
    }

    /// Charges, refunds and what is left.
    async fn sums(&self) -> (Value, Value, Value) {
        let (_, ledger) = self.provider.get("/ledger").await;
        let sums = &ledger["orders"]["o"];
        (sums["charges"].clone(), sums["refunds"].clone(), sums["net"].clone())
    }
}

#[tokio::test]
async fn a_key_is_charged_once_however_often_it_comes() {
    let shop = Shop::open().await;
    let (status, first) = shop.charge("k1", "tok_approve").await;
    assert_eq!((status, &first["status"]), (200, &json!("captured")));
    assert_eq!(first["idempotency_key"], json!("k1"));
    assert_eq!(shop.charge("k1", "tok_approve").await, (200, first.clone()));
    assert_eq!(shop.provider.get("/charges/k1").await, (200, first));
    assert_eq!(shop.sums().await, (json!(1), json!(0), json!("19.99")));
    let (_, ledger) = shop.provider.get("/ledger?order_id=o").await;
    assert_eq!((&ledger["charges"][0]["requests"], &ledger["charges"][0]["asked"]), (&json!(2), &json!(1)));
}

#[tokio::test]
async fn a_key_with_other_content_is_no_verdict_and_changes_nothing() {
    let shop = Shop::open().await;
    shop.charge("k1", "tok_approve").await;
    assert_eq!(shop.charge("k1", "tok_decline").await.0, 409);
    assert_eq!(shop.sums().await, (json!(1), json!(0), json!("19.99")));
}

#[tokio::test]
async fn a_forgotten_key_is_charged_again_and_the_ledger_shows_it() {
    let shop = Shop::open().await;
    shop.charge("k1", "tok_approve").await;
    assert_eq!(shop.provider.post("/forget", "", json!({})).await, (200, json!({"forgotten": 1})));
    assert_eq!(shop.provider.get("/charges/k1").await.0, 404);
    shop.charge("k1", "tok_approve").await;
    assert_eq!(shop.sums().await, (json!(2), json!(0), json!("39.98")));
}

#[tokio::test]
async fn what_is_declined_stays_declined() {
    let shop = Shop::open().await;
    for (token, reason) in [
        ("tok_decline", "card_declined"),
        ("tok_decline_stolen_card", "stolen_card"),
        ("tok_nonsense", "unknown_token"),
    ] {
        let (status, verdict) = shop.charge(token, token).await;
        assert_eq!((status, &verdict["status"], &verdict["reason"]), (402, &json!("declined"), &json!(reason)));
        assert_eq!(shop.provider.get(&format!("/charges/{token}")).await, (200, verdict));
    }
    assert_eq!(shop.sums().await, (json!(0), json!(0), json!("0.00")));
}

#[tokio::test]
async fn no_answer_may_mean_charged_or_not_and_a_question_tells() {
    let shop = Shop::open().await;
    assert_eq!(shop.charge("after", "tok_timeout_after_charge").await.0, 0);
    assert_eq!(shop.provider.get("/charges/after").await.1["status"], json!("captured"));
    assert_eq!(shop.charge("before", "tok_timeout_before").await.0, 0);
    let (status, told) = shop.provider.get("/charges/before").await;
    assert_eq!((status, &told["status"]), (404, &json!("unknown_key")));
    assert_eq!(told["idempotency_key"], json!("before"));
    assert_eq!(shop.sums().await.0, json!(1));
    assert_eq!(shop.charge("before", "tok_timeout_before").await.0, 200);
    assert_eq!(shop.sums().await.0, json!(2));
    // Not even its end is held up by those that it left without an answer.
    let end = tokio::time::timeout(Duration::from_secs(1), shop.running.stop());
    end.await.expect("an end at once").expect("an end in order");
}

#[tokio::test]
async fn a_provider_out_of_order_says_503_and_does_nothing() {
    let shop = Shop::open().await;
    for (token, end) in [("tok_fail_twice", 200), ("tok_decline_after_two_tries", 402)] {
        let mut statuses = vec![];
        for _ in 0..3 {
            statuses.push(shop.charge(token, token).await.0);
        }
        assert_eq!(statuses, [503, 503, end], "{token}");
    }
}

#[tokio::test]
async fn what_is_hidden_was_done_all_the_same() {
    let shop = Shop::open().await;
    assert_eq!(shop.charge("k1", "tok_unknown").await.0, 503);
    for _ in 0..5 {
        assert_eq!(shop.provider.get("/charges/k1").await.0, 503);
    }
    assert_eq!(shop.charge("k2", "tok_unknown_2").await.0, 503);
    assert_eq!(shop.provider.get("/charges/k2").await.0, 503);
    assert_eq!(shop.provider.get("/charges/k2").await.1["status"], json!("captured"));
    assert_eq!(shop.sums().await.0, json!(2));
}

#[tokio::test]
async fn refunds_are_refused_then_accepted_under_a_new_key() {
    let shop = Shop::open().await;
    let (_, charge) = shop.charge("c", "tok_refuse_refund_once").await;
    let (status, verdict) = shop.refund("r1", &charge["charge_id"]).await;
    assert_eq!((status, &verdict["status"], &verdict["reason"]), (422, &json!("refused"), &json!("refund_refused")));
    assert_eq!(shop.refund("r1", &charge["charge_id"]).await, (422, verdict));
    assert_eq!(shop.refund("r2", &charge["charge_id"]).await.1["status"], json!("refunded"));
    assert_eq!(shop.sums().await, (json!(1), json!(1), json!("0.00")));
    assert_eq!(shop.refund("r3", &json!("ch_nobody")).await.1["reason"], json!("unknown_charge"));
}

#[tokio::test]
async fn two_keys_are_two_refunds_so_that_a_doubled_one_is_seen() {
    let shop = Shop::open().await;
    let (_, charge) = shop.charge("c", "tok_approve").await;
    shop.refund("r1", &charge["charge_id"]).await;
    shop.refund("r2", &charge["charge_id"]).await;
    assert_eq!(shop.sums().await, (json!(1), json!(2), json!("-19.99")));
}

#[tokio::test]
async fn a_refund_has_its_own_time_outs() {
    let shop = Shop::open().await;
    let (_, charge) = shop.charge("c", "tok_refund_timeout_after").await;
    assert_eq!(shop.refund("r1", &charge["charge_id"]).await.0, 0);
    assert_eq!(shop.provider.get("/refunds/r1").await.1["status"], json!("refunded"));
}

#[tokio::test]
async fn bad_requests_are_no_verdicts() {
    let shop = Shop::open().await;
    let good = json!({"order_id": "o", "amount": "19.99", "currency": "EUR", "token": "tok_approve"});
    for (field, value) in [
        ("amount", json!("0.00")),
        ("amount", json!("19.999")),
        ("amount", json!(19.99)),
        ("currency", json!("EURO")),
        ("order_id", json!("")),
        ("token", json!("x".repeat(601))),
        ("token", json!(null)),
    ] {
        let mut bad = good.clone();
        bad[field] = value.clone();
        let (status, answer) = shop.provider.post("/charges", "k", bad).await;
        assert!((400..500).contains(&status), "{field} {value}: {status}");
        assert_eq!(answer["status"], json!(null), "{field} {value}");
    }
    assert_eq!(shop.provider.post("/charges", &"k".repeat(101), good).await.0, 400);
    let mut huge = json!({});
    huge["token"] = json!("x".repeat(100_000));
    assert_eq!(shop.provider.post("/charges", "k", huge).await.0, 413);
}

#[tokio::test]
async fn the_ledger_and_the_keys_outlive_the_provider() {
    let journal = scratch("payment");
    let running = payment::start(ANYWHERE, Some(&journal)).await.expect("a provider");
    let shop = Shop { provider: Asker::new(running.url()), running };
    shop.charge("k1", "tok_fail_twice").await;
    let (_, charge) = shop.charge("k2", "tok_refuse_refund_once").await;
    shop.refund("r1", &charge["charge_id"]).await;
    // Ended as by a kill: nothing is written at the end that was not written before.
    shop.running.stop().await.expect("an end");

    let running = payment::start(ANYWHERE, Some(&journal)).await.expect("the provider again");
    let shop = Shop { provider: Asker::new(running.url()), running };
    assert_eq!(shop.charge("k2", "tok_refuse_refund_once").await, (200, charge.clone()));
    assert_eq!(shop.charge("k1", "tok_fail_twice").await.0, 503);
    assert_eq!(shop.charge("k1", "tok_fail_twice").await.0, 200);
    assert_eq!(shop.refund("r2", &charge["charge_id"]).await.0, 200);
    assert_eq!(shop.sums().await, (json!(2), json!(1), json!("19.99")));
    let _ = std::fs::remove_file(journal);
}
