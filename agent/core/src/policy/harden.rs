//! `harden = "git"`: options and variables that keep a repository's own configuration from running programs. What it
//! cannot stop (`filter.clean`), `fs = "read-only"` and the sandbox do.

/// Subcommands that know the two options.
const DIFFS: &[&str] = &[
    "diff",
    "log",
    "show",
    "whatchanged",
    "diff-tree",
    "diff-index",
    "diff-files",
    "format-patch",
];

/// The command with the options behind its subcommand. `after_sub` counts arguments, the program's name not counted.
pub(super) fn arguments(argv: &[String], after_sub: usize) -> Vec<String> {
    let mut hardened = argv.to_vec();
    let sub = argv.get(after_sub).map(String::as_str).unwrap_or_default();
    if after_sub > 0 && DIFFS.contains(&sub) {
        let options = ["--no-ext-diff".to_owned(), "--no-textconv".to_owned()];
        hardened.splice(after_sub + 1..after_sub + 1, options);
    }
    hardened
}

/// Variables that beat the configuration of system, user and repository.
pub(super) fn variables() -> Vec<(String, Vec<u8>)> {
    let settings = [
        ("core.fsmonitor", "false"),
        ("core.hooksPath", "/dev/null"),
        ("core.pager", "cat"),
        ("core.editor", "false"),
        ("core.askPass", ""),
        ("core.sshCommand", "false"),
        ("core.alternateRefsCommand", ""),
        ("sequence.editor", "false"),
        ("credential.helper", ""),
        ("log.showSignature", "false"),
        ("gpg.program", "false"),
        ("gpg.ssh.program", "false"),
        ("gpg.x509.program", "false"),
        ("protocol.ext.allow", "never"),
        ("submodule.recurse", "false"),
        ("fetch.recurseSubmodules", "false"),
        ("uploadpack.packObjectsHook", ""),
        ("gc.auto", "0"),
        ("maintenance.auto", "false"),
    ];
    let mut all = vec![
        ("GIT_CONFIG_COUNT".to_owned(), settings.len().to_string().into_bytes()),
        ("GIT_CONFIG_NOSYSTEM".to_owned(), b"1".to_vec()),
        ("GIT_TERMINAL_PROMPT".to_owned(), b"0".to_vec()),
        ("GIT_OPTIONAL_LOCKS".to_owned(), b"0".to_vec()),
        ("GIT_PAGER".to_owned(), b"cat".to_vec()),
        ("GIT_EDITOR".to_owned(), b"false".to_vec()),
        ("GIT_ASKPASS".to_owned(), b"false".to_vec()),
        ("GIT_NO_LAZY_FETCH".to_owned(), b"1".to_vec()),
    ];
    for (at, (key, value)) in settings.iter().enumerate() {
        all.push((format!("GIT_CONFIG_KEY_{at}"), key.as_bytes().to_vec()));
        all.push((format!("GIT_CONFIG_VALUE_{at}"), value.as_bytes().to_vec()));
    }
    all
}
