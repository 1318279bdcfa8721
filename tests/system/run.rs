//! `cortex run`: what a person sees of a command is what the command did.

use crate::support::Server;

#[test]
fn the_kernels_answer_comes_back_and_the_exit_code_is_zero() {
    let server = Server::start(&[]);
    let here = std::process::Command::new("uname").arg("-a").output().unwrap();
    let ended = server.run(&["uname", "-a"]).ok();
    assert_eq!(ended.stdout, here.stdout);
    assert_eq!(ended.stderr, "");
}

#[test]
fn both_streams_are_exact_to_the_byte_and_the_exit_code_passes_through() {
    let server = Server::start(&[]);
    let script = r"printf 'a\000\377\n\033[1m'; printf 'e\n' >&2; exit 7";
    let ended = server.run(&["sh", "-c", script]).with(7);
    assert_eq!(ended.stdout, b"a\0\xff\n\x1b[1m");
    assert_eq!(ended.stderr, "e\n");
    for code in [1, 99, 255] {
        server.run(&["sh", "-c", &format!("exit {code}")]).with(code);
    }
    server.run(&["sh", "-c", "kill -9 $$"]).with(128 + 9);
}

#[test]
fn output_of_several_megabytes_is_complete_and_in_order() {
    let server = Server::start(&[]);
    let expected: String = (1..=600_000).map(|n| format!("{n}\n")).collect();
    let ended = server.run(&["seq", "1", "600000"]).ok();
    assert_eq!(ended.stdout.len(), expected.len());
    assert!(ended.stdout == expected.as_bytes(), "same length, other bytes");
}

#[test]
fn standard_input_environment_and_directory_reach_the_command() {
    let server = Server::start(&[]);
    let input: Vec<u8> = (0..=255).cycle().take(100_000).collect();
    let copied = server.spawn_with(&["run", "--stdin", "-", "--", "cat"], &input).end().ok();
    assert!(copied.stdout == input, "standard input came back changed");
    let file = server.path("input.txt");
    std::fs::write(&file, "from a file").unwrap();
    let file = file.to_str().unwrap();
    let read = server.cortex(&["run", "--stdin", file, "--", "cat"]).ok();
    assert_eq!(read.text(), "from a file");
    let shown = server.cortex(&["run", "--env", "A=1=2", "--env", "B=", "--", "env"]).ok();
    assert!(shown.text().lines().any(|l| l == "A=1=2"), "{shown:?}");
    assert!(shown.text().lines().any(|l| l == "B="), "{shown:?}");
    let there = server.cortex(&["run", "--cwd", "/usr/bin", "--", "pwd"]).ok();
    assert_eq!(there.text(), "/usr/bin\n");
    server
        .cortex(&["run", "--cwd", "/no/such/place", "--", "pwd"])
        .with(125)
        .complains(&["CX-0405"]);
    server.cortex(&["run", "--env", "LD_PRELOAD=x", "--", "env"]).with(126).complains(&["CX-0406"]);
}

#[test]
fn a_program_that_the_owner_does_not_allow_is_denied_with_the_way_to_allow_it() {
    let server = Server::start(&[]);
    let effect = server.path("effect");
    let ended = server.run(&["touch", effect.to_str().unwrap()]).with(126);
    let ended = ended.complains(&["CX-0401", "touch", "policy.toml"]);
    assert_eq!(ended.text(), "");
    assert!(!effect.exists());
    server.allow(&["touch"]);
    server.run(&["touch", effect.to_str().unwrap()]).ok();
    assert!(effect.exists());
}

#[test]
fn a_program_that_is_not_there_is_127() {
    let server = Server::start(&[]);
    server.run(&["no-such-program-anywhere"]).with(127).complains(&["CX-0402"]);
}

#[test]
fn a_timeout_ends_the_whole_tree_and_is_124() {
    let server = Server::start(&[]);
    let nap = server.path("nap-of-the-tree");
    let script = format!("cat {0} & cat {0}", nap.display());
    make_fifo(&nap);
    let ended = server.cortex(&["run", "--timeout", "700ms", "--", "sh", "-c", &script]).with(124);
    ended.complains(&["timeout"]);
    assert_eq!(crate::support::processes::with_argument(nap.to_str().unwrap()), Vec::<i32>::new());
}

#[test]
fn json_lines_tell_the_same_as_the_plain_form() {
    let server = Server::start(&[]);
    let ended = server.cortex(&["run", "--json", "--", "sh", "-c", "echo out; exit 3"]).with(3);
    let lines = ended.json_lines();
    assert_eq!(lines.first().unwrap()["type"], "submitted");
    let last = lines.last().unwrap();
    assert_eq!(last["type"], "task");
    assert_eq!(last["task"]["state"], "failed");
    assert_eq!(last["task"]["outcome"]["ending"]["code"], 3);
    assert_eq!(last["task"]["actor"]["id"], "tester");
}

fn make_fifo(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}
