//! `cortex task history`: every event with its position, its time and what it changed.

use crate::client;
use crate::commands::Session;
use crate::duration;
use crate::error::CliError;
use crate::view::{consent_answer, release_reason, resolve_as};
use crate::words::{self, safe, time};
use crate::{render, view};
use cortex_model::limits::PAGE_MAX;
use cortex_model::proto as pb;
use pb::event::Kind;

/// Prints the history, all pages.
pub(crate) async fn run(session: &Session, id: &str) -> Result<(), CliError> {
    let mut request = pb::GetTaskHistoryRequest {
        task_id: client::task_id(id)?,
        after_revision: 0,
        page_size: PAGE_MAX,
    };
    let client = session.connect().await?;
    let mut entries = Vec::new();
    loop {
        let page = client.get_task_history(request.clone()).await?;
        entries.extend(page.entries);
        if page.next_after_revision == 0 {
            break;
        }
        request.after_revision = page.next_after_revision;
    }
    if session.json() {
        let entries: Vec<view::HistoryEntry> = entries.iter().map(Into::into).collect();
        return render::json(&serde_json::json!({ "entries": entries }));
    }
    describe(&entries).iter().try_for_each(|l| render::line(l))
}

/// One line per event; the state stands where it changed.
pub(crate) fn describe(entries: &[pb::HistoryEntry]) -> Vec<String> {
    let (mut out, mut state) = (Vec::new(), None);
    for entry in entries {
        let events = entry.commit.as_ref().map_or(&[][..], |c| &c.events);
        for (i, e) in events.iter().enumerate() {
            let last = i + 1 == events.len();
            let change = match last && state != Some(entry.state) {
                true => format!(" -> {}", view::state_name(entry.state).to_uppercase()),
                false => String::new(),
            };
            let (name, text) = event(e);
            out.push(format!(
                "{:>6}  {}  {name:<15}  {text}{change}",
                entry.revision,
                time(entry.at_ms)
            ));
        }
        state = Some(entry.state);
    }
    out
}

fn event(e: &pb::Event) -> (&'static str, String) {
    let Some(kind) = &e.kind else {
        return ("Unknown", "an event that this version does not know".to_owned());
    };
    match kind {
        Kind::Submitted(s) => (
            "Submitted",
            format!(
                "{} asked for: {}",
                words::actor(s.actor.as_ref()),
                words::action(s.spec.as_ref())
            ),
        ),
        Kind::Started(s) => ("Started", started(s)),
        Kind::AttemptReleased(r) => ("AttemptReleased", released(r)),
        Kind::CancelRequested(c) => (
            "CancelRequested",
            format!("by {}{}", words::actor(c.actor.as_ref()), because(&c.reason)),
        ),
        Kind::Finished(f) if f.attempt == 0 => ("Finished", words::ending(f.outcome.as_ref())),
        Kind::Finished(f) => (
            "Finished",
            format!(
                "attempt {} {}{}{}",
                f.attempt,
                words::ending(f.outcome.as_ref()),
                size(f.outcome.as_ref()),
                left(f.outcome.as_ref())
            ),
        ),
        Kind::OutcomeUnknown(u) => {
            ("OutcomeUnknown", format!("of attempt {}{}", u.attempt, because(&u.evidence)))
        }
        Kind::LateOutcome(l) => (
            "LateOutcome",
            format!(
                "node {} reports that attempt {} {}; it changes nothing{}",
                l.node,
                l.attempt,
                words::ending(l.outcome.as_ref()),
                left(l.outcome.as_ref())
            ),
        ),
        Kind::Resolved(r) => (
            "Resolved",
            format!(
                "as {} by {}{}",
                resolve_as(r.r#as),
                words::actor(r.actor.as_ref()),
                because(&r.reason)
            ),
        ),
        Kind::ConsentAsked(a) => ("ConsentAsked", asked(a)),
        Kind::ConsentAnswered(a) => (
            "ConsentAnswered",
            format!(
                "question {} to the owner of {}: {}",
                a.question,
                a.node,
                consent_answer(a.answer)
            ),
        ),
        Kind::Archived(a) => {
            ("Archived", format!("{} commits and {} attempts before this", a.commits, a.attempts))
        }
    }
}

fn started(s: &pb::Started) -> String {
    let mut text = format!("attempt {} on node {}{}", s.attempt, s.node, because(&s.reason));
    for r in &s.refused {
        text.push_str(&format!("; {} had not taken it ({})", r.node, safe(&r.why)));
    }
    text
}

fn asked(a: &pb::ConsentAsked) -> String {
    let mut text =
        format!("attempt {} waits for the owner of {}: question {}", a.attempt, a.node, a.question);
    if !a.rule.is_empty() {
        text.push_str(&format!(", by rule {}", safe(&a.rule)));
    }
    if !a.classes.is_empty() {
        text.push_str(&format!(" ({})", safe(&a.classes.join(", "))));
    }
    text
}

fn released(r: &pb::AttemptReleased) -> String {
    let mut text = format!("attempt {}: {}", r.attempt, release_reason(r.reason).replace('_', " "));
    if r.outcome.is_some() {
        text.push_str(&format!(", {}", words::ending(r.outcome.as_ref())));
        text.push_str(&left(r.outcome.as_ref()));
    }
    text.push_str(&because(&r.evidence));
    if r.retry_at_ms > r.at_ms {
        text.push_str(&format!("; again in {}", duration::show(r.retry_at_ms - r.at_ms)));
    }
    text
}

fn size(outcome: Option<&pb::Outcome>) -> String {
    let Some(o) = outcome.and_then(|o| o.output.as_ref()) else { return String::new() };
    format!(", {} bytes of output", o.stdout_bytes.saturating_add(o.stderr_bytes))
}

/// What it left behind besides.
fn left(outcome: Option<&pb::Outcome>) -> String {
    words::repositories(outcome).iter().map(|line| format!("; {line}")).collect()
}

fn because(reason: &str) -> String {
    if reason.is_empty() { String::new() } else { format!(": {}", safe(reason)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(revision: u64, state: pb::TaskState, kinds: Vec<Kind>) -> pb::HistoryEntry {
        let events = kinds.into_iter().map(|kind| pb::Event { kind: Some(kind) }).collect();
        pb::HistoryEntry {
            revision,
            at_ms: 1_700_000_000_000 + revision,
            commit: Some(pb::Commit { n: revision, events }),
            state: state.into(),
            ..Default::default()
        }
    }

    #[test]
    fn a_history_tells_what_each_event_changed() {
        let released = pb::AttemptReleased {
            attempt: 1,
            reason: pb::ReleaseReason::NotStarted.into(),
            retry_at_ms: 1_500,
            at_ms: 1_000,
            ..Default::default()
        };
        let resolved = pb::Resolved {
            r#as: pb::ResolveAs::Retry.into(),
            reason: "checked".into(),
            ..Default::default()
        };
        let started = pb::Started {
            attempt: 1,
            node: "n1".into(),
            reason: "it has shell".into(),
            ..Default::default()
        };
        let lines = describe(&[
            entry(1, pb::TaskState::Running, vec![Kind::Started(started)]),
            entry(2, pb::TaskState::Running, vec![Kind::CancelRequested(Default::default())]),
            entry(
                9,
                pb::TaskState::Pending,
                vec![Kind::Resolved(resolved), Kind::AttemptReleased(released)],
            ),
        ]);
        assert_eq!(
            lines,
            [
                "     1  2023-11-14T22:13:20.001Z  Started          attempt 1 on node n1: it has shell -> RUNNING",
                "     2  2023-11-14T22:13:20.002Z  CancelRequested  by somebody unknown",
                "     9  2023-11-14T22:13:20.009Z  Resolved         as retry by somebody unknown: checked",
                "     9  2023-11-14T22:13:20.009Z  AttemptReleased  attempt 1: not started; again in 500ms -> PENDING",
            ]
        );
    }
}
