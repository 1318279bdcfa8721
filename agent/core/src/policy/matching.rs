//! One command against one rule, token by token. What allows is strict: a token that the rule does not list means no match.
//! What denies is generous.

use super::facts::{Facts, PathKind, Program};
use super::file::ArgsWord;
use super::lists;
use super::paths::{is_below, lexical};
use super::reach::Reach;
use super::rules::{Flag, FlagValue, ProgramName, Rule};
use std::path::{Path, PathBuf};

/// A command with everything that stands for something replaced.
#[derive(Clone, Debug)]
pub(super) struct Command<'a> {
    pub(super) name: &'a str,
    pub(super) program: &'a Program,
    /// The file lies in `programs.search`.
    pub(super) searched: bool,
    pub(super) args: &'a [String],
    /// Where it may run, not normalised.
    pub(super) dirs: &'a [PathBuf],
}

/// How far a rule came. Ordered: the one that came furthest is the nearest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Miss {
    /// Another program.
    Program,
    /// This is no global option of the rule.
    Global(String),
    /// Another subcommand, or none.
    Sub(Option<String>),
    /// This is no flag of the rule.
    Flag(String),
    /// This flag lacks its value, or has one that could be a flag.
    Value(String),
    /// This argument is not one the rule takes.
    Arg(String, String),
}

/// A rule that matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Hit {
    /// Behind the subcommand, counted in arguments.
    pub(super) after_sub: usize,
}

/// What paths mean and which may be used.
#[derive(Clone, Copy, Debug)]
pub(super) struct View<'a> {
    pub(super) reach: &'a Reach<'a>,
    pub(super) facts: &'a Facts,
    /// Examples are checked without a disk: a path means what it says.
    pub(super) assume: bool,
}

impl View<'_> {
    /// What a word means as a path, from a directory.
    pub(super) fn resolve(&self, dir: &Path, word: &str) -> Option<(PathBuf, PathKind)> {
        let asked = dir.join(word);
        match self.facts.path(&asked) {
            Some(fact) => Some((fact.canonical.clone(), fact.kind)),
            None if self.assume => Some((lexical(dir, word), PathKind::Missing)),
            None => None,
        }
    }

    fn may(
        &self,
        dirs: &[PathBuf],
        word: &str,
        write: bool,
        read_only: bool,
    ) -> Result<(), String> {
        for dir in dirs {
            let (path, _) = self.resolve(dir, word).ok_or("it was not looked at")?;
            if write {
                self.reach.writable(&path, read_only)?;
            } else {
                self.reach.readable(&path)?;
            }
        }
        Ok(())
    }
}

/// Whether the rule is about this program.
pub(super) fn names(rule: &Rule, command: &Command<'_>) -> bool {
    rule.programs.iter().any(|program| match program {
        ProgramName::Named(name) => {
            command.searched
                && command.program.path.file_name().is_some_and(|own| own == name.as_str())
        }
        ProgramName::Exact(path) => {
            command.program.path == *path && command.program.target == *path
        }
        ProgramName::Any => true,
    })
}

/// Strictly: every token is one that the rule lists.
pub(super) fn strict(rule: &Rule, command: &Command<'_>, view: View<'_>) -> Result<Hit, Miss> {
    if !names(rule, command) {
        return Err(Miss::Program);
    }
    let mut tokens = Tokens { args: command.args, at: 0, dirs: command.dirs.to_vec() };
    if !rule.subs.is_empty() {
        while let Some(token) =
            tokens.peek().filter(|token| is_flag(token) || token.starts_with('+'))
        {
            let token = token.to_owned();
            let flag = tokens.flag(rule.globals.as_deref(), rule, view, &token)?;
            if flag == Taken::No {
                return Err(Miss::Global(token));
            }
        }
        let rest = &command.args[tokens.at..];
        let sub =
            rule.subs.iter().find(|sub| rest.len() >= sub.len() && rest[..sub.len()] == sub[..]);
        tokens.at += sub.ok_or_else(|| Miss::Sub(rest.first().cloned()))?.len();
    }
    let after_sub = tokens.at;
    let mut only_args = false;
    while let Some(token) = tokens.peek().map(str::to_owned) {
        if !only_args
            && (is_flag(&token)
                || (token.starts_with('+') && lists::has(lists::PLUS, command.name)))
        {
            if tokens.flag(rule.flags.as_deref(), rule, view, &token)? == Taken::No {
                return Err(Miss::Flag(token));
            }
            only_args = token == "--";
            continue;
        }
        tokens.at += 1;
        argument(rule, &tokens.dirs, view, &token)?;
    }
    Ok(Hit { after_sub })
}

/// `-` alone is standard input.
fn is_flag(token: &str) -> bool {
    token.starts_with('-') && token != "-"
}

fn argument(rule: &Rule, dirs: &[PathBuf], view: View<'_>, token: &str) -> Result<(), Miss> {
    let miss = |why: String| Miss::Arg(token.to_owned(), why);
    match rule.args {
        None | Some(ArgsWord::Any) => Ok(()),
        Some(ArgsWord::None) => Err(miss("the rule takes no arguments".to_owned())),
        Some(ArgsWord::PathRead) if token == "-" => Ok(()),
        Some(ArgsWord::PathRead) => view.may(dirs, token, false, rule.read_only).map_err(miss),
        Some(ArgsWord::PathWrite) => view.may(dirs, token, true, rule.read_only).map_err(miss),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Taken {
    Yes,
    No,
}

struct Tokens<'a> {
    args: &'a [String],
    at: usize,
    /// Grows when an option names another directory.
    dirs: Vec<PathBuf>,
}

impl Tokens<'_> {
    fn peek(&self) -> Option<&str> {
        self.args.get(self.at).map(String::as_str)
    }

    /// Takes the flag at the front with its value, if the list has it. `None` as list takes any flag.
    fn flag(
        &mut self,
        list: Option<&[Flag]>,
        rule: &Rule,
        view: View<'_>,
        token: &str,
    ) -> Result<Taken, Miss> {
        self.at += 1;
        let Some(list) = list else { return Ok(Taken::Yes) };
        let find = |name: &str| list.iter().find(|flag| flag.name == name);
        if let Some(flag) = find(token) {
            if flag.value == FlagValue::None {
                return Ok(Taken::Yes);
            }
            let Some(value) = self.peek().map(str::to_owned) else {
                return Err(Miss::Value(token.to_owned()));
            };
            self.at += 1;
            let number = value
                .strip_prefix('-')
                .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
            if is_flag(&value) && !number {
                return Err(Miss::Value(token.to_owned()));
            }
            self.value(flag, view, rule, &value)?;
            // The program may see no value here but an argument: it must be good as either.
            if matches!(rule.args, Some(ArgsWord::PathRead | ArgsWord::PathWrite)) {
                argument(rule, &self.dirs, view, &value)?;
            }
            return Ok(Taken::Yes);
        }
        if let Some((name, value)) = token.split_once('=').filter(|_| token.starts_with("--"))
            && let Some(flag) = find(name).filter(|flag| flag.value != FlagValue::None)
        {
            self.value(flag, view, rule, value)?;
            return Ok(Taken::Yes);
        }
        if token.starts_with("--") || token.starts_with('+') {
            return Ok(Taken::No);
        }
        self.cluster(list, rule, view, token)
    }

    /// `-rf` is `-r -f`; `-n5` is `-n` with its value. Each letter must be listed.
    fn cluster(
        &mut self,
        list: &[Flag],
        rule: &Rule,
        view: View<'_>,
        token: &str,
    ) -> Result<Taken, Miss> {
        let letters: Vec<(usize, char)> = token.char_indices().skip(1).collect();
        for (at, letter) in letters {
            let Some(flag) = list.iter().find(|flag| flag.name == format!("-{letter}")) else {
                return Ok(Taken::No);
            };
            if flag.value == FlagValue::None {
                continue;
            }
            let rest = &token[at + letter.len_utf8()..];
            if rest.is_empty() {
                // The last letter takes the next token.
                let Some(value) = self.peek().map(str::to_owned).filter(|value| !is_flag(value))
                else {
                    return Err(Miss::Value(token.to_owned()));
                };
                self.at += 1;
                self.value(flag, view, rule, &value)?;
                if matches!(rule.args, Some(ArgsWord::PathRead | ArgsWord::PathWrite)) {
                    argument(rule, &self.dirs, view, &value)?;
                }
            } else {
                self.value(flag, view, rule, rest)?;
            }
            return Ok(Taken::Yes);
        }
        Ok(Taken::Yes)
    }

    fn value(&mut self, flag: &Flag, view: View<'_>, rule: &Rule, value: &str) -> Result<(), Miss> {
        let write = match flag.value {
            FlagValue::None | FlagValue::Any => return Ok(()),
            FlagValue::PathRead => false,
            FlagValue::PathWrite => true,
        };
        let miss = |why: String| Miss::Arg(format!("{} {value}", flag.name), why);
        view.may(&self.dirs, value, write, rule.read_only).map_err(miss)?;
        if matches!(
            flag.name.as_str(),
            "-C" | "--directory" | "--cwd" | "--prefix" | "--git-dir" | "--work-tree"
        ) {
            // What follows counts from there, or from here: both must be good. It must stay inside a root.
            for dir in &self.dirs {
                let (path, _) = view
                    .resolve(dir, value)
                    .ok_or_else(|| miss("it was not looked at".to_owned()))?;
                if !is_below(&path, view.reach.roots()) {
                    return Err(miss("it is outside of the roots".to_owned()));
                }
            }
            let more: Vec<PathBuf> = self.dirs.iter().map(|dir| dir.join(value)).collect();
            self.dirs.extend(more);
        }
        Ok(())
    }
}

/// Every base that later words of the command may count from: its directories, and those that options name.
pub(super) fn bases(args: &[String], dirs: &[PathBuf]) -> Vec<PathBuf> {
    let mut bases = dirs.to_vec();
    for (at, token) in args.iter().enumerate() {
        let named = match token.as_str() {
            "-C" | "--directory" | "--cwd" | "--prefix" | "--git-dir" | "--work-tree" => {
                args.get(at + 1).map(String::as_str)
            }
            other => other.strip_prefix("-C").filter(|rest| !rest.is_empty()).or_else(|| {
                other.split_once('=').map(|(_, value)| value).filter(|_| other.starts_with("--"))
            }),
        };
        let Some(named) = named else { continue };
        if bases.len() < cortex_model::limits::SCRIPT_DIRS_MAX {
            let more: Vec<PathBuf> = bases.iter().map(|dir| dir.join(named)).collect();
            bases.extend(more.into_iter().filter(|_| matches_dir_option(token)));
        }
    }
    bases
}

fn matches_dir_option(token: &str) -> bool {
    ["-C", "--directory", "--cwd", "--prefix", "--git-dir", "--work-tree"]
        .iter()
        .any(|name| token.starts_with(name))
}

/// Generously, for rules that deny: the subcommand may stand behind options that are not known, and behind what may be
/// their values; flags of the rule must be there, arguments do not matter.
pub(super) fn generous(rule: &Rule, args: &[String]) -> bool {
    let rest = if rule.subs.is_empty() {
        args
    } else {
        let Some(at) = rule.subs.iter().filter_map(|sub| find_sub(sub, args)).min() else {
            return false;
        };
        &args[at..]
    };
    let has = |flag: &Flag| rest.iter().any(|token| has_flag(token, &flag.name));
    rule.flags.as_ref().is_none_or(|flags| flags.is_empty() || flags.iter().any(has))
}

/// `-rf` has `-r`; `--force=x` has `--force`, and so does `--forc`, because some programs take abbreviations.
fn has_flag(token: &str, name: &str) -> bool {
    if token == name {
        return true;
    }
    if let Some(long) = name.strip_prefix("--").filter(|long| !long.is_empty()) {
        let Some(given) = token.strip_prefix("--") else { return false };
        let given = given.split_once('=').map_or(given, |(given, _)| given);
        return given.len() > 2 && long.starts_with(given);
    }
    let letter = name.strip_prefix('-').filter(|letter| letter.chars().count() == 1);
    letter.is_some_and(|letter| {
        token.starts_with('-') && !token.starts_with("--") && token.contains(letter)
    })
}

fn find_sub(sub: &[String], args: &[String]) -> Option<usize> {
    let mut after_flag = true;
    for at in 0..args.len() {
        if args[at..].starts_with(sub) {
            return Some(at + sub.len());
        }
        let flag = is_flag(&args[at]) || args[at].starts_with('+');
        if !flag && !after_flag && at > 0 {
            return None;
        }
        if !flag && at == 0 {
            return None;
        }
        after_flag = flag && args[at] != "--";
    }
    None
}
