//! From the file to the rules: names of sets and home directories become places, units become numbers, and every rule
//! is checked. What is not understood completely is refused.

mod browser;
mod places;
mod rule;
mod values;

use super::decision::Effect;
use super::error::PolicyError;
use super::file;
use super::narrow::Narrowing;
use super::paths::lexical;
use super::rules::{FileRules, ProgramName, Rules};
use super::sets;
use cortex_model::limits::POLICY_RULES_MAX;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Where the policy is used: what `~`, `$NAME` and the named sets stand for.
#[derive(Clone, Debug, Default)]
pub struct Place {
    /// Home of the user that runs the agent.
    pub home: PathBuf,
    /// `$XDG_RUNTIME_DIR`.
    pub runtime: Option<PathBuf>,
    /// `$CORTEX_WORKSPACE`, for continuous integration.
    pub workspace: Option<PathBuf>,
    /// Directories of the agent itself, always hidden from tasks, and the policy file.
    pub state: Vec<PathBuf>,
    /// What paths of the policy mean when links are followed; a path that is not here means itself.
    pub resolved: BTreeMap<PathBuf, PathBuf>,
}

impl Place {
    fn resolve(&self, path: PathBuf) -> PathBuf {
        self.resolved.get(&path).cloned().unwrap_or(path)
    }

    /// An absolute path from what the file says.
    fn expand(&self, key: &str, text: &str) -> Result<PathBuf, PolicyError> {
        let bad = |why: &str| PolicyError::value(key, format!("{text:?} {why}"));
        let path = if text == "~" {
            self.home.clone()
        } else if let Some(rest) = text.strip_prefix("~/") {
            self.home.join(rest)
        } else if let Some(rest) = text.strip_prefix('$') {
            let (name, rest) = rest.split_once('/').map_or((rest, ""), |(name, rest)| (name, rest));
            let base = match name {
                "CORTEX_WORKSPACE" => self.workspace.as_ref(),
                "XDG_RUNTIME_DIR" => self.runtime.as_ref(),
                "HOME" => Some(&self.home),
                _ => return Err(bad("names a variable that a policy cannot use")),
            };
            base.ok_or_else(|| bad("names a variable that is not set"))?.join(rest)
        } else {
            PathBuf::from(text)
        };
        if !path.is_absolute() {
            return Err(bad("is not an absolute path"));
        }
        if path.components().any(|part| part == std::path::Component::ParentDir)
            || text.contains('\0')
        {
            return Err(bad("must not contain '..'"));
        }
        Ok(lexical(Path::new("/"), &path.to_string_lossy()))
    }
}

/// Every path that the file names, so that the caller can follow its links. What cannot be expanded is left for
/// [`rules`] to refuse.
pub(super) fn named(file: &file::File, place: &Place) -> BTreeSet<PathBuf> {
    let lists = [
        &file.paths.roots,
        &file.paths.read,
        &file.paths.write,
        &file.paths.deny,
        &file.paths.protect,
    ];
    let mut named: BTreeSet<PathBuf> = place.state.iter().cloned().collect();
    let mut take = |text: &str| drop(place.expand("", text).map(|path| named.insert(path)));
    for entry in lists.into_iter().flatten().chain(&file.programs.search) {
        match sets::find(entry) {
            Some(set) => set.iter().for_each(|entry| take(entry)),
            None => take(entry),
        }
    }
    for reference in
        file.env.secrets.values().chain(file.rule.iter().flat_map(|rule| rule.secrets.values()))
    {
        if let Some(path) = reference.strip_prefix("file:") {
            take(path);
        }
    }
    for path in file.rule.iter().flat_map(|rule| words(&rule.program)) {
        if let Some((root, rest)) = root_program(path) {
            for entry in file.paths.roots.iter().filter(|_| root) {
                take(&format!("{entry}/{rest}"));
            }
        }
    }
    named
}

fn words(program: &file::OneOrMany) -> Vec<&str> {
    match program {
        file::OneOrMany::One(word) => vec![word],
        file::OneOrMany::Many(words) => words.iter().map(String::as_str).collect(),
    }
}

/// `@root/x`: a program inside a root.
fn root_program(word: &str) -> Option<(bool, &str)> {
    word.strip_prefix("@root/").map(|rest| (true, rest))
}

/// The rules of a file.
pub(super) fn rules(file: file::File, place: &Place) -> Result<Rules, PolicyError> {
    let places = places::places(&file.paths, place)?;
    let search = places::search(&file.programs.search, place, &places)?;
    let profiles = values::profiles(&file.net)?;
    if file.rule.len() > POLICY_RULES_MAX {
        return Err(PolicyError::value("rule", format!("at most {POLICY_RULES_MAX} rules")));
    }
    let mut rules = Vec::new();
    let mut ids = BTreeSet::new();
    for rule in &file.rule {
        if !ids.insert(rule.id.clone()) {
            return Err(PolicyError::rule(&rule.id, "there are two rules of this id"));
        }
        rules.push(rule::rule(rule, &places, &profiles, place)?);
    }
    let (mut by_program, mut for_all) = (BTreeMap::<String, Vec<usize>>::new(), Vec::new());
    for (index, rule) in rules.iter().enumerate() {
        for program in &rule.programs {
            let key = match program {
                ProgramName::Named(name) => name.clone(),
                ProgramName::Exact(path) => path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default(),
                ProgramName::Any => {
                    for_all.push(index);
                    continue;
                }
            };
            let list = by_program.entry(key).or_default();
            if list.last() != Some(&index) {
                list.push(index);
            }
        }
    }
    Ok(Rules {
        name: file.name,
        default: file.default,
        strict: file.strict,
        opaque: file.opaque_shell,
        terminal: file.terminal.map_or(Effect::Deny, rule::effect),
        search,
        env: values::env(&file.env, place)?,
        limits: values::task_limits(&file.limits)?,
        agent_limits: values::agent_limits(&file.limits.agent)?,
        consent: values::consent(&file.consent)?,
        sandbox: values::sandbox(&file.sandbox)?,
        places,
        files: FileRules {
            read: rule::effect(file.files.read),
            write: rule::effect(file.files.write),
        },
        browser: browser::rules(file.browser.as_ref(), &profiles)?,
        rules,
        by_program,
        for_all,
        narrowing: Narrowing::default(),
    })
}
