//! Operations on files as tasks: submitted, followed to their end, and what the node told read back. It decides nothing
//! about files itself.

use crate::client::{Target, required};
use crate::commands::Session;
use crate::commands::run::finish;
use crate::commands::task::submit::submit;
use crate::error::CliError;
use crate::follow::{Follower, Show};
use crate::{duration, render};
use clap::Args;
use cortex_agent::files::{Done, Failed, Last};
use cortex_model::limits::FILE_PIECE_MAX;
use cortex_model::{Code, FileOp, proto as pb, wire};
use std::io::Read;
use std::path::Path;

/// Exit code when the node could not do what was asked for.
pub(crate) const NOT_DONE: u8 = 1;

/// Flags that every operation takes.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct Where {
    /// On this node only
    #[arg(long, value_name = "NODE")]
    pub(crate) node: Option<String>,
    /// What the node must have: NAME, NAME=VALUE or NAME>=VERSION; repeat for more
    #[arg(long, value_name = "CAPABILITY")]
    pub(crate) require: Vec<String>,
    /// Idempotency key: the same key and request is the same task, for ever
    #[arg(long, value_name = "KEY")]
    pub(crate) key: Option<String>,
    /// Give the whole task up this long after its submission: 90s, 15m, 2h
    #[arg(long, value_name = "DURATION")]
    pub(crate) deadline: Option<String>,
}

/// An operation that is to be done.
pub(crate) struct Operation<'a> {
    pub(crate) path: &'a [u8],
    pub(crate) op: FileOp,
    /// Repeating it does no harm.
    pub(crate) repeatable: bool,
    pub(crate) key: Option<String>,
}

/// What came of an operation.
pub(crate) enum Came {
    /// It was done.
    Done(Box<Told>),
    /// The node tried and could not.
    Failed(CliError),
    /// It never got that far: the exit code; why was said.
    Ended(u8),
}

/// What the node told.
pub(crate) struct Told {
    pub(crate) task_id: String,
    pub(crate) done: Done,
    pub(crate) stdout: Vec<u8>,
}

/// Does an operation and waits for its end.
///
/// # Errors
/// The server's, and an answer of the node that cannot be read.
pub(crate) async fn perform(
    session: &Session,
    target: &Target,
    place: &Where,
    operation: Operation<'_>,
) -> Result<Came, CliError> {
    let spec = spec(place, &operation)?;
    let submitted = submit(target, spec, operation.key, session.actor()?).await?;
    let task = required(submitted.task)?;
    let mut follower = Follower::new(target.clone(), &task.task_id, Show::Keep);
    let task = follower.until_over().await?;
    let kept = follower.kept();
    let told = kept.stderr.split(|byte| *byte == b'\n').rfind(|line| !line.is_empty());
    let last = told.and_then(|line| serde_json::from_slice::<Last>(line).ok());
    let ending = task.outcome.as_ref().and_then(|o| o.ending.as_ref()?.kind.as_ref());
    match (ending, last) {
        (Some(pb::ending::Kind::Exited(_)), Some(Last::Error(failed))) => {
            Ok(Came::Failed(failure(failed)))
        }
        (Some(pb::ending::Kind::Exited(e)), Some(Last::Done(done))) if e.code == 0 => {
            let (task_id, stdout) = (task.task_id, kept.stdout);
            Ok(Came::Done(Box::new(Told { task_id, done, stdout })))
        }
        (Some(pb::ending::Kind::Exited(_)), _) => {
            let why = format!("what the node told of task {} is not there any more", task.task_id);
            Ok(Came::Failed(CliError::new(Code::FileFailed, why)))
        }
        _ => Ok(Came::Ended(finish(session, &task)?)),
    }
}

fn failure(failed: Failed) -> CliError {
    let Failed { code, message, hint, retryable } = failed;
    CliError { code, message, hint, retryable, broken_pipe: false }
}

fn spec(place: &Where, operation: &Operation<'_>) -> Result<pb::TaskSpec, CliError> {
    let file = pb::FileAction { path: operation.path.to_vec(), op: Some(operation.op.clone()) };
    let spec = pb::TaskSpec {
        action: Some(pb::Action { kind: Some(pb::action::Kind::File(file)) }),
        require: place.require.clone(),
        node: place.node.clone().unwrap_or_default(),
        safe_to_repeat: operation.repeatable,
        deadline_ms: place.deadline.as_deref().map_or(Ok(0), duration::parse)?,
        ..pb::TaskSpec::default()
    };
    wire::task::spec(spec.clone())?;
    Ok(spec)
}

/// Says why an operation was not done, and gives the exit code.
pub(crate) fn not_done(session: &Session, error: &CliError) -> u8 {
    render::say_error(&error.text(session.json()));
    NOT_DONE
}

/// 64 hex digits as bytes.
///
/// # Errors
/// `CX-0803`.
pub(crate) fn digest(text: Option<&str>) -> Result<Vec<u8>, CliError> {
    let Some(text) = text else { return Ok(Vec::new()) };
    let bad = || {
        CliError::new(Code::Usage, format!("{text:?} is not a SHA-256"))
            .with_hint("write 64 hex digits, as 'cortex fs stat --sha256' prints them")
    };
    if text.len() != 64 || !text.is_ascii() {
        return Err(bad());
    }
    let pairs = (0..32).map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16));
    pairs.collect::<Result<_, _>>().map_err(|_| bad())
}

/// Permission bits in octal.
///
/// # Errors
/// `CX-0803`.
pub(crate) fn mode(text: Option<&str>) -> Result<u32, CliError> {
    let Some(text) = text else { return Ok(0) };
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode > 0 && mode <= 0o777 => Ok(mode),
        Ok(_) | Err(_) => Err(CliError::new(Code::Usage, format!("{text:?} is not a mode"))
            .with_hint("write permission bits in octal, for example 644")),
    }
}

/// What a file of ours, or standard input, brings.
///
/// # Errors
/// It cannot be read, or is more than one task can carry.
pub(crate) fn input(path: &Path) -> Result<Vec<u8>, CliError> {
    let (mut data, most) = (Vec::new(), FILE_PIECE_MAX as u64 + 1);
    let read = if path.as_os_str() == "-" {
        std::io::stdin().lock().take(most).read_to_end(&mut data)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(most).read_to_end(&mut data))
    };
    read.map_err(|err| {
        CliError::new(Code::Usage, format!("{} cannot be read: {err}", path.display()))
    })?;
    if data.len() > FILE_PIECE_MAX {
        let message = format!("there are more than {FILE_PIECE_MAX} bytes");
        return Err(
            CliError::new(Code::TooLarge, message).with_hint("copy it: cortex cp LOCAL NODE:PATH")
        );
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_and_modes_are_read_strictly() {
        assert_eq!(digest(Some(&"0f".repeat(32))).unwrap(), vec![15; 32]);
        assert_eq!(digest(None).unwrap(), Vec::<u8>::new());
        for bad in ["", "0f", &"zz".repeat(32), &"ü".repeat(32), &"+f".repeat(31)] {
            assert!(digest(Some(bad)).is_err(), "{bad}");
        }
        assert_eq!(mode(Some("755")).unwrap(), 0o755);
        for bad in ["0", "1777", "9", "rw", ""] {
            assert!(mode(Some(bad)).is_err(), "{bad}");
        }
    }
}
