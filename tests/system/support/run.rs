//! Running the `cortex` binary: as a command whose end is waited for, or in the background.

use super::{processes, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tempfile::TempDir;

/// The binary under test: `CORTEX_BIN`, or the one that was built beside this test.
pub(crate) fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("CORTEX_BIN") {
        return PathBuf::from(path);
    }
    let test = std::env::current_exe().unwrap();
    let path = test.parent().and_then(Path::parent).unwrap().join("cortex");
    assert!(path.is_file(), "{} does not exist; run `cargo xtask test`", path.display());
    path
}

/// A command of `cortex` for the server of a data directory, free of what the caller's shell says.
pub(crate) fn command(data_dir: &Path) -> Command {
    let mut command = Command::new(binary());
    for (name, _) in std::env::vars_os() {
        if name.as_encoded_bytes().starts_with(b"CORTEX_") {
            command.env_remove(name);
        }
    }
    // Contexts of whoever runs the tests are none of their business.
    let config = data_dir.parent().unwrap_or(data_dir).join("config");
    command.env("XDG_CONFIG_HOME", config);
    command.env("CORTEX_DATA_DIR", data_dir).env("CORTEX_ACTOR_ID", "tester").process_group(0);
    command
}

/// A process of `cortex` whose output goes to files, so that nothing blocks and all of it can be read at any time.
pub(crate) struct Running {
    child: Child,
    what: String,
    files: TempDir,
}

impl Running {
    /// Starts a command; `input` is its standard input.
    pub(crate) fn start(mut command: Command, input: &[u8]) -> Running {
        let files = tempfile::tempdir().unwrap();
        let path = |name: &str| files.path().join(name);
        fs::write(path("in"), input).unwrap();
        let words: Vec<String> = command.get_args().map(short).collect();
        let child = command
            .stdin(Stdio::from(File::open(path("in")).unwrap()))
            .stdout(Stdio::from(File::create(path("out")).unwrap()))
            .stderr(Stdio::from(File::create(path("err")).unwrap()))
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?}: {e}"));
        Running { child, what: format!("cortex {}", words.join(" ")), files }
    }

    pub(crate) fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).unwrap()
    }

    /// What it wrote so far.
    pub(crate) fn stdout(&self) -> Vec<u8> {
        fs::read(self.files.path().join("out")).unwrap()
    }

    pub(crate) fn stderr(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.files.path().join("err")).unwrap()).into_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        processes::signal(self.pid(), signal);
    }

    pub(crate) fn is_over(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Waits until it wrote a text to standard output.
    #[track_caller]
    pub(crate) fn until_it_says(&mut self, text: &str) {
        let what = format!("{:?} in the output of {}", text, self.what);
        let said = wait::until(&what, || {
            let said = String::from_utf8_lossy(&self.stdout()).contains(text);
            (said || self.is_over()).then_some(said)
        });
        let all = || format!("{}\n{}", String::from_utf8_lossy(&self.stdout()), self.stderr());
        assert!(said, "{} ended without saying {text:?}:\n{}", self.what, all());
    }

    /// Waits for the end.
    #[track_caller]
    pub(crate) fn end(mut self) -> Ended {
        let ended = wait::within(wait::DEADLINE * 2, || self.child.try_wait().unwrap());
        let (stdout, stderr) = (self.stdout(), self.stderr());
        let what = self.what.clone();
        let Some(status) = ended else {
            panic!("{what} did not end:\n{}\n{stderr}", String::from_utf8_lossy(&stdout));
        };
        let code = status.code().or(status.signal().map(|s| 128 + s)).unwrap();
        Ended { what, code, stdout, stderr }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How a command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    what: String,
    pub(crate) code: i32,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl Ended {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// It succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> Ended {
        self.with(0)
    }

    /// It ended with this code.
    #[track_caller]
    pub(crate) fn with(self, code: i32) -> Ended {
        let (what, text) = (&self.what, self.text());
        let text: String = text.chars().take(2000).collect();
        assert_eq!(self.code, code, "{what}\nstdout: {text}\nstderr: {}", self.stderr);
        self
    }

    /// Standard error holds all of these.
    #[track_caller]
    pub(crate) fn complains(self, texts: &[&str]) -> Ended {
        for text in texts {
            assert!(self.stderr.contains(text), "{}: no {text:?} in: {}", self.what, self.stderr);
        }
        self
    }

    /// Standard output holds all of these.
    #[track_caller]
    pub(crate) fn says(self, texts: &[&str]) -> Ended {
        let said = self.text();
        for text in texts {
            assert!(said.contains(text), "{}: no {text:?} in: {said}", self.what);
        }
        self
    }

    /// Standard output as one JSON value.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let parsed = serde_json::from_slice(&self.stdout);
        parsed.unwrap_or_else(|e| panic!("{}: {e}: {}\n{}", self.what, self.text(), self.stderr))
    }

    /// Standard output as one JSON value per line.
    #[track_caller]
    pub(crate) fn json_lines(&self) -> Vec<Value> {
        let read = |l: &str| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"));
        self.text().lines().map(read).collect()
    }
}

/// An argument, shortened for messages.
fn short(argument: &OsStr) -> String {
    let text = argument.to_string_lossy();
    if text.len() <= 200 { text.into_owned() } else { format!("({} bytes)", text.len()) }
}
