//! The schemas against what is really written: every record of the good vectors, and every report over all vectors.

use crate::cases::{cases, report_of, root};
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

/// Runs the checker over lines; returns whether all fit, and what it said.
fn check(schema: &str, exact: bool, lines: &[u8]) -> (bool, String) {
    let mut command = Command::new("python3");
    command.arg(root().join("tests/verifiers/python/check_schemas.py"));
    command.arg(root().join("schemas").join(schema)).args(exact.then_some("--exact"));
    let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let lines = lines.to_vec();
    let writer = std::thread::spawn(move || drop(stdin.write_all(&lines)));
    let done = child.wait_with_output().unwrap();
    writer.join().unwrap();
    (done.status.success(), String::from_utf8(done.stdout).unwrap())
}

fn fits(schema: &str, exact: bool, lines: &[u8]) {
    let (success, said) = check(schema, exact, lines);
    assert!(success, "{schema}: {said}");
}

#[test]
fn every_record_that_verifies_has_the_form_of_its_kind() {
    let mut kinds = std::collections::BTreeSet::new();
    for case in cases().iter().filter(|case| case.name.starts_with("good/")) {
        let Ok(text) = fs::read(case.dir.join("source1/records/0000000000000000.ndjson")) else {
            continue;
        };
        // These two carry made-up data on purpose.
        if ["good/at-the-limits", "good/texts-of-all-kinds-of-characters"]
            .contains(&case.name.as_str())
        {
            continue;
        }
        for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
            let record: serde_json::Value = serde_json::from_slice(line).unwrap();
            kinds.insert(record["kind"].as_str().unwrap().to_owned());
        }
        let exact = case.name != "good/kinds-and-fields-of-later-agents";
        fits("audit-record.schema.json", exact, &text);
    }
    for kind in cortex_audit::entry::kind::ALL {
        assert!(kinds.contains(kind), "no good vector has a {kind}");
    }
}

#[test]
fn every_report_has_the_form_of_its_schema() {
    let mut lines = Vec::new();
    for report in cases().iter().filter_map(report_of) {
        lines.extend(report.to_value().to_bytes().unwrap());
        lines.push(b'\n');
    }
    fits("audit-verify-report.schema.json", true, &lines);
}

#[test]
fn the_manifest_of_a_bundle_has_a_schema_and_a_wrong_one_is_refused() {
    let log = "ab".repeat(32);
    let good = format!(
        r#"{{"schema":"cortex-audit-bundle/1","log":"{log}","origin":"a/audit/n/x","from":0,"to":5,"exported":"2026-11-23T13:00:00.000000Z","tool":"cortex 0.1.0"}}"#
    );
    fits("audit-bundle.schema.json", false, good.as_bytes());
    for (from, to) in [
        ("\"to\":5", "\"to\":-5"),
        ("bundle/1", "bundle/2"),
        (log.as_str(), "AB"),
        ("\"to\":5,", ""),
    ] {
        let (success, said) =
            check("audit-bundle.schema.json", false, good.replace(from, to).as_bytes());
        assert!(!success, "{to}: {said}");
    }
}
