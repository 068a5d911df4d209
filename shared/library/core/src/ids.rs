//! Ids are computed, never drawn: the same input has the same id wherever and however often it is handled.
//!
//! All are version 5 UUIDs ([RFC 9562](https://www.rfc-editor.org/rfc/rfc9562#section-5.5)) in Quadrille's own namespace. The
//! hashed name is its parts as [netstrings](https://cr.yp.to/proto/netstrings.txt) (`5:order,`), so that no two lists of parts
//! give one name. Numbers are written in decimal, times in milliseconds. Test vectors stand in docs/events.md.

use std::fmt::Write;

use uuid::Uuid;

/// Quadrille's namespace for version 5 UUIDs.
pub const NAMESPACE: Uuid = Uuid::from_u128(0x51117bdc_5945_44e5_a50e_4821f1c2f7a0);

/// The version 5 UUID of a list of parts.
pub fn v5(parts: &[&str]) -> Uuid {
    let mut name = String::with_capacity(parts.iter().map(|part| part.len() + 6).sum());
    for part in parts {
        // Writing to a String cannot fail.
        let _ = write!(name, "{}:{part},", part.len());
    }
    Uuid::new_v5(&NAMESPACE, name.as_bytes())
}

/// A request that names itself. Topic, key, record type and source are hashed too, so that neither two clients, nor a computed id, nor one
/// client's id for two kinds of request can silence anybody.
pub fn request(topic: &str, key: &str, record_type: &str, source: &str, ce_id: &str) -> Uuid {
    v5(&[topic, key, record_type, source, ce_id])
}

/// The same as builds spelled it that did not count the record type in: known beside [`request`] for as long as request topics keep records
/// from before an upgrade, so that a redelivery over it takes no effect twice. None where it would be what an [`anonymous_request`] has.
pub fn former_request(topic: &str, key: &str, source: &str, ce_id: &str) -> Option<Uuid> {
    let is_number = |part: &str| part.parse::<i64>().is_ok();
    let parts = [key, source, ce_id];
    (!parts.into_iter().all(is_number)).then(|| v5(&[topic, key, source, ce_id]))
}

/// A record without an id of its own: a request without `ce_id`, a record of a state topic. The timestamp tells a topic that was made anew from the one before.
pub fn anonymous_request(topic: &str, partition: i32, offset: i64, timestamp_ms: i64) -> Uuid {
    v5(&[topic, &partition.to_string(), &offset.to_string(), &timestamp_ms.to_string()])
}

/// A command, by who tells it to `service` (`subject`), where (`route`: the method and the route's template, as `POST /orders/{id}`) and under
/// which `key` of theirs. The subject is hashed too, so that nobody can silence another one's command.
pub fn command(service: &str, subject: &str, route: &str, key: &str) -> Uuid {
    v5(&[service, "command", subject, route, key])
}

/// The `ordinal`-th fact of one type that `input` made `service` state, counted from 0.
pub fn fact(service: &str, input: Uuid, record_type: &str, ordinal: usize) -> Uuid {
    v5(&[service, &input.to_string(), record_type, &ordinal.to_string()])
}

/// The `ordinal`-th timer of one name that `input` made `service` set, counted from 0.
pub fn timer(service: &str, input: Uuid, name: &str, ordinal: usize) -> Uuid {
    v5(&[service, &input.to_string(), name, &ordinal.to_string()])
}

/// The `ordinal`-th effect of one name that `input` made `service` want, counted from 0. It is the idempotency key that the outside sees.
/// The first one, which mostly is the only one, has no ordinal in its id.
pub fn effect(service: &str, input: Uuid, name: &str, ordinal: usize) -> Uuid {
    let (input, number) = (input.to_string(), ordinal.to_string());
    let parts = [service, &input, "effect", name, &number];
    v5(if ordinal == 0 { &parts[..4] } else { &parts })
}

/// What became of an effect, as an input.
pub fn outcome(effect: Uuid, outcome: &str) -> Uuid {
    v5(&[&effect.to_string(), outcome])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_netstrings_so_that_parts_cannot_run_into_one_another() {
        assert_ne!(v5(&["ab", "c"]), v5(&["a", "bc"]));
        assert_ne!(v5(&["a,1:b"]), v5(&["a", "b"]));
        assert_eq!(v5(&["order"]), Uuid::new_v5(&NAMESPACE, b"5:order,"));
    }

    #[test]
    fn a_former_id_is_no_anonymous_requests() {
        let numbers = ("stock.requests", "3", "1000", "1700000000000");
        assert_eq!(former_request(numbers.0, numbers.1, numbers.2, numbers.3), None);
        assert_ne!(former_request("stock.requests", "3", "/shop", "1700000000000"), None);
    }

    /// The vectors of docs/events.md, computed there by Python's uuid module: whoever computes ids elsewhere checks against these.
    #[test]
    fn vectors() {
        let input = Uuid::from_u128(0x67e55044_10b1_426f_9247_bb680e5fe0c8);
        let charge = effect("payment", input, "charge", 0);
        for (id, expected) in [
            (
                request("order.requests", &input.to_string(), "quadrille.order.OrderRequested", "/shop", "42"),
                "b2a15cd5-eb50-57de-8428-58dcd9d2b87e",
            ),
            (
                former_request("order.requests", &input.to_string(), "/shop", "42").expect("its key is no number"),
                "e53958dd-b901-5a39-a432-aab5fa239f4a",
            ),
            (anonymous_request("order.requests", 3, 1000, 1_700_000_000_000), "e2a3f129-d1a8-58f1-8ef4-881c36a471ac"),
            (command("gateway", "ann", "POST /orders", "42"), "4cdf3bea-2707-55d7-b1c8-c9b87c3b4048"),
            (fact("order", input, "quadrille.order.OrderCreated", 0), "c4e87034-9842-5a7c-9095-168a17140fe2"),
            (timer("order", input, "confirm_by", 0), "95659eaf-d76d-5211-bbb8-36618a8ad415"),
            (effect("payment", input, "charge", 1), "97845a78-277a-57d7-be74-4191fa05949c"),
            (charge, "620fd141-3c4f-5ad7-a6c3-fe509b7a4d8a"),
            (outcome(charge, "captured"), "89ef95fe-5e33-5ac6-9237-9fcd11119535"),
        ] {
            assert_eq!(id.to_string(), expected);
        }
    }
}
