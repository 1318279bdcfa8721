//! The examples of rules, checked when the policy is read: a rule that does not mean what its owner thinks is found
//! before it decides anything.

use super::compile::Place;
use super::error::PolicyError;
use super::facts::{Facts, Program};
use super::file::File;
use super::matching::{Command, View, generous, names, strict};
use super::reach::Reach;
use super::rules::{ProgramName, Rule, Rules};
use super::script::parse;
use super::{Effect, judge};
use crate::plan::FileId;
use std::path::PathBuf;

/// An example as the file has it.
#[derive(Clone, Debug)]
pub(super) struct Example {
    rule: String,
    text: String,
    matches: bool,
}

/// All examples of a file.
pub(super) fn of(file: &File) -> Vec<Example> {
    let mut all = Vec::new();
    for rule in &file.rule {
        let lists = [(&rule.examples.matching, true), (&rule.examples.no_match, false)];
        for (texts, matches) in lists {
            all.extend(texts.iter().map(|text| Example {
                rule: rule.id.clone(),
                text: text.clone(),
                matches,
            }));
        }
    }
    all
}

/// Checks every example against its rule alone: the program is taken as found, and a path means what it says.
pub(super) fn check(rules: &Rules, examples: &[Example], place: &Place) -> Result<(), PolicyError> {
    for example in examples {
        let Some(rule) = rules.rules.iter().find(|rule| rule.id == example.rule) else { continue };
        let result = run(rules, rule, &example.text, place)
            .map_err(|why| PolicyError::rule(&rule.id, why))?;
        match (result, example.matches) {
            (Err(why), true) => {
                let why =
                    format!("the example {:?} should match and does not: {why}", example.text);
                return Err(PolicyError::rule(&rule.id, why));
            }
            (Ok(()), false) => {
                let why = format!("the example {:?} should not match and does", example.text);
                return Err(PolicyError::rule(&rule.id, why));
            }
            (Ok(()), true) | (Err(_), false) => {}
        }
    }
    Ok(())
}

fn run(
    rules: &Rules,
    rule: &Rule,
    text: &str,
    place: &Place,
) -> Result<Result<(), String>, String> {
    let home = place.home.to_string_lossy().into_owned();
    let bad = |why: String| format!("the example {text:?} is not one plain command: {why}");
    let script = parse(text).map_err(|opaque| bad(opaque.to_string()))?;
    let [list] = script.lists.as_slice() else { return Err(bad("it has several".to_owned())) };
    let (true, [simple]) = (list.rest.is_empty(), list.first.commands.as_slice()) else {
        return Err(bad("it has several".to_owned()));
    };
    let words: Vec<String> = simple.words.iter().map(|word| word.pattern(&home)).collect();
    let Some((name, args)) = words.split_first() else { return Err(bad("it is empty".to_owned())) };
    let root = rules.places.roots.first().cloned().unwrap_or_else(|| PathBuf::from("/nonexistent"));
    let dirs = [root.clone()];
    // A rule about a program inside a root names it by its path there.
    let exact = rule.programs.iter().find_map(|program| match program {
        ProgramName::Exact(path) if path.ends_with(name.trim_start_matches("./")) => {
            Some(path.clone())
        }
        ProgramName::Exact(_) | ProgramName::Named(_) | ProgramName::Any => None,
    });
    let searched = exact.is_none();
    let path =
        exact.unwrap_or_else(|| PathBuf::from("/").join(name.rsplit('/').next().unwrap_or(name)));
    let program =
        Program { target: path.clone(), path, id: FileId { dev: 0, ino: 0 }, setuid: false };
    let (facts, reach) = (Facts::default(), Reach::new(&rules.places, ""));
    let command = Command { name, program: &program, searched, args, dirs: &dirs };
    if rule.effect == Effect::Deny {
        let hit = names(rule, &command) && generous(rule, args);
        return Ok(if hit { Ok(()) } else { Err("it is about something else".to_owned()) });
    }
    let view = View { reach: &reach, facts: &facts, assume: true };
    Ok(strict(rule, &command, view).map(drop).map_err(|miss| judge::explain(&miss)))
}
