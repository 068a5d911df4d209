//! Orders that are sound, and look odd: other clients write them so.

use quadrille_core::Record;
use quadrille_events::{OrderRequested, frame};
use uuid::Uuid;

use crate::{Goods, Placed, raw::RawRecord};

/// How many ways there are to look odd.
pub const WAYS: usize = 6;

/// An order's request, in the `way`-th odd way.
pub fn request(order: &Placed, goods: &Goods, schema_id: u32, way: usize) -> RawRecord {
    let request = order.request(goods);
    let mut datum = vec![];
    request.encode(&mut datum);
    let (id, plain) = (order.id.to_string(), frame(schema_id, &datum));
    let of = |key: String, value: &[u8]| RawRecord {
        key: Some(key.into_bytes()),
        value: Some(value.to_vec()),
        ..RawRecord::default()
    };
    match way % WAYS {
        0 => of(id, &plain),
        1 => of(id.to_uppercase(), &plain),
        2 => of(format!("{{{id}}}"), &plain),
        3 => of(id, &frame(schema_id, &in_blocks(&request))),
        4 => RawRecord {
            headers: vec![
                ("ce_id", Some(vec![])),
                ("ce_source", None),
                ("ce_type", Some(b"quadrille.order.SomethingElse".to_vec())),
                ("ce_time", Some(b"the day after tomorrow".to_vec())),
                ("traceparent", Some(b"00-00000000000000000000000000000000-0000000000000000-00".to_vec())),
                ("x-anything", Some(vec![0xff; 4_096])),
            ],
            ..of(id, &plain)
        },
        _ => RawRecord {
            headers: vec![
                ("ce_id", Some(vec![0xff, 0xfe])),
                ("ce_id", Some(Uuid::new_v4().to_string().into_bytes())),
                ("ce_id", Some(b"another".to_vec())),
                ("ce_correlationid", Some(b"nonsense".to_vec())),
            ],
            ..of(id, &plain)
        },
    }
}

/// The same datum with its lines in blocks of their own: the first with a negative count and its size, as some languages write them.
fn in_blocks(request: &OrderRequested) -> Vec<u8> {
    let (mut whole, mut without) = (vec![], vec![]);
    request.encode(&mut whole);
    OrderRequested { lines: vec![], ..request.clone() }.encode(&mut without);
    // Both begin alike, up to the count of lines: 0 where there are none.
    let at = whole.iter().zip(&without).take_while(|(a, b)| a == b).count();
    let mut blocks = without[..at].to_vec();
    for line in &request.lines {
        let mut item = long(line.sku.len() as i64);
        item.extend(line.sku.as_bytes());
        item.extend(long(line.quantity.into()));
        blocks.extend(long(-1));
        blocks.extend(long(item.len() as i64));
        blocks.extend(item);
    }
    blocks.extend(&without[at..]);
    blocks
}

/// Avro's zigzag number.
fn long(number: i64) -> Vec<u8> {
    let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
    let mut bytes = vec![];
    while zigzag >= 0x80 {
        bytes.push((zigzag & 0x7f) as u8 | 0x80);
        zigzag >>= 7;
    }
    bytes.push(zigzag as u8);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Kind;

    #[test]
    fn numbers_are_written_as_avro_has_them() {
        assert_eq!(long(5), [0x0a]);
        assert_eq!(long(-1), [0x01]);
        assert_eq!(long(-65), [0x81, 0x01]);
        assert_eq!(long(300), [0xd8, 0x04]);
    }

    #[test]
    fn blocks_say_the_same_as_one_list() {
        let request = Placed::new(Kind::TwoLines).request(&Goods::new());
        let mut plain = vec![];
        request.encode(&mut plain);
        let blocks = in_blocks(&request);
        assert_ne!(blocks, plain);
        assert_eq!(OrderRequested::decode(&blocks).unwrap(), request);
    }
}
