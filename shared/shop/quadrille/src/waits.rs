//! What an order waits for: the questions of rule 9 that have no answer yet, and the rows that hold an answer up: effects, timers, and
//! dead letters of what was asked.

use std::{collections::HashMap, sync::LazyLock};

use quadrille_cli::{
    Place, Settings, databases,
    dead_letters::{self, Fate},
    output,
};
use quadrille_core::{Declaration, Record as _, RecordType, declaration::Cause};
use quadrille_events::OrderCancelled;
use quadrille_roster::DECLARATIONS;
use serde::Serialize;
use uuid::Uuid;

/// A fact that asks, and the facts of which exactly one answers it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Question {
    /// What was stated.
    pub asked: &'static str,
    /// What one of its listeners states then.
    pub answers: Vec<&'static str>,
    /// Who answers.
    pub by: &'static str,
    /// Whether the answer may hang on an effect, and thus on the outside world or a person.
    pub by_effect: bool,
    /// What is stated where the outside refuses, and the request by which a person has it tried again.
    pub refused: Option<(&'static str, &'static str)>,
}

/// The contract's ninth invariant: each is answered once. What services ask each other, as those who answer declare it.
pub static QUESTIONS: LazyLock<Vec<Question>> = LazyLock::new(|| {
    let asked = |record: &RecordType| DECLARATIONS.iter().any(|service| service.asks.contains(record));
    let of = |service: &'static Declaration| {
        let answers = service.answers.iter().filter(|answer| asked(&answer.question));
        answers.map(|answer| question(service, &answer.question, &answer.question, answer.facts))
    };
    DECLARATIONS.iter().flat_map(of).collect()
});

/// What OrderCancelled asks of those who hold something, as they declare it.
pub static COMPENSATIONS: LazyLock<Vec<Question>> = LazyLock::new(|| {
    let of = |service: &'static Declaration| {
        let undone =
            service.compensations.iter().filter(|compensation| compensation.on.contains(&OrderCancelled::TYPE));
        undone.map(|compensation| Question {
            refused: compensation.refused.map(|(fact, retry)| (fact.short_name(), retry.short_name())),
            ..question(service, &compensation.fact, &OrderCancelled::TYPE, compensation.by)
        })
    };
    DECLARATIONS.iter().flat_map(of).collect()
});

/// A question about `asked`, which `service` answers when it hears `heard`.
fn question(service: &Declaration, asked: &RecordType, heard: &RecordType, answers: &[RecordType]) -> Question {
    let heard = service.reactions.iter().find(|reaction| reaction.on == Cause::Heard(*heard));
    Question {
        asked: asked.short_name(),
        answers: answers.iter().map(RecordType::short_name).collect(),
        by: service.service,
        by_effect: heard.is_some_and(|reaction| !reaction.wants.is_empty()),
        refused: None,
    }
}

/// What the order service itself makes of a request and of the others' answers, unless the order was cancelled before.
const DECISIONS: [(&str, &[&str]); 8] = [
    ("OrderRequested", &["OrderCreated", "OrderRejected"]),
    ("CustomerRejected", &["OrderCancelled"]),
    ("ReservationRejected", &["OrderCancelled"]),
    ("PaymentDeclined", &["OrderCancelled"]),
    ("PaymentCaptured", &["OrderConfirmed", "OrderCancelled"]),
    ("ShipmentDelivered", &["OrderDelivered"]),
    ("ShipmentAborted", &["OrderCancelled"]),
    ("ShipmentRecalled", &["OrderCancelled"]),
];

/// Something that an order waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Wait {
    /// The facts of which one is expected; empty where only a row is known.
    pub expects: Vec<&'static str>,
    /// From whom.
    pub from: String,
    /// For how long by now, in milliseconds.
    pub for_ms: i64,
    /// The effects and timers of that service and key, and the dead letter that what was asked became.
    pub rows: Vec<Row>,
    /// The record that is to be answered, and where it lies.
    #[serde(skip)]
    heard: Option<(&'static str, Place)>,
}

impl Wait {
    /// Whether the record that is to be answered was given up as a dead letter: nothing comes of it.
    pub fn is_given_up(&self) -> bool {
        self.rows.iter().any(|row| matches!(row, Row::DeadLetter { letter, .. } if letter.state == "discarded"))
    }
}

/// That a record was stated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Said {
    /// For the first time, in milliseconds.
    pub ms: i64,
    /// Where it lies; of several the last one.
    pub place: Place,
}

/// An effect or a timer that stands in a service's database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "is")]
#[allow(missing_docs)]
pub enum Row {
    Effect {
        id: Uuid,
        kind: String,
        tries: i32,
        /// Until the next try.
        due_in_ms: i64,
        /// Between its first try and its parking, where it is parked.
        parked_after_ms: Option<i64>,
        last_answer: Option<String>,
    },
    Timer {
        name: String,
        due_in_ms: i64,
    },
    DeadLetter {
        record: &'static str,
        #[serde(flatten)]
        letter: Fate,
    },
}

/// Which questions of an order were open at one moment: `said` tells what was stated before it, `later` what was stated since.
pub fn open(said: impl Fn(&str) -> Option<Said>, later: impl Fn(&str) -> bool, now_ms: i64) -> Vec<Wait> {
    let has = |name: &&str| said(name).is_some() || later(name);
    let unanswered = |asked: &str, heard: &'static str, answers: &[&'static str], by: &str| {
        let (asked, place) = (said(asked)?.ms, said(heard)?);
        let open = !answers.iter().any(has);
        let for_ms = (now_ms - asked.max(place.ms)).max(0);
        let heard = Some((heard, place.place));
        open.then(|| Wait { expects: answers.to_vec(), from: by.into(), for_ms, rows: vec![], heard })
    };
    let asked = QUESTIONS.iter().filter_map(|asked| unanswered(asked.asked, asked.asked, &asked.answers, asked.by));
    let decided = DECISIONS.iter().filter_map(|(heard, answers)| unanswered(heard, heard, answers, "order"));
    let undone = COMPENSATIONS.iter().filter_map(|compensation| {
        let wait = unanswered(compensation.asked, "OrderCancelled", &compensation.answers, compensation.by)?;
        // The outside has refused: only a person's request moves it.
        let refused = compensation.refused.filter(|(fact, _)| has(fact));
        Some(match refused {
            Some((_, retry)) => Wait { expects: vec![retry], from: "a person".into(), ..wait },
            None => wait,
        })
    });
    asked.chain(decided).chain(undone).collect()
}

/// Adds to open questions the dead letters that services made of what was asked. A database that cannot be read adds nothing, and
/// [`look_up`] says so.
pub async fn look_up_letters(settings: &Settings, waits: &mut [&mut Wait]) {
    let asked = waits.iter().filter_map(|wait| Some(wait.heard?.1)).collect();
    let fates = dead_letters::fates(settings, asked).await;
    for wait in waits {
        let Some((record, place)) = wait.heard else { continue };
        let its = fates.get(&place).into_iter().flatten().filter(|fate| fate.service == wait.from);
        wait.rows.extend(its.map(|fate| Row::DeadLetter { record, letter: fate.clone() }));
    }
}

/// Adds to each order's open questions the effects and timers of its key in the services' databases, and returns which of them could
/// not be read, as sentences.
pub async fn look_up(settings: &Settings, orders: &mut [(String, Vec<Wait>)]) -> Vec<String> {
    let keys: Vec<String> = orders.iter().map(|(key, _)| key.clone()).collect();
    let (mut rows, mut unread) = (HashMap::<String, Vec<(&str, Row)>>::new(), vec![]);
    for service in settings.catalogue.databases() {
        match rows_of(settings, service, &keys).await {
            Ok(found) => {
                found.into_iter().for_each(|(key, row)| rows.entry(key).or_default().push((service, row)));
            }
            Err(error) => unread.push(format!(
                "What effects, timers and dead letters hold up is not shown in full: the database {} could not be read ({error}).",
                settings.database(service)
            )),
        }
    }
    for (key, waits) in orders {
        rows.remove(key).into_iter().flatten().for_each(|(service, row)| hold_up(waits, service, row));
    }
    unread
}

/// Puts a row to the question that it holds up; one that holds up none (a mail, a deadline) is a wait of its own.
fn hold_up(waits: &mut Vec<Wait>, service: &str, row: Row) {
    let is_effect = matches!(row, Row::Effect { .. });
    match waits.iter_mut().find(|wait| is_effect && wait.from == service && !wait.expects.is_empty()) {
        Some(wait) => wait.rows.push(row),
        None => waits.push(Wait { from: service.to_owned(), rows: vec![row], ..Wait::default() }),
    }
}

#[derive(sqlx::FromRow)]
struct EffectRow {
    key: String,
    id: Uuid,
    kind: String,
    tries: i32,
    due_in_ms: i64,
    parked_after_ms: Option<i64>,
    last_answer: Option<String>,
}

async fn rows_of(settings: &Settings, service: &str, keys: &[String]) -> sqlx::Result<Vec<(String, Row)>> {
    let mut connection = databases::connect(settings, service).await?;
    let effects: Vec<EffectRow> = sqlx::query_as(
        "select key, id, kind, tries, (extract(epoch from due - clock_timestamp()) * 1000)::bigint as due_in_ms,
             (extract(epoch from parked_at - coalesce(first_tried_at, wanted_at)) * 1000)::bigint as parked_after_ms, last_answer
         from effect where key = any($1) order by key, kind, seq",
    )
    .bind(keys)
    .fetch_all(&mut connection)
    .await?;
    let timers: Vec<(String, String, i64)> = sqlx::query_as(
        "select key, name, (extract(epoch from due - clock_timestamp()) * 1000)::bigint from timer where key = any($1)",
    )
    .bind(keys)
    .fetch_all(&mut connection)
    .await?;
    let effect = |effect: EffectRow| {
        let EffectRow { key, id, kind, tries, due_in_ms, parked_after_ms, last_answer } = effect;
        (key, Row::Effect { id, kind, tries, due_in_ms, parked_after_ms, last_answer })
    };
    let timer = |(key, name, due_in_ms)| (key, Row::Timer { name, due_in_ms });
    Ok(effects.into_iter().map(effect).chain(timers.into_iter().map(timer)).collect())
}

impl Wait {
    /// The wait as people read it: `expects PaymentCaptured or PaymentDeclined from payment, for 40 s; charge parked after 20 h`.
    pub fn describe(&self) -> String {
        let mut parts = vec![];
        if !self.expects.is_empty() {
            parts.push(format!(
                "expects {} from {}, for {}",
                self.expects.join(" or "),
                self.from,
                output::span(self.for_ms)
            ));
        }
        parts.extend(self.rows.iter().map(|row| match (self.expects.is_empty(), row.describe()) {
            (true, told) => format!("{}: {told}", self.from),
            (false, told) => told,
        }));
        parts.join("; ")
    }
}

impl Row {
    fn describe(&self) -> String {
        match self {
            Self::Effect { kind, parked_after_ms: Some(after), .. } => {
                format!("{kind} parked after {}", output::span(*after))
            }
            Self::Effect { kind, tries: 0, .. } => format!("{kind} not tried yet"),
            Self::Effect { kind, tries, due_in_ms, .. } => {
                format!("{kind} tried {}, again in {}", times(*tries), output::span(*due_in_ms))
            }
            Self::Timer { name, due_in_ms } => format!("{name} in {}", output::span(*due_in_ms)),
            Self::DeadLetter { record, letter } => format!("{record} is with the dead letters: {}", letter.describe()),
        }
    }
}

fn times(count: i32) -> String {
    if count == 1 { "once".into() } else { format!("{count} times") }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place = Place { topic: "order.requests", partition: 3, offset: 42 };

    fn found(said: &[(&str, i64)], name: &str) -> Option<Said> {
        said.iter().find(|(known, _)| *known == name).map(|(_, ms)| Said { ms: *ms, place: PLACE })
    }

    fn told(said: &[(&str, i64)], rows: &[(&str, Row)]) -> Vec<String> {
        let mut waits = open(|name| found(said, name), |_| false, 100_000);
        rows.iter().cloned().for_each(|(service, row)| hold_up(&mut waits, service, row));
        waits.iter().map(Wait::describe).collect()
    }

    fn charge(tries: i32, parked_after_ms: Option<i64>) -> (&'static str, Row) {
        let (id, kind) = (Uuid::nil(), "charge".to_owned());
        ("payment", Row::Effect { id, kind, tries, due_in_ms: 8_000, parked_after_ms, last_answer: None })
    }

    #[test]
    fn questions_undoings_and_decisions_are_those_that_services_declare() {
        let told = |questions: &[Question]| -> Vec<String> {
            let told = |question: &Question| {
                let effect = if question.by_effect { " [effect]" } else { "" };
                format!("{}: {} by {}{effect}", question.asked, question.answers.join("|"), question.by)
            };
            questions.iter().map(told).collect()
        };
        assert_eq!(
            told(&QUESTIONS),
            [
                "OrderCreated: CustomerVerified|CustomerRejected by user",
                "CustomerVerified: StockReserved|ReservationRejected by inventory",
                "StockReserved: PaymentCaptured|PaymentDeclined by payment [effect]",
                "OrderConfirmed: ShipmentDelivered|ShipmentAborted|ShipmentRecalled by shipping [effect]",
            ]
        );
        assert_eq!(
            told(&COMPENSATIONS),
            ["StockReserved: ReservationReleased by inventory", "PaymentCaptured: PaymentRefunded by payment [effect]"]
        );
        let order = DECLARATIONS.iter().find(|service| service.service == "order").unwrap();
        for (heard, answers) in DECISIONS {
            let reaction = order.reactions.iter().find(|reaction| reaction.on.name() == heard).unwrap();
            let stated: Vec<&str> = reaction.states.iter().map(RecordType::short_name).collect();
            assert!(answers.iter().all(|answer| stated.contains(answer) || *answer == "OrderCancelled"), "{heard}");
        }
    }

    #[test]
    fn an_open_question_names_its_answers_their_service_and_what_holds_them_up() {
        let said = [("OrderRequested", 1), ("OrderCreated", 2), ("CustomerVerified", 3), ("StockReserved", 60_000)];
        assert_eq!(told(&said, &[]), ["expects PaymentCaptured or PaymentDeclined from payment, for 40.00 s"]);
        assert_eq!(
            told(&said, &[charge(4, None), ("order", Row::Timer { name: "confirm_by".into(), due_in_ms: 5_000 })]),
            [
                "expects PaymentCaptured or PaymentDeclined from payment, for 40.00 s; charge tried 4 times, again in 8.00 s",
                "order: confirm_by in 5.00 s"
            ]
        );
        assert_eq!(
            told(&said, &[charge(9, Some(72_000_000))]),
            ["expects PaymentCaptured or PaymentDeclined from payment, for 40.00 s; charge parked after 20 h 00 m"]
        );
    }

    #[test]
    fn an_order_that_has_ended_and_holds_nothing_waits_for_nothing() {
        let good = ["OrderRequested", "OrderCreated", "CustomerVerified", "StockReserved", "PaymentCaptured"];
        let shipped = ["OrderConfirmed", "ShipmentDelivered", "OrderDelivered"];
        let said: Vec<_> = good.iter().chain(&shipped).map(|name| (*name, 1)).collect();
        assert!(told(&said, &[]).is_empty(), "{:?}", told(&said, &[]));
        assert!(told(&[("OrderRequested", 1), ("OrderRejected", 1)], &[]).is_empty());
    }

    #[test]
    fn a_cancelled_order_waits_for_what_it_holds_to_be_undone() {
        let mut said: Vec<_> = [
            "OrderCreated",
            "CustomerVerified",
            "StockReserved",
            "PaymentCaptured",
            "OrderConfirmed",
            "ShipmentAborted",
        ]
        .map(|name| (name, 1))
        .into();
        said.push(("OrderCancelled", 99_000));
        assert_eq!(
            told(&said, &[]),
            [
                "expects ReservationReleased from inventory, for 1.00 s",
                "expects PaymentRefunded from payment, for 1.00 s"
            ]
        );
        said.extend([("ReservationReleased", 99_001), ("RefundFailed", 99_002)]);
        assert_eq!(told(&said, &[]), ["expects RefundRetryRequested from a person, for 1.00 s"]);
    }

    #[test]
    fn what_was_answered_since_the_moment_is_no_wait_and_what_was_asked_since_is_none_either() {
        let said = [("OrderCreated", 1), ("OrderConfirmed", 2)];
        let expects = |later: &[&str]| -> Vec<&str> {
            let waits = open(|name| found(&said, name), |name| later.contains(&name), 100_000);
            waits.iter().flat_map(|wait| wait.expects.first().copied()).collect()
        };
        assert_eq!(expects(&[]), ["CustomerVerified", "ShipmentDelivered"]);
        assert_eq!(expects(&["CustomerVerified"]), ["ShipmentDelivered"]);
    }

    #[test]
    fn a_request_that_is_a_dead_letter_is_told_so_and_one_that_was_given_up_brings_nothing() {
        let mut waits = open(|name| found(&[("OrderRequested", 99_000)], name), |_| false, 100_000);
        let [wait] = &mut waits[..] else { panic!("{waits:?}") };
        assert_eq!(wait.heard, Some(("OrderRequested", PLACE)));
        let letter = |state| Row::DeadLetter {
            record: "OrderRequested",
            letter: Fate { service: "order", generation: 1, id: Uuid::nil(), reason: "too_large".into(), state },
        };
        wait.rows = vec![letter("open")];
        let told = "expects OrderCreated or OrderRejected from order, for 1.00 s; OrderRequested is with the dead letters: \
                    open dead letter of order (too_large): 00000000-0000-0000-0000-000000000000";
        assert_eq!((wait.describe().as_str(), wait.is_given_up()), (told, false));
        wait.rows = vec![letter("discarded")];
        assert!(wait.is_given_up());
    }

    #[test]
    fn the_order_services_own_word_is_expected_too() {
        let said = [("OrderCreated", 1), ("CustomerRejected", 99_000)];
        assert_eq!(told(&said, &[]), ["expects OrderCancelled from order, for 1.00 s"]);
        assert_eq!(
            told(&[("OrderRequested", 99_000)], &[]),
            ["expects OrderCreated or OrderRejected from order, for 1.00 s"]
        );
    }
}
