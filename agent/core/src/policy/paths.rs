//! Paths by component: what is below what, and the patterns of `deny` and `protect`. Text and facts only; nothing
//! here looks at a disk.

use std::ffi::OsStr;
use std::path::{Component, Path, PathBuf};

/// A place, or every place of a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Pattern {
    /// This path and everything below it.
    Tree(PathBuf),
    /// `**/a/b`: these names in a row, anywhere, and everything below. `*` and `?` stand for parts of one name.
    Names(Vec<String>),
}

impl Pattern {
    /// Whether the pattern covers the path or one of its parents.
    pub(super) fn covers(&self, path: &Path) -> bool {
        match self {
            Self::Tree(tree) => path.starts_with(tree),
            Self::Names(names) => windows(path, names.len()).any(|run| matches_all(names, &run)),
        }
    }

    /// The tree, if it is one.
    pub(super) fn tree(&self) -> Option<PathBuf> {
        match self {
            Self::Tree(tree) => Some(tree.clone()),
            Self::Names(_) => None,
        }
    }

    /// Whether something that the pattern covers can lie below the path.
    pub(super) fn may_be_below(&self, path: &Path) -> bool {
        match self {
            Self::Tree(tree) => tree.starts_with(path) && tree != path,
            // `.git` holds `.git/hooks`; a directory whose name says nothing is left to the kernel.
            Self::Names(names) => (1..names.len()).any(|len| {
                let tail = names_of(path);
                tail.len() >= len && matches_all(&names[..len], &tail[tail.len() - len..])
            }),
        }
    }
}

fn names_of(path: &Path) -> Vec<&OsStr> {
    path.components()
        .filter_map(|part| match part {
            Component::Normal(name) => Some(name),
            Component::Prefix(_)
            | Component::RootDir
            | Component::CurDir
            | Component::ParentDir => None,
        })
        .collect()
}

fn windows(path: &Path, len: usize) -> impl Iterator<Item = Vec<&OsStr>> {
    let names = names_of(path);
    let count = (names.len() + 1).saturating_sub(len);
    (0..count).map(move |start| names[start..start + len].to_vec())
}

fn matches_all(patterns: &[String], names: &[&OsStr]) -> bool {
    patterns.len() == names.len()
        && patterns
            .iter()
            .zip(names)
            .all(|(pattern, name)| wildcard(pattern, &name.to_string_lossy()))
}

/// `*` is any run of characters, `?` is one. Linear in the pattern for every character of the text.
#[must_use]
pub fn wildcard(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), text.chars().collect());
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == '?' || *c == text[t] => {
                p += 1;
                t += 1;
            }
            Some(_) | None => match star {
                Some((at, from)) => {
                    p = at + 1;
                    t = from + 1;
                    star = Some((at, t));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

/// Joins and takes `.` and `..` out by text alone. Above the root stays the root.
#[must_use]
pub fn lexical(base: &Path, relative: &str) -> PathBuf {
    let mut path = PathBuf::new();
    for part in base.join(relative).components() {
        match part {
            Component::CurDir => {}
            Component::ParentDir => drop(path.pop()),
            Component::Prefix(_) | Component::RootDir | Component::Normal(_) => path.push(part),
        }
    }
    path
}

/// [`Path::starts_with`] for paths that are the sum of their components, by their bytes.
pub(super) fn lies_in(path: &Path, tree: &Path) -> bool {
    let (path, tree) = (path.as_os_str().as_encoded_bytes(), tree.as_os_str().as_encoded_bytes());
    let rest = path.strip_prefix(tree);
    let whole = tree.is_empty() || tree.ends_with(b"/");
    rest.is_some_and(|rest| whole || rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether the path is one of the places or below one.
pub(super) fn is_below(path: &Path, places: &[PathBuf]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_say_the_same_as_components() {
        let all = ["/", "/a", "/a/b", "/ab", "/a/b/c", "/b", "", "/a.b/c", "a", "a/b"];
        for path in all {
            for tree in all {
                let (path, tree) = (Path::new(path), Path::new(tree));
                assert_eq!(lies_in(path, tree), path.starts_with(tree), "{path:?} in {tree:?}");
            }
        }
    }

    #[test]
    fn paths_are_compared_by_component() {
        assert!(is_below(Path::new("/src/shop/a"), &[PathBuf::from("/src/shop")]));
        assert!(!is_below(Path::new("/src/shop-evil"), &[PathBuf::from("/src/shop")]));
    }

    #[test]
    fn patterns_cover_names_anywhere_and_everything_below() {
        let names = |text: &str| Pattern::Names(text.split('/').map(str::to_owned).collect());
        for (pattern, path, covered) in [
            (names(".env"), "/r/.env", true),
            (names(".env"), "/r/.env/x", true),
            (names(".env"), "/r/.environment", false),
            (names("*.pem"), "/r/a/b.pem", true),
            (names(".git/hooks"), "/r/sub/.git/hooks/x", true),
            (names(".git/hooks"), "/r/.git/objects", false),
            (Pattern::Tree("/h/.ssh".into()), "/h/.ssh/id", true),
            (Pattern::Tree("/h/.ssh".into()), "/h/.ssh2", false),
        ] {
            assert_eq!(pattern.covers(Path::new(path)), covered, "{pattern:?} {path}");
        }
        assert!(names(".git/hooks").may_be_below(Path::new("/r/.git")));
        assert!(!names(".git/hooks").may_be_below(Path::new("/r/src")));
        assert!(Pattern::Tree("/h/.ssh".into()).may_be_below(Path::new("/h")));
    }

    #[test]
    fn wildcards_match_as_a_naive_matcher_does() {
        for (pattern, text, matches) in [
            ("*", "", true),
            ("*.pem", ".pem", true),
            ("a*b*c", "aXXbYYc", true),
            ("a*b*c", "aXXbYY", false),
            ("?", "", false),
            ("LC_*", "LC_ALL", true),
            ("**", "x", true),
        ] {
            assert_eq!(wildcard(pattern, text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn dots_are_taken_out_by_text() {
        assert_eq!(lexical(Path::new("/a/b"), "../c/./d"), PathBuf::from("/a/c/d"));
        assert_eq!(lexical(Path::new("/a"), "../../../x"), PathBuf::from("/x"));
        assert_eq!(lexical(Path::new("/a"), "/etc/../x"), PathBuf::from("/x"));
    }
}
