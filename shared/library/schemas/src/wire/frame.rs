//! The Confluent wire format: byte 0, the schema's id in four bytes big-endian, the Avro datum.

/// Why a record's value is not framed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No bytes at all.
    #[error("the value is empty; expected are byte 0, a schema id in four bytes, and an Avro datum")]
    Empty,
    /// Fewer bytes than the frame alone has.
    #[error("the value has {0} byte(s), fewer than the five of byte 0 and schema id; {KCAT}")]
    Short(usize),
    /// A frame with nothing in it.
    #[error("the value ends after the schema id {0}: there is no Avro datum; {KCAT}")]
    NoDatum(u32),
    /// JSON where Avro was expected.
    #[error("the value is JSON, not Avro: encode it with `quadrille encode`, or send it with `quadrille produce`")]
    Json,
    /// Another first byte.
    #[error("the value begins with byte {0}, not with 0 and a schema id; {KCAT}")]
    Magic(u8),
}

const KCAT: &str = "kcat cuts its standard input at each byte 10: send a record from a file, or with -D";

/// A datum with its schema's id.
pub fn frame(id: u32, datum: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(5 + datum.len());
    value.push(0);
    value.extend_from_slice(&id.to_be_bytes());
    value.extend_from_slice(datum);
    value
}

/// The schema's id and the datum.
pub fn unframe(value: &[u8]) -> Result<(u32, &[u8]), FrameError> {
    match value {
        [] => Err(FrameError::Empty),
        [b'{', ..] => Err(FrameError::Json),
        [0, a, b, c, d] => Err(FrameError::NoDatum(u32::from_be_bytes([*a, *b, *c, *d]))),
        [0, a, b, c, d, datum @ ..] => Ok((u32::from_be_bytes([*a, *b, *c, *d]), datum)),
        [0, ..] => Err(FrameError::Short(value.len())),
        [magic, ..] => Err(FrameError::Magic(*magic)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_comes_back() {
        assert_eq!(frame(10, b"datum"), b"\0\0\0\0\x0adatum");
        assert_eq!(unframe(b"\0\0\0\0\x0adatum"), Ok((10, &b"datum"[..])));
        assert_eq!(unframe(&frame(u32::MAX, b"\n")), Ok((u32::MAX, &b"\n"[..])));
    }

    #[test]
    fn what_is_no_frame_is_refused_with_its_cause() {
        assert_eq!(unframe(b""), Err(FrameError::Empty));
        for length in 1..5 {
            assert_eq!(unframe(&[0; 5][..length]), Err(FrameError::Short(length)));
        }
        assert_eq!(unframe(&[0, 0, 0, 0, 7]), Err(FrameError::NoDatum(7)));
        assert_eq!(unframe(b"\x01\0\0\0\x07x"), Err(FrameError::Magic(1)));
        assert_eq!(unframe(b"{\"order_id\":1}"), Err(FrameError::Json));
        assert!(unframe(&[9]).expect_err("no frame").to_string().contains("byte 10"));
    }
}
