//! What the mail server does wrong to everybody, whoever the mail is for: for tests, which have it do so.

use std::time::Duration;

/// How the server misbehaves. By default not at all: then recipients' addresses decide.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// It offers no SMTPUTF8 (RFC 6531): addresses beyond ASCII cannot be named to it.
    pub without_smtputf8: bool,
    /// In this phase it gives this answer in place of its own; else it goes on as if it had given its own.
    pub fault: Option<Fault>,
}

/// An answer in place of the server's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// When.
    pub phase: Phase,
    /// What.
    pub answer: Misanswer,
}

/// The phases of the talk, each of which the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The connection.
    Greeting,
    /// `EHLO`, `HELO`.
    Ehlo,
    /// `AUTH`, which it does not offer.
    Auth,
    /// `MAIL FROM`.
    Mail,
    /// `RCPT TO`.
    Rcpt,
    /// `DATA`, before the text.
    Data,
    /// The end of the text. The mail is kept before it is answered.
    End,
    /// `QUIT`.
    Quit,
}

/// An answer that a client does not expect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Misanswer {
    /// This line, whatever it says.
    Line(String),
    /// A line that never ends.
    EndlessLine,
    /// An answer of lines without end.
    EndlessLines,
    /// Nothing, and the connection stays.
    Silence,
    /// Nothing, and the connection is cut.
    Cut,
    /// A byte now and then, without end.
    Drip,
}

/// How often [`Misanswer::Drip`] drips.
pub(super) const DRIP: Duration = Duration::from_millis(50);

impl Phase {
    /// All of them, in their order, by name.
    pub const ALL: [(&'static str, Self); 8] = [
        ("greeting", Self::Greeting),
        ("ehlo", Self::Ehlo),
        ("auth", Self::Auth),
        ("mail", Self::Mail),
        ("rcpt", Self::Rcpt),
        ("data", Self::Data),
        ("end", Self::End),
        ("quit", Self::Quit),
    ];

    /// The phase of a command.
    pub(super) fn of(verb: &str) -> Option<Self> {
        let name = if verb.eq_ignore_ascii_case("HELO") { "ehlo" } else { verb };
        Self::ALL.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, phase)| phase)
    }
}
