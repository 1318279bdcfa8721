//! The data directory: one server at a time, nothing foreign or newer is touched, damage is said.

use crate::support::{Server, text};
use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Starts a server that must refuse, and returns how it ended.
fn refused(server: &Server) -> crate::support::run::Ended {
    server.cortex(&["up", "--no-agent"]).with(125)
}

/// Every file below, with what it holds.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(content(&path));
        } else {
            found.insert(text(&path), fs::read(&path).unwrap());
        }
    }
    found
}

#[test]
fn a_second_server_on_the_same_directory_is_refused_and_the_first_goes_on() {
    let server = Server::start(&[]);
    let pid = server.up_process().pid().to_string();
    refused(&server).complains(&["CX-0701", &pid]);
    server.run(&["echo", "still here"]).ok().says(&["still here"]);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let server = Server::prepare(&[]);
    let ended = server.cortex(&["up", "--no-agent", "--listen", &address]).with(125);
    ended.complains(&["CX-0705", &address]);
    // Of the range that is kept for documentation: no machine has it.
    let foreign = server.cortex(&["up", "--no-agent", "--listen", "192.0.2.1:0"]).with(125);
    foreign.complains(&["CX-0803", "192.0.2.1"]);
}

#[test]
fn a_newer_a_foreign_and_a_damaged_directory_are_refused_and_left_as_they_are() {
    let table = [
        ("version", "cortex-data 2\n", "CX-0702"),
        ("version", "garbage", "CX-0703"),
        ("holiday.jpg", "not ours", "CX-0703"),
    ];
    for (name, bytes, code) in table {
        let server = Server::prepare(&[]);
        fs::create_dir_all(server.data()).unwrap();
        fs::write(server.data().join(name), bytes).unwrap();
        refused(&server).complains(&[code, "hint"]);
        let left = content(server.data());
        assert_eq!(left.len(), 1, "{:?}", left.keys());
        assert_eq!(left.into_values().next().unwrap(), bytes.as_bytes());
    }
}

#[test]
fn a_damaged_log_is_refused_and_left_as_it_is() {
    let mut server = Server::start(&["--no-agent"]);
    server.submit(&[], &["true"]);
    server.terminate();
    let log = server.data().join("log");
    for file in content(&log).into_keys() {
        let size = fs::metadata(&file).unwrap().len();
        if size > 0 && file.ends_with(".redb") {
            fs::write(&file, vec![0xa5; usize::try_from(size).unwrap()]).unwrap();
        }
    }
    let before = content(&log);
    refused(&server).complains(&["CX-0604", "backup"]);
    assert!(content(&log) == before, "the damaged log was changed");
}

#[test]
fn a_server_does_not_start_with_a_token_that_others_can_read() {
    let mut server = Server::start(&["--no-agent"]);
    server.terminate();
    for name in ["client.token", "authority/ca.key", "authority/token-1.key"] {
        let token = server.data().join(name);
        fs::set_permissions(&token, fs::Permissions::from_mode(0o644)).unwrap();
        refused(&server).complains(&["CX-0706", "chmod 600", name]);
        fs::set_permissions(&token, fs::Permissions::from_mode(0o600)).unwrap();
    }
    server.up();
}

#[test]
fn no_argument_or_output_of_a_task_reaches_the_servers_own_log() {
    let server = Server::start(&[]);
    let argv = ["sh", "-c", "echo secret-in-output-$((40+2)) # secret-in-argument"];
    server.cortex(&[&["run", "--env", "A=secret-in-environment", "--"], &argv[..]].concat()).ok();
    let logged = server.up_process().stderr();
    assert!(!logged.contains("secret-in-"), "{logged}");
}
