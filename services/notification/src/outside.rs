//! The mail server over SMTP.
//!
//! A server that refuses the recipient or the text for good (5xx) has said its verdict. One that refuses us, puts off (4xx), cuts or is
//! away is tried again under the same Message-ID for a day; then the mail is given up, since nothing hangs on it.

use std::time::Duration;

use lettre::{
    Address, Message,
    address::Envelope,
    message::{Mailbox, SinglePart},
};
use quadrille_core::bounds::fitted;
use quadrille_events::Uuid;
use quadrille_runtime::{
    Answer, Limit, Outside, Then,
    config::{Key, Settings, TIMEOUT_MS},
};
use serde::{Deserialize, Serialize};

use crate::{
    Mail, Notification, Outcome,
    choreography::GIVE_UP_AFTER,
    message_id,
    smtp::{Server, Talk},
};

/// The longest address (RFC 5321, section 4.5.3.1.3: a path of 256 bytes, angle brackets included).
const ADDRESS_BYTES: usize = 254;

/// Where the mail server is. The configuration's `outside`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MailSettings {
    /// Its address: `smtp://host:port`, `smtp://user:password@host:port?tls=required`, `smtps://user:password@host`.
    pub url: String,
    /// The sender: `Name <address>`.
    pub from: String,
    /// How long one try may take, in milliseconds.
    pub timeout_ms: u64,
    /// A mail that was not taken for so long is given up.
    pub give_up_after_ms: u64,
}

impl Settings for MailSettings {
    const KEYS: &'static [Key] = &[
        Key::address(
            "outside.url",
            "smtp://host:port, smtp://user:password@host:port?tls=required or smtps://user:password@host",
            is_server,
            "mails go there",
        ),
        Key::text("outside.from", "Name <address>", is_sender, "it stands above every mail"),
        TIMEOUT_MS,
        Key::number(
            "outside.give_up_after_ms",
            1_000,
            604_800_000,
            "within a second no server has had its time, and after a week a mail tells nobody anything new",
        ),
    ];

    fn timeout_ms(&self) -> Option<u64> {
        Some(self.timeout_ms)
    }
}

fn is_server(value: &str) -> Result<(), String> {
    Server::new(value, Duration::ZERO).map(drop)
}

fn is_sender(value: &str) -> Result<(), String> {
    sender(value).map(drop)
}

/// Who mails come from.
fn sender(value: &str) -> Result<Mailbox, String> {
    let Mailbox { name, email } = value.parse().map_err(|_| "it cannot be read")?;
    let email = address(email.as_ref())?;
    match email.user().is_ascii() {
        true => Ok(Mailbox::new(name, email)),
        false => Err("what stands before its @ is not ASCII, and not every server takes more".into()),
    }
}

impl Default for MailSettings {
    fn default() -> Self {
        Self {
            url: "smtp://127.0.0.1:1025".to_owned(),
            from: "Quadrille <shop@quadrille.example>".to_owned(),
            timeout_ms: 15_000,
            give_up_after_ms: GIVE_UP_AFTER.num_milliseconds().unsigned_abs(),
        }
    }
}

/// The mail server.
#[derive(Debug)]
pub struct Mailer {
    server: Server,
    from: Mailbox,
    give_up_after: Duration,
}

/// The settings are none: a key of them, and what is wrong with it.
#[derive(Debug, thiserror::Error)]
#[error("{0}: {1}")]
pub struct Error(&'static str, String);

impl Mailer {
    /// A mail server; nothing is sent yet. Settings that were loaded are taken.
    pub fn new(settings: &MailSettings) -> Result<Self, Error> {
        let timeout = Duration::from_millis(settings.timeout_ms);
        Ok(Self {
            server: Server::new(&settings.url, timeout).map_err(|problem| Error("outside.url", problem))?,
            from: sender(&settings.from).map_err(|problem| Error("outside.from", problem))?,
            give_up_after: Duration::from_millis(settings.give_up_after_ms),
        })
    }

    /// The mail as it goes over the wire. Names and addresses are values here: they cannot end a header or begin another.
    fn message(&self, id: Uuid, to: &Address, mail: &Mail) -> Result<Message, lettre::error::Error> {
        // lettre would read it from the head, where it does not know every address again that it has written.
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to.clone()])?;
        let name = Some(fitted(&mail.name)).filter(|name| !name.is_empty());
        Message::builder()
            .envelope(envelope)
            .message_id(Some(message_id(id)))
            .from(self.from.clone())
            .to(Mailbox::new(name, to.clone()))
            .subject(fitted(&mail.subject))
            // As a part, which says `MIME-Version`: a body alone does not.
            .singlepart(SinglePart::plain(mail.text.clone()))
    }
}

/// An address as every server takes it: a domain beyond ASCII as its A-labels.
fn address(given: &str) -> Result<Address, &'static str> {
    let given = given.trim();
    let (user, domain) = given.rsplit_once('@').ok_or("The address is none: it has no @.")?;
    // In a quoted local part, RFC 6531 would let them through.
    if user.contains(|c: char| c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')) {
        return Err("The address is none: it has control characters.");
    }
    let a_labels = match domain.starts_with('[') {
        true => domain.to_owned(),
        false => idna::domain_to_ascii_strict(domain).map_err(|_| "The address is none: its domain is none.")?,
    };
    let domain = if domain.is_ascii() { domain } else { &a_labels };
    let address = Address::new(user, domain).map_err(|_| "The address is none.")?;
    match AsRef::<str>::as_ref(&address).len() <= ADDRESS_BYTES {
        true => Ok(address),
        false => Err("The address is none: it is too long."),
    }
}

/// What a server says, without the address in whatever case it repeats it.
fn without(said: &str, address: &str) -> String {
    let (mut rest, mut unnamed) = (said, String::new());
    while let Some(at) = rest.to_ascii_lowercase().find(&address.to_ascii_lowercase()) {
        unnamed.push_str(&rest[..at]);
        unnamed.push_str("the recipient");
        rest = &rest[at + address.len()..];
    }
    unnamed + rest
}

fn failed(mail: &Mail, reason: &str, detail: &str) -> Outcome {
    Outcome::Failed { about: mail.about, reason: reason.to_owned(), detail: fitted(detail) }
}

impl Outside for Mailer {
    type Policy = Notification;

    async fn perform(&self, id: Uuid, mail: &Mail) -> Answer<Outcome> {
        let to = match address(&mail.to) {
            Ok(to) => to,
            Err(problem) => return Answer::Known(failed(mail, "bad_address", problem)),
        };
        let message = match self.message(id, &to, mail) {
            Ok(message) => message,
            Err(error) => return Answer::Unknown(format!("the mail cannot be written: {error}")),
        };
        // A server repeats whom it refuses: that is nobody's business but the customer's.
        let unnamed = |why: String| without(&why, to.as_ref());
        match self.server.send(&self.from.email, &to, &message.formatted()).await {
            Talk::Taken => Answer::Known(Outcome::Sent { about: mail.about }),
            Talk::Refused(why) => Answer::Known(failed(mail, "refused", &unnamed(why))),
            Talk::NeedsSmtpUtf8 => {
                let why = "What stands before the @ is beyond ASCII, which this mail server does not take: it offers no SMTPUTF8.";
                Answer::Known(failed(mail, "unsupported_address", why))
            }
            Talk::Unknown(why) => Answer::Unknown(fitted(&unnamed(why))),
        }
    }

    /// A mail server cannot be asked. To send again is right all the same: the Message-ID makes it one mail.
    async fn ask(&self, _: Uuid, _: &Mail) -> Answer<Outcome> {
        Answer::Nothing
    }

    fn limit(&self, mail: &Mail) -> Limit<Outcome> {
        let detail = "The mail server did not take it in time, however often it was tried.";
        Limit { after: self.give_up_after, then: Then::Conclude(failed(mail, "undelivered", detail)) }
    }
}
