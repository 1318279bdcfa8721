//! What this machine is and can do, found out by looking: the system, its size, and well-known programs with
//! their versions. Nothing a server sends has a part in it.

use cortex_agent_core::plan::Level;
use cortex_agent_core::policy::{BROWSERS, Machine};
use cortex_agent_core::{Policy, environment::SEARCH};
use cortex_model::proto::{Capability, Error, Manifest};
use cortex_model::{Code, Fault};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

/// Capability, program, and the argument that makes it tell its version.
const PROBES: [(&str, &str, &str); 14] = [
    ("bash", "bash", "--version"),
    ("cargo", "cargo", "--version"),
    ("curl", "curl", "--version"),
    ("docker", "docker", "--version"),
    ("gcc", "gcc", "--version"),
    ("git", "git", "--version"),
    ("go", "go", "version"),
    ("java", "java", "--version"),
    ("make", "make", "--version"),
    ("node", "node", "--version"),
    ("perl", "perl", "--version"),
    ("python", "python3", "--version"),
    ("rustc", "rustc", "--version"),
    ("tar", "tar", "--version"),
];

/// The capability of a machine that has what a browser is driven with.
const CHROMIUM: &str = "chromium";

/// How long a program may take to tell its version.
const PATIENCE: Duration = Duration::from_secs(5);

/// Looks at the machine. `labels` are the owner's words.
pub async fn probe(labels: &BTreeMap<String, String>) -> Manifest {
    let uname = rustix::system::uname();
    let mut capabilities = Vec::new();
    for (name, program, argument) in PROBES {
        if let Ok(found) = crate::facts::resolve_program(program.as_bytes()) {
            let path = found.path;
            let version = version(&path, argument).await.unwrap_or_default();
            let path = path.to_string_lossy().into_owned();
            capabilities.push(Capability { name: name.to_owned(), version, path });
        }
    }
    for program in BROWSERS {
        if let Ok(found) = crate::facts::resolve_program(program.as_bytes()) {
            let version = version(&found.path, "--version").await.unwrap_or_default();
            let path = found.path.to_string_lossy().into_owned();
            capabilities.push(Capability { name: CHROMIUM.to_owned(), version, path });
            break;
        }
    }
    Manifest {
        hostname: uname.nodename().to_string_lossy().into_owned(),
        os: std::env::consts::OS.to_owned(),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: std::thread::available_parallelism()
            .map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes().unwrap_or(0),
        capabilities,
        labels: labels.clone(),
        kernel: uname.release().to_string_lossy().into_owned(),
        unable: None,
        narrowed: None,
    }
}

/// The manifest with the abilities that the policy leaves: `echo`, `shell` if any program may run, `files` if files may be
/// read, `terminal` if a program may have one and the machine has one to give, `browser` if a page may be opened and there is a Chromium
/// and the sandbox that it needs.
#[must_use]
pub fn under(probed: &Manifest, policy: Option<&Policy>, machine: &Machine) -> Manifest {
    let mut manifest = probed.clone();
    let able = |name: &str| Capability { name: name.to_owned(), ..Capability::default() };
    if policy.is_some_and(Policy::allows_echo) {
        manifest.capabilities.push(able("echo"));
    }
    if policy.is_some_and(Policy::allows_shell) {
        manifest.capabilities.push(able("shell"));
    }
    if policy.is_some_and(Policy::allows_files) {
        manifest.capabilities.push(able("files"));
    }
    let terminals = machine.features.contains_key("terminal");
    if terminals && policy.is_some_and(Policy::allows_terminals) {
        manifest.capabilities.push(able("terminal"));
    }
    let chromium = probed.capabilities.iter().find(|able| able.name == CHROMIUM);
    if let Some(chromium) = chromium
        .filter(|_| machine.level == Level::Full && policy.is_some_and(Policy::allows_browser))
    {
        manifest.capabilities.push(Capability { name: "browser".to_owned(), ..chromium.clone() });
    }
    manifest.capabilities.sort_by(|a, b| a.name.cmp(&b.name));
    manifest
}

/// Why the node takes no work, as it is told to people. Free bytes change all the time and are left out.
#[must_use]
pub fn unable(fault: &Fault) -> Error {
    if fault.code == Code::NodeDiskLow {
        return Error::from(&Fault::new(fault.code, "the node is short of disk space"));
    }
    Error::from(fault)
}

/// Runs the program in an empty environment and takes the first thing that looks like a version.
async fn version(path: &Path, argument: &str) -> Option<String> {
    let child = tokio::process::Command::new(path)
        .arg(argument)
        .env_clear()
        .env("PATH", SEARCH.join(":"))
        .env("LANG", "C")
        .current_dir("/")
        .process_group(0)
        .kill_on_drop(true)
        .stdin(Stdio::null())
        .output();
    let output = tokio::time::timeout(PATIENCE, child).await.ok()?.ok()?;
    find_version(&String::from_utf8_lossy(&output.stdout))
}

/// The first word of the first line that has digits around a dot, without what surrounds the number.
fn find_version(text: &str) -> Option<String> {
    let line = text.lines().find(|line| !line.trim().is_empty())?;
    line.split(|c: char| c.is_whitespace() || c == ',' || c == '(' || c == ')').find_map(|word| {
        let start = word.find(|c: char| c.is_ascii_digit())?;
        let number = &word[start..];
        let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+' | '_');
        let end = number.find(|c: char| !good(c)).unwrap_or(number.len());
        let number = &number[..end];
        let plain =
            number.split('.').take(2).filter(|part| part.starts_with(|c: char| c.is_ascii_digit()));
        (plain.count() == 2).then(|| number.to_owned())
    })
}

fn memory_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_ascii_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (text, version) in [
            ("GNU bash, version 5.2.15(1)-release (x86_64-pc-linux-gnu)", Some("5.2.15")),
            ("git version 2.39.5", Some("2.39.5")),
            ("Python 3.11.2\n", Some("3.11.2")),
            ("v20.11.1", Some("20.11.1")),
            ("Docker version 24.0.7, build afdd53b", Some("24.0.7")),
            ("go version go1.22.1 linux/amd64", Some("1.22.1")),
            ("cargo 1.95.0 (f2d3ce0bd 2026-03-21)", Some("1.95.0")),
            ("curl 7.88.1 (x86_64-pc-linux-gnu) libcurl/7.88.1", Some("7.88.1")),
            ("\nThis is perl 5, version 36, subversion 0 (v5.36.0) built", Some("5.36.0")),
            ("nothing here 7", None),
            ("", None),
        ] {
            assert_eq!(find_version(text).as_deref(), version, "{text}");
        }
    }

    #[tokio::test]
    async fn the_machine_is_described_and_the_policy_decides_about_abilities() {
        let labels = BTreeMap::from([("rack".to_owned(), "b".to_owned())]);
        let probed = probe(&labels).await;
        assert_eq!(probed.os, std::env::consts::OS);
        assert!(probed.cpus > 0 && probed.memory_bytes > 0 && !probed.hostname.is_empty());
        assert_eq!(probed.labels, labels);
        let policy = |text: &str| Policy::parse(text, String::new()).unwrap();
        let names = |policy: Option<&Policy>| -> Vec<String> {
            let able = under(&probed, policy, &Machine::default())
                .capabilities
                .into_iter()
                .map(|able| able.name);
            able.filter(|name| name == "echo" || name == "shell").collect()
        };
        assert_eq!(names(Some(&policy("version = 0"))), ["echo"]);
        let both = policy("version = 0\n[shell]\nallow = [\"/bin/ls\"]");
        assert_eq!(names(Some(&both)), ["echo", "shell"]);
        assert!(names(None).is_empty());
        let open = policy(
            "version = 1\nterminal = \"ask\"\nprograms = { search = [] }\npaths = {}\n\
             [[rule]]\nid = \"a\"\nprogram = \"ls\"\neffect = \"allow\"",
        );
        let able = |policy: &Policy, machine: &Machine| {
            let all = under(&probed, Some(policy), machine).capabilities;
            all.iter().any(|able| able.name == "terminal")
        };
        let (bare, with) = (
            Machine::default(),
            Machine {
                features: BTreeMap::from([("terminal".to_owned(), 0)]),
                ..Machine::default()
            },
        );
        assert!(able(&open, &with) && !able(&open, &bare) && !able(&both, &with));
    }
}
