//! Join tokens: used, used up, out of time, of another workspace, shown by many at once; and names in requests.

use crate::machine::{Machine, Two, address, join_token, still_serves, url};
use crate::raw::{Refused, Stranger, block_on, now_s};
use crate::support::{Server, wait};
use std::collections::BTreeSet;

fn refused<T: std::fmt::Debug>(result: Result<T, Refused>) -> Refused {
    let refused = result.unwrap_err();
    assert!(!refused.hint.is_empty(), "{refused:?}");
    refused
}

#[test]
fn a_join_token_is_good_for_one_machine_and_the_same_machine_may_ask_again() {
    let server = Server::start(&["--no-agent"]);
    let token = join_token(&server, &[]);
    let (first, second) = (Stranger::new(&server), Stranger::new(&server));
    let joined = block_on(first.join(&token, "n1")).unwrap();
    let again = block_on(first.join(&token, "n1")).unwrap();
    assert_eq!((joined.node.as_str(), again.node.as_str()), ("n1", "n1"));
    assert_eq!(refused(block_on(second.join(&token, "n2"))).code, "CX-0512");
    let machine = Machine::new(&server, "n3");
    machine.join(&url(&server), &token, &[]).with(1).complains(&["CX-0512", "hint"]);
}

#[test]
fn a_token_out_of_time_of_another_workspace_revoked_or_changed_is_refused() {
    let server = Server::start(&["--no-agent"]);
    let stranger = Stranger::new(&server);
    let short = join_token(&server, &["--ttl", "1s"]);
    let begun = now_s();
    wait::until("a second to pass", || (now_s() > begun + 1).then_some(()));
    assert_eq!(refused(block_on(stranger.join(&short, "n1"))).code, "CX-0513");

    let token = join_token(&server, &[]);
    let other = token.replacen("cxj1.default.", "cxj1.other.", 1);
    assert_ne!(other, token);
    assert_eq!(refused(block_on(stranger.join(&other, "n1"))).code, "CX-0511");
    let parts: Vec<&str> = token.split('.').collect();
    let secret = format!("{}.{}.{}.{}.{}", parts[0], parts[1], parts[2], "0".repeat(64), parts[4]);
    let guessed = refused(block_on(stranger.join(&secret, "n1")));
    assert_eq!(guessed.code, "CX-0511");
    for text in ["", "cxj1", "x", &"y".repeat(20_000)] {
        assert_eq!(refused(block_on(stranger.join(text, "n1"))).code, "CX-0511", "{text:.9}");
    }
    server.cortex(&["token", "revoke", parts[2]]).ok();
    let ended = wait::until("the token to end", || block_on(stranger.join(&token, "n1")).err());
    assert_eq!(ended.code, "CX-0504", "{ended:?}");
}

#[test]
fn a_request_for_another_name_is_refused_and_uses_nothing_up() {
    let server = Server::start(&["--no-agent"]);
    let (stranger, token) = (Stranger::new(&server), join_token(&server, &[]));
    for name in [
        "spiffe://elsewhere/workspace/default/node/n1",
        "spiffe://elsewhere/workspace/other/node/n1",
        "https://example.org/",
    ] {
        let refused = refused(block_on(stranger.join_as(&token, "n1", &[name])));
        assert_eq!(refused.code, "CX-0514", "{name}: {refused:?}");
    }
    for id in ["N 1", "../n", "*", &"n".repeat(63)] {
        assert_eq!(refused(block_on(stranger.join(&token, id))).code, "CX-0102", "{id}");
    }
    block_on(stranger.join(&token, "n1")).unwrap();
}

#[test]
fn a_node_id_that_is_taken_gets_a_neighbour_and_never_the_other_ones_certificate() {
    let server = Server::start(&["--no-agent"]);
    let (first, second) = (Stranger::joined(&server, "n1"), Stranger::joined(&server, "n1"));
    assert_eq!(first.node, "n1");
    assert!(second.node.starts_with("n1-"), "{}", second.node);
    assert!(block_on(first.mint()).is_ok() && block_on(second.mint()).is_ok());
}

#[test]
fn guessing_makes_an_address_wait_and_not_the_nodes_behind_it() {
    let server = Server::start(&[]);
    let node = Stranger::joined(&server, "n1");
    let (stranger, token) = (Stranger::new(&server), join_token(&server, &[]));
    let parts: Vec<&str> = token.split('.').collect();
    let guess = |n: u32| format!("{}.{}.{}.{n:064}.{}", parts[0], parts[1], parts[2], parts[4]);
    let codes: Vec<String> =
        (0..60).map(|n| block_on(stranger.join(&guess(n), "n2")).unwrap_err().code).collect();
    assert_eq!(codes[0], "CX-0511");
    assert_eq!(codes[59], "CX-0516", "{codes:?}");
    let refused = refused(block_on(stranger.join(&token, "n2")));
    assert!(refused.message.contains("wait"), "{refused:?}");
    assert!(block_on(node.mint()).is_ok());
    still_serves(&server);
}

#[test]
fn a_token_that_many_addresses_guess_at_makes_guessers_wait_and_not_its_holder() {
    let server = Server::start(&["--no-agent"]);
    let token = join_token(&server, &[]);
    let parts: Vec<&str> = token.split('.').collect();
    let guess = |n: u8| {
        let text = format!("{}.{}.{}.{n:064}.{}", parts[0], parts[1], parts[2], parts[4]);
        block_on(Stranger::new(&server).coming_from(n).join(&text, "n2")).unwrap_err().code
    };
    let codes: Vec<String> = (1..=40).map(guess).collect();
    assert_eq!((codes[0].as_str(), codes[39].as_str()), ("CX-0511", "CX-0516"), "{codes:?}");
    assert!(block_on(Stranger::new(&server).coming_from(99).join(&token, "n1")).is_ok());
}

#[test]
fn of_many_machines_at_two_gateways_one_gets_the_single_use() {
    let Two { gateways, authority, .. } = &Two::start();
    for round in 0..3 {
        let token = join_token(&gateways[0], &[]);
        // The second gateway may learn of the token a moment later, and says then that it does not know it.
        let wins: Vec<Result<String, String>> = std::thread::scope(|scope| {
            let one = |n: usize| {
                let (token, gateway) = (token.as_str(), &gateways[n % 2]);
                let stranger = Stranger::with_roots(authority, address(gateway));
                let id = format!("n{round}-{n}");
                scope.spawn(move || {
                    let joined = block_on(stranger.join(token, &id));
                    joined.map(|joined| joined.node).map_err(|refused| refused.code)
                })
            };
            let handles: Vec<_> = (0..8).map(one).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        let won: BTreeSet<_> = wins.iter().flatten().collect();
        assert_eq!(won.len(), 1, "{wins:?}");
        assert!(
            wins.iter().flat_map(|win| win.as_ref().err()).all(|code| code == "CX-0512"),
            "{wins:?}"
        );
    }
}
