//! A question outlives the agent: it is on the disk and in the journal before anybody sees it. Agents are killed for real.

use super::*;
use cortex_agent::clock::unix_now;

/// A policy with room for one task at a time, under which `sleep` needs nobody.
fn one_at_a_time(node: &Machine, root: &Path, comment: &str) {
    let rule = format!(
        "[[rule]]\nid = \"sleep\"\nprogram = \"sleep\"\nargs = \"any\"\neffect = \"allow\"\n# {comment}\n"
    );
    write_policy(node, root, &rule);
    change(node, "consent = {", "limits.agent = { tasks = 1 }\nconsent = {");
}

fn change(node: &Machine, from: &str, to: &str) {
    let text = std::fs::read_to_string(node.path("policy.toml")).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(node.path("policy.toml"), text.replace(from, to)).unwrap();
}

/// Questions on the disk.
fn kept(node: &Machine) -> usize {
    let dir = std::fs::read_dir(node.path("consent/waiting"));
    dir.map_or(0, Iterator::count)
}

/// What the journal has of a kind.
fn records(node: &Machine, kind: &str) -> Vec<Value> {
    let mut command = std::process::Command::new(agent_program());
    command.args(["history", "--json", "--count", "1000", "--data-dir"]).arg(node.dir.path());
    let said = command.output().unwrap();
    assert!(said.status.success(), "{said:?}");
    let lines = String::from_utf8(said.stdout).unwrap();
    let records = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == kind).collect()
}

/// Asks an agent to leave when what runs has ended.
fn terminate(agent: &tokio::process::Child) {
    let pid = i32::try_from(agent.id().unwrap()).unwrap();
    let pid = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
}

#[tokio::test]
async fn a_killed_agent_asks_the_very_same_question_again_and_nothing_runs_twice() {
    let (node, root) = owned();
    change(&node, "remember = \"session\"", "remember = \"session\", timeout = \"1h\"");
    let precious = root.path().join("precious");
    std::fs::write(&precious, "x").unwrap();
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["rm", "precious"])).await;
    let id = question(&node).await;
    let (before, _) = shown(&node, &id);
    assert!(before["until_ms"].is_u64() && before["code"].is_string(), "{before}");
    kill(agent).await;

    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let known: Vec<_> = connection.hello.attempts.iter().map(|known| &known.task_id).collect();
    assert_eq!(known, ["t1"]);
    assert_eq!(connection.query("t1").await.phase(), AttemptPhase::Known);
    assert_eq!(question(&node).await, id);
    // Whoever answers has looked at it since.
    let code = before["code"].as_str().unwrap();
    assert!(complaint(&owner(&node, &["allow", &id, "--code", code])).contains("CX-1208"));
    assert_eq!(shown(&node, &id).0, before, "number, text, code, fingerprint and time");
    assert!(precious.exists());
    json(&owner(&node, &["allow", &id, "--code", code]));
    let exited = ending::Kind::Exited(Exited { code: 0 });
    assert_eq!(ending(&connection.outcome().await), exited);
    assert!(!precious.exists());
    assert_eq!(kept(&node), 0);
    kill(agent).await;

    std::fs::write(&precious, "y").unwrap();
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(ending(&connection.outcome().await), exited, "told again: nobody acknowledged it");
    assert!(precious.exists(), "it ran twice");
    for (kind, count) in [("consent.asked", 1), ("consent.answered", 1), ("intent", 1)] {
        assert_eq!(records(&node, kind).len(), count, "{kind}");
    }
    // No number is given twice.
    connection.dispatch("t2", 2, shell(&["rm", "precious"])).await;
    assert!(question(&node).await.parse::<u64>().unwrap() > id.parse().unwrap());
    kill(agent).await;
}

/// Has the owner agree to `touch made` while another task has the only slot, and kills the agent then.
async fn agreed_and_killed(node: &Machine, root: &Path, gateway: &mut Gateway) -> String {
    one_at_a_time(node, root, "one");
    let agent = node.start(gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["touch", "made"])).await;
    let id = question(node).await;
    connection.dispatch("sleeper", 2, shell(&["sleep", "1000"])).await;
    until("the sleeper", || !records(node, "intent").is_empty()).await;
    shown(node, &id);
    json(&owner(node, &["allow", &id]));
    assert_eq!(records(node, "consent.answered").len(), 1, "who agreed is told when it is durable");
    assert!(!root.join("made").exists());
    kill(agent).await;
    id
}

#[tokio::test]
async fn an_answer_that_nothing_had_come_of_counts_once_after_a_kill() {
    let (node, root) = owned();
    let mut gateway = Gateway::start().await;
    agreed_and_killed(&node, root.path(), &mut gateway).await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let mut ended = Vec::new();
    while ended.len() < 2 {
        let report = connection.outcome().await;
        ended.push((report.task_id.clone(), ending(&report)));
    }
    let exited = ("t1".to_owned(), ending::Kind::Exited(Exited { code: 0 }));
    assert!(ended.contains(&exited), "{ended:?}");
    assert!(root.path().join("made").exists());
    assert_eq!((waiting(&node), kept(&node)), (None, 0));
    let answered = records(&node, "consent.answered");
    let intents = records(&node, "intent");
    let of_it = |record: &&Value| record["data"]["auth"]["approval"]["seq"] == answered[0]["seq"];
    assert_eq!((answered.len(), intents.iter().filter(of_it).count()), (1, 1));
    assert_eq!(records(&node, "consent.asked").len(), 1, "nobody was asked again");
    kill(agent).await;
}

#[tokio::test]
async fn an_answer_to_what_has_changed_meanwhile_counts_for_nothing_and_that_is_said() {
    let (node, root) = owned();
    let mut gateway = Gateway::start().await;
    let first = agreed_and_killed(&node, root.path(), &mut gateway).await;
    one_at_a_time(&node, root.path(), "two");
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    let again = question(&node).await;
    assert_ne!(again, first);
    let (_, text) = shown(&node, &again);
    assert!(text.contains("because   you agreed before the agent was restarted, but"), "{text}");
    assert!(!root.path().join("made").exists());
    // Asked anew, it is as durable as the first.
    kill(agent).await;
    drop(connection);
    let agent = node.start(&gateway);
    connection = gateway.welcome().await;
    assert_eq!(question(&node).await, again);
    assert_eq!(shown(&node, &again).1, text);
    json(&owner(&node, &["deny", &again]));
    let mut codes = Vec::new();
    for _ in 0..2 {
        if let ending::Kind::Denied(denied) = ending(&connection.outcome().await) {
            codes.push(denied.error.unwrap().code);
        }
    }
    assert_eq!(codes, ["CX-1202"]);
    assert!(!root.path().join("made").exists());
    assert_eq!(kept(&node), 0);
    kill(agent).await;
}

#[tokio::test]
async fn an_agent_that_is_stopped_waits_for_nobody_and_asks_again_when_it_is_back() {
    let (node, root) = owned();
    let mut gateway = Gateway::start().await;
    let mut agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("t1", 1, shell(&["touch", "made"])).await;
    let id = question(&node).await;
    let before = shown(&node, &id);
    let since = std::time::Instant::now();
    terminate(&agent);
    // Until the last moment nobody may hear that it never started.
    connection
        .send(Down::Query(Query {
            query_id: 9,
            workspace: "default".into(),
            task_id: "t1".into(),
            attempt: 1,
        }))
        .await;
    within("its end", agent.wait()).await.unwrap();
    // The owner's grace is for what runs; a question does not use it up.
    let grace = std::time::Duration::from_secs(cortex_model::limits::STOP_GRACE_DEFAULT_SECS);
    assert!(since.elapsed() < grace * 3 / 4, "{:?}", since.elapsed());
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(question(&node).await, id);
    assert_eq!(shown(&node, &id), before);
    assert_eq!(records(&node, "consent.answered").len(), 0);
    json(&owner(&node, &["allow", &id]));
    assert_eq!(ending(&connection.outcome().await), ending::Kind::Exited(Exited { code: 0 }));
    assert!(root.path().join("made").exists());
    kill(agent).await;
}

#[tokio::test]
async fn what_was_cancelled_or_ran_out_while_the_agent_was_away_starts_nothing() {
    let (node, root) = owned();
    change(&node, "remember = \"session\"", "remember = \"session\", timeout = \"3s\"");
    let mut gateway = Gateway::start().await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    connection.dispatch("late", 1, shell(&["touch", "made"])).await;
    let id = question(&node).await;
    let over = shown(&node, &id).0["until_ms"].as_u64().unwrap();
    kill(agent).await;
    until("its time to be over", || unix_now().0 > over).await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    assert_eq!(denied(&mut connection).await, "CX-1203");
    change(&node, ", timeout = \"3s\"", "");
    connection.dispatch("t2", 2, shell(&["touch", "made"])).await;
    question(&node).await;
    kill(agent).await;
    let agent = node.start(&gateway);
    let mut connection = gateway.welcome().await;
    // Told again, as nobody acknowledged it.
    assert_eq!(denied(&mut connection).await, "CX-1203");
    question(&node).await;
    let cancel = Cancel {
        workspace: "default".into(),
        task_id: "t2".into(),
        attempt: 1,
        ..Cancel::default()
    };
    connection.send(Down::Cancel(cancel)).await;
    assert!(matches!(connection.next().await, Up::CancelAnswer(_)));
    assert!(matches!(ending(&connection.outcome().await), ending::Kind::Cancelled(_)));
    let answers = records(&node, "consent.answered");
    let answers: Vec<_> = answers.iter().map(|record| &record["data"]["answer"]).collect();
    assert_eq!(answers, ["expired", "withdrawn"]);
    assert_eq!((waiting(&node), kept(&node)), (None, 0));
    assert!(!root.path().join("made").exists());
    kill(agent).await;
}
