//! How a task's end becomes the exit code of `run` and `task watch`. A pure table; it never reports
//! 0 for anything but a task that succeeded.

use cortex_model::Code;
use cortex_model::proto::ending::Kind;
use cortex_model::proto::{Task, TaskState};

/// Nobody knows how it ended.
pub(crate) const INDETERMINATE: u8 = 123;
/// A timeout or the deadline struck.
pub(crate) const TIMEOUT: u8 = 124;
/// Cortex itself failed.
pub(crate) const CORTEX: u8 = 125;
/// The node's owner does not allow it.
pub(crate) const DENIED: u8 = 126;
/// The node has no such program.
pub(crate) const NOT_FOUND: u8 = 127;
/// Cancelled.
pub(crate) const CANCELLED: u8 = 130;
/// Whoever read the output is gone (128 + SIGPIPE).
pub(crate) const PIPE: u8 = 141;
/// Failed by an operator's word, without an exit code.
const FAILED: u8 = 1;

/// The exit code for a task as it stands.
pub(crate) fn of_task(task: &Task) -> u8 {
    let ending = task.outcome.as_ref().and_then(|o| o.ending.as_ref()?.kind.as_ref());
    match TaskState::try_from(task.state).unwrap_or(TaskState::Unspecified) {
        TaskState::Succeeded => 0,
        TaskState::Indeterminate => INDETERMINATE,
        TaskState::Cancelled => CANCELLED,
        TaskState::Denied => DENIED,
        TaskState::Expired => TIMEOUT,
        TaskState::Failed => of_failure(ending),
        TaskState::Unspecified | TaskState::Pending | TaskState::Running => CORTEX,
    }
}

fn of_failure(ending: Option<&Kind>) -> u8 {
    match ending {
        // Codes beyond a byte exist on other systems; they must not become 0 or another meaning.
        Some(Kind::Exited(e)) => match u8::try_from(e.code) {
            Ok(0) => FAILED,
            Ok(code) => code,
            Err(_) => u8::MAX,
        },
        Some(Kind::Signaled(s)) => u8::try_from(s.signal.saturating_add(128)).unwrap_or(u8::MAX),
        Some(Kind::SpawnFailed(f)) => {
            let code = f.error.as_ref().map_or("", |e| e.code.as_str());
            if code == Code::ProgramNotFound.as_str() { NOT_FOUND } else { CORTEX }
        }
        Some(Kind::Timeout(_) | Kind::Expired(_)) => TIMEOUT,
        Some(Kind::Cancelled(_)) => CANCELLED,
        Some(Kind::Denied(_)) => DENIED,
        Some(Kind::Interrupted(_)) | None => FAILED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortex_model::proto as pb;

    fn ended(state: TaskState, kind: Option<Kind>) -> u8 {
        let outcome = pb::Outcome { ending: Some(pb::Ending { kind }), ..Default::default() };
        of_task(&Task { state: state.into(), outcome: Some(outcome), ..Default::default() })
    }

    fn spawn_failed(code: &str) -> Kind {
        let error = Some(pb::Error { code: code.into(), ..Default::default() });
        Kind::SpawnFailed(pb::SpawnFailed { error })
    }

    #[test]
    fn every_ending_has_its_exit_code() {
        use TaskState::*;
        let exited = |code| Some(Kind::Exited(pb::Exited { code }));
        let table = [
            (Succeeded, exited(0), 0),
            (Succeeded, None, 0),
            (Failed, exited(1), 1),
            (Failed, exited(42), 42),
            (Failed, exited(255), 255),
            (Failed, exited(256), 255),
            (Failed, exited(-1), 255),
            (Failed, exited(0), 1),
            (Failed, None, 1),
            (Failed, Some(Kind::Interrupted(pb::Interrupted::default())), 1),
            (Failed, Some(Kind::Signaled(pb::Signaled { signal: 9 })), 137),
            (Failed, Some(Kind::Signaled(pb::Signaled { signal: 15 })), 143),
            (Failed, Some(Kind::Signaled(pb::Signaled { signal: i32::MAX })), 255),
            (Failed, Some(spawn_failed("CX-0402")), 127),
            (Failed, Some(spawn_failed("CX-0403")), 125),
            (Failed, Some(Kind::Timeout(pb::TimedOut { after_ms: 1 })), 124),
            (Cancelled, Some(Kind::Cancelled(pb::Cancelled::default())), 130),
            (Denied, Some(Kind::Denied(pb::Denied::default())), 126),
            (Expired, Some(Kind::Expired(pb::Expired::default())), 124),
            (Indeterminate, None, 123),
            (Indeterminate, Some(Kind::Interrupted(pb::Interrupted::default())), 123),
            (Pending, None, 125),
            (Running, None, 125),
            (Unspecified, None, 125),
        ];
        for (state, kind, code) in table {
            assert_eq!(ended(state, kind.clone()), code, "{state:?} {kind:?}");
        }
    }
}
