//! The SMTP side ([RFC 5321](https://www.rfc-editor.org/rfc/rfc5321)): one task a session, commands answered in the order in
//! which they come, so that a client may pipeline. Every length is bounded.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, copy, sink},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::{
    Catcher, Faults, Misanswer, Phase,
    addresses::{Address, address},
    faults::DRIP,
};

/// Sessions at once; one more is told to come back.
const SESSIONS: usize = 200;
/// The longest line of a command.
const COMMAND_BYTES: usize = 2048;
/// The longest line of a text: RFC 5321 wants 1000 at least.
const LINE_BYTES: usize = 64 * 1024;
/// The largest mail.
const MAIL_BYTES: usize = 1024 * 1024;
/// Recipients of one mail.
const RECIPIENTS: usize = 100;
/// How long a client may think.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Takes sessions until `stop`.
pub(super) async fn serve(
    listener: TcpListener,
    catcher: Catcher,
    faults: Faults,
    stop: CancellationToken,
) -> io::Result<()> {
    let seats = Semaphore::new(SESSIONS);
    let seats = std::sync::Arc::new(seats);
    let mut sessions = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(_) = sessions.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        let mut stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of files, say: that passes, and spinning would not help.
                tracing::warn!(%error, "No SMTP session could be taken");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Ok(seat) = seats.clone().try_acquire_owned() else {
            sessions.spawn(async move { drop(stream.write_all(b"421 Too many sessions\r\n").await) });
            continue;
        };
        let (catcher, faults) = (catcher.clone(), faults.clone());
        sessions.spawn(async move {
            let _seat = seat;
            if let Err(error) = talk(stream, &catcher, &faults).await {
                tracing::debug!(%error, "An SMTP session broke off");
            }
        });
    }
}

async fn talk(stream: TcpStream, catcher: &Catcher, faults: &Faults) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, writer) = stream.into_split();
    Session::new(BufReader::new(reader), writer, catcher, faults).run().await
}

/// What follows a command.
enum Next {
    Reply(String),
    /// `DATA` was accepted.
    Text,
    /// The connection is cut without a word.
    Cut,
    Quit,
}

struct Session<'a, R, W> {
    reader: R,
    writer: W,
    catcher: &'a Catcher,
    faults: &'a Faults,
    greeted: bool,
    from: Option<String>,
    to: Vec<String>,
}

impl<'a, R: AsyncRead + AsyncBufReadExt + Unpin, W: AsyncWrite + Unpin> Session<'a, R, W> {
    fn new(reader: R, writer: W, catcher: &'a Catcher, faults: &'a Faults) -> Self {
        Self { reader, writer, catcher, faults, greeted: false, from: None, to: vec![] }
    }

    async fn run(mut self) -> io::Result<()> {
        self.answer(Some(Phase::Greeting), "220 quadrille mail catcher ESMTP").await?;
        let mut line = Vec::new();
        loop {
            if !read_line(&mut self.reader, &mut line, COMMAND_BYTES).await? {
                return Ok(());
            }
            if line.last() != Some(&b'\n') {
                return self.say("500 Line too long").await;
            }
            let next = self.command(&line);
            let verb = line.split(|byte| !byte.is_ascii_alphabetic()).next().unwrap_or_default();
            let phase = std::str::from_utf8(verb).ok().and_then(Phase::of);
            match next {
                Next::Reply(reply) => self.answer(phase, &reply).await?,
                Next::Cut => return Ok(()),
                Next::Quit => return self.answer(phase, "221 Bye").await,
                Next::Text => {
                    self.answer(phase, "354 The text, and a line with a dot at its end").await?;
                    let Some(reply) = self.text().await? else { return Ok(()) };
                    self.answer(Some(Phase::End), &reply).await?;
                }
            }
        }
    }

    fn fault(&self, phase: Phase) -> Option<&'a Misanswer> {
        self.faults.fault.as_ref().filter(|fault| fault.phase == phase).map(|fault| &fault.answer)
    }

    /// Says `reply`, or what it is to say in its place.
    async fn answer(&mut self, phase: Option<Phase>, reply: &str) -> io::Result<()> {
        match phase.and_then(|phase| self.fault(phase)) {
            Some(answer) => self.misbehave(answer).await,
            None => self.say(reply).await,
        }
    }

    /// Answers as it should not. An error ends the session: the client has gone, or the connection is to be cut.
    async fn misbehave(&mut self, answer: &Misanswer) -> io::Result<()> {
        let without_end = async {
            match answer {
                Misanswer::Line(line) => return self.say(line).await,
                Misanswer::Cut => {}
                Misanswer::Silence => drop(copy(&mut self.reader, &mut sink()).await?),
                Misanswer::EndlessLine => loop {
                    self.writer.write_all(&[b'2'; 16 * 1024]).await?;
                },
                Misanswer::EndlessLines => loop {
                    self.writer.write_all(&b"250-and so on\r\n".repeat(1024)).await?;
                },
                Misanswer::Drip => loop {
                    self.writer.write_all(b"2").await?;
                    tokio::time::sleep(DRIP).await;
                },
            }
            Err(io::ErrorKind::ConnectionAborted.into())
        };
        timeout(TIMEOUT, without_end).await?
    }

    async fn say(&mut self, reply: &str) -> io::Result<()> {
        timeout(TIMEOUT, self.writer.write_all(format!("{reply}\r\n").as_bytes())).await??;
        self.writer.flush().await
    }

    fn command(&mut self, line: &[u8]) -> Next {
        let reply = |reply: &str| Next::Reply(reply.to_owned());
        let Ok(line) = std::str::from_utf8(line) else {
            return reply("500 UTF-8 is needed");
        };
        let line = line.trim_end_matches(['\r', '\n']);
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        match verb.to_ascii_uppercase().as_str() {
            "EHLO" => {
                self.reset();
                self.greeted = true;
                let utf8 = if self.faults.without_smtputf8 { "" } else { "250-SMTPUTF8\r\n" };
                // A password is asked for only where it is to be answered wrongly.
                let auth = self.fault(Phase::Auth).map_or("", |_| "250-AUTH PLAIN\r\n");
                Next::Reply(format!(
                    "250-quadrille\r\n250-PIPELINING\r\n250-8BITMIME\r\n{utf8}{auth}250 SIZE {MAIL_BYTES}"
                ))
            }
            "HELO" => {
                self.reset();
                self.greeted = true;
                reply("250 quadrille")
            }
            "NOOP" => reply("250 OK"),
            "RSET" => {
                self.reset();
                reply("250 OK")
            }
            "QUIT" => Next::Quit,
            "VRFY" => reply("252 Send it and see"),
            "MAIL" | "RCPT" | "DATA" if !self.greeted => reply("503 EHLO first"),
            "MAIL" => self.mail(rest),
            "RCPT" if self.from.is_none() => reply("503 MAIL first"),
            "RCPT" => self.recipient(rest),
            "DATA" if self.to.is_empty() => reply("503 RCPT first"),
            "DATA" => self.data(),
            _ => reply("502 Not known here"),
        }
    }

    fn reset(&mut self) {
        self.from = None;
        self.to.clear();
    }

    fn mail(&mut self, rest: &str) -> Next {
        let reply = |reply: &str| Next::Reply(reply.to_owned());
        if self.from.is_some() {
            return reply("503 One mail at a time");
        }
        let Some((from, parameters)) = path(rest, "FROM:") else {
            return reply("501 MAIL FROM:<address> is needed");
        };
        if self.faults.without_smtputf8 && parameters.split(' ').any(|parameter| parameter == "SMTPUTF8") {
            return reply("555 5.5.4 SMTPUTF8 is not known here");
        }
        let sizes = parameters.split(' ').filter_map(|parameter| parameter.strip_prefix("SIZE="));
        if sizes.filter_map(|size| size.parse::<u64>().ok()).any(|size| size > MAIL_BYTES as u64) {
            return reply("552 Too large");
        }
        self.from = Some(from.to_owned());
        reply("250 OK")
    }

    fn recipient(&mut self, rest: &str) -> Next {
        let reply = |reply: &str| Next::Reply(reply.to_owned());
        let Some((to, _)) = path(rest, "TO:").filter(|(to, _)| !to.is_empty()) else {
            return reply("501 RCPT TO:<address> is needed");
        };
        if self.to.len() >= RECIPIENTS {
            return reply("452 Too many recipients");
        }
        if self.faults.without_smtputf8 && !to.is_ascii() {
            return reply("553 5.6.7 Not without SMTPUTF8");
        }
        let mut kept = self.catcher.kept();
        match address(to) {
            Address::Rejects550 => {
                kept.counts_mut().rejected += 1;
                return reply("550 5.1.1 Nobody here has this address");
            }
            Address::Defers451(times) if kept.deferrals(to) < times => {
                kept.counts_mut().deferred += 1;
                return reply("451 4.3.0 Not now, try again");
            }
            _ => {}
        }
        self.to.push(to.to_owned());
        reply("250 OK")
    }

    fn data(&mut self) -> Next {
        let mut kept = self.catcher.kept();
        let cuts = |to: &String| address(to) == Address::CutsBeforeDataOnce && kept.deferrals(to) == 0;
        if self.to.iter().any(cuts) {
            kept.counts_mut().cut += 1;
            return Next::Cut;
        }
        Next::Text
    }

    /// Reads the text to its end and takes the mail. `None`: the connection is cut.
    async fn text(&mut self) -> io::Result<Option<String>> {
        let (mut raw, mut line, mut too_large) = (Vec::new(), Vec::new(), false);
        loop {
            if !read_line(&mut self.reader, &mut line, LINE_BYTES).await? {
                return Ok(None);
            }
            // Only CR LF . CR LF ends a text. Who takes a bare LF for a line's end lets mails be smuggled into one another.
            let begins_line = raw.is_empty() || raw.ends_with(b"\r\n");
            if begins_line && line == b".\r\n" {
                break;
            }
            let unstuffed = if begins_line && line.first() == Some(&b'.') { &line[1..] } else { &line[..] };
            if raw.len() + unstuffed.len() > MAIL_BYTES {
                // The rest is read and dropped; whether a line begins has to be known still.
                too_large = true;
                raw.clear();
            }
            raw.extend_from_slice(unstuffed);
        }
        let (from, to) = (self.from.take().unwrap_or_default(), std::mem::take(&mut self.to));
        if too_large {
            return Ok(Some("552 Too large".to_owned()));
        }
        self.take(from, to, &raw).await
    }

    async fn take(&mut self, from: String, to: Vec<String>, raw: &[u8]) -> io::Result<Option<String>> {
        let behaviours: Vec<Address> = to.iter().map(|to| address(to)).collect();
        {
            let mut kept = self.catcher.kept();
            if behaviours.contains(&Address::RejectsData554) {
                kept.counts_mut().rejected += 1;
                return Ok(Some("554 5.6.0 This mail is not wanted".to_owned()));
            }
            if let Err(error) = kept.take(from, to, raw) {
                tracing::error!(%error, "A mail could not be kept");
                return Ok(Some("451 4.3.0 It could not be kept".to_owned()));
            }
            let copies = kept.newest().next().map_or(0, |mail| kept.copies(&mail.message_id));
            if behaviours.contains(&Address::CutsAfterDataOnce) && copies == 1 {
                kept.counts_mut().cut += 1;
                return Ok(None);
            }
        }
        for behaviour in behaviours {
            if let Address::Slow(time) = behaviour {
                tokio::time::sleep(time).await;
            }
        }
        Ok(Some("250 OK, kept".to_owned()))
    }
}

/// The address in `FROM:<address> parameters`, and the parameters.
fn path<'a>(rest: &'a str, prefix: &str) -> Option<(&'a str, &'a str)> {
    let head = rest.get(..prefix.len())?;
    let rest = rest.get(prefix.len()..)?.trim_start().strip_prefix('<')?;
    // A quoted local part may hold a '>'; the last one ends the path, as parameters hold none.
    let (address, parameters) = rest.rsplit_once('>')?;
    (head.eq_ignore_ascii_case(prefix) && address.len() <= 600).then_some((address, parameters.trim()))
}

/// Reads a line with its end, or what there is of it after `limit` bytes. `false`: nothing more comes.
async fn read_line<R: AsyncBufReadExt + Unpin>(reader: &mut R, line: &mut Vec<u8>, limit: usize) -> io::Result<bool> {
    line.clear();
    loop {
        let available = timeout(TIMEOUT, reader.fill_buf()).await??;
        if available.is_empty() {
            return Ok(!line.is_empty());
        }
        let room = &available[..available.len().min(limit - line.len())];
        let end = room.iter().position(|byte| *byte == b'\n').map(|at| at + 1);
        let taken = end.unwrap_or(room.len());
        line.extend_from_slice(&room[..taken]);
        reader.consume(taken);
        if end.is_some() || line.len() >= limit {
            return Ok(true);
        }
    }
}
