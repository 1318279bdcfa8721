//! What is typed, at both ends: an answer belongs to what was asked on its own connection, and to nothing else.

use crate::{actions, agent_up, down, frames, reconnect, up};
use cortex_model::limits::OPEN_QUERIES_MAX;
use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{Hello, JournalHead, Manifest, TerminalAnswer, TerminalInput};
use cortex_model::{Tick, UnixMillis};
use cortex_tunnel::{
    AgentAction, AgentEnd, GatewayAction, GatewayConfig, GatewayEnd, OfferError, ProtocolError,
};
use std::sync::Arc;

const NOW: Tick = Tick(0);

fn input(query_id: u64) -> TerminalInput {
    let (workspace, task_id, attempt) = ("default".to_owned(), "t1".to_owned(), 1);
    TerminalInput { query_id, workspace, task_id, attempt, ..TerminalInput::default() }
}

fn answer(query_id: u64, accepted: u64) -> TerminalAnswer {
    TerminalAnswer { query_id, accepted, ..TerminalAnswer::default() }
}

/// What came, with the id by which it is to be answered.
fn heard(agent: &mut AgentEnd) -> u64 {
    let mut all = actions(agent, NOW);
    let Some(AgentAction::Terminal(input)) = all.pop() else { panic!("nothing was typed") };
    assert!(all.is_empty());
    input.query_id
}

#[test]
fn an_answer_that_comes_after_a_reconnect_answers_nothing_of_the_new_connection() {
    let mut agent = agent_up(0);
    agent.handle_frame(down(Down::TerminalInput(input(1))), NOW).unwrap();
    let first = heard(&mut agent);
    agent.disconnected(NOW, 0);
    actions(&mut agent, NOW);
    reconnect(&mut agent, 0, NOW);
    // The new gateway counts from 1 as well.
    agent.handle_frame(down(Down::TerminalInput(input(1))), NOW).unwrap();
    let second = heard(&mut agent);
    assert!(!agent.answer_terminal(answer(first, 70)));
    assert!(agent.answer_terminal(answer(second, 3)));
    assert!(!agent.answer_terminal(answer(second, 3)), "it was answered");
    assert_eq!(frames(&mut agent), [Up::TerminalAnswer(answer(1, 3))]);
}

#[test]
fn what_names_no_attempt_or_comes_in_masses_ends_the_connection() {
    let mut agent = agent_up(0);
    let nobody = TerminalInput { task_id: "T".into(), ..input(1) };
    let bad = ProtocolError::BadField { frame: "terminal_input", field: "task_id" };
    assert_eq!(agent.handle_frame(down(Down::TerminalInput(nobody)), NOW), Err(bad));
    let mut agent = agent_up(0);
    for id in 0..OPEN_QUERIES_MAX as u64 {
        agent.handle_frame(down(Down::TerminalInput(input(id))), NOW).unwrap();
    }
    let more = agent.handle_frame(down(Down::TerminalInput(input(0))), NOW);
    assert!(matches!(more, Err(ProtocolError::TooMany { .. })), "{more:?}");
}

#[test]
fn a_gateway_hears_answers_to_what_it_passed_on_and_to_nothing_else() {
    let mut gateway = GatewayEnd::new(Arc::new(GatewayConfig::new("g1")), NOW);
    assert_eq!(gateway.terminal(input(1)), Err(OfferError::NotUp));
    let hello = Hello {
        min_version: 1,
        max_version: 1,
        node: "n1".into(),
        incarnation: "00112233445566778899aabbccddeeff".into(),
        session: "0190a5c1-7b3e-7c55-9d1f-3a2b4c5d6e7f".into(),
        generation: 1,
        manifest: Some(Manifest::default()),
        journal: Some(JournalHead::default()),
        ..Hello::default()
    };
    gateway.handle_frame(up(Up::Hello(hello)), NOW).unwrap();
    assert!(matches!(gateway.poll_action(), Some(GatewayAction::Hello(_))));
    assert!(gateway.accept("default", NOW, UnixMillis(0)));
    assert_eq!(gateway.terminal(input(1)), Ok(()));
    assert_eq!(gateway.terminal(input(1)), Err(OfferError::Duplicate));
    for (id, accepted) in [(2, 9), (1, 5), (1, 6)] {
        gateway.handle_frame(up(Up::TerminalAnswer(answer(id, accepted))), NOW).unwrap();
    }
    assert_eq!(gateway.poll_action(), Some(GatewayAction::TerminalAnswer(answer(1, 5))));
    assert_eq!((gateway.poll_action(), gateway.ignored()), (None, 2));
}
