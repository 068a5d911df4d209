//! Every record type of the shop and of the platform: examples, round trips, and what is refused.

use proptest::{prelude::*, test_runner::TestRunner};
use quadrille_events::{Encoded, RECORD_TYPES, RecordInfo, TOPICS};
use quadrille_schemas::{Record, Schema, Type};
use serde_json::{Map, Value, json};

fn all() -> impl Iterator<Item = &'static RecordInfo> {
    RECORD_TYPES.iter().chain(quadrille_platform::RECORD_TYPES)
}

#[test]
fn every_example_is_a_record_and_reads_back_as_itself() {
    for info in all() {
        let encoded = info.from_json(info.example).unwrap_or_else(|error| panic!("{}: {error}", info.record.name));
        assert!(!encoded.key.is_empty());
        let json = info.to_json(&encoded.datum).expect("what was written is read");
        let (mut shown, example): (Value, Value) = (parsed(&json), parsed(info.example));
        let secrets: Vec<&str> = info.fields.iter().filter(|field| field.secret).map(|field| field.name).collect();
        for (field, value) in example.as_object().expect("an object") {
            if secrets.contains(&field.as_str()) {
                assert_eq!(shown[field], "***");
                shown[field] = value.clone();
            }
        }
        assert!(contains(&shown, &example), "{}: {json} lacks some of {}", info.record.name, info.example);
    }
}

#[test]
fn every_topic_has_its_records_in_the_registry() {
    for topic in TOPICS.iter().chain(quadrille_platform::TOPICS) {
        let records: Vec<&str> =
            all().filter(|info| info.record.topic == *topic).map(|info| info.record.name).collect();
        assert!(!records.is_empty() && records == *topic.records, "{}: {records:?}", topic.name);
    }
}

/// Any record of any type comes back as it was, and `apache-avro`'s other reader, which goes by the schema and knows
/// nothing of our types, reads the same datum to its end.
#[test]
fn any_record_comes_back_as_it_was() {
    let mut runner = TestRunner::deterministic();
    for info in all() {
        let schema = Schema::parse(info.record.schema).expect("a sound schema");
        let record = schema.record().expect("a record").clone();
        let avro = apache_avro::Schema::parse_str(info.record.schema).expect("a sound schema");
        let strategy = object(&schema, &record);
        for _ in 0..64 {
            let json = strategy.new_tree(&mut runner).expect("a value").current();
            let Encoded { datum, .. } = info
                .from_json(&json.to_string())
                .unwrap_or_else(|error| panic!("{}: {error}: {json}", info.record.name));
            let shown = parsed(&info.to_json(&datum).expect("what was written is read"));
            assert_eq!(shown, masked(&schema, &record, json), "{}", info.record.name);
            let mut rest = &datum[..];
            let reader = apache_avro::reader::datum::GenericDatumReader::builder(&avro).build().expect("a reader");
            reader.read_value(&mut rest).unwrap_or_else(|error| panic!("{}: {error}", info.record.name));
            assert!(rest.is_empty(), "{}", info.record.name);
        }
    }
}

/// A datum that ends early, or has more than its record, is no record; no datum makes a reader panic.
#[test]
fn what_is_cut_or_longer_is_refused() {
    for info in all() {
        let Encoded { datum, .. } = info.from_json(info.example).expect("an example");
        for length in 0..datum.len() {
            let error = info.to_json(&datum[..length]).expect_err("a cut datum").to_string();
            assert!(error.contains("ends within field `"), "{}: {error}", info.record.name);
        }
        let longer = [&datum[..], &[0]].concat();
        let error = info.to_json(&longer).expect_err("a longer datum").to_string();
        assert_eq!(error, "1 byte(s) follow the end of the record");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_a_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        for info in all() {
            if let Ok(json) = info.to_json(&bytes) {
                prop_assert!(serde_json::from_str::<Value>(&json).is_ok());
            }
        }
    }
}

fn parsed(json: &str) -> Value {
    serde_json::from_str(json).expect("JSON")
}

/// Whether `all` has everything that `some` has.
fn contains(all: &Value, some: &Value) -> bool {
    match (all, some) {
        (Value::Object(all), Value::Object(some)) => {
            some.iter().all(|(key, some)| all.get(key).is_some_and(|all| contains(all, some)))
        }
        (Value::Array(all), Value::Array(some)) => {
            all.len() == some.len() && all.iter().zip(some).all(|(all, some)| contains(all, some))
        }
        (all, some) => all == some,
    }
}

/// The JSON with secrets as they are shown.
fn masked(schema: &Schema, record: &Record, mut json: Value) -> Value {
    for field in &record.fields {
        let value = &mut json[&field.name];
        match &field.ty {
            _ if field.secret && !value.is_null() => *value = "***".into(),
            Type::Named(name) => *value = masked(schema, schema.record_named(name).expect("known"), value.take()),
            _ => {}
        }
    }
    json
}

fn object(schema: &Schema, record: &Record) -> BoxedStrategy<Value> {
    let fields: Vec<BoxedStrategy<(String, Value)>> = record
        .fields
        .iter()
        .map(|field| {
            let name = field.name.clone();
            value(schema, &field.ty).prop_map(move |value| (name.clone(), value)).boxed()
        })
        .collect();
    fields.prop_map(|fields| Value::Object(fields.into_iter().collect::<Map<_, _>>())).boxed()
}

fn value(schema: &Schema, ty: &Type) -> BoxedStrategy<Value> {
    match ty {
        Type::Boolean => any::<bool>().prop_map(Value::from).boxed(),
        Type::Int => any::<i32>().prop_map(Value::from).boxed(),
        Type::Long => any::<i64>().prop_map(Value::from).boxed(),
        Type::String => "\\PC{0,20}".prop_map(Value::from).boxed(),
        Type::Bytes => prop_oneof![Just(json!("")), Just(json!("AAoKAA==")), Just(json!("/////w=="))].boxed(),
        Type::Uuid => any::<u128>().prop_map(|id| json!(quadrille_events::Uuid::from_u128(id).to_string())).boxed(),
        Type::Time => (-62_135_596_800_000_000_i64..253_402_300_799_000_000)
            .prop_map(|micros| {
                json!(quadrille_schemas::wire::time::text(&quadrille_schemas::wire::time::from_micros(micros)))
            })
            .boxed(),
        Type::Decimal { .. } => (-999_999_999_999_i64..=999_999_999_999)
            .prop_map(|cents| json!(quadrille_events::Money::cents(cents).to_string()))
            .boxed(),
        Type::Array(items) => prop::collection::vec(value(schema, items), 0..4).prop_map(Value::from).boxed(),
        Type::Named(name) => object(schema, schema.record_named(name).expect("known")),
        _ => prop_oneof![Just(Value::Null), value(schema, ty.nullable().expect("nullable"))].boxed(),
    }
}
