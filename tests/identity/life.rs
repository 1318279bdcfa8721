//! A node's life after it joined: certificates that run out, an administrator's yes and no, leaving.

use crate::machine::{Machine, is_online, join_token, set_clock, url};
use crate::raw::{Stranger, block_on};
use crate::support::{Server, wait};
use cortex_proto::v1::gateway_frame;

const DAY: i64 = 24 * 3_600;

/// A server that is stopped and started again in another time.
fn travel(server: &mut Server, skew_s: i64) {
    drop(server.terminate());
    server.dress(move |command| set_clock(command, skew_s));
    server.up();
}

#[test]
fn a_machine_that_waits_for_an_administrator_gets_in_when_one_says_yes() {
    let server = Server::start(&["--no-agent"]);
    let mut machine = Machine::new(&server, "m1");
    let token = join_token(&server, &["--require-approval"]);
    let said = machine.join(&url(&server), &token, &["--no-wait"]).ok();
    said.says(&["waits for an administrator", "cortex node approve m1"]);
    assert_eq!(machine.agent(&["status", "--json"]).ok().json()["state"], "pending");
    machine.launch();
    machine.until_it_logs("cortex node approve m1");
    assert!(!is_online(&server, "m1"));
    server.cortex(&["node", "approve", "m1"]).ok();
    machine.until_online(&server);
    assert_eq!(machine.agent(&["status", "--json"]).ok().json()["state"], "enrolled");
}

#[test]
fn a_machine_that_is_rejected_is_told_and_does_not_ask_on() {
    let server = Server::start(&["--no-agent"]);
    let mut machine = Machine::new(&server, "m1");
    let token = join_token(&server, &["--require-approval"]);
    machine.join(&url(&server), &token, &["--no-wait"]).ok();
    machine.launch();
    server.cortex(&["node", "reject", "m1"]).ok();
    machine.end().with(1).complains(&["error CX-05", "hint"]);
}

#[test]
fn a_revoked_node_is_cut_off_at_once_and_for_good() {
    let server = Server::start(&["--no-agent"]);
    let mut machine = Machine::joined(&server, "m1");
    machine.launch();
    machine.until_online(&server);
    server.cortex(&["node", "revoke", "m1", "--reason", "lost"]).ok();
    machine.until_it_logs("CX-0509");
    wait::until("the node to be offline", || (!is_online(&server, "m1")).then_some(()));
    machine.kill();
    // A new start changes nothing, and the same key cannot come in by another token.
    machine.launch();
    machine.until_it_logs("CX-0509");
    machine.kill();
    let token = join_token(&server, &[]);
    machine.join(&url(&server), &token, &[]).with(1).complains(&["CX-0541", "cortex-agent leave"]);
}

#[test]
fn a_machine_that_slept_past_its_certificate_renews_it_with_its_key_and_keeps_its_id() {
    let mut server = Server::start(&["--no-agent"]);
    let mut machine = Machine::joined(&server, "m1");
    let before = machine.agent(&["status", "--json"]).ok().json();
    travel(&mut server, 20 * DAY);
    machine.set_clock(20 * DAY);
    machine.launch();
    machine.until_online(&server);
    let after = machine.agent(&["status", "--json"]).ok().json();
    assert_eq!((&after["node"], &after["key_sha256"]), (&before["node"], &before["key_sha256"]));
    let end = |status: &serde_json::Value| status["not_after_ms"].as_u64().unwrap();
    assert!(end(&after) > end(&before) + 19 * 24 * 3_600 * 1_000, "{after}");
}

#[test]
fn past_the_grace_an_administrator_must_say_yes_and_the_node_keeps_its_id() {
    let mut server = Server::start(&["--no-agent"]);
    let mut machine = Machine::joined(&server, "m1");
    travel(&mut server, 40 * DAY);
    machine.set_clock(40 * DAY);
    machine.launch();
    machine.until_it_logs("CX-0515");
    machine.until_it_logs("cortex node approve");
    assert!(!is_online(&server, "m1"));
    server.cortex(&["node", "approve", "m1"]).ok();
    machine.until_online(&server);
}

#[test]
fn a_used_join_token_is_no_way_around_the_administrator() {
    let mut server = Server::start(&["--no-agent"]);
    let token = join_token(&server, &[]);
    let stranger = Stranger::new(&server);
    block_on(stranger.join(&token, "m1")).unwrap();
    travel(&mut server, 40 * DAY);
    let stranger = stranger.in_time(40 * DAY.unsigned_abs());
    let refused = block_on(stranger.join(&token, "m1")).unwrap_err();
    assert_eq!(refused.code, "CX-0515", "{refused:?}");
    server.cortex(&["node", "approve", "m1"]).ok();
    block_on(stranger.join(&token, "m1")).unwrap();
}

#[test]
fn leaving_ends_the_agent_forgets_the_key_and_tells_the_server() {
    let server = Server::start(&["--no-agent"]);
    let mut machine = Machine::joined(&server, "m1");
    machine.launch();
    machine.until_online(&server);
    let task = server.submit(&[], &["sleep", "300"]);
    server.until_state(&task, &["running"]);
    let left = machine.agent(&["leave", "--reason", "sold"]).ok();
    left.says(&["no longer node m1"]).complains(&[]);
    machine.end().with(78).complains(&["CX-0540"]);
    assert!(!machine.dir.join("identity/key.pem").exists());
    wait::until("the server to know", || (!is_online(&server, "m1")).then_some(()));
    assert!(server.cortex(&["node", "show", "m1"]).ok().text().to_lowercase().contains("left"));
    machine.agent(&["status"]).with(78).complains(&["CX-0540", "cortex-agent join"]);
    machine.agent(&["leave"]).with(78).complains(&["CX-0540"]);
    // The same machine may come back, as another node with a journal of its own.
    machine.join(&url(&server), &join_token(&server, &[]), &["--node", "m2"]).ok();
    machine.launch();
    crate::machine::until_online(&server, "m2");
}

#[test]
fn leaving_works_without_a_server() {
    let mut server = Server::start(&["--no-agent"]);
    let machine = Machine::joined(&server, "m1");
    drop(server.terminate());
    let left = machine.agent(&["leave"]).ok().says(&["its key is gone"]);
    left.complains(&["the server was not told", "cortex node revoke m1"]);
    assert!(!machine.dir.join("identity/key.pem").exists());
}

#[test]
fn joining_twice_and_running_without_joining_are_said_in_words() {
    let server = Server::start(&["--no-agent"]);
    let machine = Machine::joined(&server, "m1");
    let again = machine.join(&url(&server), &join_token(&server, &[]), &[]);
    again.with(1).complains(&["CX-0541", "node m1", "cortex-agent leave"]);
    let never = Machine::new(&server, "m2");
    never.agent(&["run"]).with(78).complains(&["CX-0540", "cortex-agent join"]);
    never.join(&url(&server), "cxj1.what", &[]).with(1).complains(&["CX-0522"]);
}

#[test]
fn an_older_connection_of_a_session_is_a_ghost_and_two_sessions_of_one_key_are_a_clone() {
    let server = Server::start(&["--no-agent"]);
    let node = Stranger::joined(&server, "m1");
    let token = block_on(node.mint()).unwrap();
    let hello = |session, generation| {
        let first = block_on(node.tunnel_as(Some(&token), session, generation)).unwrap().body;
        match first {
            Some(gateway_frame::Body::Welcome(_)) => "welcome".to_owned(),
            Some(gateway_frame::Body::Refuse(refuse)) => refuse.error.unwrap().code,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(hello("a", 5), "welcome");
    assert_eq!(hello("a", 4), "CX-0303", "an older connection");
    assert_eq!(hello("a", 5), "CX-0303", "the same again");
    assert_eq!(hello("a", 6), "welcome");
    let shown = || server.cortex(&["node", "show", "m1"]).ok().text();
    for (session, generation) in [("b", 1), ("a", 7)] {
        assert_eq!(hello(session, generation), "welcome");
    }
    assert!(!shown().contains("two machines"), "{}", shown());
    assert_eq!(hello("b", 2), "welcome");
    wait::until("the suspicion", || shown().contains("two machines").then_some(()));
}

#[test]
fn a_node_that_asks_for_certificates_all_the_time_has_to_wait() {
    let server = Server::start(&["--no-agent"]);
    let (stranger, token) = (Stranger::new(&server), join_token(&server, &[]));
    let codes: Vec<String> = (0..15)
        .filter_map(|_| block_on(stranger.join(&token, "m1")).err().map(|refused| refused.code))
        .collect();
    assert_eq!(codes, ["CX-0516"; 5], "ten at once, then one in ten minutes");
}

#[test]
fn a_new_ca_makes_nodes_renew_that_are_connected_and_those_that_come_back_later() {
    let server = Server::start(&["--no-agent"]);
    let (mut here, mut away) = (Machine::joined(&server, "m1"), Machine::joined(&server, "m2"));
    here.launch();
    here.until_online(&server);
    let ends = |machine: &Machine| {
        machine.agent(&["status", "--json"]).ok().json()["not_after_ms"].clone()
    };
    let before = [ends(&here), ends(&away)];
    server.cortex(&["ca", "rotate", "--what", "ca"]).ok();
    here.until_it_logs("the certificate was renewed");
    away.launch();
    away.until_it_logs("the certificate was renewed");
    for (machine, before) in [(&mut here, &before[0]), (&mut away, &before[1])] {
        machine.until_online(&server);
        assert_ne!(ends(machine), *before);
        machine.kill();
        // With a certificate of the new CA nobody asks again.
        machine.launch();
        machine.until_it_logs("connected");
        machine.until_online(&server);
        assert!(!machine.logs("asks for a new certificate"));
    }
}
