//! Reads secret values for tasks. A file of secrets that others can read is not one.

use cortex_agent_core::policy::{Secret, SecretRef};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::process::{Command, Stdio};

/// Longest secret value, bytes.
const MAX: u64 = 64 * 1024;

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
    let output = Command::new(&program.path)
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .map_err(|err| format!("the keyring cannot be asked: {err}"))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(format!("the keyring has no entry {entry:?}"))
    }
}
