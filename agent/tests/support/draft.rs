//! An intent as tests and measurements of the journal need it: `/bin/true` with an argument that must not show, allowed by a policy
//! of one line. Included by path wherever the journal itself is tried; the parent module says which `IntentDraft` it means.

use super::IntentDraft;
use cortex_agent_core::plan::FileId;
use cortex_agent_core::{Facts, Policy, Program, Request, decide};
use cortex_model::task::ShellAction;
use cortex_model::{Action, AttemptKey, TaskId, TaskKey, Workspace};
use std::path::PathBuf;
use std::sync::Arc;

/// The argument.
pub(crate) const SECRET: &str = "secret-argument";

/// The first attempt of a task.
pub(crate) fn key(task: &str) -> Option<AttemptKey> {
    let task = TaskId::parse(task).ok()?;
    let workspace = Workspace::default_workspace();
    Some(AttemptKey { task: TaskKey { workspace, task }, attempt: 1 })
}

/// Its intent; `None` if the name is none or the policy did not allow it.
pub(crate) fn intent(task: &str) -> Option<IntentDraft> {
    let policy = Policy::parse("version = 0\n[shell]\nallow = [\"/bin/true\"]", "p".into()).ok()?;
    let there = Program {
        path: "/bin/true".into(),
        target: "/bin/true".into(),
        id: FileId { dev: 1, ino: 2 },
        setuid: false,
    };
    let facts = Facts {
        programs: [("true".to_owned(), Ok(there))].into(),
        cwd: Some(Ok(PathBuf::from("/"))),
        home: "/".into(),
        tmpdir: "/tmp".into(),
        agent: "i".into(),
        ..Facts::default()
    };
    let argv = vec![b"true".to_vec(), SECRET.into()];
    let shell = ShellAction { argv, stdin: b"in".to_vec(), ..ShellAction::default() };
    let (key, action) = (key(task)?, Action::Shell(shell));
    let request = Request {
        key: &key,
        fence: 7,
        action: &action,
        timeout_ms: 1,
        output_limit: 1,
        consent: None,
    };
    let decision = decide(&policy, &facts, &request);
    Some(IntentDraft {
        confined: cortex_audit::record::Sandbox { level: "none".into(), unenforced: vec![] },
        fence: 7,
        actor: None,
        rule: decision.rule,
        policy: policy.digest().into(),
        plan: Arc::new(decision.plan?),
        floor: None,
        approval: None,
        key,
    })
}
