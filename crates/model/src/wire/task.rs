//! `task.proto` to and from the model.

use crate::capability::Requirement;
use crate::error::{Code, Fault};
use crate::ids::NodeId;
use crate::limits::*;
use crate::proto as pb;
use crate::task::{
    Action, Actor, ActorKind, Confinement, Ending, LimitUse, Outcome, OutputChunk, OutputSummary,
    RetryOn, RetryPolicy, ShellAction, Stream, TaskSpec, WireError,
};
use prost::Message;
use std::collections::BTreeSet;

fn malformed(what: &str) -> Fault {
    Fault::new(Code::Malformed, format!("{what} is missing or has an unknown value"))
}

/// Reads a client's or a stored specification.
///
/// # Errors
/// `CX-0101` to `CX-0112`, naming the field.
pub fn spec(p: pb::TaskSpec) -> Result<TaskSpec, Fault> {
    if p.encoded_len() > SPEC_MAX {
        return Err(too_large("the task", p.encoded_len(), SPEC_MAX));
    }
    if p.require.len() > REQUIREMENTS_MAX {
        return Err(too_large("the list of requirements", p.require.len(), REQUIREMENTS_MAX));
    }
    check_labels(&p.labels)?;
    if p.priority.abs() > PRIORITY_MAX {
        return Err(Fault::new(
            Code::BadPriority,
            format!("priority {} is out of range", p.priority),
        ));
    }
    for (name, ms) in [
        ("run_timeout_ms", p.run_timeout_ms),
        ("deadline_ms", p.deadline_ms),
        ("node_lost_grace_ms", p.node_lost_grace_ms),
        ("lock_timeout_ms", p.lock_timeout_ms),
    ] {
        check_duration(name, ms)?;
    }
    let require: BTreeSet<_> =
        p.require.iter().map(|r| Requirement::parse(r)).collect::<Result<_, _>>()?;
    let retry = retry(p.retry.unwrap_or_default(), p.safe_to_repeat)?;
    let action = action(p.action.ok_or_else(|| malformed("action"))?)?;
    if let Action::Shell(ShellAction { terminal: Some(_), stdin, .. }) = &action {
        super::terminal::check(stdin, p.safe_to_repeat, &retry)?;
    }
    Ok(TaskSpec {
        action,
        require,
        node: if p.node.is_empty() { None } else { Some(NodeId::parse(&p.node)?) },
        priority: p.priority,
        safe_to_repeat: p.safe_to_repeat,
        retry,
        run_timeout_ms: p.run_timeout_ms,
        deadline_ms: p.deadline_ms,
        node_lost_grace_ms: p.node_lost_grace_ms,
        output_limit_bytes: p.output_limit_bytes,
        labels: p.labels,
        locks: super::lock::wanted(p.locks)?,
        lock_timeout_ms: p.lock_timeout_ms,
    })
}

fn check_labels(labels: &std::collections::BTreeMap<String, String>) -> Result<(), Fault> {
    if labels.len() > LABELS_MAX {
        return Err(too_large("the set of labels", labels.len(), LABELS_MAX));
    }
    match labels.iter().find(|(k, v)| k.is_empty() || k.len() > LABEL_MAX || v.len() > LABEL_MAX) {
        Some((k, v)) => Err(too_large("a label", k.len().max(v.len()), LABEL_MAX)),
        None => Ok(()),
    }
}

fn check_duration(name: &str, ms: u64) -> Result<(), Fault> {
    if ms > DURATION_MAX_MS {
        return Err(Fault::new(
            Code::BadDuration,
            format!("{name} of {ms} ms is longer than 400 days"),
        ));
    }
    Ok(())
}

fn too_large(what: &str, is: usize, most: usize) -> Fault {
    Fault::new(Code::TooLarge, format!("{what} has {is}, at most {most} are accepted"))
}

fn retry(p: pb::RetryPolicy, safe: bool) -> Result<RetryPolicy, Fault> {
    if p.max_attempts > ATTEMPTS_MAX {
        return Err(Fault::new(
            Code::BadRetry,
            format!("{} attempts are more than {ATTEMPTS_MAX}", p.max_attempts),
        ));
    }
    check_duration("retry.backoff_ms", p.backoff_ms)?;
    check_duration("retry.max_backoff_ms", p.max_backoff_ms)?;
    let mut on = BTreeSet::new();
    for o in &p.on {
        on.insert(match pb::RetryOn::try_from(*o) {
            Ok(pb::RetryOn::Exit) => RetryOn::Exit,
            Ok(pb::RetryOn::Lost) => RetryOn::Lost,
            Ok(pb::RetryOn::Timeout) => RetryOn::Timeout,
            Ok(pb::RetryOn::Unspecified) | Err(_) => return Err(malformed("retry.on")),
        });
    }
    if on.contains(&RetryOn::Lost) && !safe {
        return Err(Fault::new(
            Code::BadRetry,
            "a lost attempt may have run: retrying it needs a task that is safe to repeat",
        ));
    }
    Ok(RetryPolicy {
        max_attempts: p.max_attempts,
        on,
        backoff_ms: p.backoff_ms,
        max_backoff_ms: p.max_backoff_ms,
    })
}

fn action(p: pb::Action) -> Result<Action, Fault> {
    match p.kind.ok_or_else(|| malformed("action.kind"))? {
        pb::action::Kind::Echo(e) if e.payload.len() > ECHO_MAX => {
            Err(too_large("the payload", e.payload.len(), ECHO_MAX))
        }
        pb::action::Kind::Echo(e) => Ok(Action::Echo { payload: e.payload }),
        pb::action::Kind::Shell(s) => shell(s).map(Action::Shell),
        pb::action::Kind::File(f) => Ok(Action::File(Box::new(super::file::action(f)?))),
        pb::action::Kind::Browser(b) => Ok(Action::Browser(Box::new(super::browser::action(b)?))),
    }
}

fn shell(s: pb::ShellAction) -> Result<ShellAction, Fault> {
    if s.argv.len() > ARGV_MAX {
        return Err(too_large("argv", s.argv.len(), ARGV_MAX));
    }
    match (s.argv.first(), s.script.is_empty()) {
        (None | Some(_), false) if !s.argv.is_empty() => {
            return Err(Fault::new(Code::BadArgv, "a task has either argv or a script"));
        }
        (None, true) => return Err(Fault::new(Code::BadArgv, "argv is empty")),
        (Some(program), true) if program.is_empty() => {
            return Err(Fault::new(Code::BadArgv, "argv is empty"));
        }
        (None | Some(_), _) => {}
    }
    if s.script.len() > SCRIPT_MAX {
        return Err(too_large("the script", s.script.len(), SCRIPT_MAX));
    }
    if s.script.contains('\0') {
        return Err(Fault::new(Code::BadArgv, "the script has a NUL byte"));
    }
    if s.argv.iter().any(|a| a.contains(&0)) {
        return Err(Fault::new(Code::BadArgv, "an argument has a NUL byte"));
    }
    if !s.cwd.is_empty() && (!s.cwd.starts_with('/') || s.cwd.contains('\0')) {
        return Err(Fault::new(Code::BadCwd, format!("{:?} is not an absolute path", s.cwd)));
    }
    if s.env.len() + s.secret_env.len() > ENV_MAX {
        let count = s.env.len() + s.secret_env.len();
        return Err(too_large("the environment", count, ENV_MAX));
    }
    check_env(&s)?;
    let env = s.env.into_iter().map(|v| (v.name, v.value)).collect();
    let secret_env = s.secret_env.into_iter().map(|v| (v.name, v.secret)).collect();
    let terminal = s.terminal.map(super::terminal::wanted).transpose()?;
    let (argv, script, cwd, stdin) = (s.argv, s.script, s.cwd, s.stdin);
    Ok(ShellAction { argv, script, cwd, env, stdin, secret_env, terminal })
}

/// Names are good, and each is set once, as a value or as a secret.
fn check_env(s: &pb::ShellAction) -> Result<(), Fault> {
    let bad = |name: &str, why: &str| {
        Fault::new(Code::BadEnvironment, format!("environment variable {name:?} {why}"))
    };
    let values = s.env.iter().map(|v| (v.name.as_str(), !v.value.contains(&0)));
    let secret = |name: &str| !name.is_empty() && name.len() <= LABEL_MAX && !name.contains('\0');
    let secrets = s.secret_env.iter().map(|v| (v.name.as_str(), secret(&v.secret)));
    let mut names = BTreeSet::new();
    for (name, usable) in values.chain(secrets) {
        let good = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let named = !name.is_empty()
            && name.chars().all(good)
            && !name.starts_with(|c: char| c.is_ascii_digit());
        if !named || !usable {
            return Err(bad(name, "cannot be set"));
        }
        if !names.insert(name) {
            return Err(bad(name, "is set twice"));
        }
    }
    Ok(())
}

/// Reads who asked.
///
/// # Errors
/// `CX-0111` when it is missing or incomplete.
pub fn actor(p: Option<pb::Actor>) -> Result<Actor, Fault> {
    let bad = |why: &str| Fault::new(Code::BadActor, format!("the actor {why}"));
    let p = p.ok_or_else(|| bad("is missing"))?;
    let kind = match pb::ActorKind::try_from(p.kind) {
        Ok(pb::ActorKind::Human) => ActorKind::Human,
        Ok(pb::ActorKind::Ai) => ActorKind::Ai,
        Ok(pb::ActorKind::Program) => ActorKind::Program,
        Ok(pb::ActorKind::Unspecified) | Err(_) => return Err(bad("has no kind")),
    };
    let sizes = [p.id.len(), p.model.len(), p.on_behalf_of.len()];
    if p.id.is_empty() || sizes.iter().any(|n| *n > ID_MAX) {
        return Err(bad("has an id that is empty or too long"));
    }
    if [&p.id, &p.model, &p.on_behalf_of].iter().any(|s| s.chars().any(char::is_control)) {
        return Err(bad("has control characters"));
    }
    if (kind == ActorKind::Ai) == p.model.is_empty() {
        return Err(bad("names a model exactly when it is an ai"));
    }
    Ok(Actor { kind, id: p.id, model: p.model, on_behalf_of: p.on_behalf_of })
}

/// Reads an outcome.
///
/// # Errors
/// `CX-0101` for an ending this version does not know, `CX-0103` for inline output beyond its limit.
pub fn outcome(p: pb::Outcome) -> Result<Outcome, Fault> {
    let inline: usize = p.inline_output.iter().map(|c| c.data.len()).sum();
    if inline > INLINE_OUTPUT_MAX {
        return Err(too_large("inline output", inline, INLINE_OUTPUT_MAX));
    }
    let output = p.output.unwrap_or_default();
    Ok(Outcome {
        ending: ending(p.ending.ok_or_else(|| malformed("outcome.ending"))?)?,
        output: OutputSummary {
            stdout_bytes: output.stdout_bytes,
            stderr_bytes: output.stderr_bytes,
            stdout_sha256: output.stdout_sha256,
            stderr_sha256: output.stderr_sha256,
            dropped_bytes: output.dropped_bytes,
            lost_bytes: output.lost_bytes,
            gap_stdout: output.gap_stdout,
            gap_stderr: output.gap_stderr,
        },
        inline_output: p.inline_output.into_iter().map(chunk).collect::<Result<_, _>>()?,
        started_at_ms: p.started_at_ms,
        ended_at_ms: p.ended_at_ms,
        journal_seq: p.journal_seq,
        duration_us: p.duration_us,
        confinement: p.confinement.map(confinement).transpose()?,
        locks: super::lock::held(p.locks)?,
        repositories: p.repositories.map(super::lock::repositories).transpose()?,
    })
}

fn confinement(p: pb::Confinement) -> Result<Confinement, Fault> {
    if p.limits.len() > LIMITS_MAX {
        return Err(too_large("confinement.limits", p.limits.len(), LIMITS_MAX));
    }
    if p.not_enforced.len() > GAPS_MAX {
        return Err(too_large("confinement.not_enforced", p.not_enforced.len(), GAPS_MAX));
    }
    let limit = |l: pb::LimitUse| LimitUse {
        name: l.name,
        limit: l.limit,
        used: l.used,
        strength: l.strength,
    };
    Ok(Confinement {
        level: p.level,
        not_enforced: p.not_enforced,
        network: p.network,
        limits: p.limits.into_iter().map(limit).collect(),
        killed_by: p.killed_by,
    })
}

/// Reads a piece of output.
///
/// # Errors
/// `CX-0101` for an unknown stream, `CX-0103` when it is empty or too large.
pub fn chunk(p: pb::OutputChunk) -> Result<OutputChunk, Fault> {
    let stream = match pb::OutputStream::try_from(p.stream) {
        Ok(pb::OutputStream::Stdout) => Stream::Stdout,
        Ok(pb::OutputStream::Stderr) => Stream::Stderr,
        Ok(pb::OutputStream::Unspecified) | Err(_) => return Err(malformed("output.stream")),
    };
    if p.data.is_empty() || p.data.len() > OUTPUT_CHUNK_MAX {
        return Err(too_large("a piece of output", p.data.len(), OUTPUT_CHUNK_MAX));
    }
    Ok(OutputChunk { stream, offset: p.offset, data: p.data })
}

fn ending(p: pb::Ending) -> Result<Ending, Fault> {
    use pb::ending::Kind;
    Ok(match p.kind.ok_or_else(|| malformed("ending.kind"))? {
        Kind::Exited(e) => Ending::Exited { code: e.code },
        Kind::Signaled(s) => Ending::Signaled { signal: s.signal },
        Kind::SpawnFailed(f) => Ending::SpawnFailed(error(f.error.unwrap_or_default())),
        Kind::Timeout(t) => Ending::Timeout { after_ms: t.after_ms },
        Kind::Cancelled(c) => {
            Ending::Cancelled { never_started: c.never_started, survivors: c.survivors }
        }
        Kind::Denied(d) => {
            Ending::Denied { error: error(d.error.unwrap_or_default()), rule: d.rule }
        }
        Kind::Interrupted(i) => Ending::Interrupted { found: i.found },
        Kind::Expired(e) => Ending::Expired { never_started: e.never_started },
    })
}

fn error(p: pb::Error) -> WireError {
    WireError { code: p.code, message: p.message, hint: p.hint, retryable: p.retryable }
}

impl From<Fault> for WireError {
    fn from(f: Fault) -> WireError {
        error(pb::Error::from(&f))
    }
}

impl From<&WireError> for pb::Error {
    fn from(e: &WireError) -> pb::Error {
        pb::Error {
            code: e.code.clone(),
            message: e.message.clone(),
            hint: e.hint.clone(),
            retryable: e.retryable,
        }
    }
}

impl From<&TaskSpec> for pb::TaskSpec {
    fn from(s: &TaskSpec) -> pb::TaskSpec {
        let kind = match &s.action {
            Action::Echo { payload } => {
                pb::action::Kind::Echo(pb::EchoAction { payload: payload.clone() })
            }
            Action::Shell(sh) => pb::action::Kind::Shell(pb::ShellAction {
                argv: sh.argv.clone(),
                cwd: sh.cwd.clone(),
                env: sh
                    .env
                    .iter()
                    .map(|(n, v)| pb::EnvVar { name: n.clone(), value: v.clone() })
                    .collect(),
                stdin: sh.stdin.clone(),
                script: sh.script.clone(),
                secret_env: sh
                    .secret_env
                    .iter()
                    .map(|(n, s)| pb::SecretEnvVar { name: n.clone(), secret: s.clone() })
                    .collect(),
                terminal: sh.terminal.as_ref().map(Into::into),
            }),
            Action::File(file) => pb::action::Kind::File(file.as_ref().into()),
            Action::Browser(browser) => pb::action::Kind::Browser(browser.as_ref().into()),
        };
        pb::TaskSpec {
            action: Some(pb::Action { kind: Some(kind) }),
            require: s.require.iter().map(ToString::to_string).collect(),
            node: s.node.as_ref().map_or_else(String::new, ToString::to_string),
            priority: s.priority,
            safe_to_repeat: s.safe_to_repeat,
            retry: (s.retry != RetryPolicy::default()).then(|| (&s.retry).into()),
            run_timeout_ms: s.run_timeout_ms,
            deadline_ms: s.deadline_ms,
            node_lost_grace_ms: s.node_lost_grace_ms,
            output_limit_bytes: s.output_limit_bytes,
            labels: s.labels.clone(),
            locks: s
                .locks
                .iter()
                .map(|l| pb::PathLock { path: l.path.clone(), shared: l.shared })
                .collect(),
            lock_timeout_ms: s.lock_timeout_ms,
        }
    }
}

impl From<&RetryPolicy> for pb::RetryPolicy {
    fn from(r: &RetryPolicy) -> pb::RetryPolicy {
        let name = |o: &RetryOn| match o {
            RetryOn::Exit => pb::RetryOn::Exit,
            RetryOn::Lost => pb::RetryOn::Lost,
            RetryOn::Timeout => pb::RetryOn::Timeout,
        };
        pb::RetryPolicy {
            max_attempts: r.max_attempts,
            on: r.on.iter().map(|o| name(o).into()).collect(),
            backoff_ms: r.backoff_ms,
            max_backoff_ms: r.max_backoff_ms,
        }
    }
}

impl From<&Actor> for pb::Actor {
    fn from(a: &Actor) -> pb::Actor {
        let kind = match a.kind {
            ActorKind::Human => pb::ActorKind::Human,
            ActorKind::Ai => pb::ActorKind::Ai,
            ActorKind::Program => pb::ActorKind::Program,
        };
        pb::Actor {
            kind: kind.into(),
            id: a.id.clone(),
            model: a.model.clone(),
            on_behalf_of: a.on_behalf_of.clone(),
        }
    }
}

impl From<&OutputChunk> for pb::OutputChunk {
    fn from(c: &OutputChunk) -> pb::OutputChunk {
        let stream = match c.stream {
            Stream::Stdout => pb::OutputStream::Stdout,
            Stream::Stderr => pb::OutputStream::Stderr,
        };
        pb::OutputChunk { stream: stream.into(), offset: c.offset, data: c.data.clone() }
    }
}

impl From<&Ending> for pb::Ending {
    fn from(e: &Ending) -> pb::Ending {
        use pb::ending::Kind;
        let kind = match e {
            Ending::Exited { code } => Kind::Exited(pb::Exited { code: *code }),
            Ending::Signaled { signal } => Kind::Signaled(pb::Signaled { signal: *signal }),
            Ending::SpawnFailed(e) => Kind::SpawnFailed(pb::SpawnFailed { error: Some(e.into()) }),
            Ending::Timeout { after_ms } => Kind::Timeout(pb::TimedOut { after_ms: *after_ms }),
            Ending::Cancelled { never_started, survivors } => Kind::Cancelled(pb::Cancelled {
                never_started: *never_started,
                survivors: *survivors,
            }),
            Ending::Denied { error, rule } => {
                Kind::Denied(pb::Denied { error: Some(error.into()), rule: rule.clone() })
            }
            Ending::Interrupted { found } => {
                Kind::Interrupted(pb::Interrupted { found: found.clone() })
            }
            Ending::Expired { never_started } => {
                Kind::Expired(pb::Expired { never_started: *never_started })
            }
        };
        pb::Ending { kind: Some(kind) }
    }
}

impl From<&Confinement> for pb::Confinement {
    fn from(c: &Confinement) -> pb::Confinement {
        let limit = |l: &LimitUse| pb::LimitUse {
            name: l.name.clone(),
            limit: l.limit,
            used: l.used,
            strength: l.strength.clone(),
        };
        pb::Confinement {
            level: c.level.clone(),
            not_enforced: c.not_enforced.clone(),
            network: c.network.clone(),
            limits: c.limits.iter().map(limit).collect(),
            killed_by: c.killed_by.clone(),
        }
    }
}

impl From<&Outcome> for pb::Outcome {
    fn from(o: &Outcome) -> pb::Outcome {
        let out = &o.output;
        pb::Outcome {
            ending: Some((&o.ending).into()),
            output: (*out != OutputSummary::default()).then(|| pb::OutputSummary {
                stdout_bytes: out.stdout_bytes,
                stderr_bytes: out.stderr_bytes,
                stdout_sha256: out.stdout_sha256.clone(),
                stderr_sha256: out.stderr_sha256.clone(),
                dropped_bytes: out.dropped_bytes,
                lost_bytes: out.lost_bytes,
                gap_stdout: out.gap_stdout,
                gap_stderr: out.gap_stderr,
            }),
            inline_output: o.inline_output.iter().map(Into::into).collect(),
            started_at_ms: o.started_at_ms,
            ended_at_ms: o.ended_at_ms,
            journal_seq: o.journal_seq,
            duration_us: o.duration_us,
            confinement: o.confinement.as_ref().map(Into::into),
            locks: o
                .locks
                .iter()
                .map(|l| pb::HeldLock { path: l.path.clone(), shared: l.shared, fence: l.fence })
                .collect(),
            repositories: o.repositories.as_ref().map(Into::into),
        }
    }
}
