//! Where paths lead, and what patterns stand for.

use cortex_agent_core::policy::{PathFact, PathKind};
use cortex_model::limits::GLOB_HITS_MAX;
use std::path::{Component, Path, PathBuf};

/// Follows a path as the kernel does, as far as it exists; what does not exist is appended as it was written.
pub(super) fn resolve(path: &Path) -> PathFact {
    if let Ok(canonical) = std::fs::canonicalize(path) {
        let kind = match std::fs::metadata(&canonical) {
            Ok(meta) if meta.is_file() => PathKind::File,
            Ok(meta) if meta.is_dir() => PathKind::Dir,
            Ok(_) => PathKind::Other,
            Err(_) => PathKind::Missing,
        };
        return PathFact { canonical, kind };
    }
    PathFact { canonical: missing(path, 0), kind: PathKind::Missing }
}

/// The longest part that exists is followed. A link that leads nowhere counts as what it leads to: what is written
/// through it would come into being there.
fn missing(path: &Path, depth: usize) -> PathBuf {
    let mut done = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => drop(done.pop()),
            Component::Normal(name) => {
                let next = done.join(name);
                done = match std::fs::canonicalize(&next) {
                    Ok(canonical) => canonical,
                    Err(_) => match std::fs::read_link(&next) {
                        Ok(target) if depth < 40 => missing(&done.join(target), depth + 1),
                        Ok(_) | Err(_) => next,
                    },
                };
            }
        }
    }
    done
}

/// Names that a pattern stands for, sorted, as a shell would write them. `*` and `?` do not stand for a dot in front.
pub(super) fn expand(dir: &Path, pattern: &str) -> Result<Vec<String>, String> {
    let (start, rest) = match pattern.strip_prefix('/') {
        Some(rest) => (PathBuf::from("/"), rest),
        None => (dir.to_owned(), pattern),
    };
    let prefix = if pattern.starts_with('/') { "/" } else { "" };
    let mut found = vec![(start, prefix.to_owned())];
    let parts: Vec<&str> = rest.split('/').collect();
    for (at, part) in parts.iter().enumerate() {
        let last = at + 1 == parts.len();
        let mut next = Vec::new();
        for (place, text) in found {
            if !part.contains(['*', '?']) {
                let (place, text) = (place.join(part), format!("{text}{part}"));
                if !last {
                    next.push((place, text + "/"));
                } else if place.symlink_metadata().is_ok() {
                    next.push((place, text));
                }
                continue;
            }
            let Ok(entries) = std::fs::read_dir(&place) else { continue };
            for entry in entries.flatten() {
                let Ok(name) = entry.file_name().into_string() else {
                    return Err("a name that it stands for is not UTF-8".to_owned());
                };
                if (name.starts_with('.') && !part.starts_with('.'))
                    || !cortex_agent_core::policy::wildcard(part, &name)
                {
                    continue;
                }
                let place = entry.path();
                if last {
                    next.push((place, format!("{text}{name}")));
                } else if place.is_dir() {
                    next.push((place, format!("{text}{name}/")));
                }
                if next.len() > GLOB_HITS_MAX {
                    return Err(format!("it stands for more than {GLOB_HITS_MAX} names"));
                }
            }
        }
        found = next;
    }
    let mut names: Vec<String> = found.into_iter().map(|(_, text)| text).collect();
    names.sort();
    Ok(names)
}
