//! The audit as its users meet it: what a task did in plain words, and a journal that anybody verifies, against keys that they brought, on
//! copies that they took, with three verifiers that share no code.

use crate::set_back::on;
use crate::support::agent::copy;
use crate::support::run::{self, Ended, Running};
use crate::support::{Agent, Server, text, wait};
use cortex_tests::browser::Browser;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The records about a task, once its last one is proven.
#[track_caller]
pub(crate) fn until_told(server: &Server, id: &str, last: &str) -> Vec<Value> {
    wait::until(&format!("the proof of the {last} of task {id}"), || {
        let told = server.cortex(&["audit", "show", "--task", id, "--json"]);
        let told = (told.code == 0).then(|| told.json())?.as_array().cloned()?;
        let done = told.iter().any(|record| record["kind"] == last);
        let proven = told.iter().all(|record| record["proven_by"].as_u64() > Some(0));
        (done && proven).then_some(told)
    })
}

/// A node's journal as the server lists it.
pub(crate) fn journal(server: &Server, node: &str) -> Option<Value> {
    let listed = server.cortex(&["audit", "show", "--json"]);
    let listed = (listed.code == 0).then(|| listed.json())?;
    let of_node = |log: &&Value| log["node"] == node && log["current"] == true;
    listed.as_array()?.iter().find(of_node).cloned()
}

/// The policy that the server states, kept as an auditor would keep it.
#[track_caller]
pub(crate) fn policy(server: &Server) -> String {
    let path = server.path("policy.txt");
    std::fs::write(&path, server.cortex(&["audit", "keys"]).ok().stdout).unwrap();
    text(&path)
}

/// `cortex-agent journal ...` on the local agent's directory, beside the agent.
pub(crate) fn on_node(server: &Server, args: &[&str]) -> Ended {
    let mut command = run::command(server.data());
    command.env_remove("CORTEX_DATA_DIR").args(["__agent", "journal"]).args(args);
    command.arg("--data-dir").arg(server.data().join("agent"));
    Running::start(command, b"").end()
}

fn node(server: &Server) -> String {
    server.nodes()[0]["node"].as_str().unwrap().to_owned()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A verifier of another language; its exit code.
#[track_caller]
fn other(program: &str, script: &Path, args: &[&str]) -> i32 {
    let done = Command::new(program)
        .arg(script)
        .args(args)
        .env("PYTHONPATH", repository().join(".tools/python"))
        .output()
        .unwrap_or_else(|e| panic!("{program}: {e}"));
    done.status.code().unwrap()
}

/// The verdicts of all three verifiers about a bundle, which must agree.
#[track_caller]
pub(crate) fn verdict(server: &Server, bundle: &Path, policy: &str) -> i32 {
    let rust = server.cortex(&["audit", "verify", "--bundle", &text(bundle), "--policy", policy]);
    let args = ["--policy", policy, &text(bundle)];
    let python = other("python3", &bundle.join("verify.py"), &args);
    let js = other("node", &repository().join("tests/verifiers/js/cli.mjs"), &args);
    assert_eq!((rust.code, rust.code), (python, js), "{}{}", rust.text(), rust.stderr);
    rust.code
}

/// JSON on one line against a schema of the project.
#[track_caller]
fn fits(schema: &str, json: &[u8]) {
    let value: Value = serde_json::from_slice(json).unwrap();
    fit(schema, format!("{value}\n").as_bytes());
}

/// The same for many lines.
#[track_caller]
fn fit(schema: &str, lines: &[u8]) {
    let mut command = Command::new("python3");
    command.arg(repository().join("tests/verifiers/python/check_schemas.py"));
    command.arg(repository().join("schemas").join(schema));
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("line"), lines).unwrap();
    let line = std::fs::File::open(dir.path().join("line")).unwrap();
    let done = command.stdin(line).output().unwrap();
    assert!(done.status.success(), "{schema}: {}", String::from_utf8_lossy(&done.stdout));
}

#[test]
fn what_a_task_did_is_told_in_plain_words_with_its_proof() {
    let server = Server::start(&[]);
    let id = server.submit(&[], &["sh", "-c", "echo to-be-seen; exit 3"]);
    server.until_state(&id, &["failed"]);
    let told = until_told(&server, &id, "outcome");
    let kinds: Vec<_> = told.iter().map(|record| record["kind"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["intent", "outcome"]);
    let said = server.cortex(&["audit", "show", "--task", &id]).ok().says(&[
        "asked    by tester (human)",
        "argv     [sh, -c, 'echo to-be-seen; exit 3']",
        "program  /",
        "rules    allow (rule ",
        "level    ",
        "ended    exited with code 3 after ",
        "answers  record ",
        "stdout   ",
        "proof    under the cosigned checkpoint of size ",
    ]);
    // The same story ends what is shown of the task itself.
    let task = server.cortex(&["task", "show", &id]).ok().text();
    for line in said.text().lines().filter(|line| !line.starts_with("proof")) {
        assert!(task.contains(line), "no {line:?} in {task}");
    }
    assert_eq!(server.task(&id)["audit"].as_array().unwrap().len(), 2);

    let flags = ["--actor-kind", "ai", "--actor-id", "bot", "--actor-model", "m1"];
    let flags = [&flags[..], &["--on-behalf-of", "ada"]].concat();
    let asked = server.submit(&flags, &["echo", "for ada"]);
    server.until_state(&asked, &["succeeded"]);
    until_told(&server, &asked, "outcome");
    let whom = "asked    by bot (ai, model m1) on behalf of ada";
    server.cortex(&["audit", "show", "--task", &asked]).ok().says(&[whom]);

    let denied = server.submit(&[], &["/usr/bin/id"]);
    server.until_state(&denied, &["denied"]);
    until_told(&server, &denied, "refusal");
    server.cortex(&["audit", "show", "--task", &denied]).ok().says(&[
        "refused  CX-",
        "argv     [/usr/bin/id]",
        "rules    deny",
        "asked    by tester (human)",
    ]);
    let unknown = "0".repeat(id.len());
    server.cortex(&["audit", "show", "--task", &unknown]).ok().says(&["no journal"]);
}

#[test]
fn a_journal_is_verified_followed_proven_and_exported() {
    let server = Server::start(&[]);
    let id = server.submit(&[], &["echo", "x"]);
    server.until_state(&id, &["succeeded"]);
    let told = until_told(&server, &id, "outcome");
    let seq = told[1]["seq"].as_u64().unwrap().to_string();
    let (node, policy) = (node(&server), policy(&server));
    // The keys are those that the machine and the mirror themselves have.
    let stated = std::fs::read_to_string(&policy).unwrap();
    let mirror = std::fs::read_to_string(server.data().join("mirror.vkey")).unwrap();
    assert!(stated.contains(mirror.trim()), "{stated}");
    let own = on_node(&server, &["show", "--seq", "0", "--json"]).ok().json();
    let kept = on_node(&server, &["keys"]).ok().text();
    let lines = |text: &str| -> Vec<String> {
        text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    };
    assert_eq!(lines(&kept), lines(&stated), "the machine and its server name the same keys");
    assert!(stated.contains(&format!("/audit/{node}/{}", &own["leaf"].as_str().unwrap()[..32])));

    server.cortex(&["audit", "show"]).ok().says(&[&node, "active"]);
    server.cortex(&["audit", "show", &node]).ok().says(&[
        "is active",
        "countersigned at",
        "begins",
    ]);
    server.cortex(&["audit", "show", &node, "--from", "0", "--count", "2"]).ok().says(&["genesis"]);
    // Never without keys that the caller brought.
    server.cortex(&["audit", "verify", &node]).with(3).says(&["UNANCHORED", "--policy"]);
    let verified = server.cortex(&["audit", "verify", &node, "--policy", &policy]).ok();
    verified.says(&["VERIFIED", "each follows the one before", "countersigned up to"]);
    let json = server.cortex(&["audit", "verify", &node, "--policy", &policy, "--json"]).ok();
    fits("audit-verify-report.schema.json", &json.stdout);
    server.cortex(&["audit", "verify", &node, "--policy", "/nonexistent"]).with(2);
    server.cortex(&["audit", "verify", "nobody", "--policy", &policy]).complains(&["CX-1502"]);

    server.cortex(&["audit", "prove", &node, &seq]).with(3).says(&["UNANCHORED"]);
    let proof = text(&server.path("proof"));
    let args = ["audit", "prove", &node, &seq, "--policy", &policy, "--out", &proof];
    server.cortex(&args).ok().says(&["VERIFIED", "outcome", "hash     "]);
    // Later, without the server.
    let record = text(&server.path("record"));
    server.cortex(&["audit", "prove", &node, &seq, "--body", &record]).with(3);
    let alone = ["audit", "verify", "--record", &record, "--proof", &proof];
    server.cortex(&[&alone[..], &["--policy", &policy]].concat()).ok().says(&["VERIFIED"]);
    server.cortex(&alone).with(3).says(&["UNANCHORED"]);
    assert!(std::fs::read_to_string(&proof).unwrap().starts_with("c2sp.org/tlog-proof@v1\n"));
    server.cortex(&["audit", "prove", &node, "999999"]).complains(&["CX-150"]);

    let tail = server.cortex(&["audit", "tail", &node, "--no-follow", "-n", "3"]).ok().text();
    assert_eq!(tail.lines().count(), 3, "{tail}");
    let mut tail = server.spawn(&["audit", "tail", &node]);
    let next = server.submit(&[], &["echo", "followed"]);
    tail.until_it_says(&next);
    drop(tail);

    let verify = on_node(&server, &["verify", "--policy", &policy]).ok();
    verify.says(&["VERIFIED", &node, "openings"]);
    on_node(&server, &["verify"]).with(3).says(&["UNANCHORED"]);
    on_node(&server, &["verify", "--mirror", mirror.trim()]).ok().says(&["VERIFIED"]);
    let json = on_node(&server, &["verify", "--policy", &policy, "--json"]).ok();
    fits("journal-verify-report.schema.json", &json.stdout);
    on_node(&server, &["doctor"]).ok().says(&["an agent has it open", "Nothing is wrong"]);
    on_node(&server, &["show", "--task", &id]).ok().says(&["intent", "outcome"]);
}

#[test]
fn a_machine_that_joins_believes_the_mirror_that_its_server_names() {
    let server = Server::start(&["--no-agent"]);
    let mirror = std::fs::read_to_string(server.data().join("mirror.vkey")).unwrap();
    wait::until("the mirror to be heard", || {
        server.cortex(&["audit", "keys"]).text().contains(mirror.trim()).then_some(())
    });
    let endpoint = server.data().join("endpoint.json");
    let mut agent = Agent::prepare(&server, "n1", endpoint.clone(), &[]);
    let identity = agent.dir().join("identity/identity.json");
    assert!(std::fs::read_to_string(&identity).unwrap().contains(mirror.trim()));
    agent.launch();
    agent.until_online(&server);
    on(&agent, &["keys"]).ok().says(&["/audit/n1/", mirror.trim(), "quorum mirror1"]);
    agent.kill();
    // That key and no other: with another one there, this server's mirror is a stranger.
    let mut agent = Agent::prepare(&server, "n2", endpoint, &[]);
    let identity = agent.dir().join("identity/identity.json");
    let other = "cortex.example/mirror/m1+8004e3a1+BIE5dw6ofRdfVqNUZsNMfszLjYqRtO43ol32D1uPybOU";
    let text = std::fs::read_to_string(&identity).unwrap().replace(mirror.trim(), other);
    std::fs::write(&identity, text).unwrap();
    agent.launch();
    agent.until_online(&server);
    let id = server.submit(&["--node", "n2"], &["echo", "x"]);
    server.until_state(&id, &["succeeded"]);
    wait::until("the refusal of its acknowledgements", || {
        agent.log().contains("an acknowledgement is not one").then_some(())
    });
    on(&agent, &["keys"]).ok().says(&[other]);
    let verified = on(&agent, &["verify", "--mirror", mirror.trim(), "--json"]).json();
    let fresh = &verified["report"]["sources"][0]["freshness"];
    assert_eq!(fresh["cosigned_size"], Value::Null, "{verified}");
}

#[test]
fn the_program_gives_every_vector_its_exit_code_and_a_report_of_its_schema() {
    let mut exits = std::collections::BTreeMap::new();
    let reports = tempfile::tempdir().unwrap();
    let mut lines = Vec::new();
    for kind in ["good", "bad"] {
        let folder = repository().join("tests/golden/audit/v1").join(kind);
        for dir in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            let read = |name: &str| std::fs::read(dir.join(name)).ok();
            let json = |bytes: Vec<u8>| serde_json::from_slice::<Value>(&bytes).unwrap();
            let expected = read("expected.json").map(json).unwrap()["exit"].as_i64().unwrap();
            let options = read("options.json").map(json).unwrap_or_default();
            let mut command = run::command(reports.path());
            command.args(["audit", "verify", "--json"]);
            let mut flag = |flag: &str, name: &str| {
                if dir.join(name).exists() {
                    command.arg(flag).arg(dir.join(name));
                }
            };
            flag("--policy", "policy");
            flag("--bundle", "source1");
            flag("--bundle", "source2");
            flag("--since", "since1.note");
            flag("--record", "record.json");
            flag("--proof", "record.tlog-proof");
            if options["require_openings"] == true {
                command.arg("--require-openings");
            }
            // These two are about a time that has gone by: what is young enough there is old now.
            let mut expected = expected;
            if let Some(age) = options["max_age"].as_u64() {
                command.arg("--max-age").arg(format!("{age}s"));
                expected = if expected == 0 { 6 } else { expected };
            }
            let ended = Running::start(command, b"").end();
            assert_eq!(i64::from(ended.code), expected, "{}: {}", dir.display(), ended.stderr);
            *exits.entry(ended.code).or_insert(0) += 1;
            if ended.code != 2 {
                lines.extend_from_slice(&ended.stdout);
            }
        }
    }
    assert_eq!(exits.keys().copied().collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 6, 7], "{exits:?}");
    fit("audit-verify-report.schema.json", &lines);
    // Of the codes 8 is left: what cannot be read.
    let nothing = text(&reports.path().join("nothing"));
    let mut command = run::command(reports.path());
    command.args(["audit", "verify", "--record", &nothing, "--proof", &nothing]);
    Running::start(command, b"").end().with(8).complains(&["nothing"]).says(&["UNREADABLE"]);
}

#[test]
fn a_command_cannot_write_lines_of_its_own_into_what_an_auditor_reads() {
    let server = Server::start(&[]);
    let forged =
        "x\nended    exited with code 0\nproof    under the cosigned checkpoint of size 99";
    let argv = ["echo", forged, "\u{1b}[2J\u{9b}31m", "\u{202e}txt.hs", "one, two", "it's \\n"];
    let id = server.submit(&[], &argv);
    server.until_state(&id, &["succeeded"]);
    until_told(&server, &id, "outcome");
    let told = server.cortex(&["audit", "show", "--task", &id]).ok().text();
    let begin = |word: &str| told.lines().filter(|line| line.starts_with(word)).count();
    assert_eq!((begin("ended"), begin("proof")), (1, 2), "{told}");
    let shown = [
        r"argv     [echo, $'x\nended    exited with code 0\nproof    under the cosigned checkpoint of size 99', ",
        r"$'\u{1b}[2J\u{9b}31m', $'\u{202e}txt.hs', 'one, two', 'it'\''s \n']",
    ];
    assert!(told.contains(&shown.concat()), "{told}");
    let task = server.cortex(&["task", "show", &id]).ok().text();
    let node = on_node(&server, &["show", "--task", &id]).ok().text();
    for told in [told, task, node] {
        let hidden = |c: &char| "\u{1b}\u{9b}\u{202e}".contains(*c);
        assert_eq!(told.chars().find(hidden), None, "{told:?}");
        let forged = |line: &&str| {
            line.trim_start().starts_with("proof    under the cosigned checkpoint of size 99")
        };
        assert_eq!(told.lines().find(forged), None, "{told}");
    }
}

#[test]
fn the_page_in_a_bundle_verifies_it_from_the_disk_in_a_browser() {
    let server = Server::start(&[]);
    let id = server.submit(&[], &["echo", "seen in a browser"]);
    server.until_state(&id, &["succeeded"]);
    let told = until_told(&server, &id, "outcome");
    let (node, policy) = (node(&server), policy(&server));
    let bundle = server.path("bundle");
    server.cortex(&["audit", "export", &node, &text(&bundle)]).ok();
    let [record, proof] = ["record", "proof"].map(|name| server.path(name));
    let seq = told[1]["seq"].to_string();
    let prove = ["audit", "prove", &node, &seq, "--out", &text(&proof), "--body", &text(&record)];
    server.cortex(&prove).with(3);

    let mut browser = Browser::start().unwrap();
    let mut judged = |chosen: &[(&str, &Path)]| {
        browser.open(&format!("file://{}", text(&bundle.join("verify.html")))).unwrap();
        browser.wait("document.readyState === 'complete' && !go.disabled").unwrap();
        for (id, path) in chosen {
            browser.choose(id, &[path]).unwrap();
        }
        browser.evaluate("go.click()").unwrap();
        browser.wait("verdict.dataset.exit !== undefined").unwrap();
        let shown = browser.evaluate("verdict.textContent + '\\n' + words.textContent").unwrap();
        shown.as_str().unwrap().to_owned()
    };
    let policy = Path::new(&policy);
    let shown = judged(&[("bundle", &bundle), ("policy", policy)]);
    assert!(shown.starts_with("VERIFIED: "), "{shown}");
    // The same words as the program's.
    let said =
        server.cortex(&["audit", "verify", "--bundle", &text(&bundle), "--policy", &text(policy)]);
    for line in said.ok().text().lines().filter(|line| line.starts_with("  ")) {
        assert!(shown.contains(line), "no {line:?} in {shown}");
    }
    let shown = judged(&[("record", &record), ("proof", &proof), ("policy", policy)]);
    assert!(shown.starts_with("VERIFIED: "), "{shown}");
    assert!(judged(&[("bundle", &bundle)]).starts_with("UNANCHORED: "));

    let damaged = server.path("damaged");
    copy(&bundle, &damaged);
    let records = damaged.join("records/0000000000000000.ndjson");
    let body =
        std::fs::read_to_string(&records).unwrap().replace("\"exit_code\":0", "\"exit_code\":1");
    std::fs::write(&records, body).unwrap();
    let shown = judged(&[("bundle", &damaged), ("policy", policy)]);
    assert!(shown.starts_with("INVALID: "), "{shown}");
    let shown = judged(&[("bundle", &bundle), ("copy", &damaged), ("policy", policy)]);
    assert!(shown.contains("compared: record ") && shown.starts_with("INVALID: "), "{shown}");
}

#[test]
fn a_bundle_is_judged_alike_by_all_verifiers_and_no_change_goes_unseen() {
    let server = Server::start(&[]);
    for n in 0..4 {
        server.run(&["echo", &n.to_string()]).ok();
    }
    let id = server.submit(&[], &["echo", "last"]);
    server.until_state(&id, &["succeeded"]);
    until_told(&server, &id, "outcome");
    let (node, policy) = (node(&server), policy(&server));
    let bundle = server.path("bundle");
    server.cortex(&["audit", "export", &node, &text(&bundle)]).ok().says(&["countersigned up to"]);
    server.cortex(&["audit", "export", &node, &text(&bundle)]).complains(&["cannot be written"]);
    fits("audit-bundle.schema.json", &std::fs::read(bundle.join("manifest.json")).unwrap());
    assert_eq!(verdict(&server, &bundle, &policy), 0);
    // The server's copy against the bundle, and a checkpoint that was kept.
    let notes = std::fs::read_dir(bundle.join("checkpoints")).unwrap();
    let since = notes.map(|note| text(&note.unwrap().path())).max().unwrap();
    let both = ["audit", "verify", &node, "--bundle", &text(&bundle), "--policy", &policy];
    server
        .cortex(&[&both[..], &["--since", &since]].concat())
        .ok()
        .says(&["the same in all copies"]);
    server.cortex(&[&both[..], &["--require-openings"]].concat()).ok();
    server.cortex(&[&both[..], &["--max-age", "1h"]].concat()).ok();

    let records = |dir: &Path| dir.join("records/0000000000000000.ndjson");
    let body = std::fs::read(records(&bundle)).unwrap();
    let ends: Vec<usize> =
        body.iter().enumerate().filter(|(_, b)| **b == b'\n').map(|(at, _)| at + 1).collect();
    let half = ends[ends.len() / 2];
    let flipped = [&body[..half + 20], &[body[half + 20] ^ 1], &body[half + 21..]].concat();
    let dropped = [&body[..half], &body[ends[ends.len() / 2 + 1]..]].concat();
    let cut = &body[..ends[2]];
    for (what, bytes, exit) in [
        ("one bit", flipped.as_slice(), 1),
        ("a record dropped", dropped.as_slice(), 1),
        ("the last newline", &body[..body.len() - 1], 1),
        ("the end cut off", cut, 5),
    ] {
        let damaged = server.path(what);
        copy(&bundle, &damaged);
        std::fs::write(records(&damaged), bytes).unwrap();
        // Values without their records would be a fault of their own.
        std::fs::remove_dir_all(damaged.join("openings")).unwrap();
        assert_eq!(verdict(&server, &damaged, &policy), exit, "{what}");
    }
    // Files are read one after the other; what one does not end, the next does not go on with.
    let parts = server.path("parts");
    copy(&bundle, &parts);
    std::fs::write(records(&parts), &body[..half]).unwrap();
    std::fs::write(parts.join("records/0000000000000001.ndjson"), &body[half..]).unwrap();
    assert_eq!(verdict(&server, &parts, &policy), 0);
    std::fs::write(records(&parts), &body[..half - 1]).unwrap();
    let unended = ["audit", "verify", "--bundle", &text(&parts), "--policy", &policy];
    server.cortex(&unended).with(1).says(&["record.line"]);
    assert_eq!(verdict(&server, &parts, &policy), 1);
    // A server that rewrites history and signs it with a key of its own convinces nobody.
    let stolen = server.path("other-policy");
    let wrong = std::fs::read_to_string(&policy).unwrap().replace("log ", "# log ");
    std::fs::write(&stolen, wrong).unwrap();
    assert!(matches!(verdict(&server, &bundle, &text(&stolen)), 2 | 3));
    // What cannot be read is no verdict about the journal.
    let nothing = server.path("nothing");
    server.cortex(&["audit", "verify", "--bundle", &text(&nothing)]).with(8);
    let verifiers = repository().join("tests/verifiers");
    assert_eq!(other("node", &verifiers.join("js/cli.mjs"), &[&text(&nothing)]), 8);
    let python = verifiers.join("python/cortex_verify.py");
    assert_eq!(other("python3", &python, &[&text(&nothing)]), 8);
}
