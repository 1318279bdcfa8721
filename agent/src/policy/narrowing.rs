//! What a server takes away from the owner's policy, as the node holds to it: also without a connection, and across restarts.

use crate::consent::write_file;
use cortex_agent_core::policy::{Narrowing, ReadNarrowing, narrow};
use cortex_agent_core::{Policy, policy};
use cortex_model::proto as pb;
use cortex_model::{Code, Fault};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::io;
use std::path::{Path, PathBuf};

/// Name of the file in the agent's data directory.
const FILE: &str = "narrowing.json";

/// Longest list of words that is told upstream.
const WORDS_MAX: usize = 64;

/// What is held to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    stored: Stored,
    read: ReadNarrowing,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    /// Of the newest narrowing that came.
    revision: u64,
    /// What counts.
    text: String,
    /// Why the newest could not be read, if so: what counts is from before.
    #[serde(default)]
    problem: String,
}

fn file(data_dir: &Path) -> PathBuf {
    data_dir.join(FILE)
}

impl Held {
    fn of(stored: Stored) -> Result<Self, String> {
        let read = match stored.text.as_str() {
            "" => ReadNarrowing::default(),
            text => Narrowing::read(text)?,
        };
        Ok(Self { stored, read })
    }

    /// What is held to from before.
    ///
    /// # Errors
    /// The file cannot be read: then nobody knows what was taken away, and no work is taken.
    pub fn load(data_dir: &Path) -> Result<Self, Fault> {
        let path = file(data_dir);
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(err) => return Err(unreadable(&path, &err.to_string())),
        };
        let stored = serde_json::from_str(&text).map_err(|err| unreadable(&path, &err.to_string()));
        Self::of(stored?).map_err(|why| unreadable(&path, &why))
    }

    /// Takes what a server sent and writes it down. `None`: it is not newer than what is known.
    ///
    /// # Errors
    /// It cannot be written down; it is held to until the agent ends.
    pub fn take(&self, sent: &pb::Narrowing) -> Option<Self> {
        if sent.revision <= self.stored.revision {
            return None;
        }
        let (revision, text) = (sent.revision, sent.text.clone());
        let newer = Self::of(Stored { revision, text, problem: String::new() });
        // Whoever sends what cannot be read gives nothing back by that.
        Some(newer.unwrap_or_else(|problem| Self {
            stored: Stored { revision, problem, ..self.stored.clone() },
            read: self.read.clone(),
        }))
    }

    /// Writes down what is held to.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn save(&self, data_dir: &Path) -> io::Result<()> {
        write_file(&file(data_dir), &self.stored)
    }

    /// The owner's policy without what is taken away.
    #[must_use]
    pub fn narrow(&self, policy: Policy) -> Policy {
        match self.read.narrowing.is_empty() {
            true => policy,
            false => narrow(&policy, &self.read.narrowing),
        }
    }

    /// Its number; 0 where nothing ever came.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.stored.revision
    }

    /// SHA-256 of what counts, as hex digits; `None` where nothing is taken away.
    #[must_use]
    pub fn digest(&self) -> Option<String> {
        let text = Some(&self.stored.text).filter(|text| !text.is_empty())?;
        Some(cortex_audit::leaf::hex(&Sha256::digest(text.as_bytes())))
    }

    /// What is taken away, in words.
    #[must_use]
    pub fn applied(&self) -> Vec<String> {
        self.read.narrowing.words()
    }

    /// What of it counts for nothing, in words.
    #[must_use]
    pub fn ignored(&self) -> Vec<String> {
        let problem = Some(&self.stored.problem).filter(|problem| !problem.is_empty());
        let problem = problem.map(|why| format!("all of the newest: it cannot be read ({why})"));
        problem.into_iter().chain(self.read.ignored.iter().cloned()).collect()
    }

    /// All of it in one line, for the journal.
    #[must_use]
    pub fn line(&self) -> String {
        let list = |words: Vec<String>| match words.is_empty() {
            true => "nothing".to_owned(),
            false => words.join("; "),
        };
        let line = format!(
            "narrowing {}; takes away: {}; ignored: {}",
            self.revision(),
            list(self.applied()),
            list(self.ignored())
        );
        line.chars().take(2_000).collect()
    }

    /// For the gateway; `None` where nothing ever came.
    #[must_use]
    pub fn told(&self) -> Option<pb::Narrowed> {
        (self.revision() > 0).then(|| pb::Narrowed {
            revision: self.revision(),
            applied: self.applied().into_iter().take(WORDS_MAX).collect(),
            ignored: self.ignored().into_iter().take(WORDS_MAX).collect(),
        })
    }
}

fn unreadable(path: &Path, why: &str) -> Fault {
    let message = format!("{} cannot be read: {why}", path.display());
    Fault::new(Code::PolicyUnusable, message).with_hint(
        "it holds what an administrator of the server took away; remove it to get it again with the next connection",
    )
}

/// Whether a text takes something away, and nothing of it would be ignored: for whoever is about to send it.
///
/// # Errors
/// What is wrong, in words.
pub fn check(text: &str) -> Result<Vec<String>, String> {
    let policy::ReadNarrowing { narrowing, ignored } = Narrowing::read(text)?;
    if !ignored.is_empty() {
        return Err(ignored.join("; "));
    }
    if narrowing.is_empty() {
        return Err("it takes nothing away".to_owned());
    }
    Ok(narrowing.words())
}
