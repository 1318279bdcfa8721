//! The vectors as they stand on disk.

use cortex_audit::verify::{Report, Source, Text, Trust, verify, verify_proof};
use cortex_audit::{Policy, SignedNote};
use serde_json::Value;
use std::fs;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

pub(crate) struct Case {
    /// `good/...` or `bad/...`
    pub(crate) name: String,
    pub(crate) dir: PathBuf,
    pub(crate) expected: Value,
}

pub(crate) fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

pub(crate) fn names(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let paths = entries.map(|entry| entry.unwrap().path());
    let mut names: Vec<PathBuf> =
        paths.filter(|path| path.to_string_lossy().ends_with(ending)).collect();
    names.sort();
    names
}

pub(crate) fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for kind in ["good", "bad"] {
        for dir in names(&root().join("tests/golden/audit/v1").join(kind), "") {
            let expected = fs::read(dir.join("expected.json")).unwrap();
            let expected: Value = serde_json::from_slice(&expected).unwrap();
            assert_eq!(kind == "good", expected["exit"] == 0, "{}", dir.display());
            let name = format!("{kind}/{}", dir.file_name().unwrap().to_string_lossy());
            cases.push(Case { name, dir, expected });
        }
    }
    cases
}

/// A bundle in a directory.
pub(crate) fn source(dir: &Path) -> Source<'static> {
    let read = |path: &PathBuf| fs::read(path).unwrap();
    let joined = |folder: &str, ending: &str| {
        let files = names(&dir.join(folder), ending).into_iter();
        let empty: Box<dyn Read> = Box::new(std::io::empty());
        let all = files.fold(empty, |all, path| Box::new(all.chain(fs::File::open(path).unwrap())));
        Box::new(Text::new(BufReader::new(all)))
    };
    Source {
        records: joined("records", ".ndjson"),
        openings: dir.join("openings").exists().then(|| joined("openings", ".txt") as Box<_>),
        checkpoints: names(&dir.join("checkpoints"), ".note").iter().map(read).collect(),
        head: fs::read(dir.join("head.note")).ok(),
        frontier: fs::read(dir.join("frontier.json")).ok(),
    }
}

/// What the engine says; `None` where policy or notes of the request cannot be read.
pub(crate) fn report_of(case: &Case) -> Option<Report> {
    let read = |name: &str| fs::read(case.dir.join(name)).ok();
    let options: Value =
        serde_json::from_slice(&read("options.json").unwrap_or(b"{}".to_vec())).unwrap();
    let policy = match read("policy") {
        None => None,
        Some(bytes) => Some(Policy::parse(&bytes).ok()?),
    };
    let since = names(&case.dir, ".note").into_iter().map(|path| fs::read(path).unwrap());
    let since: Result<Vec<SignedNote>, _> = since.map(|note| SignedNote::parse(&note)).collect();
    let age = options["now"].as_u64().zip(options["max_age"].as_u64());
    let trust = Trust {
        policy,
        since: since.ok()?,
        max_age: age,
        require_openings: options["require_openings"] == true,
    };
    if let Some(record) = read("record.json") {
        return Some(verify_proof(&record, &read("record.tlog-proof").unwrap(), &trust));
    }
    let sources = names(&case.dir, "").into_iter().filter(|path| path.is_dir());
    Some(verify(sources.map(|dir| source(&dir)).collect(), &trust))
}
