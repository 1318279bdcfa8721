//! `cortex task show`: one task in plain words.

use crate::client;
use crate::commands::{Session, audit};
use crate::error::CliError;
use crate::words::{self, safe, time};
use crate::{duration, render, view};
use cortex_model::proto as pb;
use serde::Serialize;

/// Prints one task.
pub(crate) async fn run(session: &Session, id: &str) -> Result<(), CliError> {
    let id = client::task_id(id)?;
    let client = session.connect().await?;
    let task = client.task(&id).await?;
    let story = if task.attempt > 0 { audit::of_task(&client, &id).await? } else { Vec::new() };
    if session.json() {
        return render::json(&Shown { task: view::Task::from(&task), audit: story });
    }
    describe(&task).iter().try_for_each(|l| render::line(l))?;
    audit::tell(&story).iter().try_for_each(|l| render::line(l))
}

/// A task, and what the journals of the nodes that took it say about it.
#[derive(Serialize)]
struct Shown {
    #[serde(flatten)]
    task: view::Task,
    audit: Vec<audit::Told>,
}

fn describe(t: &pb::Task) -> Vec<String> {
    let spec = t.spec.clone().unwrap_or_default();
    let mut out = vec![
        format!("task     {} is {}", t.task_id, view::state_name(t.state)),
        format!("asked    by {} at {}", words::actor(t.actor.as_ref()), time(t.submitted_at_ms)),
        format!("key      {}", safe(&t.idempotency_key)),
        format!("what     {}", words::action(t.spec.as_ref())),
    ];
    out.extend(surroundings(&spec));
    out.extend(terms(&spec));
    if t.attempt > 0 {
        out.push(format!(
            "where    attempt {} on node {}, started {}",
            t.attempt,
            t.node,
            time(t.started_at_ms)
        ));
    } else if t.ended_at_ms == 0 {
        out.push("where    not started yet: 'cortex task explain' says why".to_owned());
    }
    if let Some(asked) = &t.consent {
        let (node, question) = (&asked.node, asked.question);
        out.push(format!(
            "waits    for the owner of {node} since {}: on {node}, cortex-agent consent show {question}",
            time(asked.at_ms)
        ));
    }
    if t.retry_at_ms > 0 {
        out.push(format!("again    not before {}", time(t.retry_at_ms)));
    }
    if t.cancel_requested {
        out.push("cancel   was asked for".to_owned());
    }
    out.extend(end(t));
    out
}

fn surroundings(spec: &pb::TaskSpec) -> Vec<String> {
    let Some(pb::action::Kind::Shell(s)) = spec.action.as_ref().and_then(|a| a.kind.as_ref())
    else {
        return Vec::new();
    };
    let mut out = Vec::new();
    if !s.cwd.is_empty() {
        out.push(format!("in       {}", safe(&s.cwd)));
    }
    for v in &s.env {
        out.push(format!(
            "env      {}={}",
            safe(&v.name),
            safe(&String::from_utf8_lossy(&v.value))
        ));
    }
    if s.terminal.is_some() {
        out.push("terminal yes: see it with 'cortex task attach'".to_owned());
    }
    if !s.stdin.is_empty() {
        out.push(format!("stdin    {} bytes", s.stdin.len()));
    }
    out
}

fn terms(spec: &pb::TaskSpec) -> Vec<String> {
    let mut out = Vec::new();
    if !spec.require.is_empty() {
        out.push(format!("needs    {}", spec.require.join(", ")));
    }
    if !spec.node.is_empty() {
        out.push(format!("pinned   to node {}", spec.node));
    }
    if spec.safe_to_repeat {
        out.push("repeat   declared safe".to_owned());
    }
    for (name, ms) in [("timeout ", spec.run_timeout_ms), ("deadline", spec.deadline_ms)] {
        if ms > 0 {
            out.push(format!("{name} {}", duration::show(ms)));
        }
    }
    out.extend(spec.labels.iter().map(|(k, v)| format!("label    {}={}", safe(k), safe(v))));
    out
}

fn end(t: &pb::Task) -> Vec<String> {
    let mut out = Vec::new();
    if t.state == i32::from(pb::TaskState::Indeterminate) {
        out.push("ended    nobody knows how".to_owned());
        if !t.evidence.is_empty() {
            out.push(format!("known    {}", safe(&t.evidence)));
        }
        out.push(format!("hint     {}", words::how_to_resolve(t)));
        return out;
    }
    if t.ended_at_ms == 0 {
        return out;
    }
    let how = match &t.outcome {
        Some(o) => words::ending(Some(o)),
        None => view::state_name(t.state),
    };
    out.push(format!("ended    {how}, at {}", time(t.ended_at_ms)));
    if let Some(o) = &t.outcome {
        if o.duration_us > 0 {
            out.push(format!("ran      {}", duration::show(o.duration_us / 1_000)));
        }
        if let Some(b) = &o.output {
            out.push(format!(
                "output   {} bytes on stdout, {} on stderr kept",
                b.stdout_bytes, b.stderr_bytes
            ));
            out.extend(words::gap(b).map(|gap| format!("         {gap}")));
            if b.lost_bytes > 0 {
                out.push(format!("         {} bytes of it were lost on the node", b.lost_bytes));
            }
        }
        if let Some(c) = &o.confinement {
            out.extend(confinement(c));
        }
        let new = words::repositories(Some(o));
        out.extend(new.into_iter().map(|line| format!("left     {line}")));
        if o.journal_seq > 0 {
            out.push(format!("journal  entry {} on node {}", o.journal_seq, t.node));
        }
    }
    out
}

fn confinement(c: &pb::Confinement) -> Vec<String> {
    let mut out = vec![format!("sandbox  {}, network {}", safe(&c.level), safe(&c.network))];
    if !c.not_enforced.is_empty() {
        out.push(format!("         not enforced: {}", safe(&c.not_enforced.join("; "))));
    }
    for l in &c.limits {
        let (name, strength) = (safe(&l.name), safe(&l.strength));
        out.push(format!("limit    {name}: {} of {} ({strength})", l.used, l.limit));
    }
    if !c.killed_by.is_empty() {
        out.push(format!("killed   it went over its limit of {}", safe(&c.killed_by)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task() -> pb::Task {
        let shell = pb::ShellAction {
            argv: vec![b"sh".to_vec(), b"-c".to_vec(), b"exit 3".to_vec()],
            cwd: "/tmp".into(),
            ..Default::default()
        };
        let action = Some(pb::Action { kind: Some(pb::action::Kind::Shell(shell)) });
        pb::Task {
            task_id: "t1".into(),
            idempotency_key: "k1".into(),
            spec: Some(pb::TaskSpec { action, run_timeout_ms: 90_000, ..Default::default() }),
            actor: Some(pb::Actor {
                kind: pb::ActorKind::Human.into(),
                id: "anna".into(),
                ..Default::default()
            }),
            submitted_at_ms: 1_700_000_000_000,
            ..Default::default()
        }
    }

    #[test]
    fn a_finished_task_says_who_what_where_and_how_it_ended() {
        let exited = pb::ending::Kind::Exited(pb::Exited { code: 3 });
        let t = pb::Task {
            state: pb::TaskState::Failed.into(),
            attempt: 1,
            node: "n1".into(),
            started_at_ms: 1_700_000_001_000,
            ended_at_ms: 1_700_000_002_000,
            outcome: Some(pb::Outcome {
                ending: Some(pb::Ending { kind: Some(exited) }),
                output: Some(pb::OutputSummary { stdout_bytes: 5, ..Default::default() }),
                duration_us: 950_000,
                journal_seq: 7,
                confinement: Some(pb::Confinement {
                    level: "full".into(),
                    network: "none".into(),
                    limits: vec![pb::LimitUse {
                        name: "memory".into(),
                        limit: 64,
                        used: 65,
                        strength: "approx".into(),
                    }],
                    killed_by: "memory".into(),
                    ..Default::default()
                }),
                repositories: Some(pb::NewRepositories {
                    paths: vec![b"/tmp/new one".to_vec()],
                    gaps: Vec::new(),
                }),
                ..Default::default()
            }),
            ..task()
        };
        assert_eq!(
            describe(&t),
            [
                "task     t1 is failed",
                "asked    by anna (human) at 2023-11-14T22:13:20.000Z",
                "key      k1",
                "what     sh -c 'exit 3'",
                "in       /tmp",
                "timeout  1m30s",
                "where    attempt 1 on node n1, started 2023-11-14T22:13:21.000Z",
                "ended    exited with code 3, at 2023-11-14T22:13:22.000Z",
                "ran      950ms",
                "output   5 bytes on stdout, 0 on stderr kept",
                "sandbox  full, network none",
                "limit    memory: 65 of 64 (approx)",
                "killed   it went over its limit of memory",
                "left     a repository appeared: '/tmp/new one': look before you run git there",
                "journal  entry 7 on node n1",
            ]
        );
    }

    #[test]
    fn doubt_is_said_openly() {
        let t = pb::Task {
            state: pb::TaskState::Indeterminate.into(),
            attempt: 1,
            node: "n1".into(),
            evidence: "n1 restarted while it ran".into(),
            ..task()
        };
        let text = describe(&t).join("\n");
        assert!(text.contains("ended    nobody knows how\nknown    n1 restarted while it ran\n"));
        assert!(text.contains("cortex task resolve t1 --as"), "{text}");
    }
}
