//! Tasks and their parts in plain words, for people. What is machine-readable is in `view`; nothing
//! here is meant to be parsed.

use crate::duration;
use cortex_model::text::{hides, visible};
use cortex_model::{FileAction, proto as pb, wire};
use pb::ending::Kind;

/// A time in UTC with milliseconds; "-" for never.
pub(crate) fn time(ms: u64) -> String {
    let at = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    match at {
        Some(at) if ms != 0 => format!("{at:.3}"),
        _ => "-".to_owned(),
    }
}

/// Who asked, and for whom.
pub(crate) fn actor(actor: Option<&pb::Actor>) -> String {
    let Some(a) = actor else { return "somebody unknown".to_owned() };
    let id = safe(&a.id);
    let who = match pb::ActorKind::try_from(a.kind) {
        Ok(pb::ActorKind::Human) => format!("{id} (human)"),
        Ok(pb::ActorKind::Ai) => format!("{id} (ai, model {})", safe(&a.model)),
        Ok(pb::ActorKind::Program) => format!("{id} (program)"),
        Ok(pb::ActorKind::Unspecified) | Err(_) => format!("{id} (of unknown kind)"),
    };
    match a.on_behalf_of.as_str() {
        "" => who,
        whom => format!("{who} on behalf of {}", safe(whom)),
    }
}

/// What runs, as one would type it.
pub(crate) fn action(spec: Option<&pb::TaskSpec>) -> String {
    match spec.and_then(|s| s.action.as_ref()?.kind.as_ref()) {
        Some(pb::action::Kind::Echo(e)) => format!("echo of {} bytes", e.payload.len()),
        Some(pb::action::Kind::Shell(s)) if !s.script.is_empty() => {
            format!("sh -c {}", quote(s.script.as_bytes()))
        }
        Some(pb::action::Kind::Shell(s)) => {
            s.argv.iter().map(|a| quote(a)).collect::<Vec<_>>().join(" ")
        }
        Some(pb::action::Kind::File(f)) => {
            let name = match f.op.clone() {
                Some(op) => FileAction { path: Vec::new(), op }.name(),
                None => "unknown",
            };
            format!("fs {name} {}", quote(&f.path))
        }
        Some(pb::action::Kind::Browser(b)) => {
            let name = wire::browser::action(b.clone()).map_or("unknown", |action| action.name());
            format!("browser {name} {}", quote(b.url.as_bytes()))
        }
        None => "an action that this version does not know".to_owned(),
    }
}

/// A list cell: at most `most` characters.
pub(crate) fn short(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let head: String = text.chars().take(most.saturating_sub(3)).collect();
    format!("{head}...")
}

/// Text from elsewhere, safe for a terminal and for the eyes: what controls or hides is written out.
pub(crate) fn safe(text: &str) -> String {
    visible(text)
}

/// An argument as one would type it: where it begins and ends can be seen.
pub(crate) fn quote(arg: &[u8]) -> String {
    let Ok(text) = std::str::from_utf8(arg) else {
        return format!("$'{}'", arg.escape_ascii());
    };
    let plain = |c: char| c.is_alphanumeric() || "-_./=:,+@%".contains(c);
    if text.chars().any(hides) {
        format!("$'{}'", safe(&text.replace('\\', r"\\")).replace('\'', "\\'"))
    } else if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', r"'\''"))
    }
}

/// How an attempt ended.
pub(crate) fn ending(outcome: Option<&pb::Outcome>) -> String {
    let Some(kind) = outcome.and_then(|o| o.ending.as_ref()?.kind.as_ref()) else {
        return "ended in a way that this version does not know".to_owned();
    };
    let why = |e: &Option<pb::Error>| {
        e.as_ref().map_or(String::new(), |e| format!(": {} {}", safe(&e.code), safe(&e.message)))
    };
    match kind {
        Kind::Exited(e) => format!("exited with code {}", e.code),
        Kind::Signaled(s) => format!("ended by signal {}", s.signal),
        Kind::SpawnFailed(f) => format!("could not be started{}", why(&f.error)),
        Kind::Timeout(t) => {
            format!("ended by its timeout of {}; no process is left", duration::show(t.after_ms))
        }
        Kind::Cancelled(c) if c.never_started => "cancelled before it started".to_owned(),
        Kind::Cancelled(c) if c.survivors == 0 => "cancelled; no process is left".to_owned(),
        Kind::Cancelled(c) => {
            format!("cancelled, but {} processes could not be ended", c.survivors)
        }
        Kind::Denied(d) if d.rule.is_empty() => {
            format!("denied by the node's owner{}", why(&d.error))
        }
        Kind::Denied(d) => {
            format!("denied by the node's owner{} (rule {})", why(&d.error), safe(&d.rule))
        }
        Kind::Interrupted(i) => {
            format!("interrupted, how far it got is not known: {}", safe(&i.found))
        }
        Kind::Expired(e) if e.never_started => "expired before it started".to_owned(),
        Kind::Expired(_) => "expired while it ran, and was ended".to_owned(),
    }
}

/// What to do about a task whose outcome nobody knows.
pub(crate) fn how_to_resolve(task: &pb::Task) -> String {
    format!(
        "when you know what happened: cortex task resolve {} --as succeeded|failed|retry --reason TEXT",
        task.task_id
    )
}

/// Where output is missing because there was more than its limit; `None` where all of it is there.
pub(crate) fn gap(output: &pb::OutputSummary) -> Option<String> {
    let pb::OutputSummary { dropped_bytes, gap_stdout, gap_stderr, .. } = output;
    (*dropped_bytes > 0).then(|| {
        format!(
            "{dropped_bytes} bytes of output were dropped, behind byte {gap_stdout} of stdout and {gap_stderr} of stderr: there was more than the task's limit or the node's disk takes"
        )
    })
}

/// The repositories that appeared while an attempt ran, one a line, and why there may be more.
pub(crate) fn repositories(outcome: Option<&pb::Outcome>) -> Vec<String> {
    let Some(new) = outcome.and_then(|o| o.repositories.as_ref()) else { return Vec::new() };
    let appeared = |path: &Vec<u8>| {
        format!("a repository appeared: {}: look before you run git there", quote(path))
    };
    let mut lines: Vec<String> = new.paths.iter().map(appeared).collect();
    if !new.gaps.is_empty() {
        let more = if new.paths.is_empty() { "" } else { "more " };
        let why = safe(&new.gaps.join("; "));
        lines.push(format!("whether {more}repositories appeared is not known: {why}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_as_typed() {
        let table: [(&[u8], &str); 7] = [
            (b"uname", "uname"),
            (b"", "''"),
            (b"a b", "'a b'"),
            (b"it's", r"'it'\''s'"),
            (b"a\x1b[2J", r"$'a\u{1b}[2J'"),
            (b"a\\n\n", r"$'a\\n\n'"),
            (b"\xff", r"$'\xff'"),
        ];
        for (arg, text) in table {
            assert_eq!(quote(arg), text);
        }
    }

    #[test]
    fn times_are_utc_with_milliseconds() {
        assert_eq!(time(1_700_000_000_005), "2023-11-14T22:13:20.005Z");
        assert_eq!(time(0), "-");
        assert_eq!(time(u64::MAX), "-");
    }

    #[test]
    fn an_actor_is_told_with_whom_it_acts_for() {
        let a = pb::Actor {
            kind: pb::ActorKind::Ai.into(),
            id: "bot".into(),
            model: "v/m".into(),
            on_behalf_of: "anna".into(),
        };
        assert_eq!(actor(Some(&a)), "bot (ai, model v/m) on behalf of anna");
        assert_eq!(actor(None), "somebody unknown");
    }

    #[test]
    fn new_repositories_are_named_so_that_no_name_controls_a_terminal() {
        let outcome = |paths: &[&[u8]], gaps: &[&str]| pb::Outcome {
            repositories: Some(pb::NewRepositories {
                paths: paths.iter().map(|path| path.to_vec()).collect(),
                gaps: gaps.iter().map(|gap| (*gap).to_owned()).collect(),
            }),
            ..Default::default()
        };
        let told = |paths, gaps| repositories(Some(&outcome(paths, gaps)));
        assert_eq!(
            told(&[b"/r/a\x1b[2Jb", b"/r/\xff"], &["late", "x\x1b"]),
            [
                r"a repository appeared: $'/r/a\u{1b}[2Jb': look before you run git there",
                r"a repository appeared: $'/r/\xff': look before you run git there",
                r"whether more repositories appeared is not known: late; x\u{1b}",
            ]
        );
        assert_eq!(told(&[], &["late"]), ["whether repositories appeared is not known: late"]);
        assert!(told(&[], &[]).is_empty() && repositories(None).is_empty());
    }

    #[test]
    fn endings_are_told_without_hiding_doubt() {
        let told = |kind| {
            ending(Some(&pb::Outcome {
                ending: Some(pb::Ending { kind: Some(kind) }),
                ..Default::default()
            }))
        };
        assert_eq!(told(Kind::Exited(pb::Exited { code: 3 })), "exited with code 3");
        let c = pb::Cancelled { never_started: false, survivors: 2 };
        assert_eq!(told(Kind::Cancelled(c)), "cancelled, but 2 processes could not be ended");
        let i = pb::Interrupted { found: "no outcome".into() };
        assert_eq!(
            told(Kind::Interrupted(i)),
            "interrupted, how far it got is not known: no outcome"
        );
        assert!(ending(None).contains("does not know"));
    }
}
