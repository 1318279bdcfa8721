//! The policy with its named sets written out.

use cortex_agent_core::policy::{Place, Policy, sets};
use cortex_model::{Code, Fault};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// An entry of a set as it is on this machine.
fn entry(text: &str, place: &Place) -> String {
    let home = place.home.to_string_lossy();
    match text {
        "$STATE" => {
            place.state.iter().map(|path| path.to_string_lossy()).collect::<Vec<_>>().join(" ")
        }
        "$TMPDIR" => "(each task's own temporary directory)".to_owned(),
        "$XDG_RUNTIME_DIR" => place
            .runtime
            .as_ref()
            .map_or_else(|| "(not set)".to_owned(), |dir| dir.to_string_lossy().into_owned()),
        text => {
            text.strip_prefix('~').map_or_else(|| text.to_owned(), |rest| format!("{home}{rest}"))
        }
    }
}

/// The sets, as comments below the policy.
pub(super) fn text(place: &Place) -> String {
    let mut text = String::from("\n# The named sets on this machine:\n");
    for (name, entries) in sets::SETS {
        // Writing to a String cannot fail.
        writeln!(text, "# {name}").ok();
        for line in entries {
            writeln!(text, "#   {}", entry(line, place)).ok();
        }
    }
    text
}

/// The file as JSON, with the sets beside it.
pub(super) fn json(
    policy: &Policy,
    text: &str,
    place: &Place,
    expanded: bool,
) -> Result<Value, Fault> {
    let bad = |err: toml::de::Error| Fault::new(Code::PolicyUnusable, err.message().to_owned());
    let file: Value = toml::from_str(text).map_err(bad)?;
    let mut value = json!({"sha256": policy.digest(), "policy": file});
    if expanded && let Some(object) = value.as_object_mut() {
        let sets: Map<String, Value> = sets::SETS
            .iter()
            .map(|(name, entries)| {
                let entries: Vec<String> = entries.iter().map(|line| entry(line, place)).collect();
                ((*name).to_owned(), json!(entries))
            })
            .collect();
        object.insert("sets".to_owned(), Value::Object(sets));
    }
    Ok(value)
}
