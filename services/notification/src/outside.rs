//! The mail server over SMTP.
//!
//! A server that refuses for good (5xx) has said its verdict. One that puts off (4xx), cuts or is away is tried again under the
//! same Message-ID for a day; then the mail is given up, since nothing hangs on it.

use std::time::Duration;

use lettre::{
    Address, AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::PoolConfig,
};
use quadrille_core::bounds::fitted;
use quadrille_events::Uuid;
use quadrille_runtime::{
    Answer, Limit, Outside, Then,
    config::{Key, Settings, TIMEOUT_MS, address},
};
use serde::{Deserialize, Serialize};

use crate::{Mail, Notification, Outcome, choreography::GIVE_UP_AFTER, message_id};

/// Connections to the mail server at most.
const CONNECTIONS: u32 = 16;

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
            address::smtp,
            "mails go there",
        ),
        Key::text("outside.from", "Name <address>", from, "it stands above every mail"),
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

fn from(value: &str) -> Result<(), String> {
    value.parse::<Mailbox>().map(drop).map_err(|error| error.to_string())
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
    server: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    timeout: Duration,
    give_up_after: Duration,
}

/// Why the settings are none.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server's address.
    #[error("url: {0}")]
    Url(#[from] lettre::transport::smtp::Error),
    /// The sender.
    #[error("from: {0}")]
    From(#[from] lettre::address::AddressError),
}

impl Mailer {
    /// A mail server; nothing is sent yet. Needs a Tokio runtime, in which idle connections are looked after.
    pub fn new(settings: &MailSettings) -> Result<Self, Error> {
        let from = settings.from.parse()?;
        let timeout = Duration::from_millis(settings.timeout_ms);
        let server = AsyncSmtpTransport::<Tokio1Executor>::from_url(&settings.url)?
            .timeout(Some(timeout))
            .pool_config(PoolConfig::new().max_size(CONNECTIONS))
            .build();
        Ok(Self { server, from, timeout, give_up_after: Duration::from_millis(settings.give_up_after_ms) })
    }

    /// The mail as it goes over the wire. Names and addresses are values here: they cannot end a header or begin another.
    fn message(&self, id: Uuid, mail: &Mail) -> Result<Message, String> {
        let address: Address = mail.to.trim().parse().map_err(|error| format!("The address is none: {error}."))?;
        let name = Some(fitted(&mail.name)).filter(|name| !name.is_empty());
        Message::builder()
            .message_id(Some(message_id(id)))
            .from(self.from.clone())
            .to(Mailbox::new(name, address))
            .subject(fitted(&mail.subject))
            .header(ContentType::TEXT_PLAIN)
            .body(mail.text.clone())
            .map_err(|error| format!("The mail cannot be written: {error}."))
    }
}

fn failed(mail: &Mail, reason: &str, detail: &str) -> Outcome {
    Outcome::Failed { about: mail.about, reason: reason.to_owned(), detail: fitted(detail) }
}

impl Outside for Mailer {
    type Policy = Notification;

    async fn perform(&self, id: Uuid, mail: &Mail) -> Answer<Outcome> {
        let message = match self.message(id, mail) {
            Ok(message) => message,
            Err(problem) => return Answer::Known(failed(mail, "bad_address", &problem)),
        };
        match tokio::time::timeout(self.timeout, self.server.send(message)).await {
            Ok(Ok(_)) => Answer::Known(Outcome::Sent { about: mail.about }),
            Ok(Err(error)) if error.is_permanent() => Answer::Known(failed(mail, "refused", &error.to_string())),
            Ok(Err(error)) => Answer::Unknown(fitted(&error.to_string())),
            Err(_) => Answer::Unknown("no answer in time".to_owned()),
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
