//! An outside over HTTP that says exactly what a test has it say, however wrong.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// How often [`Then::Drips`] does.
const DRIP: Duration = Duration::from_millis(20);

/// What follows once it has spoken.
#[derive(Clone, Debug)]
pub enum Then {
    /// The connection is closed.
    Closes,
    /// The connection stays, and nothing more is said.
    Silence,
    /// These bytes, again and again, as fast as they are read.
    Repeats(Vec<u8>),
    /// These bytes, one now and then, again and again.
    Drips(Vec<u8>),
}

/// A server that answers whatever it is asked with the same bytes. It ends when this is dropped.
#[derive(Debug)]
pub struct Speaker {
    /// `http://host:port`.
    pub url: String,
    heard: Arc<Mutex<Vec<String>>>,
    _tasks: JoinSet<()>,
}

impl Speaker {
    /// A server that says `bytes` to every request, and then this.
    pub async fn start(bytes: impl Into<Vec<u8>>, then: Then) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let (bytes, heard) = (bytes.into(), Arc::<Mutex<Vec<String>>>::default());
        let mut tasks = JoinSet::new();
        let hears = Arc::clone(&heard);
        tasks.spawn(async move {
            let mut talks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (bytes, then, hears) = (bytes.clone(), then.clone(), Arc::clone(&hears));
                talks.spawn(async move { drop(talk(stream, &bytes, then, &hears).await) });
            }
        });
        Ok(Self { url, heard, _tasks: tasks })
    }

    /// A server that answers with this status and this body, as it should be done.
    pub async fn answers(status: &str, body: &str) -> io::Result<Self> {
        let head =
            format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n", body.len());
        Self::start(head + body, Then::Closes).await
    }

    /// The first lines of the requests that came.
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn talk(mut stream: TcpStream, bytes: &[u8], then: Then, hears: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut request = vec![];
    // Requests of tests are small: the head comes in one piece, or in a few. What is left of a body is read below.
    while !request.windows(4).any(|four| four == b"\r\n\r\n") {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    let head = String::from_utf8_lossy(&request);
    hears.lock().unwrap_or_else(PoisonError::into_inner).push(head.lines().next().unwrap_or_default().to_owned());
    let (mut reads, mut writes) = stream.split();
    // Else a body that nobody read would cut the answer off.
    let drained = async { drop(tokio::io::copy(&mut reads, &mut tokio::io::sink()).await) };
    let spoken = async {
        writes.write_all(bytes).await?;
        match then {
            Then::Closes => writes.shutdown().await,
            Then::Silence => std::future::pending().await,
            Then::Repeats(more) => loop {
                writes.write_all(&more).await?;
            },
            Then::Drips(more) => loop {
                for byte in &more {
                    writes.write_all(&[*byte]).await?;
                    tokio::time::sleep(DRIP).await;
                }
            },
        }
    };
    // Whoever asked has gone once nothing more comes of it.
    tokio::select! {
        () = drained => Ok(()),
        spoken = spoken => spoken,
    }
}
