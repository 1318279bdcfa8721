//! A connection after its handshake: the stream, and what is known of who is at its other end.

use super::strangers::{Stranger, Strangers};
use crate::authority::PeerCertificate;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::Connected;

/// How long a peer may say nothing after its handshake.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// What is known of a peer; in the extensions of each of its requests.
#[derive(Clone, Debug)]
pub(crate) struct PeerInfo {
    /// Where it comes from.
    pub(crate) address: SocketAddr,
    /// Its certificate, if it showed one of a node. TLS has checked it.
    pub(crate) certificate: Option<Arc<PeerCertificate>>,
}

impl PeerInfo {
    /// A peer of which nothing is known.
    pub(crate) fn unknown() -> PeerInfo {
        PeerInfo { address: (IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0).into(), certificate: None }
    }
}

/// See the module.
pub(crate) struct Peer {
    stream: TlsStream<TcpStream>,
    info: PeerInfo,
    /// Runs until the first byte came.
    silence: Option<Pin<Box<Sleep>>>,
    _room: OwnedSemaphorePermit,
    /// Held while the connection stands.
    _stranger: Option<Stranger>,
}

impl Peer {
    /// Counts it among the strangers of its address, if it is one.
    pub(super) fn admitted(mut self, strangers: &Arc<Strangers>) -> Result<Peer, &'static str> {
        if self.info.certificate.is_none() {
            let stranger = strangers.enter(self.info.address.ip());
            self._stranger = Some(stranger.ok_or("its address holds too many connections")?);
        }
        Ok(self)
    }

    pub(super) fn new(
        stream: TlsStream<TcpStream>,
        address: SocketAddr,
        room: OwnedSemaphorePermit,
    ) -> Peer {
        let shown = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
        let certificate = shown.and_then(|der| PeerCertificate::read(der)).map(Arc::new);
        let info = PeerInfo { address, certificate };
        let silence = Some(Box::pin(tokio::time::sleep(FIRST_WORD)));
        Peer { stream, info, silence, _room: room, _stranger: None }
    }
}

impl Connected for Peer {
    type ConnectInfo = PeerInfo;
    fn connect_info(&self) -> PeerInfo {
        self.info.clone()
    }
}

impl AsyncRead for Peer {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_ready() {
            self.silence = None;
        } else if let Some(silence) = &mut self.silence
            && silence.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        read
    }
}

impl AsyncWrite for Peer {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }
    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
