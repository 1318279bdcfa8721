//! kill -9 at random moments of `up`, of the agent, of both, while tasks are submitted and run. The seed is
//! printed; `CORTEX_STORM_SEED` repeats a run's choices.

use crate::support::server::kill_all;
use crate::support::{Server, effects, text, wait};
use serde_json::Value;
use std::time::Duration;

const TASKS: usize = 40;
const KILLS: usize = 12;

/// A small generator: what it yields depends on the seed alone.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end
    }
}

fn seed() -> u64 {
    let given = std::env::var("CORTEX_STORM_SEED").ok().and_then(|s| s.parse().ok());
    let seed = given.unwrap_or_else(|| {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::from(now.subsec_nanos()) | 1
    });
    eprintln!("CORTEX_STORM_SEED={seed}");
    seed
}

/// One line of a task file: an effect, some time, output, an exit code.
fn line(n: usize, server: &Server) -> String {
    let effect = text(&server.path(&format!("effect-{n}")));
    let script =
        format!("echo x >> {effect}; sleep 0.{}; seq 1 {}; exit {}", n % 9, n * 400, n % 3);
    let safe = n.is_multiple_of(4);
    serde_json::json!({ "argv": ["sh", "-c", script], "key": format!("t{n}"), "safe_to_repeat": safe,
        "labels": { "storm": "yes" } })
    .to_string()
}

#[test]
fn no_kill_at_any_moment_loses_a_task_doubles_an_effect_or_bends_an_outcome() {
    let mut random = Random(seed());
    let mut server = Server::start(&["--slots", "3"]);
    let lines: Vec<String> = (0..TASKS).map(|n| line(n, &server)).collect();
    let file = server.path("tasks.jsonl");
    std::fs::write(&file, lines.join("\n")).unwrap();
    let submit = ["task", "submit", "--json", "-f", &text(&file)];
    let mut submitting = Some(server.spawn(&submit));
    for _ in 0..KILLS {
        wait::pass(Duration::from_millis(50 + random.below(900)));
        let victim = random.below(3);
        let agents = server.agent_pids();
        if victim != 0 {
            server.kill_up();
        }
        if victim != 1 {
            kill_all(&agents);
        }
        if victim != 0 {
            wait::pass(Duration::from_millis(random.below(300)));
            server.launch();
        }
    }
    server.until_answers();
    drop(submitting.take());
    // Whatever of the file had not got through gets through now; the rest is recognised by its keys.
    server.cortex(&submit).ok();
    let tasks = wait::until("every task to be settled", || {
        let tasks = server.tasks(&["--label", "storm=yes"]);
        let open = |t: &Value| t["state"] == "pending" || t["state"] == "running";
        (tasks.len() == TASKS && !tasks.iter().any(open)).then_some(tasks)
    });
    let count = |wanted: &dyn Fn(&Value) -> bool| tasks.iter().filter(|t| wanted(t)).count();
    let doubtful = count(&|t| t["state"] == "indeterminate");
    let again = count(&|t| t["attempt"].as_u64() > Some(1));
    eprintln!("{doubtful} tasks indeterminate, {again} tried more than once");
    tasks.iter().for_each(|task| check(&server, task));
}

/// The invariants, for one task that is settled.
fn check(server: &Server, task: &Value) {
    let key = task["idempotency_key"].as_str().unwrap();
    let n: usize = key[1..].parse().unwrap();
    let count = effects(&server.path(&format!("effect-{n}")));
    let attempts = usize::try_from(task["attempt"].as_u64().unwrap()).unwrap();
    let state = task["state"].as_str().unwrap();
    if n.is_multiple_of(4) {
        assert!((1..=attempts).contains(&count), "{key}: {count} effects: {task:#}");
    } else {
        assert!(count <= 1, "{key} was not safe to repeat and had {count} effects: {task:#}");
    }
    if state == "indeterminate" {
        assert!(!n.is_multiple_of(4), "{key} could have been repeated: {task:#}");
        return;
    }
    assert!(count >= 1, "{key} is {state} without an effect: {task:#}");
    let code = n % 3;
    assert_eq!(state, if code == 0 { "succeeded" } else { "failed" }, "{key}: {task:#}");
    assert_eq!(task["outcome"]["ending"]["code"], code, "{key}: {task:#}");
    let expected: String = (1..=n * 400).map(|i| format!("{i}\n")).collect();
    let id = task["task_id"].as_str().unwrap();
    let output = server.cortex(&["task", "output", id]).ok();
    let text = output.text();
    assert!(text.ends_with(&expected), "{key}: output of {} bytes, {}", text.len(), expected.len());
    assert_eq!(
        task["outcome"]["stdout_sha256"],
        crate::support::sha256(expected.as_bytes()),
        "{key}"
    );
}
