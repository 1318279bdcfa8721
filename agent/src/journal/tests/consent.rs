//! What the owner's rules and answers leave in the journal, judged by the verifier that auditors use.

use super::*;
use cortex_audit::record::{PolicyLoaded, Record};
use cortex_audit::verify::{Bodies, Code, Source, Trust, verify};
use cortex_audit::{Envelope, Value};
use cortex_model::{Actor, ActorKind};

fn ask() -> AskDraft {
    AskDraft {
        ask: "q1".into(),
        key: key("a"),
        actor: Some(Actor {
            kind: ActorKind::Ai,
            id: "bot".into(),
            model: "m1".into(),
            on_behalf_of: "ada".into(),
        }),
        rule: "ask-first".into(),
        policy: "ef".repeat(32),
        text: "run /bin/true secret-argument?".into(),
        fingerprint: "cd".repeat(32),
        scopes: vec!["once".into(), "task".into()],
        expires_ms: Some(1_795_438_800_000),
    }
}

fn answer(answer: Answer) -> AnswerDraft {
    let who = Actor {
        kind: ActorKind::Human,
        id: "ada".into(),
        model: String::new(),
        on_behalf_of: String::new(),
    };
    AnswerDraft {
        answer,
        who: Some(who),
        channel: Some("cli".into()),
        latency_ms: 1_500,
        scope: Some("once".into()),
        expires_ms: None,
    }
}

/// What the verifier finds in the meaning of the records.
async fn contradictions(journal: &Journal) -> Vec<Code> {
    let bodies = journal.records(0, usize::MAX).await.unwrap();
    let source = Source {
        records: Box::new(Bodies::new(bodies.into_iter().map(Ok).collect::<Vec<_>>())),
        openings: None,
        checkpoints: Vec::new(),
        head: None,
        frontier: None,
    };
    let report = verify(vec![source], &Trust::default());
    let found = report.sources[0].findings.iter().map(|finding| finding.code);
    found.filter(|code| *code != Code::NoteNone && *code != Code::PolicyNone).collect()
}

#[tokio::test]
async fn a_question_its_answer_and_the_intent_name_each_other() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    let loaded = PolicyLoaded {
        policy: "ef".repeat(32),
        previous: None,
        format: 1,
        rules: 3,
        source: "policy.toml".into(),
        trigger: "start".into(),
    };
    journal.policy_loaded(loaded).await.unwrap();
    let asked = journal.consent_asked(ask()).await.unwrap();
    let approval = journal.consent_answered(&asked, answer(Answer::Allow)).await.unwrap();
    let guard =
        journal.intent(IntentDraft { approval: Some(approval), ..draft("a") }).await.unwrap();
    journal.outcome(guard, exited()).await.unwrap();
    assert_eq!(
        kinds(&journal).await,
        ["genesis", "policy.loaded", "consent.asked", "consent.answered", "intent", "outcome"]
    );
    assert_eq!(contradictions(&journal).await, []);
    let bodies = journal.records(2, 3).await.unwrap();
    assert!(!bodies.iter().any(|body| String::from_utf8_lossy(body).contains("secret-argument")));
    // The text that was shown opens its commitment, and is what its digest says.
    let openings = journal.0.shared.read(|read| tables::openings(read, 2..3)).unwrap();
    let opening = cortex_audit::Opening::from_stored(&openings[0].1);
    assert_eq!(opening.reveal().unwrap().1, Value::from(ask().text.as_str()));
    let envelope = Envelope::parse(&bodies[2]).unwrap();
    let Some(Record::Intent(intent)) = Record::read(&envelope.kind, &envelope.data).unwrap() else {
        panic!("no intent")
    };
    assert_eq!((intent.auth.decision.as_str(), intent.auth.approval.unwrap().seq), ("ask", 3));
}

#[tokio::test]
async fn a_no_stands_in_the_refusal_and_allows_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (journal, _) = open(dir.path());
    for (n, said) in [Answer::Deny, Answer::Expired, Answer::Withdrawn].into_iter().enumerate() {
        let asked = journal.consent_asked(ask()).await.unwrap();
        let no = journal.consent_answered(&asked, answer(said)).await.unwrap();
        let refused = RefusalDraft { answer: Some(no), ..refusal(&format!("r{n}")) };
        journal.refuse(refused).await.unwrap();
    }
    assert_eq!(contradictions(&journal).await, []);
    // Whatever starts on a no is found by anybody who verifies the journal.
    let asked = journal.consent_asked(ask()).await.unwrap();
    let no = journal.consent_answered(&asked, answer(Answer::Deny)).await.unwrap();
    let guard = journal.intent(IntentDraft { approval: Some(no), ..draft("a") }).await.unwrap();
    journal.outcome(guard, exited()).await.unwrap();
    assert_eq!(contradictions(&journal).await, [Code::IntentApproval]);
}
