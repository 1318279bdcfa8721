//! Reads secret values for tasks. A file of secrets that others can read is not one.

use cortex_agent_core::policy::{Secret, SecretRef};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Longest secret value, bytes.
const MAX: u64 = 64 * 1024;

/// How long the keyring may take: one that is locked may ask somebody who is not there.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether the keyring has answered.
const LOOK: Duration = Duration::from_millis(10);

/// The value, or why there is none. Never says anything of a value.
pub(super) fn read(reference: &SecretRef) -> Result<Secret, String> {
    let value = match reference {
        SecretRef::File(path) => {
            let shown = path.display();
            let file = std::fs::File::open(path).map_err(|err| format!("{shown}: {err}"))?;
            let meta = file.metadata().map_err(|err| format!("{shown}: {err}"))?;
            if meta.mode() & 0o077 != 0 {
                return Err(format!("{shown} can be read by others; run: chmod 600 {shown}"));
            }
            let mut value = Vec::new();
            file.take(MAX + 1).read_to_end(&mut value).map_err(|err| format!("{shown}: {err}"))?;
            value
        }
        SecretRef::Keyring(entry) => keyring(entry)?,
    };
    let end = value.iter().rposition(|byte| !matches!(byte, b'\n' | b'\r')).map_or(0, |at| at + 1);
    match &value[..end] {
        [] => Err("it is empty".to_owned()),
        value if value.len() as u64 > MAX => Err("it is too long".to_owned()),
        value if value.contains(&0) => Err("it has a NUL byte".to_owned()),
        value => Ok(Secret(value.to_vec())),
    }
}

/// Asks the desktop's keyring through its own program.
fn keyring(entry: &str) -> Result<Vec<u8>, String> {
    let (program, arguments): (&[u8], [&str; 3]) = if cfg!(target_os = "macos") {
        (b"/usr/bin/security", ["find-generic-password", "-ws", entry])
    } else {
        (b"secret-tool", ["lookup", "cortex", entry])
    };
    let program =
        super::resolve_program(program).map_err(|_| "this machine has no keyring".to_owned())?;
    let mut command = Command::new(&program.path);
    match answer(command.args(arguments), PATIENCE)? {
        Some(value) => Ok(value),
        None => Err(format!("the keyring has no entry {entry:?}")),
    }
}

/// What a program prints that must succeed; `None` if it does not. More than a pipe holds is not waited for.
fn answer(command: &mut Command, patience: Duration) -> Result<Option<Vec<u8>>, String> {
    let failed = |err: std::io::Error| format!("the keyring cannot be asked: {err}");
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().map_err(failed)?;
    let until = Instant::now() + patience;
    let status = loop {
        match child.try_wait().map_err(failed)? {
            Some(status) => break status,
            None if Instant::now() < until => sleep(LOOK),
            None => {
                child.kill().and_then(|()| child.wait()).map_err(failed)?;
                return Err("the keyring does not answer; is it locked?".to_owned());
            }
        }
    };
    let mut value = Vec::new();
    if let Some(output) = child.stdout.take() {
        output.take(MAX + 1).read_to_end(&mut value).map_err(failed)?;
    }
    Ok(status.success().then_some(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keyring_that_does_not_answer_is_not_waited_for_without_end() {
        let ask =
            |script: &str, patience| answer(Command::new("sh").args(["-c", script]), patience);
        let long = Duration::from_secs(60);
        assert_eq!(ask("printf value", long), Ok(Some(b"value".to_vec())));
        assert_eq!(ask("printf value; exit 1", long), Ok(None));
        let silent = ask("exec sleep 1000", Duration::from_millis(50));
        assert_eq!(silent, Err("the keyring does not answer; is it locked?".to_owned()));
    }
}
