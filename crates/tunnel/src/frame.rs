//! Frames: the key they name, their checks, their names. It decides only what one frame alone can
//! show; whether it may come now is decided by the ends.

use crate::error::ProtocolError;
use cortex_model::limits::{
    CONSENT_CLASSES_MAX, CONSENT_WORD_MAX, INLINE_OUTPUT_MAX, OUTPUT_CHUNK_MAX,
};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AgentFrame, ConsentAnswer, ConsentReport, GatewayFrame, OutcomeReport, OutputChunk,
    OutputReport, OutputStream,
};
use cortex_model::{AttemptKey, TaskId, TaskKey, Workspace};

pub(crate) fn up(body: Up) -> AgentFrame {
    AgentFrame { body: Some(body) }
}

pub(crate) fn boxed(body: Down) -> Box<GatewayFrame> {
    Box::new(GatewayFrame { body: Some(body) })
}

/// The key that a frame names, if its parts can be one.
pub(crate) fn key(
    frame: &'static str,
    workspace: &str,
    task_id: &str,
    attempt: u32,
) -> Result<AttemptKey, ProtocolError> {
    let bad = |field| ProtocolError::BadField { frame, field };
    let workspace = Workspace::parse(workspace).map_err(|_| bad("workspace"))?;
    let task = TaskId::parse(task_id).map_err(|_| bad("task_id"))?;
    if attempt == 0 {
        return Err(bad("attempt"));
    }
    Ok(AttemptKey { task: TaskKey { workspace, task }, attempt })
}

/// Whether a frame that names these parts means this key.
pub(crate) fn names(key: &AttemptKey, workspace: &str, task_id: &str, attempt: u32) -> bool {
    key.attempt == attempt
        && key.task.task.as_str() == task_id
        && key.task.workspace.as_str() == workspace
}

/// A chunk must name a stream and hold 1 to `OUTPUT_CHUNK_MAX` bytes.
pub(crate) fn check_chunk(chunk: &OutputChunk) -> Result<(), ProtocolError> {
    let bad = |field| Err(ProtocolError::BadField { frame: "output", field });
    match OutputStream::try_from(chunk.stream) {
        Ok(OutputStream::Stdout | OutputStream::Stderr) => {}
        Ok(OutputStream::Unspecified) | Err(_) => return bad("stream"),
    }
    if chunk.data.is_empty() || chunk.data.len() > OUTPUT_CHUNK_MAX {
        return bad("data");
    }
    if chunk.offset.checked_add(chunk.data.len() as u64).is_none() {
        return bad("offset");
    }
    Ok(())
}

pub(crate) fn check_outcome(report: &OutcomeReport) -> Result<AttemptKey, ProtocolError> {
    let bad = |field| ProtocolError::BadField { frame: "outcome", field };
    let key = key("outcome", &report.workspace, &report.task_id, report.attempt)?;
    let outcome = report.outcome.as_ref().ok_or(bad("outcome"))?;
    let inline: usize = outcome.inline_output.iter().map(|chunk| chunk.data.len()).sum();
    if inline > INLINE_OUTPUT_MAX {
        return Err(bad("inline_output"));
    }
    Ok(key)
}

/// A report about consent names an attempt and a question, and is short.
pub(crate) fn check_consent(report: &ConsentReport) -> Result<AttemptKey, ProtocolError> {
    let bad = |field| Err(ProtocolError::BadField { frame: "consent", field });
    let key = key("consent", &report.workspace, &report.task_id, report.attempt)?;
    if report.question == 0 {
        return bad("question");
    }
    if report.rule.len() > CONSENT_WORD_MAX {
        return bad("rule");
    }
    let long = |class: &String| class.len() > CONSENT_WORD_MAX;
    if report.classes.len() > CONSENT_CLASSES_MAX || report.classes.iter().any(long) {
        return bad("classes");
    }
    if ConsentAnswer::try_from(report.answer).is_err() {
        return bad("answer");
    }
    Ok(key)
}

pub(crate) fn output_report(key: &AttemptKey, chunk: OutputChunk) -> OutputReport {
    OutputReport {
        workspace: key.task.workspace.as_str().into(),
        task_id: key.task.task.as_str().into(),
        attempt: key.attempt,
        chunk: Some(chunk),
    }
}

/// The frame's name in errors.
pub(crate) fn up_name(body: &Up) -> &'static str {
    match body {
        Up::Hello(_) => "hello",
        Up::Heartbeat(_) => "heartbeat",
        Up::Claim(_) => "claim",
        Up::Busy(_) => "busy",
        Up::Outcome(_) => "outcome",
        Up::QueryAnswer(_) => "query_answer",
        Up::CancelAnswer(_) => "cancel_answer",
        Up::Leaving(_) => "leaving",
        Up::TokenShown(_) => "token_shown",
        Up::TerminalAnswer(_) => "terminal_answer",
        Up::AuditHello(_) => "audit_hello",
        Up::AuditBatch(_) => "audit_batch",
        Up::AuditOpenings(_) => "audit_openings",
        Up::AuditEvidence(_) => "audit_evidence",
        Up::Consent(_) => "consent",
        Up::Output(_) => "output",
    }
}

/// The frame's name in errors.
pub(crate) fn down_name(body: &Down) -> &'static str {
    match body {
        Down::Welcome(_) => "welcome",
        Down::Heartbeat(_) => "heartbeat",
        Down::Offer(_) => "offer",
        Down::Go(_) => "go",
        Down::NoGo(_) => "no_go",
        Down::OutcomeAck(_) => "outcome_ack",
        Down::Query(_) => "query",
        Down::Cancel(_) => "cancel",
        Down::Drain(_) => "drain",
        Down::Refuse(_) => "refuse",
        Down::OutputAck(_) => "output_ack",
        Down::Credit(_) => "credit",
        Down::TokenAccepted(_) => "token_accepted",
        Down::RenewNow(_) => "renew_now",
        Down::Narrowing(_) => "narrowing",
        Down::TerminalInput(_) => "terminal_input",
        Down::AuditState(_) => "audit_state",
        Down::AuditAck(_) => "audit_ack",
        Down::AuditResend(_) => "audit_resend",
        Down::AuditReject(_) => "audit_reject",
        Down::AuditOpeningsAck(_) => "audit_openings_ack",
        Down::AuditEvidenceAck(_) => "audit_evidence_ack",
        Down::ConsentAck(_) => "consent_ack",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chunk(stream: OutputStream, offset: u64, length: usize) -> OutputChunk {
        OutputChunk { stream: stream.into(), offset, data: vec![7; length].into() }
    }

    #[test]
    fn a_chunk_names_a_stream_and_holds_one_byte_to_64_kib() {
        for (stream, offset, length, ok) in [
            (OutputStream::Stdout, 0, 1, true),
            (OutputStream::Stderr, 9, OUTPUT_CHUNK_MAX, true),
            (OutputStream::Stdout, 0, 0, false),
            (OutputStream::Stdout, 0, OUTPUT_CHUNK_MAX + 1, false),
            (OutputStream::Unspecified, 0, 1, false),
            (OutputStream::Stdout, u64::MAX, 1, false),
        ] {
            let got = check_chunk(&chunk(stream, offset, length)).is_ok();
            assert_eq!(got, ok, "{stream:?} {offset} {length}");
        }
    }

    #[test]
    fn a_key_is_made_of_identifiers_and_an_attempt_from_1() {
        for (workspace, task, attempt, field) in [
            ("w", "t", 1, None),
            ("", "t", 1, Some("workspace")),
            ("w", "T", 1, Some("task_id")),
            ("w", "t", 0, Some("attempt")),
        ] {
            let wanted = field.map(|field| ProtocolError::BadField { frame: "claim", field });
            assert_eq!(key("claim", workspace, task, attempt).err(), wanted);
        }
    }

    #[test]
    fn an_outcome_without_content_or_with_too_much_inline_output_is_refused() {
        let mut report = OutcomeReport {
            workspace: "w".into(),
            task_id: "t".into(),
            attempt: 1,
            fence: 1,
            outcome: None,
        };
        assert!(check_outcome(&report).is_err());
        report.outcome = Some(cortex_model::proto::Outcome::default());
        assert!(check_outcome(&report).is_ok());
        let half = chunk(OutputStream::Stdout, 0, INLINE_OUTPUT_MAX / 2 + 1);
        report.outcome.as_mut().unwrap().inline_output = vec![half.clone()];
        assert!(check_outcome(&report).is_ok());
        report.outcome.as_mut().unwrap().inline_output.push(half);
        assert!(check_outcome(&report).is_err());
    }
}
