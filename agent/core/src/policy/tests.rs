//! Parts of decisions that tables do not show: plans, fingerprints, policies that are refused.

use super::*;

fn laptop() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/policy/laptop.toml"))
        .unwrap()
}

fn place() -> Place {
    Place { home: "/home/ada".into(), state: vec!["/var/lib/cortex".into()], ..Place::default() }
}

fn compile(text: &str) -> Result<Policy, PolicyError> {
    Draft::parse(text, String::new())?.compile(&place())
}

/// The policy with one line replaced.
fn with(line: &str, other: &str) -> Result<Policy, PolicyError> {
    let text = laptop();
    assert!(text.contains(line), "{line}");
    compile(&text.replace(line, other))
}

#[test]
fn what_is_not_understood_completely_is_refused() {
    assert!(compile(&laptop()).is_ok());
    for (line, other, says) in [
        ("effect = \"allow\"", "effect = \"alow\"", "alow"),
        ("[[rule]]", "[[rules]]", "rules"),
        ("version = 1", "version = 2", "version 2"),
        ("default = \"deny\"", "default = \"allow\"", "allow"),
        ("default = \"deny\"", "defaults = \"deny\"", "defaults"),
        ("roots = [\"~/src/shop\"]", "roots = [\"/\"]", "whole file system"),
        ("roots = [\"~/src/shop\"]", "roots = [\"src\"]", "absolute"),
        ("roots = [\"~/src/shop\"]", "roots = [\"/var/lib\"]", "own directory"),
        ("roots = [\"~/src/shop\"]", "roots = [\"~/.ssh/x\"]", "hidden"),
        ("roots = [\"~/src/shop\"]", "roots = [\"~/../x\"]", ".."),
        ("roots = [\"~/src/shop\"]", "roots = [\"$EVIL/x\"]", "variable"),
        ("\"/usr/local/bin\"", "\"~/src/shop/bin\"", "write"),
        ("\"/usr/local/bin\"", "\"~/src\"", "write"),
        ("\"@system\"", "\"@systme\"", "no set"),
        ("\"@system\"", "\"@secrets\"", "belong"),
        ("\"**/.env\"", "\"~/*.env\"", "**/"),
        ("\"LC_*\"", "\"L*\"", "never passed"),
        ("\"LC_*\"", "\"*\"", "name"),
        ("\"LC_*\"", "\"LD_PRELOAD\"", "never passed"),
        ("net = \"deps\"", "net = \"dep\"", "no net profile"),
        ("mode = \"domains\", allow", "mode = \"full\", allow", "belongs to"),
        ("packages.example.com:443", "packages.example.com", "NAME:PORT"),
        ("packages.example.com:443", "*:443", "NAME:PORT"),
        ("cpu = \"150%\"", "cpu = \"much\"", "share"),
        ("wall = \"15m\"", "wall = \"15\"", "duration"),
        ("\"-n=*\"", "\"-n=5\"", "after '='"),
        ("\"--oneline\"", "\"oneline\"", "no flag"),
        ("id = \"cargo\"", "id = \"git-read\"", "two rules"),
        ("id = \"cargo\"", "id = \"car go\"", "letters"),
        ("program = \"git\"", "program = \"/usr/bin/git\"", "not the name"),
        ("program = \"git\"", "program = \"*\"", "names its programs"),
        ("\"@root/tool.sh\"", "\"@root/../x\"", "@root"),
        ("\"cargo test -p api\"", "\"cargo run\"", "should match"),
        ("\"cargo run\"]", "\"cargo test\"]", "should not match"),
        ("\"cargo run\"]", "\"cargo run; ls\"]", "one plain command"),
        ("file:~/.token", "vault:x", "file:PATH"),
        ("\"tty\"", "\"mail\"", "mail"),
    ] {
        let refused = with(line, other).expect_err(other).to_string();
        assert!(refused.contains(says), "{other}: {refused}");
    }
}

#[test]
fn an_empty_list_is_nothing_and_a_wide_one_must_be_asked_for() {
    let policy = compile("version = 1\nprograms.search = []\npaths = {}\n").unwrap();
    assert!(!policy.allows_shell());
    assert!(policy.roots().is_empty());
    let (hidden, protected) = policy.names_to_look_for();
    assert!(hidden.is_empty() && !protected.is_empty());
}

#[test]
fn a_policy_of_the_first_version_keeps_its_meaning() {
    let policy = compile("version = 0\n[shell]\nallow = [\"/usr/bin/ls\"]").unwrap();
    assert_eq!((policy.version(), policy.allows_shell(), policy.allows_echo()), (0, true, true));
    for text in ["", "version = 0\nx = 1", "version = 0\n[shell]\nalow = []", "version = \"0\""] {
        assert!(matches!(compile(text), Err(PolicyError::Syntax(_))), "{text}");
    }
    for path in ["ls", "./ls", "/usr/bin/", "/", "/usr/../bin/ls", ""] {
        let text = format!("version = 0\n[shell]\nallow = [{path:?}]");
        assert!(matches!(compile(&text), Err(PolicyError::Program(_))), "{path}");
    }
}

#[test]
fn a_syntax_error_names_its_line() {
    let refused = compile("version = 1\nname = \"x\"\nwrong = 1\n").unwrap_err().to_string();
    assert!(refused.contains("line 3"), "{refused}");
}

#[test]
fn an_echo_is_held_to_the_limits_that_policy_and_server_give_to_all() {
    let text = "version = 1\nprograms.search = []\npaths = {}\nlimits.task = { wall = \"5s\", output = \"1KiB\" }\n";
    let policy = compile(text).unwrap();
    let task = cortex_model::TaskKey {
        workspace: cortex_model::Workspace::default_workspace(),
        task: cortex_model::TaskId::parse("t1").unwrap(),
    };
    let key = cortex_model::AttemptKey { task, attempt: 1 };
    let action = Action::Echo { payload: vec![b'x'; 5_000] };
    let limits = |policy: &Policy, timeout_ms, output_limit| {
        let (key, action) = (&key, &action);
        let request = Request { key, fence: 1, action, timeout_ms, output_limit, consent: None };
        let plan = decide(policy, &Facts::default(), &request).plan.unwrap();
        (plan.timeout_ms(), plan.output_limit())
    };
    assert_eq!(limits(&policy, 60_000, 1 << 20), (5_000, 1_024));
    assert_eq!(limits(&policy, 1_000, 10), (1_000, 10), "a task may ask for less");
    let less = Narrowing { wall_ms: Some(2_000), output: Some(100), ..Narrowing::default() };
    assert_eq!(limits(&narrow(&policy, &less), 60_000, 1 << 20), (2_000, 100));
}
