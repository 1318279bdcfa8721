//! Three verifiers over all vectors of the journal's format: this project's, and those in Python and JavaScript that share no
//! code with it. Each must find exactly what the vector says.
#![expect(clippy::unwrap_used, reason = "a test ends where something else comes than it expects")]

mod browser;
mod cases;
mod schemas;

use cases::{Case, cases, report_of, root};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// A report with its findings in one order and without the texts for people.
fn compared(mut value: Value) -> Value {
    fn walk(value: &mut Value) {
        match value {
            Value::Object(map) => {
                map.remove("why");
                map.values_mut().for_each(walk);
                if let Some(Value::Array(findings)) = map.get_mut("findings") {
                    findings.sort_by_key(ToString::to_string);
                }
            }
            Value::Array(list) => list.iter_mut().for_each(walk),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
        }
    }
    walk(&mut value);
    value
}

/// What a verifier of another language says about each case.
fn others(command: &mut Command) -> BTreeMap<String, (u64, Value)> {
    let shown = format!("{command:?}");
    let done = command.output().unwrap_or_else(|err| {
        panic!("{shown}: {err}; `cargo xtask setup` installs what the verifiers need")
    });
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{shown}: {stderr}\n`cargo xtask setup` installs what it needs");
    let lines = String::from_utf8(done.stdout).unwrap();
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).unwrap();
        let report = compared(line["report"].clone());
        (line["case"].as_str().unwrap().to_owned(), (line["exit"].as_u64().unwrap(), report))
    };
    lines.lines().map(read).collect()
}

fn agree(found: &BTreeMap<String, (u64, Value)>) {
    let cases = cases();
    assert!(cases.len() >= 300, "only {} cases", cases.len());
    assert_eq!(found.len(), cases.len());
    let mut wrong = Vec::new();
    for Case { name, expected, .. } in &cases {
        let wanted = (expected["exit"].as_u64().unwrap(), compared(expected["report"].clone()));
        if found.get(name) != Some(&wanted) {
            wrong.push(format!("{name}\n  expected {wanted:?}\n  found {:?}", found.get(name)));
        }
    }
    assert!(wrong.is_empty(), "{} of {} differ:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
}

fn folder() -> PathBuf {
    root().join("tests/golden/audit/v1")
}

#[test]
fn the_rust_verifier_finds_what_every_vector_says() {
    let cases = cases();
    let judged = cases.iter().map(|case| {
        let found = match report_of(case) {
            None => (2, Value::Null),
            Some(report) => {
                let bytes = report.to_value().to_bytes().unwrap();
                (
                    u64::from(report.verdict.exit()),
                    compared(serde_json::from_slice(&bytes).unwrap()),
                )
            }
        };
        (case.name.clone(), found)
    });
    agree(&judged.collect());
}

#[test]
fn the_python_verifier_finds_what_every_vector_says() {
    let path = std::env::var_os("CORTEX_PYTHONPATH").map(PathBuf::from);
    let path = path.unwrap_or_else(|| root().join(".tools/python"));
    let mut command = Command::new("python3");
    command.arg(root().join("tests/verifiers/python/run_cases.py")).arg(folder());
    agree(&others(command.env("PYTHONPATH", path).env("PYTHONDONTWRITEBYTECODE", "1")));
}

#[test]
fn the_javascript_verifier_finds_what_every_vector_says() {
    let mut command = Command::new("node");
    agree(&others(command.arg(root().join("tests/verifiers/js/run-cases.mjs")).arg(folder())));
}

/// The same file as in a browser: only the globals of the web, nothing of Node.
#[test]
fn the_javascript_verifier_needs_nothing_but_what_a_browser_has() {
    let mut command = Command::new("node");
    command.args(["--no-warnings", "--experimental-vm-modules"]);
    command.arg(root().join("tests/verifiers/js/run-cases.mjs"));
    agree(&others(command.arg(folder()).arg("--bare")));
}
