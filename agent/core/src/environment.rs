//! The environment of a process: built from nothing, never filtered from the agent's own. Variables
//! that change how programs load code or find each other are refused, not dropped.

use cortex_model::AttemptKey;

/// Where programs named without a slash are looked for, and `PATH` of every process.
pub const SEARCH: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Marks every process of an agent with the incarnation of its journal.
pub const AGENT_MARK: &str = "CORTEX_AGENT";

/// Marks every process of a task with `<workspace>/<task>`.
pub const TASK_MARK: &str = "CORTEX_TASK";

/// Number of the attempt.
pub const ATTEMPT: &str = "CORTEX_ATTEMPT";

/// Revision of `Started`: grows with every attempt of a task, so other systems can fence with it.
pub const FENCE: &str = "CORTEX_FENCE";

const REFUSED: [&str; 22] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "ENV",
    "IFS",
    "PS4",
    "SHELLOPTS",
    "BASHOPTS",
    "VISUAL",
    "CC",
    "CXX",
    "MAKEFLAGS",
    "JAVA_TOOL_OPTIONS",
    "GCONV_PATH",
    "RUBYOPT",
    "RUBYLIB",
    "CDPATH",
    "GLOBIGNORE",
    "PROMPT_COMMAND",
    "RUSTFLAGS",
    "LOCPATH",
    "NLSPATH",
];
const REFUSED_PREFIXES: [&str; 18] = [
    "LD_",
    "DYLD_",
    "GIT_",
    "BASH_",
    "PYTHON",
    "PERL5",
    "RUBY",
    "NODE_",
    "LESS",
    "SSH_",
    "DBUS_",
    "DOCKER_",
    "CARGO_",
    "RUSTC",
    "NPM_CONFIG_",
    "CORTEX_",
    "MALLOC_",
    "GLIBC_",
];
const REFUSED_SUFFIXES: [&str; 3] = ["PAGER", "EDITOR", "_PROXY"];

/// Whether a task may not set this variable. Case does not matter.
#[must_use]
pub fn is_refused(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    REFUSED.contains(&name.as_str())
        || REFUSED_PREFIXES.iter().any(|prefix| name.starts_with(prefix))
        || REFUSED_SUFFIXES.iter().any(|suffix| name.ends_with(suffix))
}

/// The complete environment of an attempt's process; `own` are the task's variables, checked before.
#[must_use]
pub fn build(
    key: &AttemptKey,
    fence: u64,
    agent: &str,
    home: &str,
    tmpdir: &str,
    own: &[(String, Vec<u8>)],
) -> Vec<(String, Vec<u8>)> {
    let set = [
        ("PATH", SEARCH.join(":")),
        ("HOME", home.to_owned()),
        ("TMPDIR", tmpdir.to_owned()),
        ("LANG", "C.UTF-8".to_owned()),
        (AGENT_MARK, agent.to_owned()),
        (TASK_MARK, key.task.to_string()),
        (ATTEMPT, key.attempt.to_string()),
        (FENCE, fence.to_string()),
    ];
    let own_sets = |name: &str| own.iter().any(|(other, _)| other == name);
    let mut all: Vec<(String, Vec<u8>)> = set
        .into_iter()
        .filter(|(name, _)| !own_sets(name))
        .map(|(name, value)| (name.to_owned(), value.into_bytes()))
        .collect();
    all.extend(own.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_that_change_how_programs_run_are_refused() {
        for name in [
            "LD_PRELOAD",
            "ld_preload",
            "BASH_ENV",
            "PATH",
            "HOME",
            "GIT_EXTERNAL_DIFF",
            "PAGER",
            "MANPAGER",
            "http_proxy",
            "PYTHONPATH",
            "CORTEX_TASK",
            "npm_config_x",
        ] {
            assert!(is_refused(name), "{name}");
        }
        for name in ["LANG", "TZ", "FOO", "MY_PATH", "GITX", "BUILD_ID", "COLUMNS"] {
            assert!(!is_refused(name), "{name}");
        }
    }
}
