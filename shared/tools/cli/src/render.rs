//! A record as people and scripts see it.

use chrono::{DateTime, SecondsFormat, Utc};
use quadrille_schemas::wire::RecordInfo;
use serde::Serialize;
use serde_json::{Value, value::RawValue};

use crate::{
    codec::Decoded,
    kafka::Record,
    output::{Paint, printable, short},
};

/// A record for scripts: one object.
#[derive(Debug, Serialize)]
pub struct Shown {
    topic: String,
    partition: i32,
    offset: i64,
    timestamp: String,
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<i64>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    record_type: Option<String>,
    value: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Shown {
    /// Puts a record and what it turned out to be together.
    pub fn of(record: &Record, decoded: &Decoded) -> Self {
        let event = record.event();
        let said = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        let (record_type, value, error) = match decoded {
            Decoded::Record { info, json } => (Some(info.record.name), RawValue::from_string(json.clone()).ok(), None),
            Decoded::Dynamic { name, json } => {
                let value = json.clone().and_then(|json| RawValue::from_string(json).ok());
                (Some(name.as_str()), value, Some("the type is not known on this topic".into()))
            }
            Decoded::Null => (None, None, None),
            Decoded::Bad { reason, of } => (of.map(|info| info.record.name), None, Some(reason.clone())),
        };
        Self {
            topic: record.topic.to_string(),
            partition: record.partition,
            offset: record.offset,
            timestamp: rfc3339(record.timestamp_ms),
            key: record.key.as_ref().map(|_| record.key_text()),
            id: said(event.id),
            source: said(event.source),
            correlation: said(event.correlation),
            causation: said(event.causation),
            version: event.version.parse().ok(),
            record_type: record_type.map(str::to_owned),
            value,
            error,
        }
    }
}

/// A point in time for scripts.
pub fn rfc3339(ms: i64) -> String {
    time(ms).to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// A point in time for people who watch: the time of day, UTC.
pub fn clock(ms: i64) -> String {
    time(ms).format("%H:%M:%S%.3f").to_string()
}

fn time(ms: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_millis(ms).unwrap_or_default()
}

/// A record on one line, in its saga's colour.
pub fn line(paint: Paint, record: &Record, decoded: &Decoded) -> String {
    let key = short(&record.key_text());
    let saga = saga(record);
    let place = format!("{:<26}", record.place());
    let time = clock(record.timestamp_ms);
    let what = match decoded {
        Decoded::Record { info, json } => {
            let name = format!("{:<24}", info.short_name());
            format!("{}  {}  {}", paint.saga(&saga, &name), paint.saga(&saga, &key), brief(info, json))
        }
        Decoded::Dynamic { name, .. } => {
            format!("{}  {key}  (a type that this topic is not declared to have)", short(name))
        }
        Decoded::Null => format!("{:<24}  {key}", "(no value)"),
        Decoded::Bad { reason, .. } => paint.bad(&format!("{:<24}  {key}  {}", "(not decodable)", printable(reason))),
    };
    format!("{}  {}  {what}", paint.faint(&time), paint.faint(&place))
}

/// What a record belongs to: its correlation id, else its key.
pub fn saga(record: &Record) -> String {
    Some(record.event().correlation).filter(|id| !id.is_empty()).map_or_else(|| record.key_text(), str::to_owned)
}

/// The fields that say something, short: no key (it stands beside), nothing at its default, one level of nesting.
pub fn brief(info: &RecordInfo, json: &str) -> String {
    parts(info, json).join(" ")
}

/// The same, field by field: `name=value`.
pub fn parts(info: &RecordInfo, json: &str) -> Vec<String> {
    let Ok(Value::Object(value)) = serde_json::from_str(json) else { return vec![printable(json)] };
    let mut parts = Vec::new();
    let fields = info.fields.iter().filter(|field| field.name != key_field(info));
    for (field, value) in fields.filter_map(|field| Some((field, value.get(field.name)?))) {
        let is_default = |default: &str| serde_json::from_str::<Value>(default).is_ok_and(|default| default == *value);
        if field.default.is_some_and(is_default) {
            continue;
        }
        match value {
            Value::Object(inner) => {
                let said = |(name, value): (&String, &Value)| {
                    (!value.is_object()).then(|| scalar(value))?.map(|text| format!("{}.{name}={text}", field.name))
                };
                parts.extend(inner.iter().filter_map(said));
            }
            value => parts.extend(scalar(value).map(|text| format!("{}={text}", field.name))),
        }
    }
    parts
}

/// The field that is the record key.
pub fn key_field(info: &RecordInfo) -> &'static str {
    // The attribute stands in the schema's text, which the generator has checked.
    let marker = "\"quadrille.key\": \"";
    let after = info.record.schema.split_once(marker).map_or("", |(_, after)| after);
    after.split('"').next().unwrap_or("")
}

fn scalar(value: &Value) -> Option<String> {
    const LONGEST: usize = 60;
    match value {
        Value::Null => None,
        // An empty text and the year 1970 stand for what is not stated.
        Value::String(text) if text.is_empty() || text.starts_with("1970-01-01T00:00:00") => None,
        // A digest or the like says nothing to people beyond its first digits.
        Value::String(text) if text.len() >= 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
            Some(format!("{}…", &text[..8]))
        }
        Value::String(text) => {
            let mut short: String = text.chars().take(LONGEST).collect();
            if short.len() < text.len() {
                short.push('…');
            }
            let short = printable(&short);
            Some(if short.contains(' ') { format!("'{short}'") } else { short })
        }
        Value::Array(items) if items.len() <= 3 => {
            Some(format!("[{}]", items.iter().filter_map(scalar).collect::<Vec<_>>().join(", ")))
        }
        Value::Array(items) => Some(format!("[{} items]", items.len())),
        // Of a line the SKU first: what it is, then how many.
        Value::Object(fields) => {
            let (first, rest): (Vec<_>, Vec<_>) = fields.iter().partition(|(name, _)| *name == "sku");
            let texts = first.into_iter().chain(rest).filter_map(|(_, value)| scalar(value));
            Some(texts.collect::<Vec<_>>().join(" "))
        }
        value => Some(value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{testing::CATALOGUE, types};

    #[test]
    fn a_line_says_what_matters() {
        let info = types::named(&CATALOGUE, "OrderCancelled").expect("known");
        let json = r#"{"order_id":"3b2a","customer_id":"6f1d","reason":"requested","detail":"","total":"39.98","currency":"EUR"}"#;
        assert_eq!(key_field(info), "order_id");
        assert_eq!(brief(info, json), "customer_id=6f1d reason=requested total=39.98 currency=EUR");
        let info = types::named(&CATALOGUE, "OrderRequested").expect("known");
        let json = r#"{"order_id":"3b2a","lines":[{"sku":"TEA-1","quantity":5},{"sku":"CUP-2","quantity":1}],"delivery":{"method":"keep","personal":{"name":"Ann"}},"expected_total":null}"#;
        assert_eq!(brief(info, json), "lines=[TEA-1 5, CUP-2 1] delivery.method=keep");
    }
}
