//! A proxy before a server that does what networks do: it goes silent, in one direction or both, cuts, refuses, and comes back.
//!
//! A connection that has gone silent stays so, and stays open: nothing is read of it any more, not even its end. That is what a network
//! leaves behind that has forgotten a connection, and what a suspended server looks like.

use std::{collections::BTreeMap, net::SocketAddr, sync::Arc};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// What the client says.
    ToServer,
    /// What the server answers.
    ToClient,
    /// Either.
    Both,
}

impl Direction {
    fn covers(self, way: Self) -> bool {
        self == Self::Both || self == way
    }
}

/// A proxy before one server. It ends with this value, and its connections with it.
pub struct Proxy {
    url: String,
    state: Arc<watch::Sender<State>>,
    serving: JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// The number that the next connection gets.
    next: u64,
    /// Connections with a lower number are cut.
    cut_below: u64,
    open: BTreeMap<u64, Option<Direction>>,
    new: New,
    /// What makes the connection that says it go silent, once.
    trap: Option<(Vec<u8>, Direction)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum New {
    #[default]
    Served,
    Silent(Direction),
    Refused,
}

impl State {
    fn is_silent(&self, connection: u64, way: Direction) -> bool {
        self.open.get(&connection).copied().flatten().is_some_and(|silent| silent.covers(way))
    }
}

impl Proxy {
    /// Serves before the server of this URL (`postgres://user:password@127.0.0.1:5433/name`, `http://...`), or before `host:port`.
    pub async fn before(url: &str) -> std::io::Result<Self> {
        let server = authority(url).to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let state = Arc::new(watch::Sender::new(State::default()));
        let serving = tokio::spawn(serve(listener, address, server.clone(), Arc::clone(&state)));
        Ok(Self { url: url.replacen(&server, &address.to_string(), 1), state, serving })
    }

    /// The URL that the proxy was made for, with its own address in it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Waits until somebody has a connection that is silent.
    pub async fn silent(&self) {
        // An error would mean that the sender is gone, which this value holds.
        let _ = self.state.subscribe().wait_for(|state| state.open.values().any(Option::is_some)).await;
    }

    /// The connections that there are go silent; new ones are served.
    pub fn silence(&self, direction: Direction) {
        self.state.send_modify(|state| state.open.values_mut().for_each(|silent| *silent = Some(direction)));
    }

    /// The connections that are still to come are taken, and silent.
    pub fn silence_new(&self, direction: Direction) {
        self.state.send_modify(|state| state.new = New::Silent(direction));
    }

    /// The connection that says `text` to the server goes silent by that: towards the server `text` does not arrive, towards the client
    /// only its answer is lost. Once; [`Self::sprung`] waits for it.
    ///
    /// PostgreSQL's clients say a statement's text when they prepare it, once a connection, and `COMMIT` each time.
    pub fn silence_at(&self, text: &str, direction: Direction) {
        self.state.send_modify(|state| state.trap = Some((text.as_bytes().to_vec(), direction)));
    }

    /// Waits until [`Self::silence_at`] has done what it does.
    pub async fn sprung(&self) {
        // An error would mean that the sender is gone, which this value holds.
        let _ = self.state.subscribe().wait_for(|state| state.trap.is_none()).await;
    }

    /// The connections that there are end.
    pub fn cut(&self) {
        self.state.send_modify(|state| state.cut_below = state.next);
    }

    /// Nobody listens any more; connections that there are go on.
    pub fn refuse(&self) {
        self.state.send_modify(|state| state.new = New::Refused);
    }

    /// New connections are served again, and nothing makes one silent. A silent one stays silent.
    pub fn heal(&self) {
        self.state.send_modify(|state| {
            state.new = New::Served;
            state.trap = None;
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.serving.abort();
        self.cut();
    }
}

/// `host:port` within a URL.
fn authority(url: &str) -> &str {
    let after_scheme = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = after_scheme.split(['/', '?']).next().unwrap_or_default();
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

async fn serve(listener: TcpListener, address: SocketAddr, server: String, state: Arc<watch::Sender<State>>) {
    let mut listener = Some(listener);
    let mut changes = state.subscribe();
    loop {
        if changes.borrow_and_update().new == New::Refused {
            listener = None;
            if changes.wait_for(|state| state.new != New::Refused).await.is_err() {
                return;
            }
        }
        let listening = match listener.take() {
            Some(listening) => listening,
            None => TcpListener::bind(address).await.expect("the proxy's own address is free again"),
        };
        tokio::select! {
            accepted = listening.accept() => {
                if let Ok((client, _)) = accepted {
                    tokio::spawn(connect(client, server.clone(), Arc::clone(&state)));
                }
            }
            changed = changes.changed() => if changed.is_err() { return },
        }
        listener = Some(listening);
    }
}

async fn connect(client: TcpStream, server: String, state: Arc<watch::Sender<State>>) {
    let mut connection = 0;
    state.send_modify(|state| {
        connection = state.next;
        state.next += 1;
        let silent = match state.new {
            New::Silent(direction) => Some(direction),
            New::Served | New::Refused => None,
        };
        state.open.insert(connection, silent);
    });
    let mut changes = state.subscribe();
    let forwarding = async {
        let server = TcpStream::connect(server).await?;
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
        tokio::join!(
            pump(from_client, to_server, Direction::ToServer, connection, &state),
            pump(from_server, to_client, Direction::ToClient, connection, &state),
        );
        std::io::Result::Ok(())
    };
    tokio::select! {
        () = async { drop(changes.wait_for(|state| connection < state.cut_below).await) } => {}
        _ = forwarding => {}
    }
    state.send_modify(|state| _ = state.open.remove(&connection));
}

/// Forwards one way until the end, or until this way is silent: then for ever nothing.
async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    way: Direction,
    connection: u64,
    state: &watch::Sender<State>,
) {
    let mut changes = state.subscribe();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = tokio::select! {
            biased;
            () = async { drop(changes.wait_for(|state| state.is_silent(connection, way)).await) } => {
                std::future::pending().await
            }
            read = from.read(&mut buffer) => read,
        };
        let Ok(count @ 1..) = read else { break };
        if way == Direction::ToServer {
            spring(state, connection, &buffer[..count]);
        }
        if !state.borrow().is_silent(connection, way) && to.write_all(&buffer[..count]).await.is_err() {
            break;
        }
    }
    let _ = to.shutdown().await;
}

/// Silences the connection if it says what the trap waits for.
fn spring(state: &watch::Sender<State>, connection: u64, said: &[u8]) {
    state.send_if_modified(|state| {
        let says = |(text, _): &mut (Vec<u8>, _)| said.windows(text.len().max(1)).any(|window| window == text);
        let Some((_, direction)) = state.trap.take_if(says) else { return false };
        state.open.insert(connection, Some(direction));
        true
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// A server that says everything back.
    async fn echo() -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        format!("echo://me:secret@{address}/path")
    }

    async fn says(stream: &mut TcpStream, text: &str) -> std::io::Result<String> {
        stream.write_all(text.as_bytes()).await?;
        let mut back = vec![0; text.len()];
        stream.read_exact(&mut back).await?;
        Ok(String::from_utf8(back).unwrap())
    }

    async fn is_silent(stream: &mut TcpStream) -> bool {
        tokio::time::timeout(Duration::from_millis(100), says(stream, "anybody?")).await.is_err()
    }

    async fn connect(proxy: &Proxy) -> std::io::Result<TcpStream> {
        TcpStream::connect(authority(proxy.url())).await
    }

    #[tokio::test]
    async fn silent_connections_stay_open_and_new_ones_are_served() {
        for direction in [Direction::ToServer, Direction::ToClient, Direction::Both] {
            let proxy = Proxy::before(&echo().await).await.unwrap();
            assert!(proxy.url().starts_with("echo://me:secret@127.0.0.1:") && proxy.url().ends_with("/path"));
            let mut old = connect(&proxy).await.unwrap();
            assert_eq!(says(&mut old, "hello").await.unwrap(), "hello");
            proxy.silence(direction);
            assert!(is_silent(&mut old).await);
            let mut new = connect(&proxy).await.unwrap();
            assert_eq!(says(&mut new, "hello").await.unwrap(), "hello");
            proxy.silence_new(direction);
            assert!(is_silent(&mut connect(&proxy).await.unwrap()).await);
            proxy.heal();
            let mut healed = connect(&proxy).await.unwrap();
            assert_eq!(says(&mut healed, "hello").await.unwrap(), "hello");
            assert!(is_silent(&mut old).await);
            proxy.cut();
            assert!(says(&mut healed, "hello").await.is_err());
        }
    }

    #[tokio::test]
    async fn refused_until_it_heals() {
        let proxy = Proxy::before(&echo().await).await.unwrap();
        let mut old = connect(&proxy).await.unwrap();
        says(&mut old, "hello").await.unwrap();
        proxy.refuse();
        let refused = async { while connect(&proxy).await.is_ok() {} };
        tokio::time::timeout(Duration::from_secs(5), refused).await.expect("nobody listens any more");
        assert_eq!(says(&mut old, "hello").await.unwrap(), "hello");
        proxy.heal();
        let served = async { while connect(&proxy).await.is_err() {} };
        tokio::time::timeout(Duration::from_secs(5), served).await.expect("it listens again");
    }

    #[tokio::test]
    async fn a_word_silences_the_connection_that_says_it() {
        let proxy = Proxy::before(&echo().await).await.unwrap();
        let (mut one, mut other) = (connect(&proxy).await.unwrap(), connect(&proxy).await.unwrap());
        says(&mut other, "hello").await.unwrap();
        proxy.silence_at("COMMIT", Direction::ToClient);
        says(&mut one, "BEGIN").await.unwrap();
        one.write_all(b"COMMIT").await.unwrap();
        proxy.sprung().await;
        assert!(is_silent(&mut one).await);
        assert_eq!(says(&mut other, "COMMIT").await.unwrap(), "COMMIT");
    }
}
