//! A TCP proxy between an agent and its gateway: it can be cut, and it can stop at the very frame that a
//! test names. It never changes, reorders or drops a byte of a connection that lives.

use super::Server;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the agent to the gateway.
    Up,
    /// From the gateway to the agent.
    Down,
}

/// When to stop: at the first piece on its way that holds one text and not the other.
#[derive(Clone, Debug)]
pub(crate) struct Stop {
    pub(crate) way: Way,
    pub(crate) holds: String,
    pub(crate) without: Option<String>,
}

#[derive(Default)]
struct State {
    /// Connections are refused and dropped.
    cut: bool,
    stop: Option<Stop>,
    /// The stop was reached: nothing goes that way any more.
    reached: bool,
    links: Vec<TcpStream>,
    passed: u64,
    over: bool,
}

type Shared = Arc<(Mutex<State>, Condvar)>;

/// A running proxy.
pub(crate) struct Proxy {
    shared: Shared,
    address: SocketAddr,
    endpoint: PathBuf,
}

impl Proxy {
    /// A proxy in front of a server, and the endpoint file that leads agents to it.
    pub(crate) fn start(server: &Server, name: &str) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = server.path(&format!("{name}-endpoint.json"));
        let text = format!(r#"{{"version":1,"url":"http://{address}","pid":0}}"#);
        std::fs::write(&endpoint, text).unwrap();
        let shared = Shared::default();
        let (inner, target) = (Arc::clone(&shared), server.data().join("endpoint.json"));
        std::thread::spawn(move || accept(&listener, &inner, &target));
        Proxy { shared, address, endpoint }
    }

    pub(crate) fn endpoint(&self) -> PathBuf {
        self.endpoint.clone()
    }

    /// Drops every connection and refuses new ones.
    pub(crate) fn cut(&self) {
        let mut state = self.shared.0.lock().unwrap();
        state.cut = true;
        drop_links(&mut state);
    }

    /// Lets connections through again.
    pub(crate) fn heal(&self) {
        let mut state = self.shared.0.lock().unwrap();
        state.cut = false;
        state.stop = None;
        state.reached = false;
        // What was held back belongs to connections that are dead for one side.
        drop_links(&mut state);
        self.shared.1.notify_all();
    }

    /// Will hold everything back, from the piece that this names.
    pub(crate) fn stop_at(&self, stop: Stop) {
        self.shared.0.lock().unwrap().stop = Some(stop);
    }

    /// Whether that piece came.
    pub(crate) fn reached(&self) -> bool {
        self.shared.0.lock().unwrap().reached
    }

    /// Bytes that went through, both ways.
    pub(crate) fn passed(&self) -> u64 {
        self.shared.0.lock().unwrap().passed
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let mut state = self.shared.0.lock().unwrap();
        state.over = true;
        drop_links(&mut state);
        self.shared.1.notify_all();
        drop(state);
        // Wakes the accepting thread, which then ends.
        TcpStream::connect(self.address).ok();
    }
}

fn drop_links(state: &mut State) {
    for link in state.links.drain(..) {
        link.shutdown(Shutdown::Both).ok();
    }
}

fn accept(listener: &TcpListener, shared: &Shared, target: &Path) {
    for client in listener.incoming() {
        let mut state = shared.0.lock().unwrap();
        if state.over {
            return;
        }
        let (Ok(client), false) = (client, state.cut) else { continue };
        let Some(gateway) = connect(target) else { continue };
        let copies = [client.try_clone().unwrap(), gateway.try_clone().unwrap()];
        state.links.extend(copies);
        drop(state);
        pump(Way::Up, client.try_clone().unwrap(), gateway.try_clone().unwrap(), shared);
        pump(Way::Down, gateway, client, shared);
    }
}

/// A connection to where the server says it is; none while it is away.
fn connect(endpoint: &Path) -> Option<TcpStream> {
    let text = std::fs::read(endpoint).ok()?;
    let value: serde_json::Value = serde_json::from_slice(&text).ok()?;
    let stream = TcpStream::connect(value["url"].as_str()?.strip_prefix("http://")?).ok()?;
    stream.set_nodelay(true).ok()?;
    Some(stream)
}

fn pump(way: Way, mut from: TcpStream, mut to: TcpStream, shared: &Shared) {
    let shared = Arc::clone(shared);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(n @ 1..) = from.read(&mut buffer) {
            let piece = &buffer[..n];
            if !may_pass(way, piece, &shared) || to.write_all(piece).is_err() {
                break;
            }
        }
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    });
}

/// Waits while this way is held. False when the piece must not go on: its connection was dropped meanwhile.
fn may_pass(way: Way, piece: &[u8], shared: &Shared) -> bool {
    let (lock, changed) = &**shared;
    let mut state = lock.lock().unwrap();
    let Some(stop) = state.stop.clone().filter(|s| s.way == way) else {
        state.passed += piece.len() as u64;
        return true;
    };
    let has = |text: &str| piece.windows(text.len()).any(|part| part == text.as_bytes());
    let is_named = has(&stop.holds) && !stop.without.is_some_and(|w| has(&w));
    if !state.reached && !is_named {
        state.passed += piece.len() as u64;
        return true;
    }
    state.reached = true;
    while state.reached && !state.over {
        state = changed.wait(state).unwrap();
    }
    false
}
