//! A real nats-server of its own: killed, and started again on the same port and files. It knows nothing of
//! Cortex; a raw request lets a test prepare what another program could have left there.

use super::wait;
use serde_json::Value;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Below the ports that systems hand out by themselves: a killed server's port must still be free when it
/// comes back, and a client that knocks meanwhile must not be given it as its own.
const PORTS: std::ops::Range<u16> = 10_000..32_000;
/// Starts on other ports before giving up: another test may take a port between looking and listening.
const ATTEMPTS: usize = 5;

/// A nats-server that acknowledges what is on disk. It is killed when dropped.
pub(crate) struct Nats {
    dir: PathBuf,
    port: u16,
    process: Option<Child>,
}

impl Nats {
    /// Starts one whose files lie in `dir`.
    pub(crate) fn start(dir: PathBuf) -> Nats {
        fs::create_dir_all(&dir).unwrap();
        let mut nats = Nats { dir, port: 0, process: None };
        let came_up = (0..ATTEMPTS).any(|_| {
            nats.port = free_port();
            nats.try_start()
        });
        assert!(came_up, "nats-server did not start: {}", nats.log());
        nats
    }

    /// Starts it again where it was.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        assert!(self.try_start(), "nats-server did not start again: {}", self.log());
    }

    /// kill -9.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://{}", self.address())
    }

    /// What it logged since its last start.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    /// One request as any client could make it, and the JSON of the answer.
    pub(crate) fn request(&self, subject: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(self.address()).unwrap();
        stream.set_read_timeout(Some(wait::DEADLINE)).unwrap();
        let inbox = "_INBOX.raw";
        let text = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false}}\r\nSUB {inbox} 1\r\n\
             PUB {subject} {inbox} {}\r\n{body}\r\n",
            body.len()
        );
        stream.write_all(text.as_bytes()).unwrap();
        let mut reader = BufReader::new(stream);
        loop {
            let mut line = String::new();
            assert!(reader.read_line(&mut line).unwrap() > 0, "nats-server hung up");
            if let Some(head) = line.strip_prefix("MSG ") {
                let size = head.split_whitespace().last().unwrap().parse().unwrap();
                let mut answer = vec![0; size];
                reader.read_exact(&mut answer).unwrap();
                return serde_json::from_slice(&answer).unwrap();
            }
            assert!(!line.starts_with("-ERR"), "{line}");
        }
    }

    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Whether it came up; not when somebody took its port.
    fn try_start(&mut self) -> bool {
        let config = self.dir.join("server.conf");
        let text = format!(
            "server_name: fleet\nlisten: {:?}\nports_file_dir: {:?}\n\
             jetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            self.address(),
            self.dir,
            self.dir.join("data"),
        );
        fs::write(&config, text).unwrap();
        ports_files(&self.dir).for_each(|old| fs::remove_file(old).unwrap());
        let log = File::create(self.dir.join("server.log")).unwrap();
        let mut command = Command::new(binary());
        command.arg("-c").arg(&config).stdout(Stdio::null()).stderr(log);
        let process = self.process.insert(command.spawn().unwrap());
        // The file is written when the server listens.
        let answer = wait::within(wait::DEADLINE, || {
            let over = process.try_wait().unwrap().is_some();
            (over || ports_files(&self.dir).next().is_some()).then_some(!over)
        });
        answer == Some(true)
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The binary of the server. A test without it fails and says what to do.
pub(crate) fn binary() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools/bin/nats-server");
    let path = std::env::var_os("CORTEX_NATS_SERVER").map_or(default.into(), PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo xtask setup`", path.display());
    path
}

fn free_port() -> u16 {
    loop {
        let port = fastrand::u16(PORTS);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

fn ports_files(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let files = fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    files.filter(|f| f.extension().is_some_and(|e| e == "ports"))
}
