//! Ten thousand handshakes that are begun and never ended, from many addresses.

use crate::machine::{Machine, address, still_serves};
use crate::raw::{Stranger, block_on};
use crate::support::{Server, wait};
use rustix::process::{Resource, getrlimit, setrlimit};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};
use tokio::net::TcpSocket;

const HANDSHAKES: u32 = 10_000;

/// The beginning of a client hello that never goes on.
const HALF: [u8; 11] = [22, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

/// A connection that comes from one of many addresses of this machine.
async fn from(n: u32, to: SocketAddr) -> std::io::Result<TcpStream> {
    let own = Ipv4Addr::from(u32::from(Ipv4Addr::new(127, 1, 0, 1)) + n % 2_000);
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((own, 0)))?;
    socket.connect(to).await?.into_std()
}

#[test]
fn ten_thousand_half_open_handshakes_are_bounded_and_others_are_served_meanwhile() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).unwrap();
    let server = Server::start(&[]);
    let (to, pid) = (address(&server), server.up_process().pid());
    let sockets = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let quiet = sockets();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let begun = Instant::now();
    let mut held = Vec::new();
    for n in 0..HANDSHAKES {
        let mut stream = runtime.block_on(from(n, to)).unwrap();
        stream.set_nonblocking(false).unwrap();
        // The server may have thrown it out already.
        stream.write_all(&HALF).ok();
        held.push(stream);
        if n % 2_500 == 2_499 {
            assert!(sockets() < quiet + 1_024 + 512, "{} sockets are open", sockets());
        }
    }
    // Meanwhile: a task on a node that is connected, a machine that joins, a new tunnel.
    still_serves(&server);
    assert!(block_on(Stranger::joined(&server, "n1").mint()).is_ok());
    let mut machine = Machine::joined(&server, "m1");
    machine.launch();
    machine.until_online(&server);
    // And all of them are gone soon, whether they were thrown out or ran out of time.
    for stream in &mut held {
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let mut byte = [0; 64];
        let end = stream.read(&mut byte);
        assert!(
            !matches!(&end, Err(e) if e.kind() == std::io::ErrorKind::WouldBlock),
            "still open"
        );
    }
    drop(held);
    wait::until("the server's sockets to be closed", || (sockets() < quiet + 64).then_some(()));
    assert!(begun.elapsed() < Duration::from_secs(120), "it took {:?}", begun.elapsed());
}

#[test]
fn one_address_cannot_hold_all_connections_and_nodes_do_not_count() {
    let server = Server::start(&[]);
    let node = Stranger::joined(&server, "n1");
    let (stranger, pid) = (Stranger::new(&server), server.up_process().pid());
    let sockets = || std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count();
    let quiet = sockets();
    block_on(async {
        let mut held = Vec::new();
        for _ in 0..700 {
            // What is refused looks like a connection until it is used.
            held.extend(stranger.channel().await.ok());
        }
        assert!(sockets() < quiet + 512 + 64, "{} sockets are open", sockets());
        assert!(node.mint().await.is_ok(), "a node's connection is another matter");
    });
    let _free = wait::until("room to come back", || block_on(stranger.channel()).ok());
    wait::until("the server's sockets to be closed", || (sockets() < quiet + 64).then_some(()));
    still_serves(&server);
}
