//! What a task can reach.

use crate::support::*;
use cortex_agent_core::plan::{HostPort, NetMode};
use std::net::{TcpListener, UdpSocket};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};

/// Listeners of the machine, none of which a task without network may reach.
struct Machine {
    tcp: TcpListener,
    tcp6: Option<TcpListener>,
    udp: UdpSocket,
    unix: UnixListener,
    named: UnixListener,
    path: String,
    name: String,
}

impl Machine {
    fn new(room: &Room) -> Self {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let tcp6 = TcpListener::bind("[::1]:0").ok();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let path = room.secret.with_file_name("socket");
        let unix = UnixListener::bind(&path).unwrap();
        room.give(&path);
        let name = format!("cortex-{}", tcp.local_addr().unwrap().port());
        let named =
            UnixListener::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        for listener in [&tcp].into_iter().chain(&tcp6) {
            listener.set_nonblocking(true).unwrap();
        }
        udp.set_nonblocking(true).unwrap();
        unix.set_nonblocking(true).unwrap();
        named.set_nonblocking(true).unwrap();
        Self { tcp, tcp6, udp, unix, named, path: path.to_str().unwrap().to_owned(), name }
    }

    /// Whether anybody has come by.
    fn was_reached(&self) -> bool {
        self.tcp.accept().is_ok()
            || self.tcp6.as_ref().is_some_and(|tcp| tcp.accept().is_ok())
            || self.udp.recv(&mut [0; 8]).is_ok()
            || self.unix.accept().is_ok()
            || self.named.accept().is_ok()
    }

    fn attacks(&self) -> Vec<Vec<String>> {
        let port =
            |address: std::io::Result<std::net::SocketAddr>| address.unwrap().port().to_string();
        let tcp = port(self.tcp.local_addr());
        let udp = port(self.udp.local_addr());
        let mut attacks = vec![
            vec!["tcp".to_owned(), "127.0.0.1".to_owned(), tcp.clone()],
            vec!["fastopen".to_owned(), tcp],
            vec!["udp".to_owned(), "127.0.0.1".to_owned(), udp],
            vec!["unix".to_owned(), self.path.clone()],
            vec!["abstract".to_owned(), self.name.clone()],
        ];
        if let Some(tcp6) = &self.tcp6 {
            attacks.push(vec!["tcp6".to_owned(), port(tcp6.local_addr())]);
        }
        attacks
    }
}

async fn reaches_nothing(room: &Room) {
    let machine = Machine::new(room);
    for words in machine.attacks() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let inside = room.inside(&words).await;
        assert!(inside.starts_with("BLOCKED"), "{:?} {words:?} inside: {inside}", room.who);
        assert!(!machine.was_reached(), "{:?} {words:?} reached a listener", room.who);
        room.outside(&words).await;
        assert!(machine.was_reached(), "{:?} {words:?}: the control reached nobody", room.who);
        // Some of them come twice.
        while machine.was_reached() {}
    }
}

#[tokio::test]
async fn a_task_without_network_reaches_nobody() {
    for who in everybody() {
        reaches_nothing(&Room::new(who).await).await;
    }
}

#[tokio::test]
async fn a_task_without_network_reaches_nobody_at_level_landlock_either() {
    for who in everybody() {
        let attack = attacks();
        let room = Room::behind(who, &[attack.to_str().unwrap(), "container"]).await;
        if room.armed().landlock_abi >= 6 {
            reaches_nothing(&room).await;
        }
    }
}

#[tokio::test]
async fn a_server_and_its_client_work_inside_one_task() {
    for who in everybody() {
        let room = Room::new(who).await;
        assert!(room.inside(&["within"]).await.starts_with("ESCAPED"), "{who:?}");
    }
}

/// A web server on the machine's loopback that counts what it is sent.
struct Web {
    port: u16,
    heard: std::sync::Arc<std::sync::Mutex<Vec<u8>>>,
}

impl Web {
    fn new() -> Self {
        use std::io::{Read as _, Write as _};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = std::sync::Arc::<std::sync::Mutex<Vec<u8>>>::default();
        let ears = heard.clone();
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, mut bytes) = (client.unwrap(), [0; 4096]);
                while let Ok(read) = client.read(&mut bytes) {
                    ears.lock().unwrap().extend_from_slice(&bytes[..read]);
                    if read == 0 || bytes[..read].ends_with(b"\r\n\r\n") {
                        break;
                    }
                }
                // A client that was refused may be gone.
                client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").ok();
            }
        });
        Self { port, heard }
    }

    fn heard(&self) -> String {
        String::from_utf8_lossy(&std::mem::take(&mut *self.heard.lock().unwrap())).into_owned()
    }
}

fn domains(allow: &[(&str, u16)]) -> NetMode {
    let entry = |(host, port): &(&str, u16)| HostPort { host: (*host).to_owned(), port: *port };
    NetMode::Domains { allow: allow.iter().map(entry).collect() }
}

#[tokio::test]
async fn with_a_list_of_names_only_what_is_listed_is_reached_and_only_through_the_proxy() {
    for who in everybody() {
        let (room, web) = (Room::new(who).await, Web::new());
        let port = web.port;
        // The machine's own address is listed as such; its name is listed as well, but a name may not lead there.
        let net = domains(&[("127.0.0.1", port), ("localhost", port), ("example.com", 443)]);
        let ask = async |words: &[&str]| {
            let mut plan = room.attack(words);
            plan.net = net.clone();
            let ran = room.run(&plan).await;
            format!("{}{}", ran.out, ran.err)
        };
        let get = format!("GET http://127.0.0.1:{port}/x HTTP/1.1");
        let said = ask(&["proxy", &get]).await;
        assert!(said.contains("200 OK") && said.contains("hello"), "{who:?}: {said}");
        let heard = web.heard();
        assert!(
            heard.starts_with("GET /x HTTP/1.1\r\n") && !heard.contains("proxy-auth"),
            "{heard}"
        );
        let tunnel = format!("CONNECT 127.0.0.1:{port} HTTP/1.1");
        for (words, answer) in [
            (vec!["proxy", &get, "no-token: 1"], "407"),
            (vec!["proxy", &format!("GET http://localhost:{port}/ HTTP/1.1")], "403"),
            (vec!["proxy", &format!("GET http://127.0.0.2:{port}/ HTTP/1.1")], "403"),
            (vec!["proxy", &format!("GET http://127.0.0.1:{}/ HTTP/1.1", port ^ 1)], "403"),
            (vec!["proxy", &format!("GET http://2130706433:{port}/ HTTP/1.1")], "400"),
            (vec!["proxy", &format!("GET http://0x7f000001:{port}/ HTTP/1.1")], "400"),
            (vec!["proxy", &format!("GET http://[::ffff:127.0.0.1]:{port}/ HTTP/1.1")], "403"),
            (vec!["proxy", "CONNECT localhost:443 HTTP/1.1"], "403"),
            (vec!["proxy", &get, "host: example.com"], "400"),
            (vec!["proxy", "CONNECT 169.254.169.254:80 HTTP/1.1"], "403"),
        ] {
            let said = ask(&words).await;
            assert!(
                said.starts_with(&format!("SAID HTTP/1.1 {answer}")),
                "{who:?} {words:?}: {said}"
            );
            assert_eq!(web.heard(), "", "{who:?} {words:?} got through");
        }
        // A tunnel that does not speak TLS carries nothing.
        let said = ask(&["proxy", &tunnel, "", "GET / HTTP/1.1\r\n\r\n"]).await;
        assert!(!said.contains("hello"), "{who:?}: {said}");
        assert_eq!(web.heard(), "", "{who:?}: a tunnel without TLS got through");
        // Around the proxy there is nothing.
        let port = port.to_string();
        let said = ask(&["tcp", "127.0.0.1", &port]).await;
        assert!(said.starts_with("BLOCKED"), "{who:?}: {said}");
        assert!(room.outside(&["tcp", "127.0.0.1", &port]).await.starts_with("ESCAPED"));
    }
}

#[tokio::test]
async fn in_mode_loopback_the_listed_ports_of_the_machine_are_reached_and_no_others() {
    for who in everybody() {
        let (room, listed, other) = (Room::new(who).await, Web::new(), Web::new());
        let reach = async |port: u16| {
            let port = port.to_string();
            let mut plan = room.attack(&["tcp", "127.0.0.1", &port]);
            plan.net = NetMode::Loopback { ports: vec![listed.port] };
            room.run(&plan).await.out
        };
        assert!(reach(listed.port).await.starts_with("ESCAPED"), "{who:?}");
        assert!(reach(other.port).await.starts_with("BLOCKED"), "{who:?}");
    }
}

#[tokio::test]
async fn two_tasks_do_not_meet_on_their_loopbacks() {
    for who in everybody() {
        let room = Room::new(who).await;
        // The proxy of one task listens on the same port in its own network.
        let mut first = room.attack(&["daemon", room.root.join("ready").to_str().unwrap()]);
        first.net = domains(&[("example.com", 443)]);
        let mut task = room.sandbox.launch(&first).unwrap();
        let listening =
            tokio::time::timeout(std::time::Duration::from_millis(1), task.ended()).await;
        assert!(listening.is_err());
        appears(&room.root.join("ready")).await;
        let said = room.inside(&["tcp", "127.0.0.1", "3128"]).await;
        assert!(said.contains("Connection refused"), "{who:?}: {said}");
        assert_eq!(task.clean_up().await.survivors, 0);
    }
}
