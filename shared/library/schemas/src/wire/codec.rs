//! A record type's Avro coding, by `apache-avro`'s serde writer and reader.

use std::marker::PhantomData;

use apache_avro::{Schema, error::Details, reader::datum::GenericDatumReader, writer::datum::GenericDatumWriter};
use quadrille_core::{DecodeError, RecordType};
use serde::{Deserialize, Deserializer, Serialize, de::DeserializeOwned, de::Error as _};

/// Encodes and decodes the records of one type. Made once per type, by its generated code.
pub struct Codec {
    writer: GenericDatumWriter<'static>,
    reader: GenericDatumReader<'static>,
}

impl Codec {
    /// The coding of a record type.
    ///
    /// The schema stays in memory as long as the process: there is one codec per type.
    ///
    /// # Panics
    /// Where the schema is none; those that were generated have been checked.
    pub fn of(record: &RecordType) -> Self {
        bound_allocations();
        let schema = Schema::parse_str(record.schema).expect("a generated record's schema is sound");
        let schema: &'static Schema = Box::leak(Box::new(schema));
        let writer = GenericDatumWriter::builder(schema).human_readable(false).build();
        let reader = GenericDatumReader::builder(schema).human_readable(false).build();
        let sound = "a generated record's schema refers to nothing outside";
        Self { writer: writer.expect(sound), reader: reader.expect(sound) }
    }

    /// Appends a record's datum.
    ///
    /// # Panics
    /// Where the type does not fit its schema, which generated ones do.
    pub fn encode<T: Serialize>(&self, record: &T, datum: &mut Vec<u8>) {
        self.writer.write_ser(datum, record).expect("a generated record fits its schema");
    }

    /// Reads a datum that was written with this very schema, to its last byte.
    pub fn decode<T: DeserializeOwned>(&self, datum: &[u8]) -> Result<T, DecodeError> {
        let mut rest = datum;
        match self.reader.read_deser(&mut rest) {
            Ok(record) => whole(record, rest),
            Err(_) => Err(self.explain::<T>(datum)),
        }
    }

    /// Reads once more to find the field: to keep track of it always would cost every good record.
    fn explain<T: DeserializeOwned>(&self, datum: &[u8]) -> DecodeError {
        let mut rest = datum;
        match self.reader.read_deser::<Located<T>>(&mut rest) {
            Err(error) if rest.is_empty() => {
                let field = sentence(error).split_once(": ").map_or(String::new(), |(field, _)| field.to_owned());
                DecodeError(format!("the datum ends within {field}; kcat cuts its standard input at each byte 10"))
            }
            Err(error) => DecodeError(sentence(error)),
            Ok(_) => DecodeError("the datum is not one of this schema".to_owned()),
        }
    }
}

/// `record`, if nothing follows it.
pub(super) fn whole<T>(record: T, rest: &[u8]) -> Result<T, DecodeError> {
    match rest.len() {
        0 => Ok(record),
        more => Err(DecodeError(format!("{more} byte(s) follow the end of the record"))),
    }
}

/// The library's error without the schema that it may carry.
pub(super) fn sentence(error: apache_avro::Error) -> String {
    match error.into_details() {
        Details::DeserializeValue(cause) => cause,
        Details::DeserializeSchemaAware { value, .. } => value,
        details => details.to_string(),
    }
}

/// A length in a datum is a claim: at most so much is believed.
pub(super) fn bound_allocations() {
    apache_avro::util::max_allocation_bytes(16 * 1024 * 1024);
}

/// Reads a `T` and puts the field's path before an error.
struct Located<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Located<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match serde_path_to_error::deserialize::<_, T>(deserializer) {
            Ok(_) => Ok(Self(PhantomData)),
            Err(error) => {
                const PREFIX: &str = "Failed to deserialize Avro value into value: ";
                let cause = error.inner().to_string();
                Err(D::Error::custom(format!("field `{}`: {}", error.path(), cause.trim_start_matches(PREFIX))))
            }
        }
    }
}
