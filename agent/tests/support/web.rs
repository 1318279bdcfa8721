//! Sites on the machine's loopback that remember what they were asked.

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use tokio::sync::watch;

/// An answer: lines of its head, and its body.
pub(crate) type Answer = (String, Vec<u8>);

/// See the module.
pub(crate) struct Site {
    pub(crate) port: u16,
    asked: watch::Sender<Vec<String>>,
}

/// A page.
pub(crate) fn page(body: &str) -> Answer {
    ("content-type: text/html; charset=utf-8\r\n".to_owned(), body.as_bytes().to_vec())
}

impl Site {
    /// Serves these paths; the answer to others is "not found". `$PORT` in a body is its own port.
    pub(crate) fn new(pages: &[(&str, Answer)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let own: BTreeMap<String, Answer> = pages
            .iter()
            .map(|(path, (head, body))| {
                let text = String::from_utf8_lossy(body).replace("$PORT", &port.to_string());
                let body = if body.is_ascii() { text.into_bytes() } else { body.clone() };
                ((*path).to_owned(), (head.replace("$PORT", &port.to_string()), body))
            })
            .collect();
        let (own, asked) = (Arc::new(own), watch::Sender::<Vec<String>>::default());
        let heard = asked.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (client, own, heard) = (client.unwrap(), Arc::clone(&own), heard.clone());
                std::thread::spawn(move || serve(client, &own, &heard));
            }
        });
        Self { port, asked }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// The heads of all requests until now.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.asked.borrow().clone()
    }

    /// As if nothing had been asked.
    pub(crate) fn forget(&self) {
        self.asked.send_modify(Vec::clear);
    }

    /// Whether a path was asked for.
    pub(crate) fn heard_of(&self, path: &str) -> bool {
        named(&self.asked(), path)
    }

    /// Waits until a path was asked for.
    pub(crate) async fn hears_of(&self, path: &str) {
        let mut asked = self.asked.subscribe();
        asked.wait_for(|asked| named(asked, path)).await.unwrap();
    }
}

fn named(asked: &[String], path: &str) -> bool {
    asked.iter().any(|head| head.split(' ').nth(1) == Some(path))
}

fn serve(
    mut client: TcpStream,
    pages: &BTreeMap<String, Answer>,
    heard: &watch::Sender<Vec<String>>,
) {
    let (mut bytes, mut more) = (Vec::new(), [0; 4096]);
    while !bytes.windows(4).any(|four| four == b"\r\n\r\n") {
        match client.read(&mut more) {
            Ok(0) | Err(_) => return,
            Ok(read) => bytes.extend_from_slice(&more[..read]),
        }
    }
    let head = String::from_utf8_lossy(&bytes).into_owned();
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    heard.send_modify(|all| all.push(head));
    let missing = ("content-type: text/plain\r\n".to_owned(), b"not found".to_vec());
    let known = pages.get(&path);
    let (lines, body) = known.unwrap_or(&missing);
    let status = match lines.split_once("location:") {
        Some(_) => "302 Found",
        None if known.is_some() => "200 OK",
        None => "404 Not Found",
    };
    // Without an end: a page that never is complete.
    let endless = lines.contains("x-endless");
    let length =
        if endless { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{length}{lines}\r\n");
    // Whoever asked may be gone.
    if client.write_all(head.as_bytes()).and_then(|()| client.write_all(body)).is_ok() && endless {
        let repeated = lines.contains("x-endless: flood");
        let flood = vec![b'x'; 64 * 1024];
        while repeated && client.write_all(&flood).is_ok() {}
        // Until the other side has enough.
        drop(client.read(&mut more));
    }
}
