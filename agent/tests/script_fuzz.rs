//! Scripts of the subset against a real bash: what runs in their place does the same. Random scripts, for a few seconds; the seed is
//! printed and can be given again in CORTEX_FUZZ_SEED.
#![allow(clippy::unwrap_used, clippy::type_complexity, clippy::too_many_lines, reason = "a test")]

use cortex_agent::facts::{Scene, gather};
use cortex_agent_core::plan::{Level, Operation};
use cortex_agent_core::policy::{Class, Machine, Policy, Request, decide};
use cortex_model::task::ShellAction;
use cortex_model::{Action, AttemptKey, TaskId, TaskKey, Workspace};
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

const SECONDS: u64 = 6;
const LEAST: usize = 40;

struct World {
    base: tempfile::TempDir,
    policy: Policy,
}

impl World {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().canonicalize().unwrap();
        std::fs::create_dir(dir.join("bin")).unwrap();
        for (name, code) in [("pa", 0), ("pb", 0), ("pf", 1)] {
            // Says where it runs and with which words, in one write; whether anybody reads its output makes no difference.
            let log = dir.join("log");
            let text = format!(
                "#!/bin/sh\nprintf '%s\\n' \"$(printf '%s\\001' \"$(pwd -P)\" {name} \"$@\")\" >> {}\nprintf '{name} err\\n' >&2\ntrap '' PIPE\nprintf '{name} out\\n' 2> /dev/null\nexit {code}\n",
                log.display()
            );
            let path = dir.join("bin").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let text = format!(
            "version = 1\nopaque_shell = \"ask\"\nstrict = \"off\"\nprograms.search = [{:?}, \"/usr/bin\", \"/bin\"]\n[paths]\nroots = [{:?}]\n\
             [[rule]]\nid = \"p\"\nprogram = [\"pa\", \"pb\", \"pf\"]\nflags = [\"-a\", \"-b\", \"--\", \"--long\"]\nargs = \"any\"\neffect = \"allow\"\n",
            dir.join("bin"),
            dir.join("root"),
        );
        Self { base, policy: Policy::parse(&text, String::new()).unwrap() }
    }

    fn root(&self) -> PathBuf {
        self.base.path().canonicalize().unwrap().join("root")
    }

    fn reset(&self) {
        let root = self.root();
        drop(std::fs::remove_dir_all(&root));
        drop(std::fs::remove_file(root.with_file_name("log")));
        for name in ["one", "two.rs", "three.rs", "-dash", ".hidden", "sub/four", "sub/deep/five"] {
            let path = root.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{name}\n")).unwrap();
        }
    }

    /// What the policy would run in the place of a script; `None` when it is opaque or denied.
    fn canonical(&self, script: &str) -> Option<String> {
        let action =
            Action::Shell(ShellAction { script: script.to_owned(), ..ShellAction::default() });
        let machine = Machine { level: Level::Full, ..Machine::default() };
        let scene = Scene { tmpdir: "/nonexistent/tmp".into(), mark: "m".into(), machine };
        let facts = gather(&self.policy, &action, &scene);
        let task = TaskKey {
            workspace: Workspace::default_workspace(),
            task: TaskId::parse("t").unwrap(),
        };
        let key = AttemptKey { task, attempt: 1 };
        let request = Request {
            key: &key,
            fence: 1,
            action: &action,
            timeout_ms: 1,
            output_limit: 1,
            consent: None,
        };
        let decision = decide(&self.policy, &facts, &request);
        if decision.classes.contains(&Class::Opaque) {
            return None;
        }
        match decision.plan?.operation() {
            Operation::Process(process) => {
                Some(String::from_utf8(process.argv[2].clone()).unwrap())
            }
            Operation::Echo(_) => None,
        }
    }

    /// Runs it and says all that can be seen of it.
    fn run(
        &self,
        shell: &str,
        script: &str,
    ) -> (Option<i32>, Vec<u8>, Vec<u8>, BTreeMap<PathBuf, Vec<u8>>) {
        self.reset();
        let output = Command::new(Path::new("/bin").join(shell))
            .args(["-c", script])
            .current_dir(self.root())
            .env_clear()
            .env("PATH", self.root().with_file_name("bin"))
            .env("HOME", std::env::var_os("HOME").unwrap_or_default())
            .env("LC_ALL", "C")
            .output()
            .unwrap();
        let log = std::fs::read(self.root().with_file_name("log")).unwrap_or_default();
        let mut files = BTreeMap::new();
        collect(&self.root(), &mut files);
        (output.status.code(), plain(&output.stdout), plain(&log), files)
    }
}

/// A name that a pattern stands for and that begins like an option gets `./` in front, on purpose.
fn plain(bytes: &[u8]) -> Vec<u8> {
    String::from_utf8_lossy(bytes).replace("./-dash", "-dash").into_bytes()
}

fn collect(dir: &Path, into: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in std::fs::read_dir(dir).unwrap().flatten() {
        if entry.path().is_dir() {
            collect(&entry.path(), into);
        } else {
            into.insert(entry.path(), plain(&std::fs::read(entry.path()).unwrap()));
        }
    }
}

/// A random script: mostly of the subset, sometimes beside it.
fn script(random: &mut fastrand::Rng) -> String {
    let pick =
        |random: &mut fastrand::Rng, list: &[&str]| list[random.usize(..list.len())].to_owned();
    let word = |random: &mut fastrand::Rng| {
        let parts = [
            "one",
            "two.rs",
            "'a b'",
            "\"c d\"",
            "\\ ",
            "\\x",
            "*",
            "?ne",
            "*.rs",
            "sub/*",
            "~/",
            "''",
            "\"\"",
            "-a",
            "-b",
            "--",
            "--long",
            "a=b",
            "%",
            "^",
            "'*'",
            "\"'\"",
            "'\"'",
            "\"\\\"\"",
            "\"\\\\n\"",
            "é",
            "'é'",
            "{a,b}",
            "$x",
            "\"$x\"",
            "#x",
            "[o]*",
            "!",
            ".",
            "..",
            "\\*",
        ];
        let count = 1 + random.usize(..3);
        (0..count).map(|_| pick(random, &parts)).collect::<String>()
    };
    let mut text = String::new();
    for at in 0..1 + random.usize(..5) {
        if at > 0 {
            text.push_str(&pick(
                random,
                &[" && ", " || ", " ; ", "\n", " | ", "&&", ";", "|", "\n\n", " &&\n", " # note\n"],
            ));
        }
        let mut command = pick(
            random,
            &[
                "pa",
                "pb",
                "pf",
                "p''a",
                "\\pb",
                "'pf'",
                "echo",
                "true",
                "false",
                "cd",
                "pwd",
                "[",
                ":",
                "printf %s",
            ],
        );
        if command == "cd" {
            command.push(' ');
            command.push_str(&pick(
                random,
                &["sub", "sub/deep", "..", ".", "nowhere", "'sub'", "sub/../sub"],
            ));
        } else if command == "[" {
            command.push_str(&pick(
                random,
                &[" -f one ]", " -d sub ]", " a = b ]", " 1 -lt 2 ]", " ! -e x ]"],
            ));
        } else if command != "pwd" {
            for _ in 0..random.usize(..4) {
                command.push(' ');
                command.push_str(&word(random));
            }
        }
        if random.usize(..5) == 0 {
            command.push_str(&pick(
                random,
                &[
                    " > new",
                    " >> one",
                    " < one",
                    " 2>&1",
                    " 2> err",
                    " >new2 2>&1",
                    " 2>&1 > new3",
                    " > 'q r'",
                ],
            ));
        }
        text.push_str(&command);
    }
    text
}

#[test]
fn what_runs_in_the_place_of_a_script_does_what_bash_would_have_done() {
    let seed = std::env::var("CORTEX_FUZZ_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(|| fastrand::u64(..));
    eprintln!("CORTEX_FUZZ_SEED={seed}");
    let (world, mut random) = (World::new(), fastrand::Rng::with_seed(seed));
    let (end, mut compared, mut made) = (Instant::now() + Duration::from_secs(SECONDS), 0, 0);
    while Instant::now() < end || (compared < LEAST && made < 20_000) {
        made += 1;
        world.reset();
        let text = script(&mut random);
        let Some(canonical) = world.canonical(&text) else { continue };
        compared += 1;
        // Commands of a pipe run at the same time: which one says so first is chance.
        let run = |shell: &str, script: &str| {
            let mut seen = world.run(shell, script);
            if text.contains('|') {
                let mut lines: Vec<&[u8]> = seen.2.split(|byte| *byte == b'\n').collect();
                lines.sort_unstable();
                seen.2 = lines.join(&b'\n');
            }
            seen
        };
        let wanted = run("bash", &text);
        let got = run("bash", &canonical);
        assert_eq!(wanted, got, "seed {seed}\n--- script\n{text}\n--- runs as\n{canonical}");
        // `echo` of another shell may write backslashes otherwise, and a file that cannot be opened is 1 to one and 2 to the
        // other; which programs run, where and with what, is the same.
        let elsewhere = run("sh", &canonical);
        let code = |code: Option<i32>| if code == Some(2) { Some(1) } else { code };
        assert_eq!(
            (code(wanted.0), wanted.2),
            (code(elsewhere.0), elsewhere.2),
            "seed {seed}\n{text}\n{canonical}"
        );
    }
    assert!(compared >= LEAST, "only {compared} of {made} scripts were in the subset");
    eprintln!("{compared} scripts compared, {made} made");
}
