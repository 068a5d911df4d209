//! Mails as pages. All that comes from a mail is escaped.

use std::fmt::Write;

use super::kept::{Kept, Mail};

/// So many mails are shown.
const SHOWN: usize = 200;

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width\"><title>Mails</title><style>\
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:70rem;padding:0 1rem}\
table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3rem .6rem;border-bottom:1px solid #ddd}\
pre{white-space:pre-wrap;background:#f6f6f6;padding:1rem}\
@media(prefers-color-scheme:dark){body{background:#111;color:#ddd}a{color:#8bf}pre{background:#222}td,th{border-color:#333}}\
</style></head><body>";

pub(super) fn newest(kept: &Kept) -> String {
    let mut page = String::from(HEAD);
    let counts = kept.counts();
    page.push_str("<h1>Mails</h1>");
    let mut rows = String::new();
    for mail in kept.newest().take(SHOWN) {
        // Writing to a String cannot fail.
        let _ = write!(
            rows,
            "<tr><td><a href=\"/mails/{number}\">{number}</a></td><td>{time}</td><td>{to}</td><td>{subject}</td><td>{copies}</td></tr>",
            number = mail.number,
            time = time(mail),
            to = escaped(&mail.to.join(", ")),
            subject = escaped(&mail.subject),
            copies = kept.copies(&mail.message_id),
        );
    }
    let _ = write!(
        page,
        "<p>{}</p><table><tr><th>No.</th><th>Time (UTC)</th><th>To</th><th>Subject</th><th>Copies</th></tr>{rows}</table></body></html>",
        escaped(&counts.to_string()),
    );
    page
}

pub(super) fn one(mail: &Mail, copies: u64) -> String {
    format!(
        "{HEAD}<p><a href=\"/\">All mails</a></p><h1>{subject}</h1><p>From {from} to {to} at {time} (UTC)<br>{message_id}, copies: {copies}</p>\
         <pre>{text}</pre><h2>As it came</h2><pre>{raw}</pre></body></html>",
        subject = escaped(&mail.subject),
        from = escaped(&mail.from),
        to = escaped(&mail.to.join(", ")),
        time = time(mail),
        message_id = escaped(&mail.message_id),
        text = escaped(&mail.text),
        raw = escaped(&mail.raw),
    )
}

fn time(mail: &Mail) -> String {
    let time = chrono::DateTime::from_timestamp_millis(mail.at_ms).unwrap_or_default();
    time.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}
