//! The gateway's end: handshake, offers, credit, bounds.

use crate::{hello, key, offer, outcome, up};
use cortex_model::limits::{
    FRAME_QUEUE_MAX, HANDSHAKE_TIMEOUT_MS, OPEN_OFFERS_MAX, OPEN_QUERIES_MAX,
    OUTCOMES_IN_FLIGHT_MAX, OUTPUT_CHUNK_MAX, OUTPUT_WINDOW,
};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AgentFrame, AgentHeartbeat, Busy, Claim, Error, Hello, Leaving, OutputChunk, OutputReport,
    OutputStream, Query, QueryAnswer,
};
use cortex_model::{Code, Fault, Tick, UnixMillis};
use cortex_tunnel::{
    AckMode, CloseReason, GatewayAction, GatewayConfig, GatewayEnd, OfferError, ProtocolError,
};
use std::sync::Arc;

const NOW: Tick = Tick(0);
const WALL: UnixMillis = UnixMillis(77);

pub(crate) fn new_gateway() -> GatewayEnd {
    GatewayEnd::new(Arc::new(GatewayConfig::new("g1")), NOW)
}

/// A gateway's end that welcomed its agent, with all that led to it taken.
pub(crate) fn gateway_up() -> GatewayEnd {
    let mut gateway = new_gateway();
    gateway.handle_frame(up(Up::Hello(hello())), NOW).unwrap();
    assert_eq!(actions(&mut gateway), [GatewayAction::Hello(Box::new(hello()))]);
    assert!(gateway.accept("default", NOW, WALL));
    assert!(matches!(frames(&mut gateway)[..], [Down::Welcome(_), Down::Heartbeat(_)]));
    gateway
}

fn actions(gateway: &mut GatewayEnd) -> Vec<GatewayAction> {
    std::iter::from_fn(|| gateway.poll_action()).collect()
}

pub(crate) fn frames(gateway: &mut GatewayEnd) -> Vec<Down> {
    std::iter::from_fn(|| gateway.poll_frame()).filter_map(|frame| frame.body).collect()
}

fn claim(id: u64) -> AgentFrame {
    up(Up::Claim(Claim {
        offer_id: id,
        workspace: "default".into(),
        task_id: format!("t{id}"),
        attempt: 1,
        fence: 7,
        slots_free: 2,
    }))
}

fn output(offset: u64, length: usize) -> AgentFrame {
    let stream = OutputStream::Stdout.into();
    let chunk = Some(OutputChunk { stream, offset, data: vec![1; length].into() });
    let (workspace, task_id) = ("default".into(), "t1".into());
    up(Up::Output(OutputReport { workspace, task_id, attempt: 1, chunk }))
}

#[test]
fn a_report_about_a_task_of_another_workspace_ends_the_connection() {
    let foreign = cortex_model::proto::OutcomeReport { workspace: "other".into(), ..outcome(1) };
    let stream = OutputStream::Stdout.into();
    let chunk = Some(OutputChunk { stream, offset: 0, data: vec![1].into() });
    let (workspace, task_id) = ("other".into(), "t1".into());
    let output = OutputReport { workspace, task_id, attempt: 1, chunk };
    for (frame, body) in [("outcome", Up::Outcome(foreign)), ("output", Up::Output(output))] {
        let mut gateway = gateway_up();
        let wanted = ProtocolError::BadField { frame, field: "workspace" };
        assert_eq!(gateway.handle_frame(up(body), NOW), Err(wanted.clone()));
        assert_eq!(why_closed(&mut gateway), CloseReason::Protocol(wanted));
    }
}

fn query(id: u64) -> Query {
    Query { query_id: id, workspace: "default".into(), task_id: "t1".into(), attempt: 1 }
}

fn why_closed(gateway: &mut GatewayEnd) -> CloseReason {
    let Some(GatewayAction::Close { why, last }) = actions(gateway).pop() else {
        panic!("not closed")
    };
    if let Some(last) = last {
        assert!(matches!(last.body, Some(Down::Refuse(_))));
    }
    assert!(!gateway.has_frame() && gateway.poll_frame().is_none());
    assert_eq!(gateway.poll_timeout(), None);
    why
}

#[test]
fn the_welcome_is_the_first_frame_and_says_what_was_configured() {
    let mut gateway = new_gateway();
    assert!(!gateway.accept("default", NOW, WALL), "nobody said hello");
    gateway.handle_frame(up(Up::Hello(hello())), NOW).unwrap();
    assert!(!gateway.has_frame());
    assert!(gateway.accept("default", NOW, WALL));
    assert!(!gateway.accept("default", NOW, WALL));
    let Some(Down::Welcome(welcome)) = gateway.poll_frame().unwrap().body else { panic!() };
    assert_eq!((welcome.version, welcome.gateway.as_str()), (1, "g1"));
    assert_eq!((welcome.heartbeat_ms, welcome.dead_after_ms), (1_000, 3_000));
    assert_eq!((welcome.output_credit, welcome.now_ms), (OUTPUT_WINDOW, 77));
}

#[test]
fn anything_before_hello_or_before_the_decision_breaks_the_protocol() {
    let bad_hello = Hello { node: "N 1".into(), ..hello() };
    for (frame, after_hello) in [
        (claim(1), false),
        (AgentFrame { body: None }, false),
        (up(Up::Hello(bad_hello)), false),
        (claim(1), true),
        (up(Up::Hello(hello())), true),
    ] {
        let mut gateway = new_gateway();
        if after_hello {
            gateway.handle_frame(up(Up::Hello(hello())), NOW).unwrap();
        }
        let error = gateway.handle_frame(frame, NOW).unwrap_err();
        assert_eq!(why_closed(&mut gateway), CloseReason::Protocol(error));
    }
    let mut gateway = gateway_up();
    assert!(gateway.handle_frame(up(Up::Hello(hello())), NOW).is_err());
}

#[test]
fn an_agent_of_another_version_is_refused_in_words_before_its_hello_is_read() {
    let mut gateway = new_gateway();
    let newer = Hello { min_version: 2, max_version: 3, node: String::new(), ..hello() };
    gateway.handle_frame(up(Up::Hello(newer)), NOW).unwrap();
    let Some(GatewayAction::Close { why: CloseReason::NoCommonVersion, last: Some(last) }) =
        gateway.poll_action()
    else {
        panic!("not refused")
    };
    let Some(Down::Refuse(refuse)) = last.body else { panic!("no refusal") };
    let error = refuse.error.unwrap();
    assert_eq!(error.code, "CX-0301");
    assert!(error.message.contains("speaks 2 to 3, this gateway 1"), "{}", error.message);
    assert!(error.hint.contains("upgrade the gateway"), "{}", error.hint);
    assert!(!error.retryable && refuse.retry_after_ms >= 10_000);
}

#[test]
fn hello_and_its_decision_have_a_deadline() {
    for said_hello in [false, true] {
        let mut gateway = new_gateway();
        if said_hello {
            gateway.handle_frame(up(Up::Hello(hello())), Tick(5)).unwrap();
        }
        assert_eq!(gateway.poll_timeout(), Some(Tick(HANDSHAKE_TIMEOUT_MS)));
        gateway.handle_timeout(Tick(HANDSHAKE_TIMEOUT_MS), WALL);
        assert_eq!(why_closed(&mut gateway), CloseReason::HandshakeTimeout);
        assert!(!gateway.accept("default", NOW, WALL));
    }
}

#[test]
fn silence_is_noticed_and_any_frame_is_life() {
    let mut gateway = gateway_up();
    gateway.handle_frame(up(Up::Heartbeat(AgentHeartbeat::default())), Tick(2_000)).unwrap();
    gateway.handle_timeout(Tick(4_999), UnixMillis(5_000));
    let Some(Down::Heartbeat(beat)) = frames(&mut gateway).pop() else { panic!("no heartbeat") };
    assert_eq!(beat.now_ms, 5_000);
    gateway.handle_timeout(Tick(5_000), WALL);
    assert_eq!(why_closed(&mut gateway), CloseReason::Silent);
    gateway.handle_frame(claim(1), Tick(5_000)).unwrap();
    assert_eq!((gateway.poll_action(), gateway.ignored()), (None, 1));
}

#[test]
fn a_claim_counts_once_and_only_for_an_offer_of_this_connection() {
    let mut gateway = gateway_up();
    gateway.offer(offer(1)).unwrap();
    gateway.offer(offer(2)).unwrap();
    assert!(!gateway.go(1, 8), "nobody claimed it");
    assert!(gateway.withdraw(2) && !gateway.withdraw(2));
    assert_eq!(frames(&mut gateway).len(), 2);

    gateway.handle_frame(claim(1), NOW).unwrap();
    let claimed = GatewayAction::Claim { offer_id: 1, key: key(1), fence: 7, slots_free: 2 };
    assert_eq!(actions(&mut gateway), [claimed]);
    assert!(!gateway.withdraw(1), "it is claimed");
    for late in [claim(1), claim(2), claim(3)] {
        gateway.handle_frame(late, NOW).unwrap();
        assert_eq!(gateway.poll_action(), None);
        assert!(matches!(frames(&mut gateway)[..], [Down::NoGo(_)]));
    }
    assert!(gateway.go(1, 8) && !gateway.go(1, 8) && !gateway.no_go(1, None));
    let [Down::Go(go)] = &frames(&mut gateway)[..] else { panic!("no go") };
    assert_eq!(*go, crate::go(1));
}

#[test]
fn a_claim_with_another_fence_than_was_offered_is_refused() {
    let mut gateway = gateway_up();
    gateway.offer(cortex_model::proto::Offer { fence: 6, ..offer(1) }).unwrap();
    gateway.handle_frame(claim(1), NOW).unwrap();
    assert_eq!(gateway.poll_action(), None);
    assert!(matches!(frames(&mut gateway)[..], [Down::Offer(_), Down::NoGo(_)]));
}

#[test]
fn busy_ends_an_offer() {
    let mut gateway = gateway_up();
    gateway.offer(offer(1)).unwrap();
    let busy = Busy { offer_id: 1, task_id: "t1".into(), ..Busy::default() };
    for _ in 0..2 {
        gateway.handle_frame(up(Up::Busy(busy.clone())), NOW).unwrap();
    }
    assert_eq!(actions(&mut gateway), [GatewayAction::Busy { key: key(1), busy }]);
    assert_eq!(gateway.ignored(), 1);
}

#[test]
fn offers_have_a_bound_and_unique_ids_and_need_a_tunnel_that_takes_them() {
    assert_eq!(new_gateway().offer(offer(1)), Err(OfferError::NotUp));
    let mut gateway = gateway_up();
    for id in 1..=OPEN_OFFERS_MAX as u64 {
        gateway.offer(offer(id)).unwrap();
    }
    assert_eq!(gateway.offer(offer(9_999)), Err(OfferError::Full));
    gateway.withdraw(1);
    assert_eq!(gateway.offer(offer(2)), Err(OfferError::Duplicate));
    let nameless = cortex_model::proto::Offer { task_id: String::new(), ..offer(1) };
    assert_eq!(gateway.offer(nameless), Err(OfferError::BadKey));
    gateway.drain(500, NOW);
    assert_eq!(gateway.offer(offer(1)), Err(OfferError::Draining));
    gateway.handle_timeout(Tick(500), WALL);
    assert_eq!(why_closed(&mut gateway), CloseReason::Drained);

    let mut gateway = gateway_up();
    gateway.handle_frame(up(Up::Leaving(Leaving { reason: "bye".into() })), NOW).unwrap();
    assert_eq!(actions(&mut gateway), [GatewayAction::Leaving("bye".into())]);
    assert_eq!(gateway.offer(offer(1)), Err(OfferError::Draining));
}

#[test]
fn only_questions_that_were_asked_are_answered() {
    let mut gateway = gateway_up();
    gateway.query(query(3)).unwrap();
    assert_eq!(gateway.query(query(3)), Err(OfferError::Duplicate));
    for id in [4, 3, 3] {
        let answer = QueryAnswer { query_id: id, phase: 1, ..QueryAnswer::default() };
        gateway.handle_frame(up(Up::QueryAnswer(answer)), NOW).unwrap();
    }
    let answer = QueryAnswer { query_id: 3, phase: 1, ..QueryAnswer::default() };
    assert_eq!(actions(&mut gateway), [GatewayAction::QueryAnswer { key: key(1), answer }]);
    assert_eq!(gateway.ignored(), 2);
    for id in 0..OPEN_QUERIES_MAX as u64 {
        gateway.query(query(id)).unwrap();
    }
    assert_eq!(gateway.query(query(99_999)), Err(OfferError::Full));
}

#[test]
fn output_beyond_the_credit_breaks_the_protocol() {
    let mut gateway = gateway_up();
    let chunks = OUTPUT_WINDOW / OUTPUT_CHUNK_MAX as u64;
    for index in 0..chunks {
        let frame = output(index * OUTPUT_CHUNK_MAX as u64, OUTPUT_CHUNK_MAX);
        gateway.handle_frame(frame, NOW).unwrap();
    }
    assert!(!gateway.has_frame(), "a store that settles nothing gets nothing more");
    gateway.output_settled(OUTPUT_WINDOW / 4);
    assert!(
        matches!(frames(&mut gateway)[..], [Down::Credit(credit)] if credit.output_bytes == OUTPUT_WINDOW / 4)
    );
    gateway.handle_frame(output(OUTPUT_WINDOW, OUTPUT_CHUNK_MAX), NOW).unwrap();
    for _ in 0..3 {
        gateway.handle_frame(output(OUTPUT_WINDOW, OUTPUT_CHUNK_MAX), NOW).unwrap();
    }
    let error = gateway.handle_frame(output(0, 1), NOW).unwrap_err();
    assert_eq!(error, ProtocolError::CreditExceeded { sent: 1, credit: 0 });
}

#[test]
fn of_waiting_acknowledgements_only_the_last_of_each_attempt_is_sent() {
    let mut gateway = gateway_up();
    gateway.ack_output(&key(1), 10, AckMode::Durable);
    gateway.ack_output(&key(2), 5, AckMode::Resend);
    gateway.ack_output(&key(1), 20, AckMode::Durable);
    gateway.ack_output(&key(2), 6, AckMode::Durable);
    let all: Vec<_> = frames(&mut gateway)
        .into_iter()
        .map(|body| match body {
            Down::OutputAck(ack) => (ack.task_id, ack.offset, ack.resend, ack.discard),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(all, [("t1".into(), 20, false, false), ("t2".into(), 6, true, false)]);
}

#[test]
fn an_agent_that_does_not_read_loses_the_connection_not_the_memory() {
    let mut gateway = gateway_up();
    for _ in 0..=FRAME_QUEUE_MAX {
        assert!(gateway.is_up());
        gateway.ack_outcome(&key(1));
    }
    assert_eq!(why_closed(&mut gateway), CloseReason::Overflow);
}

#[test]
fn more_outcomes_under_way_than_agreed_break_the_protocol() {
    let mut gateway = gateway_up();
    for task in 0..OUTCOMES_IN_FLIGHT_MAX as u32 {
        gateway.handle_frame(up(Up::Outcome(outcome(task))), NOW).unwrap();
    }
    gateway.ack_outcome(&key(0));
    gateway.handle_frame(up(Up::Outcome(outcome(0))), NOW).unwrap();
    assert!(gateway.handle_frame(up(Up::Outcome(outcome(1))), NOW).is_err());
}

#[test]
fn a_refusal_ends_a_connection_at_any_time_and_once() {
    let mut gateway = gateway_up();
    gateway.offer(offer(1)).unwrap();
    for _ in 0..2 {
        let error = Error::from(&Fault::new(Code::Superseded, "replaced"));
        gateway.refuse(error, 0);
    }
    assert_eq!(actions(&mut gateway).len(), 1);
    assert!(!gateway.has_frame() && !gateway.is_up());
}
