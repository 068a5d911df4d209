//! Reading what was written with another version of a schema.

use std::{borrow::Cow, sync::Arc};

use apache_avro::{reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};
use quadrille_core::{DecodeError, RecordType};
use serde_json::Value;

use super::{
    codec::{bound_allocations, sentence, whole},
    dynamic, extent,
};
use crate::{Schema, mismatches, same_shape};

/// So many values one datum may describe: each takes memory once it is read, and a value may have no bytes at all.
const MOST_VALUES: usize = 100_000;
/// A schema's text has so many bytes at most.
const MOST_TEXT: usize = 256 * 1024;

/// A writer's schema, as the registry has it under an id.
#[derive(Clone, Debug)]
pub struct WriterSchema {
    name: String,
    schema: Arc<Schema>,
    physical: Arc<apache_avro::Schema>,
}

/// How data of a writer's schema become data of a reader's.
#[derive(Clone, Debug)]
pub enum Resolution {
    /// They are the same bytes.
    Same,
    /// They are read with the one and written with the other.
    Resolve(Box<Schemas>),
}

/// The two schemas of a [`Resolution::Resolve`], without logical types: those were compared when the plan was made, so that
/// what remains to be done is copying, and no library's idea of a decimal gets in between.
#[derive(Clone, Debug)]
pub struct Schemas {
    described: Arc<Schema>,
    writer: Arc<apache_avro::Schema>,
    reader: apache_avro::Schema,
}

impl WriterSchema {
    /// Parses a writer's schema. One of more than 256 KiB is refused: as many as a stranger registers are kept.
    pub fn new(text: &str) -> Result<Self, DecodeError> {
        if text.len() > MOST_TEXT {
            return Err(DecodeError(format!(
                "the writer's schema has {} bytes, and at most {MOST_TEXT} are read",
                text.len()
            )));
        }
        let schema = Schema::parse(text).map_err(|cause| DecodeError(format!("the writer's schema {cause}")))?;
        let name = match schema.record() {
            Some(record) => record.name.clone(),
            None => {
                return Err(DecodeError(format!("the writer's schema is no record but {}", schema.root.text())));
            }
        };
        schema.bounded().map_err(|cause| DecodeError(format!("the writer's schema {name} {cause}")))?;
        Ok(Self { name, schema: Arc::new(schema), physical: Arc::new(physical(text)?) })
    }

    /// The full name of the writer's record: what the record is, whatever its headers say.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A datum of this schema as one line of JSON, for people; secrets are `***`. Its values are counted before they are built, as are those of
    /// a [`Resolution::Resolve`].
    pub fn json(&self, datum: &[u8]) -> Result<String, DecodeError> {
        let failed = |error| DecodeError(format!("not readable with its writer's schema: {}", sentence(error)));
        extent::check(&self.schema, datum, MOST_VALUES)?;
        let mut rest = datum;
        let reader = GenericDatumReader::builder(&self.physical).build().map_err(failed)?;
        let value = whole(reader.read_value(&mut rest).map_err(failed)?, rest)?;
        Ok(dynamic::json(&self.schema, &self.schema.root, &value).to_string())
    }

    /// How a reader's type is read from this writer's data, or a sentence that names field and cause.
    pub fn prepare(&self, reader: &RecordType) -> Result<Resolution, DecodeError> {
        let schema =
            Schema::parse(reader.schema).map_err(|cause| DecodeError(format!("the reader's schema {cause}")))?;
        let found = mismatches(&self.schema, &schema);
        if let Some(first) = found.first() {
            return Err(DecodeError(format!("written with another schema of {}: {first}", self.name)));
        }
        if same_shape(&self.schema, &schema) {
            return Ok(Resolution::Same);
        }
        let (described, writer) = (self.schema.clone(), self.physical.clone());
        let resolution = Schemas { described, writer, reader: physical(reader.schema)? };
        Ok(Resolution::Resolve(Box::new(resolution)))
    }
}

impl Resolution {
    /// The datum in the reader's schema.
    pub fn apply<'d>(&self, datum: &'d [u8]) -> Result<Cow<'d, [u8]>, DecodeError> {
        match self {
            Self::Same => Ok(Cow::Borrowed(datum)),
            Self::Resolve(resolution) => resolution.apply(datum).map(Cow::Owned),
        }
    }
}

impl Schemas {
    fn apply(&self, datum: &[u8]) -> Result<Vec<u8>, DecodeError> {
        let failed = |error| DecodeError(format!("not readable with its writer's schema: {}", sentence(error)));
        extent::check(&self.described, datum, MOST_VALUES)?;
        let mut rest = datum;
        let reader = GenericDatumReader::builder(&self.writer).reader_schema(&self.reader).build().map_err(failed)?;
        let value = whole(reader.read_value(&mut rest).map_err(failed)?, rest)?;
        let writer = GenericDatumWriter::builder(&self.reader).validate(false).build().map_err(failed)?;
        writer.write_value_to_vec(value).map_err(failed)
    }
}

/// A schema without its logical types.
fn physical(text: &str) -> Result<apache_avro::Schema, DecodeError> {
    fn strip(json: &mut Value) {
        match json {
            Value::Array(items) => items.iter_mut().for_each(strip),
            Value::Object(object) => {
                if object.contains_key("type") {
                    object.remove("logicalType");
                }
                for (_, value) in
                    object.iter_mut().filter(|(key, _)| matches!(key.as_str(), "type" | "items" | "values" | "fields"))
                {
                    strip(value);
                }
            }
            _ => {}
        }
    }
    bound_allocations();
    let mut json: Value =
        serde_json::from_str(text).map_err(|error| DecodeError(format!("the schema is not JSON: {error}")))?;
    strip(&mut json);
    apache_avro::Schema::parse(&json).map_err(|error| DecodeError(format!("the schema is not Avro: {error}")))
}
