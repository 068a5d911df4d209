//! `quadrille decode`: framed Avro in, JSON or lines for people out.

use std::{
    io::{BufRead, Read},
    path::Path,
    sync::Arc,
};

use anyhow::bail;

use crate::{
    Settings,
    codec::{Decoded, Decoder},
    input,
    kafka::Record,
    kcat::{self, KcatRecord},
    output::{self, Paint},
    render::{self, Shown},
};

/// Decodes a file: one framed record, or what `kcat -C -f "$(quadrille decode --kcat-format)"` writes, told apart by the first byte.
///
/// Blocks while it waits for input: records are shown as they come.
pub fn run(settings: &Settings, file: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let decoder = Decoder::connect(settings)?;
    let mut input = input::open(file)?;
    match input.fill_buf()?.first() {
        None => bail!("The input is empty: nothing was consumed, or the command before this one failed"),
        // The frame's magic byte, with which no line of kcat's begins.
        Some(0) => one(&decoder, &mut input, json),
        Some(_) => many(settings, &decoder, &mut input, json),
    }
}

fn one(decoder: &Decoder, input: &mut impl Read, json: bool) -> anyhow::Result<()> {
    let value = input::bytes(input)?;
    let mut decoded = decoder.decode(None, Some(&value))?;
    // kcat ends a record with a newline unless told otherwise.
    if let (Decoded::Bad { .. }, Some(shorter)) = (&decoded, value.strip_suffix(b"\n")) {
        match decoder.decode(None, Some(shorter))? {
            Decoded::Bad { .. } => {}
            better => decoded = better,
        }
    }
    match decoded {
        Decoded::Record { info, json: value } if json => {
            output::json_text(&format!("{{\"type\":\"{}\",\"value\":{value}}}", info.record.name))
        }
        Decoded::Record { json: value, .. } => output::json_text(&value),
        Decoded::Dynamic { name, .. } => bail!("The record is a {name}, which no declared topic has"),
        Decoded::Null => bail!("The record has no value"),
        Decoded::Bad { reason, .. } => bail!(
            "The input is no framed record: {reason}\nSeveral records are told apart by kcat -C -f \"$(quadrille decode --kcat-format)\""
        ),
    }
}

fn many(settings: &Settings, decoder: &Decoder, input: &mut impl BufRead, json: bool) -> anyhow::Result<()> {
    let paint = Paint::detect();
    while let Some(record) = kcat::next(input)? {
        let record = of_kcat(settings, record);
        let decoded = decoder.decode(Some(&record.topic), record.value.as_deref())?;
        if json {
            output::json_text(&serde_json::to_string(&Shown::of(&record, &decoded))?)?;
        } else {
            output::line(&render::line(paint, &record, &decoded))?;
        }
    }
    Ok(())
}

fn of_kcat(settings: &Settings, record: KcatRecord) -> Record {
    let topic = Arc::from(settings.logical(&record.topic).unwrap_or(&record.topic));
    Record {
        topic,
        partition: record.partition,
        offset: record.offset,
        timestamp_ms: record.timestamp_ms,
        key: record.key,
        value: record.value,
        headers: vec![],
    }
}
