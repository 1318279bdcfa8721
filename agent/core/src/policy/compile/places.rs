//! `[paths]` and `programs.search`: names of sets become places, and places that contradict each other are refused.

use super::Place;
use crate::policy::error::PolicyError;
use crate::policy::file;
use crate::policy::paths::Pattern;
use crate::policy::rules::{Hidden, Places};
use crate::policy::sets;
use std::path::{Path, PathBuf};

pub(super) fn places(paths: &file::Paths, place: &Place) -> Result<Places, PolicyError> {
    let mut places = Places::default();
    for entry in &paths.roots {
        let root = place.resolve(place.expand("paths.roots", entry)?);
        if root == Path::new("/") {
            return Err(PolicyError::value("paths.roots", "the whole file system is no root"));
        }
        if place.state.iter().any(|state| place.resolve(state.clone()).starts_with(&root)) {
            let why = format!("{entry:?} contains the agent's own directory or this policy");
            return Err(PolicyError::value("paths.roots", why));
        }
        places.roots.push(root);
    }
    open("paths.read", &paths.read, place, &mut places.read, &mut false)?;
    open("paths.write", &paths.write, place, &mut places.write, &mut places.task_tmp)?;
    for state in &place.state {
        let pattern = Pattern::Tree(place.resolve(state.clone()));
        places.deny.push(Hidden { pattern, reopened: true });
    }
    for entry in &paths.deny {
        let reopened = entry == "@sockets";
        for pattern in patterns("paths.deny", entry, place)? {
            places.deny.push(Hidden { pattern, reopened });
        }
    }
    for entry in &paths.protect {
        places.protect.extend(patterns("paths.protect", entry, place)?);
    }
    for hidden in places.deny.iter().filter(|hidden| !hidden.reopened) {
        if let Some(root) = places.roots.iter().find(|root| hidden.pattern.covers(root)) {
            let why = format!("{} is hidden by paths.deny", root.display());
            return Err(PolicyError::value("paths.roots", why));
        }
    }
    places.settle();
    Ok(places)
}

pub(super) fn open(
    key: &str,
    entries: &[String],
    place: &Place,
    into: &mut Vec<PathBuf>,
    task_tmp: &mut bool,
) -> Result<(), PolicyError> {
    for entry in entries {
        match (entry.as_str(), sets::find(entry)) {
            ("@task_tmp", _) => *task_tmp = true,
            ("@system", Some(set)) if key == "paths.read" => {
                for path in set {
                    let path = place.resolve(place.expand(key, path)?);
                    if !into.contains(&path) {
                        into.push(path);
                    }
                }
            }
            (_, Some(_)) => {
                return Err(PolicyError::value(key, format!("{entry:?} does not belong here")));
            }
            (name, None) if name.starts_with('@') => {
                return Err(PolicyError::value(key, format!("there is no set {entry:?}")));
            }
            (path, None) => into.push(place.resolve(place.expand(key, path)?)),
        }
    }
    Ok(())
}

pub(super) fn patterns(key: &str, entry: &str, place: &Place) -> Result<Vec<Pattern>, PolicyError> {
    if let Some(set) = sets::find(entry) {
        let mut all = Vec::new();
        for entry in set {
            // What is not there on this machine cannot be hidden.
            let unset =
                *entry == "$STATE" || (*entry == "$XDG_RUNTIME_DIR" && place.runtime.is_none());
            if !unset && *entry != "$TMPDIR" {
                all.extend(pattern(key, entry, place)?);
            }
        }
        return Ok(all);
    }
    if entry.starts_with('@') {
        return Err(PolicyError::value(key, format!("there is no set {entry:?}")));
    }
    pattern(key, entry, place)
}

/// A tree counts under the name it was given and under the one that its links lead to.
pub(super) fn pattern(key: &str, entry: &str, place: &Place) -> Result<Vec<Pattern>, PolicyError> {
    if let Some(names) = entry.strip_prefix("**/") {
        let names: Vec<String> = names.split('/').map(str::to_owned).collect();
        let odd =
            |name: &String| name.is_empty() || name == "." || name == ".." || name.contains("**");
        if names.iter().any(odd) {
            return Err(PolicyError::value(
                key,
                format!("{entry:?} is not **/NAME or **/NAME/NAME"),
            ));
        }
        return Ok(vec![Pattern::Names(names)]);
    }
    if entry.contains(['*', '?', '[']) {
        return Err(PolicyError::value(key, format!("{entry:?}: a pattern begins with **/")));
    }
    let path = place.expand(key, entry)?;
    let resolved = place.resolve(path.clone());
    let mut trees = vec![Pattern::Tree(resolved.clone())];
    if resolved != path {
        trees.push(Pattern::Tree(path));
    }
    Ok(trees)
}

pub(super) fn search(
    entries: &[String],
    place: &Place,
    places: &Places,
) -> Result<Vec<PathBuf>, PolicyError> {
    let key = "programs.search";
    let mut search = Vec::new();
    for entry in entries {
        let dir = place.resolve(place.expand(key, entry)?);
        if places
            .roots
            .iter()
            .chain(&places.write)
            .any(|open| dir.starts_with(open) || open.starts_with(&dir))
        {
            return Err(PolicyError::value(key, format!("tasks can write in {entry:?}")));
        }
        if !search.contains(&dir) {
            search.push(dir);
        }
    }
    Ok(search)
}
