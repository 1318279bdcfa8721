//! What the owner's rules and answers leave in the journal: which policy holds, what was asked and shown, what was answered. It only
//! records; who may answer, and what an answer allows, is decided elsewhere.

use super::draft::{self, Sealer};
use super::error::JournalError;
use super::group::WriteError;
use super::{Journal, salt};
use cortex_audit::leaf::hex;
use cortex_audit::record::{Approval, ConsentAnswered, ConsentAsked, PolicyLoaded};
use cortex_audit::stamp::{parse_rfc3339, rfc3339};
use cortex_audit::{Envelope, Leaf, Value};
use cortex_model::{Actor, AttemptKey};
use sha2::{Digest, Sha256};

/// Records that are read at a time.
const PAGE: usize = 1_024;

/// A question to the owner that is about to be shown.
#[derive(Clone, Debug)]
pub struct AskDraft {
    /// Id of the question, unique on this node.
    pub ask: String,
    /// The attempt that waits.
    pub key: AttemptKey,
    /// Who asked for the work.
    pub actor: Option<Actor>,
    /// The rule that says ask; empty if none is named.
    pub rule: String,
    /// SHA-256 of the policy, as hex digits.
    pub policy: String,
    /// The exact text that the owner is shown.
    pub text: String,
    /// SHA-256 of what would run, as hex digits: the answer holds for nothing else.
    pub fingerprint: String,
    /// Scopes that are offered: `once`, `task`, `session`, `until`.
    pub scopes: Vec<String>,
    /// When the question lapses, Unix milliseconds; `None`: with the task.
    pub expires_ms: Option<u64>,
}

/// A question that stands in the journal. All that an answer to it, also after a restart, must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Id of the question.
    pub ask: String,
    /// The attempt that waits.
    pub key: AttemptKey,
    /// Number of the record.
    pub seq: u64,
    /// Its leaf.
    pub leaf: Leaf,
    /// SHA-256 of the text that is shown, as hex digits.
    pub shown: String,
    /// SHA-256 of what would run, as hex digits.
    pub fingerprint: String,
}

/// What became of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The owner agreed.
    Allow,
    /// The owner said no.
    Deny,
    /// Nobody answered in time, or nobody could be asked.
    Expired,
    /// Nobody needs an answer any more.
    Withdrawn,
}

/// An answer to a question that stands in the journal.
#[derive(Clone, Debug)]
pub struct AnswerDraft {
    /// What was said.
    pub answer: Answer,
    /// Who answered; `None` when nobody did.
    pub who: Option<Actor>,
    /// How: `cli`, `tty`, `desktop`; `None` when nobody answered.
    pub channel: Option<String>,
    /// From the question to the answer, milliseconds.
    pub latency_ms: u64,
    /// What the answer covers: one of the scopes that were offered.
    pub scope: Option<String>,
    /// Until when it holds, Unix milliseconds.
    pub expires_ms: Option<u64>,
}

/// An answer as it stands in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Given {
    /// Id of the question.
    pub ask: String,
    /// What was said.
    pub answer: Answer,
    /// What it covers.
    pub scope: Option<String>,
    /// Until when it holds, Unix milliseconds.
    pub expires_ms: Option<u64>,
    /// Where it stands.
    pub approval: Approval,
}

impl Answer {
    fn parse(word: &str) -> Option<Self> {
        let all = [Self::Allow, Self::Deny, Self::Expired, Self::Withdrawn];
        all.into_iter().find(|answer| answer.word() == word)
    }

    /// The journal's word for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Deny => "deny",
            Self::Expired => "expired",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Journal {
    /// The owner's rules that hold from now on are durable. Call it at the start, after each reload, and when an answer added a rule.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn policy_loaded(&self, loaded: PolicyLoaded) -> Result<(), JournalError> {
        self.record(loaded, Vec::new()).await.map(drop)
    }

    /// A question is durable before it is shown. The text itself is stored aside, behind its commitment.
    ///
    /// # Errors
    /// The journal is blocked, or the text is larger than one record may carry aside (512 KiB).
    pub async fn consent_asked(&self, draft: AskDraft) -> Result<Asked, JournalError> {
        let failed = |err: WriteError| match err {
            WriteError::Refused(err) => err,
            WriteError::Record(why) => JournalError::Record(why),
        };
        let salts = salt::Salts::open();
        let mut salts = salts.map_err(|err| JournalError::Record(err.to_string()))?;
        let mut openings = Vec::new();
        let mut sealer = Sealer { salts: &mut salts, openings: &mut openings };
        let text = sealer.seal("text", Value::from(draft.text.as_str())).map_err(failed)?;
        let shown = hex(&Sha256::digest(draft.text.as_bytes()));
        let record = ConsentAsked {
            ask: draft.ask.clone(),
            cmd: draft::cmd(&draft.key),
            workspace: draft.key.task.workspace.to_string(),
            actor: draft::actor(draft.actor.as_ref()),
            rule: draft::optional(&draft.rule),
            policy: draft.policy,
            shown: shown.clone(),
            text,
            fingerprint: draft.fingerprint.clone(),
            scopes: draft.scopes,
            expires: draft.expires_ms.map(time),
        };
        let (seq, leaf) = self.record(record, openings).await?;
        let AskDraft { ask, key, fingerprint, .. } = draft;
        Ok(Asked { ask, key, seq, leaf, shown, fingerprint })
    }

    /// An answer is durable before anything starts because of it. What is returned belongs into the intent, or into the refusal.
    ///
    /// # Errors
    /// The journal is blocked.
    pub async fn consent_answered(
        &self,
        asked: &Asked,
        draft: AnswerDraft,
    ) -> Result<Approval, JournalError> {
        let record = ConsentAnswered {
            ask: asked.ask.clone(),
            asked: asked.seq,
            asked_hash: asked.leaf,
            cmd: draft::cmd(&asked.key),
            answer: draft.answer.word().to_owned(),
            who: draft.who.as_ref().map(|who| draft::actor(Some(who))),
            channel: draft.channel,
            latency_ms: draft.latency_ms,
            shown: asked.shown.clone(),
            fingerprint: asked.fingerprint.clone(),
            scope: draft.scope,
            expires: draft.expires_ms.map(time),
        };
        let (seq, leaf) = self.record(record, Vec::new()).await?;
        Ok(Approval { seq, leaf })
    }

    /// Answers to questions, from record `from` on: what of a question is left when an agent died is known from here alone.
    ///
    /// # Errors
    /// The store cannot be read.
    pub async fn answers_since(&self, from: u64) -> Result<Vec<Given>, JournalError> {
        let (mut seq, mut given) = (from, Vec::new());
        loop {
            let bodies = self.records(seq, PAGE).await?;
            if bodies.is_empty() {
                return Ok(given);
            }
            for body in bodies {
                given.extend(given_in(seq, &body));
                seq += 1;
            }
        }
    }
}

/// The answer that a record is, if it is one.
fn given_in(seq: u64, body: &[u8]) -> Option<Given> {
    let envelope = Envelope::parse(body).ok()?;
    if envelope.kind != cortex_audit::entry::kind::CONSENT_ANSWERED {
        return None;
    }
    let ConsentAnswered { ask, answer, scope, expires, .. } =
        ConsentAnswered::read(&envelope.data).ok()?;
    Some(Given {
        ask,
        answer: Answer::parse(&answer)?,
        scope,
        expires_ms: expires.and_then(|time| parse_rfc3339(&time)).map(|us| us / 1_000),
        approval: Approval { seq, leaf: Leaf::of(body) },
    })
}

fn time(unix_ms: u64) -> String {
    rfc3339(unix_ms.saturating_mul(1_000))
}
