//! Same content: what of a request counts, as one byte form, and its digest.
//!
//! The byte form is JSON without blanks: an object with the fields that are **not at their default**, sorted by name. Texts
//! are escaped as JSON asks and no further, numbers are decimal, ids lower case with hyphens, money like `"19.99"`, times
//! like `"2026-01-31T12:00:00.000000Z"`, bytes base64. Records within are objects by the same rule; one that is wholly at
//! its field's default is left out. So a later schema's new field changes no digest until somebody uses it.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::{Bytes, Decimal, Secret, Time, time};

/// A value that belongs to a request's content. Generated for requests and for the records within.
pub trait Content {
    /// Appends the byte form.
    fn write(&self, json: &mut Vec<u8>);
}

/// The SHA-256 of a request's content.
pub fn digest(request: &impl Content) -> [u8; 32] {
    let mut json = Vec::new();
    request.write(&mut json);
    Sha256::digest(&json).into()
}

/// [`digest`] as 64 lower-case hex digits: the form that events carry.
pub fn digest_hex(request: &impl Content) -> String {
    hex::encode(digest(request))
}

/// An object while it is written; fields come sorted by name.
pub struct Object<'a> {
    json: &'a mut Vec<u8>,
    empty: bool,
}

impl<'a> Object<'a> {
    /// Opens an object.
    pub fn begin(json: &'a mut Vec<u8>) -> Self {
        json.push(b'{');
        Self { json, empty: true }
    }

    /// Adds a field.
    pub fn field(&mut self, name: &str, value: &impl Content) {
        if !self.empty {
            self.json.push(b',');
        }
        self.empty = false;
        text(name, self.json);
        self.json.push(b':');
        value.write(self.json);
    }

    /// Closes the object.
    pub fn end(self) {
        self.json.push(b'}');
    }
}

fn text(text: &str, json: &mut Vec<u8>) {
    serde_json::to_writer(json, text).expect("a text is JSON, and memory takes it");
}

macro_rules! written_as {
    ($($ty:ty => |$value:ident, $json:ident| $write:expr;)+) => {
        $(impl Content for $ty {
            fn write(&self, $json: &mut Vec<u8>) {
                let $value = self;
                $write
            }
        })+
    };
}

written_as! {
    bool => |value, json| json.extend_from_slice(value.to_string().as_bytes());
    i32 => |value, json| json.extend_from_slice(value.to_string().as_bytes());
    i64 => |value, json| json.extend_from_slice(value.to_string().as_bytes());
    String => |value, json| text(value, json);
    Secret => |value, json| text(value.expose(), json);
    Bytes => |value, json| text(&value.to_base64(), json);
    Time => |value, json| text(&time::text(value), json);
    Uuid => |value, json| text(value.hyphenated().encode_lower(&mut Uuid::encode_buffer()), json);
}

impl<const PRECISION: u32, const SCALE: u32> Content for Decimal<PRECISION, SCALE> {
    fn write(&self, json: &mut Vec<u8>) {
        text(&self.to_string(), json);
    }
}

impl<T: Content> Content for Option<T> {
    fn write(&self, json: &mut Vec<u8>) {
        match self {
            Some(value) => value.write(json),
            None => json.extend_from_slice(b"null"),
        }
    }
}

impl<T: Content> Content for Vec<T> {
    fn write(&self, json: &mut Vec<u8>) {
        json.push(b'[');
        for (at, item) in self.iter().enumerate() {
            if at > 0 {
                json.push(b',');
            }
            item.write(json);
        }
        json.push(b']');
    }
}
