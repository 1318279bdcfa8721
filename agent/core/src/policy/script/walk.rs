//! Follows `cd` through a script: for every command, in which directories it may run. By text alone; what a path means
//! on the disk is a fact.

use super::{AndOr, Builtin, Op, Opaque, Redirect, Script, Word, builtin};
use cortex_model::limits::{SCRIPT_COMMANDS_MAX, SCRIPT_DIRS_MAX};
use std::path::{Path, PathBuf};

/// A command in its place.
#[derive(Clone, Debug)]
pub(crate) struct Step<'a> {
    pub(crate) words: &'a [Word],
    pub(crate) redirects: &'a [Redirect],
    /// Where it may run: one, or several when that depends on how other commands end. Not normalised.
    pub(crate) dirs: Vec<PathBuf>,
    /// For `cd`: where it leads, not normalised.
    pub(crate) to: Option<PathBuf>,
    /// A `cd` that stands alone: when it fails, the script ends.
    pub(crate) alone: bool,
}

/// Every command of the script, in order.
///
/// # Errors
/// Where it cannot be said in which directory a command runs.
pub(crate) fn walk<'a>(
    script: &'a Script,
    start: &Path,
    home: &str,
) -> Result<Vec<Step<'a>>, Opaque> {
    let mut steps = Vec::new();
    let mut dirs = vec![start.to_owned()];
    for list in &script.lists {
        dirs = self::list(list, dirs, home, &mut steps)?;
    }
    Ok(steps)
}

fn list<'a>(
    list: &'a AndOr,
    entry: Vec<PathBuf>,
    home: &str,
    steps: &mut Vec<Step<'a>>,
) -> Result<Vec<PathBuf>, Opaque> {
    let opaque = |why| Opaque { line: 0, why };
    let pipelines: Vec<_> = std::iter::once((Op::And, &list.first))
        .chain(list.rest.iter().map(|(op, pipeline)| (*op, pipeline)))
        .collect();
    let mut now = entry.clone();
    let mut ever = entry;
    let mut only_and = true;
    let alone = pipelines.len() == 1;
    for (index, (op, pipeline)) in pipelines.iter().enumerate() {
        if *op == Op::Or {
            only_and = false;
            now.clone_from(&ever);
        }
        for command in &pipeline.commands {
            if steps.len() >= SCRIPT_COMMANDS_MAX {
                return Err(opaque("too many commands"));
            }
            let words: Option<Vec<String>> =
                command.words.iter().map(|word| word.literal(home)).collect();
            let is_cd = words.as_deref().map(builtin) == Some(Builtin::Cd);
            let mut step = Step {
                words: &command.words,
                redirects: &command.redirects,
                dirs: now.clone(),
                to: None,
                alone: false,
            };
            if is_cd {
                if pipeline.commands.len() > 1 {
                    return Err(opaque("'cd' in a pipeline"));
                }
                let target =
                    words.as_deref().and_then(|words| words.get(1)).map_or(home, String::as_str);
                let to = match now.as_slice() {
                    [dir] => dir.join(target),
                    _ if Path::new(target).is_absolute() => PathBuf::from(target),
                    _ => {
                        return Err(opaque(
                            "'cd' from a directory that depends on how commands end",
                        ));
                    }
                };
                step.to = Some(to.clone());
                step.alone = alone;
                let follows = pipelines.get(index + 1).is_none_or(|(op, _)| *op == Op::And);
                if alone || (only_and && follows) {
                    now = vec![to.clone()];
                } else if !now.contains(&to) {
                    now.push(to.clone());
                }
                if alone {
                    ever = vec![to];
                } else if !ever.contains(&to) {
                    ever.push(to);
                }
                if ever.len() > SCRIPT_DIRS_MAX {
                    return Err(opaque("too many directories"));
                }
            }
            steps.push(step);
        }
    }
    Ok(ever)
}
