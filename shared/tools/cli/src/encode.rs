//! `quadrille encode`: JSON in, framed Avro out, for plain kcat.

use std::{
    io::{self, IsTerminal},
    path::Path,
};

use anyhow::bail;

use crate::{
    Settings,
    codec::{Encoder, Framed, documents},
    input, kcat, output, types,
};

/// How records are written.
#[derive(Clone, Debug)]
pub struct Options {
    /// Between two records.
    pub delimiter: String,
    /// Before each record its key and a blank, for `kcat -P -K ' '`.
    pub keys: bool,
    /// Instead of the registry's id.
    pub schema_id: Option<u32>,
}

/// Encodes all documents of a file and writes them to standard output.
pub async fn run(settings: &Settings, name: &str, file: Option<&Path>, options: &Options) -> anyhow::Result<()> {
    if io::stdout().is_terminal() {
        bail!(
            "This would write bytes to the terminal: send them to kcat or to a file (`quadrille produce` sends by itself)"
        );
    }
    let encoder = Encoder::connect(settings, types::named(&settings.catalogue, name)?, options.schema_id).await?;
    output::bytes(&encoded(&encoder, &input::text(file)?, options)?)
}

/// The bytes of all documents of a text.
pub fn encoded(encoder: &Encoder, text: &str, options: &Options) -> anyhow::Result<Vec<u8>> {
    let records: Vec<Framed> =
        documents(text)?.into_iter().map(|json| encoder.encode(json)).collect::<Result<_, _>>()?;
    if !options.keys && records.iter().any(|record| record.key != records[0].key) {
        bail!(
            "The documents have different keys, and kcat's -k gives all records the same one: \
             use `encode --keys` and `kcat -P -K '{}'` instead of -k",
            kcat::KEY_DELIMITER
        );
    }
    let mut bytes = Vec::new();
    for record in &records {
        if !bytes.is_empty() {
            bytes.extend_from_slice(options.delimiter.as_bytes());
        }
        if options.keys {
            bytes.extend_from_slice(record.key.as_bytes());
            bytes.extend_from_slice(kcat::KEY_DELIMITER.as_bytes());
        }
        bytes.extend_from_slice(kcat::delimited(&record.value, &options.delimiter)?);
    }
    Ok(bytes)
}
