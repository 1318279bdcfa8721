//! Cases, and how they stand on disk.

use crate::log::Log;
use cortex_audit::verify::{Report, Source, Text, Trust, verify, verify_proof};
use cortex_audit::{Policy, SignedNote, Value};
use std::fs;
use std::path::{Path, PathBuf};

/// A copy of a journal.
#[derive(Clone, Default)]
pub(crate) struct Bundle {
    /// Texts of the files of records.
    pub(crate) records: Vec<Vec<u8>>,
    pub(crate) checkpoints: Vec<Vec<u8>>,
    pub(crate) head: Option<Vec<u8>>,
    pub(crate) openings: Option<Vec<u8>>,
    pub(crate) frontier: Option<Vec<u8>>,
    /// Files that a verifier must not believe.
    pub(crate) extra: Vec<(&'static str, Vec<u8>)>,
}

/// A case with what is expected of it.
#[derive(Default)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) exit: u8,
    /// The code that must be among the findings, and its record.
    pub(crate) code: Option<(&'static str, Option<u64>)>,
    pub(crate) bundles: Vec<Bundle>,
    pub(crate) policy: Option<String>,
    pub(crate) since: Vec<Vec<u8>>,
    pub(crate) max_age: Option<(u64, u64)>,
    pub(crate) require_openings: bool,
    pub(crate) proof: Option<(Vec<u8>, Vec<u8>)>,
}

impl Bundle {
    /// A whole journal with its cosigned notes of some sizes.
    pub(crate) fn of(log: &Log, sizes: &[u64]) -> Self {
        Self {
            records: vec![log.text()],
            checkpoints: sizes
                .iter()
                .map(|size| log.note(*size).to_string().into_bytes())
                .collect(),
            ..Self::default()
        }
    }

    fn source(&self) -> Source<'_> {
        let records: Vec<u8> = self.records.concat();
        Source {
            records: Box::new(Text::new(std::io::Cursor::new(records))),
            openings: self
                .openings
                .as_ref()
                .map(|text| Box::new(Text::new(text.as_slice())) as Box<_>),
            checkpoints: self.checkpoints.clone(),
            head: self.head.clone(),
            frontier: self.frontier.clone(),
        }
    }

    fn files(&self, dir: &Path, files: &mut Vec<(PathBuf, Vec<u8>)>) {
        let mut first = 0;
        for text in &self.records {
            files.push((dir.join(format!("records/{first:016}.ndjson")), text.clone()));
            first += text.iter().filter(|byte| **byte == b'\n').count().max(1);
        }
        for (index, note) in self.checkpoints.iter().enumerate() {
            files.push((dir.join(format!("checkpoints/{index:016}.note")), note.clone()));
        }
        let optional = [
            ("head.note", &self.head),
            ("openings/0000000000000000.txt", &self.openings),
            ("frontier.json", &self.frontier),
        ];
        for (name, bytes) in optional {
            files.extend(bytes.iter().map(|bytes| (dir.join(name), bytes.clone())));
        }
        files.extend(self.extra.iter().map(|(name, bytes)| (dir.join(name), bytes.clone())));
    }
}

impl Case {
    pub(crate) fn new(name: &str, log: &Log, bundles: Vec<Bundle>) -> Self {
        Self { name: name.to_owned(), bundles, policy: Some(log.policy()), ..Self::default() }
    }

    pub(crate) fn expect(mut self, exit: u8, code: &'static str, seq: Option<u64>) -> Self {
        self.exit = exit;
        self.code = Some((code, seq));
        self
    }

    /// What the Rust verifier says; `None` where the request itself is malformed.
    fn report(&self) -> Option<Report> {
        let policy = self.policy.as_ref().map(|text| Policy::parse(text.as_bytes()).ok());
        if matches!(policy, Some(None)) {
            return None;
        }
        let since: Result<Vec<SignedNote>, _> =
            self.since.iter().map(|note| SignedNote::parse(note)).collect();
        let trust = Trust {
            policy: policy.flatten(),
            since: since.ok()?,
            max_age: self.max_age,
            require_openings: self.require_openings,
        };
        Some(match &self.proof {
            Some((record, proof)) => verify_proof(record, proof, &trust),
            None => verify(self.bundles.iter().map(Bundle::source).collect(), &trust),
        })
    }

    /// Compares the case with its files below `root`, and writes those that are missing if that is wanted. Fails if the
    /// verdict is not the expected one. Returns the files.
    pub(crate) fn write(&self, root: &Path, new: bool) -> Result<Vec<PathBuf>, String> {
        let dir = root.join(if self.exit == 0 { "good" } else { "bad" }).join(&self.name);
        let expected = self.expected().map_err(|err| format!("{}: {err}", self.name))?;
        let mut files = vec![(dir.join("expected.json"), expected)];
        for (index, bundle) in self.bundles.iter().enumerate() {
            bundle.files(&dir.join(format!("source{}", index + 1)), &mut files);
        }
        if let Some(policy) = &self.policy {
            files.push((dir.join("policy"), policy.clone().into_bytes()));
        }
        for (index, note) in self.since.iter().enumerate() {
            files.push((dir.join(format!("since{}.note", index + 1)), note.clone()));
        }
        if let Some((record, proof)) = &self.proof {
            files.push((dir.join("record.json"), record.clone()));
            files.push((dir.join("record.tlog-proof"), proof.clone()));
        }
        if self.max_age.is_some() || self.require_openings {
            let (now, age) = self.max_age.map_or((Value::Null, Value::Null), |(now, age)| {
                (Value::number(now), Value::number(age))
            });
            let options = Value::map([
                ("now", now),
                ("max_age", age),
                ("require_openings", Value::Bool(self.require_openings)),
            ]);
            files.push((dir.join("options.json"), options.to_bytes().unwrap()));
        }
        for (path, bytes) in &files {
            let compared = compare(path, bytes, new);
            compared.map_err(|err| format!("{}: {err}", path.display()))?;
        }
        Ok(files.into_iter().map(|(path, _)| path).collect())
    }

    fn expected(&self) -> Result<Vec<u8>, String> {
        let Some(report) = self.report() else {
            return match self.exit {
                2 => Ok(br#"{"exit":2,"report":null,"seq":null}"#.to_vec()),
                exit => Err(format!("the request is malformed, expected {exit}")),
            };
        };
        let findings: Vec<_> = (report.sources.iter().flat_map(|source| source.findings.clone()))
            .chain(report.compared.as_ref().and_then(|compared| compared.finding))
            .collect();
        let found = |(code, seq)| {
            findings.iter().any(|found| found.code.word() == code && found.seq == seq)
        };
        if report.verdict.exit() != self.exit || !self.code.is_none_or(found) {
            let expected = (self.exit, self.code);
            return Err(format!("expected {expected:?}, found {:?} {findings:?}", report.verdict));
        }
        let seq = self.code.and_then(|(_, seq)| seq);
        let expected = Value::map([
            ("exit", Value::from(u32::from(self.exit))),
            ("seq", seq.map_or(Value::Null, Value::number)),
            ("report", without_words(report.to_value())),
        ]);
        expected.to_bytes().map_err(|err| err.to_string())
    }
}

/// The report without the texts for people, which may be improved.
fn without_words(value: Value) -> Value {
    match value {
        Value::Map(map) => Value::Map(
            map.into_iter()
                .filter(|(key, _)| key != "why")
                .map(|(key, value)| (key, without_words(value)))
                .collect(),
        ),
        Value::List(list) => Value::List(list.into_iter().map(without_words).collect()),
        other => other,
    }
}

/// Fails if the file is there with other bytes, or missing and not to be written.
fn compare(path: &Path, bytes: &[u8], new: bool) -> std::io::Result<()> {
    match fs::read(path) {
        Ok(found) if found == bytes => Ok(()),
        Ok(_) => Err(std::io::Error::other("is there with other bytes")),
        Err(_) if new => {
            if let Some(dir) = path.parent() {
                fs::create_dir_all(dir)?;
            }
            fs::write(path, bytes)
        }
        Err(err) => Err(err),
    }
}
