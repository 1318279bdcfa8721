//! The browser's process: what it is started with. It has a profile of its own below the task's temporary directory, which is
//! removed with the task, and no way to a network but the one it is given.

use super::Order;
use super::pipe::Pipe;
use crate::sandbox::PROXY_PORT;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The pipe is descriptors 3 and 4 of the browser; a shell puts them there.
const PIPE: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >&2"#;

/// What it is always started with. Nothing of it is for safety alone but where that is said.
const FLAGS: [&str; 29] = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-startup-window",
    "--no-first-run",
    "--no-default-browser-check",
    "--noerrdialogs",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-breakpad",
    "--disable-client-side-phishing-detection",
    "--disable-component-extensions-with-background-pages",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-features=AutofillServerCommunication,CertificateTransparencyComponentUpdater,DialMediaRouteProvider,\
     HttpsFirstBalancedModeAutoEnable,HttpsUpgrades,MediaRouter,NetworkTimeServiceQuerying,OptimizationHints,Translate",
    // Nothing goes by another protocol than the proxy's.
    "--disable-quic",
    "--force-webrtc-ip-handling-policy=disable_non_proxied_udp",
    "--disable-search-engine-choice-screen",
    "--disable-sync",
    "--deny-permission-prompts",
    "--hide-scrollbars",
    "--metrics-recording-only",
    "--mute-audio",
    "--no-pings",
    "--no-service-autorun",
    "--password-store=basic",
    "--use-mock-keychain",
];

/// See the module.
pub(super) struct Chromium {
    _child: Child,
    said: File,
    /// Where it puts what is downloaded.
    pub(super) downloads: PathBuf,
}

impl Chromium {
    /// Starts it. `tmp` is the task's temporary directory, `env` its variables.
    pub(super) fn start(
        program: &Path,
        tmp: &Path,
        env: &[(OsString, OsString)],
        order: &Order,
    ) -> io::Result<(Self, Pipe)> {
        let [home, downloads] = ["home", "downloads"].map(|name| tmp.join(name));
        std::fs::create_dir(&home)?;
        std::fs::create_dir(&downloads)?;
        let log = tmp.join("browser.log");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", PIPE, "sh"]).arg(program).args(FLAGS).args(network(order));
        if !order.own_sandbox {
            command.arg("--no-sandbox");
        }
        let mut profile = OsString::from("--user-data-dir=");
        profile.push(tmp.join("profile"));
        command.arg(profile).env_clear().envs(env.iter().map(|(name, value)| (name, value)));
        // Names of sockets are short: those that it makes are not below a directory whose path may be long.
        command.env("HOME", &home).env("TMPDIR", "/tmp").env("PATH", "/usr/bin:/bin");
        command.env("LANG", "C.UTF-8").current_dir(&home).stderr(File::create(&log)?);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let (Some(to), Some(from)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(io::ErrorKind::BrokenPipe.into());
        };
        let life = pidfd_open(Pid::from_child(&child), PidfdFlags::empty())?;
        let pipe = Pipe::new(OwnedFd::from(to).into(), OwnedFd::from(from).into(), life);
        Ok((Self { _child: child, said: File::open(log)?, downloads }, pipe))
    }

    /// The last of what it wrote to its log, for people.
    pub(super) fn last_words(&mut self) -> String {
        const LAST: u64 = 600;
        let mut text = Vec::new();
        let size = self.said.seek(SeekFrom::End(0)).unwrap_or(0);
        let read = self
            .said
            .seek(SeekFrom::Start(size.saturating_sub(LAST)))
            .and_then(|_| (&self.said).take(LAST).read_to_end(&mut text));
        if read.is_err() || text.is_empty() {
            "nothing".to_owned()
        } else {
            super::driver::told(&String::from_utf8_lossy(&text))
        }
    }
}

/// The way out: the agent's proxy for everything, loopback too, or the task's own loopback and nothing else. There are no names to
/// be looked up.
fn network(order: &Order) -> Vec<String> {
    let resolver = "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1 , EXCLUDE localhost";
    let mut flags = vec![resolver.to_owned()];
    if order.token.is_empty() {
        flags.push("--no-proxy-server".to_owned());
    } else {
        flags.push(format!("--proxy-server=http://127.0.0.1:{PROXY_PORT}"));
        flags.push("--proxy-bypass-list=<-loopback>".to_owned());
    }
    flags
}
