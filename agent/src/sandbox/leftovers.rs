//! What tasks leave on the machine's disk, and its removal: their own temporary directories, and the placeholders that
//! stood in for protected names which did not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Which placeholders there are, and who still needs them.
#[derive(Debug, Default)]
pub(super) struct Leftovers(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Protected names of tasks that run, with the number of tasks.
    protected: BTreeMap<PathBuf, usize>,
    made: BTreeSet<PathBuf>,
}

/// A task's hold on the names it wants protected.
#[derive(Debug)]
pub(super) struct Hold {
    owner: Arc<Leftovers>,
    names: Vec<PathBuf>,
}

impl Leftovers {
    /// A task is about to start. Until the hold is dropped no placeholder of its names goes away.
    pub(super) fn hold(self: &Arc<Self>, names: &[PathBuf]) -> Hold {
        let names = names.to_vec();
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &names {
            *state.protected.entry(name.clone()).or_default() += 1;
        }
        drop(state);
        Hold { owner: Arc::clone(self), names }
    }
}

impl Hold {
    /// A placeholder was made.
    pub(super) fn made(&self, path: PathBuf) {
        self.owner.0.lock().unwrap_or_else(PoisonError::into_inner).made.insert(path);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let mut state = self.owner.0.lock().unwrap_or_else(PoisonError::into_inner);
        for name in &self.names {
            if let Some(count) = state.protected.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    state.protected.remove(name);
                }
            }
        }
        let State { protected, made } = &mut *state;
        let wanted = |path: &PathBuf| protected.keys().any(|name| name.starts_with(path));
        let (kept, gone): (BTreeSet<PathBuf>, BTreeSet<PathBuf>) =
            std::mem::take(made).into_iter().partition(wanted);
        *made = kept;
        // One task's placeholder may lie in another's: what is inside goes first.
        gone.iter().rev().for_each(|path| remove_if_empty(path));
    }
}

/// Only what is as empty as it was made goes.
fn remove_if_empty(path: &Path) {
    let Ok(meta) = path.symlink_metadata() else { return };
    if meta.is_dir() {
        std::fs::remove_dir(path).ok();
    } else if meta.is_file() && meta.len() == 0 {
        std::fs::remove_file(path).ok();
    }
}

/// Removes a directory of a task that is gone, with all it left there. Blocks.
///
/// # Errors
/// Something in it cannot be removed.
pub(super) fn remove_tree(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            // A task may take its own rights away; they are ours to give back.
            open_up(path)?;
            std::fs::remove_dir_all(path)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    let mut waiting = vec![path.to_owned()];
    while let Some(dir) = waiting.pop() {
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(0o700))?;
        for entry in std::fs::read_dir(&dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_placeholder_goes_with_the_last_task_that_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        let (git, hooks) = (dir.path().join(".git"), dir.path().join(".git/hooks"));
        let leftovers = Arc::new(Leftovers::default());
        let first = leftovers.hold(std::slice::from_ref(&hooks));
        let second = leftovers.hold(std::slice::from_ref(&hooks));
        std::fs::create_dir(&git).unwrap();
        first.made(git.clone());
        drop(first);
        assert!(git.exists());
        drop(second);
        assert!(!git.exists());
    }

    #[test]
    fn what_was_filled_meanwhile_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join(".envrc");
        let leftovers = Arc::new(Leftovers::default());
        let hold = leftovers.hold(std::slice::from_ref(&file));
        std::fs::write(&file, "the owner's").unwrap();
        hold.made(file.clone());
        drop(hold);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "the owner's");
    }

    #[test]
    fn a_tree_without_rights_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let tree = dir.path().join("t");
        std::fs::create_dir_all(tree.join("a/b")).unwrap();
        for path in [tree.join("a/b"), tree.join("a")] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o0)).unwrap();
        }
        remove_tree(&tree).unwrap();
        assert!(!tree.exists());
        remove_tree(&tree).unwrap();
    }
}
