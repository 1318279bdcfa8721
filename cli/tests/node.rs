//! `cortex node list` and `cortex node show`.

use crate::support::Up;

#[test]
fn nodes_are_listed_found_by_requirement_and_shown() {
    let up = Up::start();
    let all = up.cortex(&["node", "list", "--json"]).exited(0).json();
    let node = &all["nodes"][0];
    let name = node["node"].as_str().unwrap();
    assert_eq!(node["online"], true);
    assert!(node["capabilities"].as_array().unwrap().iter().any(|c| c["name"] == "shell"));

    let text = up.cortex(&["node", "list", "--require", "shell", "--online"]).exited(0);
    let mut lines = text.out().lines();
    assert!(lines.next().unwrap().starts_with("NODE"), "{text:?}");
    assert!(lines.next().unwrap().starts_with(name), "{text:?}");

    let none = up.cortex(&["node", "list", "--require", "shell", "--require", "nothere"]).exited(0);
    assert_eq!(none.out(), "no nodes\n");

    let shown = up.cortex(&["node", "show", name]).exited(0);
    assert!(shown.out().starts_with(&format!("node     {name} (online")), "{shown:?}");
    let json = up.cortex(&["node", "show", name, "--json"]).exited(0).json();
    assert_eq!(json["incarnation"], node["incarnation"]);
}

#[test]
fn an_unknown_node_is_an_error() {
    let up = Up::start();
    let done = up.cortex(&["node", "show", "nowhere"]).exited(125);
    assert!(done.stderr.starts_with("error: CX-0205: "), "{done:?}");
}
