//! `schemas/policy.schema.json` and the reader of policies know the same keys, and the same are required.
#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation ends the test; helpers are outside of the test functions"
)]

use cortex_agent_core::policy::Policy;
use serde_json::Value;
use std::collections::BTreeSet;

/// Where a table stands in the schema, and a policy that has a key there that nobody knows.
const TABLES: [(&str, &str); 14] = [
    ("", "nobody_knows = 1"),
    ("/properties/programs", "programs = { nobody_knows = 1 }"),
    ("/properties/env", "env = { nobody_knows = 1 }"),
    ("/properties/net", "net = { nobody_knows = 1 }"),
    ("/properties/limits", "limits = { nobody_knows = 1 }"),
    ("/properties/limits/properties/task", "limits = { task = { nobody_knows = 1 } }"),
    ("/properties/limits/properties/agent", "limits = { agent = { nobody_knows = 1 } }"),
    ("/properties/consent", "consent = { nobody_knows = 1 }"),
    ("/properties/sandbox", "sandbox = { nobody_knows = 1 }"),
    ("/properties/paths", "paths = { nobody_knows = 1 }"),
    ("/properties/files", "files = { nobody_knows = 1 }"),
    ("/properties/browser", "browser = { nobody_knows = 1 }"),
    ("/properties/rule/items", "rule = [{ nobody_knows = 1 }]"),
    ("/properties/rule/items/properties/examples", "rule = [{ examples = { nobody_knows = 1 } }]"),
];

fn schema() -> Value {
    let path =
        std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas/policy.schema.json");
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// The keys that a refusal names: "unknown field `x`, expected one of `a`, `b`".
fn known(text: &str) -> BTreeSet<String> {
    let refused =
        Policy::parse(&format!("version = 1\n{text}\n"), String::new()).unwrap_err().to_string();
    let (_, expected) =
        refused.split_once("expected").unwrap_or_else(|| panic!("{text}: {refused}"));
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_schema_has_the_keys_that_are_read_and_no_others() {
    let schema = schema();
    for (place, text) in TABLES {
        let table = schema.pointer(place).unwrap();
        assert_eq!(table["additionalProperties"], false, "{place}");
        let keys: BTreeSet<String> =
            table["properties"].as_object().unwrap().keys().cloned().collect();
        assert_eq!(keys, known(text), "{place}");
    }
}

#[test]
fn what_the_schema_requires_is_required() {
    let whole = "version = 1\nprograms = { search = [] }\npaths = {}\nrule = [{ id = \"a\", program = \"ls\", effect = \"allow\" }]\n";
    assert!(Policy::parse(whole, String::new()).is_ok());
    for missing in [
        "version = 1",
        "programs = { search = [] }",
        "search = []",
        "paths = {}",
        "id = \"a\",",
        "program = \"ls\",",
        ", effect = \"allow\"",
    ] {
        assert!(whole.contains(missing));
        assert!(Policy::parse(&whole.replace(missing, ""), String::new()).is_err(), "{missing}");
    }
}

#[test]
fn every_word_of_the_schema_is_read() {
    let schema = schema();
    let words = |place: &str| -> Vec<String> {
        let list = schema.pointer(place).unwrap()["enum"].as_array().unwrap();
        list.iter().map(|word| word.as_str().unwrap().to_owned()).collect()
    };
    let rest = "programs = { search = [] }\npaths = {}\n";
    for (place, key) in [
        ("/properties/default", "default"),
        ("/properties/strict", "strict"),
        ("/properties/opaque_shell", "opaque_shell"),
        ("/properties/files/properties/read", "files.read"),
        ("/properties/files/properties/write", "files.write"),
        ("/properties/limits/properties/enforce", "limits.enforce"),
        ("/properties/consent/properties/remember", "consent.remember"),
    ] {
        for word in words(place) {
            let text = format!("version = 1\n{key} = {word:?}\n{rest}");
            assert!(Policy::parse(&text, String::new()).is_ok(), "{text}");
        }
    }
    for (key, word) in [("args", "any"), ("effect", "deny"), ("harden", "git"), ("fs", "read-only")]
    {
        assert!(
            words(&format!("/properties/rule/items/properties/{key}")).contains(&word.to_owned())
        );
    }
}
