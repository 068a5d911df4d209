//! What the mail server does wrong to everybody, whoever the mail is for: `PHASE=ANSWER`, as in `rcpt=550 5.1.1 Not here`.

use std::{str::FromStr, time::Duration};

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

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = || Phase::ALL.map(|(name, _)| name).join(", ");
        let (phase, answer) = text.split_once('=').ok_or_else(|| {
            format!(
                "PHASE=ANSWER is needed: {}; then a line, endless-line, endless-lines, silence, cut or drip",
                names()
            )
        })?;
        let known = Phase::ALL.into_iter().find(|(name, _)| *name == phase);
        let (_, phase) = known.ok_or_else(|| format!("'{phase}' is no phase: {}", names()))?;
        let answer = match answer {
            "endless-line" => Misanswer::EndlessLine,
            "endless-lines" => Misanswer::EndlessLines,
            "silence" => Misanswer::Silence,
            "cut" => Misanswer::Cut,
            "drip" => Misanswer::Drip,
            line => Misanswer::Line(line.to_owned()),
        };
        Ok(Self { phase, answer })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_a_phase_and_an_answer() {
        let fault = |phase, answer| Ok(Fault { phase, answer });
        assert_eq!("rcpt=550 No = no".parse(), fault(Phase::Rcpt, Misanswer::Line("550 No = no".into())));
        assert_eq!("end=silence".parse(), fault(Phase::End, Misanswer::Silence));
        for (text, why) in [("rcpt", "PHASE=ANSWER is needed"), ("bye=cut", "'bye' is no phase: greeting, ehlo")] {
            let refused = text.parse::<Fault>();
            assert!(refused.as_ref().is_err_and(|said| said.starts_with(why)), "{text}: {refused:?}");
        }
    }
}
