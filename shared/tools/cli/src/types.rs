//! Record types by the names that people use.

use anyhow::bail;
use quadrille_events::{REGISTRY, RecordInfo, TOPICS};
use quadrille_schemas::{Topic, Writer};

/// The record type of this name: `OrderRequested`, `quadrille.order.OrderRequested`, or a subject
/// (`order.requests-quadrille.order.OrderRequested`), which is needed only where several topics have the type.
pub fn named(name: &str) -> anyhow::Result<&'static RecordInfo> {
    let found: Vec<&RecordInfo> = REGISTRY
        .iter()
        .filter(|info| info.record.name == name || info.short_name() == name || info.record.subject() == name)
        .collect();
    match found[..] {
        [info] => Ok(info),
        [] => {
            let near: Vec<&str> =
                REGISTRY.iter().map(RecordInfo::short_name).filter(|known| is_near(known, name)).collect();
            let hint = if near.is_empty() {
                "`quadrille example` lists them all".to_owned()
            } else {
                format!("did you mean {}?", near.join(" or "))
            };
            bail!("There is no record type '{name}': {hint}")
        }
        _ => {
            let subjects: Vec<String> = found.iter().map(|info| info.record.subject()).collect();
            bail!("Several topics have '{name}': name one of {}", subjects.join(", "))
        }
    }
}

/// The declaration of a record type's topic.
pub fn topic_of(info: &RecordInfo) -> Option<&'static Topic> {
    TOPICS.iter().find(|topic| topic.name == info.record.topic)
}

/// Whether clients write the type's topic.
pub fn is_request(info: &RecordInfo) -> bool {
    topic_of(info).is_some_and(|topic| topic.writer == Writer::Clients)
}

/// Differs in case only, contains the other, or is two letters away at most.
fn is_near(known: &str, asked: &str) -> bool {
    let (known, asked) = (known.to_lowercase(), asked.to_lowercase());
    known == asked || (asked.len() > 3 && known.contains(&asked)) || strsim::levenshtein(&known, &asked) <= 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_known_by_each_of_its_names() {
        for name in
            ["OrderRequested", "quadrille.order.OrderRequested", "order.requests-quadrille.order.OrderRequested"]
        {
            assert_eq!(named(name).expect(name).record.topic, "order.requests");
        }
        assert!(is_request(named("OrderRequested").expect("known")));
        assert!(!is_request(named("OrderCreated").expect("known")));
    }

    #[test]
    fn a_mistyped_name_is_answered_with_the_right_one() {
        let error = named("orderrequest").expect_err("no such type").to_string();
        assert!(error.contains("OrderRequested"), "{error}");
        let error = named("DeadLetter").expect_err("on six topics").to_string();
        assert!(error.contains("order.dead-letters-quadrille.platform.DeadLetter"), "{error}");
    }
}
