//! A task, who asked for it and how it ended, as JSON.

use super::{Bytes, Error, hex, text, time};
use cortex_model::proto as pb;
use pb::ending::Kind;
use serde::Serialize;
use std::collections::BTreeMap;

/// A task as it stands.
#[derive(Debug, Serialize)]
pub(crate) struct Task {
    pub(crate) task_id: String,
    pub(crate) workspace: String,
    pub(crate) idempotency_key: String,
    pub(crate) state: String,
    pub(crate) spec: Option<Spec>,
    pub(crate) actor: Option<Actor>,
    pub(crate) submitted_at_ms: u64,
    /// The current or last attempt; 0 when none started.
    pub(crate) attempt: u32,
    pub(crate) node: Option<String>,
    pub(crate) started_at_ms: Option<u64>,
    pub(crate) ended_at_ms: Option<u64>,
    pub(crate) outcome: Option<Outcome>,
    pub(crate) cancel_requested: bool,
    pub(crate) revision: u64,
    pub(crate) evidence: Option<String>,
    pub(crate) retry_at_ms: Option<u64>,
    pub(crate) deadline_at_ms: Option<u64>,
    /// What it asks the owner of its node; `None` when it waits for no answer.
    pub(crate) consent: Option<Consent>,
}

/// A question to the owner of a node that waits.
#[derive(Debug, Serialize)]
pub(crate) struct Consent {
    pub(crate) node: String,
    pub(crate) question: u64,
    pub(crate) rule: Option<String>,
    pub(crate) classes: Vec<String>,
    pub(crate) asked_at_ms: u64,
    pub(crate) until_ms: Option<u64>,
}

impl From<&pb::ConsentAsked> for Consent {
    fn from(a: &pb::ConsentAsked) -> Consent {
        Consent {
            node: a.node.clone(),
            question: a.question,
            rule: text(&a.rule),
            classes: a.classes.clone(),
            asked_at_ms: a.asked_at_ms,
            until_ms: time(a.until_ms),
        }
    }
}

impl From<&pb::Task> for Task {
    fn from(t: &pb::Task) -> Task {
        Task {
            task_id: t.task_id.clone(),
            workspace: t.workspace.clone(),
            idempotency_key: t.idempotency_key.clone(),
            state: state_name(t.state),
            spec: t.spec.as_ref().map(Into::into),
            actor: t.actor.as_ref().map(Into::into),
            submitted_at_ms: t.submitted_at_ms,
            attempt: t.attempt,
            node: text(&t.node),
            started_at_ms: time(t.started_at_ms),
            ended_at_ms: time(t.ended_at_ms),
            outcome: t.outcome.as_ref().map(Into::into),
            cancel_requested: t.cancel_requested,
            revision: t.revision,
            evidence: text(&t.evidence),
            retry_at_ms: time(t.retry_at_ms),
            deadline_at_ms: time(t.deadline_at_ms),
            consent: t.consent.as_ref().map(Into::into),
        }
    }
}

/// The state in lower case; an unknown one as `unknown(N)`.
pub(crate) fn state_name(state: i32) -> String {
    known::<pb::TaskState>(state, |s| s.as_str_name(), "TASK_STATE_")
}

pub(super) fn known<E: TryFrom<i32>>(
    value: i32,
    name: impl Fn(&E) -> &'static str,
    prefix: &str,
) -> String {
    match E::try_from(value) {
        Ok(e) => name(&e).trim_start_matches(prefix).to_lowercase(),
        Err(_) => format!("unknown({value})"),
    }
}

/// What was asked. Durations in milliseconds; 0 means the server's default.
#[derive(Debug, Serialize)]
pub(crate) struct Spec {
    pub(crate) action: Action,
    pub(crate) require: Vec<String>,
    pub(crate) node: Option<String>,
    pub(crate) priority: i32,
    pub(crate) safe_to_repeat: bool,
    pub(crate) max_attempts: u32,
    pub(crate) retry_on: Vec<String>,
    pub(crate) run_timeout_ms: u64,
    pub(crate) deadline_ms: u64,
    pub(crate) node_lost_grace_ms: u64,
    pub(crate) output_limit_bytes: u64,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) locks: Vec<Lock>,
    pub(crate) lock_timeout_ms: u64,
}

/// A path that is to be held, or was: then with its number.
#[derive(Debug, Serialize)]
pub(crate) struct Lock {
    pub(crate) path: Bytes,
    pub(crate) shared: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) fence: Option<u64>,
}

impl From<&pb::TaskSpec> for Spec {
    fn from(s: &pb::TaskSpec) -> Spec {
        let retry = s.retry.clone().unwrap_or_default();
        let on = |o: &i32| known::<pb::RetryOn>(*o, |o| o.as_str_name(), "RETRY_ON_");
        Spec {
            action: s.action.as_ref().and_then(|a| a.kind.as_ref()).into(),
            require: s.require.clone(),
            node: text(&s.node),
            priority: s.priority,
            safe_to_repeat: s.safe_to_repeat,
            max_attempts: retry.max_attempts,
            retry_on: retry.on.iter().map(on).collect(),
            run_timeout_ms: s.run_timeout_ms,
            deadline_ms: s.deadline_ms,
            node_lost_grace_ms: s.node_lost_grace_ms,
            output_limit_bytes: s.output_limit_bytes,
            labels: s.labels.clone(),
            locks: s
                .locks
                .iter()
                .map(|l| Lock { path: Bytes(l.path.clone()), shared: l.shared, fence: None })
                .collect(),
            lock_timeout_ms: s.lock_timeout_ms,
        }
    }
}

/// What runs on the node.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Action {
    Echo {
        payload: Bytes,
    },
    Shell {
        argv: Vec<Bytes>,
        script: Option<String>,
        cwd: Option<String>,
        env: Vec<Variable>,
        secret_env: BTreeMap<String, String>,
        stdin: Bytes,
        terminal: Option<Terminal>,
    },
    File {
        op: &'static str,
        path: Bytes,
        fields: serde_json::Value,
    },
    Browser {
        op: &'static str,
        url: String,
        fields: serde_json::Value,
    },
    Unknown,
}

/// A terminal; null and 0 where the task does not say.
#[derive(Debug, Serialize)]
pub(crate) struct Terminal {
    term: Option<String>,
    rows: u32,
    columns: u32,
}

/// An environment variable.
#[derive(Debug, Serialize)]
pub(crate) struct Variable {
    pub(crate) name: String,
    pub(crate) value: Bytes,
}

impl From<Option<&pb::action::Kind>> for Action {
    fn from(kind: Option<&pb::action::Kind>) -> Action {
        match kind {
            Some(pb::action::Kind::Echo(e)) => Action::Echo { payload: Bytes(e.payload.clone()) },
            Some(pb::action::Kind::Shell(s)) => Action::Shell {
                argv: s.argv.iter().cloned().map(Bytes).collect(),
                script: text(&s.script),
                secret_env: s
                    .secret_env
                    .iter()
                    .map(|v| (v.name.clone(), v.secret.clone()))
                    .collect(),
                cwd: text(&s.cwd),
                env: s
                    .env
                    .iter()
                    .map(|v| Variable { name: v.name.clone(), value: Bytes(v.value.clone()) })
                    .collect(),
                stdin: Bytes(s.stdin.clone()),
                terminal: s.terminal.as_ref().map(|t| Terminal {
                    term: text(&t.term),
                    rows: t.rows,
                    columns: t.columns,
                }),
            },
            Some(pb::action::Kind::File(f)) => {
                let (op, fields) = super::file::of(f.op.as_ref());
                Action::File { op, path: Bytes(f.path.clone()), fields }
            }
            Some(pb::action::Kind::Browser(b)) => {
                let (op, fields) = super::browser::of(b);
                Action::Browser { op, url: b.url.clone(), fields }
            }
            None => Action::Unknown,
        }
    }
}

/// Who asked.
#[derive(Debug, Serialize)]
pub(crate) struct Actor {
    pub(crate) kind: String,
    pub(crate) id: String,
    pub(crate) model: Option<String>,
    pub(crate) on_behalf_of: Option<String>,
}

impl From<&pb::Actor> for Actor {
    fn from(a: &pb::Actor) -> Actor {
        Actor {
            kind: known::<pb::ActorKind>(a.kind, |k| k.as_str_name(), "ACTOR_KIND_"),
            id: a.id.clone(),
            model: text(&a.model),
            on_behalf_of: text(&a.on_behalf_of),
        }
    }
}

/// How an attempt ended, as its node told it.
#[derive(Debug, Serialize)]
pub(crate) struct Outcome {
    pub(crate) ending: Option<Ending>,
    pub(crate) stdout_bytes: u64,
    pub(crate) stderr_bytes: u64,
    pub(crate) stdout_sha256: String,
    pub(crate) stderr_sha256: String,
    pub(crate) dropped_bytes: u64,
    pub(crate) lost_bytes: u64,
    /// Where dropped bytes are missing, counted in what is kept of each stream.
    pub(crate) gap_stdout: u64,
    pub(crate) gap_stderr: u64,
    pub(crate) started_at_ms: Option<u64>,
    pub(crate) ended_at_ms: Option<u64>,
    pub(crate) duration_us: u64,
    pub(crate) journal_seq: u64,
    pub(crate) confinement: Option<Confinement>,
    pub(crate) locks: Vec<Lock>,
    pub(crate) repositories: Option<NewRepositories>,
}

/// Repositories that appeared while it ran; `None`: nobody looked.
#[derive(Debug, Serialize)]
pub(crate) struct NewRepositories {
    pub(crate) paths: Vec<Bytes>,
    /// Why there may be more; empty: all were found.
    pub(crate) gaps: Vec<String>,
}

/// How it was confined; `None`: no process ran, or an agent that did not say.
#[derive(Debug, Serialize)]
pub(crate) struct Confinement {
    pub(crate) level: String,
    pub(crate) not_enforced: Vec<String>,
    pub(crate) network: String,
    pub(crate) limits: Vec<LimitUse>,
    pub(crate) killed_by: Option<String>,
}

/// A limit and what was used of it, in its own unit.
#[derive(Debug, Serialize)]
pub(crate) struct LimitUse {
    pub(crate) name: String,
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) strength: String,
}

impl From<&pb::Confinement> for Confinement {
    fn from(c: &pb::Confinement) -> Confinement {
        let limit = |l: &pb::LimitUse| LimitUse {
            name: l.name.clone(),
            limit: l.limit,
            used: l.used,
            strength: l.strength.clone(),
        };
        Confinement {
            level: c.level.clone(),
            not_enforced: c.not_enforced.clone(),
            network: c.network.clone(),
            limits: c.limits.iter().map(limit).collect(),
            killed_by: text(&c.killed_by),
        }
    }
}

impl From<&pb::Outcome> for Outcome {
    fn from(o: &pb::Outcome) -> Outcome {
        let out = o.output.clone().unwrap_or_default();
        Outcome {
            ending: o.ending.as_ref().and_then(|e| e.kind.as_ref()).map(Into::into),
            stdout_bytes: out.stdout_bytes,
            stderr_bytes: out.stderr_bytes,
            stdout_sha256: hex(&out.stdout_sha256),
            stderr_sha256: hex(&out.stderr_sha256),
            dropped_bytes: out.dropped_bytes,
            lost_bytes: out.lost_bytes,
            gap_stdout: out.gap_stdout,
            gap_stderr: out.gap_stderr,
            started_at_ms: time(o.started_at_ms),
            ended_at_ms: time(o.ended_at_ms),
            duration_us: o.duration_us,
            journal_seq: o.journal_seq,
            confinement: o.confinement.as_ref().map(Into::into),
            locks: o
                .locks
                .iter()
                .map(|l| Lock {
                    path: Bytes(l.path.clone()),
                    shared: l.shared,
                    fence: Some(l.fence).filter(|_| !l.shared),
                })
                .collect(),
            repositories: o.repositories.as_ref().map(|new| NewRepositories {
                paths: new.paths.iter().cloned().map(Bytes).collect(),
                gaps: new.gaps.clone(),
            }),
        }
    }
}

/// The ending itself.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub(crate) enum Ending {
    Exited { code: i32 },
    Signaled { signal: i32 },
    SpawnFailed { error: Option<Error> },
    Timeout { after_ms: u64 },
    Cancelled { never_started: bool, survivors: u32 },
    Denied { error: Option<Error>, rule: String },
    Interrupted { found: String },
    Expired { never_started: bool },
}

impl From<&Kind> for Ending {
    fn from(kind: &Kind) -> Ending {
        match kind {
            Kind::Exited(e) => Ending::Exited { code: e.code },
            Kind::Signaled(s) => Ending::Signaled { signal: s.signal },
            Kind::SpawnFailed(f) => Ending::SpawnFailed { error: f.error.as_ref().map(Into::into) },
            Kind::Timeout(t) => Ending::Timeout { after_ms: t.after_ms },
            Kind::Cancelled(c) => {
                Ending::Cancelled { never_started: c.never_started, survivors: c.survivors }
            }
            Kind::Denied(d) => {
                Ending::Denied { error: d.error.as_ref().map(Into::into), rule: d.rule.clone() }
            }
            Kind::Interrupted(i) => Ending::Interrupted { found: i.found.clone() },
            Kind::Expired(e) => Ending::Expired { never_started: e.never_started },
        }
    }
}
