//! The agent's end: connecting, claiming, answering.

use crate::{actions, agent_up, down, frames, go, key, new_agent, offer, reconnect, welcome};
use cortex_model::limits::{
    ACTION_QUEUE_MAX, CONNECT_TIMEOUT_MS, HANDSHAKE_TIMEOUT_MS, OPEN_OFFERS_MAX, OPEN_QUERIES_MAX,
    RECONNECT_FATAL_MS, UNDELIVERED_ATTEMPTS_MAX,
};
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AttemptPhase, BusyReason, Cancel, ConsentAck, ConsentAnswer, ConsentReport, Drain, Error,
    GatewayFrame, GatewayHeartbeat, JournalHead, NoGo, OutputAck, Query, Refuse,
};
use cortex_model::{Code, Fault, Tick};
use cortex_tunnel::{
    AgentAction, AgentEnd, ClaimResult, DisconnectReason, HelloState, ProtocolError, Restored,
};

const NOW: Tick = Tick(0);

fn query(id: u64, task: u32) -> Query {
    let task_id = format!("t{task}");
    Query { query_id: id, workspace: "default".into(), task_id, attempt: 1 }
}

#[test]
fn it_dials_at_once_and_says_hello_with_a_growing_generation() {
    let mut agent = new_agent();
    assert!(!agent.has_frame());
    assert_eq!(agent.poll_timeout(), Some(NOW));
    for generation in 1..=3 {
        let now = agent.poll_timeout().unwrap();
        assert_eq!(agent.poll_action(now), Some(AgentAction::Connect));
        assert_eq!(agent.poll_action(now), None);
        agent.connected(HelloState::default(), now);
        let Some(Up::Hello(hello)) = agent.poll_frame().unwrap().body else { panic!("no hello") };
        assert_eq!((hello.generation, hello.session.as_str()), (generation, "s1"));
        assert_eq!(agent.poll_frame(), None, "nothing follows hello before welcome");
        agent.disconnected(now, 0);
    }
}

#[test]
fn only_a_welcome_or_a_refusal_may_come_first() {
    for body in [
        Down::Heartbeat(GatewayHeartbeat::default()),
        Down::Offer(offer(1)),
        Down::Go(go(1)),
        Down::Drain(Drain::default()),
    ] {
        let mut agent = new_agent();
        agent.connected(HelloState::default(), NOW);
        let error = agent.handle_frame(down(body), NOW).unwrap_err();
        assert!(matches!(error, ProtocolError::OutOfOrder { when: "before welcome", .. }));
        let wanted = AgentAction::Disconnect(DisconnectReason::Protocol(error));
        assert_eq!(actions(&mut agent, NOW), [wanted]);
        assert!(!agent.has_frame() && agent.poll_timeout().is_none());
    }
}

#[test]
fn a_second_welcome_an_empty_frame_and_a_bad_key_break_the_protocol() {
    let no_task = Query { task_id: String::new(), ..query(1, 1) };
    for frame in [welcome(1), GatewayFrame { body: None }, down(Down::Query(no_task))] {
        let mut agent = agent_up(0);
        let error = agent.handle_frame(frame, NOW).unwrap_err();
        let wanted = AgentAction::Disconnect(DisconnectReason::Protocol(error));
        assert_eq!(actions(&mut agent, NOW), [wanted]);
    }
}

#[test]
fn a_dial_or_a_handshake_without_end_is_given_up() {
    let mut agent = new_agent();
    assert_eq!(agent.poll_action(NOW), Some(AgentAction::Connect));
    assert_eq!(agent.poll_timeout(), Some(Tick(CONNECT_TIMEOUT_MS)));
    agent.handle_timeout(Tick(CONNECT_TIMEOUT_MS));
    let timeout = AgentAction::Disconnect(DisconnectReason::ConnectTimeout);
    assert_eq!(actions(&mut agent, NOW), [timeout]);

    agent.connected(HelloState::default(), NOW);
    agent.handle_timeout(Tick(HANDSHAKE_TIMEOUT_MS - 1));
    assert_eq!(agent.poll_action(NOW), None);
    agent.handle_timeout(Tick(HANDSHAKE_TIMEOUT_MS));
    let timeout = AgentAction::Disconnect(DisconnectReason::HandshakeTimeout);
    assert_eq!(actions(&mut agent, NOW), [timeout]);
}

#[test]
fn a_fatal_refusal_is_told_and_retried_slowly_a_passing_one_soon() {
    for (code, retry_after_ms, fatal, pause) in [
        (Code::NoCommonVersion, 0, true, RECONNECT_FATAL_MS),
        (Code::NoCommonVersion, 5_000, true, 5_000),
        (Code::Draining, 0, false, 0),
        (Code::Draining, 700, false, 700),
    ] {
        let mut agent = new_agent();
        agent.connected(HelloState::default(), NOW);
        let error = Error::from(&Fault::new(code, "no"));
        let refuse = Refuse { error: Some(error.clone()), retry_after_ms };
        agent.handle_frame(down(Down::Refuse(refuse)), NOW).unwrap();
        let refused = AgentAction::Refused { error, fatal };
        let disconnect = AgentAction::Disconnect(DisconnectReason::Refused);
        assert_eq!(actions(&mut agent, NOW), [refused, disconnect]);
        agent.disconnected(NOW, 0);
        assert_eq!(agent.poll_timeout(), Some(NOW + pause), "{code:?} {retry_after_ms}");
    }
}

#[test]
fn the_back_off_grows_until_a_connection_was_stable() {
    let mut agent = agent_up(0);
    let full = [250, 500, 1_000];
    for window in full {
        agent.disconnected(NOW, window);
        // The floor is the one of the welcome.
        assert_eq!(agent.poll_timeout(), Some(Tick(100 + window)));
        assert_eq!(agent.poll_action(Tick(99 + window)), None);
        assert_eq!(agent.poll_action(Tick(100 + window)), Some(AgentAction::Connect));
        reconnect(&mut agent, 0, NOW);
    }
    agent.disconnected(Tick(10_000), 250);
    assert_eq!(agent.poll_timeout(), Some(Tick(10_350)));
}

#[test]
fn silence_ends_the_connection_and_heartbeats_come_before_it() {
    let mut agent = agent_up(0);
    assert_eq!(agent.poll_timeout(), Some(Tick(1_000)));
    for now in [1_000, 2_000] {
        agent.handle_timeout(Tick(now));
        assert!(matches!(frames(&mut agent)[..], [Up::Heartbeat(_)]));
    }
    agent.handle_timeout(Tick(2_999));
    assert_eq!(agent.poll_action(Tick(2_999)), None);
    agent.handle_timeout(Tick(3_000));
    let silent = AgentAction::Disconnect(DisconnectReason::Silent);
    assert_eq!(actions(&mut agent, Tick(3_000)), [silent]);
}

#[test]
fn a_change_of_free_slots_is_told_soon() {
    let mut agent = agent_up(0);
    agent.update(4, 0, JournalHead::default());
    assert_eq!(agent.poll_timeout(), Some(Tick(1_000)), "0 is what the gateway knows");
    agent.update(4, 3, JournalHead { size: 9, leaf: "x".into() });
    assert_eq!(agent.poll_timeout(), Some(Tick(100)));
    agent.handle_timeout(Tick(100));
    let [Up::Heartbeat(beat)] = &frames(&mut agent)[..] else { panic!("no heartbeat") };
    assert_eq!((beat.slots, beat.slots_free), (4, 3));
    assert_eq!(beat.journal.as_ref().unwrap().size, 9);
    agent.update(4, 3, JournalHead::default());
    assert_eq!(agent.poll_timeout(), Some(Tick(1_100)));
}

#[test]
fn a_go_is_obeyed_once_and_only_for_its_claim() {
    let mut agent = agent_up(0);
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    agent.handle_frame(down(Down::Go(go(1))), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::Offer(Box::new(offer(1)))]);
    assert_eq!(agent.claim(&offer(1), 3), ClaimResult::Claimed);
    assert_eq!(agent.claim(&offer(1), 3), ClaimResult::Gone, "it is claimed already");
    let other_session = cortex_model::proto::Go { session: "s2".into(), ..go(1) };
    let other_attempt = cortex_model::proto::Go { attempt: 2, ..go(1) };
    for wrong in [go(2), other_session, other_attempt] {
        agent.handle_frame(down(Down::Go(wrong)), NOW).unwrap();
    }
    assert_eq!((agent.poll_action(NOW), agent.ignored()), (None, 4));
    agent.handle_frame(down(Down::Go(go(1))), NOW).unwrap();
    agent.handle_frame(down(Down::Go(go(1))), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::Go { key: key(1), go: go(1) }]);
    assert_eq!(agent.ignored(), 5);
}

#[test]
fn claims_end_with_their_connection_and_a_late_go_is_ignored() {
    let mut agent = agent_up(0);
    for id in 1..=3 {
        agent.handle_frame(down(Down::Offer(offer(id))), NOW).unwrap();
    }
    assert_eq!(actions(&mut agent, NOW).len(), 3);
    assert_eq!(agent.claim(&offer(1), 3), ClaimResult::Claimed);
    assert_eq!(agent.claim(&offer(2), 2), ClaimResult::Claimed);
    // This one was answered, but the driver has not seen it: its intent was never written.
    agent.handle_frame(down(Down::Go(go(2))), NOW).unwrap();
    agent.disconnected(NOW, 0);
    let dropped = AgentAction::NoGo { key: key(1), offer_id: 1, answer: None };
    assert_eq!(actions(&mut agent, NOW), [dropped]);

    reconnect(&mut agent, 0, NOW);
    assert_eq!(agent.claim(&offer(3), 3), ClaimResult::Gone);
    assert!(!agent.busy(&offer(3), BusyReason::NoSlot, 3, None));
    agent.handle_frame(down(Down::Go(go(1))), NOW).unwrap();
    assert_eq!((agent.poll_action(NOW), agent.ignored()), (None, 1));
}

#[test]
fn a_no_go_frees_its_claim() {
    let mut agent = agent_up(0);
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW).len(), 1);
    assert_eq!(agent.claim(&offer(1), 3), ClaimResult::Claimed);
    let no_go = NoGo { offer_id: 1, task_id: "t1".into(), attempt: 1, error: None };
    agent.handle_frame(down(Down::NoGo(no_go.clone())), NOW).unwrap();
    agent.handle_frame(down(Down::NoGo(no_go.clone())), NOW).unwrap();
    let freed = AgentAction::NoGo { key: key(1), offer_id: 1, answer: Some(no_go) };
    assert_eq!(actions(&mut agent, NOW), [freed]);
    assert_eq!(agent.ignored(), 1);
}

#[test]
fn a_query_about_a_claim_is_answered_claiming_and_only_on_its_connection() {
    let mut agent = agent_up(0);
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW).len(), 1);
    assert_eq!(agent.claim(&offer(1), 3), ClaimResult::Claimed);
    for (id, task, phase) in [(1, 1, AttemptPhase::Claiming), (2, 2, AttemptPhase::Unknown)] {
        agent.handle_frame(down(Down::Query(query(id, task))), NOW).unwrap();
        assert_eq!(actions(&mut agent, NOW), [AgentAction::Query(query(id, task))]);
        assert!(agent.answer_query(&query(id, task), AttemptPhase::Unknown));
        let Some(Up::QueryAnswer(answer)) = frames(&mut agent).pop() else { panic!("no answer") };
        assert_eq!((answer.phase(), answer.incarnation.as_str()), (phase, "i1"));
    }
    agent.handle_frame(down(Down::Query(query(3, 1))), NOW).unwrap();
    agent.disconnected(NOW, 0);
    let dropped = AgentAction::NoGo { key: key(1), offer_id: 1, answer: None };
    assert_eq!(actions(&mut agent, NOW), [dropped], "the question went with its connection");
    reconnect(&mut agent, 0, NOW);
    assert!(!agent.answer_query(&query(3, 1), AttemptPhase::Unknown));
    assert!(!agent.has_frame());
}

#[test]
fn a_cancel_is_answered_once() {
    let mut agent = agent_up(0);
    let cancel = Cancel {
        workspace: "default".into(),
        task_id: "t1".into(),
        attempt: 1,
        reason: "asked".into(),
        query_id: 4,
    };
    agent.handle_frame(down(Down::Cancel(cancel.clone())), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::Cancel(cancel.clone())]);
    assert!(agent.answer_cancel(&cancel, AttemptPhase::Known));
    assert!(!agent.answer_cancel(&cancel, AttemptPhase::Known));
    assert!(matches!(frames(&mut agent)[..], [Up::CancelAnswer(_)]));
}

#[test]
fn who_leaves_says_so_on_every_connection_and_takes_no_offer() {
    let mut agent = agent_up(0);
    agent.leaving("shutdown");
    assert!(matches!(frames(&mut agent)[..], [Up::Leaving(_)]));
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    assert_eq!(agent.poll_action(NOW), None);
    let [Up::Busy(busy)] = &frames(&mut agent)[..] else { panic!("no answer") };
    assert_eq!(busy.reason(), BusyReason::Leaving);
    agent.disconnected(NOW, 0);
    reconnect(&mut agent, 0, NOW);
    assert!(matches!(frames(&mut agent)[..], [Up::Leaving(_)]));
}

#[test]
fn a_drain_lets_open_claims_be_answered_then_reconnects_without_a_long_pause() {
    let mut agent = agent_up(0);
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW).len(), 1);
    assert_eq!(agent.claim(&offer(1), 3), ClaimResult::Claimed);
    agent.handle_frame(down(Down::Drain(Drain { grace_ms: 900 })), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::Drain { grace_ms: 900 }]);
    assert_eq!(agent.poll_timeout(), Some(Tick(900)));
    assert_eq!(frames(&mut agent).len(), 1, "the claim still goes out");
    assert_eq!(agent.poll_action(NOW), None);
    agent.handle_frame(down(Down::Go(go(1))), NOW).unwrap();
    let drained = AgentAction::Disconnect(DisconnectReason::Drained);
    assert_eq!(actions(&mut agent, NOW), [AgentAction::Go { key: key(1), go: go(1) }, drained]);
    agent.disconnected(NOW, 250);
    assert_eq!(agent.poll_timeout(), Some(Tick(350)));
}

#[test]
fn a_drain_ends_after_its_grace_at_the_latest() {
    let mut agent = agent_up(0);
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    agent.handle_frame(down(Down::Drain(Drain { grace_ms: 900 })), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW).len(), 2);
    agent.handle_timeout(Tick(900));
    let drained = AgentAction::Disconnect(DisconnectReason::Drained);
    assert_eq!(actions(&mut agent, NOW), [drained]);
}

#[test]
fn more_offers_than_may_be_open_are_answered_busy() {
    let mut agent = agent_up(0);
    for id in 1..=OPEN_OFFERS_MAX as u64 + 1 {
        agent.handle_frame(down(Down::Offer(offer(id))), NOW).unwrap();
    }
    assert_eq!(actions(&mut agent, NOW).len(), OPEN_OFFERS_MAX);
    let [Up::Busy(busy)] = &frames(&mut agent)[..] else { panic!("one is too many") };
    assert_eq!((busy.offer_id, busy.reason()), (OPEN_OFFERS_MAX as u64 + 1, BusyReason::NoSlot));
}

#[test]
fn an_offer_id_in_use_and_too_many_queries_break_the_protocol() {
    let mut agent = agent_up(0);
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    assert!(agent.handle_frame(down(Down::Offer(offer(1))), NOW).is_err());

    let mut agent = agent_up(0);
    for id in 0..OPEN_QUERIES_MAX as u64 {
        agent.handle_frame(down(Down::Query(query(id, 1))), NOW).unwrap();
    }
    let error = agent.handle_frame(down(Down::Query(query(9_999, 1))), NOW).unwrap_err();
    assert!(matches!(error, ProtocolError::TooMany { .. }));
}

#[test]
fn with_too_much_undelivered_nothing_more_is_claimed() {
    let mut agent = new_agent();
    for task in 1..=UNDELIVERED_ATTEMPTS_MAX as u32 {
        let (key, outcome) = (key(1_000_000 + task), Some(crate::outcome(1_000_000 + task)));
        agent.restore(Restored { key, acked: 0, end: 0, outcome, outcome_acked: false });
    }
    reconnect_all(&mut agent);
    agent.handle_frame(down(Down::Offer(offer(1))), NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW).len(), 1);
    assert_eq!(agent.claim(&offer(1), 3), ClaimResult::Full);
    let Some(Up::Busy(busy)) = agent.poll_frame().unwrap().body else { panic!("no answer") };
    assert_eq!(busy.reason(), BusyReason::Unable);
    assert_eq!(busy.error.unwrap().code, Code::AgentUnable.as_str());
}

fn reconnect_all(agent: &mut cortex_tunnel::AgentEnd) {
    assert_eq!(agent.poll_action(NOW), Some(AgentAction::Connect));
    reconnect(agent, 0, NOW);
}

#[test]
fn a_driver_that_takes_no_actions_loses_the_connection_not_the_memory() {
    let mut agent = agent_up(0);
    for task in 1..=ACTION_QUEUE_MAX as u32 + 1 {
        agent.output_available(&key(task), 10);
        let ack = OutputAck {
            workspace: "default".into(),
            task_id: format!("t{task}"),
            attempt: 1,
            offset: 10,
            ..OutputAck::default()
        };
        agent.handle_frame(down(Down::OutputAck(ack)), NOW).unwrap();
    }
    let all = actions(&mut agent, NOW);
    assert_eq!(all.len(), ACTION_QUEUE_MAX + 1);
    assert_eq!(all.last(), Some(&AgentAction::Disconnect(DisconnectReason::Overflow)));
}

#[test]
fn frames_without_a_connection_are_ignored() {
    let mut agent = new_agent();
    agent.handle_frame(welcome(1), NOW).unwrap();
    assert_eq!(agent.ignored(), 1);
}

fn asks(question: u64, answer: ConsentAnswer) -> ConsentReport {
    ConsentReport {
        workspace: "w".into(),
        task_id: "t1".into(),
        attempt: 1,
        question,
        answer: answer.into(),
        ..ConsentReport::default()
    }
}

#[test]
fn the_newest_word_about_consent_is_said_until_it_is_acknowledged_and_before_the_outcome() {
    let mut agent = agent_up(100);
    let consent = |agent: &mut AgentEnd| match agent.poll_frame().and_then(|frame| frame.body) {
        Some(Up::Consent(report)) => Some((report.question, report.answer())),
        _ => None,
    };
    agent.consent(asks(1, ConsentAnswer::Unspecified)).unwrap();
    assert_eq!(consent(&mut agent), Some((1, ConsentAnswer::Unspecified)));
    assert_eq!(consent(&mut agent), None, "once on a connection");
    agent.consent(asks(1, ConsentAnswer::Allowed)).unwrap();
    agent.disconnected(Tick(1), 0);
    reconnect(&mut agent, 100, Tick(100_000));
    assert_eq!(consent(&mut agent), Some((1, ConsentAnswer::Allowed)));
    // An acknowledgement of what was said before it is no answer to it.
    let ack = |answered| {
        let (workspace, task_id) = ("w".into(), "t1".into());
        let ack = ConsentAck { workspace, task_id, attempt: 1, question: 1, answered };
        GatewayFrame { body: Some(Down::ConsentAck(ack)) }
    };
    agent.handle_frame(ack(false), Tick(100_001)).unwrap();
    assert_eq!(agent.ignored(), 1);
    agent.handle_frame(ack(true), Tick(100_001)).unwrap();
    agent.disconnected(Tick(100_002), 0);
    reconnect(&mut agent, 100, Tick(300_000));
    assert_eq!(consent(&mut agent), None, "it is acknowledged");
    assert!(agent.consent(asks(0, ConsentAnswer::Unspecified)).is_err());
}
