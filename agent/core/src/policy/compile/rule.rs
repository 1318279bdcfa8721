//! One rule of the file: what it says becomes what is matched.

use super::{Place, root_program, values, words};
use crate::plan::NetMode;
use crate::policy::decision::{Class, Effect};
use crate::policy::error::PolicyError;
use crate::policy::file::{self, ClassWord, EffectWord};
use crate::policy::rules::{Flag, FlagValue, Places, ProgramName, Rule};
use cortex_model::limits::POLICY_RULE_WORDS_MAX;
use std::collections::{BTreeMap, BTreeSet};

pub(super) fn rule(
    rule: &file::Rule,
    places: &Places,
    profiles: &BTreeMap<String, NetMode>,
    place: &Place,
) -> Result<Rule, PolicyError> {
    let bad = |why: String| PolicyError::rule(&rule.id, why);
    if rule.id.is_empty()
        || !rule.id.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
    {
        return Err(bad("an id is made of letters, digits, '-', '_' and '.'".to_owned()));
    }
    let effect = effect(rule.effect);
    let lists = [rule.globals.as_ref(), rule.sub.as_ref(), rule.flags.as_ref()];
    if lists.into_iter().flatten().any(|list| list.len() > POLICY_RULE_WORDS_MAX) {
        return Err(bad(format!("a list has more than {POLICY_RULE_WORDS_MAX} entries")));
    }
    // What does not allow may be wide; what allows is closed.
    let closed = |list: &Option<Vec<String>>| match (list, effect) {
        (None, Effect::Allow) => Ok(Some(Vec::new())),
        (None, Effect::Ask | Effect::Deny) => Ok(None),
        (Some(list), _) => {
            list.iter().map(|word| flag(word).map_err(bad)).collect::<Result<Vec<_>, _>>().map(Some)
        }
    };
    let subs: Vec<Vec<String>> =
        rule.sub.iter().flatten().map(|sub| sub.split(' ').map(str::to_owned).collect()).collect();
    let odd = |word: &String| word.is_empty() || word.starts_with('-');
    if rule.sub.as_ref().is_some_and(Vec::is_empty) || subs.iter().flatten().any(odd) {
        return Err(bad(
            "sub is a list of subcommands; leave it out for a program without".to_owned()
        ));
    }
    if rule.globals.is_some() && subs.is_empty() {
        return Err(bad("globals stand before a subcommand: the rule needs sub".to_owned()));
    }
    let net = match &rule.net {
        None => NetMode::None,
        Some(name) => profiles
            .get(name)
            .cloned()
            .ok_or_else(|| bad(format!("there is no net profile {name:?}")))?,
    };
    let mut classes: BTreeSet<Class> = rule.class.iter().map(|class| class_of(*class)).collect();
    let programs = programs(&rule.program, effect, places, place).map_err(bad)?;
    if programs.iter().any(|program| matches!(program, ProgramName::Exact(_))) {
        classes.insert(Class::Opaque);
    }
    Ok(Rule {
        id: rule.id.clone(),
        programs,
        globals: closed(&rule.globals)?,
        subs,
        flags: closed(&rule.flags)?,
        args: match (rule.args, effect) {
            (None, Effect::Allow) => Some(file::ArgsWord::None),
            (args, Effect::Allow | Effect::Ask | Effect::Deny) => args,
        },
        harden_git: rule.harden == Some(file::Harden::Git),
        read_only: rule.fs == Some(file::FsWord::ReadOnly),
        net,
        terminal: rule.terminal.map(self::effect),
        secrets: values::secrets(&format!("rule {}", rule.id), &rule.secrets, place)?,
        classes,
        effect,
        reason: rule.reason.clone(),
    })
}

pub(super) fn effect(word: EffectWord) -> Effect {
    match word {
        EffectWord::Allow => Effect::Allow,
        EffectWord::Ask => Effect::Ask,
        EffectWord::Deny => Effect::Deny,
    }
}

pub(super) fn class_of(word: ClassWord) -> Class {
    match word {
        ClassWord::Destructive => Class::Destructive,
        ClassWord::Privilege => Class::Privilege,
        ClassWord::Outward => Class::Outward,
        ClassWord::Opaque => Class::Opaque,
    }
}

pub(super) fn programs(
    program: &file::OneOrMany,
    effect: Effect,
    places: &Places,
    place: &Place,
) -> Result<Vec<ProgramName>, String> {
    let words = words(program);
    if words.is_empty() {
        return Err("program is empty".to_owned());
    }
    let mut all = Vec::new();
    for word in words {
        if word == "*" {
            if effect == Effect::Allow {
                return Err("a rule that allows names its programs".to_owned());
            }
            all.push(ProgramName::Any);
        } else if let Some((_, rest)) = root_program(word) {
            let inside = !rest.is_empty()
                && !rest.split('/').any(|part| part.is_empty() || part == "." || part == "..");
            if !inside {
                return Err(format!("{word:?} is not @root/FILE"));
            }
            let exact =
                places.roots.iter().map(|root| ProgramName::Exact(place.resolve(root.join(rest))));
            all.extend(exact);
        } else if word.is_empty() || word.contains('/') || word.contains(char::is_whitespace) {
            return Err(format!("{word:?} is not the name of a program"));
        } else {
            all.push(ProgramName::Named(word.to_owned()));
        }
    }
    Ok(all)
}

pub(super) fn flag(word: &str) -> Result<Flag, String> {
    let (name, value) = match word.split_once('=') {
        None => (word, FlagValue::None),
        Some((name, "*")) => (name, FlagValue::Any),
        Some((name, "path" | "path:read")) => (name, FlagValue::PathRead),
        Some((name, "path:write")) => (name, FlagValue::PathWrite),
        Some(_) => {
            return Err(format!("{word:?}: after '=' stands *, path, path:read or path:write"));
        }
    };
    if !name.starts_with(['-', '+']) || name.contains(char::is_whitespace) || name == "-" {
        return Err(format!("{word:?} is no flag"));
    }
    if name == "--" && value != FlagValue::None {
        return Err("'--' has no value".to_owned());
    }
    Ok(Flag { name: name.to_owned(), value })
}
