//! Which crate may know which: the table of ARCHITECTURE.md, checked against every Cargo.toml.
//! Only what a crate links counts; what its tests use does not.

use crate::checkout::TextFile;
use std::collections::BTreeMap;

/// May know every crate of the workspace.
const ANY: &[&str] = &["*"];

/// Package, and the packages of this workspace it may know.
const ARROWS: &[(&str, &[&str])] = &[
    ("cortex-proto", &[]),
    ("cortex-proto-codegen", &[]),
    ("cortex-model", &["cortex-proto"]),
    ("cortex-audit", &[]),
    ("cortex-tunnel", &["cortex-model", "cortex-proto"]),
    ("cortex-scheduler-core", &["cortex-model"]),
    ("cortex-agent-core", &["cortex-model", "cortex-audit"]),
    ("cortex-log", &["cortex-model"]),
    ("cortex-mirror", &["cortex-audit", "cortex-log", "cortex-model", "cortex-proto"]),
    ("cortex-scheduler", &["cortex-scheduler-core", "cortex-log", "cortex-model", "cortex-proto"]),
    (
        "cortex-gateway",
        &[
            "cortex-scheduler-core",
            "cortex-tunnel",
            "cortex-log",
            "cortex-audit",
            "cortex-model",
            "cortex-proto",
        ],
    ),
    (
        "cortex-agent",
        &["cortex-agent-core", "cortex-tunnel", "cortex-audit", "cortex-model", "cortex-proto"],
    ),
    (
        "cortex-cli",
        &[
            "cortex-agent",
            "cortex-gateway",
            "cortex-mirror",
            "cortex-scheduler",
            "cortex-tunnel",
            "cortex-log",
            "cortex-audit",
            "cortex-model",
            "cortex-proto",
        ],
    ),
    ("cortex-tests", ANY),
    ("cortex-bench", ANY),
    ("xtask", &[]),
];

/// Packages without I/O, clock and randomness.
pub(crate) const PURE: [&str; 5] =
    ["cortex-model", "cortex-audit", "cortex-tunnel", "cortex-scheduler-core", "cortex-agent-core"];

/// What a pure package may link beside the workspace: data, encodings, hashes.
const PURE_LIBRARIES: [&str; 11] = [
    "aho-corasick",
    "base64",
    "blake3",
    "bytes",
    "ed25519-dalek",
    "prost",
    "serde",
    "serde_json",
    "sha2",
    "thiserror",
    "toml",
];

/// What the code of a pure package must not name: the outside world.
const IMPURE_WORDS: [&str; 8] = [
    "std::fs",
    "std::net",
    "std::process",
    "std::env",
    "std::thread",
    "Instant::now",
    "SystemTime::now",
    "tokio::",
];

/// A Cargo.toml as far as the rules need it.
#[derive(Debug, Default)]
pub(crate) struct Manifest {
    pub(crate) package: String,
    /// What the package links, also on some platforms only or when it is built.
    pub(crate) dependencies: Vec<String>,
    pub(crate) takes_workspace_lints: bool,
}

/// Reads the lines the rules need from a member's Cargo.toml.
pub(crate) fn manifest(file: &TextFile) -> Manifest {
    let mut read = Manifest::default();
    let mut section = String::new();
    for line in file.text.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[').and_then(|l| l.strip_suffix(']')) {
            section = header.to_owned();
            // `[dependencies.tokio]` is a section of its own.
            if let Some((table, name)) = section.rsplit_once("dependencies.")
                && !table.ends_with("dev-")
            {
                read.dependencies.push(name.to_owned());
            }
            continue;
        }
        let Some((key, value)) = line.split_once('=') else { continue };
        let key = key.trim().trim_matches('"');
        match section.as_str() {
            "package" if key == "name" => read.package = value.trim().trim_matches('"').to_owned(),
            "lints" if key == "workspace" => read.takes_workspace_lints = value.trim() == "true",
            s if s.ends_with("dependencies") && !s.ends_with("dev-dependencies") => {
                let renamed = value.split_once("package").and_then(|(_, v)| v.split('"').nth(1));
                let name = renamed.unwrap_or(key.trim_end_matches(".workspace"));
                read.dependencies.push(name.to_owned());
            }
            _ => {}
        }
    }
    read
}

/// Arrows that the table does not have, packages it does not know, impure dependencies of pure ones.
pub(crate) fn forbidden_arrows(manifests: &[Manifest]) -> Vec<String> {
    let table: BTreeMap<_, _> = ARROWS.iter().copied().collect();
    let mut found = Vec::new();
    for member in manifests {
        let name = member.package.as_str();
        let Some(may_know) = table.get(name) else {
            found.push(format!("{name}: not in the table of tests/tidy/arrows.rs"));
            continue;
        };
        for dependency in &member.dependencies {
            let ours = table.contains_key(dependency.as_str()) || dependency.starts_with("cortex-");
            if ours && *may_know != ANY && !may_know.contains(&dependency.as_str()) {
                found.push(format!("{name} -> {dependency}: not an arrow of this house"));
            }
            if !ours && PURE.contains(&name) && !PURE_LIBRARIES.contains(&dependency.as_str()) {
                found.push(format!("{name} -> {dependency}: {name} is pure"));
            }
            if name == "xtask" {
                found.push(format!("xtask -> {dependency}: xtask has no dependencies"));
            }
        }
    }
    found
}

/// I/O, clocks and threads in the code of a pure package, its test modules aside.
pub(crate) fn impure_code(file: &TextFile) -> Vec<String> {
    let mut found = Vec::new();
    for (number, line) in file.text.lines().enumerate() {
        if line.trim() == "#[cfg(test)]" {
            break;
        }
        let code = line.trim_start();
        for word in IMPURE_WORDS.iter().filter(|w| !code.starts_with("//") && code.contains(**w)) {
            found.push(format!("{}:{}: {word} in a pure crate", file.path, number + 1));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(text: &str) -> Manifest {
        manifest(&TextFile::fixture("x/Cargo.toml", text))
    }

    #[test]
    fn dependencies_are_read_in_every_spelling_but_not_those_of_tests() {
        let read = member(
            "[package]\nname = \"cortex-agent\"\n[dependencies]\na.workspace = true\n\
             b = { workspace = true, features = [\"x\"] }\nc = \"1\"\nd2 = { package = \"d\" }\n\
             [target.'cfg(unix)'.dependencies]\ne = \"1\"\n[dependencies.f]\nversion = \"1\"\n\
             [build-dependencies]\ng = \"1\"\n[dev-dependencies]\nh = \"1\"\n\
             [dev-dependencies.i]\nversion = \"1\"\n[lints]\nworkspace = true\n",
        );
        assert_eq!(read.package, "cortex-agent");
        assert_eq!(read.dependencies, ["a", "b", "c", "d", "e", "f", "g"]);
        assert!(read.takes_workspace_lints);
    }

    #[test]
    fn an_agent_that_knows_the_log_is_found() {
        let bad =
            member("[package]\nname = \"cortex-agent\"\n[dependencies]\ncortex-log = \"1\"\n");
        assert_eq!(forbidden_arrows(&[bad]).len(), 1);
        let good =
            member("[package]\nname = \"cortex-agent\"\n[dependencies]\ncortex-tunnel = \"1\"\n");
        assert!(forbidden_arrows(&[good]).is_empty());
    }

    #[test]
    fn a_scheduler_that_knows_the_tunnel_is_found() {
        let bad = member(
            "[package]\nname = \"cortex-scheduler\"\n[dependencies]\ncortex-tunnel = \"1\"\n",
        );
        assert_eq!(forbidden_arrows(&[bad]).len(), 1);
    }

    #[test]
    fn a_pure_crate_with_a_runtime_is_found() {
        let bad = member("[package]\nname = \"cortex-model\"\n[dependencies]\ntokio = \"1\"\n");
        assert_eq!(forbidden_arrows(&[bad]).len(), 1);
        let shell = member("[package]\nname = \"cortex-log\"\n[dependencies]\ntokio = \"1\"\n");
        assert!(forbidden_arrows(&[shell]).is_empty());
    }

    #[test]
    fn a_package_without_a_place_and_an_xtask_with_dependencies_are_found() {
        assert_eq!(forbidden_arrows(&[member("[package]\nname = \"cortex-new\"\n")]).len(), 1);
        let tool = member("[package]\nname = \"xtask\"\n[dependencies]\nanyhow = \"1\"\n");
        assert_eq!(forbidden_arrows(&[tool]).len(), 1);
    }

    #[test]
    fn a_clock_in_a_pure_crate_is_found_but_not_in_its_tests() {
        let bad = TextFile::fixture("crates/model/src/a.rs", "let t = Instant::now();\n");
        assert_eq!(impure_code(&bad).len(), 1);
        let text = "// never std::fs\n#[cfg(test)]\nmod tests { use std::fs; }\n";
        assert!(impure_code(&TextFile::fixture("crates/model/src/a.rs", text)).is_empty());
    }
}
