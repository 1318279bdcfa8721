//! What strict mode sees in a command: known verbs that destroy, act with more rights, or are seen outside. A seat-belt,
//! not a wall: a program that runs code can do all of it without using one of these verbs.

use super::decision::{Class, ClassSet};
use super::facts::PathKind;
use super::lists;
use super::matching::{Command, View};
use crate::plan::NetMode;

/// The classes of a command.
pub(super) fn of(command: &Command<'_>, view: View<'_>) -> ClassSet {
    let mut classes = by_words(&command.program.name(), command.args);
    classes.extend(by_words(target_name(command), command.args));
    if command.program.setuid {
        classes.insert(Class::Privilege);
    }
    if overwrites(command, view) {
        classes.insert(Class::Destructive);
    }
    classes
}

/// The name of the file that a link leads to; a multi-call program goes by the link's own name.
fn target_name<'a>(command: &'a Command<'_>) -> &'a str {
    let name =
        command.program.target.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if ["busybox", "toybox", "coreutils", "rustup"].contains(&name) { "" } else { name }
}

/// Classes that follow from the net a command gets.
pub(super) fn of_net(net: &NetMode) -> ClassSet {
    match net {
        NetMode::Full => ClassSet::from([Class::Outward]),
        NetMode::None | NetMode::Loopback { .. } | NetMode::Domains { .. } => ClassSet::new(),
    }
}

/// Classes that follow from the words alone; also used on what a generous reading finds in a script.
pub(super) fn by_words(name: &str, args: &[String]) -> ClassSet {
    let mut classes = ClassSet::new();
    let stem = lists::stem(name);
    if lists::has(lists::DESTRUCTIVE, name) || stem.starts_with("mkfs") || destroys(stem, args) {
        classes.insert(Class::Destructive);
    }
    if lists::has(lists::PRIVILEGE, name) {
        classes.insert(Class::Privilege);
    }
    if lists::has(lists::OUTWARD, name) || goes_out(stem, args) {
        classes.insert(Class::Outward);
    }
    if lists::has(lists::SHELLS, name) {
        classes.insert(Class::Opaque);
    }
    classes
}

/// The words that are no options.
fn words(args: &[String]) -> Vec<&str> {
    args.iter().map(String::as_str).filter(|arg| !arg.starts_with('-')).collect()
}

/// Whether an option is there: in full, abbreviated, with a value, or in a cluster.
fn has(args: &[String], options: &[&str]) -> bool {
    args.iter().any(|arg| {
        options.iter().any(|option| match option.strip_prefix("--") {
            Some(long) => arg.strip_prefix("--").is_some_and(|given| {
                let given = given.split_once('=').map_or(given, |(given, _)| given);
                !given.is_empty() && long.starts_with(given)
            }),
            None => {
                let letter = option.trim_start_matches('-');
                arg == option
                    || (letter.len() == 1
                        && arg.starts_with('-')
                        && !arg.starts_with("--")
                        && arg.contains(letter))
            }
        })
    })
}

fn destroys(name: &str, args: &[String]) -> bool {
    let words = words(args);
    let any = |list: &[&str]| words.iter().any(|word| list.contains(word));
    match name {
        "chmod" | "chown" | "chgrp" | "setfacl" => has(args, &["-R", "--recursive"]),
        "sed" | "perl" | "ruby" => has(args, &["-i", "--in-place"]),
        "find" => args.iter().any(|arg| arg == "-delete") || execs(args),
        "rsync" => args.iter().any(|arg| arg.starts_with("--del") || arg.starts_with("--remove")),
        "git" => git(args),
        "docker" | "podman" | "nerdctl" => any(&["rm", "rmi", "prune", "kill", "stop", "down"]),
        "kubectl" | "oc" => any(&["delete", "drain", "replace", "scale"]),
        "helm" => any(&["uninstall", "delete", "rollback"]),
        "terraform" | "tofu" | "pulumi" | "cdk" => {
            any(&["apply", "destroy", "taint", "import", "up"])
        }
        "psql" | "mysql" | "mariadb" | "sqlite" | "sqlcmd" | "duckdb" | "clickhouse-client"
        | "mongosh" => sql(args),
        "redis-cli" | "valkey-cli" => words.iter().any(|word| {
            let word = word.to_ascii_uppercase();
            word.starts_with("FLUSH") || word == "DEL" || word == "UNLINK"
        }),
        "apt" | "apt-get" | "aptitude" | "dnf" | "yum" | "zypper" | "brew" | "snap" | "flatpak"
        | "pip" | "npm" | "pnpm" | "yarn" | "cargo" | "gem" | "uv" | "pipx" | "conda" | "mamba" => {
            any(&[
                "remove",
                "purge",
                "autoremove",
                "uninstall",
                "erase",
                "rm",
                "un",
                "prune",
                "clean",
                "cache",
            ])
        }
        "pacman" | "rpm" | "dpkg" => {
            has(args, &["-R", "-e", "-r", "-P", "--remove", "--purge", "--erase"])
        }
        "systemctl" | "service" | "launchctl" | "rc-service" => any(&[
            "stop", "restart", "disable", "mask", "kill", "isolate", "unload", "bootout",
            "poweroff", "reboot",
        ]),
        "tar" | "unzip" | "cpio" | "7z" => {
            has(args, &["-x", "--extract", "--overwrite", "--delete", "--remove-files"])
        }
        "crontab" => has(args, &["-r"]),
        "xargs" | "parallel" | "env" | "timeout" | "nice" | "nohup" => args
            .iter()
            .any(|arg| lists::DESTRUCTIVE.contains(&arg.rsplit('/').next().unwrap_or(arg))),
        _ => false,
    }
}

fn execs(args: &[String]) -> bool {
    args.iter().any(|arg| ["-exec", "-execdir", "-ok", "-okdir"].contains(&arg.as_str()))
}

/// A statement that removes, anywhere in the arguments.
fn sql(args: &[String]) -> bool {
    args.iter().any(|arg| {
        let upper = arg.to_ascii_uppercase();
        let words = upper.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        words.into_iter().any(|word| {
            ["DROP", "TRUNCATE", "DELETE", "DROPDATABASE", "DELETEMANY", "DELETEONE"]
                .contains(&word)
        })
    })
}

/// The subcommand, behind git's own options.
fn git_sub(args: &[String]) -> (usize, &str) {
    let mut at = 0;
    while let Some(arg) = args.get(at) {
        match arg.as_str() {
            "-C" | "-c" | "--git-dir" | "--work-tree" | "--namespace" | "--exec-path"
            | "--super-prefix" | "--config-env" => at += 2,
            arg if arg.starts_with('-') => at += 1,
            sub => return (at + 1, sub),
        }
    }
    (at, "")
}

fn git(args: &[String]) -> bool {
    let (at, sub) = git_sub(args);
    let rest = args.get(at..).unwrap_or_default();
    let words = words(rest);
    let first = words.first().copied().unwrap_or_default();
    match sub {
        "push" => {
            has(
                rest,
                &["-f", "-d", "--force", "--force-with-lease", "--mirror", "--delete", "--prune"],
            ) || words.iter().any(|word| word.starts_with('+') || word.starts_with(':'))
        }
        "reset" => has(rest, &["--hard", "--merge", "--keep"]),
        "clean" | "rm" | "filter-branch" | "filter-repo" | "gc" | "prune" | "restore"
        | "checkout-index" | "replace" => true,
        // Anything beside making or changing to a branch may overwrite files.
        "checkout" => {
            rest.iter().any(|arg| arg == "--" || arg == ".")
                || has(rest, &["-f", "--force", "-B", "-p"])
                || words.len() > 1
        }
        "switch" => has(rest, &["-f", "--force", "--discard-changes", "-C", "--force-create"]),
        "branch" => has(rest, &["-D", "-d", "-M", "-f", "--delete", "--force"]),
        "tag" => has(rest, &["-d", "-f", "--delete", "--force"]),
        "stash" => ["drop", "clear", "pop"].contains(&first),
        "reflog" => ["expire", "delete"].contains(&first),
        "worktree" => ["remove", "prune"].contains(&first),
        "remote" => ["remove", "rm", "prune", "set-url"].contains(&first),
        "update-ref" => has(rest, &["-d", "--stdin"]),
        "submodule" => ["deinit"].contains(&first),
        "rebase" | "am" | "merge" | "cherry-pick" | "revert" => {
            has(rest, &["-f", "--force", "--abort", "--skip"])
        }
        "commit" => has(rest, &["--amend"]),
        _ => false,
    }
}

fn goes_out(name: &str, args: &[String]) -> bool {
    let words = words(args);
    let first = words.first().copied().unwrap_or_default();
    match name {
        "git" => ["push", "send-email", "request-pull", "imap-send"].contains(&git_sub(args).1),
        "hg" | "jj" | "svn" => ["push", "commit", "git"].contains(&first),
        "npm" | "pnpm" | "yarn" | "cargo" | "gem" | "poetry" | "uv" | "mvn" | "dotnet" | "helm"
        | "docker" | "podman" => words.iter().any(|word| {
            [
                "publish",
                "push",
                "login",
                "owner",
                "yank",
                "deploy",
                "unpublish",
                "deprecate",
                "adduser",
            ]
            .contains(word)
        }),
        "curl" | "curlie" | "http" | "https" | "xh" => {
            let options = [
                "-d",
                "-F",
                "-T",
                "-X",
                "--data",
                "--data-raw",
                "--data-binary",
                "--data-urlencode",
                "--data-ascii",
                "--form",
                "--form-string",
                "--upload-file",
                "--request",
                "--json",
                "--mail-rcpt",
                "-K",
                "--config",
                "-Q",
                "--quote",
            ];
            has(args, &options)
                || words.iter().any(|word| ["POST", "PUT", "PATCH", "DELETE"].contains(word))
        }
        "wget" => {
            has(args, &["--post-data", "--post-file", "--method", "--body-data", "--body-file"])
        }
        "rsync" => words.iter().any(|word| word.contains(':')),
        "ansible" | "ansible-playbook" | "terraform" | "tofu" | "kubectl" | "pulumi" => true,
        _ => false,
    }
}

/// `mv` and its like onto something that exists. Whether that could be had back is not looked at: asking git in a
/// directory that a task can write would run what the task put there.
fn overwrites(command: &Command<'_>, view: View<'_>) -> bool {
    if !["mv", "cp", "install", "ln", "tee", "sort", "uniq"]
        .contains(&command.program.name().as_str())
    {
        return false;
    }
    targets(&command.program.name(), command.args).iter().any(|target| {
        command.dirs.iter().any(|dir| match view.resolve(dir, target) {
            Some((_, PathKind::File)) => true,
            Some((_, PathKind::Missing | PathKind::Dir | PathKind::Other)) => false,
            None => true,
        })
    })
}

/// What would be written by `mv`, `cp` and their like: the last word, or that directory with each name in it.
pub(super) fn targets(name: &str, args: &[String]) -> Vec<String> {
    let given = |short: &str, long: &str| {
        args.iter().enumerate().find_map(|(at, arg)| {
            let value = arg
                .strip_prefix(long)
                .and_then(|rest| rest.strip_prefix('='))
                .or_else(|| arg.strip_prefix(short));
            match value {
                Some("") => args.get(at + 1).cloned(),
                Some(value) if !arg.starts_with("--") || arg.starts_with(long) => {
                    Some(value.to_owned())
                }
                Some(_) | None => None,
            }
        })
    };
    let words: Vec<String> = args.iter().filter(|arg| !arg.starts_with('-')).cloned().collect();
    match name {
        "tee" => words,
        "sort" => given("-o", "--output").into_iter().collect(),
        "uniq" => words.into_iter().skip(1).take(1).collect(),
        "mv" | "cp" | "install" | "ln" => {
            let (dir, sources) = match (given("-t", "--target-directory"), words.split_last()) {
                (Some(dir), _) => (dir, words.as_slice()),
                (None, Some((last, sources))) => (last.clone(), sources),
                (None, None) => return Vec::new(),
            };
            let name_of = |source: &String| {
                source.trim_end_matches('/').rsplit('/').next().map(str::to_owned)
            };
            let inside = sources.iter().filter_map(name_of).map(|name| format!("{dir}/{name}"));
            std::iter::once(dir.clone()).chain(inside).collect()
        }
        _ => Vec::new(),
    }
}
