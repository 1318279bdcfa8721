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

/// Numbers of the locks that the task asked for, in its order, separated by commas; 0 for those that it shares.
pub const LOCK_FENCES: &str = "CORTEX_LOCK_FENCES";

const REFUSED: [&str; 71] = [
    "PATH",
    "HOME",
    "TMPDIR",
    "USER",
    "LOGNAME",
    "PWD",
    "OLDPWD",
    "ENV",
    "IFS",
    "PS4",
    "SHELLOPTS",
    "BASHOPTS",
    "CDPATH",
    "GLOBIGNORE",
    "PROMPT_COMMAND",
    "ZDOTDIR",
    "VISUAL",
    "BROWSER",
    "DISPLAY",
    "WAYLAND_DISPLAY",
    "CC",
    "CXX",
    "CPP",
    "LD",
    "AR",
    "AS",
    "FC",
    "CFLAGS",
    "CXXFLAGS",
    "CPPFLAGS",
    "LDFLAGS",
    "MAKEFLAGS",
    "MFLAGS",
    "GNUMAKEFLAGS",
    "JAVA_TOOL_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "_JAVA_OPTIONS",
    "JAVA_OPTS",
    "JAVA_HOME",
    "CLASSPATH",
    "MAVEN_OPTS",
    "GRADLE_OPTS",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "TERMINFO",
    "TERMCAP",
    "RUSTFLAGS",
    "RUSTDOCFLAGS",
    "TCLLIBPATH",
    "GOFLAGS",
    "GOENV",
    "GOROOT",
    "GOPATH",
    "GOPROXY",
    "GOTOOLCHAIN",
    "CURL_HOME",
    "WGETRC",
    "GREP_OPTIONS",
    "TAR_OPTIONS",
    "GZIP",
    "XZ_OPT",
    "BZIP2",
    "CVS_RSH",
    "SVN_SSH",
    "GNUPGHOME",
    "PSQLRC",
    "VIMINIT",
    "EXINIT",
    "INPUTRC",
    "KUBECONFIG",
];
const REFUSED_PREFIXES: [&str; 45] = [
    "LD_",
    "DYLD_",
    "GIT_",
    "BASH_",
    "PYTHON",
    "PERL",
    "RUBY",
    "NODE_",
    "LESS",
    "LUA_",
    "R_",
    "PHP",
    "DENO_",
    "BUN_",
    "SSH_",
    "DBUS_",
    "DOCKER_",
    "CARGO_",
    "RUSTC",
    "RUSTUP_",
    "NPM_CONFIG_",
    "PNPM_",
    "YARN_",
    "COREPACK_",
    "PIP_",
    "UV_",
    "POETRY_",
    "CMAKE_",
    "NIX_",
    "CORTEX_",
    "MALLOC_",
    "GLIBC_",
    "XDG_",
    "OPENSSL_",
    "RIPGREP_",
    "FZF_",
    "RSYNC_",
    "HG",
    "PG",
    "MYSQL_",
    "AWS_",
    "TF_",
    "GPG_",
    "EMACS",
    "ZSTD_",
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

/// Whether a pattern such as `L*` could let a refused variable through.
#[must_use]
pub fn may_be_refused(pattern: &str) -> bool {
    let Some(stem) = pattern.strip_suffix('*') else { return is_refused(pattern) };
    let stem = stem.to_ascii_uppercase();
    let words = REFUSED.iter().chain(&REFUSED_PREFIXES);
    is_refused(&stem) || words.into_iter().any(|word| word.starts_with(&stem))
}

/// Letters, digits and `_`, not beginning with a digit.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && name.bytes().all(plain) && !name.starts_with(|c: char| c.is_ascii_digit())
}

/// Variables that only the agent sets.
#[must_use]
pub fn is_own(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["PATH", "HOME", "TMPDIR", "USER", "LOGNAME", "PWD"].contains(&name.as_str())
        || name.starts_with("CORTEX_")
        || name.starts_with("LD_")
        || name.starts_with("DYLD_")
}

/// What marks the processes of an attempt.
#[must_use]
pub fn marks(key: &AttemptKey, fence: u64, agent: &str) -> [(String, Vec<u8>); 4] {
    [
        (AGENT_MARK, agent.to_owned()),
        (TASK_MARK, key.task.to_string()),
        (ATTEMPT, key.attempt.to_string()),
        (FENCE, fence.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.into_bytes()))
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
            "RIPGREP_CONFIG_PATH",
            "TAR_OPTIONS",
            "XDG_CONFIG_HOME",
            "PERLLIB",
            "_JAVA_OPTIONS",
            "CFLAGS",
        ] {
            assert!(is_refused(name), "{name}");
        }
        for name in ["LANG", "TZ", "FOO", "MY_PATH", "GITX", "BUILD_ID", "COLUMNS"] {
            assert!(!is_refused(name), "{name}");
        }
    }
}
