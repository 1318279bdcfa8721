//! From flags or a line of a task file to a task specification, checked with the server's own rules
//! before anything is sent. It applies no defaults: those are the server's.

use crate::duration;
use crate::error::CliError;
use crate::view::Bytes;
use clap::Args;
use cortex_model::limits::SPEC_MAX;
use cortex_model::proto as pb;
use cortex_model::{Code, ids, wire};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

/// The flags that describe one task; `run` and `task submit` share them.
#[derive(Debug, Default, Args)]
pub(crate) struct TaskArgs {
    /// What the node must have: NAME, NAME=VALUE or NAME>=VERSION; repeat for more
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) require: Vec<String>,
    /// Run on this node only
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// Idempotency key: the same key and request is the same task, for ever
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Working directory on the node, an absolute path
    #[arg(long, value_name = "DIR")]
    pub(crate) cwd: Option<String>,
    /// Set an environment variable for the command; repeat for more
    #[arg(long, value_name = "NAME=VALUE")]
    pub(crate) env: Vec<OsString>,
    /// Run this file's lines as a script, in place of a command; '-' is our own standard input
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    pub(crate) script: Option<PathBuf>,
    /// Run these lines as a script, in place of a command
    #[arg(short = 'c', value_name = "SCRIPT")]
    pub(crate) lines: Option<String>,
    /// Set a variable to a secret of the node, by the name its policy gives it; repeat for more
    #[arg(long, value_name = "NAME=SECRET")]
    pub(crate) secret_env: Vec<String>,
    /// Feed this file to the command's standard input; '-' is our own
    #[arg(long, value_name = "FILE")]
    pub(crate) stdin: Option<PathBuf>,
    /// End the command after this time: 500ms, 90s, 15m, 2h, 1d
    #[arg(long, value_name = "DURATION")]
    pub(crate) timeout: Option<String>,
    /// Give the whole task up this long after its submission
    #[arg(long, value_name = "DURATION")]
    pub(crate) deadline: Option<String>,
    /// Give a repeatable attempt up when its node was silent this long
    #[arg(long, value_name = "DURATION")]
    pub(crate) node_lost_grace: Option<String>,
    /// -100 to 100, higher first
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true)]
    pub(crate) priority: i32,
    /// Running this more than once does no harm, so it may be repeated when a node is lost
    #[arg(long)]
    pub(crate) safe_to_repeat: bool,
    /// Try up to this many times again
    #[arg(long, value_name = "N")]
    pub(crate) retries: Option<u32>,
    /// What is tried again: exit, lost, timeout; separate or repeat
    #[arg(long, value_name = "ENDING", value_delimiter = ',')]
    pub(crate) retry_on: Vec<String>,
    /// A word to find the task by; repeat for more
    #[arg(long, value_name = "KEY=VALUE")]
    pub(crate) label: Vec<String>,
    /// Hold this path on the node, alone, while the command runs; repeat for more
    #[arg(long, value_name = "PATH")]
    pub(crate) lock: Vec<OsString>,
    /// Hold this path on the node together with others that share it; repeat for more
    #[arg(long, value_name = "PATH")]
    pub(crate) lock_shared: Vec<OsString>,
    /// Longest wait for these paths
    #[arg(long, value_name = "DURATION")]
    pub(crate) lock_timeout: Option<String>,
}

/// A task as written, not checked yet. The fields are those of a task file's lines.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Draft {
    argv: Vec<Bytes>,
    script: String,
    secret_env: BTreeMap<String, String>,
    echo: Option<Bytes>,
    require: Vec<String>,
    node: Option<String>,
    pub(crate) key: Option<String>,
    cwd: Option<String>,
    #[serde(deserialize_with = "variables")]
    env: Vec<(String, Bytes)>,
    stdin: Option<Bytes>,
    timeout: Option<String>,
    deadline: Option<String>,
    node_lost_grace: Option<String>,
    priority: i32,
    safe_to_repeat: bool,
    retries: Option<u32>,
    retry_on: Vec<String>,
    labels: BTreeMap<String, String>,
    lock: Vec<Bytes>,
    lock_shared: Vec<Bytes>,
    lock_timeout: Option<String>,
    /// Not from a file: nobody types there.
    #[serde(skip)]
    pub(crate) terminal: Option<pb::Terminal>,
}

fn variables<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<(String, Bytes)>, D::Error> {
    Ok(BTreeMap::<String, Bytes>::deserialize(d)?.into_iter().collect())
}

impl Draft {
    /// A draft from flags; reads the file for standard input.
    ///
    /// # Errors
    /// For flags without '=', and for input that cannot be read or is too large.
    pub(crate) fn from_args(args: TaskArgs, argv: Vec<OsString>) -> Result<Draft, CliError> {
        let script = script(&args)?;
        if script.is_empty() == argv.is_empty() {
            let why =
                if argv.is_empty() { "there is no command" } else { "a command and a script" };
            return Err(CliError::new(Code::Usage, why)
                .with_hint("pass a command behind '--', or --script FILE, or -c SCRIPT"));
        }
        let stdin = args.stdin.as_deref().map(read_stdin).transpose()?;
        Ok(Draft {
            script,
            secret_env: secrets(&args.secret_env)?,
            argv: argv.into_iter().map(|a| Bytes(a.into_encoded_bytes())).collect(),
            echo: None,
            require: args.require,
            node: args.node,
            key: args.key,
            cwd: args.cwd,
            env: args.env.iter().map(|v| variable(v)).collect::<Result<_, _>>()?,
            stdin,
            timeout: args.timeout,
            deadline: args.deadline,
            node_lost_grace: args.node_lost_grace,
            priority: args.priority,
            safe_to_repeat: args.safe_to_repeat,
            retries: args.retries,
            retry_on: args.retry_on,
            labels: labels(&args.label)?,
            lock: args.lock.into_iter().map(|path| Bytes(path.into_encoded_bytes())).collect(),
            lock_shared: args
                .lock_shared
                .into_iter()
                .map(|path| Bytes(path.into_encoded_bytes()))
                .collect(),
            lock_timeout: args.lock_timeout,
            terminal: None,
        })
    }

    /// The specification, checked.
    ///
    /// # Errors
    /// `CX-0101` to `CX-0112`.
    pub(crate) fn spec(self) -> Result<pb::TaskSpec, CliError> {
        if let Some(key) = &self.key {
            ids::check_idempotency_key(key)?;
        }
        let ms = |d: &Option<String>| d.as_deref().map_or(Ok(0), duration::parse);
        let (run_timeout_ms, deadline_ms) = (ms(&self.timeout)?, ms(&self.deadline)?);
        let node_lost_grace_ms = ms(&self.node_lost_grace)?;
        let lock_timeout_ms = ms(&self.lock_timeout)?;
        let lock = |shared| move |path: Bytes| pb::PathLock { path: path.0, shared };
        let locks = self.lock.into_iter().map(lock(false));
        let locks = locks.chain(self.lock_shared.into_iter().map(lock(true))).collect();
        let retry = retry(self.retries, &self.retry_on, self.safe_to_repeat)?;
        let kind = match self.echo {
            Some(_) if !(self.argv.is_empty() && self.script.is_empty()) => {
                return Err(CliError::new(Code::Malformed, "a task has either argv or echo"));
            }
            Some(payload) => pb::action::Kind::Echo(pb::EchoAction { payload: payload.0 }),
            None => pb::action::Kind::Shell(pb::ShellAction {
                argv: self.argv.into_iter().map(|a| a.0).collect(),
                script: self.script,
                secret_env: self
                    .secret_env
                    .into_iter()
                    .map(|(name, secret)| pb::SecretEnvVar { name, secret })
                    .collect(),
                cwd: self.cwd.unwrap_or_default(),
                env: self
                    .env
                    .into_iter()
                    .map(|(name, value)| pb::EnvVar { name, value: value.0 })
                    .collect(),
                stdin: self.stdin.unwrap_or_default().0,
                terminal: self.terminal,
            }),
        };
        let spec = pb::TaskSpec {
            action: Some(pb::Action { kind: Some(kind) }),
            require: self.require,
            node: self.node.unwrap_or_default(),
            priority: self.priority,
            safe_to_repeat: self.safe_to_repeat,
            retry,
            run_timeout_ms,
            deadline_ms,
            node_lost_grace_ms,
            output_limit_bytes: 0,
            labels: self.labels,
            locks,
            lock_timeout_ms,
        };
        wire::task::spec(spec.clone())?;
        Ok(spec)
    }
}

/// Reads `KEY=VALUE` labels.
///
/// # Errors
/// `CX-0803` without a '='.
pub(crate) fn labels(given: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    given
        .iter()
        .map(|l| match l.split_once('=') {
            Some((k, v)) if !k.is_empty() => Ok((k.to_owned(), v.to_owned())),
            _ => Err(CliError::new(Code::Usage, format!("label {l:?} cannot be read"))
                .with_hint("write --label KEY=VALUE")),
        })
        .collect()
}

/// The script that was named or written out.
fn script(args: &TaskArgs) -> Result<String, CliError> {
    let Some(path) = &args.script else { return Ok(args.lines.clone().unwrap_or_default()) };
    if args.stdin.as_deref() == Some(Path::new("-")) && path.as_path() == Path::new("-") {
        return Err(CliError::new(Code::Usage, "standard input cannot be both script and input"));
    }
    String::from_utf8(read_stdin(path)?.0)
        .map_err(|_| CliError::new(Code::BadArgv, format!("{} is not UTF-8", path.display())))
}

fn secrets(given: &[String]) -> Result<BTreeMap<String, String>, CliError> {
    given
        .iter()
        .map(|one| match one.split_once('=') {
            Some((name, secret)) if !name.is_empty() && !secret.is_empty() => {
                Ok((name.to_owned(), secret.to_owned()))
            }
            _ => Err(CliError::new(Code::Usage, format!("{one:?} cannot be read"))
                .with_hint("write --secret-env NAME=SECRET")),
        })
        .collect()
}

fn variable(given: &OsStr) -> Result<(String, Bytes), CliError> {
    let bytes = given.as_encoded_bytes();
    let cut = bytes.iter().position(|b| *b == b'=');
    let name = cut.and_then(|at| std::str::from_utf8(&bytes[..at]).ok());
    match (cut, name) {
        (Some(at), Some(name)) => Ok((name.to_owned(), Bytes(bytes[at + 1..].to_vec()))),
        _ => Err(CliError::new(
            Code::BadEnvironment,
            format!("environment variable {given:?} cannot be read"),
        )
        .with_hint("write --env NAME=VALUE")),
    }
}

fn read_stdin(path: &Path) -> Result<Bytes, CliError> {
    let mut data = Vec::new();
    let most = SPEC_MAX as u64 + 1;
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut data)
    } else {
        std::fs::File::open(path).and_then(|f| f.take(most).read_to_end(&mut data))
    };
    read.map_err(|e| {
        CliError::new(Code::Usage, format!("{} cannot be read: {e}", path.display()))
            .with_hint("name a file that exists, or '-' for standard input")
    })?;
    if data.len() > SPEC_MAX {
        return Err(CliError::new(
            Code::TooLarge,
            format!("standard input has more than {SPEC_MAX} bytes, the most a task may have"),
        ));
    }
    Ok(Bytes(data))
}

fn retry(
    retries: Option<u32>,
    on: &[String],
    safe: bool,
) -> Result<Option<pb::RetryPolicy>, CliError> {
    let bad = |text: &str, hint: &str| CliError::new(Code::BadRetry, text).with_hint(hint);
    let on = on
        .iter()
        .map(|o| match o.as_str() {
            "exit" => Ok(pb::RetryOn::Exit.into()),
            "lost" => Ok(pb::RetryOn::Lost.into()),
            "timeout" => Ok(pb::RetryOn::Timeout.into()),
            other => Err(bad(
                &format!("{other:?} is nothing that can be retried"),
                "retry on exit, lost or timeout",
            )),
        })
        .collect::<Result<Vec<i32>, CliError>>()?;
    match retries {
        None if on.is_empty() => Ok(None),
        Some(n) if n > 0 && on.is_empty() && !safe => Err(bad(
            "retries are asked for, but nothing is named that is retried",
            "add --retry-on exit, timeout, or --safe-to-repeat",
        )),
        // Attempts include the first; 0 leaves the number to the server.
        n => Ok(Some(pb::RetryPolicy {
            max_attempts: n.map_or(0, |n| n.saturating_add(1)),
            on,
            ..Default::default()
        })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(args: TaskArgs, argv: &[&str]) -> Result<pb::TaskSpec, CliError> {
        Draft::from_args(args, argv.iter().map(Into::into).collect())?.spec()
    }

    fn with(change: impl FnOnce(&mut TaskArgs)) -> Result<pb::TaskSpec, CliError> {
        let mut args = TaskArgs::default();
        change(&mut args);
        shell(args, &["true"])
    }

    #[test]
    fn flags_become_the_specification() {
        let spec = with(|a| {
            a.env = vec!["A=1=2".into(), "B=".into()];
            a.timeout = Some("90s".into());
            a.label = vec!["k=v=w".into()];
            a.retries = Some(2);
            a.retry_on = vec!["exit".into(), "timeout".into()];
        })
        .unwrap();
        assert_eq!(spec.run_timeout_ms, 90_000);
        assert_eq!(spec.labels["k"], "v=w");
        let retry = spec.retry.unwrap();
        assert_eq!((retry.max_attempts, retry.on), (3, vec![1, 3]));
        let Some(pb::action::Kind::Shell(s)) = spec.action.unwrap().kind else { panic!("kind") };
        assert_eq!((s.env[0].name.as_str(), s.env[0].value.as_slice()), ("A", b"1=2".as_slice()));
        assert_eq!((s.env[1].name.as_str(), s.env[1].value.as_slice()), ("B", b"".as_slice()));
    }

    #[test]
    fn what_the_server_would_refuse_is_refused_here() {
        type Change = fn(&mut TaskArgs);
        let table: [(Change, Code); 11] = [
            (|a| a.require = vec!["Python".into()], Code::BadRequirement),
            (|a| a.node = Some("NODE".into()), Code::BadIdentifier),
            (|a| a.key = Some(String::new()), Code::BadKey),
            (|a| a.cwd = Some("relative".into()), Code::BadCwd),
            (|a| a.env = vec!["NOVALUE".into()], Code::BadEnvironment),
            (|a| a.timeout = Some("5".into()), Code::BadDuration),
            (|a| a.priority = 101, Code::BadPriority),
            (|a| a.retries = Some(1), Code::BadRetry),
            (|a| a.retry_on = vec!["lost".into()], Code::BadRetry),
            (|a| a.retry_on = vec!["always".into()], Code::BadRetry),
            (|a| a.label = vec!["x".into()], Code::Usage),
        ];
        for (i, (change, code)) in table.into_iter().enumerate() {
            let e = with(change).unwrap_err();
            assert!(e.is(code), "row {i}: {e:?}");
        }
        assert!(shell(TaskArgs::default(), &[""]).unwrap_err().is(Code::BadArgv));
    }

    #[test]
    fn ten_megabytes_of_arguments_are_refused() {
        let big = "x".repeat(10 * 1024 * 1024);
        assert!(shell(TaskArgs::default(), &["echo", &big]).unwrap_err().is(Code::TooLarge));
    }

    #[test]
    fn too_much_standard_input_is_refused_and_a_missing_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("in");
        std::fs::write(&path, vec![0; SPEC_MAX + 1]).unwrap();
        assert!(with(|a| a.stdin = Some(path.clone())).unwrap_err().is(Code::TooLarge));
        let missing = with(|a| a.stdin = Some("/no/such/file".into())).unwrap_err();
        assert!(missing.message.contains("/no/such/file"), "{missing:?}");
    }
}
