//! One mail over SMTP, phase by phase: each answer is held to what may be said there, and what a server says is bounded in bytes and time.
//!
//! lettre writes and reads; but of its transports' errors none tells in which phase it came, and that decides what it means: **only an
//! answer to RCPT, DATA or the end of the text is about the mail**. Whatever comes before is about us.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use lettre::{
    Address,
    transport::smtp::{
        Error,
        authentication::{Credentials, DEFAULT_MECHANISMS},
        client::{AsyncSmtpConnection, AsyncTokioStream, TlsParameters},
        commands::{Data, Mail, Rcpt},
        extension::{ClientId, Extension, MailBodyParameter, MailParameter},
        response::{Response, Severity},
    },
};
use percent_encoding::percent_decode_str;
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};
use tokio_rustls::TlsConnector;
use url::Url;

/// Connections to the mail server at most.
const CONNECTIONS: usize = 16;
/// What a server may say in one talk, certificates included: a sound one says less than 10 KiB. No more than this, since lettre reads an
/// answer's lines anew with each line.
const SAID_BYTES: usize = 32 * 1024;
/// How long a server may take to say goodbye, which changes nothing.
const GOODBYE: Duration = Duration::from_secs(1);

/// A mail server, and how it is talked to. Each mail has a connection of its own: none can be stale, or bear another one's answers.
#[derive(Debug)]
pub(crate) struct Server {
    host: String,
    port: u16,
    tls: Tls,
    hello: ClientId,
    credentials: Option<Credentials>,
    timeout: Duration,
    seats: Semaphore,
}

enum Tls {
    No,
    Offered(TlsParameters),
    Required(TlsParameters),
    FromTheStart(TlsConnector, ServerName<'static>),
}

/// What came of a talk.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Talk {
    /// The server has the mail.
    Taken,
    /// It will not take it, and says so in this sentence.
    Refused(String),
    /// It offers no SMTPUTF8, without which the recipient cannot be named to it.
    NeedsSmtpUtf8,
    /// Nothing is known of the mail, for this reason.
    Unknown(String),
}

impl Server {
    /// The server at `smtp://`, with `?tls=opportunistic` or `required`, or `smtps://`. What is wrong is said without a word of the
    /// address: any part of it may be a password that was written at the wrong place.
    pub fn new(url: &str, timeout: Duration) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| format!("it cannot be read: {error}"))?;
        // An IPv6 address stands in brackets, which are no part of it.
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err("it has no host".into());
        }
        if url.port() == Some(0) {
            return Err("its port is 0, at which nobody listens".into());
        }
        if !url.path().trim_matches('/').is_empty() || url.fragment().is_some() {
            return Err("it has a path or something behind #, and a mail server has neither".into());
        }
        if url.username().is_empty() != url.password().is_none() {
            return Err("of user and password it has one only".into());
        }
        let parameters = || TlsParameters::new(host.clone()).map_err(|error| error.to_string());
        let (tls, port) = match (url.scheme(), url.query()) {
            ("smtp", None) => (Tls::No, 25),
            ("smtp", Some("tls=opportunistic")) => (Tls::Offered(parameters()?), 587),
            ("smtp", Some("tls=required")) => (Tls::Required(parameters()?), 587),
            ("smtps", None) => {
                let name = ServerName::try_from(host.clone()).map_err(|error| error.to_string())?;
                (Tls::FromTheStart(connector()?, name), 465)
            }
            ("smtp", _) => return Err("behind ? it has something else than tls=required or tls=opportunistic".into()),
            ("smtps", _) => return Err("it has something behind ?, and is encrypted from the start".into()),
            _ => return Err("its scheme is another one".into()),
        };
        let text = |encoded: &str| {
            let decoded = percent_decode_str(encoded).decode_utf8().map(|text| text.into_owned());
            decoded.map_err(|_| "user or password are no text once their percent signs are read".to_owned())
        };
        let credentials = match url.password() {
            Some(password) => Some(Credentials::new(text(url.username())?, text(password)?)),
            None => None,
        };
        let port = url.port().unwrap_or(port);
        let seats = Semaphore::new(CONNECTIONS);
        Ok(Self { host, port, tls, hello: ClientId::default(), credentials, timeout, seats })
    }

    /// Sends one mail to one recipient.
    pub async fn send(&self, from: &Address, to: &Address, mail: &[u8]) -> Talk {
        let deadline = Instant::now() + self.timeout;
        let Ok(Ok(_seat)) = timeout_at(deadline, self.seats.acquire()).await else {
            return Talk::Unknown(format!("all {CONNECTIONS} connections are taken"));
        };
        let mut open = None;
        let talk = timeout_at(deadline, async {
            match self.connect().await {
                Ok(connection) => deliver(open.insert(connection), from, to, mail).await,
                Err(error) => Err(Talk::Unknown(format!("before the mail: {error}"))),
            }
        });
        let said = match talk.await {
            Ok(Ok(())) => Talk::Taken,
            Ok(Err(other)) => other,
            // Cut in the middle of whatever it was.
            Err(_elapsed) => return Talk::Unknown("no answer in time".to_owned()),
        };
        if let Some(mut connection) = open {
            // Beside the try, which has its answer: a server need not say good-bye.
            tokio::spawn(async move { timeout(GOODBYE, connection.quit()).await });
        }
        said
    }

    /// All that comes before a mail.
    async fn connect(&self) -> Result<AsyncSmtpConnection, String> {
        let unreachable = |error: io::Error| format!("it cannot be reached: {error}");
        let stream = TcpStream::connect((self.host.as_str(), self.port)).await.map_err(unreachable)?;
        stream.set_nodelay(true).map_err(unreachable)?;
        let peer = stream.peer_addr().map_err(unreachable)?;
        let bounded: Box<dyn AsyncTokioStream> = match &self.tls {
            Tls::FromTheStart(connector, name) => {
                let stream = connector.connect(name.clone(), stream).await.map_err(|error| format!("TLS: {error}"))?;
                Box::new(Bounded { stream, peer, left: SAID_BYTES })
            }
            Tls::No | Tls::Offered(_) | Tls::Required(_) => Box::new(Bounded { stream, peer, left: SAID_BYTES }),
        };
        let said = |error: Error| error.to_string();
        let mut connection = AsyncSmtpConnection::connect_with_transport(bounded, &self.hello).await.map_err(said)?;
        match &self.tls {
            Tls::Required(parameters) => connection.starttls(parameters.clone(), &self.hello).await.map_err(said)?,
            Tls::Offered(parameters) if connection.can_starttls() => {
                connection.starttls(parameters.clone(), &self.hello).await.map_err(said)?;
            }
            _ => {}
        }
        if let Some(credentials) = &self.credentials {
            connection.auth(DEFAULT_MECHANISMS, credentials).await.map_err(said)?;
        }
        Ok(connection)
    }
}

async fn deliver(connection: &mut AsyncSmtpConnection, from: &Address, to: &Address, mail: &[u8]) -> Result<(), Talk> {
    let offers = |extension| connection.server_info().supports_feature(extension);
    let mut parameters = vec![];
    if !AsRef::<str>::as_ref(to).is_ascii() {
        if !offers(Extension::SmtpUtfEight) {
            return Err(Talk::NeedsSmtpUtf8);
        }
        parameters.push(MailParameter::SmtpUtfEight);
        // Who offers the one has to offer the other (RFC 6531, section 3.1): the recipient stands in the head as it is.
        parameters.push(MailParameter::Body(MailBodyParameter::EightBitMime));
    }
    let (done, go_on) = (Severity::PositiveCompletion, Severity::PositiveIntermediate);
    let answer = connection.command(Mail::new(Some(from.clone()), parameters)).await;
    expect("MAIL", answer, done).map_err(Talk::unknown)?;
    expect("RCPT", connection.command(Rcpt::new(to.clone(), vec![])).await, done)?;
    expect("DATA", connection.command(Data).await, go_on)?;
    expect("the end of the text", connection.message(mail).await, done)
}

/// Holds an answer to the one that means yes in this phase. A refusal for good is one; all else says nothing.
fn expect(phase: &str, answer: Result<Response, Error>, yes: Severity) -> Result<(), Talk> {
    match answer {
        Ok(response) if response.code().severity == yes => Ok(()),
        Ok(response) => Err(Talk::Unknown(format!("{phase}: {} is no answer to it", response.code()))),
        Err(error) if error.is_permanent() => Err(Talk::Refused(format!("{phase}: {error}"))),
        Err(error) => Err(Talk::Unknown(format!("{phase}: {error}"))),
    }
}

impl Talk {
    /// What a refusal means where it is not about the mail.
    fn unknown(self) -> Self {
        match self {
            Self::Refused(why) => Self::Unknown(why),
            other => other,
        }
    }
}

fn connector() -> Result<TlsConnector, String> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::No => "No",
            Self::Offered(_) => "Offered",
            Self::Required(_) => "Required",
            Self::FromTheStart(..) => "FromTheStart",
        })
    }
}

/// A connection on which no more is said than it should be: lettre reads a line to its end, however long it is.
#[derive(Debug)]
struct Bounded<S> {
    stream: S,
    peer: SocketAddr,
    left: usize,
}

impl<S: AsyncRead + Unpin> AsyncRead for Bounded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        let left = self.left.checked_sub(buffer.filled().len() - before);
        self.left = left.ok_or_else(|| io::Error::other(format!("it says more than {SAID_BYTES} bytes")))?;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Bounded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S> AsyncTokioStream for Bounded<S>
where
    S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug,
{
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
