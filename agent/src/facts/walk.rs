//! Looks below the roots for names that the policy hides or protects wherever they are. Bounded; links are not followed.

use cortex_agent_core::policy::wildcard;
use cortex_model::limits::{VIEW_NAMES_MAX, VIEW_WALK_MAX};
use std::path::{Path, PathBuf};

/// What there is.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) hidden: Vec<PathBuf>,
    /// Also what does not exist at the top of a root, and must not come into being.
    pub(super) protected: Vec<PathBuf>,
}

/// Looks. `Err` says why that was given up.
pub(super) fn look(
    roots: &[PathBuf],
    hidden: &[&[String]],
    protected: &[&[String]],
) -> Result<Found, String> {
    let mut found = Found::default();
    let mut seen = 0;
    for root in roots {
        for names in
            protected.iter().filter(|names| names.iter().all(|name| !name.contains(['*', '?'])))
        {
            found.protected.push(names.iter().fold(root.clone(), |path, name| path.join(name)));
        }
        let mut todo = vec![root.clone()];
        while let Some(dir) = todo.pop() {
            let Ok(entries) = std::fs::read_dir(&dir) else { continue };
            for entry in entries.flatten() {
                seen += 1;
                if seen > VIEW_WALK_MAX {
                    return Err(format!(
                        "below {} are more than {VIEW_WALK_MAX} files; name what is hidden by its path, or choose smaller roots",
                        root.display()
                    ));
                }
                let path = entry.path();
                if hidden.iter().any(|names| ends_with(&path, names)) {
                    found.hidden.push(path);
                } else if protected.iter().any(|names| ends_with(&path, names)) {
                    found.protected.push(path);
                } else if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    todo.push(path);
                }
                if found.hidden.len() + found.protected.len() > VIEW_NAMES_MAX {
                    return Err(format!(
                        "more than {VIEW_NAMES_MAX} places are hidden or protected by their names"
                    ));
                }
            }
        }
    }
    for list in [&mut found.hidden, &mut found.protected] {
        list.sort();
        list.dedup();
    }
    Ok(found)
}

fn ends_with(path: &Path, names: &[String]) -> bool {
    let mut parts = path.components().rev();
    names.iter().rev().all(|name| {
        parts.next().is_some_and(|part| wildcard(name, &part.as_os_str().to_string_lossy()))
    })
}
