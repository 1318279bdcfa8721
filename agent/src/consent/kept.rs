//! Questions that wait, on the disk: what each is about, so that it waits on under its number when the agent is started again. What
//! was answered stands in the journal, and so does whether the attempt began; a file here says neither.
//!
//! While there is a file, nobody is told that its attempt never started: it goes away, durably, before that can be said.

use super::{Consent, store};
use crate::journal::{Asked, Given, Journal, JournalError};
use crate::start::key;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cortex_agent_core::Phase;
use cortex_agent_core::consent::{Grant, Question};
use cortex_audit::Leaf;
use cortex_model::AttemptKey;
use cortex_model::proto::Offer;
use prost::Message as _;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::{Path, PathBuf};

/// Directory of the files, below that of what is remembered.
const DIR: &str = "waiting";

/// Version of the files.
const VERSION: u32 = 1;

/// A question that waited when the agent ended.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// Its number.
    pub(crate) id: u64,
    /// What must be typed, for something destructive.
    pub(crate) code: Option<String>,
    /// When it was asked, Unix milliseconds.
    pub(crate) asked_ms: u64,
    /// When it is over.
    pub(crate) until_ms: Option<u64>,
    /// The rule that asked.
    pub(crate) rule: String,
    /// Why it was asked anew, if it was.
    pub(crate) note: String,
    /// Where it stands in the journal, and what was shown.
    pub(crate) asked: Asked,
    /// What the journal says was answered.
    pub(crate) given: Option<Given>,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    /// The life of the journal in which the question stands.
    incarnation: String,
    id: u64,
    code: Option<String>,
    asked_ms: u64,
    until_ms: Option<u64>,
    rule: String,
    note: String,
    ask: String,
    seq: u64,
    leaf: String,
    shown: String,
    fingerprint: String,
    /// The task as it was offered, in base64.
    offer: String,
}

impl Open {
    /// Whether a question is this one, to the letter.
    pub(crate) fn is(&self, question: &Question) -> bool {
        let shown = cortex_audit::leaf::hex(&question.shown.sha256);
        self.asked.shown == shown && self.asked.fingerprint == question.fingerprint.hex()
    }
}

impl Consent {
    fn file(&self, id: u64) -> PathBuf {
        self.store.with_file_name(DIR).join(format!("{id}.json"))
    }

    /// A question is on the disk, before anybody sees it.
    pub(crate) fn keep(&self, incarnation: &str, open: &Open, offer: &Offer) -> io::Result<()> {
        let path = self.file(open.id);
        let stored = Stored {
            version: VERSION,
            incarnation: incarnation.to_owned(),
            id: open.id,
            code: open.code.clone(),
            asked_ms: open.asked_ms,
            until_ms: open.until_ms,
            rule: open.rule.clone(),
            note: open.note.clone(),
            ask: open.asked.ask.clone(),
            seq: open.asked.seq,
            leaf: open.asked.leaf.to_string(),
            shown: open.asked.shown.clone(),
            fingerprint: open.asked.fingerprint.clone(),
            offer: STANDARD.encode(offer.encode_to_vec()),
        };
        store::make_dir(path.parent().unwrap_or(&path))?;
        store::write(&path, &stored)?;
        let former = self.lock().kept.insert(open.asked.key.clone(), open.id);
        // The same attempt asks about something else now.
        former.filter(|former| *former != open.id).map_or(Ok(()), |id| remove(&self.file(id)))
    }

    /// Whether an attempt waits on when the agent is started again.
    pub(crate) fn keeps(&self, key: &AttemptKey) -> bool {
        self.lock().kept.contains_key(key)
    }

    /// The attempt began, or never will. A file that cannot be removed still counts for nothing where the journal knows the attempt.
    pub(crate) fn forget(&self, key: &AttemptKey) {
        let Some(id) = self.lock().kept.remove(key) else { return };
        if let Err(error) = remove(&self.file(id)) {
            tracing::error!(%error, attempt = %key, "a question that waits no longer stays on the disk");
        }
    }

    /// Questions that waited when the last agent ended, with the tasks they are about and what the journal says of each.
    ///
    /// # Errors
    /// The journal cannot be read.
    pub(crate) async fn reopen(
        &self,
        journal: &Journal,
    ) -> Result<Vec<(Offer, Open)>, JournalError> {
        let mut found = Vec::new();
        for path in files(&self.store.with_file_name(DIR)) {
            let read = read(&path, journal.incarnation());
            let wanted = match &read {
                Some((_, open)) => journal.phase(&open.asked.key)? == Phase::Unknown,
                None => false,
            };
            match read.filter(|_| wanted) {
                Some(one) => found.push(one),
                None => drop(remove(&path)),
            }
        }
        found.sort_by_key(|(_, open)| open.id);
        if let Some(first) = found.iter().map(|(_, open)| open.asked.seq).min() {
            let answers = journal.answers_since(first).await?;
            for (_, open) in &mut found {
                open.given = answers.iter().find(|given| given.ask == open.asked.ask).cloned();
            }
        }
        let mut inner = self.lock();
        for (_, open) in &found {
            inner.kept.insert(open.asked.key.clone(), open.id);
        }
        let last = found.iter().map(|(_, open)| open.id).max();
        inner.desk.restore(last.unwrap_or(0), []);
        Ok(found)
    }

    /// An answer that was to be remembered until a time is in the journal, and the agent died before it was remembered.
    pub(crate) fn remember_again(&self, question: &Question, given: &Given) {
        let (Some(_), Some("until")) = (given.expires_ms, given.scope.as_deref()) else { return };
        let mut inner = self.lock();
        let known = |(_, grant): (u64, &Grant)| {
            grant.approval.as_ref().is_some_and(|approval| approval.seq == given.approval.seq)
        };
        if inner.desk.grants().any(known) {
            return;
        }
        let grant = Grant {
            fingerprint: question.fingerprint,
            task: None,
            until_ms: given.expires_ms,
            used: 0,
            title: question.shown.lines.first().cloned().unwrap_or_default(),
            approval: Some(given.approval.clone()),
        };
        inner.desk.restore(0, [grant]);
        store::save(&self.store, &inner.desk);
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(dir) else { return Vec::new() };
    entries.filter_map(|entry| Some(entry.ok()?.path())).collect()
}

fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    store::sync_parent(path)
}

/// What cannot be read, or belongs to another life of the journal, is no question.
fn read(path: &Path, incarnation: &str) -> Option<(Offer, Open)> {
    let stored: Stored = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    if stored.version != VERSION || stored.incarnation != incarnation {
        return None;
    }
    let offer = Offer::decode(STANDARD.decode(stored.offer).ok()?.as_slice()).ok()?;
    let key = key(&offer.workspace, &offer.task_id, offer.attempt).ok()?;
    let asked = Asked {
        ask: stored.ask,
        key,
        seq: stored.seq,
        leaf: Leaf::parse(&stored.leaf)?,
        shown: stored.shown,
        fingerprint: stored.fingerprint,
    };
    let open = Open {
        id: stored.id,
        code: stored.code,
        asked_ms: stored.asked_ms,
        until_ms: stored.until_ms,
        rule: stored.rule,
        note: stored.note,
        asked,
        given: None,
    };
    Some((offer, open))
}
