//! `cortex version`.

use crate::support::{Running, Up, cortex};

#[test]
fn without_a_server_only_our_own_version_is_known() {
    let dir = tempfile::tempdir().unwrap();
    let done = Running::start(cortex(dir.path()).arg("version")).end().exited(0);
    let own = env!("CARGO_PKG_VERSION");
    assert_eq!(done.out(), format!("cortex {own}\nno server answers\n"));
    let done = Running::start(cortex(dir.path()).args(["version", "--json"])).end().exited(0);
    assert_eq!(done.json(), serde_json::json!({ "version": own, "server": null }));
}

#[test]
fn a_server_tells_its_version_and_its_durability() {
    let up = Up::start();
    let v = up.cortex(&["version", "--json"]).exited(0).json();
    assert_eq!(v["server"]["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!(v["server"]["log_backend"], "embedded");
}
