//! Same content: the byte form and its digest, which no later schema may change.

use quadrille_events::{Content, OrderRequested, Personal, digest_hex, from_json, records_named};

fn order(json: &str) -> OrderRequested {
    from_json(json).expect("an order")
}

fn bytes(request: &impl Content) -> String {
    let mut json = Vec::new();
    request.write(&mut json);
    String::from_utf8(json).expect("UTF-8")
}

#[test]
fn the_byte_form_has_what_is_not_at_its_default_sorted_by_name() {
    let example = order(records_named("OrderRequested").next().expect("known").example);
    assert_eq!(
        bytes(&example),
        concat!(
            r#"{"currency":"EUR","customer_id":"6f1d3c58-1f0e-4c5e-9a37-2b8f0d9e4a11","delivery":{"method":"standard","#,
            r#""personal":{"address":"1 Harbour Street, 20095 Hamburg","email":"ann@example.com","name":"Ann Example"}},"#,
            r#""lines":[{"quantity":2,"sku":"TEA-1"}],"order_id":"3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30","#,
            r#""payment_token":"tok_approve"}"#
        )
    );
}

#[test]
fn digests_are_fixed() {
    // Printed once and kept: a change here means that a repeat of an older request would be refused as another one.
    let order = order(records_named("OrderRequested").next().expect("known").example);
    let user: quadrille_events::UserRegistrationRequested =
        from_json(records_named("UserRegistrationRequested").next().expect("known").example).expect("a registration");
    assert_eq!([digest_hex(&order), digest_hex(&user)], [ORDER_REQUESTED, USER_REGISTRATION_REQUESTED]);
}

const ORDER_REQUESTED: &str = "4fa3183c151e57fc88cdfed2593f8fc319cdfa0f250c6bdfeb644b56ca8d5340";
const USER_REGISTRATION_REQUESTED: &str = "c3544da19e1f9d19be7a9b36c09a8b8ee6bbceb4556e7b2daea1a3ac3a53a7d4";

#[test]
fn spelling_and_defaults_do_not_matter_but_content_does() {
    let plain = order(
        r#"{ "order_id": "3b2a9f5e-7c41-4d8a-8e06-5a1c7d2e9f30", "customer_id": "6f1d3c58-1f0e-4c5e-9a37-2b8f0d9e4a11", "expected_total": "5.00" }"#,
    );
    let same = order(
        r#"{ "customer_id": "6F1D3C581F0E4C5E9A372B8F0D9E4A11", "order_id": "{3B2A9F5E-7C41-4D8A-8E06-5A1C7D2E9F30}",
             "expected_total": 5, "confirm_within_ms": null, "currency": "", "lines": [],
             "delivery": { "method": "", "personal": { "name": null } } }"#,
    );
    assert_eq!(plain, same);
    assert_eq!(digest_hex(&plain), digest_hex(&same));
    assert!(!bytes(&plain).contains("delivery"));

    let mut changed = plain.clone();
    changed.delivery.personal = Personal { name: Some(String::new()), ..Personal::default() };
    assert_ne!(digest_hex(&plain), digest_hex(&changed), "an empty text is not null");
    let fewer = OrderRequested { expected_total: None, ..plain.clone() };
    assert_ne!(digest_hex(&plain), digest_hex(&fewer));
}
