//! `quadrille example`: a valid JSON to start from.

use anyhow::{Context, anyhow};
use quadrille_schemas::wire::RecordInfo;
use serde_json::Value;
use uuid::Uuid;

use crate::{
    Catalogue,
    output::{self, Table},
    render, types,
};

/// What to change in the example.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The fields with their docs instead of an example.
    pub docs: bool,
    /// A new UUID as the key, so that it is nobody's yet.
    pub fresh: bool,
    /// `path=value`, e.g. `lines.0.quantity=5`.
    pub set: Vec<String>,
}

/// Prints an example of a type; without one, all types.
pub fn run(catalogue: &Catalogue, name: Option<&str>, options: &Options) -> anyhow::Result<()> {
    let Some(name) = name else { return list(catalogue) };
    let info = types::named(catalogue, name)?;
    if options.docs { explain(info) } else { output::line(&text(info, options)?) }
}

/// A type's example, changed as asked.
pub fn text(info: &RecordInfo, options: &Options) -> anyhow::Result<String> {
    let mut text = info.example.to_owned();
    if options.fresh {
        let example: Value = serde_json::from_str(&text)?;
        let key = example[render::key_field(info)].as_str().filter(|key| Uuid::try_parse(key).is_ok());
        let key =
            key.with_context(|| format!("The keys of {} are no UUIDs: choose one by --set", info.record.topic.name))?;
        text = text.replace(key, &Uuid::new_v4().to_string());
    }
    if options.set.is_empty() {
        return Ok(text);
    }
    let mut example: Value = serde_json::from_str(&text)?;
    for change in &options.set {
        let (path, value) = change
            .split_once('=')
            .with_context(|| format!("--set '{change}' is no PATH=VALUE, such as lines.0.quantity=5"))?;
        // What is no JSON is a text; a number stays as it is written, and money is understood as a text too.
        let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.to_owned()));
        set(&mut example, path, value)?;
    }
    let text = serde_json::to_string_pretty(&example)?;
    // A mistyped path would make a field that nobody knows.
    info.from_json(&text).map_err(|error| {
        let name = info.short_name();
        anyhow!("With --set this is no {name} any more: {error} (`quadrille example {name} --docs` lists the fields)")
    })?;
    Ok(text)
}

/// No record of ours is as deep.
const DEEPEST: usize = 32;

fn set(example: &mut Value, path: &str, value: Value) -> anyhow::Result<()> {
    anyhow::ensure!(
        path.split('.').count() <= DEEPEST,
        "--set: a path has at most {DEEPEST} parts, and no record is as deep"
    );
    let mut at = example;
    for part in path.split('.') {
        at = match at {
            Value::Array(items) => {
                let (index, count) = (part.parse::<usize>(), items.len());
                let index = index
                    .with_context(|| format!("--set: '{part}' in '{path}' is no place in a list: use 0, 1, ..."))?;
                anyhow::ensure!(
                    index <= count,
                    "--set '{path}': the list has {count} items, so {count} is the highest place"
                );
                if index == count {
                    // A further item begins as a copy of the last one.
                    items.push(items.last().cloned().unwrap_or(Value::Null));
                }
                &mut items[index]
            }
            Value::Object(fields) => fields.entry(part).or_insert(Value::Null),
            Value::Null => {
                *at = Value::Object(serde_json::Map::new());
                &mut at[part]
            }
            _ => anyhow::bail!("--set '{path}': there is nothing within which '{part}' could be"),
        };
    }
    *at = value;
    Ok(())
}

fn list(catalogue: &Catalogue) -> anyhow::Result<()> {
    let mut table = Table::new(["topic", "type", "what it means"]);
    for info in catalogue.records {
        let first = info.doc.split_inclusive(". ").next().unwrap_or(info.doc).trim().to_owned();
        table.row([info.record.topic.name.to_string(), info.short_name().to_owned(), first]);
    }
    table.print()
}

fn explain(info: &RecordInfo) -> anyhow::Result<()> {
    output::line(&format!(
        "{} on {}, key: {}\n{}\n",
        info.record.name,
        info.record.topic.name,
        render::key_field(info),
        info.doc
    ))?;
    let mut table = Table::new(["field", "type", "default", "what it means"]);
    for field in info.fields {
        let secret = if field.secret { " (secret: shown as ***)" } else { "" };
        let default = field.default.unwrap_or("-").to_owned();
        table.row([field.name.to_owned(), field.ty.to_owned(), default, format!("{}{secret}", field.doc)]);
    }
    table.print()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CATALOGUE;

    #[test]
    fn every_example_is_valid() {
        for info in CATALOGUE.records {
            info.from_json(info.example).unwrap_or_else(|error| panic!("{}: {error}", info.record.name));
        }
    }

    #[test]
    fn an_example_is_changed_as_asked() {
        let info = types::named(&CATALOGUE, "OrderRequested").expect("known");
        let set = ["lines.0.quantity=5", "lines.1.sku=CUP-2", "payment_token=tok_decline"].map(str::to_owned).to_vec();
        let text = text(info, &Options { fresh: true, set, docs: false }).expect("sound changes");
        let value: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(value["lines"][1], serde_json::json!({ "sku": "CUP-2", "quantity": 5 }));
        assert_eq!(value["payment_token"], "tok_decline");
        assert!(!info.example.contains(value["order_id"].as_str().expect("an id")));
        info.from_json(&text).expect("still valid");
    }

    #[test]
    fn a_change_that_no_record_takes_is_refused_by_its_path() {
        let info = types::named(&CATALOGUE, "OrderRequested").expect("known");
        let deep = format!("{}=1", vec!["a"; 50_000].join("."));
        for (change, word) in [
            ("lines", "--set 'lines' is no PATH=VALUE"),
            ("=5", "--set"),
            ("nosuch=1", "nosuch"),
            ("lines.0.nosuch=1", "nosuch"),
            ("lines.x.quantity=1", "is no place in a list"),
            ("lines.-1.quantity=1", "is no place in a list"),
            ("lines.9.quantity=1", "the list has 1 items"),
            ("lines.18446744073709551616.quantity=1", "is no place in a list"),
            ("lines.0.quantity=-99999999999999999999", "quantity"),
            ("lines.0.sku.deeper=1", "--set 'lines.0.sku.deeper'"),
            ("order_id=", "order_id"),
            (&deep, "at most 32 parts"),
        ] {
            let options = Options { set: vec![change.to_owned()], ..Options::default() };
            let error = text(info, &options).expect_err(change).to_string();
            assert!(error.contains("--set") && error.contains(word), "{change}: {error}");
        }
    }
}
