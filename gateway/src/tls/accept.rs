//! Accepts connections: one task per handshake, so that a slow peer delays nobody, and never more than the bounds allow.

use super::Keys;
use super::crowd::Crowd;
use super::peer::Peer;
use super::strangers::Strangers;
use cortex_model::limits::identity::{CONNECTIONS_MAX, HANDSHAKE_MS};
use futures::Stream;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Connections that wait to be served.
const READY_QUEUED: usize = 256;
/// Pause after the system refused to accept (no file descriptors left, for example).
const PAUSE: Duration = Duration::from_millis(50);

/// How long, and for how many bytes, a peer that was refused is still listened to.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_BYTES: u64 = 64 * 1024;

#[derive(Default)]
struct Shaking {
    crowd: Crowd,
    ends: HashMap<u64, CancellationToken>,
}

/// Connections whose handshakes are done, as they come, until `stop`.
pub(crate) fn accept(
    listener: TcpListener,
    keys: Arc<Keys>,
    stop: CancellationToken,
) -> impl Stream<Item = io::Result<Peer>> {
    let (ready, connections) = mpsc::channel(READY_QUEUED);
    tokio::spawn(async move {
        let shaking = Arc::new(Mutex::new(Shaking::default()));
        let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let strangers = Arc::new(Strangers::default());
        loop {
            let (tcp, address) = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(e) => {
                        tracing::warn!(error = %e, "a connection cannot be accepted");
                        tokio::time::sleep(PAUSE).await;
                        continue;
                    }
                },
            };
            let Ok(permit) = room.clone().try_acquire_owned() else {
                metrics::counter!("cortex_connections_refused_total").increment(1);
                continue;
            };
            let (number, end) = enter(&shaking, address);
            let acceptor = TlsAcceptor::from(keys.config());
            let (ready, shaking, strangers) = (ready.clone(), shaking.clone(), strangers.clone());
            tokio::spawn(async move {
                let shaken = tokio::select! {
                    shaken = shake(tcp, address, acceptor, permit) => shaken,
                    () = end.cancelled() => Err("others came"),
                };
                let shaken = shaken.and_then(|peer| peer.admitted(&strangers));
                {
                    let mut shaking = lock(&shaking);
                    shaking.crowd.leave(number);
                    shaking.ends.remove(&number);
                }
                match shaken {
                    // Nobody takes it any more when the server has ended.
                    Ok(peer) => drop(ready.send(Ok(peer)).await),
                    Err(why) => {
                        metrics::counter!("cortex_handshakes_failed_total").increment(1);
                        tracing::debug!(%address, why, "a handshake came to nothing");
                    }
                }
            });
        }
    });
    ReceiverStream::new(connections)
}

fn enter(shaking: &Mutex<Shaking>, address: SocketAddr) -> (u64, CancellationToken) {
    let mut shaking = lock(shaking);
    let (number, out) = shaking.crowd.enter(address.ip());
    if let Some(end) = out.and_then(|out| shaking.ends.remove(&out)) {
        end.cancel();
    }
    let end = CancellationToken::new();
    shaking.ends.insert(number, end.clone());
    (number, end)
}

async fn shake(
    tcp: TcpStream,
    address: SocketAddr,
    acceptor: TlsAcceptor,
    room: OwnedSemaphorePermit,
) -> Result<Peer, &'static str> {
    tcp.set_nodelay(true).map_err(|_| "the socket is gone")?;
    let shaking = acceptor.accept(tcp).into_fallible();
    match tokio::time::timeout(Duration::from_millis(HANDSHAKE_MS), shaking).await {
        Ok(Ok(stream)) => Ok(Peer::new(stream, address, room)),
        Ok(Err((e, tcp))) => {
            tracing::debug!(%address, error = %e, "a handshake failed");
            if refuses_certificate(&e) {
                linger(tcp).await;
            }
            Err("it failed")
        }
        Err(_) => Err("it took too long"),
    }
}

/// Whether the peer was told what is wrong with its certificate.
fn refuses_certificate(e: &io::Error) -> bool {
    let tls = e.get_ref().and_then(|e| e.downcast_ref());
    matches!(tls, Some(rustls::Error::InvalidCertificate(_)))
}

/// Lets the peer read why it was refused. With TLS 1.3 it has sent its first request by then, and a socket that is closed with bytes
/// unread resets the connection, which takes the reason with it.
async fn linger(mut tcp: TcpStream) {
    let hear = async {
        tcp.shutdown().await?;
        tokio::io::copy(&mut tcp.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    drop(tokio::time::timeout(LINGER, hear).await);
}

fn lock(shaking: &Mutex<Shaking>) -> MutexGuard<'_, Shaking> {
    shaking.lock().unwrap_or_else(PoisonError::into_inner)
}
