//! `cortex ca`: keys are made once, shown without their secrets, and changed.

use crate::support::{Done, Running, cortex};
use std::path::Path;

fn ca(dir: &Path, args: &[&str]) -> Done {
    Running::start(cortex(dir).arg("ca").args(args)).end()
}

#[test]
fn keys_are_made_once_shown_and_rotated() {
    let home = tempfile::tempdir().unwrap();
    let dir = home.path().join("keys");
    let dir = dir.to_str().unwrap();
    let made =
        ca(home.path(), &["init", dir, "--trust-domain", "a.example", "--json"]).exited(0).json();
    assert_eq!(made["trust_domain"], "a.example");
    let again = ca(home.path(), &["init", dir]).exited(125);
    assert!(again.stderr.starts_with("error: CX-0202: "), "{again:?}");
    let shown = ca(home.path(), &["show", dir]).exited(0);
    assert!(shown.out().contains(made["ca_sha256"].as_str().unwrap()), "{shown:?}");
    assert!(!shown.out().contains("PRIVATE"), "{shown:?}");
    let tokens = ca(home.path(), &["rotate", dir, "--json"]).exited(0).json();
    assert_eq!(tokens["token_keys"].as_array().unwrap().len(), 2);
    assert_eq!(tokens["ca_sha256"], made["ca_sha256"]);
    let rotated = ca(home.path(), &["rotate", dir, "--what", "ca", "--json"]).exited(0).json();
    assert_ne!(rotated["ca_sha256"], made["ca_sha256"]);
    assert_eq!(rotated["accepted_ca_sha256"][1], made["ca_sha256"]);
}

#[test]
fn what_is_no_authority_is_said() {
    let home = tempfile::tempdir().unwrap();
    let none = ca(home.path(), &["show"]).exited(125);
    assert!(none.stderr.starts_with("error: CX-0521: "), "{none:?}");
    let bad = ca(home.path(), &["init", "x", "--trust-domain", "No Domain"]).exited(125);
    assert!(bad.stderr.starts_with("error: CX-0803: "), "{bad:?}");
    let gateway = ["gateway", "--log", "nats://127.0.0.1:1"];
    let done = Running::start(cortex(&home.path().join("g")).args(gateway)).end().exited(125);
    assert!(done.stderr.contains("error: CX-0"), "{done:?}");
}
