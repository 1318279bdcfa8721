//! Commands whose reader goes away, as `head` does when it has enough: they end without a word and without a panic.
#![allow(clippy::unwrap_used, reason = "a test ends where something else comes than it waits for")]

use std::process::{Command, Stdio};

const POLICY: &str = "version = 1\nprograms.search = [\"/usr/bin\", \"/bin\"]\n[paths]\nroots = [\"/srv\"]\nread = [\"@system\"]\n[[rule]]\nid = \"a\"\nprogram = \"ls\"\neffect = \"allow\"\n";

#[test]
fn a_command_whose_reader_is_gone_ends_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.toml"), POLICY).unwrap();
    for words in [
        &["policy", "check"][..],
        &["policy", "show", "--expanded"],
        &["policy", "show", "--json"],
        &["policy", "explain", "--", "ls"],
        &["doctor"],
        &["doctor", "--json"],
    ] {
        let run = |stdout: Stdio| {
            let mut command = Command::new(env!("CARGO_BIN_EXE_cortex-agent"));
            command.args(words).env("CORTEX_AGENT_DIR", dir.path());
            let ended = command.stdin(Stdio::null()).stdout(stdout).output().unwrap();
            (ended.status.code(), String::from_utf8(ended.stderr).unwrap())
        };
        // The control: with a reader it is none of these.
        assert_ne!(run(Stdio::piped()).0, Some(141), "{words:?}");
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        assert_eq!(run(writer.into()), (Some(141), String::new()), "{words:?}");
    }
}
