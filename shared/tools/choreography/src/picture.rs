//! The choreography as one picture: a column for each who speaks or listens, a line for each record.

use std::fmt::Write;

use crate::{Choreography, document::CLIENTS};

/// Where the names of topics and records stand.
const LABELS: i32 = 230;
/// From column to column.
const COLUMN: i32 = 110;
/// From line to line.
const LINE: i32 = 20;
const HEAD: i32 = 56;
const FOOT: i32 = 44;

const STYLE: &str = "\
text { font: 12px sans-serif; fill: #1f2328 } .column { font-weight: bold; text-anchor: middle } .topic { font-weight: bold; fill: #57606a }
.life { stroke: #d0d7de } .fact { stroke: #57606a; fill: #57606a } .request { stroke: #0969da; fill: #0969da }
.question { stroke: #8250df; fill: #8250df } .undoes { stroke: #cf222e; fill: #cf222e } line { stroke-width: 1.5 }";

/// The picture as SVG.
pub(crate) fn svg(choreography: &Choreography) -> String {
    let columns = Columns::of(choreography);
    let (mut body, mut y) = (String::new(), HEAD);
    for topic in choreography.topics.iter().filter(|topic| !topic.is_platform()) {
        y += LINE / 2;
        _ = writeln!(body, r#"<text class="topic" x="8" y="{}">{}</text>"#, y + 4, topic.name);
        for record in choreography.records_of(&topic.name) {
            y += LINE;
            line(&mut body, choreography, &columns, &record.name, y);
        }
        y += LINE;
    }
    let (width, height) = (columns.at(columns.names.len()) - COLUMN / 2 + 8, y + FOOT);
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\n<title>The choreography: who states and who hears each record</title>\n<style>{STYLE}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n"
    );
    for (index, name) in columns.names.iter().enumerate() {
        let x = columns.at(index);
        _ = writeln!(text, r#"<text class="column" x="{x}" y="24">{name}</text>"#);
        _ = writeln!(text, r#"<line class="life" x1="{x}" y1="34" x2="{x}" y2="{}"/>"#, y);
    }
    text + &body + &legend(y + FOOT / 2) + "</svg>\n"
}

/// Clients first, then the services.
struct Columns<'a> {
    names: Vec<&'a str>,
}

impl<'a> Columns<'a> {
    fn of(choreography: &'a Choreography) -> Self {
        let services = choreography.services.iter().map(|service| service.name.as_str());
        Self { names: [CLIENTS].into_iter().chain(services).collect() }
    }

    fn at(&self, index: usize) -> i32 {
        LABELS + COLUMN / 2 + COLUMN * i32::try_from(index).unwrap_or_default()
    }

    fn named(&self, name: &str) -> Option<i32> {
        self.names.iter().position(|known| *known == name).map(|index| self.at(index))
    }
}

/// A record's line: from a dot at who says it to an arrowhead at each who hears it.
fn line(body: &mut String, choreography: &Choreography, columns: &Columns, record: &str, y: i32) {
    let class = class(choreography, record);
    _ = writeln!(body, r#"<text x="20" y="{}">{record}</text>"#, y + 4);
    // Clients may send whatever a service requests.
    let clients = choreography.is_request(record).then_some(CLIENTS);
    let speakers = clients.into_iter().chain(choreography.speakers(record).map(|service| service.name.as_str()));
    let from: Vec<i32> = speakers.filter_map(|speaker| columns.named(speaker)).collect();
    let Some(first) = from.first().copied() else {
        _ = writeln!(body, r##"<text x="{}" y="{}" fill="#57606a">not stated yet</text>"##, LABELS, y + 4);
        return;
    };
    let public = choreography.services.iter().any(|service| service.public.iter().any(|fact| fact == record));
    let listeners = choreography.listeners(record).map(|service| service.name.as_str());
    let to: Vec<i32> = listeners.chain(public.then_some(CLIENTS)).filter_map(|name| columns.named(name)).collect();
    let ends = to.iter().chain(&from).copied();
    let (left, right) = (ends.clone().min().unwrap_or(first), ends.max().unwrap_or(first));
    let dots: String = from.iter().map(|x| format!(r#"<circle cx="{x}" cy="{y}" r="4"/>"#)).collect();
    _ = writeln!(body, r#"<g class="{class}"><line x1="{left}" y1="{y}" x2="{right}" y2="{y}"/>{dots}"#);
    for x in to {
        // The head points away from the speaker, its tip on the listener's line.
        let back = if x > first { x - 9 } else { x + 9 };
        _ = writeln!(body, r#"<path d="M{x} {y} L{back} {} L{back} {} Z"/>"#, y - 4, y + 4);
    }
    _ = writeln!(body, "</g>");
}

fn class(choreography: &Choreography, record: &str) -> &'static str {
    let services = &choreography.services;
    let undoes = |service: &crate::Service| {
        service.compensations.iter().any(|compensation| compensation.by.iter().any(|by| by == record))
    };
    if choreography.is_request(record) {
        "request"
    } else if services.iter().any(|service| service.asks.iter().any(|asked| asked == record)) {
        "question"
    } else if services.iter().any(undoes) {
        "undoes"
    } else {
        "fact"
    }
}

fn legend(y: i32) -> String {
    let entries = [
        ("request", "a client's request"),
        ("question", "a question"),
        ("undoes", "undoes a fact"),
        ("fact", "another fact"),
    ];
    let mut text = String::new();
    for (index, (class, told)) in entries.iter().enumerate() {
        let x = 20 + 170 * i32::try_from(index).unwrap_or_default();
        _ = writeln!(
            text,
            r#"<g class="{class}"><circle cx="{x}" cy="{y}" r="4"/><line x1="{x}" y1="{y}" x2="{}" y2="{y}"/></g><text x="{}" y="{}">{told}</text>"#,
            x + 24,
            x + 30,
            y + 4
        );
    }
    text + &format!(
        "<text x=\"{}\" y=\"{}\">dot: states it; arrowhead: hears it, or may read it</text>\n",
        20 + 170 * 4,
        y + 4
    )
}
