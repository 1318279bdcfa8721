//! Records in plain words. What a record says is shown as what the node said, and openings only where they fit their commitments.

use crate::duration;
use crate::words::{quote, safe};
use cortex_audit::record::{
    Auth, ConsentAnswered, ConsentAsked, Exec, Intent, Outcome, Record, Recovery, Refusal,
};
use cortex_audit::{Commitment, Envelope, Opening, Value};
use cortex_model::proto as pb;

/// The records of a message, with their numbers.
pub(crate) fn lines(batch: &pb::ReadAuditRecordsResponse) -> impl Iterator<Item = (u64, &[u8])> {
    let lines = batch.records.split(|byte| *byte == b'\n').take(batch.count as usize);
    (batch.first_seq..).zip(lines)
}

/// A record in one line.
pub(crate) fn one_line(seq: u64, body: &[u8]) -> String {
    let Ok(envelope) = Envelope::parse(body) else {
        return format!("{seq:>8}  a record that cannot be read");
    };
    let what = match Record::read(&envelope.kind, &envelope.data) {
        Ok(Some(record)) => summary(&record),
        Ok(None) => "of a kind that this version does not know".to_owned(),
        Err(error) => format!("malformed: {}", safe(&error.0)),
    };
    format!("{seq:>8}  {}  {:<16} {what}", envelope.at, envelope.kind)
}

fn summary(record: &Record) -> String {
    match record {
        Record::Genesis(g) => {
            format!("journal of node {} in workspace {}", safe(&g.node), safe(&g.tenant))
        }
        Record::SessionOpen(s) => format!("agent {} starts", safe(&s.agent)),
        Record::SessionClose(s) => {
            format!("agent ends{}", if s.clean { "" } else { ", something was still running" })
        }
        Record::PolicyLoaded(p) => format!("{} rules from {}", p.rules, safe(&p.source)),
        Record::ConsentAsked(c) => format!("{}: the owner is asked", safe(&c.cmd)),
        Record::ConsentAnswered(c) => {
            format!("{}: the owner answers {}", safe(&c.cmd), safe(&c.answer))
        }
        Record::TerminalAttached(t) => {
            format!("{}: {} takes the keyboard", safe(&t.cmd), person(&t.actor))
        }
        Record::TerminalTyped(t) => format!("{}: {} bytes were typed", safe(&t.cmd), t.bytes),
        Record::Intent(i) => format!("{}: {} for {}", safe(&i.cmd), operation(i), person(&i.actor)),
        Record::Outcome(o) => format!("{}: {}", safe(&o.cmd), ending(o)),
        Record::Refusal(r) => format!("{}: refused, {}", safe(&r.cmd), safe(&r.code)),
        Record::Recovery(r) => format!("found at start: {}", safe(&r.found)),
        Record::Heartbeat(h) => format!("{} open, {} not countersigned", h.open_intents, h.unacked),
        Record::Config(c) => format!("{} changed", safe(&c.what)),
        Record::Access(a) => {
            format!("{} of {} to {} by {}", safe(&a.what), a.from, a.to, person(&a.actor))
        }
        Record::Redact(r) => format!("{} values erased: {}", r.commitments.len(), safe(&r.basis)),
        Record::Prune(p) => format!("records before {} dropped on the node", p.min_index),
        Record::KeyRotate(_) => "the signing key changes".to_owned(),
        Record::LogClose(c) => format!("the journal ends: {}", safe(&c.reason)),
    }
}

fn operation(intent: &Intent) -> String {
    match &intent.exec {
        Some(exec) => format!("{} of {}", safe(&intent.op), safe(&exec.exe)),
        None => safe(&intent.op),
    }
}

/// Who asked, and for whom.
pub(crate) fn person(actor: &cortex_audit::record::Actor) -> String {
    let mut text = if actor.id.is_empty() { "somebody".to_owned() } else { safe(&actor.id) };
    let kind = match actor.kind.as_str() {
        "" => "of unknown kind".to_owned(),
        "ai" => format!("ai, model {}", safe(actor.model.as_deref().unwrap_or("unknown"))),
        kind => safe(kind),
    };
    text.push_str(&format!(" ({kind})"));
    if let Some(whom) = &actor.on_behalf_of {
        text.push_str(&format!(" on behalf of {}", safe(whom)));
    }
    text
}

/// A record with all that matters about it, and the values behind its commitments where they are given.
pub(crate) fn describe(seq: u64, body: &[u8], openings: &[String]) -> Vec<String> {
    let Ok(envelope) = Envelope::parse(body) else {
        return vec![format!("record   {seq} cannot be read")];
    };
    let mut out =
        vec![format!("record   {seq}, {}, written {}", safe(&envelope.kind), envelope.at)];
    match Record::read(&envelope.kind, &envelope.data) {
        Ok(Some(Record::Intent(intent))) => out.extend(of_intent(&intent, openings)),
        Ok(Some(Record::Outcome(outcome))) => out.extend(of_outcome(&outcome, openings)),
        Ok(Some(Record::Refusal(refusal))) => out.extend(of_refusal(&refusal, openings)),
        Ok(Some(Record::ConsentAsked(asked))) => out.extend(of_question(&asked, openings)),
        Ok(Some(Record::ConsentAnswered(answer))) => out.extend(of_answer(&answer)),
        Ok(Some(Record::Recovery(recovery))) => out.extend(of_recovery(&recovery)),
        Ok(Some(Record::TerminalTyped(typed))) => {
            out.push(format!(
                "typed    {} bytes, {}",
                typed.bytes,
                value(typed.typed.as_ref(), openings)
            ));
            out.push(format!(
                "by       whom record {} names ({})",
                typed.attached, typed.attached_hash
            ));
        }
        Ok(Some(record)) => out.push(format!("says     {}", summary(&record))),
        Ok(None) => {
            out.push("says     something of a kind that this version does not know".to_owned())
        }
        Err(error) => out.push(format!("says     malformed: {}", safe(&error.0))),
    }
    out
}

fn of_intent(intent: &Intent, openings: &[String]) -> Vec<String> {
    let mut out = vec![format!("asked    by {}", person(&intent.actor))];
    if let Some(exec) = &intent.exec {
        out.extend(of_exec(exec, openings));
    } else {
        out.push(format!("what     {}", safe(&intent.op)));
    }
    if let Some(target) = &intent.target {
        out.push(format!("on       {}", value(Some(&target.path), openings)));
    }
    out.push(allowed(&intent.auth));
    out
}

fn of_question(asked: &ConsentAsked, openings: &[String]) -> Vec<String> {
    let rule = asked.rule.as_deref().map_or("no rule is named".to_owned(), safe);
    let mut out = vec![
        format!("asked    by {}", person(&asked.actor)),
        format!("rules    ask (rule {rule}), policy {}", safe(&asked.policy)),
        format!("shown    to the owner: {}", value(Some(&asked.text), openings)),
        format!(
            "         SHA-256 {}, of what would run {}",
            safe(&asked.shown),
            safe(&asked.fingerprint)
        ),
    ];
    if let Some(until) = &asked.expires {
        out.push(format!("until    {}", safe(until)));
    }
    out
}

fn of_answer(answer: &ConsentAnswered) -> Vec<String> {
    let who = answer.who.as_ref().map_or("nobody".to_owned(), person);
    let channel = answer.channel.as_ref().map_or(String::new(), |by| format!(", by {}", safe(by)));
    let mut out = vec![
        format!(
            "answer   {} by {who}{channel}, after {}",
            safe(&answer.answer),
            duration::show(answer.latency_ms)
        ),
        format!("to       record {} ({})", answer.asked, answer.asked_hash),
        format!(
            "shown    SHA-256 {}, of what may run {}",
            safe(&answer.shown),
            safe(&answer.fingerprint)
        ),
    ];
    let until = answer.expires.as_ref().map_or(String::new(), |at| format!(" until {}", safe(at)));
    if let Some(scope) = &answer.scope {
        out.push(format!("covers   {}{until}", safe(scope)));
    }
    out
}

fn of_exec(exec: &Exec, openings: &[String]) -> Vec<String> {
    let mut out = vec![
        format!("program  {}", safe(&exec.exe)),
        format!("argv     {}", value(Some(&exec.argv), openings)),
        format!("in       {}", value(Some(&exec.cwd), openings)),
        format!("env      {}", environment(&exec.env, openings)),
    ];
    if let Some(digest) = &exec.exe_sha256 {
        out.push(format!("file     SHA-256 {}", safe(digest)));
    }
    if exec.stdin.is_some() {
        out.push(format!("stdin    {}", value(exec.stdin.as_ref(), openings)));
    }
    let unenforced: Vec<String> = exec.sandbox.unenforced.iter().map(|what| safe(what)).collect();
    let weak = if unenforced.is_empty() {
        String::new()
    } else {
        format!("; not enforced here: {}", unenforced.join(", "))
    };
    out.push(format!(
        "level    {}, network {}, user {}{weak}",
        safe(&exec.sandbox.level),
        safe(&exec.net),
        exec.uid
    ));
    out.push(format!("timeout  {}", duration::show(exec.timeout_ms)));
    out
}

fn of_outcome(outcome: &Outcome, openings: &[String]) -> Vec<String> {
    let mut out = vec![format!("ended    {}", ending(outcome))];
    out.push(format!("answers  record {} ({})", outcome.intent, outcome.intent_hash));
    for (name, commitment) in [("stdout", &outcome.stdout), ("stderr", &outcome.stderr)] {
        if commitment.is_some() {
            out.push(format!("{name}   {}", value(commitment.as_ref(), openings)));
        }
    }
    for limit in &outcome.limits {
        let used = limit.used.map_or("not measured".to_owned(), |used| used.to_string());
        out.push(format!(
            "quota    {}: {used} of {} ({})",
            safe(&limit.name),
            limit.limit,
            safe(&limit.strength)
        ));
    }
    out
}

fn of_recovery(recovery: &Recovery) -> Vec<String> {
    let mut out = vec![format!(
        "found    at the next start: {}; {} of its processes were still there and were ended",
        safe(&recovery.found),
        recovery.orphans
    )];
    if let (Some(seq), Some(hash)) = (recovery.intent, recovery.intent_hash) {
        out.push(format!("answers  record {seq} ({hash}), which had no end"));
    }
    out
}

fn of_refusal(refusal: &Refusal, openings: &[String]) -> Vec<String> {
    let mut out = vec![
        format!("asked    by {}", person(&refusal.actor)),
        format!("what     {}", safe(&refusal.op)),
    ];
    if refusal.argv.is_some() {
        out.push(format!("argv     {}", value(refusal.argv.as_ref(), openings)));
    }
    out.push(format!("refused  {}", safe(&refusal.code)));
    out.push(allowed(&refusal.auth));
    out
}

fn allowed(auth: &Auth) -> String {
    let rule = auth
        .rule
        .as_ref()
        .map_or("no rule matched".to_owned(), |rule| format!("rule {}", safe(rule)));
    let consent = auth
        .approval
        .as_ref()
        .map_or(String::new(), |approval| format!(", consent in record {}", approval.seq));
    format!("rules    {} ({rule}{consent}), policy {}", safe(&auth.decision), safe(&auth.policy))
}

fn ending(outcome: &Outcome) -> String {
    let mut text = outcome.status.word().to_owned();
    for (name, number) in [("code", outcome.exit_code), ("signal", outcome.signal)] {
        if let Some(number) = number {
            text.push_str(&format!(" with {name} {number}"));
        }
    }
    if let Some(by) = &outcome.killed_by {
        text.push_str(&format!(", ended by {}", safe(by)));
    }
    text.push_str(&format!(" after {}", duration::show(outcome.dur_us / 1_000)));
    text
}

/// The value behind a commitment, if an opening fits it.
fn opened(commitment: &Commitment, openings: &[String]) -> Option<Value> {
    let mut openings = openings.iter().map(Opening::from_stored);
    let fits = openings.find(|opening| opening.commitment() == *commitment)?;
    fits.reveal().map(|(_, value)| value)
}

/// The same in words.
fn value(commitment: Option<&Commitment>, openings: &[String]) -> String {
    let Some(commitment) = commitment else { return "none".to_owned() };
    let hidden = || "(not shown: only its hash is in the record)".to_owned();
    opened(commitment, openings).map_or_else(hidden, |value| plain(&value))
}

/// An environment as one would type it.
fn environment(commitment: &Commitment, openings: &[String]) -> String {
    let Some(Value::List(pairs)) = opened(commitment, openings) else {
        return value(Some(commitment), openings);
    };
    let typed = |pair: &Value| {
        if let Value::List(pair) = pair
            && let [Value::Text(name), Value::Text(value)] = pair.as_slice()
        {
            return format!("{}={}", safe(name), quote(value.as_bytes()));
        }
        plain(pair)
    };
    pairs.iter().map(typed).collect::<Vec<_>>().join(" ")
}

fn plain(value: &Value) -> String {
    match value {
        Value::Text(text) => safe(text),
        Value::List(items) => {
            let item = |value: &Value| {
                value.as_text().map_or_else(|| plain(value), |text| quote(text.as_bytes()))
            };
            let items: Vec<String> = items.iter().map(item).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let there = map.iter().filter(|(_, value)| **value != Value::Null);
            let items: Vec<String> =
                there.map(|(k, v)| format!("{} {}", safe(k), plain(v))).collect();
            items.join(", ")
        }
        Value::Null => "none".to_owned(),
        Value::Bool(yes) => yes.to_string(),
        Value::Int(number) => number.to_string(),
    }
}

/// A body as JSON for programs.
pub(crate) fn json(body: &[u8]) -> serde_json::Value {
    serde_json::from_slice(body).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_audit::record::Actor;
    use cortex_audit::{Leaf, Position, Stamp};

    fn body(record: &Record) -> Vec<u8> {
        let place = Position { log: Leaf::of(b"log"), seq: 7, prev: Leaf::of(b"six") };
        let stamp = Stamp {
            unix_us: 1_795_438_800_000_000,
            mono_us: 1,
            boot: "0d9dcf7e-2f0b-4c5e-8a40-5a3c1e8f7b21".into(),
        };
        Envelope::encode(place, record.kind(), &stamp, record.to_value()).unwrap()
    }

    fn ada() -> Actor {
        Actor { kind: "human".into(), id: "ada".into(), model: None, on_behalf_of: None }
    }

    #[test]
    fn who_consented_and_what_they_were_shown_stands_in_plain_words() {
        let text = Value::from("run rm -r build?\u{1b}[2J");
        let (commitment, opening) = Commitment::new([1; 16], "text", text).unwrap();
        let asked = Record::from(ConsentAsked {
            ask: "q1".into(),
            cmd: "t/1".into(),
            workspace: "default".into(),
            actor: Actor {
                kind: "ai".into(),
                id: "bot".into(),
                model: Some("m1".into()),
                on_behalf_of: Some("ada".into()),
            },
            rule: Some("destructive".into()),
            policy: "ef".repeat(32),
            shown: "ab".repeat(32),
            text: commitment,
            fingerprint: "cd".repeat(32),
            scopes: vec!["once".into()],
            expires: Some("2026-11-24T00:00:00.000000Z".into()),
        });
        let told = describe(7, &body(&asked), &[opening.as_str().to_owned()]).join("\n");
        for words in [
            "record   7, consent.asked",
            "asked    by bot (ai, model m1) on behalf of ada",
            "rules    ask (rule destructive)",
            "shown    to the owner: run rm -r build?",
            "until    2026-11-24",
        ] {
            assert!(told.contains(words), "no {words:?} in {told}");
        }
        assert!(!told.contains('\u{1b}'), "a terminal would obey: {told:?}");
        let told = describe(7, &body(&asked), &[]).join("\n");
        assert!(told.contains("only its hash is in the record"), "{told}");

        let answered = |answer: &str, who, channel: Option<&str>| {
            let record = Record::from(ConsentAnswered {
                ask: "q1".into(),
                asked: 7,
                asked_hash: Leaf::of(b"seven"),
                cmd: "t/1".into(),
                answer: answer.into(),
                who,
                channel: channel.map(str::to_owned),
                latency_ms: 1_500,
                shown: "ab".repeat(32),
                fingerprint: "cd".repeat(32),
                scope: channel.map(|_| "once".to_owned()),
                expires: None,
            });
            describe(8, &body(&record), &[]).join("\n")
        };
        let yes = answered("allow", Some(ada()), Some("cli"));
        for words in [
            "answer   allow by ada (human), by cli, after 1.5s",
            "to       record 7 (",
            "covers   once",
        ] {
            assert!(yes.contains(words), "no {words:?} in {yes}");
        }
        assert!(answered("expired", None, None).contains("answer   expired by nobody, after 1.5s"));
    }
}
