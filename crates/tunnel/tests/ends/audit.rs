//! The audit of either end: turns, bounds, classes, answers.

use crate::gateway::{frames as gateway_frames, gateway_up};
use crate::{actions, agent_up, down, frames, offer, reconnect, up};
use cortex_model::limits::mirror::{
    AUDIT_BATCH_BYTES_MAX, AUDIT_BATCH_RECORDS_MAX, AUDIT_BATCHES_OPEN_MAX, AUDIT_NOTE_MAX,
};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AuditAck, AuditBatch, AuditEncoding, AuditEvidence, AuditHello, AuditOpenings, AuditResend,
    AuditStanding, AuditState, Claim, OutputChunk, OutputStream,
};
use cortex_model::{Tick, UnixMillis};
use cortex_tunnel::{
    AgentAction, AgentEnd, AuditDown, AuditError, AuditRoom, AuditUp, GatewayAction, GatewayEnd,
    ProtocolError,
};

const NOW: Tick = Tick(0);

fn hello() -> AuditHello {
    AuditHello {
        vkey: "v".into(),
        log: "a".repeat(64),
        head_note: "n".into(),
        session_nonce: vec![0; 16],
        ..AuditHello::default()
    }
}

fn batch(first_seq: u64) -> AuditBatch {
    AuditBatch {
        first_seq,
        count: 1,
        encoding: AuditEncoding::Ndjson.into(),
        records: "{}\n".into(),
        note: "n".into(),
        ..AuditBatch::default()
    }
}

fn state(max_batches: u32) -> AuditState {
    let standing = AuditStanding::Active.into();
    AuditState { max_batches, standing, ..AuditState::default() }
}

fn greeted_agent(max_batches: u32) -> AgentEnd {
    let mut agent = agent_up(1 << 20);
    agent.audit_hello(hello()).unwrap();
    frames(&mut agent);
    agent.handle_frame(down(Down::AuditState(state(max_batches))), NOW).unwrap();
    actions(&mut agent, NOW);
    agent
}

fn greeted_gateway() -> GatewayEnd {
    let mut gateway = gateway_up();
    gateway.handle_frame(up(Up::AuditHello(hello())), NOW).unwrap();
    let first = gateway.poll_action();
    assert_eq!(first, Some(GatewayAction::Audit(Box::new(AuditUp::Hello(hello())))));
    gateway
}

fn ack(id: u64) -> AuditDown {
    AuditDown::Ack(AuditAck { id, cosigned_note: "n".into(), resume_from: 1 })
}

#[test]
fn an_agent_uploads_after_the_answer_to_its_hello_and_no_more_than_it_was_allowed() {
    let mut agent = agent_up(1 << 20);
    assert_eq!(agent.audit_batch(batch(0)), Err(AuditError::NotNow));
    agent.audit_hello(hello()).unwrap();
    assert_eq!(agent.audit_hello(hello()), Err(AuditError::NotNow));
    assert_eq!(agent.audit_room(), AuditRoom::default());
    agent.handle_frame(down(Down::AuditState(state(2))), NOW).unwrap();
    assert_eq!(agent.audit_room(), AuditRoom { batches: 2, openings: 2, evidence: 1 });
    assert_eq!(agent.audit_batch(batch(0)), Ok(1));
    assert_eq!(agent.audit_batch(batch(1)), Ok(2));
    assert_eq!(agent.audit_batch(batch(2)), Err(AuditError::Full));
    agent.handle_frame(down(ack_frame(1)), NOW).unwrap();
    assert_eq!(agent.audit_batch(batch(2)), Ok(3));
    agent.handle_frame(down(Down::AuditState(state(0))), NOW).unwrap();
    assert_eq!(agent.audit_room().batches, 0, "the mirror asked for a pause");
    agent.handle_frame(down(Down::AuditState(state(99))), NOW).unwrap();
    assert_eq!(agent.audit_room().batches, AUDIT_BATCHES_OPEN_MAX - 2);
}

fn ack_frame(id: u64) -> Down {
    Down::AuditAck(AuditAck { id, cosigned_note: "n".into(), resume_from: 1 })
}

#[test]
fn an_answer_to_no_open_upload_is_ignored() {
    let mut agent = greeted_agent(4);
    agent.audit_batch(batch(0)).unwrap();
    for body in [
        ack_frame(7),
        Down::AuditOpeningsAck(cortex_model::proto::AuditOpeningsAck { id: 1, openings_from: 1 }),
    ] {
        agent.handle_frame(down(body), NOW).unwrap();
        assert_eq!(actions(&mut agent, NOW), []);
    }
    assert_eq!(agent.ignored(), 2);
    agent.handle_frame(down(ack_frame(1)), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::Audit(Box::new(ack(1)))]);
    agent.handle_frame(down(ack_frame(1)), NOW).unwrap();
    assert_eq!(agent.ignored(), 3, "answered twice");
}

#[test]
fn the_audit_ends_with_its_connection_and_begins_anew() {
    let mut agent = greeted_agent(4);
    agent.audit_batch(batch(0)).unwrap();
    agent.disconnected(NOW, 0);
    assert_eq!(agent.audit_hello(hello()), Err(AuditError::NotUp));
    let now = agent.poll_timeout().unwrap();
    assert_eq!(actions(&mut agent, now), [AgentAction::Connect]);
    reconnect(&mut agent, 1 << 20, now);
    assert_eq!(frames(&mut agent), [], "the batch of the old connection is not sent here");
    assert_eq!(agent.audit_batch(batch(0)), Err(AuditError::NotNow));
    agent.audit_hello(hello()).unwrap();
}

#[test]
fn control_overtakes_uploads_and_uploads_overtake_output() {
    let mut agent = greeted_agent(4);
    let key = crate::key(1);
    agent.output_available(&key, 3);
    let read = actions(&mut agent, NOW);
    assert!(matches!(read[..], [AgentAction::ReadSpool { .. }]));
    let chunk =
        OutputChunk { stream: OutputStream::Stdout.into(), offset: 0, data: vec![1; 3].into() };
    agent.output_data(&key, chunk).unwrap();
    agent.audit_batch(batch(0)).unwrap();
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    actions(&mut agent, NOW);
    agent.claim(&offer(1), 1);
    let sent = frames(&mut agent);
    assert!(
        matches!(sent[..], [Up::Claim(_), Up::AuditBatch(_), Up::Output(_)]),
        "in this order: {sent:?}"
    );
}

#[test]
fn an_agent_does_not_send_what_no_gateway_would_take() {
    let mut agent = greeted_agent(4);
    let long = "x".repeat(AUDIT_NOTE_MAX + 1);
    for (bad, field) in [
        (AuditBatch { count: 0, ..batch(0) }, "count"),
        (AuditBatch { count: AUDIT_BATCH_RECORDS_MAX + 1, ..batch(0) }, "count"),
        (AuditBatch { records: vec![7; AUDIT_BATCH_BYTES_MAX + 1].into(), ..batch(0) }, "records"),
        (AuditBatch { records: Vec::new().into(), ..batch(0) }, "records"),
        (AuditBatch { encoding: 0, ..batch(0) }, "encoding"),
        (AuditBatch { encoding: 9, ..batch(0) }, "encoding"),
        (AuditBatch { note: String::new(), ..batch(0) }, "note"),
        (AuditBatch { note: long, ..batch(0) }, "note"),
        (batch(u64::MAX), "first_seq"),
    ] {
        assert_eq!(agent.audit_batch(bad), Err(AuditError::Bad(field)));
    }
    let nothing = AuditEvidence::default();
    assert_eq!(agent.audit_evidence(nothing), Err(AuditError::Bad("notes")));
    assert_eq!(agent.audit_room().batches, 4, "nothing of it counts");
    let mut agent = agent_up(1);
    let nameless = AuditHello { log: "A".repeat(64), ..hello() };
    assert_eq!(agent.audit_hello(nameless), Err(AuditError::Bad("log")));
}

#[test]
fn a_gateway_ends_a_connection_that_uploads_out_of_turn_or_too_much() {
    let upload = |id| up(Up::AuditBatch(AuditBatch { id, ..batch(id) }));
    let mut gateway = gateway_up();
    assert!(matches!(
        gateway.handle_frame(upload(1), NOW),
        Err(ProtocolError::OutOfOrder { when: "before audit_hello", .. })
    ));
    let mut gateway = greeted_gateway();
    assert!(gateway.handle_frame(up(Up::AuditHello(hello())), NOW).is_err());
    let mut gateway = greeted_gateway();
    for id in 1..=AUDIT_BATCHES_OPEN_MAX as u64 {
        gateway.handle_frame(upload(id), NOW).unwrap();
    }
    assert!(matches!(
        gateway.handle_frame(upload(9), NOW),
        Err(ProtocolError::TooMany { limit: AUDIT_BATCHES_OPEN_MAX, .. })
    ));
    let mut gateway = greeted_gateway();
    gateway.handle_frame(upload(1), NOW).unwrap();
    assert!(gateway.handle_frame(upload(1), NOW).is_err(), "an id comes once");
    let mut gateway = greeted_gateway();
    assert!(
        gateway
            .handle_frame(up(Up::AuditBatch(AuditBatch { id: 1, ..batch(u64::MAX) })), NOW)
            .is_err()
    );
}

#[test]
fn a_gateway_answers_each_upload_once_and_only_with_what_fits() {
    let mut gateway = gateway_up();
    assert_eq!(gateway.audit(AuditDown::State(state(4))), Err(AuditError::NotNow));
    let mut gateway = greeted_gateway();
    let unknown = AuditState { standing: 9, ..state(4) };
    assert_eq!(gateway.audit(AuditDown::State(unknown)), Err(AuditError::Bad("standing")));
    let openings = AuditOpenings { id: 1, first_seq: 0, count: 1, ..AuditOpenings::default() };
    gateway.handle_frame(up(Up::AuditOpenings(openings)), NOW).unwrap();
    assert_eq!(gateway.audit(ack(1)), Err(AuditError::NotAsked), "that is for batches");
    let resend = AuditDown::Resend(AuditResend { id: 1, from: 0, after_ms: 5 });
    assert_eq!(gateway.audit(resend.clone()), Ok(()));
    assert_eq!(gateway.audit(resend), Err(AuditError::NotAsked));
    for max_batches in [1, 2, 3] {
        gateway.audit(AuditDown::State(state(max_batches))).unwrap();
    }
    let sent = gateway_frames(&mut gateway);
    let Some(Down::AuditState(newest)) = sent.first() else { panic!("no state: {sent:?}") };
    assert_eq!(newest.max_batches, 3, "only the newest state counts");
    assert!(matches!(sent[1..], [Down::AuditResend(_)]), "{sent:?}");
}

#[test]
fn every_offer_and_go_carries_the_newest_floor() {
    let mut gateway = gateway_up();
    gateway.offer(offer(1)).unwrap();
    gateway.set_audit_floor("floor 1");
    gateway.offer(offer(2)).unwrap();
    let claim = Claim {
        offer_id: 2,
        workspace: "default".into(),
        task_id: "t2".into(),
        attempt: 1,
        fence: 7,
        slots_free: 2,
    };
    gateway.handle_frame(up(Up::Claim(claim)), NOW).unwrap();
    gateway.set_audit_floor("floor 2");
    gateway.set_audit_floor(&"x".repeat(AUDIT_NOTE_MAX + 1));
    assert!(gateway.go(2, 9));
    gateway.handle_timeout(NOW, UnixMillis(1));
    let floors: Vec<String> = gateway_frames(&mut gateway)
        .into_iter()
        .filter_map(|body| match body {
            Down::Offer(offer) => Some(offer.audit_floor),
            Down::Go(go) => Some(go.audit_floor),
            _ => None,
        })
        .collect();
    assert_eq!(floors, ["", "floor 1", "floor 2"]);
}
