//! Scaled out, on a real nats-server: two gateways, two schedulers and an agent as processes of their own.
//! Any gateway serves any task, and whichever process is killed, what was accepted happens once.

use crate::support::run::Ended;
use crate::support::{Fleet, Nats, Server, effects, text, wait};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeSet;

/// A script that counts its effect as `name`, says `half`, waits for the gate and says the other half.
fn gated(gateway: &Server, name: &str) -> String {
    let (file, gate) = (text(&gateway.path("effects")), text(&gateway.path("gate")));
    format!(
        "echo {name} >> {file}; seq 1 2000; while ! [ -e {gate} ]; do sleep 0.02; done; \
         seq 2001 4000; echo {name} >> {file}.done"
    )
}

/// What such a script prints.
fn numbers() -> String {
    (1..=4000).map(|n| format!("{n}\n")).collect()
}

fn open_gate(gateway: &Server) {
    std::fs::write(gateway.path("gate"), "").unwrap();
}

/// Lines of the effects' file, sorted.
fn names(gateway: &Server) -> Vec<String> {
    let text = std::fs::read_to_string(gateway.path("effects")).unwrap_or_default();
    let mut names: Vec<String> = text.lines().map(str::to_owned).collect();
    names.sort();
    names
}

/// Waits for the end of a task, at a gateway that may not have its log back yet.
#[track_caller]
fn until_over(gateway: &Server, id: &str) -> Value {
    wait::until(&format!("the end of task {id}"), || {
        let shown = gateway.cortex(&["task", "show", "--json", id]);
        let task = (shown.code == 0).then(|| shown.json())?;
        (!["pending", "running"].contains(&task["state"].as_str().unwrap())).then_some(task)
    })
}

/// Waits until both gateways answer alike, and returns that answer.
#[track_caller]
fn alike(fleet: &Fleet, args: &[&str]) -> Ended {
    wait::until(&format!("the same answer of both gateways to {args:?}"), || {
        let [a, b] = [0, 1].map(|n| fleet.gateways[n].cortex(args));
        let same = (a.code, &a.stdout, &a.stderr) == (b.code, &b.stdout, &b.stderr);
        same.then_some(a)
    })
}

fn submit_echo(gateway: &Server, count: usize) -> Vec<String> {
    let one = |n: usize| gateway.submit(&[], &["echo", &n.to_string()]);
    (0..count).map(one).collect()
}

#[track_caller]
fn all_succeed(gateway: &Server, ids: &[String]) {
    for id in ids {
        assert_eq!(until_over(gateway, id)["state"], "succeeded");
        assert_eq!(gateway.events(id), ["Submitted", "Started", "Finished"]);
    }
}

#[test]
fn tasks_run_through_either_gateway_and_both_tell_the_same_about_them() {
    let fleet = Fleet::start(1, &[]);
    let [a, b] = &fleet.gateways;
    // The agent's tunnel ends at the other one.
    assert_eq!(a.run(&["echo", "from afar"]).ok().text(), "from afar\n");
    let script = gated(a, "x");
    let running = a.submit(&["--key", "gated"], &["sh", "-c", &script]);
    let failed = b.submit(&[], &["sh", "-c", "echo out; echo err >&2; exit 3"]);
    let mut watchers = [a, b].map(|g| g.spawn(&["task", "watch", &running]));
    watchers.iter_mut().for_each(|w| w.until_it_says("\n2000\n"));
    for gateway in [a, b] {
        assert_eq!(gateway.task(&running)["state"], "running");
    }
    open_gate(a);
    for watcher in watchers {
        assert_eq!(watcher.end().ok().text(), numbers());
    }
    for (id, state, code) in [(&running, "succeeded", 0), (&failed, "failed", 3)] {
        for gateway in [a, b] {
            gateway.until_state(id, &[state]);
        }
        assert_eq!(alike(&fleet, &["task", "show", "--json", id]).ok().json()["state"], state);
        let history = alike(&fleet, &["task", "history", "--json", id]).ok().json();
        assert_eq!(history["entries"].as_array().unwrap().len(), 3, "{history:#}");
        alike(&fleet, &["task", "watch", id]).with(code);
        let output = alike(&fleet, &["task", "output", id]).ok();
        assert!(!output.stdout.is_empty());
    }
    let list = alike(&fleet, &["task", "list", "--json"]).ok().json();
    assert_eq!(list["tasks"].as_array().unwrap().len(), 3, "{list:#}");
}

#[test]
fn a_task_outlives_the_gateway_that_holds_its_agents_tunnel() {
    let mut fleet = Fleet::start(0, &[]);
    let script = gated(&fleet.gateways[0], "x");
    let file = fleet.gateways[0].path("effects");
    let id = fleet.gateways[0].submit(&[], &["sh", "-c", &script]);
    let mut watcher = fleet.gateways[1].spawn(&["task", "watch", &id]);
    watcher.until_it_says("\n2000\n");
    fleet.lead_agent_to(1);
    fleet.gateways[0].kill_up();
    open_gate(&fleet.gateways[0]);
    assert_eq!(watcher.end().ok().text(), numbers());
    let survivor = &fleet.gateways[1];
    let task = survivor.until_state(&id, &["succeeded"]);
    let expected = numbers();
    assert_eq!(task["outcome"]["ending"]["code"], 0);
    assert_eq!(task["outcome"]["stdout_sha256"], crate::support::sha256(expected.as_bytes()));
    assert_eq!(survivor.cortex(&["task", "output", &id]).ok().text(), expected);
    assert_eq!(survivor.events(&id), ["Submitted", "Started", "Finished"]);
    assert_eq!(effects(&file), 1);
    assert_eq!(survivor.run(&["echo", "next"]).ok().text(), "next\n");
}

#[test]
fn one_scheduler_is_enough_and_without_any_tasks_wait_for_the_next() {
    let mut fleet = Fleet::start(0, &[]);
    fleet.kill_scheduler(0);
    // Enough for every part of the tasks, so that the dead one's are among them.
    let ids = submit_echo(&fleet.gateways[0], 12);
    all_succeed(&fleet.gateways[1], &ids);
    fleet.kill_scheduler(1);
    let ids = submit_echo(&fleet.gateways[1], 6);
    for (gateway, id) in fleet.gateways.iter().zip(&ids) {
        wait::until("an explanation", || {
            let said = gateway.cortex(&["task", "explain", id]).ok().text();
            said.contains("no scheduler is running").then_some(())
        });
    }
    for id in &ids {
        assert_eq!(fleet.gateways[0].events(id), ["Submitted"]);
    }
    fleet.start_scheduler();
    all_succeed(&fleet.gateways[0], &ids);
}

#[test]
fn a_scheduler_that_does_not_answer_is_not_said_to_be_away() {
    let fleet = Fleet::start(0, &[]);
    let [a, b] = &fleet.gateways;
    let id = a.submit(&["--require", "warp-drive>=9"], &["true"]);
    let explain = |gateway: &Server| gateway.cortex(&["task", "explain", &id]).ok().text();
    fleet.signal_schedulers(Signal::STOP);
    for gateway in [a, b] {
        let said = explain(gateway);
        assert!(said.contains("does not answer"), "{said}");
    }
    fleet.signal_schedulers(Signal::CONT);
    for gateway in [a, b] {
        wait::until("what is missing", || explain(gateway).contains("warp-drive>=9").then_some(()));
    }
}

#[test]
fn without_the_log_no_scheduler_is_blamed() {
    let mut fleet = Fleet::start(0, &[]);
    let id = fleet.gateways[0].submit(&["--require", "warp-drive>=9"], &["true"]);
    let explain = |gateway: &Server| gateway.cortex(&["task", "explain", &id]);
    fleet.nats.kill();
    explain(&fleet.gateways[1]).with(125).complains(&["CX-0601", "not connected to NATS"]);
    fleet.nats.restart();
    wait::until("what is missing", || {
        explain(&fleet.gateways[1]).text().contains("warp-drive>=9").then_some(())
    });
}

#[test]
fn a_submit_that_waits_for_the_log_says_what_it_waits_for_and_goes_on() {
    let mut fleet = Fleet::start(0, &[]);
    fleet.nats.kill();
    let waiting = fleet.gateways[0].spawn(&["run", "--", "echo", "at last"]);
    wait::until("a word about it", || {
        waiting.stderr().contains("waiting for the task to be accepted").then_some(())
    });
    fleet.nats.restart();
    assert_eq!(waiting.end().ok().text(), "at last\n");
}

#[test]
fn killing_the_nats_server_loses_nothing_and_repeats_nothing() {
    let mut fleet = Fleet::start(0, &["--slots", "3"]);
    let [a, b] = &fleet.gateways;
    let done = a.path("effects.done");
    let keys: Vec<String> = (0..6).map(|n| format!("key-{n}")).collect();
    let submit = |gateway: &Server, key: &str| {
        gateway.submit(&["--key", key], &["sh", "-c", &gated(a, key)])
    };
    let mut ids: Vec<String> =
        keys.iter().zip([a, b].iter().cycle()).map(|(key, g)| submit(g, key)).collect();
    // Three run, three wait for a slot.
    wait::until("three effects", || (names(a).len() == 3).then_some(()));
    let running = keys.iter().position(|key| names(a).contains(key)).unwrap();
    let mut clients = [a, b].map(|g| g.spawn(&["task", "watch", &ids[running]]));
    clients.iter_mut().for_each(|c| c.until_it_says("\n2000\n"));
    fleet.nats.kill();
    open_gate(a);
    wait::until("the running ones to end", || (effects(&done) == 3).then_some(()));
    // Somebody asks meanwhile, and asks again with the same key until there is an answer.
    let script = gated(a, "meanwhile");
    let args = ["run", "--json", "--detach", "--key", "meanwhile", "--", "sh", "-c", &script];
    let first = b.spawn(&args);
    fleet.nats.restart();
    first.end();
    let late = wait::until("an accepted task", || {
        let asked = a.cortex(&args);
        (asked.code == 0).then(|| asked.json()["task"]["task_id"].as_str().unwrap().to_owned())
    });
    ids.push(late);
    for client in clients {
        assert_eq!(client.end().ok().text(), numbers());
    }
    for id in &ids {
        let task = until_over(b, id);
        assert_eq!(task["state"], "succeeded", "{task:#}");
        assert_eq!(b.events(id), ["Submitted", "Started", "Finished"]);
        assert_eq!(a.cortex(&["task", "output", id]).ok().text(), numbers());
    }
    let expected: Vec<String> = keys.into_iter().chain(["meanwhile".to_owned()]).collect();
    assert_eq!(names(a), expected);
}

#[test]
fn clients_that_ask_again_get_every_effect_once_however_often_the_nats_server_dies() {
    let mut fleet = Fleet::start(0, &[]);
    let [a, b] = &fleet.gateways;
    let keys: Vec<String> = (10..34).map(|n| format!("key-{n}")).collect();
    let run = |gateway: &Server, key: &str| {
        let script = format!("echo {key} >> {}; echo {key}", text(&a.path("effects")));
        gateway.spawn(&["run", "--key", key, "--", "sh", "-c", &script])
    };
    let clients: Vec<_> = keys.iter().zip([a, b].iter().cycle()).map(|(k, g)| run(g, k)).collect();
    for some in [2, 8, 14] {
        wait::until("more effects", || (names(a).len() >= some).then_some(()));
        fleet.nats.kill();
        fleet.nats.restart();
    }
    for (client, key) in clients.into_iter().zip(&keys) {
        let mut ended = client.end();
        if ended.code != 0 {
            // It was not told whether its task was accepted.
            ended = ended.with(125).complains(&["CX-06"]);
            eprintln!("{key}: {}", ended.stderr);
            ended = wait::until("an answer", || Some(run(b, key).end()).filter(|e| e.code == 0));
        }
        assert_eq!(ended.text(), format!("{key}\n"));
    }
    assert_eq!(names(a), keys);
}

#[test]
fn one_key_through_both_gateways_at_once_is_one_task_with_one_effect() {
    let fleet = Fleet::start(1, &[]);
    let [a, b] = &fleet.gateways;
    let file = text(&a.path("effects"));
    let script = format!("echo x >> {file}; echo once");
    let args = ["run", "--json", "--detach", "--key", "the-one", "--", "sh", "-c", &script];
    let racers: Vec<_> = (0..20).map(|n| [a, b][n % 2].spawn(&args)).collect();
    let answers = racers.into_iter().map(|r| r.end().ok().json()["task"]["task_id"].clone());
    let ids: BTreeSet<String> = answers.map(|id| id.as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let id = ids.first().unwrap();
    for gateway in [a, b] {
        gateway.until_state(id, &["succeeded"]);
        assert_eq!(gateway.events(id), ["Submitted", "Started", "Finished"]);
        wait::until("the list", || (gateway.tasks(&[]).len() == 1).then_some(()));
        assert_eq!(gateway.cortex(&["task", "output", id]).ok().text(), "once\n");
    }
    assert_eq!(effects(&a.path("effects")), 1);
    // The same key for something else is refused wherever it is asked.
    for gateway in [a, b] {
        let other = ["run", "--key", "the-one", "--", "echo", "another"];
        gateway.cortex(&other).with(125).complains(&["CX-0202"]);
    }
}

#[test]
fn up_runs_its_first_task_on_a_nats_server() {
    let mut server = Server::prepare(&[]);
    let nats = Nats::start(server.path("nats"));
    server.set_args(&["--log", &nats.url()]);
    server.up();
    let said = String::from_utf8_lossy(&server.up_process().stdout()).into_owned();
    for word in ["one NATS server has it", "submitted", "started", "finished   exit code 0"] {
        assert!(said.contains(word), "no {word:?} in: {said}");
    }
    assert_eq!(server.run(&["echo", "next"]).ok().text(), "next\n");
}

#[test]
fn a_stream_that_may_drop_old_events_is_refused_in_plain_words() {
    let server = Server::prepare(&[]);
    let nats = Nats::start(server.path("nats"));
    let stream = r#"{"name":"CX_T_0","subjects":["cx.t.0.>"],"retention":"limits",
        "storage":"file","num_replicas":1,"discard":"old","max_msgs":10}"#;
    let made = nats.request("$JS.API.STREAM.CREATE.CX_T_0", stream);
    assert_eq!(made["config"]["discard"], "old", "{made}");
    for command in ["up", "gateway", "scheduler"] {
        let refused = server.cortex(&[command, "--log", &nats.url()]).with(125);
        refused.complains(&["CX-0605", "stream CX_T_0 is not safe to use", "should be", "and is"]);
    }
    let still = nats.request("$JS.API.STREAM.INFO.CX_T_0", "");
    assert_eq!(still["config"]["max_msgs"], 10, "it was changed: {still}");
}
