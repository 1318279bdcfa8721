//! What is asked to be written, and how it becomes the data of entries: sensitive values turn into commitments
//! here, and their openings are collected for storing aside.

use super::group::WriteError;
use super::salt::Salts;
use cortex_agent_core::ExecPlan;
use cortex_agent_core::plan::{Operation, ProcessPlan, Work};
use cortex_agent_core::recovery::Found;
use cortex_audit::record::{self, Decimal, Record, Status};
use cortex_audit::{Commitment, Leaf, Opening, SignedNote, Value};
use cortex_model::browser::step_words;
use cortex_model::task::{OutputSummary, WireError};
use cortex_model::{
    Action, Actor, ActorKind, AttemptKey, Confinement, Ending, FileAction, FileOp, NewRepositories,
    Outcome,
};
use sha2::{Digest, Sha256};
use std::sync::Arc;

/// An attempt that is about to start.
#[derive(Debug)]
pub struct IntentDraft {
    /// The attempt.
    pub key: AttemptKey,
    /// Revision of `Started`.
    pub fence: u64,
    /// Who asked.
    pub actor: Option<Actor>,
    /// The rule that allowed it.
    pub rule: String,
    /// SHA-256 of the policy.
    pub policy: String,
    /// How strongly it will be confined.
    pub confined: record::Sandbox,
    /// What is going to be started.
    pub plan: Arc<ExecPlan>,
    /// The newest cosigned checkpoint that the server knows: the journal must hold it.
    pub floor: Option<SignedNote>,
    /// The owner's answer that allowed it, where the policy says ask.
    pub approval: Option<record::Approval>,
}

/// An attempt that is not started.
#[derive(Debug)]
pub struct RefusalDraft {
    /// The attempt.
    pub key: AttemptKey,
    /// Revision of `Started`.
    pub fence: u64,
    /// Who asked.
    pub actor: Option<Actor>,
    /// The rule that decided, if one did.
    pub rule: String,
    /// SHA-256 of the policy.
    pub policy: String,
    /// Stable code of the reason.
    pub code: String,
    /// What was asked for.
    pub action: Action,
    /// What is reported.
    pub outcome: Outcome,
    /// What became of the question to the owner, where the policy says ask.
    pub answer: Option<record::Approval>,
}

/// An attempt that is over.
#[derive(Debug)]
pub(crate) struct OutcomeDraft {
    pub(crate) key: AttemptKey,
    pub(crate) fence: u64,
    pub(crate) intent: (u64, Leaf),
    pub(crate) outcome: Outcome,
    /// Set when the intent was found open at start.
    pub(crate) found: Option<Found>,
    /// Nobody saw how it ended.
    pub(crate) unknown: bool,
}

/// Makes commitments and keeps their openings.
pub(crate) struct Sealer<'a> {
    pub(crate) salts: &'a mut Salts,
    pub(crate) openings: &'a mut Vec<Opening>,
}

impl Sealer<'_> {
    pub(crate) fn seal(&mut self, name: &str, value: Value) -> Result<Commitment, WriteError> {
        let salt = self.salts.salt().map_err(|err| WriteError::Record(err.to_string()))?;
        let (commitment, opening) = Commitment::new(salt, name, value)
            .map_err(|err| WriteError::Record(format!("{name}: {err}")))?;
        self.openings.push(opening);
        Ok(commitment)
    }

    fn digest(&mut self, name: &str, bytes: &[u8]) -> Result<Commitment, WriteError> {
        let length = Value::number(bytes.len() as u64);
        let hash = Value::from(cortex_audit::leaf::hex(&Sha256::digest(bytes)));
        self.seal(name, Value::map([("bytes", length), ("sha256", hash)]))
    }

    fn list(&mut self, name: &str, list: &[Vec<u8>]) -> Result<Commitment, WriteError> {
        self.seal(name, Value::List(list.iter().map(|item| Value::bytes(item)).collect()))
    }
}

impl IntentDraft {
    pub(crate) fn record(
        &self,
        incarnation: &str,
        sealer: &mut Sealer<'_>,
    ) -> Result<Record, WriteError> {
        let (op, exec, target) = match self.plan.operation() {
            Operation::Echo(_) => ("echo".to_owned(), None, None),
            Operation::Process(process) => {
                let exec = exec(process, self.confined.clone(), &self.plan, sealer)?;
                let target = match process.work.as_deref() {
                    Some(Work::File(work)) => Some(target(&work.action, sealer)?),
                    Some(Work::Browser(work)) => Some(address(&work.action.url, sealer)?),
                    None => None,
                };
                (op(process), Some(exec), target)
            }
        };
        let auth = self.auth();
        let intent = record::Intent {
            cmd: cmd(&self.key),
            workspace: self.key.task.workspace.to_string(),
            fence: Decimal(self.fence),
            incarnation: incarnation.to_owned(),
            run: None,
            step: None,
            trace: None,
            span: None,
            actor: actor(self.actor.as_ref()),
            auth,
            op,
            exec,
            target,
        };
        Ok(intent.into())
    }
}

fn op(process: &ProcessPlan) -> String {
    match &process.work {
        Some(work) => work.op(),
        None if process.terminal.is_some() => "process.terminal".to_owned(),
        None => "process.exec".to_owned(),
    }
}

/// Where a browser begins. What it does there stands in the arguments.
fn address(url: &str, sealer: &mut Sealer<'_>) -> Result<record::Target, WriteError> {
    let path = sealer.seal("path", Value::bytes(url.as_bytes()))?;
    Ok(record::Target { path, to: None, content: None, bytes: None, mode: None })
}

/// What an operation on files is applied to, and what it brings.
fn target(file: &FileAction, sealer: &mut Sealer<'_>) -> Result<record::Target, WriteError> {
    let mut target = record::Target {
        path: sealer.seal("path", Value::bytes(&file.path))?,
        to: None,
        content: None,
        bytes: None,
        mode: None,
    };
    let mode = |mode: u32| (mode != 0).then_some(mode);
    let content = match &file.op {
        FileOp::Write(write) => {
            target.mode = mode(write.mode);
            Some(write.content.as_slice())
        }
        FileOp::Chunk(chunk) => Some(chunk.data.as_slice()),
        FileOp::Edit(edit) if !edit.diff.is_empty() => Some(edit.diff.as_slice()),
        FileOp::Move(m) => {
            target.to = Some(sealer.seal("to", Value::bytes(&m.to))?);
            None
        }
        FileOp::Read(read) => {
            target.bytes = Some(read.length).filter(|length| *length > 0);
            None
        }
        FileOp::Receive(receive) => {
            target.bytes = Some(receive.size);
            None
        }
        FileOp::Finish(finish) => {
            (target.bytes, target.mode) = (Some(finish.size), mode(finish.mode));
            None
        }
        FileOp::Edit(_)
        | FileOp::List(_)
        | FileOp::Stat(_)
        | FileOp::Glob(_)
        | FileOp::Search(_)
        | FileOp::Delete(_) => None,
    };
    if let Some(content) = content {
        target.bytes = Some(content.len() as u64);
        target.content = Some(sealer.digest("content", content)?);
    }
    Ok(target)
}

fn exec(
    process: &ProcessPlan,
    confined: record::Sandbox,
    plan: &ExecPlan,
    sealer: &mut Sealer<'_>,
) -> Result<record::Exec, WriteError> {
    let env = process
        .env
        .iter()
        .map(|(name, value)| Value::List(vec![Value::from(name.as_str()), Value::bytes(value)]));
    let env = Value::List(env.collect());
    let stdin = match process.stdin.as_slice() {
        [] => None,
        bytes => Some(sealer.digest("stdin", bytes)?),
    };
    Ok(record::Exec {
        exe: process.program.to_string_lossy().into_owned(),
        exe_sha256: None,
        argc: process.argv.len() as u64,
        argv: sealer.list("argv", &process.argv)?,
        cwd: sealer.seal("cwd", Value::from(process.cwd.to_string_lossy().as_ref()))?,
        env: sealer.seal("env", env)?,
        stdin,
        uid: rustix::process::getuid().as_raw(),
        sandbox: confined,
        limits: record::Limits {
            cpu_ms: None,
            memory_bytes: process.limits.memory,
            processes: process.limits.pids.map(u64::from),
            disk_bytes: process.limits.file_size,
            output_bytes: Some(plan.output_limit()),
        },
        net: process.net.word().to_owned(),
        timeout_ms: plan.timeout_ms(),
    })
}

impl RefusalDraft {
    pub(crate) fn record(&self, sealer: &mut Sealer<'_>) -> Result<Record, WriteError> {
        let (op, argv) = match &self.action {
            Action::Echo { .. } => ("echo".to_owned(), None),
            Action::Shell(shell) if shell.argv.is_empty() => {
                let script = [b"sh".to_vec(), b"-c".to_vec(), shell.script.clone().into_bytes()];
                ("process.exec".to_owned(), Some(sealer.list("argv", &script)?))
            }
            Action::Shell(shell) => {
                ("process.exec".to_owned(), Some(sealer.list("argv", &shell.argv)?))
            }
            Action::File(file) => {
                let words = [format!("fs.{}", file.name()).into_bytes(), file.path.clone()];
                (format!("file.{}", file.name()), Some(sealer.list("argv", &words)?))
            }
            Action::Browser(browser) => {
                let op = format!("browser.{}", browser.name());
                let mut words = vec![op.clone().into_bytes(), browser.url.clone().into_bytes()];
                words.extend(browser.steps.iter().map(|step| step_words(step).into_bytes()));
                (op, Some(sealer.list("argv", &words)?))
            }
        };
        let refusal = record::Refusal {
            cmd: cmd(&self.key),
            workspace: self.key.task.workspace.to_string(),
            fence: Decimal(self.fence),
            actor: actor(self.actor.as_ref()),
            code: self.code.clone(),
            auth: auth("deny", &self.policy, &self.rule, self.answer.as_ref()),
            op,
            argv,
        };
        Ok(refusal.into())
    }
}

impl IntentDraft {
    fn auth(&self) -> record::Auth {
        let mut auth = auth("allow", &self.policy, &self.rule, self.approval.as_ref());
        auth.floor = self.floor.as_ref().map(|floor| floor.checkpoint().size);
        auth
    }

    /// The record of an intent that the journal itself refuses: the policy allowed it.
    pub(crate) fn refused(&self, code: &str) -> Record {
        let op = match self.plan.operation() {
            Operation::Echo(_) => "echo".to_owned(),
            Operation::Process(process) => op(process),
        };
        let refusal = record::Refusal {
            cmd: cmd(&self.key),
            workspace: self.key.task.workspace.to_string(),
            fence: Decimal(self.fence),
            actor: actor(self.actor.as_ref()),
            code: code.to_owned(),
            auth: self.auth(),
            op,
            argv: None,
        };
        refusal.into()
    }
}

/// With an answer of the owner the policy's own decision was to ask. Dispatches are not signed yet.
fn auth(
    decision: &str,
    policy: &str,
    rule: &str,
    answer: Option<&record::Approval>,
) -> record::Auth {
    record::Auth {
        decision: if answer.is_some() { "ask" } else { decision }.to_owned(),
        policy: policy.to_owned(),
        rule: optional(rule),
        approval: answer.cloned(),
        dispatch: None,
        floor: None,
    }
}

pub(crate) fn optional(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

impl OutcomeDraft {
    pub(crate) fn recovery(&self, found: &Found) -> Record {
        let recovery = record::Recovery {
            intent: Some(self.intent.0),
            intent_hash: Some(self.intent.1),
            found: found.word().to_owned(),
            orphans: found.orphans,
        };
        recovery.into()
    }

    pub(crate) fn record(&self, sealer: &mut Sealer<'_>) -> Result<Record, WriteError> {
        let output = &self.outcome.output;
        let OutputSummary { stdout_bytes, stderr_bytes, stdout_sha256, stderr_sha256, .. } = output;
        let (seq, leaf) = self.intent;
        let mut outcome = record::Outcome::new(cmd(&self.key), seq, leaf, Status::Interrupted);
        status(&self.outcome.ending, &mut outcome);
        if self.unknown {
            outcome.status = Status::Unknown;
        }
        outcome.dur_us = self.outcome.duration_us;
        outcome.stdout = stream("stdout", *stdout_bytes, stdout_sha256, sealer)?;
        outcome.stderr = stream("stderr", *stderr_bytes, stderr_sha256, sealer)?;
        outcome.truncated = output.dropped_bytes > 0;
        outcome.limits = limits(self.outcome.confinement.as_ref());
        outcome.killed_by = killed_by(self.outcome.confinement.as_ref());
        outcome.changes = changes(self.outcome.repositories.as_ref(), sealer)?;
        Ok(outcome.into())
    }
}

/// What was used of each limit, in the journal's words.
fn limits(confinement: Option<&Confinement>) -> Vec<record::LimitUse> {
    let all = confinement.map(|c| c.limits.as_slice()).unwrap_or_default();
    let limit = |l: &cortex_model::LimitUse| record::LimitUse {
        name: l.name.clone(),
        limit: l.limit,
        used: (l.used > 0).then_some(l.used),
        strength: match l.strength.as_str() {
            "hard" => "kernel",
            "approx" => "watched",
            _ => "none",
        }
        .to_owned(),
    };
    all.iter().map(limit).collect()
}

fn killed_by(confinement: Option<&Confinement>) -> Option<String> {
    confinement.map(|c| c.killed_by.clone()).filter(|name| !name.is_empty())
}

/// The repositories that appeared. That none did is nothing to commit to.
fn changes(
    new: Option<&NewRepositories>,
    sealer: &mut Sealer<'_>,
) -> Result<Option<Commitment>, WriteError> {
    let Some(NewRepositories { paths, gaps }) = new else { return Ok(None) };
    if paths.is_empty() && gaps.is_empty() {
        return Ok(None);
    }
    let value = Value::map([
        ("gaps", Value::List(gaps.iter().map(|gap| Value::from(gap.as_str())).collect())),
        ("repositories", Value::List(paths.iter().map(|path| Value::bytes(path)).collect())),
    ]);
    sealer.seal("changes", value).map(Some)
}

/// The plain digest stays inside the opening, because short outputs can be guessed.
fn stream(
    name: &str,
    bytes: u64,
    sha256: &[u8],
    sealer: &mut Sealer<'_>,
) -> Result<Option<Commitment>, WriteError> {
    if sha256.is_empty() {
        return Ok(None);
    }
    let value = Value::map([
        ("bytes", Value::number(bytes)),
        ("captured", Value::number(bytes)),
        ("sha256", Value::from(cortex_audit::leaf::hex(sha256))),
        ("blob", Value::Null),
    ]);
    sealer.seal(name, value).map(Some)
}

pub(crate) fn cmd(key: &AttemptKey) -> String {
    format!("{}/{}", key.task.task, key.attempt)
}

pub(crate) fn actor(actor: Option<&Actor>) -> record::Actor {
    let Some(actor) = actor else { return record::Actor::unknown() };
    let kind = match actor.kind {
        ActorKind::Human => "human",
        ActorKind::Ai => "ai",
        ActorKind::Program => "program",
    };
    record::Actor {
        kind: kind.to_owned(),
        id: actor.id.clone(),
        model: optional(&actor.model),
        on_behalf_of: optional(&actor.on_behalf_of),
    }
}

fn status(ending: &Ending, outcome: &mut record::Outcome) {
    let code = |error: &WireError| Some(error.code.clone());
    outcome.status = match ending {
        Ending::Exited { code } => {
            outcome.exit_code = Some(*code);
            Status::Exited
        }
        Ending::Signaled { signal } => {
            outcome.signal = Some(*signal);
            Status::Signaled
        }
        Ending::SpawnFailed(error) => {
            outcome.code = code(error);
            Status::SpawnFailed
        }
        Ending::Timeout { .. } => {
            outcome.killed_by = Some("timeout".to_owned());
            Status::Timeout
        }
        Ending::Cancelled { survivors, .. } => {
            (outcome.killed_by, outcome.survivors) = (Some("cancel".to_owned()), Some(*survivors));
            Status::Cancelled
        }
        Ending::Denied { error, .. } => {
            outcome.code = code(error);
            Status::Denied
        }
        // A node never ends an attempt as expired; should it come, what is known is said.
        Ending::Interrupted { .. } | Ending::Expired { .. } => Status::Interrupted,
    };
}
