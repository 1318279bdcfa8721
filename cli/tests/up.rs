//! `cortex up` as its user meets it. What it does to tasks is tested in the system tests.

use crate::support::{Running, Up, cortex};

#[test]
fn a_second_server_on_the_same_directory_is_refused_and_harms_nothing() {
    let up = Up::start();
    let second = up.cortex(&["up", "--no-agent"]).exited(125);
    assert!(second.stderr.starts_with("error: CX-0701: "), "{second:?}");
    assert_eq!(up.cortex(&["run", "--", "echo", "still here"]).exited(0).out(), "still here\n");
}

#[test]
fn an_address_in_use_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let done = Running::start(cortex(&data).args(["up", "--listen", &address])).end().exited(125);
    assert!(done.stderr.starts_with("error: CX-0705: "), "{done:?}");
    assert!(done.stderr.contains(&address), "{done:?}");
}

#[test]
fn an_address_of_another_machine_is_not_listened_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = cortex(&dir.path().join("data"));
    let done = Running::start(command.args(["up", "--listen", "192.0.2.1:0"])).end().exited(125);
    assert!(done.stderr.starts_with("error: CX-0803: "), "{done:?}");
}
