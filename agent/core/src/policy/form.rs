//! In which form something is asked for: a program with arguments, or a script. What no form fits is refused.

use super::facts::Facts;
use super::lists;
use super::script::{Opaque, Script, Step, Word, parse, walk};
use cortex_model::limits::{GLOB_HITS_MAX, SCRIPT_MAX};
use cortex_model::task::ShellAction;
use cortex_model::{Code, Fault};
use std::path::{Path, PathBuf};

/// See the module.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// A program with arguments.
    Argv(Vec<String>),
    /// A script: given as one, or as `sh -c SCRIPT`.
    Script { text: String, read: Result<Script, Opaque> },
}

impl Form {
    pub(super) fn of(shell: &ShellAction) -> Result<Self, Fault> {
        let refused = |why: &str| Fault::new(Code::RequestRefused, why);
        let size = shell.argv.iter().map(Vec::len).sum::<usize>() + shell.script.len();
        if size > SCRIPT_MAX {
            return Err(refused(&format!(
                "the command has {size} bytes; more than {SCRIPT_MAX} are not decided about"
            )));
        }
        if !shell.script.is_empty() {
            return Self::script(&shell.script);
        }
        let argv: Result<Vec<String>, _> =
            shell.argv.iter().map(|word| String::from_utf8(word.clone())).collect();
        let argv =
            argv.map_err(|_| refused("an argument is not UTF-8, so no rule can be applied to it"))?;
        if argv.iter().any(|word| word.contains('\0')) {
            return Err(refused("an argument has a NUL byte"));
        }
        let Some(name) = argv.first().filter(|name| !name.is_empty()) else {
            return Err(refused("there is no program"));
        };
        let base = name.rsplit('/').next().unwrap_or(name);
        match argv.as_slice() {
            [_, option, script]
                if lists::READ_SHELLS.contains(&base) && (option == "-c" || option == "-lc") =>
            {
                Self::script(script)
            }
            _ => Ok(Self::Argv(argv)),
        }
    }

    fn script(text: &str) -> Result<Self, Fault> {
        if text.contains('\0') {
            return Err(Fault::new(Code::RequestRefused, "the script has a NUL byte"));
        }
        let read = parse(text);
        if let Ok(script) = &read {
            let pipelines = |list: &super::script::AndOr| {
                list.first.commands.len()
                    + list.rest.iter().map(|(_, next)| next.commands.len()).sum::<usize>()
            };
            let count: usize = script.lists.iter().map(pipelines).sum();
            if count > cortex_model::limits::SCRIPT_COMMANDS_MAX {
                let why =
                    format!("the script has {count} commands; that many are not decided about");
                return Err(Fault::new(Code::RequestRefused, why));
            }
        }
        Ok(Self::Script { text: text.to_owned(), read })
    }

    /// The commands of a script that can be read.
    pub(super) fn steps(&self, start: &Path, home: &str) -> Option<Vec<Step<'_>>> {
        match self {
            Self::Argv(_) | Self::Script { read: Err(_), .. } => None,
            Self::Script { read: Ok(script), .. } => walk(script, start, home).ok(),
        }
    }
}

/// Words with patterns replaced by what they stand for. `Err` says why that is not possible.
pub(super) fn expand(
    words: &[Word],
    dirs: &[PathBuf],
    facts: &Facts,
) -> Result<Vec<String>, String> {
    let mut all = Vec::new();
    let mut hits = 0;
    for word in words {
        if let Some(text) = word.literal(&facts.home) {
            all.push(text);
            continue;
        }
        let [dir] = dirs else {
            return Err(
                "a pattern counts from a directory that depends on how commands end".to_owned()
            );
        };
        let pattern = word.pattern(&facts.home);
        let found = facts.globs.get(&(dir.clone(), pattern.clone()));
        let found = found
            .ok_or_else(|| format!("{pattern} was not looked up"))?
            .as_ref()
            .map_err(|why| format!("{pattern}: {why}"))?;
        hits += found.len();
        if hits > GLOB_HITS_MAX {
            return Err(format!("{pattern} stands for more than {GLOB_HITS_MAX} names"));
        }
        if found.is_empty() {
            all.push(pattern);
        }
        // A name must not be taken for an option.
        all.extend(
            found
                .iter()
                .map(|name| if name.starts_with('-') { format!("./{name}") } else { name.clone() }),
        );
    }
    Ok(all)
}
