//! Newer tokens on an open tunnel, and the request to renew a certificate.

use super::gateway::{gateway_up, new_gateway};
use super::*;
use cortex_model::UnixMillis;
use cortex_model::proto::{RenewNow, TokenAccepted, TokenShown};
use cortex_tunnel::GatewayAction;

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
    gateway.token_accepted(UnixMillis(900), UnixMillis(600));
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

#[test]
fn a_node_can_be_asked_to_renew_its_certificate() {
    let mut gateway = gateway_up();
    gateway.renew_now(70);
    let Some(frame) = gateway.poll_frame() else { panic!("no frame") };
    assert_eq!(frame.body, Some(Down::RenewNow(RenewNow { within_ms: 70 })));
    let mut agent = agent_up(0);
    agent.handle_frame(frame, NOW).unwrap();
    assert_eq!(actions(&mut agent, NOW), [AgentAction::RenewNow { within_ms: 70 }]);
}
