//! What an idempotency key stands for: the versioned hash of a request, and the difference between
//! two requests in words. Relative durations as given, taken before defaults are applied, so that a
//! later version with other defaults still recognises a repeat.

use crate::file::FileOp;
use crate::task::{Action, PathLock, RetryOn, TaskSpec};
use prost::Message;
use sha2::{Digest, Sha256};

/// The version of the field list below. A new version keeps the old ones readable.
pub const REQUEST_VERSION: u32 = 1;

/// The fields of version 1 with their values, in the documented order (docs/log-format.md, "Request hash"). Labels are not
/// part of it: they are words to find the task by, not what was asked.
#[must_use]
pub fn fields(spec: &TaskSpec) -> Vec<(&'static str, Vec<u8>)> {
    let mut f: Vec<(&'static str, Vec<u8>)> = Vec::with_capacity(20);
    match &spec.action {
        Action::Echo { payload } => f.push(("echo.payload", payload.clone())),
        Action::Shell(s) => {
            f.push(("shell.argv", list(s.argv.iter().map(Vec::as_slice))));
            f.push(("shell.cwd", s.cwd.clone().into_bytes()));
            let mut env: Vec<_> = s.env.iter().collect();
            env.sort();
            let env = env.into_iter().flat_map(|(n, v)| [n.as_bytes(), v.as_slice()]);
            f.push(("shell.env", list(env)));
            f.push(("shell.stdin", s.stdin.clone()));
            // Younger than the version: left out where they are empty, so that older requests keep their hash.
            if !s.script.is_empty() {
                f.push(("shell.script", s.script.clone().into_bytes()));
            }
            if !s.secret_env.is_empty() {
                let mut secrets: Vec<_> = s.secret_env.iter().collect();
                secrets.sort();
                let parts = secrets.into_iter().flat_map(|(n, r)| [n.as_bytes(), r.as_bytes()]);
                f.push(("shell.secret_env", list(parts)));
            }
            // Not its size: that follows the window.
            if let Some(terminal) = &s.terminal {
                f.push(("shell.terminal", terminal.kind().as_bytes().to_vec()));
            }
        }
        Action::File(file) => {
            let (name, content) = file_op(&file.op);
            f.push(("file.path", file.path.clone()));
            f.push((name, content));
        }
        Action::Browser(browser) => f.push(("browser", browser.encoded())),
    }
    let require: Vec<String> = spec.require.iter().map(ToString::to_string).collect();
    f.push(("require", list(require.iter().map(String::as_bytes))));
    f.push(("node", spec.node.as_ref().map_or("", |n| n.as_str()).as_bytes().to_vec()));
    f.push(("priority", spec.priority.to_string().into_bytes()));
    f.push(("safe_to_repeat", spec.safe_to_repeat.to_string().into_bytes()));
    f.push(("retry.max_attempts", spec.retry.max_attempts.to_string().into_bytes()));
    let on: Vec<&str> = spec.retry.on.iter().map(|o| retry_name(*o)).collect();
    f.push(("retry.on", on.join(",").into_bytes()));
    f.push(("retry.backoff_ms", spec.retry.backoff_ms.to_string().into_bytes()));
    f.push(("retry.max_backoff_ms", spec.retry.max_backoff_ms.to_string().into_bytes()));
    f.push(("run_timeout_ms", spec.run_timeout_ms.to_string().into_bytes()));
    f.push(("deadline_ms", spec.deadline_ms.to_string().into_bytes()));
    f.push(("node_lost_grace_ms", spec.node_lost_grace_ms.to_string().into_bytes()));
    f.push(("output_limit_bytes", spec.output_limit_bytes.to_string().into_bytes()));
    // Younger than the version.
    if !spec.locks.is_empty() {
        let mode = |lock: &PathLock| if lock.shared { &b"shared"[..] } else { b"alone" };
        let parts = spec.locks.iter().flat_map(|lock| [lock.path.as_slice(), mode(lock)]);
        f.push(("locks", list(parts)));
    }
    if spec.lock_timeout_ms > 0 {
        f.push(("lock_timeout_ms", spec.lock_timeout_ms.to_string().into_bytes()));
    }
    f
}

/// The operation in the encoding of the contract: fields by their numbers, and left out where they have their default.
fn file_op(op: &FileOp) -> (&'static str, Vec<u8>) {
    match op {
        FileOp::Read(m) => ("file.read", m.encode_to_vec()),
        FileOp::Write(m) => ("file.write", m.encode_to_vec()),
        FileOp::Edit(m) => ("file.edit", m.encode_to_vec()),
        FileOp::List(m) => ("file.list", m.encode_to_vec()),
        FileOp::Stat(m) => ("file.stat", m.encode_to_vec()),
        FileOp::Glob(m) => ("file.glob", m.encode_to_vec()),
        FileOp::Search(m) => ("file.search", m.encode_to_vec()),
        FileOp::Delete(m) => ("file.delete", m.encode_to_vec()),
        FileOp::Move(m) => ("file.move", m.encode_to_vec()),
        FileOp::Receive(m) => ("file.receive", m.encode_to_vec()),
        FileOp::Chunk(m) => ("file.chunk", m.encode_to_vec()),
        FileOp::Finish(m) => ("file.finish", m.encode_to_vec()),
    }
}

/// SHA-256 over `cortex-request/1` and, for each field, the lengths and bytes of name and value
/// (lengths as 8 bytes, big endian).
#[must_use]
pub fn hash(spec: &TaskSpec) -> Vec<u8> {
    let mut h = Sha256::new();
    h.update(b"cortex-request/1");
    for (name, value) in fields(spec) {
        for part in [name.as_bytes(), &value] {
            h.update((part.len() as u64).to_be_bytes());
            h.update(part);
        }
    }
    h.finalize().to_vec()
}

/// The fields in which two requests differ, each as `name: FIRST -> SECOND`; values are shortened.
#[must_use]
pub fn difference(first: &TaskSpec, second: &TaskSpec) -> Vec<String> {
    let (a, b) = (fields(first), fields(second));
    let of = |all: &[(&'static str, Vec<u8>)], name: &str| {
        all.iter().find(|(n, _)| *n == name).map_or("(absent)".to_owned(), |(_, v)| show(v))
    };
    let mut names: Vec<&str> = a.iter().chain(&b).map(|(n, _)| *n).collect();
    names.dedup();
    let mut seen = std::collections::BTreeSet::new();
    names
        .into_iter()
        .filter(|n| seen.insert(*n))
        .filter(|n| a.iter().find(|(m, _)| m == n) != b.iter().find(|(m, _)| m == n))
        .map(|n| format!("{n}: {} -> {}", of(&a, n), of(&b, n)))
        .collect()
}

fn retry_name(on: RetryOn) -> &'static str {
    match on {
        RetryOn::Exit => "exit",
        RetryOn::Lost => "lost",
        RetryOn::Timeout => "timeout",
    }
}

/// Elements with their lengths, so that `["a b"]` and `["a", "b"]` differ.
fn list<'a>(items: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for item in items {
        out.extend_from_slice(format!("{}:", item.len()).as_bytes());
        out.extend_from_slice(item);
        out.push(b' ');
    }
    out
}

fn show(v: &[u8]) -> String {
    const SHOWN: usize = 60;
    let text = String::from_utf8_lossy(v);
    let short: String = text.chars().take(SHOWN).collect();
    let more = if text.chars().count() > SHOWN { "..." } else { "" };
    format!("{short:?}{more}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::FileAction;
    use crate::proto as pb;
    use crate::task::{RetryPolicy, ShellAction};

    fn spec(argv: &[&str]) -> TaskSpec {
        TaskSpec {
            action: Action::Shell(ShellAction {
                argv: argv.iter().map(|a| a.as_bytes().to_vec()).collect(),
                ..ShellAction::default()
            }),
            require: Default::default(),
            node: None,
            priority: 0,
            safe_to_repeat: false,
            retry: RetryPolicy::default(),
            run_timeout_ms: 0,
            deadline_ms: 0,
            node_lost_grace_ms: 0,
            output_limit_bytes: 0,
            labels: Default::default(),
            locks: Vec::new(),
            lock_timeout_ms: 0,
        }
    }

    #[test]
    fn the_hash_of_version_1_never_changes() {
        let hex: String =
            hash(&spec(&["uname", "-a"])).iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "85ba524711e622cb294a320c066f8e266728d6e4510cbe4f31bfd30087975792");
    }

    #[test]
    fn a_script_and_the_names_of_secrets_count() {
        let shell = |script: &str, secrets: &[(&str, &str)]| {
            let mut spec = spec(&[]);
            let own = |(n, s): &(&str, &str)| ((*n).to_owned(), (*s).to_owned());
            spec.action = Action::Shell(ShellAction {
                script: script.to_owned(),
                secret_env: secrets.iter().map(own).collect(),
                ..ShellAction::default()
            });
            hash(&spec)
        };
        assert_ne!(shell("ls", &[]), shell("id", &[]));
        assert_ne!(shell("ls", &[]), shell("ls", &[("A", "b")]));
        assert_ne!(shell("ls", &[("A", "b")]), shell("ls", &[("A", "c")]));
        assert_eq!(shell("ls", &[("A", "b"), ("C", "d")]), shell("ls", &[("C", "d"), ("A", "b")]));
    }

    #[test]
    fn a_terminal_counts_with_its_kind_and_not_with_its_size() {
        use crate::task::Terminal;
        let with = |terminal: Option<Terminal>| {
            let mut spec = spec(&["sh"]);
            if let Action::Shell(shell) = &mut spec.action {
                shell.terminal = terminal;
            }
            hash(&spec)
        };
        let plain = with(Some(Terminal::default()));
        assert_ne!(plain, with(None));
        assert_eq!(plain, with(Some(Terminal { rows: 50, ..Terminal::default() })));
        assert_ne!(plain, with(Some(Terminal { term: "dumb".into(), ..Terminal::default() })));
    }

    #[test]
    fn an_operation_on_files_counts_with_its_path_and_all_its_fields() {
        let file = |path: &str, content: &str, mode| {
            let mut spec = spec(&[]);
            let write = pb::FileWrite { content: content.into(), mode, ..pb::FileWrite::default() };
            let op = FileOp::Write(write);
            spec.action = Action::File(Box::new(FileAction { path: path.into(), op }));
            hash(&spec)
        };
        let first = file("a", "x", 0);
        assert_eq!(first, file("a", "x", 0));
        for other in [file("b", "x", 0), file("a", "y", 0), file("a", "x", 1)] {
            assert_ne!(first, other);
        }
        let hex: String = first.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "8297f00adc8dc53f32ea3629e76f7a2846776ddba5035d3e136c84104f27636e");
    }

    fn page(url: &str, selector: &str) -> crate::browser::BrowserAction {
        crate::browser::BrowserAction {
            url: url.to_owned(),
            steps: Vec::new(),
            result: crate::browser::BrowserResult::Text(pb::BrowserText {
                selector: selector.to_owned(),
            }),
            window: (0, 0),
            step_timeout_ms: 0,
        }
    }

    #[test]
    fn a_page_counts_with_everything_that_is_done_on_it() {
        let browser = |url: &str, selector: &str, height| {
            let mut spec = spec(&[]);
            let mut page = page(url, selector);
            page.window.1 = height;
            spec.action = Action::Browser(Box::new(page));
            hash(&spec)
        };
        let first = browser("http://a/", "#a", 0);
        assert_eq!(first, browser("http://a/", "#a", 0));
        for other in [
            browser("http://b/", "#a", 0),
            browser("http://a/", "#b", 0),
            browser("http://a/", "#a", 800),
        ] {
            assert_ne!(first, other);
        }
        let hex: String = first.iter().map(|b| format!("{b:02x}")).collect();
        assert_eq!(hex, "cf49dca9dcca58ed1258a2060d79e5d8f0545ccc08b27bd479a61417f3ba8bbd");
    }

    #[test]
    fn labels_do_not_count_and_everything_else_does() {
        let a = spec(&["ls"]);
        let mut b = a.clone();
        b.labels.insert("x".into(), "y".into());
        assert_eq!(hash(&a), hash(&b));
        b.run_timeout_ms = 5;
        assert_ne!(hash(&a), hash(&b));
        assert_eq!(difference(&a, &b), ["run_timeout_ms: \"0\" -> \"5\""]);
    }

    /// The document lists the fields in the order in which they are hashed; the names of the operations on files share a row.
    #[test]
    fn the_document_has_the_fields_in_their_order() {
        let text = include_str!("../../../docs/log-format.md");
        let section = text.split("## Request hash").nth(1).expect("a section of its own");
        let section = section.split("\n## ").next().expect("its end");
        let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
        let documented: Vec<&str> = rows
            .flat_map(|cell| cell.split('`').step_by(2))
            .filter(|name| name.len() > 2)
            .collect();

        let mut shell = spec(&["ls"]);
        if let Action::Shell(action) = &mut shell.action {
            action.script = "ls".to_owned();
            action.secret_env.push(("A".to_owned(), "b".to_owned()));
        }
        shell.locks.push(PathLock { path: b"/a".to_vec(), shared: true });
        shell.lock_timeout_ms = 1;
        let mut echo = shell.clone();
        echo.action = Action::Echo { payload: Vec::new() };
        let mut file = shell.clone();
        let op = FileOp::Read(pb::FileRead::default());
        file.action = Action::File(Box::new(FileAction { path: b"a".to_vec(), op }));
        let mut browser = shell.clone();
        browser.action = Action::Browser(Box::new(page("http://example.com/", "#a")));
        for spec in [shell, echo, file, browser] {
            let hashed = fields(&spec);
            let mut rest = documented.iter();
            for (name, _) in hashed {
                assert!(
                    rest.any(|d| *d == name),
                    "{name} is not there, or not in its place: {documented:?}"
                );
            }
        }
    }

    #[test]
    fn argument_borders_count() {
        assert_ne!(hash(&spec(&["a b"])), hash(&spec(&["a", "b"])));
        assert_ne!(hash(&spec(&["a", ""])), hash(&spec(&["a"])));
    }

    #[test]
    fn a_different_action_is_told_field_by_field() {
        let mut b = spec(&["ls"]);
        b.action = Action::Echo { payload: b"x".to_vec() };
        let d = difference(&spec(&["ls"]), &b);
        assert!(
            d.iter().any(|l| l.starts_with("echo.payload: \"(absent)\"")
                || l.starts_with("echo.payload: (absent)")),
            "{d:?}"
        );
    }
}
