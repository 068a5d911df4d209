//! Fields: money, ids and times are of the types that say so.

use std::collections::BTreeSet;

use crate::{Choreography, Kind, Problem};

/// What the end of a field's name promises of its type. Which decimals there may be is the schemas folder's rule.
const PROMISES: [(&[&str], &str, &str); 3] = [
    (&["price", "total", "amount"], "decimal", "money is a decimal"),
    (&["_id"], "uuid", "ids are uuid; a name that the outside gives is listed under `outside_ids` of its service"),
    (&["_at", "_by", "_time"], "timestamp-micros", "times are timestamp-micros"),
];

pub(super) fn wrong_types(choreography: &Choreography) -> Vec<Problem> {
    let outside = choreography.services.iter().flat_map(|service| service.outside_ids.iter().map(String::as_str));
    let outside: BTreeSet<&str> = outside.collect();
    let mut found = vec![];
    for record in &choreography.records {
        for (path, ty) in &record.fields {
            let name = path.rsplit('.').next().unwrap_or_default();
            let promise = PROMISES.iter().find(|(ends, ..)| ends.iter().any(|end| name.ends_with(end)));
            let Some((_, wanted, fix)) = promise.filter(|_| !outside.contains(name)) else { continue };
            let (kind, _) = ty.split_once('(').unwrap_or((ty, ""));
            if kind.strip_prefix("nullable ").unwrap_or(kind) != *wanted {
                let what = format!("field `{path}` is {ty}");
                found.push(Problem::new(Kind::FieldType, &record.file, &record.name, what, *fix));
            }
        }
    }
    found
}
