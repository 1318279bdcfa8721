//! Which places a task may read and write, by the policy's paths. The kernel holds the process to the same; this is what
//! can be said before it starts.

use super::paths::{Pattern, is_below, lies_in};
use super::rules::{Hidden, Places};
use std::path::{Path, PathBuf};

/// The policy's places with the attempt's own directory.
#[derive(Clone, Debug)]
pub(super) struct Reach<'a> {
    places: &'a Places,
    tmp: PathBuf,
}

impl<'a> Reach<'a> {
    pub(super) fn new(places: &'a Places, tmpdir: &str) -> Self {
        Self { places, tmp: PathBuf::from(tmpdir) }
    }

    pub(super) fn roots(&self) -> &'a [PathBuf] {
        &self.places.roots
    }

    /// Whether a process may start here.
    pub(super) fn is_home(&self, path: &Path) -> bool {
        is_below(path, &self.places.roots) || self.in_tmp(path)
    }

    fn in_tmp(&self, path: &Path) -> bool {
        !self.tmp.as_os_str().is_empty() && path.starts_with(&self.tmp)
    }

    /// Hidden from every task, whatever a rule says.
    pub(super) fn hidden(&self, path: &Path) -> bool {
        let plain: PathBuf = path.components().collect();
        let covers = |hidden: &&Hidden| match &hidden.pattern {
            Pattern::Tree(tree) => lies_in(&plain, tree),
            Pattern::Names(_) => hidden.pattern.covers(&plain),
        };
        self.places.deny.iter().filter(covers).any(|hidden| {
            let Pattern::Tree(tree) = &hidden.pattern else { return true };
            let below = |place: &PathBuf| {
                place != tree && place.starts_with(tree) && path.starts_with(place)
            };
            let places = [&self.places.roots, &self.places.read, &self.places.write];
            !hidden.reopened || !(self.in_tmp(path) || places.into_iter().flatten().any(below))
        })
    }

    /// The innermost place of the policy in which a path lies.
    pub(super) fn place(&self, path: &Path) -> Option<PathBuf> {
        let Places { roots, read, write, .. } = self.places;
        let own = self.in_tmp(path).then_some(&self.tmp);
        let all = roots.iter().chain(read).chain(write).filter(|place| path.starts_with(place));
        all.chain(own).max_by_key(|place| place.as_os_str().len()).cloned()
    }

    pub(super) fn readable(&self, path: &Path) -> Result<(), String> {
        if self.hidden(path) {
            return Err("the policy hides it".to_owned());
        }
        let places = [&self.places.roots, &self.places.read, &self.places.write];
        if self.in_tmp(path) || places.into_iter().any(|places| is_below(path, places)) {
            return Ok(());
        }
        Err(format!("{} is outside of what the policy lets be read", path.display()))
    }

    /// Writing includes removing.
    pub(super) fn writable(&self, path: &Path, read_only: bool) -> Result<(), String> {
        if self.hidden(path) {
            return Err("the policy hides it".to_owned());
        }
        if path == Path::new("/dev/null") || self.in_tmp(path) || is_below(path, &self.places.write)
        {
            return Ok(());
        }
        if !is_below(path, &self.places.roots) {
            return Err(format!(
                "{} is outside of what the policy lets be written",
                path.display()
            ));
        }
        if read_only {
            return Err("the roots are read-only for this rule".to_owned());
        }
        if self.places.roots.iter().any(|root| root.starts_with(path)) {
            return Err("it is a whole root".to_owned());
        }
        if let Some(protected) = self.places.protect.iter().find(|pattern| pattern.covers(path)) {
            return Err(format!("it is protected ({})", word(protected)));
        }
        if let Some(protected) =
            self.places.protect.iter().find(|pattern| pattern.may_be_below(path))
        {
            return Err(format!("what is below is protected ({})", word(protected)));
        }
        let hidden = |pattern: &Pattern| pattern.may_be_below(path);
        if self
            .places
            .deny
            .iter()
            .any(|place| hidden(&place.pattern) && matches!(place.pattern, Pattern::Tree(_)))
        {
            return Err("the policy hides something below it".to_owned());
        }
        Ok(())
    }
}

/// A pattern as the owner writes it.
pub(super) fn word(pattern: &Pattern) -> String {
    match pattern {
        Pattern::Tree(tree) => tree.display().to_string(),
        Pattern::Names(names) => format!("**/{}", names.join("/")),
    }
}
