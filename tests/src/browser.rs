//! A real Chromium, driven through a pipe as the DevTools protocol allows it: files are chosen and buttons pressed as a person does it.
//! It has no network but the machine's own, and a profile that goes with it.

use anyhow::{Context, Result, anyhow, bail};
use serde_json::{Value, json};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;
use tempfile::TempDir;

/// Names another Chromium.
pub const OVERRIDE: &str = "CORTEX_CHROMIUM";
/// A browser that says nothing for so long hangs.
const PATIENCE: Duration = Duration::from_secs(120);
/// The protocol's pipe is descriptors 3 and 4 of the browser; a shell puts them there.
const PIPE: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >&2"#;
const FLAGS: [&str; 11] = [
    "--remote-debugging-pipe",
    "--headless",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
];

/// A browser with one page.
pub struct Browser {
    child: Child,
    to: ChildStdin,
    from: Receiver<Value>,
    profile: TempDir,
    calls: u64,
    page: String,
}

impl Browser {
    /// Starts it.
    ///
    /// # Errors
    /// There is none, or it does not answer; the text names what installs one.
    pub fn start() -> Result<Browser> {
        let profile = tempfile::tempdir()?;
        let program = std::env::var_os(OVERRIDE).unwrap_or_else(|| "chromium".into());
        let mut command = Command::new("sh");
        command.args(["-c", PIPE, "sh"]).arg(&program).args(FLAGS);
        if root() {
            // Its sandbox refuses to serve root.
            command.arg("--no-sandbox");
        }
        command.arg(format!("--user-data-dir={}", profile.path().join("profile").display()));
        command.env("HOME", profile.path()).stderr(File::create(profile.path().join("stderr"))?);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let to = child.stdin.take().context("no pipe to the browser")?;
        let stdout = child.stdout.take().context("no pipe from the browser")?;
        let (sender, from) = channel();
        std::thread::spawn(move || {
            let messages = BufReader::new(stdout).split(0).map_while(Result::ok);
            for message in messages.filter_map(|m| serde_json::from_slice(&m).ok()) {
                if sender.send(message).is_err() {
                    return;
                }
            }
        });
        let mut browser = Browser { child, to, from, profile, calls: 0, page: String::new() };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let target = target.with_context(|| {
            format!(
                "{} did not start as a browser; `cargo xtask setup` installs one, {OVERRIDE} names another",
                program.to_string_lossy()
            )
        })?;
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach)?;
        browser.page = session["sessionId"].as_str().context("no session")?.to_owned();
        Ok(browser)
    }

    /// Goes to an address.
    ///
    /// # Errors
    /// It cannot be shown.
    pub fn open(&mut self, url: &str) -> Result<()> {
        let shown = self.call("Page.navigate", json!({ "url": url }))?;
        match shown["errorText"].as_str() {
            Some(why) => bail!("{url}: {why}"),
            None => Ok(()),
        }
    }

    /// The value of an expression in the page.
    ///
    /// # Errors
    /// It throws.
    pub fn evaluate(&mut self, expression: &str) -> Result<Value> {
        let asked =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let said = self.call("Runtime.evaluate", asked)?;
        match said.get("exceptionDetails") {
            Some(thrown) => bail!("{expression}: {thrown}"),
            None => Ok(said["result"]["value"].clone()),
        }
    }

    /// Waits until an expression in the page is true.
    ///
    /// # Errors
    /// It throws, or is not true after a minute.
    pub fn wait(&mut self, expression: &str) -> Result<()> {
        let asked = format!(
            "new Promise((done) => {{
                const end = performance.now() + 60000;
                const look = () => {{
                    if ({expression}) done(true);
                    else if (performance.now() > end) done(false);
                    else setTimeout(look, 2);
                }};
                look();
            }})"
        );
        if self.evaluate(&asked)? != json!(true) {
            bail!("after a minute still not true: {expression}");
        }
        Ok(())
    }

    /// Chooses files, or a directory, in the file input with this id.
    ///
    /// # Errors
    /// There is no such input.
    pub fn choose(&mut self, id: &str, paths: &[&Path]) -> Result<()> {
        let asked = json!({ "expression": format!("document.getElementById({id:?})") });
        let input = self.call("Runtime.evaluate", asked)?["result"]["objectId"].clone();
        self.call("DOM.setFileInputFiles", json!({ "objectId": input, "files": paths }))?;
        self.wait(&format!("document.getElementById({id:?}).files.length > 0"))
    }

    fn call(&mut self, method: &str, params: Value) -> Result<Value> {
        self.calls += 1;
        let mut asked = json!({ "id": self.calls, "method": method, "params": params });
        if !self.page.is_empty() {
            asked["sessionId"] = json!(self.page);
        }
        let mut bytes = serde_json::to_vec(&asked)?;
        bytes.push(0);
        self.to.write_all(&bytes).and_then(|()| self.to.flush()).map_err(|e| self.ended(&e))?;
        loop {
            let message = self.from.recv_timeout(PATIENCE).map_err(|e| self.ended(&e))?;
            if message["id"] == json!(self.calls) {
                return match message.get("error") {
                    Some(error) => Err(anyhow!("{method}: {error}")),
                    None => Ok(message["result"].clone()),
                };
            }
        }
    }

    fn ended(&self, why: &dyn std::fmt::Display) -> anyhow::Error {
        let said = std::fs::read_to_string(self.profile.path().join("stderr")).unwrap_or_default();
        anyhow!("no word from the browser: {why}; it said: {said}")
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.page.clear();
        // Closed in order, nothing of it writes into the profile any more; killed in case it does not obey.
        self.call("Browser.close", json!({})).ok();
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn root() -> bool {
    let uid = Command::new("id").arg("-u").output();
    uid.is_ok_and(|uid| uid.stdout.trim_ascii() == b"0")
}
