//! Build tasks: `cargo xtask COMMAND`. Standard library only, so that it builds in a second on a machine
//! that has nothing but Rust and a C compiler. It never touches anything outside the checkout, except
//! that `setup`, as root, may install `python3-pip`, `nodejs`, `strace` and `chromium`.

mod nats;
mod python;
mod run;
mod setup;
mod system;
mod tasks;

use std::io::Write;
use std::process::ExitCode;

/// A task: its name, what follows it on the command line, one line about it, its own help, its code.
struct Task {
    name: &'static str,
    about: &'static str,
    help: &'static str,
    run: fn(&[String]) -> Result<(), String>,
}

const TASKS: &[Task] = &[
    Task {
        name: "setup",
        about: "install what the tests need into .tools/; safe to repeat",
        help: setup::HELP,
        run: setup::setup,
    },
    Task {
        name: "test",
        about: "setup, build, and run every test",
        help: tasks::TEST_HELP,
        run: tasks::test,
    },
    Task {
        name: "ci",
        about: "formatting, lints, then everything `test` does",
        help: tasks::CI_HELP,
        run: tasks::ci,
    },
    Task {
        name: "bench",
        about: "build the release programs and measure them",
        help: tasks::BENCH_HELP,
        run: tasks::bench,
    },
    Task {
        name: "gen",
        about: "regenerate the Rust of the contract from proto/cortex/v1",
        help: tasks::GEN_HELP,
        run: tasks::generate,
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    match dispatch(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("xtask: {why}");
            ExitCode::FAILURE
        }
    }
}

fn dispatch(args: &[String]) -> Result<(), String> {
    let (name, rest) = match args.split_first() {
        None => return Err(format!("no command given\n\n{}", overview())),
        Some((first, rest)) => (first.as_str(), rest),
    };
    if is_help(name) || name == "help" {
        let about = rest.first().and_then(|topic| TASKS.iter().find(|t| t.name == topic));
        return show(about.map_or(overview().as_str(), |t| t.help));
    }
    let Some(task) = TASKS.iter().find(|t| t.name == name) else {
        return Err(format!("unknown command '{name}'\n\n{}", overview()));
    };
    if rest.first().is_some_and(|a| is_help(a)) {
        return show(task.help);
    }
    (task.run)(rest)
}

fn is_help(arg: &str) -> bool {
    arg == "--help" || arg == "-h"
}

fn overview() -> String {
    let mut text = String::from("Usage: cargo xtask COMMAND [ARGS]\n\nCommands:\n");
    for task in TASKS {
        text.push_str(&format!("  {:<7} {}\n", task.name, task.about));
    }
    text.push_str("  help    show this, or the help of one command\n");
    text
}

fn show(text: &str) -> Result<(), String> {
    writeln!(std::io::stdout(), "{}", text.trim_end()).map_err(|e| format!("writing help: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<String> {
        line.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn every_command_has_a_help_that_names_it() {
        for task in TASKS {
            assert!(task.help.contains(&format!("cargo xtask {}", task.name)), "{}", task.name);
            assert_eq!(dispatch(&words(&format!("{} --help", task.name))), Ok(()));
            assert!(overview().contains(task.about));
        }
    }

    #[test]
    fn an_unknown_command_is_refused_with_the_list_of_known_ones() {
        let why = dispatch(&words("tset")).expect_err("must be refused");
        assert!(why.contains("unknown command 'tset'") && why.contains("setup"), "{why}");
        assert!(dispatch(&[]).is_err());
    }
}
