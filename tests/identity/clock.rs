//! Machines whose clock is wrong.

use crate::machine::{Machine, is_online, join_token, url};
use crate::support::Server;

const MINUTE: i64 = 60;

#[test]
fn two_minutes_in_either_direction_do_no_harm() {
    let server = Server::start(&["--no-agent"]);
    for (name, skew) in [("slow", -2 * MINUTE), ("fast", 2 * MINUTE)] {
        let mut machine = Machine::new(&server, name);
        machine.set_clock(skew);
        machine.join(&url(&server), &join_token(&server, &[]), &[]).ok();
        machine.launch();
        machine.until_online(&server);
    }
}

#[test]
fn ten_minutes_are_an_error_that_names_them_until_the_clock_is_set() {
    let server = Server::start(&["--no-agent"]);
    for (name, skew, said) in [
        ("slow", -10 * MINUTE, "behind the server's"),
        ("fast", 10 * MINUTE, "ahead of the server's"),
    ] {
        let mut machine = Machine::new(&server, name);
        machine.set_clock(skew);
        let refused = machine.join(&url(&server), &join_token(&server, &[]), &[]).with(1);
        let refused = refused.complains(&["CX-0506", "min", said, "hint: set"]);
        let minutes = ["clock is 10 min", "clock is 9 min 59 s"];
        assert!(minutes.iter().any(|m| refused.stderr.contains(m)), "{}", refused.stderr);
        machine.launch();
        machine.until_it_logs("CX-0506");
        assert!(!is_online(&server, name));
        machine.kill();
        machine.set_clock(0);
        machine.launch();
        machine.until_online(&server);
    }
}
