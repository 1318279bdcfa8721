//! Real NATS servers for tests, on free ports of this machine. They are killed when dropped.

#![expect(clippy::unwrap_used, reason = "a test that cannot start its server fails")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The binary of the server. A test without it fails and says what to do.
fn binary() -> PathBuf {
    let default = concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/bin/nats-server");
    let path = std::env::var_os("CORTEX_NATS_SERVER").map_or(default.into(), PathBuf::from);
    assert!(path.is_file(), "{} is missing: run `cargo xtask setup`", path.display());
    path
}

struct Ports {
    client: u16,
    cluster: Option<u16>,
}

pub(crate) struct Server {
    name: String,
    dir: PathBuf,
    routes: Option<String>,
    ports: Option<Ports>,
    process: Option<Child>,
}

impl Server {
    fn new(root: &Path, name: &str, routes: Option<String>) -> Server {
        let dir = root.join(name);
        std::fs::create_dir_all(&dir).unwrap();
        Server { name: name.into(), dir, routes, ports: None, process: None }
    }

    /// Starts it, the second time on the same ports.
    pub(crate) fn start(&mut self) {
        let client = self.ports.as_ref().map_or(-1, |p| i32::from(p.client));
        let mut config = format!(
            "server_name: {}\nlisten: \"127.0.0.1:{client}\"\nports_file_dir: {:?}\n\
             jetstream {{ store_dir: {:?}, sync_interval: always }}\n",
            self.name,
            self.dir,
            self.dir.join("data"),
        );
        if let Some(routes) = &self.routes {
            let port = self.ports.as_ref().and_then(|p| p.cluster).map_or(-1, i32::from);
            config += &format!(
                "cluster {{ name: test, listen: \"127.0.0.1:{port}\", routes: [{routes}] }}\n"
            );
        }
        let path = self.dir.join("server.conf");
        std::fs::write(&path, config).unwrap();
        for old in self.ports_files() {
            std::fs::remove_file(old).unwrap();
        }
        let log = std::fs::File::create(self.dir.join("server.log")).unwrap();
        let child = Command::new(binary())
            .arg("-c")
            .arg(&path)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.process = Some(child);
        let ports = self.wait_for_ports();
        self.ports = Some(ports);
    }

    fn ports_files(&self) -> Vec<PathBuf> {
        let files = std::fs::read_dir(&self.dir).unwrap().map(|f| f.unwrap().path());
        files.filter(|f| f.extension().is_some_and(|e| e == "ports")).collect()
    }

    fn wait_for_ports(&self) -> Ports {
        let patience = Instant::now() + Duration::from_secs(60);
        loop {
            let text = self.ports_files().first().and_then(|f| std::fs::read_to_string(f).ok());
            let read = text.and_then(|t| serde_json::from_str::<serde_json::Value>(&t).ok());
            if let Some(ports) = read {
                let port = |name: &str| {
                    let url = ports[name][0].as_str()?;
                    url.rsplit(':').next()?.parse().ok()
                };
                return Ports { client: port("nats").unwrap(), cluster: port("cluster") };
            }
            let log = self.dir.join("server.log");
            assert!(
                Instant::now() < patience,
                "nats-server did not start: {}",
                std::fs::read_to_string(log).unwrap_or_default()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.ports.as_ref().unwrap().client)
    }

    fn route(&self) -> String {
        format!("nats://127.0.0.1:{}", self.ports.as_ref().unwrap().cluster.unwrap())
    }
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
        let root = tempfile::tempdir().unwrap();
        let mut servers: Vec<Server> = Vec::new();
        for i in 0..size {
            let routes = (size > 1).then(|| servers.first().map_or(String::new(), Server::route));
            let unique = format!("cortex-test-{}-{i}", std::process::id());
            let mut server = Server::new(root.path(), &unique, routes);
            server.start();
            servers.push(server);
        }
        Cluster { servers, _root: root }
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
