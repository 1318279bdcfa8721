//! Examples of what travels about the node's journal: uploads, answers, dispatches that carry its floor, and a node that
//! takes no work because of it.

use crate::examples::{Example, example};
use crate::values::{SESSION, TASK, error};
use cortex_proto::v1::*;
use prost::bytes::Bytes;

const LOG: &str = "b00459f4f810eea4976b6241f2e12c0aafeee9181f188cfed2482d21adca2851";
const NOTE: &str = "cortex.example/audit/n1/b00459f4f810eea4976b6241f2e12c0a\n5\n\
    Q5HFTyqCXYZwttEWsFWAwT4IGgRoKRlkhJRjlN+rko4=\n\n\
    \u{2014} cortex.example/audit/n1/b00459f4f810eea4976b6241f2e12c0a TLUC7ezu88Md\n";

pub(crate) fn examples() -> Vec<Example> {
    let mut all = up();
    all.extend(down());
    all.extend(kept());
    all
}

/// A commit with every event there is.
fn node_commit() -> AuditNodeCommit {
    use audit_node_event::Kind;
    let by = Some(Actor { kind: ActorKind::Human.into(), id: "ada".into(), ..Actor::default() });
    let kinds = vec![
        Kind::LogOpened(AuditLogOpened {
            log: LOG.into(),
            vkey: "v".into(),
            predecessor: LOG.into(),
        }),
        Kind::Suspected(AuditSuspected { log: LOG.into(), reason: "invalid".into(), seq: 4 }),
        Kind::Quarantined(AuditQuarantined {
            log: LOG.into(),
            code: AuditRejectCode::Rollback.into(),
            reason: "rolled back".into(),
            seq: 4,
            notes: vec![NOTE.into()],
            records: b"{}\n".to_vec(),
            records_first_seq: 3,
        }),
        Kind::Settled(AuditSettled { by: by.clone(), reason: "restored".into() }),
        Kind::LogRetired(AuditLogRetired {
            log: LOG.into(),
            size: 5,
            successor: LOG.into(),
            by,
            reason: "rekey".into(),
        }),
        Kind::Unrecorded(AuditUnrecorded {
            task_id: TASK.into(),
            attempt: 2,
            fence: 18,
            started_at_ms: 1_760_000_000_000,
            incarnation: "b00459f4f810eea4976b6241f2e12c0a".into(),
        }),
        Kind::Recorded(AuditRecorded { task_id: TASK.into(), attempt: 2 }),
        Kind::Undispatched(AuditUndispatched { log: LOG.into(), seq: 4, cmd: format!("{TASK}/2") }),
    ];
    AuditNodeCommit {
        n: 3,
        events: kinds.into_iter().map(|kind| AuditNodeEvent { kind: Some(kind) }).collect(),
        workspace: "default".into(),
        node: "desk-1".into(),
        at_ms: 1_760_000_000_500,
    }
}

/// What the mirror keeps in the log.
fn kept() -> Vec<Example> {
    let stored = AuditStored {
        first_seq: 5,
        count: 2,
        encoding: AuditEncoding::Ndjson.into(),
        records: Bytes::from_static(b"{\"seq\":5}\n{\"seq\":6}\n"),
        note: NOTE.into(),
        cosigned_note: NOTE.into(),
    };
    let signed = MirrorSigned {
        log: LOG.into(),
        size: 5,
        root: vec![7; 32],
        time_s: 1_760_000_000,
        note: NOTE.into(),
        stored_revision: 12,
    };
    let audit = NodeAudit {
        workspace: "default".into(),
        node: "desk-1".into(),
        log: LOG.into(),
        standing: AuditStanding::Quarantined.into(),
        reason: "rolled back".into(),
        cosigned_note: NOTE.into(),
        cosigned_size: 5,
        cosigned_at_ms: 1_760_000_000_000,
        stored: 9,
        evidence_notes: vec![NOTE.into()],
        unrecorded: 1,
        undispatched: 2,
    };
    vec![
        example("audit-stored", stored),
        example("audit-node-commit", node_commit()),
        example("mirror-signed", signed),
        example("node-audit", audit),
    ]
}

fn up() -> Vec<Example> {
    use agent_frame::Body;
    let agent = |name, body| example(name, AgentFrame { body: Some(body) });
    let hello = AuditHello {
        vkey: "cortex.example/audit/n1/b00459f4f810eea4976b6241f2e12c0a+4cb502ed+AYqI".into(),
        log: LOG.into(),
        size: 9,
        head_note: NOTE.into(),
        newest_cosigned: NOTE.into(),
        session_nonce: vec![7; 16],
        format: "cortex-audit/1".into(),
    };
    let batch = AuditBatch {
        id: 3,
        first_seq: 5,
        count: 2,
        encoding: AuditEncoding::Ndjson.into(),
        records: Bytes::from_static(b"{\"seq\":5}\n{\"seq\":6}\n"),
        note: NOTE.into(),
    };
    let openings = AuditOpenings {
        id: 4,
        first_seq: 5,
        count: 2,
        openings: Bytes::from_static(b"6 WyJhIl0\n"),
    };
    let evidence = AuditEvidence {
        id: 5,
        notes: vec![NOTE.into()],
        reason: "another root at 5".into(),
        ..AuditEvidence::default()
    };
    let presence =
        AuditEvidence { challenge: vec![7; 32], presence: vec![9; 64], ..evidence.clone() };
    let unable = Manifest { unable: Some(error()), ..Manifest::default() };
    let unable = Hello { manifest: Some(unable), ..Hello::default() };
    vec![
        agent("agent-hello-unable", Body::Hello(unable)),
        agent("agent-audit-hello", Body::AuditHello(hello)),
        agent("agent-audit-batch", Body::AuditBatch(batch)),
        agent("agent-audit-openings", Body::AuditOpenings(openings)),
        agent("agent-audit-evidence", Body::AuditEvidence(evidence)),
        agent("agent-audit-presence", Body::AuditEvidence(presence)),
    ]
}

fn down() -> Vec<Example> {
    use gateway_frame::Body;
    let gateway = |name, body| example(name, GatewayFrame { body: Some(body) });
    let state = AuditState {
        resume_from: 5,
        cosigned_note: NOTE.into(),
        standing: AuditStanding::Suspect.into(),
        reason: "a dispatch was not recorded".into(),
        max_batches: 4,
        openings_from: 4,
        mirror_vkey: "cortex.example/mirror/m1+8004e3a1+BIE5".into(),
        challenge: Vec::new(),
    };
    let challenge = AuditState { challenge: vec![7; 32], ..state.clone() };
    let reject = AuditReject {
        id: 3,
        code: AuditRejectCode::Fork.into(),
        seq: 5,
        detail: "another record 5 was signed".into(),
        evidence_notes: vec![NOTE.into()],
    };
    let ack = AuditAck { id: 3, cosigned_note: NOTE.into(), resume_from: 7 };
    let go = Go {
        offer_id: 9,
        workspace: "default".into(),
        task_id: TASK.into(),
        attempt: 2,
        fence: 18,
        session: SESSION.into(),
        audit_floor: NOTE.into(),
    };
    let offer = Offer { offer_id: 9, audit_floor: NOTE.into(), ..Offer::default() };
    vec![
        gateway("gateway-audit-state", Body::AuditState(state)),
        gateway("gateway-audit-challenge", Body::AuditState(challenge)),
        gateway("gateway-audit-ack", Body::AuditAck(ack)),
        gateway(
            "gateway-audit-resend",
            Body::AuditResend(AuditResend { id: 3, from: 2, after_ms: 500 }),
        ),
        gateway("gateway-audit-reject", Body::AuditReject(reject)),
        gateway(
            "gateway-audit-openings-ack",
            Body::AuditOpeningsAck(AuditOpeningsAck { id: 4, openings_from: 7 }),
        ),
        gateway("gateway-audit-evidence-ack", Body::AuditEvidenceAck(AuditEvidenceAck { id: 5 })),
        gateway("gateway-go-with-floor", Body::Go(go)),
        gateway("gateway-offer-with-floor", Body::Offer(offer)),
    ]
}
