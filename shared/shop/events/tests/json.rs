//! Records as JSON: what is taken, what is refused, and how it is said.

use quadrille_events::{Money, OrderRequested, UserRegistrationRequested, from_json, records_named, to_json};
use serde_json::{Value, json};

fn refusal(change: impl FnOnce(&mut Value)) -> String {
    let mut json: Value = serde_json::from_str(example("OrderRequested")).expect("JSON");
    change(&mut json);
    from_json::<OrderRequested>(&json.to_string()).expect_err("a refusal").to_string()
}

fn example(name: &str) -> &'static str {
    records_named(name).next().expect("a known record").example
}

#[test]
fn a_refusal_names_the_field() {
    let starts = |change: &dyn Fn(&mut Value), expected: &str| {
        let refusal = refusal(change);
        assert!(refusal.starts_with(expected), "{refusal}");
    };
    starts(&|json| json["order_id"] = json!("7"), "field `order_id`: a text of 1 bytes is not a UUID");
    starts(
        &|json| json["lines"][0]["quantity"] = json!("many"),
        "field `lines[0].quantity`: invalid type: string \"many\"",
    );
    starts(&|json| json["lines"][0]["quantity"] = json!(3_000_000_000_i64), "field `lines[0].quantity`: invalid value");
    starts(&|json| json["lines"][0]["quantty"] = json!(1), "field `lines[0].quantty` is not known");
    starts(&|json| json["note"] = json!(null), "field `note` is not known");
    starts(&|json| json["delivery"]["personal"]["nme"] = json!("x"), "field `delivery.personal.nme` is not known");
    starts(
        &|json| json["expected_total"] = json!("19.999"),
        "field `expected_total`: `19.999` has more than 2 decimals",
    );
    starts(&|json| json["expected_total"] = json!(19.999), "field `expected_total`: `19.999` has more than 2 decimals");
    starts(&|json| drop(json.as_object_mut().map(|json| json.remove("customer_id"))), "missing field `customer_id`");
}

#[test]
fn a_number_is_never_rounded() {
    let with = |total: &str| {
        let json = example("OrderRequested").replacen('{', &format!("{{ \"expected_total\": {total},"), 1);
        from_json::<OrderRequested>(&json).map(|order| order.expected_total).map_err(|error| error.to_string())
    };
    assert_eq!(with("19.99"), Ok(Some(Money::cents(1999))));
    assert_eq!(with("\"19.99\""), Ok(Some(Money::cents(1999))));
    assert_eq!(with("null"), Ok(None));
    let long = "19.99000000000000000001";
    assert!(with(long).expect_err("too many digits").contains("`19.99000000000000000001` has more than 2 decimals"));
    assert!(with("9999999999.990000001").expect_err("too many digits").contains("more than 2 decimals"));
    assert!(with("NaN").is_err());
}

#[test]
fn every_spelling_of_an_id_is_one_id() {
    let lower = "3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30";
    let shown = |id: &str| {
        let order: OrderRequested = from_json(&example("OrderRequested").replace(lower, id)).expect("an order");
        to_json(&order)
    };
    for spelling in [lower.to_uppercase(), format!("{{{lower}}}"), lower.replace('-', ""), format!("urn:uuid:{lower}")]
    {
        assert_eq!(shown(&spelling), shown(lower), "{spelling}");
    }
}

#[test]
fn a_secret_is_shown_nowhere() {
    let registration: UserRegistrationRequested =
        from_json(example("UserRegistrationRequested")).expect("a registration");
    assert!(registration.password_hash.expose().starts_with("$argon2id$"));
    for shown in [to_json(&registration), format!("{registration:?}"), format!("{registration:#?}")] {
        assert!(shown.contains("***") && !shown.contains("argon2id"), "{shown}");
    }
}
