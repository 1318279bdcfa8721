//! The way out of a task whose network is a list of names: a proxy of the agent that listens inside the task's own
//! namespace, where nothing else is. It reads who is meant strictly, looks the name up once, and dials the very
//! address that it has checked. A tunnel must begin as TLS for the same name.
//!
//! What it cannot know: what is inside the encryption, and what the allowed host does with it.

mod authority;
mod hello;
mod request;

use authority::{Host, is_listed, is_public};
use base64::Engine as _;
use cortex_agent_core::plan::HostPort;
use cortex_model::limits::PROXY_CONNECTIONS_MAX;
use hello::{HELLO_MAX, Hello};
use request::{HEAD_MAX, Kind, Request};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, lookup_host};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a client may take for its head and its first message.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the way to a host may take.
const DIAL: Duration = Duration::from_secs(20);

/// What a proxy of one task goes by.
#[derive(Debug)]
pub(super) struct Rules {
    allow: Vec<HostPort>,
    credentials: String,
}

impl Rules {
    /// For a task that was told `token`.
    pub(super) fn new(allow: Vec<HostPort>, token: &str) -> Self {
        let pair = base64::engine::general_purpose::STANDARD.encode(format!("cortex:{token}"));
        Self { allow, credentials: format!("Basic {pair}") }
    }
}

/// Serves until it is dropped.
pub(super) async fn serve(listener: TcpListener, rules: Rules) {
    let rules = Arc::new(rules);
    each(listener, move |client| {
        let rules = Arc::clone(&rules);
        async move { answer(client, &rules).await }
    })
    .await;
}

/// Passes connections through to a port of the machine's own loopback.
pub(super) async fn pass(listener: TcpListener, port: u16) {
    each(listener, move |mut client| async move {
        if let Ok(mut server) = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await {
            copy_bidirectional(&mut client, &mut server).await.ok();
        }
    })
    .await;
}

async fn each<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    serve: impl Fn(TcpStream) -> F,
) {
    let room = Arc::new(Semaphore::new(PROXY_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let client = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
        };
        // The namespace is gone, or out of something that only its task can give back.
        let Ok((client, _)) = client else { return };
        let serving = serve(client);
        connections.spawn(async move {
            serving.await;
            drop(permit);
        });
    }
}

async fn answer(mut client: TcpStream, rules: &Rules) {
    let said = match timeout(PATIENCE, head(&mut client)).await {
        Ok(Some((head, rest))) => converse(&mut client, &head, rest, rules).await,
        Ok(None) | Err(_) => Err("400 Bad Request"),
    };
    if let Err(status) = said {
        let answer = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        // Whoever was refused may be gone already.
        client.write_all(answer.as_bytes()).await.ok();
    }
}

/// The head of a request, and what came after it.
async fn head(client: &mut TcpStream) -> Option<(Vec<u8>, Vec<u8>)> {
    let mut bytes = Vec::new();
    loop {
        if let Some(length) = request::head_length(&bytes) {
            let rest = bytes.split_off(length);
            return Some((bytes, rest));
        }
        if bytes.len() > HEAD_MAX || client.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

async fn converse(
    client: &mut TcpStream,
    head: &[u8],
    rest: Vec<u8>,
    rules: &Rules,
) -> Result<(), &'static str> {
    let request = request::parse(head).ok_or("400 Bad Request")?;
    if request.credentials != rules.credentials {
        return Err("407 Proxy Authentication Required\r\nproxy-authenticate: Basic");
    }
    let Request { host, port, kind, .. } = request;
    if !is_listed(&rules.allow, &host, port) {
        tracing::info!(?host, port, "a task may not reach this");
        return Err("403 Forbidden");
    }
    let mut server = dial(&host, port).await?;
    let moved = match kind {
        Kind::Connect => tunnel(client, &mut server, &host, rest).await?,
        Kind::Plain { head, body } => plain(client, &mut server, &head, body, rest).await,
    };
    tracing::debug!(?host, port, moved, "a task reached this");
    Ok(())
}

/// Looks a name up once, checks what it leads to, and dials that.
async fn dial(host: &Host, port: u16) -> Result<TcpStream, &'static str> {
    let addresses = match host {
        // The owner has listed this very address, so it is meant, also when it is private.
        Host::Address(address) => vec![SocketAddr::new(*address, port)],
        Host::Name(name) => {
            let found = timeout(DIAL, lookup_host((name.as_str(), port))).await;
            let found = found.ok().and_then(Result::ok).ok_or("502 Bad Gateway")?;
            allowed(found.map(|address| address.ip()))
                .into_iter()
                .map(|address| SocketAddr::new(address, port))
                .collect()
        }
    };
    if addresses.is_empty() {
        tracing::warn!(?host, "a listed name leads to an address that is not public");
        return Err("403 Forbidden");
    }
    let server = timeout(DIAL, TcpStream::connect(addresses.as_slice())).await;
    server.ok().and_then(Result::ok).ok_or("502 Bad Gateway")
}

/// The addresses that may be dialled. One that is not public spoils them all: it is how names are turned inwards.
fn allowed(found: impl Iterator<Item = IpAddr>) -> Vec<IpAddr> {
    let found: Vec<IpAddr> = found.collect();
    if found.iter().all(|address| is_public(*address)) { found } else { Vec::new() }
}

/// A tunnel, which must begin as TLS for the host that was asked for.
async fn tunnel(
    client: &mut TcpStream,
    server: &mut TcpStream,
    host: &Host,
    mut first: Vec<u8>,
) -> Result<u64, &'static str> {
    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.map_err(|_| "502 Bad Gateway")?;
    let listen = async {
        loop {
            match hello::read(&first) {
                Hello::Partial if first.len() < HELLO_MAX => {}
                said @ (Hello::Partial | Hello::Client(_) | Hello::Other) => return said,
            }
            match client.read_buf(&mut first).await {
                Ok(read) if read > 0 => {}
                Ok(_) | Err(_) => return Hello::Other,
            }
        }
    };
    let said = timeout(PATIENCE, listen).await.unwrap_or(Hello::Other);
    let right = match (&said, host) {
        (Hello::Client(Some(name)), Host::Name(host)) => name == host,
        // Clients send no name to a host that has none.
        (Hello::Client(name), Host::Address(_)) => name.is_none(),
        (Hello::Client(None) | Hello::Other | Hello::Partial, _) => false,
    };
    if !right {
        tracing::info!(?host, ?said, "a tunnel does not begin as TLS for its host; it is closed");
        return Ok(0);
    }
    server.write_all(&first).await.map_err(|_| "502 Bad Gateway")?;
    let moved = copy_bidirectional(client, server).await.unwrap_or((0, 0));
    Ok(first.len() as u64 + moved.0 + moved.1)
}

/// One request and its answer.
async fn plain(
    client: &mut TcpStream,
    server: &mut TcpStream,
    head: &str,
    body: u64,
    rest: Vec<u8>,
) -> u64 {
    let (mut from_client, mut to_client) = client.split();
    let (mut from_server, mut to_server) = server.split();
    let ask = async {
        to_server.write_all(head.as_bytes()).await?;
        // What follows the body would be another request, to whomever it likes.
        let known = usize::try_from(body).unwrap_or(usize::MAX).min(rest.len());
        to_server.write_all(&rest[..known]).await?;
        let more = body - known as u64;
        tokio::io::copy(&mut (&mut from_client).take(more), &mut to_server).await
    };
    let answer = tokio::io::copy(&mut from_server, &mut to_client);
    let (mut ask, mut answer) = (std::pin::pin!(ask), std::pin::pin!(answer));
    // The answer ends it, whether or not all was sent that was promised.
    let answered = tokio::select! {
        answered = &mut answer => answered,
        _ = &mut ask => answer.await,
    };
    answered.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_private_answer_spoils_a_name() {
        let parse =
            |list: &[&str]| list.iter().map(|a| a.parse().unwrap()).collect::<Vec<IpAddr>>();
        let good = parse(&["93.184.216.34", "2606:2800:220:1::1"]);
        assert_eq!(allowed(good.iter().copied()), good);
        for list in
            [&["127.0.0.1"][..], &["93.184.216.34", "169.254.169.254"], &["::ffff:10.0.0.1"]]
        {
            assert_eq!(allowed(parse(list).into_iter()), [] as [IpAddr; 0], "{list:?}");
        }
    }
}
