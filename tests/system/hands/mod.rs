//! What a task can touch on a machine whose owner has a policy of version 1, over the whole path: the command line, the log, the
//! tunnel, the policy, the kernel, the journal.

mod ends;
mod left;
mod narrow;

use crate::support::run::Ended;
use crate::support::server::{kill_all, write_policy_text};
use crate::support::{Server, text, wait};
use serde_json::Value;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// A server whose owner lets tasks work in one directory: run scripts there, and make files once they have agreed.
struct Owned {
    server: Server,
    root: PathBuf,
}

impl Owned {
    #[track_caller]
    fn start(args: &[&str]) -> Owned {
        let server = Server::start_with_its_own_policy(args);
        let root = server.path("work");
        fs::create_dir(&root).unwrap();
        let owned = Owned { server, root };
        owned.policy("");
        owned
    }

    /// Writes the policy; `more` comes before its tables.
    fn policy(&self, more: &str) {
        let root = &self.root;
        let text = format!(
            "version = 1\nprograms.search = [\"/usr/local/bin\", \"/usr/bin\", \"/bin\"]\nconsent = {{ channels = [\"socket\"] }}\n{more}\n\
             [paths]\nroots = [{root:?}]\nread = [\"@system\"]\ndeny = [\"@secrets\", \"@sockets\", \"**/.env\"]\n\
             [[rule]]\nid = \"script\"\nprogram = [\"bash\", \"sh\"]\nargs = \"any\"\neffect = \"allow\"\n\
             [[rule]]\nid = \"make\"\nprogram = \"touch\"\nargs = \"path:write\"\neffect = \"ask\"\n\
             [[rule]]\nid = \"git-read\"\nprogram = \"git\"\nsub = [\"status\", \"diff\", \"log\"]\nflags = [\"-p\"]\nargs = \"none\"\nharden = \"git\"\nfs = \"read-only\"\neffect = \"allow\"\n\
             [[rule]]\nid = \"plain\"\nprogram = [\"true\", \"echo\", \"cat\", \"sleep\"]\nargs = \"any\"\neffect = \"allow\"\n"
        );
        write_policy_text(&self.server.data().join("agent"), &text);
    }

    /// Writes a script into the root and gives its path.
    fn script(&self, name: &str, lines: &str) -> String {
        let path = self.root.join(name);
        fs::write(&path, lines).unwrap();
        text(&path)
    }

    /// The owner's own command on the machine.
    fn owner(&self, words: &[&str]) -> Ended {
        let (command, rest) = words.split_first().unwrap();
        let dir = text(&self.server.data().join("agent"));
        let mut all = vec!["__agent", command, "--data-dir", &dir];
        all.extend(rest);
        self.server.cortex(&all)
    }

    /// The number of the question that waits.
    #[track_caller]
    fn question(&self) -> u64 {
        wait::until("a question", || {
            let listed = self.owner(&["consent", "--json", "list"]);
            let value: Value = serde_json::from_slice(&listed.stdout).ok()?;
            value["waiting"][0]["id"].as_u64()
        })
    }
}

fn limit<'a>(task: &'a Value, name: &str) -> &'a Value {
    let limits = task["outcome"]["confinement"]["limits"].as_array().unwrap();
    let found = limits.iter().find(|limit| limit["name"] == name);
    found.unwrap_or_else(|| panic!("no limit {name} in {task}"))
}

#[test]
fn what_up_allows_runs_in_the_sandbox_and_nothing_else_runs() {
    let server = Server::start_with_its_own_policy(&[]);
    let policy = fs::read_to_string(server.data().join("agent/policy.toml")).unwrap();
    assert!(policy.contains("\nversion = 1\n"), "{policy}");
    // What the README tells to type.
    server.run(&["uname", "-a"]).ok().says(&["Linux"]);
    server.cortex(&["run", "--require", "os=linux", "--timeout", "10s", "--", "df", "-h"]).ok();
    let id = server.submit(&[], &["cat", "/etc/os-release"]);
    let task = server.until_state(&id, &["succeeded"]);
    let confinement = &task["outcome"]["confinement"];
    assert_eq!((&confinement["level"], &confinement["network"]), (&"full".into(), &"none".into()));
    assert!(confinement["not_enforced"].is_array(), "{task}");
    for name in ["wall", "output", "memory", "pids"] {
        let limit = limit(&task, name);
        assert!(limit["limit"].as_u64() > Some(0) && limit["used"].is_u64(), "{limit}");
        assert!(limit["strength"] == "hard" || limit["strength"] == "approx", "{limit}");
    }
    // The journal said so before it started.
    let dir = text(&server.data().join("agent"));
    let history = server.cortex(&["__agent", "history", "--json", "--data-dir", &dir]).ok();
    let intent = history.json_lines().into_iter().find(|record| {
        record["kind"] == "intent" && record["data"]["cmd"].as_str().unwrap().contains(&id)
    });
    let exec = &intent.unwrap()["data"]["exec"];
    assert_eq!((&exec["sandbox"]["level"], &exec["net"]), (&"full".into(), &"none".into()));
    // What nobody allowed.
    let secret = server.path("secret");
    fs::write(&secret, "the secret").unwrap();
    server.run(&["cat", &text(&secret)]).with(126).complains(&["CX-1003"]);
    for argv in [&["rm", "-rf", "/"][..], &["sh", "-c", "id; rm x"], &["curl", "http://x"]] {
        assert!([126, 127].contains(&server.run(argv).code), "{argv:?}");
    }
}

/// Tries to get at everything that is not a task's; says of each how it went.
fn probe(outside: &Path, root: &Path, port: u16) -> String {
    let (outside, root) = (outside.display(), root.display());
    format!(
        "try() {{ name=$1; shift; if \"$@\" > /dev/null 2>&1; then echo \"$name WORKED\"; else echo \"$name refused\"; fi; }}\n\
         w() {{ echo x > \"$1\"; }}\n n() {{ exec 3<> /dev/tcp/127.0.0.1/{port}; }}\n\
         try read-outside cat {outside}/secret\n\
         try list-outside ls {outside}/secret\n\
         try write-outside w {outside}/new\n\
         try read-hidden grep -q token {root}/.env\n\
         try write-protected w {root}/.git/hooks/post-checkout\n\
         try network n\n\
         try see-others test -e /proc/{}/status\n\
         echo done > {root}/made && echo write-root WORKED\n",
        std::process::id()
    )
}

#[test]
fn a_task_reaches_nothing_outside_of_its_root_over_the_whole_path() {
    let owned = Owned::start(&[]);
    let outside = owned.server.path("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "token").unwrap();
    fs::write(owned.root.join(".env"), "token").unwrap();
    fs::create_dir_all(owned.root.join(".git/hooks")).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let port = listener.local_addr().unwrap().port();
    let script = owned.script("probe.sh", &probe(&outside, &owned.root, port));
    let ran = owned.server.run(&["bash", &script]).ok();
    let said = ran.text();
    assert_eq!(said.matches("refused").count(), 7, "{said}\n{}", ran.stderr);
    assert!(said.contains("write-root WORKED"), "{said}");
    assert!(listener.accept().is_err(), "the listener was reached");
    assert!(!outside.join("new").exists() && !owned.root.join(".git/hooks/post-checkout").exists());
    // The control: without a sandbox every one of them works.
    owned.server.allow(&["bash"]);
    let ran = owned.server.run(&["bash", &script]).ok();
    assert_eq!(ran.text().matches("WORKED").count(), 8, "{}", ran.text());
    assert!(listener.accept().is_ok());
}

#[test]
fn a_question_is_seen_by_whoever_asked_and_outlives_the_server() {
    let mut owned = Owned::start(&[]);
    let made = owned.root.join("made");
    let mut client = owned.server.spawn(&["run", "--json", "--", "touch", "made"]);
    client.until_it_says("\"ConsentAsked\"");
    wait::until("the client to say so", || {
        client.stderr().contains("waiting for the owner of").then_some(())
    });
    let id = client.stdout();
    let first: Value = serde_json::from_slice(id.split(|b| *b == b'\n').next().unwrap()).unwrap();
    let tasks = owned.server.tasks(&["--state", "running"]);
    let id = tasks[0]["task_id"].as_str().unwrap().to_owned();
    assert!(first.to_string().contains(&id), "{first}");
    let question = owned.question();
    let task = owned.server.task(&id);
    assert_eq!(
        (&task["consent"]["question"], &task["consent"]["rule"]),
        (&question.into(), &"make".into())
    );
    owned.server.cortex(&["task", "show", &id]).ok().says(&["for the owner of"]);
    owned.server.cortex(&["task", "explain", &id]).ok().says(&["it waits for the owner of"]);
    owned.server.cortex(&["task", "history", &id]).ok().says(&["ConsentAsked"]);
    // It holds no slot: others run meanwhile.
    owned.server.run(&["true"]).ok();
    let agent = owned.server.agent_pids();
    owned.server.kill_up();
    owned.server.up();
    assert_eq!(owned.server.agent_pids(), agent, "the agent outlived its server");
    assert_eq!(owned.question(), question);
    assert!(!made.exists());
    let number = question.to_string();
    owned.owner(&["consent", "show", &number, "--all"]).ok().says(&["argument 1 made"]);
    owned.owner(&["consent", "allow", &number]).ok();
    client.end().with(0);
    assert!(made.exists());
    let events = owned.server.events(&id);
    assert_eq!(events, ["Submitted", "Started", "ConsentAsked", "ConsentAnswered", "Finished"]);
    assert!(owned.server.task(&id)["consent"].is_null());
    // The node's journal has the policy, the question before it was shown, the answer, and an intent that names it.
    let history = owned.owner(&["history", "--json"]).ok().json_lines();
    let of = |kind: &str| -> Vec<&Value> {
        history.iter().filter(|record| record["kind"] == kind).collect()
    };
    assert!(of("policy.loaded").len() >= 2, "{history:?}");
    let (asked, answered) = (of("consent.asked")[0], of("consent.answered")[0]);
    assert_eq!(asked["data"]["rule"], "make");
    assert_eq!(
        (&answered["data"]["asked"], &answered["data"]["answer"]),
        (&asked["seq"], &"allow".into())
    );
    assert_eq!(
        (&answered["data"]["channel"], &answered["data"]["scope"]),
        (&"cli".into(), &"once".into())
    );
    let intents = of("intent");
    let auth = intents.iter().map(|intent| &intent["data"]["auth"]);
    let auth = auth.into_iter().find(|auth| auth["decision"] == "ask").unwrap();
    assert_eq!(auth["approval"]["seq"], answered["seq"]);
    let dir = text(&owned.server.data().join("agent"));
    let verified = owned.server.cortex(&["__agent", "journal", "verify", "--data-dir", &dir]);
    assert!([0, 3].contains(&verified.code), "{verified:?}");
}

#[test]
fn a_question_outlives_the_agent_and_a_no_is_said_to_be_one() {
    let mut owned = Owned::start(&[]);
    let id = owned.server.submit(&[], &["touch", "made"]);
    let first = owned.question();
    let show = ["consent", "show", "--json", &first.to_string()].map(str::to_owned);
    let show = show.each_ref().map(String::as_str);
    let before = owned.owner(&show).ok().json();
    owned.server.kill_agent();
    // The same attempt waits on, with the same question.
    assert_eq!(owned.question(), first);
    assert_eq!(owned.owner(&show).ok().json(), before);
    // The agent and its server at once.
    let agents = owned.server.agent_pids();
    owned.server.kill_up();
    kill_all(&agents);
    owned.server.up();
    assert_eq!(owned.question(), first);
    assert_eq!(owned.owner(&show).ok().json(), before);
    let task = owned.server.task(&id);
    assert_eq!((&task["attempt"], &task["consent"]["question"]), (&1.into(), &first.into()));
    owned.owner(&["consent", "deny", &first.to_string()]).ok();
    let task = owned.server.until_state(&id, &["denied"]);
    assert_eq!(task["outcome"]["ending"]["error"]["code"], "CX-1202");
    assert!(!owned.root.join("made").exists());
    let history = owned.server.cortex(&["task", "history", &id]).ok();
    history.says(&["waits for the owner of", "refused"]);
    let events = owned.server.events(&id);
    assert_eq!(events, ["Submitted", "Started", "ConsentAsked", "ConsentAnswered", "Finished"]);
}

#[test]
fn a_cancelled_question_starts_nothing_and_is_withdrawn() {
    let owned = Owned::start(&[]);
    let id = owned.server.submit(&[], &["touch", "made"]);
    owned.question();
    owned.server.cortex(&["task", "cancel", &id]).ok();
    let task = owned.server.until_state(&id, &["cancelled"]);
    assert_eq!(task["outcome"]["ending"]["survivors"], 0);
    let listed = owned.owner(&["consent", "--json", "list"]).ok().json();
    assert_eq!(listed["waiting"], serde_json::json!([]));
    assert!(!owned.root.join("made").exists());
}

#[test]
fn a_secret_comes_from_the_node_and_leaves_it_masked_only() {
    const SECRET: &str = "s3cr3t-Value-of-the-0wner";
    let owned = Owned::start(&[]);
    let file = owned.server.path("token-file");
    fs::write(&file, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    owned.policy(&format!("env.secrets = {{ token = \"file:{}\" }}", file.display()));
    // Whole, in base64, and cut in two with a pause between the writes.
    let script = owned.script(
        "tell.sh",
        "echo \"whole $API_TOKEN.\"\nprintf %s \"$API_TOKEN\" | base64\nhead=${API_TOKEN%of*}\nprintf %s \"$head\"\nsleep 0.3\nprintf '%s\\n' \"${API_TOKEN#\"$head\"}\"\ntest ${#API_TOKEN} = 25 && echo long\n",
    );
    let flags = ["run", "--json", "--secret-env", "API_TOKEN=token", "--", "bash", &script];
    let ran = owned.server.cortex(&flags).ok();
    let said = owned.server.run(&["true"]);
    drop(said.ok());
    let lines = ran.json_lines();
    let id = lines.last().unwrap()["task"]["task_id"].as_str().unwrap().to_owned();
    let output = owned.server.cortex(&["task", "output", &id]).ok().text();
    assert!(output.contains("whole ***.") && output.contains("long"), "{output}");
    assert!(!output.contains(SECRET) && output.matches("***").count() == 3, "{output}");
    let missing = owned.server.cortex(&["run", "--secret-env", "X=other", "--", "bash", &script]);
    missing.with(126).complains(&["CX-1011"]);
    // Nowhere on the server or the node: not in the log, the journal, the spool.
    let mut found = Vec::new();
    holding(owned.server.data(), SECRET.as_bytes(), &mut found);
    assert_eq!(found, Vec::<PathBuf>::new());
    let shown = owned.server.cortex(&["task", "show", "--json", &id]).ok().text();
    assert!(!shown.contains(SECRET) && shown.contains("\"token\""), "{shown}");
}

/// Files below a directory that hold a text.
fn holding(dir: &Path, wanted: &[u8], found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => holding(&path, wanted, found),
            kind if kind.is_file() => {
                let bytes = fs::read(&path).unwrap_or_default();
                if bytes.windows(wanted.len()).any(|part| part == wanted) {
                    found.push(path);
                }
            }
            _ => {}
        }
    }
}

#[test]
fn a_policy_that_cannot_be_used_or_asks_for_more_than_there_is_stops_all_work_and_says_so() {
    let owned = Owned::start(&[]);
    let server = &owned.server;
    let policy = server.data().join("agent/policy.toml");
    let node = server.nodes()[0]["node"].as_str().unwrap().to_owned();
    let until_it_says = |code: &str| {
        wait::until(&format!("{code} in node show"), || {
            let shown = server.cortex(&["node", "show", &node]);
            shown.text().contains(code).then_some(())
        });
        let id = server.submit(&[], &["true"]);
        assert_eq!(server.task(&id)["state"], "pending");
        id
    };
    owned.policy("sandbox.require = [\"landlock>=99\"]");
    let first = until_it_says("CX-1104");
    let doctor = owned.owner(&["doctor"]).with(1);
    doctor.complains(&["CX-1104", "landlock>=99"]);
    owned.policy("alow = []");
    until_it_says("CX-1001");
    owned.policy("");
    let mode = |mode| fs::set_permissions(&policy, fs::Permissions::from_mode(mode)).unwrap();
    mode(0o660);
    until_it_says("CX-1001");
    mode(0o600);
    server.until_state(&first, &["succeeded"]);
    owned.owner(&["doctor"]).ok().says(&["is there"]);
}

#[test]
fn a_server_can_ask_for_less_than_the_policy_gives_and_never_for_more() {
    let owned = Owned::start(&["--slots", "4"]);
    let server = &owned.server;
    owned.policy("limits.task = { wall = \"2s\", output = \"1000B\", memory = \"64MiB\" }\nlimits.agent = { memory = \"128MiB\" }");
    let id = server.submit(&["--timeout", "1h"], &["sleep", "600"]);
    let task = server.until_state(&id, &["failed"]);
    assert_eq!(task["outcome"]["ending"]["kind"], "timeout", "{task}");
    assert_eq!(limit(&task, "wall")["limit"], 2_000);
    let script = owned.script("long.sh", "head -c 5000 /dev/zero\n");
    let id = server.submit(&[], &["bash", &script]);
    let task = server.until_state(&id, &["succeeded"]);
    assert_eq!(
        (&task["outcome"]["stdout_bytes"], &task["outcome"]["dropped_bytes"]),
        (&1_000.into(), &4_000.into())
    );
    let id = server.submit(&["--timeout", "1s"], &["sleep", "600"]);
    let task = server.until_state(&id, &["failed"]);
    assert_eq!(limit(&task, "wall")["limit"], 1_000, "less is given");
    // Two of 64 MiB fit into 128: no more run at the same time.
    wait::until("two slots", || (server.nodes()[0]["slots"] == 2).then_some(()));
    // A repository says nothing about itself.
    fs::create_dir(owned.root.join(".cortex")).unwrap();
    fs::write(
        owned.root.join(".cortex/policy.toml"),
        "version = 0\n[shell]\nallow = [\"/usr/bin/id\"]\n",
    )
    .unwrap();
    server.run(&["id"]).with(126);
}

/// A repository whose settings run a program wherever git lets them, with something to show in it.
fn hostile_repository(root: &Path, marker: &Path) {
    let evil = root.join("evil.sh");
    fs::write(
        &evil,
        format!("#!/bin/sh\necho \"$0\" >> {}\ncat \"$1\" 2> /dev/null\n", marker.display()),
    )
    .unwrap();
    fs::set_permissions(&evil, fs::Permissions::from_mode(0o755)).unwrap();
    let git = |words: &[&str]| {
        let mut command = std::process::Command::new("git");
        command.args(["-c", "user.name=x", "-c", "user.email=x@example.org"]).args(words);
        let done = command.current_dir(root).env("HOME", root).output().unwrap();
        assert!(done.status.success(), "{words:?}: {}", String::from_utf8_lossy(&done.stderr));
    };
    git(&["init", "-q"]);
    fs::write(root.join("a.txt"), "one\n").unwrap();
    fs::write(root.join(".gitattributes"), "*.txt diff=evil\n").unwrap();
    git(&["add", "."]);
    git(&["commit", "-qm", "one"]);
    fs::write(root.join("a.txt"), "two\n").unwrap();
    let evil = text(&evil);
    for name in ["core.fsmonitor", "diff.external", "diff.evil.textconv", "diff.evil.command"] {
        git(&["config", name, &evil]);
    }
}

#[test]
fn a_hostile_repository_and_a_planted_program_run_nothing() {
    let owned = Owned::start(&[]);
    let (server, root) = (&owned.server, &owned.root);
    let marker = root.join("marker");
    hostile_repository(root, &marker);
    let planted = root.join("git");
    fs::write(&planted, format!("#!/bin/sh\necho planted >> {}\n", marker.display())).unwrap();
    fs::set_permissions(&planted, fs::Permissions::from_mode(0o755)).unwrap();
    for argv in [&["git", "status"][..], &["git", "diff"], &["git", "log", "-p"]] {
        server.run(argv).ok();
        assert!(!marker.exists(), "{argv:?}: {}", fs::read_to_string(&marker).unwrap_or_default());
    }
    server.run(&["./git", "status"]).with(126).complains(&["CX-1012"]);
    for argv in [&["git", "-c", "core.fsmonitor=x", "status"][..], &["git", "diff", "--output=x"]] {
        server.run(argv).with(126);
    }
    assert!(!marker.exists());
    // One that a task makes, below the root: what the agent starts as git runs nothing of it either.
    let nested = root.join("nested");
    let make = format!(
        "git init -q nested && cd nested && printf '#!/bin/sh\\necho nested >> {}\\n' > run && chmod +x run && git config core.fsmonitor \"$PWD/run\" && touch file && git add file\n",
        marker.display()
    );
    let make = owned.script("make.sh", &make);
    server.run(&["bash", &make]).ok();
    fs::remove_file(&marker).ok();
    let flags = ["run", "--cwd", &text(&nested), "--", "git", "status"];
    server.cortex(&flags).ok().says(&["new file:   file"]);
    assert!(!marker.exists(), "{}", fs::read_to_string(&marker).unwrap_or_default());
    // The control: the same commands, as version 0 runs them.
    let free =
        "version = 0\n[shell]\nallow = [\"/usr/local/bin/git\", \"/usr/bin/git\", \"/bin/git\"]\n";
    write_policy_text(&server.data().join("agent"), free);
    let at = text(root);
    for words in [&["status"][..], &["diff"], &["log", "-p"]] {
        server.run(&[&["git", "-C", &at], words].concat()).ok();
        assert!(marker.exists(), "{words:?} runs nothing even without a sandbox");
        fs::remove_file(&marker).unwrap();
    }
    server.run(&["git", "-C", &text(&nested), "status"]).ok();
    assert!(marker.exists(), "the nested repository runs nothing even without a sandbox");
}
