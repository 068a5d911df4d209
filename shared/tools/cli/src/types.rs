//! Record types by the names that people use.

use anyhow::{anyhow, bail};
use quadrille_core::TopicKind;
use quadrille_schemas::wire::RecordInfo;

use crate::Catalogue;

/// The record type of this name: `OrderRequested`, `quadrille.order.OrderRequested`, or a subject
/// (`order.requests-quadrille.order.OrderRequested`), which is needed only where several topics have the type.
pub fn named(catalogue: &Catalogue, name: &str) -> anyhow::Result<&'static RecordInfo> {
    let records = catalogue.records;
    let found: Vec<&RecordInfo> = records
        .iter()
        .filter(|info| info.record.name == name || info.short_name() == name || info.record.subject() == name)
        .collect();
    match found[..] {
        [info] => Ok(info),
        [] => Err(unknown(catalogue, name)),
        _ => {
            let subjects: Vec<String> = found.iter().map(|info| info.record.subject()).collect();
            bail!("Several topics have '{name}': name one of {}", subjects.join(", "))
        }
    }
}

/// That there is no record type of this name, and which it may have been.
pub(crate) fn unknown(catalogue: &Catalogue, name: &str) -> anyhow::Error {
    let names = catalogue.records.iter().map(RecordInfo::short_name);
    let near: Vec<&str> = names.filter(|known| is_near(known, name)).collect();
    let hint = if near.is_empty() {
        "`quadrille example` lists them all".to_owned()
    } else {
        format!("did you mean {}?", near.join(" or "))
    };
    anyhow!("There is no record type '{name}': {hint}")
}

/// Whether records of the type are requests.
pub fn is_request(info: &RecordInfo) -> bool {
    info.record.topic.kind == TopicKind::Requests
}

/// Differs in case only, contains the other, or is two letters away at most.
fn is_near(known: &str, asked: &str) -> bool {
    let (known, asked) = (known.to_lowercase(), asked.to_lowercase());
    known == asked || (asked.len() > 3 && known.contains(&asked)) || strsim::levenshtein(&known, &asked) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::CATALOGUE;

    #[test]
    fn a_type_is_known_by_each_of_its_names() {
        for name in
            ["OrderRequested", "quadrille.order.OrderRequested", "order.requests-quadrille.order.OrderRequested"]
        {
            assert_eq!(named(&CATALOGUE, name).expect(name).record.topic.name, "order.requests");
        }
        assert!(is_request(named(&CATALOGUE, "OrderRequested").expect("known")));
        assert!(!is_request(named(&CATALOGUE, "OrderCreated").expect("known")));
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_right_one() {
        let error = named(&CATALOGUE, "orderrequest").expect_err("no such type").to_string();
        assert!(error.contains("OrderRequested"), "{error}");
        let error = named(&CATALOGUE, "DeadLetter").expect_err("on six topics").to_string();
        assert!(error.contains("order.dead-letters-quadrille.platform.DeadLetter"), "{error}");
    }
}
