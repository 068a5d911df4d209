//! Avro as others write it: blocks with sizes, other versions, other scales, other types.

use quadrille_core::{Record as _, RecordType};
use quadrille_events::{
    Money, OrderRequested, PriceChanged, ProductListed, RequestedLine, Resolution, StockReplenished, Uuid,
    WriterSchema, records_named,
};

fn datum(record: &impl quadrille_core::Record) -> Vec<u8> {
    let mut datum = Vec::new();
    record.encode(&mut datum);
    datum
}

fn order(lines: &[(&str, i32)]) -> OrderRequested {
    let lines = lines.iter().map(|(sku, quantity)| RequestedLine::new((*sku).to_owned(), *quantity)).collect();
    OrderRequested { lines, ..OrderRequested::new(Uuid::from_u128(1), Uuid::from_u128(2)) }
}

/// The order's datum with its lines written in other blocks than ours.
fn with_blocks(order: &OrderRequested, ours: &[u8], blocks: &[u8]) -> Vec<u8> {
    let whole = datum(order);
    let at = whole.windows(ours.len()).position(|window| window == ours).expect("our block");
    [&whole[..at], blocks, &whole[at + ours.len()..]].concat()
}

#[test]
fn blocks_with_sizes_and_several_blocks_are_read_like_one() {
    let order = order(&[("A", 1), ("B", 5)]);
    // One block of two lines, then the end: as we write it.
    let ours = [&[4][..], b"\x02A\x02", b"\x02B\x0a", &[0]].concat();
    // A count below zero is followed by the block's size in bytes.
    let sized = [&[3, 12][..], b"\x02A\x02", b"\x02B\x0a", &[0]].concat();
    let several = [&[2][..], b"\x02A\x02", &[1, 6], b"\x02B\x0a", &[0]].concat();
    for blocks in [&ours, &sized, &several] {
        let datum = with_blocks(&order, &ours, blocks);
        assert_eq!(OrderRequested::decode(&datum).as_ref(), Ok(&order));
        // Also on the way through another version of the schema.
        let plan = writer(&older(&OrderRequested::TYPE)).prepare(&OrderRequested::TYPE).expect("compatible");
        assert!(matches!(plan, Resolution::Resolve(_)));
    }
}

#[test]
fn a_block_that_claims_too_much_is_refused() {
    let order = order(&[("A", 1)]);
    let ours = [&[2][..], b"\x02A\x02", &[0]].concat();
    let claims = [
        vec![0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
        vec![0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0],
    ];
    for claim in claims {
        let datum = with_blocks(&order, &ours, &claim);
        assert!(OrderRequested::decode(&datum).is_err());
    }
}

#[test]
fn an_error_names_the_field() {
    let good = datum(&StockReplenished::new("TEA-1".into(), Uuid::from_u128(7), 5));
    let id = Uuid::from_u128(7).to_string();
    let bad = String::from_utf8(good).expect("text").replace(&id, &"x".repeat(36));
    let error = StockReplenished::decode(bad.as_bytes()).expect_err("no UUID").to_string();
    assert_eq!(error, "field `replenishment_id`: a text of 36 bytes is not a UUID");

    let mut order = datum(&order(&[("A", 1)]));
    let at = order.windows(3).position(|window| window == b"\x02A\x02").expect("the line") + 1;
    order[at] = 0xff;
    let error = OrderRequested::decode(&order).expect_err("no UTF-8").to_string();
    assert!(error.starts_with("field `lines[0].sku`: "), "{error}");
}

#[test]
fn a_price_of_another_scale_is_refused_never_misread() {
    let text = ProductListed::TYPE.schema.replace("\"scale\": 2", "\"scale\": 4");
    let error = writer(&text).prepare(&ProductListed::TYPE).expect_err("another scale").to_string();
    assert_eq!(
        error,
        "written with another schema of quadrille.product.ProductListed: field `price` is decimal(12,4) in the writer's \
         schema, where decimal(12,2) is expected"
    );
}

#[test]
fn another_full_name_is_never_decoded_as_something_else() {
    let writer = writer(PriceChanged::TYPE.schema);
    assert_eq!(writer.name(), "quadrille.product.PriceChanged");
    assert!(writer.prepare(&ProductListed::TYPE).is_err());
    assert!(matches!(writer.prepare(&PriceChanged::TYPE), Ok(Resolution::Same)));
}

#[test]
fn docs_defaults_and_attributes_leave_the_datum_as_it_is() {
    let text = ProductListed::TYPE.schema.replace("ISO 4217", "Some").replace("\"default\": \"\", ", "");
    assert_ne!(text, ProductListed::TYPE.schema);
    assert!(matches!(writer(&text).prepare(&ProductListed::TYPE), Ok(Resolution::Same)));
}

#[test]
fn a_field_more_or_less_is_resolved() {
    for info in records_named("OrderCreated").chain(records_named("ProductListed")) {
        let encoded = info.from_json(info.example).expect("an example");
        // From a writer without our last field: its default stands in. The last fields here are digest and currency.
        let older = older(&info.record);
        let older_type = RecordType { schema: older.clone().leak(), ..info.record };
        let to_older = writer(info.record.schema).prepare(&older_type).expect("compatible");
        let older_datum = to_older.apply(&encoded.datum).expect("resolved").into_owned();
        assert!(older_datum.len() < encoded.datum.len());
        let to_ours = writer(&older).prepare(&info.record).expect("compatible");
        let back = to_ours.apply(&older_datum).expect("resolved");
        let shown = info.to_json(&back).expect("a record");
        assert!(shown.contains("\"19.99\""), "{shown}");
        assert!(shown.contains("_digest\":\"\"") || shown.contains("\"currency\":\"\""), "{shown}");

        // From a writer with one field more, of a type that we know nothing of: it is left out.
        let newer = info.record.schema.replacen(
            "\"fields\": [",
            r#""fields": [ { "name": "grade", "type": { "type": "enum", "name": "Grade", "symbols": ["A", "B"] }, "default": "A" }, "#,
            1,
        );
        let to_ours = writer(&newer).prepare(&info.record).expect("compatible");
        let newer_datum = [&[2][..], &encoded.datum].concat();
        assert_eq!(&*to_ours.apply(&newer_datum).expect("resolved"), &encoded.datum[..]);
        assert!(to_ours.apply(&newer_datum[..5]).is_err(), "cut");
        assert!(to_ours.apply(&[&newer_datum[..], &[0]].concat()).is_err(), "longer");
    }
}

#[test]
fn small_amounts_survive_resolution() {
    let record = ProductListed { currency: "EUR".into(), ..ProductListed::new("TEA-1".into(), Money::cents(1)) };
    let older = older(&ProductListed::TYPE);
    let older_type = RecordType { schema: older.clone().leak(), ..ProductListed::TYPE };
    let datum = datum(&record);
    let older_datum = writer(ProductListed::TYPE.schema).prepare(&older_type).expect("compatible");
    let older_datum = older_datum.apply(&datum).expect("resolved").into_owned();
    let back = writer(&older).prepare(&ProductListed::TYPE).expect("compatible");
    let back = ProductListed::decode(&back.apply(&older_datum).expect("resolved")).expect("a record");
    assert_eq!(back, ProductListed { currency: String::new(), ..record });
}

#[test]
fn what_is_no_writers_schema_is_refused() {
    let refused = |text: &str| WriterSchema::new(text).expect_err(text).to_string();
    assert!(refused("{").starts_with("the writer's schema is not JSON"));
    assert_eq!(refused("\"string\""), "the writer's schema is no record but string");
    let list = r#"{ "type": "record", "name": "a.L", "fields": [{ "name": "next", "type": ["null", "a.L"] }] }"#;
    assert_eq!(refused(list), "the writer's schema a.L contains itself, which bounds no depth");
}

/// What a stranger promises and does not send takes no memory: items that are missing, a value without its bytes, a text without end.
#[test]
fn what_is_promised_and_not_there_is_refused_before_room_is_made_for_it() {
    let flags: Vec<String> = (0..2_000).map(|n| format!(r#"{{ "name": "b{n}", "type": "boolean" }}"#)).collect();
    let items = format!(r#"{{ "type": "record", "name": "a.I", "fields": [{}] }}"#, flags.join(","));
    let list = format!(r#"{{ "type": "array", "items": {items} }}"#);
    let fixed = r#"{ "type": "fixed", "name": "a.F", "size": 4611686018427387904 }"#;
    // An id, and of the list a count of 200,000 items.
    for (ty, datum) in [(list.as_str(), &[2, b'x', 0x80, 0xb5, 0x18][..]), (fixed, &[2, b'x'])] {
        let text = format!(
            r#"{{ "type": "record", "name": "a.R", "fields": [{{ "name": "id", "type": "string" }}, {{ "name": "more", "type": {ty} }}] }}"#
        );
        let ours = r#"{ "type": "record", "name": "a.R", "fields": [{ "name": "id", "type": "string" }] }"#;
        let plan = writer(&text).prepare(&RecordType { name: "a.R", schema: ours, ..ProductListed::TYPE });
        let refused = plan.expect("it has what we need").apply(datum).expect_err("not whole").to_string();
        assert_eq!(refused, "the datum ends early, or is none of its writer's schema");
    }
    let long = format!(r#"{{ "type": "record", "name": "a.{}", "fields": [] }}"#, "R".repeat(256 * 1024));
    assert!(WriterSchema::new(&long).expect_err("too long").to_string().contains("at most 262144 are read"));
}

fn writer(text: &str) -> WriterSchema {
    WriterSchema::new(text).expect("a sound schema")
}

/// The schema without its last field, which has a default.
fn older(record: &RecordType) -> String {
    let mut json: serde_json::Value = serde_json::from_str(record.schema).expect("JSON");
    let fields = json["fields"].as_array_mut().expect("fields");
    assert!(fields.pop().is_some_and(|field| field.get("default").is_some()));
    json.to_string()
}
