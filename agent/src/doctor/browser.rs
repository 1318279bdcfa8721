//! Whether a browser can be driven here: it is started in the sandbox that pages run in, and asked for an address where nobody
//! answers. Nothing leaves the machine.

use super::report::{Report, State};
use crate::browser::{Told, own_sandbox};
use crate::facts::{self, Scene, gather};
use crate::sandbox::{End, Sandbox};
use cortex_agent_core::plan::{Level, Operation, ProcessPlan};
use cortex_agent_core::policy::{BROWSERS, Policy, Request, decide};
use cortex_model::browser::result_of;
use cortex_model::{Action, AttemptKey, BrowserAction, Code, TaskId, TaskKey, Workspace};
use std::path::PathBuf;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

/// What the trial looks like in a report.
const NAME: &str = "browser";
/// Nobody answers there, and the proxy is not asked to reach it.
const NOWHERE: &str = "http://127.0.0.1:9/";
/// Far more than a machine under load needs.
const PATIENCE: Duration = Duration::from_secs(90);

/// Tries it out.
pub(super) async fn run(sandbox: &Sandbox, report: &mut Report) {
    let found = BROWSERS.iter().find(|path| facts::resolve_program(path.as_bytes()).is_ok());
    let Some(found) = found else {
        return report.note(NAME, State::Unknown, "no Chromium where one is looked for");
    };
    if sandbox.armed().level != Level::Full {
        let why = format!("{found} is there, but pages are opened at level full only");
        return report.note(NAME, State::Unknown, why);
    }
    let (state, detail) = match attempt(sandbox).await {
        Ok(version) => {
            let own = if own_sandbox() {
                "with its own sandbox inside"
            } else {
                "without a sandbox of its own inside"
            };
            (State::Enforced, format!("{found}, {version}, runs in the sandbox of a task, {own}"))
        }
        Err(why) => (State::Unknown, format!("{found} does not run in the sandbox: {why}")),
    };
    report.note(NAME, state, detail);
}

/// The version that it tells from inside.
async fn attempt(sandbox: &Sandbox) -> Result<String, String> {
    let plan = plan(sandbox)?;
    let mut task = sandbox.launch(&plan).map_err(|fault| fault.to_string())?;
    let (_, _, stderr) = task.streams();
    let ended = tokio::time::timeout(PATIENCE, task.ended()).await;
    task.clean_up().await;
    let mut said = String::new();
    if let Some(mut stderr) = stderr {
        stderr.read_to_string(&mut said).await.map_err(|err| err.to_string())?;
    }
    match ended {
        Ok(End::Status(_)) => {}
        Ok(End::Never(fault)) => return Err(fault.to_string()),
        Ok(End::Lost) => return Err("its end was not seen".to_owned()),
        Err(_) => return Err("it took too long".to_owned()),
    }
    match serde_json::from_str(said.lines().last().unwrap_or_default()) {
        Ok(Told::Error(broken)) if broken.failed.code == Code::PageFailed.as_str() => {
            Ok(broken.page.browser)
        }
        Ok(Told::Error(broken)) => Err(broken.failed.message),
        Ok(Told::Done(page)) => Err(format!("something answered at {}", page.url)),
        Err(err) => Err(format!("the driver's answer cannot be read: {err}")),
    }
}

fn plan(sandbox: &Sandbox) -> Result<ProcessPlan, String> {
    let text = format!(
        "version = 1\nstrict = \"off\"\nprograms = {{ search = [] }}\npaths = {{}}\n\
         net.profiles.nowhere = {{ mode = \"loopback\", ports = [] }}\n\
         browser = {{ effect = \"allow\", net = \"nowhere\", origins = [{:?}] }}\n",
        NOWHERE.trim_end_matches('/')
    );
    let policy = Policy::parse(&text, String::new()).map_err(|err| err.to_string())?;
    let dir = std::env::temp_dir().canonicalize().map_err(|err| err.to_string())?;
    let tmpdir: PathBuf = dir.join(format!("cortex-doctor-{}", uuid::Uuid::new_v4().simple()));
    let machine = facts::machine(Some(sandbox));
    let scene = Scene { tmpdir, mark: String::new(), machine };
    let action = BrowserAction {
        url: NOWHERE.to_owned(),
        steps: Vec::new(),
        result: result_of("text").ok_or("no such result")?,
        window: (0, 0),
        step_timeout_ms: 0,
    };
    let action = Action::Browser(Box::new(action));
    let facts = gather(&policy, &action, &scene);
    let workspace = Workspace::default_workspace();
    let task = TaskKey { task: TaskId::derive(&workspace, "doctor"), workspace };
    let request = Request {
        key: &AttemptKey { task, attempt: 1 },
        fence: 1,
        action: &action,
        timeout_ms: 60_000,
        output_limit: 1 << 20,
        consent: None,
    };
    let decision = decide(&policy, &facts, &request);
    let plan = decision.plan.ok_or_else(|| {
        decision.fault.map_or_else(|| "it is denied".to_owned(), |fault| fault.to_string())
    })?;
    match plan.operation() {
        Operation::Process(process) => Ok(process.as_ref().clone()),
        Operation::Echo(_) => Err("nothing to start".to_owned()),
    }
}
