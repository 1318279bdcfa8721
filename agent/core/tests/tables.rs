//! Decisions as text tables that an owner can read: `policy/*.txt`, explained in `policy/README.md`.
#![expect(
    clippy::unwrap_used,
    reason = "a failed expectation ends the test; helpers are outside of the test functions"
)]

mod machine;
#[path = "tables/pages.rs"]
mod pages;

use cortex_agent_core::plan::{Level, NetMode, Operation, ProcessPlan};
use cortex_agent_core::policy::{Decision, Narrowing, Policy, Request, decide, narrow};
use cortex_model::browser;
use cortex_model::task::{ShellAction, Terminal};
use cortex_model::{
    Action, AttemptKey, BrowserAction, FileAction, FileOp, TaskId, TaskKey, Workspace, proto as pb,
};
use machine::World;
use proptest::prelude::*;

fn key() -> AttemptKey {
    let task = TaskId::parse("t").unwrap();
    AttemptKey { task: TaskKey { workspace: Workspace::default_workspace(), task }, attempt: 1 }
}

fn run(world: &World, policy: &Policy, action: Action, cwd: &str) -> Decision {
    let key = key();
    let facts = world.facts(policy, &action, cwd);
    let request = Request {
        key: &key,
        fence: 1,
        action: &action,
        timeout_ms: 1_000,
        output_limit: 1_000,
        consent: None,
    };
    decide(policy, &facts, &request)
}

/// Words, held together by single quotes.
fn words(text: &str) -> Vec<String> {
    let (mut all, mut word, mut quoted, mut any) = (Vec::new(), String::new(), false, false);
    for c in text.trim().chars() {
        match c {
            '\'' => {
                quoted = !quoted;
                any = true;
            }
            ' ' if !quoted => {
                if any {
                    all.push(std::mem::take(&mut word));
                }
                any = false;
            }
            c => {
                word.push(c);
                any = true;
            }
        }
    }
    if any {
        all.push(word);
    }
    all
}

fn script(text: &str) -> String {
    let signs = [
        ("\\n", "\n"),
        ("\\r", "\r"),
        ("\\t", "\t"),
        ("\\v", "\u{b}"),
        ("\\f", "\u{c}"),
        ("\\0", "\0"),
    ];
    signs.iter().fold(text.to_owned(), |text, (sign, c)| text.replace(sign, c))
}

/// `fs.OPERATION PATH [PATH]`.
fn file(text: &str) -> Option<Action> {
    let words = words(text);
    let name = words.first()?.strip_prefix("fs.")?;
    let to = words.get(2).map(|to| to.clone().into_bytes()).unwrap_or_default();
    let op = match name {
        "read" => FileOp::Read(Default::default()),
        "list" => FileOp::List(Default::default()),
        "glob" => FileOp::Glob(Default::default()),
        "search" => FileOp::Search(Default::default()),
        "stat" => FileOp::Stat(Default::default()),
        "stat-link" => FileOp::Stat(pb::FileStat { link: true, ..Default::default() }),
        "write" => FileOp::Write(Default::default()),
        "edit" => FileOp::Edit(Default::default()),
        "delete" => FileOp::Delete(Default::default()),
        "move" => FileOp::Move(pb::FileMove { to, ..Default::default() }),
        "receive" => FileOp::Receive(Default::default()),
        "chunk" => FileOp::Chunk(Default::default()),
        "finish" => FileOp::Finish(Default::default()),
        other => panic!("no operation {other}"),
    };
    let path = words.get(1)?.clone().into_bytes();
    Some(Action::File(Box::new(FileAction { path, op })))
}

/// `browser.RESULT URL [STEP]...`.
fn browser(text: &str) -> Option<Action> {
    let words = words(text);
    let result = browser::result_of(words.first()?.strip_prefix("browser.")?).unwrap();
    let steps = words.iter().skip(2).map(|step| browser::parse_step(step).unwrap());
    let (url, steps) = (words[1].clone(), steps.collect());
    let action = BrowserAction { url, steps, result, window: (0, 0), step_timeout_ms: 0 };
    Some(Action::Browser(Box::new(action)))
}

fn request(text: &str) -> (Action, String) {
    if let Some(browser) = browser(text) {
        return (browser, String::new());
    }
    if let Some(file) = file(text) {
        return (file, String::new());
    }
    let (shell, cwd) = command(text);
    (Action::Shell(shell), cwd)
}

fn command(text: &str) -> (ShellAction, String) {
    let (mut shell, mut cwd, mut rest) = (ShellAction::default(), String::new(), text.trim_start());
    loop {
        let (first, more) = rest.split_once(' ').unwrap_or((rest, ""));
        if let Some(dir) = first.strip_prefix("cwd=") {
            dir.clone_into(&mut cwd);
        } else if let Some(name) = first.strip_prefix("env=") {
            shell.env.push((name.to_owned(), b"x".to_vec()));
        } else if first == "tty" {
            shell.terminal = Some(Terminal { term: "vt100".to_owned(), ..Terminal::default() });
        } else {
            break;
        }
        rest = more;
    }
    match rest.strip_prefix("$ ") {
        Some(text) => shell.script = script(text),
        None => shell.argv = words(rest).into_iter().map(String::into_bytes).collect(),
    }
    (shell, cwd)
}

/// What is wrong with a line; `None` if it comes out as it says.
fn check(world: &World, policy: &Policy, line: &str) -> Option<String> {
    let (expected, text) = line.split_once(" | ").expect("a line has EFFECT | REQUEST");
    let (action, cwd) = request(text);
    let decision = run(world, policy, action, &cwd);
    let code = decision.fault.as_ref().map(|fault| fault.code.as_str());
    let mut wanted = expected.split_whitespace();
    let mut wrong = wanted.next() != Some(decision.effect.word());
    for detail in wanted {
        wrong |= match detail {
            code_wanted if code_wanted.starts_with("CX-") => code != Some(code_wanted),
            rule if rule.starts_with("rule=") => rule.strip_prefix("rule=") != Some(&decision.rule),
            class => !decision.classes.iter().any(|found| found.word() == class),
        };
    }
    wrong |= decision.plan.is_some() != (decision.effect.word() == "allow");
    wrong |= decision.proposal.is_some() != (decision.effect.word() == "ask");
    wrong.then(|| format!("{line}\n  is {decision:?}"))
}

fn check_table(name: &str) {
    let world = World::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let policy =
        world.policy(&std::fs::read_to_string(folder.join("laptop.toml")).unwrap()).unwrap();
    let table = std::fs::read_to_string(folder.join(name)).unwrap();
    let lines: Vec<&str> =
        table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    let wrong: Vec<String> = lines.iter().filter_map(|line| check(&world, &policy, line)).collect();
    assert!(lines.len() > 10);
    assert!(
        wrong.is_empty(),
        "{} of {} lines of {name}:\n{}",
        wrong.len(),
        lines.len(),
        wrong.join("\n")
    );
}

#[test]
fn git_runs_nothing_that_a_repository_or_an_option_names() {
    check_table("git.txt");
}

#[test]
fn every_command_of_a_script_is_decided_alone() {
    check_table("scripts.txt");
}

#[test]
fn what_cannot_be_looked_into_is_asked_or_denied() {
    check_table("opaque.txt");
}

#[test]
fn programs_that_run_others_are_denied() {
    check_table("programs.txt");
}

#[test]
fn paths_are_compared_by_where_they_lead() {
    check_table("paths.txt");
}

#[test]
fn files_are_decided_by_where_their_paths_lead() {
    check_table("files.txt");
}

#[test]
fn a_policy_that_does_not_open_files_denies_them() {
    let world = World::new();
    let rest =
        "programs = { search = [] }\npaths = { roots = [\"~/src/shop\"] }\nstrict = \"off\"\n";
    for (table, read, write) in [
        ("", "deny CX-0401", "deny CX-0401"),
        ("files = { read = \"allow\" }", "allow", "deny CX-0401"),
        ("files = { read = \"ask\", write = \"allow\" }", "ask CX-1201", "allow"),
        ("files = { write = \"deny\" }", "deny CX-0401", "deny CX-0401"),
    ] {
        let policy = world.policy(&format!("version = 1\n{rest}{table}\n")).unwrap();
        for (expected, what) in [(read, "fs.read Cargo.toml"), (write, "fs.write notes.txt")] {
            assert_eq!(check(&world, &policy, &format!("{expected} | {what}")), None, "{table}");
        }
        assert_eq!(policy.allows_files(), !read.starts_with("deny"), "{table}");
    }
    let old = Policy::parse("version = 0", String::new()).unwrap();
    assert_eq!(check(&world, &old, "deny CX-0401 | fs.read Cargo.toml"), None);
}

#[test]
fn a_terminal_is_denied_unless_the_owner_says_otherwise_for_all_or_for_the_program() {
    let world = World::new();
    let policy = |all: &str, ls: &str| {
        let text = format!(
            "version = 1\nprograms = {{ search = [\"/usr/local/bin\", \"/usr/bin\", \"/bin\"] }}\nstrict = \"off\"\n\
             opaque_shell = \"ask\"\n{all}\npaths = {{ roots = [\"~/src/shop\"] }}\n\
             [[rule]]\nid = \"ls\"\nprogram = \"ls\"\neffect = \"allow\"\n{ls}\n\
             [[rule]]\nid = \"cat\"\nprogram = \"cat\"\neffect = \"allow\"\n"
        );
        world.policy(&text).unwrap()
    };
    let is = |effect: &str| format!("terminal = \"{effect}\"");
    let (deny, ask) = ("deny CX-1014 rule=ls", "ask CX-1201 rule=ls");
    let cat = "deny CX-1014 rule=cat";
    for (all, ls, one, both) in [
        (String::new(), String::new(), deny, deny),
        (is("deny"), String::new(), deny, deny),
        (is("allow"), String::new(), "allow", "allow"),
        (is("ask"), String::new(), ask, ask),
        (is("allow"), is("deny"), deny, deny),
        (is("allow"), is("ask"), ask, ask),
        (String::new(), is("allow"), "allow", cat),
        (is("deny"), is("ask"), ask, cat),
    ] {
        let policy = policy(&all, &ls);
        for (expected, what) in [
            (one, "tty ls"),
            (both, "tty $ ls && cat"),
            ("allow", "ls"),
            ("deny", "tty git status"),
            (
                if all == is("allow") || all == is("ask") {
                    "ask opaque"
                } else {
                    "deny CX-1014 opaque"
                },
                "tty $ ls $(id)",
            ),
        ] {
            assert_eq!(check(&world, &policy, &format!("{expected} | {what}")), None, "{all} {ls}");
        }
        let some = all == is("allow") || all == is("ask") || ls == is("allow") || ls == is("ask");
        assert_eq!(policy.allows_terminals(), some, "{all} {ls}");
    }
    let old =
        Policy::parse("version = 0\n[shell]\nallow = [\"/usr/bin/ls\"]", String::new()).unwrap();
    assert_eq!(check(&world, &old, "deny CX-1014 | tty ls"), None);
    assert!(!old.allows_terminals());
}

#[test]
fn an_answer_about_a_terminal_says_so_is_bound_to_it_and_is_never_remembered() {
    let world = World::new();
    let text = "version = 1\nprograms = { search = [\"/usr/bin\", \"/bin\"] }\nterminal = \"ask\"\n\
                paths = { roots = [\"~/src/shop\"] }\n[[rule]]\nid = \"ls\"\nprogram = \"ls\"\neffect = \"ask\"\n";
    let policy = world.policy(text).unwrap();
    let of = |text: &str| {
        let (action, cwd) = request(text);
        let decision = run(&world, &policy, action, &cwd);
        let shown = cortex_agent_core::consent::show(
            decision.proposal.as_ref().unwrap(),
            &decision.classes,
            "t",
            "anna",
            &[],
        );
        (decision.fingerprint, shown.lines.join("\n"), decision.proposal.unwrap())
    };
    let ((plain, shown, open), (with, told, terminal)) = (of("ls"), of("tty ls"));
    assert_ne!(plain, with);
    assert!(!shown.contains("terminal") && open.rememberable, "{shown}");
    assert!(
        told.contains("terminal  YES (vt100): what is typed later is not shown here"),
        "{told}"
    );
    assert!(!terminal.rememberable);
    assert!(terminal.process.env.contains(&("TERM".to_owned(), b"vt100".to_vec())));
}

#[test]
fn without_a_sandbox_no_file_is_touched() {
    let mut world = World::new();
    let text = "version = 1\nprograms = { search = [] }\npaths = { roots = [\"~/src/shop\"], protect = [] }\n\
                files = { read = \"allow\" }\nsandbox.allow_none = true\n";
    let policy = world.policy(text).unwrap();
    assert_eq!(check(&world, &policy, "allow | fs.read Cargo.toml"), None);
    world.level = cortex_agent_core::plan::Level::None;
    assert_eq!(check(&world, &policy, "deny CX-1009 | fs.read Cargo.toml"), None);
}

#[test]
fn what_is_hidden_does_not_cover_the_tasks_own_directory() {
    let world = World::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let policy =
        world.policy(&std::fs::read_to_string(folder.join("laptop.toml")).unwrap()).unwrap();
    for text in ["ls", "fs.list ."] {
        let (action, cwd) = request(text);
        let plan = run(&world, &policy, action, &cwd).plan.unwrap();
        let cortex_agent_core::plan::Operation::Process(process) = plan.operation() else {
            panic!("{text}")
        };
        let view = &process.view;
        for open in view.write.iter().chain(&view.roots) {
            let covers = view.deny.iter().find(|hidden| open.starts_with(hidden));
            assert_eq!(covers, None, "{text}: {open:?}");
        }
        assert!(view.deny.iter().any(|hidden| hidden.ends_with("etc/shadow")), "{view:?}");
    }
}

/// What would run, or what the owner is asked about.
fn process(decision: &Decision) -> Option<&ProcessPlan> {
    match (&decision.plan, &decision.proposal) {
        (Some(plan), _) => match plan.operation() {
            Operation::Process(process) => Some(process),
            Operation::Echo(_) => None,
        },
        (None, Some(proposal)) => Some(&proposal.process),
        (None, None) => None,
    }
}

/// No right more, no limit wider.
fn within(narrowed: &ProcessPlan, own: &ProcessPlan) -> bool {
    let least = |a: Option<u64>, b: Option<u64>| b.is_none_or(|b| a.is_some_and(|a| a <= b));
    let (a, b) = (&narrowed.limits, &own.limits);
    let limits = least(a.cpu_percent.map(u64::from), b.cpu_percent.map(u64::from))
        && least(a.memory, b.memory)
        && least(a.pids.map(u64::from), b.pids.map(u64::from))
        && least(a.file_size, b.file_size)
        && (a.wall_ms <= b.wall_ms && a.output <= b.output && a.enforce == b.enforce);
    let same = ProcessPlan {
        net: own.net.clone(),
        limits: own.limits,
        view: cortex_agent_core::plan::FsView {
            read_only: own.view.read_only,
            ..narrowed.view.clone()
        },
        ..narrowed.clone()
    };
    limits
        && (narrowed.net == own.net || narrowed.net == NetMode::None)
        && narrowed.view.read_only >= own.view.read_only
        && same == *own
}

/// A line of what a server might send, hostile ones among them.
#[test]
fn a_rule_that_only_reads_gives_a_view_that_only_reads() {
    let world = World::new();
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
    let policy = world.policy(&std::fs::read_to_string(folder.join("laptop.toml")).unwrap());
    let policy = policy.unwrap();
    let read_only = |text: &str| {
        let (action, cwd) = request(text);
        process(&run(&world, &policy, action, &cwd)).unwrap().view.read_only
    };
    assert!(read_only("git status"));
    assert!(!read_only("git add ."));
}

fn wish() -> impl Strategy<Value = String> {
    let programs =
        "browser|chromium|git|cargo|rm|sh|bash|ls|cat|env|curl|npm|echo|[*]|/bin/sh|mv|python3";
    prop_oneof![
        proptest::collection::vec(programs, 0..4).prop_map(|names| format!("deny = {names:?}")),
        Just("network = \"none\"".to_owned()),
        Just("network = \"full\"".to_owned()),
        Just("effect = \"ask\"".to_owned()),
        Just("effect = \"allow\"".to_owned()),
        Just("fs = \"read-only\"".to_owned()),
        Just("fs = \"read-write\"".to_owned()),
        Just("strict = \"off\"".to_owned()),
        Just("opaque_shell = \"ask\"".to_owned()),
        Just("default = \"ask\"".to_owned()),
        Just("paths = { roots = [\"/\"], deny = [], protect = [] }".to_owned()),
        Just("rule = [{ id = \"x\", program = \"rm\", args = \"any\", effect = \"allow\" }]".to_owned()),
        Just("files = { read = \"allow\", write = \"allow\" }".to_owned()),
        Just("sandbox = { allow_none = true }".to_owned()),
        Just("terminal = \"deny\"".to_owned()),
        Just("terminal = \"allow\"".to_owned()),
        Just("browser = { effect = \"allow\", net = \"deps\", origins = [\"https://evil.example\"] }".to_owned()),
        (0_u32..500, 0_u64..2_000, 0_u32..9).prop_map(|(cpu, wall, pids)| format!(
            "limits.task = {{ cpu = \"{cpu}%\", wall = \"{wall}ms\", pids = {pids}, memory = \"{pids}GiB\", output = \"{wall}B\" }}"
        )),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn a_server_only_ever_takes_away(
        wishes in proptest::collection::vec(wish(), 0..5),
        table in 0_usize..7,
        line in any::<prop::sample::Index>(),
        level in 0_u8..3,
        root in any::<bool>(),
    ) {
        let mut world = World::new();
        world.level = [Level::Full, Level::Landlock, Level::None][level as usize];
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy");
        let names = ["git.txt", "scripts.txt", "opaque.txt", "programs.txt", "paths.txt", "files.txt", "browser.txt"];
        let lines = std::fs::read_to_string(folder.join(names[table])).unwrap();
        let lines: Vec<&str> = lines.lines().filter(|line| line.contains(" | ")).collect();
        let (_, text) = line.get(&lines).split_once(" | ").unwrap();
        let own = std::fs::read_to_string(folder.join("laptop.toml")).unwrap();
        let own = if root { own } else { own.replace("strict = \"destructive\"", "strict = \"all\"") };
        let own = world.policy(&own).unwrap();
        let mut seen = std::collections::BTreeSet::new();
        let wishes = wishes.into_iter().filter(|wish| seen.insert(wish.split(' ').next().unwrap().to_owned()));
        let sent = wishes.fold("version = 1\n".to_owned(), |text, wish| text + &wish + "\n");
        let narrowing = Narrowing::read(&sent).unwrap().narrowing;
        let narrowed = narrow(&own, &narrowing);
        let decide = |policy: &Policy| {
            let (action, cwd) = request(text);
            run(&world, policy, action, &cwd)
        };
        let (before, after) = (decide(&own), decide(&narrowed));
        prop_assert!(after.effect >= before.effect, "{sent}{text}: {before:?} {after:?}");
        if let Some(after) = process(&after) {
            prop_assert!(within(after, process(&before).unwrap()), "{sent}{text}");
        }
        prop_assert_eq!(narrowed.digest() == own.digest(), narrowing.is_empty());
    }
}
