//! From the services' declarations and a schemas folder to the document.

use chrono::TimeDelta;
use quadrille_core::{Declaration, RecordType, TopicKind, TopicType, declaration};
use quadrille_schemas::{Folder, NamedType, RecordFile};

use crate::{
    Choreography,
    document::{Answer, Cause, Compensation, Deadline, Effect, End, Reaction, Record, Refusal, Service, Topic, Wait},
};

impl Choreography {
    /// What services declare, over the topics and records of `folder`, and the platform's.
    pub fn declared<'a>(declarations: impl IntoIterator<Item = &'a Declaration>, folder: &Folder) -> Self {
        let services = declarations.into_iter().map(service).collect();
        Self { services, ..Self::default() }.over(folder)
    }

    /// The same services over the topics and records of `folder`, and the platform's.
    #[must_use]
    pub fn over(self, folder: &Folder) -> Self {
        let services: Vec<&str> = self.services.iter().map(|service| service.name.as_str()).collect();
        let (mut topics, mut records) = (vec![], vec![]);
        for (root, folder) in [("schemas", folder), ("quadrille-platform", &quadrille_platform::folder())] {
            let declared: Vec<TopicType> = folder.with_services(&services).map(|(topic, _)| topic).collect();
            records.extend(folder.records.iter().map(|file| record(root, &declared, file)));
            topics.extend(declared.iter().map(topic));
        }
        Self { topics, records, ..self }
    }
}

fn service(declared: &Declaration) -> Service {
    Service {
        name: declared.service.to_owned(),
        file: declared.file.to_owned(),
        hears: names(declared.hears),
        states: of_kind(declared.states, |kind| kind != TopicKind::Requests),
        requests: of_kind(declared.states, |kind| kind == TopicKind::Requests),
        reactions: declared.reactions.iter().map(reaction).collect(),
        asks: names(declared.asks),
        answers: declared.answers.iter().map(answer).collect(),
        compensations: declared.compensations.iter().map(compensation).collect(),
        waits: declared.waits.iter().map(wait).collect(),
        effects: declared.effects.iter().map(effect).collect(),
        public: names(declared.public),
        promised: names(declared.promised),
        saga_topics: texts(declared.saga_topics),
        outside_ids: texts(declared.outside_ids),
        ..Service::default()
    }
}

fn names(records: &[RecordType]) -> Vec<String> {
    records.iter().map(|record| record.short_name().to_owned()).collect()
}

fn of_kind(records: &[RecordType], is_it: fn(TopicKind) -> bool) -> Vec<String> {
    let records = records.iter().filter(|record| is_it(record.topic.kind));
    records.map(|record| record.short_name().to_owned()).collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn reaction(declared: &declaration::Reaction) -> Reaction {
    Reaction {
        on: match declared.on {
            declaration::Cause::Heard(record) => Cause::Heard(record.short_name().into()),
            declaration::Cause::Outcome(kind) => Cause::Outcome(kind.into()),
            declaration::Cause::Timer(kind) => Cause::Timer(kind.into()),
            declaration::Cause::Command(kind) => Cause::Command(kind.into()),
        },
        states: names(declared.states),
        wants: texts(declared.wants),
        sets: texts(declared.sets),
        until: declared.until.to_owned(),
    }
}

fn answer(declared: &declaration::Answer) -> Answer {
    Answer { question: declared.question.short_name().into(), facts: names(declared.facts) }
}

fn compensation(declared: &declaration::Compensation) -> Compensation {
    let refusal = |(fact, retry): (RecordType, RecordType)| Refusal {
        fact: fact.short_name().into(),
        retry: retry.short_name().into(),
    };
    Compensation {
        fact: declared.fact.short_name().into(),
        on: names(declared.on),
        by: names(declared.by),
        refused: declared.refused.map(refusal),
    }
}

fn wait(declared: &declaration::Wait) -> Wait {
    Wait { state: declared.state.into(), questions: names(declared.questions), end: end(&declared.end) }
}

fn effect(declared: &declaration::Effect) -> Effect {
    Effect { kind: declared.kind.into(), outcomes: texts(declared.outcomes), end: end(&declared.end) }
}

fn end(declared: &declaration::End) -> End {
    let deadline = |(timer, within): (&str, TimeDelta)| Deadline { timer: timer.into(), within: span(within) };
    End { deadline: declared.deadline.map(deadline), person: declared.person.map(str::to_owned) }
}

/// A span in the largest unit in which it is a whole number.
fn span(time: TimeDelta) -> String {
    let seconds = time.num_seconds();
    let units = [(86_400, "d"), (3_600, "h"), (60, "min")];
    match units.into_iter().find(|(length, _)| seconds >= *length && seconds % length == 0) {
        Some((length, unit)) => format!("{} {unit}", seconds / length),
        None => format!("{seconds} s"),
    }
}

fn topic(declared: &TopicType) -> Topic {
    let retention = |time: std::time::Duration| span(TimeDelta::from_std(time).unwrap_or_default());
    Topic {
        name: declared.name.to_string(),
        kind: declared.kind.to_string(),
        partitions: declared.partitions,
        writer: declared.writer.to_string(),
        key: declared.key.name().to_owned(),
        cleanup: if declared.compact_within.is_some() { "compact" } else { "delete" }.into(),
        retention: declared.retention.map_or("forever".into(), retention),
    }
}

fn record(folder: &str, topics: &[TopicType], file: &RecordFile) -> Record {
    let root = file.record();
    let of_topic = |topic: &&TopicType| topic.records.iter().any(|name| *name == root.name);
    let named = file.schema.named.values().filter_map(|named| match named {
        NamedType::Record(record) => Some(record),
        NamedType::Enum { .. } | NamedType::Fixed { .. } => None,
    });
    let fields = named.flat_map(|record| {
        record.fields.iter().map(move |field| {
            let nested = record.name != root.name;
            let name = if nested { format!("{}.{}", record.short_name(), field.name) } else { field.name.clone() };
            (name, format!("{}{}", if field.secret { "secret " } else { "" }, field.ty.text()))
        })
    });
    Record {
        name: root.short_name().to_owned(),
        full_name: root.name.clone(),
        file: format!("{folder}/{}", file.file),
        topics: topics.iter().filter(of_topic).map(|topic| topic.name.to_string()).collect(),
        key: root.key.clone().unwrap_or_default(),
        versions: file.versions.last().map_or(0, |version| version.number),
        doc: root.doc.clone(),
        fields: fields.collect(),
    }
}
