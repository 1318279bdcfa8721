//! Newer tokens on an open tunnel, and the request to renew a certificate.

use super::gateway::{gateway_up, new_gateway};
use super::*;
use cortex_model::UnixMillis;
use cortex_model::proto::{GatewayHeartbeat, RenewNow, TokenAccepted, TokenShown, Welcome};
use cortex_model::{Code, limits};
use cortex_tunnel::{CloseReason, DisconnectReason, GatewayAction, GatewayEnd};

const NOW: Tick = Tick(0);

#[test]
fn a_newer_token_goes_up_and_its_end_comes_down() {
    let mut agent = agent_up(0);
    agent.show_token("a.b.c".into());
    let shown = Up::TokenShown(TokenShown { token: "a.b.c".into() });
    assert_eq!(frames(&mut agent), std::slice::from_ref(&shown));

    let mut gateway = gateway_up();
    gateway.handle_frame(up(shown), NOW).unwrap();
    assert_eq!(gateway.poll_action(), Some(GatewayAction::TokenShown("a.b.c".into())));
    gateway.token_accepted(UnixMillis(900), NOW, UnixMillis(600));
    let answer = gateway.poll_frame().and_then(|frame| frame.body);
    let accepted = TokenAccepted { expires_at_ms: 900, now_ms: 600 };
    assert_eq!(answer, Some(Down::TokenAccepted(accepted)));

    agent.handle_frame(down(Down::TokenAccepted(accepted)), NOW).unwrap();
    let told = AgentAction::TokenAccepted { expires_at_ms: 900, now_ms: 600 };
    assert_eq!(actions(&mut agent, NOW), [told]);
}

#[test]
fn a_token_is_shown_on_an_open_tunnel_only() {
    let mut agent = new_agent();
    agent.show_token("a.b.c".into());
    reconnect(&mut agent, 0, NOW);
    assert_eq!(frames(&mut agent), []);
    let mut gateway = new_gateway();
    let shown = Up::TokenShown(TokenShown { token: "a.b.c".into() });
    assert!(gateway.handle_frame(up(shown), NOW).is_err(), "before hello");
}

/// An agent whose token is good for a minute from tick 0.
fn agent_with_token() -> AgentEnd {
    let mut agent = new_agent();
    agent.connected(HelloState::default(), NOW);
    let Some(Down::Welcome(welcome)) = welcome(0).body else { panic!("a welcome") };
    let welcome = Welcome { now_ms: 1_000_000, token_expires_at_ms: 1_060_000, ..welcome };
    agent.handle_frame(down(Down::Welcome(welcome)), NOW).unwrap();
    agent
}

/// The gateway's heartbeats up to a time.
fn alive(agent: &mut AgentEnd, from_ms: u64, until_ms: u64) {
    for at in (from_ms..=until_ms).step_by(1_000) {
        let beat = Down::Heartbeat(GatewayHeartbeat { seq: at, now_ms: 0 });
        agent.handle_frame(down(beat), Tick(at)).unwrap();
        agent.handle_timeout(Tick(at));
    }
}

#[test]
fn an_agent_holds_no_tunnel_longer_than_its_token_whatever_the_gateway_does() {
    let ends = 60_000 + limits::enrol::TOKEN_GRACE_MS;
    let stale = AgentAction::Disconnect(DisconnectReason::TokenStale);
    let mut agent = agent_with_token();
    alive(&mut agent, 0, ends - 1_000);
    assert!(agent.poll_timeout().is_some_and(|at| at <= Tick(ends)));
    assert!(!actions(&mut agent, Tick(ends - 1)).contains(&stale));
    agent.handle_timeout(Tick(ends));
    assert!(actions(&mut agent, Tick(ends)).contains(&stale));
    // One that was taken in time moves the end.
    let mut agent = agent_with_token();
    alive(&mut agent, 0, 40_000);
    let accepted = TokenAccepted { expires_at_ms: 1_100_000, now_ms: 1_040_000 };
    agent.handle_frame(down(Down::TokenAccepted(accepted)), Tick(40_000)).unwrap();
    alive(&mut agent, 41_000, ends + 39_000);
    assert!(!actions(&mut agent, Tick(ends + 39_999)).contains(&stale));
    agent.handle_timeout(Tick(ends + 40_000));
    assert!(actions(&mut agent, Tick(ends + 40_000)).contains(&stale));
}

#[test]
fn a_node_can_be_asked_to_renew_its_certificate() {
    let mut gateway = gateway_up();
    gateway.renew_now(70);
    let Some(frame) = gateway.poll_frame() else { panic!("no frame") };
    assert_eq!(frame.body, Some(Down::RenewNow(RenewNow { within_ms: 70 })));
    let mut agent = agent_up(0);
    agent.handle_frame(*frame, NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::RenewNow { within_ms: 70 }]);
}

/// A tunnel whose token was good for a minute from tick 0 and wall time 1,000 s.
fn gateway_with_token() -> GatewayEnd {
    let mut gateway = gateway_up();
    gateway.set_token_end(UnixMillis(1_060_000), NOW, UnixMillis(1_000_000));
    gateway
}

/// Whether a tunnel was closed for its token, with the code the agent is told.
fn stale(gateway: &mut GatewayEnd) -> bool {
    let Some(GatewayAction::Close { why: CloseReason::TokenStale, last: Some(last) }) =
        gateway.poll_action()
    else {
        return false;
    };
    let Some(Down::Refuse(refuse)) = last.body else { return false };
    let error = refuse.error.unwrap_or_default();
    error.code == Code::TunnelTokenStale.as_str() && error.retryable
}

#[test]
fn a_tunnel_ends_exactly_with_its_token_by_either_clock() {
    // Ticks since the token was shown, wall time, whether that is the end. The agent is heard all the time.
    for (tick, wall, ends) in [
        (0, 1_000_000, false),
        (59_999, 1_059_999, false),
        (60_000, 1_060_000, true),
        // The machine slept: ticks stood still.
        (10, 1_060_000, true),
        (10, 9_000_000, true),
        // The wall clock was set back.
        (59_999, 500_000, false),
        (60_000, 500_000, true),
    ] {
        let mut gateway = gateway_with_token();
        let beat = cortex_model::proto::AgentHeartbeat::default();
        gateway.handle_frame(up(Up::Heartbeat(beat)), Tick(tick)).unwrap();
        while gateway.poll_action().is_some() {}
        gateway.handle_timeout(Tick(tick), UnixMillis(wall));
        assert_eq!(stale(&mut gateway), ends, "after {tick} ms at {wall}");
    }
}

#[test]
fn the_end_of_the_token_is_waited_for_and_a_newer_one_moves_it_but_never_back() {
    let mut gateway = gateway_with_token();
    let beats = u64::from(limits::HEARTBEAT_MS);
    assert!(gateway.poll_timeout().is_some_and(|at| at <= Tick(beats)));
    gateway.set_token_end(UnixMillis(1_000_010), NOW, UnixMillis(1_000_000));
    assert_eq!(gateway.poll_timeout(), Some(Tick(10)));
    gateway.token_accepted(UnixMillis(1_300_000), Tick(5), UnixMillis(1_000_005));
    assert!(gateway.poll_timeout().is_some_and(|at| at > Tick(10)));
    // An older one that comes late takes nothing away.
    gateway.token_accepted(UnixMillis(1_000_020), Tick(6), UnixMillis(1_000_006));
    gateway.handle_timeout(Tick(30), UnixMillis(1_000_030));
    assert!(!stale(&mut gateway) && gateway.is_up());
}
