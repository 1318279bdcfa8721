//! Real NATS servers for tests, on free ports of this machine. They are killed when dropped.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its server fails")]

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Below the ports that systems hand out by themselves: a killed server's port must still be free
/// when it comes back, and a client that knocks meanwhile must not be given it as its own.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

/// The binary of the server. A test without it fails and says what to do.
fn binary() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/bin/nats-server");
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

pub(crate) struct Server {
    name: String,
    dir: PathBuf,
    port: u16,
    route: u16,
    routes: Vec<u16>,
    process: Option<Child>,
}

impl Server {
    fn new(root: &Path, number: usize, routes: &[u16]) -> Server {
        let name = format!("cortex-test-{}-{number}", std::process::id());
        let dir = root.join(&name);
        std::fs::create_dir_all(&dir).unwrap();
        let route = routes.get(number).copied().unwrap_or_default();
        Server { name, dir, port: free_port(), route, routes: routes.into(), process: None }
    }

    fn config(&self) -> String {
        let mut config = format!(
            "server_name: {}\nlisten: \"127.0.0.1:{}\"\nports_file_dir: {:?}\n\
             jetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            self.name,
            self.port,
            self.dir,
            self.dir.join("data"),
        );
        if !self.routes.is_empty() {
            let routes: Vec<String> =
                self.routes.iter().map(|p| format!("\"nats://127.0.0.1:{p}\"")).collect();
            config += &format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{}\", routes: [{}] }}\n",
                self.route,
                routes.join(", ")
            );
        }
        config
    }

    /// Starts it, every time on the same ports.
    pub(crate) fn start(&mut self) {
        if !self.try_start() {
            let log = std::fs::read_to_string(self.dir.join("server.log")).unwrap_or_default();
            panic!("nats-server did not start: {log}");
        }
    }

    /// Whether it came up; not when somebody took its port.
    fn try_start(&mut self) -> bool {
        let path = self.dir.join("server.conf");
        std::fs::write(&path, self.config()).unwrap();
        for old in self.ports_files() {
            std::fs::remove_file(old).unwrap();
        }
        let log = std::fs::File::create(self.dir.join("server.log")).unwrap();
        let mut command = Command::new(binary());
        command.arg("-c").arg(&path).stdout(Stdio::null()).stderr(log);
        let process = self.process.insert(command.spawn().unwrap());
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            if process.try_wait().unwrap().is_some() || Instant::now() > patience {
                return false;
            }
            // The file is written when the server listens.
            if files(&self.dir).next().is_some() {
                return true;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn ports_files(&self) -> Vec<PathBuf> {
        files(&self.dir).collect()
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
}

fn files(dir: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let files = std::fs::read_dir(dir).unwrap().map(|f| f.unwrap().path());
    files.filter(|f| f.extension().is_some_and(|e| e == "ports"))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// One server, or three that replicate.
pub(crate) struct Cluster {
    pub(crate) servers: Vec<Server>,
    _root: tempfile::TempDir,
}

impl Cluster {
    pub(crate) fn start(size: usize) -> Cluster {
        // Another test may take a port between looking and listening.
        (0..5).find_map(|_| Cluster::try_start(size)).unwrap()
    }

    fn try_start(size: usize) -> Option<Cluster> {
        let root = tempfile::tempdir().unwrap();
        let routes: Vec<u16> = (0..size).filter(|_| size > 1).map(|_| free_port()).collect();
        let mut servers: Vec<Server> =
            (0..size).map(|number| Server::new(root.path(), number, &routes)).collect();
        let up = servers.iter_mut().all(Server::try_start);
        up.then_some(Cluster { servers, _root: root })
    }

    pub(crate) fn url(&self) -> String {
        self.servers.iter().map(Server::url).collect::<Vec<_>>().join(",")
    }

    pub(crate) fn kill_all(&mut self) {
        self.servers.iter_mut().for_each(Server::kill);
    }

    pub(crate) fn start_all(&mut self) {
        self.servers.iter_mut().for_each(Server::start);
    }
}
