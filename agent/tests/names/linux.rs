//! See `main.rs`.

#[path = "../support/sandbox.rs"]
mod support;

use cortex_agent_core::plan::{HostPort, NetMode};
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, ExitCode};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use support::*;

/// Listed in the policy; where it leads is said by the file of names.
const NAME: &str = "allowed.example";
/// An address that counts as public, and is this machine's in there.
const PUBLIC: &str = "93.184.216.34";
/// Says to the second process where its file of names is.
const INSIDE: &str = "CORTEX_TEST_NAMES";

pub(crate) fn main() -> ExitCode {
    let asked: Vec<String> = std::env::args().collect();
    if asked.iter().any(|word| word == "--list") {
        if !asked.iter().any(|word| word == "--ignored") {
            println!("a_name_leads_only_where_it_was_checked_and_a_tunnel_only_to_its_host: test");
        }
        return ExitCode::SUCCESS;
    }
    match std::env::var_os(INSIDE) {
        Some(hosts) => {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.unwrap().block_on(
                a_name_leads_only_where_it_was_checked_and_a_tunnel_only_to_its_host(Path::new(
                    &hosts,
                )),
            );
            ExitCode::SUCCESS
        }
        None => outside(),
    }
}

/// Namespaces in which the files of names are this test's, and the public address is this machine's.
fn outside() -> ExitCode {
    let dir = tempfile::tempdir().unwrap();
    let hosts = dir.path().join("hosts");
    std::fs::write(&hosts, line("127.0.0.1")).unwrap();
    std::fs::write(dir.path().join("nsswitch.conf"), "hosts: files\n").unwrap();
    let script = "set -e\nmount --make-rprivate /\nfor f in hosts nsswitch.conf; do mount --bind \"$1/$f\" /etc/$f; done\n\
                  \"$2\" lo \"$3\"\nshift 3\nexec \"$@\"\n";
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let mut command = Command::new("unshare");
    command.args(["--mount", "--net"]);
    if !user.is_root() {
        command.args(["--user", "--map-root-user"]);
    }
    command.args(["sh", "-c", script, "sh"]).arg(dir.path()).arg(attacks()).arg(PUBLIC);
    if !user.is_root() {
        command.args(["unshare", "--user"]);
        command.arg(format!("--map-user={}", user.as_raw()));
        command.arg(format!("--map-group={}", group.as_raw()));
    }
    let done = command.arg(std::env::current_exe().unwrap()).env(INSIDE, &hosts).status().unwrap();
    if done.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A line of the file of names, always of the same length, so that it is replaced at once.
fn line(address: &str) -> String {
    format!("{address:<40} {NAME}\n")
}

fn leads_to(hosts: &Path, addresses: &[&str]) {
    let text: String = addresses.iter().map(|address| line(address)).collect();
    // In its place: it is mounted.
    std::fs::write(hosts, text).unwrap();
}

/// A server that says hello to whoever says something, and keeps what it heard.
#[derive(Clone)]
struct Server {
    port: u16,
    heard: Arc<Mutex<Vec<u8>>>,
}

impl Server {
    fn new(address: &str, port: u16) -> Self {
        let listener = TcpListener::bind((address, port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = Self { port, heard: Arc::default() };
        let ears = Arc::clone(&server.heard);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, mut bytes) = (client.unwrap(), [0; 4096]);
                let read = client.read(&mut bytes).unwrap_or(0);
                ears.lock().unwrap().extend_from_slice(&bytes[..read]);
                if read > 0 {
                    client.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello").ok();
                }
            }
        });
        server
    }

    fn heard(&self) -> Vec<u8> {
        std::mem::take(&mut *self.heard.lock().unwrap())
    }
}

async fn says(room: &Room, port: u16, words: &[&str]) -> String {
    let mut plan = room.attack(words);
    plan.net = NetMode::Domains { allow: vec![HostPort { host: NAME.to_owned(), port }] };
    let ran = room.run(&plan).await;
    format!("{}{}", ran.out, ran.err)
}

async fn a_name_leads_only_where_it_was_checked_and_a_tunnel_only_to_its_host(hosts: &Path) {
    let public = Server::new(PUBLIC, 0);
    let private = Server::new("127.0.0.1", public.port);
    let port = public.port;
    for who in everybody() {
        let room = Room::new(who).await;
        checked_is_dialled(&room, hosts, &public, &private).await;
        leads_to(hosts, &[PUBLIC]);
        tunnels(&room, port, &public).await;
    }
}

/// What the name leads to is looked up once, checked, and that very address is dialled.
async fn checked_is_dialled(room: &Room, hosts: &Path, public: &Server, private: &Server) {
    let port = public.port;
    let get = format!("GET http://{NAME}:{port}/x HTTP/1.1");
    // The control: whoever just follows the name ends up inside.
    leads_to(hosts, &["127.0.0.1"]);
    let (mut control, mut said) = (TcpStream::connect((NAME, port)).unwrap(), String::new());
    control.write_all(b"x").unwrap();
    control.read_to_string(&mut said).unwrap();
    assert!(said.ends_with("hello") && private.heard() == b"x", "the control: {said}");
    for inside in [
        &["127.0.0.1"][..],
        &["169.254.169.254"],
        &["::1"],
        &["10.0.0.1"],
        &[PUBLIC, "127.0.0.1"],
        &["127.0.0.1", PUBLIC],
    ] {
        leads_to(hosts, inside);
        let said = says(room, port, &["proxy", &get]).await;
        assert!(said.starts_with("SAID HTTP/1.1 403"), "{:?} {inside:?}: {said}", room.who);
    }
    leads_to(hosts, &[PUBLIC]);
    let said = says(room, port, &["proxy", &get]).await;
    assert!(said.contains("200 OK") && said.contains("hello"), "{:?}: {said}", room.who);
    assert!(public.heard().starts_with(b"GET /x"), "{:?}", room.who);
    // It leads elsewhere every few microseconds.
    let over = Arc::new(AtomicBool::new(false));
    let flipper = {
        let (over, hosts) = (Arc::clone(&over), hosts.to_owned());
        std::thread::spawn(move || {
            use std::os::unix::fs::FileExt as _;
            let file = std::fs::OpenOptions::new().write(true).open(hosts).unwrap();
            while !over.load(Ordering::Relaxed) {
                for address in ["127.0.0.1", PUBLIC] {
                    file.write_all_at(line(address).as_bytes(), 0).unwrap();
                }
            }
        })
    };
    let (mut through, mut refused, mut tries) = (0, 0, 0);
    within("both answers", async {
        while through == 0 || refused == 0 || tries < 40 {
            let said = says(room, port, &["proxy", &get]).await;
            through += usize::from(said.contains("hello"));
            refused += usize::from(said.starts_with("SAID HTTP/1.1 403"));
            tries += 1;
        }
    })
    .await;
    over.store(true, Ordering::Relaxed);
    flipper.join().unwrap();
    assert_eq!(private.heard(), b"", "{:?}: after {tries} tries", room.who);
    public.heard();
}

/// A tunnel carries nothing but TLS whose server name is the host that was asked for.
async fn tunnels(room: &Room, port: u16, public: &Server) {
    let file = room.root.join("hello");
    let connect = format!("CONNECT {NAME}:{port} HTTP/1.1");
    let payload = format!("@{}", file.display());
    for (name, sni, passes) in
        [(NAME, true, true), ("evil.example", true, false), (NAME, false, false)]
    {
        std::fs::write(&file, hello(name, sni)).unwrap();
        room.give(&file);
        let said = says(room, port, &["proxy", &connect, "", &payload]).await;
        let heard = public.heard();
        assert_eq!(said.contains("hello"), passes, "{:?} {name} {sni}: {said}", room.who);
        assert_eq!(!heard.is_empty(), passes, "{:?} {name} {sni}", room.who);
    }
    std::fs::remove_file(&file).unwrap();
}

/// The first message of a real TLS client.
fn hello(name: &str, sni: bool) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap();
    let mut config =
        config.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    config.enable_sni = sni;
    let name = rustls::pki_types::ServerName::try_from(name.to_owned()).unwrap();
    let mut client = rustls::ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = Vec::new();
    client.write_tls(&mut bytes).unwrap();
    bytes
}
