//! Each end alone, against frames made by hand: order of frames, answers that come too late, bounds.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
#![expect(clippy::wildcard_enum_match_arm, reason = "any other frame fails the test")]

mod agent;
mod audit;
mod delivery;
mod gateway;
mod terminal;
mod tokens;

use cortex_model::proto::agent_frame::Body as Up;
use cortex_model::proto::gateway_frame::Body as Down;
use cortex_model::proto::{
    AgentFrame, GatewayFrame, Go, Hello, Manifest, Offer, Outcome, OutcomeReport, TaskSpec, Welcome,
};
use cortex_model::{AttemptKey, TaskId, TaskKey, Tick, Workspace};
use cortex_tunnel::{AgentAction, AgentConfig, AgentEnd, HelloState};

fn up(body: Up) -> AgentFrame {
    AgentFrame { body: Some(body) }
}

fn down(body: Down) -> GatewayFrame {
    GatewayFrame { body: Some(body) }
}

fn key(task: u32) -> AttemptKey {
    let task = TaskId::parse(&format!("t{task}")).expect("a task id");
    AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 1 }
}

fn offer(id: u64) -> Offer {
    Offer {
        workspace: "default".into(),
        task_id: format!("t{id}"),
        attempt: 1,
        fence: 7,
        spec: Some(TaskSpec::default()),
        offer_id: id,
        ..Offer::default()
    }
}

fn go(id: u64) -> Go {
    Go {
        offer_id: id,
        workspace: "default".into(),
        task_id: format!("t{id}"),
        attempt: 1,
        fence: 8,
        session: "s1".into(),
        ..Go::default()
    }
}

fn outcome(task: u32) -> OutcomeReport {
    OutcomeReport {
        workspace: "default".into(),
        task_id: format!("t{task}"),
        attempt: 1,
        fence: 8,
        outcome: Some(Outcome::default()),
    }
}

fn hello() -> Hello {
    Hello {
        min_version: 1,
        max_version: 1,
        node: "n1".into(),
        incarnation: "i1".into(),
        session: "s1".into(),
        generation: 1,
        manifest: Some(Manifest::default()),
        ..Hello::default()
    }
}

fn welcome(credit: u64) -> GatewayFrame {
    down(Down::Welcome(Welcome {
        version: 1,
        gateway: "g1".into(),
        heartbeat_ms: 1_000,
        dead_after_ms: 3_000,
        output_credit: credit,
        min_backoff_ms: 100,
        workspace: "default".into(),
        now_ms: 5,
        token_expires_at_ms: 0,
    }))
}

fn new_agent() -> AgentEnd {
    AgentEnd::new(AgentConfig {
        node: "n1".into(),
        incarnation: "i1".into(),
        session: "s1".into(),
        agent_version: "1".into(),
    })
}

/// An agent that was welcomed at `now`, with all that led to it taken.
fn reconnect(agent: &mut AgentEnd, credit: u64, now: Tick) {
    agent.connected(HelloState::default(), now);
    assert!(matches!(agent.poll_frame().and_then(|frame| frame.body), Some(Up::Hello(_))));
    agent.handle_frame(welcome(credit), now).expect("a good welcome");
    assert!(matches!(agent.poll_action(now), Some(AgentAction::Welcomed { .. })));
    assert!(matches!(agent.poll_frame().and_then(|frame| frame.body), Some(Up::Heartbeat(_))));
}

fn agent_up(credit: u64) -> AgentEnd {
    let mut agent = new_agent();
    assert_eq!(agent.poll_action(Tick(0)), Some(AgentAction::Connect));
    reconnect(&mut agent, credit, Tick(0));
    agent
}

fn actions(agent: &mut AgentEnd, now: Tick) -> Vec<AgentAction> {
    std::iter::from_fn(|| agent.poll_action(now)).collect()
}

fn frames(agent: &mut AgentEnd) -> Vec<Up> {
    std::iter::from_fn(|| agent.poll_frame()).filter_map(|frame| frame.body).collect()
}
