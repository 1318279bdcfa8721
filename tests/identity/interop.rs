//! An agent in Python that knows nothing but the `.proto` files, on the official gRPC library.

use crate::machine::{address, join_token, until_online, url, user_token};
use crate::raw::checkout;
use crate::support::Server;
use crate::support::run::Running;
use std::process::Command;

/// A script of `tests/interop`, with the packages that `cargo xtask setup` installs.
fn python(script: &str, args: &[&str]) -> Running {
    let packages = checkout().join(".tools/python");
    let there = packages.join("installed.txt").is_file();
    assert!(there, "{} is missing; run `cargo xtask setup`", packages.display());
    let mut command = Command::new("python3");
    command.arg(checkout().join("tests/interop").join(script)).args(args);
    command.env("PYTHONPATH", packages).env("PYTHONDONTWRITEBYTECODE", "1");
    Running::start(command, b"")
}

#[test]
fn an_agent_in_another_language_joins_works_and_is_refused_with_a_bad_token() {
    let server = Server::start(&["--no-agent"]);
    let protos = checkout().join("proto");
    let token = join_token(&server, &[]);
    let mut agent = python("agent.py", &[protos.to_str().unwrap(), &url(&server), &token, "snake"]);
    agent.until_it_says("welcome default");
    until_online(&server, "snake");
    let lines = server.path("tasks.jsonl");
    std::fs::write(&lines, "{\"echo\":\"from afar\",\"node\":\"snake\"}\n").unwrap();
    let ran = server.cortex(&["task", "submit", "-f", lines.to_str().unwrap(), "--json"]).ok();
    let id = ran.json_lines()[0]["task_id"].as_str().unwrap().to_owned();
    server.until_state(&id, &["succeeded"]);
    server.cortex(&["task", "output", &id]).ok().says(&["from afar"]);
    agent.end().ok().says(&[
        "health SERVING",
        "joined default snake",
        "minted 3 parts",
        "refused UNAUTHENTICATED",
        "welcome default",
        &format!("ran {id}"),
        &format!("acknowledged {id}"),
    ]);
}

#[test]
fn the_server_describes_itself_to_a_client_in_another_language() {
    let server = Server::start(&["--no-agent"]);
    let ca = server.data().join("authority/ca.pem");
    let token = user_token(&server, &["--role", "viewer", "--for", "reader"]);
    let (ca, to) = (ca.to_str().unwrap(), address(&server).to_string());
    let listed = python("reflect.py", &[ca, &to, &token]).end().ok();
    listed.says(&[
        "cortex.v1.AgentGateway",
        "cortex.v1.Cortex",
        "cortex.v1.NodeIdentity",
        "grpc.health.v1.Health",
    ]);
    let refused = python("reflect.py", &[ca, &to, "nonsense"]).end().with(1);
    refused.complains(&["UNAUTHENTICATED"]);
}
