//! Examples of what travels between versions that are upgraded one after the other: the tunnel's
//! frames and a client's request.

use crate::examples::{Example, example};
use crate::values::{INCARNATION, SESSION, TASK, actor, error, journal_head, outcome, shell_spec};
use cortex_proto::v1::*;
use prost::bytes::Bytes;
use std::collections::BTreeMap;

const WORKSPACE: &str = "default";

pub(crate) fn examples() -> Vec<Example> {
    let request = SubmitTaskRequest {
        spec: Some(shell_spec()),
        idempotency_key: "nightly/2026-01-02".into(),
        actor: Some(actor()),
        wait_ms: 30_000,
    };
    let mut all = vec![example("submit-task-request", request), example("error", error())];
    all.extend(up());
    all.extend(down());
    all.extend(identity_down());
    all.extend(typed());
    all
}

fn typed() -> Vec<Example> {
    let (attachment, data) = (SESSION.to_owned(), b"ls\r\xff".to_vec());
    let request = TypeTerminalRequest {
        task_id: TASK.into(),
        attachment: attachment.clone(),
        attach: true,
        offset: 70_000,
        data: data.clone(),
        rows: 50,
        columns: 132,
        actor: Some(actor()),
    };
    let input = TerminalInput {
        query_id: 11,
        workspace: WORKSPACE.into(),
        task_id: TASK.into(),
        attempt: 2,
        attachment,
        attach: true,
        offset: 70_000,
        data,
        rows: 50,
        columns: 132,
        actor: Some(actor()),
    };
    let answer = TerminalAnswer {
        query_id: 11,
        standing: TerminalStanding::Taken.into(),
        accepted: 70_004,
        holder: Some(actor()),
    };
    vec![
        example("type-terminal-request", request),
        gateway("gateway-terminal-input", gateway_frame::Body::TerminalInput(input)),
        agent("agent-terminal-answer", agent_frame::Body::TerminalAnswer(answer)),
    ]
}

fn identity_down() -> Vec<Example> {
    use gateway_frame::Body;
    let accepted = TokenAccepted { expires_at_ms: 1_760_000_300_000, now_ms: 1_760_000_000_000 };
    let narrowed = Narrowed {
        revision: 8,
        applied: vec!["network none".into()],
        ignored: vec!["paths = {}: a server can only take away".into()],
    };
    let narrowed = Manifest { narrowed: Some(narrowed), ..Manifest::default() };
    let narrowed = Hello { manifest: Some(narrowed), ..Hello::default() };
    vec![
        agent("agent-hello-narrowed", agent_frame::Body::Hello(narrowed)),
        gateway("gateway-token-accepted", Body::TokenAccepted(accepted)),
        gateway("gateway-renew-now", Body::RenewNow(RenewNow { within_ms: 60_000 })),
        gateway(
            "gateway-narrowing",
            Body::Narrowing(Narrowing {
                revision: 8,
                text: "version = 1\nnetwork = \"none\"\n".into(),
                ..Narrowing::default()
            }),
        ),
    ]
}

fn agent(name: &'static str, body: agent_frame::Body) -> Example {
    example(name, AgentFrame { body: Some(body) })
}

fn gateway(name: &'static str, body: gateway_frame::Body) -> Example {
    example(name, GatewayFrame { body: Some(body) })
}

fn up() -> Vec<Example> {
    use agent_frame::Body;
    let chunk = OutputChunk {
        stream: OutputStream::Stdout.into(),
        offset: 65_536,
        data: Bytes::from_static(b"\0\x01binary\xff"),
    };
    let ended = ending::Kind::Exited(Exited { code: 1 });
    vec![
        agent("agent-hello", Body::Hello(hello())),
        agent("agent-heartbeat", Body::Heartbeat(agent_heartbeat())),
        agent(
            "agent-claim",
            Body::Claim(Claim {
                offer_id: 9,
                workspace: WORKSPACE.into(),
                task_id: TASK.into(),
                attempt: 2,
                fence: 17,
                slots_free: 3,
            }),
        ),
        agent(
            "agent-busy",
            Body::Busy(Busy {
                offer_id: 9,
                task_id: TASK.into(),
                reason: BusyReason::KnownAttempt.into(),
                slots_free: 1,
                error: Some(error()),
            }),
        ),
        agent(
            "agent-outcome",
            Body::Outcome(OutcomeReport {
                workspace: WORKSPACE.into(),
                task_id: TASK.into(),
                attempt: 2,
                fence: 18,
                outcome: Some(outcome(ended)),
            }),
        ),
        agent(
            "agent-query-answer",
            Body::QueryAnswer(QueryAnswer {
                query_id: 5,
                phase: AttemptPhase::Known.into(),
                journal: Some(journal_head()),
                incarnation: INCARNATION.into(),
            }),
        ),
        agent(
            "agent-cancel-answer",
            Body::CancelAnswer(CancelAnswer { query_id: 6, phase: AttemptPhase::Done.into() }),
        ),
        agent("agent-token-shown", Body::TokenShown(TokenShown { token: "a.b.c".into() })),
        agent("agent-leaving", Body::Leaving(Leaving { reason: "shutdown".into() })),
        agent(
            "agent-output",
            Body::Output(OutputReport {
                workspace: WORKSPACE.into(),
                task_id: TASK.into(),
                attempt: 2,
                chunk: Some(chunk),
            }),
        ),
    ]
}

fn hello() -> Hello {
    let python = Capability {
        name: "python".into(),
        version: "3.11.2".into(),
        path: "/usr/bin/python3".into(),
    };
    Hello {
        min_version: 1,
        max_version: 2,
        node: "desk-1".into(),
        incarnation: INCARNATION.into(),
        session: SESSION.into(),
        generation: 4,
        manifest: Some(Manifest {
            hostname: "desk".into(),
            os: "linux".into(),
            arch: "x86_64".into(),
            cpus: 8,
            memory_bytes: 1 << 34,
            capabilities: vec![python],
            labels: BTreeMap::from([("site".into(), "home".into())]),
            kernel: "6.1.0".into(),
            unable: None,
            narrowed: None,
        }),
        journal: Some(journal_head()),
        attempts: vec![KnownAttempt {
            workspace: WORKSPACE.into(),
            task_id: TASK.into(),
            attempt: 2,
            phase: AttemptPhase::Claiming.into(),
        }],
        slots: 4,
        slots_free: 3,
        agent_version: "0.1.0".into(),
    }
}

fn agent_heartbeat() -> AgentHeartbeat {
    AgentHeartbeat { seq: 77, slots: 4, slots_free: 2, journal: Some(journal_head()) }
}

fn down() -> Vec<Example> {
    use gateway_frame::Body;
    let (workspace, task_id) = (WORKSPACE.to_owned(), TASK.to_owned());
    let ack = OutcomeAck { workspace: workspace.clone(), task_id: task_id.clone(), attempt: 2 };
    let go = Go {
        offer_id: 9,
        workspace: workspace.clone(),
        task_id: task_id.clone(),
        attempt: 2,
        fence: 18,
        session: SESSION.into(),
        ..Go::default()
    };
    let query =
        Query { query_id: 5, workspace: workspace.clone(), task_id: task_id.clone(), attempt: 2 };
    let cancel = Cancel {
        workspace: workspace.clone(),
        task_id: task_id.clone(),
        attempt: 2,
        reason: "not needed".into(),
        query_id: 6,
    };
    let no_go = NoGo { offer_id: 9, task_id: task_id.clone(), attempt: 2, error: Some(error()) };
    let output_ack =
        OutputAck { workspace, task_id, attempt: 2, offset: 65_536, resend: true, discard: true };
    vec![
        gateway("gateway-welcome", Body::Welcome(welcome())),
        gateway(
            "gateway-heartbeat",
            Body::Heartbeat(GatewayHeartbeat { seq: 78, now_ms: 1_760_000_000_500 }),
        ),
        gateway("gateway-offer", Body::Offer(offer())),
        gateway("gateway-go", Body::Go(go)),
        gateway("gateway-no-go", Body::NoGo(no_go)),
        gateway("gateway-outcome-ack", Body::OutcomeAck(ack)),
        gateway("gateway-query", Body::Query(query)),
        gateway("gateway-cancel", Body::Cancel(cancel)),
        gateway("gateway-drain", Body::Drain(Drain { grace_ms: 5_000 })),
        gateway(
            "gateway-refuse",
            Body::Refuse(Refuse { error: Some(error()), retry_after_ms: 2_000 }),
        ),
        gateway("gateway-output-ack", Body::OutputAck(output_ack)),
        gateway("gateway-credit", Body::Credit(Credit { output_bytes: 262_144 })),
    ]
}

fn welcome() -> Welcome {
    Welcome {
        version: 1,
        gateway: "gateway-1".into(),
        heartbeat_ms: 1_000,
        dead_after_ms: 3_000,
        output_credit: 1 << 20,
        min_backoff_ms: 100,
        workspace: WORKSPACE.into(),
        now_ms: 1_760_000_000_000,
        token_expires_at_ms: 0,
    }
}

fn offer() -> Offer {
    Offer {
        workspace: WORKSPACE.into(),
        task_id: TASK.into(),
        idempotency_key: "nightly/2026-01-02".into(),
        attempt: 2,
        fence: 17,
        spec: Some(shell_spec()),
        actor: Some(actor()),
        capability_required: vec!["shell".into()],
        deadline_at_ms: 1_760_003_600_000,
        run_timeout_ms: 90_000,
        output_limit_bytes: 1 << 33,
        offer_id: 9,
        ..Offer::default()
    }
}
